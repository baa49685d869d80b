//! Connections come from where a server expects them: as few as suit the kernel from the address that it chooses.

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use support::{Server, echo, loadgen, measure};

#[test]
fn a_few_come_from_127_0_0_1_and_ports_of_the_kernels_choice() {
    let peers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&peers);
    let server = Server::start(move |_, stream| {
        seen.lock().unwrap().push(stream.peer_addr().unwrap());
        echo(stream);
    });
    let (code, results) = measure(&format!("rr {} -c 20 -d 50ms", server.address));
    assert_eq!(code, Some(0), "{results:#}");
    assert_eq!(results["plan"]["sources"]["chosen_by"], "kernel");
    let first = results["machine"]["ports_kernel"][0].as_u64().unwrap();
    let peers = peers.lock().unwrap();
    assert_eq!(peers.len(), 20);
    for peer in peers.iter() {
        assert_eq!(peer.ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
        assert!(u64::from(peer.port()) >= first, "{peer}");
    }
}

#[test]
fn the_report_says_where_they_came_from() {
    let server = Server::good();
    let of = |source: &str| loadgen(&format!("hold {} -c 3 -d 50ms --quiet {source}", server.address)).stdout;
    assert!(of("").contains("  from        127.0.0.1, ports that the kernel chose"), "{}", of(""));
    let given = of("--source 127.31.9.1");
    assert!(given.contains("  from        127.31.9.1, ports 1024 to 1026"), "{given}");
}

#[test]
fn sources_that_no_machine_has_are_refused_and_ipv4_written_as_ipv6_is_ipv4() {
    for source in ["224.0.0.1", "0.0.0.0", "255.255.255.255", "::", "ff02::1"] {
        let outcome = loadgen(&format!("hold 127.0.0.1:9 -c 3 --source {source}"));
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{source}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(&format!("no connection comes from {source}")), "{}", outcome.stderr);
    }
    // A broadcast address of one network depends on the machine.
    let outcome = loadgen("hold 127.0.0.1:9 -c 3 --source 127.255.255.255");
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("127.255.255.255 is no address of this machine"), "{}", outcome.stderr);
    let server = Server::good();
    let outcome = loadgen(&format!("hold {} -c 3 -d 50ms --quiet --source ::ffff:127.31.9.3", server.address));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("from        127.31.9.3, ports 1024 to 1026"), "{}", outcome.stdout);
}
