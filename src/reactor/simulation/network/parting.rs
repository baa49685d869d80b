//! How connections end, as the peer sees it: whole and in good order, or with a reset that has a reason.

use super::*;

/// How long a peer may take to finish after we have, and after it last acknowledged something.
const LINGERING: Duration = Duration::from_secs(2);
/// How long a peer may take none of what was queued for it, less the tick that had begun when it last did.
const FLUSHING: Duration = Duration::from_millis(29_990);

/// Ticks, rounding, and a turn that finds much to do.
const A_TURN: Duration = Duration::from_millis(100);

impl Wire {
    /// Nothing that the loop does can still be right or wrong.
    fn is_beyond(&self) -> bool {
        self.reset || self.failed
    }
}

impl World {
    /// The handler wants it to end.
    pub(crate) fn is_over(&mut self, n: usize) {
        let account = &mut self.wires[n].account;
        (account.over, account.over_at) = (true, self.turn_at);
    }

    /// A stream is being closed.
    pub(super) fn check_parting(&mut self, n: usize, reset: bool) {
        self.check_refusal(n);
        if self.wires[n].is_beyond() || self.may_close_all() {
            return;
        }
        if self.wires[n].is_pending() {
            self.check_given_up(n, reset);
        } else if reset {
            self.check_reset(n);
        } else {
            self.check_whole(n);
            self.check_lingering(n);
            self.check_unread(n);
        }
        self.check_vanished(n);
    }

    /// An orderly end says to the peer that what it got is the whole.
    pub(super) fn check_whole(&mut self, n: usize) {
        let wire = &self.wires[n];
        let (sent, taken) = (wire.account.sent, wire.taken);
        let whole = wire.reset || sent <= taken && !wire.account.broken;
        let reason = wire.account.reason;
        self.expect(whole, || format!("{n} ends in good order after {taken} of {sent} bytes, {reason:?}"));
    }

    /// A reset is for those who cannot have the whole.
    fn check_reset(&mut self, n: usize) {
        let account = &self.wires[n].account;
        let reason = account.reason;
        let cut = account.broken || account.aborted || account.panicked || account.sent > self.wires[n].taken;
        self.expect(cut || reason == Some(CloseReason::InputFull), || format!("{n} is reset for nothing, {reason:?}"));
        let patient = [
            CloseReason::Finished,
            CloseReason::PeerClosed,
            CloseReason::Expired,
            CloseReason::FirstMessageTimedOut,
            CloseReason::Stopped,
        ];
        let patient = reason.is_some_and(|reason| patient.contains(&reason) || reason == CloseReason::Disconnected);
        self.expect(!patient, || format!("{n} is cut off before everything was sent, {reason:?}"));
    }

    /// Who has been answered may still send, and what is on its way to somebody would be lost with a reset.
    fn check_lingering(&mut self, n: usize) {
        let wire = &self.wires[n];
        let (reason, on_its_way) = (wire.account.reason, wire.taken - wire.drained);
        let (seen, acknowledged_at) = wire.seen;
        let answered = reason == Some(CloseReason::Finished) || reason.is_none() && wire.taken > 0;
        let quiet_since = if seen > 0 { wire.shut_at.max(acknowledged_at) } else { wire.shut_at };
        let waited = wire.shut && quiet_since + LINGERING <= self.now;
        // Who has been told nothing, and does not know yet that it is connected, is let go as if it were not.
        let unknown = wire.attempt.is_some_and(|attempt| !attempt.told) && wire.taken == 0;
        // And nobody who is kept out is waited for.
        let excused = unknown
            || wire.account.refused
            || wire.eof_read
            || waited
            || on_its_way == 0 && (!answered || self.stopping);
        self.expect(excused, || format!("{n} is closed too early, {on_its_way} on their way, {reason:?}"));
    }

    /// Closing over unread input makes the kernel send a reset, which may overtake what the peer has not read.
    fn check_unread(&mut self, n: usize) {
        let wire = &self.wires[n];
        let patient = wire.shut && wire.shut_at + LINGERING <= self.now;
        let lost = wire.told > wire.read && wire.taken > wire.drained && !patient;
        let (told, read) = (wire.told, wire.read);
        self.expect(!lost, || format!("{n} is closed over input that it was told of: {told} came, {read} read"));
    }

    /// The loop is about to sleep until then, so nobody who is to go may be there for longer.
    pub(super) fn check_gone(&mut self, until: Duration) {
        for n in 0..self.wires.len() {
            let wire = &self.wires[n];
            let goes = wire.account.over && !wire.closed && !wire.is_beyond();
            // What a visit holds up begins when it is over.
            let over_at = wire.account.over_at.max(self.blocked_until);
            let latest = if wire.shut {
                // What was acknowledged is asked for once in so long, and then it may last as long again.
                wire.asked_at.max(wire.shut_at).max(over_at) + LINGERING
            } else {
                wire.sent_at.max(over_at) + FLUSHING
            };
            let late = goes && latest + A_TURN < until;
            self.expect(!late, || format!("{n} was to have gone at {latest:?}, and stays until {until:?}"));
        }
    }

    /// Whoever takes nothing has his time to do so.
    fn check_vanished(&mut self, n: usize) {
        let wire = &self.wires[n];
        let vanished = wire.account.reason == Some(CloseReason::Vanished);
        let since = wire.sent_at.max(wire.account.over_at);
        self.expect(!vanished || since + FLUSHING <= self.now, || format!("{n} is given up too early, {since:?}"));
    }
}

/// The last read.
impl World {
    /// The server is being told to stop: what has come in by now is to be answered.
    pub(super) fn await_answers(&mut self) {
        for wire in &mut self.wires {
            wire.due_at_stop = wire.due_at_stop.or(Some(wire.arrived));
        }
    }

    /// A session is over because the server stops.
    pub(crate) fn check_answered(&mut self, n: usize) {
        let wire = &self.wires[n];
        let account = &wire.account;
        let excused = wire.is_beyond() || account.paused || wire.pretended || self.may_close_all();
        let (shown, due) = (account.shown, wire.due_at_stop.unwrap_or_default());
        self.expect(shown >= due || excused, || format!("{n} is stopped after {shown} of {due} bytes"));
    }
}
