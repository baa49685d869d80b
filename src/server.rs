//! The whole: a server's threads, their start in order, and their stop.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::address::LocalAddr;
use crate::config::Config;
use crate::entrance::{Entrance, Premises};
use crate::error::Error;
use crate::handler::Handler;
use crate::kernel::{Kernel, Linux};
use crate::life::{live, message_of};
use crate::listeners::{self, Listeners};
use crate::loan::{Door, Lender, Loans};
use crate::mailbox::{Mailbox, mailbox};
use crate::reactor::{Common, Post, Reactor};
use crate::remote::{Remote, Route};
use crate::shard::ShardInfo;
use crate::socket;
use crate::stats::{Counters, SharedCounters, Stats};
use crate::sys::{self, WakeFd};
use crate::timed::Timed;
#[cfg(feature = "tls")]
use crate::tls::Secured;
use crate::trace;
use crate::unix::SocketFiles;
use crate::watchdog::{Watch, Watchdog};

/// A running server. Dropping it stops it, and waits for that as [`join`](Server::join) does.
///
/// Started by [`Server::builder`]. Servers of one process share nothing and do not know of each other.
pub struct Server<M = ()> {
    threads: Vec<JoinHandle<Result<(), Error>>>,
    wakers: Vec<Arc<WakeFd>>,
    counters: Vec<SharedCounters>,
    common: Arc<Common>,
    remote: Remote<M>,
    local_addrs: Vec<LocalAddr>,
    /// Of its Unix sockets.
    files: SocketFiles,
    loans: Loans,
    /// How many sockets it listens on.
    listeners: usize,
    /// The cores by which the kernel deals connections out to them; empty if it does so by the hash.
    steered: Vec<usize>,
    stop_timeout: Duration,
    watchdog: Option<Watchdog>,
}

