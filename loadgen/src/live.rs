//! What can be seen of a worker while it runs: a few counters that it writes and anyone may read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One worker's counters. A cache line (or two, prefetched together) of their own, so that writing them does not slow
/// down the neighbour.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Live {
    open: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    emptied_ns: AtomicU64,
}

/// What one worker, or all of them together, have come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Connections that are open.
    pub(crate) open: u64,
    /// Requests answered in the current stage.
    pub(crate) answered: u64,
    /// Failures of all sorts, in all stages.
    pub(crate) failed: u64,
    /// When the last connection was lost, by the run's clock, where none is open; of several workers, the last of them.
    pub(crate) emptied_ns: u64,
}

impl Live {
    /// Publishes what the worker has come to. Costs four stores, none of them locked.
    pub(crate) fn tell(&self, seen: Seen) {
        self.open.store(seen.open, Relaxed);
        self.answered.store(seen.answered, Relaxed);
        self.failed.store(seen.failed, Relaxed);
        self.emptied_ns.store(seen.emptied_ns, Relaxed);
    }

    /// Adds this worker's counters to `seen`. Not a snapshot of one moment: good enough to look at.
    pub(crate) fn add_to(&self, seen: &mut Seen) {
        seen.open += self.open.load(Relaxed);
        seen.answered += self.answered.load(Relaxed);
        seen.failed += self.failed.load(Relaxed);
        seen.emptied_ns = seen.emptied_ns.max(self.emptied_ns.load(Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_worker_is_added_up() {
        let (one, two) = (Live::default(), Live::default());
        one.tell(Seen { open: 9, answered: 9, failed: 9, emptied_ns: 1 });
        one.tell(Seen { open: 4, answered: 7, failed: 2, emptied_ns: 5 });
        two.tell(Seen { open: 1, answered: 0, failed: 1, emptied_ns: 3 });
        let mut seen = Seen::default();
        [one, two].iter().for_each(|live| live.add_to(&mut seen));
        assert_eq!(seen, Seen { open: 5, answered: 7, failed: 3, emptied_ns: 5 });
    }
}
