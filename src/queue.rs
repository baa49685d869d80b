//! What waits to be sent: bytes of one's own, copied, and between them payloads that many connections share, not copied.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::buffer::Buffer;

/// Bytes go in at the back and out at the front, in pieces: each as long as one allocation has them. Empty it owns no memory
/// until something is put in.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    own: Buffer,
    shared: VecDeque<Shared>,
    /// How many bytes of one's own come behind the last payload.
    tail: usize,
    len: usize,
}

/// A payload in the queue.
#[derive(Debug)]
struct Shared {
    /// How many bytes of one's own come before it, and behind the payload before.
    before: usize,
    payload: Arc<[u8]>,
    /// Where it begins: what is before has gone.
    start: usize,
}

/// Shorter payloads are copied: to keep one by reference takes 32 bytes that nobody counts, and up to twice as many while the
/// list grows.
const SHARED_MIN: usize = 128;

/// What is put into a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece<'a> {
    /// To be copied.
    Own(&'a [u8]),
    /// To be kept by reference, from there on, if that is worth it.
    Shared(&'a Arc<[u8]>, usize),
}

impl<'a> Piece<'a> {
    #[inline]
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Piece::Own(bytes) => bytes,
            Piece::Shared(payload, start) => &payload[start..],
        }
    }

    /// Without its first `count` bytes, which have gone.
    pub(crate) fn skip(self, count: usize) -> Piece<'a> {
        match self {
            Piece::Own(bytes) => Piece::Own(&bytes[count..]),
            Piece::Shared(payload, start) => Piece::Shared(payload, start + count),
        }
    }
}

impl Queue {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first piece; empty only if the queue is.
    #[inline]
    pub(crate) fn front(&self) -> &[u8] {
        match self.shared.front() {
            None => self.own.as_slice(),
            Some(first) if first.before > 0 => &self.own.as_slice()[..first.before],
            Some(first) => &first.payload[first.start..],
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, piece: Piece<'_>) {
        self.len += piece.bytes().len();
        match piece {
            Piece::Shared(payload, start) if payload.len() - start >= SHARED_MIN => {
                let before = std::mem::take(&mut self.tail);
                self.shared.push_back(Shared { before, payload: Arc::clone(payload), start });
            }
            piece => {
                self.own.push(piece.bytes());
                self.tail += piece.bytes().len();
            }
        }
    }

    /// Puts in all of `other`, which is empty then.
    pub(crate) fn append(&mut self, other: &mut Queue) {
        while !other.is_empty() {
            match other.shared.front() {
                Some(first) if first.before == 0 => self.push(Piece::Shared(&first.payload, first.start)),
                _ => self.push(Piece::Own(other.front())),
            }
            other.consume(other.front().len());
        }
    }

    /// Takes away `count` bytes of the first piece.
    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.front().len(), "consumed more than the first piece");
        self.len -= count;
        match self.shared.front_mut() {
            None => {
                self.tail -= count;
                self.own.consume(count);
            }
            Some(first) if first.before > 0 => {
                first.before -= count;
                self.own.consume(count);
            }
            Some(first) => {
                first.start += count;
                if first.start == first.payload.len() {
                    self.shared.pop_front();
                }
            }
        }
    }

    /// Takes away everything, and keeps the memory that bytes of one's own have had.
    pub(crate) fn clear(&mut self) {
        self.own.consume(self.own.len());
        self.shared.clear();
        (self.tail, self.len) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut Queue, mut step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !queue.is_empty() {
            step = step % 7 + 1;
            let count = queue.front().len().min(step);
            out.extend_from_slice(&queue.front()[..count]);
            queue.consume(count);
        }
        assert_eq!((queue.len(), queue.front().len()), (0, 0));
        out
    }

    #[test]
    fn bytes_and_payloads_come_out_in_the_order_in_which_they_went_in() {
        for step in 1..8 {
            let (mut queue, mut front, mut all) = (Queue::default(), Queue::default(), Vec::new());
            for round in 0..40u8 {
                let bytes = vec![round; if round % 4 == 0 { SHARED_MIN } else { usize::from(round) % 5 }];
                all.extend_from_slice(&bytes);
                if round % 3 == 0 {
                    queue.push(Piece::Shared(&bytes.into(), 0));
                } else {
                    queue.push(Piece::Own(&bytes));
                }
                assert_eq!(queue.len(), all.len());
            }
            front.push(Piece::Own(b"first"));
            front.append(&mut queue);
            assert!(queue.is_empty());
            queue.push(Piece::Own(b"it is of use again"));
            assert_eq!(drain(&mut front, step), [b"first".as_slice(), &all].concat());
            assert_eq!(drain(&mut queue, step), b"it is of use again");
        }
    }

    #[test]
    fn a_payload_is_not_copied_and_is_let_go_when_it_has_gone() {
        let payload: Arc<[u8]> = [7; SHARED_MIN + 6].as_slice().into();
        let (mut queue, mut other) = (Queue::default(), Queue::default());
        queue.push(Piece::Own(b"ab"));
        queue.push(Piece::Shared(&payload, 4));
        queue.consume(1);
        other.append(&mut queue);
        other.consume(1);
        assert!(std::ptr::eq(other.front(), &raw const payload[4..]));
        assert_eq!(Arc::strong_count(&payload), 2);
        other.consume(SHARED_MIN + 2);
        assert_eq!(Arc::strong_count(&payload), 1);
        queue.push(Piece::Shared(&payload, payload.len()));
        assert!(queue.is_empty(), "nothing is left of it");
        queue.push(Piece::Shared(&payload, 0));
        queue.clear();
        assert_eq!((Arc::strong_count(&payload), queue.len()), (1, 0));
    }

    #[test]
    fn what_is_shorter_than_the_note_of_it_is_copied() {
        let (payload, mut queue): (Arc<[u8]>, _) = ([7; SHARED_MIN].as_slice().into(), Queue::default());
        queue.push(Piece::Shared(&payload, 1));
        assert_eq!((Arc::strong_count(&payload), queue.shared.capacity()), (1, 0));
        queue.push(Piece::Shared(&payload, 0));
        assert_eq!((Arc::strong_count(&payload), queue.len()), (2, 2 * SHARED_MIN - 1));
        assert_eq!(drain(&mut queue, 3), [7; 2 * SHARED_MIN - 1]);
    }
}
