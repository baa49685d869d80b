//! Connections that the server closes as it may: each is opened again, and what it has left unanswered is sent again.

use super::Worker;
use crate::client::State;
use crate::failure::{Act, Failure, Kind};
use crate::recorder::note;
use crate::stage::Drive;

/// What a connection does once it is open again, where that is not just what any does that has become free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It still stands in the queue of those that are free.
    Wait,
    /// It sends the request again that was due, and first sent, at these moments.
    Send { due_ns: u64, sent_ns: u64 },
}

impl Worker {
    /// Whether the server may have ended the connection in `slot` as `failure` says: an HTTP server may close one that is
    /// idle for all that it knows (RFC 9112, 9.5), and a request may be on its way to it then. One that has answered nothing
    /// has no such reason, unless nobody has asked for long. Connections that are to be held, or to come and go, are not
    /// opened again.
    pub(super) fn may_close(&self, slot: u32, failure: Failure) -> bool {
        let Some(client) = &self.clients[slot as usize] else { return false };
        let is_asking = matches!(self.drive, Drive::Closed(_) | Drive::Open(_));
        let is_orderly = failure.kind == Kind::Closed && self.plan.protocol.is_http();
        let has_waited =
            || client.state() == State::Idle && self.now_ns.saturating_sub(client.sent_ns()) >= IDLE_NS_MIN;
        is_asking && is_orderly && (client.has_answered() || has_waited())
    }

    /// The server has closed the connection in `slot`, as it may: behind its reply, if that `is_answered`; while it was idle;
    /// or with a request on its way, whose time goes on.
    pub(super) fn reopen_closed(&mut self, slot: u32, is_answered: bool) {
        if is_answered {
            self.answered(slot, None);
        } else if let Some(client) = &self.clients[slot as usize] {
            let (due_ns, sent_ns) = (client.due_ns(), client.sent_ns());
            match client.state() {
                State::Busy => _ = self.reopened.insert(slot, Then::Send { due_ns, sent_ns }),
                _ if matches!(self.drive, Drive::Open(_)) => _ = self.reopened.insert(slot, Then::Wait),
                _ => {}
            }
        }
        self.reopen(slot);
    }

    /// Opens a connection again that the server closes: its place is taken by a new one, from a source that is free.
    pub(super) fn reopen(&mut self, slot: u32) {
        let destination = self.destination(slot);
        let source = self.share.routes.spare();
        self.clients[slot as usize] = None;
        self.wires.forget(slot);
        self.recorder.reopened += 1;
        let begun_ns = self.clock.now_ns();
        let opened = self.plan.targets[destination].open(source).map_err(|error| Failure::of(Act::Connect, &error));
        self.reopening += 1;
        match opened.and_then(|socket| self.register(socket, slot, begun_ns)) {
            Ok(client) => self.clients[slot as usize] = Some(client),
            Err(failure) => {
                self.abandon(slot, State::Connecting);
                self.note_reopen_failure(failure);
            }
        }
    }

    pub(super) fn note_reopen_failure(&mut self, failure: Failure) {
        self.reopening -= 1;
        self.open -= 1;
        self.failed += 1;
        self.emptied_ns = self.now_ns;
        self.recorder.lost += 1;
        self.recorder.series.note_lost(self.now_ns, failure);
        note(&mut self.recorder.losses, failure);
    }

    /// A connection is open again, at `now_ns` and since `took_ns`, and goes on.
    pub(super) fn note_reopened(&mut self, slot: u32, took_ns: u64, now_ns: u64) {
        self.reopening -= 1;
        self.recorder.reconnect.record(took_ns);
        match self.reopened.remove(&slot) {
            Some(Then::Wait) => {}
            Some(Then::Send { due_ns, sent_ns }) => self.request(slot, due_ns, sent_ns),
            // Whoever waits for the next reply of a closed loop waits for the new connection, too.
            None => self.go_on(slot, (now_ns - took_ns).max(self.begin_ns), now_ns),
        }
    }

    /// The connection in `slot`, which was to be the next, is just being opened again: it comes back when that is done.
    pub(super) fn pass_over(&mut self, slot: u32) {
        self.reopened.remove(&slot);
    }
}

/// How long a connection has been silent, at least, of which a server may say that it was idle without having answered ever:
/// one that closes all that it accepts must not be asked again and again.
const IDLE_NS_MIN: u64 = 100_000_000;
