//! Push: subscribers stay connected, and what a publisher says goes to all of them, whichever shard they are on.
//!
//! `cargo run --release --example push`, then `nc 127.0.0.1 1234` in some terminals, and in another one
//! `printf 'publish hello\n' | nc -N 127.0.0.1 1234`. Another port: `-- 4321`.
//!
//! A message is kept once, however many wait for it. Who does not keep up misses some, and is told how many; so nobody costs
//! more memory than `output_max`, and nobody holds up the others.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use esockets::{Client, Handler, Peer, Remote, Server, Shard};

type News = Arc<[u8]>;

struct Desk {
    /// Known as soon as the server has started: a shard may have clients a moment earlier.
    remote: Arc<OnceLock<Remote<News>>>,
}

#[derive(Default)]
struct Subscriber {
    /// How many messages it has missed since the last that it got.
    missed: u32,
    /// Who has published is no subscriber: it would have to read its own news, or not be read from any more.
    publishes: bool,
}

/// Room for what a subscriber is told beside the news.
const NOTE_MAX: usize = 40;

impl Handler for Desk {
    type Session = Subscriber;
    type Message = News;

    fn handle_incoming(&mut self, _client: &mut Client<'_>, _address: &Peer) -> Option<Subscriber> {
        Some(Subscriber::default())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, subscriber: &mut Subscriber) -> bool {
        while let Some(length) = client.peek().iter().position(|&byte| byte == b'\n') {
            let line = &client.peek()[..=length];
            client.consume(length + 1);
            let Some(news) = line.strip_prefix(b"publish ") else { return false };
            let news = News::from(news);
            subscriber.publishes = true;
            // A shard that does not keep up does not get it; then the publisher may say it again later.
            let took = self.remote.get().map_or(0, |remote| remote.send_to_all(&news));
            if took < self.remote.get().map_or(1, Remote::shards) && !client.send(b"* busy\n") {
                return false;
            }
        }
        true
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, Subscriber>, news: News) {
        shard.each_client(|client, subscriber| {
            if subscriber.publishes {
                return true;
            }
            if client.output_room() < news.len() + NOTE_MAX {
                subscriber.missed += 1;
                return true;
            }
            let missed = std::mem::take(&mut subscriber.missed);
            (missed == 0 || client.send(format!("* {missed} missed\n").as_bytes())) && client.send_shared(&news)
        });
    }

    /// A sign of life, so that subscribers notice when this server is gone, and whatever lies between them and it does not
    /// take them for idle.
    fn handle_tick(&mut self, shard: &mut Shard<'_, Subscriber>) {
        shard.each_client(|client, subscriber| {
            subscriber.publishes || client.output_waiting() > 0 || client.send(b"*\n")
        });
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(1234), |port| port.parse())?;
    let remote = Arc::new(OnceLock::new());
    let known = Arc::clone(&remote);
    let builder = Server::builder().port(port).tick(Some(Duration::from_secs(30))).input_max(16 << 10);
    let server = builder.start(move |_shard| Desk { remote: Arc::clone(&remote) })?;
    known.get_or_init(|| server.remote());
    println!("listening on {}", server.local_addr());
    server.join()?;
    Ok(())
}
