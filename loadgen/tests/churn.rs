//! Connections that come and go: each is accounted for, with how long its parts took, and with the way in which it ended.

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;
use support::{
    SIZE, Server, echo, failures, failures_total, is_conserved, joined, line_with, lines, loadgen, measure, signal,
    skip, stage, start,
};

fn number(stage: &Value, pointer: &str) -> u64 {
    stage.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {stage:#}"))
}

/// Whether all connections of `churn` are accounted for, and each time was taken once.
fn adds_up(churn: &Value) -> bool {
    let (done, opened) = (number(churn, "/requests_answered"), number(churn, "/connections_established"));
    number(churn, "/connect_time/samples") == opened
        && number(churn, "/exchange/samples") == done
        && number(churn, "/latency/samples") == done
}

#[test]
fn a_closed_loop_opens_and_closes_what_the_server_counts() {
    let served = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&served);
    let server = Server::start(move |_, stream| {
        echo(stream);
        counted.fetch_add(1, Relaxed);
    });
    for close in ["reset", "fin"] {
        served.store(0, Relaxed);
        let (code, results) = measure(&format!("churn {} -c 6 -d 300ms --close {close}", server.address));
        assert_eq!(code, Some(0), "{results:#}");
        let churn = stage(&results, "churn");
        let done = number(churn, "/requests_answered");
        assert!(done > 6 && done == number(churn, "/connections_attempted"), "{churn:#}");
        assert!(is_conserved(&results) && adds_up(churn), "{churn:#}");
        assert!((1..=6).contains(&number(churn, "/connections_at_once_max")), "{churn:#}");
        assert_eq!(churn["close"], close);
        assert_eq!(results["stages"].as_array().unwrap().len(), 1, "none is opened beforehand");
        assert_eq!(results["connections"].as_array().unwrap().last().unwrap()["open"], 0);
        while served.load(Relaxed) < done {
            std::thread::yield_now();
        }
        assert_eq!(served.load(Relaxed), done);
    }
}

#[test]
fn no_two_connections_send_the_same() {
    let seen = Arc::new(Mutex::new(BTreeMap::<Vec<u8>, u64>::new()));
    let all = Arc::clone(&seen);
    let server = Server::start(move |_, mut stream| {
        let mut message = vec![0; SIZE];
        if stream.read_exact(&mut message).is_ok() {
            *all.lock().unwrap().entry(message.clone()).or_default() += 1;
            let _ = stream.write_all(&message);
        }
    });
    let (code, results) = measure(&format!("churn {} -c 3 -d 200ms --threads 2", server.address));
    assert_eq!(code, Some(0), "{results:#}");
    let seen = seen.lock().unwrap();
    assert!(seen.len() > 6 && seen.values().all(|times| *times == 1));
}

#[test]
fn an_open_loop_begins_what_is_due_and_times_it_from_there() {
    let server = Server::good();
    let line = format!("churn {} -c 20 -d 1s -R 500 --arrival constant", server.address);
    let (code, results) = measure(&line);
    assert_eq!(code, Some(0), "{results:#}");
    let churn = stage(&results, "churn");
    assert_eq!((&churn["requests_due"], &churn["requests_answered"]), (&500.into(), &500.into()));
    assert_eq!((&churn["arrival"], &churn["rate_target_per_s"]), (&"constant".into(), &500.0.into()));
    assert!(adds_up(churn) && number(churn, "/send_lag/samples") == 500, "{churn:#}");
    // With one place for connections that each take 20 ms, fifty a second are over; the others wait, and their time counts.
    let slow = Server::start(|_, stream| {
        std::thread::sleep(Duration::from_millis(20));
        echo(stream);
    });
    let (code, results) =
        measure(&format!("churn {} -c 1 -d 1s -R 200 --arrival constant --timeout 300ms", slow.address));
    let churn = stage(&results, "churn");
    assert_eq!((code, number(churn, "/requests_due")), (Some(1), 200), "{churn:#}");
    assert!(number(churn, "/requests_unfinished") > 0 && is_conserved(&results), "{churn:#}");
    assert!(number(churn, "/latency/p50_ns") > 2 * number(churn, "/exchange/p50_ns"), "{churn:#}");
}

