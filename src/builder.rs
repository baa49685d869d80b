//! Every knob of a server: what it does, its default, its unit and its cost.

use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::client::Client;
use crate::config::{Config, Cores, Limits, Overflow, Selector, ShardDeath, Steering};
use crate::error::Error;
use crate::handler::{Closures, Handler};
use crate::listeners::Listeners;
use crate::peer::Peer;
use crate::remote::Remote;
use crate::server::Server;
use crate::shard::ShardInfo;
use crate::socket::Keepalive;
#[cfg(feature = "tls")]
use crate::tls::Tls;
use crate::tuning::Tuning;
use crate::watchdog::{Stall, Watch};

/// How a server is to be; made by [`Server::builder`].
///
/// Values are checked together by `start`, which names the knob whose value makes no sense.
#[derive(Debug, Clone)]
#[must_use = "a builder starts nothing until `start` is called"]
pub struct Builder<P = ()> {
    config: Config,
    watch: Option<Watch>,
    /// Shared by the copies of this builder, each of which could start a server with them.
    listeners: Vec<Arc<Listeners>>,
    protocol: P,
}

/// The closure that keeps every connection, for a builder that was given only `handle_readable`.
type KeepAll = fn(&mut Client<'_>, &Peer) -> bool;

impl Server {
    /// A server with every knob at its default.
    pub fn builder() -> Builder {
        Builder { config: Config::default(), watch: None, listeners: Vec::new(), protocol: () }
    }
}

impl<P> Builder<P> {
    /// The address to listen on, or a name for it: the first that it resolves to is taken. `::` takes IPv4 as well.
    /// Default: `127.0.0.1`, so that nothing is exposed until you say so.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.config.host = host.into();
        self
    }

    /// The port to listen on; 0 lets the kernel choose a free one, which
    /// [`local_addr`](Server::local_addr) then tells. Default: 1234.
    pub fn port(mut self, port: u16) -> Self {
        self.config.port = port;
        self
    }

    /// An address to listen on, instead of [`host`](Builder::host) and [`port`](Builder::port); called again, one beside it.
    /// TCP and Unix sockets, each with a [tag](Address::tag) by which the handler tells connections to it apart.
    ///
    /// ```
    /// # use esockets::{Address, Server};
    /// # let folder = std::env::temp_dir();
    /// let server = Server::builder()
    ///     .listen(Address::tcp("127.0.0.1", 0))
    ///     .listen(Address::unix(folder.join("example.sock")).mode(0o600).tag(1))
    ///     .handle_readable(|client| if client.tag() == 1 { client.send(b"neighbour") } else { client.send(b"stranger") })
    ///     .start()?;
    /// assert_eq!(server.local_addrs().len(), 2);
    /// # Ok::<(), esockets::Error>(())
    /// ```
    ///
    /// Each shard has a listener of its own at each address of TCP. A second address costs an accept4(2) in vain for each batch
    /// of new connections: it may have somebody waiting, too.
    ///
    /// A Unix socket cannot be dealt out by the kernel: all shards share its one queue, of
    /// [`queue_size`](Builder::queue_size), and who comes when it is full waits, or is told EAGAIN. Each new connection wakes one
    /// of the shards that sleep, and they take turns (EPOLLEXCLUSIVE, see epoll_ctl(2), and two calls of it for each batch
    /// that is accepted, by which a shard goes to the end of the line): at 16 shards on two cores the busiest had 1.0 to 1.5
    /// times the mean, and 1.2 to 2.7 sleeps ended for each connection; when each woke all that slept, it had 6 to 15 times the mean,
    /// 11 to 18 sleeps ended, and connections cost twice the processor time. A shard that is woken in the middle of a long call
    /// of a handler takes who comes when that is over. With [`private_fd_tables`](Builder::private_fd_tables) each new connection
    /// wakes all: one whose table is full must not keep others from theirs. [`Stats::imbalance`](crate::Stats::imbalance)
    /// tells how even it is.
    /// [`connections_per_address`](Builder::connections_per_address) does not concern them.
    pub fn listen(mut self, address: Address) -> Self {
        self.config.addresses.push(address);
        self
    }

    /// Lets other servers of the same user listen on the same address, if they ask for it, too; the kernel deals
    /// connections out among them all (SO_REUSEPORT, see socket(7)). Default: false, so that a second server is refused
    /// with AddrInUse instead of silently taking half of the connections.
    ///
    /// All of them must have asked for it. A program that sets SO_REUSEPORT by itself and runs as the same
    /// user can always join: run a server as a user of its own where that matters.
    pub fn share_port(mut self, share: bool) -> Self {
        self.config.share_port = share;
        self
    }

    /// Listens with sockets that are there already, from systemd or from the server that runs (see [`Listeners`]), instead
    /// of opening its own: `host` and `port` are not looked at, nor is `share_port` for them. Called again, with these
    /// beside the others. An address of [`listen`](Builder::listen) is opened beside them, unless it is among theirs: so a
    /// new version can have more addresses than the one before. Default: it opens its own.
    ///
    /// `queue_size`, `nodelay`, `keepalive`, `user_timeout` and `tuning` are set on them anew. There may be more shards than
    /// listeners, or fewer. A shard with several takes from each in turn. Shards that share a listener, as the one that systemd opens
    /// mostly is, take turns as they do at a [Unix socket](Builder::listen). The kernel
    /// deals connections out at less cost to as many sockets as there are shards: `ReusePort=yes` in the socket's unit, and
    /// the same `ListenStream=` so many times.
    pub fn listeners(mut self, listeners: Listeners) -> Self {
        self.listeners.push(Arc::new(listeners));
        self
    }

    /// How many connections may wait to be accepted, on each shard. Default: 1000.
    ///
    /// The kernel cuts it to the sysctl `net.core.somaxconn`, usually 4096. Whoever comes when the queue is full tries
    /// again after 1, 3, 7 seconds: seen from the client, a slow connect. Costs nothing until it is used.
    pub fn queue_size(mut self, connections: u32) -> Self {
        self.config.queue_size = connections;
        self
    }

    /// The longest that a shard sleeps in one epoll_wait(2); at least 1 ms. Default: until something happens.
    ///
    /// An idle shard wakes up that often for nothing, and each sleep that has an end costs a look at the clock and a timer
    /// of the kernel's, which in a server whose connections come and go is 2 % of all it does. Nothing depends on it:
    /// timers, messages and a stop wake a shard by themselves.
    pub fn block_time(mut self, time: Duration) -> Self {
        self.config.block_time = Some(time);
        self
    }

    /// Calls [`Handler::handle_tick`] every so often, on each shard by itself; at least 1 ms. Default: `None`, never.
    ///
    /// The first comes a period after the shard's start, and none comes early. A shard that is busy is late, and makes up for
    /// none that it missed: they keep their distance from the start as long as none is a whole period late.
    ///
    /// Costs a look at the clock in each turn, and a wake-up in each period even if nobody is connected.
    pub fn tick(mut self, period: Option<Duration>) -> Self {
        self.config.tick = period;
        self
    }

    /// How a shard waits. Default: [`Selector::Epoll`]; [`Selector::Spin`] trades processor time for latency.
    pub fn selector(mut self, selector: Selector) -> Self {
        self.config.selector = selector;
        self
    }

    /// How many reactor threads there are, each with its own listener, epoll instance and connections. Default: one for
    /// each core that the process may use, or for each core of [`cores`](Builder::cores)' list.
    ///
    /// Each costs a thread, three descriptors and a read buffer of 64 KiB. More shards than cores bring nothing. A
    /// client is dealt to a shard by the hash of its address and port and stays there; with few clients the load can be
    /// uneven.
    pub fn shards(mut self, shards: usize) -> Self {
        self.config.shards = Some(shards);
        self
    }

    /// The cores that shards are pinned to. Default: [`Cores::All`]. Pinned threads keep their caches warm, and cannot
    /// get out of the way of others; where much else runs on the machine, [`Cores::None`] is often the better choice.
    ///
    /// [`Cores::List`] is for machines whose cores are not equal. Where memory is not (NUMA; `lscpu` shows the nodes), take the
    /// cores of the node to which the network card belongs (`cat /sys/class/net/eth0/device/numa_node`): a shard's memory is
    /// its node's, because the shard's own thread asks for it first. With hyper-threads, one of each pair; and leave out the
    /// cores that serve the card's interrupts, or take just these, with [`Steering::Cpu`], never some of both.
    pub fn cores(mut self, cores: Cores) -> Self {
        self.config.cores = cores;
        self
    }

    /// How the kernel deals connections out to the shards. Default: [`Steering::Hash`]. How even that is shows in
    /// [`Stats::imbalance`](crate::Stats::imbalance). [`Steering::Cpu`] is a classic BPF program on the port
    /// (SO_ATTACH_REUSEPORT_CBPF, see socket(7)) that is attached once, when all shards listen; it takes no privilege, and
    /// some ten instructions of the kernel's for each new connection.
    pub fn steering(mut self, steering: Steering) -> Self {
        self.config.steering = steering;
        self
    }

    /// TCP_NODELAY on every connection (see tcp(7)): small answers leave at once. Default: true. Set on the listener
    /// and inherited, so it costs nothing per connection.
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.config.nodelay = nodelay;
        self
    }

    /// TCP keepalive: a peer that has vanished is noticed even though nothing is sent to it. Default: on, first probe after
    /// 60 s, then every 10 s, six in all ([`Keepalive::default`]). `None` turns it off. Set on the listener and inherited;
    /// costs a packet each way per minute for each idle connection, and no memory.
    ///
    /// Peers on the loopback (127.0.0.0/8, `::1`) are not probed: they cannot vanish without the kernel's knowing, and it probes
    /// all at once who were last heard of within the same four seconds, more than its queue for such packets holds
    /// (net.core.netdev_max_backlog, 1,000 for each core): of 30,000 idle connections over the loopback it gave up 11,631 as dead.
    /// At `127.0.0.1` and `::1` that costs nothing, and elsewhere a setsockopt(2) for each of them. Between containers and
    /// through a machine's own address it may happen, too: raise that queue, or turn this off.
    pub fn keepalive(mut self, keepalive: Option<Keepalive>) -> Self {
        self.config.keepalive = keepalive;
        self
    }

    /// How long a peer may fail to acknowledge what was sent to it, or to make room for what waits, before the connection
    /// ends as [`Vanished`](crate::CloseReason::Vanished): TCP_USER_TIMEOUT, see tcp(7). Default: 120 s, as long as the
    /// keepalive's probes last. With `None` a peer that acknowledges but does not read keeps its connection, and up to
    /// [`output_max`](Builder::output_max) of memory, for ever. Do not set it small: a reader that is too slow ends, too,
    /// even if it reads a little each time, for its system tells of room only when there is enough for a segment. At 120 s
    /// that takes some 12 bytes a second, and 550 on the loopback, where segments are of 64 KiB. At least 1 ms; noticed
    /// at a retransmission or probe, so up to twice as late. Set on the listener and inherited: costs nothing.
    pub fn user_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.user_timeout = timeout;
        self
    }

    /// Options of TCP for experts, each with its cost: [`Tuning`]. Default: none, the system's own.
    pub fn tuning(mut self, tuning: Tuning) -> Self {
        self.config.tuning = tuning;
        self
    }

    /// Speaks TLS: see [`tls`](crate::tls). Default: does not.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: &Tls) -> Self {
        self.config.tls = Some(tls.clone());
        self
    }

    /// Watches the shards: calls `report` when one has not come round for as long as `allowed`, and again each time that
    /// this has doubled: a call of the handler blocks or computes for so long, or many of one turn do together. Default:
    /// off; at least 1 ms, and from 100 ms on sensible.
    ///
    /// The [`Stall`] names the shard and the connection. `report` runs on a thread of its own, so it may print, or end the
    /// process; it must not wait for the shard. A shard that sleeps is never reported, nor a process that was stopped as a
    /// whole; one that gets no processor is. Also counted in [`ShardStats::stalls`](crate::ShardStats::stalls). Costs a
    /// thread that looks at two numbers of each shard, four times in `allowed`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use esockets::Server;
    /// let watched = Server::builder().watchdog(Duration::from_millis(200), |stall| eprintln!("{stall}"));
    /// ```
    pub fn watchdog(mut self, allowed: Duration, report: impl Fn(&Stall) + Send + Sync + 'static) -> Self {
        self.watch = Some(Watch { allowed, report: Arc::new(report) });
        self
    }

    /// The most connections that are open at once, over all shards. Default: `None`, as many as there are descriptors.
    /// Whoever comes beyond is accepted and closed at once, told what
    /// [`handle_refused`](Handler::handle_refused) gives and counted as
    /// [`Refused`](crate::CloseReason::Refused). Costs a shared counter, touched when a connection comes and goes.
    pub fn connections_max(mut self, connections: Option<usize>) -> Self {
        self.config.connections_max = connections;
        self
    }

    /// The most connections that are open at once from one address, over all shards; of IPv6, from one network of 64 bits,
    /// because who has one address there has them all. Default: `None`. Whoever comes beyond is accepted and closed at
    /// once, told what [`handle_refused`](Handler::handle_refused) gives and counted as
    /// [`Refused`](crate::CloseReason::Refused). Behind a proxy all come from one address. Costs a lock
    /// and a look into a table when a connection comes and goes, and about 50 bytes for each address.
    pub fn connections_per_address(mut self, connections: Option<usize>) -> Self {
        self.config.connections_per_address = connections;
        self
    }

    /// The most connections that are accepted in a second from one address, over all shards; of IPv6, from one network of 64
    /// bits. After a second of rest as many may come at once. Default: `None`. Whoever comes sooner is accepted and closed at
    /// once, told what [`handle_refused`](Handler::handle_refused) gives and counted as
    /// [`Refused`](crate::CloseReason::Refused); that does not make the others wait longer. Behind a proxy all come from one
    /// address, and those who come to a Unix socket from none, which is not limited. It counts from when they are accepted: of
    /// those who came while the process stood still, as many are taken as if they had come at once. Between 1 and 1,000,000.
    ///
    /// Costs a lock and a look into a table when a connection comes, and some 50 bytes for each address of the last two seconds,
    /// of 65,536 addresses a second at the most: those beyond are let in without being noted. Against somebody who has so many
    /// there is [`connections_max`](Builder::connections_max).
    pub fn accept_rate_per_address(mut self, connections: Option<usize>) -> Self {
        self.config.accept_rate_per_address = connections;
        self
    }

    /// The most input, in bytes, that a handler may leave unconsumed: the longest message that can arrive in pieces.
    /// Default: 64 KiB. A connection that is full and whose peer sends more is closed with
    /// [`InputFull`](crate::CloseReason::InputFull). Memory is used only for what is left over. A value below 64 KiB also
    /// bounds how much is read at a time.
    pub fn input_max(mut self, bytes: usize) -> Self {
        self.config.limits.input_max = bytes;
        self
    }

    /// The most output, in bytes, that may wait for a connection's peer: what a peer that does not read costs. Default:
    /// 256 KiB. A message that would exceed it closes the connection with
    /// [`OutputFull`](crate::CloseReason::OutputFull), unless [`overflow`](Builder::overflow) says otherwise. No more is read at a time than there is room for, so an answer that
    /// is no longer than its question always fits. Memory is used only for what waits.
    pub fn output_max(mut self, bytes: usize) -> Self {
        self.config.limits.output_max = bytes;
        self
    }

    /// The most output, in bytes, that may wait for all peers of a shard together. Default: `None`, `output_max` times the
    /// connections. At least 2.
    ///
    /// While more than half of it waits, the low mark is zero: nothing is read from a connection as long as anything waits for
    /// its peer. Those who read what they are sent do not notice. When all of it waits, nothing more can be made to wait, and
    /// [`overflow`](Builder::overflow) says what becomes of a message that its socket does not take: even of an answer that is no
    /// longer than its question. Costs an addition whenever output is queued or leaves the queue, and nothing for others. What
    /// waits is told by [`ShardStats::output_waiting`](crate::ShardStats::output_waiting), with this limit or without.
    pub fn output_max_shard(mut self, bytes: Option<usize>) -> Self {
        self.config.limits.output_max_shard = bytes;
        self
    }

    /// What becomes of a message for which there is no room under [`output_max`](Builder::output_max) or
    /// [`output_max_shard`](Builder::output_max_shard). Default: [`Overflow::Close`].
    pub fn overflow(mut self, then: Overflow) -> Self {
        self.config.limits.overflow = then;
        self
    }

    /// The low mark of output, in bytes: while more waits, nothing is read from the connection; when it falls to the
    /// mark again, `handle_writable` is called and reading goes on. Default: half of [`output_max`](Builder::output_max);
    /// less than `output_max`.
    pub fn output_low(mut self, bytes: usize) -> Self {
        self.config.limits.output_low = Some(bytes);
        self
    }

    /// Calls `handle_timeout` when no byte has gone either way for so long; unless the handler objects, the connection
    /// is closed with [`Idle`](crate::CloseReason::Idle). Default: `None`, for connections that may be silent for ever.
    /// A peer that is sent something but never answers is not idle; [`Client::set_timeout`] is for that. At least 1 ms;
    /// kept to 10 ms. Costs 16 bytes for each connection and a look at the clock in each turn.
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.limits.idle_timeout = timeout;
        self
    }

    /// How long a new connection may take for its first message, from when it was accepted: an absolute deadline, which bytes
    /// that trickle do not move. Default: `None`; 10 s are common where strangers come. At least 1 ms; kept to 10 ms.
    ///
    /// The message is there when the handler first takes input: a handler that leaves what is not whole need do nothing.
    /// One that takes pieces into its session calls [`Client::set_timeout`] in `handle_incoming` instead, and takes that back when
    /// the message is whole. For this deadline is the client's own timer: setting another, or `None`, takes its place. When it
    /// is over `handle_timeout` is called, which may still send a word; unless it objects, the connection is closed with
    /// [`FirstMessageTimedOut`](crate::CloseReason::FirstMessageTimedOut). Who is called from here has none.
    ///
    /// What has come by then is read first, in as many turns as that takes: a shard that was held up lets nobody go whose message
    /// is there.
    ///
    /// Costs 16 bytes for each connection and a look at the clock in each turn while anybody is awaited, two looks at the clock
    /// for each connection, and the shortest way through its first turn.
    pub fn first_message_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.limits.first_message_timeout = timeout;
        self
    }

    /// How long a peer may take nothing of what waits for it, until the connection ends with
    /// [`WriteTimedOut`](crate::CloseReason::WriteTimedOut) and the peer sees a reset. Default: `None`; 30 s are common. At least
    /// 1 ms; kept to 10 ms, and to 1.5 times as long.
    ///
    /// It counts from when bytes last left the queue, and begins anew when the peer has acknowledged some in the second half of
    /// it: a slow reader stays as long as it makes room for one segment in that time, some 100 bytes a second at 30 s, and 4 KB on
    /// the loopback. [`user_timeout`](Builder::user_timeout) does much the same at no cost, and so there is no default; but a small
    /// one ends those, too, whose packets get lost for a while with nothing waiting here. `user_timeout` should be longer than this.
    ///
    /// Costs nothing as long as nothing waits; for each that something waits for, a look at the clock and two at its socket (ioctl)
    /// in that time, and while there is one, a look at the clock in each turn; 16 bytes for each connection, once there has been
    /// one.
    pub fn write_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.limits.write_timeout = timeout;
        self
    }

    /// The most connections that a shard accepts in one turn of its loop, before it serves those that it has. Default: 64.
    /// More let a storm of new clients starve the old ones; fewer make the new ones wait.
    pub fn accept_budget(mut self, connections: usize) -> Self {
        self.config.accept_budget = connections;
        self
    }

    /// The most bytes that are read from one connection in one turn, before the others have theirs. Default: 64 KiB. More
    /// lets one fast sender delay everybody else on its shard; less costs more turns for bulk data.
    pub fn read_budget(mut self, bytes: usize) -> Self {
        self.config.limits.read_budget = bytes;
        self
    }

    /// How many messages from other threads may wait for each shard. Default: 1024. Their memory is taken at the start.
    pub fn mailbox_max(mut self, messages: usize) -> Self {
        self.config.mailbox_max = messages;
        self
    }

    /// What becomes of a shard whose loop dies, which no handler can make it do: the system does not let it wait for events,
    /// or this library has a mistake. Default: [`ShardDeath::Respawn`]. A server that goes on without one of its shards serves
    /// fewer without saying so; one that ends takes those along who were not concerned.
    ///
    /// Its connections end, with [`Failed`](crate::CloseReason::Failed) or [`Panicked`](crate::CloseReason::Panicked), and
    /// `handle_closed` is told. The old handler is dropped before the new one is made; messages that wait are handled by the
    /// new one. What that takes and is not there (descriptors, or its factory panics) is tried again after 10 ms, and twice
    /// as long each time, up to a second. Counted in [`ShardStats::deaths`](crate::ShardStats::deaths); costs nothing until
    /// then.
    pub fn shard_death(mut self, then: ShardDeath) -> Self {
        self.config.shard_death = then;
        self
    }

    /// Whether to measure how long each turn of the loop and each call of the handler takes, which
    /// [`ShardStats::turn_time`](crate::ShardStats::turn_time) and [`handler_time`](crate::ShardStats::handler_time) then tell.
    /// Default: false, which costs nothing at all: the loop that does not measure is another one than the loop that does.
    ///
    /// Costs two looks at the clock for each call and for each turn (clock_gettime(2), which is no system call on most machines) and
    /// 5 KB for each shard. Beside the clock itself, an echo takes 150 user instructions more where fifty come in one turn, and 380
    /// more where each comes alone.
    pub fn histograms(mut self, measure: bool) -> Self {
        self.config.histograms = measure;
        self
    }

    /// How long [`stop`](Server::stop) and dropping the server wait for peers to take what was sent. Default: 10 s; zero
    /// closes everything at once.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.config.stop_timeout = timeout;
        self
    }
}

