//! One thread's loop: wait, note, connect, knock, serve, due, sweep. Its connections, poll and histograms are its own.

mod churn;
mod knock;
mod lengths;
mod opening;
mod pipelined;
mod reopen;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use esockets::{socket, sys};
use mio::{Events, Poll, Token};

use crate::accept_queues::AcceptQueues;
use crate::alarm::Alarm;
use crate::churn::Churn;
use crate::client::{Client, Speech, State};
use crate::clock::Clock;
use crate::connector::Connector;
use crate::failure::{Act, Failure, Kind};
use crate::gate::Gate;
use crate::halt::Halt;
use crate::knocks::Knocks;
use crate::live::{Live, Seen};
use crate::machine::thread_wait_time;
use crate::payload::Stream;
use crate::pipeline::Pipeline;
use crate::places::Places;
use crate::plan::{Plan, Share};
use crate::protocol::http::Responses;
use crate::recorder::{Recorder, note};
use crate::routes::Rotation;
use crate::schedule::{Arrival, Pace, Rate, Schedule};
use crate::stage::{Arrivals, Beats, Cursor, Drive, Stage};
use crate::standstill::Standstill;
use crate::timeline::Timeline;
use crate::wires::Wires;
use crate::worker::reopen::Then;

/// A thread of the load generator, from its first connection to its last. Everything it uses is opened on its own
/// thread, and with the other workers it shares only the flag that stops it.
pub(crate) struct Worker {
    plan: Plan,
    share: Share,
    clock: Clock,
    halt: Arc<Halt>,
    live: Arc<Live>,
    poll: Poll,
    events: Events,
    clients: Vec<Option<Client>>,
    /// Clients that an edge, or an exhausted budget, gave a turn to.
    ready: VecDeque<u32>,
    scratch: Vec<u8>,
    /// HTTP responses of which not all has come.
    responses: Responses,
    /// What lies between the sockets and what is said.
    wires: Wires,
    drive: Drive,
    /// What is under way, where a connection has more than one request at once; and the replies that a read has brought.
    pipeline: Pipeline,
    whole: Vec<Option<Kind>>,
    /// The stage, if its connections come and go, and where they come from.
    churn: Option<Churn>,
    rotation: Rotation,
    /// Connects that wait for room in the queue of a Unix socket.
    knocks: Knocks,
    /// Stages begun so far.
    stages: u64,
    /// When the stage's window opens and closes; the latter is the end of time for a stage without a duration.
    begin_ns: u64,
    end_ns: u64,
    sweep_ns: u64,
    /// The time after the last wait: good enough where a turn's length does not matter.
    now_ns: u64,
    standstill: Standstill,
    /// Wakes the poll when a heartbeat is due; where there is none, a millisecond later.
    alarm: Option<Alarm>,
    /// How long it has polled in vain, in this stage, while it waited for a request to fall due.
    spun_ns: u64,
    /// When the kernel last told of anything.
    heard_ns: u64,
    /// Whether the turn before this one did nothing else.
    spins: bool,
    /// Connects of the first stage, or requests, that are under way.
    pending: u64,
    /// Connects that are under way because the server had closed a connection in an orderly way, and what is to follow some
    /// of them.
    reopening: u64,
    reopened: HashMap<u32, Then>,
    /// Connections that are open, or being opened again.
    open: u64,
    /// When the last of them was lost.
    emptied_ns: u64,
    /// Failures of all sorts, in all stages.
    failed: u64,
    recorder: Recorder,
}

