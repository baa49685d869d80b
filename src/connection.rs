//! One connection: what it reads, hands over and flushes, and when it ends.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::buffer::Buffer;
use crate::client::{Client, ClientId, Timeout, Wishes};
use crate::config::Limits;
use crate::handler::Handler;
use crate::kernel::Kernel;
use crate::output::{Outlet, Output, OutputState};
use crate::peer::Peer;
use crate::reason::CloseReason;
use crate::slab::Key;
use crate::stats::Counters;

/// A connection at rest is this and nothing more: it owns no buffer.
pub(crate) struct Connection<S> {
    stream: S,
    address: Peer,
    /// Only while something could not be sent or was left unconsumed.
    spill: Option<Box<Spill>>,
    /// The tick at which bytes last went either way, kept for the idle timeout.
    active_at: u32,
    /// The tick at which its own timer is due; the span until then while `TIMER_NEW`. Only while `TIMER`.
    due_at: u32,
    flags: u16,
    /// Why it ends: the [index](CloseReason::index) of a reason that carries no errno. Only while `FINISHING` or `CUT`.
    ending: u8,
}

#[derive(Default)]
struct Spill {
    input: Buffer,
    output: Buffer,
}

/// What a connection needs of its shard while it is served.
pub(crate) struct Turn<'a, K: Kernel> {
    pub(crate) kernel: &'a mut K,
    /// The shard's read buffer.
    pub(crate) buffer: &'a mut [u8],
    /// The shard's scratch for output; empty between two calls of the handler.
    pub(crate) gathered: &'a mut Vec<u8>,
    pub(crate) counters: &'a Counters,
    pub(crate) limits: &'a Limits,
    pub(crate) shard: u32,
    /// The present tick, if anyone needs it: read only when there are timers.
    pub(crate) now: u32,
}

/// What is to become of a connection after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing until the next event.
    Rest,
    /// Another turn: there is more to do, but others are waiting.
    Again,
    Close(CloseReason),
}

/// What a read brought.
enum Received {
    /// So many bytes, in the shard's buffer.
    Fresh(usize),
    /// Bytes behind those that were left over, in the connection's own buffer.
    Behind,
    /// The end of the input, for the first time.
    End,
    Nothing,
}

/// An edge said that there is input, and no read has shown that there is none.
const READABLE: u16 = 1 << 0;
/// An edge said that the peer finished or the connection broke. A short read proves nothing then.
const ENDED: u16 = 1 << 1;
/// The end of the input has been read.
const EOF: u16 = 1 << 2;
/// The handler does not want to read.
const PAUSED: u16 = 1 << 3;
/// The handler wants to read again, and is to be shown what it left.
const RESUMED: u16 = 1 << 4;
/// It stands in the queue of those to be served.
const QUEUED: u16 = 1 << 5;
const REGISTERED: u16 = 1 << 6;
/// Registered for writing, too.
const ARMED: u16 = 1 << 7;
/// The socket is full, and no edge has said otherwise.
const BLOCKED: u16 = 1 << 8;
/// More than the low mark is queued: no reading, and `handle_writable` is owed.
const PRESSED: u16 = 1 << 9;
/// The handler is done with it: only flushing is left.
const FINISHING: u16 = 1 << 10;
/// Everything is flushed and the peer knows: what it still sends is thrown away until it finishes, too.
const LINGERING: u16 = 1 << 11;
/// Sending has failed: what came in before is still shown, then it ends.
const CUT: u16 = 1 << 12;
/// The server stops: what is there is read once more, then it ends.
const LAST: u16 = 1 << 13;
const TIMER: u16 = 1 << 14;
/// The timer counts from now on; nobody has asked what time it is yet.
const TIMER_NEW: u16 = 1 << 15;

/// Ticks are this long: fine enough for timeouts of connections, coarse enough that a wheel of them seldom turns.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// How long a peer may take to finish after we have. Closing at once, with input unread, would make the kernel send a
/// reset, and a reset can overtake the last of our answer (RFC 2525, section 2.17).
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a peer may take none of the output that is left when its handler is done.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn ticks(span: Duration) -> u32 {
    u32::try_from(span.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u32::MAX).min(LONGEST)
}

/// A hundred days: moments further away could no longer be told from the past.
const LONGEST: u32 = 100 * 24 * 3600 * 100;

