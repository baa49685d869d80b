//! A server that stands still shows in the latency of every request that was due meanwhile; a generator that does, says so.

mod support;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use support::{Server, is_conserved, line_with, lines, signal, skip, stage, start};

/// How long another thread that only sleeps is kept waiting at the most: what a busy machine does to everybody.
fn watch_machine() -> (Arc<AtomicBool>, JoinHandle<Duration>) {
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let watcher = spawn(move || {
        let (mut longest, wanted) = (Duration::ZERO, Duration::from_millis(2));
        while !over.load(Relaxed) {
            let begun_at = Instant::now();
            sleep(wanted);
            longest = longest.max(begun_at.elapsed() - wanted);
        }
        longest
    });
    (is_over, watcher)
}

/// Stops a server for `stop` in an open loop of `duration_s` at 2,000/s, and expects what arithmetic says: of the requests
/// that fell due meanwhile, 2,000 a second, as many waited longer than x as fell due until x before its end. So the latency
/// that n requests exceed is the length of the stop less n/2,000 s.
fn latencies_are_those_of_arithmetic(stop: Duration, duration_s: f64) {
    let mut server = start("serve --listen 127.0.0.1:0 --shards 1");
    let line = line_with(&mut lines(server.stdout.take()), "listening on ");
    let address = line.split(' ').nth(2).unwrap();
    let load = format!("open {address} -c 200 -R 2k --arrival constant -d {duration_s}s --timeout 30s --json -");
    let mut load = start(&load);
    line_with(&mut lines(load.stderr.take()), "open loop");
    let (is_over, watcher) = watch_machine();
    // It stands still at least from after the one signal to before the other, and at most from before to after.
    let before_at = Instant::now();
    signal(&server, "STOP");
    let stopped_at = Instant::now();
    sleep(stop);
    let least_s = stopped_at.elapsed().as_secs_f64();
    signal(&server, "CONT");
    let most_s = before_at.elapsed().as_secs_f64();
    let mut stdout = String::new();
    load.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    is_over.store(true, Relaxed);
    let machine_s = watcher.join().unwrap().as_secs_f64();
    signal(&server, "INT");
    server.wait().unwrap();
    // Nothing failed; but a stop in one of its thirds is not steady.
    assert!(matches!(load.wait().unwrap().code(), Some(0 | 4)), "{stdout}");

    let results = serde_json::from_str(&stdout).unwrap();
    let open = stage(&results, "open");
    let due = 2_000.0 * duration_s;
    assert_eq!((&open["requests_due"], &open["requests_answered"]), (&(due as u64).into(), &(due as u64).into()));
    assert!(is_conserved(&results));
    // The progress speaks after a second or so.
    if most_s + 1.2 > duration_s {
        return skip("the machine is so busy that the stop went on until the window's end");
    }
    let standstill_s = open["standstill_s"].as_f64().unwrap();
    // Each connection has caught up when it has had, one after the other, its share of the requests that fell due meanwhile.
    let catching_up_s = 2_000.0 * most_s / 200.0 * open["service"]["p90_ns"].as_f64().unwrap() / 1e9;
    for (field, share) in [("p50_ns", 0.5), ("p90_ns", 0.1), ("p99_ns", 0.01), ("p99_9_ns", 0.001), ("max_ns", 0.0)] {
        let before_end_s = due * share / 2_000.0;
        let seen_s = open["latency"][field].as_f64().expect("there are samples enough") / 1e9;
        // Due in the stop and not answered before its end: nothing can make it shorter. One request and the histogram's
        // three digits are allowed.
        let lower_s = (least_s - before_end_s - 0.001) * 0.998;
        assert!(seen_s >= lower_s, "{field}: {seen_s} s, stopped for {least_s} to {most_s} s: {open:#}");
        // What makes it longer is that all of it has to be caught up with, and whatever else the machine does.
        let upper_s = (most_s - before_end_s).max(0.0) + 0.1 + catching_up_s + standstill_s + 4.0 * machine_s;
        assert!(seen_s <= upper_s, "{field}: {seen_s} s, not {upper_s} s, machine {machine_s} s: {open:#}");
    }
}

#[test]
fn a_second_of_ten_is_a_tenth_of_the_requests() {
    latencies_are_those_of_arithmetic(Duration::from_secs(1), 10.0);
}

#[test]
fn three_seconds_of_five_and_a_half_show_in_the_median_too() {
    latencies_are_those_of_arithmetic(Duration::from_secs(3), 5.5);
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

#[test]
fn a_generator_that_stood_still_shows_in_the_heartbeats_that_were_due_meanwhile() {
    let server = Server::good();
    let mut load = start(&format!("hold {} -c 100 -d 3s --heartbeat 1s --json -", server.address));
    line_with(&mut lines(load.stderr.take()), "holding");
    signal(&load, "STOP");
    // As long as it is to stand still: forty heartbeats are due meanwhile.
    sleep(Duration::from_millis(400));
    signal(&load, "CONT");
    let mut stdout = String::new();
    load.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(load.wait().unwrap().code(), Some(4), "{stdout}");
    let results: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let hold = stage(&results, "hold");
    // The progress may speak of a hold that is about to end: then less of the stop lies in it.
    let standstill_ns = (hold["standstill_s"].as_f64().unwrap() * 1e9) as u64;
    assert!(standstill_ns >= 100_000_000, "{hold:#}");
    for field in ["latency", "send_lag"] {
        assert!(hold[field]["max_ns"].as_u64() >= Some(standstill_ns / 2), "{field}: {hold:#}");
    }
    assert_eq!(hold["service"]["samples"], hold["latency"]["samples"]);
    assert!(results["verdict"]["reasons"].to_string().contains("stood still for"), "{}", results["verdict"]);
}
