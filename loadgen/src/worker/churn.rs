//! Connections that come and go: a worker opens each in a place of its own, has one exchange on it, and closes it.

use esockets::socket;
use socket2::Socket;

use super::{CONNECT_BUDGET, Worker};
use crate::churn::Close;
use crate::client::State;
use crate::failure::{Act, Failure, Kind};
use crate::payload::next_message;
use crate::recorder::note;
use crate::stage::Drive;

impl Worker {
    /// Opens the connections that may begin by now, a few a turn: earlier ones are not to wait for later ones.
    pub(super) fn open_due(&mut self) {
        for _ in 0..CONNECT_BUDGET {
            let now_ns = self.clock.now_ns();
            let Drive::Churn(places) = &mut self.drive else { return };
            let Some((slot, due_ns)) = places.take(now_ns) else { return };
            self.recorder.starved += u64::from(places.is_starved(due_ns));
            let moments = places.moments(slot);
            (moments.due_ns, moments.begun_ns) = (due_ns, now_ns);
            if places.arrivals().is_some() {
                self.recorder.lag.record(now_ns - due_ns);
            }
            self.recorder.due += 1;
            self.recorder.attempted += 1;
            self.recorder.series.note_attempt(now_ns);
            self.pending += 1;
            self.recorder.at_once_max = self.recorder.at_once_max.max(self.pending);
            match self.dial(slot).and_then(|socket| self.register(socket, slot, now_ns)) {
                Ok(client) => self.clients[slot as usize] = Some(client),
                Err(failure) => self.note_churn_failure(slot, State::Connecting, failure),
            }
        }
    }

    /// Begins to connect, from the source that has been at rest for longest. One that is in TIME_WAIT, or somebody else's,
    /// is passed over; so are those of connections that have lasted for longer than a round.
    fn dial(&mut self, slot: u32) -> Result<Socket, Failure> {
        let destination = self.destination(slot);
        let tries = self.rotation.len().min(u64::from(self.share.connections) + TRIES);
        let mut last = Failure::new(Act::Connect, Kind::OutOfPorts);
        for _ in 0..tries.max(1) {
            let source = self.rotation.next(destination);
            match self.plan.targets[destination].open(source) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = Failure::of(Act::Connect, &error),
            }
            if last.kind != Kind::OutOfPorts {
                return Err(last);
            }
            // The kernel says the same when it has no port left and when it has no address to begin with.
            if source.is_none() && self.recorder.established == 0 && last.errno == Some(libc::EADDRNOTAVAIL) {
                return Err(Failure { kind: Kind::NoAddress, ..last });
            }
        }
        Err(last)
    }

    /// A connection is open: its one request follows at once.
    pub(super) fn begin_exchange(&mut self, slot: u32, now_ns: u64) {
        let size = self.plan.protocol.request_len(self.destination(slot));
        let Worker { drive: Drive::Churn(places), clients, recorder, .. } = self else { return };
        let Some(client) = &mut clients[slot as usize] else { return };
        let moments = places.moments(slot);
        recorder.connect.record(now_ns - moments.begun_ns);
        recorder.established += 1;
        recorder.series.note_established(now_ns);
        moments.sent_ns = now_ns;
        client.resume(moments.position);
        moments.position = next_message(moments.position, size);
        let due_ns = moments.due_ns;
        self.request(slot, due_ns, now_ns);
    }

    /// What a turn of an exchange came to: no reply yet, one that is whole, perhaps with the connection's end behind it, or
    /// a failure.
    pub(super) fn go_on_or_close(&mut self, slot: u32, outcome: Result<Option<Kind>, Failure>) {
        let Some(client) = &mut self.clients[slot as usize] else { return };
        let is_answered = client.is_answered();
        let (Drive::Churn(places), Some(churn)) = (&mut self.drive, self.churn) else { return };
        match outcome {
            Ok(_) if !is_answered => return self.queue_again(slot),
            Ok(Some(kind)) => return self.lose(slot, Failure::new(Act::Reply, kind)),
            Err(failure) if !is_answered || failure.kind.is_of_bytes() => return self.lose(slot, failure),
            _ => {}
        }
        let now_ns = self.clock.now_ns();
        places.moments(slot).replied_ns = now_ns;
        match outcome {
            Err(failure) if churn.close == Close::Server && failure.kind != Kind::Closed => {
                self.lose(slot, Failure { act: Act::Close, ..failure });
            }
            Ok(_) if churn.close == Close::Server => {
                client.await_end(now_ns);
                self.await_end(slot);
            }
            _ => self.close_one(slot, churn.close),
        }
    }

    /// Looks whether the server has closed a connection whose reply is there.
    pub(super) fn await_end(&mut self, slot: u32) {
        let Some(client) = &mut self.clients[slot as usize] else { return };
        match client.read_end((slot, &mut self.wires), &mut self.scratch) {
            Ok(true) => self.close_one(slot, Close::Server),
            Ok(false) => self.queue_again(slot),
            Err(failure) => self.lose(slot, failure),
        }
    }

    /// A connection is over as it has to be: it is closed, and its times count.
    fn close_one(&mut self, slot: u32, close: Close) {
        let Some(client) = self.clients[slot as usize].take() else { return };
        if close == Close::Reset {
            // It can fail only if the socket is gone already, which is as good.
            let _ = socket::reset_on_close(client.socket());
        }
        drop(client);
        self.responses.forget(slot);
        self.wires.forget(slot);
        let now_ns = self.clock.now_ns();
        self.note_answered(now_ns);
        let Worker { drive: Drive::Churn(places), recorder, .. } = self else { return };
        let moments = *places.moments(slot);
        let latency_ns = moments.replied_ns - moments.due_ns;
        recorder.latency.record(latency_ns);
        self.live.note(latency_ns);
        recorder.exchange.record(moments.replied_ns - moments.sent_ns);
        if places.arrivals().is_some() {
            recorder.service.record(moments.replied_ns - moments.begun_ns);
        }
        recorder.timeline.record(now_ns - self.begin_ns, self.end_ns - self.begin_ns, latency_ns);
        recorder.series.note_ended(now_ns);
        places.free(slot, now_ns);
        self.open -= 1;
        self.pending -= 1;
    }

    /// The connection in `slot` failed while it was in `state`, and is gone.
    pub(super) fn note_churn_failure(&mut self, slot: u32, state: State, failure: Failure) {
        self.pending -= 1;
        self.failed += 1;
        note(&mut self.recorder.request_failures, failure);
        *self.recorder.failed_at.entry(self.destination(slot)).or_default() += 1;
        let (now_ns, established) = (self.now_ns, self.recorder.established);
        let Drive::Churn(places) = &mut self.drive else { return };
        if state == State::Connecting {
            self.recorder.series.note_failed(now_ns, failure);
            places.note_failure(slot, now_ns, established);
        } else {
            self.open -= 1;
            self.recorder.series.note_lost(now_ns, failure);
            places.free(slot, now_ns);
        }
    }
}

/// Sources that somebody else may have, one behind the other, before it is no accident.
const TRIES: u64 = 16;
