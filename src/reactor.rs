//! One shard's loop: wait, note, serve, accept, messages, timers, tick. `common` is what shards share, `refusing` whom
//! there is no room for, `visitor` how a handler reaches all of a shard, `ticker` its tick, `stopping` how a loop ends, `remains`
//! what is left of one that has died.

mod common;
mod refusing;
mod remains;
mod stopping;
mod ticker;
mod visitor;

pub(crate) use common::Common;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::acceptor::{Acceptor, Failure};
use crate::client::ClientId;
use crate::config::{Config, Limits, Selector};
use crate::connection::{Connection, Next, Turn, panicked};
use crate::handler::Handler;
use crate::kernel::{Edge, Event, Kernel};
use crate::mailbox::Mailbox;
use crate::peer::Peer;
#[cfg(test)]
use crate::planted::Bug;
use crate::reason::CloseReason;
use crate::slab::{Key, Slab, Tenant};
use crate::slate::Slate;
use crate::socket::Line;
use crate::spin::Spin;
use crate::stats::SharedCounters;
use crate::trace::{self, Told};
use crate::wheel::{TICK, Wheel, tick};
use ticker::Ticker;

/// What crosses from other threads to a shard.
pub(crate) enum Post<M> {
    Message(M),
    Disconnect(Key),
    DisconnectAll,
}

/// One thread's loop and all that belongs to it.
pub(crate) struct Reactor<K: Kernel, H: Handler> {
    handler: H,
    table: Slab<Resident<K::Stream, H::Session>>,
    /// What the last wait brought, in its order: each connection gets one budgeted turn for it.
    edges: Vec<(Key, Edge)>,
    /// Those that have something to do of which no event will tell: each gets one budgeted turn, after the edges.
    ready: Vec<Key>,
    /// Those who were ready when this turn began, or the last one.
    serving: Vec<Key>,
    wheel: Wheel,
    expired: Vec<u32>,
    acceptor: Acceptor,
    mailbox: Mailbox<Post<H::Message>>,
    spin: Option<Spin>,
    /// If its handler wants to be called every so often.
    ticker: Option<Ticker>,
    /// Whether its listener is open.
    listens: bool,
    /// When draining has to be over, and stopping.
    drain_at: Option<Duration>,
    stop_at: Option<Duration>,
    /// Turns in a row, since the last pause of the whole process, that brought as many events as fit.
    full_turns: usize,
    /// The tick of the last turn, if there were timers in it.
    timed_at: u64,
    /// Whether the last turn was, or came after, a pause of the whole process.
    paused: bool,
    desk: Desk<K>,
}

/// A connection and what the handler keeps for it; nothing, if it was refused.
struct Resident<S, Session> {
    connection: Connection<S>,
    session: Option<Session>,
    generation: u32,
}

impl<S, Session> Tenant for Resident<S, Session> {
    #[inline]
    fn generation(&self) -> u32 {
        self.generation
    }
}

/// How far a turn has come: how many of the edges have been served, and of those who were ready.
#[derive(Debug, Default)]
struct Served {
    edges: usize,
    ready: usize,
}

/// What serving a connection takes, apart from the connection and its handler.
struct Desk<K> {
    kernel: K,
    buffer: Box<[u8]>,
    slate: Slate,
    counters: SharedCounters,
    told: Told,
    common: Arc<Common>,
    limits: Limits,
    plain_read: usize,
    block_time: Option<Duration>,
    accept_budget: usize,
    queue_size: usize,
    stop_timeout: Duration,
    mailbox_max: usize,
    line: Line,
    /// It stops: nobody is called any more.
    stops: bool,
    shard: u32,
    /// The moment of this turn, read only if timers need it.
    tick: u64,
}

/// The shard's read buffer: as much as one turn of one connection reads by default.
const BUFFER: usize = 64 << 10;
/// What is allocated for it: enough for malloc(3) to map it, so that pages which nobody reads into are never there. Much of
/// what comes from its heap is zeroed by hand, and so resident: with 52 shards that was 1.7 MB before the first connection.
const BUFFER_MAPPED: usize = 256 << 10;
/// Not to wait at all.
const NO_TIME: Option<Duration> = Some(Duration::ZERO);
/// Messages from other threads handled in a turn.
const MESSAGE_BUDGET: usize = 256;
/// No tick of a turn with timers.
const UNTIMED: u64 = u64::MAX;
/// A turn that took so long, a second, was not busy but stopped: by a signal, a debugger, or a handler that blocked.
const PAUSE_TICKS: u64 = 100;

