//! An open WebSocket as its handler sees it, and a frame that many get.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::close;
use super::deflate::{Deflater, KEPT_MAX, Window};
use super::frame::{CONTROL_MAX, Opcode, encode, encode_packed};
use super::session::{Link, State};
use crate::{ClientId, Peer};

/// A WebSocket in the hands of its handler.
///
/// Sending works as [`esockets::Client::send`](crate::Client::send) does: it never waits, a message goes out whole or not at
/// all, and whoever does not read is disconnected when more than [`output_max`](crate::Builder::output_max) would wait for it.
/// False: it will not arrive.
pub struct Client<'a, 'b> {
    inner: &'a mut crate::Client<'b>,
    link: &'a mut Link,
    desk: &'a mut Desk,
}

/// What a shard puts frames together with.
#[derive(Debug)]
pub(super) struct Desk {
    frame: Vec<u8>,
    /// Messages of so many bytes are compressed; those of no client if there is none.
    pub(super) deflate_min: Option<usize>,
    deflater: Option<Deflater>,
}

impl Desk {
    pub(super) fn new() -> Desk {
        Desk { frame: Vec::new(), deflate_min: None, deflater: None }
    }

    /// A message's frame, compressed for this window where it gets shorter so.
    #[cold]
    fn encode_for(&mut self, window: Window, opcode: Opcode, payload: &[u8]) {
        if opcode.is_control() || self.deflate_min.is_none_or(|min| payload.len() < min) {
            return encode(opcode, payload, &mut self.frame);
        }
        let deflater = self.deflater.get_or_insert_with(Deflater::new);
        match deflater.deflate(payload, window) {
            Some(packed) => encode_packed(opcode, packed, &mut self.frame),
            None => encode(opcode, payload, &mut self.frame),
        }
        deflater.give_back();
    }

    #[inline]
    fn give_back(&mut self) {
        if self.frame.capacity() > KEPT_MAX {
            self.frame = Vec::new();
        }
    }
}

/// How long a peer may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

impl<'a, 'b> Client<'a, 'b> {
    pub(super) fn new(inner: &'a mut crate::Client<'b>, link: &'a mut Link, desk: &'a mut Desk) -> Client<'a, 'b> {
        Client { inner, link, desk }
    }

    /// Sends a text, as one message.
    #[inline]
    pub fn send_text(&mut self, text: &str) -> bool {
        self.send(Opcode::Text, text.as_bytes())
    }

    /// Sends bytes, as one message.
    #[inline]
    pub fn send_binary(&mut self, bytes: &[u8]) -> bool {
        self.send(Opcode::Binary, bytes)
    }

    /// Sends a message that many get: it is encoded once, and where it waits, it waits by reference. For those whose
    /// messages are [compressed](super::WebSockets::deflate) it is encoded once more.
    pub fn send_frame(&mut self, frame: &Frame) -> bool {
        if self.link.state == State::Closing {
            return false;
        }
        let bytes = match self.link.window {
            Some(window) => frame.for_window(window, self.desk),
            None => &frame.shared.plain,
        };
        self.inner.send_shared(bytes)
    }

    /// Sends a ping with the first 125 bytes of `payload`; [`handle_pong`](super::Handler::handle_pong) is told the answer.
    /// That peers are alive is looked after without it, see [`ping_interval`](super::WebSockets::ping_interval).
    pub fn ping(&mut self, payload: &[u8]) -> bool {
        self.send(Opcode::Ping, &payload[..payload.len().min(CONTROL_MAX)])
    }

    /// Says that this is the end: nothing can be sent any more, what comes in is thrown away until the peer has said the
    /// same, and then the connection ends, or in any case after 10 s.
    ///
    /// `code` is one of RFC 6455, section 7.4, or from 3000 on your own; one that may not be sent becomes 1000. Of `reason`
    /// as much is sent as fits into 123 bytes.
    pub fn close(&mut self, code: u16, reason: &str) {
        if self.link.state == State::Closing {
            return;
        }
        let code = if close::may_be_sent(code) { code } else { close::NORMAL };
        self.send(Opcode::Close, &close::payload(code, reason));
        if self.link.state == State::Paused {
            self.inner.resume();
        }
        self.link.state = State::Closing;
        self.inner.set_timeout(Some(CLOSE_TIMEOUT));
    }

