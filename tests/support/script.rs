//! A handler made of closures, which keeps a ledger of its sessions.

use std::collections::HashSet;
use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use esockets::{Client, ClientId, CloseReason, Handler, Peer, Refusal, Server, Shard, Stats};

use super::wait_until;

type Act = Arc<dyn Fn(&mut Client<'_>) -> bool + Send + Sync>;

type ShardAct = Arc<dyn Fn(&mut Shard<'_, ()>) + Send + Sync>;

/// A message to a shard: what to do there.
#[derive(Clone)]
pub(crate) struct Order(ShardAct);

impl Order {
    pub(crate) fn new(act: impl Fn(&mut Shard<'_, ()>) + Send + Sync + 'static) -> Order {
        Order(Arc::new(act))
    }
}

/// Holds up a shard until something is sent or the sender is dropped; it is held up when this returns.
pub(crate) fn hold(server: &Server<Order>, shard: usize) -> Sender<()> {
    let ((go, gate), (here, held)) = (channel(), channel());
    let ends = Mutex::new((gate, here));
    let order = Order::new(move |_| {
        let (gate, here) = &*ends.lock().unwrap();
        here.send(()).unwrap();
        // A sender that is gone opens the gate, too.
        let _ = gate.recv();
    });
    server.remote().send(shard, order).unwrap();
    held.recv().unwrap();
    go
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Order")
    }
}

/// Echoes, unless told otherwise.
#[derive(Clone)]
pub(crate) struct Script {
    incoming: Act,
    readable: Act,
    writable: Act,
    eof: Act,
    timeout: Act,
    farewell: &'static [u8],
    pub(crate) log: Log,
}

/// Every session that began, and every one that ended.
#[derive(Clone, Default)]
pub(crate) struct Log {
    opened: Arc<Mutex<Vec<ClientId>>>,
    closed: Arc<Mutex<Vec<(ClientId, CloseReason)>>>,
}

impl Script {
    pub(crate) fn echo() -> Script {
        Script {
            incoming: Arc::new(|_| true),
            readable: Arc::new(|client| {
                let data = client.recv();
                client.send(data)
            }),
            writable: Arc::new(|_| true),
            eof: Arc::new(|_| false),
            timeout: Arc::new(|_| false),
            farewell: b"",
            log: Log::default(),
        }
    }

    pub(crate) fn incoming(mut self, act: impl Fn(&mut Client<'_>) -> bool + Send + Sync + 'static) -> Script {
        self.incoming = Arc::new(act);
        self
    }

    pub(crate) fn readable(mut self, act: impl Fn(&mut Client<'_>) -> bool + Send + Sync + 'static) -> Script {
        self.readable = Arc::new(act);
        self
    }

    pub(crate) fn writable(mut self, act: impl Fn(&mut Client<'_>) -> bool + Send + Sync + 'static) -> Script {
        self.writable = Arc::new(act);
        self
    }

    pub(crate) fn eof(mut self, act: impl Fn(&mut Client<'_>) -> bool + Send + Sync + 'static) -> Script {
        self.eof = Arc::new(act);
        self
    }

    pub(crate) fn timeout(mut self, act: impl Fn(&mut Client<'_>) -> bool + Send + Sync + 'static) -> Script {
        self.timeout = Arc::new(act);
        self
    }

    /// What those hear whom a limit keeps out. At "panic" it panics.
    pub(crate) fn farewell(mut self, farewell: &'static [u8]) -> Script {
        self.farewell = farewell;
        self
    }

    /// Starts a server with it.
    pub(crate) fn start(&self, builder: esockets::Builder) -> Server<Order> {
        let script = self.clone();
        builder.start(move |_| script.clone()).unwrap()
    }
}

impl Handler for Script {
    type Session = ();
    type Message = Order;

    fn handle_incoming(&mut self, client: &mut Client<'_>, _address: &Peer) -> Option<()> {
        (self.incoming)(client).then(|| self.log.opened.lock().unwrap().push(client.id()))
    }

    fn handle_refused(&mut self, _address: &Peer, _why: Refusal) -> &[u8] {
        if self.farewell == b"panic" {
            super::meant();
        }
        self.farewell
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
        (self.readable)(client)
    }

    fn handle_writable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
        (self.writable)(client)
    }

    fn handle_eof(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
        (self.eof)(client)
    }

    fn handle_timeout(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
        (self.timeout)(client)
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, ()>, order: Order) {
        (order.0)(shard);
    }

    fn handle_closed(&mut self, (): (), id: ClientId, reason: CloseReason) {
        self.log.closed.lock().unwrap().push((id, reason));
    }
}

impl Log {
    pub(crate) fn opened(&self) -> Vec<ClientId> {
        self.opened.lock().unwrap().clone()
    }

    pub(crate) fn reasons(&self) -> Vec<CloseReason> {
        self.closed.lock().unwrap().iter().map(|(_, reason)| *reason).collect()
    }

    /// Waits until `count` sessions have ended.
    pub(crate) fn wait_closed(&self, count: usize) {
        wait_until(&format!("{count} sessions have ended"), || self.reasons().len() >= count);
    }

    /// Checks the ledger when everything is over: each session ended once, and the counters tell the same.
    pub(crate) fn check(&self, stats: &Stats) {
        let (opened, closed) = (self.opened(), self.closed.lock().unwrap());
        let ended: HashSet<ClientId> = closed.iter().map(|(id, _)| *id).collect();
        assert_eq!(ended.len(), closed.len(), "handle_closed is called once for a session");
        assert_eq!(ended, opened.into_iter().collect(), "each session has ended, and nothing else has");
        for reason in CloseReason::ALL.into_iter().filter(|&reason| reason != CloseReason::Refused) {
            let told = closed.iter().filter(|(_, told)| told.name() == reason.name()).count();
            let unserved = stats.total.closed(reason) - told as u64;
            assert!(unserved == 0 || reason == CloseReason::Panicked, "{reason}: {told} told, {stats}");
        }
        assert_eq!((stats.total.open(), stats.total.accepted), (0, stats.total.closed_total()), "{stats}");
    }

    /// Stops the server, and checks the ledger.
    pub(crate) fn stop_and_check(&self, server: Server<Order>) -> Stats {
        server.stop();
        let stats = server.join().unwrap();
        self.check(&stats);
        stats
    }
}
