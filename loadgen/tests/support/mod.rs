//! What the tests share: servers that echo well or badly, and the program run against them.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

/// Bytes in a message of the tests.
pub(crate) const SIZE: usize = 64;

/// A server with a thread for each connection, which a function serves. It listens until it is dropped.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Server {
    /// Serves each connection with `serve`, which is given the connection's number, from 0.
    pub(crate) fn start(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Server {
        Server::start_at("127.0.0.1:0", serve)
    }

    /// The same, at `address`.
    pub(crate) fn start_at(address: &str, serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind(address).expect("a port of the kernel's choice can be bound");
        let address = listener.local_addr().expect("a bound listener has an address");
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, serve) = (Arc::clone(&is_over), Arc::new(serve));
        thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(number, stream));
            }
        });
        Server { address, is_over }
    }

    /// An echo server without a fault.
    pub(crate) fn good() -> Server {
        Server::start(|_, stream| echo(stream))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the accepting thread; if it is gone already, so much the better.
        let _ = TcpStream::connect(self.address);
    }
}

/// Says on standard error why a test, or a part of one, was skipped: written, not printed, so that it is seen although the
/// test passes, whose prints `cargo test` keeps to itself.
pub(crate) fn skip(why: &str) {
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).expect("standard error takes a line");
}

/// Echoes until the peer is gone.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 65536];
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
}

/// Echoes messages of [`SIZE`] bytes, the one with number `faulty` (from 0) as `fault` makes it; false from `fault` ends
/// the connection.
pub(crate) fn echo_with_fault(
    mut stream: TcpStream,
    faulty: usize,
    fault: impl Fn(&mut TcpStream, &mut Vec<u8>) -> bool,
) {
    for number in 0.. {
        let mut message = vec![0; SIZE];
        if stream.read_exact(&mut message).is_err() {
            break;
        }
        if number == faulty && !fault(&mut stream, &mut message) {
            break;
        }
        if stream.write_all(&message).is_err() {
            break;
        }
    }
}

/// What a run of the program left behind.
pub(crate) struct Outcome {
    /// The exit code.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Outcome {
    /// Whether standard output has `phrase`, blanks and all, wherever its lines are broken: that depends on how long the
    /// figures are.
    pub(crate) fn says(&self, phrase: &str) -> bool {
        let unbroken: Vec<&str> = self.stdout.lines().map(str::trim).collect();
        self.stdout.contains(phrase) || unbroken.join(" ").contains(phrase)
    }

    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {}\n{}", self.stdout, self.stderr))
    }
}

/// `text` with one space for each row of blanks and line ends.
pub(crate) fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs loadgen with the arguments of `line` to its end.
pub(crate) fn loadgen(line: &str) -> Outcome {
    let output = command(line).output().expect("the program was built and can be run");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("it prints UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("it prints UTF-8"),
    }
}

/// The same, for its JSON: the exit code and the results.
pub(crate) fn measure(line: &str) -> (Option<i32>, Value) {
    let outcome = loadgen(&format!("{line} --quiet --json -"));
    (outcome.code, outcome.json())
}

/// Starts loadgen with the arguments of `line`, its outputs piped.
pub(crate) fn start(line: &str) -> Child {
    command(line).spawn().expect("the program was built and can be run")
}

/// Sends `signal`, such as INT, to `child`.
pub(crate) fn signal(child: &Child, signal: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status();
    assert!(sent.expect("there is a shell").success());
}

/// Reads lines of `from` until one contains `wanted`, and returns it.
pub(crate) fn line_with(from: &mut impl BufRead, wanted: &str) -> String {
    let mut line = String::new();
    while !line.contains(wanted) {
        line.clear();
        let len = from.read_line(&mut line).expect("its output can be read");
        assert!(len > 0, "ended without a line with '{wanted}'");
    }
    line
}

/// `pipe` with a buffer.
pub(crate) fn lines<R: Read>(pipe: Option<R>) -> BufReader<R> {
    BufReader::new(pipe.expect("it was piped"))
}

/// The stage with this name, the first of them.
pub(crate) fn stage<'a>(results: &'a Value, name: &str) -> &'a Value {
    let stages = results["stages"].as_array().expect("there are stages");
    stages.iter().find(|stage| stage["stage"] == name).unwrap_or_else(|| panic!("no stage {name} in {results:#}"))
}

/// How many failures of `kind` the list under `field` has.
pub(crate) fn failures(stage: &Value, field: &str, kind: &str) -> u64 {
    let list = stage[field].as_array().expect("it is a list");
    list.iter().filter(|entry| entry["kind"] == kind).map(|entry| entry["count"].as_u64().expect("a count")).sum()
}

/// How many failures the list under `field` has.
pub(crate) fn failures_total(stage: &Value, field: &str) -> u64 {
    let list = stage[field].as_array().expect("it is a list");
    list.iter().map(|entry| entry["count"].as_u64().expect("a count")).sum()
}

/// Whether each request is accounted for in every stage.
pub(crate) fn is_conserved(results: &Value) -> bool {
    let number = |stage: &Value, field: &str| stage[field].as_u64().expect("a number");
    results["stages"].as_array().expect("there are stages").iter().all(|stage| {
        let failed = failures_total(stage, "request_failures");
        let ended = number(stage, "requests_answered") + failed + number(stage, "requests_unfinished");
        number(stage, "requests_due") == ended
    })
}

/// The program with the arguments of `line`, its outputs piped.
pub(crate) fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(line.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
