//! A server is replaced by another process while 2,000 clients a second come and go: nobody is refused, reset or forgotten.

mod support;

#[path = "../examples/restart.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod example;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use esockets::{Builder, CloseReason, Cores, Listeners, Server};
use support::{PATIENCE, ask, connect, wait_until};

const HAND_OVERS: usize = 10;
const CLIENTS: u64 = 8;
/// Of each client: together 2,000 connections a second.
const PACE: Duration = Duration::from_millis(4);
/// Shards of one server after the other, and whether they have descriptor tables of their own.
const LAYOUTS: [(usize, bool); 5] = [(2, false), (3, false), (1, true), (2, true), (4, false)];

/// What a server in a process of its own is told: who it is, on which port it may listen and where it meets others.
const WHO: &str = "ESOCKETS_TEST_WHO";
const PORT: &str = "ESOCKETS_TEST_PORT";
const MEETING_POINT: &str = "ESOCKETS_TEST_MEETING_POINT";
const NAME: &str = "ESOCKETS_TEST_NAME";

/// Not a test of its own: a server that takes over, serves until it is replaced, and drains.
#[test]
fn server_process() {
    let Ok(who) = std::env::var(WHO) else { return };
    let meeting_point = std::env::var(MEETING_POINT).unwrap();
    let (shards, own_tables) = LAYOUTS[who.parse::<usize>().unwrap() % LAYOUTS.len()];
    let builder = Server::builder().shards(shards).cores(Cores::None).queue_size(4000);
    let builder = match example::listeners(&meeting_point).unwrap() {
        Some(listeners) => builder.listeners(listeners),
        None => builder.port(std::env::var(PORT).unwrap().parse().unwrap()),
    };
    let server = start(builder, who, own_tables);
    example::wait_for_successor(&server, &meeting_point).unwrap();
    server.drain(PATIENCE);
    let total = server.join().unwrap().total;
    assert_eq!((total.closed(CloseReason::PeerClosed), total.panics), (total.accepted, 0), "{total}");
}

/// Not a test of its own: a server on what it has inherited, under the name that it is told, if any.
#[test]
fn activated_process() {
    let Ok(who) = std::env::var(WHO) else { return };
    let listeners = match std::env::var(NAME) {
        Ok(name) => Listeners::inherited_as(&name),
        Err(_) => Listeners::inherited(),
    };
    let Some(listeners) = listeners.unwrap() else { panic!("nothing has been inherited") };
    assert!(Listeners::inherited_as("no such name").unwrap().is_none());
    if std::env::var("LISTEN_FDS").unwrap() == "2" && std::env::var(NAME).is_ok() {
        assert!(Listeners::inherited().unwrap().is_some(), "what nobody has asked for by its name is there still");
    }
    assert!(Listeners::inherited().is_err(), "it is not given away twice");
    start(Server::builder().shards(2).cores(Cores::None).listeners(listeners), who, false).join().unwrap();
}

/// Echoes, and says who it is when it is asked.
fn start(builder: Builder, who: String, own_tables: bool) -> Server {
    let builder = builder.handle_readable(move |client| match client.recv() {
        b"who?" => client.send(who.as_bytes()),
        data => client.send(data),
    });
    if !own_tables {
        return builder.start().unwrap();
    }
    // SAFETY: the closure holds no descriptor, and sends none away.
    unsafe { builder.private_fd_tables() }.start().unwrap()
}

