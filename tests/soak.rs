//! Everything at once, for as long as is asked for: churners, half-closers, resets, slow readers, drips, idle ones, broadcasts,
//! pauses, and servers that are replaced meanwhile. No byte is lost, nobody is refused, each session ends once, and at the
//! end memory and descriptors are what they were.
//!
//! `ESOCKETS_SOAK=600 cargo test --release --test soak -- --nocapture` takes 600 seconds in place of three.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use esockets::{Builder, Client, ClientId, CloseReason, Handler, Listeners, Peer, Remote, Server, Shard, Unsent};
use socket2::{Domain, Socket, Type};
use support::{
    PATIENCE, Random, builder, bytes, connect, connect_many, connect_narrow, conserve, converse, expect, expect_end,
    reset, verify, wait_until,
};

/// Who comes from here is told the broadcasts, all others what they have said themselves.
const SUBSCRIBERS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
/// A server that has served for so long is replaced.
const TERM: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
enum Command {
    Broadcast(Arc<[u8]>),
    Pause,
    Resume,
    /// The subscribers go, and nobody is paused any more.
    Leave,
}

/// What the handlers of all shards of all servers have seen.
#[derive(Default)]
struct Ledger {
    opened: AtomicU64,
    closed: AtomicU64,
}

struct Soaked(Arc<Ledger>);

impl Handler for Soaked {
    type Session = bool;
    type Message = Command;

    fn handle_incoming(&mut self, _: &mut Client<'_>, peer: &Peer) -> Option<bool> {
        self.0.opened.fetch_add(1, Relaxed);
        Some(peer.ip() == Some(SUBSCRIBERS))
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, _: &mut bool) -> bool {
        let data = client.recv();
        client.send(data)
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, bool>, command: Command) {
        shard.each_client(|client, subscribes| {
            match &command {
                Command::Broadcast(word) => return !*subscribes || client.send_shared(word),
                Command::Pause => client.pause(),
                Command::Resume => client.resume(),
                Command::Leave => {
                    client.resume();
                    return !*subscribes;
                }
            }
            true
        });
    }

    fn handle_closed(&mut self, _: bool, _: ClientId, _: CloseReason) {
        self.0.closed.fetch_add(1, Relaxed);
    }
}

fn churn(address: SocketAddr, random: &mut Random) {
    let len = random.size(2_000);
    conserve(&connect(address), random.next(), len, || 300);
}

/// The whole question first, and the end, and only then the answer.
fn half_close(address: SocketAddr, random: &mut Random) {
    let (mut stream, key, len) = (connect(address), random.next(), random.size(20_000));
    stream.write_all(&bytes(key, 0, len)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    expect(&stream, key, 0, len);
    expect_end(&stream);
}

fn disappear(address: SocketAddr, random: &mut Random) {
    let mut stream = connect(address);
    stream.write_all(&bytes(1, 0, random.size(100_000))).unwrap_or_default();
    reset(stream);
}

/// Gets much, in small pieces and with pauses.
fn read_slowly(address: SocketAddr, random: &mut Random) {
    let (stream, key, len) = (connect_narrow(address), random.next(), 400_000);
    thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(&bytes(key, 0, len)).unwrap());
        let (mut at, mut piece) = (0, [0; 4_000]);
        while at < len {
            let count = (&stream).read(&mut piece).unwrap();
            assert!(count > 0, "it ended after {at} of {len}");
            verify(key, at, &piece[..count]);
            at += count;
            thread::sleep(Duration::from_millis(1));
        }
    });
    stream.shutdown(Shutdown::Write).unwrap();
    expect_end(&stream);
}

