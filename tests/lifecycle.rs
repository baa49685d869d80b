//! Whatever this side ends a connection for, `handle_closed` tells it once for each session, with the right reason.

mod support;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use esockets::{Builder, CloseReason, Server};
use support::{Order, Script, builder, bytes, connect_many, expect, expect_end, expect_reset};

const CLIENTS: usize = 8;

/// Connects, lets `act` be each peer, and waits until every session has ended for `reason`, while
/// the peers are still there.
fn ends(builder: Builder, script: &Script, reason: CloseReason, act: impl Fn(&Server<Order>, &TcpStream)) {
    let server = script.start(builder);
    let streams = connect_many(&server, CLIENTS);
    streams.iter().for_each(|stream| act(&server, stream));
    script.log.wait_closed(CLIENTS);
    assert_eq!(script.log.reasons(), [reason; CLIENTS]);
    let stats = server.stats();
    assert_eq!((stats.total.open(), stats.total.closed(reason)), (0, CLIENTS as u64), "{stats}");
    assert_eq!(stats.total.accepted, stats.total.open() + stats.total.closed_total());
    drop(streams);
    script.log.stop_and_check(server);
}

fn say(mut stream: &TcpStream, count: usize) {
    stream.write_all(&bytes(1, 0, count)).unwrap();
}

/// Answers with 100,000 bytes, to be read by [`expect_answer`].
fn answer(client: &mut esockets::Client<'_>) -> bool {
    client.recv();
    client.send(&bytes(2, 0, 100_000))
}

fn last_answer(client: &mut esockets::Client<'_>) -> bool {
    assert!(answer(client));
    false
}

fn expect_answer(stream: &TcpStream) {
    expect(stream, 2, 0, 100_000);
    expect_end(stream);
}

#[test]
fn finished_when_the_handler_says_false_after_the_last_byte_has_left() {
    let script = Script::echo().readable(last_answer);
    ends(builder(), &script, CloseReason::Finished, |_, stream| {
        say(stream, 10);
        expect_answer(stream);
    });
}

#[test]
fn finished_when_the_handler_calls_close() {
    let script = Script::echo().readable(|client| {
        client.close();
        answer(client)
    });
    ends(builder(), &script, CloseReason::Finished, |_, stream| {
        say(stream, 10);
        expect_answer(stream);
    });
}

#[test]
fn finished_from_the_first_moment() {
    let script = Script::echo().incoming(|client| {
        client.close();
        answer(client)
    });
    ends(builder(), &script, CloseReason::Finished, |_, stream| expect_answer(stream));
}

#[test]
fn aborted_without_flushing() {
    let script = Script::echo().readable(|client| {
        client.abort();
        true
    });
    ends(builder(), &script, CloseReason::Aborted, |_, stream| {
        say(stream, 10);
        expect_reset(stream);
    });
}

#[test]
fn input_full_when_more_is_left_than_may_be() {
    let script = Script::echo().readable(|client| client.peek().len() <= 1000);
    ends(builder().input_max(1000), &script, CloseReason::InputFull, |_, stream| {
        // The reset may come while it still sends.
        let _ = { stream }.write_all(&bytes(1, 0, 1001));
        expect_reset(stream);
    });
}

#[test]
fn as_much_as_input_max_may_be_left_until_the_peer_finishes() {
    let script = Script::echo().readable(|_| true).eof(|client| {
        let rest = client.recv();
        !client.send(rest)
    });
    ends(builder().input_max(1000), &script, CloseReason::PeerClosed, |_, stream| {
        say(stream, 1000);
        stream.shutdown(Shutdown::Write).unwrap();
        expect(stream, 1, 0, 1000);
        expect_end(stream);
    });
}

#[test]
fn output_full_when_a_message_does_not_fit() {
    let script = Script::echo().readable(|client| client.send(&vec![0; 64 << 20]));
    ends(builder(), &script, CloseReason::OutputFull, |server, stream| {
        let full = || server.stats().total.closed(CloseReason::OutputFull);
        let before = full();
        say(stream, 10);
        // A peer that read at the same time could take the message as fast as it is sent.
        support::wait_until("it has ended", || full() > before);
        expect_reset(stream);
    });
}

#[test]
fn idle_when_nothing_moves() {
    let idle = builder().idle_timeout(Some(Duration::from_millis(30)));
    ends(idle, &Script::echo(), CloseReason::Idle, |_, stream| expect_end(stream));
}

#[test]
fn idle_only_when_the_handler_does_not_keep_it_any_longer() {
    let calls = AtomicUsize::new(0);
    let script = Script::echo().timeout(move |_| calls.fetch_add(1, Ordering::Relaxed) < 5 * CLIENTS);
    let idle = builder().shards(1).idle_timeout(Some(Duration::from_millis(10)));
    ends(idle, &script, CloseReason::Idle, |_, stream| expect_end(stream));
}

#[test]
fn expired_when_the_clients_own_timer_runs_out() {
    let script = Script::echo().timeout(last_answer).incoming(|client| {
        client.set_timeout(Some(Duration::from_millis(30)));
        true
    });
    ends(builder(), &script, CloseReason::Expired, |_, stream| expect_answer(stream));
}

#[test]
fn disconnected_from_another_thread() {
    ends(builder(), &Script::echo(), CloseReason::Disconnected, |server, stream| {
        support::wait_until("all are accepted", || server.stats().total.accepted == CLIENTS as u64);
        server.remote().disconnect_all().unwrap();
        expect_end(stream);
    });
}

#[test]
fn stopped_with_the_server() {
    let script = Script::echo();
    ends(builder(), &script, CloseReason::Stopped, |server, stream| {
        support::wait_until("all are accepted", || server.stats().total.accepted == CLIENTS as u64);
        server.stop();
        expect_end(stream);
    });
}