impl<S> Connection<S> {
    pub(crate) fn new(stream: S, address: Peer, now: u32) -> Connection<S> {
        Connection { stream, address, spill: None, active_at: now, due_at: 0, flags: 0, ending: 0 }
    }

    pub(crate) fn into_stream(self) -> S {
        self.stream
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    fn set(&mut self, flag: u16) {
        self.flags |= flag;
    }

    fn clear(&mut self, flag: u16) {
        self.flags &= !flag;
    }

    fn queued(&self) -> usize {
        self.spill.as_ref().map_or(0, |spill| spill.output.len())
    }

    fn left_over(&self) -> usize {
        self.spill.as_ref().map_or(0, |spill| spill.input.len())
    }

    /// Whether a read would be welcome now.
    fn wants_input(&self) -> bool {
        !self.has(PAUSED | PRESSED | FINISHING)
    }

    /// Remembers what an edge said; it will not be said again.
    #[inline]
    pub(crate) fn note(&mut self, readable: bool, writable: bool, ended: bool) {
        if readable {
            self.set(READABLE);
        }
        if ended {
            self.set(READABLE | ENDED);
        }
        if writable || ended {
            self.clear(BLOCKED);
        }
    }

    /// Puts it down as queued; false if it was already.
    #[inline]
    pub(crate) fn enqueue(&mut self) -> bool {
        let first = !self.has(QUEUED);
        self.set(QUEUED);
        first
    }

    pub(crate) fn dequeue(&mut self) {
        self.clear(QUEUED);
    }

    /// Asks the kernel for its events. Only now: what was sent before had no need of them.
    pub(crate) fn register<K: Kernel<Stream = S>>(&mut self, kernel: &mut K, key: Key) -> io::Result<()> {
        kernel.register(&self.stream, key, self.has(BLOCKED))?;
        self.set(if self.has(BLOCKED) { REGISTERED | ARMED } else { REGISTERED });
        Ok(())
    }

    /// Decides that it ends, after what was sent has been flushed. The first reason stays.
    pub(crate) fn end(&mut self, reason: CloseReason) {
        if !self.has(FINISHING | CUT) {
            self.ending = reason.index() as u8;
            self.set(FINISHING);
            self.start_timer(FLUSH_TIMEOUT);
        }
        self.set(FINISHING);
    }

    /// Decides that it ends at its next turn, whatever is queued: it was found broken while it was not being served.
    pub(crate) fn end_now(&mut self, reason: CloseReason) {
        self.cut(reason);
        self.set(FINISHING);
    }

    /// Ends it, answering once more what has come in so far: the server stops.
    pub(crate) fn end_after_reading(&mut self) {
        self.set(LAST | READABLE);
    }

    /// Ends a connection that was never served. What it was told may be worth reading, so its input is not left unread.
    pub(crate) fn refuse(&mut self) {
        self.end(CloseReason::Refused);
        self.set(READABLE);
    }

    /// Whether something that was sent never reached the kernel: an orderly end would pass off the rest as the whole.
    pub(crate) fn lost_output(&self) -> bool {
        self.has(CUT) || self.queued() > 0
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.has(FINISHING)
    }

    /// Whether it has something to do that no event will tell of.
    pub(crate) fn needs_turn(&self) -> bool {
        self.has(FINISHING | CUT) || self.wants_input() && self.has(READABLE | RESUMED)
    }

    fn ending(&self) -> CloseReason {
        CloseReason::ALL[usize::from(self.ending)]
    }
}

/// Serving.
impl<S> Connection<S> {
    /// Gives it a turn: flush, then read, hand over and flush until there is no more or its budget is used up.
    pub(crate) fn serve<K, H>(
        &mut self,
        handler: &mut H,
        session: &mut Option<H::Session>,
        turn: &mut Turn<'_, K>,
        key: Key,
    ) -> Next
    where
        K: Kernel<Stream = S>,
        H: Handler,
    {
        let served = self.try_serve(handler, session, turn, key);
        match served {
            Err(reason) => Next::Close(reason),
            Ok(next) if self.has(LAST) && !self.has(FINISHING) => {
                debug_assert!(matches!(next, Next::Rest | Next::Again));
                self.end(CloseReason::Stopped);
                self.finish(turn).unwrap_or_else(Next::Close)
            }
            Ok(next) => next,
        }
    }

