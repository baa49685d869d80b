//! When the requests of an open loop are due: fixed in advance, for each worker its part, no clock and no socket.

/// One worker's part of a constant rate. All workers together are evenly spaced: of `workers` it takes every
/// `workers`-th moment, beginning with its own index.
///
/// Moments are nanoseconds since the beginning of the run, computed from the index and never added up, so that a long
/// run does not drift.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Schedule {
    rate_per_s: f64,
    worker: u64,
    workers: u64,
}

impl Schedule {
    /// The part of worker number `worker` of `workers` in a total of `rate_per_s`, which is above 0.
    pub(crate) fn new(rate_per_s: f64, worker: usize, workers: usize) -> Schedule {
        Schedule { rate_per_s, worker: worker as u64, workers: workers as u64 }
    }

    /// When this worker's request number `index` (from 0) is due, in nanoseconds since the beginning.
    pub(crate) fn due_ns(&self, index: u64) -> u64 {
        let overall = index * self.workers + self.worker;
        (overall as f64 * 1e9 / self.rate_per_s) as u64
    }

    /// How many of this worker's requests are due before `end_ns`.
    pub(crate) fn due_before(&self, end_ns: u64) -> u64 {
        let estimate = (end_ns as f64 * self.rate_per_s / 1e9 / self.workers as f64) as u64;
        // The estimate is off by the worker's offset and by rounding, each at most one.
        let mut count = estimate.saturating_sub(2);
        while self.due_ns(count) < end_ns {
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_is_evenly_spaced_from_the_first_moment() {
        let schedule = Schedule::new(1000.0, 0, 1);
        assert_eq!([0, 1, 2, 999].map(|i| schedule.due_ns(i)), [0, 1_000_000, 2_000_000, 999_000_000]);
    }

    #[test]
    fn workers_interleave_without_gap_or_overlap() {
        let mut moments: Vec<u64> =
            (0..3).flat_map(|worker| (0..100).map(move |i| Schedule::new(500.0, worker, 3).due_ns(i))).collect();
        moments.sort_unstable();
        assert_eq!(moments, (0..300).map(|i| i * 2_000_000).collect::<Vec<u64>>());
    }

    #[test]
    fn the_counts_of_all_workers_add_up_to_rate_times_time() {
        for rate in [0.5, 1.0, 7.0, 999.0, 20_000.0, 1e6] {
            for workers in [1, 2, 3, 52] {
                let total: u64 = (0..workers).map(|w| Schedule::new(rate, w, workers).due_before(10_000_000_000)).sum();
                assert_eq!(total, (rate * 10.0) as u64, "rate {rate}, {workers} workers");
            }
        }
    }

    #[test]
    fn the_count_is_of_those_strictly_before_the_end() {
        let schedule = Schedule::new(1000.0, 0, 1);
        assert_eq!([0, 1, 1_000_000, 1_000_001].map(|end| schedule.due_before(end)), [0, 1, 1, 2]);
    }

    #[test]
    fn a_day_at_a_million_a_second_does_not_drift() {
        assert_eq!(Schedule::new(1e6, 0, 1).due_ns(86_400_000_000), 86_400_000_000_000);
    }
}
