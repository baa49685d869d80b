//! Several requests at once on each connection: replies are told apart whatever the reads bring, and each is accounted for.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::channel;
use std::thread::{sleep, spawn};
use std::time::Duration;

use socket2::SockRef;
use support::{
    SIZE, Server, echo, failures, failures_total, is_conserved, joined, loadgen, measure, signal, stage, start,
};

/// Requests at once in these tests.
const DEPTH: usize = 16;

/// Reads [`DEPTH`] messages at a time and hands them to `answer`, until that says no or the peer is gone.
fn in_batches(mut stream: TcpStream, mut answer: impl FnMut(&mut TcpStream, Vec<u8>) -> bool) {
    let mut batch = vec![0; DEPTH * SIZE];
    while stream.read_exact(&mut batch).is_ok() && answer(&mut stream, batch.clone()) {}
}

/// A closed loop on so many `connections`, whose results are conserved.
fn run(server: &Server, connections: usize) -> (Option<i32>, serde_json::Value) {
    let line = format!("rr {} -c {connections} -d 200ms -s {SIZE} --timeout 2s --pipeline {DEPTH}", server.address);
    let (code, results) = measure(&line);
    assert!(is_conserved(&results), "{results:#}");
    (code, results)
}

#[test]
fn every_size_comes_back_whole_in_whatever_pieces() {
    let server = Server::good();
    for size in ["1", "7", "64", "4KiB", "65537"] {
        let (code, results) = measure(&format!("rr {} -c 3 -d 200ms -s {size} --pipeline {DEPTH}", server.address));
        let closed = stage(&results, "closed");
        assert_eq!((code, &results["plan"]["pipeline"]), (Some(0), &DEPTH.into()), "{size}: {closed:#}");
        assert!(closed["requests_answered"].as_u64() >= Some(DEPTH as u64), "{closed:#}");
        assert_eq!(closed["requests_due"], closed["requests_answered"], "{size}");
        assert_eq!(closed["bytes_sent"], closed["bytes_received"], "{size}");
        assert_eq!(closed["latency"]["samples"], closed["requests_answered"], "{size}");
        assert!(is_conserved(&results), "{results:#}");
    }
    let pieces = Server::start(|_, mut stream| {
        stream.set_nodelay(true).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            if buffer[..len].chunks(7).any(|piece| stream.write_all(piece).is_err()) {
                return;
            }
        }
    });
    let (code, results) = run(&pieces, 3);
    assert_eq!(code, Some(0), "{results:#}");
}

#[test]
fn as_many_as_were_asked_for_are_under_way_and_may_be_answered_in_one_piece() {
    // It answers nothing before it has read as many: with fewer under way all would time out. Behind the window's end no
    // more come, and what is under way then is a whole batch.
    let server = Server::start(|_, stream| in_batches(stream, |stream, batch| stream.write_all(&batch).is_ok()));
    let (code, results) = run(&server, 4);
    let closed = stage(&results, "closed");
    assert_eq!(code, Some(0), "{closed:#}");
    assert_eq!(closed["requests_answered"].as_u64().unwrap() % DEPTH as u64, 0, "{closed:#}");
}

#[test]
fn of_a_connection_that_closes_half_way_each_request_is_accounted_for() {
    let server = Server::start(|_, stream| {
        in_batches(stream, |stream, batch| {
            stream.write_all(&batch[..DEPTH / 2 * SIZE]).unwrap();
            false
        });
    });
    let (code, results) = run(&server, 3);
    let closed = stage(&results, "closed");
    let half = DEPTH as u64 / 2;
    // Eight are replaced as soon as they are answered; the server reads them no more, and may reset for that.
    assert_eq!((code, closed["requests_answered"].as_u64()), (Some(1), Some(3 * half)), "{closed:#}");
    let given_up = failures(closed, "request_failures", "given up with its connection");
    let due = closed["requests_due"].as_u64().unwrap();
    assert_eq!((given_up, due), (due - 3 * half - 3, failures_total(closed, "request_failures") + 3 * half));
    assert_eq!(
        (&results["ending"], failures_total(closed, "losses")),
        (&"all connections lost".into(), 0),
        "{closed:#}"
    );
}

