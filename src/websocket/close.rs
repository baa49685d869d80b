//! Close codes and reasons, see RFC 6455, section 7.4; and what ends a connection because its peer broke a rule.

use std::str;

use super::frame::CONTROL_MAX;

/// What a client did that ends its connection, as the close frame tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) code: u16,
    pub(super) why: &'static str,
}

impl Violation {
    pub(super) const RESERVED_BITS: Violation = protocol("a reserved bit is set, and no extension was agreed on");
    pub(super) const RESERVED_FOR_DEFLATE: Violation =
        protocol("a reserved bit is set where permessage-deflate has none");
    pub(super) const RESERVED_OPCODE: Violation = protocol("a reserved opcode");
    pub(super) const CONTROL_IN_PIECES: Violation = protocol("a control frame in fragments");
    pub(super) const CONTROL_TOO_LONG: Violation = protocol("a control frame of more than 125 bytes");
    pub(super) const UNMASKED: Violation = protocol("a client's frame without a mask");
    pub(super) const LENGTH_NOT_MINIMAL: Violation = protocol("a length that takes more bytes than it needs");
    pub(super) const LENGTH_TOO_LONG: Violation = protocol("a length of more than 63 bits");
    pub(super) const NOTHING_TO_CONTINUE: Violation = protocol("a continuation of nothing");
    pub(super) const MESSAGE_UNFINISHED: Violation = protocol("a new message before the last was finished");
    pub(super) const CLOSE_CUT: Violation = protocol("a close frame of one byte");
    pub(super) const CLOSE_CODE: Violation = protocol("a close code that may not be sent");
    pub(super) const NOT_UTF8: Violation = Violation { code: 1007, why: "text that is not UTF-8" };
    /// The frames are right, it is what they carry that is not what it says; as with text.
    pub(super) const NOT_DEFLATED: Violation =
        Violation { code: 1007, why: "a compressed message that is no deflate data" };
    pub(super) const TOO_MANY_FRAGMENTS: Violation = Violation { code: 1008, why: "a message in too many fragments" };
    pub(super) const SILENCE: Violation = Violation { code: 1008, why: "a ping was not answered" };
    pub(super) const TOO_BIG: Violation = Violation { code: 1009, why: "a message that is too long" };
}

const fn protocol(why: &'static str) -> Violation {
    Violation { code: 1002, why }
}

/// The code of an end that needs no reason.
pub(super) const NORMAL: u16 = 1000;

/// Whether a close frame may carry this code: those that are defined, and those left to libraries and programs.
pub(super) fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The code and the reason in a close frame; no code if there is nothing in it.
pub(super) fn parse(payload: &[u8]) -> Result<(Option<u16>, &str), Violation> {
    match payload {
        [] => Ok((None, "")),
        [_] => Err(Violation::CLOSE_CUT),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                return Err(Violation::CLOSE_CODE);
            }
            Ok((Some(code), str::from_utf8(reason).map_err(|_| Violation::NOT_UTF8)?))
        }
    }
}

/// A close frame's payload; as much of the reason as fits.
pub(super) fn payload(code: u16, reason: &str) -> Vec<u8> {
    let mut end = reason.len().min(CONTROL_MAX - size_of_val(&code));
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    [&code.to_be_bytes(), &reason.as_bytes()[..end]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_are_reserved_or_unknown_may_not_be_sent() {
        let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
        assert!(valid.into_iter().all(may_be_sent));
        let invalid = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535];
        assert!(!invalid.into_iter().any(may_be_sent));
    }

    #[test]
    fn a_close_frame_is_empty_or_has_a_code_and_a_reason() {
        assert_eq!(parse(b""), Ok((None, "")));
        assert_eq!(parse(b"\x03"), Err(Violation::CLOSE_CUT));
        assert_eq!(parse(b"\x03\xe8"), Ok((Some(1000), "")));
        assert_eq!(parse(b"\x0f\xa0b\xc3\xbcrste"), Ok((Some(4000), "bürste")));
        assert_eq!(parse(b"\x03\xed"), Err(Violation::CLOSE_CODE));
        assert_eq!(parse(b"\x03\xe8\xc3"), Err(Violation::NOT_UTF8));
    }

    #[test]
    fn a_reason_is_cut_between_two_characters() {
        let long = "ü".repeat(100);
        let cut = payload(1000, &long);
        assert_eq!(parse(&cut), Ok((Some(1000), "ü".repeat(61).as_str())));
        assert_eq!(payload(1001, "x"), b"\x03\xe9x");
    }
}
