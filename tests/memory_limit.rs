//! A thousand peers that ask and do not read, of a server in a cgroup that has not the memory for all that they ask: it holds
//! `output_max` for each and no more, lives, and serves the others. Needs root and the memory controller of cgroups, of either
//! version, and says so when it skips.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write, stdin};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use esockets::{Cores, Listeners, Server};
use socket2::{Domain, Socket, Type};
use support::{bytes, connect, connect_narrow, converse, wait_until};

/// Tells the second process that it is the server, and where its cgroup is.
const CGROUP: &str = "ESOCKETS_TEST_CGROUP";
const READERS: usize = 1_000;
const OUTPUT_MAX: usize = 32 << 10;
/// What each of them asks for: all together four times the memory that there is.
const ASKED: usize = 384 << 10;
const MEMORY_MAX: usize = 96 << 20;

/// Not a test of its own: the server, which ends with its standard input.
#[test]
fn server_process() {
    let Ok(cgroup) = std::env::var(CGROUP) else { return };
    fs::write(PathBuf::from(cgroup).join("cgroup.procs"), std::process::id().to_string()).unwrap();
    // The kernel would otherwise keep megabytes for each in its own queues.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.set_send_buffer_size(8 << 10).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(READERS as i32).unwrap();
    let listeners = Listeners::of([listener]).unwrap();
    let server =
        Server::builder().listeners(listeners).cores(Cores::None).output_max(OUTPUT_MAX).handle_readable(|client| {
            let data = client.recv();
            client.send(data)
        });
    let server = server.start().unwrap();
    println!("listening on {}", server.local_addr());
    let _ = stdin().read(&mut [0]);
    let total = server.stats().total;
    println!("waiting {}", total.bytes_in - total.bytes_out);
}

/// A cgroup of one's own; it goes when this is dropped.
struct Cgroup {
    folder: PathBuf,
    peak: &'static str,
}

impl Cgroup {
    fn new() -> Result<Cgroup, String> {
        let name = format!("esockets-test-{}", std::process::id());
        let version_1 = PathBuf::from("/sys/fs/cgroup/memory");
        let is_1 = version_1.join("memory.limit_in_bytes").exists();
        let (root, limit, peak) = match is_1 {
            true => (version_1, "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
            false => (PathBuf::from("/sys/fs/cgroup"), "memory.max", "memory.peak"),
        };
        let folder = root.join(name);
        fs::create_dir(&folder).map_err(|error| format!("mkdir {}: {error}", folder.display()))?;
        let cgroup = Cgroup { folder, peak };
        fs::write(cgroup.folder.join(limit), MEMORY_MAX.to_string()).map_err(|error| format!("{limit}: {error}"))?;
        // Nothing is to be swapped out in place of being refused; where that is not counted there is mostly no swap.
        let _ = fs::write(cgroup.folder.join("memory.swap.max"), "0");
        Ok(cgroup)
    }

    fn peak(&self) -> Option<usize> {
        fs::read_to_string(self.folder.join(self.peak)).ok()?.trim().parse().ok()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks for as much as is left, as far as that can be sent without waiting; `sent` counts it.
fn ask(mut stream: &TcpStream, key: u64, sent: &mut usize) {
    while *sent < ASKED {
        match stream.write(&bytes(key, *sent, (ASKED - *sent).min(64 << 10))) {
            Ok(count) => *sent += count,
            Err(error) => return assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
    }
}

#[test]
fn a_thousand_readers_that_do_not_read_are_held_within_the_limit() {
    let cgroup = match Cgroup::new() {
        Ok(cgroup) => cgroup,
        Err(why) => return println!("skipped: no cgroup with limited memory, which takes root: {why}"),
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "server_process", "--nocapture"]).env(CGROUP, &cgroup.folder);
    let mut server = Process(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    // The harness says the test's name on the same line.
    let address = lines.find_map(|line| Some(line.split_once("listening on ")?.1.parse::<SocketAddr>().unwrap()));
    let address = address.expect("the server listens");

    let mut readers: Vec<(TcpStream, usize)> = (0..READERS).map(|_| (connect_narrow(address), 0)).collect();
    readers.iter().for_each(|(stream, _)| stream.set_nonblocking(true).unwrap());
    let mut before = 1;
    wait_until("nothing more can be sent to it", || {
        (0..).zip(&mut readers).for_each(|(key, (stream, sent))| ask(stream, key, sent));
        converse(&connect(address), 1_000_000, 100_000, || 5_000);
        let sent = readers.iter().map(|(_, sent)| sent).sum();
        std::mem::replace(&mut before, sent) == sent
    });
    assert!(server.0.try_wait().unwrap().is_none(), "it is alive");
    drop(server.0.stdin.take());
    let waiting =
        lines.find_map(|line| line.split_once("waiting ")?.1.parse::<usize>().ok()).expect("it says it itself");
    println!("{before} bytes sent, {waiting} wait in the server; {:?} used at the peak", cgroup.peak());
    assert!(waiting > READERS * OUTPUT_MAX / 4, "only {waiting} bytes wait: nobody was held to the limit");
    assert!(waiting <= READERS * OUTPUT_MAX, "{waiting} bytes wait");
    drop(readers);
    server.0.wait().unwrap();
}
