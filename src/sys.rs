//! Every unsafe call of the crate, each behind a safe function; the only room where `unsafe` may stand.
//!
//! Public because a load generator (the one beside this library, or yours) needs the same few calls.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::time::Duration;

use crate::peer::Peer;

/// Wakes a thread that sleeps in `epoll_wait`, from any other thread: an eventfd, see eventfd(2).
///
/// mio's own waker binds itself to one poll when it is made; this one can be made before the poll exists, so that the
/// thread that starts a reactor holds the waker before the reactor has a poll.
#[derive(Debug)]
pub struct WakeFd {
    file: File,
}

impl WakeFd {
    /// A new eventfd, non-blocking and closed on exec.
    ///
    /// # Errors
    /// EMFILE or ENFILE when the process or the system is out of descriptors, see eventfd(2).
    pub fn new() -> io::Result<WakeFd> {
        // SAFETY: eventfd takes two integers and touches no memory of ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, so nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(WakeFd { file: File::from(fd) })
    }

    /// Makes the descriptor readable, once however often it is called before the next [`drain`](WakeFd::drain).
    /// Costs one system call.
    pub fn wake(&self) {
        // It can fail only with EAGAIN, when the count is at its maximum: then it is readable already.
        let _ = (&self.file).write(&1u64.to_ne_bytes());
    }

    /// Takes back all wake-ups so far. Costs one system call, and never blocks.
    pub fn drain(&self) {
        // EAGAIN says that there was none, which is what we wanted.
        let _ = (&self.file).read(&mut [0; 8]);
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for WakeFd {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Receives into `buffer` without waiting: recv(2), straight from the kernel.
///
/// The C library's wrapper first makes the thread cancellable and takes that back afterwards, in every program that has
/// more than one thread: some 60 instructions a call, for something that Rust threads do not have.
#[inline]
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (pointer, flags) = (buffer.as_mut_ptr() as usize, libc::MSG_DONTWAIT);
    // SAFETY: the kernel writes at most `buffer.len()` bytes, to where `buffer` points; it is ours alone meanwhile. No
    // address is asked for.
    outcome(unsafe { call(libc::SYS_recvfrom, socket.as_raw_fd(), [pointer, buffer.len(), flags as usize, 0, 0]) })
}

/// Sends what the socket takes of `bytes` without waiting, and without SIGPIPE: send(2), straight from the kernel.
#[inline]
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // Rust ignores SIGPIPE only in programs whose main is Rust's; a library may live elsewhere.
    let (pointer, flags) = (bytes.as_ptr() as usize, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    // SAFETY: the kernel reads `bytes.len()` bytes from where `bytes` points, and nothing else.
    outcome(unsafe { call(libc::SYS_sendto, socket.as_raw_fd(), [pointer, bytes.len(), flags as usize, 0, 0]) })
}

/// What the kernel answered: a count, or an errno below zero.
#[inline]
fn outcome(answer: isize) -> io::Result<usize> {
    // A branch, because an error that is made without one, in case, costs every success as much as its own test.
    if answer < 0 { Err(refused(answer)) } else { Ok(answer as usize) }
}

#[cold]
fn refused(answer: isize) -> io::Error {
    io::Error::from_raw_os_error(-answer as i32)
}

/// The system call of this number, whose first argument is a descriptor. In line it is one instruction; libc::syscall, which
/// is called, passes its arguments on one by one and keeps the errno: 20 more.
///
/// # Safety
/// What the call does with the arguments, memory that they point to included, is the caller's to answer for.
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
#[inline]
unsafe fn call(number: libc::c_long, fd: RawFd, arguments: [usize; 5]) -> isize {
    let answer: isize;
    // SAFETY: the call is the caller's to answer for; the instruction changes these three registers and no stack.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") fd as isize,
            in("rsi") arguments[0],
            in("rdx") arguments[1],
            in("r10") arguments[2],
            in("r8") arguments[3],
            in("r9") arguments[4],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// The same where nobody has measured what the C library's way costs.
///
/// # Safety
/// What the call does with the arguments, memory that they point to included, is the caller's to answer for.
#[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64")))]
#[inline]
unsafe fn call(number: libc::c_long, fd: RawFd, [one, two, three, four, five]: [usize; 5]) -> isize {
    // SAFETY: the call is the caller's to answer for.
    let answer = unsafe { libc::syscall(number, fd, one, two, three, four, five) };
    if answer < 0 {
        -(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) as isize)
    } else {
        answer as isize
    }
}

/// Closes a descriptor: close(2), straight from the kernel. There is nothing to be done about an error, which says at most
/// that something written to a file is lost; the descriptor is gone in any case.
pub(crate) fn close(fd: OwnedFd) {
    // SAFETY: it was owned, and nobody owns it now.
    let _ = unsafe { call(libc::SYS_close, fd.into_raw_fd(), [0; 5]) };
}

/// Has `epoll` told of those who come to a listener at which other threads wait, too: for each who comes, the kernel wakes the
/// first in the line of those that sleep, and no other. Whoever is in the line already goes to its end, and is told of who waits
/// meanwhile. EPOLLEXCLUSIVE, see epoll_ctl(2); it cannot be changed, so it is taken out and put in again.
pub(crate) fn queue_up(epoll: &impl AsRawFd, listener: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    let (epoll, listener) = (epoll.as_raw_fd(), listener.as_raw_fd());
    let mut event =
        libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET | libc::EPOLLEXCLUSIVE) as u32, u64: token };
    // SAFETY: the kernel reads one event, from our stack; descriptors are integers. Who is not in the line is told so in vain.
    let added = unsafe {
        libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, listener, &mut event);
        libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, listener, &mut event)
    };
    if added == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes the next connection that waits at `listener`, non-blocking and closed on exec, and says where it comes from:
