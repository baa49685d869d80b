//! A handler that does all that a handler may do, and should not, and checks what it is told.

use std::io::{BufRead, Read, Write};
use std::panic::resume_unwind;

use super::meddler::Command;
use super::network::kernel::connection_of;
use super::network::{Account, Dice, SharedWorld, keyed};
use super::*;
use crate::client::Client;
use crate::config::Overflow;
use crate::reason::Refusal;
use crate::shard::Shard;

/// How badly the handler behaves; once in so many calls, or never.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    /// Leaves input, pauses, sets timers.
    pub(super) capricious: u64,
    /// Ends connections, in one of the ways.
    pub(super) deadly: u64,
    /// Refuses connections.
    pub(super) picky: u64,
    /// Sends more than there is room for.
    pub(super) reckless: u64,
    /// The most that it sends at a time.
    pub(super) talks: u64,
    pub(super) input_max: u64,
    pub(super) idle: bool,
    /// Takes its time, when it visits.
    pub(super) blocks: u64,
    /// Asks for the whole shard, and calls others.
    pub(super) calls: u64,
    pub(super) overflow: Overflow,
    /// How long it waits for a first message.
    pub(super) first: Option<Duration>,
}

/// Which of the handler's functions is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Incoming,
    Readable,
    Writable,
    Eof,
    Timeout,
    Connected,
    Visit,
}

pub(super) struct Hostile {
    pub(super) world: SharedWorld,
    pub(super) dice: Dice,
    pub(super) manners: Manners,
    /// Who has asked for the whole shard, and has to be given it before anything else is done.
    pub(super) caller: Option<ClientId>,
    pub(super) farewell: Vec<u8>,
}

/// A session: the number of the connection that it belongs to.
pub(super) struct Ticket(usize);

impl Handler for Hostile {
    type Session = Ticket;
    type Message = Command;

    fn handle_incoming(&mut self, client: &mut Client<'_>, address: &Peer) -> Option<Ticket> {
        let n = connection_of(address);
        self.world.borrow_mut().check_seat(n);
        let (now, first) = (self.world.borrow().now, self.manners.first);
        self.account(n, |account| {
            account.id = Some(client.id());
            account.expect_message(now, first);
        });
        let kept = self.called(client, n, Call::Incoming);
        kept.then(|| {
            self.account(n, |account| account.sessions += 1);
            Ticket(n)
        })
    }

    fn handle_refused(&mut self, address: &Peer, why: Refusal) -> &[u8] {
        let n = connection_of(address);
        self.world.borrow_mut().check_refused(n, why);
        if self.dice.chance(self.manners.deadly) {
            self.panic();
        }
        let count = self.dice.pick(&[0, 10, 1_000]);
        self.farewell = (0..count).map(|at| keyed(n, true, at)).collect();
        &self.farewell
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, session: &mut Ticket) -> bool {
        self.called(client, session.0, Call::Readable)
    }

    fn handle_writable(&mut self, client: &mut Client<'_>, session: &mut Ticket) -> bool {
        self.called(client, session.0, Call::Writable)
    }

    fn handle_eof(&mut self, client: &mut Client<'_>, session: &mut Ticket) -> bool {
        self.called(client, session.0, Call::Eof)
    }

    fn handle_timeout(&mut self, client: &mut Client<'_>, session: &mut Ticket) -> bool {
        self.called(client, session.0, Call::Timeout)
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, Ticket>, command: Command) {
        match command {
            Command::Visit(id, n) => {
                let visited = shard.client(id, |client, session| {
                    self.expect(session.0 == n, || format!("a message for {n} reached {}", session.0));
                    self.called(client, session.0, Call::Visit)
                });
                let world = &mut *self.world.borrow_mut();
                let wire = &world.wires[n];
                let account = &wire.account;
                let missed = !visited && account.ends == 0 && account.sessions > 0 && !account.over;
                let broken = wire.failed || account.broken;
                let excused = broken || account.disconnected || world.everyone_disconnected || world.stopping;
                world.expect(!missed || excused, || format!("a message did not reach {n}"));
            }
            Command::VisitAll if self.dice.chance(self.manners.calls) => self.roam(shard),
            Command::VisitAll => shard.each_client(|client, session| self.called(client, session.0, Call::Visit)),
            Command::Panic => self.panic(),
        }
    }

