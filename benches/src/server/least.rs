//! The least possible epoll loop: accept, recv, send, epoll_wait of 128 events and nothing else; what all are held against.
#![allow(unsafe_code)]

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use super::{BROADCAST_BYTES, CUE};
use crate::connection::message;

const EVENTS: usize = 128;
const BUFFER: usize = 64 << 10;

/// Echoes on `listener` for ever, on the calling thread. It has no write buffer: a peer that does not read loses data.
pub(super) fn serve(listener: &TcpListener) -> io::Result<()> {
    run(listener, None, |fd, message| {
        // SAFETY: descriptors are integers, and the slice lives while the kernel reads it.
        unsafe { libc::send(fd, message.as_ptr().cast(), message.len(), libc::MSG_NOSIGNAL) };
    })
}

/// The bells of all threads that broadcast together: a cue that is said into the first of a pair comes out of the second.
pub(super) type Bells = Arc<[(UnixDatagram, UnixDatagram)]>;

/// The same, but for the cue: then everybody who has ever said anything gets a message, and whoever hears it from a client
/// passes it on to the other threads. Nobody may leave. Where there are several, each has a descriptor table of its own.
pub(super) fn broadcast(listener: &TcpListener, bells: &Bells, index: usize) -> io::Result<()> {
    if bells.len() > 1 {
        let others = bells.iter().map(|bell| bell.0.as_fd());
        let keep: Vec<BorrowedFd<'_>> = others.chain([listener.as_fd(), bells[index].1.as_fd()]).collect();
        // SAFETY: the thread has opened nothing, uses nothing else from here on, and never ends.
        unsafe { esockets::sys::own_descriptor_table(&keep)? };
    }
    let own = bells[index].1.as_raw_fd();
    let (mut all, message) = (Vec::new(), message(BROADCAST_BYTES));
    run(listener, Some(own), |fd, said| {
        if said == [CUE] && fd != own {
            let others = bells.iter().enumerate().filter(|&(other, _)| other != index);
            others.for_each(|(_, bell)| drop(bell.0.send(said)));
        }
        let (to, message) = if said == [CUE] { (all.as_slice(), message.as_slice()) } else { (&[fd][..], said) };
        for &fd in to {
            // SAFETY: as above.
            unsafe { libc::send(fd, message.as_ptr().cast(), message.len(), libc::MSG_NOSIGNAL) };
        }
        if said != [CUE] {
            all.push(fd);
        }
    })
}

#[inline(always)]
fn run(listener: &TcpListener, bell: Option<RawFd>, mut answer: impl FnMut(RawFd, &[u8])) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = listener.as_raw_fd();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    let mut buffer = vec![0u8; BUFFER];
    // SAFETY: descriptors are integers, and each pointer is to a live vector whose length goes with it.
    unsafe {
        let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        add(epoll, listener);
        bell.into_iter().for_each(|bell| add(epoll, bell));
        loop {
            let count = libc::epoll_wait(epoll, events.as_mut_ptr(), EVENTS as i32, -1);
            for event in &events[..count.max(0) as usize] {
                let fd = event.u64 as RawFd;
                if fd == listener {
                    accept(epoll, listener);
                    continue;
                }
                let count = libc::recv(fd, buffer.as_mut_ptr().cast(), BUFFER, 0);
                if count <= 0 {
                    libc::close(fd);
                } else {
                    answer(fd, &buffer[..count as usize]);
                }
            }
        }
    }
}

unsafe fn accept(epoll: RawFd, listener: RawFd) {
    // SAFETY: no address is asked for, so nothing is written.
    unsafe {
        loop {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let fd = libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), flags);
            if fd < 0 {
                return;
            }
            add(epoll, fd);
        }
    }
}

unsafe fn add(epoll: RawFd, fd: RawFd) {
    let events = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
    let mut event = libc::epoll_event { events, u64: fd as u64 };
    // SAFETY: the event lives on our stack while the kernel copies it.
    unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) };
}