impl Worker {
    /// A worker without connections; to be called on the thread that will run it.
    ///
    /// # Errors
    /// Those of epoll_create1(2): EMFILE or ENFILE when descriptors have run out.
    pub(crate) fn new(
        plan: Plan,
        share: Share,
        clock: Clock,
        (halt, live): (Arc<Halt>, Arc<Live>),
        responses: Responses,
    ) -> io::Result<Worker> {
        let recorder = Recorder::new(plan.latency_ns_max());
        let part = (share.worker, share.workers);
        Ok(Worker {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            clients: Vec::with_capacity(share.connections as usize),
            ready: VecDeque::new(),
            scratch: vec![0; scratch_bytes(&plan)],
            responses,
            wires: Wires::new(plan.layers.clone()),
            drive: Drive::Hold,
            pipeline: Pipeline::new(plan.pipeline, share.connections),
            whole: Vec::new(),
            churn: None,
            rotation: Rotation::new(plan.sources.clone(), plan.targets.len(), part),
            knocks: Knocks::new(plan.targets.len()),
            stages: 0,
            begin_ns: 0,
            end_ns: 0,
            sweep_ns: 0,
            now_ns: 0,
            standstill: Standstill::default(),
            alarm: None,
            spun_ns: 0,
            heard_ns: 0,
            spins: false,
            pending: 0,
            reopening: 0,
            reopened: HashMap::new(),
            open: 0,
            emptied_ns: 0,
            failed: 0,
            recorder,
            plan,
            share,
            clock,
            halt,
            live,
        })
    }

    /// Runs one stage, whose window opens at `begin_ns` of the clock, to its end, and says what happened.
    pub(crate) fn run(&mut self, stage: Stage, begin_ns: u64) -> Recorder {
        let (cpu_before, started_ns) = (sys::thread_cpu_time(), self.clock.now_ns());
        let waited_before = thread_wait_time();
        self.begin(stage, begin_ns);
        self.standstill.begin(self.clock.now_ns(), cpu_before);
        while !self.is_over() {
            self.wait();
            self.note();
            self.connect();
            self.knock();
            self.serve();
            self.due();
            self.sweep();
            self.tell();
        }
        let mut recorder = self.end();
        recorder.cpu_time = sys::thread_cpu_time().saturating_sub(cpu_before);
        let busy = recorder.cpu_time.saturating_sub(Duration::from_nanos(self.spun_ns));
        let elapsed_ns = (self.clock.now_ns() - started_ns).max(1) as f64;
        recorder.busy_part = busy.as_nanos() as f64 / elapsed_ns;
        recorder.waited_time = thread_wait_time().saturating_sub(waited_before);
        recorder.waited_part = recorder.waited_time.as_nanos() as f64 / elapsed_ns;
        recorder.standstill_ns = self.standstill.total_ns();
        recorder
    }

    /// Closes all connections by a reset: ten thousands of them in TIME_WAIT would be in the way of the next run.
    pub(crate) fn close(&mut self) {
        for client in std::mem::take(&mut self.clients).into_iter().flatten() {
            // It can fail only if the socket is gone already, which is as good.
            let _ = socket::reset_on_close(client.socket());
            drop(client);
            self.open = self.open.saturating_sub(1);
            if self.open.is_multiple_of(CLOSED_BETWEEN_TELLS) {
                self.tell();
            }
        }
    }

