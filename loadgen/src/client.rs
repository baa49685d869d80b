//! One connection: what it has sent, what came back, and whether that is what had to.

pub(crate) mod pipelined;

use std::io;

use socket2::Socket;

use crate::diagnosis::Reply;
use crate::failure::{Act, Failure, Kind};
use crate::payload::{Stream, next_message};
use crate::protocol::Protocol;
use crate::protocol::http::Responses;
use crate::strange::Strange;
use crate::wires::{Heard, Place, Trouble, Wires};

/// A connection of a worker. It knows neither poll nor clock nor histogram; a reply it does not expect is a failure.
///
/// 48 bytes, for there may be a million of them: what can be computed (its bytes' seed) is not kept, and what belongs to
/// one message is counted in 32 bits.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Socket,
    /// Bytes of the current request, and how many of them were sent.
    size: u32,
    sent: u32,
    /// How far the reply has come: in bytes of an echo, in steps of a script's pattern; of an HTTP response whether it
    /// has begun.
    received: u32,
    /// Where the current message begins in the stream of an echo: the bytes of all messages before it.
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
    /// It is connected, but what lies between is not open.
    is_dialled: bool,
    /// The whole reply to the current request is there.
    is_whole: bool,
    /// The server has said that it closes the connection behind this reply.
    is_last: bool,
    /// It waits for its turn in the worker's queue.
    pub(crate) is_queued: bool,
}

