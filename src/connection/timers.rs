//! A connection's timers: its own, its idle time, and the deadlines of its end.

use super::{
    CONNECTING, CUT, Connection, FINISHING, FIRST, FLUSH_TICKS, LINGERING, Next, READABLE, STALLS, STILLBORN, TIMER,
    TIMER_NEW, Turn,
};
use crate::config::Limits;
use crate::handler::Handler;
use crate::kernel::Kernel;
#[cfg(test)]
use crate::planted::Bug;
use crate::reason::CloseReason;
use crate::slab::Key;
use crate::wheel::ticks;

impl<S> Connection<S> {
    pub(super) fn start_timer(&mut self, ticks: u32) {
        #[cfg(test)]
        let ticks = Bug::LingerLate.instead(ticks, if self.has(LINGERING) { 2 * ticks } else { ticks });
        self.due_at = ticks;
        self.clear(FIRST);
        self.set(TIMER | TIMER_NEW);
    }

    /// Whether a timer was set that does not count yet.
    #[inline]
    pub(crate) fn has_new_timer(&self) -> bool {
        self.has(TIMER_NEW | STALLS)
    }

    /// Lets a new timer count from `now` on.
    pub(crate) fn begin_timer(&mut self, now: u32) {
        if self.has(STALLS) {
            self.waits_since(now);
        }
        if self.has(TIMER_NEW) {
            self.clear(TIMER_NEW);
            // One more, because part of the present tick is over: a timer may be late, but never early.
            let rest = 1;
            #[cfg(test)]
            let rest = Bug::TimerLate.instead(Bug::TimerEarly.instead(rest, 0), 4);
            self.due_at = self.due_at.wrapping_add(now).wrapping_add(rest);
            let flushes = self.has(FINISHING) && !self.has(LINGERING) && !self.attempts();
            #[cfg(test)]
            let flushes = Bug::FlushEarly.instead(flushes, false);
            if flushes {
                self.active_at = now;
            }
        }
    }

    /// It connects, and until when stands in the place of its last activity.
    fn attempts(&self) -> bool {
        self.has(CONNECTING) && !self.has(STILLBORN)
    }

    fn idle_at(&self, now: u32, limits: &Limits) -> Option<u32> {
        // While it connects it is not idle, but may be soon: it is looked at again by then.
        let active_at = if self.has(CONNECTING) { now } else { self.active_at };
        limits.idle_timeout.map(|timeout| active_at.wrapping_add(ticks(timeout) + 1))
    }

    fn is_due<K: Kernel>(at: Option<u32>, turn: &Turn<'_, K>) -> bool {
        at.is_some_and(|at| at.wrapping_sub(turn.now).cast_signed() <= 0)
    }

    /// In how many ticks from `now` it has to be looked at; zero if it is due.
    pub(crate) fn ticks_left(&self, now: u32, limits: &Limits) -> Option<u32> {
        let own = self.has(TIMER).then_some(self.due_at);
        let attempt = self.attempts().then_some(self.active_at);
        let left = |due: u32| due.wrapping_sub(now).cast_signed().max(0).cast_unsigned();
        // Before it is connected, the attempt's deadline is that of its end, too.
        if let Some(until) = attempt.filter(|_| self.has(FINISHING)) {
            return Some(left(until));
        }
        if self.has(FINISHING) && !self.has(LINGERING) {
            let flush_ticks = FLUSH_TICKS;
            #[cfg(test)]
            let flush_ticks = Bug::FlushLate.instead(flush_ticks, 3 * FLUSH_TICKS);
            return Some(left(self.active_at.wrapping_add(flush_ticks)));
        }
        let stalls = self.stalls_at(limits);
        let idle = self.idle_at(now, limits).filter(|_| !self.has(FINISHING));
        own.into_iter().chain(attempt).chain(stalls).chain(idle).map(left).min()
    }

    /// Its end has taken too long, or nearly.
    fn give_up<K>(&mut self, turn: &Turn<'_, K>) -> Next
    where
        K: Kernel<Stream = S>,
    {
        if self.has(CUT) {
            // It was over before its time was.
            return Next::Close(self.ending());
        }
        if self.attempts() {
            return Next::Close(CloseReason::ConnectTimedOut);
        }
        if !self.has(LINGERING) {
            // It has not taken what was queued for it: as good as gone.
            return Next::Close(CloseReason::Vanished);
        }
        let on_its_way = turn.kernel.unacknowledged(&self.stream) as u32;
        if (1..self.active_at).contains(&on_its_way) {
            self.linger_on(turn);
            return Next::Rest;
        }
        Next::Close(self.ending())
    }

    /// A moment has come at which [`ticks_left`](Connection::ticks_left) is zero.
    pub(crate) fn time_out<K, H>(
        &mut self,
        handler: &mut H,
        session: &mut Option<H::Session>,
        turn: &mut Turn<'_, K>,
        key: Key,
    ) -> Next
    where
        K: Kernel<Stream = S>,
        H: Handler,
    {
        let Some(session) = session.as_mut().filter(|_| !self.has(FINISHING)) else { return self.give_up(turn) };
        let own = Self::is_due(self.has(TIMER).then_some(self.due_at), turn);
        if !own && self.has(CONNECTING) {
            return Next::Close(CloseReason::ConnectTimedOut);
        }
        if Self::is_due(self.stalls_at(turn.limits), turn) {
            let next = self.look_whether_it_stalls(turn);
            if next != Next::Rest || !own && !Self::is_due(self.idle_at(turn.now, turn.limits), turn) {
                return next;
            }
        }
        let first = own && self.has(FIRST);
        if first && self.has(READABLE) && self.wants_input() {
            // What has come may take more turns to read; no more of them than `input_max` allows, for nothing was consumed.
            return Next::Again;
        }
        if own {
            self.clear(TIMER | FIRST);
        } else {
            self.active_at = turn.now;
        }
        match self.hand(turn, key, None, |client| handler.handle_timeout(client, session)) {
            Err(reason) => return Next::Close(reason),
            Ok(true) => {}
            Ok(false) if first => self.end(CloseReason::FirstMessageTimedOut),
            Ok(false) if own => self.end(CloseReason::Expired),
            // Nothing moved for the whole time, so what is still queued will not move either.
            Ok(false) if self.queued() > 0 => return Next::Close(CloseReason::Idle),
            Ok(false) => self.end(CloseReason::Idle),
        }
        Next::Again
    }
}