/// accept4(2), with room for the address of an IP socket and no more: of a Unix socket's peer nothing is asked. An address of
/// another family is EAFNOSUPPORT. The peer bears the listener's `tag`.
pub(crate) fn accept(listener: BorrowedFd<'_>, tag: u8) -> io::Result<(OwnedFd, Peer)> {
    let mut address = MaybeUninit::<libc::sockaddr_in6>::zeroed();
    let mut length = size_of_val(&address) as libc::socklen_t;
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let arguments = [address.as_mut_ptr() as usize, &raw mut length as usize, flags as usize, 0, 0];
    // SAFETY: the kernel writes at most `length` bytes of an address, to one that lives on our stack, and its length.
    let fd = outcome(unsafe { call(libc::SYS_accept4, listener.as_raw_fd(), arguments) })?;
    // SAFETY: the kernel has just given us this descriptor, so nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    // SAFETY: it is integers all through, for which zeroes do, and whatever the kernel wrote over them.
    let address = unsafe { address.assume_init() };
    let port = u16::from_be(address.sin6_port);
    match i32::from(address.sin6_family) {
        // What follows the port is the address, four bytes of it (ip(7)), where the other family has its flow.
        libc::AF_INET => Ok((fd, Peer::v4(address.sin6_flowinfo.to_ne_bytes(), port).at(tag))),
        libc::AF_INET6 => Ok((fd, Peer::v6(address.sin6_addr.s6_addr, port, address.sin6_scope_id).at(tag))),
        libc::AF_UNIX => Ok((fd, Peer::unix().at(tag))),
        _ => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
    }
}

