//! A handler that does, in whatever function it is called, whatever it may do there and some that it should not: on real sockets,
//! with servers that call themselves. No session is lost or ended twice, and nothing stays behind. With the feature `tls` one of its
//! addresses speaks that: some who come there do not.
//!
//! `ESOCKETS_SOAK=600 cargo test --release --test chaos -- --nocapture` takes 600 seconds in place of two.

mod support;
#[cfg(feature = "tls")]
#[path = "support/secure.rs"]
mod trust;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use esockets::{
    Address, Builder, Client, ClientId, CloseReason, Handler, Overflow, Peer, Remote, Selector, Server, Shard,
    ShardInfo, ShardStats, Target,
};
use support::{PATIENCE, Random, builder, reset, wait_until};

/// More are not called while so many are there: who calls themselves calls without end.
const CALLS_UNTIL: usize = 60;

/// What became of the sessions of all shards.
#[derive(Default)]
struct Ledger {
    made: AtomicU64,
    kept: AtomicU64,
    closed: AtomicU64,
    dropped: AtomicU64,
}

/// A session, which is counted for as long as there is one.
struct Live(Arc<Ledger>);

impl Live {
    fn new(ledger: &Arc<Ledger>) -> Live {
        ledger.made.fetch_add(1, Relaxed);
        Live(Arc::clone(ledger))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Relaxed);
    }
}

/// Does what the dice say.
struct Whim {
    dice: Random,
    ledger: Arc<Ledger>,
    targets: Vec<Target>,
    /// Some who were here lately, and may be gone.
    known: Vec<ClientId>,
    large: Arc<[u8]>,
}

impl Whim {
    fn below(&mut self, end: u64) -> u64 {
        self.dice.next() % end
    }

    fn panics(&mut self, in_so_many: u64) {
        if self.below(in_so_many) == 0 {
            // Without a message on the terminal, which panic! writes.
            resume_unwind(Box::new("a whim"));
        }
    }

    /// What may be done to a client in any function. False disconnects it.
    fn act(&mut self, client: &mut Client<'_>) -> bool {
        let place = self.below(16) as usize;
        match self.known.get_mut(place) {
            Some(known) => *known = client.id(),
            None => self.known.push(client.id()),
        }
        for _ in 0..self.below(4) {
            match self.below(24) {
                0..=5 => drop(client.send(b"some words")),
                6 => drop(client.send(&Arc::clone(&self.large))),
                7 => drop(client.send_shared(&Arc::clone(&self.large))),
                8..=9 => client.consume(3),
                10..=12 => drop(client.recv()),
                13 => client.pause(),
                14 | 15 => client.resume(),
                16 => client.set_timeout(Some(Duration::from_millis(self.dice.next() % 30))),
                17 => client.set_timeout(None),
                18..=20 => client.call_shard(),
                21 => client.finish(),
                22 if self.below(4) == 0 => client.abort(),
                22 if self.below(4) == 0 => client.close(),
                _ => drop(client.output_waiting() + client.output_room() + usize::from(client.is_eof())),
            }
        }
        self.panics(200);
        self.below(20) > 0
    }

    /// What may be done to a whole shard.
    fn act_on(&mut self, shard: &mut Shard<'_, Live>) {
        for _ in 0..self.below(3) {
            match self.below(8) {
                0..=2 if shard.len() < CALLS_UNTIL && !self.targets.is_empty() => self.call(shard),
                3 => shard.each_client(|client, _| self.act(client)),
                _ => {
                    let known = self.below(16) as usize;
                    if let Some(&id) = self.known.get(known) {
                        shard.client(id, |client, _| self.act(client));
                    }
                }
            }
        }
        self.panics(200);
    }

    fn call(&mut self, shard: &mut Shard<'_, Live>) {
        let target = self.below(self.targets.len() as u64) as usize;
        let timeout = Duration::from_millis(self.below(40));
        if let Ok(id) = shard.connect(self.targets[target].clone(), timeout, Live::new(&self.ledger)) {
            self.ledger.kept.fetch_add(1, Relaxed);
            if self.below(2) == 0 {
                shard.client(id, |client, _| self.act(client));
            }
        }
    }
}

impl Handler for Whim {
    type Session = Live;
    type Message = Vec<Target>;

