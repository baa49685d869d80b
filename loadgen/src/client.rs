//! One connection: what it has sent, what came back, and whether that is the same.

use std::io::{self, Read};

use socket2::Socket;

use crate::diagnosis::Reply;
use crate::failure::{Act, Failure, Kind};
use crate::payload::{Stream, next_message};
use crate::strange::Strange;

/// A connection of a worker. It knows neither poll nor clock nor histogram; a reply it does not expect is a failure.
///
/// 48 bytes, for there may be a million of them: what can be computed (its stream of bytes) is not kept, and what belongs to
/// one message is counted in 32 bits.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Socket,
    /// Bytes of the current message, and how many of them were sent, and came back.
    size: u32,
    sent: u32,
    received: u32,
    /// Where the current message begins in the stream.
    begun: u64,
    /// When the current request was due, or the connect begun; nanoseconds of the run's clock.
    due_ns: u64,
    /// When the current request was sent, or the connect begun; nanoseconds of the run's clock.
    sent_ns: u64,
    state: State,
    /// The socket took less than was offered, or has not connected yet: its next edge will say when it takes more.
    is_full: bool,
    /// An edge said that there is something to read, and no read has emptied it yet.
    is_readable: bool,
    /// An edge said that the peer has finished: a short read does not mean drained then, the end comes behind it.
    is_read_closed: bool,
    /// It waits for its turn in the worker's queue.
    pub(crate) is_queued: bool,
}

/// What a client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The connect has not ended.
    Connecting,
    /// Connected, no request on its way.
    Idle,
    /// A request is on its way.
    Busy,
}

impl Client {
    /// A client whose `socket` has begun to connect at `now_ns`.
    pub(crate) fn new(socket: Socket, now_ns: u64) -> Client {
        Client {
            socket,
            size: 0,
            sent: 0,
            received: 0,
            begun: 0,
            due_ns: now_ns,
            sent_ns: now_ns,
            state: State::Connecting,
            is_full: true,
            is_readable: false,
            is_read_closed: false,
            is_queued: false,
        }
    }

    /// Its socket, to be registered.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// What it is doing.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// When the current request was due, or the connect begun.
    pub(crate) fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// When the current request was sent, or the connect begun.
    pub(crate) fn sent_ns(&self) -> u64 {
        self.sent_ns
    }

    /// Remembers what an edge said; whether that calls for a turn.
    pub(crate) fn note(&mut self, readable: bool, writable: bool, read_closed: bool) -> bool {
        let may_go_on = writable && self.is_full;
        self.is_full &= !writable;
        self.is_readable |= readable;
        self.is_read_closed |= read_closed;
        may_go_on || self.is_readable
    }

    /// The connect has succeeded.
    pub(crate) fn connected(&mut self) {
        self.state = State::Idle;
        self.is_full = false;
    }

    /// Begins a request of `size` bytes that was due at `due_ns`; [`flush`](Client::flush) sends it.
    pub(crate) fn begin(&mut self, size: u32, due_ns: u64, now_ns: u64) {
        self.begun = next_message(self.begun, self.size);
        (self.size, self.sent, self.received) = (size, 0, 0);
        self.due_ns = due_ns;
        self.sent_ns = now_ns;
        self.state = State::Busy;
    }

    /// The current request's reply was counted.
    pub(crate) fn finish(&mut self) {
        self.state = State::Idle;
    }

    /// Whether the whole reply to the current request is there.
    pub(crate) fn is_answered(&self) -> bool {
        self.state == State::Busy && self.received == self.size
    }

    /// What a timeout of the current act is a failure of.
    pub(crate) fn act(&self) -> Act {
        match self.state {
            State::Connecting => Act::Connect,
            State::Idle => Act::Idle,
            State::Busy if self.sent < self.size => Act::Send,
            State::Busy => Act::Reply,
        }
    }

    /// Bytes of the current message that were sent, and that came back and were verified.
    pub(crate) fn progress(&self) -> (u32, u32) {
        (self.sent, self.received)
    }

