//! Who stops reading loses nothing: on resuming, what was left and what has come is shown, and then the end.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esockets::{Client, CloseReason, Server};
use support::{Order, Script, builder, bytes, connect, expect, expect_end, reset, wait_unread, wait_until};

/// What the handler saw, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, what: &str, bytes: &[u8]) {
        self.0.lock().unwrap().push(format!("{what} {}", String::from_utf8_lossy(bytes)));
    }

    fn wait(&self, what: &[&str]) {
        wait_until(&format!("the handler has seen {what:?}"), || self.0.lock().unwrap().len() >= what.len());
        assert_eq!(*self.0.lock().unwrap(), what);
    }
}

/// Takes lines; pauses after each, and leaves what is behind it.
fn lines(seen: &Seen) -> Script {
    let (taken, ended) = (seen.clone(), seen.clone());
    let script = Script::echo().readable(move |client| {
        if let Some(end) = client.peek().iter().position(|&byte| byte == b'\n') {
            taken.note("line", &client.peek()[..end]);
            client.consume(end + 1);
            client.pause();
        }
        true
    });
    script.eof(move |client| {
        ended.note("end", client.recv());
        false
    })
}

fn resume(server: &Server<Order>) {
    let resume = |client: &mut Client<'_>, (): &mut ()| {
        client.resume();
        true
    };
    server.remote().send(0, Order::new(move |shard| shard.each_client(resume))).unwrap();
}

fn start(script: &Script) -> (Server<Order>, TcpStream) {
    let server = script.start(builder().shards(1));
    let stream = connect(server.local_addr());
    (server, stream)
}

#[test]
fn what_was_left_is_shown_again_without_new_input() {
    let seen = Seen::default();
    let (server, mut stream) = start(&lines(&seen));
    stream.write_all(b"one\ntwo\nthree\nfo").unwrap();
    seen.wait(&["line one"]);
    resume(&server);
    seen.wait(&["line one", "line two"]);
    resume(&server);
    seen.wait(&["line one", "line two", "line three"]);
    resume(&server);
    stream.write_all(b"ur\n").unwrap();
    seen.wait(&["line one", "line two", "line three", "line four"]);
}

#[test]
fn what_came_during_a_pause_is_shown_after_it_and_then_the_end() {
    let seen = Seen::default();
    let script = lines(&seen);
    let (server, mut stream) = start(&script);
    stream.write_all(b"one\n").unwrap();
    seen.wait(&["line one"]);
    stream.write_all(b"two\n").unwrap();
    wait_unread(&stream, 4);
    stream.write_all(b"rest").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    // The end takes a place of its own in the queue.
    wait_unread(&stream, 9);
    assert_eq!(server.stats().total.bytes_in, 4, "nothing is read during a pause");
    resume(&server);
    seen.wait(&["line one", "line two"]);
    resume(&server);
    seen.wait(&["line one", "line two", "end rest"]);
    expect_end(&stream);
    script.log.wait_closed(1);
    assert_eq!(script.log.reasons(), [CloseReason::PeerClosed]);
    script.log.stop_and_check(server);
}

#[test]
fn what_came_before_a_reset_during_a_pause_is_shown_after_it() {
    let seen = Seen::default();
    let script = lines(&seen);
    let (server, mut stream) = start(&script);
    stream.write_all(b"one\n").unwrap();
    seen.wait(&["line one"]);
    stream.write_all(b"two\n").unwrap();
    wait_unread(&stream, 4);
    reset(stream);
    resume(&server);
    seen.wait(&["line one", "line two"]);
    resume(&server);
    script.log.wait_closed(1);
    assert_eq!(script.log.reasons(), [CloseReason::Reset]);
    script.log.stop_and_check(server);
}

#[test]
fn a_timer_can_resume() {
    let script = Script::echo().readable(|client| {
        client.pause();
        client.set_timeout(Some(Duration::from_millis(1)));
        let question = client.peek().len().min(1000);
        let answer = client.peek()[..question].to_vec();
        client.consume(question);
        client.send(&answer)
    });
    let script = script.timeout(|client| {
        client.resume();
        true
    });
    let (server, mut stream) = start(&script);
    stream.write_all(&bytes(1, 0, 20_000)).unwrap();
    expect(&stream, 1, 0, 20_000);
    drop(stream);
    script.log.stop_and_check(server);
}

#[test]
fn who_pauses_from_the_first_moment_is_served_after_resuming() {
    let script = Script::echo().incoming(|client| {
        client.pause();
        true
    });
    let (server, mut stream) = start(&script);
    stream.write_all(&bytes(1, 0, 50_000)).unwrap();
    wait_unread(&stream, 50_000);
    wait_until("it is accepted", || server.stats().total.accepted == 1);
    assert_eq!(server.stats().total.reads, 0);
    resume(&server);
    expect(&stream, 1, 0, 50_000);
}

#[test]
fn what_was_left_because_too_much_waited_is_shown_again_when_that_has_been_taken() {
    const ANSWER: usize = 100_000;
    let script = Script::echo().readable(|client| {
        while let Some(&byte) = client.peek().first() {
            if client.output_waiting() > 2 * ANSWER {
                client.resume();
                return true;
            }
            client.consume(1);
            if !client.send(&[byte; ANSWER]) {
                return false;
            }
        }
        true
    });
    // The low mark lies above what it bears, and then below: with and without the pressure that stops reading.
    for output_low in [4 * ANSWER, ANSWER] {
        let server = script.start(builder().shards(1).output_max(8 * ANSWER).output_low(output_low));
        let mut stream = connect(server.local_addr());
        stream.write_all(b"abcdefghijklmnopqrstuvwxyz").unwrap();
        let mut answer = vec![0; ANSWER];
        for byte in b'a'..=b'z' {
            stream.read_exact(&mut answer).unwrap();
            assert!(answer.iter().all(|&it| it == byte), "{}", char::from(byte));
        }
    }
}

#[test]
fn who_asks_for_the_same_again_and_again_does_not_hold_up_the_others() {
    let script = Script::echo().readable(|client| {
        if client.peek() == b"again" {
            client.resume();
            return true;
        }
        let data = client.recv();
        client.send(data)
    });
    let server = script.start(builder().shards(1));
    let [mut stubborn, other] = [(); 2].map(|()| connect(server.local_addr()));
    stubborn.write_all(b"again").unwrap();
    expect_echo(&other, 7);
    stubborn.write_all(b"!").unwrap();
    let mut answer = [0; 6];
    stubborn.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"again!");
}

fn expect_echo(mut stream: &TcpStream, key: u64) {
    stream.write_all(&bytes(key, 0, 1000)).unwrap();
    expect(stream, key, 0, 1000);
}
