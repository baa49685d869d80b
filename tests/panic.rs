//! A panic in any callback ends the connection in hand and no other: the server goes on.

mod support;

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esockets::CloseReason;
use support::{
    Order, Script, builder, connect, connect_narrow, conserve, converse, echo_unless_told, expect_reset, meant,
    say_panic, silence, wait_until,
};

/// Runs three connections into the panic between two that know nothing of it, all on one shard.
fn check(script: &Script, provoke: impl Fn(&TcpStream)) {
    silence();
    let server = script.start(builder().shards(1).output_max(64 << 10));
    let bystander = connect(server.local_addr());
    converse(&bystander, 1, 1000, || 1000);
    for round in 1..=3 {
        let stream = connect_narrow(server.local_addr());
        provoke(&stream);
        expect_reset(&stream);
        wait_until("it is counted", || server.stats().total.closed(CloseReason::Panicked) == round);
        converse(&bystander, round, 100_000, || 1000);
    }
    conserve(&connect(server.local_addr()), 2, 1000, || 1000);
    conserve(&bystander, 3, 1000, || 1000);
    assert_eq!(script.log.stop_and_check(server).total.panics, 3);
}

#[test]
fn in_handle_readable() {
    check(&Script::echo().readable(echo_unless_told), say_panic);
}

#[test]
fn in_handle_incoming() {
    let armed = Arc::new(AtomicBool::new(false));
    let trigger = Arc::clone(&armed);
    let script = Script::echo().incoming(move |_| !trigger.load(Ordering::Relaxed) || meant());
    silence();
    let server = script.start(builder().shards(1));
    let bystander = connect(server.local_addr());
    converse(&bystander, 1, 1000, || 1000);
    armed.store(true, Ordering::Relaxed);
    expect_reset(&connect(server.local_addr()));
    armed.store(false, Ordering::Relaxed);
    conserve(&connect(server.local_addr()), 2, 1000, || 1000);
    conserve(&bystander, 3, 1000, || 1000);
    let stats = script.log.stop_and_check(server);
    assert_eq!((stats.total.panics, stats.total.closed(CloseReason::Panicked)), (1, 1), "no session, yet counted");
}

#[test]
fn in_handle_eof() {
    let script = Script::echo().readable(|client| {
        // Left unconsumed, it is still there at the end.
        client.peek().starts_with(b"panic") || echo_unless_told(client)
    });
    let script = script.eof(|client| client.peek().starts_with(b"panic") && meant());
    check(&script, |stream| {
        say_panic(stream);
        stream.shutdown(Shutdown::Write).unwrap();
    });
}

#[test]
fn in_handle_timeout() {
    let script = Script::echo().timeout(|_| meant()).readable(|client| {
        if client.peek().starts_with(b"panic") {
            client.set_timeout(Some(Duration::from_millis(1)));
            client.recv();
            return true;
        }
        echo_unless_told(client)
    });
    check(&script, say_panic);
}

#[test]
fn in_handle_writable() {
    let script = Script::echo().writable(|_| meant()).readable(|client| {
        if client.peek().starts_with(b"panic") {
            client.recv();
            while client.output_waiting() < 48 << 10 {
                assert!(client.send(&[0; 1024]));
            }
            return true;
        }
        echo_unless_told(client)
    });
    // It reads until the reset, and so makes room for what waits.
    check(&script, say_panic);
}

#[test]
fn in_a_visit_from_handle_message() {
    silence();
    let script = Script::echo();
    let server = script.start(builder().shards(1));
    let (stream, bystander) = (connect(server.local_addr()), connect(server.local_addr()));
    converse(&stream, 1, 100, || 100);
    converse(&bystander, 1, 100, || 100);
    let id = script.log.opened()[0];
    server.remote().send(0, Order::new(move |shard| assert!(shard.client(id, |_, ()| meant())))).unwrap();
    expect_reset(&stream);
    server.remote().send(0, Order::new(|_| assert!(meant()))).unwrap();
    wait_until("both are counted", || server.stats().total.panics == 2);
    conserve(&bystander, 2, 100_000, || 1000);
    assert_eq!(script.log.stop_and_check(server).total.closed(CloseReason::Panicked), 1);
}
