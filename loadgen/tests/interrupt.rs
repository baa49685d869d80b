//! A run that is interrupted writes what it has so far, says that it was interrupted, and does not pass for a success.

mod support;

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use support::{Server, command, echo, is_conserved, line_with, lines, signal, stage, start};

/// Starts `line`, interrupts it once its progress speaks of `sign`, and returns its results and exit code.
fn interrupted(line: &str, sign: &str, name: &str) -> (Option<i32>, serde_json::Value) {
    let mut child = start(&format!("{line} --json -"));
    line_with(&mut lines(child.stderr.take()), sign);
    signal(&child, name);
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    let code = child.wait().unwrap().code();
    (code, serde_json::from_str(&stdout).unwrap())
}

#[test]
fn a_closed_loop() {
    let server = Server::good();
    let (code, results) = interrupted(&format!("rr {} -c 5 -d 1h", server.address), "closed loop", "INT");
    assert_eq!((code, &results["is_ok"], &results["ending"]), (Some(1), &false.into(), &"interrupted".into()));
    assert!(stage(&results, "closed")["requests_answered"].as_u64() > Some(0));
    assert!(is_conserved(&results), "{results:#}");
}

#[test]
fn an_open_loop() {
    let server = Server::good();
    let (code, results) = interrupted(&format!("open {} -c 5 -R 500 -d 1h", server.address), "open loop", "TERM");
    assert_eq!((code, &results["is_ok"], &results["ending"]), (Some(1), &false.into(), &"interrupted".into()));
    let open = stage(&results, "open");
    assert!(open["requests_due"].as_u64() < Some(500 * 3600), "only what was due until then: {open:#}");
    assert!(is_conserved(&results), "{results:#}");
}

#[test]
fn a_terminal_that_is_gone() {
    let server = Server::good();
    let (code, results) = interrupted(&format!("rr {} -c 5 -d 1h", server.address), "closed loop", "HUP");
    assert_eq!((code, &results["ending"]), (Some(1), &"interrupted".into()));
    assert!(stage(&results, "closed")["requests_answered"].as_u64() > Some(0) && is_conserved(&results));
}

#[test]
fn a_terminal_that_is_gone_is_nothing_to_nohup() {
    let server = Server::good();
    let line = format!("rr {} -c 5 -d 1900ms --json -", server.address);
    // As nohup(1) does it: the shell's trap is inherited.
    let script = format!("trap '' HUP; exec {} {line}", env!("CARGO_BIN_EXE_loadgen"));
    let mut child =
        Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    line_with(&mut lines(child.stderr.take()), "closed loop");
    signal(&child, "HUP");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results["ending"], "complete");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (ended, end) = channel();
    let ended = Mutex::new(ended);
    let server = Server::start(move |_, stream| {
        echo(stream);
        let _ = ended.lock().unwrap().send(());
    });
    // Nobody takes its results: it would wait for ever.
    let (_reader, mut full) = std::io::pipe().unwrap();
    full.write_all(&[b' '; 65_536]).unwrap();
    let mut command = command(&format!("rr {} -c 1 -d 1h --json -", server.address));
    let mut child = command.stdout(full).spawn().unwrap();
    line_with(&mut lines(child.stderr.take()), "closed loop");
    signal(&child, "INT");
    end.recv().expect("its connection ends with the run");
    assert!(child.try_wait().unwrap().is_none(), "it waits for somebody who reads");
    // One that comes along with the first is not a second one, as timeout(1) sends them.
    signal(&child, "INT");
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        signal(&child, "INT");
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(code, Some(128 + 2));
}

#[test]
fn silence_and_connects() {
    let server = Server::good();
    let (code, results) = interrupted(&format!("hold {} -c 5 -d 1h", server.address), "holding", "INT");
    assert_eq!((code, &results["is_ok"], &results["ending"]), (Some(1), &false.into(), &"interrupted".into()));
    let slow = format!("hold {} -c 50k --connect-rate 1 -d 1h", server.address);
    let slow =
        if results["machine"]["descriptors_max"].as_u64() < Some(51_000) { slow.replace("50k", "100") } else { slow };
    let (code, results) = interrupted(&slow, "connecting", "INT");
    assert_eq!((code, &results["is_ok"], &results["ending"]), (Some(1), &false.into(), &"interrupted".into()));
}

#[test]
fn two_signals_at_once_are_one() {
    let server = Server::good();
    let mut child = start(&format!("rr {} -c 5 -d 1h --json -", server.address));
    line_with(&mut lines(child.stderr.take()), "closed loop");
    for name in ["TERM", "TERM", "INT"] {
        signal(&child, name);
    }
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    let results: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((child.wait().unwrap().code(), &results["ending"]), (Some(1), &"interrupted".into()));
}
