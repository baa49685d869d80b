//! The chat in a real browser, headless, which is told what to do by its own protocol for developers.

mod support;
#[cfg(feature = "tls")]
#[path = "support/secure.rs"]
mod trust;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::{fs, process};

use support::{Program, connect, wait_until};
use tungstenite::{Message, WebSocket};

/// A browser without a window. It ends when this is dropped.
struct Browser {
    process: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Browser {
    /// `None`: there is none here.
    fn start(name: &str) -> Option<Browser> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", process::id()));
        let mut command = Command::new("chromium");
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        // Of a root that the test has made the browser knows nothing.
        command.arg("--ignore-certificate-errors");
        command.arg(format!("--user-data-dir={}", folder.display())).arg("about:blank");
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let mut browser = Browser { process, folder, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        // It says there where it listens.
        let file = browser.folder.join("DevToolsActivePort");
        wait_until("the browser listens", || {
            let said = fs::read_to_string(&file).unwrap_or_default();
            let port = said.lines().next().and_then(|port| port.parse().ok());
            port.is_some_and(|port| {
                browser.address.set_port(port);
                true
            })
        });
        Some(browser)
    }

    fn open(&self, url: &str) -> Page {
        let mut stream = connect(self.address);
        let request = format!("PUT /json/new?{url} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).unwrap();
        let (mut answer, mut buffer) = (String::new(), [0; 4096]);
        let path = loop {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "{answer}");
            answer += &String::from_utf8_lossy(&buffer[..count]);
            let behind = answer.split("/devtools/page/").last().unwrap_or_default();
            if let Some((id, _)) = behind.split_once('"').filter(|_| answer.contains("webSocketDebuggerUrl")) {
                break format!("/devtools/page/{id}");
            }
        };
        let url = format!("ws://{}{path}", self.address);
        Page { socket: tungstenite::client(url, connect(self.address)).unwrap().0, asked: 0 }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

struct Page {
    socket: WebSocket<TcpStream>,
    asked: u64,
}

impl Page {
    /// What a script without double quotes comes to, as text.
    fn run(&mut self, script: &str) -> String {
        self.asked += 1;
        let head = format!("{{\"id\":{},\"method\":\"Runtime.evaluate\",\"params\":", self.asked);
        self.socket.send(Message::text(format!("{head}{{\"expression\":\"{script}\"}}}}"))).unwrap();
        loop {
            let answer = self.socket.read().unwrap();
            let text = answer.to_text().unwrap_or_default();
            if text.starts_with(&format!("{{\"id\":{},", self.asked)) {
                return text.to_owned();
            }
        }
    }

    fn says(&mut self, text: &str) {
        wait_until("the page is connected", || self.run("state.textContent").contains("\"connected\""));
        self.run(&format!("said.value = '{text}'; form.requestSubmit()"));
    }

    fn hears(&mut self, text: &str) {
        wait_until(&format!("the page shows '{text}'"), || self.run("heard.innerText").contains(text));
    }
}

#[test]
fn pages_on_different_shards_talk_to_each_other() {
    let Some(browser) = Browser::start("plain") else {
        return eprintln!("skipped: chromium is not installed");
    };
    let program = Program::start("chat_web");
    chat(&browser, &format!("http://{}/", program.address));
}

#[cfg(feature = "tls")]
#[test]
fn pages_talk_to_each_other_through_tls() {
    let Some(browser) = Browser::start("secure") else {
        return eprintln!("skipped: chromium is not installed");
    };
    let pair = trust::Authority::new().vouch("localhost");
    let [chain, key] = [("chain", &pair.certificate), ("key", &pair.key)].map(|(name, pem)| {
        let path = browser.folder.join(name).display().to_string();
        fs::write(&path, pem).unwrap();
        path
    });
    let program = Program::start_with("chat_web", &["0", &chain, &key]);
    chat(&browser, &format!("https://{}/", program.address));
}

fn chat(browser: &Browser, url: &str) {
    let names = ["Ann", "Bob", "Cy", "Dee"];
    // Of four connections on two shards, all are on one only once in eight times; in any case each hears the others.
    let mut pages: Vec<Page> = Vec::new();
    for name in names {
        let mut page = browser.open(url);
        page.hears("* who are you?");
        page.says(name);
        page.hears(&format!("* welcome, {name}"));
        pages.iter_mut().for_each(|other| other.hears(&format!("* {name} is here")));
        pages.push(page);
    }
    for (index, name) in names.into_iter().enumerate() {
        let text = format!("<b>I am {name}</b>");
        pages[index].says(&text);
        pages.iter_mut().for_each(|page| page.hears(&format!("{name}: {text}")));
    }
    let bold = pages[0].run("document.querySelectorAll('b').length");
    assert!(bold.contains("\"value\":0"), "what others have written is no HTML: {bold}");
    // Who loses the connection makes another one.
    pages[3].run("socket.close()");
    let about_dee = "[...heard.children].map(it => it.innerText).filter(it => it.startsWith('* Dee')).join()";
    let gone_and_back = "* Dee is here,* Dee is gone,* Dee is here";
    wait_until(gone_and_back, || pages[0].run(about_dee).contains(gone_and_back));
}

#[test]
fn another_sites_page_is_refused_and_other_paths_are_not_found() {
    let program = Program::start("chat_web");
    let ask = |path: &str, more: &str| {
        let mut stream = connect(program.address);
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{more}\r\n", program.address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let own = format!("{upgrade}Origin: http://{}\r\n", program.address);
    assert_eq!([ask("/", ""), ask("/chat", ""), ask("/nothing", "")], ["200", "426", "426"]);
    assert_eq!([ask("/chat", upgrade), ask("/chat", &own), ask("/nothing", upgrade)], ["101", "101", "404"]);
    assert_eq!(ask("/chat", &format!("{upgrade}Origin: https://elsewhere.com\r\n")), "403");
}
