//! What the shards of a server share: two requests to end, the seats, and the pace at which they are taken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::Config;
use crate::pace::Pace;
use crate::peer::Peer;
use crate::reason::Refusal;
use crate::seats::Seats;

#[derive(Debug)]
pub(crate) struct Common {
    drain: Request,
    stop: Request,
    pub(super) seats: Seats,
    pace: Option<Pace>,
}

/// Asks all shards for something that may take so long.
#[derive(Debug, Default)]
struct Request {
    /// Milliseconds plus one; zero while nobody has asked.
    within: AtomicU64,
}

impl Request {
    /// Asked twice, the shorter time counts. True: nobody had asked before.
    fn make(&self, timeout: Duration) -> bool {
        let wanted = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX - 1).saturating_add(1);
        let shorter = |within| (within == 0 || wanted < within).then_some(wanted);
        let before = self.within.fetch_update(Ordering::Relaxed, Ordering::Relaxed, shorter);
        before == Ok(0)
    }

    fn timeout(&self) -> Option<Duration> {
        self.within.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_millis)
    }
}

impl Common {
    pub(crate) fn new(config: &Config) -> Common {
        Common {
            drain: Request::default(),
            stop: Request::default(),
            seats: Seats::new(config),
            pace: Pace::new(config),
        }
    }

    /// Takes a seat for somebody who comes at this moment, which is asked for only if it counts.
    #[inline]
    pub(super) fn admit(&self, peer: &Peer, now: impl FnOnce() -> Duration) -> Result<(), Refusal> {
        if let Some(pace) = &self.pace {
            pace.take(peer, now())?;
        }
        self.seats.take(peer)
    }

    /// Asks all shards to accept nobody any more, and to stop when all have gone, or after `timeout`.
    /// True: nobody had asked before.
    pub(crate) fn drain(&self, timeout: Duration) -> bool {
        self.drain.make(timeout)
    }

    /// Asks all shards to stop within `timeout`. True: nobody had asked before.
    pub(crate) fn stop(&self, timeout: Duration) -> bool {
        self.stop.make(timeout)
    }

    /// Whether anybody has asked for the end. Asked in each turn.
    #[inline]
    pub(crate) fn ends(&self) -> bool {
        self.drain.within.load(Ordering::Relaxed) | self.stop.within.load(Ordering::Relaxed) != 0
    }

    pub(super) fn drain_timeout(&self) -> Option<Duration> {
        self.drain.timeout()
    }

    pub(super) fn stop_timeout(&self) -> Option<Duration> {
        self.stop.timeout()
    }
}
