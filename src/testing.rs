//! A client without a socket: bytes in, bytes out, on the code that serves real ones.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::builder::Builder;
use crate::client::{Client, ClientId};
use crate::config::{Config, Limits};
use crate::connection::{Connection, Next, Turn, panicked};
use crate::error::{ConnectError, Error};
use crate::handler::Handler;
use crate::kernel::{Edge, Memory, MemoryStream};
use crate::mailbox::Mailbox;
use crate::peer::Peer;
use crate::reactor::Post;
use crate::reason::CloseReason;
use crate::remote::Remote;
use crate::server::{Server, routes};
use crate::shard::{Roster, Shard, Visit};
use crate::slab::Key;
use crate::slate::Slate;
use crate::stats::Counters;
use crate::target::Target;
use crate::wheel::{TICK, ticks};

/// Plays a connection's peer for the unit test of a handler. Everything between the handler and the socket is the code
/// that a server runs: what is left unconsumed comes again, limits hold, false flushes and closes, panics are caught.
///
/// ```
/// use esockets::testing::TestClient;
/// # use esockets::{Client, Handler, Peer};
/// # struct Shout;
/// # impl Handler for Shout {
/// #     type Session = ();
/// #     type Message = ();
/// #     fn handle_incoming(&mut self, _: &mut Client<'_>, _: &Peer) -> Option<()> { Some(()) }
/// #     fn handle_readable(&mut self, client: &mut Client<'_>, _: &mut ()) -> bool {
/// #         let data = client.recv().to_ascii_uppercase();
/// #         client.send(&data)
/// #     }
/// # }
/// let mut client = TestClient::connect(Shout);
/// client.send(b"hello");
/// assert_eq!(client.received(), b"HELLO");
/// assert!(client.is_open());
/// client.finish();
/// assert_eq!(client.closed(), Some(esockets::CloseReason::PeerClosed));
/// ```
pub struct TestClient<H: Handler> {
    handler: H,
    /// `None` when it is over.
    connection: Option<Connection<MemoryStream>>,
    session: Option<H::Session>,
    closed: Option<CloseReason>,
    desk: Desk,
}

/// What serving takes, apart from the connection and its handler.
struct Desk {
    kernel: Memory,
    counters: Counters,
    limits: Limits,
    buffer: Vec<u8>,
    slate: Slate,
    now: u32,
}

impl Desk {
    fn turn(&mut self) -> Turn<'_, Memory> {
        self.slate.turn_at = Some(TICK * self.now);
        Turn {
            kernel: &mut self.kernel,
            plain_read: self.limits.plain_read().min(self.buffer.len()),
            buffer: &mut self.buffer,
            slate: &mut self.slate,
            counters: &self.counters,
            limits: &self.limits,
            now: self.now,
        }
    }

    /// Lets the rest of a time pass until a connection's next timer, and says whether it runs out by then.
    fn pass(&mut self, rest: &mut u32, connection: &mut Connection<MemoryStream>) -> bool {
        connection.begin_timer(self.now);
        let left = connection.ticks_left(self.now, &self.limits).filter(|left| left <= rest);
        let passes = left.unwrap_or(*rest);
        self.now += passes;
        *rest -= passes;
        left.is_some()
    }
}

const KEY: Key = Key { slot: 0, generation: 0 };
const ID: ClientId = ClientId { shard: 0, key: KEY };

impl<H: Handler> TestClient<H> {
    /// Connects to a handler, with a server's default limits and from 127.0.0.1:1; `handle_incoming` has been called when
    /// it returns.
    pub fn connect(handler: H) -> TestClient<H> {
        TestClient::connect_to(&Server::builder(), handler)
    }

    /// The same with the limits of this server: `input_max`, `output_max`, `output_low`,
    /// `output_max_shard`, `overflow`, `read_budget`, `idle_timeout`,
    /// `first_message_timeout`, `write_timeout`.
    pub fn connect_to(server: &Builder, handler: H) -> TestClient<H> {
        let limits = server.limits();
        let address = Peer::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let desk = Desk {
            kernel: Memory::new(),
            counters: Counters::default(),
            limits: Limits { output_low: Some(limits.output_low()), ..limits },
            buffer: vec![0; limits.read_budget],
            slate: Slate::new(0, &limits),
            now: 0,
        };
        let mut connection = Connection::new(MemoryStream, address, 0);
        connection.expect_message(&limits);
        let connection = Some(connection);
        let mut client = TestClient { handler, connection, session: None, closed: None, desk };
        let answer = client.with(|handler, connection, _, turn| {
            connection.hand(turn, KEY, None, |client| handler.handle_incoming(client, &address))
        });
        match answer {
            Some(Ok(Some(session))) => {
                client.session = Some(session);
                client.serve();
            }
            Some(Ok(None)) => client.close(CloseReason::Refused),
            Some(Err(reason)) => client.close(reason),
            None => {}
        }
        client
    }

