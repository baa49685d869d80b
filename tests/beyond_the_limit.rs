//! One process holds 45,000 connections, both ends of each, while no table may hold more than 20,000 descriptors.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;

use esockets::{Cores, Server, socket, sys};
use socket2::{Domain, Socket, Type};

const CONNECTIONS: usize = 45_000;
const LIMIT: u64 = 20_000;
/// Descriptors of each table that are no connections, with some to spare.
const RESERVE: u64 = 64;
/// More threads than this would be the test of something else.
const TABLES_MAX: usize = 64;
/// What the kernel needs for both ends of a connection and its file descriptors, generously.
const KERNEL_BYTES: usize = 12 << 10;

/// How many connections this machine can be asked for, and how many tables they need on each side.
fn plan() -> (usize, usize) {
    let limit = sys::descriptor_limit().unwrap().hard.min(LIMIT);
    sys::set_descriptor_limit(limit).unwrap();
    // The kernel deals them out by a hash, so the tables of the server are not all equally full: six standard deviations.
    let room = (limit - RESERVE) as f64;
    let each = (room - 6.0 * room.sqrt()).max(1.0) as usize;
    let fitting = (memory_available() / 2 / KERNEL_BYTES).min(each * TABLES_MAX).min(CONNECTIONS);
    if fitting < CONNECTIONS {
        // Not by `eprintln!`, which is heard only if the test fails.
        let only =
            format!("only {fitting} connections: that is what memory and a limit of {limit} descriptors allow here\n");
        io::stderr().write_all(only.as_bytes()).unwrap();
    }
    (fitting, fitting.div_ceil(each))
}

fn memory_available() -> usize {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line =
        meminfo.lines().find(|line| line.starts_with("MemAvailable:")).expect("the kernel says what is available");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).unwrap() << 10
}

fn start(shards: usize) -> Server {
    let builder = Server::builder().port(0).shards(shards).cores(Cores::None).queue_size(4096);
    let builder = builder.handle_readable(|client| {
        let data = client.recv();
        client.send(data)
    });
    // SAFETY: the closure holds no descriptor, and sends none away.
    unsafe { builder.private_fd_tables() }.start().unwrap()
}

/// Opens `count` connections from an address of this thread's own, with ports that no other program is given.
fn open(target: SocketAddr, thread: usize, count: usize) -> Vec<TcpStream> {
    let source = Ipv4Addr::new(127, 45, 0, thread as u8 + 1);
    let mut ports = 2_000..32_000;
    let mut connect = || loop {
        let port = ports.next().expect("a port is left");
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        let bound = socket.bind(&SocketAddr::from((source, port)).into());
        match bound.and_then(|()| socket.connect(&target.into())) {
            Ok(()) => return TcpStream::from(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => panic!("{source}:{port} to {target}: {error}"),
        }
    };
    (0..count).map(|_| connect()).collect()
}

fn echo(clients: &mut [TcpStream], thread: usize) {
    let word = |index: usize| ((thread << 32) | index).to_be_bytes();
    for (index, client) in clients.iter_mut().enumerate() {
        client.write_all(&word(index)).unwrap();
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let mut answer = [0; 8];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, word(index), "thread {thread}");
    }
}

#[test]
fn every_one_of_them_echoes_while_all_are_open() {
    let (connections, tables) = plan();
    let server = start(tables);
    let target = server.local_addr();
    let all_open = Barrier::new(tables + 1);
    let counted = Barrier::new(tables + 1);
    thread::scope(|scope| {
        for thread in 0..tables {
            let (all_open, counted) = (&all_open, &counted);
            let count = connections / tables + usize::from(thread < connections % tables);
            scope.spawn(move || {
                // SAFETY: this thread uses what it opens itself, and gives none of it away.
                unsafe { sys::own_descriptor_table(&[]) }.unwrap();
                let mut clients = open(target, thread, count);
                echo(&mut clients, thread);
                all_open.wait();
                counted.wait();
                echo(&mut clients, thread);
                // A reset leaves no TIME_WAIT behind, of which there would be as many as connections.
                clients.iter().for_each(|client| socket::reset_on_close(&socket2::SockRef::from(client)).unwrap());
            });
        }
        all_open.wait();
        assert_eq!(server.stats().total.open(), connections as u64);
        counted.wait();
    });
    server.stop();
    let total = server.join().unwrap().total;
    assert_eq!((total.accepted, total.open(), total.accept_pauses), (connections as u64, 0, 0));
    assert_eq!(total.bytes_in, 16 * connections as u64);
}
