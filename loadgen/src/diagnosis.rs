//! What became of a reply that is not what was sent: swapped, lost, doubled, corrupted, or more than was asked for.
//!
//! Looked at only when a reply has failed; pure, as `payload` is.

use crate::failure::Kind;
use crate::payload::{CELL, Stream};

/// A reply that failed, as far as it was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply<'a> {
    /// What the connection's bytes are.
    pub(crate) stream: Stream,
    /// How many connections the run has.
    pub(crate) connections: u64,
    /// Where in the stream `bytes` were expected.
    pub(crate) position: u64,
    /// How many bytes from there on were sent, and have not come back.
    pub(crate) sent: u64,
    /// What came.
    pub(crate) bytes: &'a [u8],
}

impl Reply<'_> {
    /// What kind of failure it is.
    ///
    /// The first whole cell behind the place where the reply went wrong says whose it is and where it belongs. Without
    /// one, at the end of a message or in one of fewer than 8 bytes, its own stream is searched nearby; then another
    /// connection's bytes pass for corrupted ones, and so do fewer than three bytes of whatever origin.
    pub(crate) fn kind(self) -> Kind {
        let (wrong, unknown) = match self.first_wrong() {
            Some(wrong) => (wrong, Kind::Corrupted),
            None => (self.expected(), Kind::Surplus),
        };
        // By chance the first bytes of a wrong cell may be the right ones.
        let start = if unknown == Kind::Corrupted { self.cell_start(wrong) } else { wrong };
        let offsets = start..self.bytes.len().min(start + WINDOW);
        offsets
            .filter_map(|offset| self.judge(offset, wrong))
            .next()
            .or_else(|| self.nearby(wrong))
            .map_or(unknown, |kind| kind.unwrap_or(unknown))
    }

    fn first_wrong(self) -> Option<usize> {
        (0..self.expected()).find(|offset| self.bytes[*offset] != self.stream.byte_at(self.position + *offset as u64))
    }

    /// Where the cell begins that `offset` lies in, or the bytes, if that is later.
    fn cell_start(self, offset: usize) -> usize {
        let within = (self.position + offset as u64) % CELL;
        offset.saturating_sub(within as usize)
    }

    /// What the cell at `offset` tells: nothing; that it is where it belongs (`Some(None)`), so that what is wrong before
    /// it was changed; or that it is out of place. `wrong` is the first wrong byte.
    fn judge(self, offset: usize, wrong: usize) -> Option<Option<Kind>> {
        let (owner, belongs) = self.stream.owner(self.cell(offset)?);
        let (here, end) = (self.position + offset as u64, self.position + self.sent);
        if owner != self.stream.connection() {
            return self.is_foreign(offset, owner, belongs).then_some(Some(Kind::Swapped));
        }
        match belongs {
            _ if belongs == here && here < end => Some(None),
            _ if belongs < here.min(end) => {
                let is_again = self.is_again(wrong, offset, here - belongs);
                Some(Some(if is_again { Kind::Doubled } else { Kind::Surplus }))
            }
            _ if belongs < end => Some(Some(Kind::Lost)),
            // Not sent yet: noise that looks like its own.
            _ => None,
        }
    }

    /// Whether the bytes from `wrong` to `offset` are the connection's own, moved by as many as those behind them: then
    /// some came twice. Otherwise somebody put in bytes that nobody had sent, as a server does that speaks first.
    fn is_again(self, wrong: usize, offset: usize, moved: u64) -> bool {
        let put_in = self.bytes.get(wrong..offset).unwrap_or_default();
        let origin = (self.position + wrong as u64).checked_sub(moved);
        put_in.is_empty() || origin.is_some_and(|origin| self.stream.matches(origin, put_in))
    }

    /// Whether the cell at `offset` is one that connection `owner` has sent, and not noise: by its neighbour, which must
    /// be the next one, or, if that is no cell, by being one of the first.
    fn is_foreign(self, offset: usize, owner: u64, belongs: u64) -> bool {
        if owner >= self.connections {
            return false;
        }
        let next = self.cell(offset + CELL as usize).map(|cell| self.stream.owner(cell));
        next == Some((owner, belongs + CELL)) || belongs < FOREIGN_BYTES_MAX
    }

    fn cell(self, offset: usize) -> Option<[u8; CELL as usize]> {
        self.bytes.get(offset..)?.first_chunk().copied()
    }

    /// Whether what is from `wrong` on stands elsewhere in the connection's own stream, nearby.
    fn nearby(self, wrong: usize) -> Option<Option<Kind>> {
        let found = &self.bytes[wrong..self.bytes.len().min(wrong + WINDOW)];
        if found.len() < NEARBY_BYTES_MIN {
            return None;
        }
        let here = self.position + wrong as u64;
        let stands = |at: u64| self.stream.matches(at, found);
        // A gap moves the rest of its message forward: usually to where it ends, and never beyond what was sent.
        let last = (self.position + self.sent).saturating_sub(found.len() as u64);
        let near = here + 1..=last.min(here + WINDOW as u64);
        if near.chain([last]).any(|at| at > here && stands(at)) {
            return Some(Some(Kind::Lost));
        }
        // Bytes of before begin with a message, which begins with a cell; by chance with some that are right.
        let cell = here - here % CELL;
        let before = (0..=NEARBY_CELLS).flat_map(|back| [cell, here].map(|at| at.checked_sub(back * CELL)));
        before.flatten().any(|at| at < here && stands(at)).then_some(Some(Kind::Doubled))
    }

    /// How many of the bytes were expected.
    fn expected(self) -> usize {
        self.bytes.len().min(self.sent as usize)
    }
}

