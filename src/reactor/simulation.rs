//! The production loop on the simulated kernel, with a handler that does all that a handler may do, and should not.
//!
//! `ESOCKETS_SEEDS=20000` runs so many seeds; `ESOCKETS_SEED=123` runs one alone and tells what happens.

mod network;

use std::io::{BufRead, Read, Write};
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::rc::Rc;

use super::*;
use crate::client::Client;
use crate::mailbox::{Postbox, mailbox};
use network::kernel::{Simulated, connection_of};
use network::{Account, Dice, SharedWorld, Temper, World, keyed};

/// Runs in debug within a few seconds.
const SEEDS: u64 = 2_000;

#[test]
fn the_loop_survives_a_hostile_kernel_and_a_hostile_handler() {
    let wanted = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = wanted("ESOCKETS_SEED") {
        return simulate(seed, true);
    }
    let all = 0..wanted("ESOCKETS_SEEDS").unwrap_or(SEEDS);
    let failing: Vec<u64> = all.filter(|&seed| catch_unwind(|| simulate(seed, false)).is_err()).collect();
    assert!(failing.is_empty(), "seeds {failing:?} fail; ESOCKETS_SEED=.. replays one of them alone");
}

/// What does not find a bug that is there proves nothing by finding none.
#[test]
fn each_planted_bug_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let found = |bug: Bug| bug.planted(|| (0..SEEDS).find(|&seed| catch_unwind(|| simulate(seed, false)).is_err()));
    let found = Bug::ALL.map(|bug| (bug, found(bug)));
    let _ = std::panic::take_hook();
    for (bug, seed) in found {
        println!("{bug:?}: found by seed {seed:?}");
    }
    assert!(found.iter().all(|(_, seed)| seed.is_some()), "{found:?}");
}

/// How badly the handler behaves; once in so many calls, or never.
#[derive(Debug, Clone, Copy)]
struct Manners {
    /// Leaves input, pauses, sets timers.
    capricious: u64,
    /// Ends connections, in one of the ways.
    deadly: u64,
    /// Sends more than there is room for.
    reckless: u64,
    /// The most that it sends at a time.
    talks: u64,
    input_max: u64,
    idle: bool,
}

/// What other threads send.
#[derive(Debug, Clone, Copy)]
enum Command {
    Visit(ClientId, usize),
    VisitAll,
    Panic,
}

/// Which of the handler's functions is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Incoming,
    Readable,
    Writable,
    Eof,
    Timeout,
    Visit,
}

struct Hostile {
    world: SharedWorld,
    dice: Dice,
    manners: Manners,
}

/// A session: the number of the connection that it belongs to.
struct Ticket(usize);

impl Handler for Hostile {
    type Session = Ticket;
    type Message = Command;

    fn handle_incoming(&mut self, client: &mut Client<'_>, address: &Peer) -> Option<Ticket> {
        let n = connection_of(address);
        self.account(n, |account| account.id = Some(client.id()));
        let kept = self.called(client, n, Call::Incoming);
        kept.then(|| {
            self.account(n, |account| account.sessions += 1);
            Ticket(n)
        })
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
            Command::VisitAll => shard.each_client(|client, session| self.called(client, session.0, Call::Visit)),
            Command::Panic => self.panic(),
        }
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
        if self.dice.chance(self.manners.deadly) {
            self.panic();
        }
    }
}

