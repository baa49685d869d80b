//! A web server: HTTP/1.1 with keep-alive and pipelining, its heads parsed by the crate `httparse`.
//!
//! `cargo run --release --example http`, then `curl -v http://127.0.0.1:1234/`, or `curl -d hello` at `/echo`. Another port:
//! `-- 4321`; and a Unix socket beside it, for `curl --unix-socket /tmp/http.sock http://localhost/`: `-- 4321 /tmp/http.sock`.
//!
//! What a connection keeps is how far it has come: a request that has not come in whole stays in the input, and is looked at
//! again when there is more. Bodies may come in chunks. Answers to requests that came together leave together. Who does not read its answers is not read either,
//! so what waits for it is never more than `output_low` and the answers to one read.

use std::borrow::Cow;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use esockets::{Address, Builder, Client, Handler, Peer, Server};
use httparse::{EMPTY_HEADER, Error, Header, Request, Status, parse_chunk_size, parse_headers};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The head of a request is no longer, and has no more headers.
const HEAD_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;
const BODY_MAX: usize = 1 << 20;
/// A body in chunks, with their sizes in front of them; and one of these sizes, with what may be said beside it.
const CHUNKS_MAX: usize = 2 * BODY_MAX;
const CHUNK_LINE_MAX: usize = 256;
/// Who has not sent a whole request after so long is let go.
const PATIENCE: Duration = Duration::from_secs(30);

struct Web {
    date: Date,
    /// The answer in hand; its memory is used again for the next.
    answer: Vec<u8>,
}

/// What is to be done with a request.
struct Order {
    /// How long it is, body and all.
    length: usize,
    body: Range<usize>,
    is_chunked: bool,
    method: Method,
    path: Path,
    keeps_alive: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Method {
    Get,
    Head,
    Post,
}

enum Path {
    Root,
    Echo,
    Unknown,
}

/// What is known of a request that is coming in: many pieces of it are not each looked at from its front.
#[derive(Default)]
struct Progress {
    /// With less input than this nothing new can be said; 0 until its head is there.
    needed: usize,
    /// Where its next chunk begins, and how much those before it hold.
    chunk_at: usize,
    body: usize,
}

/// What the input begins with.
enum Parsed {
    /// A whole request.
    Whole(Order),
    /// The beginning of one; and whether its body waits for a word from us (`Expect: 100-continue`), which is said once.
    Part { is_asking: bool },
    /// None that will ever be answered otherwise than with this status.
    Bad(&'static str),
}

impl Handler for Web {
    type Session = Progress;
    type Message = ();

    fn handle_incoming(&mut self, client: &mut Client<'_>, _address: &Peer) -> Option<Progress> {
        client.set_timeout(Some(PATIENCE));
        Some(Progress::default())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, progress: &mut Progress) -> bool {
        loop {
            match parse(client.peek(), progress) {
                Parsed::Whole(order) => {
                    self.compose(&order, &order.body_in(client.peek()));
                    client.consume(order.length);
                    client.set_timeout(Some(PATIENCE));
                    *progress = Progress::default();
                    if !client.send(&self.answer) || !order.keeps_alive {
                        return false;
                    }
                }
                Parsed::Part { is_asking } => return !is_asking || client.send(b"HTTP/1.1 100 Continue\r\n\r\n"),
                Parsed::Bad(status) => {
                    client.recv(); // what follows cannot be told from the rest of it
                    self.answer.clear();
                    self.date.head(&mut self.answer, status, status.len() + 1, "Connection: close\r\n");
                    self.answer.extend_from_slice(status.as_bytes());
                    self.answer.push(b'\n');
                    client.send(&self.answer);
                    return false;
                }
            }
        }
    }
}

impl Web {
    fn new() -> Web {
        Web { date: Date::new(), answer: Vec::new() }
    }