#[test]
fn two_replies_of_one_connection_in_the_wrong_order_are_told() {
    let server = Server::start(|number, stream| {
        if number > 0 {
            return echo(stream);
        }
        in_batches(stream, |stream, mut batch| {
            let (first, second) = batch[3 * SIZE..5 * SIZE].split_at_mut(SIZE);
            first.swap_with_slice(second);
            stream.write_all(&batch).is_ok()
        });
    });
    let (code, results) = run(&server, 3);
    let closed = stage(&results, "closed");
    assert_eq!((code, failures(closed, "request_failures", "another request's reply")), (Some(1), 1), "{closed:#}");
    let given_up = failures(closed, "request_failures", "given up with its connection");
    assert_eq!((given_up, failures_total(closed, "request_failures")), (DEPTH as u64 - 4, DEPTH as u64 - 3));
}

#[test]
fn of_a_script_the_first_wrong_reply_is_the_failure() {
    let server = Server::start(|connection, mut stream| {
        let mut requests = [0; 3 * DEPTH];
        while stream.read_exact(&mut requests).is_ok() {
            let mut replies = "+OK\n".repeat(DEPTH).into_bytes();
            if connection == 0 {
                replies[4 * 5 + 1] = b'N';
            }
            if stream.write_all(&replies).is_err() {
                return;
            }
        }
    });
    let line = format!("rr {} -c 3 -d 200ms --send abc --expect +OK\\n --pipeline {DEPTH}", server.address);
    let (code, results) = measure(&line);
    let closed = stage(&results, "closed");
    assert_eq!((code, failures(closed, "request_failures", "unexpected reply")), (Some(1), 1), "{closed:#}");
    assert_eq!(failures_total(closed, "request_failures"), DEPTH as u64 - 5, "{closed:#}");
    assert!(is_conserved(&results), "{closed:#}");
}

#[test]
fn silence_fails_the_oldest_and_gives_up_the_others() {
    let server = Server::start(|_, mut stream| while let Ok(1..) = stream.read(&mut [0; 4096]) {});
    let line = format!("rr {} -c 2 -d 100ms --timeout 200ms --pipeline {DEPTH}", server.address);
    let (code, results) = measure(&line);
    let closed = stage(&results, "closed");
    assert_eq!((code, failures(closed, "request_failures", "timed out")), (Some(1), 2), "{closed:#}");
    assert_eq!(failures(closed, "request_failures", "given up with its connection"), 2 * (DEPTH as u64 - 1));
    assert!(is_conserved(&results), "{closed:#}");
}

/// Answers each GET with what `answer` makes of its number on this connection, until that is nothing; false, if the peer was
/// gone before.
fn http(stream: &mut (impl Read + Write), answer: impl Fn(usize) -> Option<&'static str>) -> bool {
    let (mut head, mut byte) = (Vec::new(), [0]);
    for number in 0.. {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return false,
            }
        }
        match answer(number) {
            Some(reply) if stream.write_all(reply.as_bytes()).is_ok() => {}
            Some(_) => return false,
            None => return true,
        }
    }
    true
}

