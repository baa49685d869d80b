//! What a handler's function sends, on its way to the socket: straight, or gathered until the function returns.

/// Where bytes leave: the connection's socket, whatever the kernel.
pub(crate) trait Outlet {
    /// Sends as much as fits without waiting, and says how much that was. Less than all means that the socket is full,
    /// or [broken](Outlet::is_broken).
    fn send(&mut self, bytes: &[u8]) -> usize;

    /// Whether the socket has refused for good.
    fn is_broken(&self) -> bool;
}

/// The output of one connection during one call of its handler.
pub(crate) struct Output<'a> {
    outlet: &'a mut dyn Outlet,
    /// The shard's scratch: bytes sent in this call that have not left. They come after all that is queued.
    gathered: &'a mut Vec<u8>,
    /// What earlier calls left behind for the socket to take.
    queued: usize,
    queued_max: usize,
    pub(crate) state: OutputState,
}

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

/// A message of this size is worth a system call of its own: copying it would cost more than the call saves.
const DIRECT: usize = 4 << 10;
/// Gathered bytes leave when there are as many: enough for one call to carry, few enough to stay in the cache.
const GATHERED_MAX: usize = 64 << 10;

impl<'a> Output<'a> {
    #[inline]
    pub(crate) fn new(
        outlet: &'a mut dyn Outlet,
        gathered: &'a mut Vec<u8>,
        queued: usize,
        queued_max: usize,
        state: OutputState,
    ) -> Output<'a> {
        Output { outlet, gathered, queued, queued_max, state }
    }

    /// How many bytes wait, in the connection's queue and in the scratch.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.queued + self.gathered.len()
    }

    /// How many bytes more may be made to wait.
    pub(crate) fn room(&self) -> usize {
        match self.state {
            OutputState::Open | OutputState::Blocked => self.queued_max.saturating_sub(self.waiting()),
            OutputState::Overflown | OutputState::Broken => 0,
        }
    }

    /// Takes a message, to the last byte; false if that is impossible. `last` says that no other is likely to follow in this call, so that waiting
    /// for it would only cost a copy.
    #[inline]
    pub(crate) fn send(&mut self, message: &[u8], last: bool) -> bool {
        let straight = last && !message.is_empty() || message.len() >= DIRECT;
        if !straight || !matches!(self.state, OutputState::Open) || self.waiting() != 0 {
            return self.queue(message);
        }
        let sent = self.push_out(message);
        if sent == message.len() { true } else { self.queue(&message[sent..]) }
    }

    fn queue(&mut self, mut message: &[u8]) -> bool {
        if message.len() > self.room() {
            // Gathered bytes may be in the way only because nobody has tried to send them yet.
            self.flush();
            if matches!(self.state, OutputState::Open) && message.len() > self.room() {
                let sent = self.push_out(message);
                message = &message[sent..];
            }
        }
        if self.is_open() && message.len() > self.room() {
            self.state = OutputState::Overflown;
        }
        if self.is_open() {
            self.gather(message);
        }
        self.is_open()
    }

    /// Takes as much of `bytes` as there is room for; zero when there is none.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        if bytes.len() > self.room() {
            self.flush();
        }
        let count = bytes.len().min(self.room());
        self.gather(&bytes[..count]);
        count
    }

    /// Gives the socket what was gathered.
    pub(crate) fn flush(&mut self) {
        if !matches!(self.state, OutputState::Open) || self.queued > 0 || self.gathered.is_empty() {
            return;
        }
        let gathered = std::mem::take(self.gathered);
        let sent = self.push_out(&gathered);
        *self.gathered = gathered;
        self.gathered.drain(..sent);
    }

    /// Whether anything sent now can still arrive.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, OutputState::Open | OutputState::Blocked)
    }

    fn gather(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHERED_MAX {
            self.flush();
        }
    }

    /// Sends, and says how much left. Less than all means that the socket is full, or broken.
    #[inline]
    fn push_out(&mut self, bytes: &[u8]) -> usize {
        let sent = self.outlet.send(bytes);
        if sent < bytes.len() {
            self.state = if self.outlet.is_broken() { OutputState::Broken } else { OutputState::Blocked };
        }
        sent
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
    }

    fn run(room: usize, queued: usize, act: impl FnOnce(&mut Output<'_>)) -> (Pipe, Vec<u8>, OutputState) {
        let (mut pipe, mut gathered) = (Pipe { taken: Vec::new(), room, calls: 0 }, Vec::new());
        let mut output = Output::new(&mut pipe, &mut gathered, queued, 100, OutputState::Open);
        act(&mut output);
        let state = output.state;
        (pipe, gathered, state)
    }

    #[test]
    fn the_last_message_goes_straight_and_others_gather() {
        let (pipe, gathered, _) = run(1000, 0, |output| assert!(output.send(b"one", true)));
        assert_eq!((pipe.taken.as_slice(), gathered.len(), pipe.calls), (b"one".as_slice(), 0, 1));
        let (pipe, gathered, _) = run(1000, 0, |output| {
            assert!(output.send(b"one", false) && output.send(b"two", true));
        });
        assert_eq!((pipe.calls, gathered.as_slice()), (0, b"onetwo".as_slice()), "the second must not overtake");
    }

    #[test]
    fn nothing_overtakes_what_is_queued() {
        let (pipe, gathered, _) = run(1000, 1, |output| assert!(output.send(&[7; 99], true)));
        assert_eq!((pipe.calls, gathered.len()), (0, 99));
    }

    #[test]
    fn a_message_beyond_the_limit_fits_if_the_socket_takes_it() {
        let (pipe, gathered, state) = run(1000, 0, |output| {
            assert!(output.send(&[1; 10], false) && output.send(&[2; 500], false));
        });
        assert_eq!((pipe.taken.len(), gathered.len(), state), (510, 0, OutputState::Open));
    }

    #[test]
    fn a_message_is_taken_whole_or_not_at_all() {
        let (_, gathered, state) = run(0, 0, |output| {
            assert!(output.send(&[1; 60], true));
            assert!(!output.send(&[2; 41], true), "60 + 41 is more than 100");
        });
        assert_eq!((gathered, state), (vec![1; 60], OutputState::Overflown));
    }

    #[test]
    fn gathered_bytes_make_room_by_leaving() {
        let (pipe, gathered, state) = run(1000, 0, |output| {
            assert!(output.send(&[1; 60], false) && output.send(&[2; 60], false));
        });
        assert_eq!((pipe.taken.len(), gathered.len(), state), (60, 60, OutputState::Open));
    }

    #[test]
    fn a_writer_gets_as_much_in_as_there_is_room() {
        let (_, gathered, state) = run(30, 0, |output| {
            assert_eq!([output.write(&[1; 90]), output.write(&[1; 90]), output.write(&[1; 90])], [90, 40, 0]);
        });
        assert_eq!((gathered.len(), state), (100, OutputState::Blocked));
    }
}
