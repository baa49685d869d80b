//! A chat in the browser: what one says, all hear, whichever shard they are on. The server of the WebSockets serves the page, too.
//!
//! `cargo run --release --features websocket --example chat_web`, then <http://127.0.0.1:8080/> in two windows. Another port:
//! `-- 4321`.
//!
//! Through TLS, with the feature `tls`: `-- 8443 chain.pem key.pem`, see the example `tls` for how to make these; then
//! <https://localhost:8443/>.
//!
//! A message is encoded once for all who get it, and is shared on its way to the shards and where it waits for slow readers.

use esockets::websocket::{Answer, Client, Frame, Handler, Page, Request, Shard, WebSockets};
use esockets::{Builder, ClientId, CloseReason, Peer, Remote, Server};

const PAGE: &str = include_str!("chat_web.html");

/// What everybody is to hear but the one who said it.
#[derive(Clone)]
struct Line {
    from: ClientId,
    frame: Frame,
}

struct Room {
    /// The way to all shards, this one included.
    remote: Remote<Line>,
}

/// Who somebody is; empty until it was said.
#[derive(Default)]
struct Guest {
    name: Box<str>,
}

impl Handler for Room {
    type Session = Guest;
    type Message = Line;

    fn handle_page(&mut self, request: &Request<'_>, _address: &Peer) -> Option<Page> {
        (request.path() == "/").then(|| Page::html(PAGE))
    }

    fn handle_open(&mut self, request: &Request<'_>, _address: &Peer) -> Answer<Guest> {
        // Another site's page could speak in the name of whoever looks at it. What is no browser tells no origin.
        let site = |origin: &str| origin.split_once("://").is_some_and(|(_, host)| host == request.host());
        match (request.path(), request.origin().is_none_or(site)) {
            ("/chat", true) => Answer::accept(Guest::default()),
            ("/chat", false) => Answer::refuse(403),
            _ => Answer::refuse(404),
        }
    }

    fn handle_opened(&mut self, client: &mut Client<'_, '_>, _guest: &mut Guest) -> bool {
        client.send_text("* who are you?")
    }

    fn handle_text(&mut self, client: &mut Client<'_, '_>, guest: &mut Guest, text: &str) -> bool {
        let words = clean(text);
        let is_heard = match (guest.name.is_empty(), words.is_empty()) {
            (_, true) => true,
            (true, false) => {
                guest.name = words.into();
                client.send_text(&format!("* welcome, {}", guest.name));
                self.say(client.id(), &format!("* {} is here", guest.name))
            }
            (false, false) => self.say(client.id(), &format!("{}: {words}", guest.name)),
        };
        is_heard || client.send_text("* not everybody has heard that: too much is being said")
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, '_, Guest>, line: Line) {
        // Who reads so slowly that `output_max` is reached is let go: the others do not wait for anybody.
        shard.each_client(|client, guest| {
            let hears = client.id() != line.from && !guest.name.is_empty();
            !hears || client.send_frame(&line.frame)
        });
    }

    fn handle_closed(&mut self, guest: Guest, id: ClientId, _reason: CloseReason) {
        if !guest.name.is_empty() {
            self.say(id, &format!("* {} is gone", guest.name));
        }
    }
}

impl Room {
    /// Whether all shards will hear it: a mailbox can be full.
    fn say(&self, from: ClientId, text: &str) -> bool {
        let line = Line { from, frame: Frame::text(text) };
        self.remote.send_to_all(&line) == self.remote.shards()
    }
}

/// A line as it can be shown anywhere.
fn clean(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).collect::<String>().trim().to_owned()
}

fn builder() -> Builder {
    Server::builder().output_max(64 << 10)
}

#[cfg(feature = "tls")]
fn secure(builder: Builder, chain: &str, key: &str) -> Result<Builder, Box<dyn std::error::Error>> {
    let tls = esockets::tls::Tls::from_pem_files(chain, key)?.alpn(&["http/1.1"]);
    Ok(builder.tls(&tls))
}

#[cfg(not(feature = "tls"))]
fn secure(_builder: Builder, _chain: &str, _key: &str) -> Result<Builder, Box<dyn std::error::Error>> {
    Err("built without the feature `tls`".into())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let builder = match words.as_slice() {
        [] => builder().port(8080),
        [port] => builder().port(port.parse()?),
        [port, chain, key] => secure(builder().port(port.parse()?), chain, key)?,
        _ => return Err("usage: chat_web [PORT [CHAIN.pem KEY.pem]]".into()),
    };
    let room = |remote: &Remote<Line>| Room { remote: remote.clone() };
    // Nobody has more to say at once than a few lines.
    let make = move |remote: &Remote<Line>| WebSockets::new(room(remote)).message_max(2 << 10).deflate(Some(256));
    let server = builder.start_with_remote(move |_shard, remote| make(remote))?;
    println!("listening on {}", server.local_addr());
    server.join()?;
    Ok(())
}
