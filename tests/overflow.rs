//! What waits for peers that do not read is bounded for each and for their shard, and the policy says what becomes of the rest.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use esockets::{CloseReason, Overflow, Server};
use support::{
    Order, Script, builder, bytes, connect, connect_narrow, converse, expect, expect_reset, hold, wait_until,
};

const OUTPUT_MAX: usize = 64 << 10;
const SHARD_MAX: usize = 160 << 10;
/// More than all the kernel's buffers between two processes hold.
const LEN: usize = 8 << 20;
/// A message and its number are this long.
const MESSAGE: usize = 1000;

/// Sends a message of this number to everybody, and goes on whether it is taken or not.
fn publish(server: &Server<Order>, number: u32) {
    let message = number.to_le_bytes().repeat(MESSAGE / 4);
    let publish = Order::new(move |shard| {
        shard.each_client(|client, ()| {
            client.send(&message);
            true
        });
    });
    wait_until("there is room in the mailbox", || server.remote().send(0, publish.clone()).is_ok());
}

/// Reads messages up to that of `last`: each whole, and their numbers rise. Returns how many there were.
fn collect(mut stream: &TcpStream, last: u32) -> u32 {
    let (mut count, mut before, mut message) = (0, None, [0; MESSAGE]);
    while before != Some(last) {
        stream.read_exact(&mut message).unwrap();
        let number = u32::from_le_bytes(message[..4].try_into().unwrap());
        assert!(message.chunks(4).all(|chunk| chunk == &message[..4]), "message {number} is not whole");
        assert!(before < Some(number), "{number} after {before:?}");
        (count, before) = (count + 1, Some(number));
    }
    count
}

fn waiting(server: &Server<Order>) -> usize {
    server.stats().total.output_waiting as usize
}

#[test]
fn who_does_not_keep_up_misses_whole_messages_and_stays() {
    let script = Script::echo();
    let server = script.start(builder().shards(1).output_max(OUTPUT_MAX).overflow(Overflow::Refuse));
    let deaf = connect_narrow(server.local_addr());
    wait_until("it is there", || server.stats().total.open() == 1);
    let mut number = 0;
    while server.stats().total.refused_messages < 100 {
        publish(&server, number);
        number += 1;
        assert!(waiting(&server) <= OUTPUT_MAX);
    }
    // The last one comes when there is room again.
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| collect(&deaf, u32::MAX));
        wait_until("most has been read", || waiting(&server) == 0);
        publish(&server, u32::MAX);
        let missed = server.stats().total.refused_messages;
        assert_eq!(u64::from(reader.join().unwrap()) + missed, u64::from(number) + 1);
    });
    assert_eq!(server.stats().total.open(), 1);
    drop(deaf);
    script.log.stop_and_check(server);
}

#[test]
fn a_shard_has_no_more_waiting_than_it_may_and_who_reads_does_not_notice() {
    let script = Script::echo();
    let limits = builder().shards(1).output_max(OUTPUT_MAX).output_max_shard(Some(SHARD_MAX));
    let server = script.start(limits.overflow(Overflow::Refuse));
    let deaf: Vec<TcpStream> = (0..10).map(|_| connect_narrow(server.local_addr())).collect();
    wait_until("they are there", || server.stats().total.open() == 10);
    let (mut number, mut most) = (0, 0);
    while server.stats().total.refused_messages < 1000 {
        publish(&server, number);
        number += 1;
        most = most.max(waiting(&server));
    }
    assert!(most > 2 * OUTPUT_MAX && most <= SHARD_MAX, "{most} waited");
    // Everything has been published by then, and is for nobody who comes later.
    drop(hold(&server, 0));
    (0..20).for_each(|key| converse(&connect(server.local_addr()), key, 100_000, || 5_000));
    drop(deaf);
    wait_until("nothing waits for those who are gone", || waiting(&server) == 0);
    script.log.stop_and_check(server);
}

#[test]
fn whose_message_finds_no_room_on_the_shard_is_reset_by_default() {
    let script = Script::echo();
    let server = script.start(builder().shards(1).output_max(OUTPUT_MAX).output_max_shard(Some(SHARD_MAX)));
    let deaf: Vec<TcpStream> = (0..10).map(|_| connect_narrow(server.local_addr())).collect();
    wait_until("they are there", || server.stats().total.open() == 10);
    let ended = || server.stats().total.closed(CloseReason::OutputFull);
    let mut number = 0;
    // Ten times what one may have is more than the shard may: some end before they have reached their own limit.
    while ended() == 0 {
        publish(&server, number);
        number += 1;
        assert!(waiting(&server) <= SHARD_MAX);
    }
    while ended() < 10 {
        publish(&server, number);
        number += 1;
    }
    deaf.iter().for_each(expect_reset);
    assert_eq!(waiting(&server), 0);
    script.log.stop_and_check(server);
}

#[test]
fn who_is_only_waited_for_gets_everything() {
    // Each byte is answered by as many as fit nowhere.
    const ANSWER: usize = 3 * OUTPUT_MAX;
    let script = Script::echo().readable(|client| {
        let question = client.recv().to_vec();
        question.iter().all(|&byte| client.send(&vec![byte; ANSWER]))
    });
    let limits = builder().shards(1).output_max(OUTPUT_MAX).output_max_shard(Some(SHARD_MAX));
    let server = script.start(limits.read_budget(10).overflow(Overflow::Pause));
    let mut deaf = connect_narrow(server.local_addr());
    let questions = bytes(7, 0, LEN / ANSWER);
    deaf.write_all(&questions).unwrap();
    wait_until("more waits than may", || waiting(&server) > SHARD_MAX);
    for question in questions {
        let mut answer = vec![0; ANSWER];
        deaf.read_exact(&mut answer).unwrap();
        assert!(answer.iter().all(|&byte| byte == question));
    }
    assert_eq!(server.stats().total.open(), 1);
    drop(deaf);
    script.log.stop_and_check(server);
}

#[test]
fn who_asks_without_reading_is_not_read_while_the_shard_has_little_room() {
    // Room for an answer of each that is read once; without the shard's mark each would have 256 KiB.
    const SHARD_MAX: usize = 400 << 10;
    let script = Script::echo();
    let server = script.start(builder().shards(1).output_max_shard(Some(SHARD_MAX)));
    let lazy: Vec<TcpStream> = (0..4).map(|_| connect_narrow(server.local_addr())).collect();
    std::thread::scope(|scope| {
        for (key, mut stream) in lazy.iter().enumerate() {
            scope.spawn(move || stream.write_all(&bytes(key as u64, 0, LEN)).unwrap());
        }
        wait_until("the shard has little room", || waiting(&server) > SHARD_MAX / 2);
        (10..20).for_each(|key| converse(&connect(server.local_addr()), key, 10_000, || 500));
        lazy.iter().enumerate().for_each(|(key, stream)| expect(stream, key as u64, 0, LEN));
    });
    assert_eq!(server.stats().total.closed(CloseReason::OutputFull), 0);
    drop(lazy);
    script.log.stop_and_check(server);
}