    fn try_serve<K, H>(
        &mut self,
        handler: &mut H,
        session: &mut Option<H::Session>,
        turn: &mut Turn<'_, K>,
        key: Key,
    ) -> Result<Next, CloseReason>
    where
        K: Kernel<Stream = S>,
        H: Handler,
    {
        let mut budget = turn.limits.read_budget;
        if self.spill.is_some() {
            self.flush_queued(turn, key)?;
        }
        loop {
            let Some(session) = session.as_mut().filter(|_| !self.has(FINISHING)) else { return self.finish(turn) };
            if self.has(PRESSED) && self.queued() <= turn.limits.output_low() {
                self.clear(PRESSED);
                self.hand_over(turn, key, None, |client| handler.handle_writable(client, session))?;
            } else if self.has(RESUMED) && self.wants_input() {
                self.clear(RESUMED);
                if self.left_over() > 0 {
                    self.hand_over(turn, key, None, |client| handler.handle_readable(client, session))?;
                }
            } else if !self.has(READABLE) || !self.wants_input() {
                return Ok(Next::Rest);
            } else if budget == 0 {
                return Ok(Next::Again);
            } else {
                self.read(handler, session, turn, key, &mut budget)?;
            }
        }
    }

    /// Reads once, and hands over what came.
    fn read<K, H>(
        &mut self,
        handler: &mut H,
        session: &mut H::Session,
        turn: &mut Turn<'_, K>,
        key: Key,
        budget: &mut usize,
    ) -> Result<(), CloseReason>
    where
        K: Kernel<Stream = S>,
        H: Handler,
    {
        match self.receive(turn, budget)? {
            Received::Nothing => Ok(()),
            Received::Fresh(count) => {
                let buffer = std::mem::take(&mut turn.buffer);
                let act = |client: &mut Client<'_>| handler.handle_readable(client, session);
                let handed = self.hand_over(turn, key, Some(&buffer[..count]), act);
                turn.buffer = buffer;
                handed
            }
            Received::Behind => self.hand_over(turn, key, None, |client| handler.handle_readable(client, session)),
            Received::End => {
                let kept = self.hand(turn, key, None, |client| handler.handle_eof(client, session))?;
                if !kept {
                    self.end(CloseReason::PeerClosed);
                }
                Ok(())
            }
        }
    }

    /// Reads once, no more than there is room and budget for.
    fn receive<K>(&mut self, turn: &mut Turn<'_, K>, budget: &mut usize) -> Result<Received, CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        let left_over = self.left_over();
        let input_room = turn.limits.input_max - left_over;
        if input_room == 0 {
            return Err(CloseReason::InputFull);
        }
        // An answer as long as its question must fit, so no longer question is taken than there is room for.
        let output_room = turn.limits.output_max - self.queued();
        let size = turn.buffer.len().min(*budget).min(input_room).min(output_room);
        let buffer = match &mut self.spill {
            Some(spill) if left_over > 0 => spill.input.room(size),
            _ => &mut turn.buffer[..size],
        };
        let received = turn.kernel.receive(&self.stream, buffer);
        turn.counters.read(*received.as_ref().unwrap_or(&0));
        match received {
            Ok(0) => self.end_of_input(turn),
            Ok(count) => {
                *budget -= count;
                self.active_at = turn.now;
                // epoll(7): a stream that gave less than it was asked for is drained. Not so when its end is near: that
                // takes a read of its own to see.
                if count < size && !self.has(ENDED) {
                    self.clear(READABLE);
                }
                Ok(match &mut self.spill {
                    Some(spill) if left_over > 0 => {
                        spill.input.filled(count);
                        Received::Behind
                    }
                    _ => Received::Fresh(count),
                })
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Received::Nothing),
            // Who can neither be sent to nor has anything more to say is not waited for.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.has(CUT) => {
                self.clear(READABLE);
                Ok(Received::Nothing)
            }
            Err(error) => Err(if self.has(CUT) { self.ending() } else { CloseReason::of_error(&error) }),
        }
    }

