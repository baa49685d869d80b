//! A request-response protocol in two texts: what is sent, and a pattern of what has to come back.

/// What is sent, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    /// The texts that it was made of.
    send: String,
    expect: String,
    request: Vec<u8>,
    pattern: Vec<Part>,
    /// For each place behind a star: how much of what follows the star may have begun anew when the next byte is another
    /// one, as Knuth, Morris and Pratt have it. `None` where no star allows that.
    restarts: Vec<Option<u32>>,
}

/// One step of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Just this byte.
    Byte(u8),
    /// Any bytes, up to the first that is the next part.
    Any,
}

/// A byte that the pattern does not have at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mismatch;

impl Script {
    /// The script of two texts with escapes: `\r` `\n` `\t` `\0` `\\` `\xHH`, and in `expect` `*` for any bytes up to what
    /// follows it (`\*` is a star).
    ///
    /// # Errors
    /// A sentence that says which text makes no sense.
    pub(crate) fn new(send: &str, expect: &str) -> Result<Script, String> {
        let request: Vec<u8> = unescape(send)?.into_iter().map(|(byte, _)| byte).collect();
        let is_star = |&(byte, escaped): &(u8, bool)| byte == b'*' && !escaped;
        let expected = unescape(expect)?;
        let pattern: Vec<Part> =
            expected.iter().map(|it| if is_star(it) { Part::Any } else { Part::Byte(it.0) }).collect();
        match pattern.last() {
            _ if request.is_empty() => Err("--send is empty: a request has at least one byte".to_owned()),
            None => Err("--expect is empty: without a reply there is nothing to measure".to_owned()),
            Some(Part::Any) => {
                Err(format!("--expect '{expect}' ends with *, so that no reply would ever end: say what it ends with"))
            }
            _ if pattern.windows(2).any(|two| two == [Part::Any; 2]) => {
                Err(format!("--expect '{expect}' has two * in a row: one is enough"))
            }
            _ => Ok(Script {
                send: send.to_owned(),
                expect: expect.to_owned(),
                restarts: restarts(&pattern),
                request,
                pattern,
            }),
        }
    }

    /// The two texts that it was made of.
    pub(crate) fn texts(&self) -> [&str; 2] {
        [&self.send, &self.expect]
    }

    /// What is sent.
    pub(crate) fn request(&self) -> &[u8] {
        &self.request
    }

    /// How far a reply that had come to `position` of the pattern comes with `bytes`, and how many of them that took: not
    /// all, if it is whole before their end.
    ///
    /// # Errors
    /// The first byte that should not be there.
    pub(crate) fn advance(&self, mut position: u32, bytes: &[u8]) -> Result<(u32, usize), Mismatch> {
        for (taken, byte) in bytes.iter().enumerate() {
            // A star takes nothing by itself: what follows it is looked for from here on.
            position += u32::from(self.pattern.get(position as usize) == Some(&Part::Any));
            if self.is_whole(position) {
                return Ok((position, taken));
            }
            position = self.step(position, *byte)?;
        }
        Ok((position, bytes.len()))
    }

    /// One byte on from `position`, at which there is a byte of the pattern.
    fn step(&self, mut position: u32, byte: u8) -> Result<u32, Mismatch> {
        loop {
            match (self.pattern[position as usize], self.restarts[position as usize]) {
                (Part::Byte(wanted), _) if wanted == byte => return Ok(position + 1),
                (_, None) => return Err(Mismatch),
                // Nothing has begun: the star takes this byte, too.
                (_, Some(restart)) if restart == position => return Ok(position),
                (_, Some(restart)) => position = restart,
            }
        }
    }

    /// Whether a reply that has come to `position` is whole.
    pub(crate) fn is_whole(&self, position: u32) -> bool {
        position as usize == self.pattern.len()
    }
}

/// Where to go on in the pattern from each place, when the byte that comes is not the one there.
fn restarts(pattern: &[Part]) -> Vec<Option<u32>> {
    let mut restarts = vec![None; pattern.len()];
    let starts = (0..pattern.len()).filter(|at| pattern[*at] == Part::Any).map(|at| at + 1);
    for start in starts {
        let end = (start..pattern.len()).find(|at| pattern[*at] == Part::Any).unwrap_or(pattern.len());
        let word = &pattern[start..end];
        let mut prefix = 0;
        for at in 0..word.len() {
            // The longest beginning of the word that ends just before `at`; at its first place it is the place itself.
            restarts[start + at] = Some((start + prefix) as u32);
            if at > 0 {
                while prefix > 0 && word[prefix] != word[at] {
                    prefix = restarts[start + prefix].map_or(0, |restart| restart as usize - start);
                }
                prefix += usize::from(word[prefix] == word[at]);
            }
        }
    }
    restarts
}

