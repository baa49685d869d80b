//! A connection as its handler sees it, for as long as one call of the handler lasts.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "tls")]
use crate::agreed::Agreed;
use crate::peer::Peer;
use crate::slab::Key;
use crate::slate::{self, Outlet, Slate};
use crate::wheel::ticks;

/// Names a connection, as long as the server lives: `Copy` and `Send`, to keep anywhere and to reach the connection by,
/// from any thread, with a [`Remote`](crate::Remote). The id of a connection that is gone reaches nobody: ids return only
/// after 2³¹ connections in the same slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId {
    pub(crate) shard: u32,
    pub(crate) key: Key,
}

impl ClientId {
    /// The index of the shard on which the connection lives.
    #[must_use]
    pub fn shard(self) -> usize {
        self.shard as usize
    }
}

impl fmt::Display for ClientId {
    /// Shard, slot and generation, as in `0:17.3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}.{}", self.shard, self.key.slot, self.key.generation)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A connection in the hands of its handler.
///
/// **Input** is a slice of the shard's read buffer: [`recv`](Client::recv) takes all of it, [`peek`](Client::peek) and
/// [`consume`](Client::consume) take part. What is not consumed is kept for the connection (up to
/// [`input_max`](crate::Builder::input_max)) and stands in front of the next input; that is all that framing needs.
///
/// **Output**: [`send`](Client::send) is for whole messages, `std::io::Write` for pieces. Neither waits: what the
/// socket does not take at once is queued, up to [`output_max`](crate::Builder::output_max). While more than
/// [`output_low`](crate::Builder::output_low) is queued, nothing is read from this connection: whoever does not read its
/// answers is not asked for more questions.
///
/// It is also a `std::io::{Read, BufRead, Write}`: these report `WouldBlock` where a blocking stream would wait.
pub struct Client<'a> {
    input: &'a [u8],
    key: Key,
    address: &'a Peer,
    outlet: &'a mut dyn Outlet,
    slate: &'a mut Slate,
}