#[test]
fn a_verdict_says_that_it_was_the_server_that_kept_all_places() {
    // Four places of 50 ms each: 80 a second of the 200 that are due, and loadgen has nothing to do.
    let slow = Server::start(|_, stream| {
        std::thread::sleep(Duration::from_millis(50));
        echo(stream);
    });
    let (_, results) = measure(&format!("churn {} -c 4 -d 2s -R 200 --timeout 2s", slow.address));
    let reasons = results["verdict"]["reasons"].to_string();
    assert!(reasons.contains("all places were taken by connections that waited for the server to reply"), "{reasons}");
    assert!(!reasons.contains("loadgen had too little"), "{reasons}");
}

/// What a server does to every sixth connection, and what that is called.
const FAULTS: [(&str, &str); 5] = [
    ("reset", "reset"),
    ("close", "closed by the server"),
    ("cut", "truncated"),
    ("spoil", "corrupted"),
    ("mute", "timed out"),
];

fn serve(fault: &str, mut stream: TcpStream) {
    let mut message = vec![0; SIZE];
    if stream.read_exact(&mut message).is_err() {
        return;
    }
    match fault {
        "reset" => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
        "close" => {}
        "cut" => drop(stream.write_all(&message[..SIZE / 2])),
        "mute" => drop(stream.read(&mut message)),
        _ => {
            message[SIZE / 2] ^= u8::from(fault == "spoil");
            let _ = stream.write_all(&message);
            // Until the client is gone.
            let _ = stream.read(&mut message);
        }
    }
}

#[test]
fn faults_are_counted_as_what_they_are_and_the_place_goes_on() {
    let planted = Arc::new(Mutex::new(BTreeMap::<&str, u64>::new()));
    for load in ["-d 600ms", "-d 1s -R 200"] {
        planted.lock().unwrap().clear();
        let all = Arc::clone(&planted);
        let server = Server::start(move |number, stream| {
            let fault = (number % 6 == 5).then(|| FAULTS[number / 6 % FAULTS.len()]);
            if let Some((_, name)) = fault {
                *all.lock().unwrap().entry(name).or_default() += 1;
            }
            serve(fault.map_or("", |(fault, _)| fault), stream);
        });
        let (code, results) = measure(&format!("churn {} -c 30 --timeout 2s {load}", server.address));
        let (churn, planted) = (stage(&results, "churn"), planted.lock().unwrap());
        assert_eq!((code, planted.len()), (Some(1), FAULTS.len()), "{planted:?} {churn:#}");
        for (name, count) in planted.iter() {
            assert_eq!(failures(churn, "request_failures", name), *count, "{name} of {planted:?}: {churn:#}");
        }
        assert_eq!(failures_total(churn, "request_failures"), planted.values().sum::<u64>(), "{planted:?}: {churn:#}");
        assert!(is_conserved(&results) && adds_up(churn), "{churn:#}");
        assert_eq!(results["connections"].as_array().unwrap().last().unwrap()["open"], 0);
    }
}

#[test]
fn one_target_of_two_that_refuses() {
    let server = Server::good();
    // Below the ports that the kernel gives out, so that nobody else gets it meanwhile.
    let (code, results) = measure(&format!("churn {},127.0.0.1:1 -c 8 -d 300ms", server.address));
    let churn = stage(&results, "churn");
    let refused = failures(churn, "request_failures", "refused");
    assert_eq!((code, refused), (Some(1), failures_total(churn, "request_failures")), "{churn:#}");
    assert_eq!(refused, number(churn, "/connections_attempted") - number(churn, "/connections_established"));
    let by_target = churn["request_failures_by_target"].as_array().unwrap();
    assert_eq!((by_target.len(), &by_target[0]["address"]), (1, &"127.0.0.1:1".into()), "{churn:#}");
    assert_eq!(by_target[0]["count"], refused);
    // Each of its four places pauses for 10 ms.
    assert!((4..=4 * 31).contains(&refused), "{churn:#}");
    let failure = &churn["request_failures"][0];
    assert_eq!((&failure["act"], &failure["errno_name"]), (&"connect".into(), &"ECONNREFUSED".into()));
    assert!(is_conserved(&results) && adds_up(churn) && number(churn, "/requests_answered") > refused, "{churn:#}");
}

#[test]
fn one_that_refuses_everything_ends_it() {
    let (code, results) = measure("churn 127.0.0.1:1 -c 8 -d 1h");
    assert_eq!((code, &results["ending"]), (Some(1), &"no connection".into()));
    assert!(is_conserved(&results), "{results:#}");
    assert!(results["advice"][0].as_str().unwrap().contains("nothing listens there"), "{:#}", results["advice"]);
}

