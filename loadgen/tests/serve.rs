//! `serve` says where it listens, echoes until it is told to stop, and then ends with exit code 0.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Child;

use support::{line_with, lines, loadgen, measure, signal, start};

/// Starts a server on a port of the kernel's choice; returns it and its address.
fn serve(arguments: &str) -> (Child, String, impl Read) {
    let mut server = start(&format!("serve --listen 127.0.0.1:0 {arguments}"));
    let mut stdout = lines(server.stdout.take());
    let line = line_with(&mut stdout, "listening on ");
    let address = line.split(' ').nth(2).unwrap().to_owned();
    (server, address, stdout)
}

#[test]
fn it_serves_and_stops_on_either_signal() {
    for (name, arguments) in [("INT", "--shards 1"), ("TERM", "--shards 3 --cores all")] {
        let (mut server, address, mut stdout) = serve(arguments);
        let (code, results) = measure(&format!("rr {address} -c 20 -d 200ms"));
        assert_eq!(code, Some(0), "{results:#}");
        signal(&server, name);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(server.wait().unwrap().code(), Some(0), "{name}");
        assert!(rest.starts_with("stopped: 20 connections accepted"), "{rest}");
        assert_eq!(rest.lines().count(), 1, "{rest}");
    }
}

#[test]
fn what_it_has_received_is_flushed_before_it_ends() {
    let (mut server, address, _stdout) = serve("--shards 1");
    let mut client = TcpStream::connect(address).unwrap();
    let mut reply = Vec::new();
    client.write_all(&[7; 100]).unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    signal(&server, "TERM");
    client.read_to_end(&mut reply).unwrap();
    assert_eq!(reply, [7; 99]);
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_named() {
    let (mut server, address, _stdout) = serve("--shards 1");
    let outcome = loadgen(&format!("serve --listen {address}"));
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains(&address), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("another program listens there"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("share_port"), "that is for programmers: {}", outcome.stderr);
    signal(&server, "INT");
    server.wait().unwrap();
}

#[test]
fn a_server_that_is_stopped_under_load_costs_connections_and_is_told_so() {
    let (mut server, address, _stdout) = serve("--shards 1");
    let mut load = start(&format!("rr {address} -c 5 -d 1h --json -"));
    line_with(&mut lines(load.stderr.take()), "closed loop");
    signal(&server, "INT");
    assert_eq!(server.wait().unwrap().code(), Some(0));
    let mut stdout = String::new();
    load.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(load.wait().unwrap().code(), Some(1));
    let results: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(results["ending"], "all connections lost", "{results:#}");
    assert!(support::is_conserved(&results), "{results:#}");
}

#[test]
fn it_serves_unix_sockets_beside_a_port_and_removes_their_file_at_the_end() {
    let path = std::env::temp_dir().join(format!("loadgen-serve-{}.sock", std::process::id()));
    let (file, name) = (format!("unix:{}", path.display()), format!("unix:@loadgen-serve-{}", std::process::id()));
    for end in ["TERM", "INT"] {
        let listen = format!("--listen {file} --listen 127.0.0.1:0 --listen {name}");
        let mut server = start(&format!("serve --shards 2 {listen}"));
        let mut stdout = lines(server.stdout.take());
        let line = line_with(&mut stdout, "listening on ");
        let port = line.split(' ').find(|word| word.starts_with("127.0.0.1:")).unwrap();
        for address in [&file, port, &name] {
            assert!(line.contains(address), "{line}");
            let (code, results) = measure(&format!("rr {address} -c 10 -d 100ms"));
            assert_eq!(code, Some(0), "{address}: {results:#}");
        }
        // Both kinds are taken while it runs.
        for address in [&file, &name] {
            let outcome = loadgen(&format!("serve --listen {address}"));
            assert_eq!(outcome.code, Some(1));
            assert!(
                outcome.stderr.contains(&format!("cannot listen on {address}: another program")),
                "{}",
                outcome.stderr
            );
        }
        assert!(path.exists());
        signal(&server, end);
        assert_eq!(server.wait().unwrap().code(), Some(0));
        assert!(!path.exists(), "after {end}");
    }
    let outcome = loadgen("serve --listen unix:/nowhere/at/all.sock");
    assert!(
        outcome.stderr.contains("cannot listen on unix:/nowhere/at/all.sock: there is no such folder"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_port_is_address_enough() {
    for listen in ["0", ":0", "localhost:0"] {
        let mut server = start(&format!("serve --listen {listen} --shards 1"));
        let line = line_with(&mut lines(server.stdout.take()), "listening on ");
        assert!(line.starts_with("listening on 127.0.0.1:"), "{listen}: {line}");
        signal(&server, "INT");
        assert_eq!(server.wait().unwrap().code(), Some(0));
    }
}
