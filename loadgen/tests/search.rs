//! A search finds the highest rate that meets its conditions, says when there is none, and is no longer deceived than needed.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use support::{SIZE, Server, echo, echo_with_fault, joined, line_with, lines, loadgen, measure, signal, start};

/// A server that takes one request after the other, of all connections, and a fixed time for each: as many a second as
/// that allows, and no more.
fn one_at_a_time(time: Duration) -> Server {
    let desk = Mutex::new(());
    Server::start(move |_, mut stream: TcpStream| {
        let mut buffer = [0; SIZE];
        while stream.read_exact(&mut buffer).is_ok() {
            let turn = desk.lock().unwrap();
            sleep(time);
            drop(turn);
            if stream.write_all(&buffer).is_err() {
                break;
            }
        }
    })
}

fn rates(results: &Value, is_passed: bool) -> Vec<f64> {
    let trials = results["trials"].as_array().unwrap().iter();
    trials.filter(|trial| trial["is_passed"] == is_passed).map(|trial| trial["rate_per_s"].as_f64().unwrap()).collect()
}

#[test]
fn the_answer_is_the_capacity_of_the_server() {
    // A sleep of 2 ms lasts a little longer: it can answer less than 500 a second.
    let server = one_at_a_time(Duration::from_millis(2));
    let line = format!("search {} -c 20 -s {SIZE} -d 1s --slo p90<100ms,err<0.01% --precision 20", server.address);
    let (code, results) = measure(&line);
    // A busy machine may spoil trials; then the answer is a lower bound and says so.
    assert!(matches!(code, Some(0 | 4)), "{code:?} {results:#}");
    assert_eq!(results["is_generator_limit"], code == Some(4));
    let first_failed = results["first_failed_per_s"].as_f64().unwrap();
    assert!(rates(&results, false).contains(&first_failed));
    if let Some(answer) = results["answer_per_s"].as_f64() {
        assert!((100.0..525.0).contains(&answer) && answer < first_failed, "{answer} {first_failed}");
        assert!(rates(&results, true).contains(&answer));
        assert!(first_failed <= answer * 1.2001, "{answer} {first_failed}");
    }
    if code == Some(0) {
        assert!(results["answer_per_s"].as_f64() >= Some(200.0), "{results:#}");
        let last = results["trials"].as_array().unwrap().iter().rfind(|trial| trial["is_passed"] == true).unwrap();
        assert_eq!((&last["is_confirmation"], &last["rate_per_s"]), (&true.into(), &results["answer_per_s"]));
    }
}

#[test]
fn a_server_that_never_meets_it_is_exit_code_3() {
    let server = one_at_a_time(Duration::from_millis(5));
    let line = format!("search {} -c 4 -s {SIZE} -d 500ms --from 40 --slo p50<4ms", server.address);
    let outcome = loadgen(&format!("{line} -q"));
    assert!(matches!(outcome.code, Some(3 | 4)), "{} {}", outcome.stdout, outcome.stderr);
    if outcome.code == Some(3) {
        assert!(outcome.says("not even 40/s, the lowest rate of this search"), "{}", outcome.stdout);
    }
    let (_, results) = measure(&line);
    assert_eq!(results["answer_per_s"], Value::Null);
    assert!(rates(&results, true).is_empty() && rates(&results, false).iter().all(|rate| *rate == 40.0));
}

#[test]
fn a_server_that_answers_nothing_is_exit_code_3_after_two_trials() {
    // Each trial costs all connections, also the last one.
    let server = Server::start(|_, mut stream: TcpStream| {
        let mut buffer = [0; SIZE];
        while stream.read_exact(&mut buffer).is_ok() {}
    });
    let line = format!("search {} -c 4 -s {SIZE} -d 300ms --timeout 400ms --from 50 --slo p50<50ms", server.address);
    let (code, results) = measure(&line);
    assert!(matches!(code, Some(3 | 4)), "{code:?} {results:#}");
    if code == Some(3) {
        let trials = results["trials"].as_array().unwrap();
        let failed = trials.iter().filter(|trial| trial["result"] == "FAIL");
        assert_eq!((failed.count(), &results["ending"]), (2, &"complete".into()), "{results:#}");
        assert!(trials.iter().all(|trial| trial["why"].to_string().contains("4 failed")), "{results:#}");
    }
}