/// What it does when it is called.
impl Hostile {
    fn called(&mut self, client: &mut Client<'_>, n: usize, call: Call) -> bool {
        if !self.world.borrow_mut().is_getting_somewhere() {
            self.panic();
        }
        self.inspect(client, n, call);
        self.listen(client, n);
        self.talk(client, n);
        if self.dice.chance(self.manners.capricious) {
            self.wish(client, n);
        }
        let tell = |what: &str| self.world.borrow().tell(|| format!("{n} {call:?} ends with {what}"));
        let deadly = self.dice.chance(self.manners.deadly);
        let eof = call == Call::Eof && !self.dice.chance(4) || call == Call::Timeout && !self.dice.chance(3);
        if !deadly && !eof {
            return true;
        }
        let choice = if deadly { self.dice.below(5) } else { 0 };
        self.account(n, |account| account.over = true);
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
        let now = world.now;
        world.tell(|| format!("{n} {call:?}, {} bytes, {} waiting", input.len(), client.output_waiting()));
        let wire = &mut world.wires[n];
        let (read, eof_read) = (wire.read, wire.eof_read);
        let account = &mut wire.account;
        let slipped = input.iter().zip(account.consumed..).find(|&(&byte, at)| byte != keyed(n, false, at));
        let slipped = slipped.map(|(_, at)| at);
        let end = account.consumed + input.len() as u64;
        let (lost, news) = (end < account.shown, end > account.shown);
        let fresh_readable = news || account.resumed && !input.is_empty();
        let mut faults = vec![
            (slipped.is_some(), "is shown wrong bytes"),
            (lost, "is not shown again what it left"),
            (end > read, "is shown what nobody read"),
            (account.over || account.ends > 0, "is served after its end"),
            (call == Call::Readable && account.paused, "reads while it is paused"),
            (call == Call::Readable && !fresh_readable, "is shown nothing new"),
            (call != Call::Readable && news, "is shown news in passing"),
            (call == Call::Eof && (account.eof || !eof_read), "ends twice, or not at all"),
            (is_eof != eof_read, "has the wrong idea of its peer's end"),
            (call == Call::Eof && end != read, "ends before everything was shown"),
        ];
        if call == Call::Timeout {
            let due = account.due.is_some_and(|due| due <= now);
            faults.push((!due && !self.manners.idle, "times out too early"));
            account.due = account.due.filter(|_| !due);
        }
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
        let keeps = self.dice.chance(self.manners.capricious) && !full;
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
        self.account(n, |account| account.consumed += taken as u64);
    }

    fn talk(&mut self, client: &mut Client<'_>, n: usize) {
        for _ in 0..self.dice.below(3) {
            let most = self.world.borrow().wires[n].worth(self.manners.talks);
            let wanted = self.dice.below(most + 1) as usize;
            let reckless = self.dice.chance(self.manners.reckless);
            let count = if reckless { wanted } else { wanted.min(client.output_room()) };
            let at = self.account(n, |account| account.sent);
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
            self.account(n, |account| {
                account.sent += sent as u64;
                account.broken |= whole && sent < count;
            });
            if sent < count {
                return;
            }
        }
    }