    fn handle_incoming(&mut self, client: &mut Client<'_>, _: &Peer) -> Option<Live> {
        let session = Live::new(&self.ledger);
        let keeps = self.act(client);
        self.ledger.kept.fetch_add(u64::from(keeps), Relaxed);
        keeps.then_some(session)
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, _: &mut Live) -> bool {
        self.act(client)
    }

    fn handle_writable(&mut self, client: &mut Client<'_>, _: &mut Live) -> bool {
        self.act(client)
    }

    fn handle_eof(&mut self, client: &mut Client<'_>, _: &mut Live) -> bool {
        // Who stays here for good is not paused for good.
        client.set_timeout(Some(Duration::from_millis(20)));
        self.act(client)
    }

    fn handle_timeout(&mut self, client: &mut Client<'_>, _: &mut Live) -> bool {
        self.act(client) && self.below(2) == 0
    }

    fn handle_connected(&mut self, client: &mut Client<'_>, _: &mut Live) -> bool {
        self.act(client)
    }

    fn handle_shard(&mut self, shard: &mut Shard<'_, Live>, caller: ClientId) {
        self.act_on(shard);
        shard.client(caller, |client, _| self.act(client));
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, Live>, targets: Vec<Target>) {
        if !targets.is_empty() {
            self.targets = targets;
        }
        self.act_on(shard);
    }

    fn handle_tick(&mut self, shard: &mut Shard<'_, Live>) {
        self.act_on(shard);
    }

    fn handle_closed_on(&mut self, shard: &mut Shard<'_, Live>, session: Live, _: ClientId, _: CloseReason) {
        session.0.closed.fetch_add(1, Relaxed);
        self.act_on(shard);
    }
}

/// Somebody from outside, who does not care for long.
fn visit(place: &Place, dice: &mut Random) {
    // Who is reset at once may learn of it here already.
    let Ok(stream) = TcpStream::connect(place.address) else { return };
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    match place.secure(&stream).filter(|_| dice.size(4) > 1) {
        Some(mut secure) => talk(&mut secure, &stream, dice),
        None => talk(&mut &stream, &stream, dice),
    }
    if dice.next().is_multiple_of(3) {
        reset(stream);
    }
}

fn talk(through: &mut (impl Read + Write), stream: &TcpStream, dice: &mut Random) {
    let mut piece = [0; 5_000];
    for _ in 0..dice.next() % 6 {
        match dice.next() % 4 {
            0 | 1 => drop(through.write_all(&piece[..dice.size(300)])),
            2 => drop(through.read(&mut piece)),
            _ => drop(stream.shutdown(Shutdown::Write)),
        }
    }
}

/// Where strangers come to.
#[derive(Clone)]
struct Place {
    address: SocketAddr,
    #[cfg(feature = "tls")]
    trusts: Option<Arc<rustls::ClientConfig>>,
}

#[cfg(feature = "tls")]
impl Place {
    fn secure<'a>(&self, stream: &'a TcpStream) -> Option<impl Read + Write + 'a> {
        use rustls::{ClientConnection, StreamOwned};
        let session = ClientConnection::new(Arc::clone(self.trusts.as_ref()?), "localhost".try_into().unwrap());
        Some(StreamOwned::new(session.unwrap(), stream))
    }
}

#[cfg(not(feature = "tls"))]
impl Place {
    fn secure<'a>(&self, _: &'a TcpStream) -> Option<&'a TcpStream> {
        None
    }
}

/// A server with one more address, where it speaks TLS, if it can; and where it is, for strangers.
#[cfg(feature = "tls")]
fn start(number: u64, ledger: &Arc<Ledger>, path: &Path) -> (Server<Vec<Target>>, Vec<Place>) {
    let authority = trust::Authority::new();
    let secure = limited(number, path).listen(Address::tcp("127.0.0.1", 0).tag(2));
    let server = secure.tls(&authority.tls().only_tag(2)).start(whims(number, ledger)).unwrap();
    let trusts = Arc::new(authority.client(&[&rustls::version::TLS13], None));
    let places = server.local_addrs().iter().filter_map(esockets::LocalAddr::ip).zip([None, Some(trusts)]);
    let places = places.map(|(address, trusts)| Place { address, trusts }).collect();
    (server, places)
}

#[cfg(not(feature = "tls"))]
fn start(number: u64, ledger: &Arc<Ledger>, path: &Path) -> (Server<Vec<Target>>, Vec<Place>) {
    let server = limited(number, path).start(whims(number, ledger)).unwrap();
    let place = Place { address: server.local_addr() };
    (server, vec![place])
}

