//! The stages of a run, and how a worker decides in each of them what to begin next.

use std::collections::VecDeque;
use std::time::Duration;

use crate::churn::Churn;
use crate::connector::Connector;
use crate::places::Places;
use crate::schedule::{Arrival, Rate, Schedule};
use crate::shard::Shard;

/// One part of a run, which all workers do at the same time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stage {
    /// Open all connections.
    Connect,
    /// One echo on each connection.
    Verify,
    /// Closed loop: each connection sends again as soon as its echo is back.
    Closed {
        /// How long requests are begun.
        duration: Duration,
    },
    /// Open loop: requests are due at a rate, whatever the server does.
    Open {
        /// How long requests fall due.
        duration: Duration,
        /// Requests due per second, over all workers: of all shards where it is run, of one in its results.
        rate: Rate,
        /// How their moments lie.
        arrival: Arrival,
    },
    /// Connections come and go, each with one exchange.
    Churn(Churn),
    /// Nothing is sent but heartbeats, and nothing else may come.
    Hold {
        /// How long.
        duration: Duration,
        /// How long after one verified echo each connection sends the next; `None` is silence.
        heartbeat: Option<Duration>,
    },
}

impl Stage {
    /// Whether it is one that a server is measured by.
    pub(crate) fn is_measured(self) -> bool {
        matches!(self, Stage::Closed { .. } | Stage::Open { .. } | Stage::Churn(_))
    }

    /// How many requests, or connections, are due a second, and how their moments lie; of an open loop.
    pub(crate) fn arrivals(self) -> Option<(Rate, Arrival)> {
        match self {
            Stage::Open { rate, arrival, .. } => Some((rate, arrival)),
            Stage::Churn(churn) => churn.arrivals,
            _ => None,
        }
    }

    /// The rate at which something is due in it, if it has one.
    pub(crate) fn rate_mut(&mut self) -> Option<&mut Rate> {
        match self {
            Stage::Open { rate, .. } => Some(rate),
            Stage::Churn(churn) => churn.arrivals.as_mut().map(|(rate, _)| rate),
            _ => None,
        }
    }

    /// The same, if it is one of connections that come and go.
    pub(crate) fn churn(self) -> Option<Churn> {
        if let Stage::Churn(churn) = self { Some(churn) } else { None }
    }

    /// The same for another duration, if it has one. A rate that changes keeps to where it begins.
    pub(crate) fn lasting(self, duration: Duration) -> Stage {
        match self {
            Stage::Connect | Stage::Verify => self,
            Stage::Closed { .. } => Stage::Closed { duration },
            Stage::Open { rate, arrival, .. } => {
                Stage::Open { duration, rate: Rate::constant(rate.from_per_s), arrival }
            }
            Stage::Churn(churn) => {
                let arrivals = churn.arrivals.map(|(rate, arrival)| (Rate::constant(rate.from_per_s), arrival));
                Stage::Churn(Churn { duration, arrivals, ..churn })
            }
            Stage::Hold { heartbeat, .. } => Stage::Hold { duration, heartbeat },
        }
    }

    /// The same with the rate of one shard.
    pub(crate) fn of_shard(self, shard: Shard) -> Stage {
        match self {
            Stage::Open { duration, rate, arrival } => Stage::Open { duration, rate: rate.of_shard(shard), arrival },
            Stage::Churn(churn) => Stage::Churn(churn.of_shard(shard)),
            stage => stage,
        }
    }

    /// Its name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stage::Connect => "connect",
            Stage::Verify => "verify",
            Stage::Closed { .. } => "closed",
            Stage::Open { .. } => "open",
            Stage::Churn(_) => "churn",
            Stage::Hold { .. } => "hold",
        }
    }

    /// How long the stage's window is open; `None` when it ends as soon as its work is done.
    pub(crate) fn duration(self) -> Option<Duration> {
        match self {
            Stage::Connect | Stage::Verify => None,
            Stage::Closed { duration } | Stage::Open { duration, .. } | Stage::Hold { duration, .. } => Some(duration),
            Stage::Churn(churn) => Some(churn.duration),
        }
    }
}

/// What a worker has yet to begin in the current stage.
pub(crate) enum Drive {
    /// Connects.
    Connect(Box<Connector>),
    /// One request on each connection, a few at a time.
    Verify(Cursor),
    /// The first request on each connection; every later one is begun by the answer to the one before.
    Closed(Cursor),
    /// Requests that fall due.
    Open(Arrivals),
    /// Connections, in the places that are free.
    Churn(Box<Places>),
    /// Nothing.
    Hold,
    /// Heartbeats, one connection after the other.
    Beat(Beats),
}

/// Goes over all connections once.
#[derive(Debug)]
pub(crate) struct Cursor {
    next: u32,
    end: u32,
}

impl Cursor {
    /// Over the connections 0 to `end`, which is excluded.
    pub(crate) fn new(end: u32) -> Cursor {
        Cursor { next: 0, end }
    }

    /// Whether all were visited.
    pub(crate) fn is_done(&self) -> bool {
        self.next == self.end
    }
}

impl Iterator for Cursor {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let slot = self.next;
        (slot < self.end).then(|| {
            self.next += 1;
            slot
        })
    }
}

/// The heartbeats of one worker: each of its connections once an interval, all of them spread evenly over it.
#[derive(Debug)]
pub(crate) struct Beats {
    interval: Duration,
    duration: Duration,
    slots: u32,
    begun: u64,
}

impl Beats {
    /// On the connections 0 to `slots`, excluded, once in `interval` each, as long as `duration`.
    pub(crate) fn new(interval: Duration, duration: Duration, slots: u32) -> Beats {
        Beats { interval, duration, slots, begun: 0 }
    }