impl<'a> Client<'a> {
    #[inline]
    pub(crate) fn new(
        input: &'a [u8],
        key: Key,
        address: &'a Peer,
        outlet: &'a mut dyn Outlet,
        slate: &'a mut Slate,
    ) -> Client<'a> {
        Client { input, key, address, outlet, slate }
    }

    #[inline]
    pub(crate) fn input_left(&self) -> usize {
        self.input.len()
    }

    /// Takes all the input. The slice is the shard's, not this client's, so it can be sent back without a copy:
    /// `let data = client.recv(); client.send(data);`. Empty when there is none.
    #[inline]
    pub fn recv(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.input)
    }

    /// Shows the input without taking it.
    #[must_use]
    #[inline]
    pub fn peek(&self) -> &'a [u8] {
        self.input
    }

    /// Takes the first `count` bytes of the input, or all if there are fewer.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        self.input = &self.input[count.min(self.input.len())..];
    }

    /// Sends a whole message. True: it is on its way or queued. False: it will not arrive whole, because the connection is
    /// broken, or because it would have made more than [`output_max`](crate::Builder::output_max) or
    /// [`output_max_shard`](crate::Builder::output_max_shard) wait; in that case, unless
    /// [`overflow`](crate::Builder::overflow) says otherwise, the connection is reset as soon as the handler returns, with
    /// [`CloseReason::OutputFull`](crate::CloseReason::OutputFull), because what follows would not be what was meant. Ask
    /// [`output_room`](Client::output_room) first where that can happen.
    ///
    /// Cost: when all input has been taken and nothing waits, one send(2) straight from `message`, without a copy. Else it
    /// is copied, and goes out together with its neighbours when the handler returns, in one send(2).
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> bool {
        self.slate.send(self.outlet, message, self.input.is_empty())
    }

    /// The same as [`send`](Client::send) for a message that many clients get: what the socket does not take at once is kept
    /// by reference, so that a broadcast to slow readers costs each of them a few words instead of a copy; unless that is less
    /// than 128 bytes, which are copied, because the few words would be as much and be counted by nobody.
    ///
    /// It counts towards [`output_max`](crate::Builder::output_max) all the same. Cost: one send(2) when nothing waits.
    pub fn send_shared(&mut self, message: &Arc<[u8]>) -> bool {
        self.slate.send_shared(self.outlet, message)
    }

    /// How many bytes are sent but have not been taken by the kernel.
    #[must_use]
    pub fn output_waiting(&self) -> usize {
        self.slate.waiting()
    }

    /// How many bytes can be sent without exceeding [`output_max`](crate::Builder::output_max) and
    /// [`output_max_shard`](crate::Builder::output_max_shard), even if the socket takes
    /// none of them now.
    #[must_use]
    pub fn output_room(&self) -> usize {
        self.slate.room()
    }

    /// Whether more than [`output_low`](crate::Builder::output_low) waits for the peer: then
    /// [`handle_writable`](crate::Handler::handle_writable) will be called when no more than that does. Who passes on what
    /// others send [pauses](Client::pause) them until then.
    #[must_use]
    pub fn output_is_high(&self) -> bool {
        self.slate.is_high()
    }

    /// The connection's name.
    #[must_use]
    pub fn id(&self) -> ClientId {
        ClientId { shard: self.slate.shard, key: self.key }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn address(&self) -> &Peer {
        self.address
    }

    /// The tag of the address that it has come to, which [`Address::tag`](crate::Address::tag) gives: how a handler tells the
    /// server's addresses apart. 0 if it has been given none.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.address.tag()
    }

    /// What was agreed on when the connection was made secure; `None` before it is, and where it is not. See [`tls`](crate::tls).
    /// Copied at each call: ask once, and keep what you need.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(&self) -> Option<Agreed> {
        self.outlet.agreed()
    }

    /// The index of the shard that this connection lives on.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.slate.shard as usize
    }

    /// When this turn of the loop began, since some moment that is the same for the whole shard. For telling how long ago something
    /// was without looking at the clock for each message: as long as any timer runs on the shard it costs nothing, and otherwise
    /// one look (some 25 ns).
    ///
    /// ```
    /// # use esockets::{Client, Handler, Peer};
    /// # use std::time::Duration;
    /// # struct Lobby;
    /// /// Closes who has said nothing for a minute, whatever is sent to them meanwhile; the session is when they last spoke.
    /// impl Handler for Lobby {
    /// #   type Message = ();
    ///     type Session = Duration;
    ///
    ///     fn handle_incoming(&mut self, client: &mut Client<'_>, _: &Peer) -> Option<Duration> {
    ///         client.set_timeout(Some(Duration::from_secs(60)));
    ///         Some(client.now())
    ///     }
    ///
    ///     fn handle_readable(&mut self, client: &mut Client<'_>, heard_at: &mut Duration) -> bool {
    ///         *heard_at = client.now(); // cheaper than to set the timer again each time
    ///         let data = client.recv();
    ///         client.send(data)
    ///     }
    ///
    ///     fn handle_timeout(&mut self, client: &mut Client<'_>, heard_at: &mut Duration) -> bool {
    ///         let left = (*heard_at + Duration::from_secs(60)).saturating_sub(client.now());
    ///         client.set_timeout(Some(left));
    ///         !left.is_zero()
    ///     }
    /// }
    /// # let mut client = esockets::testing::TestClient::connect(Lobby);
    /// # client.pass(Duration::from_secs(40));
    /// # client.send(b"!");
    /// # client.pass(Duration::from_secs(59));
    /// # assert!(client.is_open());
    /// # client.pass(Duration::from_secs(2));
    /// # assert!(!client.is_open());
    /// ```
    #[must_use]
    #[inline]
    pub fn now(&self) -> Duration {
        self.slate.turn_at.unwrap_or_else(|| self.outlet.now())
    }

    /// Whether the peer has finished sending: what is in the input is the last of it.
    #[must_use]
    pub fn is_eof(&self) -> bool {
        self.slate.eof
    }

    /// Stops reading from this connection until [`resume`](Client::resume): no more `handle_readable`, and before long
    /// the peer's sending stalls. The end of the connection is not noticed either while it is paused, other than by
    /// [`idle_timeout`](crate::Builder::idle_timeout).
    pub fn pause(&mut self) {
        self.slate.wish(slate::PAUSE, slate::RESUME);
    }

    /// Goes on reading after [`pause`](Client::pause). Paused or not, input that was left unconsumed is shown again, even if
    /// nothing has come in meanwhile: as soon as no more than [`output_low`](crate::Builder::output_low) waits for the peer.
    /// So whoever leaves commands because [too much](Client::output_waiting) waits calls this before it returns. Called each
    /// time, with nothing consumed and nothing waiting, it keeps the shard busy for nothing, in turns with the others.
    pub fn resume(&mut self) {
        self.slate.wish(slate::RESUME, slate::PAUSE);
    }

    /// Disconnects when the handler returns, after what was sent has been flushed; the same as returning false.
    pub fn close(&mut self) {
        self.slate.wish(slate::CLOSE, 0);
    }

    /// Disconnects when the handler returns, without flushing: the peer sees a reset.
    pub fn abort(&mut self) {
        self.slate.wish(slate::ABORT, 0);
    }

    /// Finishes sending, after what was sent has been flushed: the peer sees the end, and may go on. Nothing can be sent any
    /// more; the connection ends when the handler or the peer ends it. With [`handle_eof`](crate::Handler::handle_eof), which
    /// keeps our half open, that is all that passing on a half-close takes.
    pub fn finish(&mut self) {
        self.slate.wish(slate::FINISH, 0);
    }

    /// Asks for the whole shard: as soon as this function of the handler has returned, and before any other is called,
    /// [`handle_shard`](crate::Handler::handle_shard) is, with this client's id. There, every connection of the shard can be
    /// reached, and others can be made. Asked for in a visit to a client, it is granted already, and nothing else happens.
    ///
    /// Cost: none for the others; a turn that calls does not take the shortest way, some 200 instructions.
    pub fn call_shard(&mut self) {
        self.slate.call();
    }

    /// Calls [`handle_timeout`](crate::Handler::handle_timeout) once, so long after the handler returns (rounded up to 10
    /// ms, 100 days at most), in place of a timer that was set before, or of what is left of
    /// [`first_message_timeout`](crate::Builder::first_message_timeout). `None` takes it back.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        match timeout {
            Some(timeout) => {
                self.slate.timeout_ticks = ticks(timeout);
                self.slate.wish(slate::TIMER, slate::NO_TIMER);
            }
            None => self.slate.wish(slate::NO_TIMER, slate::TIMER),
        }
    }
}

