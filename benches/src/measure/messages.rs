//! Messages between two shards, there and back: how many in a second, and what each costs; beside bare channels.
//!
//! In this process, because no client takes part: what the threads use and write to wake each other is the process's own.

use std::fs;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use esockets::sys::{self, WakeFd};
use esockets::{Client, Cores, Handler, Peer, Remote, Server, Shard};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::bench::Bench;
use crate::failure::{Result, Tried};
use crate::table::{middle, thousands};

/// Balls in the air. With one, whoever gets it was asleep; with many, hardly anybody ever is.
const BALLS: [(usize, &str); 2] =
    [(1, "one at a time, so that the receiver sleeps"), (256, "256 under way, so that it is busy")];
/// What all of them fly, together.
const FLIGHTS: u64 = 400_000;
const FLIGHTS_QUICK: u64 = 20_000;
/// One that waits for its wake-up takes ten times as long.
const FLIGHTS_ALONE: u64 = 10;
/// More than there are balls: nothing is given back.
const ROOM: usize = 1024;
/// For two threads on one machine, whatever else it does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who throws.
#[derive(Debug, Clone, Copy)]
enum Players {
    /// Two shards, from `handle_message` through `Remote`.
    Shards,
    /// Two threads in `recv` of a channel of the standard library: they can wait for nothing else.
    Channel,
    /// Two threads in epoll_wait, with a channel each and an eventfd that is written to for each message.
    ChannelAndEventfd,
}

const PLAYERS: [(Players, &str); 3] = [
    (Players::Shards, "esockets"),
    (Players::Channel, "two threads in recv of a std channel"),
    (Players::ChannelAndEventfd, "two threads in epoll_wait with a std channel and an eventfd each"),
];

/// What one message came to.
#[derive(Debug, Clone, Copy)]
struct Cost {
    seconds: f64,
    cpu_ns: f64,
    wake_ups: f64,
}

/// Nobody else takes part, so it stands below the table.
pub(super) fn run(bench: &mut Bench) {
    let [server, .., other] = bench.cores[..] else {
        return bench.notes.push("messages: left out, there is one core".to_owned());
    };
    for (balls, manner) in BALLS {
        let mut costs = vec![Vec::new(); PLAYERS.len()];
        for round in 0..bench.options.rounds {
            eprintln!("        messages, {balls} under way, round {} of {}", round + 1, bench.options.rounds);
            let flights = if bench.options.quick { FLIGHTS_QUICK } else { FLIGHTS };
            let flights = if balls == 1 { flights / FLIGHTS_ALONE } else { flights };
            for (costs, (players, name)) in costs.iter_mut().zip(PLAYERS) {
                match measure(players, [server, other], balls, flights) {
                    Ok(cost) => costs.push(cost),
                    Err(error) => return bench.notes.push(format!("messages of {name}: {error}")),
                }
            }
        }
        let each = costs.iter_mut().zip(PLAYERS).map(|(costs, (_, name))| format!("{name} {}", told(costs)));
        bench.notes.push(format!(
            "Messages between two threads on two cores, {manner} (a second, processor time of both and wake-ups for each; medians of \
             {} rounds): {}",
            bench.options.rounds,
            each.collect::<Vec<_>>().join("; ")
        ));
    }
}

fn told(costs: &[Cost]) -> String {
    let median = |part: fn(&Cost) -> f64| middle(costs.iter().map(part));
    let rate = thousands((1.0 / median(|cost| cost.seconds)).round());
    format!("{rate}, {:.2} µs, {:.3}", median(|cost| cost.cpu_ns) / 1000.0, median(|cost| cost.wake_ups))
}

fn measure(players: Players, cores: [usize; 2], balls: usize, flights: u64) -> Result<Cost> {
    match players {
        Players::Shards => shards(cores, balls, flights),
        Players::Channel => threads(cores, balls, flights, false),
        Players::ChannelAndEventfd => threads(cores, balls, flights, true),
    }
}

/// From the first throw to the end of all, after a tenth of them to warm up.
fn account(balls: usize, flights: u64, mut play: impl FnMut(Ball) -> Result<()>, ended: &Receiver<()>) -> Result<Cost> {
    let mut all = |flights: u64| -> Result<()> {
        (0..balls).try_for_each(|_| play(Ball { left: flights / balls as u64 }))?;
        (0..balls).try_for_each(|_| ended.recv_timeout(PATIENCE).tried(|| "waiting for the last message".to_owned()))
    };
    all(flights / 10)?;
    let (begun, cpu, writes) = (Instant::now(), sys::process_cpu_time(), writes()?);
    all(flights)?;
    let each = |sum: f64| sum / flights as f64;
    Ok(Cost {
        seconds: each(begun.elapsed().as_secs_f64()),
        cpu_ns: each((sys::process_cpu_time() - cpu).as_nanos() as f64),
        wake_ups: each((self::writes()? - writes) as f64),
    })
}

