//! Connections that are called from here: at once, later, never, or with an error, and what the handler must be told of that.

use std::io;

use super::kernel::{SimulatedStream, errno};
use super::*;

/// What is to become of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Accepted,
    Refused(i32),
    Ignored,
}

/// A connection that is called, as the network knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    fate: Fate,
    /// From when its time counts.
    begun_at: Duration,
    /// How it has failed.
    pub(crate) error: Option<i32>,
    /// The handler has been told that it is connected.
    pub(crate) told: bool,
}

const REFUSALS: [i32; 4] = [libc::ECONNREFUSED, libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ENETUNREACH];

impl Wire {
    /// It was called, and nobody has answered yet.
    pub(super) fn is_pending(&self) -> bool {
        self.attempt.is_some_and(|attempt| attempt.error.is_none()) && !self.connected
    }

    /// It was called in vain.
    pub(super) fn is_vain(&self) -> bool {
        self.attempt.is_some_and(|attempt| attempt.error.is_some()) && !self.connected
    }

    fn miscarries(&mut self, error: i32) -> io::Error {
        if let Some(attempt) = &mut self.attempt {
            attempt.error = Some(error);
        }
        self.failed = true;
        errno(error)
    }
}

impl World {
    /// The one who is called does what he is to do; false if that is nothing.
    pub(super) fn answer(&mut self, n: usize) -> bool {
        let late = !self.dice.chance(3);
        let wire = &mut self.wires[n];
        if wire.closed || late || !wire.is_pending() {
            return false;
        }
        let Some(attempt) = &mut wire.attempt else { return false };
        match attempt.fate {
            Fate::Ignored => return false,
            Fate::Accepted => wire.connected = true,
            Fate::Refused(error) => attempt.error = Some(error),
        }
        self.tell(|| format!("{n} answers: {:?}", self.wires[n].attempt));
        self.raise(n);
        true
    }

    pub(super) fn open(&mut self) -> io::Result<SimulatedStream> {
        self.enter();
        let open = self.slots.len() - self.free.len();
        if open >= self.temper.descriptors {
            return Err(errno(libc::EMFILE));
        }
        if let Some(error) = self.fails(&[libc::EMFILE, libc::ENOBUFS]) {
            return Err(errno(error));
        }
        let World { wires, dice, temper, .. } = self;
        let mut wire = Wire::new(dice, temper);
        let fate = match dice.below(6) {
            0 => Fate::Refused(dice.pick(&REFUSALS)),
            1 => Fate::Ignored,
            _ => Fate::Accepted,
        };
        wire.attempt = Some(Attempt { fate, begun_at: self.now, error: None, told: false });
        (wire.accepted, wire.full) = (true, true);
        wires.push(wire);
        let n = self.wires.len() - 1;
        Ok(self.seat(n))
    }

    pub(super) fn connect(&mut self, n: usize) -> io::Result<()> {
        self.enter();
        if let Some(attempt) = &mut self.wires[n].attempt {
            attempt.begun_at = self.now;
        }
        if let Some(error) = self.fails(&REFUSALS) {
            return Err(self.wires[n].miscarries(error));
        }
        let at_once = self.dice.chance(4) && self.wires[n].attempt.is_some_and(|it| it.fate == Fate::Accepted);
        self.wires[n].connected |= at_once;
        self.tell(|| format!("connect {n}: {:?}, connected {at_once}", self.wires[n].attempt));
        Ok(())
    }

    pub(super) fn connected(&mut self, n: usize) -> io::Result<bool> {
        self.enter();
        if let Some(error) = self.fails_for_good(&REFUSALS) {
            return Err(self.wires[n].miscarries(error));
        }
        let wire = &mut self.wires[n];
        if wire.is_pending() {
            return Ok(false);
        }
        if let Some(error) = wire.attempt.and_then(|attempt| attempt.error) {
            return Err(wire.miscarries(error));
        }
        let reset = wire.reset.then(|| {
            wire.failed = true;
            errno(if std::mem::take(&mut wire.error) { libc::ECONNRESET } else { libc::EPIPE })
        });
        // It was connected, be it for a moment: from now on it can be idle, and can take what waits for it.
        self.stir(n);
        self.wires[n].sent_at = self.turn_at;
        reset.map_or(Ok(true), Err)
    }
}

/// What the handler does, and is told.
impl World {
    /// The handler has called `n`, who has so long to answer.
    pub(crate) fn call(&mut self, n: usize, id: ClientId, within: Duration) {
        self.called += 1;
        let since = self.wires[n].attempt.map_or(self.now, |attempt| attempt.begun_at);
        let account = &mut self.wires[n].account;
        (account.id, account.sessions) = (Some(id), 1);
        account.attempt = Some(clock::Due::new(since, within));
        // Nothing is idle before it is connected.
        account.idle = None;
    }

    /// The handler is told that `n` is connected.
    pub(crate) fn check_connected(&mut self, n: usize) {
        let wire = &mut self.wires[n];
        let connected = wire.connected;
        let again = wire.attempt.as_mut().is_none_or(|attempt| std::mem::replace(&mut attempt.told, true));
        wire.account.attempt = None;
        self.expect(connected, || format!("{n} is said to be connected, and is not"));
        self.expect(!again, || format!("{n} is said to be connected twice, or was never called"));
    }

    /// The handler is told of something else than the end, or a timer.
    pub(crate) fn check_introduced(&mut self, n: usize) {
        let early = self.wires[n].attempt.is_some_and(|attempt| !attempt.told);
        self.expect(!early, || format!("{n} is served before it is connected"));
    }

    /// It has ended for this reason, because it could not be connected.
    pub(crate) fn is_failed_attempt(&self, n: usize, reason: CloseReason) -> bool {
        let wire = &self.wires[n];
        let Some(attempt) = wire.attempt.filter(|attempt| !attempt.told) else { return false };
        let overdue = wire.account.attempt.is_some_and(|due| due.may_be_told(self.now));
        match attempt.error {
            Some(error) if CloseReason::of_attempt(&errno(error)) == reason => true,
            _ => reason == CloseReason::ConnectTimedOut && overdue,
        }
    }

    /// One who is not connected is let go.
    pub(super) fn check_given_up(&mut self, n: usize, reset: bool) {
        let wire = &self.wires[n];
        let lost = wire.account.sent > wire.taken && !reset;
        self.expect(!lost, || format!("{n} is let go in good order, and was to be sent something"));
    }
}