#[test]
fn the_servers_end_is_waited_for() {
    // The end comes late, or with the reply.
    let server = Server::start(|number, mut stream| {
        if stream.read_exact(&mut [0; 3]).is_err() {
            return;
        }
        let _ = stream.write_all(b"OK\n");
        if number % 2 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        stream.shutdown(Shutdown::Write).unwrap();
        // Were it the client that had closed, it would be a reset.
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    });
    let script = "--send abc --expect OK\\n --close server";
    let (code, results) = measure(&format!("churn {} -c 4 -d 300ms {script}", server.address));
    let churn = stage(&results, "churn");
    assert!(code == Some(0) && adds_up(churn) && number(churn, "/requests_answered") > 4, "{results:#}");
    // One that never closes, one that resets, one that says more.
    let server = Server::start(|number, mut stream| {
        let _ = stream.read_exact(&mut [0; 3]);
        let _ = stream.write_all(b"OK\n");
        std::thread::sleep(Duration::from_millis(20));
        match number % 3 {
            0 => drop(stream.read(&mut [0])),
            1 => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
            _ => drop(stream.write_all(b"and more")),
        }
    });
    let outcome = loadgen(&format!("churn {} -c 3 -d 300ms --timeout 400ms -q {script}", server.address));
    assert_eq!(outcome.code, Some(1));
    for wanted in ["close: timed out", "close: reset (ECONNRESET", "close: surplus bytes", " 0 done + ", "--close fin"]
    {
        assert!(outcome.says(wanted), "no '{wanted}' in {}", outcome.stdout);
    }
}