/// The one knob that can break a program.
impl<P> Builder<P> {
    /// Gives each shard a descriptor table of its own. Default: all threads of the process share one.
    ///
    /// The limit of open descriptors (`ulimit -n`) then counts for each shard instead of for the whole process: with
    /// 20,000, 52 shards hold a million connections. Nothing is shared between shards in accept, close and epoll_ctl any
    /// more, and no table that grows stops everybody for milliseconds. `/proc/PID/fd` shows only the main thread's table,
    /// the others are under `/proc/PID/task/TID/fd`. Costs a few system calls at the start. The shards' threads take no signals
    /// then: they go to the program's others.
    ///
    /// How many shards so many connections take is for you to say, with [`shards`](Builder::shards): the kernel deals
    /// connections out by a hash, and whoever is dealt to a shard that is full waits although others have room. With `limit`
    /// descriptors each, of which a shard needs some 64 itself, n connections take about n / (r − 6 √r) shards, where
    /// r = limit − 64: six standard deviations above the mean then still fit.
    ///
    /// # Safety
    /// A number that names a descriptor on one thread names another, or none, on the shard's. So:
    /// - the handler, what makes it, and its sessions hold no descriptor (file, socket, pipe; another server's
    ///   [`Remote`](crate::Remote) holds some, too) that was opened on another thread, other than standard input, output
    ///   and error: it is closed here, and its number may be a client's socket soon;
    /// - the same holds for what they only use: a logger that the program has set up globally and that writes to a file or
    ///   a socket, standard error aside, writes to a client here;
    /// - nothing that they opened on the shard's thread leaves it, in a message or otherwise.
    ///
    /// This server's own `Remote` may be used and dropped anywhere, in its handlers as well, as long as the server itself
    /// is joined or dropped on a thread that is not one of its shards.
    #[expect(unsafe_code, reason = "the declaration; what it asks for is done in `sys`")]
    pub unsafe fn private_fd_tables(mut self) -> Self {
        self.config.private_fd_tables = true;
        self
    }
}

