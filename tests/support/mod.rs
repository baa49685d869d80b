//! What the integration tests share: a server to connect to, ways to connect to it, and waiting for conditions.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(unused_imports, reason = "each test uses a part of it")]

mod bytes;
mod panics;
mod program;
mod script;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use esockets::{Builder, Cores, Server};
use socket2::{Domain, SockRef, Socket, Type};

pub(crate) use bytes::{Random, bytes, conserve, converse, expect, expect_end, verify};
pub(crate) use panics::{echo_unless_told, meant, say_panic, silence};
pub(crate) use program::Program;
pub(crate) use script::{Log, Order, Script, hold};

/// Nothing takes this long unless it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a free port, not pinned, on two shards.
pub(crate) fn builder() -> Builder {
    Server::builder().port(0).cores(Cores::None).shards(2)
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A connection whose reads and writes fail, instead of hanging, when nothing moves.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(address).unwrap())
}

/// A connection that takes little before its peer's sending blocks, whatever the system's default is.
pub(crate) fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.connect(&address.into()).unwrap();
    patient(socket.into())
}

/// A connection from another address of this machine.
pub(crate) fn connect_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    patient(socket.into())
}

/// A question and its answer, and the end from this side.
pub(crate) fn ask(mut stream: &TcpStream, key: u64) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (question, mut answer) = (key.to_le_bytes(), [0; 8]);
    stream.write_all(&question)?;
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, question);
    stream.shutdown(Shutdown::Write)?;
    match stream.read(&mut answer)? {
        0 => Ok(()),
        _ => panic!("more than was asked for"),
    }
}

pub(crate) fn connect_many<M>(server: &Server<M>, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| connect(server.local_addr())).collect()
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Closes with a reset instead of an orderly end.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Reads until the end, which must be a reset.
pub(crate) fn expect_reset(mut stream: &TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => panic!("an orderly end, where a reset was due"),
            Ok(_) => {}
            Err(error) => return assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }
}

/// Waits until the kernel holds `count` bytes that `client` has sent and the server has not read, accepted or not.
pub(crate) fn wait_unread(client: &TcpStream, count: usize) {
    let ends = format!("{} {} ", hex(client.peer_addr().unwrap()), hex(client.local_addr().unwrap()));
    let due = format!(":{count:08X}");
    wait_until("the bytes have arrived at the server's socket", || {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        // Behind the two addresses stand the state and the queues, out:in. The table may be long: it is searched as a whole.
        table
            .split_once(&ends)
            .is_some_and(|(_, rest)| rest.split(' ').nth(1).is_some_and(|queues| queues.ends_with(&due)))
    });
}

/// An address as /proc/net/tcp writes it, see proc_net_tcp in the kernel's documentation.
fn hex(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("/proc/net/tcp knows IPv4 only") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}
