//! A handler that blocks holds up its shard: the watchdog says which, by whom and for how long, and nobody else.

mod support;

use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esockets::{Server, Stall};
use support::{Order, PATIENCE, Script, builder, connect, connect_many, meant, silence, wait_until};

/// Long enough for a machine that is busy with other tests.
const ALLOWED: Duration = Duration::from_millis(200);

/// A server whose handler blocks where it is told "wait", until the sender sends or goes.
fn blocking(builder: esockets::Builder) -> (Server<Order>, std::sync::mpsc::Sender<()>) {
    let (go, gate) = channel();
    let gate = Mutex::new(gate);
    let script = Script::echo().readable(move |client| {
        let data = client.recv();
        if data == b"wait" {
            let _ = gate.lock().unwrap().recv();
        }
        client.send(data)
    });
    (script.start(builder), go)
}

#[test]
fn a_call_that_blocks_is_reported_with_its_shard_and_connection_and_again_as_it_lasts() {
    let (report, reports) = channel::<Stall>();
    let report = Mutex::new(report);
    let watched = builder().watchdog(ALLOWED, move |stall| report.lock().unwrap().send(stall.clone()).unwrap());
    let (server, go) = blocking(watched);
    let mut client = connect(server.local_addr());
    client.write_all(b"wait").unwrap();
    let first = reports.recv_timeout(PATIENCE).unwrap();
    let again = reports.recv_timeout(PATIENCE).unwrap();
    assert!(first.lasted >= ALLOWED && again.lasted >= 2 * ALLOWED, "{first:?} {again:?}");
    assert_eq!((first.shard, first.client), (again.shard, again.client), "the other shard only sleeps");
    assert_eq!(first.client.map(|client| client.shard()), Some(first.shard));
    assert!(first.to_string().contains("by connection"), "{first}");
    let stats = server.stats();
    assert_eq!((stats.shards[first.shard].stalls, stats.total.stalls), (1, 1), "one stall, however long");
    go.send(()).unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"wait", "it goes on as if nothing had happened");
}

#[test]
fn a_message_that_blocks_is_nobodys() {
    let stalls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&stalls);
    let watched = builder().watchdog(ALLOWED, move |stall| seen.lock().unwrap().push(stall.clone()));
    let server = Script::echo().start(watched);
    let visits = connect_many(&server, 20);
    wait_until("all are there", || server.stats().total.accepted == 20);
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let order = Order::new(move |shard| {
        shard.each_client(|_, ()| true);
        let _ = gate.lock().unwrap().recv();
    });
    server.remote().send(1, order).unwrap();
    wait_until("it is reported", || !stalls.lock().unwrap().is_empty());
    let stall = stalls.lock().unwrap()[0].clone();
    assert_eq!((stall.shard, stall.client), (1, None), "those whom it visited before are not to blame");
    drop((go, visits));
}

#[test]
fn a_shard_that_has_drained_is_not_held_up() {
    let stalls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&stalls);
    let watched = builder().watchdog(Duration::from_millis(20), move |stall| seen.lock().unwrap().push(stall.clone()));
    let (server, go) = blocking(watched);
    let mut client = connect(server.local_addr());
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    let busy = server.stats().shards.iter().position(|shard| shard.accepted == 1).unwrap();
    server.drain(PATIENCE);
    client.write_all(b"wait").unwrap();
    // The shard with a client is held up for so long that the other one would have been reported, too.
    wait_until("it is reported four times", || stalls.lock().unwrap().len() >= 4);
    assert!(stalls.lock().unwrap().iter().all(|stall| stall.shard == busy), "{stalls:?}");
    drop(go);
}

#[test]
fn a_report_that_panics_is_not_the_last() {
    silence();
    let count = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&count);
    let watched = builder().shards(1).watchdog(Duration::from_millis(20), move |_| {
        *seen.lock().unwrap() += 1;
        meant();
    });
    let (server, go) = blocking(watched);
    let mut client = connect(server.local_addr());
    client.write_all(b"wait").unwrap();
    wait_until("it is reported twice", || *count.lock().unwrap() >= 2);
    drop(go);
    server.stop();
    server.join().unwrap();
}
