//! Frames, see RFC 6455, section 5: reading a client's, and writing a server's. No I/O, and nothing is kept.

use super::close::Violation;

/// What a frame is for, see RFC 6455, section 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl Opcode {
    fn of(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return None,
        })
    }

    pub(super) fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// What stands before a frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: [u8; 4],
    /// How long the payload is, if the client can be believed.
    pub(super) length: u64,
    /// How long the head itself is.
    pub(super) size: usize,
}

/// The most that a control frame carries.
pub(super) const CONTROL_MAX: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const PACKED: u8 = 0x40;
const MASKED: u8 = 0x80;
const MASK: usize = 4;
/// The longest head: two bytes, the length, the mask.
const HEAD_MAX: usize = 2 + 8 + MASK;

/// The head at the front of a client's bytes; `None` if they end within it. What is wrong is said as soon as it is known.
#[inline]
pub(super) fn parse(input: &[u8]) -> Result<Option<Head>, Violation> {
    let Some(&first) = input.first() else { return Ok(None) };
    if first & RESERVED != 0 {
        return Err(Violation::RESERVED_BITS);
    }
    let (fin, opcode) = (first & FIN != 0, Opcode::of(first & 0xF).ok_or(Violation::RESERVED_OPCODE)?);
    if opcode.is_control() && !fin {
        return Err(Violation::CONTROL_IN_PIECES);
    }
    let Some(&second) = input.get(1) else { return Ok(None) };
    if second & MASKED == 0 {
        return Err(Violation::UNMASKED);
    }
    let short = second & !MASKED;
    if opcode.is_control() && usize::from(short) > CONTROL_MAX {
        return Err(Violation::CONTROL_TOO_LONG);
    }
    let Some((length, before)) = length(short, &input[2..])? else { return Ok(None) };
    let start = 2 + before;
    let mask = input.get(start..start + MASK).and_then(|mask| mask.try_into().ok());
    Ok(mask.map(|mask| Head { fin, opcode, mask, length, size: start + MASK }))
}

/// The head of a frame that has a reserved bit, with permessage-deflate (RFC 7692, section 6): the message that begins
/// here is compressed, and for the rest the head is like any other.
pub(super) fn parse_packed(input: &[u8]) -> Result<Option<Head>, Violation> {
    let mut head = [0; HEAD_MAX];
    let size = input.len().min(HEAD_MAX);
    head[..size].copy_from_slice(&input[..size]);
    let begins = matches!(Opcode::of(head[0] & 0xF), Some(Opcode::Text | Opcode::Binary));
    if head[0] & RESERVED != PACKED || !begins {
        return Err(Violation::RESERVED_FOR_DEFLATE);
    }
    head[0] &= !PACKED;
    parse(&head[..size])
}

/// The length, and how many of the bytes `behind` the first two it takes.
#[inline]
fn length(short: u8, behind: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let (length, least, size) = match short {
        126 => (behind.first_chunk().map(|bytes| u64::from(u16::from_be_bytes(*bytes))), 126, 2),
        127 => (behind.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)), 1 << 16, 8),
        short => (Some(u64::from(short)), 0, 0),
    };
    match length {
        Some(length) if length < least => Err(Violation::LENGTH_NOT_MINIMAL),
        Some(length) if length >> 63 != 0 => Err(Violation::LENGTH_TOO_LONG),
        length => Ok(length.map(|length| (length, size))),
    }
}

/// Takes the mask off `from`, into the front of `to`, and gives that. `to` grows to the longest that it has held.
#[inline]
pub(super) fn unmask<'a>(from: &[u8], mask: [u8; 4], to: &'a mut Vec<u8>) -> &'a mut [u8] {
    if to.len() < from.len() {
        to.resize(from.len(), 0);
    }
    let to = &mut to[..from.len()];
    // Eight bytes at a time, and the compiler makes as much of that as the machine has room for.
    let word = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (from_words, from_rest) = from.as_chunks::<8>();
    let (to_words, to_rest) = to.as_chunks_mut::<8>();
    for (from, to) in from_words.iter().zip(to_words) {
        *to = (u64::from_ne_bytes(*from) ^ word).to_ne_bytes();
    }
    for ((from, to), mask) in from_rest.iter().zip(to_rest).zip(mask.iter().cycle()) {
        *to = from ^ mask;
    }
    to
}

/// A whole frame of the server's, which has no mask, at the end of `to`.
#[inline]
pub(super) fn encode(opcode: Opcode, payload: &[u8], to: &mut Vec<u8>) {
    encode_as(FIN | opcode as u8, payload, to);
}

/// The same of a message that is compressed.
pub(super) fn encode_packed(opcode: Opcode, packed: &[u8], to: &mut Vec<u8>) {
    encode_as(FIN | PACKED | opcode as u8, packed, to);
}

