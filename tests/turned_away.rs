//! Whom a limit keeps out hears the handler's farewell, whether he has spoken or not; costs nobody a seat, and is counted.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use esockets::{CloseReason, Refusal};
use support::{Script, builder, connect, connect_from, connect_many, converse, expect_end, hold, wait_until};

const FAREWELL: &[u8; 36] = b"-ERR max number of clients reached\r\n";

fn expect_farewell(mut stream: &TcpStream) {
    let mut heard = [0; FAREWELL.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, FAREWELL);
    expect_end(stream);
}

#[test]
fn whom_the_limit_keeps_out_is_told_so() {
    let script = Script::echo().farewell(FAREWELL);
    let server = script.start(builder().connections_max(Some(10)));
    let seated = connect_many(&server, 10);
    seated.iter().for_each(|stream| converse(stream, 7, 100, || 100));
    connect_many(&server, 200).iter().for_each(expect_farewell);
    let total = server.stats().total;
    assert_eq!((total.open(), total.refused(), total.turned_away(Refusal::ConnectionsMax)), (10, 200, 200));
    assert_eq!(total.turned_away(Refusal::ConnectionsPerAddress), 0);
    seated.iter().for_each(|stream| converse(stream, 8, 100, || 100));
    script.log.stop_and_check(server);
}

#[test]
fn who_has_spoken_hears_it_too() {
    let script = Script::echo().farewell(FAREWELL);
    let server = script.start(builder().shards(1).connections_per_address(Some(1)));
    let seated = connect(server.local_addr());
    converse(&seated, 7, 100, || 100);
    let held = hold(&server, 0);
    let eager: Vec<TcpStream> = connect_many(&server, 50);
    eager.iter().for_each(|mut stream| stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap());
    drop(held);
    eager.iter().for_each(expect_farewell);
    assert_eq!(server.stats().total.turned_away(Refusal::ConnectionsPerAddress), 50);
    script.log.stop_and_check(server);
}

#[test]
fn a_panic_on_that_occasion_costs_only_who_is_refused() {
    support::silence();
    let script = Script::echo().farewell(b"panic");
    let server = script.start(builder().shards(1).connections_max(Some(1)));
    let seated = connect(server.local_addr());
    converse(&seated, 7, 100, || 100);
    connect_many(&server, 3).iter().for_each(expect_end);
    wait_until("they are counted", || server.stats().total.closed(CloseReason::Refused) == 3);
    assert_eq!(server.stats().total.panics, 3);
    converse(&seated, 8, 100, || 100);
    script.log.stop_and_check(server);
}

#[test]
fn who_comes_too_often_is_kept_out_and_another_address_is_not() {
    let script = Script::echo().farewell(FAREWELL);
    let server = script.start(builder().accept_rate_per_address(Some(5)));
    // However long this takes, five come in at once, and five more each second.
    let began_at = Instant::now();
    let streams = connect_many(&server, 100);
    wait_until("they have been accepted", || server.stats().total.accepted == 100);
    let open = server.stats().total.open();
    let most = 5 + 5 * (began_at.elapsed().as_secs() + 1);
    assert!((5..=most).contains(&open), "{open} of {most}");
    assert_eq!(server.stats().total.turned_away(Refusal::AcceptRate), 100 - open);
    let other = connect_from([127, 0, 9, 1], server.local_addr());
    converse(&other, 1, 100, || 100);
    // And who waits comes in again.
    wait_until("there is a token", || {
        let stream = connect(server.local_addr());
        (&stream).write_all(b"?").unwrap();
        let mut answer = [0];
        (&stream).read_exact(&mut answer).is_ok() && answer == *b"?"
    });
    drop(streams);
    script.log.stop_and_check(server);
}
