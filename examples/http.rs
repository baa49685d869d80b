//! A web server: HTTP/1.1 with keep-alive and pipelining, its heads parsed by the crate `httparse`.
//!
//! `cargo run --release --example http`, then `curl -v http://127.0.0.1:1234/`, or `curl -d hello` at `/echo`. Another port:
//! `-- 4321`; and a Unix socket beside it, for `curl --unix-socket /tmp/http.sock http://localhost/`: `-- 4321 /tmp/http.sock`.
//!
//! What a connection keeps is one flag: a request that has not come in whole stays in the input, and is looked at again when
//! there is more. Answers to requests that came together leave together. Who does not read its answers is not read either,
//! so what waits for it is never more than `output_low` and the answers to one read.

use std::time::{Duration, Instant, SystemTime};

use esockets::{Address, Builder, Client, Handler, Peer, Server};
use httparse::{EMPTY_HEADER, Error, Header, Request, Status};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The head of a request is no longer, and has no more headers.
const HEAD_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;
const BODY_MAX: usize = 1 << 20;
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
    body: std::ops::Range<usize>,
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

/// What the input begins with.
enum Parsed {
    /// A whole request.
    Whole(Order),
    /// The beginning of one; and whether its body waits for a word from us.
    Part { is_asking: bool },
    /// None that will ever be answered otherwise than with this status.
    Bad(&'static str),
}

impl Handler for Web {
    /// Whether the request that is coming in has been told to go on (`Expect: 100-continue`).
    type Session = bool;
    type Message = ();

    fn handle_incoming(&mut self, client: &mut Client<'_>, _address: &Peer) -> Option<bool> {
        client.set_timeout(Some(PATIENCE));
        Some(false)
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, has_been_told: &mut bool) -> bool {
        loop {
            match parse(client.peek()) {
                Parsed::Whole(order) => {
                    self.compose(&order, &client.peek()[order.body.clone()]);
                    client.consume(order.length);
                    client.set_timeout(Some(PATIENCE));
                    *has_been_told = false;
                    if !client.send(&self.answer) || !order.keeps_alive {
                        return false;
                    }
                }
                Parsed::Part { is_asking } => {
                    let is_to_be_told = is_asking && !std::mem::replace(has_been_told, true);
                    return !is_to_be_told || client.send(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
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
fn parse(input: &[u8]) -> Parsed {
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
    if values(request.headers, "transfer-encoding").next().is_some() {
        return Parsed::Bad("501 Not Implemented"); // no chunked bodies
    }
    if is_modern && values(request.headers, "host").count() != 1 {
        return Parsed::Bad("400 Bad Request");
    }
    let body = match content_length(request.headers) {
        Some(length) if length <= BODY_MAX => length,
        Some(_) => return Parsed::Bad("413 Content Too Large"),
        None => return Parsed::Bad("400 Bad Request"),
    };
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some("POST") => Method::Post,
        _ => return Parsed::Bad("501 Not Implemented"),
    };
    if input.len() < head + body {
        return Parsed::Part { is_asking: is_modern && has(request.headers, "expect", "100-continue") };
    }
    let path = match request.path.and_then(|path| path.split('?').next()) {
        Some("/") => Path::Root,
        Some("/echo") => Path::Echo,
        _ => Path::Unknown,
    };
    let keeps_alive = match is_modern {
        true => !has(request.headers, "connection", "close"),
        false => false, // HTTP/1.0 ends each with its connection, unless both sides say more than we do
    };
    Parsed::Whole(Order { length: head + body, body: head..head + body, method, path, keeps_alive })
}

fn values<'a>(headers: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// Whether one of the words of these headers, which commas part, is `word`.
fn has(headers: &[Header<'_>], name: &str, word: &str) -> bool {
    let mut words = values(headers, name).flat_map(|value| value.split(|&byte| byte == b','));
    words.any(|it| it.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// The length of the body: 0 unless it is said, and `None` if what is said is no number, or two.
fn content_length(headers: &[Header<'_>]) -> Option<usize> {
    let mut said = values(headers, "content-length");
    let Some(value) = said.next() else { return Some(0) };
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if !is_number || said.next().is_some() {
        return None;
    }
    // So many digits that it is no usize are a body that is too large.
    Some(str::from_utf8(value).ok()?.parse().unwrap_or(usize::MAX))
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
    Server::builder().input_max(HEAD_MAX + BODY_MAX).output_max(4 * BODY_MAX)
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
        assert_eq!(status(&post("Transfer-Encoding: chunked\r\n")), "501 Not Implemented");
        assert_eq!(status(&post("Content-Length: 1\r\nContent-Length: 1\r\n")), "400 Bad Request");
        assert_eq!(status(&post("Content-Length: +1\r\n")), "400 Bad Request");
        assert_eq!(status(&post("Content-Length: 9999999\r\n")), "413 Content Too Large");
        assert_eq!(status(&post("Content-Length: 99999999999999999999999\r\n")), "413 Content Too Large");
        assert_eq!(status(&[b'A'; HEAD_MAX]), "431 Request Header Fields Too Large");
        assert_eq!(status(&post(&"A: b\r\n".repeat(HEADERS_MAX))), "431 Request Header Fields Too Large");
        assert_eq!(status(b"DELETE /echo HTTP/1.1\r\nHost: h\r\n\r\n"), "501 Not Implemented");
        assert_eq!(status(b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n"), "405 Method Not Allowed");
        assert_eq!(status(b"GET /nowhere?x HTTP/1.1\r\nHost: h\r\n\r\n"), "404 Not Found");
        assert_eq!(status(b"GET /?x HTTP/1.0\r\n\r\n"), "200 OK");
    }

    #[test]
    fn a_head_is_answered_without_its_body() {
        let mut client = client();
        client.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(HELLO.strip_suffix("Hello, world!\n") == Some(&received(&mut client)));
    }
}
