//! Held connections are verified before and after, and those that are lost meanwhile are counted.

mod support;

use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex};

use support::{SIZE, Server, echo, echo_with_fault, failures, failures_total, is_conserved, loadgen, measure, stage};

#[test]
fn a_good_server_keeps_them_all() {
    let server = Server::good();
    let (code, results) = measure(&format!("hold {} -c 300 -d 200ms", server.address));
    assert_eq!(code, Some(0), "{results:#}");
    let stages = results["stages"].as_array().unwrap();
    let names: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    assert_eq!(names, ["connect", "verify", "hold", "verify"]);
    for verify in [&stages[1], &stages[3]] {
        assert_eq!((&verify["requests_due"], &verify["requests_answered"]), (&300.into(), &300.into()));
        assert!(verify["window_s"].as_f64() > Some(0.0), "{verify:#}");
    }
    assert_eq!(stages[2]["bytes_sent"], 0);
}

#[test]
fn connections_lost_in_silence_are_counted() {
    let verified = Arc::new((Mutex::new(0), Condvar::new()));
    let server = Server::start(move |number, mut stream| {
        let mut message = [0; SIZE];
        stream.read_exact(&mut message).unwrap();
        stream.write_all(&message).unwrap();
        let (count, changed) = &*verified;
        *count.lock().unwrap() += 1;
        changed.notify_all();
        if number < 4 {
            // Closes when every connection was verified: all clients are silent then.
            drop(changed.wait_while(count.lock().unwrap(), |count| *count < 10).unwrap());
        } else {
            echo(stream);
        }
    });
    let (code, results) = measure(&format!("hold {} -c 10 -d 2s", server.address));
    assert_eq!(code, Some(1));
    let stages = results["stages"].as_array().unwrap();
    // The first may be noticed while the last is still being verified.
    let lost: u64 = stages.iter().map(|stage| failures(stage, "losses", "closed by the server")).sum();
    assert_eq!(lost, 4, "{results:#}");
    let second = stages.last().unwrap();
    assert_eq!((&second["requests_due"], &second["requests_answered"]), (&6.into(), &6.into()), "the others go on");
}

#[test]
fn the_report_speaks_of_connections() {
    let server = Server::good();
    let outcome = loadgen(&format!("hold {} -c 20 -d 100ms --quiet", server.address));
    assert!(outcome.stdout.starts_with("Held connections · "), "{}", outcome.stdout);
    assert_eq!(outcome.stdout.matches("20 of 20 echoed every byte").count(), 2, "{}", outcome.stdout);
}

#[test]
fn without_a_target_the_server_is_inside() {
    let (code, results) = measure("hold -c 200 -d 50ms");
    assert_eq!(code, Some(0), "{results:#}");
    assert_eq!((&results["plan"]["server_inside"], &results["server"]["agrees"]), (&true.into(), &true.into()));
    assert_eq!(results["plan"]["own_descriptor_tables"], false, "they fit into one");
    let accepted: u64 =
        results["server"]["accepted"].as_array().unwrap().iter().map(|shard| shard.as_u64().unwrap()).sum();
    assert_eq!(accepted, 200);
}

#[test]
fn connections_are_told_second_by_second() {
    let server = Server::good();
    let (_, results) = measure(&format!("hold {} -c 30 -d 50ms --connect-rate 20", server.address));
    let seconds = results["connections"].as_array().unwrap();
    let sum = |field: &str| -> u64 { seconds.iter().map(|second| second[field].as_u64().unwrap()).sum() };
    assert_eq!((sum("attempted"), sum("established")), (30, 30), "{results:#}");
    assert!(seconds.len() >= 2, "the last is due after a second and a half: {seconds:?}");
    assert_eq!(seconds.last().unwrap()["open"], 30);
}

#[test]
fn heartbeats_are_verified_and_each_connection_has_as_many() {
    let server = Server::good();
    let (code, results) = measure(&format!("hold {} -c 20 -d 600ms --heartbeat 200ms", server.address));
    let hold = stage(&results, "hold");
    assert_eq!(code, Some(0), "{hold:#}");
    assert_eq!((&hold["requests_due"], &hold["heartbeat_s"]), (&hold["requests_answered"], &0.2.into()), "{hold:#}");
    assert_eq!(hold["latency"]["samples"], hold["requests_answered"]);
    assert!(is_conserved(&results));
    assert_eq!(hold["requests_due"], 60, "{hold:#}");
}