impl<K: Kernel, H: Handler> Reactor<K, H> {
    pub(crate) fn new(
        kernel: K,
        handler: H,
        mailbox: Mailbox<Post<H::Message>>,
        counters: SharedCounters,
        common: Arc<Common>,
        config: &Config,
        shard: usize,
    ) -> Reactor<K, H> {
        let desk = Desk {
            tick: tick(kernel.now()),
            kernel,
            buffer: vec![0; BUFFER_MAPPED].into_boxed_slice(),
            slate: Slate::new(shard as u32, &config.limits),
            counters,
            told: Told::default(),
            common,
            plain_read: config.limits.plain_read().min(BUFFER),
            limits: Limits { output_low: Some(config.limits.output_low()), ..config.limits },
            block_time: config.block_time,
            accept_budget: config.accept_budget,
            queue_size: config.queue_size as usize,
            stop_timeout: config.stop_timeout,
            mailbox_max: config.mailbox_max,
            line: config.line(),
            stops: false,
            shard: shard as u32,
        };
        Reactor {
            handler,
            table: Slab::new(),
            edges: Vec::new(),
            ready: Vec::new(),
            serving: Vec::new(),
            wheel: Wheel::new(),
            expired: Vec::new(),
            acceptor: Acceptor::new(),
            mailbox,
            spin: match config.selector {
                Selector::Spin(longest) => Some(Spin::new(longest)),
                Selector::Epoll => None,
            },
            ticker: config.tick.map(|period| Ticker::new(period, desk.kernel.now())),
            listens: true,
            drain_at: None,
            stop_at: None,
            full_turns: 0,
            timed_at: UNTIMED,
            paused: false,
            desk,
        }
    }

    /// Serves until the server is told to stop, and then until everyone has been let go. An error says that the kernel
    /// does not let it wait; every connection has been closed then, too.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let ended = self.run_to_the_end();
        // Who has ended is held up by nobody.
        self.desk.counters.rests();
        ended
    }

    fn run_to_the_end(&mut self) -> io::Result<()> {
        loop {
            let waited = self.turn();
            if let Err(error) = &waited {
                self.close_all(CloseReason::of_error(error));
                return waited;
            }
            if self.desk.common.ends() && self.is_over() {
                self.last_messages();
                return Ok(());
            }
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        let events = self.wait()?;
        self.desk.counters.turned();
        let begun_at = self.desk.tick;
        // Who leaves makes room for who comes.
        self.serve();
        if self.acceptor.is_waiting() {
            self.accept(self.desk.accept_budget, None);
        }
        self.excuse(begun_at);
        self.messages();
        self.timers(events);
        self.tick();
        self.desk.kernel.turned();
        Ok(())
    }
}

/// Waiting and noting.
impl<K: Kernel, H: Handler> Reactor<K, H> {
    /// Waits until there is something to do, and notes what it is: events only mark and enqueue.
    fn wait(&mut self) -> io::Result<usize> {
        let timeout = self.timeout();
        #[cfg(test)]
        if Bug::LostWakeUp.is_planted() {
            return self.poll(timeout);
        }
        if timeout == NO_TIME || !self.mailbox.may_sleep() {
            return self.poll(NO_TIME);
        }
        self.desk.counters.rests();
        // Asked after the mailbox was: whoever stops the server sets the flag first and wakes us afterwards.
        let events = match &self.spin {
            Some(spin) => self.spin(spin.budget(), timeout),
            None => self.poll(timeout),
        };
        self.mailbox.awake();
        self.desk.counters.works();
        events
    }

