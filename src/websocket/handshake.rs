//! The handshake, see RFC 6455, section 4.2: an HTTP request in, the answer out. It takes nothing that it does not have to.

use std::str;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use sha1::{Digest, Sha1};

use super::extensions::Deflate;

/// The most header fields of a request.
const HEADERS_MAX: usize = 64;
/// RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// How a key is written: 16 bytes, in 24 characters.
const KEY_LEN: usize = 24;
const KEY_BYTES: usize = 16;
/// The RFC's own example sets bits that base64 does not use.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// What a client asks for as it opens a WebSocket. The protocol's own part has been checked: what is left to decide is
/// whether this client, from this page, is welcome here.
pub struct Request<'a> {
    target: &'a str,
    headers: &'a [httparse::Header<'a>],
    /// `Sec-WebSocket-Key`.
    key: &'a [u8],
    /// What of `Sec-WebSocket-Extensions` can be had.
    pub(super) deflate: Option<Deflate>,
    /// Whether it is a WebSocket that is asked for, and not a page.
    pub(super) upgrades: bool,
}

/// An HTTP answer that ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) why: &'static str,
}

const fn refuse(status: u16, why: &'static str) -> Refusal {
    Refusal { status, why }
}

impl Refusal {
    pub(super) const TOO_LATE: Refusal = refuse(408, "the request took too long");
    pub(super) const TOO_LONG: Refusal = refuse(431, "the request's head is too long");
    pub(super) const TOO_MANY: Refusal = refuse(431, "the request has too many header fields");
    const METHOD: Refusal = refuse(405, "a WebSocket is opened with GET");
    pub(super) const VERSION: Refusal = refuse(426, "this is a WebSocket of version 13");
    const LINE: Refusal = refuse(400, "a line ends with CR and LF");
    const HEAD: Refusal = refuse(400, "this is not the head of an HTTP request");
    const HTTP: Refusal = refuse(400, "a WebSocket is opened with HTTP/1.1");
    const TARGET: Refusal = refuse(400, "the request's target is neither a path nor a URL of this host");
    const HOST: Refusal = refuse(400, "there is one Host, and it is a name");
    const BODY: Refusal = refuse(400, "a request for a WebSocket has no body");
    const CONNECTION: Refusal = refuse(400, "Connection does not ask for an upgrade");
    const KEY: Refusal = refuse(400, "there is one Sec-WebSocket-Key, of 16 bytes");
    const EXTENSIONS: Refusal = refuse(400, "Sec-WebSocket-Extensions is not a list of extensions");
    const PROTOCOL: Refusal = refuse(400, "Sec-WebSocket-Protocol is not a list of names");

    /// As it is sent.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let Refusal { status, why } = self;
        let more = match status {
            405 => "Allow: GET\r\n",
            426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            _ => "",
        };
        let connection = if status == 426 { "close, Upgrade" } else { "close" };
        let body = format!("{why}\n");
        let length = body.len();
        format!(
            "HTTP/1.1 {status} {}\r\n{more}Connection: {connection}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\n\r\n{body}",
            phrase(status)
        )
        .into_bytes()
    }
}

