//! Any protocol of requests and replies is measured by what is sent and what has to come back: real servers where they are
//! installed, and one of our own that answers wrongly.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use support::{Server, failures, failures_total, is_conserved, loadgen, measure, skip, stage};

/// A server of another program, ended when dropped.
struct Foreign(Child);

impl Drop for Foreign {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `program` on the free `port`, which stands in its arguments; `None` where it is not installed.
fn start(program: &str, port: u16, arguments: &str) -> Option<(Foreign, SocketAddr)> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let arguments = arguments.replace("PORT", &port.to_string());
    let child = Command::new(program).args(arguments.split(' ')).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(child) = child else {
        skip(&format!("{program} is not installed"));
        return None;
    };
    let mut foreign = Foreign(child);
    while TcpStream::connect(address).is_err() {
        assert!(matches!(foreign.0.try_wait(), Ok(None)), "{program} ended before it listened");
        std::thread::yield_now();
    }
    Some((foreign, address))
}

/// A port that is free, below those that the kernel gives to whoever connects; another one for each `index`.
fn free_port(index: u16) -> u16 {
    let first = 12_000 + (std::process::id() % 500) as u16 * 15 + index * 5;
    (first..).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port is free")
}

fn is_measured(line: &str) {
    let (code, results) = measure(line);
    assert_eq!(code, Some(0), "{results:#}");
    assert!(is_conserved(&results) && results["plan"]["protocol"] != "echo");
}

#[test]
fn redis() {
    let arguments = "--port PORT --bind 127.0.0.1 --save --daemonize no";
    if let Some((_server, address)) = start("redis-server", free_port(0), arguments) {
        is_measured(&format!("rr {address} -c 8 -d 200ms --send PING\\r\\n --expect +PONG\\r\\n"));
        is_measured(&format!("rr {address} -c 8 -d 200ms --send PING\\r\\n --expect +PONG\\r\\n --pipeline 16"));
        is_measured(&format!("open {address} -c 8 -R 500 -d 200ms --send PING\\r\\n --expect +PONG\\r\\n"));
        is_measured(&format!("churn {address} -c 8 -d 200ms --send PING\\r\\n --expect +PONG\\r\\n"));
        is_measured(&format!("hold {address} -c 8 -d 50ms --send PING\\r\\n --expect +PONG\\r\\n"));
        let outcome = loadgen(&format!("rr {address} -c 2 -d 100ms --send PING\\r\\n --expect +PONK\\r\\n"));
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.says("2 × reply: unexpected reply"), "{}", outcome.stdout);
        assert!(outcome.says(r#"first bytes received: "+PONG\r\n""#), "{}", outcome.stdout);
    }
}

#[test]
fn memcached() {
    if let Some((_server, address)) = start("memcached", free_port(1), "-u nobody -l 127.0.0.1 -p PORT -U 0") {
        is_measured(&format!("rr {address} -c 8 -d 200ms --send version\\r\\n --expect VERSION\\x20*\\r\\n"));
    }
}

#[test]
fn nginx() {
    let port = free_port(2);
    let folder = std::env::temp_dir().join(format!("loadgen-nginx-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("page.txt"), "hello").unwrap();
    let config = folder.join("nginx.conf");
    let root = folder.display();
    let text = format!(
        "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log; events {{ }} http {{ access_log off; \
         keepalive_requests 50; client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c; \
         uwsgi_temp_path {root}/d; scgi_temp_path {root}/e; server {{ listen 127.0.0.1:{port}; root {root}; }} }}"
    );
    std::fs::write(&config, text).unwrap();
    if let Some((_server, address)) = start("nginx", port, &format!("-e stderr -c {}", config.display())) {
        is_measured(&format!("rr http://{address}/page.txt -c 8 -d 300ms"));
        // It closes behind every fiftieth response: what it leaves unanswered is sent again.
        is_measured(&format!("rr http://{address}/page.txt -c 8 -d 300ms --pipeline 16"));
        for close in ["reset", "fin", "server"] {
            is_measured(&format!("churn http://{address}/page.txt -c 8 -d 300ms --close {close}"));
        }
        let line = format!("rr http://{address}/none -c 2 -d 100ms");
        let said = loadgen(&line).stdout;
        assert!(said.contains("no reply was what it has to be") && !said.contains("nothing was answered"), "{said}");
        let (code, results) = measure(&line);
        assert_eq!(code, Some(1));
        let closed = stage(&results, "closed");
        assert_eq!(Some(failures(closed, "request_failures", "HTTP status 404")), closed["requests_due"].as_u64());
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_reply_in_pieces_is_whole_with_the_last_and_one_too_many_is_told() {
    let server = Server::start(|connection, mut stream| {
        while stream.read_exact(&mut [0; 3]).is_ok() {
            let (first, second) = if connection == 1 { ("+O", "K\n+") } else { ("+O", "K\n") };
            if stream.write_all(first.as_bytes()).is_err() || stream.write_all(second.as_bytes()).is_err() {
                return;
            }
        }
    });
    let (code, results) = measure(&format!("rr {} -c 3 -d 200ms --send abc --expect +OK\\n", server.address));
    assert_eq!(code, Some(1), "{results:#}");
    assert_eq!(failures(stage(&results, "closed"), "request_failures", "surplus bytes"), 1);
    assert_eq!(failures_total(stage(&results, "closed"), "request_failures"), 1);
    assert!(is_conserved(&results));
}

#[test]
fn the_bytes_of_a_wrong_reply_came_back_too() {
    let server = Server::start(
        |_, mut stream| {
            while stream.read_exact(&mut [0; 3]).is_ok() && stream.write_all(b"NO\n").is_ok() {}
        },
    );
    let (code, results) = measure(&format!("rr {} -c 3 -d 200ms --send abc --expect +OK\\n", server.address));
    let closed = stage(&results, "closed");
    assert_eq!((code, failures(closed, "request_failures", "unexpected reply")), (Some(1), 3), "{closed:#}");
    assert_eq!(closed["bytes_received"], 9, "{closed:#}");
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    for wrong in ["--send a", "--expect a", "--send a --expect b*", "--send \\q --expect a", "--send a --expect b -s 5"]
    {
        assert_eq!(loadgen(&format!("rr 127.0.0.1:1 {wrong}")).code, Some(2), "{wrong}");
    }
    assert_eq!(loadgen("rr http://127.0.0.1:1/ 127.0.0.1:2").code, Some(2), "two kinds at once");
    assert_eq!(loadgen("rr http://127.0.0.1:1/ --send a --expect b").code, Some(2));
}
