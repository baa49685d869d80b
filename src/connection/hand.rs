//! Handing a connection to its handler, and what comes back: leftovers, wishes and output.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{ARMED, BLOCKED, CUT, Connection, EOF, PAUSED, PRESSED, RESUMED, TIMER, TIMER_NEW, Turn};
use crate::buffer::Buffer;
use crate::client::{Client, ClientId, Wishes};
use crate::kernel::Kernel;
use crate::output::{Outlet, Output, OutputState};
use crate::reason::CloseReason;
use crate::slab::Key;
use crate::stats::Counters;

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
        let (before, queued, eof) = (self.output_state(), self.queued(), self.has(EOF));
        let mut line =
            Line { kernel: turn.kernel, stream: &self.stream, counters: turn.counters, sent: false, broken: None };
        let output = Output::new(&mut line, turn.gathered, queued, turn.limits.output_max, before);
        let id = ClientId { shard: turn.shard, key };
        let mut client = Client::new(input, id, &self.address, eof, output);
        let result = catch_unwind(AssertUnwindSafe(|| act(&mut client)));
        let (rest, wishes, timeout_ticks) = (client.input_left(), client.wishes, client.timeout_ticks);
        let state = client.output.state;
        let broken = line.broken;
        if line.sent {
            self.active_at = turn.now;
        }
        let settled = match result {
            Ok(result) if wishes.is_empty() && matches!(state, OutputState::Open) && turn.gathered.is_empty() => {
                Ok(result)
            }
            Ok(result) => self.fulfil(turn, wishes, timeout_ticks).and_then(|()| {
                self.settle(turn, key, before, state, broken)?;
                Ok(result)
            }),
            Err(panic) => {
                turn.gathered.clear();
                turn.counters.panicked();
                drop_panic(panic);
                Err(CloseReason::Panicked)
            }
        };
        (settled, rest)
    }

    #[inline]
    fn output_state(&self) -> OutputState {
        if self.spill.is_none() && !self.has(CUT | BLOCKED) {
            OutputState::Open
        } else if self.has(CUT) {
            OutputState::Broken
        } else if self.has(BLOCKED) || self.queued() > 0 {
            OutputState::Blocked
        } else {
            OutputState::Open
        }
    }

    /// Does what the handler asked for.
    fn fulfil<K>(&mut self, turn: &mut Turn<'_, K>, wishes: Wishes, timeout_ticks: u32) -> Result<(), CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        if wishes.has(Wishes::ABORT) {
            turn.gathered.clear();
            return Err(CloseReason::Aborted);
        }
        if wishes.has(Wishes::PAUSE) {
            self.set(PAUSED);
        } else if wishes.has(Wishes::RESUME) && self.has(PAUSED) {
            self.clear(PAUSED);
            self.set(RESUMED);
        }
        if wishes.has(Wishes::TIMER) {
            self.start_timer(timeout_ticks);
        } else if wishes.has(Wishes::NO_TIMER) {
            self.clear(TIMER | TIMER_NEW);
        }
        if wishes.has(Wishes::CLOSE) {
            self.end(CloseReason::Finished);
        }
        Ok(())
    }

    /// Sends what the handler gathered; the output's state was `before` its call and is `state` now.
    fn settle<K>(
        &mut self,
        turn: &mut Turn<'_, K>,
        key: Key,
        before: OutputState,
        state: OutputState,
        broken: Option<CloseReason>,
    ) -> Result<(), CloseReason>
    where
        K: Kernel<Stream = S>,
    {
        let gathered = std::mem::take(turn.gathered);
        match state {
            OutputState::Open => {
                let sent = self.send(turn, &gathered);
                self.keep_output(turn, &gathered[sent..]);
            }
            OutputState::Blocked => {
                // If it was blocked before, an edge may have said since that it is not, and must not be forgotten.
                if matches!(before, OutputState::Open) {
                    self.set(BLOCKED);
                }
                self.keep_output(turn, &gathered);
            }
            OutputState::Overflown | OutputState::Broken => {}
        }
        *turn.gathered = gathered;
        turn.gathered.clear();
        if state == OutputState::Overflown {
            return Err(CloseReason::OutputFull);
        }
        if let Some(reason) = broken {
            self.cut(reason);
        }
        self.tidy_spill();
        self.arm(turn, key)
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
        let sent = self.send(turn, output.as_slice());
        if !self.has(CUT) {
            output.consume(sent);
            self.spill.get_or_insert_default().output = output;
        }
        self.tidy_spill();
        self.arm(turn, key)
    }

    /// Sends as much as the socket takes, and remembers if it is full or broken.
    fn send<K>(&mut self, turn: &mut Turn<'_, K>, bytes: &[u8]) -> usize
    where
        K: Kernel<Stream = S>,
    {
        if bytes.is_empty() {
            return 0;
        }
        let mut line =
            Line { kernel: turn.kernel, stream: &self.stream, counters: turn.counters, sent: false, broken: None };
        let sent = line.send(bytes);
        let (active, broken) = (line.sent, line.broken);
        if active {
            self.active_at = turn.now;
        }
        if let Some(reason) = broken {
            self.cut(reason);
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
    /// Whether it took anything.
    sent: bool,
    /// Why it takes nothing any more.
    broken: Option<CloseReason>,
}

impl<K: Kernel> Line<'_, K> {
    /// Sending has failed.
    #[cold]
    fn fail(&mut self, error: &io::Error) -> usize {
        self.counters.wrote(0);
        if error.kind() != io::ErrorKind::WouldBlock {
            self.broken = Some(CloseReason::of_error(error));
        }
        0
    }
}

impl<K: Kernel> Outlet for Line<'_, K> {
    fn send(&mut self, bytes: &[u8]) -> usize {
        for _ in 0..INTERRUPTIONS_MAX {
            match self.kernel.send(self.stream, bytes) {
                Ok(sent) => {
                    self.counters.wrote(sent);
                    self.sent = true;
                    return sent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.fail(&error),
            }
        }
        self.fail(&io::Error::from_raw_os_error(libc::EINTR))
    }

    fn is_broken(&self) -> bool {
        self.broken.is_some()
    }
}

/// Even the value of a panic may panic when it is dropped; then it is left alone.
pub(crate) fn drop_panic(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}
