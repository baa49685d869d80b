//! A peer that does not read costs `output_max` and no more, gets everything once it reads, and harms nobody.

mod support;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use esockets::Client;
use support::{Script, builder, bytes, connect, connect_narrow, converse, expect, expect_end, wait_until};

const OUTPUT_MAX: usize = 64 << 10;
const OUTPUT_LOW: usize = 16 << 10;
/// More than all the kernel's buffers between two processes hold.
const LEN: usize = 8 << 20;

/// The most that was ever seen.
#[derive(Clone, Default)]
struct Most(Arc<AtomicUsize>);

impl Most {
    fn saw(&self, value: usize) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    fn most(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn watched_echo(waiting: &Most) -> Script {
    let waiting = waiting.clone();
    Script::echo().readable(move |client| {
        waiting.saw(client.output_waiting());
        let data = client.recv();
        let sent = client.send(data);
        waiting.saw(client.output_waiting());
        assert_eq!(client.output_room(), OUTPUT_MAX - client.output_waiting());
        sent
    })
}

#[test]
fn peers_that_do_not_read_cost_no_more_than_the_limit_and_harm_nobody() {
    let waiting = Most::default();
    let script = watched_echo(&waiting);
    let server = script.start(builder().shards(1).output_max(OUTPUT_MAX).output_low(OUTPUT_LOW));
    let queued = || {
        let total = server.stats().total;
        total.bytes_in.saturating_sub(total.bytes_out)
    };
    let lazy: Vec<TcpStream> = (0..3).map(|_| connect_narrow(server.local_addr())).collect();
    thread::scope(|scope| {
        for (key, mut stream) in lazy.iter().enumerate() {
            scope.spawn(move || stream.write_all(&bytes(key as u64, 0, LEN)).unwrap());
            wait_until("output waits", || queued() > ((key + 1) * OUTPUT_LOW) as u64);
        }
        for key in 10..30 {
            converse(&connect(server.local_addr()), key, 100_000, || 5_000);
            // What has just been echoed counts as sent a moment after it has arrived.
            wait_until("no more waits than may", || queued() <= (lazy.len() * OUTPUT_MAX) as u64);
        }
        for (key, stream) in lazy.iter().enumerate() {
            expect(stream, key as u64, 0, LEN);
            stream.shutdown(Shutdown::Write).unwrap();
            expect_end(stream);
        }
    });
    let stats = script.log.stop_and_check(server);
    assert!((OUTPUT_LOW + 1..=OUTPUT_MAX).contains(&waiting.most()), "{} bytes waited", waiting.most());
    assert_eq!((stats.total.bytes_in, stats.total.panics), (stats.total.bytes_out, 0));
}

#[test]
fn handle_writable_comes_when_no_more_than_the_low_mark_waits() {
    let (waiting, calls) = (Most::default(), Most::default());
    let (seen, counted) = (waiting.clone(), calls.clone());
    let script = Script::echo().writable(move |client| {
        seen.saw(client.output_waiting());
        counted.saw(counted.most() + 1);
        true
    });
    let server = script.start(builder().shards(1).output_max(OUTPUT_MAX).output_low(OUTPUT_LOW));
    let stream = connect_narrow(server.local_addr());
    thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(&bytes(1, 0, LEN)).unwrap());
        expect(&stream, 1, 0, LEN);
    });
    assert!(calls.most() > 0 && waiting.most() <= OUTPUT_LOW, "{} calls, {} waited", calls.most(), waiting.most());
    script.log.stop_and_check(server);
}

/// Sends the next of `LEN` bytes until more than the low mark waits; false when all are sent.
fn produce(client: &mut Client<'_>, sent: &AtomicUsize) -> bool {
    let mut at = sent.load(Ordering::Relaxed);
    while at < LEN && client.output_waiting() <= OUTPUT_LOW {
        let count = client.output_room().min(LEN - at).min(10_000);
        assert!(client.send(&bytes(2, at, count)));
        at += count;
    }
    sent.store(at, Ordering::Relaxed);
    at < LEN
}

#[test]
fn handle_writable_keeps_a_producer_going_at_its_readers_pace() {
    let first = Arc::new(AtomicUsize::new(0));
    let next = Arc::clone(&first);
    let script = Script::echo().incoming(move |client| produce(client, &first));
    let script = script.writable(move |client| produce(client, &next));
    let server = script.start(builder().shards(1).output_max(OUTPUT_MAX).output_low(OUTPUT_LOW));
    let stream = connect_narrow(server.local_addr());
    expect(&stream, 2, 0, LEN);
    expect_end(&stream);
    assert_eq!(script.log.stop_and_check(server).total.panics, 0);
}
