//! Counters: one writer each, on that writer's own cache lines, read by anyone at any time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::histogram::{Histogram, Recorder};
use crate::reason::{CloseReason, Refusal};
use crate::slab::Key;

const REASONS: usize = CloseReason::ALL.len();
const REFUSALS: usize = Refusal::ALL.len();

/// What one shard counts. Only its own thread writes, so that adding is a load and a store, without a locked instruction;
/// a reader sees each number whole, but not all of them at one moment.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    connects: AtomicU64,
    closed: [AtomicU64; REASONS],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    turns: AtomicU64,
    accept_pauses: AtomicU64,
    panics: AtomicU64,
    deaths: AtomicU64,
    refused_messages: AtomicU64,
    turned_away: [AtomicU64; REFUSALS],
    /// Not a sum, but what holds now.
    output_waiting: AtomicU64,
    /// What it is doing, for whoever watches.
    doing: AtomicU64,
    /// Counted by whoever watches.
    stalls: AtomicU64,
    /// If anybody wants to know.
    timings: Option<Arc<Timings>>,
}

/// How long it takes a shard to do what it does, each alone on its cache lines.
#[derive(Debug, Default)]
pub(crate) struct Timings {
    /// The turns of its loop.
    pub(crate) turns: CachePadded<Recorder>,
    /// The calls of its handler.
    pub(crate) calls: CachePadded<Recorder>,
}

/// What a shard is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It sleeps until something happens.
    Resting,
    /// It calls the handler for this connection.
    Serving(Key),
    /// It is at work, for no connection in particular.
    Other,
}

const RESTING: u64 = 0;
/// No key's token, nor one more than that.
const OTHER: u64 = u64::MAX;

impl Doing {
    pub(crate) fn key(self) -> Option<Key> {
        match self {
            Doing::Serving(key) => Some(key),
            Doing::Resting | Doing::Other => None,
        }
    }
}

/// Counters of a shard, as the shard and its readers share them.
pub(crate) type SharedCounters = Arc<CachePadded<Counters>>;

#[inline]
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

impl Counters {
    /// Those of a shard that is timed, or not.
    pub(crate) fn shared(timed: bool) -> SharedCounters {
        let timings = timed.then(Arc::default);
        SharedCounters::new(CachePadded::new(Counters { timings, ..Counters::default() }))
    }

    pub(crate) fn timings(&self) -> Option<&Arc<Timings>> {
        self.timings.as_ref()
    }

    pub(crate) fn accepted(&self) {
        add(&self.accepted, 1);
    }

    pub(crate) fn called(&self) {
        add(&self.connects, 1);
    }

    pub(crate) fn closed(&self, reason: CloseReason) {
        add(&self.closed[reason.index()], 1);
    }

    pub(crate) fn turned_away(&self, why: Refusal) {
        add(&self.turned_away[why as usize], 1);
    }

    #[inline]
    pub(crate) fn read(&self, bytes: usize) {
        add(&self.reads, 1);
        add(&self.bytes_in, bytes as u64);
    }

    #[inline]
    pub(crate) fn wrote(&self, bytes: usize) {
        add(&self.writes, 1);
        add(&self.bytes_out, bytes as u64);
    }

