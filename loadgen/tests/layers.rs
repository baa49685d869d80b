//! WebSockets and TLS, with servers that others have written, and with some that do what they must not.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, process};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use support::{Server, failures, is_conserved, loadgen, measure, stage};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::{Message, WebSocket};

/// Answers each message, the number of which is told, with what `answer` does.
fn converse<S: Read + Write>(stream: S, mut answer: impl FnMut(&mut WebSocket<S>, u64, Message) -> bool) {
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    let mut number = 0;
    while let Ok(message) = socket.read() {
        if message.is_text() || message.is_binary() {
            number += 1;
            if !answer(&mut socket, number, message) {
                return;
            }
        }
    }
}

fn echo<S: Read + Write>(stream: S) {
    converse(stream, |socket, _, message| socket.send(message).is_ok());
}

fn websocket(answer: fn(&mut WebSocket<TcpStream>, u64, Message) -> bool) -> (Server, String) {
    let server = Server::start(move |_, stream| converse(stream, answer));
    let target = format!("ws://{}/", server.address);
    (server, target)
}

/// A server's side of TLS, and the file of the root that vouches for it, which goes when this is dropped.
struct Identity {
    config: Arc<ServerConfig>,
    root: PathBuf,
}

impl Identity {
    fn new(name: &str) -> Identity {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = builder.with_single_cert(vec![cert.der().clone()], key).unwrap();
        let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.pem", process::id()));
        fs::write(&root, cert.pem()).unwrap();
        Identity { config: Arc::new(config), root }
    }

    /// A server that serves each connection with `serve`, through TLS.
    fn start(&self, serve: fn(StreamOwned<ServerConnection, TcpStream>)) -> Server {
        let config = Arc::clone(&self.config);
        Server::start(move |_, stream| {
            serve(StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream));
        })
    }

    fn root(&self) -> String {
        self.root.display().to_string()
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.root);
    }
}

/// Sends back whatever comes.
fn echo_bytes(mut stream: StreamOwned<ServerConnection, TcpStream>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(len @ 1..) if stream.write_all(&buffer[..len]).is_ok() => {}
            _ => return,
        }
    }
}

#[test]
fn every_command_speaks_websocket() {
    let (_server, target) = websocket(|socket, _, message| socket.send(message).is_ok());
    for (command, name) in [
        ("rr -c 10 -d 300ms", "closed"),
        ("rr -c 3 -d 300ms --pipeline 16", "closed"),
        ("rr -c 3 -d 300ms -s 125", "closed"),
        ("rr -c 3 -d 300ms -s 70000", "closed"),
        ("rr -c 3 -d 300ms --send hello --expect hello", "closed"),
        ("open -c 10 -R 500 -d 300ms", "open"),
        ("churn -c 4 -d 300ms", "churn"),
        ("hold -c 10 -d 300ms --heartbeat 100ms", "hold"),
    ] {
        let (words, rest) = command.split_once(' ').unwrap();
        let (code, results) = measure(&format!("{words} {target} {rest}"));
        assert_eq!(code, Some(0), "{command}: {results:#}");
        assert!(stage(&results, name)["requests_answered"].as_u64() > Some(0), "{command}: {results:#}");
        assert!(is_conserved(&results), "{command}");
    }
    let search = loadgen(&format!("search {target} -c 5 -d 200ms --slo p50<1s --from 100 --to 200 -q"));
    assert!(matches!(search.code, Some(0 | 4)), "{}{}", search.stdout, search.stderr);
}

#[test]
fn fragments_and_pings_between_them_are_no_fault() {
    let (_server, target) = websocket(|socket, number, message| {
        let data = message.into_data();
        let (head, tail) = data.split_at(data.len() / 3);
        let ping = vec![number as u8; 5];
        let first = Frame::message(head.to_vec(), OpCode::Data(Data::Binary), false);
        let last = Frame::message(tail.to_vec(), OpCode::Data(Data::Continue), true);
        let sent = socket.send(Message::Frame(first)).is_ok()
            && socket.send(Message::Ping(ping.clone().into())).is_ok()
            && socket.send(Message::Frame(last)).is_ok();
        // The pong comes before the next message.
        sent && matches!(socket.read(), Ok(Message::Pong(pong)) if pong == ping)
    });
    let (code, results) = measure(&format!("rr {target} -c 5 -d 300ms -s 100"));
    assert_eq!(code, Some(0), "{results:#}");
    assert!(stage(&results, "closed")["requests_answered"].as_u64() > Some(5));
}