    fn wish(&mut self, client: &mut Client<'_>, n: usize) {
        let now = self.world.borrow().now;
        for _ in 0..=self.dice.below(2) {
            let choice = self.dice.below(5);
            self.world.borrow().tell(|| format!("{n} wishes {choice}"));
            match choice {
                0 => {
                    client.pause();
                    self.account(n, |account| account.paused = true);
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
                    self.account(n, |account| account.due = None);
                }
                _ => {
                    let most = self.dice.pick(&[1, 50, 5_000]);
                    let span = Duration::from_millis(self.dice.below(most));
                    client.set_timeout(Some(span));
                    self.account(n, |account| account.due = Some(now + span));
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
            CloseReason::InputFull => left == self.manners.input_max,
            CloseReason::OutputFull => account.broken,
            CloseReason::Aborted => account.aborted,
            CloseReason::Panicked => account.panicked,
            CloseReason::Refused => false,
            CloseReason::Disconnected => account.disconnected || world.everyone_disconnected,
            CloseReason::Stopped => world.stopping,
            CloseReason::Failed(_) => wire.failed || world.wait_failed,
        };
        let ends = account.ends;
        world.expect(holds, || format!("{n} has no reason to end as {reason:?}"));
        world.expect(ends == 1, || format!("{n} ends {ends} times"));
    }
}

/// One run, from a seed.
fn simulate(seed: u64, tracing: bool) {
    let mut dice = Dice::new(seed);
    let config = config(&mut dice);
    let temper = temper(&mut dice, &config);
    let manners = Manners {
        capricious: dice.pick(&[0, 2, 5, 30]),
        deadly: dice.pick(&[0, 0, 10, 100]),
        reckless: dice.pick(&[0, 0, 50]),
        talks: dice.pick(&[10, 200, 10_000]),
        input_max: config.limits.input_max as u64,
        idle: config.limits.idle_timeout.is_some(),
    };
    let driven = dice.chance(2);
    if tracing {
        eprintln!("{config:?}\n{manners:?}\ndriven {driven}");
    }
    let (postbox, mailbox) = mailbox(dice.up_to(8) as usize);
    let common = Arc::new(Common::new(&config));
    let counters = SharedCounters::default();
    let handler_dice = Dice::new(dice.below(u64::MAX));
    let meddler = Meddler {
        dice: Dice::new(dice.below(u64::MAX)),
        postbox,
        common: Arc::clone(&common),
        stop_timeout: config.stop_timeout,
        rate: dice.pick(&[0, 5, 50]),
        posts_left: dice.below(100),
        deadly: manners.deadly,
        drains: (!driven && dice.chance(3)).then(|| dice.pick(&[30, 300])),
        stops: (!driven).then(|| dice.pick(&[30, 1_000, u64::MAX])),
        world: World::new(dice, temper, tracing),
    };
    let world = Rc::clone(&meddler.world);
    let handler = Hostile { world: Rc::clone(&world), dice: handler_dice, manners };
    let mut hook = meddler;
    let kernel = Simulated { world: Rc::clone(&world), meddle: Box::new(move |quiet| hook.meddle(quiet)) };
    let mut reactor = Reactor::new(kernel, handler, mailbox, counters, common, &config, 0);
    if !driven || drive(&mut reactor, &world, config.stop_timeout).is_continue() {
        let ended = reactor.run();
        let failed = world.borrow().wait_failed;
        world.borrow_mut().expect(ended.is_err() == failed, || format!("it ends with {ended:?}"));
    }
    check_end(&reactor, &world);
    let fault = world.borrow().fault.clone();
    assert!(fault.is_none(), "{}", fault.unwrap_or_default());
}

fn config(dice: &mut Dice) -> Config {
    let output_max = dice.pick(&[2, 100, 3_000, 256 << 10]);
    let limits = Limits {
        input_max: dice.pick(&[1, 64, 1_000, 64 << 10]),
        output_max,
        output_low: dice.chance(2).then(|| dice.below(output_max as u64) as usize),
        read_budget: dice.pick(&[1, 30, 1_000, 64 << 10]),
        idle_timeout: dice.chance(3).then(|| Duration::from_millis(dice.up_to(20_000))),
    };
    Config {
        limits,
        block_time: dice.chance(2).then(|| Duration::from_millis(dice.pick(&[5, 50, 2_000, 60_000]))),
        queue_size: dice.up_to(20) as u32,
        accept_budget: dice.pick(&[1, 3, 64]),
        connections_max: dice.chance(4).then(|| dice.up_to(6) as usize),
        connections_per_address: dice.chance(4).then(|| dice.up_to(6) as usize),
        selector: if dice.chance(5) { Selector::Spin(Duration::from_micros(dice.up_to(30))) } else { Selector::Epoll },
        stop_timeout: Duration::from_millis(dice.pick(&[0, 20, 3_000, 40_000])),
        ..Config::default()
    }
}

fn temper(dice: &mut Dice, config: &Config) -> Temper {
    Temper {
        connections: dice.up_to(20) as usize,
        // Who reads a byte at a time is sent few.
        bytes: dice.pick(&[0, 20, 500, 5_000]).min(100 * config.limits.input_max.min(config.limits.read_budget) as u64),
        errors: dice.pick(&[0, 5, 50, 500]),
        fatal: dice.pick(&[0, 0, 40, 400]),
        spurious: dice.pick(&[0, 4, 40]),
        jumps: dice.pick(&[0, 10, 100]),
        wait_errors: if dice.chance(50) { 100 } else { 0 },
        resets: dice.pick(&[0, 2, 6]),
        deaf: dice.pick(&[0, 2, 6]),
        batch: dice.pick(&[1, 4, 64]),
        queue: config.queue_size as usize,
    }
}

/// Somebody on another thread.
struct Meddler {
    dice: Dice,
    world: SharedWorld,
    postbox: Postbox<Post<Command>>,
    common: Arc<Common>,
    stop_timeout: Duration,
    rate: u64,
    posts_left: u64,
    deadly: u64,
    /// Asks the server to drain, once in so many times.
    drains: Option<u64>,
    /// Asks the server to stop, once in so many times or when nothing happens any more.
    stops: Option<u64>,
}

impl Meddler {
    /// True if the loop has to be woken.
    fn meddle(&mut self, quiet: bool) -> bool {
        if let Some(drains) = self.drains
            && self.dice.chance(drains)
        {
            let timeout = Duration::from_millis(self.dice.up_to(100_000));
            self.common.drain(timeout);
            self.world.borrow_mut().drain(timeout, self.stop_timeout);
            self.drains = None;
            return true;
        }
        let patience = self.world.borrow().quiet_waits > 20;
        if let Some(stops) = self.stops
            && (quiet && patience || self.dice.chance(stops))
        {
            self.common.stop(self.stop_timeout);
            self.world.borrow_mut().stop(self.stop_timeout);
            self.stops = None;
            return true;
        }
        let Some(post) = self.dice.chance(self.rate).then(|| self.post()).flatten() else {
            return false;
        };
        let sent = self.postbox.send(post);
        self.world.borrow_mut().expect(sent == Ok(true), || "a sleeper would not be woken".into());
        // It is going to wake up; others are in time to add to that.
        while self.dice.chance(3)
            && let Some(post) = self.post()
            && let Ok(wake) = self.postbox.send(post)
        {
            self.world.borrow_mut().expect(!wake, || "a sleeper is woken twice".into());
        }
        true
    }

    fn post(&mut self) -> Option<Post<Command>> {
        self.posts_left = self.posts_left.checked_sub(1)?;
        let world = &mut *self.world.borrow_mut();
        let n = self.dice.below(world.wires.len() as u64) as usize;
        let account = &mut world.wires[n].account;
        let id = account.id?;
        if self.dice.chance(self.deadly) {
            match self.dice.below(4) {
                0 => {
                    world.everyone_disconnected = true;
                    return Some(Post::DisconnectAll);
                }
                1 => return Some(Post::Message(Command::Panic)),
                _ => {
                    account.disconnected = true;
                    return Some(Post::Disconnect(id.key));
                }
            }
        }
        Some(Post::Message(if self.dice.chance(3) { Command::VisitAll } else { Command::Visit(id, n) }))
    }
}

impl PartialEq for crate::mailbox::Undelivered<Post<Command>> {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

type Subject = Reactor<Simulated, Hostile>;

/// Runs turns until nothing happens any more, or for a while, and looks about after each; then asks for the stop.
fn drive(reactor: &mut Subject, world: &SharedWorld, stop_timeout: Duration) -> ControlFlow<()> {
    let turns = { world.borrow_mut().dice.pick(&[20, 300, 3_000]) };
    let (mut finishing, mut rounds) = (Vec::new(), 0);
    for _ in 0..turns {
        if let Err(error) = reactor.turn() {
            reactor.close_all(CloseReason::of_error(&error));
            return ControlFlow::Break(());
        }
        look_about(reactor, world);
        let quiet = world.borrow().quiet_waits;
        if quiet > 2 && rounds == 0 {
            finishing = finishing_keys(reactor);
        }
        if quiet > 2 {
            // Longer than anyone may take to go.
            world.borrow_mut().now += Duration::from_secs(35);
            rounds += 1;
        }
        if rounds == 20 {
            let left = finishing.iter().find(|&&key| reactor.table.find(key).is_some());
            world.borrow_mut().expect(left.is_none(), || format!("{left:?} never goes"));
            break;
        }
    }
    reactor.desk.common.stop(stop_timeout);
    world.borrow_mut().stop(stop_timeout);
    ControlFlow::Continue(())
}

fn finishing_keys(reactor: &mut Subject) -> Vec<Key> {
    let keys: Vec<Key> = (0..reactor.table.slots()).filter_map(|slot| reactor.table.key_at(slot)).collect();
    let finishes = |key: &Key| reactor.table.find(*key).is_some_and(|resident| resident.connection.is_finishing());
    keys.into_iter().filter(finishes).collect()
}

/// Nobody may rest over something that no event will tell of, and no byte may be on neither side.
fn look_about(reactor: &mut Subject, world: &SharedWorld) {
    let world = &mut *world.borrow_mut();
    let resting = reactor.ready.is_empty();
    for n in 0..world.wires.len() {
        let wire = &world.wires[n];
        let Some(key) = wire.key.filter(|_| !wire.closed) else { continue };
        let Some(Resident { connection, session, .. }) = reactor.table.find(key) else {
            return world.fail(format!("{n} is open, and nobody's"));
        };
        let (readable, writable) = wire.untold();
        let (left, queued) = connection.spilled();
        let account = &wire.account;
        let live = session.is_some() && !connection.is_finishing() && !wire.failed;
        let faults = [
            (resting && connection.is_stuck(readable, writable), "sleeps"),
            (resting && wire.failed && (connection.reads() || connection.is_finishing()), "lives on after an error"),
            (
                resting && live && left > 0 && account.resumed && connection.reads(),
                "resumed, and was not shown what it left",
            ),
            (live && wire.read != account.shown, "was not shown what was read"),
            (live && account.shown - account.consumed != left as u64, "keeps something else than was left"),
            (live && !account.broken && account.sent != wire.taken + queued as u64, "lost output"),
        ];
        if let Some((_, what)) = faults.into_iter().find(|&(is, _)| is) {
            return world
                .fail(format!("{n} {what}: readable {readable}, writable {writable}, {left} left, {queued} queued"));
        }
    }
}

/// Nothing is left of anything.
fn check_end(reactor: &Subject, world: &SharedWorld) {
    let world = &mut *world.borrow_mut();
    let stats = reactor.desk.counters.snapshot();
    let open = world.wires.iter().position(|wire| wire.key.is_some() && !wire.closed);
    let uneven = world.wires.iter().position(|wire| wire.account.sessions != wire.account.ends);
    let (read, taken) = world.wires.iter().fold((0, 0), |(read, taken), wire| (read + wire.read, taken + wire.taken));
    let seats = reactor.desk.common.seats.taken();
    let (accepted, panics) = (world.accepted, world.panics);
    let told = world.wires.iter().filter(|wire| wire.account.ends > 0).count() as u64;
    world.expect(open.is_none(), || format!("{open:?} is open at the end"));
    world.expect(uneven.is_none(), || format!("{uneven:?} began and was not told of its end"));
    world.expect(reactor.table.len() == 0, || format!("{} in the table at the end", reactor.table.len()));
    world.expect(reactor.wheel.is_empty(), || "a timer is left".into());
    world.expect(seats == (0, 0), || format!("{seats:?} seats are taken"));
    world.expect(stats.accepted == accepted, || format!("{} counted of {accepted} accepted", stats.accepted));
    world.expect(stats.closed_total() == accepted, || format!("{} of {accepted} closed", stats.closed_total()));
    world.expect(told <= stats.closed_total(), || format!("{told} told, {} closed", stats.closed_total()));
    world.expect(stats.bytes_in == read, || format!("{} counted of {read} read", stats.bytes_in));
    world.expect(stats.bytes_out == taken, || format!("{} counted of {taken} taken", stats.bytes_out));
    world.expect(stats.panics == panics, || format!("{} panics counted of {panics}", stats.panics));
}