#[inline]
fn encode_as(first: u8, payload: &[u8], to: &mut Vec<u8>) {
    if let Ok(length @ 0..=125) = u8::try_from(payload.len()) {
        to.extend_from_slice(&[first, length]);
    } else if let Ok(length) = u16::try_from(payload.len()) {
        let [high, low] = length.to_be_bytes();
        to.extend_from_slice(&[first, 126, high, low]);
    } else {
        to.extend_from_slice(&[first, 127]);
        to.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    }
    to.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [1, 2, 3, 4];

    /// A head as a client writes it.
    fn head(first: u8, short: u8, length: &[u8]) -> Vec<u8> {
        [&[first, MASKED | short], length, &KEY].concat()
    }

    #[test]
    fn a_head_is_read_as_soon_as_it_is_whole() {
        let heads = [
            (head(0x81, 5, &[]), 5),
            (head(0x02, 125, &[]), 125),
            (head(0x80, 126, &[0, 126]), 126),
            (head(0x82, 126, &[0xFF, 0xFF]), 0xFFFF),
            (head(0x81, 127, &[0, 0, 0, 0, 0, 1, 0, 0]), 0x1_0000),
            (head(0x81, 127, &[0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]), u64::MAX >> 1),
            (head(0x89, 0, &[]), 0),
        ];
        for (bytes, length) in heads {
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{end} of {bytes:?}");
            }
            let found = parse(&[&bytes[..], b"payload"].concat()).unwrap().unwrap();
            assert_eq!((found.length, found.size, found.mask), (length, bytes.len(), KEY));
            assert_eq!((found.fin, found.opcode as u8), (bytes[0] & FIN != 0, bytes[0] & 0xF));
        }
    }

    #[test]
    fn what_the_rfc_forbids_is_seen_at_the_byte_that_does_it() {
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert_eq!(parse(&[FIN | opcode]), Err(Violation::RESERVED_OPCODE), "{opcode}");
        }
        for bit in [0x40, 0x20, 0x10] {
            assert_eq!(parse(&[FIN | bit | 1]), Err(Violation::RESERVED_BITS), "{bit:#x}");
        }
        for opcode in [8, 9, 10] {
            assert_eq!(parse(&[opcode]), Err(Violation::CONTROL_IN_PIECES), "{opcode}");
            assert_eq!(parse(&[FIN | opcode, MASKED | 126]), Err(Violation::CONTROL_TOO_LONG), "{opcode}");
            assert_eq!(parse(&[FIN | opcode, MASKED | 127]), Err(Violation::CONTROL_TOO_LONG), "{opcode}");
        }
        for short in [0, 125, 126, 127] {
            assert_eq!(parse(&[0x81, short]), Err(Violation::UNMASKED), "{short}");
        }
        let length = |short: u8, length: &[u8]| parse(&[&[0x81, MASKED | short], length].concat());
        assert_eq!(length(126, &[0, 125]), Err(Violation::LENGTH_NOT_MINIMAL));
        assert_eq!(length(127, &[0, 0, 0, 0, 0, 0, 0xFF, 0xFF]), Err(Violation::LENGTH_NOT_MINIMAL));
        assert_eq!(length(127, &[0x80, 0, 0, 0, 0, 0, 0, 0]), Err(Violation::LENGTH_TOO_LONG));
    }

    #[test]
    fn a_compressed_message_is_marked_where_it_begins_and_nowhere_else() {
        for first in 0..=u8::MAX {
            let reserved = first & RESERVED;
            let right = reserved == PACKED && matches!(first & 0xF, 1 | 2);
            let bytes = [first, MASKED | 5, 1, 2, 3, 4];
            assert_eq!(parse(&bytes) == Err(Violation::RESERVED_BITS), reserved != 0, "{first:#x}");
            if reserved != 0 {
                let found =
                    parse_packed(&bytes).map(|head| head.map(|head| (head.opcode as u8, head.length, head.size)));
                let expected = if right { Ok(Some((first & 0xF, 5, 6))) } else { Err(Violation::RESERVED_FOR_DEFLATE) };
                assert_eq!(found, expected, "{first:#x}");
            }
        }
    }

    #[test]
    fn a_mask_comes_off_at_every_length() {
        let (clear, mut scratch): (Vec<u8>, _) = ((0..100).collect(), Vec::new());
        for length in 0..clear.len() {
            let masked: Vec<u8> =
                clear[..length].iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            assert_eq!(unmask(&masked, KEY, &mut scratch), &clear[..length]);
        }
        assert_eq!(unmask(&[1], KEY, &mut scratch), [0], "what was there before is not looked at");
    }

    #[test]
    fn lengths_are_written_as_short_as_they_can_be() {
        let heads: [(usize, &[u8]); 6] = [
            (0, &[0x81, 0]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (0xFF, &[0x81, 126, 0, 0xFF]),
            (0xFFFF, &[0x81, 126, 0xFF, 0xFF]),
            (0x1_0000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for (length, head) in heads {
            let mut frame = Vec::new();
            encode(Opcode::Text, &vec![7; length], &mut frame);
            assert_eq!(&frame[..head.len()], head, "{length}");
            assert_eq!(frame.len(), head.len() + length);
        }
    }
}
