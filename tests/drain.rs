//! Draining loses nobody: whoever was there before it began has its answer and an orderly end, at 2,000 new ones a second.

mod support;

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use esockets::{CloseReason, Server};
use support::{
    Order, Script, ask, builder, bytes, connect, connect_many, converse, expect, expect_end, hold, wait_unread,
    wait_until,
};

const ROUNDS: usize = 10;
const CLIENTS: u64 = 8;
/// Of each client: together 2,000 connections a second.
const PACE: Duration = Duration::from_millis(4);

#[test]
fn ten_drains_at_two_thousand_new_connections_a_second_lose_nobody() {
    for round in 0..ROUNDS {
        let script = Script::echo();
        let server = script.start(builder().queue_size(4000));
        let (address, drained, served) = (server.local_addr(), AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (drained, served) = (&drained, &served);
                scope.spawn(move || come_and_go(address, client, drained, served));
            }
            wait_until("they come and go", || served.load(Ordering::Relaxed) > 100 + round as u64 * 7);
            // Who has connected when this is read was there before.
            drained.store(true, Ordering::SeqCst);
            server.drain(support::PATIENCE);
        });
        let stats = server.join().unwrap();
        assert_eq!(stats.total.closed(CloseReason::PeerClosed), stats.total.accepted, "{stats}");
        script.log.check(&stats);
    }
}

/// One connection after the other, each with a question and an answer, until one comes too late.
fn come_and_go(address: SocketAddr, key: u64, drained: &AtomicBool, served: &AtomicU64) {
    let begun = Instant::now();
    for number in 1.. {
        let connected = TcpStream::connect(address);
        let was_there = !drained.load(Ordering::SeqCst);
        let answered = connected.and_then(|stream| ask(&stream, key));
        match answered {
            Ok(()) => served.fetch_add(1, Ordering::Relaxed),
            // The listener closes a moment later, and who waits in its queue then is reset.
            Err(_) if !was_there => return,
            Err(error) => panic!("one that was there has lost its answer: {error}"),
        };
        // It keeps the pace that it can, behind which nothing is waited for.
        thread::sleep((PACE * number).saturating_sub(begun.elapsed()));
    }
}

#[test]
fn who_is_there_is_served_as_ever_until_the_time_is_over_and_nobody_comes_in() {
    let script = Script::echo();
    let server: Server<Order> = script.start(builder());
    let there = connect_many(&server, 4);
    there.iter().for_each(|stream| converse(stream, 1, 10, || 10));
    server.drain(support::PATIENCE);
    wait_until("nobody listens any more", || {
        TcpStream::connect(server.local_addr()).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    there.iter().for_each(|stream| converse(stream, 2, 10_000, || 100));
    // The time may be shortened; then it stops, which lets them go.
    server.drain(Duration::from_millis(50));
    there.iter().for_each(expect_end);
    script.log.check(&server.join().unwrap());
    // The others only asked whether somebody listens.
    let stopped = script.log.reasons().iter().filter(|&&reason| reason == CloseReason::Stopped).count();
    assert_eq!(stopped, 4);
}

#[test]
fn a_server_that_nobody_is_connected_to_has_drained() {
    let server = Script::echo().start(builder());
    drop(connect(server.local_addr()));
    server.drain(support::PATIENCE);
    server.join().unwrap();
}

#[test]
fn a_queue_that_is_full_to_the_last_is_taken_whole() {
    // Linux lets one more wait than it was told.
    const QUEUE: usize = 4;
    for drains in [true, false] {
        let script = Script::echo();
        let server = script.start(builder().shards(1).queue_size(QUEUE as u32));
        let go = hold(&server, 0);
        let waiting = connect_many(&server, QUEUE + 1);
        for (key, mut stream) in waiting.iter().enumerate() {
            stream.write_all(&bytes(key as u64, 0, 100)).unwrap();
            wait_unread(stream, 100);
        }
        if drains {
            server.drain(support::PATIENCE)
        } else {
            server.stop()
        }
        go.send(()).unwrap();
        for (key, stream) in waiting.iter().enumerate() {
            expect(stream, key as u64, 0, 100);
            stream.shutdown(Shutdown::Write).unwrap();
            expect_end(stream);
        }
        script.log.check(&server.join().unwrap());
    }
}