impl<'a> Request<'a> {
    /// The path that is asked for, as it was sent, with its leading slash.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// What stands behind the path's question mark, as it was sent.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The first header field of this name, whatever the case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// All header fields, in the order in which they came.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.headers.iter().map(|header| (header.name, header.value))
    }

    /// The name of the server that the client meant.
    #[must_use]
    pub fn host(&self) -> &'a str {
        self.header("host").and_then(|host| str::from_utf8(host).ok()).unwrap_or_default()
    }

    /// The site whose page opens this WebSocket: every browser tells it, and no script can change it. `None` if it is not a
    /// browser. A server that knows its users by a cookie has to look at it, for a browser sends the cookie with whatever
    /// page asks.
    #[must_use]
    pub fn origin(&self) -> Option<&'a str> {
        self.header("origin").and_then(|origin| str::from_utf8(origin).ok())
    }

    /// The subprotocols that the client speaks, the one that it likes best first.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a str> {
        self.tokens("sec-websocket-protocol").filter_map(|name| str::from_utf8(name).ok())
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let of_name = move |header: &&httparse::Header<'a>| header.name.eq_ignore_ascii_case(name);
        self.headers.iter().filter(of_name).map(|header| header.value)
    }

    /// The only header field of this name.
    fn only(&self, name: &str) -> Option<&'a [u8]> {
        let mut all = self.all(name);
        all.next().filter(|_| all.next().is_none())
    }

    /// What is listed in all header fields of this name, between commas.
    fn tokens(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name).flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
    }

    fn lists(&self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Of the order of RFC 6455, section 4.2.1.
    fn check(&mut self) -> Result<(), Refusal> {
        let host = self.only("host").filter(|host| is_authority(host)).ok_or(Refusal::HOST)?;
        self.target = path_of(self.target, host).ok_or(Refusal::TARGET)?;
        if self.header("content-length").is_some() || self.header("transfer-encoding").is_some() {
            return Err(Refusal::BODY);
        }
        self.upgrades = self.lists("upgrade", "websocket");
        if !self.upgrades {
            return Ok(());
        }
        if !self.lists("connection", "upgrade") {
            return Err(Refusal::CONNECTION);
        }
        if self.only("sec-websocket-version") != Some(b"13") {
            return Err(Refusal::VERSION);
        }
        self.key = self.only("sec-websocket-key").filter(|key| is_key(key)).ok_or(Refusal::KEY)?;
        if !self.tokens("sec-websocket-protocol").all(is_token) {
            return Err(Refusal::PROTOCOL);
        }
        self.deflate = Deflate::choose(self.all("sec-websocket-extensions")).map_err(|_| Refusal::EXTENSIONS)?;
        Ok(())
    }

    /// The answer that opens the WebSocket. A subprotocol that was not offered is not spoken of: the client would have to
    /// end the connection.
    pub(super) fn accept(&self, subprotocol: Option<&str>, deflate: Option<Deflate>) -> Vec<u8> {
        let digest = Sha1::new().chain_update(self.key).chain_update(GUID).finalize();
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
            STANDARD.encode(digest)
        );
        if let Some(chosen) = subprotocol.filter(|chosen| self.subprotocols().any(|offered| offered == *chosen)) {
            answer += &format!("Sec-WebSocket-Protocol: {chosen}\r\n");
        }
        if let Some(deflate) = deflate {
            deflate.answer(&mut answer);
        }
        (answer + "\r\n").into_bytes()
    }
}

/// How long the head is that `input` begins with; `None` if its end is not there. The first `searched` bytes are known to
/// hold no end.
pub(super) fn find_end(input: &[u8], searched: usize, size_max: usize) -> Result<Option<usize>, Refusal> {
    if let Some(refusal) = find_other_protocol(input) {
        return Err(refusal);
    }
    let lines = (searched..input.len()).filter(|&at| input[at] == b'\n');
    for at in lines {
        if at >= size_max {
            return Err(Refusal::TOO_LONG);
        }
        let line = &input[..at];
        if !line.ends_with(b"\r") {
            return Err(Refusal::LINE);
        }
        if line.ends_with(b"\r\n\r") {
            return Ok(Some(at + 1));
        }
    }
    if input.len() >= size_max { Err(Refusal::TOO_LONG) } else { Ok(None) }
}

/// Nobody has to wait until somebody who speaks something else has said all of it.
fn find_other_protocol(input: &[u8]) -> Option<Refusal> {
    const GET: &[u8] = b"GET ";
    let start = &input[..input.len().min(GET.len())];
    let is_method = start.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b' ');
    (!GET.starts_with(start)).then_some(if is_method { Refusal::METHOD } else { Refusal::HEAD })
}

