//! The real kernel, on mio and socket2.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::{SockRef, Socket};

use super::{Edge, Event, Kernel, again, was_interrupted};
use crate::claim::Claim;
use crate::peer::Peer;
use crate::slab::Key;
use crate::socket;
use crate::sys::{self, WakeFd};

/// One epoll instance, the listener and the eventfd that are registered in it.
pub(crate) struct Linux {
    poll: Poll,
    events: Events,
    listener: Option<Socket>,
    /// For as long as it listens.
    claim: Option<Claim>,
    waker: Arc<WakeFd>,
    started_at: Instant,
}

/// More at a time costs cache: batches of 1,024 were measured to take 5 to 10 % more processor time per echo at 1,000
/// connections. Fewer starve nobody, because epoll puts what it has told behind what it has not.
const BATCH: usize = 128;

/// Input, and the mark of urgent data in it.
const READING: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// Tokens of connections leave the upper half free, see [`Key`].
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

impl Linux {
    /// Takes over a listening socket and the claim to its address, and wakes up for `waker`.
    pub(crate) fn new(listener: Socket, claim: Option<Claim>, waker: Arc<WakeFd>) -> io::Result<Linux> {
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
        poll.registry().register(&mut SourceFd(&waker.as_raw_fd()), WAKER, Interest::READABLE)?;
        let events = Events::with_capacity(BATCH);
        Ok(Linux { poll, events, listener: Some(listener), claim, waker, started_at: Instant::now() })
    }
}

impl Kernel for Linux {
    type Stream = OwnedFd;

    #[inline]
    fn wait(&mut self, timeout: Option<Duration>, mut note: impl FnMut(Event)) -> io::Result<usize> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if was_interrupted(&error) => return Ok(0),
            Err(error) => return Err(error),
        }
        let mut count = 0;
        for event in &self.events {
            count += 1;
            match event.token() {
                LISTENER => note(Event::Incoming),
                WAKER => self.waker.drain(),
                Token(token) => {
                    // A read stops at an urgent byte as it does at the end (tcp(7)): there may be more behind it.
                    let ended = event.is_read_closed() || event.is_error() || event.is_priority();
                    let edge = Edge::new(event.is_readable(), event.is_writable(), ended);
                    note(Event::Stream(Key::from_token(token as u64), edge));
                }
            }
        }
        Ok(count)
    }

    fn batch(&self) -> usize {
        BATCH
    }

    fn register(&mut self, stream: &OwnedFd, key: Key, writing: bool) -> io::Result<()> {
        let interest = if writing { READING | Interest::WRITABLE } else { READING };
        self.poll.registry().register(&mut SourceFd(&stream.as_raw_fd()), Token(key.token() as usize), interest)
    }

    fn rearm(&mut self, stream: &OwnedFd, key: Key) -> io::Result<()> {
        let interest = READING | Interest::WRITABLE;
        self.poll.registry().reregister(&mut SourceFd(&stream.as_raw_fd()), Token(key.token() as usize), interest)
    }

    fn accept(&mut self) -> io::Result<(OwnedFd, Peer)> {
        let Some(listener) = &self.listener else { return Err(again()) };
        sys::accept(listener.as_fd())
    }

    fn stop_listening(&mut self) {
        self.listener = None;
        self.claim = None;
    }

    #[inline]
    fn receive(&mut self, stream: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
        sys::receive(stream.as_fd(), buffer)
    }

    #[inline]
    fn send(&mut self, stream: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
        sys::send(stream.as_fd(), bytes)
    }

    fn unacknowledged(&self, stream: &OwnedFd) -> usize {
        // An error would be that of a socket which is no socket; then there is nothing to wait for.
        sys::unacknowledged(stream.as_fd()).unwrap_or(0)
    }

    fn finish_sending(&mut self, stream: &OwnedFd) -> io::Result<()> {
        SockRef::from(stream).shutdown(Shutdown::Write)
    }

    fn close(&mut self, stream: OwnedFd, reset: bool) {
        if reset {
            // It can fail only for a socket that is beyond a reset already.
            let _ = socket::reset_on_close(&SockRef::from(&stream));
        }
        sys::close(stream);
    }

    fn now(&self) -> Duration {
        self.started_at.elapsed()
    }
}
