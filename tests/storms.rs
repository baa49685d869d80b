//! Peers at their worst, many of them at once: a firehose, resets in the middle, half-closed and silent ones. Nobody else is
//! harmed, and nothing is left of any.
//!
//! `ESOCKETS_STORM=100` makes each of them so many times as large: `ESOCKETS_STORM=20 cargo test --release --test storms`.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use support::{Random, Script, builder, bytes, connect, connect_many, converse, expect, expect_end, reset, wait_until};

fn scale() -> usize {
    std::env::var("ESOCKETS_STORM").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

#[test]
fn a_firehose_drowns_no_pinger() {
    let script = Script::echo();
    let server = script.start(builder().shards(1));
    let pingers = connect_many(&server, (100 * scale()).min(1_000));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| spray(server.local_addr(), &over));
        wait_until("it sprays", || server.stats().total.bytes_in > 16 << 20);
        let before = server.stats().total;
        for round in 0..20 {
            for (key, mut stream) in pingers.iter().enumerate() {
                stream.write_all(&bytes(key as u64, round * 16, 16)).unwrap();
            }
            for (key, stream) in pingers.iter().enumerate() {
                expect(stream, key as u64, round * 16, 16);
            }
        }
        let sprayed = server.stats().total.bytes_in - before.bytes_in;
        over.store(true, Ordering::Relaxed);
        assert!(sprayed > 20 * 16 * pingers.len() as u64, "it was there all the time");
    });
    drop(pingers);
    wait_until("all have gone", || server.stats().total.open() == 0);
    script.log.stop_and_check(server);
}

/// Sends as fast as it goes, and reads what comes back as fast.
fn spray(address: SocketAddr, over: &AtomicBool) {
    let stream = connect(address);
    thread::scope(|scope| {
        scope.spawn(|| {
            let block = vec![7; 256 << 10];
            while !over.load(Ordering::Relaxed) {
                (&stream).write_all(&block).unwrap();
            }
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut buffer = vec![0; 256 << 10];
        while (&stream).read(&mut buffer).unwrap() > 0 {}
    });
}

#[test]
fn resets_in_the_middle_of_anything_harm_nobody() {
    let script = Script::echo();
    let server = script.start(builder());
    let (address, over) = (server.local_addr(), AtomicBool::new(false));
    let good = connect(address);
    let mut count = 1;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                converse(&good, 1, 10_000, || 1_000);
            }
        });
        let mut random = Random(42);
        for _ in 0..500 * scale() {
            let mut stream = connect(address);
            count += 1;
            match random.size(5) {
                // Before it has said anything; in the middle of a message, with the answer unread; after the answer.
                1 => {}
                2 => stream.write_all(&bytes(2, 0, random.size(100_000))).unwrap_or_default(),
                3 => converse(&stream, 3, 100, || 100),
                // Its own end first: the reset then meets a connection that is closing.
                4 => stream.shutdown(Shutdown::Write).unwrap_or_default(),
                _ => {
                    stream.write_all(b"a question").unwrap_or_default();
                    stream.shutdown(Shutdown::Write).unwrap_or_default();
                }
            }
            reset(stream);
        }
        over.store(true, Ordering::Relaxed);
    });
    wait_until("the storm is over", || server.stats().total.open() == 1);
    assert_eq!(server.stats().total.accepted, count, "each of them was taken");
    converse(&good, 1, 10_000, || 1_000);
    drop(good);
    script.log.stop_and_check(server);
}

#[test]
fn the_half_closed_are_answered_and_leave_and_the_silent_stay() {
    let script = Script::echo();
    let server = script.start(builder());
    let silent = connect_many(&server, 50);
    for round in 0..scale() {
        let half: Vec<TcpStream> = connect_many(&server, 100);
        for (key, mut stream) in half.iter().enumerate() {
            stream.write_all(&bytes(key as u64, 0, 5_000)).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
        for (key, stream) in half.iter().enumerate() {
            expect(stream, key as u64, 0, 5_000);
            expect_end(stream);
        }
        wait_until("they have left", || server.stats().total.closed_total() == 100 * (round as u64 + 1));
    }
    for stream in &silent {
        stream.set_nonblocking(true).unwrap();
        assert_eq!(stream.peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "nobody has closed it");
    }
    assert_eq!(server.stats().total.open(), 50);
    drop(silent);
    wait_until("all have gone", || server.stats().total.open() == 0);
    script.log.stop_and_check(server);
}
