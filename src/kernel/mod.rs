//! The seam to the operating system: the few calls that a loop makes, as a trait, so that the loop can run on another.

mod linux;
mod memory;

pub(crate) use linux::Linux;
pub(crate) use memory::{Memory, MemoryStream};

use std::io;
use std::time::Duration;

#[cfg(feature = "tls")]
use crate::agreed::Agreed;
use crate::peer::Peer;
use crate::slab::Key;
use crate::socket::Line;
use crate::target::Target;

/// What a loop asks of its system. Everything is non-blocking but [`wait`](Kernel::wait), and edge-triggered: an event
/// says that something has changed, and is not repeated until it changes again or the stream is re-armed.
///
/// Its users must bear spurious events, events for keys that are gone, and any error from any call. Errors carry an errno:
/// EAGAIN says that the call would have to wait.
pub(crate) trait Kernel {
    /// A connected stream. Dropping it closes it.
    type Stream;

    /// Blocks for `timeout` at the most, or until something happens; tells every event to `note`, and says how many there
    /// were; sooner, with none, when another thread or a signal wakes it. An error says that waiting itself is impossible.
    fn wait(&mut self, timeout: Option<Duration>, note: impl FnMut(Event)) -> io::Result<usize>;

    /// All that the last wait led to is done: only those who time turns care.
    #[inline]
    fn turned(&mut self) {}

    /// How many events one wait can bring; when it brings as many, more may be there.
    fn batch(&self) -> usize;

    /// Asks for events on a new stream: for reading, and for writing only if `writing`.
    fn register(&mut self, stream: &Self::Stream, key: Key, writing: bool) -> io::Result<()>;

    /// Asks for events on a registered stream again, for both directions; what holds now is told once more.
    fn rearm(&mut self, stream: &Self::Stream, key: Key) -> io::Result<()>;

    fn accept(&mut self) -> io::Result<(Self::Stream, Peer)>;

    /// Closes the listener; what still waits in its queue is refused by the system.
    fn stop_listening(&mut self);

    /// A stream that is to be connected.
    fn open(&mut self, target: &Target, line: &Line) -> io::Result<Self::Stream>;

    /// Begins to connect it; an error says that this has failed already.
    fn connect(&mut self, stream: &Self::Stream, target: &Target) -> io::Result<()>;

    /// Whether it is connected by now; an error says how that has failed. ECONNRESET or EPIPE: it was, but is no longer.
    fn connected(&mut self, stream: &Self::Stream) -> io::Result<bool>;

    fn receive(&mut self, stream: &Self::Stream, buffer: &mut [u8]) -> io::Result<usize>;

    fn send(&mut self, stream: &Self::Stream, bytes: &[u8]) -> io::Result<usize>;

    /// Whether a part of what the last [`send`](Kernel::send) was given is on its way although it said that nothing of it is: the
    /// next one has to begin with the same.
    #[inline]
    fn holds(&self, _stream: &Self::Stream) -> bool {
        false
    }

    /// What was agreed on with the peer, where there is anything to agree on.
    #[cfg(feature = "tls")]
    fn agreed(&self, _stream: &Self::Stream) -> Option<Agreed> {
        None
    }

    /// How many bytes that were sent the peer has not acknowledged.
    fn unacknowledged(&self, stream: &Self::Stream) -> usize;

    /// Tells the peer that nothing more will come, and goes on receiving.
    fn finish_sending(&mut self, stream: &Self::Stream) -> io::Result<()>;

    /// Closes the stream, with a reset instead of an orderly end if `reset`.
    fn close(&mut self, stream: Self::Stream, reset: bool);

    /// Time since some moment in the past; it never goes back.
    fn now(&self) -> Duration;
}

/// What a call says that would have to wait.
pub(crate) fn again() -> io::Error {
    io::Error::from_raw_os_error(libc::EAGAIN)
}

/// Whether a call found nothing that it could have done without waiting. Asked of the errno, because std's kind of an error,
/// which this is asked about once a connection, is found by a call and a table.
#[inline]
pub(crate) fn would_block(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAGAIN)
}

/// Whether a signal came before a call could do anything.
#[inline]
pub(crate) fn was_interrupted(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINTR)
}

/// What a wait brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Connections wait to be accepted.
    Incoming,
    /// Something has changed for the connection of this key, or for one that had its slot before.
    Stream(Key, Edge),
}

/// What has changed for a connection: any of three things, as bits, because it is written down and looked at once a
/// message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edge(pub(crate) u32);

impl Edge {
    pub(crate) const READABLE: u32 = 1 << 0;
    /// The peer finished, or the connection broke: what is there must be read up to its end or its error.
    pub(crate) const ENDED: u32 = 1 << 1;
    pub(crate) const WRITABLE: u32 = 1 << 2;

    #[inline]
    pub(crate) fn new(readable: bool, writable: bool, ended: bool) -> Edge {
        // Who has ended can be read, to see how, and written to: it fails, but does not wait.
        let all = if ended { Edge::READABLE | Edge::ENDED | Edge::WRITABLE } else { 0 };
        Edge(u32::from(readable) | u32::from(writable) << 2 | all)
    }
}