    fn handle_tick(&mut self, shard: &mut Shard<'_, Ticket>) {
        self.world.borrow_mut().check_tick();
        if self.dice.chance(20) {
            shard.each_client(|client, session| self.called(client, session.0, Call::Visit));
        }
        if self.dice.chance(self.manners.deadly) {
            self.panic();
        }
    }

    fn handle_connected(&mut self, client: &mut Client<'_>, session: &mut Ticket) -> bool {
        self.world.borrow_mut().check_connected(session.0);
        self.called(client, session.0, Call::Connected)
    }

    fn handle_shard(&mut self, shard: &mut Shard<'_, Ticket>, caller: ClientId) {
        let asked = self.caller.take();
        self.expect(asked == Some(caller), || format!("{caller} is given the shard, for which {asked:?} has asked"));
        self.roam(shard);
        if self.dice.chance(self.manners.deadly) {
            self.panic();
        }
    }

    fn handle_closed_on(&mut self, shard: &mut Shard<'_, Ticket>, session: Ticket, id: ClientId, reason: CloseReason) {
        if self.dice.chance(self.manners.calls) {
            self.roam(shard);
        }
        self.handle_closed(session, id, reason);
    }

    fn handle_closed(&mut self, session: Ticket, id: ClientId, reason: CloseReason) {
        let n = session.0;
        {
            let world = &mut *self.world.borrow_mut();
            world.tell(|| format!("{n} closed: {reason:?}"));
            let account = &mut world.wires[n].account;
            account.ends += 1;
            account.reason = Some(reason);
            let same = account.id == Some(id);
            world.expect(same, || format!("{n} closed under another id"));
        }
        self.check_reason(n, reason);
        if reason == CloseReason::Stopped {
            self.world.borrow_mut().check_answered(n);
        }
        if self.dice.chance(self.manners.deadly) {
            self.panic();
        }
    }
}

/// As many wires as it makes.
const WIRES_MAX: usize = 40;

/// What it does with the whole shard.
impl Hostile {
    fn roam(&mut self, shard: &mut Shard<'_, Ticket>) {
        for _ in 0..self.dice.below(3) {
            let n = self.dice.below(self.world.borrow().wires.len() as u64) as usize;
            let id = self.account(n, |account| account.id);
            if self.dice.chance(2) {
                self.call(shard);
            } else if let Some(id) = id {
                shard.client(id, |client, session| self.called(client, session.0, Call::Visit));
            }
        }
    }

    fn call(&mut self, shard: &mut Shard<'_, Ticket>) {
        let n = self.world.borrow().wires.len();
        if n >= WIRES_MAX {
            return;
        }
        let most = self.dice.pick(&[1, 50, 5_000]);
        let within = Duration::from_millis(self.dice.below(most));
        let target = std::net::SocketAddr::from(([10, 0, 0, 1], 1));
        match shard.connect(target, within, Ticket(n)) {
            Ok(id) => {
                self.world.borrow_mut().call(n, id, within);
                if self.dice.chance(2) {
                    shard.client(id, |client, session| self.called(client, session.0, Call::Visit));
                }
            }
            Err(error) => {
                let world = &mut *self.world.borrow_mut();
                let ends = world.stopping || world.wait_failed || error.kind() != io::ErrorKind::Other;
                world.expect(ends, || format!("it calls nobody any more: {error}"));
            }
        }
    }
}

/// What it does when it is called.
impl Hostile {
    fn called(&mut self, client: &mut Client<'_>, n: usize, call: Call) -> bool {
        if !self.world.borrow_mut().is_getting_somewhere() {
            self.panic();
        }
        let caller = self.caller.filter(|_| call != Call::Visit);
        self.expect(caller.is_none(), || format!("{n} is served before {caller:?} has the shard"));
        // Whoever is visited in the middle of a turn may stand in the queue for the next one.
        self.account(n, |account| account.deferred |= call == Call::Visit);
        if !matches!(call, Call::Visit | Call::Timeout) {
            self.world.borrow_mut().check_introduced(n);
        }
        if call == Call::Visit {
            let blocks = self.dice.chance(self.manners.blocks);
            self.world.borrow_mut().visit(blocks);
        }
        self.inspect(client, n, call);
        self.listen(client, n);
        self.talk(client, n);
        if self.dice.chance(self.manners.capricious) {
            self.wish(client, n);
        }
        if self.dice.chance(self.manners.calls) {
            client.call_shard();
            // In a visit it has it already.
            if call != Call::Visit {
                self.caller = Some(client.id());
                self.account(n, |account| account.deferred = true);
            }
        }
        self.world.borrow_mut().press(n);
        let tell = |what: &str| self.world.borrow().tell(|| format!("{n} {call:?} ends with {what}"));
        let deadly = self.dice.chance(self.manners.deadly);
        let eof = call == Call::Eof && !self.dice.chance(4) || call == Call::Timeout && !self.dice.chance(3);
        let refused = call == Call::Incoming && self.dice.chance(self.manners.picky);
        if !deadly && !eof && !refused {
            return true;
        }
        let choice = if deadly { self.dice.below(5) } else { 0 };
        self.world.borrow_mut().is_over(n);
        match choice {
            0 | 1 => {
                tell("false");
                self.account(n, |account| account.expired = call == Call::Timeout);
                return false;
            }
            2 => {
                tell("close");
                client.close();
            }
            3 => {
                tell("abort");
                self.account(n, |account| account.aborted = true);
                client.abort();
            }
            _ => {
                tell("panic");
                self.account(n, |account| account.panicked = true);
                self.panic();
            }
        }
        true
    }

