//! How long something took, counted in buckets that widen with it: one writer, no lock, read by anyone at any time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Each power of two is split into so many buckets, so that a bucket is an eighth as wide as what it holds, at the most.
const SPLIT: u64 = 1 << SPLIT_BITS;
const SPLIT_BITS: u32 = 3;
/// 2⁴⁰ ns, some 18 minutes: what takes longer is counted in the last bucket.
const LONGEST_BITS: u32 = 40;
const BUCKETS: usize = ((LONGEST_BITS - SPLIT_BITS + 1) as usize) << SPLIT_BITS;

/// The bucket for what took so many nanoseconds. A bucket holds its upper bound and not its lower one, as those of
/// Prometheus do: hence the one that is subtracted.
#[inline]
fn bucket_of(ns: u64) -> usize {
    let below = ns.saturating_sub(1).min((1 << LONGEST_BITS) - 1);
    if below < SPLIT {
        return below as usize;
    }
    let power = below.ilog2();
    let within = (below >> (power - SPLIT_BITS)) & (SPLIT - 1);
    (((power - SPLIT_BITS + 1) as usize) << SPLIT_BITS) + within as usize
}

/// The most nanoseconds that this bucket counts.
fn bound_of(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    match (next >> SPLIT_BITS).checked_sub(1) {
        Some(shift) => (SPLIT + (next & (SPLIT - 1))) << shift,
        None => next,
    }
}

/// What one thread writes and all may read. Recording is a load and a store for each of two numbers, without a locked
/// instruction.
pub(crate) struct Recorder {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Default for Recorder {
    fn default() -> Recorder {
        let zero = AtomicU64::default;
        Recorder { buckets: std::array::from_fn(|_| zero()), sum_ns: zero(), max_ns: zero() }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

impl Recorder {
    #[inline]
    pub(crate) fn record(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let add = |counter: &AtomicU64, count: u64| {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
        };
        add(&self.buckets[bucket_of(ns)], 1);
        add(&self.sum_ns, ns);
        if ns > self.max_ns.load(Ordering::Relaxed) {
            self.max_ns.store(ns, Ordering::Relaxed);
        }
    }

    pub(crate) fn snapshot(&self) -> Histogram {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Histogram {
            buckets: self.buckets.iter().map(read).collect(),
            sum_ns: read(&self.sum_ns),
            max_ns: read(&self.max_ns),
        }
    }
}

/// How long something took, each time since the server started; see [`Builder::histograms`](crate::Builder::histograms).
///
/// Counted in buckets, an eighth as wide as what they hold at the most, from a nanosecond to 18 minutes: so what a quantile
/// says is at most an eighth more than what was. Sum and maximum are exact.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    buckets: Box<[u64]>,
    sum_ns: u64,
    max_ns: u64,
}

impl Histogram {
    /// How many times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How long in all.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// How long at the most in this part of all times: 0.5 is the median, 0.99 what one in a hundred exceeded. Zero if there
    /// was none.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        let wanted = ((self.count() as f64 * part.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.buckets.iter().position(|&count| {
            seen += count;
            seen >= wanted
        });
        reached.map_or(Duration::ZERO, |bucket| Duration::from_nanos(bound_of(bucket).min(self.max_ns)))
    }

    /// How many times it took `limit` or less. Exact if that is a power of two of nanoseconds; otherwise those in the bucket
    /// around the limit are left out.
    #[must_use]
    pub fn count_within(&self, limit: Duration) -> u64 {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let within = self.buckets.iter().enumerate().take_while(|&(bucket, _)| bound_of(bucket) <= limit);
        within.map(|(_, count)| count).sum()
    }

    /// The buckets that are not empty, from the shortest: the most that each counts, and how many times.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let filled = self.buckets.iter().enumerate().filter(|&(_, &count)| count > 0);
        filled.map(|(bucket, &count)| (Duration::from_nanos(bound_of(bucket)), count))
    }

    pub(crate) fn add(&mut self, other: &Histogram) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, count)| *sum += count);
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (half, most, nearly) = (self.quantile(0.5), self.quantile(0.99), self.quantile(0.999));
        write!(f, "p50 {half:?}, p99 {most:?}, p99.9 {nearly:?}, max {:?}", self.max())
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({} times, {self})", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NS: Duration = Duration::from_nanos(1);

    #[test]
    fn each_bucket_begins_where_the_one_before_ends_and_is_an_eighth_as_wide_as_what_it_holds() {
        assert_eq!(bucket_of(0), 0);
        let mut least = 1;
        for bucket in 0..BUCKETS {
            let most = bound_of(bucket);
            assert_eq!((bucket_of(least), bucket_of(most)), (bucket, bucket));
            assert!(most - least <= least / 8, "{least} to {most}");
            least = most + 1;
        }
        assert_eq!(least, (1 << LONGEST_BITS) + 1);
        assert_eq!(
            (bucket_of(least), bucket_of(u64::MAX)),
            (BUCKETS - 1, BUCKETS - 1),
            "what is longer is in the last"
        );
        assert!((0..=LONGEST_BITS).all(|power| bound_of(bucket_of(1 << power)) == 1 << power));
    }

    #[test]
    fn quantiles_are_never_too_short_and_at_most_an_eighth_too_long() {
        let recorder = Recorder::default();
        assert_eq!(recorder.snapshot().quantile(0.5), Duration::ZERO);
        (1..=10_000).for_each(|us| recorder.record(Duration::from_micros(us)));
        let histogram = recorder.snapshot();
        for (part, us) in [(0.0, 1), (0.5, 5_000), (0.99, 9_900), (0.999, 9_990), (1.0, 10_000)] {
            let (said, truly) = (histogram.quantile(part), Duration::from_micros(us));
            assert!(truly <= said && said <= truly + truly / 8, "{part}: {said:?} for {truly:?}");
        }
        assert_eq!(histogram.max(), Duration::from_millis(10));
        assert_eq!(histogram.sum(), Duration::from_micros(10_000 * 10_001 / 2));
        assert_eq!((histogram.count(), histogram.buckets().map(|(_, count)| count).sum()), (10_000, 10_000u64));
    }

    #[test]
    fn a_limit_counts_what_took_just_as_long_and_a_sum_counts_both() {
        let (one, two) = (Recorder::default(), Recorder::default());
        one.record(1024 * NS);
        one.record(1025 * NS);
        two.record(Duration::from_secs(7200));
        let mut sum = one.snapshot();
        sum.add(&two.snapshot());
        assert_eq!((sum.count_within(1023 * NS), sum.count_within(1024 * NS), sum.count_within(2048 * NS)), (0, 1, 2));
        assert_eq!((sum.count(), sum.count_within(Duration::MAX), sum.max()), (3, 3, Duration::from_secs(7200)));
    }
}