    /// Sends what the socket takes of the current request, through `scratch`; `stream` has its bytes.
    ///
    /// # Errors
    /// The failure with which the connection ended.
    pub(crate) fn flush(&mut self, stream: Stream, scratch: &mut [u8]) -> Result<(), Failure> {
        while self.sent < self.size && !self.is_full {
            let piece = scratch.len().min((self.size - self.sent) as usize);
            stream.fill(self.begun + u64::from(self.sent), &mut scratch[..piece]);
            // Rust's runtime ignores SIGPIPE, so a peer that is gone gives EPIPE here.
            match self.socket.send(&scratch[..piece]) {
                Ok(taken) => {
                    self.sent += taken as u32;
                    self.is_full = taken < piece;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_full = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::of(Act::Send, &error)),
            }
        }
        Ok(())
    }

    /// Reads what has come, up to a budget, and verifies that it is what `stream` has, of as many as `connections`. If
    /// the first message's reply is not even begun like an echo, it is left in `strange`, where that is still empty.
    ///
    /// # Errors
    /// The failure with which the connection ended: whatever came before it was verified, and counts.
    pub(crate) fn receive(
        &mut self,
        (stream, connections): (Stream, u64),
        scratch: &mut [u8],
        strange: &mut Option<Strange>,
    ) -> Result<(), Failure> {
        for _ in 0..READ_BUDGET {
            if !self.is_readable {
                break;
            }
            match (&self.socket).read(scratch) {
                Ok(0) => return Err(self.ended()),
                Ok(len) => {
                    if !self.verify(stream, &scratch[..len]) {
                        return Err(self.diagnose((stream, connections), &scratch[..len], strange));
                    }
                    // Shorter than the buffer means drained (epoll(7)), unless the end of the stream is behind it.
                    self.is_readable = len == scratch.len() || self.is_read_closed;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::of(self.act(), &error)),
            }
        }
        Ok(())
    }

    /// Whether there is more to read than the budget allowed.
    pub(crate) fn wants_turn(&self) -> bool {
        self.is_readable
    }

    /// Whether `bytes` are those that are to come next; then they are counted.
    fn verify(&mut self, stream: Stream, bytes: &[u8]) -> bool {
        let is_right = bytes.len() <= (self.sent - self.received) as usize
            && stream.matches(self.begun + u64::from(self.received), bytes);
        self.received += if is_right { bytes.len() as u32 } else { 0 };
        is_right
    }

    /// What became of a reply of which `bytes` are not what is to come next.
    #[cold]
    fn diagnose(&self, (stream, connections): (Stream, u64), bytes: &[u8], strange: &mut Option<Strange>) -> Failure {
        let (position, sent) = (self.begun + u64::from(self.received), u64::from(self.sent - self.received));
        let kind = Reply { stream, connections, position, sent, bytes }.kind();
        if self.begun == 0 && self.received == 0 && matches!(kind, Kind::Corrupted | Kind::Surplus) {
            strange.get_or_insert_with(|| Strange::new(bytes));
        }
        // Whatever came early, while the request was still being sent, it is the reply that is wrong.
        Failure::new(if self.state == State::Busy { Act::Reply } else { self.act() }, kind)
    }

    fn ended(&self) -> Failure {
        let cut = self.state == State::Busy && (1..self.size).contains(&self.received);
        Failure::new(self.act(), if cut { Kind::Truncated } else { Kind::Closed })
    }
}

