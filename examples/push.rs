//! Push: subscribers stay connected, and what a publisher says goes to all of them, whichever shard they are on.
//!
//! `cargo run --release --example push`, then `nc 127.0.0.1 1234` in some terminals, and in another one
//! `printf 'publish hello\n' | nc -N 127.0.0.1 1234`. Another port: `-- 4321`.
//!
//! A message is kept once, however many wait for it. Who does not keep up misses some, and is told how many; so nobody costs
//! more memory than `output_max`, and nobody holds up the others.
//!
//! More subscribers than `ulimit -n` allows to one table of descriptors: `-- 4321 1000000` gives each shard a table of its own,
//! and has as many shards as so many subscribers take. To try it: `examples/subscribers.py 1000000 4321`.

#[path = "support/tables.rs"]
mod tables;

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use esockets::{Builder, Client, Cores, Handler, Peer, Remote, Server, Shard, sys};

type News = Arc<[u8]>;

struct Desk {
    /// The way to all shards, this one included.
    remote: Remote<News>,
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
            if self.remote.send_to_all(&news) < self.remote.shards() && !client.send(b"* busy\n") {
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

/// A table of descriptors for each shard.
fn own_tables(builder: Builder) -> Builder {
    // SAFETY: a descriptor's number means something else on a shard's thread than elsewhere. The handler holds no descriptor
    // but this server's own `Remote`, which is allowed; its sessions and messages are numbers and bytes; it writes to none.
    unsafe { builder.private_fd_tables() }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().map_or(Ok(1234), |port| port.parse())?;
    let subscribers = arguments.next().map(|count| count.parse::<u64>()).transpose()?;
    // What this process may have without asking anybody.
    sys::set_descriptor_limit(sys::descriptor_limit()?.hard)?;
    let builder = Server::builder().port(port).tick(Some(Duration::from_secs(30))).input_max(16 << 10);
    let builder = match subscribers {
        // More shards than cores: the scheduler moves them.
        Some(count) => own_tables(builder.shards(tables::shards_for(count)?).cores(Cores::None)),
        None => builder,
    };
    let server = builder.start_with_remote(|_shard, remote| Desk { remote: remote.clone() })?;
    println!("listening on {}", server.local_addr());
    let mut pauses = 0;
    loop {
        // Whoever finds no descriptor waits in the kernel's queue, in silence: that is to be said, but not of everybody.
        thread::sleep(Duration::from_secs(10));
        let total = server.stats().total;
        if total.accept_pauses > pauses {
            let (open, limit) = (total.open(), sys::descriptor_limit()?.soft);
            eprintln!(
                "{open} are connected, and others wait because descriptors (or memory) ran out: a table holds {limit} \
                 (ulimit -n). Raise that, or say behind the port for how many subscribers there are to be tables."
            );
        }
        pauses = total.accept_pauses;
    }
}