    fn spin(&mut self, budget: Duration, timeout: Option<Duration>) -> io::Result<usize> {
        let started_at = self.desk.kernel.now();
        loop {
            let events = self.poll(NO_TIME)?;
            let waited = self.desk.kernel.now().saturating_sub(started_at);
            let left = timeout.map(|timeout| timeout.saturating_sub(waited));
            if events > 0 || left == NO_TIME {
                return Ok(events);
            }
            if waited >= budget {
                let events = self.poll(left)?;
                let waited = self.desk.kernel.now().saturating_sub(started_at);
                if let Some(spin) = &mut self.spin {
                    spin.blocked(waited);
                }
                return Ok(events);
            }
        }
    }

    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let Reactor { edges, acceptor, desk, .. } = self;
        edges.clear();
        let events = desk.kernel.wait(timeout, |event| match event {
            Event::Incoming => acceptor.note(),
            Event::Stream(key, edge) => edges.push((key, edge)),
        })?;
        if !self.wheel.is_empty() || self.desk.limits.idle_timeout.is_some() {
            let now = self.desk.kernel.now();
            (self.desk.tick, self.desk.slate.turn_at) = (tick(now), Some(now));
        } else {
            // It stays what it was at some earlier turn, from which no pause can be told.
            self.timed_at = UNTIMED;
            self.desk.slate.turn_at = None;
        }
        Ok(events)
    }

    /// How long to wait at the most; mostly there is no end, which costs the kernel least.
    #[inline]
    fn timeout(&self) -> Option<Duration> {
        let kernel = &self.desk.kernel;
        if !self.ready.is_empty() || self.acceptor.is_due(|| kernel.now()) {
            return NO_TIME;
        }
        // Who stops waits for the end of that alone, even if it drained before.
        let moments = [self.acceptor.retry_at(), self.stop_at.or(self.drain_at)];
        if self.wheel.is_empty() && moments == [None; 2] && self.ticker.is_none() {
            return self.desk.block_time;
        }
        let timer = self.wheel.next_stop().map(moment);
        let tick = self.ticker.as_ref().map(Ticker::strikes_at);
        let next = moments.into_iter().chain([timer, tick]).flatten().min();
        let left = next.map(|at| at.saturating_sub(kernel.now()));
        left.into_iter().chain(self.desk.block_time).min()
    }

    fn enqueue(&mut self, key: Key) {
        if let Some(resident) = self.table.find(key)
            && resident.connection.enqueue()
        {
            self.ready.push(key);
        }
    }
}

/// Accepting.
impl<K: Kernel, H: Handler> Reactor<K, H> {
    /// Accepts up to `budget` connections, and none any more when it is `until`. False: the system had no room for another.
    fn accept(&mut self, budget: usize, until: Option<Duration>) -> bool {
        // Each is welcomed when the next has been accepted: who has others behind him has been waiting for a while.
        let (mut newest, mut room) = (None, true);
        #[cfg(test)]
        let budget = Bug::AcceptBudget.instead(budget, budget + 1);
        for _ in 0..budget {
            let kernel = &self.desk.kernel;
            if !self.acceptor.is_due(|| kernel.now()) || until.is_some_and(|until| kernel.now() >= until) {
                break;
            }
            match self.desk.kernel.accept() {
                Ok(next) => {
                    self.acceptor.succeeded();
                    if let Some((stream, address)) = newest.replace(next) {
                        self.welcome(stream, address, true);
                    }
                }
                Err(error) => match self.acceptor.failed(&error, || self.desk.kernel.now()) {
                    Failure::Skipped => {}
                    Failure::Drained => break,
                    Failure::Paused => {
                        self.desk.counters.accept_paused();
                        self.desk.told.paused(&error, || self.desk.kernel.now());
                        room = false;
                        break;
                    }
                },
            }
        }
        if let Some((stream, address)) = newest {
            self.welcome(stream, address, false);
        }
        room
    }

