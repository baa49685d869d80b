//! The moment at which a stage is broken off: decided by the crew, kept to by every worker.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A moment of the run's clock, the same for all workers, or none yet. What was measured ends there, whenever a worker
/// notices it.
#[derive(Debug)]
pub(crate) struct Halt {
    at_ns: AtomicU64,
}

impl Halt {
    /// Nothing is broken off.
    pub(crate) fn none() -> Halt {
        Halt { at_ns: AtomicU64::new(NEVER_NS) }
    }

    /// Breaks off at `at_ns`, unless that was done earlier.
    pub(crate) fn set(&self, at_ns: u64) {
        self.at_ns.fetch_min(at_ns, Relaxed);
    }

    /// A new stage begins.
    pub(crate) fn clear(&self) {
        self.at_ns.store(NEVER_NS, Relaxed);
    }

    /// Whether there is such a moment. Costs a load.
    pub(crate) fn is_set(&self) -> bool {
        self.at_ns() != NEVER_NS
    }

    /// The moment; the end of time if there is none.
    pub(crate) fn at_ns(&self) -> u64 {
        self.at_ns.load(Relaxed)
    }
}

const NEVER_NS: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_moment_counts_until_the_next_stage() {
        let halt = Halt::none();
        assert!(!halt.is_set());
        [7, 9].into_iter().for_each(|at_ns| halt.set(at_ns));
        assert_eq!((halt.is_set(), halt.at_ns()), (true, 7));
        halt.clear();
        assert!(!halt.is_set());
    }
}
