//! HTTP/1.1 (RFC 9112), as far as a client that sends GET and reads whole responses needs it. No socket.

use std::collections::{BTreeMap, HashMap};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};

use crate::failure::Kind;

/// What is asked of each destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Http {
    requests: Vec<Vec<u8>>,
}

impl Http {
    /// A GET for each pair of authority (the Host header) and path, which may ask the server to close behind its response.
    pub(crate) fn new<'a>(targets: impl Iterator<Item = (String, &'a str)>, closes: bool) -> Http {
        let version = env!("CARGO_PKG_VERSION");
        let close = if closes { "Connection: close\r\n" } else { "" };
        let request = |(authority, path): (String, &str)| {
            format!(
                "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: loadgen/{version}\r\nAccept: */*\r\n{close}\r\n"
            )
        };
        Http { requests: targets.map(request).map(String::into_bytes).collect() }
    }

    /// The request to the destination of this index.
    pub(crate) fn request(&self, destination: usize) -> &[u8] {
        &self.requests[destination]
    }
}

/// A response that has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Response {
    /// What is wrong with it, if anything is.
    pub(crate) fault: Option<Kind>,
    /// Whether the server closes the connection behind it, as it has said.
    pub(crate) is_last: bool,
}

/// One worker's responses that are under way. Most come in one piece, so that nothing is kept of them.
#[derive(Debug, Default)]
pub(crate) struct Responses {
    partial: HashMap<u32, Partial>,
    /// Those of the run's lengths that are known here.
    body_lens: HashMap<usize, u64>,
    /// Good responses that were the first ones, by destination and length, of which nobody could say whether it is right.
    unsure: HashMap<(usize, u64), u64>,
    lengths: Arc<Lengths>,
}

/// How long the bodies of good responses have to be, of each destination, whoever gets them: as long as most of the first
/// ones are, for the very first may be the odd one.
#[derive(Debug, Default)]
pub(crate) struct Lengths(Mutex<HashMap<usize, Poll>>);

/// The first responses of a destination: how many had each length, in the order in which it was first seen.
#[derive(Debug, Default)]
struct Poll {
    votes: Vec<(u64, u64)>,
    decided: Option<u64>,
}

impl Lengths {
    fn with<R>(&self, destination: usize, act: impl FnOnce(&mut Poll) -> R) -> R {
        act(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(destination).or_default())
    }
}

impl Poll {
    /// One more response has this length; the right one, if that is known.
    fn vote(&mut self, body_len: u64) -> Option<u64> {
        if self.decided.is_none() {
            match self.votes.iter_mut().find(|(length, _)| *length == body_len) {
                Some((_, votes)) => *votes += 1,
                None => self.votes.push((body_len, 1)),
            }
            let all: u64 = self.votes.iter().map(|(_, votes)| votes).sum();
            if self.votes.iter().any(|(_, votes)| *votes == VOTES) || all == VOTES_MAX {
                self.decide();
            }
        }
        self.decided
    }

    /// The length that most had until now; of several, the one that was seen first.
    fn decide(&mut self) -> Option<u64> {
        let most = self.votes.iter().rev().max_by_key(|(_, votes)| *votes).map(|(length, _)| *length);
        self.decided = self.decided.or(most);
        self.decided
    }
}

/// A response of which not all has come.
#[derive(Debug, Default)]
struct Partial {
    /// What has come of the head, until it is whole.
    head: Vec<u8>,
    /// What the head said; then `body` counts.
    known: Option<Head>,
    body: Body,
    body_len: u64,
}

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    status: u16,
    is_last: bool,
}

/// How the end of a body is known, and how far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Body {
    /// So many bytes are left.
    Length(u64),
    /// In chunks: the number of the line that is being read, as far as it has come; nothing before its first digit.
    ChunkSize(Option<u64>),
    /// In a chunk's extension or at the line's end; behind it come so many bytes.
    ChunkLine(u64),
    /// So many bytes of a chunk are left; behind it its line ends.
    Chunk(u64),
    /// Lines behind the last chunk, until an empty one; whether the present one is empty so far.
    Trailer(bool),
    /// Until the server closes the connection.
    #[default]
    UntilClose,
}