#[test]
fn a_heartbeat_that_falls_due_behind_a_late_one_waits_for_it_and_shows_it() {
    // The first connection's first heartbeat is answered when the other one has had four.
    let had = Arc::new((Mutex::new(0), Condvar::new()));
    let server = Server::start(move |number, mut stream| {
        let (beats, changed) = &*had;
        let mut message = [0; SIZE];
        for count in 0.. {
            if stream.read_exact(&mut message).is_err() {
                return;
            }
            if number == 0 && count == 1 {
                drop(changed.wait_while(beats.lock().unwrap(), |beats| *beats < 4).unwrap());
            }
            if number == 1 && count > 0 {
                *beats.lock().unwrap() += 1;
                changed.notify_all();
            }
            stream.write_all(&message).unwrap();
        }
    });
    // One worker, so that each has its heartbeat in its own half of the interval.
    let line = format!("hold {} -c 2 -d 1s --heartbeat 100ms --threads 1", server.address);
    let (code, results) = measure(&line);
    let hold = stage(&results, "hold");
    assert_eq!(
        (code, &hold["requests_due"], &hold["heartbeats_skipped"]),
        (Some(0), &20.into(), &0.into()),
        "{hold:#}"
    );
    // The fourth of the other one is due 250 or 350 ms after that; the next of this one has then waited for 100 ms less.
    let longest_ns = |times: &str| hold[times]["max_ns"].as_u64().unwrap();
    assert!(longest_ns("latency") >= 249_000_000 && longest_ns("send_lag") >= 149_000_000, "{hold:#}");
    assert!(is_conserved(&results));
}

#[test]
fn the_percentiles_file_of_a_hold_has_all_its_echoes() {
    let server = Server::good();
    let path = std::env::temp_dir().join(format!("loadgen-hold-{}.hgrm", std::process::id()));
    let (_, results) =
        measure(&format!("hold {} -c 20 -d 300ms --heartbeat 200ms --hgrm {}", server.address, path.display()));
    let hgrm = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let echoes = 40 + stage(&results, "hold")["requests_answered"].as_u64().unwrap();
    assert!(echoes > 40 && hgrm.contains(&format!("Total count    = {echoes:>12}]")), "{echoes}: {hgrm}");
}

#[test]
fn a_heartbeat_finds_the_connection_that_does_not_answer() {
    // The first message verifies all; the second, a heartbeat, is never answered by one of them.
    let server = Server::start(|number, stream| {
        echo_with_fault(stream, if number == 3 { 1 } else { usize::MAX }, |_, message| {
            message.clear();
            true
        });
    });
    let line = format!("hold {} -c 5 -d 300ms --heartbeat 200ms --timeout 3s", server.address);
    let (code, results) = measure(&line);
    let hold = stage(&results, "hold");
    assert_eq!((code, failures(hold, "request_failures", "timed out")), (Some(1), 1), "{hold:#}");
    assert_eq!(failures_total(hold, "request_failures") + failures_total(hold, "losses"), 1, "{hold:#}");
    assert_eq!(stage_after_hold(&results)["requests_answered"], 4);
    assert!(is_conserved(&results));
}

/// The second verification.
fn stage_after_hold(results: &serde_json::Value) -> &serde_json::Value {
    results["stages"].as_array().unwrap().last().unwrap()
}

#[test]
fn the_end_of_a_hold_has_a_verdict_and_its_table_the_connections() {
    let server = Server::good();
    let path = std::env::temp_dir().join(format!("loadgen-hold-{}.csv", std::process::id()));
    let outcome = loadgen(&format!("hold {} -c 20 -d 2s --quiet --csv {}", server.address, path.display()));
    let verdict = outcome.stdout.lines().find(|line| line.starts_with("Verdict")).unwrap_or("none");
    assert!(["VALID", "SUSPECT"].iter().any(|word| verdict.contains(word)), "{}", outcome.stdout);
    assert!(outcome.says("of 2.00 s, 20 connections"), "{}", outcome.stdout);
    let table = std::fs::read_to_string(&path).unwrap();
    let columns = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    let (names, row) = (columns(table.lines().next().unwrap()), columns(table.lines().last().unwrap()));
    assert_eq!((names.last().unwrap().as_str(), row[0].as_str()), ("open", "connections"), "{table}");
    assert_eq!((row.len(), row.last().unwrap().as_str()), (names.len(), "20"), "{table}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_server_that_takes_no_more_ends_the_opening() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    listener.listen(4).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let (code, results) = measure(&format!("hold {address} -c 2000 -d 1s --threads 1 --timeout 400ms"));
    assert_eq!(code, Some(1), "{results:#}");
    let connect = stage(&results, "connect");
    let [attempted, established] =
        ["connections_attempted", "connections_established"].map(|name| connect[name].as_u64().unwrap());
    let failed = failures_total(connect, "connect_failures");
    assert!(attempted < 300 && (1..=8).contains(&established), "{connect:#}");
    assert_eq!(attempted, established + failed, "{connect:#}");
}
