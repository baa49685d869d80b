//! Watching the shards from beside: which of them one call of the handler keeps from everyone else.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::client::ClientId;
use crate::config::{TIMEOUT_MAX, span};
use crate::connection::drop_panic;
use crate::error::Error;
use crate::stats::{Doing, SharedCounters};
use crate::trace;

/// A shard that does not come round: since it began its present turn, or its last one, more time has passed than
/// [`watchdog`](crate::Builder::watchdog) allows. Its other connections wait meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stall {
    /// The shard's index.
    pub shard: usize,
    /// The connection whose handler was called last, unless it was a message that is no connection's own.
    pub client: Option<ClientId>,
    /// For how long at least.
    pub lasted: Duration,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} has been held up for {:?}", self.shard, self.lasted)?;
        match self.client {
            Some(client) => write!(f, ", by connection {client}"),
            None => Ok(()),
        }
    }
}

/// What is to be watched for, and whom to tell.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) allowed: Duration,
    pub(crate) report: Arc<dyn Fn(&Stall) + Send + Sync>,
}

impl Watch {
    pub(crate) fn check(&self) -> Result<(), Error> {
        span("watchdog", self.allowed, Duration::from_millis(1), TIMEOUT_MAX)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

/// The thread that looks; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    ends: Sender<()>,
    thread: JoinHandle<()>,
}

/// So many looks fit into what is allowed, so that a stall is told of at most a fifth later.
const LOOKS: u32 = 4;

impl Watchdog {
    pub(crate) fn start(watch: Watch, shards: Vec<SharedCounters>) -> std::io::Result<Watchdog> {
        let (ends, ended) = channel();
        let interval = watch.allowed / LOOKS;
        let thread = thread::Builder::new().name("esockets-watchdog".into()).spawn(move || {
            let mut sights: Vec<Sight> = shards.iter().map(|_| Sight::default()).collect();
            while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                for (shard, (sight, counters)) in sights.iter_mut().zip(&shards).enumerate() {
                    let (turns, doing) = counters.sight();
                    let Some(looks) = sight.look(turns, doing) else { continue };
                    if looks == LOOKS {
                        counters.stalled();
                    }
                    let client = doing.key().map(|key| ClientId { shard: shard as u32, key });
                    tell(&watch, &Stall { shard, client, lasted: interval * looks });
                }
            }
        })?;
        Ok(Watchdog { ends, thread })
    }

    /// Ends it, and waits for that, unless it is the one who asks.
    pub(crate) fn end(self) {
        drop(self.ends);
        if self.thread.thread().id() != thread::current().id() {
            // It has nothing to tell.
            let _ = self.thread.join();
        }
    }
}

fn tell(watch: &Watch, stall: &Stall) {
    trace::held_up(stall.shard, stall.client, stall.lasted);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (watch.report)(stall))) {
        drop_panic(panic);
    }
}

/// What was last seen of a shard.
#[derive(Debug, Default)]
struct Sight {
    turns: u64,
    /// Looks in a row at which it was at work in the same turn. Counted, not timed: when the whole process has been stopped
    /// for an hour, that is one look.
    looks: u32,
}

impl Sight {
    /// Takes another look; at the end of what is allowed, and each time that has doubled, the looks since it stands still.
    fn look(&mut self, turns: u64, doing: Doing) -> Option<u32> {
        if doing == Doing::Resting || turns != self.turns {
            *self = Sight { turns, looks: 0 };
            return None;
        }
        self.looks = self.looks.saturating_add(1);
        (self.looks >= LOOKS && self.looks.is_power_of_two()).then_some(self.looks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Key;

    const BUSY: Doing = Doing::Serving(Key { slot: 1, generation: 2 });

    #[test]
    fn who_rests_or_comes_round_is_left_alone() {
        let mut sight = Sight::default();
        assert!((0..1000).all(|_| sight.look(7, Doing::Resting).is_none()));
        assert!((0..1000).all(|turns| sight.look(turns, BUSY).is_none()));
    }

    #[test]
    fn who_stands_still_is_told_of_at_the_end_of_what_is_allowed_and_at_each_doubling() {
        let mut sight = Sight::default();
        sight.look(7, BUSY);
        let told: Vec<u32> = (0..20).filter_map(|_| sight.look(7, BUSY)).collect();
        assert_eq!(told, [LOOKS, 2 * LOOKS, 4 * LOOKS]);
        sight.look(8, BUSY);
        assert_eq!((0..LOOKS).filter_map(|_| sight.look(8, BUSY)).count(), 1, "the next one, too");
    }
}
