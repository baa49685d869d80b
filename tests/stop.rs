//! Stopping answers what has come, flushes what waits, tells each session once, and is over by its deadline.

mod support;

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use esockets::{CloseReason, Unsent};
use support::{
    Order, Script, builder, bytes, connect, connect_many, connect_narrow, conserve, converse, expect, expect_end, hold,
    wait_unread, wait_until,
};

const ANSWER: usize = 8 << 20;

/// Answers each connection's first input with `ANSWER` bytes, most of which have to wait.
fn generous() -> Script {
    Script::echo().readable(|client| {
        client.recv();
        client.send(&bytes(1, 0, ANSWER))
    })
}

#[test]
fn what_has_come_is_answered_and_late_arrivals_too() {
    let script = Script::echo();
    let server = script.start(builder().shards(1).accept_budget(1));
    let old = connect_many(&server, 20);
    old.iter().for_each(|stream| converse(stream, 1, 10, || 10));
    let go = hold(&server, 0);
    let late = connect_many(&server, 20);
    for (key, mut stream) in old.iter().chain(&late).enumerate() {
        stream.write_all(&bytes(key as u64, 0, 50_000)).unwrap();
        wait_unread(stream, 50_000);
    }
    server.stop();
    go.send(()).unwrap();
    for (key, stream) in old.iter().chain(&late).enumerate() {
        expect(stream, key as u64, 0, 50_000);
        expect_end(stream);
    }
    let stats = server.join().unwrap();
    assert_eq!(script.log.reasons(), [CloseReason::Stopped; 40]);
    script.log.check(&stats);
}

#[test]
fn what_has_come_is_answered_even_if_it_is_more_than_a_turn_reads() {
    let script = Script::echo();
    let server = script.start(builder().shards(1).read_budget(1000));
    let mut stream = connect(server.local_addr());
    converse(&stream, 1, 10, || 10);
    let go = hold(&server, 0);
    stream.write_all(&bytes(2, 0, 20_000)).unwrap();
    wait_unread(&stream, 20_000);
    server.stop();
    go.send(()).unwrap();
    expect(&stream, 2, 0, 20_000);
    expect_end(&stream);
    script.log.check(&server.join().unwrap());
}

#[test]
fn what_has_come_is_answered_even_if_earlier_answers_still_wait() {
    let script = Script::echo().readable(|client| {
        let key = u64::from(client.recv()[0]);
        client.send(&bytes(key, 0, ANSWER))
    });
    let server = script.start(builder().output_max(ANSWER).output_low(0));
    let mut stream = connect_narrow(server.local_addr());
    stream.write_all(&[1]).unwrap();
    wait_until("the first answer waits", || server.stats().total.bytes_out > 0);
    // It is not read while the answer to the first waits.
    stream.write_all(&[2]).unwrap();
    wait_unread(&stream, 1);
    server.stop();
    [1, 2].iter().for_each(|&key| expect(&stream, key, 0, ANSWER));
    expect_end(&stream);
    script.log.check(&server.join().unwrap());
}

#[test]
fn a_server_that_only_drains_has_a_successor_on_its_port() {
    for successor in [builder().shards(1), builder().shards(2), builder().share_port(true)] {
        let script = generous();
        let server = script.start(builder().output_max(ANSWER));
        let address = server.local_addr();
        let slow: Vec<TcpStream> = (0..4).map(|_| connect_narrow(address)).collect();
        slow.iter().for_each(|mut stream| stream.write_all(b"question").unwrap());
        wait_until("the answers wait", || server.stats().total.bytes_in >= 32);
        server.stop();
        wait_until("nobody listens any more", || TcpStream::connect(address).is_err());
        let successor = successor.port(address.port());
        // Its last listener may be a moment behind the first.
        wait_until("it has a successor", || successor.clone().handle_readable(|_| true).start().is_ok());
        assert!(server.stats().total.open() > 0, "it still drains");
    }
}

#[test]
fn a_slow_reader_gets_all_that_waits_for_it() {
    let script = generous();
    let server = script.start(builder().output_max(ANSWER));
    let mut stream = connect_narrow(server.local_addr());
    stream.write_all(b"question").unwrap();
    wait_until("the answer waits", || server.stats().total.bytes_out > 0);
    server.stop();
    wait_until("nobody listens any more", || TcpStream::connect(server.local_addr()).is_err());
    expect(&stream, 1, 0, ANSWER);
    expect_end(&stream);
    drop(stream);
    let stats = server.join().unwrap();
    assert_eq!((script.log.reasons().last(), stats.total.bytes_out), (Some(&CloseReason::Stopped), ANSWER as u64));
    script.log.check(&stats);
}

