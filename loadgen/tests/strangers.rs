//! Any TCP server that echoes is a target: socat's and ncat's are, where they are installed.

mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use support::{measure, skip};

/// How many ports have been tried.
static TAKEN: AtomicU16 = AtomicU16::new(0);

/// A stranger's server, ended with its group of processes when dropped.
struct Stranger(Child);

impl Drop for Stranger {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `program` on a free port, which replaces PORT in its arguments, as its address does ADDRESS; `None` where it is not installed.
fn stranger(program: &str, arguments: &[&str]) -> Option<(Stranger, SocketAddr)> {
    // Below the ports that the kernel gives to whoever connects: one that tries a port of those again and again before
    // anybody listens there may end up connected to itself.
    // And no port twice, and an address that no other process's tests have: what is free for one is for the other, too,
    // until both have started their servers; then one is measured by both, and gone for the one who ends last.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, 64 + high % 64, middle, low.max(1));
    let mut ports = std::iter::repeat_with(|| 20_000 + TAKEN.fetch_add(1, Ordering::Relaxed));
    let free = ports.by_ref().take(1_000).find_map(|port| TcpListener::bind((own, port)).ok());
    let address = free.expect("a port is free").local_addr().unwrap();
    let arguments = arguments
        .iter()
        .map(|argument| argument.replace("PORT", &address.port().to_string()).replace("ADDRESS", &own.to_string()));
    let Ok(child) = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).spawn() else {
        skip(&format!("{program} is not installed"));
        return None;
    };
    let mut stranger = Stranger(child);
    while TcpStream::connect(address).is_err() {
        assert!(matches!(stranger.0.try_wait(), Ok(None)), "{program} ended before it listened");
        std::thread::yield_now();
    }
    Some((stranger, address))
}

fn is_measured(address: SocketAddr) {
    let (code, results) = measure(&format!("rr {address} -c 4 -d 200ms -s 1KiB --connect-rate 100"));
    assert_eq!(code, Some(0), "{results:#}");
    let (code, results) = measure(&format!("open {address} -c 4 -R 200 -d 200ms --connect-rate 100"));
    assert_eq!(code, Some(0), "{results:#}");
}

#[test]
fn socat() {
    if let Some((_server, address)) = stranger("socat", &["TCP-LISTEN:PORT,fork,reuseaddr,bind=ADDRESS", "EXEC:cat"]) {
        is_measured(address);
    }
}

#[test]
fn ncat() {
    if let Some((_server, address)) = stranger("ncat", &["-l", "-k", "-e", "/bin/cat", "ADDRESS", "PORT"]) {
        is_measured(address);
    }
}