#[test]
fn what_a_websocket_server_does_wrong_is_counted_as_what_it_is() {
    type Answer = fn(&mut WebSocket<TcpStream>, u64, Message) -> bool;
    let closes: Answer = |socket, number, message| match number {
        1..5 => socket.send(message).is_ok(),
        _ => {
            let _ = socket.close(Some(CloseFrame { code: CloseCode::Again, reason: "later".into() }));
            let _ = socket.flush();
            // Until it is heard.
            let _ = socket.read();
            false
        }
    };
    let corrupts: Answer = |socket, number, message| {
        let mut data = message.into_data().to_vec();
        data[17] ^= u8::from(number == 5);
        socket.send(Message::binary(data)).is_ok()
    };
    let masks: Answer = |socket, number, message| {
        if number < 5 {
            return socket.send(message).is_ok();
        }
        // What a server may not do (RFC 6455, 5.1).
        socket.get_mut().write_all(&[0x82, 0x84, 0, 0, 0, 0, 1, 2, 3, 4]).is_ok()
    };
    let ends: Answer = |socket, number, message| number < 5 && socket.send(message).is_ok();
    let cases = [
        (closes, "WebSocket close 1013"),
        (corrupts, "corrupted"),
        (masks, "no WebSocket frame"),
        (ends, "closed by the server"),
    ];
    for (answer, kind) in cases {
        let (_server, target) = websocket(answer);
        let (code, results) = measure(&format!("rr {target} -c 3 -d 5s"));
        assert_eq!(code, Some(1), "{kind}: {results:#}");
        let closed = stage(&results, "closed");
        assert_eq!(failures(closed, "request_failures", kind), 3, "{kind}: {closed:#}");
        assert_eq!(closed["requests_answered"], 12, "{kind}");
        assert!(is_conserved(&results), "{kind}");
    }
}

