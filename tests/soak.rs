//! Everything at once, for as long as is asked for: churners, half-closers, resets, slow readers, drips, idle ones, broadcasts
//! and pauses. No byte is lost, each session ends once, and at the end memory and descriptors are what they were.
//!
//! `ESOCKETS_SOAK=600 cargo test --release --test soak -- --nocapture` takes 600 seconds in place of three.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use esockets::{Client, ClientId, CloseReason, Handler, Peer, Server, Shard};
use socket2::{Domain, Socket, Type};
use support::{
    Random, builder, bytes, connect, connect_many, connect_narrow, conserve, converse, expect, expect_end, reset,
    verify, wait_until,
};

/// Who comes from here is told the broadcasts, all others what they have said themselves.
const SUBSCRIBERS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

#[derive(Clone, Debug)]
enum Command {
    Broadcast(Arc<[u8]>),
    Pause,
    Resume,
}

/// What the handlers of all shards have seen.
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
        shard.each_client(|client, subscribes| match &command {
            Command::Broadcast(word) => !*subscribes || client.send_shared(word),
            Command::Pause => {
                client.pause();
                true
            }
            Command::Resume => {
                client.resume();
                true
            }
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

/// Reads numbers, each of which is the one behind the last, until the end of what was broadcast.
fn subscribe(address: SocketAddr, heard: &AtomicU64) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(SUBSCRIBERS, 0).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let (mut stream, mut word, mut last) = (TcpStream::from(socket), [0; 8], None);
    while stream.read_exact(&mut word).is_ok() {
        let number = u64::from_le_bytes(word);
        assert!(last.is_none_or(|last| last + 1 == number), "{number} came behind {last:?}");
        last = Some(number);
        heard.fetch_max(number, Relaxed);
    }
}

/// Broadcasts numbers, and pauses everybody now and then.
fn command(server: &Server<Command>, over: &AtomicBool) -> u64 {
    let (remote, mut number) = (server.remote(), 0);
    while !over.load(Relaxed) {
        number += 1;
        let word: Arc<[u8]> = Arc::from(u64::to_le_bytes(number));
        let commands = match number % 20 {
            0 => vec![Command::Pause, Command::Broadcast(word), Command::Resume],
            7 => vec![Command::Broadcast(word), Command::Pause],
            _ => vec![Command::Resume, Command::Broadcast(word)],
        };
        for command in commands {
            assert_eq!(remote.send_to_all(&command), remote.shards(), "no mailbox is full");
        }
        thread::sleep(Duration::from_millis(5));
    }
    remote.send_to_all(&Command::Resume);
    number
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

/// The most that was resident in the first third of `time`, and in the last.
fn watch(server: &Server<Command>, time: Duration) -> [u64; 2] {
    let (started_at, mut most, mut said) = (Instant::now(), [0; 3], 0);
    while started_at.elapsed() < time {
        let third = (started_at.elapsed().as_secs_f64() / time.as_secs_f64() * 3.0) as usize;
        most[third.min(2)] = most[third.min(2)].max(resident_kib());
        if started_at.elapsed().as_secs() / 60 > said {
            said += 1;
            println!(
                "after {said} min: {} KiB resident, {} descriptors, {}",
                resident_kib(),
                descriptors(),
                server.stats()
            );
        }
        thread::sleep(Duration::from_millis(50));
    }
    [most[0], most[2]]
}

#[test]
fn everything_at_once_leaves_nothing_behind() {
    let time = std::env::var("ESOCKETS_SOAK").ok().and_then(|time| time.parse().ok()).unwrap_or(3);
    let before = descriptors();
    let ledger = Arc::new(Ledger::default());
    let handlers = Arc::clone(&ledger);
    let server = builder().output_max(64 << 10).start(move |_| Soaked(Arc::clone(&handlers))).unwrap();
    let (address, over, heard) = (server.local_addr(), AtomicBool::new(false), AtomicU64::new(0));
    let idle = connect_many(&server, 100);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| subscribe(address, &heard));
        }
        let commands = scope.spawn(|| command(&server, &over));
        for (seed, peer) in (0..).zip(PEERS) {
            let over = &over;
            scope.spawn(move || {
                let mut random = Random(seed);
                while !over.load(Relaxed) {
                    peer(address, &mut random);
                    thread::sleep(Duration::from_millis(10));
                }
            });
        }
        let [early, late] = watch(&server, Duration::from_secs(time));
        over.store(true, Relaxed);
        let last = commands.join().unwrap();
        wait_until("the last broadcast was heard", || heard.load(Relaxed) == last);
        for (key, stream) in idle.iter().enumerate() {
            converse(stream, key as u64, 100, || 100);
        }
        drop(idle);
        println!("{time} s: {early} KiB resident in the first third, {late} in the last, {}", server.stats());
        assert!(late <= early + SLACK_KIB, "{early} KiB were resident, then {late}");
        // Only the subscribers are left, who leave when the server does.
        wait_until("the others have gone", || server.stats().total.open() == 4);
        server.stop();
    });
    let total = server.join().unwrap().total;
    assert_eq!((total.open(), total.panics, total.accepted), (0, 0, total.closed_total()), "{total}");
    assert_eq!(ledger.opened.load(Relaxed), total.accepted, "each was shown to the handler");
    assert_eq!(ledger.closed.load(Relaxed), total.accepted, "each session was told its end");
    assert_eq!(descriptors(), before, "no descriptor is left");
}
