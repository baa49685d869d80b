//! One connection: what it reads, hands over and flushes, and when it ends.

mod calling;
mod hand;
mod parting;
#[cfg(test)]
mod seen;
mod timers;
mod waiting;

pub(crate) use hand::{drop_panic, panicked};

use std::io;
use std::time::Duration;

use crate::buffer::Buffer;
use crate::client::Client;
use crate::config::Limits;
use crate::handler::Handler;
use crate::kernel::{Edge, Kernel, was_interrupted, would_block};
use crate::peer::Peer;
#[cfg(test)]
use crate::planted::Bug;
use crate::queue::Queue;
use crate::reason::CloseReason;
use crate::slab::Key;
use crate::slate::Slate;
use crate::stats::Counters;
use crate::wheel::ticks;
use waiting::Progress;

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
    /// What holds, and in the uppermost bits, from [`ENDING`] on, why it ends.
    flags: u32,
}

#[derive(Default)]
struct Spill {
    input: Buffer,
    output: Queue,
    progress: Progress,
}

/// What a connection needs of its shard while it is served.
pub(crate) struct Turn<'a, K: Kernel> {
    pub(crate) kernel: &'a mut K,
    /// The shard's read buffer.
    pub(crate) buffer: &'a mut [u8],
    /// The shard's slate, blank between two calls of the handler.
    pub(crate) slate: &'a mut Slate,
    pub(crate) counters: &'a Counters,
    pub(crate) limits: &'a Limits,
    /// How much a connection with nothing queued and nothing left over reads at once.
    pub(crate) plain_read: usize,
    /// The present tick, if anyone needs it: read only when there are timers.
    pub(crate) now: u32,
}

impl<K: Kernel> Turn<'_, K> {
    /// What waits for a peer has changed from one length to another.
    #[inline]
    fn shift(&mut self, before: usize, after: usize) {
        self.counters.output_waits(self.slate.shift(before, after));
    }
}

/// What is to become of a connection after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing until the next event.
    Rest,
    /// The same, after the handler has been given the whole shard, for which it has asked.
    Call,
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
const READABLE: u32 = Edge::READABLE;
/// An edge said that the peer finished or the connection broke, or that a read may stop at an urgent byte. A short read
/// proves nothing then.
const ENDED: u32 = Edge::ENDED;
/// The end of the input has been read.
const EOF: u32 = 1 << 2;
/// The handler does not want to read.
const PAUSED: u32 = 1 << 3;
/// The handler wants to be shown what it left.
const RESUMED: u32 = 1 << 4;
/// It stands in the queue of those to be served.
const QUEUED: u32 = 1 << 5;
/// It was called from here, and is not known to be connected.
const CONNECTING: u32 = 1 << 6;
/// Its registration says that it waits for room to write; or it has none yet, and needs nothing to be changed.
const ARMED: u32 = 1 << 7;
/// The socket is full, and no edge has said otherwise.
const BLOCKED: u32 = 1 << 8;
/// More than the low mark is queued: no reading, and `handle_writable` is owed.
const PRESSED: u32 = 1 << 9;
/// The handler is done with it: only flushing is left.
const FINISHING: u32 = 1 << 10;
/// Everything is flushed and the peer knows: what it still sends is thrown away until it finishes, too.
const LINGERING: u32 = 1 << 11;
/// Sending has failed: what came in before is still shown, then it ends.
const CUT: u32 = 1 << 12;
/// The server stops: what is there is read once more, then it ends.
const LAST: u32 = 1 << 13;
const TIMER: u32 = 1 << 14;
/// The timer counts from now on; nobody has asked what time it is yet.
const TIMER_NEW: u32 = 1 << 15;
/// It was called from here.
const CALLED: u32 = 1 << 16;
/// It failed before it had begun to connect; the errno stands where the last activity does.
const STILLBORN: u32 = 1 << 17;
/// The handler has said all that it will; and the peer knows.
const SHUTS: u32 = 1 << 18;
const SHUT: u32 = 1 << 19;
/// Its first message is awaited, and its timer is the deadline.
const FIRST: u32 = 1 << 20;
/// Something has begun to wait to be sent, and nobody has asked yet what time it is.
const STALLS: u32 = 1 << 21;
/// The first bit of the [index](CloseReason::index) of the reason why it ends. Only while `FINISHING` or `CUT`.
const ENDING: u32 = 24;

