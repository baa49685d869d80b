//! The real kernel, on mio and socket2.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use super::{Edge, Event, Kernel, again, was_interrupted, would_block};
use crate::loan::{Door, Lender};
use crate::peer::Peer;
use crate::slab::Key;
use crate::socket::{self, Line};
use crate::sys::{self, WakeFd};
use crate::target::Target;

/// One epoll instance, the listeners and the eventfd that are registered in it.
pub(crate) struct Linux {
    poll: Poll,
    events: Events,
    /// For as long as it listens.
    door: Option<Door>,
    /// Which of the listeners, mostly one, is to be accepted from next.
    next: usize,
    /// It has accepted since it last went to the end of the line at the listeners that it shares.
    served: bool,
    /// Those who come are asked by the kernel whether they are there still.
    probes: bool,
    lender: Lender,
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
    /// Takes over listening sockets and the claim to their address, and wakes up for `waker`.
    pub(crate) fn new(door: Door, lender: Lender, waker: Arc<WakeFd>) -> io::Result<Linux> {
        let poll = watch(Some(&door), &waker)?;
        let (events, started_at) = (Events::with_capacity(BATCH), Instant::now());
        let probes = door.listeners.iter().any(|(_, listener)| socket::probes(listener));
        Ok(Linux { poll, events, door: Some(door), next: 0, served: false, probes, lender, waker, started_at })
    }

    /// Another epoll instance, when this one does not work any more. Its streams must be gone.
    pub(crate) fn renew(&mut self) -> io::Result<()> {
        self.poll = watch(self.door.as_ref(), &self.waker)?;
        Ok(())
    }

    /// The next of those who wait.
    fn take(&mut self) -> io::Result<(OwnedFd, Peer)> {
        let Some(Door { listeners, shared, .. }) = &self.door else { return Err(again()) };
        if !shared.is_empty() {
            return self.accept_in_turn();
        }
        // As good as always there is one, and what it says is passed on without being looked at.
        if let [(mark, only)] = listeners.as_slice() {
            return sys::accept(only.as_fd(), mark.tag);
        }
        self.accept_from_any()
    }

    /// Nobody waits only if nobody waits at any of them.
    fn accept_from_any(&mut self) -> io::Result<(OwnedFd, Peer)> {
        let Some(Door { listeners, .. }) = &self.door else { return Err(again()) };
        for _ in listeners {
            let Some((mark, listener)) = listeners.get(self.next) else { break };
            self.next = if self.next + 1 < listeners.len() { self.next + 1 } else { 0 };
            match sys::accept(listener.as_fd(), mark.tag) {
                Err(error) if would_block(&error) => {}
                accepted => return accepted,
            }
        }
        Err(again())
    }

    /// The same where listeners are shared: the kernel wakes the first of the shards that sleep there, and would always wake
    /// the same one, if whoever has been served did not go to the end of the line.
    fn accept_in_turn(&mut self) -> io::Result<(OwnedFd, Peer)> {
        let accepted = self.accept_from_any();
        match &accepted {
            Ok(_) => self.served = true,
            Err(error) if would_block(error) && self.served => {
                let Some(Door { listeners, shared, .. }) = &self.door else { return accepted };
                for (_, listener) in listeners.iter().filter(|(mark, _)| shared.contains(&mark.place)) {
                    // If there is no memory for it, it is tried again as an accept that failed is.
                    sys::queue_up(&self.poll, listener.as_fd(), LISTENER.0 as u64)?;
                }
                self.served = false;
            }
            Err(_) => {}
        }
        accepted
    }
}

