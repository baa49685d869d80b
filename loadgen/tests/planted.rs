//! Faults of all kinds at once, on many connections, planted on purpose: each is counted as what it is, none is invented.

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::sleep;
use std::time::Duration;

use socket2::SockRef;
use support::{Server, failures, failures_total, is_conserved, measure, stage};

/// What the server does to a connection in place of one echo, in the order of their numbers.
const FAULTS: [Fault; 10] = [
    Fault::None,
    Fault::Drop,
    Fault::Corrupt,
    Fault::Delay,
    Fault::Swap,
    Fault::Double,
    Fault::Truncate,
    Fault::Gap,
    Fault::Close,
    Fault::Reset,
];

/// The message, counted from 0, that meets the fault.
const FAULTY: usize = 2;

#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    Drop,
    Corrupt,
    Delay,
    Swap,
    Double,
    Truncate,
    Gap,
    Close,
    Reset,
}

/// How often the server planted what loadgen is to call so.
type Planted = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// Where two connections meet to swap their replies.
#[derive(Default)]
struct Meeting {
    state: Mutex<Waiting>,
    met: Condvar,
}

/// The message of the one who waits, and then what it is to send instead.
#[derive(Default)]
struct Waiting {
    mine: Option<Vec<u8>>,
    theirs: Option<Vec<u8>>,
}

impl Meeting {
    /// The message of the other one; after a while without another one, nothing.
    fn swap(&self, mine: &[u8]) -> Option<Vec<u8>> {
        let mut state = self.state.lock().unwrap();
        if let Some(theirs) = state.mine.take() {
            state.theirs = Some(mine.to_vec());
            self.met.notify_all();
            return Some(theirs);
        }
        state.mine = Some(mine.to_vec());
        let wait = Duration::from_millis(500);
        let (mut state, _) = self.met.wait_timeout_while(state, wait, |state| state.theirs.is_none()).unwrap();
        // Whoever comes now is told so by nobody waiting; what was left for this one is taken.
        let theirs = state.theirs.take();
        if theirs.is_none() {
            state.mine = None;
        }
        theirs
    }
}

/// What each fault is called with messages of `size` bytes: a single byte can be nothing but wrong, too many or missing,
/// and of less than 8 it cannot be told whose they are. In a pipeline the next reply stands where one is missing.
fn name(fault: Fault, size: usize, is_pipelined: bool) -> Option<&'static str> {
    match fault {
        Fault::None | Fault::Delay => None,
        Fault::Drop if is_pipelined => Some("bytes lost"),
        Fault::Drop => Some("timed out"),
        Fault::Corrupt => Some("corrupted"),
        Fault::Swap if size < 8 => Some("corrupted"),
        Fault::Swap => Some("swapped"),
        Fault::Double if size < 3 => Some("surplus bytes"),
        Fault::Double => Some("bytes doubled"),
        Fault::Gap if size < 2 => Some("timed out"),
        Fault::Gap => Some("bytes lost"),
        Fault::Truncate if size < 2 => Some("closed by the server"),
        Fault::Truncate => Some("truncated"),
        Fault::Close => Some("closed by the server"),
        Fault::Reset => Some("reset"),
    }
}

/// Commits `fault` on the reply `message`; `None` ends the connection.
fn commit(fault: Fault, stream: &mut TcpStream, mut message: Vec<u8>) -> Option<Vec<u8>> {
    let size = message.len();
    match fault {
        Fault::None | Fault::Swap => {}
        Fault::Drop => message.clear(),
        Fault::Corrupt => message[size / 2] ^= 0x10,
        Fault::Delay => sleep(Duration::from_millis(30)),
        Fault::Double => message.extend_from_within(..),
        Fault::Gap => drop(message.remove(size / 4)),
        Fault::Truncate => {
            let _ = stream.write_all(&message[..size / 2]);
            finish(stream);
            return None;
        }
        Fault::Close => {
            finish(stream);
            return None;
        }
        Fault::Reset => {
            SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
            return None;
        }
    }
    Some(message)
}

/// Closes with a FIN, whatever requests are still unread: with those the kernel would make it a reset.
fn finish(stream: &mut TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    while let Ok(1..) = stream.read(&mut [0; 4096]) {}
}

