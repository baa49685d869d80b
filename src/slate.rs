//! What one call of a handler leaves to be done: output on its way, straight or gathered until it returns, and wishes.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "tls")]
use crate::agreed::Agreed;
use crate::config::{Limits, Overflow};
#[cfg(test)]
use crate::planted::Bug;
use crate::queue::{Piece, Queue};

/// Where bytes leave: the connection's socket, whatever the kernel.
pub(crate) trait Outlet {
    /// Sends as much as fits without waiting, and says how much that was. Less than all means that the socket is full,
    /// or [broken](Outlet::is_broken).
    fn send(&mut self, bytes: &[u8]) -> usize;

    /// Whether the socket has refused for good.
    fn is_broken(&self) -> bool;

    /// The time, since some moment.
    fn now(&self) -> Duration;

    /// Whether a part of what was sent last is on its way although [`send`](Outlet::send) said that nothing of it is.
    fn holds(&self) -> bool {
        false
    }

    /// What was agreed on with the peer, where there is anything to agree on.
    #[cfg(feature = "tls")]
    fn agreed(&self) -> Option<Agreed> {
        None
    }
}

/// What one call of a handler asks for: output on its way, and wishes to be granted when it returns.
///
/// There is one a shard, and between two calls it is blank: a call that only answers, as nearly all do, finds nothing to
/// be prepared and leaves nothing to be looked at but one word.
#[derive(Debug)]
pub(crate) struct Slate {
    /// What is out of the ordinary: nothing, nearly always.
    marks: u16,
    state: OutputState,
    /// Whether the peer has finished sending.
    pub(crate) eof: bool,
    /// Whether the handler has asked for the whole shard, and has not been given it.
    calls: bool,
    /// The shard's index.
    pub(crate) shard: u32,
    /// How long the client's new timer is to run; only with [`TIMER`].
    pub(crate) timeout_ticks: u32,
    /// When the turn began, if the clock was looked at then.
    pub(crate) turn_at: Option<Duration>,
    /// What earlier calls left behind for the socket to take.
    queued: usize,
    queued_max: usize,
    /// How much may wait until the peer is waited for, while the shard has room.
    low: usize,
    /// What waits for all peers of the shard, but for what is gathered here; and how much may.
    shard_waiting: usize,
    shard_max: usize,
    overflow: Overflow,
    /// Messages that were refused in this call; only with [`REFUSED`].
    refused: u32,
    /// What was sent in this call and has not left. It comes after all that is queued.
    gathered: Queue,
}

/// What has become of a connection's output during a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputState {
    /// The socket took all that it was given.
    Open,
    /// It is full; it will say when it is not.
    Blocked,
    /// A message did not fit under the limit, or not to its end: the stream has a hole now.
    Overflown,
    /// The socket refused for good.
    Broken,
}

/// Wishes, to be granted when the handler returns.
pub(crate) const PAUSE: u16 = 1 << 0;
pub(crate) const RESUME: u16 = 1 << 1;
pub(crate) const CLOSE: u16 = 1 << 2;
pub(crate) const ABORT: u16 = 1 << 3;
/// Its timer is to run, for as many ticks as the slate says.
pub(crate) const TIMER: u16 = 1 << 4;
pub(crate) const NO_TIMER: u16 = 1 << 5;
/// Nothing more will be sent.
pub(crate) const FINISH: u16 = 1 << 7;
/// The whole shard, when the call is over.
const CALL: u16 = 1 << 8;
/// A message was not taken, and nothing of it has gone.
pub(crate) const REFUSED: u16 = 1 << 9;
/// Something waits to be sent, or nothing can be: what is sent now cannot go straight to the socket.
const DETAINED: u16 = 1 << 6;

/// A message of this size is worth a system call of its own: copying it would cost more than the call saves.
const DIRECT: usize = 4 << 10;
/// Gathered bytes leave when there are as many: enough for one call to carry, few enough to stay in the cache.
const GATHERED_MAX: usize = 64 << 10;