/// An epoll instance that tells of those who come, and of who wakes it.
fn watch(door: Option<&Door>, waker: &WakeFd) -> io::Result<Poll> {
    let poll = Poll::new()?;
    for (mark, listener) in door.into_iter().flat_map(|door| &door.listeners) {
        if door.is_some_and(|door| door.shared.contains(&mark.place)) {
            sys::queue_up(&poll, listener.as_fd(), LISTENER.0 as u64)?;
        } else {
            poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
        }
    }
    poll.registry().register(&mut SourceFd(&waker.as_raw_fd()), WAKER, Interest::READABLE)?;
    Ok(poll)
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
                WAKER => {
                    self.waker.drain();
                    self.lender.answer(self.door.as_ref());
                }
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
        let accepted = self.take();
        if self.probes
            && let Ok((stream, peer)) = &accepted
            && peer.is_loopback()
        {
            // It can fail only for a socket that has ended already.
            let _ = socket::stop_probing(&SockRef::from(stream));
        }
        accepted
    }

    fn stop_listening(&mut self) {
        for (_, listener) in self.door.take().into_iter().flat_map(|door| door.listeners) {
            // If another process has the same socket, it stays open, and epoll would go on telling of it.
            let _ = self.poll.registry().deregister(&mut SourceFd(&listener.as_raw_fd()));
        }
    }

    fn open(&mut self, target: &Target, line: &Line) -> io::Result<OwnedFd> {
        socket::caller(target, line).map(OwnedFd::from)
    }

    fn connect(&mut self, stream: &OwnedFd, target: &Target) -> io::Result<()> {
        socket::call(&SockRef::from(stream), target)
    }

    fn connected(&mut self, stream: &OwnedFd) -> io::Result<bool> {
        socket::is_connected(&SockRef::from(stream))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loan::{Loans, Mark};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn who_comes_over_the_loopback_is_not_probed_wherever_it_comes_to() {
        let keepalive = Some(socket::Keepalive::default());
        let listen = |address: &str| {
            let options = socket::Listen {
                queue_size: 8,
                nodelay: true,
                keepalive,
                user_timeout: None,
                shared: false,
                only_v6: false,
                tuning: crate::tuning::Tuning::default(),
            };
            socket::listen(address.parse().unwrap(), &options).unwrap()
        };
        let [wildcard, loopback] = ["0.0.0.0:0", "127.0.0.1:0"].map(listen);
        assert!(socket::probes(&wildcard) && !socket::probes(&loopback), "others who come there are probed");
        let ports = [&wildcard, &loopback].map(|own| socket::local_addr(own).unwrap().port());
        let listeners = vec![(Mark { place: 0, tag: 0 }, wildcard), (Mark { place: 1, tag: 1 }, loopback)];
        let (door, waker) = (Door { listeners, ..Door::default() }, Arc::new(WakeFd::new().unwrap()));
        let mut kernel = Linux::new(door, Loans::new().unwrap().lender(), waker).unwrap();
        let _clients = ports.map(|port| TcpStream::connect(("127.0.0.1", port)).unwrap());
        for _ in ports {
            let (stream, _) = kernel.accept().unwrap();
            assert!(!SockRef::from(&stream).keepalive().unwrap());
        }
    }

    #[test]
    fn who_listens_no_longer_is_not_told_of_those_who_come_to_others_at_the_same_socket() {
        let (listener, second) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let mark = |place: u32| Mark { place, tag: place as u8 };
        let own = vec![(mark(0), listener.try_clone().unwrap().into()), (mark(1), second.into())];
        let door = Door { listeners: own, ..Door::default() };
        door.listeners.iter().for_each(|(_, own)| own.set_nonblocking(true).unwrap());
        let addresses = [0, 1].map(|index: usize| socket::local_addr(&door.listeners[index].1).unwrap());
        let waker = Arc::new(WakeFd::new().unwrap());
        let mut kernel = Linux::new(door, Loans::new().unwrap().lender(), waker).unwrap();
        let come = |index: usize| TcpStream::connect(addresses[index]).unwrap();
        let _clients = [come(0), come(1), come(1)];
        assert!(kernel.wait(Some(Duration::ZERO), |_| {}).unwrap() > 0);
        let mut tags = [(); 3].map(|()| kernel.accept().unwrap().1.tag());
        tags.sort_unstable();
        assert_eq!(tags, [0, 1, 1]);
        assert!(would_block(&kernel.accept().unwrap_err()), "nobody waits at either");
        kernel.stop_listening();
        let _client = come(0);
        assert_eq!(kernel.wait(Some(Duration::ZERO), |_| {}).unwrap(), 0);
        assert!(would_block(&kernel.accept().unwrap_err()));
        TcpStream::connect(addresses[1]).expect_err("nobody else had this one");
    }
}