    /// Writes the answer to `order`, whose body is `body`.
    fn compose(&mut self, order: &Order, body: &[u8]) {
        let (status, content, more) = match (&order.path, order.method) {
            (Path::Root, Method::Get | Method::Head) => ("200 OK", &b"Hello, world!\n"[..], ""),
            (Path::Echo, Method::Post) => ("200 OK", body, ""),
            (Path::Root, Method::Post) => ("405 Method Not Allowed", &b""[..], "Allow: GET, HEAD\r\n"),
            (Path::Echo, _) => ("405 Method Not Allowed", &b""[..], "Allow: POST\r\n"),
            (Path::Unknown, _) => ("404 Not Found", &b"There is nothing here.\n"[..], ""),
        };
        self.answer.clear();
        let close = if order.keeps_alive { "" } else { "Connection: close\r\n" };
        self.date.head(&mut self.answer, status, content.len(), &[more, close].concat());
        if order.method != Method::Head {
            self.answer.extend_from_slice(content);
        }
    }
}

/// The rules are those of RFC 9112: who is lax about where a request ends lets one in through another.
fn parse(input: &[u8], progress: &mut Progress) -> Parsed {
    if input.len() < progress.needed {
        return Parsed::Part { is_asking: false };
    }
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let head = match request.parse(input) {
        Ok(Status::Complete(head)) if head <= HEAD_MAX => head,
        Ok(Status::Partial) if input.len() < HEAD_MAX => return Parsed::Part { is_asking: false },
        Ok(_) | Err(Error::TooManyHeaders) => return Parsed::Bad("431 Request Header Fields Too Large"),
        Err(Error::Version) => return Parsed::Bad("505 HTTP Version Not Supported"),
        Err(_) => return Parsed::Bad("400 Bad Request"),
    };
    let is_modern = request.version == Some(1);
    if is_modern && values(request.headers, "host").count() != 1 {
        return Parsed::Bad("400 Bad Request");
    }
    let length = match body_length(request.headers, is_modern) {
        Ok(length) => length,
        Err(status) => return Parsed::Bad(status),
    };
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some("POST") => Method::Post,
        _ => return Parsed::Bad("501 Not Implemented"),
    };
    let path = match request.path.and_then(path) {
        Some("/") => Path::Root,
        Some("/echo") => Path::Echo,
        Some(_) => Path::Unknown,
        None => return Parsed::Bad("400 Bad Request"),
    };
    let is_asking = progress.needed == 0 && is_modern && has(request.headers, "expect", "100-continue");
    match length.map_or_else(|| progress.chunks(input, head), |length| Ok(head + length)) {
        Ok(end) => progress.needed = end,
        Err(status) => return Parsed::Bad(status),
    }
    if input.len() < progress.needed {
        return Parsed::Part { is_asking };
    }
    let keeps_alive = match is_modern {
        true => !has(request.headers, "connection", "close"),
        false => false, // HTTP/1.0 ends each with its connection, unless both sides say more than we do
    };
    let body = head..progress.needed;
    Parsed::Whole(Order { length: body.end, body, is_chunked: length.is_none(), method, path, keeps_alive })
}

impl Progress {
    /// Goes on through the chunks behind the head (RFC 9112, 7.1). Where the body ends; or, while that is not known, how much
    /// input it takes to say more.
    fn chunks(&mut self, input: &[u8], head: usize) -> Result<usize, &'static str> {
        self.chunk_at = self.chunk_at.max(head);
        loop {
            let Some((line, size)) = chunk_size(&input[self.chunk_at..])? else { return Ok(input.len() + 1) };
            let start = self.chunk_at + line;
            if size == 0 {
                return trailer_length(&input[start..]).map(|length| length.map_or(input.len() + 1, |it| start + it));
            }
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size > BODY_MAX - self.body || start + size - head > CHUNKS_MAX {
                return Err("413 Content Too Large");
            }
            let end = start + size + 2;
            match input.get(end - 2..end) {
                Some(b"\r\n") => (self.chunk_at, self.body) = (end, self.body + size),
                Some(_) => return Err("400 Bad Request"),
                None => return Ok(end),
            }
        }
    }
}

/// How long the line in front of a chunk is, and what it says; `None` while it is not whole.
fn chunk_size(input: &[u8]) -> Result<Option<(usize, u64)>, &'static str> {
    let bad = Err("400 Bad Request");
    let Ok(parsed) = parse_chunk_size(input) else { return bad };
    let line = match parsed {
        Status::Complete((length, _)) => &input[..length - 2],
        Status::Partial => input,
    };
    // `httparse` takes no digit at all for a zero, and a line feed alone for a part of the line, which others end there.
    let is_strange = line.contains(&b'\n') || input.first().is_some_and(|byte| !byte.is_ascii_hexdigit());
    if is_strange || line.len() > CHUNK_LINE_MAX {
        return bad;
    }
    Ok(match parsed {
        Status::Complete(complete) => Some(complete),
        Status::Partial => None,
    })
}

