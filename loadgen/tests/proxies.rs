//! A proxy between loadgen and an echo server is measured as a server, and what it makes of its server's death is counted.

mod support;

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use support::{failures_total, is_conserved, line_with, lines, measure, signal, skip, stage, start};

/// A program that is ended when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `program` where nobody else listens, FRONT in its arguments, before the server at BACK, and waits until it
/// listens; `None` where it is not installed.
fn proxy(program: &str, port: u16, back: &str, arguments: &[String]) -> Option<(Ended, SocketAddr)> {
    // An address that no other process's tests have, see the tests of strangers.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let front = SocketAddr::from((Ipv4Addr::new(127, 64 + high % 64, middle, low.max(1)), port));
    drop(TcpListener::bind(front).expect("an address of one's own has all ports"));
    let (ip, port) = (front.ip().to_string(), port.to_string());
    let filled = arguments.iter().map(|it| it.replace("IP", &ip).replace("PORT", &port).replace("BACK", back));
    let Ok(child) =
        Command::new(program).args(filled).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    else {
        skip(&format!("{program} is not installed"));
        return None;
    };
    let mut proxy = Ended(child);
    while TcpStream::connect(front).is_err() {
        assert!(matches!(proxy.0.try_wait(), Ok(None)), "{program} ended before it listened");
        std::thread::yield_now();
    }
    Some((proxy, front))
}

/// Measures through a proxy, and kills the server behind it in the middle of a run.
fn survives(program: &str, port: u16, arguments: &[String]) {
    let mut server = Ended(start("serve --listen 127.0.0.1:0 --shards 1"));
    let line = line_with(&mut lines(server.0.stdout.take()), "listening on ");
    let back = line.split(' ').nth(2).unwrap();
    let Some((_proxy, front)) = proxy(program, port, back, arguments) else { return };
    let (code, results) = measure(&format!("rr {front} -c 20 -d 300ms -s 10000 --connect-rate 200"));
    assert_eq!(code, Some(0), "{results:#}");

    let mut load = start(&format!("open {front} -c 20 -R 500 -d 1h --connect-rate 200 --json -"));
    line_with(&mut lines(load.stderr.take()), "open loop");
    signal(&server.0, "KILL");
    let mut stdout = String::new();
    load.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(load.wait().unwrap().code(), Some(1), "{stdout}");
    let results: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let open = stage(&results, "open");
    assert_eq!(results["ending"], "all connections lost", "{open:#}");
    assert_eq!(failures_total(open, "request_failures") + failures_total(open, "losses"), 20, "{open:#}");
    let ends = ["closed by the server", "reset", "truncated", "timed out"];
    let failures = [&open["request_failures"], &open["losses"]].into_iter().flat_map(|list| list.as_array().unwrap());
    for failure in failures {
        assert!(ends.contains(&failure["kind"].as_str().unwrap()), "no byte was wrong: {failure}");
    }
    assert!(is_conserved(&results), "{results:#}");
}

#[test]
fn socat() {
    let arguments = ["TCP-LISTEN:PORT,fork,reuseaddr,backlog=100,bind=IP", "TCP:BACK"];
    survives("socat", 20_001, &arguments.map(str::to_owned));
}

#[test]
fn haproxy() {
    let times = "timeout connect 5s\n timeout client 1m\n timeout server 1m\n";
    let text = format!("defaults\n mode tcp\n {times}listen echo\n bind \"${{FRONT}}\"\n server one \"${{BEHIND}}\"\n");
    let file = std::env::temp_dir().join(format!("loadgen-haproxy-{}.cfg", std::process::id()));
    std::fs::write(&file, text).unwrap();
    let name = file.display();
    let line = format!("FRONT=IP:PORT BEHIND=BACK exec haproxy -db -f {name}");
    let is_there = Command::new("haproxy").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if is_there.is_ok() {
        survives("sh", 20_002, &["-c".to_owned(), line]);
    } else {
        skip("haproxy is not installed");
    }
    std::fs::remove_file(&file).unwrap();
}
