//! Latencies over time: a histogram for each interval of a stage, in memory that does not grow with its length.

use crate::times::Times;

/// What a worker, or merged all of them, measured in each interval since the stage's window opened.
///
/// The interval that goes on is a histogram; one that is over is kept as the values that it has seen, a few hundred
/// mostly. When there would be too many intervals, each two become one.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    interval_ns: u64,
    /// Those that are over.
    over: Vec<Sparse>,
    current: Times,
    /// The number of the interval that goes on.
    index: usize,
}

/// Values in ascending order, each with how often it was seen.
type Sparse = Vec<(u64, u64)>;

impl Timeline {
    /// Of a stage of `duration_ns`: fine enough that a short one is more than a few points.
    pub(crate) fn new(duration_ns: u64) -> Timeline {
        let interval_ns = if duration_ns <= SHORT_NS { INTERVAL_NS / 4 } else { INTERVAL_NS };
        Timeline { interval_ns, over: Vec::new(), current: Times::new(u64::MAX >> 1), index: 0 }
    }

    /// Something took `ns` and ended `at_ns` after the window had opened, which closes after `window_ns`. What ends later
    /// does not belong into the interval that the window's end cuts, but behind it.
    pub(crate) fn record(&mut self, at_ns: u64, window_ns: u64, ns: u64) {
        let first_ns = if at_ns < window_ns { 0 } else { window_ns.div_ceil(self.interval_ns) };
        let index = (at_ns / self.interval_ns).max(first_ns) as usize;
        if index != self.index {
            self.turn_to(index);
        }
        self.current.record(ns);
    }

    #[cold]
    fn turn_to(&mut self, index: usize) {
        self.close();
        self.index = index;
        while self.index >= INTERVALS_MAX {
            self.coarsen();
            self.index /= 2;
        }
    }

    /// Puts what was recorded last with the rest.
    pub(crate) fn close(&mut self) {
        let seen = self.current.take_values();
        if !seen.is_empty() {
            add_at(&mut self.over, self.index, seen);
        }
    }

    fn coarsen(&mut self) {
        self.interval_ns *= 2;
        for (index, sparse) in std::mem::take(&mut self.over).into_iter().enumerate() {
            add_at(&mut self.over, index / 2, sparse);
        }
    }

    /// Adds what `other`, which is closed, has, interval by interval.
    pub(crate) fn merge(&mut self, other: &Timeline) {
        if self.over.is_empty() {
            self.interval_ns = other.interval_ns;
        }
        while self.interval_ns < other.interval_ns {
            self.coarsen();
        }
        for (index, sparse) in other.over.iter().enumerate().filter(|(_, sparse)| !sparse.is_empty()) {
            // Both began with the same interval, or half of it, and so on.
            let at = index as u64 * other.interval_ns / self.interval_ns;
            add_at(&mut self.over, at as usize, sparse.clone());
        }
    }

    /// What `intervals` saw, from the first on, each of them so long; closed.
    ///
    /// # Errors
    /// A sentence: why there are no such intervals.
    pub(crate) fn of(interval_ns: u64, intervals: impl IntoIterator<Item = Times>) -> Result<Timeline, String> {
        // All of them can be added to each other: they are one as long, or two, or four.
        let is_known = interval_ns > 0 && interval_ns.is_multiple_of(INTERVAL_NS / 4);
        if !(is_known && (interval_ns / (INTERVAL_NS / 4)).is_power_of_two()) {
            return Err(format!("{interval_ns} ns is no interval of 1/4, 1/2, 1, 2, 4 and so on seconds"));
        }
        let over: Vec<Sparse> = intervals.into_iter().take(INTERVALS_MAX + 1).map(|mut it| it.take_values()).collect();
        match over.len() {
            0..=INTERVALS_MAX => Ok(Timeline { interval_ns, over, ..Timeline::new(0) }),
            _ => Err(format!("there are more than {INTERVALS_MAX} intervals")),
        }
    }

    /// The same in no more than `most` intervals, which are as long as that takes.
    pub(crate) fn within(mut self, most: usize) -> Timeline {
        while self.over.len() > most.max(1) {
            self.coarsen();
        }
        self
    }

    /// The same, counted from so much earlier, to the nearest interval.
    pub(crate) fn later_by(mut self, ns: u64) -> Timeline {
        let intervals = ns.saturating_add(self.interval_ns / 2) / self.interval_ns;
        if !self.over.is_empty() && intervals > 0 {
            let before = vec![Sparse::new(); intervals.min(INTERVALS_MAX as u64) as usize];
            self.over.splice(..0, before);
        }
        self
    }

    /// How long an interval is, in nanoseconds.
    pub(crate) fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// The histogram of each interval, from the first to the last in which something was recorded.
    pub(crate) fn intervals(&self) -> impl ExactSizeIterator<Item = Times> {
        self.over.iter().map(|sparse| Times::of_values(sparse))
    }
}