/// How long the headers behind the last chunk are, the empty line that ends them included. Nobody here asks what they say.
fn trailer_length(input: &[u8]) -> Result<Option<usize>, &'static str> {
    match parse_headers(input, &mut [EMPTY_HEADER; HEADERS_MAX]) {
        Ok(Status::Complete((length, _))) if length <= HEAD_MAX => Ok(Some(length)),
        Ok(Status::Partial) if input.len() < HEAD_MAX => Ok(None),
        Ok(_) | Err(Error::TooManyHeaders) => Err("431 Request Header Fields Too Large"),
        Err(_) => Err("400 Bad Request"),
    }
}

impl Order {
    /// Its body, as it was before it was sent.
    fn body_in<'a>(&self, input: &'a [u8]) -> Cow<'a, [u8]> {
        let mut rest = &input[self.body.clone()];
        if !self.is_chunked {
            return Cow::Borrowed(rest);
        }
        let mut body = Vec::new();
        while let Ok(Status::Complete((start, size @ 1..))) = parse_chunk_size(rest) {
            let end = start + size as usize;
            body.extend_from_slice(&rest[start..end]);
            rest = &rest[end + 2..];
        }
        Cow::Owned(body)
    }
}

/// The path of a target, which may have a whole address in front of it, as what is asked of a proxy has (RFC 9112, 3.2.2).
fn path(target: &str) -> Option<&str> {
    let (target, _query) = target.split_once('?').unwrap_or((target, ""));
    if target.starts_with('/') {
        return Some(target);
    }
    match target.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            let host = rest.find('/').unwrap_or(rest.len());
            let path = if host < rest.len() { &rest[host..] } else { "/" };
            (host > 0).then_some(path)
        }
        _ => Some(target),
    }
}

