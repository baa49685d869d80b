//! A chat: what one says, all hear, whichever shard they are on.
//!
//! `cargo run --release --example chat`, then `nc 127.0.0.1 1234` (or telnet) in two terminals. Another port: `-- 4321`.
//!
//! Shards share nothing: a line goes to each as a message, by the server's `Remote`, and each gives it to its own clients.
//! The line itself is shared, not copied, on its way between them and where it waits for slow readers.

use std::sync::Arc;

use esockets::{Builder, Client, ClientId, CloseReason, Handler, Peer, Remote, Server, Shard};

/// What everybody is to hear but the one who said it.
#[derive(Clone)]
struct Line {
    from: ClientId,
    text: Arc<[u8]>,
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

    fn handle_incoming(&mut self, client: &mut Client<'_>, _address: &Peer) -> Option<Guest> {
        client.send(b"* who are you?\r\n");
        Some(Guest::default())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, guest: &mut Guest) -> bool {
        while let Some(length) = client.peek().iter().position(|&byte| byte == b'\n') {
            let words = clean(&client.peek()[..length]);
            client.consume(length + 1);
            let is_heard = match (guest.name.is_empty(), words.is_empty()) {
                (_, true) => true,
                (true, false) => {
                    guest.name = words.into();
                    // From here on it hears the others; what was said before it will not.
                    client.send(format!("* welcome, {}\r\n", guest.name).as_bytes());
                    self.say(client.id(), format!("* {} is here\r\n", guest.name))
                }
                (false, false) => self.say(client.id(), format!("{}: {words}\r\n", guest.name)),
            };
            if !is_heard && !client.send(b"* not everybody has heard that: too much is being said\r\n") {
                return false;
            }
        }
        true
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, Guest>, line: Line) {
        // Who reads so slowly that `output_max` is reached is let go: the others do not wait for anybody.
        shard.each_client(|client, guest| {
            let hears = client.id() != line.from && !guest.name.is_empty();
            !hears || client.send_shared(&line.text)
        });
    }

    fn handle_closed(&mut self, guest: Guest, id: ClientId, _reason: CloseReason) {
        if !guest.name.is_empty() {
            self.say(id, format!("* {} is gone\r\n", guest.name));
        }
    }
}

impl Room {
    /// Whether all shards will hear it: a mailbox can be full.
    fn say(&self, from: ClientId, text: String) -> bool {
        let line = Line { from, text: text.into_bytes().into() };
        self.remote.send_to_all(&line) == self.remote.shards()
    }
}

/// A line as it can be shown on anybody's terminal.
fn clean(line: &[u8]) -> String {
    let shown = |it: &char| !it.is_control();
    String::from_utf8_lossy(line).chars().filter(shown).collect::<String>().trim().to_owned()
}

fn builder() -> Builder {
    Server::builder().input_max(1 << 10).output_max(64 << 10)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(1234), |port| port.parse())?;
    let server = builder().port(port).start_with_remote(|_shard, remote| Room { remote: remote.clone() })?;
    println!("listening on {}", server.local_addr());
    server.join()?;
    Ok(())
}
