//! What became of connections, tenth by tenth of a second.

use std::collections::BTreeMap;

use crate::failure::Failure;
use crate::recorder::{Failures, merge_failures, note, total};

/// What happened to connections in one part of the run's time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// Connects that were begun.
    pub(crate) attempted: u64,
    /// Connects that succeeded.
    pub(crate) established: u64,
    /// Connects that failed.
    pub(crate) failed: Failures,
    /// Connections that were open and are not any more, with or without a request on its way.
    pub(crate) lost: Failures,
    /// Connections that ended as they had to, of those that come and go.
    pub(crate) ended: u64,
}

/// The tenths of a second of a run in which something happened to connections, counted from its beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Series {
    tenths: BTreeMap<u64, Part>,
}

impl Series {
    /// A connect was begun at `now_ns` of the run's clock.
    pub(crate) fn note_attempt(&mut self, now_ns: u64) {
        self.at(now_ns).attempted += 1;
    }

    /// A connect succeeded.
    pub(crate) fn note_established(&mut self, now_ns: u64) {
        self.at(now_ns).established += 1;
    }

    /// A connect failed.
    pub(crate) fn note_failed(&mut self, now_ns: u64, failure: Failure) {
        note(&mut self.at(now_ns).failed, failure);
    }

    /// An open connection was lost.
    pub(crate) fn note_lost(&mut self, now_ns: u64, failure: Failure) {
        note(&mut self.at(now_ns).lost, failure);
    }

    /// A connection that comes and goes has gone.
    pub(crate) fn note_ended(&mut self, now_ns: u64) {
        self.at(now_ns).ended += 1;
    }

    /// Adds what `other` has, each to its own time.
    pub(crate) fn merge(&mut self, other: &Series) {
        other.tenths.iter().for_each(|(tenth, theirs)| self.tenths.entry(*tenth).or_default().add(theirs));
    }

    /// Each tenth of a second in which something happened, with how many connections were open at its end.
    pub(crate) fn tenths(&self) -> Vec<(u64, Part, u64)> {
        with_open(&self.tenths)
    }

    /// Of these seconds, each as if all had happened in its first tenth.
    pub(crate) fn of_seconds(seconds: impl IntoIterator<Item = (u64, Part)>) -> Series {
        Series { tenths: seconds.into_iter().map(|(second, part)| (second * 10, part)).collect() }
    }

    /// The same, counted from so many seconds earlier.
    pub(crate) fn later_by(self, seconds: u64) -> Series {
        Series { tenths: self.tenths.into_iter().map(|(tenth, part)| (tenth + seconds * 10, part)).collect() }
    }

    /// Each second in which something happened, with how many connections were open at its end.
    pub(crate) fn seconds(&self) -> Vec<(u64, Part, u64)> {
        let mut seconds = BTreeMap::<u64, Part>::new();
        self.tenths.iter().for_each(|(tenth, part)| seconds.entry(tenth / 10).or_default().add(part));
        with_open(&seconds)
    }

    /// Connects that succeeded, for each second from the first to the last in which one did.
    pub(crate) fn established(&self) -> Vec<u64> {
        let seconds: Vec<(u64, u64)> = self.seconds().into_iter().map(|(at, what, _)| (at, what.established)).collect();
        let some = || seconds.iter().filter(|(_, established)| *established > 0).map(|(second, _)| *second);
        let (Some(first), Some(last)) = (some().next(), some().next_back()) else { return Vec::new() };
        let at = |second| seconds.iter().find(|(at, _)| *at == second).map_or(0, |(_, established)| *established);
        (first..=last).map(at).collect()
    }

    fn at(&mut self, now_ns: u64) -> &mut Part {
        self.tenths.entry(now_ns / TENTH_NS).or_default()
    }
}

impl Part {
    fn add(&mut self, other: &Part) {
        self.attempted += other.attempted;
        self.established += other.established;
        self.ended += other.ended;
        merge_failures(&mut self.failed, &other.failed);
        merge_failures(&mut self.lost, &other.lost);
    }
}

fn with_open(parts: &BTreeMap<u64, Part>) -> Vec<(u64, Part, u64)> {
    let mut open = 0u64;
    let mut count = |(at, what): (&u64, &Part)| {
        open = (open + what.established).saturating_sub(total(&what.lost) + what.ended);
        (*at, what.clone(), open)
    };
    parts.iter().map(&mut count).collect()
}

const TENTH_NS: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Act, Kind};

    const S: u64 = 1_000_000_000;

    #[test]
    fn workers_are_added_up_second_by_second() {
        let lost = Failure::new(Act::Idle, Kind::Reset);
        let (mut one, mut two) = (Series::default(), Series::default());
        (0..3).for_each(|_| one.note_established(S - 1));
        two.note_established(0);
        two.note_attempt(S);
        two.note_lost(4 * S, lost);
        one.note_ended(4 * S);
        two.note_failed(4 * S, Failure::new(Act::Connect, Kind::Refused));
        one.merge(&two);
        let seconds: Vec<(u64, u64, u64)> =
            one.seconds().into_iter().map(|(second, what, open)| (second, what.established, open)).collect();
        assert_eq!(seconds, [(0, 4, 4), (1, 0, 4), (4, 0, 2)]);
        let (_, last, _) = one.seconds().pop().unwrap();
        assert_eq!((&last.lost, total(&last.failed)), (&Failures::from([(lost, 1)]), 1));
    }

    #[test]
    fn within_a_second_its_tenths_are_told_apart() {
        let mut series = Series::default();
        series.note_established(0);
        series.note_established(S / 10 - 1);
        series.note_established(S / 2);
        series.note_lost(S + S / 2, Failure::new(Act::Idle, Kind::Reset));
        let open: Vec<(u64, u64)> = series.tenths().into_iter().map(|(tenth, _, open)| (tenth, open)).collect();
        assert_eq!(open, [(0, 2), (5, 3), (15, 2)]);
    }

    #[test]
    fn a_second_without_success_between_two_with_it_is_shown() {
        let mut series = Series::default();
        assert!(series.established().is_empty());
        series.note_attempt(0);
        series.note_established(2 * S);
        series.note_established(5 * S);
        assert_eq!(series.established(), [1, 0, 0, 1]);
    }
}
