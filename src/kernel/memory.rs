//! A kernel with one stream that exists in memory only: what a handler's unit test runs on.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use super::{Event, Kernel, again};
use crate::peer::Peer;
use crate::slab::Key;
use crate::socket::Line;
use crate::target::Target;

/// Both directions of the one stream, as its peer sees them. Nothing is ever lost or late.
#[derive(Debug)]
pub(crate) struct Memory {
    /// What the peer has sent and nobody has received.
    pub(crate) incoming: VecDeque<u8>,
    /// What has been sent to the peer.
    pub(crate) sent: Vec<u8>,
    /// How many bytes more the peer's side takes before it blocks.
    pub(crate) room: usize,
    /// Whether the peer has finished sending.
    pub(crate) finished: bool,
    /// Whether this side has finished sending; then the peer does, too, once it is asked.
    pub(crate) shut: bool,
    pub(crate) now: Duration,
}

/// The stream itself.
#[derive(Debug)]
pub(crate) struct MemoryStream;

impl Memory {
    pub(crate) fn new() -> Memory {
        let (incoming, sent) = (VecDeque::new(), Vec::new());
        Memory { incoming, sent, room: usize::MAX, finished: false, shut: false, now: Duration::ZERO }
    }
}

impl Kernel for Memory {
    type Stream = MemoryStream;

    fn wait(&mut self, _timeout: Option<Duration>, _note: impl FnMut(Event)) -> io::Result<usize> {
        Ok(0)
    }

    fn batch(&self) -> usize {
        1
    }

    fn register(&mut self, _stream: &MemoryStream, _key: Key, _writing: bool) -> io::Result<()> {
        Ok(())
    }

    fn rearm(&mut self, _stream: &MemoryStream, _key: Key) -> io::Result<()> {
        Ok(())
    }

    fn accept(&mut self) -> io::Result<(MemoryStream, Peer)> {
        Err(again())
    }

    fn stop_listening(&mut self) {}

    fn open(&mut self, _target: &Target, _line: &Line) -> io::Result<MemoryStream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect(&mut self, _stream: &MemoryStream, _target: &Target) -> io::Result<()> {
        Ok(())
    }

    fn connected(&mut self, _stream: &MemoryStream) -> io::Result<bool> {
        Ok(true)
    }

    fn receive(&mut self, _stream: &MemoryStream, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.incoming.len());
        if count == 0 && !self.finished {
            return Err(again());
        }
        buffer.iter_mut().zip(self.incoming.drain(..count)).for_each(|(to, from)| *to = from);
        Ok(count)
    }

    fn send(&mut self, _stream: &MemoryStream, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room);
        if count == 0 && !bytes.is_empty() {
            return Err(again());
        }
        self.room -= count;
        self.sent.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn unacknowledged(&self, _stream: &MemoryStream) -> usize {
        0
    }

    fn finish_sending(&mut self, _stream: &MemoryStream) -> io::Result<()> {
        self.shut = true;
        Ok(())
    }

    fn close(&mut self, _stream: MemoryStream, _reset: bool) {}

    fn now(&self) -> Duration {
        self.now
    }
}