    fn end_of_input<K>(&mut self, turn: &mut Turn<'_, K>) -> Result<Received, CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        if self.has(CUT) {
            return Err(self.ending());
        }
        if !self.has(EOF) {
            // Still readable: if the handler keeps it, it is looked at once more.
            self.set(EOF);
            return Ok(Received::End);
        }
        self.clear(READABLE);
        // There may have been a reset: recv(2) goes on telling of the end that it has told of, but send(2) fails.
        match turn.kernel.send(&self.stream, &[]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.set(READABLE),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(CloseReason::of_error(&error)),
            _ => {}
        }
        Ok(Received::Nothing)
    }

    /// Lets the handler act, and ends the connection if it says so.
    fn hand_over<K>(
        &mut self,
        turn: &mut Turn<'_, K>,
        key: Key,
        fresh: Option<&[u8]>,
        act: impl FnOnce(&mut Client<'_>) -> bool,
    ) -> Result<(), CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        let kept = self.hand(turn, key, fresh, act)?;
        if !kept {
            self.end(CloseReason::Finished);
        }
        Ok(())
    }

    /// Lets the handler act on the connection, with `fresh` input or with what was left over, and does what it asked for.
    pub(crate) fn hand<K, R>(
        &mut self,
        turn: &mut Turn<'_, K>,
        key: Key,
        fresh: Option<&[u8]>,
        act: impl FnOnce(&mut Client<'_>) -> R,
    ) -> Result<R, CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        let queued = self.queued();
        let mut kept = match &mut self.spill {
            Some(spill) if fresh.is_none() => std::mem::take(&mut spill.input),
            _ => Buffer::default(),
        };
        let before = self.output_state();
        let eof = self.has(EOF);
        let mut line = Line { kernel: turn.kernel, stream: &self.stream, counters: turn.counters, sent: false };
        let output = Output::new(&mut line, turn.gathered, queued, turn.limits.output_max, before);
        let id = ClientId { shard: turn.shard, key };
        let mut client = Client::new(fresh.unwrap_or(kept.as_slice()), id, &self.address, eof, output);
        let result = catch_unwind(AssertUnwindSafe(|| act(&mut client)));
        let (rest, wishes, state) = client.into_parts();
        match fresh {
            Some(_) if rest.is_empty() => {}
            Some(_) => self.spill.get_or_insert_default().input.push(rest),
            None => {
                let rest = rest.len();
                kept.consume(kept.len() - rest);
                if rest > 0 {
                    self.spill.get_or_insert_default().input = kept;
                }
            }
        }
        if line.sent {
            self.active_at = turn.now;
        }
        let result = result.map_err(|panic| {
            turn.gathered.clear();
            turn.counters.panicked();
            drop_panic(panic);
            CloseReason::Panicked
        })?;
        if wishes != Wishes::default() {
            self.fulfil(turn, wishes)?;
        }
        self.settle(turn, key, before, state)?;
        Ok(result)
    }

    fn output_state(&self) -> OutputState {
        if self.has(CUT) {
            OutputState::Broken(self.ending())
        } else if self.has(BLOCKED) || self.queued() > 0 {
            OutputState::Blocked
        } else {
            OutputState::Open
        }
    }

    /// Sends what the handler gathered; the output's state was `before` its call and is `state` now.
    fn settle<K>(
        &mut self,
        turn: &mut Turn<'_, K>,
        key: Key,
        before: OutputState,
        state: OutputState,
    ) -> Result<(), CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        match state {
            OutputState::Open if turn.gathered.is_empty() => {}
            OutputState::Open => {
                let gathered = std::mem::take(turn.gathered);
                let sent = self.send(turn, &gathered);
                self.keep_output(turn, &gathered[sent.unwrap_or(0)..]);
                *turn.gathered = gathered;
            }
            OutputState::Blocked => {
                // If it was blocked before, an edge may have said since that it is not, and must not be forgotten.
                if before == OutputState::Open {
                    self.set(BLOCKED);
                }
                let gathered = std::mem::take(turn.gathered);
                self.keep_output(turn, &gathered);
                *turn.gathered = gathered;
            }
            OutputState::Overflown => {
                turn.gathered.clear();
                return Err(CloseReason::OutputFull);
            }
            OutputState::Broken(reason) => self.cut(reason),
        }
        turn.gathered.clear();
        self.tidy_spill();
        self.arm(turn, key)
    }

    /// Does what the handler asked for.
    fn fulfil<K>(&mut self, turn: &mut Turn<'_, K>, wishes: Wishes) -> Result<(), CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        if wishes.abort {
            turn.gathered.clear();
            return Err(CloseReason::Aborted);
        }
        match wishes.reading {
            Some(true) if self.has(PAUSED) => {
                self.clear(PAUSED);
                self.set(RESUMED);
            }
            Some(false) => self.set(PAUSED),
            _ => {}
        }
        match wishes.timeout {
            Timeout::AsItWas => {}
            Timeout::Off => self.clear(TIMER | TIMER_NEW),
            Timeout::In(span) => self.start_timer(span),
        }
        if wishes.close {
            self.end(CloseReason::Finished);
        }
        Ok(())
    }

    fn keep_output<K: Kernel>(&mut self, turn: &Turn<'_, K>, bytes: &[u8]) {
        if bytes.is_empty() || self.has(CUT) {
            return;
        }
        let output = &mut self.spill.get_or_insert_default().output;
        output.push(bytes);
        if output.len() > turn.limits.output_low() {
            self.set(PRESSED);
        }
    }

    /// Asks for an event when the socket takes more, the first time that it is full: most connections never are.
    fn arm<K>(&mut self, turn: &mut Turn<'_, K>, key: Key) -> Result<(), CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        if self.has(BLOCKED) && self.has(REGISTERED) && !self.has(ARMED) {
            turn.kernel.rearm(&self.stream, key).map_err(|error| CloseReason::of_error(&error))?;
            self.set(ARMED);
        }
        Ok(())
    }

    /// Sends what earlier turns left.
    fn flush_queued<K>(&mut self, turn: &mut Turn<'_, K>, key: Key) -> Result<(), CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        if self.has(BLOCKED) || self.queued() == 0 {
            return Ok(());
        }
        let mut output = std::mem::take(&mut self.spill.get_or_insert_default().output);
        if let Some(sent) = self.send(turn, output.as_slice()) {
            output.consume(sent);
            self.spill.get_or_insert_default().output = output;
        }
        self.tidy_spill();
        self.arm(turn, key)
    }

    /// Sends as much as the socket takes; `None` if it is broken.
    fn send<K>(&mut self, turn: &mut Turn<'_, K>, bytes: &[u8]) -> Option<usize>
    where
        K: Kernel<Stream = S>,
    {
        let mut line = Line { kernel: turn.kernel, stream: &self.stream, counters: turn.counters, sent: false };
        loop {
            match line.send(bytes) {
                Ok(sent) => {
                    self.active_at = turn.now;
                    if sent < bytes.len() {
                        self.set(BLOCKED);
                    }
                    return Some(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.set(BLOCKED);
                    return Some(0);
                }
                Err(error) => {
                    self.cut(CloseReason::of_error(&error));
                    return None;
                }
            }
        }
    }

    /// Nothing can be sent any more. What came in before that is still there and is shown to the handler first.
    fn cut(&mut self, reason: CloseReason) {
        if !self.has(CUT) {
            // Sending found the error, so a later read may find only the end: the reason is kept from here.
            self.ending = reason.index() as u8;
        }
        self.set(CUT | READABLE | ENDED);
        self.clear(BLOCKED | PRESSED);
        if let Some(spill) = &mut self.spill {
            spill.output = Buffer::default();
        }
        self.tidy_spill();
    }

    fn tidy_spill(&mut self) {
        if self.spill.as_ref().is_some_and(|spill| spill.input.is_empty() && spill.output.is_empty()) {
            self.spill = None;
        }
    }

    /// The last steps of a connection that its handler is done with.
    fn finish<K>(&mut self, turn: &mut Turn<'_, K>) -> Result<Next, CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        if self.has(CUT) {
            return Err(self.ending());
        }
        if self.queued() > 0 {
            return Ok(Next::Rest);
        }
        if !self.has(READABLE) || self.has(EOF) {
            return Err(self.ending());
        }
        if !self.has(LINGERING) {
            turn.kernel.finish_sending(&self.stream).map_err(|_| self.ending())?;
            self.set(LINGERING);
            self.start_timer(LINGER_TIMEOUT);
        }
        self.linger(turn)
    }

    /// Throws away what the peer still sends, until it finishes.
    fn linger<K>(&mut self, turn: &mut Turn<'_, K>) -> Result<Next, CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        let received = turn.kernel.receive(&self.stream, turn.buffer);
        turn.counters.read(*received.as_ref().unwrap_or(&0));
        match received {
            Ok(0) => Err(self.ending()),
            Ok(count) if count == turn.buffer.len() || self.has(ENDED) => Ok(Next::Again),
            Ok(_) => Ok(Next::Rest),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Next::Rest),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Next::Again),
            Err(_) => Err(self.ending()),
        }
    }
}