    fn begin(&mut self, stage: Stage, begin_ns: u64) {
        self.churn = stage.churn();
        if self.churn.is_some() {
            self.clients.resize_with(self.share.connections as usize, || None);
        }
        let slots = self.clients.len() as u32;
        let (worker, workers) = (self.share.worker, self.share.workers);
        self.stages += 1;
        self.recorder.timeline = Timeline::new(stage.duration().map_or(0, |duration| duration.as_nanos() as u64));
        (self.begin_ns, self.spun_ns) = (begin_ns, 0);
        self.end_ns = stage.duration().map_or(u64::MAX, |duration| begin_ns + duration.as_nanos() as u64);
        self.drive = match stage {
            Stage::Connect => {
                let pace = self.plan.connect_rate.map(|rate| Pace::new(rate, worker, workers));
                let (targets, routes) = (self.plan.targets.clone(), self.share.routes.clone());
                let gate = Gate::new(AcceptQueues::of(&self.plan.ips()), workers, self.timeout_ns());
                let when = (begin_ns, pace);
                Drive::Connect(Box::new(Connector::new(targets, routes, gate, when, self.share.connections)))
            }
            Stage::Verify => Drive::Verify(Cursor::new(slots)),
            Stage::Closed { .. } => Drive::Closed(Cursor::new(slots)),
            Stage::Open { duration, rate, arrival } => {
                let free = (0..slots).filter(|slot| self.clients[*slot as usize].is_some()).collect();
                Drive::Open(self.arrivals(duration, (rate, arrival), free))
            }
            Stage::Churn(Churn { duration, arrivals, .. }) => {
                let arrivals = arrivals.map(|arrivals| self.arrivals(duration, arrivals, (0..slots).collect()));
                Drive::Churn(Box::new(Places::new(arrivals, slots, (begin_ns, self.end_ns), self.timeout_ns())))
            }
            Stage::Hold { heartbeat: None, .. } => Drive::Hold,
            Stage::Hold { duration, heartbeat: Some(interval) } => {
                // Without a descriptor for it heartbeats are a little late, which their lag tells.
                self.alarm = Alarm::new(self.poll.registry(), ALARM).ok();
                Drive::Beat(Beats::new(interval, duration, slots))
            }
        };
        self.tell();
    }

    /// What falls due for this worker in a stage of `duration`, and the `free` slots for it.
    fn arrivals(&self, duration: Duration, (rate, arrival): (Rate, Arrival), free: VecDeque<u32>) -> Arrivals {
        // Each stage has chances of its own.
        let seed = self.plan.seed.wrapping_add(self.stages);
        let part = (self.share.worker, self.share.workers);
        Arrivals::new(Schedule::new(rate, duration.as_secs_f64(), arrival, seed, part), duration, free)
    }

    fn is_over(&self) -> bool {
        if self.halt.is_set() {
            return true;
        }
        let is_closed = self.now_ns >= self.end_ns;
        // What is being opened again belongs to the next stage, too.
        let is_at_rest = self.pending + self.reopening == 0;
        match &self.drive {
            Drive::Connect(connector) => connector.is_done() && is_at_rest,
            Drive::Verify(cursor) => cursor.is_done() && is_at_rest,
            Drive::Closed(_) => is_closed && is_at_rest && self.is_quiet(),
            Drive::Beat(beats) => is_closed && is_at_rest && (beats.next_ns().is_none() || self.open == 0),
            // Whatever is under way ends by itself, be it by a timeout.
            Drive::Churn(places) => self.pending == 0 && places.is_done(self.now_ns),
            Drive::Open(_) if !is_closed => false,
            Drive::Open(arrivals) => {
                let is_given_up = self.now_ns >= self.give_up_ns();
                let is_all_given = arrivals.next_ns().is_none() || self.open == 0 || is_given_up;
                (is_at_rest && is_all_given) || self.now_ns >= self.end_ns.saturating_add(self.timeout_ns())
            }
            Drive::Hold => is_closed,
        }
    }

    /// Whether replies that nobody asked for would have come by now. In a pipeline of replies that are all alike each of
    /// them passes for the next request's, and what is too much shows only behind the last.
    fn is_quiet(&self) -> bool {
        let patience_ns = self.recorder.latency.max().saturating_mul(2).clamp(LOOK_UP_NS, self.timeout_ns());
        self.plan.pipeline == 1 || self.now_ns.saturating_sub(self.heard_ns) >= patience_ns
    }

    fn wait(&mut self) {
        let pause = self.pause();
        if let (Drive::Beat(beats), Some(alarm)) = (&self.drive, &mut self.alarm) {
            alarm.set(beats.next_ns().map(|ns| self.begin_ns + ns), self.clock);
        }
        self.events.clear();
        match self.poll.poll(&mut self.events, Some(pause)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => panic!("epoll_wait(2) of an own poll: {error}"),
            _ => {}
        }
        let before_ns = std::mem::replace(&mut self.now_ns, self.clock.now_ns());
        if !self.events.is_empty() {
            self.heard_ns = self.now_ns;
        }
        // The whole turn, for in the one before this nothing was done either.
        let spins = pause.is_zero() && self.events.is_empty() && self.ready.is_empty();
        if spins && self.spins {
            self.spun_ns += self.now_ns - before_ns;
        }
        self.spins = spins;
        self.standstill.note_turn(self.now_ns, pause, sys::thread_cpu_time);
    }

