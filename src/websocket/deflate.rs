//! Compressed messages (RFC 7692): a shard has one compressor and one decompressor, made as new for each message.

use std::num::NonZeroU8;
use std::str;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::close::Violation;
use super::frame::Opcode;

/// How far back a peer's decompressor can look: 2 to the power of this many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Window(NonZeroU8);

impl Window {
    pub(super) const LARGEST: Window = Window(NonZeroU8::MIN.saturating_add(14));

    /// RFC 7692, section 7.1.2.
    pub(super) fn of(bits: u8) -> Option<Window> {
        NonZeroU8::new(bits).filter(|bits| (8..=15).contains(&bits.get())).map(Window)
    }

    pub(super) fn bits(self) -> u8 {
        self.0.get()
    }

    pub(super) fn size(self) -> usize {
        1 << self.bits()
    }
}

/// What a flush ends with, which is not sent.
const FLUSHED: [u8; 4] = [0, 0, 0xFF, 0xFF];
/// The same, and an empty last block: with it a message is over if it is whole, and is not otherwise.
const END: [u8; 9] = [0, 0, 0xFF, 0xFF, 1, 0, 0, 0xFF, 0xFF];
/// A third of the time that zlib's usual level takes for 64 KiB of JSON, and a tenth more bytes.
const LEVEL: Compression = Compression::new(2);
/// The least room that something is inflated into.
const ROOM: usize = 4 << 10;
/// Room is given back if it has grown beyond this.
pub(super) const KEPT_MAX: usize = 128 << 10;

/// Compresses; about 270 KB, wherefore a shard has one, and only if it compresses.
#[derive(Debug)]
pub(super) struct Deflater {
    stream: Compress,
    packed: Vec<u8>,
}

impl Deflater {
    pub(super) fn new() -> Deflater {
        Deflater { stream: Compress::new(LEVEL, false), packed: Vec::new() }
    }

    /// The payload as a message of its own, for whoever has this window; `None` if it is not shorter so.
    pub(super) fn deflate(&mut self, payload: &[u8], window: Window) -> Option<&[u8]> {
        self.stream.reset();
        self.packed.clear();
        self.packed.reserve(payload.len());
        // The compressor itself never looks back further than the largest window. For a smaller one it forgets what was
        // before, as often as there is more than the window holds.
        let piece = if window < Window::LARGEST { window.size() } else { payload.len().max(1) };
        let mut pieces = payload.chunks(piece).peekable();
        while let Some(piece) = pieces.next() {
            let flush = if pieces.peek().is_some() { FlushCompress::Full } else { FlushCompress::Sync };
            self.stream.compress_vec(piece, &mut self.packed, flush).ok()?;
            if self.packed.len() == self.packed.capacity() {
                return None;
            }
        }
        self.packed.strip_suffix(&FLUSHED).filter(|packed| packed.len() < payload.len())
    }

    pub(super) fn give_back(&mut self) {
        if self.packed.capacity() > KEPT_MAX {
            self.packed = Vec::new();
        }
    }
}

/// Inflates, with whatever window the peer has taken; about 50 KB.
#[derive(Debug)]
pub(super) struct Inflater {
    stream: Decompress,
    clear: Vec<u8>,
}

impl Inflater {
    pub(super) fn new() -> Inflater {
        Inflater { stream: Decompress::new(false), clear: Vec::new() }
    }

    /// The message that was compressed to `packed`, of `most` bytes. What is wrong with it ends this as soon as it is
    /// seen, but for text, which is looked at whenever there is more of it than room: whether all of it is right the
    /// caller looks at.
    pub(super) fn inflate(&mut self, packed: &[u8], most: usize, opcode: Opcode) -> Result<&[u8], Violation> {
        self.stream.reset(false);
        self.clear.clear();
        let (mut input, mut end, mut is_over, mut checked) = (packed, &END[..], false, 0);
        loop {
            if input.is_empty() {
                input = std::mem::take(&mut end);
            }
            if is_over && input.is_empty() {
                break;
            }
            if is_over {
                // Behind a last block comes another beginning, see section 7.2.3.4.
                self.stream.reset(false);
            }
            if self.clear.len() == self.clear.capacity() {
                if opcode == Opcode::Text {
                    checked += valid_up_to(&self.clear[checked..])?;
                }
                let left = most.saturating_add(1).saturating_sub(self.clear.len());
                self.clear.reserve_exact(self.clear.len().max(ROOM).min(left));
            }
            let before = (self.stream.total_in(), self.clear.len());
            let status = self.stream.decompress_vec(input, &mut self.clear, FlushDecompress::None);
            is_over = status.map_err(|_| Violation::NOT_DEFLATED)? == Status::StreamEnd;
            if self.clear.len() > most {
                return Err(Violation::TOO_BIG);
            }
            if !is_over && before == (self.stream.total_in(), self.clear.len()) {
                return Err(Violation::NOT_DEFLATED);
            }
            input = &input[(self.stream.total_in() - before.0) as usize..];
        }
        Ok(&self.clear)
    }

