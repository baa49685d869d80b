//! The shard's own tick: when its handler is called for nobody in particular.

use std::time::Duration;

use super::{Handler, Kernel, Reactor};
#[cfg(test)]
use crate::planted::Bug;

/// Strikes once in each period.
#[derive(Debug)]
pub(super) struct Ticker {
    period: Duration,
    strikes_at: Duration,
}

impl Ticker {
    pub(super) fn new(period: Duration, now: Duration) -> Ticker {
        #[cfg(test)]
        let period = Bug::TickLate.instead(Bug::TickEarly.instead(period, period / 2), period * 2);
        Ticker { period, strikes_at: now + period }
    }

    pub(super) fn strikes_at(&self) -> Duration {
        self.strikes_at
    }

    /// Whether it strikes. Where it should have done so more than once, it does so once, and its next period begins then:
    /// a shard that is late is not to be kept busy with what it has missed.
    fn strikes(&mut self, now: Duration) -> bool {
        if now < self.strikes_at {
            return false;
        }
        self.strikes_at += self.period;
        if self.strikes_at <= now {
            self.strikes_at = now + self.period;
        }
        true
    }
}

impl<K: Kernel, H: Handler> Reactor<K, H> {
    #[inline]
    pub(super) fn tick(&mut self) {
        if let Some(ticker) = &mut self.ticker
            && ticker.strikes(self.desk.kernel.now())
        {
            self.with_shard(None, |handler, shard| handler.handle_tick(shard));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_strikes_once_a_period_and_makes_up_for_none_that_it_missed() {
        let ms = Duration::from_millis;
        let mut ticker = Ticker::new(ms(10), ms(100));
        let struck: Vec<u64> = (100..150).filter(|&now| ticker.strikes(ms(now))).collect();
        assert_eq!(struck, [110, 120, 130, 140]);
        assert!(ticker.strikes(ms(155)), "a little late");
        assert_eq!(ticker.strikes_at(), ms(160), "it keeps time");
        assert!(ticker.strikes(ms(1_003)) && !ticker.strikes(ms(1_012)), "what was missed is over");
        assert_eq!(ticker.strikes_at(), ms(1_013));
    }
}