/// As RFC 9112, 9.6 wants it: what comes is read until the client is gone, lest a reset overtake the response.
fn close(mut stream: TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    while let Ok(1..) = stream.read(&mut [0; 4096]) {}
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn what_an_http_server_leaves_unanswered_when_it_closes_is_sent_again() {
    type Answer = fn(usize) -> Option<&'static str>;
    let as_it_says: Answer = |number| (number < 5).then_some(if number < 4 { GOOD } else { LAST });
    let while_idle: Answer = |number| (number < 5).then_some(GOOD);
    // The last one says so, and leaves it to the client.
    for (answer, closes) in [(as_it_says, true), (while_idle, true), (as_it_says, false)] {
        let server = Server::start(move |_, mut stream| match http(&mut stream, answer) {
            true if closes => close(stream),
            _ => while let Ok(1..) = stream.read(&mut [0; 4096]) {},
        });
        let (code, results) = measure(&format!("rr http://{}/ -c 2 -d 200ms --pipeline {DEPTH}", server.address));
        let closed = stage(&results, "closed");
        assert_eq!((code, &closed["requests_due"]), (Some(0), &closed["requests_answered"]), "{closed:#}");
        let (answered, reopened) = (closed["requests_answered"].as_u64(), closed["connections_reopened"].as_u64());
        assert!(reopened.unwrap() >= 4 && (answered.unwrap() / 5).abs_diff(reopened.unwrap()) <= 2, "{closed:#}");
        assert!(is_conserved(&results), "{closed:#}");
    }
}

#[test]
fn the_time_of_what_is_sent_again_goes_on() {
    // The second connection answers nothing for a while: who waits there was sent on the first.
    let pause = Duration::from_millis(1300);
    let server = Server::start(move |connection, mut stream| {
        if connection == 0 {
            http(&mut stream, |number| (number < 5).then_some(if number < 4 { GOOD } else { LAST }));
            return close(stream);
        }
        sleep(if connection == 1 { pause } else { Duration::ZERO });
        http(&mut stream, |_| Some(GOOD));
    });
    let (code, results) = measure(&format!("rr http://{}/ -c 1 -d 1s --pipeline {DEPTH}", server.address));
    let closed = stage(&results, "closed");
    assert_eq!((code, &closed["connections_reopened"]), (Some(0), &1.into()), "{closed:#}");
    // None but the five that the first connection answered, in two reads or one, can have been faster.
    assert_eq!(closed["requests_answered"].as_u64(), Some(5 + DEPTH as u64), "{closed:#}");
    assert!(closed["latency"]["p50_ns"].as_u64() >= Some(pause.as_nanos() as u64), "{closed:#}");
}

#[test]
fn what_is_no_way_to_close_is_a_failure_of_http_too() {
    type Serve = fn(&mut TcpStream);
    let cases: [(&str, Serve, usize); 3] = [
        ("closed by the server", |stream| _ = http(stream, |_| None), 0),
        (
            "truncated",
            |stream| _ = http(stream, |number| (number < 5).then_some(if number < 4 { GOOD } else { &GOOD[..9] })),
            4,
        ),
        (
            "reset",
            |stream| {
                // What waits for an acknowledgement would go with the reset.
                stream.set_nodelay(true).unwrap();
                http(stream, |number| (number < 5).then_some(GOOD));
                SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
            },
            5,
        ),
    ];
    for (kind, serve, answered) in cases {
        let server = Server::start(move |_, mut stream| {
            serve(&mut stream);
            if SockRef::from(&stream).linger().unwrap().is_none() {
                close(stream);
            }
        });
        let (code, results) = measure(&format!("rr http://{}/ -c 2 -d 200ms --pipeline {DEPTH}", server.address));
        let closed = stage(&results, "closed");
        assert_eq!((code, failures(closed, "request_failures", kind)), (Some(1), 2), "{kind}: {closed:#}");
        let given_up = failures(closed, "request_failures", "given up with its connection");
        assert_eq!(failures_total(closed, "request_failures"), given_up + 2, "{kind}: {closed:#}");
        assert_eq!(closed["requests_answered"].as_u64(), Some(2 * answered as u64), "{kind}: {closed:#}");
        assert!(is_conserved(&results), "{kind}: {closed:#}");
    }
}

/// Answers five requests of a connection, and closes it as the last response says.
fn five(mut stream: impl Read + Write, close: impl FnOnce()) {
    http(&mut stream, |number| (number < 5).then_some(if number < 4 { GOOD } else { LAST }));
    close();
    while let Ok(1..) = stream.read(&mut [0; 4096]) {}
}

#[test]
fn who_cannot_connect_again_is_a_loss_and_what_it_would_have_sent_is_given_up() {
    let is_told = |line: &str, kind: &str| {
        let (code, results) = measure(&format!("rr {line} -c 1 -d 5s --pipeline {DEPTH}"));
        let closed = stage(&results, "closed");
        assert_eq!((code, failures(closed, "losses", kind)), (Some(1), 1), "{closed:#}");
        let given_up = failures(closed, "request_failures", "given up with its connection");
        assert_eq!(failures_total(closed, "request_failures"), given_up, "{closed:#}");
        assert!(given_up >= DEPTH as u64 - 5 && is_conserved(&results), "{closed:#}");
        assert_eq!(results["ending"], "all connections lost");
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://{}/", listener.local_addr().unwrap());
    spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        drop(listener);
        five(&stream, || stream.shutdown(Shutdown::Write).unwrap());
    });
    is_told(&target, "refused");
    // Of a Unix socket the kernel knows at once that nothing is there.
    let path = std::env::temp_dir().join(format!("loadgen-pipeline-{}.sock", std::process::id()));
    let (listener, name) = (UnixListener::bind(&path).unwrap(), path.display().to_string());
    spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        std::fs::remove_file(path).unwrap();
        five(&stream, || stream.shutdown(Shutdown::Write).unwrap());
    });
    is_told(&format!("http://localhost/ --unix-socket {name}"), "no such socket");
}

