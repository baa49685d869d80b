//! What came from a server that is no echo server: the beginning of it, in a form that a terminal bears.

use std::fmt::{self, Display, Formatter};

/// The first bytes of what a connection received, where they are not the first that it sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Strange {
    /// Escaped, in quotation marks, at most [`BYTES_MAX`] characters; dots behind it where there was more.
    shown: String,
    /// The index of the destination that sent it, where that is known.
    pub(crate) destination: Option<usize>,
}

impl Strange {
    /// The beginning of `bytes`, which came from the target with the index `destination`.
    pub(crate) fn new(bytes: &[u8], destination: usize) -> Strange {
        let (mut text, mut is_cut) = (String::new(), false);
        for byte in bytes {
            let escaped = byte.escape_ascii().to_string();
            if text.len() + escaped.len() > BYTES_MAX {
                is_cut = true;
                break;
            }
            text += &escaped;
        }
        let shown = format!("\"{text}\"{}", if is_cut { " ..." } else { "" });
        Strange { shown, destination: Some(destination) }
    }

    /// What was `shown` in results.
    pub(crate) fn of_results(shown: String) -> Strange {
        Strange { shown, destination: None }
    }
}

impl Display for Strange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What is shown fits one line of a terminal.
const BYTES_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_escaped_and_short() {
        assert_eq!(Strange::new(b"220 welcome\r\n", 0).to_string(), r#""220 welcome\r\n""#);
        assert_eq!(Strange::new(b"\x1b[2J\"", 0).to_string(), r#""\x1b[2J\"""#, "a terminal is not cleared by it");
        assert_eq!(Strange::new(&[b'a'; 61], 0).to_string(), format!("\"{}\" ...", "a".repeat(60)));
        assert_eq!(Strange::new(&[0; 60], 0).to_string(), format!("\"{}\" ...", r"\x00".repeat(15)));
    }
}
