//! A shard as its handler sees it: where it runs, and the connections on it.

use std::time::Duration;

use crate::client::{Client, ClientId};
use crate::error::ConnectError;
use crate::target::Target;

/// Which shard a handler is being made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardInfo {
    pub(crate) index: usize,
    pub(crate) count: usize,
    pub(crate) core: Option<usize>,
}

impl ShardInfo {
    /// The shard's index, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many shards the server has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The core that the shard's thread is pinned to.
    #[must_use]
    pub fn core(&self) -> Option<usize> {
        self.core
    }
}

/// All connections of one shard, for as long as one call of the handler lasts: how one connection's handler reaches another
/// connection, and how it makes new ones.
///
/// A handler is given it with a message from another thread, with each tick, when a client [asked for it](Client::call_shard),
/// and when a connection has ended. Each visit is what a call of the handler for that client would be: what it sends leaves at once, as far
/// as the socket takes it, and its wishes are granted when the visit is over. So a proxy with backpressure is this:
///
/// ```
/// # use esockets::{Client, ClientId, Handler, Peer, Shard, Target};
/// # use std::time::Duration;
/// /// Passes on what comes in, to another server.
/// struct Relay { target: Target, passing: Vec<u8> }
///
/// impl Handler for Relay {
///     /// The other end's connection.
///     type Session = Option<ClientId>;
///     type Message = ();
///
///     fn handle_incoming(&mut self, client: &mut Client<'_>, _: &Peer) -> Option<Self::Session> {
///         client.call_shard();
///         Some(None)
///     }
///
///     fn handle_readable(&mut self, client: &mut Client<'_>, _: &mut Self::Session) -> bool {
///         self.passing.extend_from_slice(client.recv());
///         client.call_shard();
///         true
///     }
///
///     fn handle_writable(&mut self, client: &mut Client<'_>, _: &mut Self::Session) -> bool {
///         client.call_shard();
///         true
///     }
///
///     fn handle_shard(&mut self, shard: &mut Shard<'_, Self::Session>, caller: ClientId) {
///         let (mut other, mut low) = (None, true);
///         shard.client(caller, |client, session| {
///             (other, low) = (*session, !client.output_is_high());
///             true
///         });
///         let Some(other) = other else {
///             // The first call: it is new.
///             match shard.connect(self.target.clone(), Duration::from_secs(5), Some(caller)) {
///                 Ok(id) => drop(shard.client(caller, |_, session| {
///                     *session = Some(id);
///                     true
///                 })),
///                 Err(_) => drop(shard.client(caller, |_, _| false)),
///             }
///             return;
///         };
///         let mut full = false;
///         shard.client(other, |client, _| {
///             if low {
///                 client.resume();
///             }
///             let sent = client.send(&self.passing);
///             full = client.output_is_high();
///             sent
///         });
///         self.passing.clear();
///         if full {
///             // Until the other end has taken it: then handle_writable is called there.
///             shard.client(caller, |client, _| {
///                 client.pause();
///                 true
///             });
///         }
///     }
/// }
/// ```
pub struct Shard<'a, S> {
    index: usize,
    roster: &'a mut dyn Roster<S>,
}

/// A visit to a connection; false disconnects it after what was sent has been flushed.
pub(crate) type Visit<'a, S> = &'a mut dyn FnMut(&mut Client<'_>, &mut S) -> bool;

/// The connections of a shard, whatever its kernel.
pub(crate) trait Roster<S> {
    fn len(&self) -> usize;
    /// False if there is no such connection, or if it is about to end.
    fn visit(&mut self, id: ClientId, visit: Visit<'_, S>) -> bool;
    fn visit_all(&mut self, visit: Visit<'_, S>);
    fn connect(&mut self, target: &Target, timeout: Duration, session: S) -> Result<ClientId, ConnectError>;
}

impl<'a, S> Shard<'a, S> {
    pub(crate) fn new(index: usize, roster: &'a mut dyn Roster<S>) -> Shard<'a, S> {
        Shard { index, roster }
    }

    /// The shard's index.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many connections it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.roster.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Visits one connection: `visit` may do all that a handler may, and disconnects it by returning false. False here if
    /// the connection is gone or about to end. Cost: a look-up and what `visit` sends.
    pub fn client(&mut self, id: ClientId, mut visit: impl FnMut(&mut Client<'_>, &mut S) -> bool) -> bool {
        self.roster.visit(id, &mut visit)
    }

    /// Connects to `target`, on this shard: at once there is a client of this id, which can be visited, sent to, paused, timed and
    /// closed as any other, and what is sent to it waits, up to [`output_max`](crate::Builder::output_max). Nothing blocks.
    ///
    /// When it is connected, [`handle_connected`](crate::Handler::handle_connected) is called. Otherwise
    /// [`handle_closed`](crate::Handler::handle_closed) is, once, in a later turn, with
    /// [`ConnectRefused`](crate::CloseReason::ConnectRefused), [`ConnectTimedOut`](crate::CloseReason::ConnectTimedOut) if it
    /// took longer than `timeout`, or [`ConnectFailed`](crate::CloseReason::ConnectFailed) with an errno. One that is closed
    /// before it is connected is over at once, unless something waits to be sent to it.
    ///
    /// It counts as [called](crate::ShardStats::connects), not as accepted, and takes no seat of
    /// [`connections_max`](crate::Builder::connections_max). Cost: socket, connect, epoll_ctl and getpeername, once
    /// each, and over TCP a setsockopt(2) for each of [`nodelay`](crate::Builder::nodelay) and
    /// [`user_timeout`](crate::Builder::user_timeout) and four for [`keepalive`](crate::Builder::keepalive), as far as they are on; but for the loopback.
    /// [`Tuning`](crate::Tuning) is about what is listened on, and does nothing here.
    ///
    /// A Unix socket whose queue is full is not waited for: [`ConnectFailed`](crate::CloseReason::ConnectFailed) at once, with EAGAIN,
    /// for the kernel does not tell when there is room (connect(2)). Set a timer, and try again.
    ///
    /// # Errors
    /// There is no descriptor or no memory for a socket, or the server is being stopped: nothing has begun then, and no function
    /// will speak of it. The session is dropped.
    pub fn connect(
        &mut self,
        target: impl Into<Target>,
        timeout: Duration,
        session: S,
    ) -> Result<ClientId, ConnectError> {
        self.roster.connect(&target.into(), timeout, session)
    }

    /// Visits every connection of the shard, in no particular order. Cost: a walk through the table, which is as long as
    /// the most connections that it ever held.
    pub fn each_client(&mut self, mut visit: impl FnMut(&mut Client<'_>, &mut S) -> bool) {
        self.roster.visit_all(&mut visit);
    }
}