/// How many bytes that were sent the peer's kernel has not acknowledged: SIOCOUTQ, see tcp(7).
pub(crate) fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one integer, into one that lives on our stack. SIOCOUTQ is another name of TIOCOUTQ.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) } {
        0 => Ok(usize::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets an option whose value is one integer: setsockopt(2).
pub(crate) fn set_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    let (pointer, size) = ((&raw const value).cast(), size_of_val(&value) as libc::socklen_t);
    // SAFETY: the kernel reads one integer, which lives until it returns.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, pointer, size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The value of an option that is one integer: getsockopt(2).
#[cfg(test)]
pub(crate) fn option(socket: BorrowedFd<'_>, level: i32, option: i32) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes, into an integer that lives on our stack, and their number.
    match unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut size) } {
        0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Locks an open file for whoever opened it, if nobody else has: flock(2). Closing it unlocks it.
///
/// std's own `File::try_lock` is younger than this crate's least version of Rust.
pub(crate) fn try_lock(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: it takes integers and touches no memory.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Attaches a classic BPF program that chooses among the listeners of a group: SO_ATTACH_REUSEPORT_CBPF, see socket(7).
pub(crate) fn attach_reuseport_program(listener: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // The kernel copies the program and changes nothing in it, although it is declared mutable.
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let (pointer, size) = ((&raw const program).cast(), size_of::<libc::sock_fprog>() as libc::socklen_t);
    let (fd, option) = (listener.as_raw_fd(), libc::SO_ATTACH_REUSEPORT_CBPF);
    // SAFETY: the kernel reads one `sock_fprog`, and as many instructions as it says, all of which live until it returns.
    match unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, pointer, size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How many descriptors may be open at once: RLIMIT_NOFILE, see getrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// The limit in force.
    pub soft: u64,
    /// How far a process without privilege may raise it.
    pub hard: u64,
}

/// Reads this process's descriptor limit.
///
/// # Errors
/// Those of getrlimit(2), none of which can happen to a process that runs normally.
pub fn descriptor_limit() -> io::Result<DescriptorLimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`, into one that lives on our stack.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        0 => Ok(DescriptorLimit { soft: limit.rlim_cur, hard: limit.rlim_max }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the soft descriptor limit of this process, for all its threads; the hard one stays.
///
/// # Errors
/// EINVAL or EPERM when `soft` is above the hard limit, see setrlimit(2).
pub fn set_descriptor_limit(soft: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: descriptor_limit()?.hard };
    // SAFETY: the kernel reads one `rlimit`, from our stack.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives the calling thread a descriptor table of its own, in which only standard input, output and error and the
/// descriptors in `keep` are open: unshare(2) with CLONE_FILES, and close_range(2).
///
/// The descriptor limit counts for each table, so every thread that does this may open as many again; and no lock is
/// shared with other threads in accept, close and epoll_ctl. When the thread ends, all that is open in its table is closed.
///
/// The thread takes no signals from then on, other than those that its own faults raise and SIGPROF: a signal's handler that
/// wakes its program through a pipe, as most do, would write to whatever has the pipe's number here. They go to other threads.
///
/// # Errors
/// ENOMEM when there is no memory for another table, EMFILE from a sysctl `fs.nr_open` that was lowered; ENOSYS before
/// Linux 5.9.
///
/// # Safety
/// From here on a descriptor number means one thing on this thread and another, or nothing, on the others, which breaks
/// what Rust promises of owned descriptors. The caller must see to it that
/// - this thread uses and drops nothing that holds a descriptor which another thread opened, other than those in `keep`;
///   dropping one would close whatever has that number here;
/// - nothing that holds a descriptor opened on this thread leaves it;
/// - what owns the descriptors in `keep` is dropped on a thread that had them first: dropped here, it would close only
///   this table's copy.
pub unsafe fn own_descriptor_table(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    block_signals()?;
    // SAFETY: it takes an integer and touches no memory; what it does to descriptors is the caller's obligation.
    if unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).chain(0..3).collect();
    kept.sort_unstable();
    let mut first = 0;
    for last_kept in kept.into_iter().chain([u32::MAX]) {
        if first < last_kept {
            // SAFETY: it takes integers only; that nothing here uses these descriptors is the caller's obligation.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last_kept - 1, 0) };
            if closed != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = last_kept.saturating_add(1);
    }
    Ok(())
}

/// Leaves all signals to other threads, but for those that a thread brings upon itself and a profiler's: pthread_sigmask(3).
fn block_signals() -> io::Result<()> {
    let own = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGSYS,
        libc::SIGPROF,
    ];
    let mut signals = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set, to which it has a pointer that is good for that; the others change or read it.
    let error = unsafe {
        libc::sigfillset(signals.as_mut_ptr());
        for signal in own {
            libc::sigdelset(signals.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), std::ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// The same for a thread that also becomes an owner of `taken`: of its own table's copies, which it gives back in their
/// order. The other table's stay with whoever owns them there.
///
/// # Errors
/// Those of [`own_descriptor_table`].
///
/// # Safety
/// As for [`own_descriptor_table`]; and each of `taken` is open, named once, and stays open until this returns.
pub(crate) unsafe fn own_descriptor_table_with(keep: &[BorrowedFd<'_>], taken: &[RawFd]) -> io::Result<Vec<OwnedFd>> {
    // SAFETY: that they are open for as long as this lasts is the caller's to answer for.
    let borrowed = taken.iter().map(|&fd| unsafe { BorrowedFd::borrow_raw(fd) });
    let kept: Vec<BorrowedFd<'_>> = keep.iter().copied().chain(borrowed).collect();
    // SAFETY: the caller's promise.
    unsafe { own_descriptor_table(&kept) }?;
    // SAFETY: this table's copies came into being a moment ago, and nobody owns them.
    Ok(taken.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect())
}

/// Takes a descriptor that this process was started with, and closes it to the programs that this one will start.
///
/// What came through exec(2) is recognised by its missing FD_CLOEXEC, which whatever a Rust program opens has. So none is
/// taken twice, nor taken away from somebody who opened it here.
///
/// # Errors
/// EBADF for one that is not open; AlreadyExists for one that this process has opened, or taken before.
pub(crate) fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    /// Between the look at the flag and its setting nobody else may look. It guards no data.
    static LOOKING: Mutex<()> = Mutex::new(());
    let _alone = LOOKING.lock();
    // SAFETY: it takes integers and touches no memory.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it was opened or taken by this process itself"));
    }
    // SAFETY: it takes integers and touches no memory.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was there when this process began, and whoever took it would have set the flag.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What crosses between processes together with a descriptor: two numbers, in this machine's order of bytes.
pub(crate) type Note = [u32; 2];

/// Room for the head of a control message and one descriptor; in words, because it must be aligned.
type Control = [usize; 4];

/// What a control message with one descriptor says about its length.
const CONTROL_LEN: usize = {
    // SAFETY: arithmetic on an integer.
    unsafe { libc::CMSG_LEN(size_of::<RawFd>() as u32) as usize }
};

/// Sends a note, and a descriptor with it: sendmsg(2) with SCM_RIGHTS, see unix(7). Waits as long as the stream's timeout
/// says.
pub(crate) fn send_note(stream: BorrowedFd<'_>, note: Note, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut control = Control::default();
    let mut bytes = libc::iovec { iov_base: note.as_ptr().cast_mut().cast(), iov_len: size_of::<Note>() };
    // SAFETY: it is integers and pointers all through, for which zeroes do.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut bytes, 1);
    if let Some(fd) = fd {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_LEN as _;
        let head =
            libc::cmsghdr { cmsg_len: CONTROL_LEN as _, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS };
        // SAFETY: `control` is aligned for a head, and has room for it and for one descriptor behind it.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const message);
            first.write(head);
            libc::CMSG_DATA(first).cast::<RawFd>().write_unaligned(fd.as_raw_fd());
        }
    }
    loop {
        // SAFETY: the kernel reads the note and the control message, which live until it returns.
        let sent = unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match sent {
            8 => return Ok(()),
            0.. => return Err(io::ErrorKind::WriteZero.into()),
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return Err(io::Error::last_os_error()),
        }
    }
}

/// Receives a note, and the descriptor that came with it, closed on exec: recvmsg(2).
///
/// # Errors
/// Those of recvmsg(2); UnexpectedEof when the other end has gone.
pub(crate) fn receive_note(stream: BorrowedFd<'_>) -> io::Result<(Note, Option<OwnedFd>)> {
    let (mut note, mut control) = (Note::default(), Control::default());
    let mut bytes = libc::iovec { iov_base: note.as_mut_ptr().cast(), iov_len: size_of::<Note>() };
    // SAFETY: it is integers and pointers all through, for which zeroes do.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut bytes, 1);
    // No room for a second descriptor, which the kernel then does not open here.
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), CONTROL_LEN as _);
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_WAITALL;
    let received = loop {
        // SAFETY: the kernel writes to the note and to the control message, no more than they have room for.
        let received = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, flags) };
        if received >= 0 {
            break received;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    // SAFETY: the kernel has written whole control messages, and says how much of `control` they take.
    let fd = unsafe {
        libc::CMSG_FIRSTHDR(&raw const message).as_ref().and_then(|head| {
            let is_rights = (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
            let whole = head.cmsg_len >= CONTROL_LEN as _;
            (is_rights && whole).then(|| OwnedFd::from_raw_fd(libc::CMSG_DATA(head).cast::<RawFd>().read_unaligned()))
        })
    };
    match received {
        8 => Ok((note, fd)),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Processor time, user and system together, that the calling thread has used; see clock_gettime(2).
#[must_use]
pub fn thread_cpu_time() -> Duration {
    cpu_time(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Processor time, user and system together, that all threads of this process have used.
#[must_use]
pub fn process_cpu_time() -> Duration {
    cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`, into one that lives on our stack. Both clocks always exist, so the
    // result needs no check; were it to fail, the time would stay zero.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_connection_comes_with_its_peers_address_of_either_family() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = std::net::TcpListener::bind(host) else { continue };
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_socket, address) = accept(listener.as_fd(), 9).unwrap();
            assert_eq!((address.socket_addr(), address.tag()), (Some(client.local_addr().unwrap()), 9));
            listener.set_nonblocking(true).unwrap();
            assert_eq!(accept(listener.as_fd(), 9).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn the_peer_at_a_unix_socket_is_nobody_in_particular_even_if_it_has_a_name() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
        let name = SocketAddr::from_abstract_name(format!("esockets/test/{}", std::process::id())).unwrap();
        let listener = UnixListener::bind_addr(&name).unwrap();
        let _nameless = UnixStream::connect_addr(&name).unwrap();
        let named = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        let own = std::env::temp_dir().join(format!("esockets-sys-{}-{}", std::process::id(), "n".repeat(30)));
        named.bind(&socket2::SockAddr::unix(&own).unwrap()).unwrap();
        std::fs::remove_file(&own).unwrap();
        let at = format!("\0esockets/test/{}", std::process::id());
        named.connect(&socket2::SockAddr::unix(at).unwrap()).unwrap();
        for _ in 0..2 {
            let (_socket, peer) = accept(listener.as_fd(), 3).unwrap();
            assert!(peer.is_unix() && peer.tag() == 3);
        }
    }

    #[test]
    fn a_drained_wake_fd_is_silent_until_the_next_wake() {
        let waker = WakeFd::new().unwrap();
        let read = |waker: &WakeFd| (&waker.file).read(&mut [0; 8]).map_err(|e| e.kind());
        assert_eq!(read(&waker), Err(io::ErrorKind::WouldBlock));
        waker.wake();
        waker.wake();
        assert_eq!(read(&waker), Ok(8), "two wakes are one");
        waker.wake();
        waker.drain();
        assert_eq!(read(&waker), Err(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn bytes_and_errors_come_through_without_the_c_library() {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut buffer = [0; 8];
        let nothing = receive(other.as_fd(), &mut buffer).map_err(|error| error.kind());
        assert_eq!(nothing, Err(io::ErrorKind::WouldBlock), "a blocking socket does not block");
        assert_eq!(send(one.as_fd(), b"hello").unwrap(), 5);
        assert_eq!(receive(other.as_fd(), &mut buffer[..3]).unwrap(), 3);
        assert_eq!(receive(other.as_fd(), &mut buffer[3..]).unwrap(), 2);
        assert_eq!(&buffer[..5], b"hello");
        drop(other);
        let broken = send(one.as_fd(), b"anyone?").map_err(|error| error.raw_os_error());
        assert_eq!(broken, Err(Some(libc::EPIPE)));
    }

    #[test]
    fn a_thread_with_a_table_of_its_own_has_what_it_kept_and_closes_nobody_elses() {
        let (kept, lost) = (WakeFd::new().unwrap(), WakeFd::new().unwrap());
        let is_open = |fd: RawFd| std::fs::exists(format!("/proc/thread-self/fd/{fd}")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: this thread opens nothing that leaves it, and uses only what it keeps.
                unsafe { own_descriptor_table(&[kept.file.as_fd()]) }.unwrap();
                assert!(is_open(kept.as_raw_fd()) && is_open(2));
                assert!(!is_open(lost.as_raw_fd()));
                kept.wake();
            });
        });
        assert!(is_open(lost.as_raw_fd()), "it is still open here");
        assert_eq!((&kept.file).read(&mut [0; 8]).unwrap(), 8, "and the wake-up came across");
    }

    #[test]
    fn a_note_brings_its_descriptor_along_and_an_end_is_told() {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let waker = WakeFd::new().unwrap();
        send_note(one.as_fd(), [1, 2], None).unwrap();
        send_note(one.as_fd(), [3, 4], Some(waker.as_fd())).unwrap();
        send_note(one.as_fd(), [5, 6], None).unwrap();
        drop(one);
        assert!(matches!(receive_note(other.as_fd()), Ok(([1, 2], None))));
        let Ok(([3, 4], Some(fd))) = receive_note(other.as_fd()) else { panic!("the second has a descriptor") };
        assert_ne!(fd.as_raw_fd(), waker.as_raw_fd());
        waker.wake();
        assert_eq!(File::from(fd).read(&mut [0; 8]).unwrap(), 8, "it is the same eventfd");
        assert!(matches!(receive_note(other.as_fd()), Ok(([5, 6], None))));
        assert_eq!(receive_note(other.as_fd()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_this_process_has_opened_was_not_inherited() {
        let waker = WakeFd::new().unwrap();
        assert_eq!(take_inherited(waker.as_raw_fd()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(take_inherited(RawFd::MAX).unwrap_err().raw_os_error(), Some(libc::EBADF));
        // SAFETY: a descriptor of its own, left without a mark and without an owner, as one is that exec has kept open.
        let inherited = unsafe { libc::fcntl(waker.as_raw_fd(), libc::F_DUPFD, 3) };
        let taken = take_inherited(inherited).unwrap();
        assert_eq!(take_inherited(inherited).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(taken);
    }

    #[test]
    fn the_soft_limit_is_within_the_hard_one() {
        let limit = descriptor_limit().unwrap();
        assert!(limit.soft > 0 && limit.soft <= limit.hard, "{limit:?}");
        assert!(set_descriptor_limit(limit.soft).is_ok());
    }

    #[test]
    fn a_thread_has_used_no_more_than_its_process() {
        let thread = thread_cpu_time();
        assert!(thread > Duration::ZERO && thread <= process_cpu_time());
    }
}
