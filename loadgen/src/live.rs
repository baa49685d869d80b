//! What can be seen of a worker while it runs: a few counters that it writes and anyone may read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::recorder::{Recorder, total};

/// One worker's counters. A cache line (or two, prefetched together) of their own, so that writing them does not slow
/// down the neighbour.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Live {
    established: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    /// Of the stages before the current one.
    established_before: AtomicU64,
    failed_before: AtomicU64,
    lost: AtomicU64,
    lost_before: AtomicU64,
}

/// A moment's sum over workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Connections that are open.
    pub(crate) open: u64,
    /// Requests answered in the current stage.
    pub(crate) answered: u64,
    /// Failures of all sorts, in all stages.
    pub(crate) failed: u64,
}

impl Live {
    /// A new stage begins: what is counted from now on comes on top.
    pub(crate) fn begin(&self) {
        for (before, now) in [
            (&self.established_before, &self.established),
            (&self.failed_before, &self.failed),
            (&self.lost_before, &self.lost),
        ] {
            before.store(before.load(Relaxed) + now.swap(0, Relaxed), Relaxed);
        }
        self.answered.store(0, Relaxed);
    }

    /// Publishes what the worker has recorded in the current stage.
    pub(crate) fn tell(&self, recorder: &Recorder) {
        let lost = total(&recorder.request_failures) + total(&recorder.losses);
        self.established.store(recorder.established, Relaxed);
        self.answered.store(recorder.answered, Relaxed);
        self.failed.store(lost + total(&recorder.connect_failures), Relaxed);
        self.lost.store(lost, Relaxed);
    }

    /// Adds this worker's counters to `seen`. Not a snapshot of one moment: good enough to look at.
    pub(crate) fn add_to(&self, seen: &mut Seen) {
        let established = self.established.load(Relaxed) + self.established_before.load(Relaxed);
        seen.open += established.saturating_sub(self.lost.load(Relaxed) + self.lost_before.load(Relaxed));
        seen.answered += self.answered.load(Relaxed);
        seen.failed += self.failed.load(Relaxed) + self.failed_before.load(Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Act, Failure, Kind};
    use crate::recorder::note;

    #[test]
    fn connections_and_failures_add_up_over_stages_and_answers_do_not() {
        let live = Live::default();
        let mut connecting = Recorder::new(1000);
        connecting.established = 5;
        note(&mut connecting.connect_failures, Failure::new(Act::Connect, Kind::Refused));
        live.begin();
        live.tell(&connecting);
        let mut asking = Recorder::new(1000);
        asking.answered = 7;
        note(&mut asking.request_failures, Failure::new(Act::Reply, Kind::Reset));
        live.begin();
        live.tell(&asking);
        let mut seen = Seen::default();
        live.add_to(&mut seen);
        assert_eq!(seen, Seen { open: 4, answered: 7, failed: 2 });
        live.begin();
        let mut later = Seen::default();
        live.add_to(&mut later);
        assert_eq!(later, Seen { open: 4, answered: 0, failed: 2 });
    }
}
