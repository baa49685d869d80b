//! `Sec-WebSocket-Extensions` (RFC 6455, section 9.1; RFC 7692, section 7.1): what is offered, and what is answered.

use std::fmt::Write;

use super::deflate::Window;
use super::handshake::is_tchar;

/// An offer of permessage-deflate that can be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deflate {
    /// What the client asks the server to stay within, if it does.
    asked: Option<Window>,
}

/// A header field that is not what the RFC says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Deflate {
    /// The first offer that can be accepted, in all header fields.
    pub(super) fn choose<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Result<Option<Deflate>, Malformed> {
        let mut chosen = None;
        for field in fields {
            let mut rest = Rest(field);
            loop {
                rest.skip_blanks();
                // Elements of a list may be empty, see RFC 9110, section 5.6.1.
                if !matches!(rest.0, [] | [b',', ..]) {
                    let offer = rest.offer()?;
                    chosen = chosen.or(offer);
                }
                match rest.0 {
                    [] => break,
                    [b',', ..] => rest.0 = &rest.0[1..],
                    _ => return Err(Malformed),
                }
            }
        }
        Ok(chosen)
    }

    /// What the server compresses for.
    pub(super) fn window(self) -> Window {
        self.asked.unwrap_or(Window::LARGEST)
    }

    /// The header field that accepts the offer: each message stands alone, whichever side compresses it.
    pub(super) fn answer(self, to: &mut String) {
        to.push_str(
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        );
        if let Some(window) = self.asked {
            let _ = write!(to, "; server_max_window_bits={}", window.bits());
        }
        to.push_str("\r\n");
    }
}

/// The parameters of an offer, each of which it has once at the most.
#[derive(Default)]
struct Parameters {
    seen: u8,
    asked: Option<Window>,
    is_declined: bool,
}

impl Parameters {
    fn add(&mut self, name: &[u8], value: Option<Value<'_>>) {
        let (bit, is_right) = match (name, value) {
            (b"server_no_context_takeover", value) => (1, value.is_none()),
            (b"client_no_context_takeover", value) => (2, value.is_none()),
            (b"server_max_window_bits", value) => {
                self.asked = value.and_then(Value::window);
                (4, self.asked.is_some())
            }
            // Its messages are inflated with the largest window, whatever it uses.
            (b"client_max_window_bits", value) => (8, value.is_none_or(|value| value.window().is_some())),
            _ => (0, false),
        };
        self.is_declined |= !is_right || self.seen & bit != 0;
        self.seen |= bit;
    }
}

/// A parameter's value, which may be quoted.
#[derive(Clone, Copy)]
struct Value<'a>(&'a [u8]);

impl Value<'_> {
    /// 8 to 15, without leading zeros.
    fn window(self) -> Option<Window> {
        // A backslash quotes what follows it, and is no part of a token itself.
        let mut digits = self.0.iter().filter(|&&byte| byte != b'\\');
        let bits = match (digits.next(), digits.next(), digits.next()) {
            (Some(&ones @ b'8'..=b'9'), None, _) => ones - b'0',
            (Some(b'1'), Some(&ones @ b'0'..=b'5'), None) => 10 + ones - b'0',
            _ => return None,
        };
        Window::of(bits)
    }
}