/// What a client has to know to speak: what all say, and what is its own and can be computed.
pub(crate) struct Speech<'a> {
    /// What is said.
    pub(crate) protocol: &'a Protocol,
    /// Responses that have come in part.
    pub(crate) responses: &'a mut Responses,
    /// What lies between the sockets and what is said.
    pub(crate) wires: &'a mut Wires,
    /// The connection's place among its worker's.
    pub(crate) slot: u32,
    /// The index of its destination.
    pub(crate) destination: usize,
    /// The bytes of an echo, which are its own.
    pub(crate) stream: Stream,
    /// How many connections the run has: whose else bytes can be.
    pub(crate) connections: u64,
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
    /// The reply is there, and the server is to close the connection.
    Closing,
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
            is_dialled: false,
            is_whole: false,
            is_last: false,
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

    /// The connect has succeeded; what lies between is opened next.
    pub(crate) fn dialled(&mut self) {
        self.is_dialled = true;
    }

    /// Whether the connect has succeeded.
    pub(crate) fn is_dialled(&self) -> bool {
        self.is_dialled
    }

    /// It can be spoken on.
    pub(crate) fn connected(&mut self) {
        self.state = State::Idle;
        self.is_full = false;
        // What has come behind the server's last word of a handshake has no edge of its own.
        self.is_readable |= self.is_dialled;
    }

    /// Its stream begins at `position`, not at the beginning: others before it had the bytes before that.
    pub(crate) fn resume(&mut self, position: u64) {
        self.begun = position;
    }

    /// The reply is whole, and the connection's end is waited for from now on.
    pub(crate) fn await_end(&mut self, now_ns: u64) {
        self.state = State::Closing;
        // It may be there already, and its edge long gone.
        (self.sent_ns, self.is_readable) = (now_ns, true);
    }

    /// Begins a request of `size` bytes that was due at `due_ns`; [`flush`](Client::flush) sends it.
    pub(crate) fn begin(&mut self, size: u32, due_ns: u64, now_ns: u64) {
        self.begun = next_message(self.begun, self.size);
        (self.size, self.sent, self.received, self.is_whole) = (size, 0, 0, false);
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
        self.state == State::Busy && self.is_whole
    }

    /// Whether a request was answered on it before the current one.
    pub(crate) fn has_answered(&self) -> bool {
        self.begun > 0 || self.size > 0 && self.state == State::Idle
    }

    /// Whether the server has said that it closes the connection behind the reply that has just been read.
    pub(crate) fn is_last(&self) -> bool {
        self.is_last
    }

    /// What a timeout of the current act is a failure of.
    pub(crate) fn act(&self) -> Act {
        match self.state {
            State::Connecting => Act::Connect,
            State::Idle => Act::Idle,
            State::Closing => Act::Close,
            State::Busy if self.sent < self.size => Act::Send,
            State::Busy => Act::Reply,
        }
    }

    /// Sends what the socket takes of the current request, an echo's through `scratch`; returns how many bytes that was.
    ///
    /// # Errors
    /// The failure with which the connection ended.
    pub(crate) fn flush(&mut self, speech: &mut Speech<'_>, scratch: &mut [u8]) -> Result<u64, Failure> {
        let begun = self.sent;
        self.flush_wire(speech, self.sent == 0 || self.sent == self.size)?;
        while self.sent < self.size && !self.is_full {
            let piece = match speech.protocol.request(speech.destination) {
                Some(request) => &request[self.sent as usize..],
                None => {
                    let piece = scratch.len().min((self.size - self.sent) as usize);
                    speech.stream.fill(self.begun + u64::from(self.sent), &mut scratch[..piece]);
                    &scratch[..piece]
                }
            };
            // Rust's runtime ignores SIGPIPE, so a peer that is gone gives EPIPE here.
            let place = Place { size: self.size, at: self.sent };
            match speech.wires.send(speech.slot, &self.socket, piece, place) {
                Ok((taken, is_full)) => {
                    self.sent += taken as u32;
                    self.is_full = is_full;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_full = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The server had closed before; whether it may have, reading tells.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe && speech.protocol.is_http() => {
                    (self.is_full, self.is_readable) = (true, true);
                }
                Err(error) => return Err(Failure::of(Act::Send, &error)),
            }
        }
        Ok(u64::from(self.sent - begun))
    }

    /// Reads what has come, up to a budget, and verifies it, counting its bytes, wrong ones, too, in `bytes`. What is wrong with a reply that
    /// is whole, as an HTTP response of another status can be, is returned. If the first reply is not even begun as it
    /// had to, it is left in `strange`, where that is still empty.
    ///
    /// # Errors
    /// The failure with which the connection ended: whatever came before it was verified, and counts.
    pub(crate) fn receive(
        &mut self,
        speech: &mut Speech<'_>,
        scratch: &mut [u8],
        (bytes, strange): (&mut u64, &mut Option<Strange>),
    ) -> Result<Option<Kind>, Failure> {
        let mut fault = None;
        for _ in 0..READ_BUDGET {
            if !self.is_readable {
                break;
            }
            match speech.wires.read(speech.slot, &self.socket, scratch) {
                Ok(Heard { len: 0, .. }) => match speech.responses.end((speech.slot, speech.destination)) {
                    Some(response) if self.state == State::Busy => {
                        (self.is_whole, self.is_last, self.is_readable) = (true, true, false);
                        return Ok(response.fault);
                    }
                    _ => return Err(self.ended()),
                },
                Ok(Heard { len, is_drained }) => {
                    let is_first = self.begun == 0 && self.received == 0;
                    *bytes += len as u64;
                    fault = self.verify(speech, &scratch[..len]).inspect_err(|failure| {
                        // Bytes of this run say that it is an echo server, of a sort.
                        if is_first && !matches!(failure.kind, Kind::Swapped | Kind::Lost | Kind::Doubled) {
                            strange.get_or_insert_with(|| Strange::new(&scratch[..len], speech.destination));
                        }
                    })?;
                    // Shorter than the buffer means drained (epoll(7)), unless the end of the stream is behind it.
                    self.is_readable = !is_drained || self.is_read_closed;
                    // What the server does behind its last response is no concern of ours.
                    if self.is_last || fault.is_some() {
                        break;
                    }
                }
                Err(trouble) => self.bear(trouble)?,
            }
        }
        if speech.wires.owes(speech.slot) {
            self.flush_wire(speech, self.sent == 0 || self.sent == self.size)?;
        }
        Ok(fault)
    }

    /// What a read that brought nothing comes to.
    fn bear(&mut self, trouble: Trouble) -> Result<(), Failure> {
        match trouble {
            Trouble::Io(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_readable = false,
            Trouble::Io(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Trouble::Io(error) => return Err(Failure::of(self.act(), &error)),
            Trouble::Kind(kind) => return Err(Failure::new(self.act(), kind)),
        }
        Ok(())
    }

    /// Gives the socket what its layers have kept, if it may take it.
    fn flush_wire(&mut self, speech: &mut Speech<'_>, is_between: bool) -> Result<(), Failure> {
        if !self.is_full && !speech.wires.are_bare() {
            let flushed = speech.wires.flush(speech.slot, &self.socket, is_between);
            self.is_full = flushed.map_err(|error| Failure::of(self.act(), &error))?;
        }
        Ok(())
    }

    /// Whether the server has closed the connection behind its reply.
    ///
    /// # Errors
    /// What came instead: bytes, or a reset.
    pub(crate) fn read_end(&mut self, (slot, wires): (u32, &mut Wires), scratch: &mut [u8]) -> Result<bool, Failure> {
        while self.is_readable {
            match wires.read(slot, &self.socket, scratch) {
                Ok(Heard { len: 0, .. }) => return Ok(true),
                Ok(_) => return Err(Failure::new(Act::Close, Kind::Surplus)),
                Err(trouble) => self.bear(trouble).map_err(|failure| Failure { act: Act::Close, ..failure })?,
            }
        }
        Ok(false)
    }

    /// Whether there is more to read than the budget allowed.
    pub(crate) fn wants_turn(&self) -> bool {
        self.is_readable
    }

    fn verify(&mut self, speech: &mut Speech<'_>, bytes: &[u8]) -> Result<Option<Kind>, Failure> {
        let is_busy = self.state == State::Busy && !self.is_whole;
        match speech.protocol {
            Protocol::Echo { .. } => self.verify_echo(speech, bytes).map(|()| None),
            _ if !is_busy => Err(Failure::new(self.act(), Kind::Surplus)),
            Protocol::Script(script) => {
                let advanced = script.advance(self.received, bytes);
                let (position, taken) = advanced.map_err(|_| Failure::new(Act::Reply, Kind::Unexpected))?;
                (self.received, self.is_whole) = (position, script.is_whole(position));
                self.refuse_surplus(bytes.len() - taken).map(|()| None)
            }
            Protocol::Http(_) => {
                let taken = speech.responses.take((speech.slot, speech.destination), bytes);
                self.received = 1;
                let Some((response, taken)) = taken.map_err(|kind| Failure::new(Act::Reply, kind))? else {
                    return Ok(None);
                };
                (self.is_whole, self.is_last) = (true, response.is_last);
                self.refuse_surplus(bytes.len() - taken).map(|()| response.fault)
            }
        }
    }

    fn refuse_surplus(&self, left: usize) -> Result<(), Failure> {
        if left == 0 { Ok(()) } else { Err(Failure::new(Act::Reply, Kind::Surplus)) }
    }

    fn verify_echo(&mut self, speech: &Speech<'_>, bytes: &[u8]) -> Result<(), Failure> {
        let is_right = bytes.len() <= (self.sent - self.received) as usize
            && speech.stream.matches(self.begun + u64::from(self.received), bytes);
        if !is_right {
            return Err(self.diagnose(speech, bytes));
        }
        self.received += bytes.len() as u32;
        self.is_whole = self.received == self.size;
        Ok(())
    }

    /// What became of an echo of which `bytes` are not what is to come next.
    #[cold]
    fn diagnose(&self, speech: &Speech<'_>, bytes: &[u8]) -> Failure {
        let (stream, connections) = (speech.stream, speech.connections);
        let (position, sent) = (self.begun + u64::from(self.received), u64::from(self.sent - self.received));
        let kind = Reply { stream, connections, position, sent, bytes }.kind();
        // Whatever came early, while the request was still being sent, it is the reply that is wrong.
        Failure::new(if self.state == State::Busy { Act::Reply } else { self.act() }, kind)
    }

    fn ended(&self) -> Failure {
        let cut = self.state == State::Busy && self.received > 0 && !self.is_whole;
        Failure::new(self.act(), if cut { Kind::Truncated } else { Kind::Closed })
    }
}

/// Reads of one turn: with a scratch of 64 KiB a megabyte, so that one long reply does not keep the others waiting.
const READ_BUDGET: usize = 16;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    const SEED: u64 = 5;

    /// A connected client and its peer, which is blocking.
    pub(crate) fn pair() -> (Client, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = esockets::socket::connect(listener.local_addr().unwrap(), None).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let mut client = Client::new(socket, 0);
        client.connected();
        (client, peer)
    }

    /// Runs `act` with what a connection needs to speak echo.
    pub(crate) fn speak<R>(act: impl FnOnce(&mut Speech<'_>) -> R) -> R {
        let protocol = Protocol::Echo { size: 16 };
        let (mut responses, mut wires) = (Responses::default(), Wires::default());
        act(&mut Speech {
            protocol: &protocol,
            responses: &mut responses,
            wires: &mut wires,
            slot: 0,
            destination: 0,
            stream: Stream::new(SEED, 1),
            connections: 2,
        })
    }

    /// Reads until a byte or a failure has come: the peer's side of the loopback may need a moment.
    fn receive(client: &mut Client) -> Result<u32, Failure> {
        loop {
            client.note(true, false, false);
            let before = client.received;
            speak(|speech| client.receive(speech, &mut [0; 256], (&mut 0, &mut None)))?;
            match client.received - before {
                0 => std::thread::yield_now(),
                bytes => return Ok(bytes),
            }
        }
    }

    fn ask(client: &mut Client, peer: &mut TcpStream, size: u32) -> Vec<u8> {
        client.begin(size, 0, 0);
        assert_eq!(speak(|speech| client.flush(speech, &mut [0; 256])), Ok(size.into()));
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
            while speak(|speech| client.receive(speech, &mut [0; 256], (&mut 0, &mut strange))).is_ok() {
                client.note(true, false, false);
                std::thread::yield_now();
            }
            strange
        };
        assert_eq!(strange_after(0), Some(Strange::new(b"-DENIED", 0)));
        assert_eq!(strange_after(1), None, "an echo server that corrupts");
    }

    #[test]
    fn a_full_socket_goes_on_after_its_edge() {
        let (mut client, mut peer) = pair();
        let size = 64 << 20;
        client.begin(size, 0, 0);
        speak(|speech| client.flush(speech, &mut [0; 65536])).unwrap();
        assert!(client.sent < size, "64 MiB never fit into a socket");
        assert_eq!(client.act(), Act::Send);
        let mut drained = vec![0; 1 << 20];
        while client.sent < size {
            peer.read_exact(&mut drained).unwrap();
            client.note(false, true, false);
            speak(|speech| client.flush(speech, &mut [0; 65536])).unwrap();
        }
        assert_eq!(client.act(), Act::Reply);
    }
}
