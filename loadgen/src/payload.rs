//! The bytes that connections send: each connection's own, in an order of their own, cheap to make and to check.
//!
//! A connection's stream is a sequence of cells of 8 bytes. A cell is its connection's number and its own index, put
//! through a bijection that the run's seed keys: so it looks like noise, differs from every other cell of the run, and
//! tells, when it comes back where it should not, whose it is and where it belongs: see [`Stream::owner`]. Each message
//! begins with a cell of its own, so that every message of 8 bytes or more has at least one whole.

/// What makes the bytes of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    /// Where its cells begin: the run's key and the connection's number.
    base: u64,
    /// The connection's number.
    connection: u64,
}

impl Stream {
    /// The stream of connection number `connection` in a run with seed `run`.
    pub(crate) fn new(run: u64, connection: u64) -> Stream {
        Stream { base: mix(run).wrapping_add(connection << INDEX_BITS), connection }
    }

    /// Writes what the stream has from `position` on, in bytes, over all of `out`.
    pub(crate) fn fill(self, position: u64, out: &mut [u8]) {
        let (head, rest) = out.split_at_mut(head_len(position, out.len()));
        for (offset, byte) in head.iter_mut().enumerate() {
            *byte = self.byte_at(position + offset as u64);
        }
        let mut index = (position + head.len() as u64) / CELL;
        let mut cells = rest.chunks_exact_mut(CELL as usize);
        for cell in &mut cells {
            cell.copy_from_slice(&self.cell(index).to_le_bytes());
            index += 1;
        }
        let tail = cells.into_remainder();
        tail.copy_from_slice(&self.cell(index).to_le_bytes()[..tail.len()]);
    }

    /// Whether `bytes` are what the stream has from `position` on.
    pub(crate) fn matches(self, position: u64, bytes: &[u8]) -> bool {
        let (head, rest) = bytes.split_at(head_len(position, bytes.len()));
        // Differences are gathered instead of returned at once: the usual case is that there are none, and it has no
        // branch.
        let mut difference = 0;
        for (offset, byte) in head.iter().enumerate() {
            difference |= u64::from(byte ^ self.byte_at(position + offset as u64));
        }
        let mut index = (position + head.len() as u64) / CELL;
        let (cells, tail) = rest.as_chunks::<{ CELL as usize }>();
        for cell in cells {
            difference |= u64::from_le_bytes(*cell) ^ self.cell(index);
            index += 1;
        }
        let last = self.cell(index).to_le_bytes();
        difference == 0 && tail == &last[..tail.len()]
    }

    /// The byte at `position`.
    pub(crate) fn byte_at(self, position: u64) -> u8 {
        self.cell(position / CELL).to_le_bytes()[(position % CELL) as usize]
    }

    /// The connection and the position that `cell` would belong to, were it one of this run. Any 8 bytes give an answer:
    /// of noise it is one of 2^24 connections and 2^40 cells, few of which exist.
    pub(crate) fn owner(self, cell: [u8; CELL as usize]) -> (u64, u64) {
        let key = self.base.wrapping_sub(self.connection << INDEX_BITS);
        let plain = unmix(u64::from_le_bytes(cell)).wrapping_sub(key);
        (plain >> INDEX_BITS, (plain & INDEX_MASK) * CELL)
    }

    /// The connection's number.
    pub(crate) fn connection(self) -> u64 {
        self.connection
    }

    fn cell(self, index: u64) -> u64 {
        mix(self.base.wrapping_add(index))
    }
}

/// Where the message after one of `size` bytes at `position` begins: at the next whole cell.
pub(crate) fn next_message(position: u64, size: u32) -> u64 {
    position + u64::from(size).next_multiple_of(CELL)
}

/// How many of `len` bytes at `position` come before the first whole cell.
fn head_len(position: u64, len: usize) -> usize {
    (position.wrapping_neg() % CELL).min(len as u64) as usize
}

/// Bytes in a cell.
pub(crate) const CELL: u64 = 8;

