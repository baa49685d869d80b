//! A connection that is called out: it connects, or does not; and the end of one's own half.

use std::io;

use super::{
    ARMED, BLOCKED, CALLED, CONNECTING, CUT, Connection, FINISHING, LAST, Next, PRESSED, SHUT, SHUTS, STILLBORN, Turn,
};
use crate::handler::Handler;
use crate::kernel::Kernel;
use crate::peer::Peer;
#[cfg(test)]
use crate::planted::Bug;
use crate::reason::CloseReason;
use crate::slab::Key;

/// Connecting.
impl<S> Connection<S> {
    /// One that has begun to connect, for which it has until that tick; or that has failed to begin.
    pub(crate) fn called(stream: S, address: Peer, until: u32, begun: &io::Result<()>) -> Connection<S> {
        // Nothing is timed but the attempt, so the place of the last activity is free for when it is over; and for why it is.
        let (active_at, failed) = match begun {
            Ok(()) => (until, 0),
            Err(error) => (error.raw_os_error().unwrap_or(libc::EIO).cast_unsigned(), STILLBORN),
        };
        let flags = ARMED | BLOCKED | CONNECTING | CALLED | failed;
        Connection { flags, ..Connection::new(stream, address, active_at) }
    }

    /// Whether it was called from here.
    pub(crate) fn is_called(&self) -> bool {
        self.has(CALLED)
    }

    /// A turn while it is not known to be connected. `None`: now it is, and has been told so.
    #[cold]
    pub(super) fn connect_on<K, H>(
        &mut self,
        handler: &mut H,
        session: &mut Option<H::Session>,
        turn: &mut Turn<'_, K>,
        key: Key,
    ) -> Option<Next>
    where
        K: Kernel<Stream = S>,
        H: Handler,
    {
        match self.find_out(turn) {
            Err(reason) => return Some(Next::Close(reason)),
            Ok(false) => return Some(Next::Rest),
            Ok(true) => {}
        }
        let session = session.as_mut().filter(|_| !self.has(FINISHING))?;
        let told = self.hand_over(turn, key, None, |client| handler.handle_connected(client, session));
        told.err().map(Next::Close)
    }

    /// Whether it is connected by now.
    fn find_out<K>(&mut self, turn: &mut Turn<'_, K>) -> Result<bool, CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        // Nobody is waited for to whom there is nothing to say.
        if self.has(FINISHING) && (self.queued() == 0 || self.has(STILLBORN | CUT)) {
            return Err(self.ending());
        }
        if self.has(STILLBORN) {
            return Err(CloseReason::of_attempt(&io::Error::from_raw_os_error(self.active_at.cast_signed())));
        }
        let outcome = turn.kernel.connected(&self.stream);
        #[cfg(test)]
        let outcome = if Bug::ConnectedEarly.is_planted() { outcome.map(|_| true) } else { outcome };
        match outcome {
            Ok(false) => {
                // A mere rumour: there will be another edge.
                self.set(BLOCKED);
                if self.has(LAST) && !self.has(FINISHING) {
                    self.end(CloseReason::Stopped);
                    return if self.queued() == 0 { Err(self.ending()) } else { Ok(false) };
                }
                return Ok(false);
            }
            Ok(true) => self.clear(CONNECTING | BLOCKED),
            // It was connected, and has been reset since: what came in between is still shown.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ECONNRESET | libc::EPIPE)) => {
                self.clear(CONNECTING);
                self.cut(turn, CloseReason::Reset);
            }
            Err(error) => return Err(CloseReason::of_attempt(&error)),
        }
        self.active_at = turn.now;
        if self.queued() > 0 {
            self.begin_to_wait(turn.limits);
        }
        Ok(true)
    }
}

/// The end of what we say, while the peer may go on.
impl<S> Connection<S> {
    /// Tells the peer that nothing more will come, as soon as all that was sent has left.
    pub(super) fn shut_when_flushed<K>(&mut self, turn: &mut Turn<'_, K>)
    where
        K: Kernel<Stream = S>,
    {
        if self.has(SHUTS) && !self.has(SHUT | CUT | CONNECTING) && self.queued() == 0 {
            // If it fails, the connection is broken, which reading tells.
            let _ = turn.kernel.finish_sending(&self.stream);
            self.set(SHUT);
        }
    }

    /// What becomes of it after a turn in which the handler has asked for the whole shard, before it had all that was due.
    pub(super) fn call_shard(&self, low: usize) -> Next {
        let flushes = self.queued() > 0 && !self.has(BLOCKED) || self.has(PRESSED) && self.queued() <= low;
        let again = self.needs_turn() || self.has(LAST) || flushes;
        if again { Next::Again } else { Next::Call }
    }
}
