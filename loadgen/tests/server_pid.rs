//! What the server's process used stands beside the results, and its end, or its absence, is told.

mod support;

use std::io::{BufRead, Read};

use support::{failures_total, is_conserved, line_with, lines, loadgen, measure, signal, stage, start};

#[test]
fn a_server_is_seen_from_outside() {
    let mut server = start("serve --listen 127.0.0.1:0 --shards 1");
    let line = line_with(&mut lines(server.stdout.take()), "listening on ");
    let address = line.split(' ').nth(2).unwrap();
    let load = format!("rr {address} -c 100 -d 2s --server-pid {}", server.id());
    let (code, results) = measure(&load);
    let text = loadgen(&format!("{load} --quiet")).stdout;
    signal(&server, "INT");
    server.wait().unwrap();
    // On two cores both sides are in each other's way, which the verdict may say.
    assert!(matches!(code, Some(0 | 4)), "{results:#}");
    let used = &stage(&results, "closed")["server_processes"];
    assert!(used["cpu_s"].as_f64() > Some(0.0) && used["cpu_s"].as_f64() < Some(60.0), "{used}");
    assert!(used["descriptors_max"].as_u64() >= Some(100), "a descriptor for each connection: {used}");
    assert!(used["resident_bytes_max"].as_u64() > Some(100_000) && used["threads_max"].as_u64() >= Some(2), "{used}");
    assert_eq!(used["gone_pids"], serde_json::json!([]));
    let seconds = results["server_seconds"].as_array().unwrap();
    assert!(!seconds.is_empty() && seconds.iter().all(|look| look["resident_bytes"].as_u64() > Some(0)), "{seconds:?}");
    let generator_s = |look: &serde_json::Value| look["generator_cpu_total_s"].as_f64().unwrap();
    assert!(generator_s(seconds.last().unwrap()) > generator_s(&seconds[0]), "it worked, too: {seconds:?}");
    assert!(text.contains("resident at most") && text.contains("descriptors"), "{text}");
}

#[test]
fn a_server_that_is_killed_in_the_middle_is_told_and_the_sum_still_holds() {
    let mut server = start("serve --listen 127.0.0.1:0 --shards 1");
    let line = line_with(&mut lines(server.stdout.take()), "listening on ");
    let address = line.split(' ').nth(2).unwrap();
    let mut load = start(&format!("open {address} -c 20 -R 500 -d 1h --json - --server-pid {}", server.id()));
    line_with(&mut lines(load.stderr.take()), "open loop");
    signal(&server, "KILL");
    server.wait().unwrap();
    let mut stdout = String::new();
    load.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(load.wait().unwrap().code(), Some(1), "{stdout}");
    let results: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let open = stage(&results, "open");
    assert_eq!(results["ending"], "all connections lost");
    assert_eq!(failures_total(open, "request_failures") + failures_total(open, "losses"), 20, "{open:#}");
    assert_eq!(open["server_processes"]["gone_pids"], serde_json::json!([server.id()]));
    let (gone_s, begun_s) =
        (&open["server_processes"]["gone_at_s"][0], stage(&results, "connect")["elapsed_s"].as_f64());
    assert!(gone_s.as_f64() > begun_s, "{gone_s}, not before all were connected, after {begun_s:?} s");
    assert!(is_conserved(&results), "{results:#}");
}

#[test]
fn threads_with_descriptor_tables_of_their_own_are_not_passed_over_in_silence() {
    let is_new = std::fs::metadata("/proc/self/fd").unwrap().len() > 0;
    if !is_new {
        return support::skip("this kernel does not tell how large a descriptor table is");
    }
    let mut server = start("serve --listen 127.0.0.1:0 --connections-max 50k");
    let (mut pipe, mut first) = (lines(server.stdout.take()), String::new());
    pipe.read_line(&mut first).unwrap();
    let has_tables = first.contains(" tables × ");
    let line = if has_tables { line_with(&mut pipe, "listening on ") } else { first };
    let address = line.split(' ').nth(2).unwrap();
    let load = format!("hold {address} -c 100 -d 200ms --quiet --server-pid {}", server.id());
    let text = loadgen(&load).stdout.replace("\n              ", " ");
    signal(&server, "INT");
    server.wait().unwrap();
    assert_eq!(has_tables, text.contains("in the first of several tables: the others are not counted"), "{text}");
}

#[test]
fn a_process_that_does_not_exist_is_named() {
    let outcome = loadgen("hold -c 1 -d 1ms --server-pid 4294967295");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("--server-pid 4294967295: there is no such process"), "{}", outcome.stderr);
}

#[test]
fn the_doctor_counts_in_what_the_server_has_open_already() {
    // This test stands in for a server that has files open.
    let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let line = format!("doctor 127.0.0.1:9 -c 10 --server-pid {} --json -", std::process::id());
    let findings = loadgen(&line).json();
    let sums = findings["findings"].as_array().unwrap().iter().filter_map(|it| it["sum"].as_str());
    let limits = sums.clone().find(|sum| sum.contains("may open")).unwrap_or_else(|| panic!("{findings:#}"));
    let numbers: Vec<u64> = limits.split([' ', ':']).filter_map(|word| word.replace(',', "").parse().ok()).collect();
    let &[_, most, open, left] = numbers.as_slice() else { panic!("{limits}") };
    assert!(open >= files.len() as u64 && left == most - open, "{limits}");
}