#[test]
fn wrong_replies_are_exit_code_1_whatever_the_rate() {
    let corrupts = Server::start(|_, stream| {
        echo_with_fault(stream, 5, |_, message| {
            message[20] ^= 0x10;
            true
        });
    });
    let fails = Server::start(|_, mut stream: TcpStream| {
        let (mut request, mut seen) = ([0; 4096], 0);
        while let Ok(1..) = stream.read(&mut request) {
            seen += 1;
            let status = if seen % 5 == 0 { "500 Internal Server Error" } else { "200 OK" };
            if stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).is_err() {
                return;
            }
        }
    });
    for target in [format!("{} -s {SIZE}", corrupts.address), format!("http://{}", fails.address)] {
        let outcome = loadgen(&format!("search {target} -c 4 -d 500ms --from 100 --to 200 --slo p50<1s -q"));
        assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
        let is_said = outcome.says("FAILED: replies were wrong, which is no question of the rate");
        assert!(is_said && !outcome.says("lower rate"), "{}", outcome.stdout);
    }
}

#[test]
fn a_server_that_dies_on_the_way_is_exit_code_1() {
    let mut server = start("serve --listen 127.0.0.1:0 --shards 1");
    let line = line_with(&mut lines(server.stdout.take()), "listening on ");
    let address = line.split(' ').nth(2).unwrap();
    let mut search = start(&format!("search {address} -c 4 -d 500ms --from 100 --slo p50<10s"));
    let mut said = lines(search.stderr.take());
    line_with(&mut said, "pass");
    signal(&server, "KILL");
    server.wait().unwrap();
    let (mut stdout, mut rest) = (String::new(), String::new());
    said.read_to_string(&mut rest).unwrap();
    search.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(search.wait().unwrap().code(), Some(1), "{stdout}{rest}");
    let stdout = joined(&stdout);
    assert!(stdout.contains("could not be opened again") && stdout.contains("unconfirmed: "), "{stdout}");
}

#[test]
fn connections_that_a_trial_has_cost_are_opened_again() {
    // One connection is lost in the first trial, and never again.
    let is_lost = AtomicBool::new(false);
    let server = Server::start(move |_, stream| match is_lost.swap(true, Relaxed) {
        false => echo_with_fault(stream, 3, |_, _| false),
        true => echo(stream),
    });
    let line = format!("search {} -c 4 -s {SIZE} -d 500ms --from 100 --to 200 --slo p50<10s", server.address);
    let (code, results) = measure(&line);
    assert_eq!((code, &results["answer_per_s"]), (Some(0), &200.0.into()), "{results:#}");
    let first = &results["trials"][0];
    assert_eq!((&first["rate_per_s"], &first["is_passed"]), (&100.0.into(), &false.into()), "it lost one");
    let connects = results["stages"].as_array().unwrap().iter().filter(|stage| stage["stage"] == "connect");
    assert_eq!(connects.map(|stage| stage["connections_established"].as_u64()).collect::<Vec<_>>(), [Some(4); 2]);
}

#[test]
fn an_interrupted_search_tells_what_it_knows() {
    let server = Server::good();
    let mut search = start(&format!("search {} -c 2 -d 300ms --from 100 --slo p50<10s", server.address));
    let mut said = lines(search.stderr.take());
    line_with(&mut said, "200/s");
    signal(&search, "INT");
    let mut stdout = String::new();
    search.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(search.wait().unwrap().code(), Some(1), "{stdout}");
    let stdout = joined(&stdout);
    assert!(stdout.contains("INTERRUPTED") && stdout.contains("unconfirmed: "), "{stdout}");
}