impl Responses {
    /// Those of a worker, all of which hold theirs against the same `lengths`.
    pub(crate) fn sharing(lengths: Arc<Lengths>) -> Responses {
        Responses { lengths, ..Responses::default() }
    }

    /// Takes `bytes` that came on the connection in `slot`. The response, if it is whole now, and how many bytes it took.
    ///
    /// # Errors
    /// [`Kind::Malformed`] for what is no HTTP response.
    pub(crate) fn take(
        &mut self,
        (slot, destination): (u32, usize),
        bytes: &[u8],
    ) -> Result<Option<(Response, usize)>, Kind> {
        let mut partial = if self.partial.is_empty() { None } else { self.partial.remove(&slot) }.unwrap_or_default();
        let (taken, is_whole) = partial.take(bytes)?;
        if !is_whole {
            self.partial.insert(slot, partial);
            return Ok(None);
        }
        Ok(Some((self.judge(&partial, destination), taken)))
    }

    /// The connection in `slot` has been closed by the server: the response that this ends, if there is one.
    pub(crate) fn end(&mut self, (slot, destination): (u32, usize)) -> Option<Response> {
        let partial = self.partial.remove(&slot)?;
        (partial.known.is_some() && partial.body == Body::UntilClose).then(|| self.judge(&partial, destination))
    }

    /// The connection in `slot` is gone.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.partial.remove(&slot);
    }

    /// How many responses, of each destination, were not as long as they have to be, of those since the last time that nobody
    /// could judge: now that a stage is over, what most had is right.
    pub(crate) fn settle(&mut self) -> Vec<(usize, u64)> {
        let mut wrong = Vec::new();
        for ((destination, body_len), count) in std::mem::take(&mut self.unsure) {
            let right = self.lengths.with(destination, Poll::decide);
            self.body_lens.extend(right.map(|right| (destination, right)));
            if right != Some(body_len) {
                wrong.push((destination, count));
            }
        }
        wrong
    }

    /// The lengths that are known here, by destination.
    pub(crate) fn body_lens(&self) -> BTreeMap<usize, u64> {
        self.body_lens.iter().map(|(destination, body_len)| (*destination, *body_len)).collect()
    }

    #[cold]
    fn vote(&mut self, destination: usize, body_len: u64) -> Option<u64> {
        let right = self.lengths.with(destination, |poll| poll.vote(body_len));
        match right {
            Some(right) => _ = self.body_lens.insert(destination, right),
            None => *self.unsure.entry((destination, body_len)).or_default() += 1,
        }
        right
    }

    fn judge(&mut self, partial: &Partial, destination: usize) -> Response {
        let head = partial.known.unwrap_or(Head { status: 0, is_last: true });
        let fault = match head.status {
            200..300 => {
                let known = self.body_lens.get(&destination).copied();
                let right = known.or_else(|| self.vote(destination, partial.body_len));
                right.filter(|right| *right != partial.body_len).map(|_| Kind::Length)
            }
            status => Some(Kind::Status(status)),
        };
        Response { fault, is_last: head.is_last }
    }
}

