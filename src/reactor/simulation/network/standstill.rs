//! The whole process is stopped for a while: what comes meanwhile is read before anybody expires.

use super::*;

/// What the loop takes for a pause: a second, and the ticks that have begun at its ends.
const A_PAUSE: Duration = Duration::from_millis(1_020);
const NEARLY_A_PAUSE: Duration = Duration::from_millis(980);

/// What had been read and what had arrived when the process was stopped, of each connection.
pub(super) type Standstill = Vec<(u64, u64)>;

impl World {
    /// A wait is over, and before the loop looks at its clock the process may be stopped, for longer than a turn ever takes.
    pub(super) fn begin_turn(&mut self) {
        // Turns that all take so long are no pauses, but slow.
        let (slow, last) = (self.stood_still(), self.turns[0]);
        self.standstill = None;
        if self.dice.chance(self.temper.stops) {
            let reads = self.wires.iter().map(|wire| (wire.read, wire.arrived)).collect();
            let most = self.dice.pick(&[1_000, 40_000]);
            self.now += A_PAUSE + Duration::from_millis(self.dice.below(most));
            self.tell(|| "stood still so far".into());
            for _ in 0..self.dice.below(30) {
                self.step();
            }
            self.standstill = Some(reads).filter(|_| !slow);
        }
        self.turn_at = self.now;
        self.turns = [self.now, last];
    }

    /// Whether the loop takes this turn for one after a pause.
    pub(super) fn stood_still(&self) -> bool {
        self.turns[0] - self.turns[1] > NEARLY_A_PAUSE
    }

    /// Whether this turn has been, or has come after, more than the loop takes for a turn: the timers count its turns anew.
    pub(super) fn is_held_up(&self) -> bool {
        self.blocked_until > self.turn_at || self.stood_still()
    }

    /// The handler is told of a timeout of `n`.
    pub(super) fn check_heard(&mut self, n: usize) {
        let Some(&(read, arrived)) = self.standstill.as_ref().and_then(|standstill| standstill.get(n)) else { return };
        let wire = &self.wires[n];
        let (came, account) = (wire.arrived > arrived && wire.read == read, &wire.account);
        let unread = came && !account.paused && !account.pressed && !account.deferred && !self.stopping;
        self.expect(!unread, || format!("{n} times out before what came during a standstill is read"));
    }
}
