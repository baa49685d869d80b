//! Where one descriptor table is too small, every worker and every shard has its own, and the sum is said.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::{Outcome, line_with, lines, signal};

/// A limit at which a table has room for 36 connections: 100 less the 64 that are kept back.
const LIMIT: u32 = 100;

/// The program with the arguments of `line`, in a shell that lowers the limit first, soft and hard.
fn limited(line: &str) -> Command {
    limited_to(LIMIT, line)
}

fn limited_to(limit: u32, line: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {limit} && exec {} {line}", env!("CARGO_BIN_EXE_loadgen"));
    command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(line: &str) -> Outcome {
    run_with(LIMIT, line)
}

fn run_with(limit: u32, line: &str) -> Outcome {
    let output = limited_to(limit, line).output().expect("there is a shell");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn start(line: &str) -> Child {
    limited(line).spawn().expect("there is a shell")
}

fn answered(results: &Value) -> Vec<u64> {
    let stages = results["stages"].as_array().unwrap().iter();
    stages.map(|stage| stage["requests_answered"].as_u64().unwrap()).collect()
}

#[test]
fn a_hundred_connections_take_three_tables_and_as_many_shards_as_a_hash_asks_for() {
    let mut server = start("serve --listen 127.0.0.1:0 --connections-max 100");
    let mut stdout = lines(server.stdout.take());
    let sum = line_with(&mut stdout, "7 tables × (36 − 20 because");
    assert!(sum.contains("= 112 for 100"), "{sum}");
    let line = line_with(&mut stdout, "listening on ");
    let address = line.split(' ').nth(2).unwrap();

    let outcome = run(&format!("hold {address} -c 100 -d 50ms --quiet --json -"));
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
    let results = outcome.json();
    assert_eq!((&results["plan"]["threads"], &results["plan"]["own_descriptor_tables"]), (&3.into(), &true.into()));
    assert_eq!(results["plan"]["connections_max"], 108);
    assert_eq!(answered(&results), [0, 100, 0, 100]);

    signal(&server, "USR1");
    line_with(&mut stdout, "resident");
    signal(&server, "INT");
    let last = line_with(&mut stdout, "stopped: 100 connections accepted");
    assert!(last.contains("bytes each"), "{last}");
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

#[test]
fn both_sides_in_one_process_have_their_tables() {
    let outcome = run("hold -c 90 -d 50ms --quiet --json -");
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
    let results = outcome.json();
    assert_eq!((&results["plan"]["own_descriptor_tables"], &results["server"]["agrees"]), (&true.into(), &true.into()));
    assert_eq!(answered(&results), [0, 90, 0, 90]);
}

#[test]
fn threads_that_are_too_few_are_refused_and_shards_that_are_too_few_are_named() {
    let outcome = run("hold 127.0.0.1:9 -c 100 --threads 2");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
    for wanted in ["2 tables × 36 = 72 for 100", "72 would fit", "--threads 3", "-c 72"] {
        assert!(outcome.stderr.contains(wanted), "no '{wanted}' in {}", outcome.stderr);
    }
    let mut server = start("serve --listen 127.0.0.1:0 --shards 2 --connections-max 100");
    let mut stdout = lines(server.stdout.take());
    let sum = line_with(&mut stdout, "2 tables × (36");
    assert!(sum.contains("only about 32 fit; it takes 7 shards"), "{sum}");
    line_with(&mut stdout, "with 2 shards");
    signal(&server, "INT");
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

/// The number that stands behind `words` in `text`.
fn number_behind(words: &str, text: &str) -> u32 {
    let rest = text.split(words).nth(1).unwrap_or_else(|| panic!("no '{words}' in {text}"));
    rest.chars().filter(|it| *it != ',').map_while(|it| it.to_digit(10)).fold(0, |number, digit| number * 10 + digit)
}

#[test]
fn where_shards_leave_each_other_no_room_the_best_number_is_said_and_what_is_said_holds() {
    let refused = run("hold -c 5k -d 50ms");
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    let (fits, limit) = (number_behind("or `-c ", &refused.stderr), number_behind("--nofile=", &refused.stderr));
    assert!(fits > 500, "{}", refused.stderr);
    let held = run(&format!("hold -c {fits} -d 50ms --quiet --json -"));
    assert_eq!(held.code, Some(0), "{}\n{}", held.stdout, held.stderr);
    assert_eq!(answered(&held.json()), [0, fits.into(), 0, fits.into()]);
    for (limit, code) in [(limit, 0), (limit - 1, 1)] {
        let outcome = run_with(limit, "doctor -c 5k");
        assert_eq!(outcome.code, Some(code), "{limit}: {}", outcome.stdout);
    }

    let outside = run("doctor 127.0.0.1:9 -c 5k");
    assert_eq!(outside.code, Some(0), "{}", outside.stderr);
    let last = outside.stdout.lines().last().unwrap();
    assert_eq!(number_behind("Perhaps it fits; up to ", last), fits, "{}", outside.stdout);
    let outside = run_with(number_behind("--nofile=", &outside.stdout), "doctor 127.0.0.1:9 -c 5k");
    assert!(outside.stdout.contains("On this side it fits; up to"), "{}", outside.stdout);
}

#[test]
fn a_server_for_which_no_number_of_shards_is_enough_starts_with_the_best() {
    let sum_of = |limit: u32| {
        let mut server = limited_to(limit, "serve --listen 127.0.0.1:0 --connections-max 5k").spawn().unwrap();
        let mut stdout = lines(server.stdout.take());
        let sum = line_with(&mut stdout, " tables × ");
        line_with(&mut stdout, "listening on ");
        signal(&server, "INT");
        assert_eq!(server.wait().unwrap().code(), Some(0));
        sum
    };
    let sum = sum_of(LIMIT);
    assert!(number_behind("only about ", &sum) > 500, "{sum}");
    let sum = sum_of(number_behind("--nofile=", &sum));
    assert!(!sum.contains("only about"), "{sum}");
}

#[test]
fn the_doctor_says_what_fits_and_what_helps() {
    let outcome = run("doctor 127.0.0.1:9 -c 100");
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    for wanted in [
        "3 tables × 36 = 108 for 100",
        "loadgen serve --listen 127.0.0.1:9 --connections-max 100",
        "On this side it fits",
    ] {
        assert!(outcome.says(wanted), "no '{wanted}' in {}", outcome.stdout);
    }
    let outcome = run("doctor [::1]:9 -c 1M --source ::1");
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.says("SHORT") && outcome.says("for more: "), "{}", outcome.stdout);
}

#[test]
fn a_server_that_was_out_of_descriptors_says_so_at_its_end() {
    full_server("--shards 1");
}

#[test]
fn a_server_for_fewer_than_came_does_not_ask_for_the_option_that_it_was_given() {
    full_server("--shards 1 --connections-max 10");
}

/// A server with these arguments to which as many come as it has descriptors, and what it says then.
fn full_server(arguments: &str) {
    let mut server = start(&format!("serve --listen 127.0.0.1:0 {arguments}"));
    let mut stdout = lines(server.stdout.take());
    let address = line_with(&mut stdout, "listening on ").split(' ').nth(2).unwrap().to_owned();
    // The kernel takes them whether or not the server does. It has fewer descriptors, so it echoes on some of them only:
    // one that it echoes on was accepted after it was full.
    let mut clients: Vec<TcpStream> = (0..LIMIT).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let mut last = clients.pop().unwrap();
    last.write_all(b"?").unwrap();
    // Only when its table is full, and it has had time to try once more, may they go.
    let table = format!("/proc/{}/fd", server.id());
    let mut full = 0;
    for _ in 0..3_000 {
        full += usize::from(std::fs::read_dir(&table).unwrap().count() >= LIMIT as usize);
        if full == 20 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(full, 20, "its table became full");
    drop(clients);
    last.read_exact(&mut [0]).unwrap();
    signal(&server, "INT");
    let line = line_with(&mut stdout, "short: ");
    assert!(line.contains("accepting paused") && line.contains("out of descriptors"), "{line}");
    assert_eq!(line.contains("try --connections-max,"), !arguments.contains("--connections-max"), "{line}");
    assert_eq!(line.contains("more came than --connections-max 10"), arguments.contains("--connections-max"), "{line}");
    assert_eq!(server.wait().unwrap().code(), Some(0));
}
