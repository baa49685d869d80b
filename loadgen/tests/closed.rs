//! A closed loop against a good server invents no fault, of any message size, and every request is accounted for.

mod support;

use support::{Server, failures_total, is_conserved, loadgen, measure, skip, stage, start};

#[test]
fn every_size_comes_back_whole() {
    let server = Server::good();
    for size in ["1", "7", "64", "4KiB", "65536", "65537", "3MiB"] {
        let (code, results) = measure(&format!("rr {} -c 5 -d 200ms -s {size}", server.address));
        assert_eq!(
            (code, &results["is_ok"], &results["ending"]),
            (Some(0), &true.into(), &"complete".into()),
            "{size}"
        );
        let closed = stage(&results, "closed");
        // On a busy machine not every connection has its turn within the window.
        assert!(closed["requests_answered"].as_u64() >= Some(1), "{closed:#}");
        assert_eq!(closed["requests_due"], closed["requests_answered"], "{size}");
        assert_eq!(closed["bytes_sent"], closed["bytes_received"], "{size}");
        assert_eq!(closed["latency"]["samples"], closed["requests_answered"], "{size}");
        assert!(is_conserved(&results), "{results:#}");
    }
}

#[test]
fn several_workers_share_the_connections() {
    let server = Server::good();
    let (code, results) = measure(&format!("rr tcp://{} -c 50 -d 200ms --threads 3 --cores all", server.address));
    assert_eq!(code, Some(0), "{results:#}");
    assert_eq!(results["plan"]["threads"], 3);
    let connect = stage(&results, "connect");
    assert_eq!((&connect["connections_attempted"], &connect["connections_established"]), (&50.into(), &50.into()));
    assert_eq!(failures_total(connect, "connect_failures"), 0);
    assert_eq!(connect["latency"]["samples"], 50);
}

#[test]
fn names_and_ipv6_are_targets_too() {
    let server = Server::good();
    let (code, results) = measure(&format!("rr localhost:{} -c 2 -d 100ms", server.address.port()));
    assert_eq!(code, Some(0), "{results:#}");
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        skip("IPv6 as a target: this machine has no [::1]");
        return;
    }
    let server = Server::start_at("[::1]:0", |_, stream| support::echo(stream));
    let (code, results) = measure(&format!("rr {} -c 20 -d 100ms", server.address));
    assert_eq!(code, Some(0), "{results:#}");
}

#[test]
fn the_text_is_for_people() {
    let server = Server::good();
    let outcome = loadgen(&format!("rr {} -c 3 -d 200ms", server.address));
    assert_eq!(outcome.code, Some(0));
    assert!(outcome.stdout.starts_with("Closed loop · 127.0.0.1:"), "{}", outcome.stdout);
    for wanted in ["3 of 3 opened", "answers/s", "p99.9", "Errors        none", "Result        OK"] {
        assert!(outcome.says(wanted), "no '{wanted}' in\n{}", outcome.stdout);
    }
}

#[test]
fn a_json_file_comes_beside_the_text() {
    let server = Server::good();
    let path = std::env::temp_dir().join(format!("loadgen-test-{}.json", std::process::id()));
    let outcome = loadgen(&format!("rr {} -c 2 -d 100ms --quiet --json {}", server.address, path.display()));
    let written = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "--quiet is quiet");
    assert!(outcome.stdout.starts_with("Closed loop"));
    let results: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(results["format"], 1);
}

#[test]
fn progress_that_nobody_reads_does_not_end_the_run() {
    let server = Server::good();
    let mut child = start(&format!("rr {} -c 2 -d 1500ms", server.address));
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