    /// How long the poll may sleep: until something of this worker's own is to be done.
    fn pause(&self) -> Duration {
        if !self.ready.is_empty() {
            return Duration::ZERO;
        }
        let now_ns = self.clock.now_ns();
        let (next_ns, is_precise) = match &self.drive {
            Drive::Connect(connector) => (connector.next_ns(self.pending), false),
            Drive::Verify(cursor) => {
                ((!cursor.is_done() && self.pending < self.verifying_max()).then_some(self.begin_ns), false)
            }
            Drive::Closed(cursor) => ((!cursor.is_done() && now_ns < self.end_ns).then_some(self.begin_ns), false),
            Drive::Open(arrivals) if arrivals.has_free() && now_ns < self.give_up_ns() => {
                (arrivals.next_ns().map(|ns| self.begin_ns + ns), true)
            }
            Drive::Beat(beats) => (beats.next_ns().map(|ns| self.begin_ns + ns), false),
            Drive::Churn(places) => (places.next_ns(now_ns), places.arrivals().is_some()),
            Drive::Open(_) | Drive::Hold => (None, false),
        };
        let until_ns = next_ns.unwrap_or(u64::MAX).saturating_sub(now_ns);
        if is_precise && until_ns < SPIN_NS {
            return Duration::ZERO;
        }
        // A poll sleeps whole milliseconds, rounded up: wake early enough to spin through the rest.
        let until_ns = if is_precise { until_ns - SPIN_NS / 2 } else { until_ns };
        let until_knock_ns = self.knocks.next_ns().map_or(u64::MAX, |next_ns| next_ns.saturating_sub(now_ns));
        let until_end_ns = if now_ns < self.end_ns { self.end_ns - now_ns } else { u64::MAX };
        let until_sweep_ns =
            if self.pending + self.reopening > 0 { self.sweep_ns.saturating_sub(now_ns) } else { u64::MAX };
        Duration::from_nanos(until_ns.min(until_knock_ns).min(until_end_ns).min(until_sweep_ns).min(LOOK_UP_NS))
    }

    fn note(&mut self) {
        for event in self.events.iter().filter(|event| event.token() != ALARM) {
            let slot = event.token().0;
            // A client that was lost in this turn has no events any more.
            let Some(client) = &mut self.clients[slot] else { continue };
            let is_end = event.is_read_closed() || event.is_error();
            if client.note(event.is_readable() || is_end, event.is_writable(), is_end) && !client.is_queued {
                client.is_queued = true;
                self.ready.push_back(slot as u32);
            }
        }
    }

    fn connect(&mut self) {
        for _ in 0..CONNECT_BUDGET {
            let Drive::Connect(connector) = &mut self.drive else { return };
            match connector.next_ns(self.pending) {
                Some(next_ns) if next_ns <= self.now_ns && connector.may_begin(self.now_ns) => {}
                _ => return,
            }
            // The clock is read for each: earlier ones of this turn must not lengthen the time of later ones.
            let begun_ns = self.clock.now_ns();
            let (number, outcome) = connector.open();
            self.recorder.spares_max = connector.spares();
            self.recorder.attempted += 1;
            self.recorder.series.note_attempt(begun_ns);
            self.clients.push(None);
            self.pending += 1;
            match outcome.and_then(|socket| self.register(socket, number, begun_ns)) {
                Ok(client) => self.clients[number as usize] = Some(client),
                Err(failure) => self.note_connect_failure(number, failure),
            }
        }
    }