impl<M> Server<M> {
    /// The address that it listens on; with port 0 asked for, the port that the kernel chose. Of several, the first one of TCP;
    /// `0.0.0.0:0` if it listens on Unix sockets alone.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addrs.iter().find_map(LocalAddr::ip).unwrap_or(socket::NOWHERE)
    }

    /// All addresses that it listens on, in the order in which it was told of them; then those of
    /// [`listeners`](crate::Builder::listeners).
    #[must_use]
    pub fn local_addrs(&self) -> &[LocalAddr] {
        &self.local_addrs
    }

    /// What it has counted so far. Costs a load for each number of each shard, and does not disturb them.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::collect(self.counters.iter())
    }

    /// The way to its shards from other threads. A handler that sends messages itself has it from the beginning:
    /// [`start_with_remote`](crate::Builder::start_with_remote).
    #[must_use]
    pub fn remote(&self) -> Remote<M> {
        self.remote.clone()
    }

    /// Asks it to stop, and returns at once. It accepts those who have come in time and no more, answers what has been
    /// received, flushes what was sent, and closes each connection with
    /// [`CloseReason::Stopped`](crate::CloseReason::Stopped); whoever is not done after
    /// [`stop_timeout`](crate::Builder::stop_timeout) is closed as it is.
    pub fn stop(&self) {
        self.stop_within(self.stop_timeout);
    }

    /// The same with another deadline; zero closes everything at once. A second call can only bring the deadline forward.
    pub fn stop_within(&self, timeout: Duration) {
        self.files.remove();
        if self.common.stop(timeout) && self.serves() {
            trace::stopping(timeout);
        }
        self.wakers.iter().for_each(|waker| waker.wake());
    }

    /// Asks it to take nobody any more and to go on serving those who are there until they have gone by themselves, and
    /// returns at once. Who has come in time is accepted; whoever comes from here on is refused by the kernel, or left to
    /// who has the same listeners (see [`hand_over`](Server::hand_over)). After `timeout` it stops, as [`stop`](Server::stop)
    /// does, which may still come before. For clients that end their connections when they have what they want, nothing is lost.
    /// One that the handler has ended, and that does not end its own half, is waited for, up to 2 s after it has acknowledged the
    /// end.
    pub fn drain(&self, timeout: Duration) {
        self.files.remove();
        if self.common.drain(timeout) {
            trace::draining(timeout);
        }
        self.wakers.iter().for_each(|waker| waker.wake());
    }

    /// Hands its listening sockets to another process, whose program takes them with
    /// [`Listeners::take_over`](crate::Listeners::take_over) from the other end of this stream, and returns when a server has
    /// started with them. From then on both accept, from the same queues; call [`drain`](Server::drain) to leave the new ones
    /// to the successor and to go on with those who are there. Nobody is refused or reset, at whatever rate they come.
    ///
    /// Whatever their numbers of shards, the successor has as many listeners as the server that opened them. The claim to an
    /// address that is not [shared](crate::Builder::share_port) goes with them, and so do the tags of addresses, and the duty to
    /// remove the files of Unix sockets.
    ///
    /// Waits as long as the stream's timeouts allow: set them, or a successor that hangs keeps the caller. The shards have to
    /// answer, too, so call it from any thread but theirs.
    ///
    /// # Errors
    /// [`Error::HandOver`] when the successor ends before it serves, or a shard is held up. Then nothing has happened, and
    /// this server goes on.
    pub fn hand_over(&self, successor: &UnixStream) -> Result<(), Error> {
        let failed = |act| move |source| Error::HandOver { act, source };
        let wake = || self.wakers.iter().for_each(|waker| waker.wake());
        let loan = self.loans.borrow(wake).map_err(failed("asking its shards for their listening sockets"))?;
        if loan.listeners.len() < self.listeners {
            let source = io::Error::new(io::ErrorKind::NotConnected, "not all of its shards listen any more");
            return Err(Error::HandOver { act: "asking its shards for their listening sockets", source });
        }
        let handed_over = listeners::hand_over(successor, &loan, &self.files, &self.steered);
        handed_over.map_err(failed("the conversation with the successor"))?;
        self.files.leave();
        Ok(())
    }

    /// Waits until it has stopped, and says what it counted. It does not ask it to stop.
    ///
    /// # Errors
    /// The first error of a shard that did not end well: [`Error::Shard`] or [`Error::Died`].
    pub fn join(mut self) -> Result<Stats, Error> {
        self.join_threads()?;
        Ok(self.stats())
    }

    /// Whether it has started, and nobody has waited for its end yet.
    fn serves(&self) -> bool {
        !self.local_addrs.is_empty() && !self.threads.is_empty()
    }

    fn join_threads(&mut self) -> Result<(), Error> {
        let serves = self.serves();
        let mut ended = Ok(());
        for (shard, thread) in self.threads.drain(..).enumerate() {
            // Dropped by one of its own handlers, a server cannot wait for the thread that it is on.
            if thread.thread().id() != thread::current().id() {
                let end = thread.join().unwrap_or_else(|panic| Err(Error::Died { shard, message: message_of(panic) }));
                ended = ended.and(end);
            }
        }
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.end();
        }
        if serves {
            trace::stopped(&ended);
        }
        ended
    }

    /// Starts `config`'s shards, each with a handler that `make` gives the means to make.
    pub(crate) fn start<H, F>(
        config: Config,
        given: Vec<Arc<Listeners>>,
        watch: Option<Watch>,
        mut make: impl FnMut(&Remote<M>) -> F,
    ) -> Result<Server<M>, Error>
    where
        H: Handler<Message = M>,
        F: FnMut(&ShardInfo) -> H + Send + 'static,
        M: Send + 'static,
    {
        config.check()?;
        watch.as_ref().map_or(Ok(()), Watch::check)?;
        // Whoever fails from here on removes the files that it has made, as it drops them.
        let files = SocketFiles::default();
        let mut premises = Premises::new(&config, given, &files)?;
        let (mut server, mailboxes) = Server::prepare(&config, &premises, files)?;
        let count = mailboxes.len();
        let mut starts = Vec::with_capacity(count);
        for (index, mailbox) in mailboxes.into_iter().enumerate() {
            let (report, reported) = channel();
            let (start, started) = channel();
            let birth = Birth {
                info: ShardInfo { index, count, core: config.core_of(index) },
                config: config.clone(),
                wakers: server.wakers.clone(),
                lender: server.loans.lender(),
                counters: Arc::clone(&server.counters[index]),
                common: Arc::clone(&server.common),
                mailbox,
                report,
                started,
            };
            let entrance = premises.entrance(&config, index)?;
            let make = make(&server.remote);
            server.spawn(birth, entrance, make)?;
            // One after the other: they join the ports' groups in the order of their indices, and the first one's ports are
            // everybody's.
            premises.opened(reported.recv().unwrap_or_else(|_| Err(died(index)))?);
            starts.push(start);
        }
        if let Some(watch) = watch {
            let refused = |source| Error::Shard { shard: 0, act: "start the watchdog's thread", source };
            server.watchdog = Some(Watchdog::start(watch, server.counters.clone()).map_err(refused)?);
        }
        // Whoever fails before this line drops the starts: the shards that listen already end without having served.
        starts.iter().for_each(|start| {
            let _ = start.send(());
        });
        server.local_addrs = premises.local_addrs();
        premises.complete(&server.files);
        trace::started(&server.local_addrs, count);
        Ok(server)
    }

    /// All that is needed before there is a thread: a server without shards, and their mailboxes.
    #[expect(clippy::type_complexity, reason = "two things that are taken apart at once")]
    fn prepare(
        config: &Config,
        premises: &Premises,
        files: SocketFiles,
    ) -> Result<(Server<M>, Vec<Mailbox<Post<M>>>), Error> {
        let count = premises.shards();
        let (routes, mailboxes) = routes(count, config.mailbox_max)?;
        let server = Server {
            threads: Vec::with_capacity(count),
            wakers: routes.iter().map(|route| Arc::clone(&route.waker)).collect(),
            counters: (0..count).map(|_| Counters::shared(config.histograms)).collect(),
            common: Arc::new(Common::new(config)),
            remote: Remote::new(routes),
            local_addrs: Vec::new(),
            files,
            loans: Loans::new().map_err(|source| Error::Shard { shard: 0, act: "open the pair of sockets", source })?,
            listeners: premises.places(),
            steered: premises.steered().to_vec(),
            stop_timeout: config.stop_timeout,
            watchdog: None,
        };
        Ok((server, mailboxes))
    }

    fn spawn<H, F>(&mut self, birth: Birth<M>, entrance: Entrance, make: F) -> Result<(), Error>
    where
        H: Handler<Message = M>,
        F: FnMut(&ShardInfo) -> H + Send + 'static,
        M: Send + 'static,
    {
        let shard = birth.info.index;
        let thread = thread::Builder::new()
            .name(format!("esockets-{shard}"))
            .spawn(move || birth.run(entrance, make))
            .map_err(|source| Error::Shard { shard, act: "start its thread", source })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl<M> Drop for Server<M> {
    fn drop(&mut self) {
        self.stop();
        // Whoever wants to know how it ended calls `join`.
        let _ = self.join_threads();
    }
}

impl<M> fmt::Debug for Server<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Server");
        debug.field("local_addrs", &self.local_addrs).field("shards", &self.counters.len()).finish_non_exhaustive()
    }
}

