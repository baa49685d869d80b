//! User instructions and system calls per echo, which no other program on the machine can disturb.
//!
//! Each server runs twice under the tool, with few echoes and with many, and the difference is divided by the echoes
//! between them: what starting, accepting and stopping take cancels out.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::thread;

use crate::bench::Bench;
use crate::child::Child;
use crate::client::Client;
use crate::failure::{Result, Tried};
use crate::routes::Routes;
use crate::server::{Contender, Setting};
use crate::table::{Show, Unit};

const CONNECTIONS: usize = 50;
const MESSAGE_BYTES: usize = 64;
/// Echoes on each connection, in the short run and in the long one.
const TIMES: [usize; 2] = [20, 220];
const TIMES_QUICK: [usize; 2] = [10, 50];

pub(super) fn run(bench: &mut Bench) {
    if is_installed(bench, "valgrind") {
        let label = "echo, 50 × 64 B: user instructions (callgrind)";
        let rows = vec![bench.row(label, Unit::Instructions, Show::Ratio)];
        bench.interleave("instructions", 1, rows, |bench, contender| differences(bench, contender, callgrind));
    }
    if is_installed(bench, "strace") {
        let rows = vec![
            bench.row("echo, 50 × 64 B: system calls (strace; io_uring works without)", Unit::Calls, Show::Figure),
            bench.row("echo, 50 × 64 B: of these, failing", Unit::Calls, Show::Figure),
        ];
        bench.interleave("system calls", 1, rows, |bench, contender| differences(bench, contender, strace));
    }
}

/// One run under a tool: a server, so many echoes on each connection, and the counts.
type Counted = fn(&Contender, &Setting, usize, Routes) -> Result<Vec<f64>>;

/// Both runs at a time: the counts do not depend on how fast it goes.
fn differences(bench: &mut Bench, contender: &Contender, counted: Counted) -> Result<Vec<f64>> {
    // No core: a server of several threads shows what they say to each other only if they can run at a time.
    let setting = Setting { cores: Vec::new(), ..bench.place(bench.options.client_core, MESSAGE_BYTES)? };
    let [few, many] = if bench.options.quick { TIMES_QUICK } else { TIMES };
    let routes = (bench.routes.apart(), bench.routes.apart());
    let (short, long) = thread::scope(|scope| {
        let short = scope.spawn(|| counted(contender, &setting, few, routes.0));
        let long = counted(contender, &setting, many, routes.1);
        (short.join().unwrap_or_else(|_| Err("the client of the short run panicked".to_owned())), long)
    });
    let echoes = (CONNECTIONS * (many - few)) as f64;
    Ok(long?.iter().zip(short?).map(|(long, short)| (long - short) / echoes).collect())
}

fn callgrind(contender: &Contender, setting: &Setting, times: usize, routes: Routes) -> Result<Vec<f64>> {
    if contender.is_on_io_uring() {
        return Err("left out, because under valgrind io_uring does not work".to_owned());
    }
    let log = Scratch::new("callgrind", times);
    let tool = [
        "valgrind".to_owned(),
        "--tool=callgrind".to_owned(),
        "--callgrind-out-file=/dev/null".to_owned(),
        format!("--log-file={}", log.path.display()),
    ];
    echo_under(&tool, contender, setting, times, routes)?;
    let text = log.read()?;
    let count = text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    Ok(vec![count.ok_or_else(|| format!("callgrind tells no count: {}", text.trim().replace('\n', "; ")))?])
}

fn strace(contender: &Contender, setting: &Setting, times: usize, routes: Routes) -> Result<Vec<f64>> {
    let log = Scratch::new("strace", times);
    let tool = ["strace", "-f", "-c", "-o"].map(str::to_owned).into_iter();
    let tool: Vec<String> = tool.chain([log.path.display().to_string()]).collect();
    echo_under(&tool, contender, setting, times, routes)?;
    let text = log.read()?;
    total(&text).ok_or_else(|| format!("strace's summary has no total: {}", text.trim().replace('\n', "; ")))
}

/// Calls and errors of the line `100.00 seconds usecs/call calls [errors] total`.
fn total(summary: &str) -> Option<Vec<f64>> {
    let line = summary.lines().find(|line| line.trim_end().ends_with(" total"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let calls = words.get(3)?.parse().ok()?;
    let errors = if words.len() > 5 { words.get(4)?.parse().ok()? } else { 0.0 };
    Some(vec![calls, errors])
}

fn echo_under(tool: &[String], contender: &Contender, setting: &Setting, times: usize, routes: Routes) -> Result<()> {
    let child = Child::start_under(tool, contender, setting)?;
    echo(child.address, times, routes).map_err(|error| format!("under {}: {error}", tool[0]))?;
    child.stop().map(drop)
}

fn echo(target: SocketAddr, times: usize, mut routes: Routes) -> Result<()> {
    let mut client = Client::new(target, MESSAGE_BYTES)?;
    client.open(CONNECTIONS, &mut routes)?;
    client.echo_times(times)
}

fn is_installed(bench: &mut Bench, tool: &str) -> bool {
    let version = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if let Err(error) = &version {
        bench.notes.push(format!("what {tool} counts is left out: running it: {error}"));
    }
    version.is_ok()
}

/// A file for what a tool has to say, removed in the end.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(tool: &str, times: usize) -> Scratch {
        Scratch { path: env::temp_dir().join(format!("esockets-benches-{}-{tool}-{times}", process::id())) }
    }

    fn read(&self) -> Result<String> {
        fs::read_to_string(&self.path).tried(|| format!("reading {}", self.path.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_has_errors_or_none() {
        let none = "% time     seconds  usecs/call     calls    errors syscall\n100.00    0.010000           1      2042           total\n";
        let some = "100.00    0.010000           1      2042        17 total\n";
        assert_eq!(total(none), Some(vec![2042.0, 0.0]));
        assert_eq!(total(some), Some(vec![2042.0, 17.0]));
        assert_eq!(total("strace: attach: Operation not permitted\n"), None);
    }
}