/// What a read that was interrupted takes from the budget of its turn, in bytes.
const INTERRUPTION_COST: usize = 4 << 10;
/// How long a peer may take none of the output that is left when its handler is done.
const FLUSH_TICKS: u32 = ticks(Duration::from_secs(30));

impl<S> Connection<S> {
    pub(crate) fn new(stream: S, address: Peer, now: u32) -> Connection<S> {
        Connection { stream, address, spill: None, active_at: now, due_at: 0, flags: ARMED }
    }

    pub(crate) fn address(&self) -> &Peer {
        &self.address
    }

    pub(crate) fn into_stream(self) -> S {
        self.stream
    }

    #[inline]
    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    #[inline]
    fn set(&mut self, flag: u32) {
        self.flags |= flag;
    }

    #[inline]
    fn clear(&mut self, flag: u32) {
        self.flags &= !flag;
    }

    #[inline]
    fn queued(&self) -> usize {
        self.spill.as_ref().map_or(0, |spill| spill.output.len())
    }

    fn left_over(&self) -> usize {
        self.spill.as_ref().map_or(0, |spill| spill.input.len())
    }

    /// Whether it owns no buffer and nothing is out of the ordinary but `flags`.
    #[inline]
    fn is_plainly(&self, flags: u32) -> bool {
        self.flags & !(ARMED | TIMER | CALLED) == flags && self.spill.is_none()
    }

    /// Whether a read would be welcome now.
    fn wants_input(&self) -> bool {
        #[cfg(test)]
        if Bug::PauseEnd.is_planted() && self.has(ENDED) {
            return !self.has(PRESSED | FINISHING);
        }
        !self.has(PAUSED | PRESSED | FINISHING)
    }

    /// Remembers what an edge said; it will not be said again.
    #[inline]
    pub(crate) fn note(&mut self, edge: Edge) {
        self.flags |= edge.0 & (READABLE | ENDED);
        if edge.0 & Edge::WRITABLE != 0 {
            self.clear(BLOCKED);
        }
    }

    /// It was active in a turn that began at tick `begun_at` and lasted until `now`, because the whole process stood
    /// still or a handler blocked: that is no reason to call it idle.
    pub(crate) fn excuse(&mut self, begun_at: u32, now: u32) {
        if self.active_at == begun_at && !self.has(FINISHING | CONNECTING) {
            self.active_at = now;
        }
    }

    /// Puts it down as queued; false if it was already.
    #[inline]
    pub(crate) fn enqueue(&mut self) -> bool {
        let first = !self.has(QUEUED);
        self.set(QUEUED);
        first
    }

    /// Whether it stands in the queue.
    #[inline]
    pub(crate) fn is_queued(&self) -> bool {
        self.has(QUEUED)
    }

    #[inline]
    pub(crate) fn dequeue(&mut self) {
        self.clear(QUEUED);
    }

    /// Asks the kernel for its events. Only now: what was sent before had no need of them.
    pub(crate) fn register<K: Kernel<Stream = S>>(&mut self, kernel: &mut K, key: Key) -> io::Result<()> {
        kernel.register(&self.stream, key, self.has(BLOCKED))?;
        if !self.has(BLOCKED) {
            self.clear(ARMED);
        }
        Ok(())
    }

    /// Decides that it ends, after what was sent has been flushed. The first reason stays.
    pub(crate) fn end(&mut self, reason: CloseReason) {
        #[cfg(test)]
        if Bug::LastReason.is_planted() {
            self.set_ending(reason);
        }
        if !self.has(FINISHING | CUT) {
            self.set_ending(reason);
            self.set(FINISHING);
            self.start_timer(FLUSH_TICKS);
        }
        self.set(FINISHING);
    }