/// All that a shard's thread is given on its way.
struct Birth<M> {
    info: ShardInfo,
    config: Config,
    /// Everybody's: a shard's handler may send messages to the other shards.
    wakers: Vec<Arc<WakeFd>>,
    lender: Lender,
    counters: SharedCounters,
    common: Arc<Common>,
    mailbox: Mailbox<Post<M>>,
    /// The addresses that it has opened, or why it does not listen.
    report: Sender<Result<Vec<SocketAddr>, Error>>,
    /// Comes when all shards listen; never, if one of them cannot.
    started: Receiver<()>,
}

impl<M: Send + 'static> Birth<M> {
    fn run<H, F>(self, entrance: Entrance, mut make: F) -> Result<(), Error>
    where
        H: Handler<Message = M>,
        F: FnMut(&ShardInfo) -> H,
    {
        let (shard, info) = (self.info.index, self.info);
        let _span = trace::enter(shard);
        let mut make = || {
            let made = catch_unwind(AssertUnwindSafe(|| make(&info)));
            made.map_err(|panic| Error::Died { shard, message: message_of(panic) })
        };
        let prepared = self.prepare(entrance).and_then(|(addresses, door)| {
            // Everybody's queue is as long.
            let queue_size = self.config.queue_size.saturating_mul(door.listeners.len() as u32);
            let kernel = Linux::new(door, self.lender, Arc::clone(&self.wakers[shard]));
            let kernel = kernel.map_err(|source| Error::Shard { shard, act: "make its epoll instance", source })?;
            let handler = make()?;
            Ok((addresses, kernel, handler, Config { queue_size, ..self.config }))
        });
        let (addresses, kernel, handler, config) = match prepared {
            Ok(parts) => parts,
            Err(error) => {
                let _ = self.report.send(Err(error));
                return Ok(());
            }
        };
        let _ = self.report.send(Ok(addresses));
        if self.started.recv().is_err() {
            return Ok(());
        }
        let parts = Parts { mailbox: self.mailbox, counters: self.counters, common: self.common, config, shard };
        #[cfg(feature = "tls")]
        if let Some(tls) = parts.config.tls.clone() {
            return parts.live(Secured::new(kernel, tls), handler, Secured::renew, make);
        }
        parts.live(kernel, handler, Linux::renew, make)
    }

    /// Pins the thread, then opens what the shard owns: on its own thread, because only that will ever use it.
    fn prepare(&self, entrance: Entrance) -> Result<(Vec<SocketAddr>, Door), Error> {
        let shard = self.info.index;
        if let Some(id) = self.info.core
            && !core_affinity::set_for_current(core_affinity::CoreId { id })
        {
            let source = io::Error::last_os_error();
            return Err(Error::Shard { shard, act: "pin itself to its core (see `cores`)", source });
        }
        let to_take = entrance.given.to_take();
        let taken = if self.config.private_fd_tables { self.own_table(&to_take)? } else { Vec::new() };
        entrance.open(&self.config, self.info, taken)
    }

    #[expect(unsafe_code, reason = "what the builder's unsafe knob asked for; the calls are in `sys`")]
    fn own_table(&self, taken: &[RawFd]) -> Result<Vec<OwnedFd>, Error> {
        let shard = self.info.index;
        let mut keep: Vec<BorrowedFd<'_>> = self.wakers.iter().map(|waker| waker.as_fd()).collect();
        keep.push(self.lender.as_fd());
        // SAFETY: this thread has opened nothing yet, and from here on uses what it opens itself, what it takes here, and the
        // wakers and the lender's socket, which the server keeps until this thread has ended. What it takes is open where it
        // was started from until it has reported. The rest was promised by whoever set the knob.
        let own = unsafe { sys::own_descriptor_table_with(&keep, taken) };
        own.map_err(|source| Error::Shard { shard, act: "make its own descriptor table", source })
    }
}

