//! An order to disconnect reaches the connection that it names, as long as there is one, and nobody else.

mod support;

use std::sync::Mutex;
use std::sync::mpsc::channel;

use esockets::{CloseReason, Shard};
use support::{Order, Script, builder, bytes, connect, converse, expect, expect_end};

#[test]
fn an_order_disconnects_whom_it_names_after_what_was_sent() {
    let script = Script::echo();
    let server = script.start(builder().shards(1));
    let streams = [(); 3].map(|()| {
        let stream = connect(server.local_addr());
        converse(&stream, 1, 10, || 10);
        stream
    });
    let id = script.log.opened()[1];
    let tell =
        move |shard: &mut Shard<'_, ()>| assert!(shard.client(id, |client, ()| client.send(&bytes(4, 0, 100_000))));
    server.remote().send(0, Order::new(tell)).unwrap();
    server.remote().disconnect(id).unwrap();
    expect(&streams[1], 4, 0, 100_000);
    expect_end(&streams[1]);
    script.log.wait_closed(1);
    assert_eq!(script.log.reasons(), [CloseReason::Disconnected]);
    [&streams[0], &streams[2]].iter().for_each(|stream| converse(stream, 2, 1000, || 1000));
    script.log.stop_and_check(server);
}

#[test]
fn the_id_of_a_connection_that_is_gone_reaches_nobody() {
    let script = Script::echo();
    let server = script.start(builder().shards(1));
    drop(connect(server.local_addr()));
    script.log.wait_closed(1);
    let gone = script.log.opened()[0];
    // It takes over the slot of the one that is gone.
    let heir = connect(server.local_addr());
    converse(&heir, 1, 10, || 10);
    let (told, answer) = channel();
    let told = Mutex::new(told);
    let visit = Order::new(move |shard| told.lock().unwrap().send(shard.client(gone, |_, ()| false)).unwrap());
    server.remote().disconnect(gone).unwrap();
    server.remote().send_to_shard_of(gone, visit).unwrap();
    assert!(!answer.recv().unwrap(), "it is gone");
    converse(&heir, 2, 1000, || 1000);
    assert_eq!(script.log.reasons().len(), 1);
    script.log.stop_and_check(server);
}