impl Slate {
    /// A blank one, for a shard on which so much output may wait.
    pub(crate) fn new(shard: u32, limits: &Limits) -> Slate {
        let (state, gathered) = (OutputState::Open, Queue::default());
        Slate {
            marks: 0,
            state,
            eof: false,
            calls: false,
            shard,
            timeout_ticks: 0,
            turn_at: None,
            queued: 0,
            queued_max: limits.output_max,
            low: limits.output_low(),
            shard_waiting: 0,
            shard_max: limits.output_max_shard.unwrap_or(usize::MAX),
            overflow: limits.overflow,
            refused: 0,
            gathered,
        }
    }

    /// Prepares it for a call that does not find everything in order.
    pub(crate) fn prepare(&mut self, state: OutputState, queued: usize, eof: bool) {
        debug_assert!(self.is_blank() && self.queued == 0, "a slate is wiped after each call");
        (self.state, self.queued, self.eof) = (state, queued, eof);
        if state != OutputState::Open || queued > 0 {
            self.marks = DETAINED;
        }
    }

    /// Whether nothing is left to be done.
    #[inline]
    pub(crate) fn is_blank(&self) -> bool {
        self.marks == 0
    }

    /// Makes it blank, whatever was on it.
    pub(crate) fn wipe(&mut self) {
        (self.marks, self.state, self.eof, self.queued) = (0, OutputState::Open, false, 0);
        self.refused = 0;
        self.gathered.clear();
    }

    pub(crate) fn has(&self, wish: u16) -> bool {
        self.marks & wish != 0
    }

    /// The later of two wishes that contradict each other counts.
    pub(crate) fn wish(&mut self, wish: u16, instead_of: u16) {
        self.marks = self.marks & !instead_of | wish;
    }

    /// Asks for the whole shard.
    pub(crate) fn call(&mut self) {
        self.calls = true;
        self.wish(CALL, 0);
    }

    #[inline]
    pub(crate) fn calls(&self) -> bool {
        self.calls
    }

    /// Whether the shard is asked for; then it is not any more.
    #[inline]
    pub(crate) fn take_call(&mut self) -> bool {
        std::mem::take(&mut self.calls)
    }

    pub(crate) fn state(&self) -> OutputState {
        self.state
    }

    /// Takes what was gathered, to be sent by whoever has the socket; [given back](Slate::give_back) for its memory.
    pub(crate) fn take_gathered(&mut self) -> Queue {
        std::mem::take(&mut self.gathered)
    }

    pub(crate) fn give_back(&mut self, gathered: Queue) {
        self.gathered = gathered;
        self.gathered.clear();
    }

    /// How many bytes wait, in the connection's queue and here.
    pub(crate) fn waiting(&self) -> usize {
        self.queued + self.gathered.len()
    }

    /// Whether so much waits for a full socket that the handler will be told when it has left.
    pub(crate) fn is_high(&self) -> bool {
        self.state == OutputState::Blocked && self.waiting() > self.low()
    }

    /// How many bytes more may be made to wait.
    pub(crate) fn room(&self) -> usize {
        let most = self.queued_max;
        #[cfg(test)]
        let most = Bug::OutputMax.instead(most, most + 1);
        let shard_max = self.shard_max;
        #[cfg(test)]
        let shard_max = Bug::OutputMaxShard.instead(shard_max, shard_max.saturating_add(1));
        let room = most.saturating_sub(self.waiting()).min(shard_max.saturating_sub(self.shard_waits()));
        if self.is_open() { room } else { 0 }
    }

    /// What waits for all peers of the shard, what is gathered here included.
    fn shard_waits(&self) -> usize {
        self.shard_waiting + self.gathered.len()
    }

    /// How much may wait for a peer until it is waited for: nothing, when the shard has little room.
    pub(crate) fn low(&self) -> usize {
        let pressed = self.shard_waits() > self.shard_max / 2;
        #[cfg(test)]
        let pressed = pressed && !Bug::ShardUnpressed.is_planted();
        if pressed { 0 } else { self.low }
    }