    fn note_connect_failure(&mut self, slot: u32, failure: Failure) {
        self.pending -= 1;
        self.failed += 1;
        note(&mut self.recorder.connect_failures, failure);
        let destination = self.destination(slot);
        self.recorder.unreached.entry(failure).or_default().insert(destination);
        self.recorder.series.note_failed(self.now_ns, failure);
        if let Drive::Connect(connector) = &mut self.drive {
            connector.note_failure(failure.kind, self.recorder.established);
        }
    }

    /// Gives each queued client one turn; those that become ready meanwhile have theirs in the next round.
    fn serve(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(slot) = self.ready.pop_front() else { return };
            let Some(client) = &mut self.clients[slot as usize] else { continue };
            client.is_queued = false;
            match client.state() {
                State::Connecting => self.settle(slot),
                State::Idle | State::Busy => self.exchange(slot),
                State::Closing => self.await_end(slot),
            }
        }
    }

    /// Sends and receives what can be, and goes on to the next request when a reply is complete.
    fn exchange(&mut self, slot: u32) {
        if self.pipeline.is_used() {
            return self.exchange_pipelined(slot);
        }
        let Worker { plan, share, clients, responses, wires, scratch, recorder, .. } = self;
        let Some(client) = &mut clients[slot as usize] else { return };
        let mut speech = speech(plan, share, (responses, wires), slot);
        let sent = client.flush(&mut speech, scratch);
        recorder.bytes_sent += *sent.as_ref().unwrap_or(&0);
        let received = (&mut recorder.bytes_received, &mut recorder.strange);
        let outcome = sent.and_then(|_| client.receive(&mut speech, scratch, received));
        let (is_answered, is_last) = (client.is_answered(), client.is_last());
        if self.churn.is_some() {
            return self.go_on_or_close(slot, outcome);
        }
        match outcome {
            Ok(fault) => {
                self.queue_again(slot);
                if is_answered {
                    let now_ns = self.answered(slot, fault);
                    if is_last { self.reopen(slot) } else { self.go_on(slot, now_ns, now_ns) }
                }
            }
            Err(failure) if self.may_close(slot, failure) => self.reopen_closed(slot, is_answered),
            Err(failure) => {
                // A reply that was complete and right before the connection ended has been answered.
                if is_answered && !failure.kind.is_of_bytes() {
                    self.answered(slot, None);
                    self.lose(slot, Failure { act: Act::Idle, ..failure });
                } else {
                    self.lose(slot, failure);
                }
            }
        }
    }

    /// Gives the client another turn if it has not read all that there is.
    fn queue_again(&mut self, slot: u32) {
        let Some(client) = &mut self.clients[slot as usize] else { return };
        if client.wants_turn() && !client.is_queued {
            client.is_queued = true;
            self.ready.push_back(slot);
        }
    }

    /// Counts a whole reply, an answer if it has no fault; returns the moment at which it was complete.
    fn answered(&mut self, slot: u32, fault: Option<Kind>) -> u64 {
        let now_ns = self.clock.now_ns();
        let Some(client) = &mut self.clients[slot as usize] else { return now_ns };
        client.finish();
        self.pending -= 1;
        if let Some(kind) = fault {
            self.failed += 1;
            note(&mut self.recorder.request_failures, Failure::new(Act::Reply, kind));
            return now_ns;
        }
        let latency_ns = now_ns - client.due_ns();
        self.recorder.latency.record(latency_ns);
        self.live.note(latency_ns);
        // A verification ends with its last echo: it has no course, and a histogram for each of many workers costs memory.
        if !matches!(self.drive, Drive::Verify(_)) {
            self.recorder.timeline.record(now_ns - self.begin_ns, self.end_ns - self.begin_ns, latency_ns);
        }
        if matches!(self.drive, Drive::Open(_) | Drive::Beat(_)) {
            self.recorder.service.record(now_ns - client.sent_ns());
        }
        self.note_answered(now_ns);
        now_ns
    }

    /// Counts an answer that was complete at `now_ns`.
    fn note_answered(&mut self, now_ns: u64) {
        self.recorder.answered += 1;
        if now_ns < self.end_ns {
            self.recorder.answered_in_window += 1;
            let third_ns = (self.end_ns - self.begin_ns) / 3;
            let third = usize::from(now_ns >= self.begin_ns + third_ns) + usize::from(now_ns >= self.end_ns - third_ns);
            self.recorder.thirds[third] += 1;
        }
    }

    /// What a client does next that wants to since `due_ns`, and has become free.
    fn go_on(&mut self, slot: u32, due_ns: u64, now_ns: u64) {
        match &mut self.drive {
            // Before the window opens nobody goes on: each is asked when it does.
            Drive::Closed(_) if now_ns < self.begin_ns => {}
            Drive::Closed(_) if self.pipeline.is_used() => self.refill(slot, due_ns, now_ns),
            Drive::Closed(_) if now_ns < self.end_ns => self.send(slot, due_ns, now_ns),
            Drive::Open(arrivals) => arrivals.note_free(slot, now_ns),
            Drive::Beat(beats) => {
                // The heartbeat that fell due while the one before it was on its way: it waited, from then on.
                let next_ns =
                    self.clients[slot as usize].as_ref().map_or(u64::MAX, |it| it.due_ns() + beats.interval_ns());
                if next_ns <= now_ns && next_ns < self.end_ns {
                    self.recorder.lag.record(now_ns - next_ns);
                    self.send(slot, next_ns, now_ns);
                }
            }
            _ => {}
        }
    }

    /// Begins what is to be begun by now, a budget a turn so that replies are not kept waiting.
    fn due(&mut self) {
        if self.churn.is_some() {
            return self.open_due();
        }
        let verifying_max = self.verifying_max();
        let give_up_ns = self.give_up_ns();
        for _ in 0..BEGIN_BUDGET {
            let now_ns = self.clock.now_ns();
            let (slot, due_ns) = match &mut self.drive {
                Drive::Verify(cursor) if now_ns >= self.begin_ns && self.pending < verifying_max => {
                    (cursor.next(), now_ns)
                }
                Drive::Closed(cursor) if (self.begin_ns..self.end_ns).contains(&now_ns) => (cursor.next(), now_ns),
                Drive::Open(arrivals) => match arrivals.next_ns().map(|ns| self.begin_ns + ns) {
                    Some(due_ns) if due_ns <= now_ns && now_ns < give_up_ns => (arrivals.take_free(), due_ns),
                    _ => return,
                },
                Drive::Beat(beats) => match beats.next_ns().map(|ns| self.begin_ns + ns) {
                    Some(due_ns) if due_ns <= now_ns => (beats.take(), due_ns),
                    _ => return,
                },
                _ => return,
            };
            let Some(slot) = slot else { return };
            // Connections that were lost keep their slot, and pass their turn on.
            let Some(client) = &self.clients[slot as usize] else { continue };
            if let Drive::Beat(_) = self.drive {
                // Being opened again it has no turn; and a heartbeat that followed a late one may have been this one.
                self.recorder.skipped += u64::from(client.state() == State::Connecting);
                if client.due_ns() >= due_ns {
                    continue;
                }
            }
            if client.state() != State::Idle {
                self.pass_over(slot);
                continue;
            }
            if let Drive::Open(arrivals) = &mut self.drive {
                self.recorder.starved += u64::from(arrivals.is_starved(due_ns));
                arrivals.give();
            }
            if matches!(self.drive, Drive::Open(_) | Drive::Beat(_)) {
                self.recorder.lag.record(now_ns - due_ns);
            }
            if self.pipeline.is_used() {
                self.refill(slot, due_ns, now_ns);
            } else {
                self.send(slot, due_ns, now_ns);
            }
        }
    }

    fn send(&mut self, slot: u32, due_ns: u64, now_ns: u64) {
        self.pending += 1;
        self.recorder.due += 1;
        self.request(slot, due_ns, now_ns);
    }

    /// Sends a request that counts already.
    fn request(&mut self, slot: u32, due_ns: u64, now_ns: u64) {
        let Worker { plan, share, clients, responses, wires, scratch, recorder, .. } = self;
        let Some(client) = &mut clients[slot as usize] else { return };
        let mut speech = speech(plan, share, (responses, wires), slot);
        client.begin(plan.protocol.request_len(speech.destination), due_ns, now_ns);
        match client.flush(&mut speech, scratch) {
            Ok(bytes) => recorder.bytes_sent += bytes,
            Err(failure) => self.lose(slot, failure),
        }
    }

    /// Finds what has taken too long: all clients are looked at, sixteen times in a timeout.
    fn sweep(&mut self) {
        let now_ns = self.now_ns;
        // With nothing under way nothing can be late: a million connections at rest are not looked at.
        if now_ns < self.sweep_ns || self.pending + self.reopening == 0 {
            return;
        }
        let timeout_ns = self.timeout_ns();
        self.sweep_ns = now_ns + (timeout_ns / 16).clamp(SWEEP_NS_MIN, LOOK_UP_NS * 5);
        for slot in 0..self.clients.len() {
            match &self.clients[slot] {
                Some(client)
                    if client.state() != State::Idle && now_ns.saturating_sub(client.sent_ns()) > timeout_ns =>
                {
                    self.lose(slot as u32, Failure::new(client.act(), Kind::TimedOut));
                }
                _ => {}
            }
        }
    }

    /// The one way out for a connection that did not last until the run's end.
    fn lose(&mut self, slot: u32, failure: Failure) {
        let Some(client) = self.clients[slot as usize].take() else { return };
        // It can fail only if the socket is gone already, which is as good.
        let _ = socket::reset_on_close(client.socket());
        self.responses.forget(slot);
        self.wires.forget(slot);
        self.abandon(slot, client.state());
        match (client.state(), &self.drive) {
            (state, Drive::Churn(_)) => return self.note_churn_failure(slot, state, failure),
            (State::Connecting, Drive::Connect(_)) => return self.note_connect_failure(slot, failure),
            (State::Connecting, _) => return self.note_reopen_failure(failure),
            _ => {}
        }
        self.open -= 1;
        self.emptied_ns = self.now_ns;
        self.failed += 1;
        self.recorder.lost += 1;
        self.recorder.series.note_lost(self.now_ns, failure);
        if client.state() == State::Busy {
            self.pending -= 1;
            note(&mut self.recorder.request_failures, failure);
        } else {
            note(&mut self.recorder.losses, failure);
        }
    }

    /// Closes the books of a stage. A connection with a reply still to come would disturb the next stage: it goes.
    fn end(&mut self) -> Recorder {
        if !self.halt.is_set() {
            // What has had its time since the last look has timed out, and is not merely unfinished.
            (self.now_ns, self.sweep_ns) = (self.clock.now_ns(), 0);
            self.sweep();
        }
        // A worker that still had connections went on until now; when all were lost, it was over then.
        let over_ns = if self.open == 0 { self.halt.at_ns() } else { u64::MAX };
        let window_ns = self.clock.now_ns().min(self.end_ns).min(over_ns).saturating_sub(self.begin_ns);
        self.recorder.window_ns = window_ns;
        self.recorder.timeline.close();
        self.settle_lengths();
        if !matches!(self.drive, Drive::Connect(_)) {
            self.recorder.unfinished = self.pending;
        }
        let arrivals = match &self.drive {
            Drive::Open(arrivals) => Some(arrivals),
            Drive::Churn(places) => places.arrivals(),
            _ => None,
        };
        if let Some(arrivals) = arrivals {
            // Requests that fell due while no connection was free for them were never sent.
            let due = arrivals.due(window_ns).max(self.recorder.due);
            self.recorder.unfinished += due - self.recorder.due;
            self.recorder.due = due;
        }
        let is_opening = matches!(self.drive, Drive::Connect(_) | Drive::Churn(_));
        for client in &mut self.clients {
            if let Some(client) = client.take_if(|client| client.state() != State::Idle) {
                let _ = socket::reset_on_close(client.socket());
                // What is being opened again counts as open; what was never opened does not.
                self.open -= u64::from(client.state() != State::Connecting || !is_opening);
            }
        }
        (self.pending, self.reopening) = (0, 0);
        self.pipeline.clear();
        self.reopened.clear();
        self.tell();
        std::mem::replace(&mut self.recorder, Recorder::new(self.plan.latency_ns_max()))
    }

    fn tell(&self) {
        self.live.tell(Seen { open: self.open, failed: self.failed, emptied_ns: self.emptied_ns });
    }

    /// The index of the destination of the connection in `slot`.
    fn destination(&self, slot: u32) -> usize {
        self.plan.destination(self.share.connection_first + u64::from(slot))
    }

    /// How many requests may be under way while every connection is verified once.
    fn verifying_max(&self) -> u64 {
        (VERIFYING_MAX / self.share.workers).clamp(*VERIFYING_EACH.start(), *VERIFYING_EACH.end()) as u64
    }

    /// From when on requests of an open loop that no connection has yet are given up.
    fn give_up_ns(&self) -> u64 {
        self.end_ns.saturating_add(self.plan.drain.as_nanos() as u64)
    }

    fn timeout_ns(&self) -> u64 {
        self.plan.timeout.as_nanos() as u64
    }
}