    /// How many calls of send(2) there have been.
    #[inline]
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// How many bytes have been received.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// How many bytes the kernel has taken for sending.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn turned(&self) {
        add(&self.turns, 1);
    }

    /// It is about to sleep.
    #[inline]
    pub(crate) fn rests(&self) {
        self.doing.store(RESTING, Ordering::Relaxed);
    }

    /// It is at work, for nobody in particular.
    #[inline]
    pub(crate) fn works(&self) {
        self.doing.store(OTHER, Ordering::Relaxed);
    }

    /// It is about to call the handler for this connection.
    #[inline]
    pub(crate) fn serves(&self, key: Key) {
        self.doing.store(key.token() + 1, Ordering::Relaxed);
    }

    /// How many turns it has begun, and what it is doing.
    pub(crate) fn sight(&self) -> (u64, Doing) {
        let doing = match self.doing.load(Ordering::Relaxed) {
            RESTING => Doing::Resting,
            OTHER => Doing::Other,
            token => Doing::Serving(Key::from_token(token - 1)),
        };
        (self.turns.load(Ordering::Relaxed), doing)
    }

    /// It has been found standing still.
    pub(crate) fn stalled(&self) {
        add(&self.stalls, 1);
    }

    pub(crate) fn accept_paused(&self) {
        add(&self.accept_pauses, 1);
    }

    pub(crate) fn panicked(&self) {
        add(&self.panics, 1);
    }

    pub(crate) fn died(&self) {
        add(&self.deaths, 1);
    }

    pub(crate) fn refused_messages(&self, count: u32) {
        add(&self.refused_messages, count.into());
    }

    /// So many bytes of output wait now.
    pub(crate) fn output_waits(&self, bytes: usize) {
        self.output_waiting.store(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> ShardStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Ends before beginnings, so that `open` cannot fall below zero when a connection ends between two loads.
        let closed = std::array::from_fn(|index| read(&self.closed[index]));
        ShardStats {
            closed,
            turned_away: std::array::from_fn(|index| read(&self.turned_away[index])),
            accepted: read(&self.accepted),
            connects: read(&self.connects),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            reads: read(&self.reads),
            writes: read(&self.writes),
            turns: read(&self.turns),
            accept_pauses: read(&self.accept_pauses),
            panics: read(&self.panics),
            deaths: read(&self.deaths),
            refused_messages: read(&self.refused_messages),
            output_waiting: read(&self.output_waiting),
            stalls: read(&self.stalls),
            turn_time: self.timings().map(|timings| timings.turns.snapshot()),
            handler_time: self.timings().map(|timings| timings.calls.snapshot()),
        }
    }
}

/// What one shard has counted since it started, or the sum over all shards.
///
/// Always true: `accepted + connects == open() + closed_total()`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardStats {
    /// Connections taken from the kernel, refused ones included.
    pub accepted: u64,
    /// Connections that were [called](crate::Shard::connect) from here, failed attempts included.
    pub connects: u64,
    /// Bytes received from peers.
    pub bytes_in: u64,
    /// Bytes that the kernel took for sending.
    pub bytes_out: u64,
    /// Calls of recv(2), those that found nothing included.
    pub reads: u64,
    /// Calls of send(2), those that sent nothing included.
    pub writes: u64,
    /// Turns of the loop: each is one epoll_wait(2), and what it led to.
    pub turns: u64,
    /// How often accepting paused because the system was out of descriptors or memory.
    pub accept_pauses: u64,
    /// Panics caught in the handler's functions.
    pub panics: u64,
    /// How often its loop has died, of an error of epoll_wait(2) or a panic outside of the handler's functions; what becomes
    /// of it then is [`shard_death`](crate::Builder::shard_death)'s.
    pub deaths: u64,
    /// Messages that were not taken, because there was no room for them and [`overflow`](crate::Builder::overflow) is
    /// [`Refuse`](crate::Overflow::Refuse).
    pub refused_messages: u64,
    /// Bytes of output that wait now for peers to take them: what [`output_max_shard`](crate::Builder::output_max_shard) limits.
    pub output_waiting: u64,
    /// How often the [`watchdog`](crate::Builder::watchdog) has found it held up; zero without one. Each time counts once, however
    /// often it is reported while it lasts.
    pub stalls: u64,
    /// How long its turns took: from the moment at which epoll_wait(2) returned to the end of all that it led to. A connection
    /// that is heard of waits so long, at the most, for its turn. `None` without [`histograms`](crate::Builder::histograms).
    pub turn_time: Option<Histogram>,
    /// How long the calls of its handler took, those included that panicked; what they sent was sent in that time. `None`
    /// without [`histograms`](crate::Builder::histograms).
    pub handler_time: Option<Histogram>,
    closed: [u64; REASONS],
    turned_away: [u64; REFUSALS],
}

impl ShardStats {
    /// Connections that are open now, those in their first and last moments included.
    #[must_use]
    pub fn open(&self) -> u64 {
        (self.accepted + self.connects).saturating_sub(self.closed_total())
    }