    /// Decides that it ends at its next turn, whatever is queued: it was found broken while it was not being served.
    pub(crate) fn end_now<K: Kernel>(&mut self, turn: &mut Turn<'_, K>, reason: CloseReason) {
        self.cut(turn, reason);
        self.set(FINISHING);
    }

    /// Ends it, answering once more what has come in so far: the server stops.
    pub(crate) fn end_after_reading(&mut self) {
        self.set(LAST | READABLE);
        #[cfg(test)]
        if Bug::StopUnread.is_planted() {
            self.clear(READABLE);
        }
    }

    /// Whether something that was sent never reached the kernel: an orderly end would pass off the rest as the whole.
    pub(crate) fn lost_output(&self) -> bool {
        self.has(CUT) || self.queued() > 0
    }

    /// It is closed, and what waits for its peer goes with it.
    #[inline]
    pub(crate) fn forget_output<K: Kernel>(&self, turn: &mut Turn<'_, K>) {
        #[cfg(test)]
        if Bug::OutputLeaks.is_planted() {
            return;
        }
        if self.spill.is_some() {
            turn.shift(self.queued(), 0);
        }
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.has(FINISHING)
    }

    /// Whether it has something to do that no event will tell of.
    pub(crate) fn needs_turn(&self) -> bool {
        self.has(FINISHING | CUT) || self.wants_input() && self.has(READABLE | RESUMED)
    }

    /// The reason carries no errno.
    fn set_ending(&mut self, reason: CloseReason) {
        self.flags = self.flags & ((1 << ENDING) - 1) | (reason.index() as u32) << ENDING;
    }

    fn ending(&self) -> CloseReason {
        CloseReason::ALL[(self.flags >> ENDING) as usize]
    }
}

/// Coming in.
impl<S> Connection<S> {
    /// Asks the handler for a session. True: it gave one, and there is nothing else to be done.
    ///
    /// A panic of the handler may pass through: then the slate is to be wiped, and the connection has [`panicked`].
    #[inline(always)]
    pub(crate) fn greet<K, H>(
        &mut self,
        handler: &mut H,
        session: &mut Option<H::Session>,
        turn: &mut Turn<'_, K>,
        key: Key,
    ) -> Result<bool, CloseReason>
    where
        K: Kernel<Stream = S>,
        H: Handler,
    {
        let (writes, address) = (turn.counters.writes(), self.address);
        let plain = self.hand_plainly(turn, key, 0, CloseReason::Refused, |client| {
            *session = handler.handle_incoming(client, &address);
            session.is_some()
        })?;
        if session.is_none() {
            if turn.counters.writes() == writes {
                return Err(CloseReason::Refused);
            }
            // What it was told may be worth reading, so its input is not left unread.
            self.set(READABLE);
        }
        Ok(plain)
    }

    /// The first read of one that was just greeted and has no registration yet, so that no event will tell of anything.
    /// What is left after it, the registration tells.
    #[inline(always)]
    pub(crate) fn hear<K, H>(
        &mut self,
        handler: &mut H,
        session: &mut Option<H::Session>,
        turn: &mut Turn<'_, K>,
        key: Key,
    ) -> Result<(), CloseReason>
    where
        K: Kernel<Stream = S>,
        H: Handler,
    {
        let Some(session) = session else { return Ok(()) };
        self.set(READABLE);
        let bytes_in = turn.counters.bytes_in();
        self.serve_plainly(handler, session, turn, key)?;
        self.consumed((turn.counters.bytes_in() - bytes_in) as usize - self.left_over());
        Ok(())
    }
}