/// Timers.
impl<S> Connection<S> {
    fn start_timer(&mut self, span: Duration) {
        self.due_at = ticks(span);
        self.set(TIMER | TIMER_NEW);
    }

    /// Whether a timer was set that does not count yet.
    #[inline]
    pub(crate) fn has_new_timer(&self) -> bool {
        self.has(TIMER_NEW)
    }

    /// Lets a new timer count from `now` on.
    pub(crate) fn begin_timer(&mut self, now: u32) {
        if self.has(TIMER_NEW) {
            self.clear(TIMER_NEW);
            // One more, because part of the present tick is over: a timer may be late, but never early.
            self.due_at = self.due_at.wrapping_add(now).wrapping_add(1);
            if self.has(FINISHING) {
                self.active_at = now;
            }
        }
    }

    /// In how many ticks from `now` it has to be looked at; zero if it is due.
    pub(crate) fn ticks_left(&self, now: u32, limits: &Limits) -> Option<u32> {
        let own = self.has(TIMER).then_some(self.due_at);
        let idle = limits.idle_timeout.map(|timeout| self.active_at.wrapping_add(ticks(timeout)));
        let left = |due: u32| due.wrapping_sub(now).cast_signed().max(0).cast_unsigned();
        if self.has(FINISHING) && !self.has(LINGERING) {
            return Some(left(self.active_at.wrapping_add(ticks(FLUSH_TIMEOUT))));
        }
        own.into_iter().chain(idle.filter(|_| !self.has(FINISHING))).map(left).min()
    }