fn add_at(over: &mut Vec<Sparse>, index: usize, more: Sparse) {
    if over.len() <= index {
        over.resize(index + 1, Sparse::new());
    }
    let mine = std::mem::take(&mut over[index]);
    over[index] = if mine.is_empty() { more } else { merged(&mine, &more) };
}

/// Both in ascending order, equal values as one.
fn merged(one: &[(u64, u64)], two: &[(u64, u64)]) -> Sparse {
    let mut all: Sparse = one.iter().chain(two).copied().collect();
    all.sort_unstable();
    all.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        kept.1 += if same { later.1 } else { 0 };
        same
    });
    all
}

/// What is long enough for a point of its own.
const INTERVAL_NS: u64 = 1_000_000_000;

/// A stage that is shorter has intervals of a quarter of that.
const SHORT_NS: u64 = 30_000_000_000;

/// More points than a screen has columns show nothing.
const INTERVALS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn counts(timeline: &Timeline) -> Vec<u64> {
        timeline.intervals().map(|times| times.len()).collect()
    }

    #[test]
    fn each_interval_has_its_own_and_an_empty_one_stands_between() {
        let mut timeline = Timeline::new(60 * S);
        (1..=100).for_each(|us| timeline.record(S - 1, u64::MAX, us * 1000));
        timeline.record(2 * S, u64::MAX, 7_000);
        // Late, from another thread's clock or not: it goes where it belongs.
        timeline.record(S / 2, u64::MAX, 5_000);
        timeline.close();
        assert_eq!(counts(&timeline), [101, 0, 1]);
        let first = timeline.intervals().next().unwrap();
        assert_eq!((first.at_quantile(0.5) / 1000, first.max() / 1000), (50, 100));
    }

    #[test]
    fn what_comes_after_the_window_has_an_interval_behind_it() {
        let mut timeline = Timeline::new(S);
        [S + S / 4, S + S / 2 - 1, S + S / 2, 5 * S]
            .into_iter()
            .for_each(|at_ns| timeline.record(at_ns, S + S / 3, 1_000));
        timeline.close();
        assert_eq!(counts(&timeline)[4..8], [0, 1, 2, 0], "the window closes in the sixth interval");
    }

    #[test]
    fn workers_are_added_interval_by_interval_and_nothing_is_lost() {
        let (mut one, mut two) = (Timeline::new(S), Timeline::new(S));
        for ms in 0..1000 {
            one.record(ms * 1_000_000, u64::MAX, 1_000 + ms);
            two.record(ms * 1_000_000, u64::MAX, 1_000_000);
        }
        [&mut one, &mut two].into_iter().for_each(Timeline::close);
        let mut all = Timeline::new(S);
        [&one, &two].into_iter().for_each(|worker| all.merge(worker));
        assert_eq!(counts(&all), [500; 4]);
    }

    #[test]
    fn what_was_seen_can_be_given_back_later_and_coarser() {
        let mut timeline = Timeline::new(S);
        (0..8).for_each(|quarter| timeline.record(quarter * S / 4, u64::MAX, 1_000));
        timeline.close();
        let again = Timeline::of(timeline.interval_ns(), timeline.intervals()).unwrap();
        assert_eq!((counts(&again), again.interval_ns()), (vec![1; 8], S / 4));
        assert_eq!(counts(&again.clone().later_by(S / 8)), [0, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(counts(&again.clone().later_by(S / 8 - 1)), [1; 8]);
        let coarse = again.clone().within(3);
        assert_eq!((counts(&coarse), coarse.interval_ns()), (vec![4, 4], S));
        let mut sum = again;
        sum.merge(&coarse);
        assert_eq!((counts(&sum), sum.interval_ns()), (vec![8, 8], S));
        for wrong in [0, 1, S / 3, 3 * S] {
            assert!(Timeline::of(wrong, []).unwrap_err().contains("no interval"), "{wrong}");
        }
        assert!(Timeline::of(S, vec![Times::new(9); 1025]).unwrap_err().contains("more than 1024"));
    }

    #[test]
    fn a_long_run_has_longer_intervals_not_more() {
        let (mut long, mut short) = (Timeline::new(u64::MAX), Timeline::new(u64::MAX));
        (0..10_000).for_each(|second| long.record(second * S, u64::MAX, 1_000));
        (0..10).for_each(|second| short.record(second * S, u64::MAX, 1_000));
        [&mut long, &mut short].into_iter().for_each(Timeline::close);
        assert!(long.intervals().len() <= INTERVALS_MAX && long.interval_ns() == 16 * S, "{}", long.interval_ns());
        assert_eq!(counts(&long).iter().sum::<u64>(), 10_000);
        for (into, from) in [(&long, &short), (&short, &long)] {
            let mut all = into.clone();
            all.merge(from);
            assert_eq!((counts(&all).iter().sum::<u64>(), counts(&all)[0]), (10_010, 26));
        }
    }
}