#[test]
fn nobody_listens_after_join_and_the_address_is_free() {
    let script = Script::echo();
    let server = script.start(builder());
    let address = server.local_addr();
    let streams = connect_many(&server, 20);
    streams.iter().for_each(|stream| converse(stream, 1, 100, || 100));
    let remote = server.remote();
    script.log.stop_and_check(server);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(matches!(remote.send(0, Order::new(|_| {})), Err(Unsent::Stopped(_))));
    streams.iter().for_each(expect_end);
    let again = Script::echo().start(builder().port(address.port()));
    conserve(&connect(again.local_addr()), 1, 100, || 100);
}

#[test]
fn a_peer_that_never_reads_does_not_hold_it_up_beyond_the_deadline() {
    for timeout in [Duration::ZERO, Duration::from_millis(50)] {
        let script = generous();
        let server = script.start(builder().output_max(ANSWER));
        let streams: Vec<TcpStream> = (0..4).map(|_| connect_narrow(server.local_addr())).collect();
        streams.iter().for_each(|mut stream| stream.write_all(b"question").unwrap());
        wait_until("all are answered", || script.log.opened().len() == 4 && server.stats().total.bytes_in == 32);
        server.stop_within(timeout);
        let stats = server.join().unwrap();
        assert_eq!(script.log.reasons(), [CloseReason::Stopped; 4]);
        script.log.check(&stats);
    }
}

#[test]
fn a_peer_that_never_stops_sending_does_not_either() {
    let script = Script::echo().readable(|client| !client.recv().is_empty());
    let server = script.start(builder());
    let mut stream = connect(server.local_addr());
    thread::scope(|scope| {
        // Until it is cut off.
        scope.spawn(move || while stream.write_all(&[0; 100_000]).is_ok() {});
        wait_until("it sends", || server.stats().total.bytes_in > 1 << 20);
        server.stop_within(Duration::from_millis(50));
        let stats = server.join().unwrap();
        assert_eq!(script.log.reasons(), [CloseReason::Stopped]);
        script.log.check(&stats);
    });
}

#[test]
fn a_second_stop_brings_the_deadline_forward() {
    let script = generous();
    let server = script.start(builder().output_max(ANSWER));
    let mut stream = connect_narrow(server.local_addr());
    stream.write_all(b"question").unwrap();
    wait_until("the answer waits", || server.stats().total.bytes_out > 0);
    server.stop_within(Duration::from_secs(3600));
    server.stop_within(Duration::from_secs(7200));
    wait_until("nobody listens any more", || TcpStream::connect(server.local_addr()).is_err());
    server.stop_within(Duration::ZERO);
    script.log.check(&server.join().unwrap());
}

#[test]
fn dropping_stops() {
    let script = Script::echo();
    let server = script.start(builder());
    let streams = connect_many(&server, 20);
    streams.iter().for_each(|stream| converse(stream, 1, 100, || 100));
    drop(server);
    assert_eq!(script.log.reasons(), [CloseReason::Stopped; 20], "drop waits until all is over");
    streams.iter().for_each(expect_end);
}

#[test]
fn under_fire_each_session_is_told_once() {
    let script = Script::echo();
    let server = script.start(builder().shards(3));
    let address = server.local_addr();
    thread::scope(|scope| {
        for key in 0..4 {
            scope.spawn(move || {
                // Until nobody listens, or the end comes in the middle of a talk.
                while let Ok(mut stream) = TcpStream::connect(address) {
                    let _ = stream.write_all(&bytes(key, 0, 5_000));
                    let _ = stream.shutdown(Shutdown::Write);
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                }
            });
        }
        wait_until("there is a crowd", || server.stats().total.accepted > 200);
        let stats = script.log.stop_and_check(server);
        assert!(stats.total.accepted > 200);
    });
}

#[test]
fn nobody_is_welcomed_when_the_time_is_over() {
    let script = Script::echo().incoming(|_| {
        thread::sleep(Duration::from_millis(10));
        true
    });
    let server = script.start(builder().shards(1));
    let go = hold(&server, 0);
    let waiting = connect_many(&server, 200);
    server.stop_within(Duration::from_millis(50));
    drop(go);
    let stats = server.join().unwrap();
    assert!(stats.total.accepted < 100, "{} welcomes of 10 ms each in 50 ms", stats.total.accepted);
    script.log.check(&stats);
    drop(waiting);
}

#[test]
fn messages_that_were_taken_before_are_handled() {
    let script = Script::echo();
    let server = script.start(builder().shards(1));
    let go = hold(&server, 0);
    let handled = Arc::new(AtomicUsize::new(0));
    for _ in 0..1000 {
        let handled = Arc::clone(&handled);
        let count = Order::new(move |_| {
            handled.fetch_add(1, Ordering::Relaxed);
        });
        server.remote().send(0, count).unwrap();
    }
    server.stop();
    drop(go);
    server.join().unwrap();
    assert_eq!(handled.load(Ordering::Relaxed), 1000);
}
