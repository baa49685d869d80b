//! The production loop on the simulated kernel, with a handler that does all that a handler may do, and should not.
//!
//! `ESOCKETS_SEEDS=20000` runs so many seeds; `ESOCKETS_SEED=123` runs one alone and tells what happens.

mod hostile;
mod meddler;
mod network;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;

use super::*;
use crate::config::Overflow;
use crate::mailbox::mailbox;
use hostile::{Hostile, Manners};
use meddler::Meddler;
use network::kernel::Simulated;
use network::{Dice, SharedWorld, Temper, World};

/// Runs in debug within a few seconds.
const SEEDS: u64 = 2_000;

#[test]
fn the_loop_survives_a_hostile_kernel_and_a_hostile_handler() {
    let wanted = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = wanted("ESOCKETS_SEED") {
        return simulate(seed, true);
    }
    let all = 0..wanted("ESOCKETS_SEEDS").unwrap_or(SEEDS);
    let failing: Vec<(u64, String)> = all.filter_map(|seed| Some((seed, fault(seed)?))).collect();
    assert!(failing.is_empty(), "ESOCKETS_SEED=.. replays one of these alone: {failing:#?}");
}

/// What does not find a bug that is there proves nothing by finding none.
#[test]
fn each_planted_bug_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let found = |bug: Bug| bug.planted(|| (0..SEEDS).find_map(|seed| Some((seed, fault(seed)?))));
    let found = Bug::ALL.map(|bug| (bug, found(bug)));
    let _ = std::panic::take_hook();
    for (bug, found) in &found {
        println!("{bug:?}: found by {found:?}");
    }
    let missed: Vec<Bug> = found.iter().filter(|(_, found)| found.is_none()).map(|&(bug, _)| bug).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

/// What a seed finds.
fn fault(seed: u64) -> Option<String> {
    let panic = catch_unwind(|| simulate(seed, false)).err()?;
    let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
    said.or_else(|| panic.downcast_ref::<String>().cloned())
}

/// One run, from a seed.
fn simulate(seed: u64, tracing: bool) {
    let mut dice = Dice::new(seed);
    let config = config(&mut dice);
    let temper = temper(&mut dice, &config);
    let manners = Manners {
        capricious: dice.pick(&[0, 2, 5, 30]),
        deadly: dice.pick(&[0, 0, 10, 100]),
        picky: dice.pick(&[0, 0, 3]),
        reckless: dice.pick(&[0, 0, 50]),
        talks: dice.pick(&[10, 200, 10_000]),
        input_max: config.limits.input_max as u64,
        idle: config.limits.idle_timeout.is_some(),
        blocks: dice.pick(&[0, 0, 10]),
        calls: dice.pick(&[0, 0, 3, 20]),
        overflow: config.limits.overflow,
        first: config.limits.first_message_timeout,
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
        drains: (!driven && dice.chance(2)).then(|| dice.pick(&[30, 300])),
        stops: (!driven).then(|| dice.pick(&[30, 1_000, u64::MAX])),
        world: World::new(dice, temper, config.clone(), tracing),
    };
    let world = Rc::clone(&meddler.world);
    let handler = Hostile { world: Rc::clone(&world), dice: handler_dice, manners, caller: None, farewell: Vec::new() };
    let meddler = Rc::new(RefCell::new(meddler));
    let hook = Rc::clone(&meddler);
    let kernel = Simulated {
        world: Rc::clone(&world),
        meddle: Box::new(move |quiet| meddler.borrow_mut().meddle(quiet)),
        interrupt: Box::new(move || hook.borrow_mut().ask(false)),
    };
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
        first_message_timeout: dice.chance(4).then(|| Duration::from_millis(dice.up_to(5_000))),
        write_timeout: dice.chance(3).then(|| Duration::from_millis(dice.up_to(20_000))),
        output_max_shard: dice.chance(3).then(|| dice.pick(&[2, 100, 3_000, 100_000])),
        overflow: dice.pick(&[Overflow::Close, Overflow::Close, Overflow::Refuse, Overflow::Pause]),
    };
    Config {
        limits,
        block_time: dice.chance(2).then(|| Duration::from_millis(dice.pick(&[5, 50, 2_000, 60_000]))),
        tick: dice.chance(4).then(|| Duration::from_millis(dice.pick(&[5, 70, 3_000]))),
        queue_size: dice.up_to(20) as u32,
        accept_budget: dice.pick(&[1, 3, 64]),
        connections_max: dice.chance(4).then(|| dice.up_to(6) as usize),
        connections_per_address: dice.chance(4).then(|| dice.up_to(6) as usize),
        accept_rate_per_address: dice.chance(4).then(|| dice.pick(&[1, 2, 5])),
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
        // Who spins waits several times in a turn, and only the loop knows which was the first.
        stops: if config.selector == Selector::Epoll { dice.pick(&[0, 0, 20]) } else { 0 },
        wait_errors: if dice.chance(50) { 100 } else { 0 },
        resets: dice.pick(&[0, 2, 6]),
        deaf: dice.pick(&[0, 2, 6]),
        batch: dice.pick(&[1, 4, 64]),
        descriptors: if dice.chance(3) { dice.up_to(6) as usize } else { usize::MAX },
        queue: config.queue_size as usize,
    }
}

