//! From a connect that has ended to a connection that can be spoken on.

use std::io;

use esockets::socket;

use super::Worker;
use crate::address::Address;
use crate::client::Client;
use crate::failure::{Act, Failure, Kind};
use crate::plan::Plan;
use crate::routes::Sources;
use crate::stage::Drive;
use crate::wires::Trouble;

impl Worker {
    /// A connect has ended, one way or the other.
    pub(super) fn settle(&mut self, slot: u32) {
        let Some(client) = &mut self.clients[slot as usize] else { return };
        if client.is_dialled() {
            return self.open_wire(slot);
        }
        match socket::connect_result(client.socket()) {
            Ok(()) if is_own_echo(&self.plan, client) => self.lose(slot, Failure::new(Act::Connect, Kind::Refused)),
            Ok(()) if !self.wires.are_bare() => {
                client.dialled();
                self.wires.forget(slot);
                self.open_wire(slot);
            }
            Ok(()) => self.settled(slot),
            // Not ended after all: its edge is still to come.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Err(error) => self.lose(slot, Failure::of(Act::Connect, &error)),
        }
    }

    /// A connection that is there is made one that can be spoken on.
    fn open_wire(&mut self, slot: u32) {
        let destination = self.destination(slot);
        let Some(client) = &mut self.clients[slot as usize] else { return };
        match self.wires.open(slot, destination, client.socket()) {
            Ok(true) => self.settled(slot),
            Ok(false) => {}
            Err(Trouble::Io(error)) => self.lose(slot, Failure::of(Act::Connect, &error)),
            Err(Trouble::Kind(kind)) => self.lose(slot, Failure::new(Act::Connect, kind)),
        }
    }

    /// A connection can be spoken on.
    fn settled(&mut self, slot: u32) {
        let Some(client) = &mut self.clients[slot as usize] else { return };
        let now_ns = self.clock.now_ns();
        let took_ns = now_ns - client.sent_ns();
        client.connected();
        match &mut self.drive {
            Drive::Connect(connector) => {
                self.open += 1;
                connector.note_established(took_ns, now_ns);
                self.recorder.latency.record(took_ns);
                self.recorder.established += 1;
                self.recorder.series.note_established(now_ns);
                self.pending -= 1;
            }
            Drive::Churn(_) => {
                self.open += 1;
                self.begin_exchange(slot, now_ns);
            }
            _ => self.note_reopened(slot, took_ns, now_ns),
        }
        self.queue_again(slot);
    }
}

/// Whether the connection ends where it begins: when nobody listens at a port of the kernel's own range, the kernel may
/// choose just that port as a source, and TCP then connects the socket to itself (RFC 9293, simultaneous open).
fn is_own_echo(plan: &Plan, client: &Client) -> bool {
    let is_possible = plan.sources == Sources::Kernel && plan.is_server_here();
    is_possible && socket::local_addr(client.socket()).is_ok_and(|here| plan.targets.contains(&Address::Ip(here)))
}
