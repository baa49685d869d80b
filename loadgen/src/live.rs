//! What can be seen of a worker while it runs: a few counters that it writes and anyone may read.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// One worker's counters. A cache line (or two, prefetched together) of their own, so that writing them does not slow
/// down the neighbour.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Live {
    open: AtomicU64,
    failed: AtomicU64,
    emptied_ns: AtomicU64,
    /// How often answers took how long, since the worker began; `None` where nobody looks.
    times: Option<Box<[AtomicU32; BUCKETS]>>,
}

/// What one worker, or all of them together, have come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Connections that are open.
    pub(crate) open: u64,
    /// Failures of all sorts, in all stages.
    pub(crate) failed: u64,
    /// When the last connection was lost, by the run's clock, where none is open; of several workers, the last of them.
    pub(crate) emptied_ns: u64,
}

impl Live {
    /// Counters at zero; with latencies, if somebody looks at them.
    pub(crate) fn new(is_watched: bool) -> Live {
        let times = is_watched.then(|| Box::new([const { AtomicU32::new(0) }; BUCKETS]));
        Live { times, ..Live::default() }
    }

    /// Publishes what the worker has come to. Costs three stores, none of them locked.
    pub(crate) fn tell(&self, seen: Seen) {
        self.open.store(seen.open, Relaxed);
        self.failed.store(seen.failed, Relaxed);
        self.emptied_ns.store(seen.emptied_ns, Relaxed);
    }

    /// An answer took `ns`. Only the worker itself may call this: a load and a store, none of them locked.
    pub(crate) fn note(&self, ns: u64) {
        if let Some(times) = &self.times {
            let count = &times[bucket(ns)];
            count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// Adds this worker's counters to `seen`. Not a snapshot of one moment: good enough to look at.
    pub(crate) fn add_to(&self, seen: &mut Seen) {
        seen.open += self.open.load(Relaxed);
        seen.failed += self.failed.load(Relaxed);
        seen.emptied_ns = seen.emptied_ns.max(self.emptied_ns.load(Relaxed));
    }

    /// The same with its latencies.
    pub(crate) fn add_times_to(&self, sum: &mut Counts) {
        for (sum, count) in sum.0.iter_mut().zip(self.times.iter().flat_map(|times| times.iter())) {
            *sum = sum.wrapping_add(count.load(Relaxed));
        }
    }
}

/// How often answers took how long: a histogram of 8 buckets for each doubling. What it says of a time is at most 6.25 %
/// off, half of a bucket's width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counts([u32; BUCKETS]);

impl Default for Counts {
    fn default() -> Counts {
        Counts([0; BUCKETS])
    }
}

impl Counts {
    /// What was added since `before`; counters that have wrapped around are no matter.
    pub(crate) fn since(&self, before: &Counts) -> Counts {
        Counts(std::array::from_fn(|index| self.0[index].wrapping_sub(before.0[index])))
    }

    /// How many there are.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// The time that a part of them, from 0 to 1, do not exceed; `None` when there are none.
    pub(crate) fn at_quantile(&self, quantile: f64) -> Option<u64> {
        let wanted = ((self.total() as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        let reaches = |count: &u32| {
            seen += u64::from(*count);
            seen >= wanted
        };
        self.0.iter().position(reaches).map(middle_ns)
    }
}

/// The bucket of `ns`: the position of its highest bit, and the three bits below.
fn bucket(ns: u64) -> usize {
    let ns = ns.clamp(EACH as u64, NS_MAX);
    let exponent = ns.ilog2();
    ((exponent - EACH_BITS) as usize) * EACH + (ns >> (exponent - EACH_BITS)) as usize - EACH
}

/// The middle of what falls into bucket number `index`.
fn middle_ns(index: usize) -> u64 {
    let shift = index / EACH;
    let low = ((index % EACH + EACH) as u64) << shift;
    low + (1u64 << shift) / 2
}

/// Buckets for each doubling.
const EACH: usize = 1 << EACH_BITS;
const EACH_BITS: u32 = 3;

/// The longest time that is told apart, 18 minutes: no reply is waited for as long as that.
const NS_MAX: u64 = (1 << 40) - 1;

/// Up to it, from 8 ns on: 1.2 KiB a worker.
const BUCKETS: usize = 37 * EACH;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_worker_is_added_up() {
        let (one, two) = (Live::default(), Live::default());
        one.tell(Seen { open: 9, failed: 9, emptied_ns: 1 });
        one.tell(Seen { open: 4, failed: 2, emptied_ns: 5 });
        two.tell(Seen { open: 1, failed: 1, emptied_ns: 3 });
        let mut seen = Seen::default();
        [one, two].iter().for_each(|live| live.add_to(&mut seen));
        assert_eq!(seen, Seen { open: 5, failed: 3, emptied_ns: 5 });
    }

    #[test]
    fn a_time_is_told_to_a_sixteenth_and_every_time_has_a_bucket() {
        let mut ns = 8;
        while ns < NS_MAX {
            let told = middle_ns(bucket(ns));
            assert!(told.abs_diff(ns) as f64 <= ns as f64 * 0.0625 + 0.5, "{ns} became {told}");
            ns += ns / 50 + 1;
        }
        assert_eq!((bucket(0), bucket(NS_MAX), bucket(u64::MAX)), (0, BUCKETS - 1, BUCKETS - 1));
    }

    #[test]
    fn percentiles_are_of_all_workers_since_the_last_look() {
        let lives = [Live::new(true), Live::new(true), Live::new(false)];
        let look = || {
            let mut counts = Counts::default();
            lives.iter().for_each(|live| live.add_times_to(&mut counts));
            counts
        };
        lives.iter().for_each(|live| live.note(1_000_000_000));
        let before = look();
        (0..98).for_each(|_| lives[0].note(100_000));
        (0..2).for_each(|_| lives[1].note(50_000_000));
        let recent = look().since(&before);
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|quantile| recent.at_quantile(quantile).unwrap());
        assert!((94_000..106_000).contains(&p50) && p99 == max && (47_000_000..53_000_000).contains(&max));
        assert_eq!(look().since(&look()).at_quantile(0.5), None);
    }
}
