//! A kernel whose streams speak TLS: the loop above it sees what was said.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::settings::Tls;
use super::wire::{State, Wire};
use crate::agreed::Agreed;
use crate::kernel::{Edge, Event, Kernel, Linux, again, was_interrupted, would_block};
use crate::peer::Peer;
use crate::slab::Key;
use crate::socket::Line;
use crate::target::Target;

/// A stream of the kernel below, through TLS or as it is.
pub(crate) enum Stream<S> {
    /// Who came to an address without TLS, or was called.
    Plain(S),
    Secure(Rc<Wire<S>>),
}

/// Handshakes are done while the loop waits, before anything is told of their connections; then each is as any other, whose
/// input and output go through its keys.
pub(crate) struct Secured<K: Kernel> {
    below: K,
    tls: Tls,
    /// Those whose handshake is not over.
    opening: HashMap<Key, Opening<K::Stream>>,
    /// Until when they may take for what is to come of them next, in this order. Many are out of date: over, or answered since.
    deadlines: VecDeque<(Duration, Key)>,
    /// Those of them for whom something has come, in the order in which it has.
    due: VecDeque<Key>,
    /// Connections that are to be looked at again, though nothing will come for them.
    again: Vec<Key>,
    /// What has come over the wire.
    records: Vec<u8>,
    /// What is to go over it.
    sealed: Vec<u8>,
}

/// One whose handshake is not over.
struct Opening<S> {
    wire: Rc<Wire<S>>,
    /// Its newest deadline.
    until: Duration,
}

/// What has become of a handshake in one step.
enum Step {
    /// More is to come.
    Goes,
    /// What came was answered, and more is to come: of this there are three in a handshake at the most.
    Answered,
    /// It is over, well or not.
    Over,
}

/// As much is read from a wire at a time, beside what was kept of it.
const READ: usize = 64 << 10;
/// As much is encrypted at a time: four records.
const SEALED_AT_ONCE: usize = 64 << 10;
/// The longest message of a handshake is 64 KiB, and a record may follow it.
const INCOMING_MAX: usize = 128 << 10;
/// Before a read that was interrupted is given up for this turn.
const INTERRUPTIONS_MAX: u32 = 16;

/// The peer breaks TLS.
const BROKEN: i32 = libc::EPROTO;
/// The peer takes too long for its handshake.
const TOO_LATE: i32 = libc::ETIME;
/// The peer has gone, or was cut off, without having said that this was all.
const CUT_OFF: i32 = libc::ECONNABORTED;

fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

impl<K: Kernel> Secured<K> {
    pub(crate) fn new(below: K, tls: Tls) -> Secured<K> {
        Secured {
            below,
            tls,
            opening: HashMap::new(),
            deadlines: VecDeque::new(),
            due: VecDeque::new(),
            again: Vec::new(),
            records: Vec::new(),
            sealed: Vec::new(),
        }
    }

    /// One step of a handshake, with what has come for it.
    fn shake_hands(&mut self, wire: &Wire<K::Stream>) -> Step {
        let state = &mut *wire.state();
        state.is_due = false;
        let before = state.outgoing.waiting().len();
        if !state.has_shaken_hands() {
            // All that is said behind it is kept, for whoever it is told to.
            self.read(wire, state, &mut []);
        }
        let answers = state.outgoing.waiting().len() > before;
        self.push_out(wire, state);
        state.is_open = state.failed.is_none() && state.has_shaken_hands() && state.outgoing.is_empty();
        if state.is_open {
            self.tls.note_done();
        }
        if state.is_open && state.finishes {
            self.say_the_end(wire, state);
            state.shuts = true;
            self.push_out(wire, state);
        }
        match state.is_open || state.failed.is_some() || state.is_over {
            true => Step::Over,
            false if answers => Step::Answered,
            false => Step::Goes,
        }
    }

    /// One step of the handshake of `key`; if it is over, the loop is told.
    fn step(&mut self, key: Key, is_overdue: bool, note: &mut impl FnMut(Event)) -> usize {
        // It may be gone.
        let Some(wire) = self.opening.get(&key).map(|opening| Rc::clone(&opening.wire)) else { return 0 };
        match self.shake_hands(&wire) {
            Step::Over => {}
            Step::Goes if is_overdue => {
                self.tls.note_failed(rustls::Error::General("the handshake took longer than handshake_timeout".into()));
                wire.state().failed = Some(TOO_LATE);
            }
            Step::Goes => return 0,
            Step::Answered => {
                self.allow_time(key);
                return 0;
            }
        }
        self.opening.remove(&key);
        note(Event::Stream(key, Edge::new(true, true, !wire.state().is_open)));
        1
    }

