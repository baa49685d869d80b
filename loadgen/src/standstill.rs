//! Times in which a thread neither waited for something nor ran: stopped by a signal, or without a processor.

use std::time::Duration;

/// Watches one thread's loop, turn by turn. No clock of its own.
#[derive(Debug, Default)]
pub(crate) struct Standstill {
    /// When the current turn began, by the run's clock.
    turn_ns: u64,
    /// When the thread's processor time was last looked at, and what it was.
    sampled_ns: u64,
    cpu_time: Duration,
    /// The sum of all standstills.
    total_ns: u64,
}

impl Standstill {
    /// A turn begins at `now_ns`; in the one before the thread wanted to sleep for up to `pause`. `cpu_time` says how much
    /// processor time the thread has used: a system call, so it is asked twenty times a second and not every turn.
    pub(crate) fn note_turn(&mut self, now_ns: u64, pause: Duration, cpu_time: impl FnOnce() -> Duration) {
        let turn_ns = now_ns.saturating_sub(std::mem::replace(&mut self.turn_ns, now_ns));
        if now_ns.saturating_sub(self.sampled_ns) < SAMPLE_NS {
            return;
        }
        let used = cpu_time().saturating_sub(self.cpu_time);
        (self.sampled_ns, self.cpu_time) = (now_ns, self.cpu_time + used);
        // What was used since the last look was used in this turn or before it: what is missing, is missing at least.
        let idle_ns = turn_ns.saturating_sub(used.as_nanos() as u64).saturating_sub(pause.as_nanos() as u64);
        if idle_ns > STANDSTILL_NS {
            self.total_ns += idle_ns;
        }
    }

    /// A stage begins at `now_ns`: nothing is counted of what was before.
    pub(crate) fn begin(&mut self, now_ns: u64, cpu_time: Duration) {
        *self = Standstill { turn_ns: now_ns, sampled_ns: now_ns, cpu_time, total_ns: 0 };
    }

    /// How long the thread stood still, in all.
    pub(crate) fn total_ns(&self) -> u64 {
        self.total_ns
    }
}

/// Between two looks at the processor time.
const SAMPLE_NS: u64 = 50_000_000;

/// What a busy machine's scheduler makes a thread wait now and then is less.
const STANDSTILL_NS: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A standstill after turns that ended at so many milliseconds, with so many of processor time by then.
    fn after(turns: &[(u64, u64)]) -> u64 {
        let mut standstill = Standstill::default();
        standstill.begin(0, Duration::ZERO);
        for (now_ms, cpu_ms) in turns {
            standstill.note_turn(now_ms * MS, Duration::from_millis(50), || Duration::from_millis(*cpu_ms));
        }
        standstill.total_ns() / MS
    }

    #[test]
    fn work_and_sleep_are_no_standstill() {
        assert_eq!(after(&[(50, 0), (100, 0), (150, 0)]), 0, "asleep");
        assert_eq!(after(&[(10, 10), (500, 500)]), 0, "busy, in a long turn");
        assert_eq!(after(&[(140, 0)]), 0, "late by less than a tenth of a second");
    }

    #[test]
    fn what_was_neither_is() {
        assert_eq!(after(&[(40, 0), (1090, 0), (1100, 5)]), 1000);
        assert_eq!(after(&[(1050, 0), (2100, 0)]), 2000, "each counts");
    }
}
