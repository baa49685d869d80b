//! Errors that strace(1) puts in the place of system calls, on the real kernel: whom they do not concern, they do not harm.

mod support;

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use support::{Program, bytes, connect, wait_until};

/// An error, where it is put, and what becomes of the connections then.
struct Case {
    call: &'static str,
    error: &'static str,
    /// Which calls fail, as strace counts them: the first, and each so many after it.
    when: &'static str,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    /// Everybody is served as ever.
    Unharmed,
    /// Some connections end, and say so to their peers; the others are served.
    SomeEnd,
}

/// EAGAIN is not among them: the kernel says it only of a socket for which it has an event to come.
const CASES: [Case; 13] = [
    Case { call: "recvfrom", error: "EINTR", when: "2+3", outcome: Outcome::Unharmed },
    Case { call: "recvfrom", error: "ECONNRESET", when: "5+7", outcome: Outcome::SomeEnd },
    Case { call: "recvfrom", error: "ENOMEM", when: "5+7", outcome: Outcome::SomeEnd },
    Case { call: "recvfrom", error: "EBADF", when: "5+7", outcome: Outcome::SomeEnd },
    Case { call: "sendto", error: "EINTR", when: "2+3", outcome: Outcome::Unharmed },
    Case { call: "sendto", error: "ENOBUFS", when: "5+7", outcome: Outcome::SomeEnd },
    Case { call: "sendto", error: "EPIPE", when: "5+7", outcome: Outcome::SomeEnd },
    Case { call: "accept4", error: "EINTR", when: "1+2", outcome: Outcome::Unharmed },
    Case { call: "accept4", error: "ECONNABORTED", when: "1+2", outcome: Outcome::Unharmed },
    Case { call: "accept4", error: "EMFILE", when: "1+2", outcome: Outcome::Unharmed },
    Case { call: "accept4", error: "ENOMEM", when: "1+2", outcome: Outcome::Unharmed },
    Case { call: "epoll_wait", error: "EINTR", when: "1+2", outcome: Outcome::Unharmed },
    // Of each thread the first two are those of its listener and its waker.
    Case { call: "epoll_ctl", error: "ENOMEM", when: "5+4", outcome: Outcome::SomeEnd },
];

const CONNECTIONS: u64 = 30;
const MESSAGES: usize = 5;
const MESSAGE_BYTES: usize = 300;

#[test]
fn errors_of_system_calls_harm_nobody_but_whom_they_concern() {
    let may_trace = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    if !may_trace.as_ref().is_ok_and(|status| status.success()) {
        return println!("skipped: strace is not there, or may not trace: {may_trace:?}");
    }
    for case in &CASES {
        let inject = format!("inject={}:error={}:when={}", case.call, case.error, case.when);
        let trace = format!("trace={}", case.call);
        let tool = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let mut program = Program::start_under(&tool, "echo").unwrap_or_else(|| panic!("{inject}: it does not start"));
        let streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(program.address)).collect();
        let served = streams.iter().zip(0..).filter(|&(stream, key)| is_served(stream, key, &inject)).count();
        drop(streams);
        let expected = match case.outcome {
            Outcome::Unharmed => CONNECTIONS as usize..CONNECTIONS as usize + 1,
            Outcome::SomeEnd => 1..CONNECTIONS as usize,
        };
        assert!(expected.contains(&served), "{inject}: {served} of {CONNECTIONS} were served");
        wait_until("somebody new is served", || is_served(&connect(program.address), 7, &inject));
        assert!(program.is_running(), "{inject}");
    }
}

/// Whether all messages come back. False: the connection ends before; wrong bytes, or none and no end, are a failure.
fn is_served(stream: &TcpStream, key: u64, inject: &str) -> bool {
    let mut echoed = [0; MESSAGE_BYTES];
    for number in 0..MESSAGES {
        let message = bytes(key, number * MESSAGE_BYTES, MESSAGE_BYTES);
        match exchange(stream, &message, &mut echoed) {
            Ok(()) => assert!(echoed == message[..], "{inject}: wrong bytes"),
            Err(error) if is_end(&error) => return false,
            Err(error) => panic!("{inject}: connection {key}, message {number}: {error}"),
        }
    }
    true
}

fn exchange(mut stream: &TcpStream, message: &[u8], echoed: &mut [u8]) -> io::Result<()> {
    stream.write_all(message)?;
    stream.read_exact(echoed)
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}
