//! The handler's tick: not before its period is over, and in the first turn after that.

use super::*;

/// The loop looks at its clock a moment after the simulation does.
const A_MOMENT: Duration = Duration::from_millis(2);

/// What there has been of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    /// Before the loop was there, or when its first wait began.
    since: Duration,
    last: Option<Duration>,
    count: u32,
}

impl Ticks {
    pub(super) fn new(since: Duration) -> Ticks {
        Ticks { since, last: None, count: 0 }
    }
}

impl World {
    /// The handler is called.
    pub(crate) fn check_tick(&mut self) {
        self.ticks.count += 1;
        let Ticks { since, last, count } = self.ticks;
        self.tell(|| format!("tick {count}"));
        let (now, period) = (self.now, self.config.tick.unwrap_or(Duration::MAX));
        let early = period.checked_mul(count).is_none_or(|span| now < since + span);
        self.expect(!early, || format!("tick {count} comes too early, after {last:?}"));
        self.ticks.last = Some(now);
        self.progress += 1;
    }

    /// A turn is over, and the loop is going to wait for so long.
    pub(super) fn check_ticks(&mut self, timeout: Duration) {
        let Some(period) = self.config.tick else { return };
        let (now, turn_at, count) = (self.now, self.turn_at, self.ticks.count);
        let last = *self.ticks.last.get_or_insert(now);
        self.expect(turn_at <= last + period + A_MOMENT, || format!("a turn went by without tick {}", count + 1));
        let oversleeps = !timeout.is_zero() && now + timeout > last + period + A_MOMENT;
        self.expect(!oversleeps, || {
            format!("it would sleep {timeout:?} past tick {}, the last at {last:?}", count + 1)
        });
    }
}
