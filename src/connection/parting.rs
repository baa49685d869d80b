//! The last steps of a connection that its handler is done with.

use std::time::Duration;

use super::{CUT, Connection, ENDED, EOF, LAST, LINGERING, Next, READABLE, SHUT, Turn};
use crate::kernel::{Kernel, was_interrupted, would_block};
#[cfg(test)]
use crate::planted::Bug;
use crate::reason::CloseReason;
use crate::wheel::ticks;

/// How long a peer may take to finish after we have, and after it last acknowledged something.
const LINGER_TICKS: u32 = ticks(Duration::from_secs(2));

impl<S> Connection<S> {
    /// The last steps of a connection that its handler is done with.
    pub(super) fn finish<K>(&mut self, turn: &mut Turn<'_, K>) -> Result<Next, CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        if self.has(CUT) {
            return Err(self.ending());
        }
        if self.queued() > 0 {
            return Ok(Next::Rest);
        }
        if !self.has(LINGERING) {
            if !self.needs_lingering(turn) {
                return Err(self.ending());
            }
            if !self.has(SHUT) {
                turn.kernel.finish_sending(&self.stream).map_err(|_| self.ending())?;
            }
            self.set(LINGERING);
            self.linger_on(turn);
        }
        #[cfg(test)]
        if Bug::StopUnacknowledged.is_planted() && self.has(LAST) {
            return Err(self.ending());
        }
        match self.linger(turn)? {
            // A server that stops does not wait for what a peer that has everything might still say.
            Next::Rest if self.has(LAST) && turn.kernel.unacknowledged(&self.stream) == 0 => Err(self.ending()),
            next => Ok(next),
        }
    }

    /// Closing while the peer still sends makes the kernel answer with a reset, which can destroy what is on its way to
    /// the peer, and at some peers even what has arrived (RFC 2525, section 2.17). Who has been answered may well send more;
    /// of one that is let go for another reason it is enough to know that it has everything.
    fn needs_lingering<K>(&self, turn: &Turn<'_, K>) -> bool
    where
        K: Kernel<Stream = S>,
    {
        let answered = matches!(self.ending(), CloseReason::Finished | CloseReason::Refused);
        #[cfg(test)]
        if Bug::RefusedUnread.is_planted() && self.ending() == CloseReason::Refused
            || Bug::FinishedUnread.is_planted() && self.ending() == CloseReason::Finished
        {
            return false;
        }
        !self.has(EOF) && (answered || self.has(READABLE) || turn.kernel.unacknowledged(&self.stream) > 0)
    }

    /// Waits for the peer's end, a while from now.
    pub(super) fn linger_on<K>(&mut self, turn: &Turn<'_, K>)
    where
        K: Kernel<Stream = S>,
    {
        // Nothing else is timed any more, so the place of the last activity is free for what is on its way.
        self.active_at = turn.kernel.unacknowledged(&self.stream) as u32;
        self.start_timer(LINGER_TICKS);
    }

    /// Throws away what the peer still sends, until it finishes.
    fn linger<K>(&mut self, turn: &mut Turn<'_, K>) -> Result<Next, CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        if !self.has(READABLE) {
            return Ok(Next::Rest);
        }
        let received = turn.kernel.receive(&self.stream, turn.buffer);
        turn.counters.read(*received.as_ref().unwrap_or(&0));
        match received {
            Ok(0) => Err(self.ending()),
            Ok(count) if count == turn.buffer.len() || self.has(ENDED) => Ok(Next::Again),
            Err(error) if was_interrupted(&error) => Ok(Next::Again),
            Err(error) if !would_block(&error) => Err(self.ending()),
            _ => {
                self.clear(READABLE);
                Ok(Next::Rest)
            }
        }
    }
}