#[test]
fn an_interrupted_search_shows_the_trial_that_was_broken_off_and_writes_all_files() {
    let folder = std::env::temp_dir().join(format!("loadgen-broken-off-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name);
    let files: Vec<String> =
        ["json", "csv", "hgrm", "hlog", "html"].map(|format| format!("--{format} {}", file(format).display())).to_vec();
    let server = Server::good();
    // A trial that would last for a minute.
    let search = format!("search {} -c 2 -d 60s --from 100 --slo p50<10s {}", server.address, files.join(" "));
    let mut search = start(&search);
    let mut said = lines(search.stderr.take());
    line_with(&mut said, "open loop at 100/s");
    signal(&search, "INT");
    let (mut stdout, mut rest) = (String::new(), String::new());
    said.read_to_string(&mut rest).unwrap();
    search.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(search.wait().unwrap().code(), Some(1), "{stdout}{rest}");
    assert!(
        stdout.contains("unknown: no trial was run to its end") && stdout.contains("  broken off after "),
        "{stdout}"
    );
    let read = |name: &str| fs::read_to_string(file(name)).unwrap();
    let results: Value = serde_json::from_str(&read("json")).unwrap();
    let trial = &results["trials"][0];
    assert_eq!((&trial["is_broken_off"], &trial["is_passed"]), (&true.into(), &false.into()), "{results:#}");
    assert!(trial["results"]["requests_answered"].as_u64() > Some(0), "{trial:#}");
    assert_eq!((&results["is_confirmed"], &results["verdict"]["verdict"]), (&false.into(), &"none".into()));
    assert!(read("csv").lines().nth(1).is_some_and(|row| row.contains(",broken off,")), "{}", read("csv"));
    assert!(read("html").contains("INTERRUPTED") && read("hlog").contains("Tag=open-100,"));
    assert!(read("hgrm").contains("Total count"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_stall_in_one_trial_does_not_bound_the_answer() {
    // The 120th request, which is one of the second trial, and all others meanwhile wait for longer than that lasts.
    let (seen, desk) = (AtomicU64::new(0), Mutex::new(()));
    let server = Server::start(move |_, mut stream: TcpStream| {
        let mut buffer = [0; SIZE];
        while stream.read_exact(&mut buffer).is_ok() {
            let turn = desk.lock().unwrap();
            if seen.fetch_add(1, Relaxed) == 120 {
                sleep(Duration::from_millis(1200));
            }
            drop(turn);
            if stream.write_all(&buffer).is_err() {
                break;
            }
        }
    });
    let line = format!(
        "search {} -c 8 -s {SIZE} -d 1s --arrival constant --from 100 --to 400 --slo p50<400ms",
        server.address
    );
    let (code, results) = measure(&line);
    assert!(matches!(code, Some(0 | 4)), "{code:?} {results:#}");
    let trials = results["trials"].as_array().unwrap();
    assert!(trials.iter().any(|trial| trial["why"][0].is_string()), "one stalled, and says why: {results:#}");
    if code == Some(0) {
        assert_eq!((&results["answer_per_s"], &results["is_confirmed"]), (&400.0.into(), &true.into()), "{results:#}");
    }
}

#[test]
fn results_of_a_search_cannot_be_added() {
    let path = std::env::temp_dir().join(format!("loadgen-search-sum-{}.json", std::process::id()));
    let (server, name) = (Server::good(), path.display());
    loadgen(&format!("search {} -c 2 -d 300ms --from 100 --to 100 --slo p50<10s -q --json {name}", server.address));
    let outcome = loadgen(&format!("merge {name} {name}"));
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("searches can be neither added up nor compared"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("loadgen open -R RATE --shard i/n"), "{}", outcome.stderr);
    fs::remove_file(path).unwrap();
}

#[test]
fn every_format_has_the_search_in_it() {
    let folder = std::env::temp_dir().join(format!("loadgen-search-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name);
    let files: Vec<String> =
        ["json", "csv", "hgrm", "hlog", "html"].map(|format| format!("--{format} {}", file(format).display())).to_vec();
    let server = Server::good();
    let search = format!("search {} -c 4 -d 300ms --warmup 50ms --from 100 --to 400 --slo p50<10s", server.address);
    let outcome = loadgen(&format!("{search} {}", files.join(" ")));
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    assert!(outcome.says("400/s meets p50 < 10.0 s; that is the highest rate of this search"));
    let read = |name: &str| fs::read_to_string(file(name)).unwrap();
    let results: Value = serde_json::from_str(&read("json")).unwrap();
    // Four, and those that a busy machine spoils.
    let trials = results["trials"].as_array().unwrap();
    assert!(trials.len() >= 4, "{results:#}");
    assert_eq!(outcome.stderr.matches("/s  p50 ").count(), trials.len(), "a line for each: {}", outcome.stderr);
    assert_eq!((&results["answer_per_s"], &results["first_failed_per_s"]), (&400.0.into(), &Value::Null));
    assert!(results["trials"][0]["results"]["latency"]["histogram"].is_string());
    let csv = read("csv");
    let rates = csv.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse::<f64>().unwrap());
    assert!(rates.eq(trials.iter().map(|trial| trial["rate_per_s"].as_f64().unwrap())), "{csv}");
    assert!(["Tag=open-100,", "Tag=open-400,"].iter().all(|tag| read("hlog").contains(tag)));
    let answered = &trials.last().unwrap()["results"]["requests_answered"].as_u64().unwrap();
    assert!(read("hgrm").contains(&format!("Total count    = {answered:>12}]")), "of the last trial");
    assert!(read("html").contains("Latency over rate"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_search_without_conditions_or_with_a_rate_is_wrong_usage() {
    for (rest, wanted) in [("", "--slo"), ("--slo rate>5k", "looks for the rate"), ("--slo p50<1s --runs 2", "--runs")]
    {
        let outcome = loadgen(&format!("search 127.0.0.1:1 {rest}"));
        assert_eq!(outcome.code, Some(2), "{rest}");
        assert!(outcome.stderr.contains(wanted), "{rest}: {}", outcome.stderr);
    }
    let nobody = loadgen("search 127.0.0.1:1 -q --slo p50<1s");
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stdout.contains("nothing listens there"), "{}", nobody.stdout);
}