    pub(super) fn give_back(&mut self) {
        if self.clear.capacity() > KEPT_MAX {
            self.clear = Vec::new();
        }
    }
}

/// How much of a text is right; at its end a character may be cut.
fn valid_up_to(text: &[u8]) -> Result<usize, Violation> {
    match str::from_utf8(text) {
        Ok(text) => Ok(text.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(Violation::NOT_UTF8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflate(packed: &[u8], most: usize) -> Result<Vec<u8>, Violation> {
        Inflater::new().inflate(packed, most, Opcode::Binary).map(<[u8]>::to_vec)
    }

    fn random(size: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..size).map(|_| next()).collect()
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let hello = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
        assert_eq!(inflate(&hello, 5).unwrap(), b"Hello");
        let stored = [0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00];
        assert_eq!(inflate(&stored, 5).unwrap(), b"Hello");
        let last_block = [0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00];
        assert_eq!(inflate(&last_block, 5).unwrap(), b"Hello");
        let two_blocks = [0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00];
        assert_eq!(inflate(&two_blocks, 5).unwrap(), b"Hello");
        assert_eq!(inflate(&[0x00], 0).unwrap(), b"");
    }

    #[test]
    fn what_is_cut_or_wrong_is_not_taken_for_whole() {
        let text: Vec<u8> = (0..3000_u32).flat_map(|number| number.to_string().into_bytes()).collect();
        let mut deflater = Deflater::new();
        let packed = deflater.deflate(&text, Window::LARGEST).unwrap();
        for end in 0..packed.len() {
            assert!(inflate(&packed[..end], text.len()).is_err(), "{end} of {}", packed.len());
        }
        assert_eq!(inflate(packed, text.len()), Ok(text.clone()));
        assert_eq!(inflate(packed, text.len() - 1), Err(Violation::TOO_BIG));
        assert_eq!(inflate(&[0xFF; 10], 100), Err(Violation::NOT_DEFLATED));
        // A distance beyond the beginning, and another message's bytes there.
        let mut inflater = Inflater::new();
        assert_eq!(inflater.inflate(&[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00], 9, Opcode::Text).unwrap(), b"Hello");
        assert_eq!(inflater.inflate(&[0xF2, 0x00, 0x11, 0x00, 0x00], 9, Opcode::Text), Err(Violation::NOT_DEFLATED));
    }

    #[test]
    fn no_window_is_looked_beyond() {
        // Repeats what it said 700 bytes before, which is worth a reference to whoever can look so far.
        let text = random(700).repeat(100);
        let mut deflater = Deflater::new();
        let mut sizes = Vec::new();
        for bits in 8..=15 {
            let window = Window::of(bits).unwrap();
            let packed = deflater.deflate(&text, window).map(<[u8]>::to_vec);
            sizes.push(packed.as_ref().map_or(text.len(), Vec::len));
            if let (Some(packed), 9..) = (packed, bits) {
                let mut small = Decompress::new_with_window_bits(false, bits);
                let mut found = Vec::with_capacity(text.len());
                // Little at a time: beyond its output it can only look into its window.
                for byte in packed.chunks(1) {
                    small.decompress_vec(byte, &mut found, FlushDecompress::None).unwrap();
                }
                assert!(found == text, "{bits}");
            }
        }
        assert!(sizes[7] * 20 < text.len() && sizes[1] * 10 > text.len() * 9, "{sizes:?}");
        assert_eq!((Window::of(7), Window::of(16), Window::of(0)), (None, None, None));
    }

    #[test]
    fn what_does_not_get_shorter_stays_as_it_is() {
        let mut deflater = Deflater::new();
        let random = random(4000);
        for size in [0, 1, 5, 300, 4000] {
            assert_eq!(deflater.deflate(&random[..size], Window::LARGEST), None, "{size}");
        }
        assert!(deflater.deflate(&[0; 4000], Window::LARGEST).is_some_and(|packed| packed.len() < 40));
    }

    #[test]
    fn wrong_text_is_seen_before_all_of_it_is_inflated() {
        let text = [b"\xFF".to_vec(), vec![b'a'; 10 << 20]].concat();
        let mut deflater = Deflater::new();
        let packed = deflater.deflate(&text, Window::LARGEST).unwrap().to_vec();
        let mut inflater = Inflater::new();
        assert_eq!(inflater.inflate(&packed, usize::MAX, Opcode::Text), Err(Violation::NOT_UTF8));
        assert_eq!(inflater.clear.len(), ROOM, "and no more");
        assert_eq!(inflater.inflate(&packed, usize::MAX, Opcode::Binary).map(<[u8]>::len), Ok(text.len()));
        inflater.give_back();
        assert_eq!(inflater.clear.capacity(), 0);
        assert_eq!(inflater.inflate(&packed, 100_000, Opcode::Binary), Err(Violation::TOO_BIG));
        assert!(inflater.clear.capacity() <= 100_001, "a bomb gets no more room than a message may take");
    }
}