/// Orders from another thread, also to those who are gone or never were.
fn order(remote: &Remote<Vec<Target>>, dice: &mut Random) {
    match dice.next() % 50 {
        0 => drop(remote.disconnect_all()),
        _ => drop(remote.send_to_all(&Vec::new())),
    }
    thread::sleep(Duration::from_millis(1));
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn whims(number: u64, ledger: &Arc<Ledger>) -> impl Fn(&ShardInfo) -> Whim + Send + Sync + 'static {
    let ledger = Arc::clone(ledger);
    move |shard| Whim {
        dice: Random(number * 100 + shard.index() as u64),
        ledger: Arc::clone(&ledger),
        targets: Vec::new(),
        known: Vec::new(),
        large: vec![7; 90_000].into(),
    }
}

/// A server with limits that matter, other ones each time.
fn limited(number: u64, path: &Path) -> Builder {
    let brief = |millis| Some(Duration::from_millis(millis));
    let addresses = builder().shards(3).listen(Address::tcp("127.0.0.1", 0)).listen(Address::unix(path).tag(1));
    let limits = match number % 3 {
        0 => addresses.output_max(200_000).overflow(Overflow::Refuse).input_max(8_000).output_max_shard(Some(2 << 20)),
        1 => addresses.output_max(100_000).connections_max(Some(20)).first_message_timeout(brief(20)),
        _ => addresses
            .mailbox_max(2)
            .accept_budget(1)
            .read_budget(1_000)
            .selector(Selector::Spin(Duration::from_micros(50))),
    };
    let times = limits.tick(brief(3)).idle_timeout(brief(100)).write_timeout(brief(50));
    times.stop_timeout(Duration::from_millis(200))
}

/// All whom the server can call: itself, nobody, and no place.
fn targets(places: &[Place], path: &Path) -> Vec<Target> {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let others = [path.into(), nobody.into(), Path::new("/nowhere/at.all").into()];
    places.iter().map(|place| place.address.into()).chain(others).collect()
}

/// Every connection that there was has ended, and with it its session, once.
fn check(ledger: &Ledger, total: &ShardStats) {
    let of = |count: &AtomicU64| count.load(Relaxed);
    assert_eq!((of(&ledger.kept), of(&ledger.made)), (of(&ledger.closed), of(&ledger.dropped)), "{total}");
    assert_eq!((total.accepted + total.connects, total.open()), (total.closed_total(), 0), "{total}");
}

/// A server, from its start to its end, with others who talk to it and order about.
fn reign(number: u64, ledger: &Arc<Ledger>, path: &Path) -> ShardStats {
    let (server, places) = start(number, ledger, path);
    wait_until("all shards know whom to call", || server.remote().send_to_all(&targets(&places, path)) == 3);
    let (remote, over) = (server.remote(), &AtomicBool::new(false));
    thread::scope(|scope| {
        for (visitor, place) in (0..2).zip(places.iter().cycle()) {
            let mut dice = Random(number * 100 + 50 + visitor);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    visit(place, &mut dice);
                }
            });
        }
        let mut dice = Random(number);
        scope.spawn(move || {
            while !over.load(Relaxed) {
                order(&remote, &mut dice);
            }
        });
        wait_until("much has happened", || {
            let total = server.stats().total;
            total.accepted > 1_000 && total.connects > 1_000 && total.panics > 20
        });
        over.store(true, Relaxed);
    });
    match number % 2 {
        0 => server.drain(Duration::from_millis(100)),
        _ => server.stop(),
    }
    server.join().unwrap().total
}

#[test]
fn whatever_a_handler_does_each_session_ends_once() {
    let time = std::env::var("ESOCKETS_SOAK").ok().and_then(|time| time.parse().ok()).unwrap_or(2);
    let path = std::env::temp_dir().join(format!("esockets-chaos-{}.sock", std::process::id()));
    let (before, ledger, begun_at) = (descriptors(), Arc::new(Ledger::default()), Instant::now());
    for number in 0.. {
        let total = reign(number, &ledger, &path);
        println!("{number}: {total}");
        check(&ledger, &total);
        assert!(!path.exists());
        if number >= 5 && begun_at.elapsed() >= Duration::from_secs(time) {
            break;
        }
    }
    assert_eq!(descriptors(), before);
}