/// A cell's index takes so many bits: 8 TB of a connection. The others are the connection's number: 16 million.
const INDEX_BITS: u32 = 40;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

/// SplitMix64's output function (Steele, Lea, Flood 2014): a bijection of 64 bits in two multiplications, every bit of
/// whose result depends on every bit of `state`.
pub(crate) fn mix(mut state: u64) -> u64 {
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

/// What [`mix`] was given: its steps undone, the last one first. The factors are those of `mix`, inverted modulo 2^64.
fn unmix(mut state: u64) -> u64 {
    state = (state ^ (state >> 31) ^ (state >> 62)).wrapping_mul(0x3196_42B2_D24D_8EC3);
    state = (state ^ (state >> 27) ^ (state >> 54)).wrapping_mul(0x96DE_1B17_3F11_9089);
    state ^ (state >> 30) ^ (state >> 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(stream: Stream, len: usize) -> Vec<u8> {
        (0..len as u64).map(|position| stream.byte_at(position)).collect()
    }

    #[test]
    fn every_piece_at_every_position_is_a_piece_of_the_same_stream() {
        let stream = Stream::new(42, 7);
        let whole = bytes(stream, 64);
        for start in 0..=40 {
            for len in 0..=24 {
                let mut piece = vec![0; len];
                stream.fill(start as u64, &mut piece);
                assert_eq!(piece, whole[start..start + len], "{len} bytes at {start}");
                assert!(stream.matches(start as u64, &piece), "{len} bytes at {start}");
            }
        }
    }

    #[test]
    fn every_single_flipped_bit_is_noticed() {
        let stream = Stream::new(7, 0);
        for start in 0..9 {
            let mut piece = vec![0; 27];
            stream.fill(start, &mut piece);
            for bit in 0..piece.len() * 8 {
                piece[bit / 8] ^= 1 << (bit % 8);
                assert!(!stream.matches(start, &piece), "bit {bit} at {start}");
                piece[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn lost_doubled_and_foreign_bytes_are_noticed() {
        let mine = Stream::new(1, 0);
        let whole = bytes(mine, 256);
        assert!(!mine.matches(8, &whole[..64]), "doubled");
        assert!(!mine.matches(0, &whole[1..65]), "one byte lost");
        assert!(!mine.matches(0, &bytes(Stream::new(1, 1), 64)), "another connection's");
        assert!(!mine.matches(0, &bytes(Stream::new(2, 0), 64)), "another run's");
    }

    #[test]
    fn a_cell_tells_whose_it_is_and_where_it_belongs() {
        for (connection, position) in [(0, 0), (1, 8), (999_999, 8 << 30), ((1 << 24) - 1, ((1 << 40) - 1) * 8)] {
            let mut cell = [0; 8];
            Stream::new(5, connection).fill(position, &mut cell);
            assert_eq!(Stream::new(5, 3).owner(cell), (connection, position));
        }
    }

    #[test]
    fn first_bytes_of_neighbours_are_equal_as_rarely_as_those_of_noise() {
        // Messages of one byte have nothing else: of 255 neighbours one is equal by chance, and not many.
        for (name, other) in [("the next message", (0, 1)), ("the next connection", (1, 0))] {
            let equal = (0..25_600u64).filter(|i| {
                let (mine, its) = (Stream::new(9, *i), Stream::new(9, i + other.0));
                mine.byte_at(0) == its.byte_at(other.1 * CELL)
            });
            assert!((50..200).contains(&equal.count()), "{name}");
        }
    }

    #[test]
    fn messages_begin_with_a_whole_cell() {
        assert_eq!([1, 7, 8, 9, 100].map(|size| next_message(16, size)), [24, 24, 24, 32, 120]);
    }

    #[test]
    fn an_empty_piece_matches_anywhere() {
        assert!(Stream::new(3, 0).matches(5, &[]) && Stream::new(3, 0).matches(8, &[]));
    }
}
