//! The places of one worker's connections that come and go: which are free, for what is due, and what happened when.

use std::collections::VecDeque;

use crate::stage::Arrivals;

/// Each place has one connection at a time. The clock comes in as an argument.
pub(crate) struct Places {
    /// Of an open loop: the connections that fall due, and the places that are free for them.
    arrivals: Option<Arrivals>,
    /// Of a closed loop: the places that may have the next connection at once.
    free: VecDeque<u32>,
    /// Of a closed loop: places whose connect failed, and until when they wait, in the order of those moments.
    paused: VecDeque<(u64, u32)>,
    moments: Vec<Moments>,
    begin_ns: u64,
    end_ns: u64,
    /// From then on what is due and has no place yet is not begun any more.
    patient_until_ns: u64,
    failed: u64,
    is_given_up: bool,
}

/// When what happened to the connection in a place; nanoseconds of the run's clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moments {
    /// When it was due.
    pub(crate) due_ns: u64,
    /// When its connect was begun.
    pub(crate) begun_ns: u64,
    /// When its request was sent.
    pub(crate) sent_ns: u64,
    /// When its reply was whole.
    pub(crate) replied_ns: u64,
    /// Where its message begins in the stream of the place: no two connections send the same.
    pub(crate) position: u64,
}

impl Places {
    /// So many `places`, all of them free, for connections that are begun from `begin_ns` to `end_ns`: those that fall due
    /// by `arrivals`, for which a place may be found within `patience_ns` more, or one after the other.
    pub(crate) fn new(
        arrivals: Option<Arrivals>,
        places: u32,
        (begin_ns, end_ns): (u64, u64),
        patience_ns: u64,
    ) -> Places {
        let patient_until_ns = end_ns.saturating_add(patience_ns);
        let moments = vec![Moments::default(); places as usize];
        let free = if arrivals.is_none() { (0..places).collect() } else { VecDeque::new() };
        Places {
            arrivals,
            free,
            paused: VecDeque::new(),
            moments,
            begin_ns,
            end_ns,
            patient_until_ns,
            failed: 0,
            is_given_up: false,
        }
    }

    /// When the next connection may begin, or might have long ago; `None` as long as there is none, or no place for it.
    pub(crate) fn next_ns(&self, now_ns: u64) -> Option<u64> {
        if self.is_given_up || now_ns >= self.patient_until_ns {
            return None;
        }
        match &self.arrivals {
            Some(arrivals) if arrivals.has_free() => arrivals.next_ns().map(|ns| self.begin_ns + ns),
            Some(_) => None,
            None if now_ns >= self.end_ns => None,
            None if !self.free.is_empty() => Some(self.begin_ns),
            None => self.paused.front().map(|(until_ns, _)| *until_ns),
        }
    }

    /// A place for a connection that may begin now, and when that was due.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        let due_ns = self.next_ns(now_ns).filter(|due_ns| *due_ns <= now_ns)?;
        match &mut self.arrivals {
            Some(arrivals) => {
                let place = arrivals.take_free()?;
                arrivals.give();
                Some((place, due_ns))
            }
            None => self.free.pop_front().or_else(|| Some(self.paused.pop_front()?.1)).map(|place| (place, now_ns)),
        }
    }

    /// Whether all places were taken after a connection that fell due at `due_ns` of the run's clock had done so.
    pub(crate) fn is_starved(&self, due_ns: u64) -> bool {
        self.arrivals.as_ref().is_some_and(|arrivals| arrivals.is_starved(due_ns))
    }

    /// The connection in `place` is over, since `now_ns`.
    pub(crate) fn free(&mut self, place: u32, now_ns: u64) {
        match &mut self.arrivals {
            Some(arrivals) => arrivals.note_free(place, now_ns),
            None => self.free.push_back(place),
        }
    }

    /// The connection in `place` could not be opened, and `established` others could. A closed loop pauses, lest it does
    /// nothing but fail; after as many failures as tell all there is to tell, without a success, there is no next one.
    pub(crate) fn note_failure(&mut self, place: u32, now_ns: u64, established: u64) {
        self.failed += 1;
        self.is_given_up |= established == 0 && self.failed >= FAILURES_MAX;
        match &mut self.arrivals {
            Some(arrivals) => arrivals.note_free(place, now_ns),
            None => self.paused.push_back((now_ns + PAUSE_NS, place)),
        }
    }

    /// What happened when to the connection in `place`.
    pub(crate) fn moments(&mut self, place: u32) -> &mut Moments {
        &mut self.moments[place as usize]
    }

    /// The connections of an open loop.
    pub(crate) fn arrivals(&self) -> Option<&Arrivals> {
        self.arrivals.as_ref()
    }

    /// Whether no further connection will begin.
    pub(crate) fn is_done(&self, now_ns: u64) -> bool {
        let is_all_given = self.arrivals.as_ref().is_none_or(|arrivals| arrivals.next_ns().is_none());
        self.is_given_up || now_ns >= self.patient_until_ns || now_ns >= self.end_ns && is_all_given
    }
}

