//! Connections that a handler makes: how they begin, fail and end, on real sockets.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use esockets::{Client, ClientId, CloseReason, Handler, Peer, Server, Shard, Target};
use support::{PATIENCE, builder, wait_until};

/// Calls whom it is told to, says hello before it is connected, and tells what becomes of it.
struct Caller(Sender<Event>);

/// Who is called for so long is let go as soon as there is something to say.
const BRIEF: Duration = Duration::from_millis(60);

#[derive(Debug, PartialEq)]
enum Event {
    Failed(String),
    Connected,
    Heard(Vec<u8>),
    Closed(CloseReason),
}

impl Handler for Caller {
    type Session = ();
    type Message = (Target, Duration);

    fn handle_incoming(&mut self, _: &mut Client<'_>, _: &Peer) -> Option<()> {
        Some(())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
        self.0.send(Event::Heard(client.recv().to_vec())).is_ok()
    }

    fn handle_connected(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
        self.0.send(Event::Connected).is_ok() && client.send(b", world")
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, ()>, (target, timeout): (Target, Duration)) {
        let keeps = timeout != BRIEF;
        match shard.connect(target, timeout, ()) {
            Ok(id) => assert!(shard.client(id, |client, ()| client.send(b"hello") && keeps)),
            Err(error) => self.0.send(Event::Failed(error.to_string())).unwrap(),
        }
    }

    fn handle_closed(&mut self, (): (), _: ClientId, reason: CloseReason) {
        let _ = self.0.send(Event::Closed(reason));
    }
}

type Told = std::sync::mpsc::Receiver<Event>;

fn start() -> (Server<(Target, Duration)>, Told) {
    let (tell, told) = channel();
    (builder().shards(1).start(move |_| Caller(tell.clone())).unwrap(), told)
}

fn call(server: &Server<(Target, Duration)>, target: impl Into<Target>, timeout: Duration) {
    server.remote().send(0, (target.into(), timeout)).unwrap();
}

fn next(told: &Told) -> Event {
    told.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn what_is_sent_before_it_is_connected_goes_out_first_over_tcp_and_unix_sockets() {
    let (server, told) = start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    call(&server, listener.local_addr().unwrap(), PATIENCE);
    let mut hello = [0; 12];
    let mut peer = listener.accept().unwrap().0;
    peer.read_exact(&mut hello).unwrap();
    assert_eq!((&hello, next(&told)), (b"hello, world", Event::Connected));
    peer.write_all(b"hi").unwrap();
    assert_eq!(next(&told), Event::Heard(b"hi".into()));
    drop(peer);
    assert_eq!(next(&told), Event::Closed(CloseReason::PeerClosed));
    let path = std::env::temp_dir().join(format!("esockets-calling-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    call(&server, path.as_path(), PATIENCE);
    listener.accept().unwrap().0.read_exact(&mut hello).unwrap();
    assert_eq!((&hello, next(&told)), (b"hello, world", Event::Connected));
    std::fs::remove_file(&path).unwrap();
    let name = format!("esockets-calling-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    call(&server, format!("unix:@{name}").parse::<Target>().unwrap(), PATIENCE);
    listener.accept().unwrap().0.read_exact(&mut hello).unwrap();
    // The end of the one before may be told first.
    let connected = std::iter::repeat_with(|| next(&told)).find(|event| !matches!(event, Event::Closed(_)));
    assert_eq!((&hello, connected), (b"hello, world", Some(Event::Connected)));
    wait_until("it is over", || server.stats().total.open() == 0);
    let stats = server.stats().total;
    assert_eq!((stats.accepted, stats.connects, stats.connects_failed(), stats.closed_total()), (0, 3, 0, 3));
}

#[test]
fn who_cannot_be_reached_is_told_of_once_and_why() {
    let (server, told) = start();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    call(&server, nobody, PATIENCE);
    assert_eq!(next(&told), Event::Closed(CloseReason::ConnectRefused));
    call(&server, std::path::Path::new("/nowhere/at.all"), PATIENCE);
    assert_eq!(next(&told), Event::Closed(CloseReason::ConnectFailed(libc::ENOENT)));
    let mute = mute();
    call(&server, mute.0, Duration::from_millis(50));
    assert_eq!(next(&told), Event::Closed(CloseReason::ConnectTimedOut));
    // Its end does not wait for longer than the attempt may take.
    call(&server, mute.0, BRIEF);
    assert_eq!(next(&told), Event::Closed(CloseReason::ConnectTimedOut));
    // A path is not read up to a zero.
    let path = std::env::temp_dir().join(format!("esockets-zero-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    call(&server, std::path::Path::new(&format!("{}\0.more", path.display())), PATIENCE);
    assert_eq!(next(&told), Event::Closed(CloseReason::ConnectFailed(libc::EINVAL)));
    drop(listener);
    std::fs::remove_file(&path).unwrap();
    // One who still has time when the server stops is let go.
    call(&server, mute.0, PATIENCE);
    wait_until("it has begun", || server.stats().total.connects == 6);
    server.remote().disconnect_all().unwrap();
    server.stop();
    let stats = server.join().unwrap().total;
    assert!(matches!(next(&told), Event::Closed(_)) && told.try_recv().is_err());
    assert_eq!((stats.connects, stats.connects_failed(), stats.open()), (6, 5, 0));
}

/// An address that does not answer, for as long as what is with it lives: its queue is full.
fn mute() -> (SocketAddr, socket2::Socket, Vec<TcpStream>) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
    let queue = (0..4).filter_map(connect).collect();
    (address, listener, queue)
}
