//! What is kept for a connection: a few bytes, and a message only for as long as it is unfinished.

use std::time::Duration;

use super::close::Violation;
use super::deflate::Window;
use super::frame::{Head, Opcode};
use super::text::Text;

/// What [`WebSockets`](super::WebSockets) keeps for each connection, with the handler's own session in it: 16 bytes, if
/// that is empty.
#[derive(Debug)]
pub struct Session<S>(pub(super) Stage<S>);

#[derive(Debug)]
pub(super) enum Stage<S> {
    /// The request is not there yet; so many bytes of it have been searched for its end.
    Handshake {
        searched: u32,
    },
    Open(Talk<S>),
}

impl<S> Session<S> {
    pub(super) fn of_handler(&mut self) -> Option<&mut S> {
        match &mut self.0 {
            Stage::Open(talk) => Some(&mut talk.session),
            Stage::Handshake { .. } => None,
        }
    }
}

/// An open WebSocket.
#[derive(Debug)]
pub(super) struct Talk<S> {
    pub(super) session: S,
    /// A message that is not whole yet.
    pub(super) partial: Option<Box<Partial>>,
    pub(super) link: Link,
    /// Since when it is silent: since it was last heard, or was last asked whether it is there.
    since: Moment,
    /// Whether it has been asked, and has not been heard since.
    pub(super) is_asked: bool,
}

/// A moment on the shard's clock, in milliseconds: they come again after 49 days, but nobody is silent for so long.
#[derive(Debug, Clone, Copy)]
struct Moment(u32);

impl Moment {
    fn of(now: Duration) -> Moment {
        Moment((now.as_secs() as u32).wrapping_mul(1_000).wrapping_add(now.subsec_millis()))
    }
}

/// How it stands with the peer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) state: State,
    /// What the peer inflates with, if permessage-deflate was agreed on.
    pub(super) window: Option<Window>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// The handler does not want to be shown anything.
    Paused,
    /// A close frame is sent, and the peer's is waited for.
    Closing,
}

impl<S> Talk<S> {
    pub(super) fn new(session: S, window: Option<Window>, now: Duration) -> Talk<S> {
        let link = Link { state: State::Open, window };
        Talk { session, partial: None, link, since: Moment::of(now), is_asked: false }
    }

    /// Something has come in.
    #[inline]
    pub(super) fn hear(&mut self, now: Duration) {
        (self.since, self.is_asked) = (Moment::of(now), false);
    }

    /// It is asked whether it is there.
    pub(super) fn ask(&mut self, now: Duration) {
        (self.since, self.is_asked) = (Moment::of(now), true);
    }

    /// For how long it has been silent, or has not answered.
    pub(super) fn silence(&self, now: Duration) -> Duration {
        Duration::from_millis(Moment::of(now).0.wrapping_sub(self.since.0).into())
    }
}

/// A message of which a part has come.
#[derive(Debug)]
pub(super) struct Partial {
    payload: Payload,
    fragments: u32,
    /// Of the frame that is coming in: how much of it is still to come, and whether it is the message's last.
    pub(super) left: u64,
    fin: bool,
    /// As it stands at the next byte.
    pub(super) mask: [u8; 4],
}

#[derive(Debug)]
enum Payload {
    Text(Text),
    Binary(Vec<u8>),
    /// As it comes: inflated when it is whole, so that no more is kept of it than the peer has sent.
    Packed(Opcode, Vec<u8>),
}

/// A message that came in several pieces.
pub(super) enum Whole {
    Text(String),
    Binary(Vec<u8>),
    Packed(Opcode, Vec<u8>),
}

impl Partial {
    pub(super) fn new(opcode: Opcode) -> Partial {
        Partial::of(if opcode == Opcode::Text { Payload::Text(Text::default()) } else { Payload::Binary(Vec::new()) })
    }

    pub(super) fn packed(opcode: Opcode) -> Partial {
        Partial::of(Payload::Packed(opcode, Vec::new()))
    }

    fn of(payload: Payload) -> Partial {
        Partial { payload, fragments: 0, left: 0, fin: false, mask: [0; 4] }
    }

    /// How much of the message has come.
    pub(super) fn len(&self) -> usize {
        match &self.payload {
            Payload::Text(text) => text.len(),
            Payload::Binary(bytes) | Payload::Packed(_, bytes) => bytes.len(),
        }
    }

    pub(super) fn is_packed(&self) -> bool {
        matches!(self.payload, Payload::Packed(..))
    }

    /// Another frame of it begins.
    pub(super) fn begin(&mut self, head: &Head, fragments_max: u32) -> Result<(), Violation> {
        if self.fragments >= fragments_max {
            return Err(Violation::TOO_MANY_FRAGMENTS);
        }
        self.fragments += 1;
        (self.left, self.fin, self.mask) = (head.length, head.fin, head.mask);
        Ok(())
    }

    /// So much of the frame has come, without its mask.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        self.left -= bytes.len() as u64;
        let phase = bytes.len() % size_of_val(&self.mask);
        self.mask.rotate_left(phase);
        match &mut self.payload {
            Payload::Text(text) => text.push(bytes),
            Payload::Binary(whole) | Payload::Packed(_, whole) => {
                whole.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// So much of the frame has come, and nobody wants it, nor what came before.
    pub(super) fn skip(&mut self, count: usize) {
        self.left -= count as u64;
        self.payload = Payload::Binary(Vec::new());
    }

    pub(super) fn is_whole(&self) -> bool {
        self.fin && self.left == 0
    }

    pub(super) fn finish(self) -> Result<Whole, Violation> {
        match self.payload {
            Payload::Text(text) => Ok(Whole::Text(text.finish()?)),
            Payload::Binary(whole) => Ok(Whole::Binary(whole)),
            Payload::Packed(opcode, whole) => Ok(Whole::Packed(opcode, whole)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_websocket_is_small() {
        assert_eq!(size_of::<Session<()>>(), 16);
        assert_eq!(size_of::<Session<u64>>(), 24);
        // As it stands in the shard's table.
        assert_eq!(size_of::<Option<Session<()>>>(), 16);
    }
}
