//! A run that is interrupted writes what it has so far, says that it was interrupted, and does not pass for a success.

mod support;

use std::io::Read;

use support::{Server, is_conserved, line_with, lines, signal, stage, start};

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
