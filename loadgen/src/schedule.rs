//! When requests and connects are due: fixed in advance, for each worker (of each shard) its part, no clock and no socket.
//!
//! Moments are nanoseconds since a beginning, computed from an index or from a sum that keeps 53 bits, so that a long run
//! does not drift.

use std::fmt::{self, Display, Formatter};

use crate::payload;
use crate::quantity::rate_text;
use crate::shard::Shard;

/// One worker's part of a constant rate. All workers together are evenly spaced: of `workers` it takes every
/// `workers`-th moment, beginning with its own index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    rate_per_s: f64,
    worker: u64,
    workers: u64,
}

impl Pace {
    /// The part of worker number `worker` of `workers` in a total of `rate_per_s`, which is above 0.
    pub(crate) fn new(rate_per_s: f64, worker: usize, workers: usize) -> Pace {
        Pace { rate_per_s, worker: worker as u64, workers: workers as u64 }
    }

    /// When this worker's number `index` (from 0) is due.
    pub(crate) fn due_ns(&self, index: u64) -> u64 {
        ((index * self.workers + self.worker) as f64 * 1e9 / self.rate_per_s) as u64
    }
}

/// How many requests fall due a second, from a stage's beginning to its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    /// At the beginning.
    pub(crate) from_per_s: f64,
    /// At the end; in between it changes evenly.
    pub(crate) to_per_s: f64,
}

impl Rate {
    /// The same all the time.
    pub(crate) fn constant(per_s: f64) -> Rate {
        Rate { from_per_s: per_s, to_per_s: per_s }
    }

    /// That of one shard.
    pub(crate) fn of_shard(self, shard: Shard) -> Rate {
        Rate { from_per_s: shard.rate(self.from_per_s), to_per_s: shard.rate(self.to_per_s) }
    }

    /// Over the whole stage.
    pub(crate) fn mean_per_s(self) -> f64 {
        (self.from_per_s + self.to_per_s) / 2.0
    }
}

impl Display for Rate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (rate_text(self.from_per_s), rate_text(self.to_per_s)) {
            (from, to) if from == to => f.write_str(&from),
            (from, to) => write!(f, "{from} to {to}"),
        }
    }
}

/// How the moments lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Arrival {
    /// Independent of each other, as those of many people are: gaps are exponentially distributed, so some requests come
    /// close together.
    #[default]
    Poisson,
    /// Evenly spaced.
    Constant,
}

impl Arrival {
    /// Its name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Arrival::Poisson => "poisson",
            Arrival::Constant => "constant",
        }
    }
}

/// One worker's requests of an open loop: the moments at which they are due, one after the other, for ever.
///
/// Counted in requests of the whole load, moments are whole numbers, of which each worker has every so-manieth, or those
/// of a Poisson process, of which each has one of its own: together they are one again. The rate then stretches numbers
/// into time.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    rate: Rate,
    over_s: f64,
    arrival: Arrival,
    worker: u64,
    workers: u64,
    seed: u64,
    index: u64,
    /// Of a Poisson process: the sum of the gaps so far, in requests of this worker.
    passed: f64,
}

impl Schedule {
    /// The part of worker number `worker` of `workers` in a load of `rate` over a stage of `over_s` seconds; `seed`
    /// decides where chance does.
    pub(crate) fn new(
        rate: Rate,
        over_s: f64,
        arrival: Arrival,
        seed: u64,
        (worker, workers): (usize, usize),
    ) -> Schedule {
        // Not the seed of any connection's bytes.
        let seed = chance(seed ^ ARRIVALS, worker as u64);
        let (worker, workers) = (worker as u64, workers as u64);
        Schedule { rate, over_s, arrival, worker, workers, seed, index: 0, passed: 0.0 }
    }

    /// How many requests of the whole load come before this worker's next one.
    fn next_number(&mut self) -> f64 {
        let index = self.index;
        self.index += 1;
        match self.arrival {
            Arrival::Constant => (index * self.workers + self.worker) as f64,
            Arrival::Poisson => {
                // 53 bits of chance, never 0: the logarithm of that has no end.
                let chance = ((chance(self.seed, index) >> 11) + 1) as f64 / (1u64 << 53) as f64;
                self.passed -= chance.ln();
                self.passed * self.workers as f64
            }
        }
    }

    /// When so many requests have fallen due: the solution of from·t + (to − from)·t²/2·over = number, in the form that
    /// stays exact where the rate hardly changes. `None` if a rate that falls never gets there.
    fn moment_ns(&self, number: f64) -> Option<u64> {
        let Rate { from_per_s: from, to_per_s: to } = self.rate;
        if from == to {
            return Some((number * 1e9 / from) as u64);
        }
        let root = (from * from + 2.0 * (to - from) / self.over_s * number).sqrt();
        // Not a number where the root is of a negative one; nor at the beginning of a rate that begins at 0.
        let ns = 2.0 * number / (from + root) * 1e9;
        if number == 0.0 { Some(0) } else { ns.is_finite().then_some(ns as u64) }
    }