    /// Gives `key` time for what is to come of it next.
    fn allow_time(&mut self, key: Key) {
        if let (Some(timeout), Some(opening)) = (self.tls.time_for_handshakes(), self.opening.get_mut(&key)) {
            opening.until = self.below.now() + timeout;
            self.deadlines.push_back((opening.until, key));
        }
    }

    /// The next deadline, and whose it is.
    fn next_deadline(&mut self) -> Option<(Duration, Key)> {
        while let Some(&(until, key)) = self.deadlines.front() {
            if self.opening.get(&key).is_some_and(|opening| opening.until == until) {
                return Some((until, key));
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// Ends those who take too long, unless what was waited for has come by now; who waits for their turn may have to for long.
    fn end_overdue(&mut self, note: &mut impl FnMut(Event)) -> usize {
        let mut count = 0;
        for _ in 0..self.tls.budget() {
            let Some((until, key)) = self.next_deadline() else { break };
            if self.below.now() < until {
                break;
            }
            self.deadlines.pop_front();
            count += self.step(key, true, note);
        }
        count
    }

    /// Reads until the wire is drained, or `buffer` is full; says how much of it is filled. What goes wrong is in the state.
    fn read(&mut self, wire: &Wire<K::Stream>, state: &mut State, buffer: &mut [u8]) -> usize {
        let (mut filled, mut interruptions) = (0, 0);
        loop {
            let kept = state.incoming.len();
            if kept > INCOMING_MAX {
                state.failed = Some(BROKEN);
                return filled;
            }
            if self.records.len() < kept + READ {
                self.records.resize(kept + READ, 0);
            }
            self.records[..kept].copy_from_slice(&state.incoming);
            let count = match self.below.receive(&wire.stream, &mut self.records[kept..kept + READ]) {
                Ok(0) => {
                    state.failed = Some(CUT_OFF).filter(|_| !state.is_over && state.has_begun());
                    state.is_over = true;
                    return filled;
                }
                Ok(count) => count,
                Err(error) if would_block(&error) => return filled,
                Err(error) if was_interrupted(&error) && interruptions < INTERRUPTIONS_MAX => {
                    interruptions += 1;
                    continue;
                }
                Err(error) => {
                    state.failed = Some(errno(&error));
                    return filled;
                }
            };
            let tls = &self.tls;
            let records = &mut self.records[..kept + count];
            match state.open(|| tls.current(), records, &mut buffer[filled..]) {
                Ok(more) => filled += more,
                Err(why) => {
                    self.tls.note_failed(why);
                    state.failed = Some(BROKEN);
                }
            }
            // epoll(7): a wire that gave less than it was asked for is drained; but for its end, of which only the loop is told.
            let drained = count < READ && state.is_open;
            let full = filled == buffer.len() && (filled > 0 || state.has_shaken_hands());
            if drained || full || state.failed.is_some() || state.is_over {
                return filled;
            }
        }
    }

    /// Sends what has waited for the socket; and what is to be done when all of it has left.
    fn push_out(&mut self, wire: &Wire<K::Stream>, state: &mut State) {
        while !state.outgoing.is_empty() {
            match self.below.send(&wire.stream, state.outgoing.waiting()) {
                Ok(count) => state.outgoing.advance(count),
                Err(error) if was_interrupted(&error) => {}
                Err(error) if would_block(&error) => break,
                Err(error) => {
                    state.failed = state.failed.or(Some(errno(&error)));
                    return;
                }
            }
        }
        let waits = !state.outgoing.is_empty();
        if waits && (state.claimed == 0 || !state.is_open) {
            // Nobody else waits for that.
            self.watch(wire, state);
        }
        if !waits && state.shuts {
            state.shuts = false;
            // If it fails, the connection is broken, which reading tells.
            let _ = self.below.finish_sending(&wire.stream);
        }
    }

    /// Asks for an event when the socket takes more, once: who asks again is told again what still holds, such as that the peer
    /// has finished, and would never rest.
    fn watch(&mut self, wire: &Wire<K::Stream>, state: &mut State) {
        let Some(key) = state.key.filter(|_| !state.is_armed) else { return };
        state.is_armed = true;
        if let Err(error) = self.below.rearm(&wire.stream, key) {
            state.failed = state.failed.or(Some(errno(&error)));
        }
    }

    /// Input, decrypted.
    fn receive_secure(&mut self, wire: &Wire<K::Stream>, buffer: &mut [u8]) -> io::Result<usize> {
        let state = &mut *wire.state();
        if state.is_handshaking() && !state.is_over {
            return Err(again());
        }
        self.push_out(wire, state);
        let mut filled = state.take(buffer);
        if filled < buffer.len() && !state.is_over && state.failed.is_none() {
            filled += self.read(wire, state, &mut buffer[filled..]);
            // What an alert or a new key takes.
            self.push_out(wire, state);
        }
        if filled > 0 {
            let ends = state.is_over || state.failed.is_some();
            if let (true, Some(key)) = (ends && !state.has_plain(), state.key) {
                // The socket has told all that it will, but this.
                self.again.push(key);
            }
            return Ok(filled);
        }
        match state.failed {
            Some(errno) => Err(error(errno)),
            None if state.is_over => Ok(0),
            None => Err(again()),
        }
    }

    /// Output, encrypted. What the socket does not take of it stays here, and its sender is told that nothing of that has gone,
    /// until it has.
    fn send_secure(&mut self, wire: &Wire<K::Stream>, bytes: &[u8]) -> io::Result<usize> {
        let state = &mut *wire.state();
        if state.has_finished {
            return Err(error(libc::EPIPE));
        }
        if bytes.is_empty() {
            return self.below.send(&wire.stream, bytes);
        }
        if state.is_handshaking() {
            return Err(if state.is_over { error(libc::EPIPE) } else { again() });
        }
        self.push_out(wire, state);
        if let Some(errno) = state.failed {
            return Err(error(errno));
        }
        if !state.outgoing.is_empty() {
            return Err(again());
        }
        let mut sent = state.claimed.min(bytes.len());
        state.claimed -= sent;
        while sent < bytes.len() && state.outgoing.is_empty() {
            let piece = (bytes.len() - sent).min(SEALED_AT_ONCE);
            sent += self.send_piece(wire, state, &bytes[sent..sent + piece])?;
        }
        if sent == 0 { Err(again()) } else { Ok(sent) }
    }

    /// Says how much has gone: all, or nothing for now.
    fn send_piece(&mut self, wire: &Wire<K::Stream>, state: &mut State, piece: &[u8]) -> io::Result<usize> {
        self.sealed.clear();
        if state.seal(Some(piece), &mut self.sealed).is_err() {
            state.failed = Some(BROKEN);
            return Err(error(BROKEN));
        }
        let mut gone = 0;
        while gone < self.sealed.len() {
            match self.below.send(&wire.stream, &self.sealed[gone..]) {
                Ok(count) => gone += count,
                Err(error) if was_interrupted(&error) => {}
                Err(error) if would_block(&error) => {
                    state.outgoing.push(&self.sealed[gone..]);
                    state.claimed = piece.len();
                    return Ok(0);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(piece.len())
    }

    /// Says that this was all, in TLS; it goes as far as the socket takes it.
    fn say_the_end(&mut self, wire: &Wire<K::Stream>, state: &mut State) {
        if state.has_finished || !state.is_open || state.failed.is_some() {
            return;
        }
        state.has_finished = true;
        self.sealed.clear();
        if state.seal(None, &mut self.sealed).is_ok() {
            state.outgoing.push(&self.sealed);
            self.push_out(wire, state);
        }
    }

    /// What was agreed on, if it has been.
    fn agreed_with(stream: &Stream<K::Stream>) -> Option<Agreed> {
        match stream {
            Stream::Plain(_) => None,
            Stream::Secure(wire) => wire.state().agreed(),
        }
    }
}

impl Secured<Linux> {
    /// The streams are gone: the kernel below is made anew.
    pub(crate) fn renew(&mut self) -> io::Result<()> {
        self.opening.clear();
        self.deadlines.clear();
        self.due.clear();
        self.again.clear();
        self.below.renew()
    }
}

impl<K: Kernel> Kernel for Secured<K> {
    type Stream = Stream<K::Stream>;

    fn wait(&mut self, timeout: Option<Duration>, mut note: impl FnMut(Event)) -> io::Result<usize> {
        let timeout = match self.next_deadline() {
            _ if !self.due.is_empty() || !self.again.is_empty() => Some(Duration::ZERO),
            None => timeout,
            Some((until, _)) => {
                let left = until.saturating_sub(self.below.now());
                Some(timeout.map_or(left, |timeout| timeout.min(left)))
            }
        };
        let Secured { below, opening, due, again, .. } = self;
        let mut count = below.wait(timeout, |event| match event {
            Event::Stream(key, edge) => match opening.get(&key) {
                Some(Opening { wire, .. }) if !std::mem::replace(&mut wire.state().is_due, true) => due.push_back(key),
                Some(_) => {}
                // Where there is room to write there may be something that nobody above knows of, and reading sees to it.
                None if edge.0 & Edge::WRITABLE != 0 => note(Event::Stream(key, Edge(edge.0 | Edge::READABLE))),
                None => note(event),
            },
            Event::Incoming => note(event),
        })?;
        for key in again.drain(..) {
            note(Event::Stream(key, Edge::new(true, false, true)));
            count += 1;
        }
        for _ in 0..self.tls.budget().min(self.due.len()) {
            let Some(key) = self.due.pop_front() else { break };
            count += self.step(key, false, &mut note);
        }
        Ok(count + self.end_overdue(&mut note))
    }

    fn turned(&mut self) {
        self.below.turned();
    }

    fn batch(&self) -> usize {
        self.below.batch()
    }

    fn register(&mut self, stream: &Self::Stream, key: Key, writing: bool) -> io::Result<()> {
        match stream {
            Stream::Plain(stream) => self.below.register(stream, key, writing),
            Stream::Secure(wire) => {
                self.below.register(&wire.stream, key, writing)?;
                let state = &mut *wire.state();
                (state.key, state.is_armed) = (Some(key), writing);
                self.opening.insert(key, Opening { wire: Rc::clone(wire), until: Duration::ZERO });
                self.allow_time(key);
                Ok(())
            }
        }
    }

    fn rearm(&mut self, stream: &Self::Stream, key: Key) -> io::Result<()> {
        match stream {
            Stream::Plain(stream) => self.below.rearm(stream, key),
            Stream::Secure(wire) => {
                wire.state().is_armed = true;
                self.below.rearm(&wire.stream, key)
            }
        }
    }

    fn accept(&mut self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, peer) = self.below.accept()?;
        let secure = self.tls.is_for(peer.tag());
        Ok((if secure { Stream::Secure(Rc::new(Wire::new(stream))) } else { Stream::Plain(stream) }, peer))
    }

    fn stop_listening(&mut self) {
        self.below.stop_listening();
    }

    fn open(&mut self, target: &Target, line: &Line) -> io::Result<Self::Stream> {
        self.below.open(target, line).map(Stream::Plain)
    }

    fn connect(&mut self, stream: &Self::Stream, target: &Target) -> io::Result<()> {
        self.below.connect(raw(stream), target)
    }

    fn connected(&mut self, stream: &Self::Stream) -> io::Result<bool> {
        self.below.connected(raw(stream))
    }

    fn receive(&mut self, stream: &Self::Stream, buffer: &mut [u8]) -> io::Result<usize> {
        match stream {
            Stream::Plain(stream) => self.below.receive(stream, buffer),
            Stream::Secure(wire) => self.receive_secure(wire, buffer),
        }
    }

    fn send(&mut self, stream: &Self::Stream, bytes: &[u8]) -> io::Result<usize> {
        match stream {
            Stream::Plain(stream) => self.below.send(stream, bytes),
            Stream::Secure(wire) => self.send_secure(wire, bytes),
        }
    }

    fn holds(&self, stream: &Self::Stream) -> bool {
        matches!(stream, Stream::Secure(wire) if wire.state().claimed > 0)
    }

    fn agreed(&self, stream: &Self::Stream) -> Option<Agreed> {
        Secured::<K>::agreed_with(stream)
    }

    fn unacknowledged(&self, stream: &Self::Stream) -> usize {
        let held = match stream {
            Stream::Plain(_) => 0,
            Stream::Secure(wire) => wire.state().outgoing.waiting().len(),
        };
        held + self.below.unacknowledged(raw(stream))
    }

    fn finish_sending(&mut self, stream: &Self::Stream) -> io::Result<()> {
        let Stream::Secure(wire) = stream else { return self.below.finish_sending(raw(stream)) };
        let state = &mut *wire.state();
        if state.is_handshaking() && !state.is_over {
            state.finishes = true;
            return Ok(());
        }
        self.say_the_end(wire, state);
        if state.outgoing.is_empty() {
            return self.below.finish_sending(&wire.stream);
        }
        state.shuts = true;
        Ok(())
    }

    fn close(&mut self, stream: Self::Stream, reset: bool) {
        let wire = match stream {
            Stream::Plain(stream) => return self.below.close(stream, reset),
            Stream::Secure(wire) => wire,
        };
        if let Some(key) = wire.state().key {
            self.opening.remove(&key);
        }
        if !reset {
            self.say_the_end(&wire, &mut wire.state());
        }
        if let Ok(wire) = Rc::try_unwrap(wire) {
            self.below.close(wire.into_stream(), reset);
        }
    }

    fn now(&self) -> Duration {
        self.below.now()
    }
}

/// The stream of the kernel below.
fn raw<S>(stream: &Stream<S>) -> &S {
    match stream {
        Stream::Plain(stream) => stream,
        Stream::Secure(wire) => &wire.stream,
    }
}
