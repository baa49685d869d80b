//! A connection as the simulation sees it, to compare that with what its kernel knows.

use super::{CONNECTING, Connection, FINISHING, LINGERING, PRESSED};

impl<S> Connection<S> {
    /// Bytes of input left over, and of output queued.
    pub(crate) fn spilled(&self) -> (usize, usize) {
        (self.left_over(), self.queued())
    }

    /// Whether it would sleep for ever over something that no event will tell of, if there is something to read or room
    /// to write.
    pub(crate) fn is_stuck(&self, readable: bool, writable: bool) -> bool {
        let reads = self.wants_input() || self.has(LINGERING);
        readable && reads
            || writable && (self.queued() > 0 || self.has(CONNECTING))
            || self.has(PRESSED) && !self.has(FINISHING) && self.queued() == 0
    }

    pub(crate) fn active_at(&self) -> u32 {
        self.active_at
    }

    /// Whether it is open to input.
    pub(crate) fn reads(&self) -> bool {
        self.wants_input()
    }
}
