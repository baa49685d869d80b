//! What was asked of the server: to drain and to stop. By when it has to have done what, and not before.

use super::*;

/// The loop looks at its clock a moment after the simulation does, at both ends.
const A_MOMENT: Duration = Duration::from_millis(1);
/// A turn that finds much to do.
const A_TURN: Duration = Duration::from_millis(50);

/// What was asked for, and when it is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    /// Not before.
    pub(super) by: Duration,
    within: Duration,
    /// Not after. The time counts from the end of the turn in which the loop finds the request.
    latest: Option<Duration>,
}

impl Deadline {
    /// Asked twice, the shorter time counts.
    fn asked(earlier: Option<Deadline>, now: Duration, within: Duration) -> Deadline {
        let by = now + within;
        let earlier = earlier.filter(|earlier| earlier.by <= by);
        earlier.unwrap_or(Deadline { by, within, latest: None })
    }
}

impl World {
    pub(crate) fn drain(&mut self, within: Duration) {
        self.tell(|| format!("drain within {within:?}"));
        self.drain = Some(Deadline::asked(self.drain, self.now, within));
        self.await_those_who_wait();
    }

    /// The server is being told to stop.
    pub(crate) fn stop(&mut self, within: Duration) {
        self.tell(|| format!("stop within {within:?}"));
        self.stop_asked = true;
        self.begin_to_stop(within);
    }

    fn begin_to_stop(&mut self, within: Duration) {
        let begins = self.stop.is_none();
        self.stop = Some(Deadline::asked(self.stop, self.now, within));
        self.stopping = true;
        if begins {
            self.await_answers();
            self.await_those_who_wait();
        }
    }

    /// How much more interesting a request would be now than at other times.
    pub(crate) fn hurry(&self) -> u64 {
        match (self.backlog.len(), self.accept_paused) {
            (0, _) => 1,
            (1, false) => 10,
            _ => 100,
        }
    }

    /// They have come in time.
    fn await_those_who_wait(&mut self) {
        self.awaited.extend(&self.backlog);
    }

    /// A drain whose time is over becomes a stop.
    pub(super) fn let_drain_end(&mut self) {
        if !self.stopping && self.drain.is_some_and(|drain| drain.by <= self.now) {
            self.begin_to_stop(self.config.stop_timeout);
        }
    }

    /// Whether it may close whoever is left.
    pub(crate) fn may_close_all(&self) -> bool {
        self.wait_failed || self.stop.is_some_and(|stop| stop.by <= self.now)
    }

    /// The loop has been through a turn, at the end of which it finds what was asked for, and waits for so long.
    pub(super) fn check_requests(&mut self, timeout: Duration) {
        let (now, until) = (self.now, self.now + timeout);
        if let Some(drain) = &mut self.drain {
            drain.latest.get_or_insert(now + drain.within);
        }
        let drained = self.drain.and_then(|drain| drain.latest).is_some_and(|latest| latest < now);
        match &mut self.stop {
            Some(stop) if self.stop_asked => drop(stop.latest.get_or_insert(now + stop.within)),
            // Nobody asked for it: it begins when the loop finds that the drain's time is over.
            Some(stop) if drained => drop(stop.latest.get_or_insert(now + stop.within + A_TURN)),
            _ => {}
        }
        let late = |deadline: Deadline| deadline.latest.is_some_and(|latest| latest + A_MOMENT < until);
        if self.stop.is_some_and(late) {
            self.fail(format!("it goes on until {until:?}, and was to stop: {:?}", self.stop));
        }
        if !self.stopping && self.drain.is_some_and(late) {
            self.fail(format!("it goes on until {until:?}, and was to have drained: {:?}", self.drain));
        }
        self.check_listener();
    }

    /// Who asks for the end is told to listen no more, and to go when everyone has gone.
    fn check_listener(&mut self) {
        if self.drain.is_none() && !self.stopping {
            return;
        }
        // While descriptors have run out it waits until there are some again.
        let (pauses, listens) = (self.accept_paused, self.listening);
        self.expect(!listens || pauses, || "it listens although it was to take nobody any more".into());
        let left = self.wires.iter().any(|wire| wire.accepted && !wire.closed);
        self.expect(listens || left, || "everyone has gone, and it goes on".into());
    }

    /// The listener is about to be closed, and whoever still waits is reset.
    pub(super) fn check_awaited(&mut self) {
        let lost = self.awaited.iter().find(|n| self.backlog.contains(n)).copied();
        // Nobody is waited for when the time is over.
        let excused = [self.stop, self.drain].into_iter().flatten().any(|deadline| deadline.by <= self.now);
        if let Some(n) = lost.filter(|_| !excused) {
            self.fail(format!("{n} was in the queue when the end was asked for, and was not taken"));
        }
        let asked = self.stopping || self.drain.is_some();
        self.expect(asked, || "it listens no more, and nobody has asked for that".into());
    }
}
