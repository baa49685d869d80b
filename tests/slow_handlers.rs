//! A handler that holds up its shard, for less than what would pass for a pause of the whole process, makes nobody's time run out.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::channel;
use std::thread::sleep;
use std::time::Duration;

use support::{Order, Script, builder, bytes, connect, connect_many, converse, expect, hold, wait_until};

/// A shard that is held up for so long and a little more has been for longer than its connections may be idle.
const IDLE: Duration = Duration::from_millis(400);
const MORE: Duration = Duration::from_millis(100);

#[test]
fn who_is_welcomed_slowly_is_served() {
    let script = Script::echo().incoming(|_| {
        sleep(IDLE + MORE);
        true
    });
    let server = script.start(builder().shards(1).idle_timeout(Some(IDLE)));
    let mut stream = connect(server.local_addr());
    stream.write_all(&bytes(1, 0, 10)).unwrap();
    expect(&stream, 1, 0, 10);
}

#[test]
fn who_is_served_slowly_has_its_whole_idle_time_afterwards() {
    let idle = Duration::from_millis(800);
    let script = Script::echo().readable(move |client| {
        let data = client.recv();
        if data == b"slowly" {
            sleep(idle + MORE);
        }
        client.send(data)
    });
    let server = script.start(builder().shards(1).idle_timeout(Some(idle)));
    let mut stream = connect(server.local_addr());
    for _ in 0..2 {
        stream.write_all(b"slowly").unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
    }
}

#[test]
fn what_came_while_another_was_welcomed_is_read_before_anybody_is_idle() {
    /// Nobody is to be held up yet; the next is; somebody is; he may go.
    const FREE: u8 = 0;
    const ASKED: u8 = 1;
    const HELD: u8 = 2;
    const GO: u8 = 3;
    let state = Arc::new(AtomicU8::new(FREE));
    let seen = Arc::clone(&state);
    let script = Script::echo().incoming(move |_| {
        if seen.compare_exchange(ASKED, HELD, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            wait_until("it may go", || seen.load(Ordering::SeqCst) == GO);
            sleep(IDLE + MORE);
        }
        true
    });
    let server = script.start(builder().shards(1).idle_timeout(Some(IDLE)));
    let mut streams: Vec<TcpStream> = (0..5).map(|_| connect(server.local_addr())).collect();
    wait_until("all are there", || script.log.opened().len() == 5);
    state.store(ASKED, Ordering::SeqCst);
    let newcomer = connect(server.local_addr());
    wait_until("it is held up", || state.load(Ordering::SeqCst) == HELD);
    for (stream, key) in streams.iter_mut().zip(0..) {
        stream.write_all(&bytes(key, 0, 10)).unwrap();
    }
    state.store(GO, Ordering::SeqCst);
    for (stream, key) in streams.iter().zip(0..) {
        expect(stream, key, 0, 10);
    }
    drop(newcomer);
}

#[test]
fn who_spoke_in_time_is_heard_although_many_were_welcomed_before_it() {
    let script = Script::echo()
        .incoming(|client| {
            sleep(Duration::from_millis(10));
            client.set_timeout(Some(Duration::from_millis(300)));
            true
        })
        .readable(|client| {
            client.set_timeout(None);
            let data = client.recv();
            client.send(data)
        });
    let server = script.start(builder().shards(1));
    let held = hold(&server, 0);
    let streams = connect_many(&server, 60);
    for (mut stream, key) in streams.iter().zip(0..) {
        stream.write_all(&bytes(key, 0, 10)).unwrap();
    }
    drop(held);
    for (stream, key) in streams.iter().zip(0..) {
        expect(stream, key, 0, 10);
    }
}

#[test]
fn who_is_visited_slowly_has_its_whole_idle_time_afterwards_and_who_spoke_meanwhile_is_read() {
    let idle = Duration::from_millis(800);
    let script = Script::echo();
    let server = script.start(builder().shards(1).idle_timeout(Some(idle)));
    let streams: Vec<TcpStream> = (0..6).map(|_| connect(server.local_addr())).collect();
    wait_until("all are there", || script.log.opened().len() == streams.len());
    let (visited, (tell, told)) = (script.log.opened()[..3].to_vec(), channel());
    let order = Order::new(move |shard| {
        tell.send(()).unwrap();
        // More than what would pass for a pause of the whole process.
        sleep(idle + Duration::from_secs(1));
        for &id in &visited {
            shard.client(id, |client, ()| client.send(b"now!"));
        }
    });
    server.remote().send(0, order).unwrap();
    told.recv().unwrap();
    let (visited, others) = streams.split_at(3);
    for (mut stream, key) in others.iter().zip(0..) {
        stream.write_all(&bytes(key, 0, 10)).unwrap();
    }
    for mut stream in visited {
        stream.read_exact(&mut [0; 4]).unwrap();
    }
    sleep(idle / 2);
    for (stream, key) in visited.iter().zip(10..) {
        converse(stream, key, 10, || 10);
    }
    for (stream, key) in others.iter().zip(0..) {
        expect(stream, key, 0, 10);
    }
}

#[test]
fn a_first_message_that_has_come_is_read_to_its_end_before_its_time_is_over() {
    const TIME: Duration = Duration::from_millis(1500);
    let (held, go) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicU8::new(0)));
    let (holds, may_go) = (Arc::clone(&held), Arc::clone(&go));
    let script = Script::echo().readable(move |client| {
        if client.peek() == b"hold\n" {
            holds.store(1, Ordering::SeqCst);
            wait_until("it may go", || may_go.load(Ordering::SeqCst) == 1);
            sleep(TIME + MORE);
        }
        match client.peek().ends_with(b"\n") {
            true => {
                let line = client.recv();
                client.send(line)
            }
            false => true,
        }
    });
    let server = script.start(builder().shards(1).read_budget(1 << 10).first_message_timeout(Some(TIME)));
    let mut stream = connect(server.local_addr());
    wait_until("it is there", || script.log.opened().len() == 1);
    let mut holder = connect(server.local_addr());
    holder.write_all(b"hold\n").unwrap();
    wait_until("the shard is held up", || held.load(Ordering::SeqCst) == 1);
    // More than a turn reads, and no more than the kernel takes.
    let line = [vec![b'x'; 45_000], vec![b'\n']].concat();
    stream.write_all(&line).unwrap();
    go.store(1, Ordering::SeqCst);
    let mut answer = vec![0; line.len()];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer == line);
}