fn drip(address: SocketAddr, random: &mut Random) {
    let (mut stream, key) = (connect(address), random.next());
    for byte in bytes(key, 0, 50) {
        stream.write_all(&[byte]).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    expect(&stream, key, 0, 50);
}

fn pipeline(address: SocketAddr, random: &mut Random) {
    let stream = connect(address);
    for _ in 0..10 {
        let (key, mut sizes) = (random.next(), Random(random.next()));
        converse(&stream, key, 100_000, || sizes.size(5_000));
    }
}

type Peers = fn(SocketAddr, &mut Random);

const PEERS: [Peers; 7] = [churn, churn, half_close, disappear, read_slowly, drip, pipeline];

/// The last word that was heard of each server, in the order of the servers.
type Heard = Mutex<Vec<u64>>;

/// A server says who it is and how often it has spoken.
fn word(server: usize, number: u32) -> u64 {
    (server as u64) << 32 | u64::from(number)
}

/// Hears one server after the other: words that follow each other, until the end of what was broadcast.
fn subscribe(address: SocketAddr, over: &AtomicBool, heard: &Heard) {
    while !over.load(Relaxed) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(SUBSCRIBERS, 0).into()).unwrap();
        if let Err(error) = socket.connect(&address.into()) {
            return assert!(over.load(Relaxed), "refused: {error}");
        }
        let (mut stream, mut bytes, mut last) = (TcpStream::from(socket), [0; 8], None);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let ended = loop {
            if let Err(error) = stream.read_exact(&mut bytes) {
                break error;
            }
            let word = u64::from_le_bytes(bytes);
            assert!(last.is_none_or(|last| last + 1 == word), "{word:#x} came behind {last:x?}");
            last = Some(word);
            let heard = &mut heard.lock().unwrap()[(word >> 32) as usize];
            *heard = word.max(*heard);
        };
        assert_eq!(ended.kind(), ErrorKind::UnexpectedEof, "{ended}");
    }
}

/// Tells all shards that have not ended, as those do on which nobody is left to be drained; how many those are.
fn tell(remote: &Remote<Command>, command: &Command) -> usize {
    let told = (0..remote.shards()).filter(|&shard| match remote.send(shard, command.clone()) {
        Ok(()) => true,
        Err(Unsent::Full(_)) => panic!("the mailbox of shard {shard} is full"),
        Err(_) => false,
    });
    told.count()
}

/// Broadcasts words, pauses everybody now and then, and when the server is to go sends the subscribers away, until it is gone.
fn command(remote: &Remote<Command>, server: usize, goes: &AtomicBool) -> u64 {
    let mut number = 0;
    while !goes.load(Relaxed) {
        number += 1;
        let word: Arc<[u8]> = Arc::from(word(server, number).to_le_bytes());
        let commands = match number % 20 {
            0 => vec![Command::Pause, Command::Broadcast(word), Command::Resume],
            7 => vec![Command::Broadcast(word), Command::Pause],
            _ => vec![Command::Resume, Command::Broadcast(word)],
        };
        for command in commands {
            tell(remote, &command);
        }
        thread::sleep(Duration::from_millis(5));
    }
    while tell(remote, &Command::Leave) > 0 {
        thread::sleep(Duration::from_millis(5));
    }
    word(server, number)
}

/// One server after the other, each of which has the listening sockets of the one before it. Who is idle stays with one.
struct Reign<'scope> {
    server: Server<Command>,
    number: usize,
    idle: Vec<TcpStream>,
    goes: Arc<AtomicBool>,
    commands: ScopedJoinHandle<'scope, u64>,
}