#[test]
fn the_timeout_counts_from_when_the_oldest_was_sent() {
    let server = Server::good();
    let (code, results) = measure(&format!("rr {} -c 2 -d 3s --timeout 2s --pipeline {DEPTH}", server.address));
    assert!(matches!(code, Some(0 | 4)) && results["is_ok"] == true, "{results:#}");
}

#[test]
fn a_wrong_status_is_that_requests_own() {
    let busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
    let server = Server::start(move |_, mut stream| {
        http(&mut stream, |number| Some(if number == 7 { busy } else { GOOD }));
    });
    let (code, results) = measure(&format!("rr http://{}/ -c 3 -d 200ms --pipeline {DEPTH}", server.address));
    let closed = stage(&results, "closed");
    assert_eq!((code, failures(closed, "request_failures", "HTTP status 503")), (Some(1), 3), "{closed:#}");
    assert_eq!(failures_total(closed, "request_failures"), 3, "nobody is given up for it: {closed:#}");
    assert!(closed["requests_answered"].as_u64().unwrap() > 3 * DEPTH as u64 && is_conserved(&results), "{closed:#}");
}

#[test]
fn replies_that_nobody_asked_for_are_told() {
    let server = Server::start(|_, mut stream| {
        let mut requests = [0; 3 * DEPTH];
        while stream.read_exact(&mut requests).is_ok() {
            if stream.write_all("+OK\n".repeat(DEPTH + 1).as_bytes()).is_err() {
                return;
            }
        }
    });
    let line = format!("rr {} -c 2 -d 200ms --send abc --expect +OK\\n --pipeline {DEPTH}", server.address);
    let (code, results) = measure(&line);
    let closed = stage(&results, "closed");
    // What was asked for is answered: it is the connection that fails.
    assert_eq!((code, failures(closed, "losses", "surplus bytes")), (Some(1), 2), "{closed:#}");
    let count = |field: &str| closed[field].as_u64();
    assert_eq!(["requests_due", "requests_answered"].map(count), [Some(2 * DEPTH as u64); 2], "{closed:#}");
}

#[test]
fn replies_too_many_in_the_middle_show_behind_the_last_even_if_they_are_all_alike() {
    // Each of the replies behind them passes for the next request's, up to the end.
    let server = Server::start(|_, mut stream| {
        let (mut request, mut number) = ([0; 3], 0);
        while stream.read_exact(&mut request).is_ok() {
            number += 1;
            let times = if number == 20 { 3 } else { 1 };
            if stream.write_all("+OK\n".repeat(times).as_bytes()).is_err() {
                return;
            }
        }
    });
    let line = format!("rr {} -c 2 -d 300ms --send abc --expect +OK\\n --pipeline {DEPTH}", server.address);
    let (code, results) = measure(&line);
    assert_eq!((code, results["ending"].as_str()), (Some(1), Some("all connections lost")), "{results:#}");
    assert_eq!(failures(stage(&results, "closed"), "losses", "surplus bytes"), 2, "{results:#}");
}