    /// Whether it can still be sent to: no close frame has been sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.link.state != State::Closing
    }

    #[inline]
    pub(super) fn send(&mut self, opcode: Opcode, payload: &[u8]) -> bool {
        if self.link.state == State::Closing {
            return false;
        }
        self.desk.frame.clear();
        match self.link.window {
            None => encode(opcode, payload, &mut self.desk.frame),
            Some(window) => self.desk.encode_for(window, opcode, payload),
        }
        let sent = self.inner.send(&self.desk.frame);
        self.desk.give_back();
        sent
    }

    /// How many bytes are sent but have not been taken by the kernel, with the frames' heads.
    #[must_use]
    pub fn output_waiting(&self) -> usize {
        self.inner.output_waiting()
    }

    /// How many bytes can be sent, even if the socket takes none of them now; a message takes up to 10 more than it has.
    #[must_use]
    pub fn output_room(&self) -> usize {
        self.inner.output_room()
    }

    /// Whether more than [`output_low`](crate::Builder::output_low) waits for the peer; then nothing is read from it, and
    /// [`handle_writable`](super::Handler::handle_writable) will be called.
    #[must_use]
    pub fn output_is_high(&self) -> bool {
        self.inner.output_is_high()
    }

    /// The connection's name.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.inner.id()
    }

    /// Who is at the other end.
    #[must_use]
    pub fn address(&self) -> &Peer {
        self.inner.address()
    }

    /// The index of the shard that this connection lives on.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.inner.shard()
    }

    /// Shows no more messages until [`resume`](Client::resume), and before long the peer's sending stalls. Its pings are not
    /// answered meanwhile, and its silence is forgiven.
    pub fn pause(&mut self) {
        if self.link.state == State::Open {
            self.link.state = State::Paused;
            self.inner.pause();
        }
    }

    /// Goes on after [`pause`](Client::pause).
    pub fn resume(&mut self) {
        if self.link.state == State::Paused {
            self.link.state = State::Open;
            self.inner.resume();
        }
    }

    /// Disconnects when the handler returns, without a close frame and without flushing: the peer sees a reset.
    pub fn abort(&mut self) {
        self.inner.abort();
    }
}

impl fmt::Debug for Client<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("link", self.link).field("inner", self.inner).finish_non_exhaustive()
    }
}

/// A message, encoded once for all who get it: to be cloned into the messages between shards, at the cost of a counter.
#[derive(Clone)]
pub struct Frame {
    shared: Arc<Encodings>,
}

struct Encodings {
    plain: Arc<[u8]>,
    opcode: Opcode,
    /// Where the payload begins in it.
    head: u8,
    /// Made when somebody takes compressed messages, for all shards; `None` if it is not shorter.
    packed: OnceLock<Option<Arc<[u8]>>>,
}

impl Frame {
    /// A text.
    #[must_use]
    pub fn text(text: &str) -> Frame {
        Frame::new(Opcode::Text, text.as_bytes())
    }

    /// Bytes.
    #[must_use]
    pub fn binary(bytes: &[u8]) -> Frame {
        Frame::new(Opcode::Binary, bytes)
    }

    fn new(opcode: Opcode, payload: &[u8]) -> Frame {
        let mut bytes = Vec::with_capacity(payload.len() + 10);
        encode(opcode, payload, &mut bytes);
        let head = (bytes.len() - payload.len()) as u8;
        Frame { shared: Arc::new(Encodings { plain: bytes.into(), opcode, head, packed: OnceLock::new() }) }
    }

    /// As it is sent to those who have this window. What a small one may not hold goes uncompressed, so that there is
    /// no third encoding.
    fn for_window(&self, window: Window, desk: &mut Desk) -> &Arc<[u8]> {
        let Encodings { plain, opcode, head, packed } = &*self.shared;
        let payload = &plain[usize::from(*head)..];
        if window < Window::LARGEST && payload.len() > window.size() {
            return plain;
        }
        let packed = packed.get_or_init(|| {
            desk.frame.clear();
            desk.encode_for(Window::LARGEST, *opcode, payload);
            let packed = (desk.frame.len() < plain.len()).then(|| Arc::from(desk.frame.as_slice()));
            desk.give_back();
            packed
        });
        packed.as_ref().unwrap_or(plain)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("len", &self.shared.plain.len()).finish()
    }
}