impl<P> Builder<P> {
    /// The same with another protocol.
    fn with<Q>(self, protocol: impl FnOnce(P) -> Q) -> Builder<Q> {
        let Builder { config, watch, listeners, protocol: old } = self;
        Builder { config, watch, listeners, protocol: protocol(old) }
    }
}

impl Builder {
    /// What a test without a server needs to know.
    pub(crate) fn limits(&self) -> Limits {
        self.config.limits
    }

    /// Starts the server and returns when every shard listens. `make` is called on each shard's own thread, so that the
    /// handler need not be `Send`: once, and again if the shard dies (see [`shard_death`](Builder::shard_death)).
    ///
    /// # Errors
    /// [`Error::Config`] for a knob whose value makes no sense, [`Error::Resolve`] and [`Error::Listen`] for the address,
    /// [`Error::Shard`] when the system has no thread, core or descriptor left, [`Error::Died`] when `make` panics. No
    /// thread is left behind.
    pub fn start<H, F>(self, make: F) -> Result<Server<H::Message>, Error>
    where
        H: Handler,
        F: Fn(&ShardInfo) -> H + Send + Sync + 'static,
    {
        self.start_with_remote(move |info, _| make(info))
    }

    /// The same for handlers that send messages to shards themselves: each is made with the way to all of them, and may keep a
    /// clone of it.
    ///
    /// ```
    /// use esockets::{Client, Handler, Peer, Remote, Server, Shard};
    ///
    /// /// What one says, all others hear, whichever shard they are on.
    /// struct Room(Remote<Vec<u8>>);
    ///
    /// impl Handler for Room {
    ///     type Session = ();
    ///     type Message = Vec<u8>;
    ///
    ///     fn handle_incoming(&mut self, _: &mut Client<'_>, _: &Peer) -> Option<()> {
    ///         Some(())
    ///     }
    ///
    ///     fn handle_readable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
    ///         let said = client.recv().to_vec();
    ///         self.0.send_to_all(&said) == self.0.shards()
    ///     }
    ///
    ///     fn handle_message(&mut self, shard: &mut Shard<'_, ()>, said: Vec<u8>) {
    ///         shard.each_client(|client, ()| client.send(&said));
    ///     }
    /// }
    ///
    /// let server = Server::builder().port(0).start_with_remote(|_shard, remote| Room(remote.clone()))?;
    /// # Ok::<(), esockets::Error>(())
    /// ```
    ///
    /// In a unit test `testing::Inbox` takes what such a handler sends.
    ///
    /// # Errors
    /// Those of [`start`](Builder::start).
    pub fn start_with_remote<H, F>(self, make: F) -> Result<Server<H::Message>, Error>
    where
        H: Handler,
        F: Fn(&ShardInfo, &Remote<H::Message>) -> H + Send + Sync + 'static,
    {
        let make = Arc::new(make);
        Server::start(self.config, self.listeners, self.watch, |remote| {
            let (make, remote) = (Arc::clone(&make), remote.clone());
            move |info: &ShardInfo| make(info, &remote)
        })
    }