impl<'scope> Reign<'scope> {
    fn begin(scope: &'scope Scope<'scope, '_>, server: Server<Command>, number: usize, heard: &Heard) -> Self {
        heard.lock().unwrap().push(0);
        let (remote, goes) = (server.remote(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&goes);
        let commands = scope.spawn(move || command(&remote, number, &told));
        Reign { server, number, idle: Vec::new(), goes, commands }
    }

    /// Nobody else listens there.
    fn settle(&mut self) {
        self.idle = connect_many(&self.server, 100);
    }

    /// The next one takes the sockets, and this one lets everybody finish. How many it had accepted comes back, too.
    fn pass(self, scope: &'scope Scope<'scope, '_>, ledger: &Arc<Ledger>, heard: &Heard) -> (Self, u64) {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_read_timeout(Some(PATIENCE)).unwrap();
        there.set_read_timeout(Some(PATIENCE)).unwrap();
        let number = self.number + 1;
        let server = thread::scope(|scope| {
            let take_over = || builder().shards(1 + number % 3).listeners(Listeners::take_over(there).unwrap());
            let starts = scope.spawn(|| start(take_over(), ledger));
            self.server.hand_over(&here).unwrap();
            starts.join().unwrap()
        });
        let mut next = Reign::begin(scope, server, number, heard);
        let accepted = self.end(heard);
        next.settle();
        (next, accepted)
    }

    fn end(self, heard: &Heard) -> u64 {
        self.server.drain(PATIENCE);
        for (key, stream) in (0..).zip(&self.idle) {
            converse(stream, key, 100, || 100);
        }
        drop(self.idle);
        self.goes.store(true, Relaxed);
        let last = self.commands.join().unwrap();
        wait_until("the last broadcast was heard", || heard.lock().unwrap()[self.number] == last);
        let total = self.server.join().unwrap().total;
        let ends = (total.open(), total.panics, total.closed(CloseReason::Stopped));
        assert_eq!((ends, total.accepted), ((0, 0, 0), total.closed_total()), "{total}");
        total.accepted
    }
}

fn start(builder: Builder, ledger: &Arc<Ledger>) -> Server<Command> {
    let ledger = Arc::clone(ledger);
    builder.output_max(64 << 10).start(move |_| Soaked(Arc::clone(&ledger))).unwrap()
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Memory that is taken for once: buffers of threads that come and go, and what an allocator keeps.
const SLACK_KIB: u64 = 16 << 10;

/// The most that was resident in the first third of the time, and in the last.
struct Watch {
    started_at: Instant,
    time: Duration,
    most: [u64; 3],
    said: u64,
}

impl Watch {
    fn new(time: Duration) -> Watch {
        Watch { started_at: Instant::now(), time, most: [0; 3], said: 0 }
    }

    /// Looks, for so long; false when the time is over.
    fn looks(&mut self, term: Duration, servers: usize) -> bool {
        let begun_at = Instant::now();
        while begun_at.elapsed() < term {
            let passed = self.started_at.elapsed();
            if passed >= self.time {
                return false;
            }
            let third = (passed.as_secs_f64() / self.time.as_secs_f64() * 3.0) as usize;
            self.most[third.min(2)] = self.most[third.min(2)].max(resident_kib());
            if passed.as_secs() / 60 > self.said {
                self.said += 1;
                let (said, kib) = (self.said, resident_kib());
                println!("after {said} min: {kib} KiB resident, {} descriptors, {servers} servers", descriptors());
            }
            thread::sleep(Duration::from_millis(50));
        }
        true
    }
}

#[test]
fn everything_at_once_leaves_nothing_behind() {
    let time = std::env::var("ESOCKETS_SOAK").ok().and_then(|time| time.parse().ok()).unwrap_or(3);
    let before = descriptors();
    let (ledger, heard, over) = (Arc::default(), Heard::default(), AtomicBool::new(false));
    let first = start(builder(), &ledger);
    let address = first.local_addr();
    let (mut accepted, mut watch) = (0, Watch::new(Duration::from_secs(time)));
    thread::scope(|scope| {
        // However this ends, they do.
        let _ends = Ends(&over);
        let mut reign = Reign::begin(scope, first, 0, &heard);
        reign.settle();
        for _ in 0..4 {
            scope.spawn(|| subscribe(address, &over, &heard));
        }
        let peers = (0..).zip(PEERS).map(|(seed, peer)| {
            let over = &over;
            scope.spawn(move || {
                let mut random = Random(seed);
                while !over.load(Relaxed) {
                    peer(address, &mut random);
                    thread::sleep(Duration::from_millis(10));
                }
            })
        });
        let peers: Vec<ScopedJoinHandle<'_, ()>> = peers.collect();
        while watch.looks(TERM, reign.number + 1) {
            assert!(!peers.iter().any(ScopedJoinHandle::is_finished), "one has failed, it says why above");
            let left;
            (reign, left) = reign.pass(scope, &ledger, &heard);
            accepted += left;
        }
        over.store(true, Relaxed);
        peers.into_iter().for_each(|peer| peer.join().unwrap());
        accepted += reign.end(&heard);
    });
    let (servers, [early, _, late]) = (heard.lock().unwrap().len(), watch.most);
    println!(
        "{time} s: {early} KiB resident in the first third, {late} in the last, {servers} servers, {accepted} accepted"
    );
    assert!(late <= early + SLACK_KIB, "{early} KiB were resident, then {late}");
    assert!(servers > 1, "none has been replaced");
    assert_eq!(ledger.opened.load(Relaxed), accepted, "each was shown to the handler");
    assert_eq!(ledger.closed.load(Relaxed), accepted, "each session was told its end");
    assert_eq!(descriptors(), before, "no descriptor is left");
}