/// Calls of write(2): the eventfds' wake-ups, for nothing else is written meanwhile. A channel's own wake-ups are futexes.
fn writes() -> Result<u64> {
    let path = "/proc/self/io";
    let text = fs::read_to_string(path).tried(|| format!("reading {path}"))?;
    let count = text.lines().find_map(|line| line.strip_prefix("syscw: ")?.trim().parse().ok());
    count.ok_or_else(|| format!("{path} has no line `syscw:`"))
}

/// Flies so many more times.
struct Ball {
    left: u64,
}

struct Player {
    remote: Arc<OnceLock<Remote<Ball>>>,
    ended: SyncSender<()>,
}

impl Handler for Player {
    type Session = ();
    type Message = Ball;

    fn handle_incoming(&mut self, _client: &mut Client<'_>, _address: &Peer) -> Option<()> {
        None
    }

    fn handle_readable(&mut self, _client: &mut Client<'_>, (): &mut ()) -> bool {
        false
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, ()>, ball: Ball) {
        match (ball.left, self.remote.get()) {
            (1.., Some(remote)) => drop(remote.send(1 - shard.index(), Ball { left: ball.left - 1 })),
            _ => drop(self.ended.try_send(())),
        }
    }
}

fn shards(cores: [usize; 2], balls: usize, flights: u64) -> Result<Cost> {
    let (ended, all_ended) = sync_channel(ROOM);
    let remote = Arc::new(OnceLock::new());
    let known = Arc::clone(&remote);
    let builder = Server::builder().port(0).shards(2).cores(Cores::None).mailbox_max(ROOM);
    // This thread is pinned to a core from before, and its threads with it: each shard goes where it belongs by itself.
    let server = builder.start(move |shard| {
        core_affinity::set_for_current(core_affinity::CoreId { id: cores[shard.index()] });
        Player { remote: Arc::clone(&remote), ended: ended.clone() }
    });
    let server = server.tried(|| "starting esockets on two shards".to_owned())?;
    let remote = known.get_or_init(|| server.remote());
    account(balls, flights, |ball| remote.send(0, ball).map_err(|_| "a mailbox was full".to_owned()), &all_ended)
}

/// One end of a channel, and how the thread there is woken.
#[derive(Clone)]
struct Way {
    sender: SyncSender<Ball>,
    waker: Option<Arc<WakeFd>>,
}

impl Way {
    fn throw(&self, ball: Ball) -> bool {
        let sent = self.sender.send(ball).is_ok();
        if let Some(waker) = self.waker.as_ref().filter(|_| sent) {
            waker.wake();
        }
        sent
    }
}

fn threads(cores: [usize; 2], balls: usize, flights: u64, in_epoll: bool) -> Result<Cost> {
    let (ended, all_ended) = sync_channel(ROOM);
    let waker = || in_epoll.then(|| WakeFd::new().map(Arc::new)).transpose();
    let make = || -> Result<(Way, Receiver<Ball>)> {
        let (sender, receiver) = sync_channel(ROOM);
        Ok((Way { sender, waker: waker().tried(|| "making an eventfd".to_owned())? }, receiver))
    };
    let (first, second) = (make()?, make()?);
    let ways = [first.0.clone(), second.0.clone()];
    let pairs = [(first.0.clone(), first.1, second.0.clone()), (second.0, second.1, first.0)];
    for ((own, receiver, other), core) in pairs.into_iter().zip(cores) {
        let ended = ended.clone();
        thread::spawn(move || {
            core_affinity::set_for_current(core_affinity::CoreId { id: core });
            let pass = |ball: Ball| match ball.left {
                0 => ended.try_send(()).is_ok(),
                left => other.throw(Ball { left: left - 1 }),
            };
            match own.waker {
                Some(waker) => wait_in_epoll(&waker, &receiver, pass),
                None => receiver.iter().all(pass),
            }
        });
    }
    let throw = |ball| if ways[0].throw(ball) { Ok(()) } else { Err("a thread has ended".to_owned()) };
    let cost = account(balls, flights, throw, &all_ended);
    // Each thread has a way to itself: it ends with a ball of which nobody wants to know.
    drop(all_ended);
    for way in &ways {
        way.throw(Ball { left: 0 });
    }
    cost
}

/// Until somebody says no.
fn wait_in_epoll(waker: &WakeFd, receiver: &Receiver<Ball>, mut pass: impl FnMut(Ball) -> bool) -> bool {
    use std::os::fd::AsRawFd;
    let (Ok(mut poll), mut events) = (Poll::new(), Events::with_capacity(8)) else { return false };
    let fd = waker.as_raw_fd();
    if poll.registry().register(&mut SourceFd(&fd), Token(0), Interest::READABLE).is_err() {
        return false;
    }
    loop {
        if poll.poll(&mut events, None).is_err() {
            return false;
        }
        waker.drain();
        if !receiver.try_iter().all(&mut pass) {
            return false;
        }
    }
}
