//! The example `proxy`, with servers behind it that people have.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use esockets::CloseReason;
use socket2::{Domain, Socket, Type};
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

/// A web server that is stopped when this is dropped, and its files.
struct Nginx {
    process: Child,
    folder: PathBuf,
    port: u16,
}

impl Nginx {
    /// With a file `big` of so many bytes. `None`, and that it was skipped, where it is not installed.
    fn start(big: &[u8]) -> Option<Nginx> {
        let folder = std::env::temp_dir().join(format!("esockets-proxy-nginx-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("big"), big).unwrap();
        fs::write(folder.join("small"), "Hello from behind!\n").unwrap();
        // Free now; nobody else asks for one by its number.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = folder.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String = temporary.iter().map(|name| format!("{name}_temp_path {at}/{name};\n")).collect();
        let config = format!(
            "daemon off; error_log stderr crit; pid {at}/pid; user root;\nevents {{}}\n\
             http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port}; root {at}; }} }}\n"
        );
        fs::write(folder.join("conf"), config).unwrap();
        let path = folder.join("conf").display().to_string();
        match Command::new("nginx").args(["-e", "stderr", "-c", &path]).stderr(Stdio::null()).spawn() {
            Ok(process) => {
                wait_until("nginx listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
                Some(Nginx { process, folder, port })
            }
            Err(error) => {
                let _ = fs::remove_dir_all(folder);
                println!("skipped: nginx is not there ({error})");
                None
            }
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it only if it is asked.
        let _ = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn curl_gets_from_nginx_what_it_would_get_without_a_proxy() {
    let big: Vec<u8> = (0..20 << 20).map(byte).collect();
    let Some(nginx) = Nginx::start(&big) else { return };
    let proxy = proxy(&format!("127.0.0.1:{}", nginx.port));
    let url = |path: &str| format!("http://{}/{path}", proxy.address);
    let curl = |words: &[&str]| Command::new("curl").args(["-sS", "--max-time", "60"]).args(words).output();
    let Ok(small) = curl(&["-v", &url("small"), &url("small")]) else {
        return println!("skipped: curl is not there");
    };
    let said = String::from_utf8_lossy(&small.stderr);
    assert_eq!(small.stdout, b"Hello from behind!\n".repeat(2), "{said}");
    assert!(said.contains("Re-using existing") || said.contains("Reusing existing"), "one connection: {said}");
    assert!(said.contains("Server: nginx"), "{said}");
    // As much as fits nowhere on the way, and slower than it could come for a part of it.
    for words in [&[][..], &["--limit-rate", "30M"], &["-H", "Connection: close"]] {
        let url = url("big");
        let got = curl(&[words, &[&url]].concat()).unwrap();
        assert!(got.stdout == big, "{words:?}: {} of {} bytes, {:?}", got.stdout.len(), big.len(), got.status);
    }
    // Several at a time, and an answer that is none.
    let (first, nowhere) = (url("big"), url("nowhere"));
    let several =
        curl(&["--parallel", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{size_download} ", &first, &first]);
    let several = String::from_utf8_lossy(&several.unwrap().stdout).into_owned();
    assert_eq!(several, format!("{0} {0} ", big.len()));
    let missing = curl(&["-o", "/dev/null", "-w", "%{http_code}", &nowhere]).unwrap();
    assert_eq!(missing.stdout, b"404");
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
fn who_does_not_read_is_not_sent_more_than_waits_and_has_it_all_in_the_end() {
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

/// Whether it is over, orderly or not.
fn ended(mut client: &TcpStream) -> bool {
    client.read(&mut [0; 1]).map_or(true, |count| count == 0)
}

#[test]
fn a_client_is_let_go_when_its_server_dies() {
    let (_proxy, client, behind) = pair();
    support::reset(behind);
    assert!(ended(&client));
}

/// A server whose queue is full, so that the kernel answers nobody who calls it, until what is given with it is accepted.
fn unanswering() -> (TcpListener, SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let listener = TcpListener::from(listener);
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if socket.connect_timeout(&address.into(), Duration::from_millis(300)).is_err() {
            return (listener, address, waiting);
        }
        waiting.push(socket);
    }
}

#[test]
fn a_client_whose_server_refuses_or_does_not_answer_is_reset_and_it_is_said_why() {
    let nobody: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_listener, silent, _waiting) = unanswering();
    let why = |reason: CloseReason| reason.to_string();
    for (target, why) in [(nobody, why(CloseReason::ConnectRefused)), (silent, why(CloseReason::ConnectTimedOut))] {
        let path = std::env::temp_dir().join(format!("esockets-proxy-{}-{}", std::process::id(), target.port()));
        let complaining = format!("exec 2>'{}'", path.display());
        let proxy = Program::start_after(&complaining, "proxy", &["127.0.0.1:0", &target.to_string()]);
        // The second one has said all that it has to say.
        let clients = [connect(proxy.address), connect(proxy.address)];
        (&clients[1]).write_all(b"question").unwrap();
        clients[1].shutdown(Shutdown::Write).unwrap();
        for client in &clients {
            support::expect_reset(client);
        }
        wait_until("it has been said", || {
            let said = fs::read_to_string(&path).unwrap();
            said.starts_with(&format!("calling {target}: {why}"))
        });
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn what_was_said_before_the_server_answered_and_the_end_of_it_are_passed_on() {
    let (listener, address, waiting) = unanswering();
    let proxy = proxy(&address.to_string());
    let mut client = connect(proxy.address);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    for _ in waiting {
        listener.accept().unwrap();
    }
    // The kernel tries again, after a second or three.
    let (mut behind, _) = listener.accept().unwrap();
    let mut question = String::new();
    behind.read_to_string(&mut question).unwrap();
    behind.write_all(b"answer").unwrap();
    drop(behind);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
}