/// Ended with the test, however that ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(mut command: Command, who: usize) -> Process {
        Process(command.env(WHO, who.to_string()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn expect_success(mut self) {
        wait_until("the process has ended", || self.0.try_wait().unwrap().is_some());
        assert!(self.0.wait().unwrap().success(), "it says why above");
    }
}

/// It says what it dies of to whoever reads what this test says.
fn this_test(name: &str) -> [String; 4] {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    [program, "--exact".into(), name.into(), "--nocapture".into()]
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Who answers on this connection.
fn who(mut stream: &TcpStream) -> Option<usize> {
    stream.write_all(b"who?").ok()?;
    let mut answer = [0; 8];
    let count = stream.read(&mut answer).ok()?;
    str::from_utf8(&answer[..count]).ok()?.parse().ok()
}

fn who_listens(address: SocketAddr) -> Option<usize> {
    who(&TcpStream::connect(address).ok()?)
}

/// A name in no folder of anybody else's.
struct MeetingPoint(PathBuf);

impl MeetingPoint {
    /// Whether somebody listens there, which a file that the last one has left does not tell: /proc/net/unix has the flags of a
    /// socket in the fourth column (`__SO_ACCEPTCON`), and its name at the end.
    fn can_be_met(&self) -> bool {
        let (table, name) = (fs::read_to_string("/proc/net/unix").unwrap(), self.0.to_str().unwrap());
        table.lines().any(|line| line.ends_with(name) && line.split_whitespace().nth(3) == Some("00010000"))
    }

    fn new(name: &str) -> MeetingPoint {
        MeetingPoint(std::env::temp_dir().join(format!("esockets-{}-{name}", std::process::id())))
    }
}

impl Drop for MeetingPoint {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn ten_hand_overs_between_processes_at_two_thousand_new_connections_a_second_lose_nobody() {
    let (address, meeting_point) = (free_port(), MeetingPoint::new("hand-over"));
    let server = |who| {
        let [program, arguments @ ..] = this_test("server_process");
        let mut command = Command::new(program);
        command.args(arguments).env(PORT, address.port().to_string()).env(MEETING_POINT, &meeting_point.0);
        Process::start(command, who)
    };
    let mut current = server(0);
    wait_until("the first serves", || who_listens(address) == Some(0));
    let (over, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (over, served) = (&over, &served);
            scope.spawn(move || come_and_go(address, client, over, served));
        }
        // However this ends, they do.
        let _ends = Ends(&over);
        for generation in 1..=HAND_OVERS {
            let seen = served.load(Ordering::Relaxed);
            wait_until("they come and go", || served.load(Ordering::Relaxed) > seen + 200);
            wait_until("it can be met", || meeting_point.can_be_met());
            let there = connect(address);
            assert_eq!(who(&there), Some(generation - 1));
            let next = server(generation);
            wait_until("the next one serves", || who_listens(address) == Some(generation));
            assert_eq!(who(&there), Some(generation - 1), "whoever is there stays where he is");
            drop(there);
            std::mem::replace(&mut current, next).expect_success();
        }
    });
    let rate = served.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    println!("{} connections, {rate:.0} a second, across {HAND_OVERS} hand-overs", served.into_inner());
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One connection after the other, each with a question and an answer, all of which must succeed.
fn come_and_go(address: SocketAddr, client: u64, over: &AtomicBool, served: &AtomicU64) {
    let begun = Instant::now();
    for number in 1u32.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = visit(address, client << 32 | u64::from(number)) {
            panic!("one has been lost: {error}");
        }
        served.fetch_add(1, Ordering::Relaxed);
        // It keeps the pace that it can, behind which nothing is waited for.
        thread::sleep((PACE * number).saturating_sub(begun.elapsed()));
    }
}

/// A connection with a question and its answer, and the end from this side.
fn visit(address: SocketAddr, question: u64) -> io::Result<()> {
    ask(&TcpStream::connect(address)?, question)
}

/// Starts a process that has these sockets as descriptors 3 and 4, told as systemd tells it.
fn activate(sockets: [Option<OwnedFd>; 2], variables: &str, name: Option<&str>, who: usize) -> Process {
    let script = format!("exec 3<&0 4<&1 </dev/null >/dev/null; {variables} exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).args(this_test("activated_process"));
    if let Some(name) = name {
        command.env(NAME, name);
    }
    let [first, second] = sockets.map(|socket| socket.map_or_else(Stdio::null, Stdio::from));
    Process(command.stdin(first).stdout(second).env(WHO, who.to_string()).spawn().unwrap())
}

fn passed(listener: &TcpListener) -> Option<OwnedFd> {
    Some(listener.try_clone().unwrap().into())
}

#[test]
fn an_inherited_socket_outlives_its_servers_and_keeps_who_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = connect(address);
    waiting.write_all(b"who?").unwrap();
    for generation in 0..3 {
        let process = activate([passed(&listener), None], "LISTEN_PID=$$ LISTEN_FDS=1", None, generation);
        let mut answer = [0];
        waiting.read_exact(&mut answer).unwrap();
        assert_eq!(answer[0], b'0' + generation as u8);
        (0..50).for_each(|question| visit(address, question).unwrap());
        drop(process);
        // Nobody serves, and nobody is refused.
        waiting = connect(address);
        waiting.write_all(b"who?").unwrap();
    }
}

#[test]
fn inherited_sockets_are_told_apart_by_their_names() {
    let listeners = ["127.0.0.1:0", "127.0.0.1:0"].map(|address| TcpListener::bind(address).unwrap());
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let variables = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:admin";
    for (index, name) in ["web", "admin"].into_iter().enumerate() {
        let _process = activate(listeners.each_ref().map(passed), variables, Some(name), index);
        assert_eq!(who(&connect(addresses[index])), Some(index));
    }
}

#[test]
fn all_inherited_sockets_may_be_one_servers() {
    let listeners = ["127.0.0.1:0", "[::1]:0"].map(|address| TcpListener::bind(address).unwrap());
    let _process = activate(listeners.each_ref().map(passed), "LISTEN_PID=$$ LISTEN_FDS=2", None, 3);
    assert!(listeners.iter().all(|own| who(&connect(own.local_addr().unwrap())) == Some(3)));
}

#[test]
fn what_is_not_meant_for_this_process_or_is_no_listener_is_not_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let attempts = [
        ([passed(&listener), None], "LISTEN_PID=1 LISTEN_FDS=1"),
        ([passed(&listener), None], "LISTEN_FDS=1"),
        ([passed(&listener), None], "LISTEN_PID=$$ LISTEN_FDS=many"),
        ([Some(udp.into()), None], "LISTEN_PID=$$ LISTEN_FDS=1"),
        ([Some(stream.into()), None], "LISTEN_PID=$$ LISTEN_FDS=1"),
    ];
    for (sockets, variables) in attempts {
        let mut process = activate(sockets, variables, None, 0);
        wait_until("it has failed", || process.0.try_wait().unwrap().is_some());
        assert_eq!(process.0.wait().unwrap().code(), Some(101), "{variables}");
    }
}

#[test]
fn systemd_activates_it() {
    let address = free_port();
    let mut command = Command::new("systemd-socket-activate");
    command
        .args(["-l", &address.to_string(), "--fdname=web", "-E", WHO, "-E", NAME])
        .args(this_test("activated_process"));
    command.env(WHO, "7").env(NAME, "web").stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(process) = command.spawn() else { return println!("skipped: systemd-socket-activate is not installed") };
    let _process = Process(process);
    wait_until("it listens", || TcpStream::connect(address).is_ok());
    assert_eq!(who(&connect(address)), Some(7));
}