/// What is left to be read of a header field.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    /// Whether this comes next; then it is behind, with the blanks around it.
    fn skip(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let Some(rest) = self.0.strip_prefix(&[byte]) else { return false };
        self.0 = rest;
        self.skip_blanks();
        true
    }

    fn token(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.0.iter().take_while(|&&byte| is_tchar(byte)).count();
        let (token, rest) = self.0.split_at(length);
        self.0 = rest;
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// An extension with its parameters; `None` if it is another, or asks for what is not to be had.
    fn offer(&mut self) -> Result<Option<Deflate>, Malformed> {
        let name = self.token()?;
        let mut parameters = Parameters::default();
        while self.skip(b';') {
            let parameter = self.token()?;
            let value = if self.skip(b'=') { Some(self.value()?) } else { None };
            parameters.add(parameter, value);
        }
        let is_accepted = name == b"permessage-deflate" && !parameters.is_declined;
        Ok(is_accepted.then_some(Deflate { asked: parameters.asked }))
    }

    fn value(&mut self) -> Result<Value<'a>, Malformed> {
        let Some(quoted) = self.0.strip_prefix(b"\"") else { return self.token().map(Value) };
        // Without its quotes it is a token, too.
        let (mut length, mut is_escaped, mut is_empty) = (0, false, true);
        for &byte in quoted {
            match byte {
                b'"' if !is_escaped => {
                    self.0 = &quoted[length + 1..];
                    return if is_empty { Err(Malformed) } else { Ok(Value(&quoted[..length])) };
                }
                b'\\' if !is_escaped => is_escaped = true,
                byte if is_tchar(byte) => (is_escaped, is_empty) = (false, false),
                _ => return Err(Malformed),
            }
            length += 1;
        }
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the answer to these header fields adds to the least; `None` if all offers are declined.
    fn answer(fields: &[&str]) -> Result<Option<String>, Malformed> {
        let chosen = Deflate::choose(fields.iter().map(|field| field.as_bytes()))?;
        Ok(chosen.map(|deflate| {
            let mut answer = String::new();
            deflate.answer(&mut answer);
            let least =
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover";
            answer.strip_prefix(least).unwrap().strip_suffix("\r\n").unwrap().to_owned()
        }))
    }

    #[test]
    fn the_first_offer_that_can_be_had_is_accepted() {
        let accepted: [(&[&str], &str); 14] = [
            (&["permessage-deflate"], ""),
            (&["permessage-deflate; client_max_window_bits"], ""),
            (&["permessage-deflate; client_max_window_bits=8"], ""),
            (&["permessage-deflate; server_no_context_takeover; client_no_context_takeover"], ""),
            (&["permessage-deflate;server_max_window_bits=8"], "; server_max_window_bits=8"),
            (&["permessage-deflate ; server_max_window_bits = 15 "], "; server_max_window_bits=15"),
            (&["permessage-deflate; server_max_window_bits=\"10\""], "; server_max_window_bits=10"),
            (&["permessage-deflate; server_max_window_bits=\"1\\0\""], "; server_max_window_bits=10"),
            (&["x-webkit-deflate-frame, permessage-deflate"], ""),
            (&["other; a=\"b\"; c, permessage-deflate"], ""),
            (&["other", "permessage-deflate; server_max_window_bits=9"], "; server_max_window_bits=9"),
            (&["permessage-deflate; server_max_window_bits=7, permessage-deflate"], ""),
            (&["permessage-deflate; server_max_window_bits=12, permessage-deflate"], "; server_max_window_bits=12"),
            (&[" ,,permessage-deflate,", ""], ""),
        ];
        for (fields, more) in accepted {
            assert_eq!(answer(fields), Ok(Some(more.to_owned())), "{fields:?}");
        }
    }

    #[test]
    fn what_is_unknown_doubled_or_out_of_bounds_is_declined() {
        let parameters = [
            "unknown",
            "unknown=1",
            "server_no_context_takeover=1",
            "client_no_context_takeover=\"1\"",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits",
            "server_max_window_bits=10; server_max_window_bits=10",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=08",
            "server_max_window_bits=100",
            "server_max_window_bits=ten",
            "client_max_window_bits=0",
            "client_max_window_bits=16",
            "client_max_window_bits; client_max_window_bits=10",
            "SERVER_MAX_WINDOW_BITS=10",
        ];
        for parameters in parameters {
            assert_eq!(answer(&[&format!("permessage-deflate; {parameters}")]), Ok(None), "{parameters}");
        }
        for others in ["", "permessage-deflat", "permessage-deflate2", "Permessage-Deflate", "permessage-bzip2"] {
            assert_eq!(answer(&[others]), Ok(None), "{others}");
        }
        assert_eq!(answer(&[]), Ok(None));
    }

    #[test]
    fn what_is_no_list_of_extensions_is_an_error_wherever_it_stands() {
        let malformed = [
            ";",
            "=",
            "a b",
            "a;",
            "a; ;b",
            "a;b=",
            "a;=b",
            "a; b=c d",
            "a; b=\"\"",
            "a; b=\"c",
            "a; b=\"c d\"",
            "a; b=\"c\\",
            "a; b=\"c\\\"\"",
            "a; b=\"c\"d",
            "\"a\"",
            "a/b",
            "permessage-deflate, ;",
            "permessage-deflate; \u{e9}",
        ];
        for field in malformed {
            assert_eq!(answer(&[field]), Err(Malformed), "{field}");
            assert_eq!(answer(&["permessage-deflate", field]), Err(Malformed), "{field}");
        }
    }
}
