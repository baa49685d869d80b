//! What a peer sends to an echo server comes back, in order and once: any size, any pieces, many at once.

mod support;

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use support::{Random, Script, builder, bytes, connect, connect_many, connect_narrow, conserve, expect, expect_end};

const SIZE_MAX: usize = 8 << 20;

/// Powers of two and their neighbours, and primes between them.
fn sizes() -> Vec<usize> {
    let powers = (0..=SIZE_MAX.ilog2()).map(|exponent| 1usize << exponent);
    let near = powers.flat_map(|power| [power - 1, power, power + 1]);
    let primes = [3, 7, 13, 61, 251, 1021, 4093, 9973, 16_381, 65_521, 104_729, 1_299_709];
    let mut sizes: Vec<usize> = near.chain(primes).filter(|size| (1..=SIZE_MAX).contains(size)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

#[test]
fn every_size_comes_back_on_a_connection_of_its_own() {
    let script = Script::echo();
    let server = script.start(builder());
    for size in sizes() {
        conserve(&connect(server.local_addr()), size as u64, size, || size);
    }
    let stats = script.log.stop_and_check(server);
    assert_eq!(stats.total.bytes_in, sizes().iter().sum::<usize>() as u64);
    assert_eq!(stats.total.bytes_out, stats.total.bytes_in);
}

#[test]
fn every_size_comes_back_on_one_connection() {
    let server = Script::echo().start(builder());
    let stream = connect(server.local_addr());
    for size in sizes() {
        support::converse(&stream, size as u64, size, || size);
    }
    stream.shutdown(Shutdown::Write).unwrap();
    expect_end(&stream);
}

#[test]
fn a_stream_in_pieces_comes_back_whole() {
    let server = Script::echo().start(builder());
    conserve(&connect(server.local_addr()), 1, 5_000, || 1);
    for (seed, most) in [(2, 10), (3, 1_000), (4, 100_000)] {
        let mut random = Random(seed);
        conserve(&connect(server.local_addr()), seed, most * 20, move || random.size(most));
    }
}

#[test]
fn questions_need_not_wait_for_answers() {
    let server = Script::echo().start(builder());
    let mut stream = connect(server.local_addr());
    let sizes: Vec<usize> = (0..500).map(|index| index % 97 + 1).collect();
    for (key, &size) in sizes.iter().enumerate() {
        stream.write_all(&bytes(key as u64, 0, size)).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    for (key, &size) in sizes.iter().enumerate() {
        expect(&stream, key as u64, 0, size);
    }
    expect_end(&stream);
}

#[test]
fn many_connections_at_once_keep_their_streams_apart() {
    let script = Script::echo();
    let server = script.start(builder());
    thread::scope(|scope| {
        for thread in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let streams = connect_many(server, 50);
                for round in 0..20 {
                    let len = 1 + round * 50;
                    let key = |index: usize| ((thread * 1000 + index) * 1000 + round) as u64;
                    streams.iter().enumerate().for_each(|(index, mut stream)| {
                        stream.write_all(&bytes(key(index), 0, len)).unwrap();
                    });
                    streams.iter().enumerate().for_each(|(index, stream)| expect(stream, key(index), 0, len));
                }
            });
        }
    });
    script.log.wait_closed(200);
    assert_eq!(script.log.stop_and_check(server).total.accepted, 200);
}

#[test]
fn more_in_flight_than_may_wait_comes_back_whole_to_a_slow_reader() {
    let server = Script::echo().start(builder().output_max(64 << 10));
    let (stream, len) = (connect_narrow(server.local_addr()), SIZE_MAX);
    thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&bytes(5, 0, len)).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        support::wait_until("output waits for the reader", || {
            let total = server.stats().total;
            total.bytes_in > total.bytes_out + (32 << 10)
        });
        expect(&stream, 5, 0, len);
        expect_end(&stream);
    });
}
