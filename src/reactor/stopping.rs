//! How a loop ends: it drains, which waits for those who are there, or stops, which lets them go.

use std::time::Duration;

use super::{Handler, Kernel, Reactor};
#[cfg(test)]
use crate::planted::Bug;
use crate::reason::CloseReason;
use crate::trace;

impl<K: Kernel, H: Handler> Reactor<K, H> {
    /// Begins to drain or to stop, or goes on with it; true when everyone has gone.
    pub(super) fn is_over(&mut self) -> bool {
        self.drain();
        self.stop();
        self.table.len() == 0 && !self.listens
    }

    /// Those who are there are served as ever, until the time is over.
    fn drain(&mut self) {
        let Some(timeout) = self.desk.common.drain_timeout() else { return };
        #[cfg(test)]
        let timeout = Bug::DrainLate.instead(Bug::DrainEarly.instead(timeout, timeout / 2), timeout * 2);
        let now = self.desk.kernel.now();
        let drain_at = self.drain_at.map_or(now + timeout, |drain_at| drain_at.min(now + timeout));
        self.drain_at = Some(drain_at);
        self.take_the_last(drain_at);
        if now >= drain_at {
            let timeout = self.desk.stop_timeout;
            if self.desk.common.stop(timeout) {
                trace::stopping(timeout);
            }
        }
    }

    fn stop(&mut self) {
        let Some(timeout) = self.desk.common.stop_timeout() else { return };
        #[cfg(test)]
        let timeout = Bug::StopLate.instead(Bug::StopEarly.instead(timeout, timeout / 2), timeout * 2);
        let now = self.desk.kernel.now();
        let stop_at = self.stop_at.map_or(now + timeout, |stop_at| stop_at.min(now + timeout));
        #[cfg(test)]
        let stop_at = Bug::StopOnce.instead(stop_at, self.stop_at.unwrap_or(stop_at));
        let begins = self.stop_at.replace(stop_at).is_none();
        if begins {
            self.desk.stops = true;
            self.let_go();
        }
        // Whoever is welcomed from here on is let go in the same way.
        self.take_the_last(stop_at);
        if self.desk.kernel.now() >= stop_at {
            self.stop_listening();
            self.close_all(CloseReason::Stopped);
        }
    }

    /// Lets everyone be served once more, and then go.
    fn let_go(&mut self) {
        for slot in 0..self.table.slots() {
            let Some(key) = self.table.key_at(slot) else { continue };
            if let Some(resident) = self.table.find(key) {
                resident.connection.end_after_reading();
            }
            self.enqueue(key);
        }
    }

    /// Takes those who have come in time, and closes the listener: the kernel resets whoever still waits then. While
    /// descriptors have run out it stays open, and those who wait are taken when there are some again; but not for longer than
    /// `until`.
    ///
    /// More than the queue holds need not be taken: they have come since. It holds one more than it was told
    /// (sk_acceptq_is_full in the kernel), and some may fail before they are accepted.
    fn take_the_last(&mut self, until: Duration) {
        if !self.listens || self.acceptor.retry_at().is_some() {
            return;
        }
        #[cfg(test)]
        if Bug::DrainLoses.is_planted() && self.drain_at.is_some() {
            return self.stop_listening();
        }
        self.acceptor.note();
        // Whoever is let go at once ends the pause, but has not made room for those who wait before they are asked again.
        let taken = self.accept(self.desk.queue_size + 1 + FAILURES_BORNE, Some(until));
        #[cfg(test)]
        let taken = Bug::DrainHurries.instead(taken, true)
            || Bug::DrainForgets.is_planted() && self.acceptor.retry_at().is_none();
        if taken {
            self.stop_listening();
        }
    }

    fn stop_listening(&mut self) {
        #[cfg(test)]
        if Bug::DrainListens.is_planted() && self.stop_at.is_none() {
            return;
        }
        if !self.listens {
            return;
        }
        self.desk.kernel.stop_listening();
        self.listens = false;
    }
}

/// Connections in the queue that may have failed, while the others are still all taken.
const FAILURES_BORNE: usize = 64;
