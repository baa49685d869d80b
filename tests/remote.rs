//! From any thread, messages reach the shard and the connection that they are for, and nobody else.

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc::channel};
use std::thread;

use esockets::{Client, ClientId, CloseReason, Unsent};
use support::{Order, Script, builder, bytes, connect, connect_many, converse, expect, expect_end, wait_until};

/// Sends `len` bytes of `key`'s stream to one connection.
fn tell(id: ClientId, key: u64, len: usize) -> Order {
    Order::new(move |shard| {
        assert_eq!(shard.index(), id.shard());
        assert!(shard.client(id, |client, ()| client.id() == id && client.send(&bytes(key, 0, len))));
    })
}

#[test]
fn a_message_reaches_its_shard() {
    let script = Script::echo();
    let server = script.start(builder().shards(3));
    let seen = Arc::new(Mutex::new(Vec::new()));
    for index in 0..3 {
        let seen = Arc::clone(&seen);
        server
            .remote()
            .send(index, Order::new(move |shard| seen.lock().unwrap().push((index, shard.index()))))
            .unwrap();
    }
    wait_until("all have come", || seen.lock().unwrap().len() == 3);
    assert!(seen.lock().unwrap().iter().all(|(sent, came)| sent == came));
    assert_eq!(server.remote().shards(), 3);
    assert!(matches!(server.remote().send(3, Order::new(|_| {})), Err(Unsent::NoShard(_))));
}

#[test]
fn a_connection_is_reached_by_its_id_from_many_threads() {
    let script = Script::echo();
    let server = script.start(builder().shards(3));
    let streams: Vec<_> = (0..60)
        .map(|key| {
            let stream = connect(server.local_addr());
            converse(&stream, key, 100, || 100);
            (stream, *script.log.opened().last().unwrap())
        })
        .collect();
    thread::scope(|scope| {
        for chunk in streams.chunks(20) {
            let remote = server.remote();
            scope.spawn(move || {
                for (key, (stream, id)) in chunk.iter().enumerate() {
                    remote.send_to_shard_of(*id, tell(*id, key as u64, 1000)).unwrap();
                    expect(stream, key as u64, 0, 1000);
                }
            });
        }
    });
    assert_eq!(script.log.stop_and_check(server).total.panics, 0);
}

#[test]
fn messages_of_one_thread_keep_their_order() {
    let server = Script::echo().start(builder().shards(1).mailbox_max(10_000));
    let stream = connect(server.local_addr());
    converse(&stream, 1, 10, || 10);
    for index in 0..5_000 {
        let part = move |client: &mut Client<'_>, (): &mut ()| client.send(&bytes(2, index * 10, 10));
        server.remote().send(0, Order::new(move |shard| shard.each_client(part))).unwrap();
    }
    expect(&stream, 2, 0, 50_000);
}

#[test]
fn a_broadcast_reaches_every_client_of_every_shard_once() {
    let server = Script::echo().start(builder().shards(3));
    let streams = connect_many(&server, 150);
    streams.iter().for_each(|stream| converse(stream, 1, 10, || 10));
    let counted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&counted);
    let all = Order::new(move |shard| {
        count.fetch_add(shard.len(), Ordering::Relaxed);
        assert!(!shard.is_empty());
        shard.each_client(|client, ()| client.send(&bytes(3, 0, 1000)));
    });
    assert_eq!(server.remote().send_to_all(&all), 3);
    streams.iter().for_each(|stream| expect(stream, 3, 0, 1000));
    assert_eq!(counted.load(Ordering::Relaxed), 150);
    server.remote().disconnect_all().unwrap();
    streams.iter().for_each(expect_end);
    assert_eq!(server.stats().total.closed(CloseReason::Disconnected), 150);
}

#[test]
fn a_full_mailbox_gives_the_message_back() {
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let server = Script::echo().start(builder().shards(2).mailbox_max(4));
    let remote = server.remote();
    let (held, called) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (holds, calls) = (Arc::clone(&held), Arc::clone(&called));
    let hold = Order::new(move |_| {
        holds.fetch_add(1, Ordering::Relaxed);
        gate.lock().unwrap().recv().unwrap();
    });
    remote.send(0, hold).unwrap();
    wait_until("the shard is held up", || held.load(Ordering::Relaxed) == 1);
    let add = Order::new(move |_| {
        calls.fetch_add(1, Ordering::Relaxed);
    });
    let taken = (0..100).take_while(|_| remote.send(0, add.clone()).is_ok()).count();
    assert!((4..=8).contains(&taken), "{taken} messages were taken");
    let Err(Unsent::Full(order)) = remote.send(0, add) else { panic!("it is full") };
    assert_eq!(remote.send_to_all(&order), 1, "the other shard's has room");
    go.send(()).unwrap();
    wait_until("those that were taken have been handled", || called.load(Ordering::Relaxed) == taken + 1);
    remote.send(0, order).unwrap();
    wait_until("there is room again", || called.load(Ordering::Relaxed) == taken + 2);
}
