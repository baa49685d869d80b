//! WebSocket frames (RFC 6455, section 5) as far as a client that sends whole messages needs them. No socket.

use crate::failure::Kind;

/// What a message is sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Text = 1,
    Binary = 2,
}

/// The head of a frame that holds a whole message of so many bytes, with this mask.
pub(crate) fn push_head(shape: Shape, len: u64, mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(FIN | shape as u8);
    push_len(len, out);
    out.extend_from_slice(&mask);
}

fn push_len(len: u64, out: &mut Vec<u8>) {
    match len {
        0..126 => out.push(MASKED | len as u8),
        126..65_536 => {
            out.push(MASKED | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(MASKED | 127);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// A part of a message, from `at` of it on, masked.
pub(crate) fn push_masked(piece: &[u8], at: usize, mask: [u8; 4], out: &mut Vec<u8>) {
    let mask = [0, 1, 2, 3].map(|index| mask[(at + index) % 4]);
    let word = u64::from_ne_bytes([mask, mask].concat().try_into().unwrap_or_default());
    let (words, rest) = piece.as_chunks::<8>();
    for bytes in words {
        out.extend_from_slice(&(u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes());
    }
    out.extend(rest.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// The answer to a ping.
fn pong(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![FIN | PONG];
    push_len(payload.len() as u64, &mut frame);
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// Frames that come in, of one connection; with nothing in it where one has ended.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// A head that is not whole, and behind it the payload of a control frame.
    head: Vec<u8>,
    /// What is left of a data frame.
    left: u64,
    /// A message has begun, and another frame of it follows.
    is_continued: bool,
}

impl Frames {
    /// Whether nothing is under way, so that it need not be kept.
    pub(crate) fn is_idle(&self) -> bool {
        self.head.is_empty() && self.left == 0 && !self.is_continued
    }

    /// Reads `bytes`: what they say of messages goes to `said`, at most as many as there were; the newest pong that is owed to
    /// `owed`.
    ///
    /// # Errors
    /// What is no frame of a server, and the close frame.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        said: &mut Vec<u8>,
        owed: &mut Option<Vec<u8>>,
    ) -> Result<(), Kind> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = self.left.min(bytes.len() as u64) as usize;
                said.extend_from_slice(&bytes[..count]);
                (self.left, bytes) = (self.left - count as u64, &bytes[count..]);
                continue;
            }
            // A head, and the few bytes of a control frame, nearly always come in one piece.
            let taken = if self.head.is_empty() { self.begin(bytes, owed)? } else { None };
            if let Some(taken) = taken {
                bytes = &bytes[taken..];
                continue;
            }
            let before = self.head.len();
            let mut head = std::mem::take(&mut self.head);
            head.extend_from_slice(&bytes[..bytes.len().min(WHOLE_MAX - before)]);
            let Some(taken) = self.begin(&head, owed)? else {
                self.head = head;
                return Ok(());
            };
            bytes = &bytes[taken - before..];
        }
        Ok(())
    }

    /// A frame begins with `bytes`: how many of them are its head, or the whole of a control frame; `None` while that is not
    /// there.
    fn begin(&mut self, bytes: &[u8], owed: &mut Option<Vec<u8>>) -> Result<Option<usize>, Kind> {
        let Some((size, len)) = parse(bytes)? else { return Ok(None) };
        let (first, opcode) = (bytes[0], bytes[0] & OPCODE);
        if opcode < CLOSE {
            if (opcode == 0) != self.is_continued {
                return Err(Kind::Frame);
            }
            (self.is_continued, self.left) = (first & FIN == 0, len);
            return Ok(Some(size));
        }
        let end = size + len as usize;
        let Some(payload) = bytes.get(size..end) else { return Ok(None) };
        match opcode {
            CLOSE => return Err(Kind::CloseFrame(close_code(payload))),
            PING => *owed = Some(pong(payload)),
            _ => {}
        }
        Ok(Some(end))
    }
}

/// The size of the head at the beginning of `bytes`, and the length that it tells; `None` while it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(usize, u64)>, Kind> {
    let &[first, second, ..] = bytes else { return Ok(None) };
    let (opcode, is_control) = (first & OPCODE, first & CLOSE != 0);
    // A server masks nothing (5.1), and extensions were not agreed on.
    let is_known = matches!(opcode, 0..=2 | CLOSE..=PONG);
    let is_short = !is_control || first & FIN != 0 && second < 126;
    if first & RESERVED != 0 || second & MASKED != 0 || !is_known || !is_short {
        return Err(Kind::Frame);
    }
    Ok(match second {
        126 => bytes.get(2..4).map(|len| (4, u64::from(u16::from_be_bytes(len.try_into().unwrap_or_default())))),
        127 => bytes.get(2..10).map(|len| (10, u64::from_be_bytes(len.try_into().unwrap_or_default()))),
        len => Some((2, u64::from(len))),
    })
}

/// 1005 is for none (7.1.5).
fn close_code(payload: &[u8]) -> u16 {
    payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
}

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The longest control frame.
const WHOLE_MAX: usize = 2 + 125;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        push_len(payload.len() as u64, &mut frame);
        frame[1] &= !MASKED;
        frame.extend_from_slice(payload);
        frame
    }

    /// What the frames say, and the pong that is owed in the end; the same in pieces of every length.
    fn outcome(bytes: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), Kind> {
        let run = |piece: usize| {
            let (mut frames, mut said, mut owed) = (Frames::default(), Vec::new(), None);
            for piece in bytes.chunks(piece) {
                frames.take(piece, &mut said, &mut owed)?;
            }
            assert_eq!(frames.is_idle(), frames.head.is_empty() && frames.left == 0 && !frames.is_continued);
            Ok((said, owed))
        };
        let whole = run(bytes.len());
        (1..bytes.len().min(300)).for_each(|piece| assert_eq!(run(piece), whole, "in pieces of {piece}"));
        whole
    }

    #[test]
    fn messages_of_every_length_in_one_frame_or_in_several_are_what_was_said() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![7; len];
            assert_eq!(outcome(&frame(0x82, &payload)), Ok((payload, None)), "{len}");
        }
        let pieces =
            [frame(2, b"he"), frame(0x89, b"ping"), frame(0, b""), frame(0x80, b"llo"), frame(0x81, b"!")].concat();
        let pong = [&[0x8a, 0x84, 0, 0, 0, 0][..], b"ping"].concat();
        assert_eq!(outcome(&pieces), Ok((b"hello!".to_vec(), Some(pong))));
        assert_eq!(outcome(&frame(0x8a, b"nobody asked")), Ok((Vec::new(), None)));
    }

    #[test]
    fn what_no_server_may_send_and_the_end_are_told() {
        for wrong in [
            frame(0xc2, b"x"),
            frame(0x83, b"x"),
            frame(0x80, b"x"),
            [frame(2, b"x"), frame(0x82, b"x")].concat(),
            frame(0x09, b"x"),
            vec![0x82, 0x81, 0, 0, 0, 0, 0],
            vec![0x89, 126, 0, 126],
        ] {
            assert_eq!(outcome(&wrong), Err(Kind::Frame), "{wrong:?}");
        }
        assert_eq!(outcome(&frame(0x88, &[3, 0xe9, b'x'])), Err(Kind::CloseFrame(1001)));
        assert_eq!(outcome(&frame(0x88, &[])), Err(Kind::CloseFrame(1005)));
    }

    #[test]
    fn what_is_masked_in_pieces_is_what_is_masked_at_once() {
        let (message, mask) = ([5; 100], [1, 2, 3, 4]);
        let mut whole = Vec::new();
        push_masked(&message, 0, mask, &mut whole);
        assert!(whole.iter().enumerate().all(|(at, byte)| *byte == 5 ^ mask[at % 4]));
        for cut in 0..100 {
            let mut pieces = Vec::new();
            push_masked(&message[..cut], 0, mask, &mut pieces);
            push_masked(&message[cut..], cut, mask, &mut pieces);
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }
}