impl Partial {
    /// How many of `bytes` belong to this response, and whether it is whole with them.
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), Kind> {
        let mut taken = 0;
        while self.known.is_none() {
            let before = self.head.len();
            // Nearly always the head comes in one piece, and is read where it lies.
            let parsed = if before == 0 {
                parse(&bytes[taken..])?
            } else {
                self.head.extend_from_slice(&bytes[taken..]);
                parse(&self.head)?
            };
            let Some((len, head, body)) = parsed else {
                if before == 0 {
                    self.head.extend_from_slice(&bytes[taken..]);
                }
                if self.head.len() > HEAD_BYTES_MAX {
                    return Err(Kind::Malformed);
                }
                return Ok((bytes.len(), false));
            };
            taken += len - before;
            self.head = Vec::new();
            // An interim response (RFC 9110, 15.2): the one that counts follows. Behind 101 no HTTP does.
            if !(100..200).contains(&head.status) || head.status == SWITCHING_PROTOCOLS {
                (self.known, self.body) = (Some(head), body);
            }
        }
        let (more, is_whole) = self.take_body(&bytes[taken..])?;
        Ok((taken + more, is_whole))
    }

    fn take_body(&mut self, bytes: &[u8]) -> Result<(usize, bool), Kind> {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            match self.body {
                Body::Length(0) => return Ok((taken, true)),
                _ if rest.is_empty() => return Ok((taken, false)),
                Body::Length(left) => {
                    let count = left.min(rest.len() as u64);
                    self.body = Body::Length(left - count);
                    (taken, self.body_len) = (taken + count as usize, self.body_len + count);
                }
                Body::UntilClose => {
                    self.body_len += rest.len() as u64;
                    return Ok((bytes.len(), false));
                }
                Body::Chunk(left) if left > 0 => {
                    let count = left.min(rest.len() as u64);
                    self.body_len += count;
                    self.body = Body::Chunk(left - count);
                    taken += count as usize;
                }
                _ => {
                    taken += 1;
                    if self.take_chunk_byte(rest[0])? {
                        return Ok((taken, true));
                    }
                }
            }
        }
    }

    /// One byte between chunks; true if it was the last of the response.
    fn take_chunk_byte(&mut self, byte: u8) -> Result<bool, Kind> {
        self.body = match (self.body, byte) {
            (Body::ChunkSize(Some(0)) | Body::ChunkLine(0), b'\n') => Body::Trailer(true),
            (Body::ChunkSize(Some(size)) | Body::ChunkLine(size), b'\n') => Body::Chunk(size),
            (Body::ChunkSize(Some(size)), b'\r' | b';' | b' ' | b'\t') => Body::ChunkLine(size),
            (Body::ChunkSize(size), digit) => {
                let digit = char::from(digit).to_digit(16).ok_or(Kind::Malformed)?;
                let size = size.unwrap_or(0).checked_mul(16).and_then(|size| size.checked_add(digit.into()));
                Body::ChunkSize(Some(size.ok_or(Kind::Malformed)?))
            }
            (Body::Chunk(_), b'\r') => self.body,
            (Body::Chunk(_), b'\n') => Body::ChunkSize(None),
            // More than its size said.
            (Body::Chunk(_), _) => return Err(Kind::Malformed),
            (Body::Trailer(true), b'\n') => return Ok(true),
            (Body::Trailer(_), b'\n') => Body::Trailer(true),
            (Body::Trailer(is_empty), b'\r') => Body::Trailer(is_empty),
            (Body::Trailer(_), _) => Body::Trailer(false),
            (other, _) => other,
        };
        Ok(false)
    }
}

/// The head at the beginning of `bytes`: its length, what it says, and how its body ends. `None` while it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Head, Body)>, Kind> {
    // Left as it is: to clear room for a hundred headers would take longer than to parse ten.
    let mut headers = [MaybeUninit::uninit(); HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let len = match parser.parse_response_with_uninit_headers(&mut response, bytes, &mut headers) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Kind::Malformed),
    };
    let status = response.code.unwrap_or(0);
    // Of a name that comes several times all values count, as if commas stood between them (RFC 9110, 5.3).
    let words = |name: &'static str| {
        let named = response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.flat_map(|header| header.value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    };
    let has = |name, word: &str| words(name).any(|it| it.eq_ignore_ascii_case(word.as_bytes()));
    let is_http_10 = response.version == Some(0);
    let is_empty = status == 204 || status == 304 || (100..200).contains(&status);
    let body = if is_empty {
        Body::Length(0)
    } else if has("transfer-encoding", "chunked") {
        Body::ChunkSize(None)
    } else {
        content_length(words("content-length"))?
    };
    let is_kept = if is_http_10 { has("connection", "keep-alive") } else { !has("connection", "close") };
    let is_last = !is_kept || body == Body::UntilClose || status == SWITCHING_PROTOCOLS;
    Ok(Some((len, Head { status, is_last }, body)))
}