impl Read for Client<'_> {
    /// Takes input. `Ok(0)` means that the peer has finished and all is taken, `WouldBlock` that more may come.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.fill_buf()?.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.input[..count]);
        Client::consume(self, count);
        Ok(count)
    }
}

impl BufRead for Client<'_> {
    /// Shows the input; empty only when the peer has finished and all is taken, else `WouldBlock`.
    ///
    /// `read_line` and its like take what they find before they fail with `WouldBlock`; for messages that arrive in
    /// pieces use [`peek`](Client::peek) and [`consume`](Client::consume).
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.input.is_empty() && !self.slate.eof { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(self.input) }
    }

    fn consume(&mut self, count: usize) {
        Client::consume(self, count);
    }
}

impl Write for Client<'_> {
    /// Gathers a piece, to go out with the others when the handler returns. It takes as much as there is
    /// [room](Client::output_room) for; `WouldBlock` when there is none, `BrokenPipe` when the connection is broken.
    /// Unlike [`send`](Client::send) it never ends the connection.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.slate.write(self.outlet, bytes) {
            0 if !self.slate.is_open() => Err(io::ErrorKind::BrokenPipe.into()),
            0 if !bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    /// Gives the socket what was gathered, now. What it does not take stays queued, which is no error.
    fn flush(&mut self) -> io::Result<()> {
        self.slate.flush(self.outlet);
        if self.slate.is_open() { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
}

impl fmt::Debug for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Client");
        debug.field("id", &self.id()).field("address", self.address).field("input", &self.input.len());
        debug.field("output_waiting", &self.slate.waiting()).field("eof", &self.slate.eof).finish_non_exhaustive()
    }
}
