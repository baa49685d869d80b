//! One server at several addresses, of TCP and Unix sockets: each connection bears its address's tag, and no file is left
//! behind or taken away from anybody.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use esockets::{Address, Builder, CloseReason, Cores, Error, Listeners, LocalAddr, Server};
use support::{PATIENCE, wait_until};

/// A folder of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("esockets-addresses-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Two shards, nowhere yet.
fn builder() -> Builder {
    Server::builder().cores(Cores::None).shards(2)
}

/// Answers whatever comes with the tag of the address at which it came, and a word on who is there.
fn start(builder: Builder) -> Result<Server, Error> {
    let builder = builder.handle_readable(|client| {
        let _ = client.recv();
        let who = if client.address().is_unix() { "unix" } else { "ip" };
        assert_eq!(client.address().ip().is_none(), client.address().is_unix());
        client.send(format!("{} {who}", client.tag()).as_bytes())
    });
    builder.start()
}

fn refused(builder: Builder) -> Error {
    start(builder).unwrap_err()
}

/// What is answered there.
fn answer(mut stream: impl Read + Write) -> String {
    stream.write_all(b"?").unwrap();
    let mut answer = [0; 16];
    let count = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

fn at_path(path: &Path) -> String {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    answer(stream)
}

fn at(address: &LocalAddr) -> String {
    match address {
        LocalAddr::Ip(address) => answer(support::connect(*address)),
        LocalAddr::Unix(path) => at_path(path),
    }
}

#[test]
fn shards_that_share_a_listener_are_woken_in_turns() {
    const SHARDS: usize = 8;
    const EACH: usize = 10;
    let folder = Folder::new("turns");
    let (path, inherited) = (folder.path("s"), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let address = LocalAddr::Ip(inherited.local_addr().unwrap());
    let unix = start(builder().shards(SHARDS).listen(Address::unix(&path))).unwrap();
    let tcp = start(builder().shards(SHARDS).listeners(Listeners::of([inherited]).unwrap())).unwrap();
    for (server, address) in [(unix, LocalAddr::Unix(path)), (tcp, address)] {
        // One after the other, so that all the others sleep.
        (0..SHARDS * EACH).for_each(|_| drop(at(&address)));
        let accepted: Vec<u64> = server.stats().shards.iter().map(|shard| shard.accepted).collect();
        assert_eq!(accepted.iter().sum::<u64>(), (SHARDS * EACH) as u64);
        // One that is not asleep again yet leaves its turn to the next.
        assert!(accepted.iter().all(|&count| count >= EACH as u64 / 2), "{address}: {accepted:?}");
    }
}

#[test]
fn both_families_and_unix_sockets_in_one_server_each_with_its_tag() {
    let folder = Folder::new("all");
    let [one, other] = ["one", "other"].map(|name| folder.path(name));
    let all = builder()
        .listen(Address::unix(&one).tag(7))
        .listen(Address::tcp("127.0.0.1", 0).tag(4))
        .listen(Address::tcp("::1", 0).tag(255))
        .listen(Address::unix(&other));
    let server = start(all).unwrap();
    let [first, v4, v6, second] = server.local_addrs() else { panic!("{server:?}") };
    assert_eq!((first, second), (&LocalAddr::Unix(one), &LocalAddr::Unix(other)));
    assert_eq!(server.local_addr(), v4.ip().unwrap(), "the first of TCP");
    for _ in 0..20 {
        assert_eq!([first, v4, v6, second].map(at), ["7 unix", "4 ip", "255 ip", "0 unix"]);
    }
    assert_eq!(server.stats().total.accepted, 80);
}

#[test]
fn a_wildcard_takes_both_families_or_leaves_one_to_another_tag() {
    let server = start(builder().listen(Address::tcp("::", 0).tag(1))).unwrap();
    let port = server.local_addr().port();
    let both = [("127.0.0.1", port), ("::1", port)].map(|address| answer(TcpStream::connect(address).unwrap()));
    assert_eq!(both, ["1 ip", "1 ip"]);
    drop(server);
    let apart = builder().listen(Address::tcp("0.0.0.0", port).tag(4));
    let server = start(apart.listen(Address::tcp("::", port).only_v6(true).tag(6))).unwrap();
    let both = [("127.0.0.1", port), ("::1", port)].map(|address| answer(TcpStream::connect(address).unwrap()));
    assert_eq!(both, ["4 ip", "6 ip"]);
    drop(server);
}

#[test]
fn a_server_of_unix_sockets_alone_serves_all_who_come_at_once() {
    let folder = Folder::new("alone");
    let path = folder.path("a");
    let limits = builder().connections_per_address(Some(1)).queue_size(64);
    let server = start(limits.listen(Address::unix(&path))).unwrap();
    assert_eq!(server.local_addr().to_string(), "0.0.0.0:0");
    let clients: Vec<UnixStream> = (0..500).map(|_| UnixStream::connect(&path).unwrap()).collect();
    assert!(clients.iter().all(|client| answer(client) == "0 unix"));
    let stats = server.stats();
    assert_eq!((stats.total.accepted, stats.total.refused()), (500, 0), "no limit of an address concerns them");
    // A stop lets them go, as it does others.
    server.stop();
    assert_eq!(server.join().unwrap().total.closed(CloseReason::Stopped), 500);
}

#[test]
fn a_stop_and_a_drain_remove_the_file_and_a_failed_start_leaves_none() {
    let folder = Folder::new("end");
    let path = folder.path("a");
    let here = || builder().listen(Address::unix(&path));
    let server = start(here()).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    assert_eq!(answer(&client), "0 unix");
    server.drain(PATIENCE);
    assert!(!path.exists());
    // Its successor is not disturbed by its end.
    let successor = start(here()).unwrap();
    assert_eq!(answer(&client), "0 unix", "it is served to its end");
    drop(client);
    server.join().unwrap();
    assert_eq!(at_path(&path), "0 unix");
    successor.stop();
    assert!(!path.exists());
    drop(successor);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = refused(here().listen(Address::tcp("127.0.0.1", address.port())));
    assert!(error.kind() == ErrorKind::AddrInUse && error.to_string().contains(&address.to_string()), "{error}");
    assert!(!path.exists(), "a start that fails leaves nothing behind");
}

#[test]
fn an_abstract_name_has_no_file_and_goes_with_its_server() {
    let name = format!("@esockets-addresses-{}", std::process::id());
    let here = || builder().listen(Address::unix(&name).mode(0o600).tag(3));
    let at_name = || {
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name[1..]).unwrap();
        UnixStream::connect_addr(&address).map(answer)
    };
    let server = start(here()).unwrap();
    assert_eq!(server.local_addrs(), [LocalAddr::Unix(name.clone().into())]);
    assert_eq!(at_name().unwrap(), "3 unix");
    assert!(!Path::new(&name).exists());
    let error = refused(here());
    assert!(
        error.kind() == ErrorKind::AddrInUse && error.to_string().contains(&format!("ss -lxp src {name}")),
        "{error}"
    );
    // Whoever takes it over has it already, and does not open it.
    let next = replace(&server, |listeners| here().listeners(listeners));
    server.drain(PATIENCE);
    server.join().unwrap();
    assert_eq!((at_name().unwrap(), next.local_addrs().len()), ("3 unix".into(), 1));
    drop(next);
    assert_eq!(at_name().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    drop(start(here()).unwrap());
    // The longest one there is, one more, a zero, and none.
    let named = |name: String| builder().listen(Address::unix(format!("@{name}")));
    drop(start(named("x".repeat(107))).unwrap());
    for wrong in ["x".repeat(108), "a\0b".into()] {
        let error = refused(named(wrong));
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("107"), "{error}");
    }
    assert!(matches!(refused(named(String::new())), Error::Config { knob: "listen", .. }));
    // It is a name only at the beginning.
    let folder = Folder::new("at");
    let server = start(builder().listen(Address::unix(folder.path("@a")))).unwrap();
    assert!(folder.path("@a").exists());
    drop(server);
}

#[test]
fn a_dead_servers_file_is_replaced_and_nothing_else_is() {
    let folder = Folder::new("stale");
    let path = folder.path("a");
    let here = |path: &Path| builder().listen(Address::unix(path));
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = start(here(&path)).unwrap();
    assert_eq!(at_path(&path), "0 unix");
    let error = refused(here(&path));
    assert!(error.kind() == ErrorKind::AddrInUse && error.to_string().contains("ss -lxp"), "{error}");
    assert_eq!(at_path(&path), "0 unix", "the first goes on");
    drop(server);
    let precious = folder.path("precious");
    fs::write(&precious, "x").unwrap();
    let error = refused(here(&precious));
    assert!(error.kind() == ErrorKind::AlreadyExists && error.to_string().contains("no socket"), "{error}");
    assert_eq!(fs::read(&precious).unwrap(), b"x");
    let error = refused(here(&folder.path(&"x".repeat(108))));
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("107"), "{error}");
    let error = refused(here(&folder.path("none/a")));
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("folder"), "{error}");
    for wrong in [builder().listen(Address::unix("")), here(&path).listen(Address::unix(&path))] {
        assert!(matches!(refused(wrong), Error::Config { knob: "listen", .. }));
    }
}