    fn welcome(&mut self, stream: K::Stream, address: Peer, waited: bool) {
        self.desk.counters.accepted();
        if let Err(why) = self.desk.common.admit(&address, || self.desk.kernel.now()) {
            return self.turn_away(stream, &address, why);
        }
        let key = self.table.next_key();
        let mut connection = Connection::new(stream, address, self.desk.tick as u32);
        connection.expect_message(&self.desk.limits);
        trace::opened(ClientId { shard: self.desk.shard, key }, &address);
        // Kept here, so that a session outlives whatever goes wrong after the handler has given it.
        let mut resident = Resident { connection, session: None, generation: key.generation };
        self.desk.counters.serves(key);
        let greeted = catch_unwind(AssertUnwindSafe(|| self.greet(&mut resident, key, waited)));
        let greeted = greeted.unwrap_or_else(|panic| {
            self.desk.slate.wipe();
            Err(panicked(&self.desk.counters, panic))
        });
        let connection = &mut resident.connection;
        let registered = greeted.and_then(|()| {
            connection.register(&mut self.desk.kernel, key).map_err(|error| CloseReason::of_error(&error))
        });
        let idle = self.desk.limits.idle_timeout.is_some();
        if idle {
            // If its handler has blocked, it is not the connection that was idle.
            let now = tick(self.desk.kernel.now());
            connection.excuse(self.desk.tick as u32, now as u32);
        }
        if self.stop_at.is_some() {
            connection.end_after_reading();
        }
        let (turn_due, timed) = (connection.needs_turn(), connection.has_new_timer() || idle);
        // Even if it has ended already: its handler has seen its id, which must not become the next one's.
        self.table.insert(key, resident);
        let calls = self.desk.slate.take_call();
        if let Err(reason) = registered {
            self.close(key, reason);
        }
        if timed {
            self.set_timer(key);
        }
        if turn_due {
            self.enqueue(key);
        }
        if calls {
            self.call(key);
        }
    }

    /// Asks the handler for a session. Where those who have `waited` have mostly spoken by then, it listens at once: a read
    /// before the registration saves an event. A panic of the handler passes through.
    #[inline(always)]
    fn greet(
        &mut self,
        resident: &mut Resident<K::Stream, H::Session>,
        key: Key,
        waited: bool,
    ) -> Result<(), CloseReason> {
        let Reactor { handler, acceptor, desk, .. } = self;
        let Resident { connection, session, .. } = resident;
        let mut turn = desk.turn();
        if !connection.greet(handler, session, &mut turn, key)? || !waited || !acceptor.expects_words() {
            return Ok(());
        }
        let bytes_in = turn.counters.bytes_in();
        let heard = connection.hear(handler, session, &mut turn, key);
        acceptor.heard(turn.counters.bytes_in() != bytes_in);
        heard
    }
}

/// Serving and closing.
impl<K: Kernel, H: Handler> Reactor<K, H> {
    /// Gives each of those whom the wait or an earlier turn has named one turn; who needs another goes to the back of the
    /// queue.
    ///
    /// One net catches the panics of many calls: setting it up for each would cost more than all else that is done for it.
    fn serve(&mut self) {
        self.serving.clear();
        std::mem::swap(&mut self.ready, &mut self.serving);
        #[cfg(test)]
        if Bug::Starves.is_planted() && self.serving.len() > 1 {
            self.ready.extend(self.serving.drain(1..));
        }
        let mut served = Served::default();
        loop {
            let (key, next, timed) = match catch_unwind(AssertUnwindSafe(|| self.serve_some(&mut served))) {
                Ok(Some(halted)) => halted,
                Ok(None) => return,
                Err(panic) => {
                    self.desk.slate.wipe();
                    (self.last(&served), Next::Close(panicked(&self.desk.counters, panic)), false)
                }
            };
            self.proceed(key, next, timed);
        }
    }

    /// Who was served last.
    fn last(&self, served: &Served) -> Key {
        match served.ready {
            0 => self.edges[served.edges - 1].0,
            ready => self.serving[ready - 1],
        }
    }

    /// After a turn that took its time: those who were served in it were not idle meanwhile.
    fn excuse(&mut self, begun_at: u64) {
        if self.wheel.is_empty() {
            return;
        }
        let now = tick(self.desk.kernel.now());
        if now > begun_at {
            for &key in self.edges.iter().map(|(key, _)| key).chain(&self.serving) {
                if let Some(resident) = self.table.find(key) {
                    resident.connection.excuse(begun_at as u32, now as u32);
                }
            }
        }
    }