/// Failures without a success before a worker gives up.
const FAILURES_MAX: u64 = 128;

/// Between a connect that failed and the next one in its place: a hundred a second still tell what goes on.
const PAUSE_NS: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Arrival, Rate, Schedule};
    use std::time::Duration;

    fn closed() -> Places {
        Places::new(None, 2, (100, 1_000_000_000), 0)
    }

    #[test]
    fn a_closed_loop_fills_each_place_again_as_soon_as_it_is_free() {
        let mut places = closed();
        assert_eq!((places.next_ns(0), places.take(99)), (Some(100), None), "the window is not open yet");
        assert_eq!([places.take(100), places.take(107), places.take(108)], [Some((0, 100)), Some((1, 107)), None]);
        assert_eq!(places.next_ns(108), None);
        places.free(1, 109);
        assert_eq!(places.take(200), Some((1, 200)));
        places.free(0, 201);
        assert_eq!(places.take(1_000_000_000), None, "the window is closed");
        assert!(places.is_done(1_000_000_000) && !places.is_done(999_999_999));
    }

    #[test]
    fn a_place_whose_connect_failed_pauses_and_the_others_do_not() {
        let mut places = closed();
        let (first, _) = places.take(100).unwrap();
        places.note_failure(first, 100, 1);
        assert_eq!(places.take(101), Some((1, 101)));
        assert_eq!((places.next_ns(102), places.take(102)), (Some(100 + PAUSE_NS), None));
        assert_eq!(places.take(100 + PAUSE_NS), Some((0, 100 + PAUSE_NS)));
    }

    #[test]
    fn failures_without_a_success_end_it() {
        let mut places = closed();
        (1..FAILURES_MAX).for_each(|_| places.note_failure(0, 100, 0));
        assert!(!places.is_done(100));
        places.note_failure(0, 100, 0);
        assert!(places.is_done(100) && places.take(10 * PAUSE_NS).is_none());
    }

    #[test]
    fn an_open_loop_begins_what_is_due_from_when_it_was_due() {
        let schedule = Schedule::new(Rate::constant(1000.0), 0.003, Arrival::Constant, 0, (0, 1));
        let arrivals = Arrivals::new(schedule, Duration::from_millis(3), [0].into());
        let mut places = Places::new(Some(arrivals), 1, (5, 3_000_005), 7_000_000);
        assert_eq!([places.take(5), places.take(2_000_000)], [Some((0, 5)), None], "no place is free");
        assert_eq!(places.next_ns(2_000_000), None);
        places.free(0, 1_900_000);
        assert_eq!(places.take(2_000_000), Some((0, 1_000_005)));
        assert!(places.is_starved(1_000_005) && !places.is_starved(1_950_000), "it waited for the place");
        assert!(!places.is_done(9_000_000), "the last one is still to be given");
        places.note_failure(0, 2_000_000, 1);
        assert!(places.is_done(10_000_005) && places.take(10_000_005).is_none(), "but not for ever");
        assert_eq!(places.take(9_000_000), Some((0, 2_000_005)));
        assert!(places.is_done(9_000_000));
    }
}
