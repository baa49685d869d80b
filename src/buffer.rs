//! A queue of bytes in one allocation: what a connection could not send yet, or what its handler left for later.

/// Bytes go in at the back and out at the front. Empty it owns no memory until the first byte is put in.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// Initialised from end to end, so that room for reading is zeroed only once.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn push(&mut self, data: &[u8]) {
        self.room(data.len()).copy_from_slice(data);
        self.end += data.len();
    }

    /// `size` bytes behind the last one, to be filled; those that were filled become part of the queue by
    /// [`filled`](Buffer::filled).
    pub(crate) fn room(&mut self, size: usize) -> &mut [u8] {
        if self.end + size > self.bytes.len() {
            // Moving to the front before growing keeps the allocation within twice of what is queued at most.
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let needed = self.end + size;
        if needed > self.bytes.len() {
            self.bytes.resize(needed, 0);
        }
        &mut self.bytes[self.end..needed]
    }

    pub(crate) fn filled(&mut self, count: usize) {
        debug_assert!(self.end + count <= self.bytes.len(), "more filled than there was room");
        self.end += count;
    }

    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len(), "consumed more than there is");
        self.start += count;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_in_which_they_went_in() {
        let (mut buffer, mut next_in, mut next_out) = (Buffer::default(), 0u8, 0u8);
        for round in 0..1000usize {
            let data: Vec<u8> = (0..round % 37).map(|i| next_in.wrapping_add(i as u8)).collect();
            next_in = next_in.wrapping_add(data.len() as u8);
            buffer.push(&data);
            let take = (round * 7 % 41).min(buffer.len());
            for &byte in &buffer.as_slice()[..take] {
                assert_eq!(byte, next_out);
                next_out = next_out.wrapping_add(1);
            }
            buffer.consume(take);
        }
    }

    #[test]
    fn room_joins_the_queue_only_as_far_as_it_was_filled() {
        let mut buffer = Buffer::default();
        buffer.push(b"ab");
        buffer.room(10)[..2].copy_from_slice(b"cd");
        buffer.filled(2);
        assert_eq!(buffer.as_slice(), b"abcd");
        buffer.consume(3);
        assert_eq!(buffer.as_slice(), b"d");
    }

    #[test]
    fn a_queue_that_never_empties_does_not_grow_without_end() {
        let mut buffer = Buffer::default();
        buffer.push(&[1; 100]);
        for _ in 0..10_000 {
            buffer.push(&[2; 100]);
            buffer.consume(100);
        }
        assert!(buffer.bytes.len() <= 400, "{} bytes for 100 queued", buffer.bytes.len());
    }

    #[test]
    fn an_empty_queue_owns_no_memory() {
        assert_eq!(Buffer::default().bytes.capacity(), 0);
    }
}
