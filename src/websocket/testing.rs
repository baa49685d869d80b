//! A WebSocket without a socket, for the unit test of a handler.

use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};

use super::deflate::Inflater;
use super::frame::Opcode;
use crate::testing::TestClient as Plain;
use crate::websocket::{Handler, Session, WebSockets};
use crate::{Builder, CloseReason, Server};

/// Plays a browser for a handler: messages in, messages out, through the code that serves real ones.
///
/// See [`websocket`](crate::websocket) for an example.
pub struct TestClient<H: Handler> {
    plain: Plain<WebSockets<H>>,
    status: u16,
    deflates: bool,
    /// What has come and is not a whole frame.
    rest: Vec<u8>,
}

/// What a server has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close frame, with its code and reason; 1005 if there is none in it.
    Close(u16, String),
}

/// The bit of a frame's first byte that tells that the message is compressed.
const PACKED: u8 = 0x40;
/// The mask of all its frames.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

impl<H: Handler> TestClient<H> {
    /// Asks for `path`, with these header fields beside those that it takes. With an offer of permessage-deflate that
    /// is accepted, `("Sec-WebSocket-Extensions", "permessage-deflate")`, its texts and bytes are compressed, all of
    /// them.
    pub fn open(sockets: WebSockets<H>, path: &str, headers: &[(&str, &str)]) -> TestClient<H> {
        TestClient::open_on(&Server::builder(), sockets, path, headers)
    }

    /// The same with the limits of this server.
    pub fn open_on(server: &Builder, sockets: WebSockets<H>, path: &str, headers: &[(&str, &str)]) -> TestClient<H> {
        let plain = Plain::connect_to(server, sockets);
        let mut client = TestClient { plain, status: 0, deflates: false, rest: Vec::new() };
        client.plain.send(&request(path, headers));
        client.rest = client.plain.received();
        client.status = status(&client.rest);
        if let Some(end) = client.rest.windows(4).position(|window| window == b"\r\n\r\n") {
            let agreed = b"\r\nSec-WebSocket-Extensions: permessage-deflate;";
            client.deflates = client.rest[..end].windows(agreed.len()).any(|window| window == agreed);
            client.rest.drain(..end + 4);
        }
        client
    }

    /// The status of HTTP with which the request was answered: 101 if the WebSocket was opened.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether permessage-deflate was agreed on.
    #[must_use]
    pub fn deflates(&self) -> bool {
        self.deflates
    }

    /// Sends a text.
    pub fn send_text(&mut self, text: &str) {
        self.send_message(0x81, text.as_bytes());
    }

    /// Sends bytes.
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send_message(0x82, bytes);
    }

    fn send_message(&mut self, first: u8, payload: &[u8]) {
        if self.deflates {
            self.send_raw(&frame(first | PACKED, &deflate(payload)));
        } else {
            self.send_raw(&frame(first, payload));
        }
    }

    /// Sends a ping.
    pub fn send_ping(&mut self, payload: &[u8]) {
        self.send_raw(&frame(0x89, payload));
    }

    /// Sends a close frame.
    pub fn send_close(&mut self, code: u16, reason: &str) {
        self.send_raw(&frame(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat()));
    }

    /// Sends bytes as they are, such as those of [`frame`].
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.plain.send(bytes);
    }

    /// What the handler has sent since it was last asked, inflated where it is compressed.
    ///
    /// # Panics
    /// If it is not what a server may send.
    pub fn received(&mut self) -> Vec<Received> {
        self.rest.extend(self.plain.received());
        let mut found = Vec::new();
        while let Some((received, size)) = read(&self.rest, self.deflates) {
            found.push(received);
            self.rest.drain(..size);
        }
        found
    }

    /// Whether the connection still stands.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.plain.is_open()
    }

    /// How it ended.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.plain.closed()
    }

    /// Lets a [`ping_interval`](WebSockets::ping_interval) pass, or what is left of it, or whatever else is waited for.
    pub fn time_out(&mut self) {
        self.plain.time_out();
    }

    /// Lets so much time pass, with whatever runs out meanwhile.
    pub fn pass(&mut self, time: Duration) {
        self.plain.pass(time);
    }

    /// Sends the handler a message, as another thread does: this client is the only one on the shard.
    pub fn message(&mut self, message: H::Message) {
        self.plain.message(message);
    }

    /// The handler.
    pub fn handler(&mut self) -> &mut H {
        self.plain.handler().handler()
    }

    /// The connection below, which can finish, and take less.
    pub fn connection(&mut self) -> &mut Plain<WebSockets<H>> {
        &mut self.plain
    }

    /// What is kept for this client by its handler; `None` when it is over, or was refused.
    pub fn session(&mut self) -> Option<&mut H::Session> {
        self.plain.session().and_then(Session::of_handler)
    }
}

/// The request of a browser that opens a WebSocket.
#[must_use]
pub fn request(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
    .into_bytes()
}

/// A client's frame with this first byte, which says what it is: 0x81 for a text, 0x01 for one that goes on in frames of
/// 0x00, the last of which has 0x80 (RFC 6455, section 5.2). With 0x40 more the message is [compressed](deflate).
#[must_use]
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A message's payload as permessage-deflate sends it, whether it gets shorter or not.
#[must_use]
pub fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(payload.len() + payload.len() / 8 + 64);
    let done = Compress::new(Compression::default(), false).compress_vec(payload, &mut packed, FlushCompress::Sync);
    assert!(done.is_ok() && packed.ends_with(&[0, 0, 0xFF, 0xFF]), "it has room enough");
    packed.truncate(packed.len() - 4);
    packed
}

fn status(answer: &[u8]) -> u16 {
    let status = answer.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    status.and_then(|status| str::from_utf8(status).ok()).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// The server's frame at the front, and how long it is; `None` if it is not whole.
fn read(bytes: &[u8], deflates: bool) -> Option<(Received, usize)> {
    let [first, short, rest @ ..] = bytes else { return None };
    let (length, behind) = match short {
        126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), &rest[2..]),
        127 => (u64::from_be_bytes(*rest.first_chunk()?) as usize, &rest[8..]),
        short => (usize::from(*short), rest),
    };
    let payload = behind.get(..length)?;
    let inflate = |bytes: &[u8]| {
        let clear = Inflater::new().inflate(bytes, usize::MAX, Opcode::Binary).map(<[u8]>::to_vec);
        clear.unwrap_or_else(|violation| panic!("a server sends nothing like this: {}", violation.why))
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let received = match first {
        0xC1 if deflates => Received::Text(text(&inflate(payload))),
        0xC2 if deflates => Received::Binary(inflate(payload)),
        0x81 => Received::Text(text(payload)),
        0x82 => Received::Binary(payload.to_vec()),
        0x89 => Received::Ping(payload.to_vec()),
        0x8A => Received::Pong(payload.to_vec()),
        0x88 => match payload {
            [high, low, reason @ ..] => Received::Close(u16::from_be_bytes([*high, *low]), text(reason)),
            _ => Received::Close(1005, String::new()),
        },
        first => panic!("a server sends no frame that begins with {first:#04x}"),
    };
    Some((received, bytes.len() - behind.len() + length))
}
