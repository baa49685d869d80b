//! Connects that found a Unix socket's queue full: who waits, in which order, and when to knock again.

use std::collections::VecDeque;

/// One worker's connects that wait, of each destination by itself: what is full there says nothing of another one.
#[derive(Debug, Default)]
pub(crate) struct Knocks {
    queues: Vec<VecDeque<Knock>>,
    next_ns: u64,
}

/// A connect that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Knock {
    /// Its connection's slot.
    pub(crate) slot: u32,
    /// When it was begun: another connection may have its slot by now.
    pub(crate) begun_ns: u64,
}

impl Knocks {
    /// Nobody waits at any of so many `destinations`.
    pub(crate) fn new(destinations: usize) -> Knocks {
        Knocks { queues: vec![VecDeque::new(); destinations], next_ns: 0 }
    }

    /// When to knock again; `None` as long as nobody waits.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.queues.iter().any(|queue| !queue.is_empty()).then_some(self.next_ns)
    }

    /// Whether somebody waits at the destination of this index: whoever comes now is not to push in.
    pub(crate) fn waits_at(&self, destination: usize) -> bool {
        !self.queues[destination].is_empty()
    }

    /// `knock` waits at `destination`, behind all others there.
    pub(crate) fn wait(&mut self, destination: usize, knock: Knock, now_ns: u64) {
        if self.next_ns().is_none() {
            self.next_ns = now_ns + PAUSE_NS;
        }
        self.queues[destination].push_back(knock);
    }

    /// Begins a round if it is time to, of the destinations where somebody waits.
    pub(crate) fn round(&mut self, now_ns: u64) -> impl Iterator<Item = usize> + use<> {
        let is_due = self.next_ns().is_some_and(|next_ns| next_ns <= now_ns);
        if is_due {
            self.next_ns = now_ns + PAUSE_NS;
        }
        0..if is_due { self.queues.len() } else { 0 }
    }

    /// The one who has waited for longest at `destination`.
    pub(crate) fn first(&self, destination: usize) -> Option<Knock> {
        self.queues[destination].front().copied()
    }

    /// That one is in, or gone.
    pub(crate) fn pass(&mut self, destination: usize) {
        self.queues[destination].pop_front();
    }
}

/// Between two rounds: the shortest sleep that a poll has. A queue of 128, the least that is usual, then lets 100,000 in a
/// second.
const PAUSE_NS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_a_pause_apart_and_nobody_pushes_in() {
        let mut knocks = Knocks::new(2);
        assert_eq!((knocks.next_ns(), knocks.round(5).count()), (None, 0));
        let [one, two] = [1, 2].map(|slot| Knock { slot, begun_ns: 3 });
        knocks.wait(1, one, 10);
        knocks.wait(1, two, 20);
        assert_eq!((knocks.waits_at(0), knocks.waits_at(1), knocks.next_ns()), (false, true, Some(10 + PAUSE_NS)));
        assert_eq!(knocks.round(9 + PAUSE_NS).count(), 0);
        assert_eq!(knocks.round(10 + PAUSE_NS).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((knocks.first(0), knocks.first(1)), (None, Some(one)));
        knocks.pass(1);
        assert_eq!((knocks.first(1), knocks.next_ns()), (Some(two), Some(10 + 2 * PAUSE_NS)));
        knocks.pass(1);
        assert_eq!(knocks.next_ns(), None);
    }
}
