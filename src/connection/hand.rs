//! Handing a connection to its handler, and what comes back: leftovers, wishes and output.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

#[cfg(test)]
use super::READABLE;
use super::{
    ARMED, BLOCKED, CONNECTING, CUT, Connection, EOF, FIRST, PAUSED, PRESSED, RESUMED, SHUTS, TIMER, TIMER_NEW, Turn,
};
#[cfg(feature = "tls")]
use crate::agreed::Agreed;
use crate::buffer::Buffer;
use crate::client::Client;
use crate::kernel::{Kernel, was_interrupted, would_block};
#[cfg(test)]
use crate::planted::Bug;
use crate::queue::Queue;
use crate::reason::CloseReason;
use crate::slab::Key;
use crate::slate::{self, Outlet, OutputState, Slate};
use crate::stats::Counters;
use crate::trace;

impl<S> Connection<S> {
    /// Lets the handler act, and ends the connection if it says so.
    #[inline]
    pub(super) fn hand_over<K>(
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
    #[inline]
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
        let Some(fresh) = fresh else { return self.hand_kept(turn, key, act) };
        let (result, rest) = self.call(turn, key, fresh, act);
        if rest > 0 {
            self.spill.get_or_insert_default().input.push(&fresh[fresh.len() - rest..]);
        }
        result
    }

    /// The same with what was left over, which may be nothing.
    fn hand_kept<K, R>(
        &mut self,
        turn: &mut Turn<'_, K>,
        key: Key,
        act: impl FnOnce(&mut Client<'_>) -> R,
    ) -> Result<R, CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        let mut kept = self.spill.as_mut().map_or_else(Buffer::default, |spill| std::mem::take(&mut spill.input));
        let (result, rest) = self.call(turn, key, kept.as_slice(), act);
        if rest > 0 {
            kept.consume(kept.len() - rest);
            self.spill.get_or_insert_default().input = kept;
        } else {
            self.tidy_spill();
        }
        result
    }

    /// Calls the handler and settles what it did; says, too, how much of the input it left.
    #[inline]
    fn call<K, R>(
        &mut self,
        turn: &mut Turn<'_, K>,
        key: Key,
        input: &[u8],
        act: impl FnOnce(&mut Client<'_>) -> R,
    ) -> (Result<R, CloseReason>, usize)
    where
        K: Kernel<Stream = S>,
    {
        let before = self.output_state();
        turn.slate.prepare(before, self.queued(), self.has(EOF));
        let bytes_out = turn.counters.bytes_out();
        let mut line = Line::new(turn.kernel, &self.stream, turn.counters);
        let mut client = Client::new(input, key, &self.address, &mut line, turn.slate);
        let result = catch_unwind(AssertUnwindSafe(|| act(&mut client)));
        let (rest, broken) = (client.input_left(), line.broken);
        self.consumed(input.len() - rest);
        let stirred = turn.counters.bytes_out() != bytes_out;
        #[cfg(test)]
        let stirred = Bug::IdleEarly.instead(stirred, false);
        if stirred {
            self.active_at = turn.now;
        }
        let settled = match result {
            Ok(result) if turn.slate.is_blank() => Ok(result),
            Ok(result) => self.settle(turn, key, before, broken).map(|()| result),
            Err(panic) => Err(panicked(turn.counters, panic)),
        };
        turn.slate.wipe();
        (settled, rest)
    }

    /// The handler's turn on a connection at which everything is in order, with the first `count` bytes of the shard's
    /// buffer. Its panics are left to [`serve`](Connection::serve)'s caller, who has a net for many connections at once.
    ///
    /// True: it was kept, and nothing is left to be done. Otherwise it ends for `reason`, at once if both sides have said
    /// all that they had to say.
    #[inline(always)]
    pub(super) fn hand_plainly<K>(
        &mut self,
        turn: &mut Turn<'_, K>,
        key: Key,
        count: usize,
        reason: CloseReason,
        act: impl FnOnce(&mut Client<'_>) -> bool,
    ) -> Result<bool, CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        let mut line = Line::new(turn.kernel, &self.stream, turn.counters);
        let mut client = Client::new(&turn.buffer[..count], key, &self.address, &mut line, turn.slate);
        let kept = act(&mut client);
        let rest = client.input_left();
        if rest == 0 && turn.slate.is_blank() {
            if kept {
                return Ok(true);
            }
            if self.has(EOF) {
                return Err(reason);
            }
        }
        let broken = line.broken;
        self.clear_up(turn, key, broken, &(count - rest..count))?;
        if !kept {
            self.end(reason);
        }
        Ok(false)
    }

    /// What is left to be done after a plain turn, with the `rest` of the shard's buffer not consumed.
    #[inline(never)]
    fn clear_up<K>(
        &mut self,
        turn: &mut Turn<'_, K>,
        key: Key,
        broken: Option<CloseReason>,
        rest: &Range<usize>,
    ) -> Result<(), CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        if !rest.is_empty() {
            self.spill.get_or_insert_default().input.push(&turn.buffer[rest.clone()]);
        }
        let settled = self.settle(turn, key, OutputState::Open, broken);
        turn.slate.wipe();
        settled
    }