type Subject = Reactor<Simulated, Hostile>;

/// Runs turns until nothing happens any more, or for a while, and looks about after each; then asks for the stop.
fn drive(reactor: &mut Subject, world: &SharedWorld, stop_timeout: Duration) -> ControlFlow<()> {
    let turns = { world.borrow_mut().dice.pick(&[20, 300, 3_000]) };
    let (mut finishing, mut rounds) = (Vec::new(), 0);
    // Events may fill every turn until each connection had one, and after a pause that begins anew.
    let rounds_max = 20 + 2 * world.borrow().wires.len();
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
        if quiet > 2 && rounds < rounds_max {
            // Longer than anyone may take to go.
            world.borrow_mut().now += Duration::from_secs(35);
            rounds += 1;
        } else if quiet > 2 {
            let left = finishing.iter().find(|&&key| reactor.table.find(key).is_some());
            world.borrow_mut().expect(left.is_none(), || format!("{left:?} never goes"));
            break;
        }
    }
    reactor.desk.common.stop(stop_timeout);
    world.borrow_mut().delay();
    world.borrow_mut().stop(stop_timeout);
    if reactor.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn finishing_keys(reactor: &mut Subject) -> Vec<Key> {
    let keys: Vec<Key> = (0..reactor.table.slots()).filter_map(|slot| reactor.table.key_at(slot)).collect();
    let finishes = |key: &Key| reactor.table.find(*key).is_some_and(|resident| resident.connection.is_finishing());
    keys.into_iter().filter(finishes).collect()
}

/// Nobody may rest over something that no event will tell of, and no byte may be on neither side.
fn look_about(reactor: &mut Subject, world: &SharedWorld) {
    let world = &mut *world.borrow_mut();
    let (resting, limits) = (reactor.ready.is_empty(), reactor.desk.limits);
    let walls = limits.overflow != Overflow::Pause;
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
            (live && wire.read != account.shown, "was not shown what was read"),
            (left > limits.input_max, "keeps more input than is allowed"),
            (queued > limits.output_max && walls, "keeps more output than is allowed"),
            (live && account.shown - account.consumed != left as u64, "keeps something else than was left"),
            (live && !account.broken && account.sent != wire.taken + queued as u64, "lost output"),
        ];
        if let Some((_, what)) = faults.into_iter().find(|&(is, _)| is) {
            return world
                .fail(format!("{n} {what}: readable {readable}, writable {writable}, {left} left, {queued} queued"));
        }
    }
    check_waiting(reactor, world);
}

/// What waits for all peers together is known, and no more than it may be.
fn check_waiting(reactor: &mut Subject, world: &mut World) {
    let keys: Vec<Key> = (0..reactor.table.slots()).filter_map(|slot| reactor.table.key_at(slot)).collect();
    let queued = |key: Key| reactor.table.find(key).map(|resident| resident.connection.spilled().1);
    let waits: usize = keys.into_iter().filter_map(queued).sum();
    let limits = &reactor.desk.limits;
    let told = reactor.desk.counters.snapshot().output_waiting;
    world.expect(told == waits as u64, || format!("{waits} bytes wait, and {told} are said to"));
    let most = limits.output_max_shard.filter(|_| limits.overflow != Overflow::Pause);
    world.expect(most.is_none_or(|most| waits <= most), || format!("{waits} bytes wait, where {most:?} may"));
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
    let called = world.called;
    world.expect(stats.connects == called, || format!("{} counted of {called} called", stats.connects));
    let all = accepted + called;
    world.expect(stats.closed_total() == all, || format!("{} of {all} closed", stats.closed_total()));
    world.expect(told <= stats.closed_total(), || format!("{told} told, {} closed", stats.closed_total()));
    world.expect(stats.bytes_in == read, || format!("{} counted of {read} read", stats.bytes_in));
    world.expect(stats.bytes_out == taken, || format!("{} counted of {taken} taken", stats.bytes_out));
    world.expect(stats.output_waiting == 0, || format!("{} bytes wait for nobody", stats.output_waiting));
    world.expect(stats.panics == panics, || format!("{} panics counted of {panics}", stats.panics));
}
