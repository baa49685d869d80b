//! With a descriptor table of its own a shard opens as many as the limit allows, keeps nobody else's open, and takes all of
//! its own along when it ends.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;

use esockets::{Address, Cores, Server};

const CLIENTS: usize = 40;

/// They count what the whole process has open, so only one runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn start() -> Server {
    let builder = Server::builder().port(0).shards(2).cores(Cores::None);
    let builder = builder.handle_readable(|client| {
        let data = client.recv();
        client.send(data)
    });
    // SAFETY: the closure holds no descriptor, and sends none away.
    unsafe { builder.private_fd_tables() }.start().unwrap()
}

fn echo(client: &mut TcpStream) {
    client.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
}

/// Sockets in the tables of the threads of this name. One that is just ending has none any more.
fn sockets_of(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let named =
        tasks.filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name));
    named.map(|task| sockets_in(&task.path().join("fd"))).sum()
}

fn sockets_in(table: &Path) -> usize {
    let links = std::fs::read_dir(table).into_iter().flatten().flatten();
    let links = links.filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn connections_live_in_the_table_of_their_shard_and_go_with_it() {
    let _alone = ALONE.lock();
    let own = Path::new("/proc/thread-self/fd");
    let before = sockets_in(own);
    let server = start();
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| TcpStream::connect(server.local_addr()).unwrap()).collect();
    clients.iter_mut().for_each(echo);
    // The pair through which shards lend their listeners is the server's.
    assert_eq!(sockets_in(own), before + CLIENTS + 2, "this thread's table has its own ends only");
    let shards = ["esockets-0", "esockets-1"].map(sockets_of);
    // A listener and an end of that pair each, and the claim to the address.
    assert_eq!(shards.iter().sum::<usize>(), CLIENTS + 2 * 2 + 1, "the shards have theirs: {shards:?}");
    let address = server.local_addr();
    server.stop();
    let stats = server.join().unwrap();
    assert_eq!((stats.total.accepted, stats.total.open()), (CLIENTS as u64, 0));
    for client in &mut clients {
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "each peer sees the end");
    }
    TcpStream::connect(address).expect_err("nobody listens any more");
}

#[test]
fn what_the_program_closes_is_not_kept_open_by_a_shard() {
    let _alone = ALONE.lock();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let number = writer.as_raw_fd();
    let server = start();
    let mut client = TcpStream::connect(server.local_addr()).unwrap();
    echo(&mut client);
    drop(writer);
    // It would wait for ever if a shard had inherited the writing end.
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "descriptor {number} is closed everywhere");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

/// A signal's handler that wakes its program through a pipe would write to whoever has the pipe's number in the shard's table.
#[test]
fn a_shard_leaves_signals_to_other_threads_but_for_its_own_faults() {
    let _alone = ALONE.lock();
    let server = start();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    let shards = tasks.filter(|task| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim().starts_with("esockets-"))
    });
    let blocked: Vec<u64> = shards.map(|task| blocked_signals(&task)).collect();
    assert_eq!(blocked.len(), 2);
    for mask in blocked {
        let has = |signal: u32| mask & 1 << (signal - 1) != 0;
        let [interrupt, user, fault, terminate] = [2, 10, 11, 15].map(has);
        assert!(interrupt && user && terminate && !fault, "{mask:x}");
    }
    drop(server);
    assert_eq!(blocked_signals(Path::new("/proc/thread-self")) & 0b10, 0, "the program still hears Ctrl-C");
}

fn blocked_signals(task: &Path) -> u64 {
    let status = std::fs::read_to_string(task.join("status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

#[test]
fn a_unix_socket_that_all_shards_share_is_in_the_table_of_each() {
    let _alone = ALONE.lock();
    let path = std::env::temp_dir().join(format!("esockets-own-table-{}.sock", std::process::id()));
    let builder = Server::builder().listen(Address::unix(&path).tag(5)).listen(Address::tcp("127.0.0.1", 0));
    let builder = builder.shards(2).cores(Cores::None).handle_readable(|client| client.send(&[client.tag()]));
    // SAFETY: the closure holds no descriptor, and sends none away.
    let server = unsafe { builder.private_fd_tables() }.start().unwrap();
    for _ in 0..CLIENTS {
        let mut answers = [[0; 1]; 2];
        let mut neighbour = UnixStream::connect(&path).unwrap();
        neighbour.write_all(b"?").unwrap();
        neighbour.read_exact(&mut answers[0]).unwrap();
        let mut stranger = TcpStream::connect(server.local_addr()).unwrap();
        stranger.write_all(b"?").unwrap();
        stranger.read_exact(&mut answers[1]).unwrap();
        assert_eq!(answers, [[5], [0]]);
    }
    // Each has a listener of TCP, its copy of the shared one and an end of the pair through which shards lend them; one has
    // the claim, too.
    let listening = || ["esockets-0", "esockets-1"].map(sockets_of).iter().sum::<usize>() == 2 * 3 + 1;
    while !listening() {
        std::thread::yield_now();
    }
    server.stop();
    server.join().unwrap();
    assert!(!path.exists());
    UnixStream::connect(&path).expect_err("nobody listens any more");
}
