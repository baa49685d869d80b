//! What becomes of a connection whose output waits above the low mark: it is not read, and told once when it may write again.

use super::*;

impl Wire {
    /// How much of what the handler has sent no call has taken.
    pub(super) fn waiting(&self) -> u64 {
        self.account.sent.saturating_sub(self.taken)
    }
}

impl World {
    fn is_above(&self, n: usize) -> bool {
        self.wires[n].waiting() > self.config.limits.output_low() as u64
    }

    /// The same for the mark of a shard that has little room, if it can have that.
    pub(super) fn may_be_above(&self, n: usize) -> bool {
        self.is_above(n) || self.config.limits.output_max_shard.is_some() && self.wires[n].waiting() > 0
    }

    /// The handler is called.
    pub(crate) fn check_pressure(&mut self, n: usize, reads: bool, writes: bool) {
        let above = self.is_above(n);
        let wire = &mut self.wires[n];
        let intact = !wire.failed && !wire.account.broken;
        let account = &mut wire.account;
        account.pressed |= above;
        let faults = [
            (reads && account.pressed, "reads while its output waits"),
            (writes && above, "is told that it may write, and may not"),
            (writes && !account.pressed && !account.presses, "is told that it may write without cause"),
        ];
        if writes {
            (account.pressed, account.presses) = (false, false);
        }
        if let Some((_, what)) = faults.into_iter().find(|&(is, _)| is && intact) {
            self.fail(format!("{n} {what}: {} waiting", self.wires[n].waiting()));
        }
    }

    /// The handler's call is over. What it has sent is not: the socket may take enough of it.
    pub(crate) fn press(&mut self, n: usize) {
        let above = self.may_be_above(n);
        self.wires[n].account.presses |= above;
    }

    /// A turn is over: whoever is above the low mark is owed a call, and whoever has fallen below it has had one.
    pub(super) fn check_owed(&mut self) {
        for n in 0..self.wires.len() {
            let above = self.is_above(n);
            // Who is connected only after the stop has begun is flushed, and nothing more.
            let flushed = self.stopping && self.wires[n].attempt.is_some_and(|attempt| !attempt.told);
            let may_be_above = self.may_be_above(n);
            let owed = !may_be_above && self.is_served(n) && !flushed;
            let account = &mut self.wires[n].account;
            let missed = owed && account.pressed && !account.deferred;
            account.pressed |= above;
            account.presses = account.pressed || (account.deferred || may_be_above) && account.presses;
            self.expect(!missed, || format!("{n} is not told that it may write again"));
        }
    }

    /// Whether everything is in order with it.
    pub(super) fn is_served(&self, n: usize) -> bool {
        let wire = &self.wires[n];
        let account = &wire.account;
        let served = account.sessions > 0 && account.ends == 0 && !account.over && !account.broken;
        let excused = account.disconnected || self.everyone_disconnected || wire.failed;
        served && !excused && !wire.closed
    }
}