    /// Decides about new connections: true keeps, false disconnects. Each shard has its own clone of the closure.
    pub fn handle_incoming<I>(self, incoming: I) -> Builder<Closures<I, ()>>
    where
        I: FnMut(&mut Client<'_>, &Peer) -> bool + Clone + Send + 'static,
    {
        self.with(|()| Closures { incoming, readable: () })
    }

    /// Handles input: true keeps the connection, false disconnects it after what was sent has been flushed. Without a
    /// `handle_incoming` before it, every connection is kept. Each shard has its own clone of the closure.
    pub fn handle_readable<R>(self, readable: R) -> Builder<Closures<KeepAll, R>>
    where
        R: FnMut(&mut Client<'_>) -> bool + Clone + Send + 'static,
    {
        let incoming: KeepAll = |_, _| true;
        self.with(|()| Closures { incoming, readable })
    }
}

impl<I> Builder<Closures<I, ()>> {
    /// Handles input: true keeps the connection, false disconnects it after what was sent has been flushed. Each shard has
    /// its own clone of the closure.
    pub fn handle_readable<R>(self, readable: R) -> Builder<Closures<I, R>>
    where
        R: FnMut(&mut Client<'_>) -> bool + Clone + Send + 'static,
    {
        self.with(|closures| Closures { incoming: closures.incoming, readable })
    }
}

impl<R> Builder<Closures<KeepAll, R>> {
    /// Decides about new connections: true keeps, false disconnects. Each shard has its own clone of the closure.
    pub fn handle_incoming<I>(self, incoming: I) -> Builder<Closures<I, R>>
    where
        I: FnMut(&mut Client<'_>, &Peer) -> bool + Clone + Send + 'static,
    {
        self.with(|closures| Closures { incoming, readable: closures.readable })
    }
}

impl<I, R> Builder<Closures<I, R>>
where
    I: FnMut(&mut Client<'_>, &Peer) -> bool + Clone + Send + 'static,
    R: FnMut(&mut Client<'_>) -> bool + Clone + Send + 'static,
{
    /// Starts the server and returns when every shard listens.
    ///
    /// # Errors
    /// Those of [`Builder::start`] with a handler.
    pub fn start(self) -> Result<Server, Error> {
        Server::start(self.config, self.listeners, self.watch, |_| {
            let closures = self.protocol.clone();
            move |_: &ShardInfo| closures.clone()
        })
    }
}