    /// Serves those who are in line, from where it was left, up to the first who does not simply rest afterwards.
    fn serve_some(&mut self, served: &mut Served) -> Option<(Key, Next, bool)> {
        let Reactor { table, edges, serving, handler, desk, .. } = self;
        let mut turn = desk.turn();
        for &(key, edge) in &edges[served.edges..] {
            served.edges += 1;
            turn.counters.serves(key);
            // An event for somebody who has left finds nobody.
            let Some(Resident { connection, session, .. }) = table.find(key) else { continue };
            connection.note(edge);
            #[cfg(test)]
            if Bug::IdleLate.is_planted() {
                connection.excuse(connection.active_at(), turn.now);
            }
            // Who stands in the queue, too, has one turn there.
            if connection.is_queued() {
                continue;
            }
            let Some(next) = connection.serve(handler, session, &mut turn, key) else { continue };
            let timed = connection.has_new_timer();
            if timed || !matches!(next, Next::Rest) {
                return Some((key, next, timed));
            }
        }
        for &key in &serving[served.ready..] {
            served.ready += 1;
            turn.counters.serves(key);
            let Some(Resident { connection, session, .. }) = table.find(key) else { continue };
            connection.dequeue();
            let Some(next) = connection.serve(handler, session, &mut turn, key) else { continue };
            let timed = connection.has_new_timer();
            if timed || !matches!(next, Next::Rest) {
                return Some((key, next, timed));
            }
        }
        None
    }

    fn proceed(&mut self, key: Key, next: Next, timed: bool) {
        let calls = self.desk.slate.take_call();
        match next {
            Next::Close(reason) => self.close(key, reason),
            Next::Again => self.enqueue(key),
            Next::Rest | Next::Call => {}
        }
        if timed {
            self.set_timer(key);
        }
        if calls {
            self.call(key);
        }
    }

    /// The one way out of the table.
    fn close(&mut self, key: Key, reason: CloseReason) {
        if let Some(resident) = self.table.remove(key) {
            #[cfg(test)]
            if Bug::StrayTimer.is_planted() {
                return self.bury(resident, key, reason);
            }
            self.wheel.disarm(key.slot);
            self.bury(resident, key, reason);
        }
    }

    fn bury(&mut self, resident: Resident<K::Stream, H::Session>, key: Key, reason: CloseReason) {
        let Resident { connection, session, .. } = resident;
        self.desk.counters.closed(reason);
        let id = ClientId { shard: self.desk.shard, key };
        trace::closed(id, connection.address(), reason);
        #[cfg(test)]
        if Bug::Seat.is_planted() && session.is_none() {
            // As good as never given back.
            let _ = self.desk.common.seats.take(connection.address());
        }
        if !connection.is_called() {
            self.desk.common.seats.leave(connection.address());
        }
        self.acceptor.relieved();
        #[cfg(test)]
        let session = session.filter(|_| !Bug::ClosedOnce.is_planted() || reason == CloseReason::Finished);
        if let Some(session) = session {
            self.with_shard(Some(key), |handler, shard| handler.handle_closed_on(shard, session, id, reason));
        }
        connection.forget_output(&mut self.desk.turn());
        let reset = reason.resets() || connection.lost_output();
        self.desk.kernel.close(connection.into_stream(), reset);
    }

    fn close_all(&mut self, reason: CloseReason) {
        self.desk.stops = true;
        for slot in 0..self.table.slots() {
            if let Some(key) = self.table.key_at(slot) {
                self.close(key, reason);
            }
        }
    }
}

/// Messages.
impl<K: Kernel, H: Handler> Reactor<K, H> {
    fn messages(&mut self) {
        for _ in 0..MESSAGE_BUDGET {
            match self.mailbox.take() {
                Some(Post::Message(message)) => self.message(message),
                Some(Post::Disconnect(key)) => self.disconnect(key),
                Some(Post::DisconnectAll) => {
                    (0..self.table.slots()).for_each(|slot| {
                        if let Some(key) = self.table.key_at(slot) {
                            self.disconnect(key);
                        }
                    });
                }
                None => return,
            }
        }
    }

