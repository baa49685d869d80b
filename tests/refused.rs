//! A refused connection costs no session, hears the farewell in full even if it has spoken, and is counted.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use esockets::{CloseReason, Server};
use support::{
    Order, Script, builder, bytes, connect, connect_from, connect_many, converse, expect, expect_end, wait_until,
};

const FAREWELL: usize = 100_000;

fn refused(server: &Server<Order>) -> u64 {
    server.stats().total.refused()
}

/// Says no to everybody, at length.
fn unfriendly() -> Script {
    Script::echo().incoming(|client| {
        assert!(client.send(&bytes(6, 0, FAREWELL)));
        false
    })
}

fn expect_farewell(stream: &TcpStream) {
    expect(stream, 6, 0, FAREWELL);
    expect_end(stream);
}

#[test]
fn who_is_refused_hears_why() {
    let script = unfriendly();
    let server = script.start(builder());
    connect_many(&server, 20).iter().for_each(expect_farewell);
    wait_until("20 are counted", || refused(&server) == 20);
    assert!(script.log.reasons().is_empty(), "no session, no handle_closed");
    script.log.stop_and_check(server);
}

#[test]
fn who_has_spoken_hears_why_too() {
    let script = unfriendly();
    let server = script.start(builder());
    for size in [1, 1000, 100_000].repeat(10) {
        let mut stream = connect(server.local_addr());
        stream.write_all(&vec![1; size]).unwrap();
        expect_farewell(&stream);
    }
    wait_until("30 are counted", || refused(&server) == 30);
    assert_eq!(script.log.stop_and_check(server).total.closed(CloseReason::Refused), 30);
}

#[test]
fn who_is_refused_without_a_word_is_gone_at_once() {
    let script = Script::echo().incoming(|_| false);
    let server = script.start(builder());
    for stream in connect_many(&server, 20) {
        expect_end(&stream);
    }
    assert_eq!(refused(&server), 20);
    script.log.stop_and_check(server);
}

#[test]
fn who_comes_when_the_server_is_full_is_refused_until_somebody_leaves() {
    let script = Script::echo();
    let server = script.start(builder().shards(3).connections_max(Some(10)));
    let mut seated = connect_many(&server, 10);
    seated.iter().for_each(|stream| converse(stream, 7, 100, || 100));
    for round in 1..=3 {
        connect_many(&server, 5).iter().for_each(expect_end);
        assert_eq!(refused(&server), round * 5);
        assert_eq!(server.stats().total.open(), 10, "one over all shards, not one for each");
        seated.iter().for_each(|stream| converse(stream, 8, 100, || 100));
        seated.truncate(5);
        wait_until("five have left", || server.stats().total.open() == 5);
        wait_until("their seats are taken again", || {
            seated.push(connect(server.local_addr()));
            seated.len() == 10
        });
        seated.iter().for_each(|stream| converse(stream, 9, 100, || 100));
    }
    drop(seated);
    script.log.wait_closed(25);
    assert_eq!(script.log.stop_and_check(server).total.refused(), 15);
}

#[test]
fn who_was_refused_leaves_no_seat_taken() {
    let (turned_away, script) = (AtomicUsize::new(0), Script::echo());
    let script = script.incoming(move |_| turned_away.fetch_add(1, Ordering::Relaxed) >= 20);
    let server = script.start(builder().connections_max(Some(3)));
    for round in 1..=20 {
        expect_end(&connect(server.local_addr()));
        wait_until("it is counted", || refused(&server) == round);
    }
    let seated = connect_many(&server, 3);
    seated.iter().for_each(|stream| converse(stream, 1, 100, || 100));
    assert_eq!(script.log.stop_and_check(server).total.accepted, 23);
}

#[test]
fn nobody_takes_more_seats_than_one_address_may_have() {
    let script = Script::echo();
    let server = script.start(builder().connections_per_address(Some(3)));
    let from = |last| connect_from([127, 0, 9, last], server.local_addr());
    let mut greedy: Vec<TcpStream> = (0..3).map(|_| from(1)).collect();
    greedy.iter().for_each(|stream| converse(stream, 1, 100, || 100));
    (0..5).for_each(|_| expect_end(&from(1)));
    let modest: Vec<TcpStream> = (2..10).map(from).collect();
    modest.iter().for_each(|stream| converse(stream, 2, 100, || 100));
    assert_eq!((refused(&server), server.stats().total.open()), (5, 11), "over all shards");
    greedy.pop();
    wait_until("one has left", || server.stats().total.open() == 10);
    let again = from(1);
    converse(&again, 3, 100, || 100);
    expect_end(&from(1));
    script.log.stop_and_check(server);
}
