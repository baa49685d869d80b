//! Who says no first message, or takes nothing of what waits for him, is let go in time; who was not heard in time is not.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use esockets::{CloseReason, Server};
use support::{
    Order, Script, builder, bytes, connect, connect_narrow, expect, expect_end, hold, wait_unread, wait_until,
};

/// More than all the kernel's buffers between two processes hold.
const LEN: usize = 8 << 20;

fn closed(server: &Server<Order>, reason: CloseReason) -> u64 {
    server.stats().total.closed(reason)
}

/// Echoes lines, and leaves what is none.
fn lines() -> Script {
    Script::echo().readable(|client| {
        let end = client.peek().iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let line = client.peek()[..end].to_vec();
        client.consume(end);
        line.is_empty() || client.send(&line)
    })
}

fn converse_in_lines(mut stream: &TcpStream) {
    stream.write_all(b"hello\n").unwrap();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello\n");
}

#[test]
fn bytes_that_trickle_do_not_move_the_deadline_of_the_first_message() {
    let script = lines();
    let server = script.start(builder().first_message_timeout(Some(Duration::from_secs(1))));
    let prompt = connect(server.local_addr());
    converse_in_lines(&prompt);
    let mut drip = connect(server.local_addr());
    // As long as it is let, a byte at a time.
    let ended = (0..6_000).find_map(|_| {
        thread::sleep(Duration::from_millis(5));
        drip.write_all(b".").err().map(|error| error.kind())
    });
    assert!(matches!(ended, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)), "{ended:?}");
    wait_until("it is counted", || closed(&server, CloseReason::FirstMessageTimedOut) == 1);
    assert!(server.stats().total.bytes_in > 10, "it trickled");
    converse_in_lines(&prompt);
    script.log.stop_and_check(server);
}

#[test]
fn who_says_nothing_may_be_told_why_he_has_to_go() {
    let script = lines().timeout(|client| {
        client.send(b"408\n");
        false
    });
    let server = script.start(builder().first_message_timeout(Some(Duration::from_millis(50))));
    for mut stream in support::connect_many(&server, 20) {
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"408\n");
        expect_end(&stream);
    }
    script.log.wait_closed(20);
    assert_eq!(script.log.reasons(), [CloseReason::FirstMessageTimedOut; 20]);
    script.log.stop_and_check(server);
}

#[test]
fn a_timer_of_the_handlers_own_takes_its_place() {
    let count = AtomicUsize::new(0);
    let script = lines().incoming(move |client| {
        match count.fetch_add(1, Ordering::Relaxed) {
            0 => client.set_timeout(None),
            1 => client.set_timeout(Some(Duration::from_secs(3600))),
            _ => {}
        }
        true
    });
    let server = script.start(builder().shards(1).first_message_timeout(Some(Duration::from_millis(50))));
    let (first, second) = (connect(server.local_addr()), connect(server.local_addr()));
    wait_until("they are there", || server.stats().total.accepted == 2);
    expect_end(&connect(server.local_addr()));
    [first, second].iter().for_each(converse_in_lines);
    assert_eq!(closed(&server, CloseReason::FirstMessageTimedOut), 1);
    script.log.stop_and_check(server);
}

#[test]
fn who_spoke_in_time_is_heard_although_the_shard_was_held_up() {
    let script = lines();
    let server = script.start(builder().shards(1).first_message_timeout(Some(Duration::from_secs(2))));
    let [spoken, silent] = [(); 2].map(|()| connect(server.local_addr()));
    wait_until("they are there", || server.stats().total.accepted == 2);
    let held = hold(&server, 0);
    (&spoken).write_all(b"hello\n").unwrap();
    wait_unread(&spoken, 6);
    thread::sleep(Duration::from_millis(2_500));
    drop(held);
    let mut answer = [0; 6];
    (&spoken).read_exact(&mut answer).unwrap();
    expect_end(&silent);
    converse_in_lines(&spoken);
    assert_eq!(closed(&server, CloseReason::FirstMessageTimedOut), 1);
    script.log.stop_and_check(server);
}

/// Sends everybody much, at once.
fn generous() -> Script {
    Script::echo().incoming(|client| client.send(&bytes(3, 0, LEN)))
}

#[test]
fn who_takes_nothing_is_let_go_and_a_slow_reader_is_not() {
    let script = generous();
    let server = script.start(builder().output_max(2 * LEN).write_timeout(Some(Duration::from_secs(2))));
    let slow = connect_narrow(server.local_addr());
    let deaf = connect_narrow(server.local_addr());
    wait_until("output waits", || server.stats().total.output_waiting > LEN as u64);
    let mut done = 0;
    // So slowly that its kernel's buffer has no room to tell of for longer than that.
    for _ in 0..100 {
        expect(&slow, 3, done, 4 << 10);
        done += 4 << 10;
        thread::sleep(Duration::from_millis(50));
    }
    wait_until("the deaf one is let go", || closed(&server, CloseReason::WriteTimedOut) == 1);
    expect(&slow, 3, done, LEN - done);
    assert_eq!(server.stats().total.open(), 1);
    drop(deaf);
    script.log.stop_and_check(server);
}

#[test]
fn who_took_something_while_the_shard_was_held_up_is_not_let_go() {
    let script = generous();
    let limits = builder().shards(1).output_max(2 * LEN);
    let server = script.start(limits.write_timeout(Some(Duration::from_secs(2))));
    let reader = connect_narrow(server.local_addr());
    wait_until("output waits", || server.stats().total.output_waiting > 0);
    let held = hold(&server, 0);
    // What the kernel has, as far as it is there without the server's doing: a part of it.
    expect(&reader, 3, 0, 256 << 10);
    thread::sleep(Duration::from_millis(4_500));
    drop(held);
    expect(&reader, 3, 256 << 10, LEN - (256 << 10));
    assert_eq!(closed(&server, CloseReason::WriteTimedOut), 0);
    script.log.stop_and_check(server);
}

#[test]
fn nobody_is_let_go_for_whom_nothing_waits() {
    let script = Script::echo();
    let server = script.start(builder().write_timeout(Some(Duration::from_millis(20))));
    let quiet = connect(server.local_addr());
    let deaf = connect_narrow(server.local_addr());
    // He sends until he is let go, and reads nothing.
    thread::scope(|scope| {
        scope.spawn(|| while (&deaf).write_all(&[1; 64 << 10]).is_ok() {});
    });
    wait_until("he is counted", || closed(&server, CloseReason::WriteTimedOut) == 1);
    support::converse(&quiet, 1, 1000, || 100);
    script.log.stop_and_check(server);
}