/// The bytes of `text`, each with whether it was written as an escape.
fn unescape(text: &str) -> Result<Vec<(u8, bool)>, String> {
    let wrong = |what: &str| format!("'{what}' in '{text}' is no escape: there are \\r \\n \\t \\0 \\\\ \\* and \\xHH");
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push((byte, false));
            continue;
        }
        let escaped = match bytes.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(same @ (b'\\' | b'*')) => same,
            Some(b'x') => {
                let digits = [bytes.next(), bytes.next()].map(|digit| digit.map(char::from));
                let value = |digit: Option<char>| digit.and_then(|digit| digit.to_digit(16));
                match digits.map(value) {
                    [Some(high), Some(low)] => (high * 16 + low) as u8,
                    _ => return Err(wrong("\\x")),
                }
            }
            Some(other) => return Err(wrong(&format!("\\{}", char::from(other)))),
            None => return Err(wrong("\\")),
        };
        out.push((escaped, true));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far the whole of `reply` comes, in pieces of every length.
    fn outcome(expect: &str, reply: &[u8]) -> Result<(bool, usize), Mismatch> {
        let script = Script::new("x", expect).unwrap();
        let whole = script.advance(0, reply).map(|(position, taken)| (script.is_whole(position), taken));
        for len in 1..=reply.len() {
            let (mut position, mut taken) = (0, 0);
            for piece in reply.chunks(len) {
                match script.advance(position, piece) {
                    Ok((next, count)) => (position, taken) = (next, taken + count),
                    Err(mismatch) => {
                        assert_eq!(whole, Err(mismatch), "in pieces of {len}");
                        return whole;
                    }
                }
            }
            assert_eq!(whole, Ok((script.is_whole(position), taken)), "in pieces of {len}");
        }
        whole
    }

    #[test]
    fn a_reply_is_whole_when_the_pattern_is_and_not_before() {
        assert_eq!(outcome("+PONG\\r\\n", b"+PONG\r\n"), Ok((true, 7)));
        assert_eq!(outcome("+PONG\\r\\n", b"+PONG\r"), Ok((false, 6)));
        assert_eq!(outcome("+PONG\\r\\n", b"+PONG\r\n+"), Ok((true, 7)), "a byte too many is left");
        assert_eq!(outcome("+PONG\\r\\n", b"-ERR"), Err(Mismatch));
    }

    #[test]
    fn a_star_takes_any_bytes_up_to_what_follows_it() {
        assert_eq!(outcome("VERSION *\\r\\n", b"VERSION 1.6.18\r\n"), Ok((true, 16)));
        assert_eq!(outcome("VERSION *\\r\\n", b"VERSION \r\n"), Ok((true, 10)), "none, too");
        assert_eq!(outcome("*\\n", b"anything\n"), Ok((true, 9)));
        assert_eq!(
            outcome("VALUE *END\\r\\n", b"VALUE BLENDED\r\nEND\r\n"),
            Ok((true, 20)),
            "all that follows, not a byte of it"
        );
        assert_eq!(outcome("*aab", b"aaaab"), Ok((true, 5)));
        assert_eq!(outcome("*abab*c", b"xababababc"), Ok((true, 10)));
        assert_eq!(outcome("*abac!", b"ababac!"), Ok((true, 7)));
        assert_eq!(outcome("a\\*b", b"a*b"), Ok((true, 3)));
        assert_eq!(outcome("a\\*b", b"axb"), Err(Mismatch));
    }

    #[test]
    fn escapes_are_bytes_and_nonsense_is_named() {
        assert_eq!(Script::new("\\x00\\xfF\\t\\0\\\\", "a").unwrap().request(), [0, 255, 9, 0, 92]);
        for (send, expect, wanted) in [
            ("\\q", "a", "\\q"),
            ("\\x1", "a", "\\x"),
            ("a\\", "a", "'\\'"),
            ("", "a", "--send"),
            ("a", "", "--expect"),
            ("a", "b*", "ends with *"),
            ("a", "**b", "two *"),
        ] {
            let error = Script::new(send, expect).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
