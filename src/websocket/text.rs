//! Text that arrives in pieces, which may cut a character in two: wrong bytes are seen as soon as they are there.

use std::str;

use super::close::Violation;

/// What has come of a text.
#[derive(Debug, Default)]
pub(super) struct Text {
    whole: String,
    /// The beginning of a character whose end has not come.
    cut: [u8; 3],
    cut_len: u8,
}

impl Text {
    /// How many bytes have come.
    pub(super) fn len(&self) -> usize {
        self.whole.len() + usize::from(self.cut_len)
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while let ([next, rest @ ..], 1..) = (bytes, self.cut_len) {
            self.complete(*next)?;
            bytes = rest;
        }
        match str::from_utf8(bytes) {
            Ok(text) => self.whole.push_str(text),
            Err(error) if error.error_len().is_some() => return Err(Violation::NOT_UTF8),
            Err(error) => {
                let (text, cut) = bytes.split_at(error.valid_up_to());
                self.whole.push_str(str::from_utf8(text).map_err(|_| Violation::NOT_UTF8)?);
                self.cut[..cut.len()].copy_from_slice(cut);
                self.cut_len = cut.len() as u8;
            }
        }
        Ok(())
    }

    /// The next byte of a character that was cut.
    fn complete(&mut self, next: u8) -> Result<(), Violation> {
        let begun = usize::from(self.cut_len);
        let mut character = [0; 4];
        character[..begun].copy_from_slice(&self.cut[..begun]);
        character[begun] = next;
        match str::from_utf8(&character[..=begun]) {
            Ok(text) => {
                self.whole.push_str(text);
                self.cut_len = 0;
            }
            Err(error) if error.error_len().is_some() => return Err(Violation::NOT_UTF8),
            Err(_) => {
                self.cut[begun] = next;
                self.cut_len += 1;
            }
        }
        Ok(())
    }

    /// The text, now that no more of it will come.
    pub(super) fn finish(self) -> Result<String, Violation> {
        if self.cut_len == 0 { Ok(self.whole) } else { Err(Violation::NOT_UTF8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_same_wherever_it_is_cut() {
        let text = "aé€😀, κόσμε";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let (mut found, bytes) = (Text::default(), text.as_bytes());
                for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    found.push(piece).unwrap();
                }
                assert_eq!((found.len(), found.finish().unwrap()), (text.len(), text.to_owned()));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_seen_at_its_first_byte_in_one_piece_or_byte_by_byte() {
        // Behind "κό": overlong, surrogate, beyond U+10FFFF, a lone continuation, and bytes that are never right; each with
        // how many of its bytes could still have become something.
        let wrong: [(&[u8], usize); 7] = [
            (&[0xC0, 0xAF], 0),
            (&[0xE0, 0x80], 1),
            (&[0xED, 0xA0, 0x80], 1),
            (&[0xF4, 0x90], 1),
            (&[0x80], 0),
            (&[0xFE], 0),
            (&[0xF0, 0x9F, 0x98, 0x41], 3),
        ];
        for (bytes, fine) in wrong {
            let mut text = Text::default();
            text.push("κό".as_bytes()).unwrap();
            for byte in &bytes[..fine] {
                text.push(&[*byte]).unwrap();
            }
            assert_eq!(text.push(&[bytes[fine]]), Err(Violation::NOT_UTF8), "{bytes:x?}");
            assert_eq!(Text::default().push(bytes), Err(Violation::NOT_UTF8), "{bytes:x?}");
        }
    }

    #[test]
    fn a_text_does_not_end_within_a_character() {
        let mut text = Text::default();
        text.push(&[b'a', 0xE2, 0x82]).unwrap();
        assert_eq!((text.len(), text.finish()), (3, Err(Violation::NOT_UTF8)));
    }
}
