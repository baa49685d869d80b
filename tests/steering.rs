//! Steering by core: a connection comes to the shard of the core on which its client runs, and nonsense is refused.

mod support;

use std::io::Write;
use std::thread;

use core_affinity::CoreId;
use esockets::{Client, Cores, Server, Steering};
use support::{connect_many, wait_until};

fn echo(client: &mut Client<'_>) -> bool {
    let data = client.recv();
    client.send(data)
}

/// Loopback processes a packet on the core that sends it.
#[test]
fn a_client_reaches_the_shard_of_its_own_core() {
    let cores: Vec<usize> = core_affinity::get_core_ids().unwrap().into_iter().map(|core| core.id).take(4).collect();
    // Last core first, so that a shard's index and its core are not the same by chance.
    let pinned: Vec<usize> = cores.iter().rev().copied().collect();
    let builder = Server::builder().port(0).cores(Cores::List(pinned.clone())).steering(Steering::Cpu);
    let server = builder.handle_readable(echo).start().unwrap();
    for (shard, &id) in pinned.iter().enumerate() {
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(core_affinity::set_for_current(CoreId { id }));
                connect_many(&server, 50).iter_mut().for_each(|client| client.write_all(b"x").unwrap());
            });
        });
        wait_until("each shard has those of its core", || {
            let accepted: Vec<u64> = server.stats().shards.iter().map(|shard| shard.accepted).collect();
            let wanted = |other: usize| if other <= shard { 50 } else { 0 };
            accepted.iter().enumerate().all(|(other, &accepted)| accepted == wanted(other))
        });
    }
    assert_eq!(server.stats().imbalance(), 1.0);
}

#[test]
fn one_shard_has_nothing_to_be_steered_to_and_starts() {
    let core = core_affinity::get_core_ids().unwrap()[0].id;
    let builder = Server::builder().port(0).cores(Cores::List(vec![core])).steering(Steering::Cpu);
    let server = builder.handle_readable(echo).start().unwrap();
    connect_many(&server, 3).iter_mut().for_each(|client| client.write_all(b"x").unwrap());
    wait_until("all are served", || server.stats().total.bytes_out == 3);
}

#[test]
fn steering_without_a_core_for_each_shard_is_refused() {
    let steered = || Server::builder().port(0).steering(Steering::Cpu);
    let refused = |builder: esockets::Builder| builder.handle_readable(echo).start().unwrap_err().to_string();
    for builder in [steered().cores(Cores::None).shards(1), steered().shards(5000 / 2), steered().share_port(true)] {
        let why = refused(builder);
        assert!(why.contains("`steering`"), "{why}");
    }
}