    /// Compares what it is shown with what there is.
    fn inspect(&mut self, client: &Client<'_>, n: usize, call: Call) {
        let (input, is_eof) = (client.peek(), client.is_eof());
        let world = &mut *self.world.borrow_mut();
        world.tell(|| format!("{n} {call:?}, {} bytes, {} waiting", input.len(), client.output_waiting()));
        world.check_room(n, client);
        if matches!(call, Call::Readable | Call::Eof) {
            world.check_paused(n);
            if input.len() as u64 >= self.manners.input_max {
                // It must take some before more is read.
                world.may_rest(n);
            }
        }
        world.check_pressure(n, matches!(call, Call::Readable | Call::Eof), call == Call::Writable);
        if call == Call::Timeout {
            world.check_timeout(n);
        }
        let wire = &mut world.wires[n];
        let (read, eof_read) = (wire.read, wire.eof_read);
        let account = &mut wire.account;
        let slipped = input.iter().zip(account.consumed..).find(|&(&byte, at)| byte != keyed(n, false, at));
        let slipped = slipped.map(|(_, at)| at);
        let end = account.consumed + input.len() as u64;
        let (lost, news) = (end < account.shown, end > account.shown);
        let fresh_readable = news || account.resumed && !input.is_empty();
        let faults = [
            (slipped.is_some(), "is shown wrong bytes"),
            (lost, "is not shown again what it left"),
            (end > read, "is shown what nobody read"),
            (account.over || account.ends > 0, "is served after its end"),
            (call == Call::Readable && !fresh_readable, "is shown nothing new"),
            (call != Call::Readable && news, "is shown news in passing"),
            (call == Call::Eof && (account.eof || !eof_read), "ends twice, or not at all"),
            (is_eof != eof_read, "has the wrong idea of its peer's end"),
            (call == Call::Eof && end != read, "ends before everything was shown"),
        ];
        account.shown = account.shown.max(end);
        account.eof |= call == Call::Eof;
        account.resumed &= call != Call::Readable;
        if let Some((_, what)) = faults.into_iter().find(|&(is, _)| is) {
            world.fail(format!("{n} {what}: {call:?}, slipped at {slipped:?}, up to {end} of {read}"));
        }
    }

    fn listen(&mut self, client: &mut Client<'_>, n: usize) {
        let before = client.peek().len();
        let full = before as u64 * 2 > self.manners.input_max && !self.dice.chance(20);
        // Who pauses mostly has a reason to leave what he has.
        let paused = self.account(n, |account| account.paused) && !self.dice.chance(3);
        let keeps = (paused || self.dice.chance(self.manners.capricious)) && !full;
        match self.dice.below(4) {
            0 if keeps => {}
            1 if keeps => client.consume(self.dice.below(before as u64 + 1) as usize),
            2 if keeps => {
                let mut piece = [0; 7];
                let _ = client.read(&mut piece);
            }
            3 if keeps => {
                let _ = client.fill_buf().map(<[u8]>::len);
                BufRead::consume(client, 1);
            }
            _ => drop(client.recv()),
        }
        let taken = before - client.peek().len();
        self.account(n, |account| account.take(taken as u64));
    }

