//! HTTP/1.1: statuses and lengths are checked, connections that the server closes as it has said are opened again, and what
//! is wrong is counted exactly.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use socket2::{Domain, Socket, Type};
use support::{Server, failures, failures_total, is_conserved, loadgen, measure, stage};

/// Answers the request with number n on a connection with what `answer` makes of n; `None` closes.
fn serve(mut stream: TcpStream, mut answer: impl FnMut(usize) -> Option<String>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    for number in 0.. {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        assert!(head.starts_with(b"GET /page?x=1 HTTP/1.1\r\nHost: 127.0.0.1:"), "{}", String::from_utf8_lossy(&head));
        let Some(reply) = answer(number) else { return };
        if stream.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn server(answer: impl Fn(usize, usize) -> Option<String> + Clone + Send + Sync + 'static) -> Server {
    Server::start(move |connection, stream| serve(stream, |number| answer(connection, number)))
}

fn line(server: &Server, rest: &str) -> String {
    format!("rr http://{}/page?x=1 {rest}", server.address)
}

#[test]
fn a_good_server_is_measured_however_its_bodies_end() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned();
    for reply in [ok("hello"), chunked, "HTTP/1.1 204 No Content\r\n\r\n".to_owned()] {
        let server = server(move |_, _| Some(reply.clone()));
        let (code, results) = measure(&line(&server, "-c 4 -d 200ms"));
        assert_eq!(code, Some(0), "{results:#}");
        let closed = stage(&results, "closed");
        assert!(closed["requests_answered"].as_u64().unwrap() > 4 && is_conserved(&results), "{closed:#}");
        assert_eq!((&results["plan"]["protocol"], &closed["connections_reopened"]), (&"http".into(), &0.into()));
    }
}

#[test]
fn connections_that_the_server_closes_as_it_says_are_opened_again() {
    let server = server(|_, number| match number {
        0..3 => Some(ok("hello")),
        3 => Some("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello".to_owned()),
        _ => None,
    });
    let (code, results) = measure(&line(&server, "-c 4 -d 200ms"));
    assert_eq!(code, Some(0), "{results:#}");
    let closed = stage(&results, "closed");
    let (answered, reopened) = (closed["requests_answered"].as_u64(), closed["connections_reopened"].as_u64());
    // Each connection is opened again after each fourth answer.
    assert!(reopened.unwrap() >= 4 && (answered.unwrap() / 4).abs_diff(reopened.unwrap()) <= 4, "{closed:#}");
    let reconnects = closed["reconnect"]["samples"].as_u64();
    assert!(reconnects <= reopened && reconnects >= reopened.map(|number| number - 4), "{closed:#}");
    assert!(is_conserved(&results));
}

/// Whether somebody's SYN to this port of this machine was not answered: state 2 in proc_net_tcp(5).
fn is_unanswered(port: u16) -> bool {
    let (table, port) = (std::fs::read_to_string("/proc/net/tcp").unwrap(), format!(":{port:04X}"));
    let mut rows = table.lines().map(|line| line.split_whitespace().skip(2).take(2).collect::<Vec<_>>());
    rows.any(|row| matches!(row[..], [remote, "02"] if remote.ends_with(&port)))
}

/// The address of a server that answers one request of each connection, with a second in which nobody else is let in behind
/// the first.
fn slow_to_accept() -> SocketAddr {
    // A queue that holds two connections, and somebody else's in it: the SYN of who comes then is dropped, and the next one
    // follows after a second.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept() else { return };
            let mut other = None;
            serve(stream, |request| {
                if request > 0 {
                    return None;
                }
                other = (number == 0).then(|| [(); 2].map(|()| TcpStream::connect(address).unwrap()));
                Some("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello".to_owned())
            });
            while other.is_some() && !is_unanswered(address.port()) {
                std::thread::yield_now();
            }
        }
    });
    address
}

/// How many requests took longer than half a second.
fn slow(stage: &serde_json::Value) -> u64 {
    let bytes = STANDARD.decode(stage["latency"]["histogram"].as_str().unwrap()).unwrap();
    let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
    histogram.count_between(500_000_000, u64::MAX >> 1)
}

