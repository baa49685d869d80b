//! Connects on their way to the poll: those of Unix sockets knock until the server's queue has room.

use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Token};
use socket2::Socket;

use super::Worker;
use crate::client::{Client, State};
use crate::failure::{Act, Failure};
use crate::knocks::Knock;

impl Worker {
    /// The client of `socket`, whose connect was begun at `begun_ns`. Its next edge tells how that ended; if it has to wait
    /// for room in a queue, there is one only when it is in.
    pub(super) fn register(&mut self, socket: Socket, slot: u32, begun_ns: u64) -> Result<Client, Failure> {
        let destination = self.destination(slot);
        let failed = |error| Failure::of(Act::Connect, &error);
        let is_in =
            !self.knocks.waits_at(destination) && self.plan.targets[destination].knock(&socket).map_err(failed)?;
        if is_in {
            self.watch(&socket, slot)?;
        } else {
            self.knocks.wait(destination, Knock { slot, begun_ns }, begun_ns);
        }
        Ok(Client::new(socket, begun_ns))
    }

    fn watch(&self, socket: &Socket, slot: u32) -> Result<(), Failure> {
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(slot as usize), both);
        registered.map_err(|error| Failure::of(Act::Connect, &error))
    }

    /// Knocks for those who wait, at each destination until it is full again.
    pub(super) fn knock(&mut self) {
        for destination in self.knocks.round(self.now_ns) {
            while let Some(Knock { slot, begun_ns }) = self.knocks.first(destination) {
                let client = self.clients[slot as usize].as_ref();
                // One that has taken too long is gone, and perhaps another one is in its place.
                let client =
                    client.filter(|client| client.state() == State::Connecting && client.sent_ns() == begun_ns);
                let outcome = match client.map(|client| self.plan.targets[destination].knock(client.socket())) {
                    Some(Ok(false)) => break,
                    Some(Ok(true)) => client.map_or(Ok(()), |client| self.watch(client.socket(), slot)),
                    Some(Err(error)) => Err(Failure::of(Act::Connect, &error)),
                    None => Ok(()),
                };
                self.knocks.pass(destination);
                if let Err(failure) = outcome {
                    self.lose(slot, failure);
                }
            }
        }
    }
}
