//! Any TCP server that echoes is a target: socat's is, where it is installed.

mod support;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use support::{measure, skip};

/// A stranger's server, ended with its group of processes when dropped.
struct Stranger(Child);

impl Drop for Stranger {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `program` on a free port, which replaces PORT in its arguments; `None` where it is not installed.
fn stranger(program: &str, arguments: &[&str]) -> Option<(Stranger, SocketAddr)> {
    // Below the ports that the kernel gives to whoever connects: one that tries a port of those again and again before
    // anybody listens there may end up connected to itself.
    let first = 20_000 + (std::process::id() % 5_000) as u16 * 2;
    let free = (first..).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    let address = free.expect("a port is free").local_addr().unwrap();
    let arguments = arguments.iter().map(|argument| argument.replace("PORT", &address.port().to_string()));
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
    if let Some((_server, address)) = stranger("socat", &["TCP-LISTEN:PORT,fork,reuseaddr,bind=127.0.0.1", "EXEC:cat"])
    {
        is_measured(address);
    }
}