    /// How many of the moments that are still to come lie before `end_ns`, in a time that does not grow with their number.
    ///
    /// Of a Poisson process the first million are gone through; beyond those it is as many as are to be expected, from
    /// which chance differs by less than one in a thousand.
    pub(crate) fn count_before(&self, end_ns: u64) -> u64 {
        match self.arrival {
            Arrival::Constant => self.index_at(end_ns).saturating_sub(self.index),
            Arrival::Poisson => {
                let mut rest = self.clone();
                let counted = rest.by_ref().take(COUNTED_MAX).take_while(|ns| *ns < end_ns).count();
                let expected = (self.number_at(end_ns) / self.workers as f64 - rest.passed) as u64;
                // With fewer the schedule was gone through to its end, one moment beyond.
                counted as u64 + if counted == COUNTED_MAX { expected } else { 0 }
            }
        }
    }

    /// The first index of evenly spaced moments that does not lie before `end_ns`.
    fn index_at(&self, end_ns: u64) -> u64 {
        let is_before = |index: u64| {
            self.moment_ns((index * self.workers + self.worker) as f64).is_some_and(|moment_ns| moment_ns < end_ns)
        };
        let fastest = self.rate.from_per_s.max(self.rate.to_per_s) / self.workers as f64;
        let (mut low, mut high) = (0, (fastest * end_ns as f64 / 1e9) as u64 + 2);
        while low < high {
            let middle = low + (high - low) / 2;
            (low, high) = if is_before(middle) { (middle + 1, high) } else { (low, middle) };
        }
        low
    }

    /// How many requests of the whole load the rate makes until `at_ns`.
    fn number_at(&self, at_ns: u64) -> f64 {
        let (Rate { from_per_s: from, to_per_s: to }, at_s) = (self.rate, at_ns as f64 / 1e9);
        from * at_s + (to - from) * at_s * at_s / (2.0 * self.over_s)
    }
}

impl Iterator for Schedule {
    type Item = u64;

    /// The next moment, in nanoseconds.
    fn next(&mut self) -> Option<u64> {
        let number = self.next_number();
        self.moment_ns(number)
    }
}