    fn talk(&mut self, client: &mut Client<'_>, n: usize) {
        for _ in 0..self.dice.below(3) {
            let most = self.world.borrow().wires[n].worth(self.manners.talks);
            let wanted = self.dice.below(most + 1) as usize;
            let reckless = self.dice.chance(self.manners.reckless);
            let count = if reckless { wanted } else { wanted.min(client.output_room()) };
            let (at, room) = (self.account(n, |account| account.sent), client.output_room());
            let bytes: Vec<u8> = (at..at + count as u64).map(|at| keyed(n, true, at)).collect();
            let whole = self.dice.chance(2);
            let sent = if whole {
                let is_sent = match self.dice.chance(3) {
                    true => client.send_shared(&bytes.into()),
                    false => client.send(&bytes),
                };
                if is_sent { count } else { 0 }
            } else {
                let written = client.write(&bytes).unwrap_or(0);
                if self.dice.chance(3) {
                    let _ = client.flush();
                }
                written
            };
            let world = &mut *self.world.borrow_mut();
            let wire = &mut world.wires[n];
            let (account, taken) = (&mut wire.account, wire.taken);
            account.sent += sent as u64;
            // One that was refused is no loss, unless a part of it has left.
            let refuses = self.manners.overflow == Overflow::Refuse && taken <= account.sent;
            account.broken |= whole && sent < count && !refuses;
            // A message is taken whole or not at all.
            world.check_sent(n, client, sent, if whole && count > room { 0 } else { count.min(room) });
            if sent < count {
                return;
            }
        }
    }

    fn wish(&mut self, client: &mut Client<'_>, n: usize) {
        let now = self.world.borrow().now;
        let was_paused = self.account(n, |account| account.paused);
        for _ in 0..=self.dice.below(2) {
            let choice = if was_paused && self.dice.chance(3) { 1 } else { self.dice.below(5) };
            self.world.borrow().tell(|| format!("{n} wishes {choice}"));
            match choice {
                0 => {
                    client.pause();
                    self.account(n, |account| account.paused = true);
                    self.world.borrow_mut().may_rest(n);
                }
                1 => {
                    client.resume();
                    self.account(n, |account| {
                        account.resumed = true;
                        account.paused = false;
                    });
                }
                2 => {
                    client.set_timeout(None);
                    self.account(n, |account| account.set_timer(now, None));
                }
                _ => {
                    let most = self.dice.pick(&[1, 50, 5_000]);
                    let span = Duration::from_millis(self.dice.below(most));
                    client.set_timeout(Some(span));
                    self.account(n, |account| account.set_timer(now, Some(span)));
                }
            }
        }
    }

    /// Without the hook that would print it.
    fn panic(&self) -> ! {
        self.world.borrow_mut().panics += 1;
        resume_unwind(Box::new("on purpose"))
    }

    fn account<R>(&self, n: usize, change: impl FnOnce(&mut Account) -> R) -> R {
        change(&mut self.world.borrow_mut().wires[n].account)
    }

    fn expect(&self, holds: bool, what: impl FnOnce() -> String) {
        self.world.borrow_mut().expect(holds, what);
    }

    fn check_reason(&self, n: usize, reason: CloseReason) {
        let world = &mut *self.world.borrow_mut();
        let wire = &world.wires[n];
        let account = &wire.account;
        let left = account.shown - account.consumed;
        let holds = match reason {
            CloseReason::Finished => account.over,
            CloseReason::PeerClosed => account.eof && account.over && wire.read == account.shown,
            CloseReason::Reset => wire.reset || wire.failed,
            CloseReason::Vanished => wire.failed || account.sent > wire.taken,
            CloseReason::Idle => self.manners.idle && account.over,
            CloseReason::Expired => account.expired,
            CloseReason::FirstMessageTimedOut => account.expired && account.was_first,
            CloseReason::WriteTimedOut => world.may_stall(n),
            CloseReason::InputFull => left == self.manners.input_max,
            CloseReason::OutputFull => account.broken,
            CloseReason::Aborted => account.aborted,
            CloseReason::Panicked => account.panicked,
            CloseReason::Refused => false,
            // The first reason counts, unless the time is over.
            CloseReason::Disconnected => (account.disconnected || world.everyone_disconnected) && !account.over,
            CloseReason::Stopped => world.stopping && (!account.over || world.may_close_all()),
            CloseReason::Failed(_) => wire.failed || world.wait_failed,
            CloseReason::ConnectRefused | CloseReason::ConnectTimedOut | CloseReason::ConnectFailed(_) => {
                world.is_failed_attempt(n, reason)
            }
        };
        let ends = account.ends;
        world.expect(holds, || format!("{n} has no reason to end as {reason:?}"));
        world.expect(ends == 1, || format!("{n} ends {ends} times"));
    }
}
