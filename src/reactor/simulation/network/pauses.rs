//! A handler that pauses a connection is not told of it and nothing is taken from its peer; one that resumes it sees what it left.

use super::*;

impl World {
    /// The handler is told of input or of its end.
    pub(crate) fn check_paused(&mut self, n: usize) {
        let paused = self.wires[n].account.paused;
        self.expect(!paused, || format!("{n} is told of input while it is paused"));
    }

    /// The loop reads: what the peer sends is to stay with the peer.
    pub(super) fn check_untouched(&mut self, n: usize) {
        let touched = self.wires[n].account.paused && self.is_served(n) && !self.stopping;
        self.expect(!touched, || format!("{n} is read while it is paused"));
    }

    /// The loop is about to sleep, so everybody who resumed has been shown what he left.
    pub(super) fn check_resumed(&mut self) {
        for n in 0..self.wires.len() {
            let account = &self.wires[n].account;
            let left = account.shown - account.consumed;
            let open = account.resumed && !account.paused && !account.pressed && !self.may_be_above(n);
            let forgotten = open && left > 0 && self.is_served(n) && !self.stopping;
            self.expect(!forgotten, || format!("{n} has resumed, and is not shown the {left} bytes that it left"));
        }
    }
}