    /// Connections that were never served: the handler said no, or the server was full.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.closed(CloseReason::Refused)
    }

    /// Connections that this limit has kept out: a part of those [refused](ShardStats::refused).
    #[must_use]
    pub fn turned_away(&self, by: Refusal) -> u64 {
        self.turned_away[by as usize]
    }

    /// Connections that were called from here and failed to connect.
    #[must_use]
    pub fn connects_failed(&self) -> u64 {
        let reasons = [CloseReason::ConnectRefused, CloseReason::ConnectTimedOut, CloseReason::ConnectFailed(0)];
        reasons.into_iter().map(|reason| self.closed(reason)).sum()
    }

    /// Connections that ended for this reason; [`CloseReason::Failed`] counts all errnos together.
    #[must_use]
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason.index()]
    }

    /// Connections that ended, for whatever reason.
    #[must_use]
    pub fn closed_total(&self) -> u64 {
        self.closed.iter().sum()
    }

    fn add(&mut self, other: &ShardStats) {
        self.accepted += other.accepted;
        self.connects += other.connects;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.reads += other.reads;
        self.writes += other.writes;
        self.turns += other.turns;
        self.accept_pauses += other.accept_pauses;
        self.panics += other.panics;
        self.deaths += other.deaths;
        self.refused_messages += other.refused_messages;
        self.output_waiting += other.output_waiting;
        self.stalls += other.stalls;
        for (sum, time) in [(&mut self.turn_time, &other.turn_time), (&mut self.handler_time, &other.handler_time)] {
            match (sum.as_mut(), time) {
                (Some(sum), Some(time)) => sum.add(time),
                (None, time) => sum.clone_from(time),
                (Some(_), None) => {}
            }
        }
        self.turned_away.iter_mut().zip(other.turned_away).for_each(|(sum, count)| *sum += count);
        self.closed.iter_mut().zip(other.closed).for_each(|(sum, count)| *sum += count);
    }
}

impl fmt::Display for ShardStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} open, {} accepted, {} bytes in, {} bytes out, {} turns",
            self.open(),
            self.accepted,
            self.bytes_in,
            self.bytes_out,
            self.turns
        )?;
        if self.connects > 0 {
            write!(f, ", {} called", self.connects)?;
        }
        for reason in CloseReason::ALL.into_iter().filter(|&reason| self.closed(reason) > 0) {
            write!(f, ", {} {}", self.closed(reason), reason.name())?;
        }
        let (pauses, panics) = ((self.accept_pauses, "accept pauses"), (self.panics, "panics"));
        let refused = (self.refused_messages, "messages refused");
        for (count, what) in [pauses, panics, (self.deaths, "deaths"), (self.stalls, "stalls"), refused] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        for (what, time) in [("turns", &self.turn_time), ("handler", &self.handler_time)] {
            if let Some(time) = time {
                write!(f, ", {what}: {time}")?;
            }
        }
        Ok(())
    }
}

/// What a server has counted: the sum, and each shard for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The sum over all shards.
    pub total: ShardStats,
    /// Each shard, by its index.
    pub shards: Vec<ShardStats>,
}

impl Stats {
    pub(crate) fn collect<'a>(shards: impl Iterator<Item = &'a SharedCounters>) -> Stats {
        let shards: Vec<ShardStats> = shards.map(|counters| counters.snapshot()).collect();
        let mut total = ShardStats::default();
        shards.iter().for_each(|shard| total.add(shard));
        Stats { total, shards }
    }

    /// How unevenly connections have come to the shards: those that the busiest has accepted, divided by the mean. 1.0 is
    /// even, and the number of shards is all to one. See [`Steering`](crate::Steering).
    #[must_use]
    pub fn imbalance(&self) -> f64 {
        let most = self.shards.iter().map(|shard| shard.accepted).max().unwrap_or(0);
        if most == 0 { 1.0 } else { most as f64 * self.shards.len() as f64 / self.total.accepted as f64 }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.total.fmt(f)?;
        match self.shards.len() {
            1 => Ok(()),
            shards => {
                write!(f, "; {shards} shards, of which the busiest accepted {:.2} times the mean", self.imbalance())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_sum_and_what_was_accepted_is_open_or_closed() {
        let shards: Vec<SharedCounters> = (0..3).map(|_| SharedCounters::default()).collect();
        for (index, counters) in shards.iter().enumerate() {
            (0..=index).for_each(|_| counters.accepted());
            counters.closed(CloseReason::Refused);
            counters.read(10);
        }
        shards[2].closed(CloseReason::Failed(5));
        let stats = Stats::collect(shards.iter());
        assert_eq!((stats.total.accepted, stats.total.bytes_in, stats.total.refused()), (6, 30, 3));
        assert_eq!(stats.total.closed(CloseReason::Failed(0)), 1);
        assert_eq!((stats.total.open(), stats.shards[2].open()), (2, 1));
        assert_eq!(stats.imbalance(), 1.5, "3 of 6 on one of three");
        assert_eq!(Stats::collect([].iter()).imbalance(), 1.0);
    }
}
