//! The bytes that connections send: each connection's own, in an order of their own, and cheap to make and to check.
//!
//! A connection's stream is a sequence of 64-bit words, `mix(seed, index)`, that goes on across messages. A byte that is
//! corrupted, lost, doubled, out of order or another connection's therefore differs from the one expected at its place
//! (by chance it is the same once in 256 times a byte, once in 2^64 times a word).

/// The seed of connection number `connection` in a run with seed `run`.
pub(crate) fn seed(run: u64, connection: u64) -> u64 {
    mix(run, connection)
}

/// Writes what the stream of `seed` has from `position` on, in bytes, over all of `out`.
pub(crate) fn fill(seed: u64, position: u64, out: &mut [u8]) {
    let (head, rest) = out.split_at_mut(head_len(position, out.len()));
    for (offset, byte) in head.iter_mut().enumerate() {
        *byte = byte_at(seed, position + offset as u64);
    }
    let mut index = (position + head.len() as u64) / 8;
    let mut words = rest.chunks_exact_mut(8);
    for word in &mut words {
        word.copy_from_slice(&mix(seed, index).to_le_bytes());
        index += 1;
    }
    let tail = words.into_remainder();
    tail.copy_from_slice(&mix(seed, index).to_le_bytes()[..tail.len()]);
}

/// Whether `bytes` are what the stream of `seed` has from `position` on.
pub(crate) fn matches(seed: u64, position: u64, bytes: &[u8]) -> bool {
    let (head, rest) = bytes.split_at(head_len(position, bytes.len()));
    // Differences are gathered instead of returned at once: the usual case is that there are none, and it has no branch.
    let mut difference = 0;
    for (offset, byte) in head.iter().enumerate() {
        difference |= u64::from(byte ^ byte_at(seed, position + offset as u64));
    }
    let mut index = (position + head.len() as u64) / 8;
    let (words, tail) = rest.as_chunks::<8>();
    for word in words {
        difference |= u64::from_le_bytes(*word) ^ mix(seed, index);
        index += 1;
    }
    let last = mix(seed, index).to_le_bytes();
    difference == 0 && tail == &last[..tail.len()]
}

/// How many of `len` bytes at `position` come before the first whole word.
fn head_len(position: u64, len: usize) -> usize {
    (position.wrapping_neg() % 8).min(len as u64) as usize
}

fn byte_at(seed: u64, position: u64) -> u8 {
    mix(seed, position / 8).to_le_bytes()[(position % 8) as usize]
}

/// SplitMix64's output function at state `seed + index * golden ratio` (Steele, Lea, Flood 2014): a bijection of the
/// state, two multiplications.
fn mix(seed: u64, index: u64) -> u64 {
    let mut state = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(seed: u64, len: usize) -> Vec<u8> {
        (0..len as u64).map(|position| byte_at(seed, position)).collect()
    }

    #[test]
    fn every_piece_at_every_position_is_a_piece_of_the_same_stream() {
        let whole = stream(42, 64);
        for start in 0..=40 {
            for len in 0..=24 {
                let mut piece = vec![0; len];
                fill(42, start as u64, &mut piece);
                assert_eq!(piece, whole[start..start + len], "{len} bytes at {start}");
                assert!(matches(42, start as u64, &piece), "{len} bytes at {start}");
            }
        }
    }

    #[test]
    fn every_single_flipped_bit_is_noticed() {
        for start in 0..9 {
            let mut piece = vec![0; 27];
            fill(7, start, &mut piece);
            for bit in 0..piece.len() * 8 {
                piece[bit / 8] ^= 1 << (bit % 8);
                assert!(!matches(7, start, &piece), "bit {bit} at {start}");
                piece[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn lost_doubled_and_foreign_bytes_are_noticed() {
        let mine = stream(seed(1, 0), 256);
        assert!(!matches(seed(1, 0), 8, &mine[..64]), "doubled");
        assert!(!matches(seed(1, 0), 0, &mine[1..65]), "one byte lost");
        assert!(!matches(seed(1, 0), 0, &stream(seed(1, 1), 64)), "another connection's");
        assert!(!matches(seed(1, 0), 0, &stream(seed(2, 0), 64)), "another run's");
    }

    #[test]
    fn an_empty_piece_matches_anywhere() {
        assert!(matches(3, 5, &[]) && matches(3, 8, &[]));
    }
}
