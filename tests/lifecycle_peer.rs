//! However a peer ends a connection, it gets all that it is owed, and `handle_closed` tells once what it did.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use esockets::{Client, CloseReason};
use support::{
    Order, Script, builder, bytes, connect, connect_many, connect_narrow, expect, expect_end, hold, reset, wait_unread,
    wait_until,
};

const ANSWER: usize = 8 << 20;

/// Answers each connection's first input with `ANSWER` bytes, most of which have to wait.
fn generous() -> Script {
    Script::echo().readable(|client| {
        client.recv();
        client.send(&bytes(3, 0, ANSWER))
    })
}

#[test]
fn peer_closed() {
    let script = Script::echo();
    let server = script.start(builder());
    let streams = connect_many(&server, 20);
    streams.iter().for_each(|stream| support::converse(stream, 1, 100, || 100));
    drop(streams);
    script.log.wait_closed(20);
    assert_eq!(script.log.reasons(), [CloseReason::PeerClosed; 20]);
    script.log.stop_and_check(server);
}

#[test]
fn who_only_finishes_sending_gets_the_whole_answer() {
    let script = generous();
    let server = script.start(builder().output_max(16 << 20));
    let mut stream = connect_narrow(server.local_addr());
    stream.write_all(b"question").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    expect(&stream, 3, 0, ANSWER);
    expect_end(&stream);
    script.log.wait_closed(1);
    assert_eq!(script.log.reasons(), [CloseReason::PeerClosed]);
    script.log.stop_and_check(server);
}

#[test]
fn what_the_handler_says_at_the_end_arrives() {
    let script = Script::echo().eof(|client| {
        assert!(client.is_eof() && client.send(&bytes(4, 0, 1000)));
        false
    });
    let server = script.start(builder());
    let stream = connect(server.local_addr());
    stream.shutdown(Shutdown::Write).unwrap();
    expect(&stream, 4, 0, 1000);
    expect_end(&stream);
    script.log.stop_and_check(server);
}

#[test]
fn a_half_that_the_handler_keeps_open_can_still_send() {
    let script = Script::echo().eof(|_| true);
    let server = script.start(builder());
    let stream = connect(server.local_addr());
    support::converse(&stream, 1, 100, || 100);
    let id = script.log.opened()[0];
    stream.shutdown(Shutdown::Write).unwrap();
    for round in 0..10 {
        let send = move |client: &mut Client<'_>, (): &mut ()| client.send(&bytes(round, 0, 100)) && round < 9;
        server.remote().send_to_shard_of(id, Order::new(move |shard| assert!(shard.client(id, send)))).unwrap();
        expect(&stream, round, 0, 100);
    }
    expect_end(&stream);
    script.log.wait_closed(1);
    assert_eq!(script.log.reasons(), [CloseReason::Finished]);
    assert_eq!(script.log.stop_and_check(server).total.panics, 0);
}

#[test]
fn a_half_that_the_handler_keeps_open_ends_when_the_peer_resets_it() {
    let script = Script::echo().eof(|_| true);
    let server = script.start(builder());
    for count in 1..=10 {
        let stream = connect(server.local_addr());
        support::converse(&stream, 1, 100, || 100);
        stream.shutdown(Shutdown::Write).unwrap();
        reset(stream);
        script.log.wait_closed(count);
    }
    assert_eq!(script.log.reasons(), [CloseReason::Reset; 10]);
    script.log.stop_and_check(server);
}

#[test]
fn reset_at_rest() {
    let script = Script::echo();
    let server = script.start(builder());
    let streams = connect_many(&server, 20);
    streams.iter().for_each(|stream| support::converse(stream, 1, 100, || 100));
    streams.into_iter().for_each(reset);
    script.log.wait_closed(20);
    assert_eq!(script.log.reasons(), [CloseReason::Reset; 20]);
    script.log.stop_and_check(server);
}

#[test]
fn reset_while_output_waits() {
    let script = generous();
    let server = script.start(builder().output_max(16 << 20));
    for _ in 0..10 {
        let mut stream = connect_narrow(server.local_addr());
        stream.write_all(b"question").unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
        reset(stream);
    }
    script.log.wait_closed(10);
    assert_eq!(script.log.reasons(), [CloseReason::Reset; 10]);
    script.log.stop_and_check(server);
}

/// Linux lets such a connection be accepted, and tells at the first read.
#[test]
fn reset_before_it_was_accepted() {
    let script = Script::echo().incoming(|client| {
        client.set_timeout(Some(Duration::from_secs(3600)));
        true
    });
    let server = script.start(builder().shards(1));
    let go = hold(&server, 0);
    let streams: Vec<TcpStream> = connect_many(&server, 20);
    streams.iter().for_each(|mut stream| stream.write_all(b"unheard").unwrap());
    streams.iter().for_each(|stream| wait_unread(stream, 7));
    streams.into_iter().for_each(reset);
    go.send(()).unwrap();
    script.log.wait_closed(20);
    assert_eq!(script.log.reasons(), [CloseReason::Reset; 20]);
    wait_until("the next is served", || {
        support::conserve(&connect(server.local_addr()), 1, 100, || 100);
        true
    });
    script.log.stop_and_check(server);
}
