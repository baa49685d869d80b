//! An HTTP server may close a connection between two responses, at any time: it is opened again, and that is no fault.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use support::{Server, failures, failures_total, is_conserved, measure, skip, stage};

/// Reads one request; false, if the peer is gone.
fn is_asked(stream: &mut TcpStream) -> bool {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// Answers one request; false, if the peer is gone.
fn answers(stream: &mut TcpStream) -> bool {
    is_asked(stream) && stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").is_ok()
}

/// Ends the connection, and reads what comes until the peer is gone, lest a reset overtake the response.
fn close(mut stream: TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    while let Ok(1..) = stream.read(&mut [0; 4096]) {}
}

/// A run whose requests are all answered: how many, and how many connections were opened again.
fn is_served(line: &str) -> [u64; 2] {
    let (code, results) = measure(line);
    assert!(matches!(code, Some(0 | 4)) && results["is_ok"] == true, "{line}: {results:#}");
    let measured = results["stages"].as_array().unwrap().last().unwrap();
    assert!(is_conserved(&results), "{line}: {results:#}");
    ["requests_answered", "connections_reopened"].map(|field| measured[field].as_u64().unwrap())
}

const MODES: [&str; 3] = ["rr", "rr --pipeline 4", "open -R 400 --arrival constant"];

fn line(mode: &str, target: &str, rest: &str) -> String {
    let (command, options) = mode.split_once(' ').unwrap_or((mode, ""));
    format!("{command} http://{target} {options} {rest}")
}

#[test]
fn one_that_closes_behind_some_responses_without_a_word_costs_no_request() {
    let server = Server::start(|_, mut stream| {
        // At once behind the third response; the next request may be on its way by then.
        if (0..3).all(|_| answers(&mut stream)) {
            close(stream);
        }
    });
    for mode in MODES {
        let [answered, reopened] = is_served(&line(mode, &server.address.to_string(), "-c 4 -d 300ms"));
        assert!(reopened >= 4 && (answered / 3).abs_diff(reopened) <= 4, "{mode}: {answered}, {reopened}");
    }
}

#[test]
fn a_request_that_it_has_read_and_left_unanswered_is_sent_again() {
    let server = Server::start(|_, mut stream| {
        if (0..3).all(|_| answers(&mut stream)) && is_asked(&mut stream) {
            close(stream);
        }
    });
    for mode in MODES {
        let [answered, reopened] = is_served(&line(mode, &server.address.to_string(), "-c 4 -d 300ms"));
        assert!(reopened >= 4 && (answered / 3).abs_diff(reopened) <= 4, "{mode}: {answered}, {reopened}");
    }
}

#[test]
fn its_time_goes_on() {
    let pause = Duration::from_millis(300);
    for mode in ["rr", "open -R 10 --arrival constant"] {
        let server = Server::start(move |connection, mut stream| match connection {
            0 => {
                if answers(&mut stream) && is_asked(&mut stream) {
                    sleep(pause);
                    close(stream);
                }
            }
            _ => while answers(&mut stream) {},
        });
        let (code, results) = measure(&line(mode, &server.address.to_string(), "-c 1 -d 500ms"));
        let measured = results["stages"].as_array().unwrap().last().unwrap();
        assert_eq!((code, &measured["connections_reopened"]), (Some(0), &1.into()), "{mode}: {results:#}");
        for times in if mode == "rr" { &["latency"][..] } else { &["latency", "service"] } {
            let longest_ns = measured[times]["max_ns"].as_u64().unwrap();
            assert!(longest_ns >= pause.as_nanos() as u64, "{mode}, {times}: {measured:#}");
        }
    }
}

#[test]
fn one_that_answers_nothing_ever_and_one_that_does_not_listen_any_more_are_faults() {
    let server = Server::start(|_, mut stream| {
        if is_asked(&mut stream) {
            close(stream);
        }
    });
    for mode in MODES {
        let (code, results) = measure(&line(mode, &server.address.to_string(), "-c 2 -d 300ms --timeout 1s"));
        let measured = results["stages"].as_array().unwrap().last().unwrap();
        assert_eq!((code, failures(measured, "request_failures", "closed by the server")), (Some(1), 2), "{results:#}");
        assert_eq!((&measured["connections_reopened"], is_conserved(&results)), (&0.into(), true), "{results:#}");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        if answers(&mut stream) && is_asked(&mut stream) {
            close(stream);
        }
    });
    let (code, results) = measure(&line("rr", &address, "-c 1 -d 300ms"));
    let closed = stage(&results, "closed");
    assert_eq!((code, failures(closed, "losses", "refused")), (Some(1), 1), "{results:#}");
    let given_up = failures(closed, "request_failures", "given up with its connection");
    assert_eq!((given_up, failures_total(closed, "request_failures")), (1, 1), "{results:#}");
    assert!(is_conserved(&results), "{results:#}");
}

#[test]
fn of_connections_that_are_held_the_end_is_a_loss() {
    let server = Server::start(|_, mut stream| {
        if answers(&mut stream) {
            close(stream);
        }
    });
    let (code, results) = measure(&format!("hold http://{} -c 2 -d 300ms", server.address));
    assert_eq!((code, failures_of_all(&results, "losses")), (Some(1), 2), "{results:#}");
}

fn failures_of_all(results: &Value, field: &str) -> u64 {
    results["stages"].as_array().unwrap().iter().map(|stage| failures_total(stage, field)).sum()
}

/// nginx with these words in its server's block; its address.
fn nginx(name: &str, words: &str) -> Option<(Nginx, String)> {
    let folder = std::env::temp_dir().join(format!("loadgen-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("page.txt"), "hello").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let root = folder.display();
    let text = format!(
        "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log; events {{ }} http {{ access_log off; \
         {words} client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c; \
         uwsgi_temp_path {root}/d; scgi_temp_path {root}/e; server {{ listen {address}; root {root}; }} }}"
    );
    std::fs::write(folder.join("nginx.conf"), text).unwrap();
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-c"]).arg(folder.join("nginx.conf")).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(child) = command.spawn() else {
        skip("nginx: it is not installed");
        return None;
    };
    let server = Nginx { child, folder };
    while TcpStream::connect(address).is_err() {
        std::thread::yield_now();
    }
    Some((server, format!("{address}/page.txt")))
}

struct Nginx {
    child: Child,
    folder: std::path::PathBuf,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn nginx_may_close_after_some_requests_and_after_some_time() {
    if let Some((_server, target)) = nginx("requests", "keepalive_requests 10;") {
        for mode in MODES {
            let [answered, reopened] = is_served(&line(mode, &target, "-c 4 -d 300ms"));
            assert!(reopened >= 4 && (answered / 10).abs_diff(reopened) <= 4, "{mode}: {answered}, {reopened}");
        }
    }
    if let Some((_server, target)) = nginx("timeout", "keepalive_timeout 1s;") {
        // Each of 20 connections has a request every two seconds.
        let [answered, reopened] = is_served(&line("open -R 10 --arrival constant", &target, "-c 20 -d 3s"));
        assert!(answered == 30 && reopened >= 20, "{answered}, {reopened}");
    }
    if let Some((_server, target)) = nginx("header", "client_header_timeout 1s;") {
        // Some are never asked before they are closed.
        let [answered, reopened] = is_served(&line("open -R 10 --arrival constant", &target, "-c 50 -d 2s"));
        assert!(answered == 20 && reopened >= 10, "{answered}, {reopened}");
    }
}
