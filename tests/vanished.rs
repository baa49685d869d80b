//! Peers whose packets stop coming, as when a cable is pulled: they are found out, whether something is on its way to them or
//! not. Needs root and nftables, and says so when it skips.

mod support;

use std::process::Command;
use std::time::Duration;

use esockets::CloseReason;
use esockets::socket::Keepalive;
use support::{Order, Script, builder, connect_many, converse, wait_until};

/// Tells the test's own program that it is in a network of its own.
const ALONE: &str = "ESOCKETS_ALONE";
const SECOND: Duration = Duration::from_secs(1);
/// An address that is not the loopback's, whose peers are not probed.
const ADDRESS: &str = "10.0.0.1";
/// A network in which rules for what comes in can be made.
const FILTER: &str = "ip link set lo up && ip address add 10.0.0.1/32 dev lo && nft add table inet gone && \
                      nft 'add chain inet gone input { type filter hook input priority 0; }'";

#[test]
fn who_has_vanished_is_found_out() {
    let possible = Command::new("unshare").args(["-n", "sh", "-c", FILTER]).output();
    if !possible.as_ref().is_ok_and(|output| output.status.success()) {
        return println!("skipped: no network of its own, which takes root, unshare and nft: {possible:?}");
    }
    let program = std::env::current_exe().unwrap();
    let run = format!("{FILTER} && exec '{}' --exact vanish --nocapture", program.display());
    let output = Command::new("unshare").args(["-n", "sh", "-c", &run]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("were found out"), "{said}");
}

/// What the other runs in a network of its own; by itself, it has nothing to do.
#[test]
fn vanish() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let keepalive = |probes| Some(Keepalive { idle: SECOND, interval: SECOND, probes });
    // Asked by the kernel, and silent; with something unacknowledged; and as by default, where the time decides, not the probes.
    let cases = [(keepalive(2), None, false), (None, Some(2 * SECOND), true), (keepalive(99), Some(3 * SECOND), false)];
    let cases = cases.map(|(keepalive, user_timeout, speaks)| {
        let script = Script::echo();
        let server = script.start(builder().host(ADDRESS).keepalive(keepalive).user_timeout(user_timeout));
        let peers = connect_many(&server, 5);
        peers.iter().for_each(|peer| converse(peer, 1, 100, || 100));
        (script, server, peers, speaks)
    });
    let pulled = Command::new("nft").args(["add", "rule", "inet", "gone", "input", "drop"]).status();
    assert!(pulled.unwrap().success());
    for (_, server, ..) in cases.iter().filter(|(.., speaks)| *speaks) {
        let speak = Order::new(|shard| shard.each_client(|client, ()| client.send(b"are you there?")));
        assert_eq!(server.remote().send_to_all(&speak), server.remote().shards());
    }
    for (script, server, peers, _) in cases {
        wait_until("nobody is believed to be there", || server.stats().total.open() == 0);
        assert_eq!(script.log.reasons(), [CloseReason::Vanished; 5]);
        drop(peers);
    }
    println!("all were found out");
}