    /// What waits for one peer of the shard has changed; says what waits for all of them now.
    pub(crate) fn shift(&mut self, before: usize, after: usize) -> usize {
        self.shard_waiting = self.shard_waiting - before + after;
        self.shard_waiting
    }

    /// How many messages this call has not been able to send.
    pub(crate) fn refused(&self) -> u32 {
        self.refused
    }

    /// Whether anything sent now can still arrive.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, OutputState::Open | OutputState::Blocked)
    }

    /// Takes a message, to the last byte; false if that is impossible. `last` says that no other is likely to follow in
    /// this call, so that waiting for it would only cost a copy.
    #[inline]
    pub(crate) fn send(&mut self, outlet: &mut dyn Outlet, message: &[u8], last: bool) -> bool {
        let straight = last && !message.is_empty() || message.len() >= DIRECT;
        if !straight || self.marks & DETAINED != 0 {
            return self.queue(outlet, Piece::Own(message));
        }
        let sent = outlet.send(message);
        sent == message.len() || self.stem(outlet, Piece::Own(message), sent)
    }

    /// The same with a message that is kept by reference for as long as it waits. There is never a reason to wait for
    /// another: that would take a copy.
    pub(crate) fn send_shared(&mut self, outlet: &mut dyn Outlet, message: &Arc<[u8]>) -> bool {
        if message.is_empty() || self.marks & DETAINED != 0 {
            return self.queue(outlet, Piece::Shared(message, 0));
        }
        let sent = outlet.send(message);
        sent == message.len() || self.stem(outlet, Piece::Shared(message, 0), sent)
    }

    /// The socket took `sent` bytes of a message, which are not all: keeps the rest.
    #[cold]
    fn stem(&mut self, outlet: &mut dyn Outlet, message: Piece<'_>, sent: usize) -> bool {
        self.block(outlet);
        let torn = sent > 0 || outlet.holds();
        self.keep(outlet, message.skip(sent), torn)
    }

    fn queue(&mut self, outlet: &mut dyn Outlet, mut message: Piece<'_>) -> bool {
        let mut torn = false;
        if message.bytes().len() > self.room() {
            // Gathered bytes may be in the way only because nobody has tried to send them yet.
            self.flush(outlet);
            if matches!(self.state, OutputState::Open) && message.bytes().len() > self.room() {
                let sent = self.push_out(outlet, message.bytes());
                (message, torn) = (message.skip(sent), sent > 0 || outlet.holds());
            }
        }
        self.keep(outlet, message, torn)
    }

    /// Keeps what the socket has not taken of a message, which is `torn` if that is a part of it, if there is room.
    fn keep(&mut self, outlet: &mut dyn Outlet, message: Piece<'_>, torn: bool) -> bool {
        if self.is_open() && message.bytes().len() > self.room() {
            match self.overflow {
                Overflow::Pause => {}
                Overflow::Refuse if !torn => {
                    self.marks |= REFUSED;
                    self.refused += 1;
                    return false;
                }
                Overflow::Refuse | Overflow::Close => {
                    self.state = OutputState::Overflown;
                    self.marks |= DETAINED;
                }
            }
        }
        if self.is_open() {
            self.gather(outlet, message);
        }
        self.is_open()
    }

    /// Takes as much of `bytes` as there is room for; zero when there is none.
    pub(crate) fn write(&mut self, outlet: &mut dyn Outlet, bytes: &[u8]) -> usize {
        if bytes.len() > self.room() {
            self.flush(outlet);
        }
        let count = bytes.len().min(self.room());
        self.gather(outlet, Piece::Own(&bytes[..count]));
        count
    }

    /// Gives the socket what was gathered.
    pub(crate) fn flush(&mut self, outlet: &mut dyn Outlet) {
        if !matches!(self.state, OutputState::Open) || self.queued > 0 || self.gathered.is_empty() {
            return;
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        while !gathered.is_empty() && matches!(self.state, OutputState::Open) {
            let sent = self.push_out(outlet, gathered.front());
            gathered.consume(sent);
        }
        self.gathered = gathered;
        if self.gathered.is_empty() && matches!(self.state, OutputState::Open) {
            self.marks &= !DETAINED;
        }
    }

    fn gather(&mut self, outlet: &mut dyn Outlet, piece: Piece<'_>) {
        if piece.bytes().is_empty() {
            return;
        }
        self.gathered.push(piece);
        self.marks |= DETAINED;
        if self.gathered.len() >= GATHERED_MAX {
            self.flush(outlet);
        }
    }

    /// Sends, and says how much left. Less than all means that the socket is full, or broken.
    fn push_out(&mut self, outlet: &mut dyn Outlet, bytes: &[u8]) -> usize {
        let sent = outlet.send(bytes);
        if sent < bytes.len() {
            self.block(outlet);
        }
        sent
    }

    fn block(&mut self, outlet: &dyn Outlet) {
        self.state = if outlet.is_broken() { OutputState::Broken } else { OutputState::Blocked };
        self.marks |= DETAINED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes up to `room` bytes; counts the calls.
    struct Pipe {
        taken: Vec<u8>,
        room: usize,
        calls: usize,
    }

    impl Outlet for Pipe {
        fn send(&mut self, bytes: &[u8]) -> usize {
            self.calls += 1;
            let count = bytes.len().min(self.room);
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            count
        }

        fn is_broken(&self) -> bool {
            false
        }

        fn now(&self) -> Duration {
            Duration::ZERO
        }
    }

    fn limits(overflow: Overflow) -> Limits {
        Limits { output_max: 100, output_low: Some(50), overflow, ..Limits::default() }
    }

    fn run(room: usize, queued: usize, act: impl FnOnce(&mut Slate, &mut Pipe)) -> (Pipe, Vec<u8>, OutputState) {
        let (mut pipe, mut slate) =
            (Pipe { taken: Vec::new(), room, calls: 0 }, Slate::new(0, &limits(Overflow::Close)));
        slate.prepare(OutputState::Open, queued, false);
        act(&mut slate, &mut pipe);
        let untouched = slate.waiting() == 0 && slate.state == OutputState::Open;
        assert_eq!(slate.is_blank(), untouched, "what is out of order is marked");
        let (mut left, mut gathered) = (slate.take_gathered(), Vec::new());
        while !left.is_empty() {
            gathered.extend_from_slice(left.front());
            left.consume(left.front().len());
        }
        (pipe, gathered, slate.state)
    }

    #[test]
    fn the_last_message_goes_straight_and_others_gather() {
        let (pipe, gathered, _) = run(1000, 0, |slate, pipe| assert!(slate.send(pipe, b"one", true)));
        assert_eq!((pipe.taken.as_slice(), gathered.len(), pipe.calls), (b"one".as_slice(), 0, 1));
        let (pipe, gathered, _) = run(1000, 0, |slate, pipe| {
            assert!(slate.send(pipe, b"one", false) && slate.send(pipe, b"two", true));
        });
        assert_eq!((pipe.calls, gathered.as_slice()), (0, b"onetwo".as_slice()), "the second must not overtake");
    }

    #[test]
    fn a_shared_message_goes_straight_and_its_rest_waits() {
        let message: Arc<[u8]> = [9; 80].into();
        let (pipe, gathered, state) = run(50, 0, |slate, pipe| {
            assert!(slate.send_shared(pipe, &message));
            assert_eq!((slate.waiting(), Arc::strong_count(&message)), (30, 1), "so little is copied");
            assert!(slate.send(pipe, &[1; 20], true) && slate.send_shared(pipe, &message.clone()[..50].into()));
            assert!(!slate.send_shared(pipe, &message), "100 are the most that may wait");
        });
        assert_eq!((pipe.taken, pipe.calls, state), (vec![9; 50], 1, OutputState::Overflown));
        assert_eq!(gathered, [vec![9; 30], vec![1; 20], vec![9; 50]].concat());
    }

    #[test]
    fn a_shared_message_does_not_overtake_what_was_gathered() {
        let message: Arc<[u8]> = [9; 200].into();
        let (pipe, gathered, _) = run(1000, 0, |slate, pipe| {
            assert!(slate.send(pipe, b"before", false) && slate.send_shared(pipe, &message));
            assert!(slate.send_shared(pipe, &[].into()));
            assert!(slate.send(pipe, b"after", true));
        });
        assert!(pipe.taken == [b"before".as_slice(), &message, b"after"].concat() && gathered.is_empty());
    }

    #[test]
    fn nothing_overtakes_what_is_queued() {
        let (pipe, gathered, _) = run(1000, 1, |slate, pipe| assert!(slate.send(pipe, &[7; 99], true)));
        assert_eq!((pipe.calls, gathered.len()), (0, 99));
    }

    #[test]
    fn a_message_beyond_the_limit_fits_if_the_socket_takes_it() {
        let (pipe, gathered, state) = run(1000, 0, |slate, pipe| {
            assert!(slate.send(pipe, &[1; 10], false) && slate.send(pipe, &[2; 500], false));
        });
        assert_eq!((pipe.taken.len(), gathered.len(), state), (510, 0, OutputState::Open));
    }

    #[test]
    fn a_message_is_taken_whole_or_not_at_all() {
        let (_, gathered, state) = run(0, 0, |slate, pipe| {
            assert!(slate.send(pipe, &[1; 60], true));
            assert!(!slate.send(pipe, &[2; 41], true), "60 + 41 is more than 100");
        });
        assert_eq!((gathered, state), (vec![1; 60], OutputState::Overflown));
    }

    /// The same with a policy, on a shard where 30 bytes of 100 are taken by others.
    fn keep(overflow: Overflow, sizes: &[usize]) -> (Vec<bool>, usize, OutputState, u32) {
        let mut pipe = Pipe { taken: Vec::new(), room: 20, calls: 0 };
        let mut slate = Slate::new(0, &Limits { output_max_shard: Some(100), ..limits(overflow) });
        assert_eq!((slate.room(), slate.low()), (100, 50));
        slate.shift(0, 60);
        assert_eq!((slate.shift(60, 30), slate.room()), (30, 70));
        let taken = sizes.iter().map(|&size| slate.send(&mut pipe, &vec![1; size], true)).collect();
        assert!(slate.low() == if slate.shard_waits() > 50 { 0 } else { 50 });
        (taken, slate.waiting(), slate.state, slate.refused())
    }

    #[test]
    fn a_message_that_finds_no_room_is_refused_or_taken_or_ends_the_connection() {
        let (yes, no) = (true, false);
        let blocked = OutputState::Blocked;
        assert_eq!(keep(Overflow::Close, &[50, 41]), (vec![yes, no], 30, OutputState::Overflown, 0));
        assert_eq!(keep(Overflow::Refuse, &[50, 41, 40, 1]), (vec![yes, no, yes, no], 70, blocked, 2));
        assert_eq!(keep(Overflow::Pause, &[50, 41, 200]), (vec![yes; 3], 271, blocked, 0));
        assert_eq!(keep(Overflow::Refuse, &[91]), (vec![no], 0, OutputState::Overflown, 0), "20 of them have gone");
    }

    #[test]
    fn gathered_bytes_make_room_by_leaving() {
        let (pipe, gathered, state) = run(1000, 0, |slate, pipe| {
            assert!(slate.send(pipe, &[1; 60], false) && slate.send(pipe, &[2; 60], false));
        });
        assert_eq!((pipe.taken.len(), gathered.len(), state), (60, 60, OutputState::Open));
    }

    #[test]
    fn a_writer_gets_as_much_in_as_there_is_room() {
        let (_, gathered, state) = run(30, 0, |slate, pipe| {
            assert_eq!(
                [slate.write(pipe, &[1; 90]), slate.write(pipe, &[1; 90]), slate.write(pipe, &[1; 90])],
                [90, 40, 0]
            );
        });
        assert_eq!((gathered.len(), state), (100, OutputState::Blocked));
    }
}
