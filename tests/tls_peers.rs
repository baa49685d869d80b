//! Connections through TLS, with clients that others have written: openssl, curl, and WebSockets through tungstenite.

mod support;
#[path = "support/secure.rs"]
mod trust;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Program, Script, builder, wait_until};
use trust::{Authority, Pair};

/// A folder with a root, and a chain and a key that it vouches for. It goes when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, authority: &Authority) -> Folder {
        let folder = Folder(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id())));
        fs::create_dir_all(&folder.0).unwrap();
        fs::write(folder.0.join("root.pem"), &authority.root.certificate).unwrap();
        folder.write(&authority.vouch("localhost"));
        folder
    }

    fn write(&self, Pair { certificate, key }: &Pair) {
        fs::write(self.0.join("chain.pem"), certificate).unwrap();
        fs::write(self.0.join("key.pem"), key).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether a tool is there; that it is not is said.
fn is_there(tool: &str) -> bool {
    let there = Command::new(tool).arg("version").output().is_ok();
    if !there {
        eprintln!("skipped: {tool} is not installed");
    }
    there
}

#[test]
fn openssl_is_answered_by_the_example_in_both_versions_and_after_its_certificates_are_renewed() {
    if !is_there("openssl") {
        return;
    }
    let authority = Authority::new();
    let folder = Folder::new("openssl", &authority);
    let (chain, key) = (folder.path("chain.pem"), folder.path("key.pem"));
    let program = Program::start_with("tls", &["0", &chain, &key]);
    let ask = |version: &str| {
        let mut client = Command::new("openssl");
        let address = format!("127.0.0.1:{}", program.port());
        client.args(["s_client", "-quiet", "-verify_return_error", "-servername", "localhost", version]);
        client.args(["-connect", &address, "-CAfile", &folder.path("root.pem")]);
        let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut question = client.stdin.take().unwrap();
        question.write_all(b"is anybody there?\n").unwrap();
        let mut answer = String::new();
        BufReader::new(client.stdout.take().unwrap()).read_line(&mut answer).unwrap();
        drop(question);
        client.kill().unwrap();
        client.wait().unwrap();
        answer
    };
    for version in ["-tls1_2", "-tls1_3"] {
        assert_eq!(ask(version), "is anybody there?\n", "{version}");
    }
    // Another root vouches for it now, whom this client does not know.
    folder.write(&Authority::new().vouch("localhost"));
    let told = Command::new("kill").args(["-HUP", &program.id().to_string()]).status().unwrap();
    assert!(told.success());
    wait_until("the new certificates are shown", || ask("-tls1_3").is_empty());
}

#[test]
fn curl_is_content_and_tells_a_stranger() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: curl is not installed");
        return;
    }
    let authority = Authority::new();
    let folder = Folder::new("curl", &authority);
    let script = Script::echo().readable(|client| {
        if client.peek().ends_with(b"\r\n\r\n") {
            client.recv();
            assert_eq!(client.tls().unwrap().alpn.as_deref(), Some(&b"http/1.1"[..]));
            let body = "x".repeat(100_000);
            client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        }
        true
    });
    let server = script.start(builder().tls(&authority.tls().alpn(&["http/1.1"])));
    let get = |root: &str| {
        let url = format!("https://localhost:{0}/ https://localhost:{0}/again", server.local_addr().port());
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--ipv4", "--max-time", "30", "--cacert", root]);
        curl.args(url.split(' ')).output().unwrap()
    };
    let got = get(&folder.path("root.pem"));
    assert!(got.status.success(), "{got:?}");
    assert_eq!(got.stdout, "x".repeat(200_000).as_bytes());
    assert_eq!(server.stats().total.accepted, 1, "the second comes over the same connection");
    let stranger = Folder::new("stranger", &Authority::new());
    assert_eq!(get(&stranger.path("root.pem")).status.code(), Some(60), "curl does not know who vouches");
    script.log.stop_and_check(server);
}

#[cfg(feature = "websocket")]
mod websocket {
    use super::*;
    use crate::trust::secure;
    use esockets::tls::rustls::version::TLS13;
    use esockets::websocket::{Answer, Client, Handler, Request, WebSockets};
    use esockets::{Peer, Server};
    use std::sync::Arc;
    use tungstenite::Message;

    struct Echo;

    impl Handler for Echo {
        type Session = ();
        type Message = ();

        fn handle_open(&mut self, _request: &Request<'_>, _address: &Peer) -> Answer<()> {
            Answer::accept(())
        }

        fn handle_text(&mut self, client: &mut Client<'_, '_>, (): &mut (), text: &str) -> bool {
            client.send_text(text)
        }

        fn handle_binary(&mut self, client: &mut Client<'_, '_>, (): &mut (), bytes: &[u8]) -> bool {
            client.send_binary(bytes)
        }
    }

    #[test]
    fn websockets_through_tls_are_the_same() {
        let authority = Authority::new();
        let server: Server = builder().tls(&authority.tls()).start(|_| WebSockets::new(Echo)).unwrap();
        let client = Arc::new(authority.client(&[&TLS13], None));
        let stream = secure(&client, server.local_addr());
        let (mut socket, _) = tungstenite::client("wss://localhost/", stream).unwrap();
        for size in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
            let message = Message::binary(support::bytes(size as u64, 0, size));
            socket.send(message.clone()).unwrap();
            assert!(socket.read().unwrap() == message, "{size} bytes");
        }
        socket.close(None).unwrap();
        assert!(matches!(socket.read(), Ok(Message::Close(_))));
        server.stop();
    }
}
