//! What a program supplies: the functions that a shard calls.

use crate::client::{Client, ClientId};
use crate::peer::Peer;
use crate::reason::{CloseReason, Refusal};
use crate::shard::Shard;

/// The protocol between a server and its program. One value per shard, made on the shard's thread and never moved from
/// it: it needs no lock and need not be `Send`.
///
/// All functions run inline on the shard's thread, so the shard's other connections wait for as long as one takes: hand
/// work that blocks or computes for long to a thread of your own, and let it answer through a [`Remote`](crate::Remote).
///
/// A panic in any of them ends only the connection in hand, with [`CloseReason::Panicked`] (provided that panics unwind).
///
/// ```
/// use esockets::{Client, Handler, Peer};
///
/// /// Answers each connection's bytes with how many there have been.
/// struct Count;
///
/// impl Handler for Count {
///     type Session = u64;
///     type Message = ();
///
///     fn handle_incoming(&mut self, _client: &mut Client<'_>, _address: &Peer) -> Option<u64> {
///         Some(0)
///     }
///
///     fn handle_readable(&mut self, client: &mut Client<'_>, bytes: &mut u64) -> bool {
///         *bytes += client.recv().len() as u64;
///         client.send(format!("{bytes}\n").as_bytes())
///     }
/// }
/// ```
pub trait Handler {
    /// What is kept for each connection, inline in the shard's table: every byte of it counts once a connection.
    type Session;

    /// What other threads may send to this shard with [`Remote`](crate::Remote); `()` if nothing.
    type Message: Send + 'static;