/// Number `index` of the random ones that `seed` begins (SplitMix64).
fn chance(seed: u64, index: u64) -> u64 {
    payload::mix(seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

/// Sets the chances of arrivals apart from the bytes of connections.
const ARRIVALS: u64 = 0x6172_7269_7661_6c73;

/// Moments of a Poisson process that are counted one by one: some 20 ms of a processor's time.
const COUNTED_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Shard;

    const S: u64 = 1_000_000_000;

    fn moments(rate: Rate, arrival: Arrival, worker: usize, workers: usize, end_ns: u64) -> Vec<u64> {
        let schedule = Schedule::new(rate, end_ns as f64 / 1e9, arrival, 7, (worker, workers));
        schedule.take_while(|ns| *ns < end_ns).collect()
    }

    #[test]
    fn one_worker_is_evenly_spaced_from_the_first_moment() {
        let moments = moments(Rate::constant(1000.0), Arrival::Constant, 0, 1, S);
        assert_eq!([0, 1, 2, 999].map(|i| moments[i]), [0, 1_000_000, 2_000_000, 999_000_000]);
        assert_eq!(moments.len(), 1000, "those strictly before the end");
        let pace = Pace::new(1000.0, 0, 1);
        assert_eq!([0, 1, 999].map(|i| pace.due_ns(i)), [0, 1_000_000, 999_000_000]);
    }

    #[test]
    fn workers_interleave_without_gap_or_overlap() {
        let mut all: Vec<u64> =
            (0..3).flat_map(|worker| moments(Rate::constant(500.0), Arrival::Constant, worker, 3, S)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..500).map(|i| i * 2_000_000).collect::<Vec<u64>>());
    }

    #[test]
    fn the_counts_of_all_workers_add_up_to_rate_times_time() {
        for rate in [0.5, 1.0, 7.0, 999.0, 20_000.0] {
            for workers in [1, 2, 3, 52] {
                let of = |worker| moments(Rate::constant(rate), Arrival::Constant, worker, workers, 10 * S).len();
                assert_eq!((0..workers).map(of).sum::<usize>(), (rate * 10.0) as usize, "{rate}, {workers} workers");
            }
        }
    }

    #[test]
    fn poisson_arrivals_have_the_rate_the_variance_and_the_gaps_of_a_poisson_process() {
        for workers in [1, 4] {
            let mut all: Vec<u64> = (0..workers)
                .flat_map(|w| moments(Rate::constant(1000.0), Arrival::Poisson, w, workers, 100 * S))
                .collect();
            all.sort_unstable();
            // 100,000 are expected, with a standard deviation of 316.
            assert!((98_500..101_500).contains(&all.len()), "{}", all.len());
            let mut counts = vec![0f64; 10_000];
            all.iter().for_each(|ns| counts[(ns / 10_000_000) as usize] += 1.0);
            let mean = counts.iter().sum::<f64>() / counts.len() as f64;
            let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / counts.len() as f64;
            assert!((0.93..1.07).contains(&(variance / mean)), "{variance} {mean}: evenly spaced it would be 0");
            let longer = all.windows(2).filter(|pair| pair[1] - pair[0] > 1_000_000).count() as f64 / all.len() as f64;
            assert!((longer - (-1f64).exp()).abs() < 0.01, "{longer} of the gaps are longer than the mean, not 1/e");
        }
    }

    #[test]
    fn a_seed_decides_and_workers_differ() {
        let first = |seed, worker| Schedule::new(Rate::constant(9.0), 1.0, Arrival::Poisson, seed, (worker, 2)).next();
        assert_eq!(first(1, 0), first(1, 0));
        assert_ne!(first(1, 0), first(2, 0));
        assert_ne!(first(1, 0), first(1, 1));
    }

    #[test]
    fn shards_together_are_the_whole_however_many_workers_each_has() {
        let ramp = Rate { from_per_s: 100.0, to_per_s: 900.0 };
        for (rate, arrival) in [(Rate::constant(700.0), Arrival::Constant), (ramp, Arrival::Constant)] {
            let whole = moments(rate, arrival, 0, 1, 2 * S);
            let mut parts: Vec<u64> = [2, 1, 3]
                .into_iter()
                .enumerate()
                .flat_map(|(index, threads)| {
                    let shard = Shard { index: index as u64, count: 3 };
                    (0..threads).flat_map(move |thread| {
                        let (worker, workers) = shard.worker((thread, threads));
                        moments(rate, arrival, worker, workers, 2 * S)
                    })
                })
                .collect();
            parts.sort_unstable();
            assert_eq!(parts, whole);
        }
    }

    #[test]
    fn shards_with_equally_many_workers_are_those_of_one_process() {
        for arrival in [Arrival::Poisson, Arrival::Constant] {
            let of = |worker| moments(Rate::constant(5000.0), arrival, worker, 6, S);
            let mut whole: Vec<Vec<u64>> = (0..6).map(of).collect();
            let shard = |index| Shard { index, count: 3 };
            let mut parts: Vec<Vec<u64>> =
                (0..3).flat_map(|index| (0..2).map(move |thread| shard(index).worker((thread, 2)).0)).map(of).collect();
            whole.sort_unstable();
            parts.sort_unstable();
            assert_eq!(parts, whole, "{arrival:?}");
        }
    }

    #[test]
    fn a_ramp_has_the_integral_of_its_rate() {
        let up = moments(Rate { from_per_s: 0.0, to_per_s: 1000.0 }, Arrival::Constant, 0, 1, 10 * S);
        assert_eq!(up.len(), 5000);
        let half = up.iter().filter(|ns| **ns < 5 * S).count();
        assert_eq!(half, 1250, "a quarter of them in the first half");
        let down = moments(Rate { from_per_s: 1000.0, to_per_s: 500.0 }, Arrival::Constant, 0, 1, 10 * S);
        assert_eq!(down.len(), 7500);
        assert!(down.is_sorted() && up.is_sorted());
        let to_nothing = moments(Rate { from_per_s: 100.0, to_per_s: 0.0 }, Arrival::Constant, 0, 1, 10 * S);
        assert_eq!(to_nothing.len(), 500);
        assert_eq!(Rate { from_per_s: 100.0, to_per_s: 0.0 }.mean_per_s(), 50.0);
    }

    #[test]
    fn what_is_still_to_come_is_counted_without_going_through_it() {
        let rates = [(999.0, 999.0), (0.0, 1000.0), (1000.0, 0.0), (7.0, 7.5)];
        for (from_per_s, to_per_s) in rates {
            for (arrival, workers) in [(Arrival::Constant, 1), (Arrival::Constant, 3), (Arrival::Poisson, 2)] {
                let rate = Rate { from_per_s, to_per_s };
                let mut schedule = Schedule::new(rate, 10.0, arrival, 7, (workers - 1, workers));
                for end_ns in [0, 1, S, 3 * S + 7, 10 * S] {
                    let all = schedule.clone().take_while(|ns| *ns < end_ns).count() as u64;
                    assert_eq!(schedule.count_before(end_ns), all, "{rate} {arrival:?} {workers} {end_ns}");
                }
                schedule.by_ref().take(20).for_each(drop);
                let rest = schedule.clone().take_while(|ns| *ns < 10 * S).count() as u64;
                assert_eq!(schedule.count_before(10 * S), rest, "{rate} {arrival:?}: without those that are over");
            }
        }
        // Gone through, these would take minutes.
        let unreachable = |arrival| Schedule::new(Rate::constant(1e9), 100.0, arrival, 7, (0, 2)).count_before(100 * S);
        assert_eq!(unreachable(Arrival::Constant), 50_000_000_000);
        assert!(unreachable(Arrival::Poisson).abs_diff(50_000_000_000) < 1_000_000);
    }

    #[test]
    fn a_day_at_a_million_a_second_does_not_drift() {
        assert_eq!(Pace::new(1e6, 0, 1).due_ns(86_400_000_000), 86_400_000_000_000);
        let mut late = Schedule::new(Rate::constant(1e6), 86_400.0, Arrival::Constant, 0, (0, 1));
        late.index = 86_400_000_000;
        assert_eq!(late.next(), Some(86_400_000_000_000));
    }
}