#[test]
fn of_an_interrupted_run_what_is_under_way_is_unfinished() {
    let (told, served) = channel();
    let server = Server::start(move |_, mut stream| {
        let mut requests = vec![0; DEPTH * SIZE];
        stream.read_exact(&mut requests).unwrap();
        told.send(()).unwrap();
        while let Ok(1..) = stream.read(&mut requests) {}
    });
    let child = start(&format!("rr {} -c 2 -d 60s -s {SIZE} --pipeline {DEPTH} -q --json -", server.address));
    // All of both connections are there.
    (0..2).for_each(|_| served.recv().unwrap());
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let closed = stage(&results, "closed");
    assert_eq!((output.status.code(), &results["ending"]), (Some(1), &"interrupted".into()), "{results:#}");
    assert_eq!((&closed["requests_due"], &closed["requests_unfinished"]), (&32.into(), &32.into()), "{closed:#}");
}

#[test]
fn the_depth_stands_in_every_report() {
    let server = Server::good();
    let folder = std::env::temp_dir().join(format!("loadgen-pipeline-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).display().to_string();
    let line = |depth: usize| {
        let (json, html) = (file(&format!("{depth}.json")), file("page.html"));
        format!("rr {} -c 2 -d 200ms --seed {depth} --pipeline {depth} --json {json} --html {html}", server.address)
    };
    let is_told = |text: &str| joined(text).contains(" · pipelined, 16 at once");
    let text = loadgen(&line(DEPTH)).stdout;
    assert!(is_told(&text[..text.find("Connections").unwrap()]), "{text}");
    let page = std::fs::read_to_string(file("page.html")).unwrap();
    assert!(is_told(&page[page.find("<h2>Settings").unwrap()..]), "{page}");
    assert!(!loadgen(&line(1)).stdout.contains("pipelined"), "one at a time is nothing to be told");

    let compared = joined(&loadgen(&format!("compare {} {}", file("1.json"), file("16.json"))).stdout);
    let told = "- the number of requests at once on a connection (--pipeline) was 1, then 16";
    assert!(compared.contains(told), "{compared}");
    assert!(!loadgen(&format!("compare {0} {0}", file("16.json"))).stdout.contains("differ"));
    let merged = loadgen(&format!("merge {} {}", file("1.json"), file("16.json")));
    let doubt = "not the same number of requests at once on a connection";
    assert!(merged.code == Some(4) && joined(&merged.stdout).contains(doubt), "{}", merged.stdout);
    let again = loadgen(&format!("merge {} --json -", file("16.json"))).json();
    assert_eq!((&again["plan"]["pipeline"], &again["parts"][0]["pipeline"]), (&16.into(), &16.into()));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn it_is_for_rr_alone_and_has_bounds() {
    for (wrong, wanted) in [
        ("open 127.0.0.1:1 -R 10 --pipeline 2", "--pipeline is for `rr`"),
        ("search 127.0.0.1:1 --slo p99<1s --pipeline 2", "--pipeline is for `rr`"),
        ("churn 127.0.0.1:1 --pipeline 2", "--pipeline is for `rr`"),
        ("hold 127.0.0.1:1 --pipeline 1", "--pipeline is for `rr`"),
        ("--pipeline 2", "--pipeline"),
        ("rr 127.0.0.1:1 --pipeline 0", "1..=1024"),
        ("rr 127.0.0.1:1 --pipeline 1025", "1..=1024"),
        ("rr 127.0.0.1:1 --pipeline 1000 -s 8MiB", "at most 1 GiB"),
    ] {
        let outcome = loadgen(wrong);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{wrong}");
        assert!(outcome.stderr.contains(wanted), "{wrong}: {}", outcome.stderr);
    }
    let helps =
        ["rr -h", "doctor -h", "open -h", "hold -h"].map(|line| loadgen(line).stdout.contains("--pipeline <K>"));
    assert_eq!(helps, [true, true, false, false]);
}

#[test]
fn the_doctor_counts_what_is_under_way() {
    let sum = |line: &str| {
        let findings = loadgen(&format!("doctor 127.0.0.1:1 -c 10 {line} --json -")).json();
        let memory = findings["findings"].as_array().unwrap().iter().find(|it| it["thing"] == "memory").unwrap();
        memory["sum"].as_str().unwrap().to_owned()
    };
    assert!(sum("--pipeline 16").contains("16 requests at once:"), "{}", sum("--pipeline 16"));
    assert!(!sum("").contains("at once"), "{}", sum(""));
}