    #[inline]
    fn output_state(&self) -> OutputState {
        if self.spill.is_none() && !self.has(CUT | BLOCKED | CONNECTING | SHUTS) {
            OutputState::Open
        } else if self.has(CUT | SHUTS) {
            OutputState::Broken
        } else if self.has(BLOCKED | CONNECTING) || self.queued() > 0 {
            OutputState::Blocked
        } else {
            OutputState::Open
        }
    }

    /// Grants the handler's wishes and sends what it gathered; the output's state was `before` its call.
    fn settle<K>(
        &mut self,
        turn: &mut Turn<'_, K>,
        key: Key,
        before: OutputState,
        broken: Option<CloseReason>,
    ) -> Result<(), CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        if turn.slate.has(slate::ABORT) {
            return Err(CloseReason::Aborted);
        }
        if turn.slate.has(slate::REFUSED) {
            turn.counters.refused_messages(turn.slate.refused());
        }
        self.grant(turn.slate);
        self.send_gathered(turn, before);
        if turn.slate.state() == OutputState::Overflown {
            return Err(CloseReason::OutputFull);
        }
        if let Some(reason) = broken {
            self.cut(turn, reason);
        }
        self.tidy_spill();
        self.shut_when_flushed(turn);
        self.arm(turn, key)
    }

    fn grant(&mut self, slate: &Slate) {
        if slate.has(slate::PAUSE) {
            self.set(PAUSED);
        } else if slate.has(slate::RESUME) {
            self.clear(PAUSED);
            self.set(RESUMED);
            #[cfg(test)]
            match () {
                () if Bug::Resume.is_planted() => self.clear(RESUMED | READABLE),
                () if Bug::ResumeLeft.is_planted() => self.clear(RESUMED),
                () => {}
            }
        }
        if slate.has(slate::TIMER) {
            self.start_timer(slate.timeout_ticks);
        } else if slate.has(slate::NO_TIMER) {
            self.clear(TIMER | TIMER_NEW | FIRST);
        }
        if slate.has(slate::FINISH) {
            self.set(SHUTS);
        }
        if slate.has(slate::CLOSE) {
            self.end(CloseReason::Finished);
        }
    }

    fn send_gathered<K>(&mut self, turn: &mut Turn<'_, K>, before: OutputState)
    where
        K: Kernel<Stream = S>,
    {
        let mut gathered = turn.slate.take_gathered();
        match turn.slate.state() {
            OutputState::Open => {
                self.send_all(turn, &mut gathered);
                self.keep_output(turn, &mut gathered);
            }
            OutputState::Blocked => {
                // If it was blocked before, an edge may have said since that it is not, and must not be forgotten.
                if matches!(before, OutputState::Open) {
                    self.set(BLOCKED);
                }
                self.keep_output(turn, &mut gathered);
            }
            OutputState::Overflown | OutputState::Broken => {}
        }
        turn.slate.give_back(gathered);
    }

    fn keep_output<K: Kernel>(&mut self, turn: &mut Turn<'_, K>, gathered: &mut Queue) {
        if gathered.is_empty() || self.has(CUT) {
            return;
        }
        #[cfg(test)]
        if Bug::PartialSend.is_planted() {
            return;
        }
        let output = &mut self.spill.get_or_insert_default().output;
        let before = output.len();
        output.append(gathered);
        turn.shift(before, output.len());
        let low = turn.slate.low();
        #[cfg(test)]
        let low = Bug::WritableAlways.instead(low, 0);
        if output.len() > low {
            self.set(PRESSED);
        }
        if before == 0 {
            self.begin_to_wait(turn.limits);
        }
    }

    /// Asks for an event when the socket takes more, the first time that it is full: most connections never are.
    fn arm<K>(&mut self, turn: &mut Turn<'_, K>, key: Key) -> Result<(), CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        if self.has(BLOCKED) && !self.has(ARMED) {
            turn.kernel.rearm(&self.stream, key).map_err(|error| CloseReason::of_error(&error))?;
            self.set(ARMED);
        }
        Ok(())
    }

    /// Sends what earlier turns left.
    pub(super) fn flush_queued<K>(&mut self, turn: &mut Turn<'_, K>, key: Key) -> Result<(), CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        if self.has(BLOCKED) || self.queued() == 0 {
            return Ok(());
        }
        let mut output = std::mem::take(&mut self.spill.get_or_insert_default().output);
        let before = output.len();
        self.send_all(turn, &mut output);
        let left = if self.has(CUT) { 0 } else { output.len() };
        turn.shift(before, left);
        if !self.has(CUT) {
            self.spill.get_or_insert_default().output = output;
        }
        self.tidy_spill();
        self.shut_when_flushed(turn);
        self.arm(turn, key)
    }

    /// Sends what is in `queue`, up to what the socket does not take.
    fn send_all<K>(&mut self, turn: &mut Turn<'_, K>, queue: &mut Queue)
    where
        K: Kernel<Stream = S>,
    {
        while !queue.is_empty() && !self.has(BLOCKED | CUT) {
            let sent = self.send(turn, queue.front());
            queue.consume(sent);
        }
    }

    /// Sends as much as the socket takes, and remembers if it is full or broken.
    fn send<K>(&mut self, turn: &mut Turn<'_, K>, bytes: &[u8]) -> usize
    where
        K: Kernel<Stream = S>,
    {
        if bytes.is_empty() {
            return 0;
        }
        let mut line = Line::new(turn.kernel, &self.stream, turn.counters);
        let sent = line.send(bytes);
        let broken = line.broken;
        if sent > 0 {
            self.active_at = turn.now;
            if let Some(spill) = &mut self.spill {
                spill.progress.moved(turn.now);
            }
        }
        if let Some(reason) = broken {
            self.cut(turn, reason);
        } else if sent < bytes.len() {
            self.set(BLOCKED);
        }
        sent
    }
}

/// A call that does not wait is hardly ever interrupted; one that always is would keep the shard for ever.
const INTERRUPTIONS_MAX: u32 = 16;

/// A connection's way out, as the output of one call sees it.
struct Line<'a, K: Kernel> {
    kernel: &'a mut K,
    stream: &'a K::Stream,
    counters: &'a Counters,
    /// Why it takes nothing any more.
    broken: Option<CloseReason>,
}

