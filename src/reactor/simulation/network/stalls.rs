//! Peers that take nothing of what waits for them: not let go while they take some, and not kept much longer.

use super::*;

/// Ticks, at both ends of both halves.
const ROUNDING: Duration = Duration::from_millis(50);
/// A moment before it knows the time.
const A_TICK: Duration = Duration::from_millis(11);
/// Waits that may pass until everyone's timer is looked at, beyond one for each connection.
const WAITS_BORNE: u32 = 10;

impl Wire {
    /// Something was taken. If that was all, the next that waits begins anew, be it in the same turn.
    pub(super) fn emptied(&mut self) {
        if self.waiting() == 0 {
            (self.waits_since, self.stalled_waits) = (None, 0);
        }
    }
}

impl World {
    /// It ends because it takes nothing: none has left for as long as that, and none was acknowledged in the second half.
    pub(crate) fn may_stall(&self, n: usize) -> bool {
        let Some(span) = self.config.limits.write_timeout else { return false };
        let wire = &self.wires[n];
        let idle = wire.sent_at + span <= self.now + A_TICK && wire.seen.1 + span / 2 <= wire.asked_at + A_TICK;
        wire.waiting() > 0 && idle
    }

    /// A turn is over, and the loop waits for so long.
    pub(super) fn check_stalls(&mut self, timeout: Duration) {
        let Some(span) = self.config.limits.write_timeout else { return };
        let (now, waits_max) = (self.now, self.wires.len() as u32 + WAITS_BORNE);
        let held_up = self.is_held_up();
        for n in 0..self.wires.len() {
            let wire = &self.wires[n];
            let connects = wire.attempt.is_some_and(|attempt| !attempt.told);
            let served = self.is_served(n) && !self.stopping && !connects;
            let wire = &mut self.wires[n];
            if !served || wire.waiting() == 0 {
                (wire.waits_since, wire.stalled_waits) = (None, 0);
                continue;
            }
            let since = *wire.waits_since.get_or_insert(now);
            let moved = since.max(wire.sent_at).max(wire.drained_at);
            // If it was looked at late, because time has jumped, it has another half from then on.
            let latest = (moved + span * 3 / 2).max(wire.asked_at + span / 2) + ROUNDING;
            wire.stalled_waits = if latest < now && !held_up { wire.stalled_waits + 1 } else { 0 };
            let sleeps = !timeout.is_zero() && latest < now + timeout;
            if sleeps || wire.stalled_waits > waits_max {
                let waits = wire.waiting();
                self.fail(format!("{n} takes nothing since {moved:?}, {waits} wait, and now {timeout:?}"));
            }
        }
    }
}
