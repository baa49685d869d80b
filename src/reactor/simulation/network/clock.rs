//! When a handler may be told of a timeout, and when it must have been: by the simulated clock.

use super::*;

/// Twice ten milliseconds, for the span is rounded up to ticks, and the tick in which it begins does not count; and
/// a moment for the loop to look at the clock.
const ROUNDING: Duration = Duration::from_millis(21);
pub(super) const TICK: Duration = Duration::from_millis(10);
/// Waits that may pass, while each brings as many events as fit, until everyone's timer is looked at, beyond one for each
/// connection.
const WAITS_BORNE: u32 = 10;

/// When something is due: not before it is so old, and soon after.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Due {
    /// The timer's span counts from a moment between these two: the latter is not known until the turn is over.
    since: Duration,
    until: Option<Duration>,
    span: Duration,
    /// It may be over already: of two timers that could have been, one was told.
    doubtful: bool,
}

impl Due {
    pub(super) fn new(since: Duration, span: Duration) -> Due {
        Due { since, until: None, span, doubtful: false }
    }

    pub(super) fn may_be_told(&self, now: Duration) -> bool {
        self.doubtful || self.since + self.span <= now
    }

    /// From then on it is late.
    fn latest(&self) -> Option<Duration> {
        let until = self.until.filter(|_| !self.doubtful)?;
        Some(until + self.span + ROUNDING)
    }
}

impl Account {
    /// Its own timer is set anew.
    pub(crate) fn set_timer(&mut self, now: Duration, span: Option<Duration>) {
        self.timer = span.map(|span| Due::new(now, span));
        self.first = false;
    }

    /// It has come, and has so long for its first message.
    pub(crate) fn expect_message(&mut self, now: Duration, span: Option<Duration>) {
        self.set_timer(now, span);
        self.first = span.is_some();
    }

    /// The handler takes input: it has its first message.
    pub(crate) fn take(&mut self, count: u64) {
        self.consumed += count;
        if self.first && count > 0 {
            (self.timer, self.first) = (None, false);
        }
    }
}

impl World {
    /// A byte goes one way or the other, or the connection is new. The loop knows the time at which its turn began.
    pub(super) fn stir(&mut self, n: usize) {
        let since = self.turn_at.max(self.blocked_until);
        self.wires[n].account.idle = self.config.limits.idle_timeout.map(|span| Due::new(since, span));
    }

    /// Time has passed between two turns: whoever is served from now on is served at the end of it.
    pub(crate) fn delay(&mut self) {
        self.blocked_until = self.now;
    }

    /// The handler visits somebody, and may be held up by that.
    pub(crate) fn visit(&mut self, blocks: bool) {
        if blocks {
            let most = self.dice.pick(&[30, 900, 20_000]);
            self.now += Duration::from_millis(self.dice.below(most));
            self.tell(|| "held up so far".into());
            self.blocked_until = self.now;
        }
        if self.blocked_until > self.turn_at {
            // Who was active in the tick in which this turn began may have been so in this turn, however long it takes.
            let began_at = self.turn_at.saturating_sub(TICK);
            let dues = self.wires.iter_mut().filter_map(|wire| wire.account.idle.as_mut());
            dues.filter(|due| due.until.is_some_and(|until| until >= began_at)).for_each(|due| due.until = None);
        }
    }

    /// The handler is told of a timeout. Which of two it was, if it could be either, it is not told.
    pub(crate) fn check_timeout(&mut self, n: usize) {
        let (now, turn_at) = (self.now, self.turn_at);
        self.check_heard(n);
        let account = &mut self.wires[n].account;
        account.was_first = account.first;
        // An attempt that is over, too, is given up at the next tick.
        if let Some(due) = account.attempt.as_mut().filter(|due| due.may_be_told(now)) {
            due.until = due.until.map(|until| until.max(now.saturating_sub(due.span)));
        }
        let own = account.timer.filter(|due| due.may_be_told(now));
        let idle = account.idle.filter(|due| due.may_be_told(now));
        match (own, idle) {
            (None, None) => {
                let (timer, idle) = (account.timer, account.idle);
                self.fail(format!("{n} times out too early: {timer:?}, {idle:?}"));
            }
            (Some(_), None) => (account.timer, account.first) = (None, false),
            (None, Some(idle)) => account.idle = Some(Due::new(turn_at, idle.span)),
            (Some(own), Some(idle)) => {
                account.timer = Some(Due { doubtful: true, ..own });
                account.idle = Some(Due { doubtful: true, ..idle });
            }
        }
    }

    /// A turn is over, and the loop waits for so long.
    pub(super) fn check_timers(&mut self, timeout: Duration) {
        let (now, waits_max) = (self.now, self.wires.len() as u32 + WAITS_BORNE);
        let (held_up, read_budget) = (self.is_held_up(), self.config.limits.read_budget as u64);
        for n in 0..self.wires.len() {
            let served = self.is_served(n) && !self.stopping;
            let wire = &mut self.wires[n];
            let account = &mut wire.account;
            for due in [&mut account.timer, &mut account.idle, &mut account.attempt].into_iter().flatten() {
                due.until.get_or_insert(now);
            }
            // Who may have been active in a turn that has gone into the next tick has that one, too.
            let idle = account.idle.and_then(|due| due.latest()).map(|latest| latest + TICK);
            let others = [account.timer, account.attempt].into_iter().flatten().filter_map(|due| due.latest());
            let latest = others.chain(idle).min();
            let Some(mut latest) = latest.filter(|_| served) else { continue };
            if wire.account.first && wire.account.timer.is_some_and(|due| due.may_be_told(now)) {
                latest = latest.max(wire.excuse(now, read_budget, latest < now));
            }
            wire.late_waits = if latest < now && !held_up { wire.late_waits + 1 } else { 0 };
            let sleeps = !timeout.is_zero() && latest < now + timeout;
            if sleeps || wire.late_waits > waits_max {
                let (timer, idle, waits) = (wire.account.timer, wire.account.idle, wire.late_waits);
                self.fail(format!("{n} times out too late: {timer:?}, {idle:?}, {waits} waits, and now {timeout:?}"));
            }
        }
    }
}
