//! What a server takes at the most: connections, and bytes that wait. No more, and no less.

use std::net::Ipv6Addr;

use super::*;
use crate::config::Overflow;
use crate::reason::Refusal;

/// Where connections come from: one address of IPv4, and two networks of IPv6 in which no address comes twice.
const HOUSEHOLDS: usize = 3;
/// The loop has looked at its clock a moment before.
const A_MOMENT: Duration = Duration::from_millis(1);

pub(super) fn address_of(n: usize) -> Peer {
    let (host, port) = (n as u16, n as u16 + 1);
    match n % HOUSEHOLDS {
        0 => SocketAddr::from(([10, 0, 0, 1], port)).into(),
        network => SocketAddr::from((Ipv6Addr::from([0x2001, 0xdb8, 0, network as u16, 0, 0, 0, host]), port)).into(),
    }
}

/// Connections.
impl World {
    /// How many have a seat: of all, and of those who come from where `n` comes from.
    fn seated(&self, n: usize) -> (usize, usize) {
        let seated = |wire: &Wire| wire.account.id.is_some() && !wire.closed && wire.attempt.is_none();
        let seated = self.wires.iter().enumerate().filter(|(_, wire)| seated(wire)).map(|(other, _)| other);
        seated.fold((0, 0), |(all, near), other| (all + 1, near + usize::from(other % HOUSEHOLDS == n % HOUSEHOLDS)))
    }

    /// The handler is asked about `n`, which has a seat from now on.
    pub(crate) fn check_seat(&mut self, n: usize) {
        self.check_pace(n);
        let (all, near) = self.seated(n);
        let (most, of_each) = (self.config.connections_max, self.config.connections_per_address);
        self.expect(most.is_none_or(|most| all < most), || format!("{n} is one more than {all}"));
        self.expect(of_each.is_none_or(|most| near < most), || format!("{n} is one more than {near} from its address"));
    }

    /// How many from where `n` comes from have been let in within a second.
    fn of_late(&self, n: usize) -> usize {
        let since = self.now.saturating_sub(Duration::from_secs(1) + A_MOMENT);
        let admitted = |wire: &Wire| wire.account.admitted_at.is_some_and(|admitted_at| admitted_at >= since);
        let near = |&(other, wire): &(usize, &Wire)| other % HOUSEHOLDS == n % HOUSEHOLDS && admitted(wire);
        self.wires.iter().enumerate().filter(near).count()
    }

    /// `n` has not come too soon: since whichever of the others as many are let in as the bucket holds, and as come into it.
    fn check_pace(&mut self, n: usize) {
        let Some(rate) = self.config.accept_rate_per_address else { return };
        self.wires[n].account.admitted_at = Some(self.now);
        let near = self.wires.iter().skip(n % HOUSEHOLDS).step_by(HOUSEHOLDS);
        let near: Vec<Duration> = near.filter_map(|wire| wire.account.admitted_at).collect();
        for &since in &near {
            let (admitted, span) = (near.iter().filter(|&&at| at >= since).count(), self.now - since);
            let most = rate + ((span + A_MOMENT).as_secs_f64() * rate as f64) as usize;
            self.expect(admitted <= most, || format!("{n} is one of {admitted} within {span:?}, of {rate} a second"));
        }
    }

    /// Whom the handler was never asked about has found no seat.
    pub(super) fn check_refusal(&mut self, n: usize) {
        if self.wires[n].account.id.is_some() || self.wires[n].attempt.is_some() {
            return;
        }
        let refused = self.wires[n].account.refused;
        self.expect(refused, || format!("{n} is closed, and the handler was not told why"));
    }

    /// The handler is told that there is no room for `n`.
    pub(crate) fn check_refused(&mut self, n: usize, why: Refusal) {
        let account = &mut self.wires[n].account;
        let again = std::mem::replace(&mut account.refused, true) || account.id.is_some();
        self.expect(!again, || format!("{n} is refused twice, or after the handler was asked"));
        // Who finds no seat has taken his token all the same.
        if why != Refusal::AcceptRate {
            self.check_pace(n);
        }
        let (all, near) = self.seated(n);
        let full = match why {
            Refusal::ConnectionsMax => self.config.connections_max.is_some_and(|most| all >= most),
            Refusal::ConnectionsPerAddress => self.config.connections_per_address.is_some_and(|most| near >= most),
            // A bucket that is empty has been emptied within the last second.
            Refusal::AcceptRate => self.config.accept_rate_per_address.is_some_and(|rate| self.of_late(n) >= rate),
        };
        self.expect(full, || format!("{n} is refused by {why:?} for {all} others, {near} from its address"));
    }
}

/// Bytes that wait.
impl World {
    /// How much waits for all peers together, at the least and at the most: what was to be sent on a connection that has
    /// failed may be forgotten by now.
    pub(super) fn waiting(&self) -> (u64, u64) {
        self.wires.iter().filter(|wire| !wire.closed && wire.account.id.is_some()).fold(
            (0, 0),
            |(least, most), wire| {
                let account = &wire.account;
                let forgotten = wire.failed || account.broken || account.aborted || account.panicked;
                let waits = wire.waiting();
                (least + if forgotten { 0 } else { waits }, most + waits)
            },
        )
    }

    /// The loop reads: whatever waits for a peer whose shard has little room is in the way.
    pub(super) fn check_pressed(&mut self, n: usize) {
        let Some(most) = self.config.limits.output_max_shard else { return };
        let little = self.waiting().0 > most as u64 / 2;
        let pressed = little && self.wires[n].waiting() > 0 && self.is_served(n);
        self.expect(!pressed, || format!("{n} is read while its shard has little room, and something waits for it"));
    }

    /// What the handler is told of the output, and how much input it is shown.
    pub(crate) fn check_room(&mut self, n: usize, client: &Client<'_>) {
        let wire = &self.wires[n];
        let limits = self.config.limits;
        let account = &wire.account;
        let (input, waiting, room) = (client.peek().len(), client.output_waiting(), client.output_room());
        let fresh = (account.consumed + input as u64).saturating_sub(account.shown);
        let intact = !wire.failed && !account.broken;
        let own_room = limits.output_max.saturating_sub(waiting);
        let (least, most) = self.waiting();
        let shard_room = |waits| limits.output_max_shard.map_or(usize::MAX, |max| max.saturating_sub(waits as usize));
        let (room_min, room_max) = (own_room.min(shard_room(most)), own_room.min(shard_room(least)));
        let faults = [
            (input > limits.input_max, "is shown more input than is allowed"),
            (intact && account.sent != wire.taken + waiting as u64, "has another idea of what waits"),
            (
                waiting > limits.output_max && limits.overflow != Overflow::Pause,
                "has more output waiting than is allowed",
            ),
            (intact && (room < room_min || room > room_max), "has another idea of the room for output"),
            (intact && fresh > own_room as u64, "is read from although the answer may not fit"),
        ];
        if let Some((_, what)) = faults.into_iter().find(|&(is, _)| is) {
            self.fail(format!("{n} {what}: {input} shown, {waiting} waiting, {room} free"));
        }
    }

    /// What there is room for is taken, unless the connection is broken.
    pub(crate) fn check_sent(&mut self, n: usize, client: &Client<'_>, sent: usize, fitting: usize) {
        let failed = self.wires[n].failed;
        self.expect(sent >= fitting || failed, || format!("{n} was to send {fitting}, and {sent} were taken"));
        self.check_room(n, client);
    }
}
