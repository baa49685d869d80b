//! The conservation check: streams of bytes in which each byte is known by its place.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

/// The numbers of splitmix64: the same for the same seed, everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 1 to `most`.
    pub(crate) fn size(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize + 1
    }
}

fn mix(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

/// `len` bytes of the stream that `key` names, from `offset` on. A byte that is lost, doubled, swapped or another stream's
/// shows: no eight bytes are alike.
pub(crate) fn bytes(key: u64, offset: usize, len: usize) -> Vec<u8> {
    let mut words = Vec::with_capacity(len + 16);
    for word in offset / 8..(offset + len).div_ceil(8) {
        words.extend_from_slice(&mix(mix(key).wrapping_add(word as u64)).to_le_bytes());
    }
    words.drain(..offset % 8);
    words.truncate(len);
    words
}

/// Checks that `data` is `key`'s stream from `offset` on.
pub(crate) fn verify(key: u64, offset: usize, data: &[u8]) {
    let due = bytes(key, offset, data.len());
    if data != due {
        let wrong = data.iter().zip(&due).position(|(is, due)| is != due).unwrap_or(0);
        panic!("stream {key:#x}: byte {} is not what was sent", offset + wrong);
    }
}

/// Reads the next `len` bytes of `key`'s stream, which is at `offset`.
pub(crate) fn expect(mut stream: &TcpStream, key: u64, offset: usize, len: usize) {
    let (mut done, mut buffer) = (0, vec![0; len.min(256 << 10)]);
    while done < len {
        let most = buffer.len().min(len - done);
        let count = stream.read(&mut buffer[..most]).unwrap_or_else(|error| panic!("after {done} of {len}: {error}"));
        assert!(count > 0, "stream {key:#x} ended after {done} of {len} bytes");
        verify(key, offset + done, &buffer[..count]);
        done += count;
    }
}

/// Nothing more comes but an orderly end.
pub(crate) fn expect_end(mut stream: &TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "{} bytes more than were sent", rest.len());
}

/// Sends `len` bytes in pieces of the sizes that `piece` gives and reads as many at the same time: what was sent is what
/// comes back, in order.
pub(crate) fn converse(stream: &TcpStream, key: u64, len: usize, mut piece: impl FnMut() -> usize + Send) {
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, mut sent, all) = (stream, 0, bytes(key, 0, len));
            while sent < len {
                let end = len.min(sent + piece());
                stream.write_all(&all[sent..end]).unwrap();
                sent = end;
            }
        });
        expect(stream, key, 0, len);
    });
}

/// The same, and then both sides finish: what was sent has come back once.
pub(crate) fn conserve(stream: &TcpStream, key: u64, len: usize, piece: impl FnMut() -> usize + Send) {
    converse(stream, key, len, piece);
    stream.shutdown(Shutdown::Write).unwrap();
    expect_end(stream);
}