    /// Sends bytes to the handler, as one piece.
    pub fn send(&mut self, bytes: &[u8]) {
        self.desk.kernel.incoming.extend(bytes);
        self.edge(true, false);
    }

    /// Finishes sending, as a peer does by closing or by shutting down its half.
    pub fn finish(&mut self) {
        self.desk.kernel.finished = true;
        self.edge(true, true);
    }

    /// Lets `bytes` more be taken by this side before sending to it blocks; at first everything is. What blocks before is
    /// queued, as it is for a peer that does not read.
    pub fn take_only(&mut self, bytes: usize) {
        self.desk.kernel.room = bytes;
        self.edge(false, false);
    }

    /// Lets the client's own timer, or its idle time, run out: `handle_timeout` is called.
    pub fn time_out(&mut self) {
        if let Some(connection) = &mut self.connection {
            let desk = &mut self.desk;
            connection.begin_timer(desk.now);
            desk.now += connection.ticks_left(desk.now, &desk.limits).unwrap_or(0);
        }
        self.run_out();
    }

    /// Lets so much time pass, in steps of 10 ms: timers and idle times that run out meanwhile do so, each in its time.
    pub fn pass(&mut self, time: Duration) {
        let mut rest = ticks(time);
        while let Some(connection) = &mut self.connection {
            if !self.desk.pass(&mut rest, connection) {
                return;
            }
            self.run_out();
        }
    }

    fn run_out(&mut self) {
        let next = self.with(|handler, connection, session, turn| connection.time_out(handler, session, turn, KEY));
        match next {
            Some(Next::Close(reason)) => self.close(reason),
            Some(_) => self.serve(),
            None => {}
        }
    }

    /// Sends the handler a message, as another thread does with a [`Remote`]: `handle_message` is called,
    /// and this client is the only one on the shard.
    pub fn message(&mut self, message: H::Message) {
        self.with_shard(|handler, shard| handler.handle_message(shard, message));
    }

    /// Lets a [`tick`](Builder::tick) pass: `handle_tick` is called, and this client is the only one on the shard.
    pub fn tick(&mut self) {
        self.with_shard(|handler, shard| handler.handle_tick(shard));
    }

    fn with_shard(&mut self, act: impl FnOnce(&mut H, &mut Shard<'_, H::Session>)) {
        let (connection, session) = (&mut self.connection, &mut self.session);
        let mut lone = Lone { connection, session, turn: self.desk.turn(), closed: None };
        act(&mut self.handler, &mut Shard::new(0, &mut lone));
        match lone.closed {
            Some(reason) => self.close(reason),
            None => self.serve(),
        }
    }

    /// What the handler has sent since it was last asked.
    pub fn received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.desk.kernel.sent)
    }

    /// Whether the connection still stands.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// How it ended; `handle_closed` has been told the same, unless it was refused.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// The handler.
    pub fn handler(&mut self) -> &mut H {
        &mut self.handler
    }

    /// What the handler keeps for this connection; `None` when it is over.
    pub fn session(&mut self) -> Option<&mut H::Session> {
        self.session.as_mut()
    }

    /// Lets a test act on the client itself, as a handler's function would.
    pub fn act<R>(&mut self, act: impl FnOnce(&mut Client<'_>) -> R) -> Option<R> {
        let result = self.with(|_, connection, _, turn| connection.hand(turn, KEY, None, act))?;
        match result {
            Ok(result) => {
                self.serve();
                Some(result)
            }
            Err(reason) => {
                self.close(reason);
                None
            }
        }
    }

    fn edge(&mut self, readable: bool, ended: bool) {
        if let Some(connection) = &mut self.connection {
            connection.note(Edge::new(readable, true, ended));
            self.serve();
        }
    }

    fn serve(&mut self) {
        loop {
            let served = catch_unwind(AssertUnwindSafe(|| {
                self.with(|handler, connection, session, turn| connection.serve(handler, session, turn, KEY))
                    .map(|next| next.unwrap_or(Next::Rest))
            }));
            let next = served.unwrap_or_else(|panic| {
                self.desk.slate.wipe();
                Some(Next::Close(panicked(&self.desk.counters, panic)))
            });
            if let Some(Next::Close(reason)) = next {
                self.close(reason);
            }
            self.let_call();
            match next {
                Some(Next::Again) => {}
                Some(Next::Rest) if self.desk.kernel.shut && !self.desk.kernel.finished => self.finish_too(),
                Some(_) | None => return,
            }
        }
    }

    /// A peer that sees the end of what it is sent closes its side as well.
    fn finish_too(&mut self) {
        self.desk.kernel.finished = true;
        if let Some(connection) = &mut self.connection {
            connection.note(Edge::new(true, true, true));
        }
    }

    fn close(&mut self, reason: CloseReason) {
        self.connection = None;
        self.closed = Some(reason);
        if let Some(session) = self.session.take() {
            let (handler, mut nobody) = (&mut self.handler, None);
            let mut lone =
                Lone { connection: &mut self.connection, session: &mut nobody, turn: self.desk.turn(), closed: None };
            handler.handle_closed_on(&mut Shard::new(0, &mut lone), session, ID, reason);
        }
    }

    /// If the handler has asked for the whole shard, it is given it: this client, and nobody else.
    fn let_call(&mut self) {
        if !self.desk.slate.take_call() {
            return;
        }
        let (connection, session) = (&mut self.connection, &mut self.session);
        let mut lone = Lone { connection, session, turn: self.desk.turn(), closed: None };
        self.handler.handle_shard(&mut Shard::new(0, &mut lone), ID);
        if let Some(reason) = lone.closed {
            self.close(reason);
        }
    }

    fn with<R>(
        &mut self,
        act: impl FnOnce(&mut H, &mut Connection<MemoryStream>, &mut Option<H::Session>, &mut Turn<'_, Memory>) -> R,
    ) -> Option<R> {
        let connection = self.connection.as_mut()?;
        Some(act(&mut self.handler, connection, &mut self.session, &mut self.desk.turn()))
    }
}

/// A shard with one connection, or none.
struct Lone<'a, S> {
    connection: &'a mut Option<Connection<MemoryStream>>,
    session: &'a mut Option<S>,
    turn: Turn<'a, Memory>,
    /// How a visit ended it.
    closed: Option<CloseReason>,
}