#[test]
fn conditions_runs_and_files_are_those_of_the_whole() {
    let folder = std::env::temp_dir().join(format!("loadgen-churn-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).display().to_string();
    let server = Server::start(|_, stream| {
        std::thread::sleep(Duration::from_millis(5));
        echo(stream);
    });
    let line = format!(
        "churn {} -c 4 -d 300ms --warmup 100ms --runs 3 -q --slo p50<10s,p90<4ms --json {} --csv {} --hgrm {} --hlog {} --html {}",
        server.address,
        file("json"),
        file("csv"),
        file("hgrm"),
        file("hlog"),
        file("html")
    );
    let outcome = loadgen(&line);
    assert_eq!(outcome.code, Some(3), "{}{}", outcome.stdout, outcome.stderr);
    for wanted in ["Churn · ", "4 places", "3 runs of 300 ms", "connections/s", "SLO MISSED    p90 < 4.00 ms"] {
        assert!(outcome.says(wanted), "no '{wanted}' in {}", outcome.stdout);
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let results: Value = serde_json::from_str(&read("json")).unwrap();
    let stages = results["stages"].as_array().unwrap();
    assert_eq!(stages.iter().map(|stage| stage["is_warmup"] == true).collect::<Vec<_>>(), [true, false, false, false]);
    assert!(stages.iter().all(adds_up) && results["runs"]["runs"] == 3);
    assert!(read("csv").lines().nth(1).unwrap().starts_with("churn,"), "{}", read("csv"));
    let all: u64 = stages[1..].iter().map(|stage| number(stage, "/latency/samples")).sum();
    assert!(read("hgrm").contains(&format!("Total count    = {all:>12}]")), "{}", read("hgrm"));
    assert!(read("hlog").contains("Tag=churn-3,") && read("html").contains("Churn, closed loop"));
    let compared = loadgen(&format!("compare {} {}", file("json"), file("json")));
    assert_eq!(compared.code, Some(0), "{}", compared.stderr);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn an_interruption_leaves_nothing_uncounted() {
    let server = Server::good();
    for load in ["", "-R 500"] {
        let mut child = start(&format!("churn {} -c 5 -d 1h {load} --json -", server.address));
        line_with(&mut lines(child.stderr.take()), "churn");
        signal(&child, "INT");
        let mut stdout = String::new();
        child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        let results: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((child.wait().unwrap().code(), &results["ending"]), (Some(1), &"interrupted".into()));
        let churn = stage(&results, "churn");
        assert!(is_conserved(&results) && number(churn, "/requests_answered") > 0, "{churn:#}");
        assert!(number(churn, "/requests_unfinished") <= 5 + 500, "only what was due until then: {churn:#}");
    }
}

/// A server in a network of its own, where `settings` of net.ipv4 hold, and the command `churn TARGET` with `arguments`
/// against it: the exit code and what it wrote. `None` where such a network may not be made.
fn in_own_network(settings: &[(&str, &str)], arguments: &str) -> Option<(Option<i32>, String)> {
    let set = settings.iter().map(|(name, value)| format!(" && echo {value} > /proc/sys/net/ipv4/{name}"));
    let script = format!(
        "ip link set lo up {} || exit 77; $0 serve --listen {TARGET} --shards 1 >/dev/null 2>&1 & server=$!; \
         until $0 hold {TARGET} -c 1 -d 1ms -q >/dev/null 2>&1; do :; done; \
         $0 churn {TARGET} -q {arguments}; code=$?; kill $server; exit $code",
        set.collect::<String>()
    );
    let program = env!("CARGO_BIN_EXE_loadgen");
    let output = Command::new("unshare").args(["--net", "--map-root-user", "sh", "-c", &script, program]).output();
    let is_own = |output: &Output| output.status.code() != Some(77) && !output.stderr.starts_with(b"unshare");
    let Some(output) = output.ok().filter(is_own) else {
        skip("a network of one's own, with few ports: it may not be made here");
        return None;
    };
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.code(), String::from_utf8(text).unwrap()))
}

const TARGET: &str = "127.0.0.1:4000";

#[test]
fn ports_are_used_again_and_those_in_time_wait_run_out() {
    // Low ones: the kernel chooses among them, on one address.
    let few =
        |arguments: &str| in_own_network(&[("ip_local_port_range", "1100 1199"), ("tcp_tw_reuse", "0")], arguments);
    let Some((code, text)) = few("-c 10 -d 1s") else { return };
    assert_eq!(code, Some(0), "{text}");
    let done = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("  connections")).unwrap_or_else(|| panic!("{text}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        words[4].replace(',', "").parse::<u64>().unwrap()
    };
    assert!(done(&text) > 500, "many times as many as ports: {text}");
    let (code, text) = few("-c 10 -d 1s --close fin").unwrap();
    assert!(code == Some(1) && done(&text) <= 100, "{text}");
    for wanted in ["connect: out of ports (EADDRNOTAVAIL", "Out of ports", "TIME_WAIT", "--close server"] {
        assert!(joined(&text).contains(wanted), "no '{wanted}' in {text}");
    }
    let (code, text) = few("-c 10 -d 10s -R 50 --close fin").unwrap();
    assert_eq!(code, Some(1), "{text}");
    for wanted in ["out of ports waiting", "60 s in TIME_WAIT: 510 at this rate, of 100", "--close reset"] {
        assert!(joined(&text).contains(wanted), "no '{wanted}' in {text}");
    }
}

#[test]
fn planned_sources_go_round() {
    // Of 127.0.0.7 the ports below the kernel's: 1,000, for each of two workers the half.
    let few = |timestamps, close: &str| {
        let settings = [("ip_local_port_range", "2024 60999"), ("tcp_timestamps", timestamps)];
        let arguments = format!("-c 20 -d 2s --threads 2 --source 127.0.0.7 --close {close} --json -");
        let (code, text) = in_own_network(&settings, &arguments)?;
        Some((code, serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{error} in {text}"))))
    };
    for close in ["reset", "fin"] {
        let Some((code, results)) = few("1", close) else { return };
        let churn = stage(&results, "churn");
        assert!(matches!(code, Some(0 | 4)) && number(churn, "/requests_answered") > 1_000, "{results:#}");
        assert_eq!(results["plan"]["sources"]["ports"], serde_json::json!([1024, 2023]));
    }
    // Without timestamps a port in TIME_WAIT cannot be used again.
    let (code, results) = few("0", "fin").unwrap();
    let churn = stage(&results, "churn");
    assert_eq!((code, number(churn, "/requests_answered")), (Some(1), 1_000), "each port once: {churn:#}");
    assert!(failures(churn, "request_failures", "out of ports") > 0 && is_conserved(&results), "{churn:#}");
}

#[test]
fn what_makes_no_sense_is_wrong_usage_and_doctor_does_the_sum() {
    assert_eq!(loadgen("churn 127.0.0.1:1 --connect-rate 5").code, Some(2));
    assert_eq!(loadgen("churn 127.0.0.1:1 --close never").code, Some(2));
    let outcome = loadgen("doctor [::1]:1 -c 10 -R 1M -d 1h --close fin");
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.stdout.contains("SHORT    ports waiting") && outcome.stdout.contains("in TIME_WAIT: "),
        "{}",
        outcome.stdout
    );
    assert_eq!(loadgen("doctor [::1]:1 -c 10 -R 1M -d 1h --close server").code, Some(0));
}