/// Reads of one turn: with a scratch of 64 KiB a megabyte, so that one long reply does not keep the others waiting.
const READ_BUDGET: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    /// The stream of the tests' connection, of two.
    fn stream() -> Stream {
        Stream::new(5, 0)
    }

    /// A connected client and its peer, which is blocking.
    fn pair() -> (Client, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = esockets::socket::connect(listener.local_addr().unwrap(), None).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let mut client = Client::new(socket, 0);
        client.connected();
        (client, peer)
    }

    /// Reads until a byte or a failure has come: the peer's side of the loopback may need a moment.
    fn receive(client: &mut Client) -> Result<u32, Failure> {
        loop {
            client.note(true, false, false);
            let before = client.received;
            client.receive((stream(), 2), &mut [0; 256], &mut None)?;
            match client.received - before {
                0 => std::thread::yield_now(),
                bytes => return Ok(bytes),
            }
        }
    }

    fn ask(client: &mut Client, peer: &mut TcpStream, size: u32) -> Vec<u8> {
        client.begin(size, 0, 0);
        assert_eq!(client.flush(stream(), &mut [0; 256]), Ok(()));
        let mut request = vec![0; size as usize];
        peer.read_exact(&mut request).unwrap();
        request
    }

    #[test]
    fn an_echo_in_pieces_is_answered_with_the_last_one() {
        let (mut client, mut peer) = pair();
        for _ in 0..3 {
            let request = ask(&mut client, &mut peer, 13);
            peer.write_all(&request[..6]).unwrap();
            assert_eq!(receive(&mut client), Ok(6));
            assert!(!client.is_answered());
            peer.write_all(&request[6..]).unwrap();
            assert_eq!(receive(&mut client), Ok(7));
            assert!(client.is_answered());
            client.finish();
        }
    }

    #[test]
    fn wrong_bytes_surplus_bytes_and_early_ends_are_told_apart() {
        let outcome = |reply: fn(Vec<u8>) -> Vec<u8>| {
            let (mut client, mut peer) = pair();
            let request = ask(&mut client, &mut peer, 16);
            peer.write_all(&reply(request)).unwrap();
            drop(peer);
            let first = receive(&mut client);
            if first.is_ok() { receive(&mut client) } else { first }.map_err(|failure| failure.kind)
        };
        assert_eq!(outcome(|request| request.iter().rev().copied().collect()), Err(Kind::Corrupted));
        assert_eq!(outcome(|request| request.repeat(2)), Err(Kind::Doubled));
        assert_eq!(outcome(|request| [&request, &b"and more"[..]].concat()), Err(Kind::Surplus));
        assert_eq!(outcome(|request| request[1..].to_vec()), Err(Kind::Lost));
        assert_eq!(outcome(|request| request[..9].to_vec()), Err(Kind::Truncated));
        assert_eq!(outcome(|_| Vec::new()), Err(Kind::Closed));
    }

    #[test]
    fn a_million_of_them_fit_into_48_mb() {
        assert!(size_of::<Option<Client>>() <= 48, "{}", size_of::<Option<Client>>());
    }

    #[test]
    fn bytes_that_nobody_asked_for_are_surplus() {
        let (mut client, mut peer) = pair();
        peer.write_all(b"hello").unwrap();
        assert_eq!(receive(&mut client), Err(Failure::new(Act::Idle, Kind::Surplus)));
    }

    #[test]
    fn what_is_no_echo_from_the_beginning_is_strange_and_what_is_later_is_not() {
        let strange_after = |echoes: usize| {
            let (mut client, mut peer) = pair();
            for _ in 0..echoes {
                let request = ask(&mut client, &mut peer, 16);
                peer.write_all(&request).unwrap();
                receive(&mut client).unwrap();
                client.finish();
            }
            ask(&mut client, &mut peer, 16);
            peer.write_all(b"-DENIED").unwrap();
            let mut strange = None;
            while client.receive((stream(), 2), &mut [0; 256], &mut strange).is_ok() {
                client.note(true, false, false);
                std::thread::yield_now();
            }
            strange
        };
        assert_eq!(strange_after(0), Some(Strange::new(b"-DENIED")));
        assert_eq!(strange_after(1), None, "an echo server that corrupts");
    }

    #[test]
    fn a_full_socket_goes_on_after_its_edge() {
        let (mut client, mut peer) = pair();
        let size = 64 << 20;
        client.begin(size, 0, 0);
        client.flush(stream(), &mut [0; 65536]).unwrap();
        assert!(client.sent < size, "64 MiB never fit into a socket");
        assert_eq!(client.act(), Act::Send);
        let mut drained = vec![0; 1 << 20];
        while client.sent < size {
            peer.read_exact(&mut drained).unwrap();
            client.note(false, true, false);
            client.flush(stream(), &mut [0; 65536]).unwrap();
        }
        assert_eq!(client.act(), Act::Reply);
    }
}