/// Reads a whole head, and lets `act` see it.
pub(super) fn with_request<R>(head: &[u8], act: impl FnOnce(Request<'_>) -> R) -> Result<R, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(size)) if size == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TOO_MANY),
        _ => return Err(Refusal::HEAD),
    }
    if parsed.version != Some(1) {
        return Err(Refusal::HTTP);
    }
    let mut request = Request {
        target: parsed.path.unwrap_or_default(),
        headers: parsed.headers,
        key: &[],
        deflate: None,
        upgrades: false,
    };
    request.check()?;
    Ok(act(request))
}

/// RFC 9110, section 15, and what servers of WebSockets have use for besides.
pub(super) fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Refused",
    }
}

/// The path of a request's target, which may be a whole URL of this host, see RFC 9112, section 3.2.
fn path_of<'a>(target: &'a str, host: &[u8]) -> Option<&'a str> {
    if target.contains('#') {
        return None;
    }
    if target.starts_with('/') {
        return Some(target);
    }
    let (scheme, rest) = target.split_once("://")?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let (authority, path) = rest.split_at(rest.find('/')?);
    (is_http && authority.as_bytes().eq_ignore_ascii_case(host)).then_some(path)
}

/// A name or an address, and perhaps a port: no user, no path, no second name.
fn is_authority(host: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=:[]%".contains(byte);
    !host.is_empty() && host.iter().all(fits)
}

/// RFC 9110, section 5.6.2.
fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().copied().all(is_tchar)
}