impl<'a, K: Kernel> Line<'a, K> {
    #[inline]
    fn new(kernel: &'a mut K, stream: &'a K::Stream, counters: &'a Counters) -> Line<'a, K> {
        Line { kernel, stream, counters, broken: None }
    }

    /// The first attempt to send has failed: tries again if it was only interrupted.
    #[cold]
    #[inline(never)]
    fn send_again(&mut self, bytes: &[u8], mut error: io::Error) -> usize {
        for _ in 0..INTERRUPTIONS_MAX {
            if !was_interrupted(&error) {
                break;
            }
            match self.kernel.send(self.stream, bytes) {
                Ok(sent) => {
                    self.counters.wrote(sent);
                    return sent;
                }
                Err(again) => error = again,
            }
        }
        self.counters.wrote(0);
        if !would_block(&error) {
            self.broken = Some(CloseReason::of_error(&error));
        }
        0
    }
}

impl<K: Kernel> Outlet for Line<'_, K> {
    fn now(&self) -> Duration {
        self.kernel.now()
    }

    #[inline]
    fn send(&mut self, bytes: &[u8]) -> usize {
        match self.kernel.send(self.stream, bytes) {
            Ok(sent) => {
                self.counters.wrote(sent);
                sent
            }
            Err(error) => self.send_again(bytes, error),
        }
    }

    fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    fn holds(&self) -> bool {
        self.kernel.holds(self.stream)
    }

    #[cfg(feature = "tls")]
    fn agreed(&self) -> Option<Agreed> {
        self.kernel.agreed(self.stream)
    }
}

/// Counts a panic of the handler, and says how its connection ends.
pub(crate) fn panicked(counters: &Counters, panic: Box<dyn Any + Send>) -> CloseReason {
    counters.panicked();
    trace::panicked(&*panic);
    drop_panic(panic);
    CloseReason::Panicked
}

/// Even the value of a panic may panic when it is dropped; then it is left alone.
pub(crate) fn drop_panic(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}