    /// A moment has come at which [`ticks_left`](Connection::ticks_left) is zero.
    pub(crate) fn time_out<K, H>(
        &mut self,
        handler: &mut H,
        session: &mut Option<H::Session>,
        turn: &mut Turn<'_, K>,
        key: Key,
    ) -> Next
    where
        K: Kernel<Stream = S>,
        H: Handler,
    {
        let Some(session) = session.as_mut().filter(|_| !self.has(FINISHING)) else {
            // A peer that has everything just did not finish in time; one that has not is as good as gone.
            let flushed = self.has(LINGERING);
            return Next::Close(if flushed { self.ending() } else { CloseReason::Vanished });
        };
        let own = self.has(TIMER) && self.due_at.wrapping_sub(turn.now).cast_signed() <= 0;
        if own {
            self.clear(TIMER);
        } else {
            self.active_at = turn.now;
        }
        match self.hand(turn, key, None, |client| handler.handle_timeout(client, session)) {
            Err(reason) => return Next::Close(reason),
            Ok(true) => {}
            Ok(false) if own => self.end(CloseReason::Expired),
            // Nothing moved for the whole time, so what is still queued will not move either.
            Ok(false) if self.queued() > 0 => return Next::Close(CloseReason::Idle),
            Ok(false) => self.end(CloseReason::Idle),
        }
        Next::Again
    }
}

/// A connection's way out, as the output of one call sees it.
struct Line<'a, K: Kernel> {
    kernel: &'a mut K,
    stream: &'a K::Stream,
    counters: &'a Counters,
    sent: bool,
}

impl<K: Kernel> Outlet for Line<'_, K> {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.kernel.send(self.stream, bytes);
        self.sent |= sent.is_ok();
        self.counters.wrote(*sent.as_ref().unwrap_or(&0));
        sent
    }
}

/// Even the value of a panic may panic when it is dropped; then it is left alone.
pub(crate) fn drop_panic(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}

/// What the simulation compares with what its kernel knows.
#[cfg(test)]
impl<S> Connection<S> {
    /// Bytes of input left over, and of output queued.
    pub(crate) fn spilled(&self) -> (usize, usize) {
        (self.left_over(), self.queued())
    }

    /// Whether it would sleep for ever over something that no event will tell of, if there is something to read or room
    /// to write.
    pub(crate) fn is_stuck(&self, readable: bool, writable: bool) -> bool {
        let reads = self.wants_input() || self.has(LINGERING);
        readable && reads
            || writable && self.queued() > 0
            || self.has(PRESSED) && !self.has(FINISHING) && self.queued() == 0
    }

    /// Whether it is open to input.
    pub(crate) fn reads(&self) -> bool {
        self.wants_input()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_at_rest_is_small() {
        assert!(size_of::<Connection<socket2::Socket>>() <= 48, "{}", size_of::<Connection<socket2::Socket>>());
    }

    #[test]
    fn ticks_are_rounded_up_and_bounded() {
        assert_eq!(ticks(Duration::from_millis(1)), 1);
        assert_eq!(ticks(Duration::from_millis(20)), 2);
        assert_eq!(ticks(Duration::MAX), LONGEST);
    }
}