/// Serves messages of a size on a connection that meets the fault; `planted` counts it under this name.
fn serve(
    (fault, name): (Fault, Option<&'static str>),
    size: usize,
    stream: &mut TcpStream,
    (meeting, planted): (&Meeting, &Planted),
) {
    let mut is_done = false;
    for turn in 0.. {
        let mut message = vec![0; size];
        if stream.read_exact(&mut message).is_err() {
            return;
        }
        let mut reply = Some(message.clone());
        if turn >= FAULTY && !is_done {
            reply = match fault {
                // Two that are equal by chance, as single bytes are, are no fault: the next ones will be.
                Fault::Swap => Some(meeting.swap(&message).unwrap_or_else(|| message.clone())),
                _ => commit(fault, stream, message.clone()),
            };
            is_done = reply.as_ref() != Some(&message) || !matches!(fault, Fault::Swap);
            if let (true, Some(name)) = (is_done, name) {
                *planted.lock().unwrap().entry(name).or_default() += 1;
            }
        }
        // A client that has had enough of the fault may be gone.
        match reply {
            Some(reply) if stream.write_all(&reply).is_ok() => {}
            _ => return,
        }
    }
}

/// Forty connections, four of each fault, under `load`.
fn all_are_counted(load: &str, size: usize) {
    let (planted, meeting) = (Planted::default(), Meeting::default());
    let seen = Arc::clone(&planted);
    let is_pipelined = load.contains("--pipeline");
    let server = Server::start(move |number, mut stream| {
        let fault = FAULTS[number % FAULTS.len()];
        serve((fault, name(fault, size, is_pipelined)), size, &mut stream, (&meeting, &seen));
    });
    let line = load.replace("TARGET", &server.address.to_string());
    let (code, results) = measure(&format!("{line} -c 40 -s {size} --timeout 3s"));
    let name = if load.starts_with("open") { "open" } else { "closed" };
    let measured = stage(&results, name);
    assert_eq!((code, &results["ending"]), (Some(1), &"complete".into()), "{measured:#}");
    let planted = planted.lock().unwrap();
    assert!(planted.values().sum::<u64>() >= 8, "the run was long enough to meet them: {planted:?}");
    // One that ends an idle connection is a loss, one that ends a request is a failure of that.
    let counted = |kind| failures(measured, "request_failures", kind) + failures(measured, "losses", kind);
    for (kind, count) in planted.iter() {
        assert_eq!(counted(kind), *count, "{kind} of {planted:?}: {measured:#}");
    }
    let faults = planted.values().sum::<u64>();
    let given_up = counted("given up with its connection");
    // Those behind each of them: all but the failure itself.
    assert!(given_up <= faults * (DEPTH - 1) && (is_pipelined == (given_up > 0)), "{given_up}: {measured:#}");
    let all = failures_total(measured, "request_failures") + failures_total(measured, "losses") - given_up;
    assert_eq!(all, faults, "none but {planted:?}: {measured:#}");
    assert_eq!(failures_total(stage(&results, "connect"), "connect_failures"), 0);
    assert!(is_conserved(&results), "{results:#}");
}

/// Requests at once on a connection, where it is pipelined.
const DEPTH: u64 = 16;

const CLOSED: &str = "rr TARGET -d 1s";
const PIPELINED: &str = "rr TARGET -d 1s --pipeline 16";
const OPEN: &str = "open TARGET -R 400 -d 2s";

#[test]
fn of_one_byte() {
    all_are_counted(CLOSED, 1);
    all_are_counted(OPEN, 1);
}

#[test]
fn of_less_than_a_cell() {
    all_are_counted(CLOSED, 7);
    all_are_counted(PIPELINED, 7);
    all_are_counted(OPEN, 7);
}

#[test]
fn of_the_usual_size() {
    all_are_counted(CLOSED, 64);
    all_are_counted(PIPELINED, 64);
    all_are_counted(OPEN, 64);
}

#[test]
fn of_a_thousand_bytes() {
    all_are_counted(CLOSED, 1_000);
    all_are_counted(PIPELINED, 1_000);
    all_are_counted(OPEN, 1_000);
}

#[test]
fn of_more_than_one_read() {
    all_are_counted(CLOSED, 100_000);
    all_are_counted(PIPELINED, 100_000);
    all_are_counted(OPEN, 100_000);
}

#[test]
fn one_target_of_four_that_refuses() {
    let servers = [Server::good(), Server::good(), Server::good()];
    // Below the ports that the kernel gives out, so that nobody else gets it meanwhile.
    let closed = "127.0.0.1:1";
    let open: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    let (code, results) = measure(&format!("rr {},{closed} -c 40 -d 200ms", open.join(",")));
    let connect = stage(&results, "connect");
    assert_eq!(code, Some(1));
    assert_eq!(
        (&connect["connections_established"], failures(connect, "connect_failures", "refused")),
        (&30.into(), 10)
    );
    assert_eq!(connect["connect_failures"][0]["errno_name"], "ECONNREFUSED");
    assert_eq!(failures_total(connect, "connect_failures"), 10);
    assert!(is_conserved(&results), "{results:#}");
}