/// What the connection in `slot` has to know to speak.
fn speech<'a>(
    plan: &'a Plan,
    share: &Share,
    (responses, wires): (&'a mut Responses, &'a mut Wires),
    slot: u32,
) -> Speech<'a> {
    let number = share.connection_first + u64::from(slot);
    let (destination, stream) = (plan.destination(number), Stream::new(plan.seed, number));
    Speech {
        protocol: &plan.protocol,
        responses,
        wires,
        slot,
        destination,
        stream,
        connections: plan.connections_whole,
    }
}

/// For twice as much as may be under way on a connection at once.
fn scratch_bytes(plan: &Plan) -> usize {
    let under_way = (plan.size() as usize).saturating_mul(plan.pipeline as usize);
    under_way.saturating_mul(2).clamp(*SCRATCH_BYTES.start(), *SCRATCH_BYTES.end())
}

/// The alarm's events; connections are numbered from 0.
const ALARM: Token = Token(usize::MAX);

/// Closes between two words about them to whoever watches.
const CLOSED_BETWEEN_TELLS: u64 = 64;

/// Events of one wait; measured: 64 to 256 cost less processor time than 1,024.
const EVENTS_MAX: usize = 128;

/// Bytes sent or read at once: more than a message, so that a short read tells that nothing is left, and no more than is
/// of use, for each of many workers has its own.
const SCRATCH_BYTES: RangeInclusive<usize> = 4 * 1024..=64 * 1024;

/// Connects begun in one turn. On loopback a connect has succeeded when the call returns, some 25 us later: to begin many
/// before looking at the first would show up in its time.
const CONNECT_BUDGET: usize = 4;

/// Requests begun in one turn.
const BEGIN_BUDGET: usize = 64;

/// Requests under way while every connection is verified once, over all workers: enough to keep a server busy, too few to
/// time out in its queue, or to push each other's sockets out of the processor's caches.
const VERIFYING_MAX: usize = 1024;

/// The same, of one worker.
const VERIFYING_EACH: RangeInclusive<usize> = 16..=256;

/// The last part before a due moment that is spun through; mio rounds a timeout up to a whole millisecond.
const SPIN_NS: u64 = 2_000_000;

/// The longest sleep, after which a worker looks whether it was stopped.
const LOOK_UP_NS: u64 = 50_000_000;

/// The shortest time between two sweeps.
const SWEEP_NS_MIN: u64 = 1_000_000;
