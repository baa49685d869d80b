//! Packets that get lost, in a network of the test's own: everything arrives all the same, in order and once.
//!
//! With `ESOCKETS_STORM=10` ten times as many connections. Needs root and nftables, and says so when it skips.

mod support;

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use esockets::CloseReason;
use support::{Script, builder, connect, conserve};

/// Tells the test's own program, in its network, how many of a hundred packets get lost.
const LOSS: &str = "ESOCKETS_LOSS";
const CONNECTIONS: u64 = 40;
/// Bytes that each sends and gets back: a dozen packets each way.
const BYTES: usize = 20_000;
/// Where a packet may get lost ten times in a row.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs `inside` of this program in a network that has nothing but a loopback, from which packets get lost. They are sent
/// again soon, and as often as it takes, so that chance does not make the test slow, or fail.
fn in_a_lossy_network(percent: u32, inside: &str) {
    let rules = "ip link set lo up mtu 1500 && nft add table inet lossy && \
                 nft 'add chain inet lossy input { type filter hook input priority 0; }' && \
                 ip route change local 127.0.0.0/8 dev lo table local rto_min 10ms && \
                 echo 20 >/proc/sys/net/ipv4/tcp_syn_retries";
    let lossy = format!("nft add rule inet lossy input meta l4proto tcp numgen random mod 100 '<' {percent} drop");
    let possible = Command::new("unshare").args(["-n", "sh", "-c", &format!("{rules} && {lossy}")]).output();
    if !possible.as_ref().is_ok_and(|output| output.status.success()) {
        return println!("skipped: no network of its own, which takes root, unshare and nft: {possible:?}");
    }
    let program = std::env::current_exe().unwrap();
    let run = format!("{rules} && {lossy} && exec '{}' --exact {inside} --nocapture", program.display());
    let mut command = Command::new("unshare");
    command.args(["-n", "sh", "-c", &run]).env(LOSS, percent.to_string()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("were lost"), "{percent} %: {said}");
}

#[test]
fn one_packet_in_a_hundred_may_be_lost() {
    in_a_lossy_network(1, "converse_over_what_there_is");
}

#[test]
fn one_packet_in_twenty_may_be_lost() {
    in_a_lossy_network(5, "converse_over_what_there_is");
}

#[test]
fn one_packet_in_five_may_be_lost() {
    in_a_lossy_network(20, "converse_over_what_there_is");
}

/// What the others run in their networks; by itself, it has nothing to do.
#[test]
fn converse_over_what_there_is() {
    if std::env::var_os(LOSS).is_none() {
        return;
    }
    let script = Script::echo();
    let server = script.start(builder());
    let scale: u64 = std::env::var("ESOCKETS_STORM").map_or(1, |scale| scale.parse().unwrap());
    thread::scope(|scope| {
        for key in 0..CONNECTIONS * scale {
            let address = server.local_addr();
            scope.spawn(move || {
                let stream = connect(address);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                conserve(&stream, key, BYTES, || 1_000);
            });
        }
    });
    script.log.wait_closed((CONNECTIONS * scale) as usize);
    assert!(script.log.reasons().iter().all(|&reason| reason == CloseReason::PeerClosed));
    let sent_again = counter("RetransSegs");
    assert!(sent_again > 0, "nothing was lost");
    println!("{sent_again} segments were lost, and sent again");
}

/// One of TCP's counters of this network, from /proc/net/snmp.
fn counter(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    names.zip(values).find(|&(it, _)| it == name).unwrap().1.parse().unwrap()
}
