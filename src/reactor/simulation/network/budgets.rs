//! What one connection, and all new ones, may have of a turn while others wait; and that whoever waits has his.

use super::*;

/// What a connection has had of this turn.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    read: u64,
    /// How often the wait has told of it. No kernel tells twice, but this one does.
    told: u64,
    /// Whether it is to be read, by all that the loop knew when the turn began, and has been tried.
    waits: bool,
    tried: bool,
}

/// Whose first message is overdue, but has come in part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overdue {
    /// Until then it may be overdue, for it has been read shortly before.
    pub(super) until: Duration,
    /// That reading may have left something, or came before the deadline for all that is known.
    more: bool,
}

impl Wire {
    /// A turn in which its first message may have been overdue, or was for sure, ends `now`: was it read, and has it to be
    /// once more?
    pub(super) fn excuse(&mut self, now: Duration, budget: u64, surely: bool) -> Duration {
        let Share { read, tried, .. } = self.share;
        if tried && self.overdue.is_none_or(|before| before.more) {
            self.overdue = Some(Overdue { until: now + clock::TICK, more: !surely || read >= budget });
        }
        self.overdue.map_or(Duration::ZERO, |overdue| overdue.until)
    }
}

impl World {
    /// A turn begins, with these events.
    pub(super) fn share_out(&mut self, events: &[Event]) {
        self.welcomed = 0;
        for n in 0..self.wires.len() {
            let (waits, key) = (self.wants_reading(n), self.wires[n].key);
            let tells = |event: &&Event| matches!(event, Event::Stream(of, _) if Some(*of) == key);
            let told = events.iter().filter(tells).count() as u64;
            self.wires[n].share = Share { waits, told, ..Share::default() };
        }
    }

    /// A turn is over, and everybody has had something of it.
    pub(super) fn check_shares(&mut self) {
        for n in 0..self.wires.len() {
            let Share { waits, tried, .. } = self.wires[n].share;
            let deferred = std::mem::take(&mut self.wires[n].account.deferred);
            let forgotten = waits && !tried && self.wants_reading(n) && !deferred;
            self.expect(!forgotten, || format!("{n} has to wait although it can be read"));
        }
    }

    /// Whether it is to be read in the turn that begins, or was to be in the one that has ended.
    fn wants_reading(&self, n: usize) -> bool {
        let wire = &self.wires[n];
        // When the server stops, whoever has been read once may be done.
        let open = !wire.account.paused && !wire.account.pressed && !self.may_be_above(n) && !self.stopping;
        wire.told > wire.read && open && self.is_served(n)
    }

    /// There is a reason for not reading it in this turn, be it over before the turn is.
    pub(crate) fn may_rest(&mut self, n: usize) {
        self.wires[n].share.tried = true;
    }

    /// So much is read of it.
    pub(super) fn check_share(&mut self, n: usize, read: u64) {
        let wire = &mut self.wires[n];
        let budget = self.config.limits.read_budget as u64 * wire.share.told.max(1);
        wire.share.tried = true;
        wire.share.read += read;
        // What is thrown away is nobody's.
        let (read, excused) = (wire.share.read, wire.shut || wire.account.refused);
        self.expect(read <= budget || excused, || format!("{n} has {read} of a turn, where {budget} are allowed"));
    }

    /// One more has been accepted.
    pub(super) fn check_welcome(&mut self) {
        self.welcomed += 1;
        let (welcomed, budget) = (self.welcomed, self.config.accept_budget);
        let excused = self.stopping || self.drain.is_some();
        let many = || format!("{welcomed} are accepted in a turn, where {budget} are allowed");
        self.expect(welcomed <= budget || excused, many);
    }
}