/// Serving.
impl<S> Connection<S> {
    /// Gives it a turn: flush, then read, hand over and flush until there is no more or its budget is used up.
    ///
    /// `None`, nearly always: it rests as it rested before, with nothing set and nothing left.
    ///
    /// A panic of the handler may pass through: then the slate is to be wiped, and the connection has [`panicked`].
    #[inline(always)]
    pub(crate) fn serve<K, H>(
        &mut self,
        handler: &mut H,
        session: &mut Option<H::Session>,
        turn: &mut Turn<'_, K>,
        key: Key,
    ) -> Option<Next>
    where
        K: Kernel<Stream = S>,
        H: Handler,
    {
        let mut budget = turn.limits.read_budget;
        if let Some(session) = session
            && self.is_plainly(READABLE)
        {
            // Nearly every turn of nearly every connection is this: one read, one answer, and back to rest.
            match self.serve_plainly(handler, session, turn, key) {
                Ok(true) => return None,
                Ok(false) => budget -= turn.plain_read.min(budget),
                Err(reason) => return Some(Next::Close(reason)),
            }
        }
        Some(self.serve_fully(handler, session, turn, key, budget))
    }

    /// One read and one answer of a connection at which everything is in order. True: so it is again, at rest.
    #[inline(always)]
    fn serve_plainly<K, H>(
        &mut self,
        handler: &mut H,
        session: &mut H::Session,
        turn: &mut Turn<'_, K>,
        key: Key,
    ) -> Result<bool, CloseReason>
    where
        K: Kernel<Stream = S>,
        H: Handler,
    {
        let size = turn.plain_read;
        match turn.kernel.receive(&self.stream, &mut turn.buffer[..size]) {
            Ok(count) if count > 0 => {
                turn.counters.read(count);
                self.active_at = turn.now;
                // epoll(7): a stream that gave less than it was asked for is drained.
                let drained = count < size;
                if drained {
                    self.clear(READABLE);
                }
                let act = |client: &mut Client<'_>| handler.handle_readable(client, session);
                Ok(self.hand_plainly(turn, key, count, CloseReason::Finished, act)? && drained)
            }
            received => {
                if let Received::End = self.sort_out(turn, received)? {
                    self.tell_end(handler, session, turn, key)?;
                }
                Ok(self.is_plainly(0))
            }
        }
    }

    /// The last read, of a connection at which everything but its end is in order: as good as every connection has one.
    /// `None`: there is more to be done.
    fn end_plainly<K, H>(
        &mut self,
        handler: &mut H,
        session: &mut H::Session,
        turn: &mut Turn<'_, K>,
        key: Key,
    ) -> Option<CloseReason>
    where
        K: Kernel<Stream = S>,
        H: Handler,
    {
        let size = turn.plain_read;
        match turn.kernel.receive(&self.stream, &mut turn.buffer[..size]) {
            Ok(0) => {
                turn.counters.read(0);
                self.set(EOF);
                turn.slate.eof = true;
                let bytes_out = turn.counters.bytes_out();
                let act = |client: &mut Client<'_>| handler.handle_eof(client, session);
                let ended = self.hand_plainly(turn, key, 0, CloseReason::PeerClosed, act);
                turn.slate.eof = false;
                // A farewell is activity; no read was, this time.
                if turn.counters.bytes_out() != bytes_out {
                    self.active_at = turn.now;
                }
                ended.err()
            }
            Ok(count) => {
                turn.counters.read(count);
                self.active_at = turn.now;
                // Even if that was less than was asked for: the end takes a read of its own to see.
                #[cfg(test)]
                if Bug::EndBehindData.is_planted() {
                    self.clear(READABLE | ENDED);
                }
                let act = |client: &mut Client<'_>| handler.handle_readable(client, session);
                self.hand_plainly(turn, key, count, CloseReason::Finished, act).err()
            }
            Err(error) => self.sort_out(turn, Err(error)).err(),
        }
    }