    /// When the next one is due, in nanoseconds since the window opened; `None` after the last one.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        // In the middle of its part of the interval: so the first and the last have the same distance to the ends.
        let halves = u128::from(self.begun) * 2 + 1;
        let due_ns = (self.slots > 0).then(|| self.interval.as_nanos() * halves / (2 * u128::from(self.slots)))?;
        (due_ns < self.duration.as_nanos()).then_some(due_ns as u64)
    }

    /// From one of a connection's to its next one.
    pub(crate) fn interval_ns(&self) -> u64 {
        self.interval.as_nanos() as u64
    }

    /// Takes the connection whose turn it is.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let slot = self.begun.checked_rem(u64::from(self.slots))?;
        self.begun += 1;
        Some(slot as u32)
    }
}

/// The open loop's requests of one worker: which are due, which were given to a connection, which connections are free.
///
/// What waits for a connection is not stored: it is those requests of the schedule that are due but not given yet.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// Beyond the request that is next.
    schedule: Schedule,
    /// When the next request that no connection has yet is (or was) due; `None` after the last one.
    next_ns: Option<u64>,
    given: u64,
    window_ns: u64,
    free: VecDeque<u32>,
    /// Since when a connection has been free, by the run's clock.
    free_since_ns: u64,
}

impl Arrivals {
    /// The requests of `schedule` in a window of `duration`, and the connections that are free at its beginning.
    pub(crate) fn new(schedule: Schedule, duration: Duration, free: VecDeque<u32>) -> Arrivals {
        let window_ns = duration.as_nanos() as u64;
        let mut arrivals = Arrivals { schedule, next_ns: None, given: 0, window_ns, free, free_since_ns: 0 };
        arrivals.advance();
        arrivals
    }

    fn advance(&mut self) {
        self.next_ns = self.schedule.next().filter(|ns| *ns < self.window_ns);
    }

    /// How many requests are due at `now_ns` since the window opened: those that were given, and those that wait.
    pub(crate) fn due(&self, now_ns: u64) -> u64 {
        let end_ns = now_ns.min(self.window_ns);
        let waits = self.next_ns.is_some_and(|ns| ns < end_ns);
        self.given + if waits { 1 + self.schedule.count_before(end_ns) } else { 0 }
    }

    /// When the next request that no connection has yet is (or was) due; `None` after the last one.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.next_ns
    }

    /// Whether a connection is free (or was when it was last seen).
    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Takes the connection that has been free for longest, so that all take turns.
    pub(crate) fn take_free(&mut self) -> Option<u32> {
        self.free.pop_front()
    }

    /// A connection has become free, at `now_ns` of the run's clock.
    pub(crate) fn note_free(&mut self, slot: u32, now_ns: u64) {
        if self.free.is_empty() {
            self.free_since_ns = now_ns;
        }
        self.free.push_back(slot);
    }

    /// Whether all connections were busy after a request that fell due at `due_ns` of the run's clock had done so.
    pub(crate) fn is_starved(&self, due_ns: u64) -> bool {
        due_ns < self.free_since_ns
    }

    /// The next request was given to a connection.
    pub(crate) fn give(&mut self) {
        self.given += 1;
        self.advance();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals() -> Arrivals {
        let schedule = Schedule::new(Rate::constant(1000.0), 0.005, Arrival::Constant, 0, (0, 1));
        Arrivals::new(schedule, Duration::from_millis(5), VecDeque::from([0, 1]))
    }

    #[test]
    fn a_request_waits_for_a_connection_from_its_due_moment() {
        let mut arrivals = arrivals();
        assert_eq!(arrivals.next_ns(), Some(0));
        arrivals.give();
        assert_eq!(arrivals.next_ns(), Some(1_000_000), "due then, however late it is given");
    }

    #[test]
    fn nothing_is_due_beyond_the_window() {
        let mut arrivals = arrivals();
        assert_eq!([0, 1, 4_000_001, u64::MAX >> 20].map(|now| arrivals.due(now)), [0, 1, 5, 5]);
        (0..5).for_each(|_| arrivals.give());
        assert_eq!((arrivals.next_ns(), arrivals.due(u64::MAX)), (None, 5));
    }

    #[test]
    fn connections_take_turns() {
        let mut arrivals = arrivals();
        assert_eq!(arrivals.take_free(), Some(0));
        arrivals.note_free(0, 70);
        assert_eq!([arrivals.take_free(), arrivals.take_free(), arrivals.take_free()], [Some(1), Some(0), None]);
        assert!(!arrivals.has_free() && !arrivals.is_starved(60), "one was free all the time");
        [(0, 90), (1, 95)].into_iter().for_each(|(slot, now_ns)| arrivals.note_free(slot, now_ns));
        assert!(arrivals.is_starved(80) && !arrivals.is_starved(92));
    }

    #[test]
    fn heartbeats_are_even_and_each_connection_has_its_turn() {
        let mut beats = Beats::new(Duration::from_nanos(40), Duration::from_nanos(80), 2);
        let mut seen = Vec::new();
        while let Some(due_ns) = beats.next_ns() {
            seen.push((due_ns, beats.take().unwrap()));
        }
        assert_eq!(seen, [(10, 0), (30, 1), (50, 0), (70, 1)]);
        assert_eq!(Beats::new(Duration::from_secs(1), Duration::from_secs(9), 0).next_ns(), None);
    }

    #[test]
    fn a_cursor_visits_each_connection_once() {
        let mut cursor = Cursor::new(2);
        assert_eq!(cursor.by_ref().collect::<Vec<_>>(), [0, 1]);
        assert!(cursor.is_done());
    }
}