#[test]
fn who_has_to_connect_again_waits_for_that_too() {
    // In a pipeline all do: those that were sent before, and those that are sent in the place of others.
    for depth in [1, 3] {
        let address = slow_to_accept();
        let (_, results) = measure(&format!("rr http://{address}/page?x=1 -c 1 -d 2s --pipeline {depth}"));
        let closed = stage(&results, "closed");
        let longest_ns = |times: &str| closed[times]["max_ns"].as_u64().unwrap();
        assert!(longest_ns("reconnect") > 500_000_000, "{closed:#}");
        assert!(longest_ns("latency") >= longest_ns("reconnect"), "{closed:#}");
        assert!(slow(closed) >= depth, "{closed:#}");
        assert!(
            closed["window_s"].as_f64() >= Some(2.0),
            "without an open connection meanwhile it still goes on: {closed:#}"
        );
        assert!(is_conserved(&results));
    }
}

#[test]
fn a_wrong_status_is_counted_exactly_and_its_connection_goes_on() {
    let wrong = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy".to_owned();
    let server = server(move |_, number| Some(if number == 2 { wrong.clone() } else { ok("hello") }));
    let (code, results) = measure(&line(&server, "-c 5 -d 200ms"));
    assert_eq!(code, Some(1), "{results:#}");
    let closed = stage(&results, "closed");
    assert_eq!(failures(closed, "request_failures", "HTTP status 503"), 5, "one on each connection");
    assert_eq!(failures_total(closed, "request_failures"), 5);
    assert!(closed["requests_answered"].as_u64().unwrap() > 10, "it goes on");
    assert!(is_conserved(&results));
}

#[test]
fn what_is_wrong_with_a_response_is_told_in_its_own_words() {
    type Answer = fn(usize, usize) -> Option<String>;
    let cases: [(&str, Answer); 5] = [
        ("another length than most responses", |_, number| Some(ok(if number == 1 { "hell" } else { "hello" }))),
        ("timed out", |_, number| Some(if number == 1 { ok("hello")[..41].to_owned() } else { ok("hello") })),
        ("closed by the server", |_, _| None),
        ("no HTTP response", |_, _| Some("SSH-2.0-OpenSSH_9.2\r\n".to_owned())),
        ("surplus bytes", |_, _| Some(ok("hello") + "!")),
    ];
    for (kind, answer) in cases {
        let server = server(answer);
        let (code, results) = measure(&line(&server, "-c 2 -d 200ms --timeout 300ms"));
        assert_eq!(code, Some(1), "{kind}: {results:#}");
        let closed = stage(&results, "closed");
        assert_eq!(failures(closed, "request_failures", kind), 2, "{kind}: {closed:#}");
        assert_eq!(failures_total(closed, "request_failures"), 2, "{kind}: {closed:#}");
        assert!(is_conserved(&results), "{kind}");
    }
}

#[test]
fn the_very_first_response_may_be_the_odd_one() {
    for line in ["rr", "rr --pipeline 4", "open -R 200 --arrival constant", "churn"] {
        let first = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let server = server(move |_, _| {
            Some(ok(if first.swap(false, std::sync::atomic::Ordering::Relaxed) { "starting" } else { "hello" }))
        });
        let (command, options) = line.split_once(' ').unwrap_or((line, ""));
        let (code, results) = measure(&format!("{command} http://{}/page?x=1 {options} -c 2 -d 300ms", server.address));
        let measured = results["stages"].as_array().unwrap().last().unwrap();
        let told = failures(measured, "request_failures", "another length than most responses");
        assert_eq!((code, told, failures_total(measured, "request_failures")), (Some(1), 1, 1), "{line}: {measured:#}");
        assert_eq!(measured["body_bytes_by_target"][0]["bytes"], 5, "{line}: {measured:#}");
        assert!(is_conserved(&results), "{line}: {measured:#}");
    }
}

#[test]
fn a_server_that_switches_to_another_protocol_has_failed_at_once() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n";
    let server = server(move |_, _| Some(switching.to_owned()));
    // A connection that waited for more would have its timeout, a minute, and be all that there is.
    let (code, results) = measure(&line(&server, "-c 1 -d 300ms --timeout 60s"));
    let closed = stage(&results, "closed");
    let told = failures(closed, "request_failures", "HTTP status 101");
    assert_eq!((code, failures_total(closed, "request_failures")), (Some(1), told), "{closed:#}");
    assert!(told >= 1 && closed["connections_reopened"].as_u64() >= Some(1) && is_conserved(&results), "{closed:#}");
}

#[test]
fn a_body_that_is_cut_off_is_truncated() {
    let server = Server::start(|_, mut stream| {
        // Sends a part of the body, and is gone.
        let mut head = [0; 4096];
        if stream.read(&mut head).is_ok() {
            let _ = stream.write_all(&ok("hello").as_bytes()[..41]);
        }
    });
    let outcome = loadgen(&line(&server, "-c 2 -d 200ms"));
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.says("2 × reply: truncated"), "{}", outcome.stdout);
}
