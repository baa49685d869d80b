//! Connections that come and go: how fast they are due, how each of them ends, and how many ports that keeps.

use std::time::Duration;

use crate::schedule::{Arrival, Rate};
use crate::shard::Shard;

/// A load of connections, each with one exchange.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Churn {
    /// How long connections are begun.
    pub(crate) duration: Duration,
    /// How many are due a second, over all workers, and how their moments lie; `None` is a closed loop, in which each one
    /// that is over is followed by the next.
    pub(crate) arrivals: Option<(Rate, Arrival)>,
    /// How each of them ends.
    pub(crate) close: Close,
}

/// How a connection ends that has had its exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Close {
    /// By a reset from this side: nothing is left of it, on neither side
    #[default]
    Reset,
    /// By a FIN from this side, which comes first: its source port then waits 60 s in TIME_WAIT
    Fin,
    /// By the server, whose FIN is waited for; HTTP servers are asked for it, with `Connection: close`
    Server,
}

impl Close {
    /// Its name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Close::Reset => "reset",
            Close::Fin => "fin",
            Close::Server => "server",
        }
    }
}

impl Churn {
    /// The same with the rate of one shard.
    pub(crate) fn of_shard(self, shard: Shard) -> Churn {
        Churn { arrivals: self.arrivals.map(|(rate, arrival)| (rate.of_shard(shard), arrival)), ..self }
    }

    /// How many ports of this side wait at most, when each does so for `time_wait` and connections come for `lasting` in
    /// all: none where it is not this side that closes first. `None` where nobody knows how fast they come.
    pub(crate) fn waiting_max(&self, time_wait: Duration, lasting: Duration) -> Option<u64> {
        if self.close != Close::Fin || time_wait.is_zero() {
            return Some(0);
        }
        let (rate, _) = self.arrivals?;
        let most_per_s = rate.from_per_s.max(rate.to_per_s);
        Some((most_per_s * time_wait.min(lasting).as_secs_f64()).ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_wait_only_where_this_side_closes_first() {
        let rate = Some((Rate { from_per_s: 100.0, to_per_s: 1000.0 }, Arrival::Constant));
        let waiting = |close, arrivals, lasting_s| {
            let churn = Churn { duration: Duration::from_secs(1), arrivals, close };
            churn.waiting_max(Duration::from_secs(60), Duration::from_secs(lasting_s))
        };
        assert_eq!([waiting(Close::Reset, rate, 9), waiting(Close::Server, None, 9)], [Some(0); 2]);
        assert_eq!([waiting(Close::Fin, rate, 9), waiting(Close::Fin, rate, 900)], [Some(9_000), Some(60_000)]);
        assert_eq!(waiting(Close::Fin, None, 9), None, "as fast as it goes");
        let churn = Churn { duration: Duration::from_secs(1), arrivals: None, close: Close::Fin };
        assert_eq!(churn.waiting_max(Duration::ZERO, Duration::from_secs(9)), Some(0));
    }
}