#[test]
fn two_who_start_at_one_path_are_one() {
    let folder = Folder::new("two");
    let path = folder.path("a");
    for _ in 0..20 {
        drop(UnixListener::bind(&path).unwrap());
        let attempt = || start(builder().shards(1).listen(Address::unix(&path)));
        let servers = thread::scope(|scope| [(); 2].map(|()| scope.spawn(attempt)).map(|one| one.join().unwrap()));
        assert_eq!(servers.iter().filter(|server| server.is_ok()).count(), 1);
        assert_eq!(at_path(&path), "0 unix");
    }
}

#[test]
fn who_may_not_write_to_the_file_may_not_connect() {
    let folder = Folder::new("mode");
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path("a");
    for (mode, may) in [(0o600, false), (0o666, true)] {
        let _server = start(builder().listen(Address::unix(&path).mode(mode))).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        let mut stranger = Command::new("socat");
        stranger.args(["-u", "/dev/null"]).arg(format!("UNIX-CONNECT:{}", path.display())).stderr(Stdio::null());
        match stranger.uid(65_534).gid(65_534).status() {
            Ok(status) => assert_eq!(status.success(), may, "{mode:o}"),
            Err(error) => println!("skipped: no stranger can be had: {error}"),
        }
    }
}

/// Both ends of a hand-over.
fn replace(old: &Server, builder: impl FnOnce(Listeners) -> Builder + Send) -> Server {
    let (here, there) = UnixStream::pair().unwrap();
    here.set_read_timeout(Some(PATIENCE)).unwrap();
    there.set_read_timeout(Some(PATIENCE)).unwrap();
    thread::scope(|scope| {
        let starts = scope.spawn(|| start(builder(Listeners::take_over(there).unwrap())).unwrap());
        old.hand_over(&here).unwrap();
        starts.join().unwrap()
    })
}