/// The body's length; until the connection's end, where there is none. Said several times, it has to be the same.
fn content_length<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Body, Kind> {
    let mut body = Body::UntilClose;
    for digits in values {
        // A sign would be parsed, but is none of HTTP's.
        let digits = Some(digits).filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).ok_or(Kind::Malformed)?;
        if body != Body::UntilClose && body != Body::Length(number) {
            return Err(Kind::Malformed);
        }
        body = Body::Length(number);
    }
    Ok(body)
}

/// The status after which the connection speaks another protocol (RFC 9110, 15.2.2): nobody asked for that.
const SWITCHING_PROTOCOLS: u16 = 101;

/// Responses of one length that settle which is the right one: more than a few odd ones at the beginning.
const VOTES: u64 = 16;

/// Responses after which it is settled even if no length has as many.
const VOTES_MAX: u64 = 64;

/// More than any server sends.
const HEADERS_MAX: usize = 256;

/// A head that is longer is none.
const HEAD_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body_len: usize) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {body_len}\r\n\r\n{}", "x".repeat(body_len))
    }

    /// The fault of a whole response with a body of so many bytes.
    fn fault(responses: &mut Responses, body_len: usize) -> Option<Kind> {
        responses.take((0, 0), text(body_len).as_bytes()).unwrap().unwrap().0.fault
    }

    #[test]
    fn what_most_got_first_is_what_all_have_to_get() {
        let lengths = Arc::new(Lengths::default());
        let [mut one, mut other] = [(); 2].map(|()| Responses::sharing(Arc::clone(&lengths)));
        assert_eq!([fault(&mut one, 4), fault(&mut other, 4)], [None; 2], "nobody knows yet");
        assert!((0..VOTES).all(|_| fault(&mut one, 5).is_none()));
        assert_eq!(
            [fault(&mut one, 4), fault(&mut other, 4), fault(&mut other, 5)],
            [Some(Kind::Length), Some(Kind::Length), None]
        );
        assert_eq!([one.settle(), other.settle()], [[(0, 1)], [(0, 1)]], "one of each was taken for right");
        assert_eq!([one.settle(), other.settle()], [[]; 2], "and is counted once");
        assert_eq!((one.body_lens(), other.body_lens()), (BTreeMap::from([(0, 5)]), BTreeMap::from([(0, 5)])));
    }

    #[test]
    fn a_stage_that_is_over_before_it_is_settled_goes_by_what_there_is() {
        let mut few = Responses::default();
        assert!([7, 5, 5, 6].into_iter().all(|body_len| fault(&mut few, body_len).is_none()));
        assert_eq!(few.settle(), [(0, 1), (0, 1)]);
        assert_eq!((fault(&mut few, 5), fault(&mut few, 7)), (None, Some(Kind::Length)));
        let mut equal = Responses::default();
        assert!([7, 5].into_iter().all(|body_len| fault(&mut equal, body_len).is_none()));
        assert_eq!((equal.settle(), equal.body_lens()), (vec![(0, 1)], BTreeMap::from([(0, 7)])));
        let mut each_another = Responses::default();
        let faults = (0..VOTES_MAX as usize + 9).filter_map(|body_len| fault(&mut each_another, body_len)).count();
        assert_eq!((faults, each_another.settle().len()), (10, VOTES_MAX as usize - 2), "all but the first are wrong");
    }

    /// What becomes of `bytes` on one connection, the same in pieces of every length; each response with its end.
    fn outcome(bytes: &str) -> Result<Vec<(Response, usize)>, Kind> {
        let run = |piece_len: usize| {
            let (mut responses, mut ends, mut at) = (Responses::default(), Vec::new(), 0);
            for piece in bytes.as_bytes().chunks(piece_len) {
                let mut rest = piece;
                while !rest.is_empty() {
                    match responses.take((0, 0), rest)? {
                        Some((response, taken)) => {
                            ends.push((response, at + taken));
                            (rest, at) = (&rest[taken..], at + taken);
                        }
                        None => (at, rest) = (at + rest.len(), &[]),
                    }
                }
            }
            ends.extend(responses.end((0, 0)).map(|response| (response, at)));
            Ok(ends)
        };
        let whole = run(bytes.len());
        (1..bytes.len()).for_each(|len| assert_eq!(run(len), whole, "in pieces of {len}"));
        whole
    }

    const GOOD: Response = Response { fault: None, is_last: false };

    #[test]
    fn a_response_ends_with_its_length() {
        let one = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(outcome(one), Ok(vec![(GOOD, one.len())]));
        assert_eq!(outcome(&one.repeat(2)).unwrap().len(), 2);
        assert_eq!(outcome("HTTP/1.1 200 OK\r\ncontent-LENGTH:  0\r\n\r\n").unwrap().len(), 1);
        assert_eq!(outcome(&one[..one.len() - 1]), Ok(vec![]), "a byte is missing");
        assert_eq!(outcome("HTTP/1.1 204 No Content\r\n\r\n").unwrap().len(), 1);
    }

    #[test]
    fn chunks_are_one_body() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunked = format!("{head}5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: z\r\n\r\n");
        assert_eq!(outcome(&chunked), Ok(vec![(GOOD, chunked.len())]));
        let same = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n123456789012345";
        assert_eq!(outcome(&(chunked + same)).unwrap()[1].0, GOOD, "15 bytes, too");
        assert_eq!(outcome(&format!("{head}zz\r\n")), Err(Kind::Malformed));
        assert_eq!(outcome(&format!("{head}{}\r\n", "F".repeat(30))), Err(Kind::Malformed));
    }

    #[test]
    fn a_name_that_comes_twice_has_both_values() {
        let twice = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(outcome(twice), Ok(vec![(GOOD, twice.len())]));
        assert_eq!(outcome("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx").unwrap().len(), 1);
        let closing = "HTTP/1.1 200 OK\r\nConnection: foo\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert!(outcome(closing).unwrap()[0].0.is_last);
    }

    #[test]
    fn a_server_may_close_behind_a_response() {
        let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx";
        assert!(outcome(closing).unwrap()[0].0.is_last);
        assert!(outcome("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx").unwrap()[0].0.is_last);
        let until = outcome("HTTP/1.1 200 OK\r\n\r\nas long as it lasts").unwrap();
        assert_eq!(until[0].0, Response { fault: None, is_last: true });
    }

    #[test]
    fn wrong_statuses_and_lengths_are_told_and_nonsense_is_no_response() {
        let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno.";
        assert_eq!(outcome(missing).unwrap()[0].0.fault, Some(Kind::Status(404)));
        let all = format!("{}{}{}", text(1).repeat(VOTES as usize), text(2), text(1));
        let faults: Vec<_> = outcome(&all).unwrap().iter().map(|it| it.0.fault).collect();
        assert_eq!(faults[VOTES as usize - 1..], [None, Some(Kind::Length), None]);
        for nonsense in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "\0\0\0\0\0\0"] {
            assert_eq!(outcome(nonsense), Err(Kind::Malformed), "{nonsense}");
        }
        let switching = outcome("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n");
        assert_eq!(switching.unwrap()[0].0, Response { fault: Some(Kind::Status(101)), is_last: true });
        assert_eq!(
            outcome("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap().len(),
            1
        );
    }
}
