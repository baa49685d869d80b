//! What became of connections, second by second.

use std::collections::BTreeMap;

use crate::failure::Failure;
use crate::recorder::{Failures, merge_failures, note, total};

/// What happened to connections in one second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Second {
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

/// The seconds of a run in which something happened to connections, counted from its beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Series {
    seconds: BTreeMap<u64, Second>,
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

    /// Adds what `other` has, second by second.
    pub(crate) fn merge(&mut self, other: &Series) {
        for (second, theirs) in &other.seconds {
            let mine = self.seconds.entry(*second).or_default();
            mine.attempted += theirs.attempted;
            mine.established += theirs.established;
            mine.ended += theirs.ended;
            merge_failures(&mut mine.failed, &theirs.failed);
            merge_failures(&mut mine.lost, &theirs.lost);
        }
    }

    /// Of these seconds.
    pub(crate) fn of(seconds: impl IntoIterator<Item = (u64, Second)>) -> Series {
        Series { seconds: seconds.into_iter().collect() }
    }

    /// The same, counted from so many seconds earlier.
    pub(crate) fn later_by(self, seconds: u64) -> Series {
        Series::of(self.seconds.into_iter().map(|(second, what)| (second + seconds, what)))
    }

    /// Each second in which something happened, with how many connections were open at its end.
    pub(crate) fn seconds(&self) -> impl Iterator<Item = (u64, &Second, u64)> {
        let mut open = 0u64;
        self.seconds.iter().map(move |(second, what)| {
            open = (open + what.established).saturating_sub(total(&what.lost) + what.ended);
            (*second, what, open)
        })
    }

    /// Connects that succeeded, for each second from the first to the last in which one did.
    pub(crate) fn established(&self) -> Vec<u64> {
        let mut some = self.seconds.iter().filter(|(_, second)| second.established > 0).map(|(second, _)| *second);
        let Some(first) = some.next() else { return Vec::new() };
        let last = some.next_back().unwrap_or(first);
        (first..=last).map(|second| self.seconds.get(&second).map_or(0, |what| what.established)).collect()
    }

    fn at(&mut self, now_ns: u64) -> &mut Second {
        self.seconds.entry(now_ns / 1_000_000_000).or_default()
    }
}

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
            one.seconds().map(|(second, what, open)| (second, what.established, open)).collect();
        assert_eq!(seconds, [(0, 4, 4), (1, 0, 4), (4, 0, 2)]);
        let (_, last, _) = one.seconds().last().unwrap();
        assert_eq!((&last.lost, total(&last.failed)), (&Failures::from([(lost, 1)]), 1));
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