    /// A connection has come in. `Some` keeps it, with this session; `None` disconnects it, after what was sent to it has
    /// been flushed. Nothing has been received yet.
    fn handle_incoming(&mut self, client: &mut Client<'_>, address: &Peer) -> Option<Self::Session>;

    /// Somebody is kept out by a limit, before [`handle_incoming`](Handler::handle_incoming) would be asked. What this returns is
    /// sent before the connection is closed; nothing, the default, costs nothing.
    ///
    /// It is sent with one send(2) that does not wait, which takes a few hundred bytes and more. What the peer has said by then is
    /// thrown away, by one recv(2); if more comes after that, the kernel may answer it with a reset, at which some peers forget
    /// what they have not read. Who is to be waited for is refused by `handle_incoming`.
    ///
    /// ```
    /// # use esockets::{Client, Handler, Peer, Refusal};
    /// # struct Redis;
    /// # impl Handler for Redis {
    /// #     type Session = ();
    /// #     type Message = ();
    /// #     fn handle_incoming(&mut self, _: &mut Client<'_>, _: &Peer) -> Option<()> { Some(()) }
    /// #     fn handle_readable(&mut self, _: &mut Client<'_>, (): &mut ()) -> bool { false }
    /// fn handle_refused(&mut self, _address: &Peer, why: Refusal) -> &[u8] {
    ///     match why {
    ///         Refusal::ConnectionsMax => b"-ERR max number of clients reached\r\n",
    ///         _ => b"",
    ///     }
    /// }
    /// # }
    /// ```
    fn handle_refused(&mut self, address: &Peer, why: Refusal) -> &[u8] {
        let _ = (address, why);
        &[]
    }

    /// There is input: what came in, behind what was left unconsumed last time. True keeps the connection; false
    /// disconnects it after what was sent has been flushed.
    ///
    /// What is not consumed is kept and shown again, in front of the next input; it is called again when there is more,
    /// not before.
    fn handle_readable(&mut self, client: &mut Client<'_>, session: &mut Self::Session) -> bool;

    /// The output that waits for the peer has fallen to [`output_low`](crate::Builder::output_low) again, after it had
    /// been above. True keeps the connection.
    fn handle_writable(&mut self, client: &mut Client<'_>, session: &mut Self::Session) -> bool {
        let _ = (client, session);
        true
    }

    /// The peer finished sending; everything it sent has been shown, and what was left unconsumed is in `client` still.
    /// False, the default, flushes what was sent and closes; true keeps our half open, for as long as you like.
    fn handle_eof(&mut self, client: &mut Client<'_>, session: &mut Self::Session) -> bool {
        let _ = (client, session);
        false
    }

    /// The client's own timer ran out, or the time for its [first message](crate::Builder::first_message_timeout), or nothing went
    /// either way for [`idle_timeout`](crate::Builder::idle_timeout).
    /// False, the default, closes; true keeps the connection, for another idle time if that was what ran out. Which of them it
    /// was is not said: a handler that uses several keeps in its session what its own timer was for, and until when.
    fn handle_timeout(&mut self, client: &mut Client<'_>, session: &mut Self::Session) -> bool {
        let _ = (client, session);
        false
    }

    /// A connection that [`Shard::connect`] has begun is there. What was sent to it before is on its way. True keeps it. An
    /// attempt that fails ends with [`handle_closed`](Handler::handle_closed), without this.
    fn handle_connected(&mut self, client: &mut Client<'_>, session: &mut Self::Session) -> bool {
        let _ = (client, session);
        true
    }

    /// A client has [asked for the whole shard](Client::call_shard), in the function of this handler that has just returned.
    /// It may be gone by now, if that ended it.
    fn handle_shard(&mut self, shard: &mut Shard<'_, Self::Session>, caller: ClientId) {
        let _ = (shard, caller);
    }

    /// Another thread has sent a message to this shard.
    fn handle_message(&mut self, shard: &mut Shard<'_, Self::Session>, message: Self::Message) {
        let _ = (shard, message);
    }

    /// Another [`tick`](crate::Builder::tick) has passed, on this shard: time for what is due for no one connection, such as
    /// a heartbeat for all, or a look at what is overdue. For what is due for one there is
    /// [`Client::set_timeout`], which costs nothing while it waits.
    ///
    /// It comes last in a turn, after everything that has come in. While it lasts everybody waits, and
    /// [all clients](Shard::each_client) are a walk through the whole table. A panic in it ends nobody. It goes on while the
    /// server drains or stops, until everyone has gone.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use esockets::{Client, Handler, Peer, Server, Shard};
    ///
    /// /// Tells everybody that it is alive, every ten seconds.
    /// struct Heart;
    ///
    /// impl Handler for Heart {
    ///     type Session = ();
    ///     type Message = ();
    ///
    ///     fn handle_incoming(&mut self, _client: &mut Client<'_>, _address: &Peer) -> Option<()> {
    ///         Some(())
    ///     }
    ///
    ///     fn handle_readable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
    ///         client.recv();
    ///         true
    ///     }
    ///
    ///     fn handle_tick(&mut self, shard: &mut Shard<'_, ()>) {
    ///         // Who does not read has enough to read already.
    ///         shard.each_client(|client, ()| client.output_waiting() > 0 || client.send(b"beat\n"));
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), esockets::Error> {
    /// let server = Server::builder().tick(Some(Duration::from_secs(10))).start(|_| Heart)?;
    /// # server.stop(); Ok(())
    /// # }
    /// ```
    fn handle_tick(&mut self, shard: &mut Shard<'_, Self::Session>) {
        let _ = shard;
    }

    /// The connection is over: called exactly once for each session that `handle_incoming` gave or [`Shard::connect`] took,
    /// whatever happened.
    fn handle_closed(&mut self, session: Self::Session, id: ClientId, reason: CloseReason) {
        let _ = (session, id, reason);
    }

    /// The same, with all other connections of the shard at hand: for those that end together. This is what is called in
    /// truth, and by default it calls [`handle_closed`](Handler::handle_closed).
    #[inline]
    fn handle_closed_on(
        &mut self,
        shard: &mut Shard<'_, Self::Session>,
        session: Self::Session,
        id: ClientId,
        reason: CloseReason,
    ) {
        let _ = shard;
        self.handle_closed(session, id, reason);
    }
}

/// The two functions of the ancestor's protocol, each a closure; made by
/// [`Builder::handle_incoming`](crate::Builder::handle_incoming) and
/// [`Builder::handle_readable`](crate::Builder::handle_readable).
#[derive(Debug, Clone)]
pub struct Closures<I, R> {
    pub(crate) incoming: I,
    pub(crate) readable: R,
}

impl<I, R> Handler for Closures<I, R>
where
    I: FnMut(&mut Client<'_>, &Peer) -> bool,
    R: FnMut(&mut Client<'_>) -> bool,
{
    type Session = ();
    type Message = ();

    fn handle_incoming(&mut self, client: &mut Client<'_>, address: &Peer) -> Option<()> {
        (self.incoming)(client, address).then_some(())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
        (self.readable)(client)
    }
}