#[test]
fn who_does_not_agree_to_speak_websocket_is_told_apart() {
    let answers: [(&str, &str, &str); 4] = [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "HTTP status 403", "is it the right path?"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            "no WebSocket handshake",
            "not to the key",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", "no HTTP response", "but not in HTTP"),
        ("", "closed by the server", "closed them before"),
    ];
    for (answer, kind, wanted) in answers {
        let server = Server::start(move |_, mut stream| {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    return;
                }
                request.push(byte[0]);
            }
            assert!(String::from_utf8(request).unwrap().starts_with("GET /chat?a=b HTTP/1.1\r\nHost: 127.0.0.1:"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let outcome = loadgen(&format!("rr ws://{}/chat?a=b -c 2 -d 1s --json -", server.address));
        assert_eq!(outcome.code, Some(1), "{kind}");
        assert_eq!(failures(stage(&outcome.json(), "connect"), "connect_failures", kind), 2, "{}", outcome.stdout);
        let told = loadgen(&format!("rr ws://{}/chat?a=b -c 2 -d 1s", server.address));
        assert!(told.says(wanted), "{kind}: {}", told.stdout);
    }
}

#[test]
fn bytes_and_websockets_go_through_tls() {
    let identity = Identity::new("through");
    let (bytes, sockets) = (identity.start(echo_bytes), identity.start(echo));
    for command in [
        format!("rr tls://{} -c 5 -d 300ms", bytes.address),
        format!("rr tls://{} -c 2 -d 300ms -s 300k", bytes.address),
        format!("rr tls://{} -c 3 -d 300ms --pipeline 8", bytes.address),
        format!("open tls://{} -c 5 -R 300 -d 300ms", bytes.address),
        format!("churn tls://{} -c 3 -d 300ms", bytes.address),
        format!("hold tls://{} -c 5 -d 300ms --heartbeat 100ms", bytes.address),
        format!("rr wss://{}/ -c 5 -d 300ms", sockets.address),
        format!("rr wss://{}/ -c 3 -d 300ms --pipeline 8 -s 20000", sockets.address),
    ] {
        let (code, results) = measure(&format!("{command} --cacert {}", identity.root()));
        assert_eq!(code, Some(0), "{command}: {results:#}");
        assert!(is_conserved(&results), "{command}");
    }
    let (code, _) = measure(&format!("rr tls://{} -c 2 -d 100ms -k", bytes.address));
    assert_eq!(code, Some(0), "nobody vouches for it, and nobody is asked");
}

#[test]
fn responses_of_http_through_tls_are_verified_as_without() {
    let identity = Identity::new("https");
    let server = identity.start(|mut stream| {
        let (mut request, mut byte) = (Vec::new(), [0]);
        while matches!(stream.read(&mut byte), Ok(1)) {
            request.push(byte[0]);
            if request.ends_with(b"\r\n\r\n") {
                request.clear();
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").is_err() {
                    return;
                }
            }
        }
    });
    let (code, results) =
        measure(&format!("rr https://{}/ -c 4 -d 300ms --cacert {}", server.address, identity.root()));
    assert_eq!(code, Some(0), "{results:#}");
    assert_eq!(stage(&results, "closed")["body_bytes_by_target"][0]["bytes"], 5, "{results:#}");
}

#[test]
fn whom_nobody_vouches_for_is_not_believed_and_what_to_do_is_said() {
    let (identity, other) = (Identity::new("believed"), Identity::new("other"));
    let server = identity.start(echo_bytes);
    let told = loadgen(&format!("rr tls://{} -c 2 -d 1s --cacert {}", server.address, other.root()));
    assert_eq!(told.code, Some(1), "{}", told.stdout);
    assert!(
        told.says("TLS failed") && told.says("invalid peer certificate") && told.says("--insecure"),
        "{}",
        told.stdout
    );
    let plain = Server::good();
    let told = loadgen(&format!("rr tls://{} -c 2 -d 1s -k --timeout 2s", plain.address));
    assert_eq!(told.code, Some(1));
    assert!(told.says("Is it TLS that is spoken there"), "{}", told.stdout);
    for (line, wanted) in [
        (format!("rr {} -k", plain.address), "--insecure is for targets that speak TLS"),
        (format!("rr tls://{} --cacert /nowhere.pem", plain.address), "/nowhere.pem"),
        (
            format!("rr tls://{} --cacert {}/Cargo.toml", plain.address, env!("CARGO_MANIFEST_DIR")),
            "no certificate in it",
        ),
        (format!("rr ws://{0}/ {0}", plain.address), "measure one kind"),
        (format!("churn ws://{}/ --close server", plain.address), "--close server is for HTTP"),
    ] {
        let refused = loadgen(&line);
        assert_eq!(refused.code, Some(2), "{line}: {}{}", refused.stdout, refused.stderr);
        assert!(support::joined(&refused.stderr).contains(wanted), "{line}: {}", refused.stderr);
    }
}

#[test]
fn a_server_that_breaks_tls_is_found_out() {
    let identity = Identity::new("breaks");
    let server = identity.start(|mut stream| {
        let mut message = [0; 64];
        for _ in 0..4 {
            if stream.read_exact(&mut message).and_then(|()| stream.write_all(&message)).is_err() {
                return;
            }
        }
        let _ = stream.read_exact(&mut message);
        let _ = stream
            .sock
            .write_all(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
        while matches!(stream.sock.read(&mut message), Ok(1..)) {}
    });
    let (code, results) = measure(&format!("rr tls://{} -c 2 -d 5s -k", server.address));
    assert_eq!(code, Some(1));
    let closed = stage(&results, "closed");
    assert_eq!((failures(closed, "request_failures", "TLS failed"), &closed["requests_answered"]), (2, &8.into()));
}