    #[inline(never)]
    fn serve_fully<K, H>(
        &mut self,
        handler: &mut H,
        session: &mut Option<H::Session>,
        turn: &mut Turn<'_, K>,
        key: Key,
        mut budget: usize,
    ) -> Next
    where
        K: Kernel<Stream = S>,
        H: Handler,
    {
        if self.has(CONNECTING)
            && let Some(next) = self.connect_on(handler, session, turn, key)
        {
            return next;
        }
        if let Some(session) = session
            && !turn.slate.calls()
            && self.is_plainly(READABLE | ENDED)
            && budget > 0
        {
            if let Some(reason) = self.end_plainly(handler, session, turn, key) {
                return Next::Close(reason);
            }
            budget -= turn.plain_read.min(budget);
        }
        match self.try_serve(handler, session, turn, key, budget) {
            Err(reason) => Next::Close(reason),
            // What has been received is answered first, a budget a turn, and after what waits above the low mark.
            Ok(Next::Rest) if self.has(LAST) && !self.has(FINISHING | PRESSED) => {
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
        mut budget: usize,
    ) -> Result<Next, CloseReason>
    where
        K: Kernel<Stream = S>,
        H: Handler,
    {
        if self.spill.is_some() {
            self.flush_queued(turn, key)?;
        }
        loop {
            let calls = turn.slate.calls();
            #[cfg(test)]
            let calls = Bug::ShardLate.instead(calls, false);
            if calls {
                return Ok(self.call_shard(turn.slate.low()));
            }
            let Some(session) = session.as_mut().filter(|_| !self.has(FINISHING)) else { return self.finish(turn) };
            let low = turn.slate.low();
            #[cfg(test)]
            let low = Bug::WritableEarly.instead(low, low.max(turn.limits.output_max / 4 * 3));
            if !self.has(PRESSED) && self.queued() > low {
                // Its shard has come to have little room.
                self.set(PRESSED);
            }
            if self.has(PRESSED) && self.queued() <= low {
                self.clear(PRESSED);
                #[cfg(test)]
                if Bug::WritableNever.is_planted() {
                    continue;
                } else if Bug::WritableTwice.is_planted() {
                    self.hand_over(turn, key, None, |client| handler.handle_writable(client, session))?;
                }
                self.hand_over(turn, key, None, |client| handler.handle_writable(client, session))?;
            } else if self.has(RESUMED) && self.wants_input() {
                self.clear(RESUMED);
                if self.left_over() > 0 {
                    self.hand_over(turn, key, None, |client| handler.handle_readable(client, session))?;
                }
                if turn.slate.calls() {
                    continue;
                }
                // Who asks for the same again and again sees what is new, too, and does not hold up the others.
                if self.has(RESUMED) && self.wants_input() {
                    if self.has(READABLE) && budget > 0 && self.left_over() < turn.limits.input_max {
                        self.read(handler, session, turn, key, &mut budget)?;
                    }
                    return Ok(Next::Again);
                }
            } else if !self.has(READABLE) || !self.wants_input() {
                #[cfg(test)]
                if Bug::PauseReads.is_planted() && self.has(PAUSED) && budget > 0 {
                    self.receive(turn, &mut budget)?;
                }
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
            Received::Nothing => {
                // If it was interrupted, it is tried again; but not for ever in one turn.
                *budget -= INTERRUPTION_COST.min(*budget);
                Ok(())
            }
            Received::Fresh(count) => {
                self.clear(RESUMED);
                let buffer = std::mem::take(&mut turn.buffer);
                let act = |client: &mut Client<'_>| handler.handle_readable(client, session);
                let handed = self.hand_over(turn, key, Some(&buffer[..count]), act);
                turn.buffer = buffer;
                handed
            }
            Received::Behind => {
                self.clear(RESUMED);
                self.hand_over(turn, key, None, |client| handler.handle_readable(client, session))
            }
            Received::End => self.tell_end(handler, session, turn, key),
        }
    }

    fn tell_end<K, H>(
        &mut self,
        handler: &mut H,
        session: &mut H::Session,
        turn: &mut Turn<'_, K>,
        key: Key,
    ) -> Result<(), CloseReason>
    where
        K: Kernel<Stream = S>,
        H: Handler,
    {
        let kept = self.hand(turn, key, None, |client| handler.handle_eof(client, session))?;
        if !kept {
            self.end(CloseReason::PeerClosed);
        }
        Ok(())
    }

    /// Reads once, no more than there is room and budget for.
    fn receive<K>(&mut self, turn: &mut Turn<'_, K>, budget: &mut usize) -> Result<Received, CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        let (left_over, queued) = match &self.spill {
            None => (0, 0),
            Some(spill) => (spill.input.len(), spill.output.len()),
        };
        let input_room = turn.limits.input_max - left_over;
        #[cfg(test)]
        let input_room = Bug::InputMax.instead(input_room, turn.limits.input_max);
        if input_room == 0 {
            // As much as is allowed may be left, and the end may follow; one byte more may not.
            return match turn.kernel.receive(&self.stream, &mut turn.buffer[..1]) {
                Ok(count) if count > 0 => {
                    turn.counters.read(count);
                    Err(CloseReason::InputFull)
                }
                received => self.sort_out(turn, received),
            };
        }
        // An answer as long as its question must fit, so no longer question is taken than there is room for.
        let output_room = turn.limits.output_max.saturating_sub(queued);
        #[cfg(test)]
        let output_room = Bug::OutputRoom.instead(output_room, turn.limits.output_max);
        let size = turn.buffer.len().min(*budget).min(input_room).min(output_room);
        let buffer = match &mut self.spill {
            Some(spill) if left_over > 0 => spill.input.room(size),
            _ => &mut turn.buffer[..size],
        };
        match turn.kernel.receive(&self.stream, buffer) {
            Ok(count) if count > 0 => {
                turn.counters.read(count);
                *budget -= count;
                #[cfg(test)]
                if Bug::ReadBudget.is_planted() {
                    *budget += count;
                }
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
            received => self.sort_out(turn, received),
        }
    }

    /// What it means that a read brought nothing.
    #[cold]
    fn sort_out<K>(&mut self, turn: &mut Turn<'_, K>, received: io::Result<usize>) -> Result<Received, CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        turn.counters.read(0);
        #[cfg(test)]
        if let (true, Err(error)) = (Bug::SpuriousEdge.is_planted(), &received) {
            return Err(CloseReason::of_error(error));
        }
        match received {
            Ok(_) => self.end_of_input(turn),
            Err(error) if was_interrupted(&error) => Ok(Received::Nothing),
            // Who can neither be sent to nor has anything more to say is not waited for.
            Err(error) if would_block(&error) && !self.has(CUT) => {
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
            Err(error) if was_interrupted(&error) => self.set(READABLE),
            Err(error) if !would_block(&error) => return Err(CloseReason::of_error(&error)),
            _ => {}
        }
        Ok(Received::Nothing)
    }

    /// Nothing can be sent any more. What came in before that is still there and is shown to the handler first.
    fn cut<K>(&mut self, turn: &mut Turn<'_, K>, reason: CloseReason)
    where
        K: Kernel,
    {
        if !self.has(CUT) {
            // Sending found the error, so a later read may find only the end: the reason is kept from here.
            self.set_ending(reason);
        }
        self.set(CUT | READABLE | ENDED);
        self.clear(BLOCKED | PRESSED);
        if let Some(spill) = &mut self.spill {
            turn.shift(spill.output.len(), 0);
            spill.output = Queue::default();
        }
        self.tidy_spill();
    }

    fn tidy_spill(&mut self) {
        if self.spill.as_ref().is_some_and(|spill| spill.input.is_empty() && spill.output.is_empty()) {
            self.spill = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_connection_at_rest_is_small() {
        assert!(size_of::<Connection<OwnedFd>>() <= 48, "{}", size_of::<Connection<OwnedFd>>());
    }
}
