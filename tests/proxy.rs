//! The example `proxy`, with servers behind it that people have.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use support::{Program, connect, connect_narrow, wait_until};

fn proxy(target: &str) -> Program {
    Program::start_with("proxy", &["127.0.0.1:0", target])
}

/// A server behind a proxy, and its end of a connection through it.
fn pair() -> (Program, TcpStream, TcpStream) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = proxy(&server.local_addr().unwrap().to_string());
    let client = connect_narrow(proxy.address);
    let (behind, _) = server.accept().unwrap();
    behind.set_read_timeout(Some(support::PATIENCE)).unwrap();
    (proxy, client, behind)
}

fn byte(at: usize) -> u8 {
    (at as u32).wrapping_mul(0x9E37_79B9).to_be_bytes()[0]
}

#[test]
fn redis_behind_its_unix_socket_is_reached_over_tcp() {
    let path = std::env::temp_dir().join(format!("esockets-proxy-{}.sock", std::process::id()));
    let name = path.display().to_string();
    let words = ["--port", "0", "--unixsocket", &name, "--save", "", "--appendonly", "no"];
    let server = Command::new("redis-server").args(words).stdout(Stdio::null()).spawn();
    let Ok(mut server) = server else { return println!("skipped: redis-server is not there") };
    wait_until("redis listens", || path.exists());
    let proxy = proxy(&format!("unix:{name}"));
    let port = proxy.port();
    let say = |words: &[&str]| Command::new("redis-cli").args(["-p", &port]).args(words).output();
    let (value, set) = ("v".repeat(100_000), say(&["PING"]));
    if let Ok(pong) = set {
        assert_eq!(pong.stdout, b"PONG\n", "{pong:?}");
        assert_eq!(say(&["SET", "k", &value]).unwrap().stdout, b"OK\n");
        assert_eq!(say(&["GET", "k"]).unwrap().stdout, format!("{value}\n").as_bytes());
    } else {
        println!("skipped: redis-cli is not there");
    }
    server.kill().unwrap();
    server.wait().unwrap();
    let _ = fs::remove_file(path);
}

#[test]
fn who_finishes_on_either_side_still_hears_the_other() {
    let (_proxy, mut client, mut behind) = pair();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut question = String::new();
    behind.read_to_string(&mut question).unwrap();
    behind.write_all(b"answer").unwrap();
    behind.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
    // And from the other side.
    let (_proxy, mut client, mut behind) = pair();
    behind.write_all(b"greeting").unwrap();
    behind.shutdown(Shutdown::Write).unwrap();
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).unwrap();
    client.write_all(b"thanks").unwrap();
    drop(client);
    let mut thanks = String::new();
    behind.read_to_string(&mut thanks).unwrap();
    assert_eq!((greeting.as_str(), thanks.as_str()), ("greeting", "thanks"));
}

#[test]
fn who_does_not_read_is_not_sent_more_than_waits_for_him_and_has_it_all_in_the_end() {
    const LEN: usize = 256 << 20;
    let (_proxy, mut client, mut behind) = pair();
    // From the server, which the client does not read: it gets stuck, long before all is in the proxy's memory.
    behind.set_nonblocking(true).unwrap();
    let (mut sent, mut vain) = (0, 0);
    let piece = |from: usize| (from..LEN.min(from + (64 << 10))).map(byte).collect::<Vec<u8>>();
    while vain < 300 && sent < LEN {
        match behind.write(&piece(sent)) {
            Ok(count) => (sent, vain) = (sent + count, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                vain += 1;
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("sending: {error}"),
        }
    }
    assert!(sent < 64 << 20, "{sent} bytes were taken from the server for a client that does not read");
    let all = sent;
    behind.shutdown(Shutdown::Write).unwrap();
    let (mut buffer, mut read) = (vec![0; 64 << 10], 0);
    loop {
        let count = client.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        let slipped = buffer[..count].iter().zip(read..).find(|&(&found, at)| found != byte(at));
        assert!(slipped.is_none(), "{slipped:?}");
        read += count;
    }
    assert_eq!(read, all);
}

#[test]
fn a_client_is_let_go_when_nobody_is_behind_the_proxy_or_its_server_dies() {
    let nobody: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = proxy(&nobody.to_string());
    let ended = |mut client: &TcpStream| client.read(&mut [0; 1]).map_or(true, |count| count == 0);
    assert!(ended(&connect(proxy.address)));
    let (_proxy, client, behind) = pair();
    support::reset(behind);
    assert!(ended(&client));
}
