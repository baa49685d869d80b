//! What arrives together with the end of a connection, orderly or a reset, is handed over before the end is told.

mod support;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use esockets::{Client, ClientId, CloseReason, Handler, Peer, Server};
use support::{builder, bytes, connect, expect_end, reset, verify, wait_unread, wait_until};

type Ends = Arc<Mutex<Vec<(usize, CloseReason)>>>;

/// Swallows each connection's stream, whose key is the peer's port, and tells how much of it came before which end.
struct Swallow {
    ends: Ends,
}

struct Session {
    key: u64,
    count: usize,
}

impl Handler for Swallow {
    type Session = Session;
    type Message = ();

    fn handle_incoming(&mut self, _client: &mut Client<'_>, address: &Peer) -> Option<Session> {
        Some(Session { key: address.port().into(), count: 0 })
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, session: &mut Session) -> bool {
        let data = client.recv();
        verify(session.key, session.count, data);
        session.count += data.len();
        true
    }

    fn handle_closed(&mut self, session: Session, _id: ClientId, reason: CloseReason) {
        self.ends.lock().unwrap().push((session.count, reason));
    }
}

fn start(read_budget: usize) -> (Server, Ends) {
    let ends = Ends::default();
    let told = Arc::clone(&ends);
    let server = builder().read_budget(read_budget).start(move |_| Swallow { ends: Arc::clone(&told) });
    (server.unwrap(), ends)
}

/// Connects, and sends `count` bytes of the stream that the server expects.
fn deliver(server: &Server, count: usize) -> TcpStream {
    let mut stream = connect(server.local_addr());
    let key = stream.local_addr().unwrap().port();
    stream.write_all(&bytes(key.into(), 0, count)).unwrap();
    stream
}

/// Lets each of `sizes` be delivered `times` times and then ended by `end`; all must arrive whole, and end for `reason`.
fn check(server: Server, ends: &Ends, sizes: &[usize], times: usize, reason: CloseReason, end: impl Fn(TcpStream)) {
    for &size in sizes {
        (0..times).for_each(|_| end(deliver(&server, size)));
        wait_until("all have ended", || ends.lock().unwrap().len() == times);
        for told in ends.lock().unwrap().drain(..) {
            assert_eq!(told, (size, reason));
        }
    }
    server.stop();
    let stats = server.join().unwrap();
    assert_eq!((stats.total.panics, stats.total.open()), (0, 0));
    assert_eq!(stats.total.closed(reason), (sizes.len() * times) as u64);
}

const SIZES: [usize; 8] = [1, 2, 1000, 65_535, 65_536, 65_537, 131_072, 200_000];

#[test]
fn data_and_a_close() {
    let (server, ends) = start(64 << 10);
    check(server, &ends, &SIZES, 100, CloseReason::PeerClosed, drop);
}

#[test]
fn data_and_a_close_on_a_small_budget() {
    let (server, ends) = start(1000);
    check(server, &ends, &SIZES, 20, CloseReason::PeerClosed, drop);
}

#[test]
fn a_mebibyte_and_a_half_close() {
    let (server, ends) = start(64 << 10);
    check(server, &ends, &[1 << 20], 20, CloseReason::PeerClosed, |stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        expect_end(&stream);
    });
}

/// Of what it sends, a peer that resets throws away what its kernel has not delivered yet; so little is delivered at once.
#[test]
fn data_and_a_reset() {
    let (server, ends) = start(64 << 10);
    check(server, &ends, &[1, 100, 10_000], 100, CloseReason::Reset, reset);
}

/// The server's thread sleeps until it is woken by both at once.
#[test]
fn data_that_a_held_up_shard_finds_together_with_the_end() {
    let (hold, gate) = std::sync::mpsc::channel::<()>();
    let (ends, gate) = (Ends::default(), Mutex::new(gate));
    let (told, gate) = (Arc::clone(&ends), Arc::new(gate));
    let make = move |_: &esockets::ShardInfo| Held { swallow: Swallow { ends: Arc::clone(&told) }, gate: gate.clone() };
    let server = builder().shards(1).start(make).unwrap();
    for (end, reason) in [(drop as fn(TcpStream), CloseReason::PeerClosed), (reset, CloseReason::Reset)] {
        server.remote().send(0, ()).unwrap();
        let streams: Vec<TcpStream> = (0..20).map(|_| deliver(&server, 10_000)).collect();
        streams.iter().for_each(|stream| wait_unread(stream, 10_000));
        streams.into_iter().for_each(end);
        hold.send(()).unwrap();
        wait_until("all have ended", || ends.lock().unwrap().len() == 20);
        assert!(ends.lock().unwrap().drain(..).all(|told| told == (10_000, reason)));
    }
}

/// Waits at its gate when it gets a message.
struct Held {
    swallow: Swallow,
    gate: Arc<Mutex<std::sync::mpsc::Receiver<()>>>,
}

impl Handler for Held {
    type Session = Session;
    type Message = ();

    fn handle_incoming(&mut self, client: &mut Client<'_>, address: &Peer) -> Option<Session> {
        self.swallow.handle_incoming(client, address)
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, session: &mut Session) -> bool {
        self.swallow.handle_readable(client, session)
    }

    fn handle_message(&mut self, _shard: &mut esockets::Shard<'_, Session>, (): ()) {
        self.gate.lock().unwrap().recv().unwrap();
    }

    fn handle_closed(&mut self, session: Session, id: ClientId, reason: CloseReason) {
        self.swallow.handle_closed(session, id, reason);
    }
}
