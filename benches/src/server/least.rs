//! The least possible epoll loop: accept, recv, send, epoll_wait of 128 events and nothing else; what all are held against.
#![allow(unsafe_code)]

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};

use super::{BROADCAST_BYTES, CUE};
use crate::connection::message;

const EVENTS: usize = 128;
const BUFFER: usize = 64 << 10;

/// Echoes on `listener` for ever, on the calling thread. It has no write buffer: a peer that does not read loses data.
pub(super) fn serve(listener: &TcpListener) -> io::Result<()> {
    run(listener, |fd, message| {
        // SAFETY: descriptors are integers, and the slice lives while the kernel reads it.
        unsafe { libc::send(fd, message.as_ptr().cast(), message.len(), libc::MSG_NOSIGNAL) };
    })
}

/// The same, but for the cue: then everybody who has ever said anything gets a message. Nobody may leave.
pub(super) fn broadcast(listener: &TcpListener) -> io::Result<()> {
    let (mut all, message) = (Vec::new(), message(BROADCAST_BYTES));
    run(listener, |fd, said| {
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
fn run(listener: &TcpListener, mut answer: impl FnMut(RawFd, &[u8])) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = listener.as_raw_fd();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    let mut buffer = vec![0u8; BUFFER];
    // SAFETY: descriptors are integers, and each pointer is to a live vector whose length goes with it.
    unsafe {
        let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        add(epoll, listener);
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
