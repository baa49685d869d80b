//! How long a connection is waited for: for its first message, and for taking what it is sent.

use super::{CONNECTING, Connection, FINISHING, FIRST, Next, STALLS, TIMER, TIMER_NEW, Turn};
use crate::config::Limits;
use crate::kernel::Kernel;
#[cfg(test)]
use crate::planted::Bug;
use crate::reason::CloseReason;
use crate::wheel::{tick, ticks};

/// What is known of how a queue gets shorter. It stands beside the queue, so that nobody has it who has none.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The tick at which bytes last left it; only where that is timed.
    moved_at: u32,
    /// How many bytes that had left it were on their way when half of the time was over.
    on_its_way: Option<u32>,
}

impl Progress {
    pub(super) fn moved(&mut self, now: u32) {
        *self = Progress { moved_at: now, on_its_way: None };
    }
}

/// The first message. Its deadline is the client's own timer, which is there before the handler is asked.
impl<S> Connection<S> {
    pub(crate) fn expect_message(&mut self, limits: &Limits) {
        if let Some(timeout) = limits.first_message_timeout {
            self.start_timer(ticks(timeout));
            self.set(FIRST);
        }
    }

    /// The handler has taken `consumed` bytes of its input: it is there.
    #[inline]
    pub(super) fn consumed(&mut self, consumed: usize) {
        #[cfg(test)]
        let consumed = Bug::FirstMessageTrickles.instead(consumed, 1);
        if self.has(FIRST) && consumed > 0 {
            self.clear(FIRST | TIMER | TIMER_NEW);
        }
    }
}

/// Output.
impl<S> Connection<S> {
    /// What is queued begins to wait, at a moment that is not known yet.
    pub(super) fn begin_to_wait(&mut self, limits: &Limits) {
        if limits.write_timeout.is_some() {
            self.set(STALLS);
        }
    }

    /// It is known now.
    pub(super) fn waits_since(&mut self, now: u32) {
        self.clear(STALLS);
        if let Some(spill) = &mut self.spill {
            spill.progress.moved(now);
        }
    }

    /// The tick at which it has to be looked at whether anything moves.
    pub(super) fn stalls_at(&self, limits: &Limits) -> Option<u32> {
        let timeout = limits.write_timeout?;
        let spill = self.spill.as_ref().filter(|spill| !spill.output.is_empty())?;
        if self.has(CONNECTING | FINISHING) {
            return None;
        }
        let span = ticks(timeout);
        #[cfg(test)]
        let span = Bug::WriteTimeoutLate.instead(Bug::WriteTimeoutEarly.instead(span, span / 2), 3 * span + 9);
        let span = if spill.progress.on_its_way.is_none() { span / 2 } else { span };
        Some(spill.progress.moved_at.wrapping_add(span + 1))
    }

    /// That tick has come. The kernel tells of room only when much of its buffer is free, so a slow reader may take something
    /// all the time and nothing leaves the queue: what has been acknowledged counts, too, in the second half of the time.
    pub(super) fn look_whether_it_stalls<K>(&mut self, turn: &Turn<'_, K>) -> Next
    where
        K: Kernel<Stream = S>,
    {
        let on_its_way = turn.kernel.unacknowledged(&self.stream) as u32;
        let half = turn.limits.write_timeout.map_or(0, ticks) / 2;
        // Not when the turn began: a handler may have taken its time since, in which nothing could be seen to move.
        let now = tick(turn.kernel.now()) as u32;
        let Some(spill) = &mut self.spill else { return Next::Rest };
        match spill.progress.on_its_way {
            // If this comes late, because the whole process stood still, it still has the other half.
            None => spill.progress = Progress { moved_at: now.wrapping_sub(half), on_its_way: Some(on_its_way) },
            #[cfg(test)]
            Some(_) if Bug::WriteTimeoutBlind.is_planted() => return Next::Close(CloseReason::WriteTimedOut),
            Some(before) if on_its_way < before => spill.progress.moved(now),
            Some(_) => return Next::Close(CloseReason::WriteTimedOut),
        }
        Next::Rest
    }
}