/// What a loop is made of, whatever its kernel.
struct Parts<M> {
    mailbox: Mailbox<Post<M>>,
    counters: SharedCounters,
    common: Arc<Common>,
    config: Config,
    shard: usize,
}

impl<M: Send + 'static> Parts<M> {
    /// Runs it, with a clock if somebody wants to know, until the server ends.
    fn live<K, H>(
        self,
        kernel: K,
        handler: H,
        mut renew: impl FnMut(&mut K) -> io::Result<()>,
        mut make: impl FnMut() -> Result<H, Error>,
    ) -> Result<(), Error>
    where
        K: Kernel,
        H: Handler<Message = M>,
    {
        let Parts { mailbox, counters, common, config, shard } = self;
        let Some(timings) = counters.timings().map(Arc::clone) else {
            let reactor = Reactor::new(kernel, handler, mailbox, counters, common, &config, shard);
            return live(reactor, shard, &config, renew, make);
        };
        let (kernel, handler) = (Timed::new(kernel, &timings), Timed::new(handler, &timings));
        let reactor = Reactor::new(kernel, handler, mailbox, counters, common, &config, shard);
        let renew = |kernel: &mut Timed<K>| renew(&mut kernel.whole);
        live(reactor, shard, &config, renew, || Ok(Timed::new(make()?, &timings)))
    }
}

/// A mailbox and a waker for each shard. The wakers are made before any thread is, so that all threads know them.
#[expect(clippy::type_complexity, reason = "two lists that are taken apart at once")]
pub(crate) fn routes<M>(count: usize, mailbox_max: usize) -> Result<(Arc<[Route<M>]>, Vec<Mailbox<Post<M>>>), Error> {
    let mut mailboxes = Vec::with_capacity(count);
    let mut routes = Vec::with_capacity(count);
    for shard in 0..count {
        let waker = WakeFd::new().map_err(|source| Error::Shard { shard, act: "make its eventfd", source })?;
        let (postbox, mailbox) = mailbox(mailbox_max);
        routes.push(Route { postbox, waker: Arc::new(waker) });
        mailboxes.push(mailbox);
    }
    Ok((routes.into(), mailboxes))
}

fn died(shard: usize) -> Error {
    Error::Died { shard, message: "it ended before it reported".into() }
}
