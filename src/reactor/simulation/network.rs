//! The network of a simulated kernel and the peers in it, which misbehave in the same way for the same seed.

mod attempts;
mod budgets;
mod clock;
pub(crate) mod kernel;
mod limits;
mod parting;
mod pauses;
mod pressure;
mod requests;
mod stalls;
mod standstill;
mod ticks;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::client::{Client, ClientId};
use crate::config::Config;
use crate::kernel::{Edge, Event};
use crate::peer::Peer;
use crate::reason::CloseReason;
use crate::slab::Key;

/// Numbers that look random and are the same every time (splitmix64, Steele, Lea and Flood 2014).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        // Mixed once: else a seed's rolls would be those of the one before, but for the first.
        Dice(Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)).roll())
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound.max(1)
    }

    /// Between one and `most`.
    pub(crate) fn up_to(&mut self, most: u64) -> u64 {
        1 + self.below(most)
    }

    /// True once in so many times; never, if that is zero.
    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.below(one_in) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// The byte at a place of a stream: no two streams look alike, nor does one that has slipped.
pub(crate) fn keyed(connection: usize, to_peer: bool, position: u64) -> u8 {
    let place = position | (connection as u64) << 40 | u64::from(to_peer) << 62;
    (place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// How bad a run is. A number `n` means once in `n` times, zero means never.
pub(crate) struct Temper {
    pub(crate) connections: usize,
    /// The most that a peer sends.
    pub(crate) bytes: u64,
    /// Errors of any call; separately those that end a connection.
    pub(crate) errors: u64,
    pub(crate) fatal: u64,
    pub(crate) spurious: u64,
    pub(crate) jumps: u64,
    /// The process is stopped.
    pub(crate) stops: u64,
    pub(crate) wait_errors: u64,
    /// Peers that reset, that do not read, that never finish.
    pub(crate) resets: u64,
    pub(crate) deaf: u64,
    pub(crate) batch: usize,
    /// How many connections there are descriptors for.
    pub(crate) descriptors: usize,
    /// How many connections the listener's queue holds.
    pub(crate) queue: usize,
}

/// What the handler knows of a connection, for comparison with what the kernel knows.
#[derive(Default)]
pub(crate) struct Account {
    pub(crate) id: Option<ClientId>,
    /// How often the handler gave a session, and how often it was told that one is over.
    pub(crate) sessions: u32,
    pub(crate) ends: u32,
    pub(crate) reason: Option<CloseReason>,
    /// Bytes of the input that it has been shown, and that it has taken.
    pub(crate) shown: u64,
    pub(crate) consumed: u64,
    /// Bytes that were taken from it for sending.
    pub(crate) sent: u64,
    /// It is owed a call because its output waits above the low mark; or may be, for nobody knows what the socket takes.
    pressed: bool,
    presses: bool,
    pub(crate) paused: bool,
    pub(crate) resumed: bool,
    pub(crate) eof: bool,
    /// The handler was told that there is no room for it.
    refused: bool,
    /// When it was let in by those who look how many come.
    admitted_at: Option<Duration>,
    /// It asked for the end in one way or another; no function must be called again but the last.
    pub(crate) over: bool,
    /// When the turn began in which it did.
    over_at: Duration,
    pub(crate) aborted: bool,
    pub(crate) panicked: bool,
    pub(crate) expired: bool,
    /// Its own timer is that for its first message; and was when it was told of a timeout.
    first: bool,
    pub(crate) was_first: bool,
    /// A message was not taken.
    pub(crate) broken: bool,
    /// Its own timer, and its idle time.
    pub(crate) timer: Option<clock::Due>,
    pub(crate) idle: Option<clock::Due>,
    pub(crate) disconnected: bool,
    /// It has asked for the whole shard in this turn, which was its last act in it, or was visited.
    pub(crate) deferred: bool,
    /// How long it may take to connect, while that is not known.
    attempt: Option<clock::Due>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Stay,
    Finish,
    Reset,
    FinishAndReset,
}

/// A connection as the network knows it. Streams are functions of the position, so counting bytes is enough.
pub(crate) struct Wire {
    to_send: u64,
    piece: u64,
    ending: Ending,
    /// Whether it finishes when we have.
    polite: bool,
    /// How much the peer reads before it stops for ever.
    appetite: u64,
    flight: u64,
    pub(crate) arrived: u64,
    /// What `receive` has handed out.
    pub(crate) read: u64,
    /// Up to where an event has told of the input.
    told: u64,
    window: u64,
    finished: bool,
    pub(crate) eof_read: bool,
    pub(crate) reset: bool,
    /// The error of the reset, told once.
    error: bool,
    capacity: u64,
    /// What `send` has taken, and what the peer has read of it.
    pub(crate) taken: u64,
    drained: u64,
    /// A call has found no room, so an edge is owed when there is.
    full: bool,
    connected: bool,
    accepted: bool,
    pub(crate) closed: bool,
    pub(crate) key: Option<Key>,
    writing: bool,
    pub(crate) edge: bool,
    /// An edge is owed because a call pretended that there was nothing.
    renew: bool,
    shut: bool,
    shut_at: Duration,
    /// When the peer last read, and when the turn began in which the kernel last took something for it.
    drained_at: Duration,
    sent_at: Duration,
    /// What was on its way when the loop last asked, and since when.
    seen: (u64, Duration),
    asked_at: Duration,
    /// What had arrived when the server was told to stop; and a call has pretended since that there was nothing.
    due_at_stop: Option<u64>,
    pretended: bool,
    /// It was told of an error after which it cannot go on.
    pub(crate) failed: bool,
    /// Waits in a row before which a timeout was overdue.
    late_waits: u32,
    /// Its first message was overdue, but what had come of it was read first: until then it is not late.
    overdue: Option<budgets::Overdue>,
    /// Since when something waits for its peer, and waits in a row that should not have been.
    waits_since: Option<Duration>,
    stalled_waits: u32,
    share: budgets::Share,
    /// Only of one who is called.
    pub(crate) attempt: Option<attempts::Attempt>,
    pub(crate) account: Account,
}

impl Wire {
    fn new(dice: &mut Dice, temper: &Temper) -> Wire {
        let ending = if dice.chance(temper.resets) {
            dice.pick(&[Ending::Reset, Ending::FinishAndReset])
        } else {
            dice.pick(&[Ending::Stay, Ending::Finish, Ending::Finish])
        };
        let appetite = if dice.chance(temper.deaf) { dice.below(500) } else { u64::MAX };
        Wire {
            to_send: dice.below(temper.bytes + 1),
            piece: dice.pick(&[1, 10, 100, 10_000]),
            ending,
            polite: !dice.chance(5),
            appetite,
            flight: 0,
            arrived: 0,
            read: 0,
            told: 0,
            window: dice.pick(&[1, 50, 2_000, 1 << 20]),
            finished: false,
            eof_read: false,
            reset: false,
            error: false,
            capacity: dice.pick(&[1, 20, 300, 5_000, 1 << 20]),
            taken: 0,
            drained: 0,
            full: false,
            connected: false,
            accepted: false,
            closed: false,
            key: None,
            writing: false,
            edge: false,
            renew: false,
            shut: false,
            shut_at: Duration::ZERO,
            drained_at: Duration::ZERO,
            sent_at: Duration::ZERO,
            seen: (0, Duration::ZERO),
            asked_at: Duration::ZERO,
            due_at_stop: None,
            pretended: false,
            failed: false,
            late_waits: 0,
            overdue: None,
            waits_since: None,
            stalled_waits: 0,
            share: budgets::Share::default(),
            attempt: None,
            account: Account::default(),
        }
    }

    /// How much of `most` it is worth sending at a time: whoever takes a byte at a time is sent few.
    pub(crate) fn worth(&self, most: u64) -> u64 {
        if self.account.sent > 100 * self.capacity { 0 } else { most.min(10 * self.capacity) }
    }

    fn room(&self) -> u64 {
        self.capacity - (self.taken - self.drained)
    }

    /// tcp(7) reports a socket writable only when a good part of its buffer is free.
    fn has_room(&self) -> bool {
        self.room() * 3 >= self.capacity
    }

    fn has_input(&self) -> bool {
        self.read < self.arrived || self.finished || self.reset
    }

    /// Whether a call would find something that no event is going to tell of: for reading, for writing.
    pub(crate) fn untold(&self) -> (bool, bool) {
        if self.edge || self.renew || self.is_pending() {
            return (false, false);
        }
        if self.is_vain() {
            return (true, true);
        }
        let input = self.read < self.arrived || self.finished && !self.eof_read || self.reset;
        (input, self.reset || self.has_room() && !self.full)
    }

    /// What the peer or the network can do next.
    fn options(&self, options: &mut Vec<Act>) {
        options.clear();
        if !self.connected || self.closed {
            return;
        }
        let mut option = |holds: bool, act| holds.then(|| options.push(act));
        let sees_end = self.shut && self.drained == self.taken && self.polite;
        let sent_all = (self.to_send == 0 || sees_end) && self.flight == 0;
        if !self.reset {
            option(self.to_send > 0 && !sees_end && !self.finished, Act::Send);
            option(self.flight > 0 && self.arrived - self.read < self.window, Act::Arrive);
            let finishes = sees_end || matches!(self.ending, Ending::Finish | Ending::FinishAndReset);
            option(sent_all && finishes && !self.finished, Act::Finish);
            option(self.taken > self.drained && self.drained < self.appetite, Act::Drain);
            option(self.ending == Ending::Reset && self.to_send == 0, Act::Reset);
            option(self.ending == Ending::FinishAndReset && self.finished, Act::Reset);
        }
        option(self.accepted && self.full && (self.reset || self.has_room()), Act::Room);
        option(self.renew, Act::Renew);
    }
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Send,
    Arrive,
    Finish,
    Drain,
    Reset,
    Room,
    Renew,
}

/// The network, its peers and the accounts of the handler; shared by the kernel, the handler and the test.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) temper: Temper,
    /// What the server was told.
    config: Config,
    pub(crate) now: Duration,
    /// When the last wait was over.
    turn_at: Duration,
    /// When this turn began and the last one.
    turns: [Duration; 2],
    /// Of this turn, if it began with one.
    standstill: Option<standstill::Standstill>,
    /// When a visit last held up the handler. What is sent after that is no older.
    blocked_until: Duration,
    pub(crate) wires: Vec<Wire>,
    /// Who holds each descriptor.
    slots: Vec<Option<usize>>,
    free: Vec<usize>,
    backlog: VecDeque<usize>,
    listening: bool,
    incoming: bool,
    edges: Vec<usize>,
    graves: Vec<Key>,
    pub(crate) accepted: u64,
    /// How many were called.
    pub(crate) called: u64,
    /// How many of them in this turn.
    welcomed: usize,
    pub(crate) panics: u64,
    pub(crate) stopping: bool,
    stop: Option<requests::Deadline>,
    /// The loop was woken when it was awake: its next wait is none.
    woken: bool,
    /// Somebody asked for the stop, and not a drain whose time is over.
    stop_asked: bool,
    pub(crate) wait_failed: bool,
    pub(crate) everyone_disconnected: bool,
    /// What must be taken from the queue before the listener is closed.
    awaited: Vec<usize>,
    /// The last attempt to accept found that descriptors have run out.
    accept_paused: bool,
    /// Somebody has left since.
    relieved: bool,
    /// Descriptors have run out for so long.
    exhausted_until: Duration,
    drain: Option<requests::Deadline>,
    /// How often a wait has found that nothing will ever happen by itself.
    pub(crate) quiet_waits: u32,
    ticks: ticks::Ticks,
    calls: u64,
    progress: u64,
    idle_polls: (u64, u32),
    pub(crate) fault: Option<String>,
    pub(crate) tracing: bool,
}

pub(crate) type SharedWorld = Rc<RefCell<World>>;

/// More calls than any run needs that gets anywhere.
const CALLS_MAX: u64 = 1_000_000;
/// Polls in a row that bring nothing and follow no progress. A spinning selector makes a few dozen.
const IDLE_POLLS_MAX: u32 = 200;
/// A pause of the acceptor is never longer.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_millis(100);

impl World {
    pub(crate) fn new(mut dice: Dice, temper: Temper, config: Config, tracing: bool) -> SharedWorld {
        let wires = (0..temper.connections).map(|_| Wire::new(&mut dice, &temper)).collect();
        let now = Duration::from_micros(dice.below(1 << 40));
        Rc::new(RefCell::new(World {
            dice,
            temper,
            config,
            now,
            turn_at: now,
            turns: [now; 2],
            standstill: None,
            blocked_until: now,
            wires,
            slots: Vec::new(),
            free: Vec::new(),
            backlog: VecDeque::new(),
            listening: true,
            incoming: false,
            edges: Vec::new(),
            graves: Vec::new(),
            accepted: 0,
            called: 0,
            welcomed: 0,
            panics: 0,
            stopping: false,
            stop: None,
            woken: false,
            stop_asked: false,
            wait_failed: false,
            everyone_disconnected: false,
            awaited: Vec::new(),
            accept_paused: false,
            relieved: false,
            exhausted_until: Duration::ZERO,
            drain: None,
            quiet_waits: 0,
            ticks: ticks::Ticks::new(now),
            calls: 0,
            progress: 0,
            idle_polls: (0, 0),
            fault: None,
            tracing,
        }))
    }

    /// Puts down what is wrong; the first fault counts. It must not panic: handlers' panics are caught.
    pub(crate) fn fail(&mut self, what: String) {
        self.tell(|| format!("FAULT {what}"));
        self.fault.get_or_insert(what);
    }

    pub(crate) fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what());
        }
    }

    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.tracing {
            eprintln!("{:>12?} {}", self.now, what());
        }
    }

    /// The one whom the network lets have the next stroke does it; false if nobody has anything to do.
    fn step(&mut self) -> bool {
        let count = self.wires.len();
        let first = self.dice.below(count as u64) as usize;
        let mut options = Vec::new();
        for n in (0..count).map(|i| (first + i) % count) {
            if self.wires[n].attempt.is_some() && !self.wires[n].connected {
                if self.answer(n) {
                    return true;
                }
                continue;
            }
            if !self.wires[n].connected {
                if self.listening && self.backlog.len() < self.temper.queue {
                    self.tell(|| format!("{n} connects"));
                    self.wires[n].connected = true;
                    self.backlog.push_back(n);
                    self.incoming = true;
                    return true;
                }
                continue;
            }
            self.wires[n].options(&mut options);
            if !options.is_empty() {
                let act = self.dice.pick(&options);
                self.act(n, act);
                return true;
            }
        }
        false
    }

    fn act(&mut self, n: usize, act: Act) {
        let World { wires, dice, now, .. } = self;
        let wire = &mut wires[n];
        let told = match act {
            Act::Send => {
                let count = dice.up_to(wire.piece).min(wire.to_send);
                wire.to_send -= count;
                wire.flight += count;
                false
            }
            Act::Arrive => {
                let count = dice.up_to(wire.flight).min(wire.window - (wire.arrived - wire.read));
                wire.flight -= count;
                wire.arrived += count;
                true
            }
            Act::Finish => {
                (wire.to_send, wire.finished) = (0, true);
                true
            }
            Act::Reset => {
                if dice.chance(2) {
                    wire.arrived += wire.flight;
                }
                (wire.flight, wire.reset, wire.error) = (0, true, true);
                true
            }
            Act::Drain => {
                let most = (wire.taken - wire.drained).min(wire.appetite - wire.drained);
                wire.drained += dice.up_to(most);
                wire.drained_at = *now;
                false
            }
            Act::Room => {
                wire.full = false;
                wire.writing
            }
            Act::Renew => {
                wire.renew = false;
                true
            }
        };
        self.tell(|| format!("{n} {act:?}, {} arrived, {} drained", self.wires[n].arrived, self.wires[n].drained));
        if told {
            self.raise(n);
        }
    }

    /// Lets the next wait tell of a stream whatever holds by then.
    fn raise(&mut self, n: usize) {
        let wire = &mut self.wires[n];
        if wire.key.is_some() && !wire.closed && !wire.edge {
            wire.edge = true;
            self.edges.push(n);
        }
    }

    /// The event of an edge, as epoll makes it: from what holds now, not from what changed.
    fn event(&mut self, n: usize) -> Option<Event> {
        let wire = &mut self.wires[n];
        wire.edge = false;
        if wire.closed || wire.is_pending() {
            return None;
        }
        if wire.is_vain() {
            return Some(Event::Stream(wire.key?, Edge::new(true, true, true)));
        }
        let writable = wire.writing && (wire.reset || wire.has_room());
        wire.full |= wire.writing && !writable;
        let (readable, ended) = (wire.has_input(), wire.finished || wire.reset);
        wire.told = wire.arrived;
        let key = wire.key?;
        (readable || writable || ended).then_some(Event::Stream(key, Edge::new(readable, writable, ended)))
    }

    /// What every call begins with: time passes, and the network does not wait.
    fn enter(&mut self) {
        self.calls += 1;
        // A loop that never comes back to waiting would not see the fault.
        assert!(self.calls < CALLS_MAX, "it runs away: {:?}", self.fault);
        self.now += Duration::from_nanos(self.dice.below(4_000));
        while self.dice.chance(3) && self.step() {}
    }

    /// False if the handler is called without end; the panic of a call would be caught.
    pub(crate) fn is_getting_somewhere(&mut self) -> bool {
        self.calls += 1;
        let holds = self.calls < CALLS_MAX;
        self.expect(holds, || "it calls without end".into());
        holds
    }

    fn fails(&mut self, errnos: &[i32]) -> Option<i32> {
        let one_in = self.temper.errors;
        self.dice.chance(one_in).then(|| self.dice.pick(errnos))
    }

    fn fails_for_good(&mut self, errnos: &[i32]) -> Option<i32> {
        let one_in = self.temper.fatal;
        self.dice.chance(one_in).then(|| self.dice.pick(errnos))
    }
}