fn values<'a>(headers: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// Whether one of the words of these headers, which commas part, is `word`.
fn has(headers: &[Header<'_>], name: &str, word: &str) -> bool {
    let mut words = values(headers, name).flat_map(|value| value.split(|&byte| byte == b','));
    words.any(|it| it.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// The length of the body: 0 unless it is said, and `None` for chunks, whose end is seen when it comes. Two lengths, be they
/// equal, or a length beside chunks: somebody on the way may go by the other one, and take what follows for a request.
fn body_length(headers: &[Header<'_>], is_modern: bool) -> Result<Option<usize>, &'static str> {
    let (mut lengths, mut codings) = (values(headers, "content-length"), values(headers, "transfer-encoding"));
    match (lengths.next(), lengths.next(), codings.next(), codings.next()) {
        (None, _, None, _) => Ok(Some(0)),
        (Some(length), None, None, _) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            // So many digits that it is no usize are a body that is too large.
            let length = str::from_utf8(length).ok().and_then(|text| text.parse().ok());
            length.filter(|length| *length <= BODY_MAX).map(Some).ok_or("413 Content Too Large")
        }
        (None, _, Some(coding), None) if is_modern && coding.eq_ignore_ascii_case(b"chunked") => Ok(None),
        (None, _, Some(_), _) if is_modern => Err("501 Not Implemented"), // a body that is compressed, say
        _ => Err("400 Bad Request"),
    }
}

/// The header `Date`, written once a second.
struct Date {
    text: String,
    written_at: Option<Instant>,
}

impl Date {
    fn new() -> Date {
        Date { text: String::new(), written_at: None }
    }

    /// Appends the head of a response to `answer`: `more` are whole lines.
    fn head(&mut self, answer: &mut Vec<u8>, status: &str, length: usize, more: &str) {
        if self.written_at.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            self.text = httpdate::fmt_http_date(SystemTime::now());
            self.written_at = Some(Instant::now());
        }
        for part in ["HTTP/1.1 ", status, "\r\nDate: ", &self.text, "\r\nContent-Type: text/plain\r\n", more] {
            answer.extend_from_slice(part.as_bytes());
        }
        answer.extend_from_slice(format!("Content-Length: {length}\r\n\r\n").as_bytes());
    }
}

/// The shortest requests that one read brings, 64 KiB of them, have 300 KB of answers, and the longest is a body.
fn builder() -> Builder {
    // A body in chunks has a trailer, which is no longer than a head.
    Server::builder().input_max(2 * HEAD_MAX + CHUNKS_MAX).output_max(4 * BODY_MAX)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().map_or(Ok(1234), |port| port.parse())?;
    let mut builder = builder().listen(Address::tcp("127.0.0.1", port));
    for path in arguments {
        builder = builder.listen(Address::unix(path)); // beside the port
    }
    let server = builder.start(|_shard| Web::new())?;
    println!("listening on {}", server.local_addr());
    signals.forever().next();
    // What was sent is flushed, and the Unix socket's file is removed.
    server.stop();
    server.join()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use esockets::testing::TestClient;

    fn client() -> TestClient<Web> {
        TestClient::connect_to(&builder(), Web::new())
    }

    /// What is received, without its dates.
    fn received(client: &mut TestClient<Web>) -> String {
        let text = String::from_utf8(client.received()).unwrap();
        text.split_inclusive("\r\n").filter(|line| !line.starts_with("Date: ")).collect()
    }

    fn status(request: &[u8]) -> String {
        let mut client = client();
        client.send(request);
        received(&mut client).lines().next().unwrap_or_default().replace("HTTP/1.1 ", "")
    }

    const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n";

    #[test]
    fn requests_may_come_in_pieces_and_together_and_are_answered_in_order() {
        let mut client = client();
        for piece in "GET / HTTP/1.1\r\nHost: here\r\n\r\n".as_bytes().chunks(3) {
            assert_eq!(received(&mut client), "");
            client.send(piece);
        }
        assert_eq!(received(&mut client), HELLO);
        client.send(
            b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: h\r\n\r\nGET ",
        );
        let echo = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(received(&mut client), echo.to_owned() + HELLO);
        client.send(b"/ HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n");
        assert!(received(&mut client).contains("Connection: close") && !client.is_open());
    }

    #[test]
    fn a_body_that_waits_is_asked_for_once() {
        let mut client = client();
        client.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 4\r\n\r\n");
        assert_eq!(received(&mut client), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send(b"ab");
        assert_eq!(received(&mut client), "");
        client.send(b"cd");
        assert!(received(&mut client).ends_with("\r\n\r\nabcd"));
    }

    #[test]
    fn what_is_no_proper_request_is_refused_with_a_status() {
        let post = |headers: &str| format!("POST /echo HTTP/1.1\r\nHost: h\r\n{headers}\r\n").into_bytes();
        assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), "400 Bad Request", "no host");
        assert_eq!(status(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), "400 Bad Request", "two");
        assert_eq!(status(b"nonsense\r\n\r\n"), "400 Bad Request");
        assert_eq!(status(b"GET / HTTP/2.0\r\n\r\n"), "505 HTTP Version Not Supported");
        assert_eq!(status(b"BREW / HTTP/1.1\r\nHost: h\r\n\r\n"), "501 Not Implemented");
        assert_eq!(status(&post("Content-Length: 9999999\r\n")), "413 Content Too Large");
        assert_eq!(status(&post("Content-Length: 99999999999999999999999\r\n")), "413 Content Too Large");
        assert_eq!(status(&[b'A'; HEAD_MAX]), "431 Request Header Fields Too Large");
        assert_eq!(status(&post(&"A: b\r\n".repeat(HEADERS_MAX))), "431 Request Header Fields Too Large");
        assert_eq!(status(b"DELETE /echo HTTP/1.1\r\nHost: h\r\n\r\n"), "501 Not Implemented");
        assert_eq!(status(b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n"), "405 Method Not Allowed");
        assert_eq!(status(b"GET /nowhere?x HTTP/1.1\r\nHost: h\r\n\r\n"), "404 Not Found");
        assert_eq!(status(b"GET /?x HTTP/1.0\r\n\r\n"), "200 OK");
    }

    const CHUNKED: &str = "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n";

    #[test]
    fn a_body_may_come_in_chunks_and_each_of_them_in_pieces() {
        let whole = CHUNKED.to_owned() + "3\r\nabc\r\n00A;x=\"y\" \r\n\r\n0\r\nghijk\r\n0\r\nTrailer: t\r\n\r\n";
        let echo = "Content-Length: 13\r\n\r\nabc\r\n0\r\nghijk";
        for size in [1, 2, 7, whole.len()] {
            let mut client = client();
            for piece in whole.as_bytes().chunks(size) {
                assert_eq!(received(&mut client), "", "{size}");
                client.send(piece);
            }
            assert!(received(&mut client).ends_with(echo), "{size}");
            assert_eq!(client.session().unwrap().needed, 0);
            // Its end was found: another one follows.
            client.send(format!("{CHUNKED}0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
            assert!(received(&mut client).ends_with(&format!("Content-Length: 0\r\n\r\n{HELLO}")), "{size}");
        }
    }

    #[test]
    fn what_has_come_of_a_body_is_not_looked_at_again() {
        let mut client = client();
        client.send(format!("{CHUNKED}3\r\nabc\r\n5\r\nde").as_bytes());
        let progress = client.session().unwrap();
        let head = CHUNKED.len();
        assert_eq!((progress.chunk_at, progress.body, progress.needed), (head + 8, 3, head + 8 + 3 + 7));
    }

    #[test]
    fn chunks_that_somebody_else_may_see_end_elsewhere_are_refused() {
        let chunks = |chunks: &str| status((CHUNKED.to_owned() + chunks).as_bytes());
        for bad in
            ["x\r\n", "\r\n", ";x\r\n", "-1\r\n", "0x1\r\n", "1\n", "1;\n", "1\rx", "1\r\nab\r\n", "1\r\na\n0\r\n"]
        {
            assert_eq!(chunks(bad), "400 Bad Request", "{bad:?}");
        }
        assert_eq!(chunks(&format!("1;{}", "x".repeat(CHUNK_LINE_MAX))), "400 Bad Request");
        assert_eq!(chunks("100001\r\n"), "413 Content Too Large");
        assert_eq!(chunks("1\r\na\r\nFFFFFFFFFFFFFFFF\r\n"), "413 Content Too Large");
        assert_eq!(chunks("11111111111111111\r\n"), "400 Bad Request", "no number of 64 bits");
        assert_eq!(chunks(&"1\r\na\r\n".repeat(CHUNKS_MAX / 6 + 1)), "413 Content Too Large", "mostly sizes");
        assert_eq!(chunks(&format!("0\r\na: {}", "b".repeat(HEAD_MAX))), "431 Request Header Fields Too Large");
        assert_eq!(chunks("0\r\nno header\r\n\r\n"), "400 Bad Request");
    }

    #[test]
    fn a_body_of_two_lengths_is_refused() {
        let with = |version: &str, headers: &str| {
            status(format!("POST /echo HTTP/{version}\r\nHost: h\r\n{headers}\r\n1\r\na\r\n0\r\n\r\n").as_bytes())
        };
        let (length, chunked) = ("Content-Length: 11\r\n", "Transfer-Encoding: chunked\r\n");
        assert_eq!((with("1.1", length), with("1.1", chunked)), ("200 OK".to_owned(), "200 OK".to_owned()));
        for bad in [
            [length, chunked],
            [chunked, length],
            [length, length],
            [length, "Content-Length: 12\r\n"],
            ["Content-Length: 11, 11\r\n", ""],
            ["Content-Length: +11\r\n", ""],
            ["Content-Length:\r\n", ""],
            ["Content-Length : 11\r\n", ""],
            ["Transfer-Encoding : chunked\r\n", ""],
            ["Content-Length:\r\n 11\r\n", ""],
        ] {
            assert_eq!(with("1.1", &bad.concat()), "400 Bad Request", "{bad:?}");
        }
        assert_eq!(with("1.0", chunked), "400 Bad Request", "HTTP/1.0 knows no chunks");
        for unknown in
            ["gzip, chunked", "chunked, chunked", "xchunked", "\u{b}chunked", "", "chunked\r\nTransfer-Encoding: x"]
        {
            let status = with("1.1", &format!("Transfer-Encoding: {unknown}\r\n"));
            assert!(["501 Not Implemented", "400 Bad Request"].contains(&status.as_str()), "{unknown:?}: {status}");
        }
    }

    #[test]
    fn a_target_may_be_a_whole_address() {
        let get = |target: &str| status(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        for target in ["http://h/", "HTTP://h:1234", "https://h?x=/y", "http://h/?u=http://x/y", "/?u=http://x/y"] {
            assert_eq!(get(target), "200 OK", "{target}");
        }
        assert_eq!(get("http://h/echo"), "405 Method Not Allowed");
        assert_eq!((get("ftp://h/"), get("http://h/x")), ("404 Not Found".to_owned(), "404 Not Found".to_owned()));
        assert_eq!((get("http:///"), get("http://")), ("400 Bad Request".to_owned(), "400 Bad Request".to_owned()));
    }

    #[test]
    fn a_head_is_answered_without_its_body() {
        let mut client = client();
        client.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(HELLO.strip_suffix("Hello, world!\n") == Some(&received(&mut client)));
    }
}
