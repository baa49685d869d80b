//! A server that stands still shows in the latency of every request that was due meanwhile; a generator that does, says so.

mod support;

use std::io::Read;
use std::thread::sleep;
use std::time::Duration;

use support::{Server, is_conserved, line_with, lines, signal, stage, start};

#[test]
fn requests_that_were_due_while_it_stood_still_waited_for_it() {
    let mut server = start("serve --listen 127.0.0.1:0 --shards 1");
    let line = line_with(&mut lines(server.stdout.take()), "listening on ");
    let address = line.split(' ').nth(2).unwrap();
    let mut load = start(&format!("open {address} -c 1500 -R 1k --arrival constant -d 4s --json -"));
    line_with(&mut lines(load.stderr.take()), "open loop");
    signal(&server, "STOP");
    sleep(Duration::from_secs(1));
    signal(&server, "CONT");
    let mut stdout = String::new();
    load.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    signal(&server, "INT");
    server.wait().unwrap();
    // Nothing failed; but a second of four in one of its thirds is not steady.
    assert!(matches!(load.wait().unwrap().code(), Some(0 | 4)), "{stdout}");

    let results = serde_json::from_str(&stdout).unwrap();
    let open = stage(&results, "open");
    assert_eq!((&open["requests_due"], &open["requests_answered"]), (&4000.into(), &4000.into()));
    assert!(is_conserved(&results));
    // A second of four: a quarter of the requests waited, evenly from 0 to 1 s, so one in ten for 0.6 s or more. These are
    // lower bounds: a slow machine only adds to them.
    assert!(open["latency"]["max_ns"].as_u64() >= Some(950_000_000), "{open:#}");
    assert!(open["latency"]["p90_ns"].as_u64() >= Some(550_000_000), "{open:#}");
}

#[test]
fn a_generator_that_stood_still_does_not_blame_the_server() {
    let server = Server::good();
    let mut load = start(&format!("open {} -c 10 -R 100 --arrival constant -d 3s --json -", server.address));
    line_with(&mut lines(load.stderr.take()), "open loop");
    signal(&load, "STOP");
    // As long as it is to stand still: more than the tenth of a second from which on it is noticed.
    sleep(Duration::from_millis(400));
    signal(&load, "CONT");
    let mut stdout = String::new();
    load.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(load.wait().unwrap().code(), Some(4), "{stdout}");
    let results: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(stage(&results, "open")["standstill_s"].as_f64() >= Some(0.1), "{results:#}");
    let reasons = results["verdict"]["reasons"].to_string();
    assert!(reasons.contains("the generator stood still for"), "{reasons}");
}
