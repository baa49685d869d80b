//! A server that cannot be reached ends the run early, with the reason, what fitted, and what to do.

mod support;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use socket2::{Domain, Socket, Type};
use support::{Server, echo, failures, loadgen, measure, stage};

/// An address that refuses for as long as the socket lives: bound by nobody else, listened on by no one.
fn refusing() -> (Socket, std::net::SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn refused() {
    let (_socket, address) = refusing();
    let (code, results) = measure(&format!("rr {address} -c 1000 -d 1h"));
    assert_eq!((code, &results["ending"]), (Some(1), &"no connection".into()));
    let connect = stage(&results, "connect");
    let refused = failures(connect, "connect_failures", "refused");
    assert!(refused > 0 && refused < 1000, "the others would have told nothing new: {connect:#}");
    assert_eq!(connect["connect_failures"][0]["errno"], 111);
    assert_eq!(results["stages"].as_array().unwrap().len(), 1, "nothing was measured");
    assert!(results["advice"][0].as_str().unwrap().contains(&format!("loadgen serve --listen {address}")));
}

#[test]
fn unreachable_or_timed_out() {
    // TEST-NET-1 of RFC 5737: no host has such an address. A machine without a route says so, another one waits.
    let outcome = loadgen("rr 192.0.2.1:9 -c 2 -d 1h --timeout 200ms --quiet");
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    let is_named = ["unreachable", "timed out", "forbidden", "refused"].iter().any(|kind| outcome.says(kind));
    assert!(is_named && outcome.says("no connection could be opened"), "{}", outcome.stdout);
}

#[test]
fn a_name_without_an_address() {
    let outcome = loadgen("rr no-such-host.invalid:80");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("no-such-host.invalid"), "{}", outcome.stderr);
}

#[test]
fn out_of_descriptors_is_said_before_anything_is_begun() {
    let server = Server::start(|number, _| panic!("connection {number} was opened"));
    // More than 1,024 tables hold, whatever the limit of each: the kernel's is about a thousand million (fs.nr_open).
    let outcome = loadgen(&format!("rr {} -c 2147483648 --threads 1", server.address));
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
    for wanted in ["out of descriptors", "2,147,483,648 connections", "would fit", "--nofile=", "loadgen doctor"] {
        assert!(outcome.stderr.contains(wanted), "no '{wanted}' in {}", outcome.stderr);
    }
}

#[test]
fn a_low_limit_is_said_with_what_is_needed_and_what_for() {
    let line = format!("ulimit -n 20; exec {} rr tcp://127.0.0.1:9 -c 50", env!("CARGO_BIN_EXE_loadgen"));
    let output = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for wanted in [
        "65 are needed in the table of each of 50 threads",
        "64 for loadgen itself",
        "(`ulimit -n`) is 20",
        "--nofile=65",
    ] {
        assert!(said.contains(wanted), "no '{wanted}' in {said}");
    }
    assert!(!said.contains(" × 0"), "{said}");
}

#[test]
fn a_source_that_is_another_machines_is_named() {
    let outcome = loadgen("rr 192.0.2.1:9 --source 192.0.2.77");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("192.0.2.77 is no address of this machine"), "{}", outcome.stderr);
}

#[test]
fn several_targets_get_equally_many_from_the_sources_given() {
    let peers = Arc::new(Mutex::new(Vec::new()));
    let servers = [(); 3].map(|()| {
        let peers = Arc::clone(&peers);
        Server::start(move |_, stream| {
            let (here, from) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            peers.lock().unwrap().push((here, from));
            echo(stream);
        })
    });
    let [one, two, three] = servers.each_ref().map(|server| server.address);
    let (code, results) = measure(&format!("hold {one},{two} {three} -c 30 -d 50ms --source 127.31.7.0/30"));
    assert_eq!(code, Some(0), "{results:#}");
    let peers = peers.lock().unwrap();
    for server in [one, two, three] {
        assert_eq!(peers.iter().filter(|(here, _)| *here == server).count(), 10);
    }
    assert!(peers.iter().all(|(_, from)| from.ip() == IpAddr::from([127, 31, 7, 1])), "{peers:?}");
}

#[test]
fn connects_are_paced() {
    let server = Server::good();
    let (code, results) = measure(&format!("rr {} -c 10 --connect-rate 50 -d 100ms", server.address));
    assert_eq!(code, Some(0));
    let connect = stage(&results, "connect");
    // The tenth is due after nine fiftieths of a second: a lower bound, which no slow machine breaks.
    assert!(connect["elapsed_s"].as_f64() >= Some(0.18), "{connect:#}");
}