pub(super) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_key(key: &[u8]) -> bool {
    key.len() == KEY_LEN && LENIENT.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

    fn refused(request: &str) -> Option<u16> {
        match find_end(request.as_bytes(), 0, 8 << 10) {
            Err(refusal) => Some(refusal.status),
            Ok(end) => match with_request(&request.as_bytes()[..end.unwrap()], |request| request.upgrades) {
                Ok(true) => None,
                // What a handler without pages answers to who asks for one.
                Ok(false) => Some(Refusal::VERSION.status),
                Err(refusal) => Some(refusal.status),
            },
        }
    }

    #[test]
    fn the_example_of_the_rfc_is_answered_as_there() {
        let answer = with_request(GOOD.as_bytes(), |request| {
            assert_eq!((request.path(), request.query()), ("/chat", Some("room=1")));
            assert_eq!((request.host(), request.origin()), ("server.example.com", Some("http://example.com")));
            assert_eq!(request.subprotocols().collect::<Vec<_>>(), ["chat", "superchat"]);
            assert_eq!(request.headers().count(), 7);
            assert!(!String::from_utf8(request.accept(Some("other"), None)).unwrap().contains("Protocol:"));
            String::from_utf8(request.accept(Some("chat"), None)).unwrap()
        });
        let answer = answer.unwrap();
        assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(answer.ends_with("\r\nSec-WebSocket-Protocol: chat\r\n\r\n"), "{answer}");
    }

    #[test]
    fn a_request_may_differ_where_the_rfc_lets_it() {
        let same = |from: &str, to: &str| {
            assert!(GOOD.contains(from), "{from}");
            assert_eq!(refused(&GOOD.replace(from, to)), None, "{to}");
        };
        same("Upgrade: websocket", "uPGRADE: WebSocket");
        same("Connection: keep-alive, Upgrade", "Connection: upgrade");
        same("Connection: keep-alive, Upgrade", "Connection: keep-alive\r\nConnection: ,Upgrade");
        same("/chat?room=1", "http://SERVER.example.com/chat");
        same("/chat?room=1", "/");
        same("Host: server.example.com", "Host: [::1]:80");
        same("dGhlIHNhbXBsZSBub25jZQ==", "AQIDBAUGBwgJCgsMDQ4PEC==");
        same("Sec-WebSocket-Protocol: chat, superchat\r\n", "");
        same("Origin: http://example.com\r\n", "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let refuses = |from: &str, to: &str, status: u16| {
            assert!(GOOD.contains(from), "{from}");
            assert_eq!(refused(&GOOD.replacen(from, to, 1)), Some(status), "{to}");
        };
        refuses("GET", "POST", 405);
        refuses("GET", "GETS", 405);
        refuses("GET", "get", 400);
        refuses("GET", "\r\nGET", 400);
        refuses("HTTP/1.1", "HTTP/1.0", 400);
        refuses("HTTP/1.1", "HTTP/2.0", 400);
        refuses("/chat?room=1", "chat", 400);
        refuses("/chat?room=1", "*", 400);
        refuses("/chat?room=1", "/a#b", 400);
        refuses("/chat?room=1", "/a b", 400);
        refuses("/chat?room=1", "http://other.example.com/chat", 400);
        refuses("/chat?room=1", "ftp://server.example.com/chat", 400);
        refuses("Host: server.example.com\r\n", "", 400);
        refuses("Host: server.example.com", "Host:", 400);
        refuses("Host: server.example.com", "Host: a, b", 400);
        refuses("Host: server.example.com", "Host: a/b", 400);
        refuses("Host: server.example.com", "Host: a\r\nHost: a", 400);
        refuses("Host: server.example.com", "Host : server.example.com", 400);
        refuses("Host: server.example.com", "Host: a\r\n b", 400);
        refuses("Host: server.example.com\r\n", "Host: server.example.com\n", 400);
        refuses("Host: server.example.com", "Host: a\rb", 400);
        refuses("Host: server.example.com", "Host: a\0b", 400);
        refuses("Origin", "Content-Length: 0\r\nOrigin", 400);
        refuses("Origin", "Transfer-Encoding: chunked\r\nOrigin", 400);
        refuses("Upgrade: websocket", "Upgrade: h2c", 426);
        refuses("Upgrade: websocket\r\n", "", 426);
        refuses("Connection: keep-alive, Upgrade", "Connection: keep-alive", 400);
        refuses("Version: 13", "Version: 8", 426);
        refuses("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13", 426);
        refuses("Sec-WebSocket-Version: 13\r\n", "", 426);
        refuses("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400);
        refuses(
            "dGhlIHNhbXBsZSBub25jZQ==",
            "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            400,
        );
        refuses("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", 400);
        refuses("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWU=", 400);
        refuses("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j*Q==", 400);
        refuses("chat, superchat", "chat,,superchat", 400);
        refuses("chat, superchat", "chat superchat", 400);
        refuses("Origin", "Sec-WebSocket-Extensions: permessage-deflate;\r\nOrigin", 400);
        refuses("Origin", &("X: y\r\n".repeat(HEADERS_MAX - 6) + "Origin"), 431);
        refuses("Origin: http://example.com", &format!("Origin: {}", "x".repeat(8 << 10)), 431);
    }

    #[test]
    fn a_refusal_says_what_would_have_been_right() {
        let answer = |refusal: Refusal| String::from_utf8(refusal.into_bytes()).unwrap();
        let version = answer(Refusal::VERSION);
        assert!(version.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{version}");
        assert!(version.contains("\r\nSec-WebSocket-Version: 13\r\nConnection: close"), "{version}");
        assert!(answer(Refusal::METHOD).contains("\r\nAllow: GET\r\n"));
    }

    #[test]
    fn the_end_is_found_wherever_the_head_is_cut_and_others_are_known_at_once() {
        let bytes = GOOD.as_bytes();
        for cut in 0..bytes.len() {
            assert_eq!(find_end(&bytes[..cut], cut.saturating_sub(1), 8 << 10), Ok(None), "{cut}");
        }
        let with_frames = [bytes, b"\x81\x80\r\n\r\n"].concat();
        assert_eq!(find_end(&with_frames, 100, 8 << 10), Ok(Some(bytes.len())));
        assert_eq!(find_end(b"\x16\x03\x01", 0, 8 << 10), Err(Refusal::HEAD), "a ClientHello");
        assert_eq!(find_end(b"PO", 0, 8 << 10), Err(Refusal::METHOD));
        assert_eq!(find_end(b"GET /\n", 0, 8 << 10), Err(Refusal::LINE));
        assert_eq!(find_end(&bytes[..100], 0, 100), Err(Refusal::TOO_LONG));
    }
}