#[test]
fn a_replacement_has_the_same_addresses_with_their_tags_and_files_and_may_have_more() {
    let folder = Folder::new("replaced");
    let [path, more] = ["a", "more"].map(|name| folder.path(name));
    let two = builder().listen(Address::tcp("127.0.0.1", 0).tag(3)).listen(Address::unix(&path).tag(5));
    let mut server = start(two.listen(Address::tcp("127.0.0.1", 0))).unwrap();
    let addresses = server.local_addrs().to_vec();
    for shards in [3, 1, 2] {
        let next = replace(&server, |listeners| {
            assert_eq!(listeners.local_addrs().len(), 3);
            // One of them is there already: it is not opened again.
            builder().shards(shards).listen(Address::unix(&path)).listeners(listeners)
        });
        assert_eq!(next.local_addrs().iter().filter(|address| addresses.contains(address)).count(), 3);
        server.drain(Duration::from_secs(1));
        server.join().unwrap();
        for _ in 0..10 {
            assert_eq!([0, 1, 2].map(|index: usize| at(&addresses[index])), ["3 ip", "5 unix", "0 ip"]);
        }
        server = next;
    }
    let next = replace(&server, |listeners| builder().listen(Address::unix(&more).tag(9)).listeners(listeners.tag(8)));
    drop(server);
    assert_eq!(next.local_addrs().len(), 4);
    assert_eq!((at_path(&more), at_path(&path)), ("9 unix".into(), "8 unix".into()));
    drop(next);
    assert!(!path.exists() && !more.exists(), "the last one removes what all have had");
}

#[test]
fn a_replacement_that_fails_leaves_the_file_to_the_one_that_goes_on() {
    let folder = Folder::new("failed");
    let path = folder.path("a");
    let server = start(builder().listen(Address::unix(&path))).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    here.set_read_timeout(Some(PATIENCE)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let listeners = Listeners::take_over(there).unwrap();
            assert!(matches!(refused(builder().mailbox_max(0).listeners(listeners)), Error::Config { .. }));
        });
        server.hand_over(&here).unwrap_err();
    });
    assert_eq!(at_path(&path), "0 unix");
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_socket_of_somebody_elses_stays_theirs() {
    let folder = Folder::new("given");
    let path = folder.path("a");
    let listener = UnixListener::bind(&path).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..2 {
        let unix = Listeners::of([listener.try_clone().unwrap()]).unwrap().tag(1);
        let ip = Listeners::of([tcp.try_clone().unwrap()]).unwrap().tag(2);
        let server = start(builder().shards(3).listeners(unix).listeners(ip)).unwrap();
        assert_eq!(at_path(&path), "1 unix");
        assert_eq!(at(&tcp.local_addr().unwrap().into()), "2 ip");
        let next = replace(&server, |listeners| builder().listeners(listeners));
        drop(server);
        assert_eq!(at_path(&path), "1 unix");
        drop(next);
        assert!(path.exists(), "it is not the server's to remove");
    }
}

#[test]
fn connections_to_a_unix_socket_are_shared_out_by_those_who_are_awake() {
    let folder = Folder::new("even");
    let path = folder.path("a");
    let server = start(builder().listen(Address::unix(&path))).unwrap();
    let mut clients = Vec::new();
    wait_until("each shard has had some", || {
        clients.extend((0..100).map(|_| UnixStream::connect(&path).unwrap()));
        assert!(clients.len() < 5_000);
        server.stats().shards.iter().all(|shard| shard.accepted > 0)
    });
    wait_until("all have come in", || server.stats().total.accepted == clients.len() as u64);
    println!("{:?}", server.stats().shards.iter().map(|shard| shard.accepted).collect::<Vec<_>>());
}
