//! What a program supplies for its WebSockets: the functions that a shard calls.

use std::borrow::Cow;

use super::client::Client;
use super::handshake::Request;
use super::shard::Shard;
use crate::{ClientId, CloseReason, Peer};

/// The protocol between a server of WebSockets and its program: what [`esockets::Handler`](crate::Handler) is to bytes, this is
/// to messages. One value per shard, and everything that is said there holds here: it runs inline, needs no lock, and a panic
/// costs only the connection in hand.
///
/// Where a function gives a bool, true keeps the WebSocket, and false closes it with code 1000.
pub trait Handler {
    /// What is kept for each WebSocket, inline in the shard's table.
    type Session;

    /// What other threads may send to this shard with [`Remote`](crate::Remote); `()` if nothing.
    type Message: Send + 'static;

    /// A client asks for a WebSocket, with a request that is right. Whoever knows users by a cookie has to look at
    /// [`origin`](Request::origin) here.
    fn handle_open(&mut self, request: &Request<'_>, address: &Peer) -> Answer<Self::Session>;

    /// A client asks, with a request that is right, for something that is no WebSocket: a browser for the page that will open one,
    /// or somebody who wants to know whether the server lives. What this returns is the answer, behind which the connection
    /// ends; `None`, the default, is answered with 426. It has to fit into [`output_max`](crate::Builder::output_max), 256 KiB.
    fn handle_page(&mut self, request: &Request<'_>, address: &Peer) -> Option<Page> {
        let _ = (request, address);
        None
    }

    /// The WebSocket is open: the first moment at which something can be sent.
    fn handle_opened(&mut self, client: &mut Client<'_, '_>, session: &mut Self::Session) -> bool {
        let _ = (client, session);
        true
    }

    /// A text has come in, whole.
    fn handle_text(&mut self, client: &mut Client<'_, '_>, session: &mut Self::Session, text: &str) -> bool;

    /// Bytes have come in, a whole message of them. Who does not want any closes with 1003, which is the default.
    fn handle_binary(&mut self, client: &mut Client<'_, '_>, session: &mut Self::Session, bytes: &[u8]) -> bool {
        let _ = (session, bytes);
        client.close(1003, "only text is understood here");
        true
    }

    /// A ping has come in. It is answered without any help.
    fn handle_ping(&mut self, client: &mut Client<'_, '_>, session: &mut Self::Session, payload: &[u8]) -> bool {
        let _ = (client, session, payload);
        true
    }

    /// A pong has come in: the answer to a ping, or of itself.
    fn handle_pong(&mut self, client: &mut Client<'_, '_>, session: &mut Self::Session, payload: &[u8]) -> bool {
        let _ = (client, session, payload);
        true
    }

    /// The peer has sent a close frame: with this code and reason, or empty. It is answered without any help, and nothing can
    /// be sent any more; [`handle_closed`](Handler::handle_closed) follows.
    fn handle_close(&mut self, session: &mut Self::Session, code: Option<u16>, reason: &str) {
        let _ = (session, code, reason);
    }

    /// The output that waits for the peer has fallen to [`output_low`](crate::Builder::output_low) again, after it had been
    /// above.
    fn handle_writable(&mut self, client: &mut Client<'_, '_>, session: &mut Self::Session) -> bool {
        let _ = (client, session);
        true
    }

    /// Another thread has sent a message to this shard.
    fn handle_message(&mut self, shard: &mut Shard<'_, '_, Self::Session>, message: Self::Message) {
        let _ = (shard, message);
    }

    /// Another [`tick`](crate::Builder::tick) has passed.
    fn handle_tick(&mut self, shard: &mut Shard<'_, '_, Self::Session>) {
        let _ = shard;
    }

    /// The WebSocket is over: called exactly once for each session that was accepted, whatever happened. The reason is the
    /// connection's: [`Finished`](CloseReason::Finished) after a close handshake, and after whatever the peer did that the RFC
    /// forbids; [`Expired`](CloseReason::Expired) if it answered neither ping nor close frame.
    fn handle_closed(&mut self, session: Self::Session, id: ClientId, reason: CloseReason) {
        let _ = (session, id, reason);
    }
}

/// What is answered to somebody who asks for no WebSocket.
#[derive(Debug, Clone)]
pub struct Page {
    content_type: &'static str,
    body: Cow<'static, [u8]>,
}

impl Page {
    /// A page in HTML, for browsers.
    #[must_use]
    pub fn html(body: impl Into<Cow<'static, str>>) -> Page {
        Page::new("text/html; charset=utf-8", body)
    }

    /// Anything else that is text; `content_type` is its media type, such as `text/plain; charset=utf-8`.
    #[must_use]
    pub fn new(content_type: &'static str, body: impl Into<Cow<'static, str>>) -> Page {
        let body = match body.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Page { content_type, body }
    }

    /// As it is sent.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let Page { content_type, body } = self;
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), &body].concat()
    }
}

/// Whether a WebSocket is opened.
#[derive(Debug)]
#[must_use = "it is the handler's answer"]
pub struct Answer<S> {
    /// The status of a refusal instead of a session.
    pub(super) outcome: Result<S, u16>,
    pub(super) subprotocol: Option<String>,
}

impl<S> Answer<S> {
    /// Opens it, with this session.
    pub fn accept(session: S) -> Answer<S> {
        Answer { outcome: Ok(session), subprotocol: None }
    }

    /// Refuses it with a status of HTTP, between 400 and 599 (others become 403): 401, 403, 404, 429, 503. A browser's page
    /// does not learn which.
    pub fn refuse(status: u16) -> Answer<S> {
        let status = if matches!(status, 400..=599) { status } else { 403 };
        Answer { outcome: Err(status), subprotocol: None }
    }

    /// Chooses a subprotocol, which has to be one of those that the client [offered](Request::subprotocols): another is not
    /// spoken of.
    pub fn subprotocol(self, name: impl Into<String>) -> Answer<S> {
        Answer { subprotocol: Some(name.into()), ..self }
    }
}