/// How many places behind the first wrong byte are looked at: noise has few chances to look like a cell.
const WINDOW: usize = 64;

/// A cell that stands alone and claims to be another connection's is believed within the first half gigabyte of that: at
/// a million connections one changed cell in 2^18 is taken for another connection's, and of replies that are changed all
/// over, of which as many places are looked at as fit the window, one in 2^12.
const FOREIGN_BYTES_MAX: u64 = 1 << 29;

/// Fewer bytes than these stand too often somewhere by chance.
const NEARBY_BYTES_MIN: usize = 3;

/// How far back bytes of less than a cell are searched.
const NEARBY_CELLS: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::next_message;

    /// Bytes of `connection`'s stream.
    fn bytes(connection: u64, position: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        Stream::new(77, connection).fill(position, &mut bytes);
        bytes
    }

    /// What `bytes` are, where connection 2 of 10 waits for a message of `size` at `position`.
    fn kind(position: u64, size: usize, bytes: &[u8]) -> Kind {
        let (stream, sent) = (Stream::new(77, 2), size as u64);
        Reply { stream, connections: 10, position, sent, bytes }.kind()
    }

    /// Sizes with whole cells only, with a rest, with no whole cell behind the first, and large ones.
    const SIZES: [usize; 8] = [8, 9, 15, 16, 23, 64, 1_000, 100_000];

    #[test]
    fn another_connections_message_is_swapped_whatever_its_position() {
        for size in SIZES {
            for theirs in [0, 8_000, 1 << 28] {
                assert_eq!(kind(8_000, size, &bytes(3, theirs, size)), Kind::Swapped, "{size} at {theirs}");
            }
        }
        let stranger = bytes(10, 0, 64);
        assert_eq!(kind(0, 64, &stranger), Kind::Corrupted, "there is no connection number 10 of 10");
    }

    #[test]
    fn an_earlier_message_is_doubled_in_place_of_one_and_behind_one() {
        for size in SIZES {
            let at = next_message(8_000, size as u32);
            assert_eq!(kind(at, size, &bytes(2, 8_000, size)), Kind::Doubled, "{size}");
            let twice = bytes(2, at, size).repeat(2);
            assert_eq!(kind(at, size, &twice), Kind::Doubled, "{size}");
        }
    }

    #[test]
    fn a_gap_anywhere_is_lost_as_long_as_enough_stands_behind_it() {
        for size in [23, 64, 1_000] {
            for begin in 0..size - 6 {
                for end in begin + 1..size - 4 {
                    let mut reply = bytes(2, 800, size);
                    reply.drain(begin..end);
                    assert_eq!(kind(800, size, &reply), Kind::Lost, "{size} without {begin}..{end}");
                }
                if size > 100 && begin > 40 {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_changed_byte_anywhere_is_corrupted() {
        for size in [1, 7, 8, 9, 64, 1_000] {
            for at in 0..size {
                let mut reply = bytes(2, 800, size);
                reply[at] ^= 0x10;
                assert_eq!(kind(800, size, &reply), Kind::Corrupted, "{at} of {size}");
            }
        }
        assert_eq!(kind(800, 64, &[b'x'; 64]), Kind::Corrupted);
    }

    #[test]
    fn of_less_than_a_cell_its_own_stream_still_tells() {
        for size in 3..8 {
            assert_eq!(kind(800, size, &bytes(2, 792, size)), Kind::Doubled, "{size}");
            assert_eq!(kind(800, size, &bytes(2, 800, size).repeat(2)), Kind::Doubled, "{size}");
            assert_eq!(kind(800, size, &bytes(3, 800, size)), Kind::Corrupted, "{size}: whose it is cannot be told");
        }
        let mut messages = (0..).step_by(CELL as usize);
        let alike = messages.find(|at| bytes(2, *at, 1) == bytes(2, at + CELL, 1)).unwrap();
        assert_eq!(kind(alike + CELL, 7, &bytes(2, alike, 7)), Kind::Doubled, "the first byte is right by chance");
        let mut gap = bytes(2, 800, 7);
        gap.remove(1);
        assert_eq!(kind(800, 7, &gap), Kind::Lost);
    }

    #[test]
    fn bytes_behind_a_right_reply_are_surplus_or_their_owners() {
        let and = |more: &[u8]| [&bytes(2, 800, 64), more].concat();
        assert_eq!(kind(800, 64, &and(b"OK\r\n")), Kind::Surplus);
        assert_eq!(kind(800, 64, &and(&bytes(9, 40, 64))), Kind::Swapped);
        assert_eq!(kind(800, 0, b"220 welcome to this server\r\n"), Kind::Surplus);
    }

    #[test]
    fn a_welcome_is_surplus_before_the_reply_as_before_the_request() {
        for welcome in [&b"220 welcome\r\n"[..], b"+", b"ready!!!"] {
            assert_eq!(kind(0, 0, welcome), Kind::Surplus, "nothing was asked");
            for (position, size) in [(0, 64), (0, 8), (800, 64), (800, 23)] {
                let both = [welcome, &bytes(2, position, size)].concat();
                assert_eq!(kind(position, size, &both), Kind::Surplus, "{welcome:?} before {size} at {position}");
            }
        }
        let mut again = bytes(2, 800, 64);
        again.insert(8, again[7]);
        assert_eq!(kind(800, 64, &again), Kind::Doubled, "a single byte that came twice");
    }

    #[test]
    fn noise_is_never_taken_for_anything_else() {
        let noise = bytes(12_345, 0, 80_000);
        assert!(noise.chunks(80).all(|reply| kind(8_000_000, 80, reply) == Kind::Corrupted));
    }
}