impl<S> Roster<S> for Lone<'_, S> {
    fn len(&self) -> usize {
        usize::from(self.connection.is_some() && self.closed.is_none())
    }

    fn visit(&mut self, id: ClientId, visit: Visit<'_, S>) -> bool {
        let (Some(connection), Some(session)) = (self.connection.as_mut(), self.session.as_mut()) else { return false };
        if id != ID || self.closed.is_some() || connection.is_finishing() {
            return false;
        }
        match connection.hand(&mut self.turn, KEY, None, |client| visit(client, session)) {
            Ok(true) => {}
            Ok(false) => connection.end(CloseReason::Finished),
            Err(reason) => self.closed = Some(reason),
        }
        self.turn.slate.take_call();
        true
    }

    fn visit_all(&mut self, visit: Visit<'_, S>) {
        self.visit(ID, visit);
    }

    fn connect(&mut self, target: &Target, _timeout: Duration, _session: S) -> Result<ClientId, ConnectError> {
        let source = io::Error::new(io::ErrorKind::Unsupported, "this client is alone on its shard");
        Err(ConnectError { target: target.clone(), source })
    }
}

/// Takes what a handler under test sends to shards: its [`remote`](Inbox::remote) stands for a server's.
///
/// ```
/// use esockets::testing::{Inbox, TestClient};
/// # use esockets::{Client, Handler, Peer, Remote};
/// # struct Room(Remote<Vec<u8>>);
/// # impl Handler for Room {
/// #     type Session = ();
/// #     type Message = Vec<u8>;
/// #     fn handle_incoming(&mut self, _: &mut Client<'_>, _: &Peer) -> Option<()> { Some(()) }
/// #     fn handle_readable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
/// #         self.0.send_to_all(&client.recv().to_vec()) == 2
/// #     }
/// # }
/// let mut inbox = Inbox::new(2)?; // for a server of two shards
/// let mut client = TestClient::connect(Room(inbox.remote()));
/// client.send(b"hello");
/// assert_eq!(inbox.take(0), [b"hello"]);
/// assert_eq!(inbox.take(1), [b"hello"]);
/// # Ok::<(), esockets::Error>(())
/// ```
pub struct Inbox<M> {
    remote: Remote<M>,
    mailboxes: Vec<Mailbox<Post<M>>>,
}

impl<M> Inbox<M> {
    /// As of a server with so many shards, and [`mailbox_max`](crate::Builder::mailbox_max) at its default.
    ///
    /// # Errors
    /// [`Error::Shard`] when there is no descriptor left: each shard takes one.
    pub fn new(shards: usize) -> Result<Inbox<M>, Error> {
        let (routes, mailboxes) = routes(shards, Config::default().mailbox_max)?;
        Ok(Inbox { remote: Remote::new(routes), mailboxes })
    }

    /// What a handler is made with.
    #[must_use]
    pub fn remote(&self) -> Remote<M> {
        self.remote.clone()
    }

    /// The messages to this shard since it was last asked for, in their order; orders to disconnect are not among them.
    pub fn take(&mut self, shard: usize) -> Vec<M> {
        let Some(mailbox) = self.mailboxes.get_mut(shard) else { return Vec::new() };
        let posts = std::iter::from_fn(|| mailbox.take());
        let message = |post| if let Post::Message(message) = post { Some(message) } else { None };
        posts.filter_map(message).collect()
    }
}

impl<M> std::fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("remote", &self.remote).finish_non_exhaustive()
    }
}