    /// What was taken before the end is handled, although nobody is there any more.
    fn last_messages(&mut self) {
        (0..=self.desk.mailbox_max / MESSAGE_BUDGET).for_each(|_| self.messages());
    }

    fn disconnect(&mut self, key: Key) {
        if let Some(resident) = self.table.find(key) {
            resident.connection.end(CloseReason::Disconnected);
            self.set_timer(key);
            self.enqueue(key);
        }
    }
}

/// Timers.
impl<K: Kernel, H: Handler> Reactor<K, H> {
    /// Timers come last in a turn: after a pause of the whole process, who was heard is served before it can expire.
    fn timers(&mut self, events: usize) {
        if self.wheel.is_empty() {
            self.timed_at = UNTIMED;
            return;
        }
        if self.timed_at == UNTIMED {
            // The first turn with timers: the tick may be of long ago, when there last were some, and nothing is due yet.
            (self.timed_at, self.paused) = (tick(self.desk.kernel.now()), false);
            return;
        }
        let batch = self.desk.kernel.batch();
        let passed = self.desk.tick.saturating_sub(std::mem::replace(&mut self.timed_at, self.desk.tick));
        // The events of this turn may be from before a pause: what came during it is told by the next wait. Turns that all
        // take so long are no pauses, but slow: their timers are late, not lost.
        let paused = passed > PAUSE_TICKS;
        #[cfg(test)]
        let paused = Bug::StandstillExpires.instead(paused, false);
        if paused && !std::mem::replace(&mut self.paused, paused) {
            self.full_turns = 0;
            return;
        }
        self.paused = paused;
        // After so many full batches everyone has had its turn, because epoll puts what it has told behind the rest.
        let all = self.table.len() / batch + 2;
        self.full_turns = if events < batch { 0 } else { self.full_turns + 1 };
        if events >= batch && self.full_turns < all {
            return;
        }
        let mut expired = std::mem::take(&mut self.expired);
        self.wheel.expire(self.desk.tick, &mut expired);
        for slot in expired.drain(..) {
            if let Some(key) = self.table.key_at(slot) {
                self.time_out(key);
            }
        }
        self.expired = expired;
    }

    fn time_out(&mut self, key: Key) {
        let Some(Resident { connection, session, .. }) = self.table.find(key) else { return };
        let now = self.desk.tick as u32;
        self.desk.counters.serves(key);
        // It may have been active since its timer was armed; arming it anew at every byte would cost more.
        let next = match connection.ticks_left(now, &self.desk.limits) {
            Some(0) => connection.time_out(&mut self.handler, session, &mut self.desk.turn(), key),
            _ => Next::Rest,
        };
        if self.desk.limits.idle_timeout.is_some() {
            // The messages before it may have taken their time.
            connection.excuse(now, tick(self.desk.kernel.now()) as u32);
        }
        self.proceed(key, next, true);
    }

    /// Arms the wheel for the connection's next timer.
    fn set_timer(&mut self, key: Key) {
        // Not that of this turn, which may be of a turn long ago, if nobody needed it; and which stays what it is: what has
        // come since the last wait is shown before anything that is due since then is over.
        let now = tick(self.desk.kernel.now());
        let Some(Resident { connection, .. }) = self.table.find(key) else { return };
        connection.begin_timer(now as u32);
        match connection.ticks_left(now as u32, &self.desk.limits) {
            Some(left) => self.wheel.arm(key.slot, now + u64::from(left)),
            None => self.wheel.disarm(key.slot),
        }
    }
}

impl<K: Kernel> Desk<K> {
    #[inline]
    fn turn(&mut self) -> Turn<'_, K> {
        Turn {
            kernel: &mut self.kernel,
            plain_read: self.plain_read,
            buffer: &mut self.buffer[..BUFFER],
            slate: &mut self.slate,
            counters: &self.counters,
            limits: &self.limits,
            now: self.tick as u32,
        }
    }
}

fn moment(tick: u64) -> Duration {
    Duration::from_millis(tick * TICK.as_millis() as u64)
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_without_a_session_takes_56_bytes() {
        assert_eq!(Slab::<Resident<std::os::fd::OwnedFd, ()>>::slot_bytes(), 56);
    }
}
