//! An echo server of WebSockets: what is sent comes back, texts as texts and bytes as bytes, compressed for who offers it.
//!
//! `cargo run --release --features websocket --example websocket`, then in a browser's console:
//! `s = new WebSocket('ws://127.0.0.1:1234'); s.onmessage = m => console.log(m.data); s.onopen = () => s.send('hello')`.
//! Another port: `-- 4321`.
//!
//! More clients than `ulimit -n` allows to one table of descriptors: `-- 4321 1000000` gives each shard a table of its own.
//!
//! Its limits are those that the Autobahn suite asks for: messages of 16 MiB, some in 65,536 fragments.

#[path = "support/tables.rs"]
mod tables;

use esockets::websocket::{Answer, Client, Handler, Request, WebSockets};
use esockets::{Builder, Cores, Peer, Server};

const MESSAGE_MAX: usize = 16 << 20;

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

/// A table of descriptors for each shard.
fn own_tables(builder: Builder) -> Builder {
    // SAFETY: a descriptor's number means something else on a shard's thread than elsewhere. The handler holds none, and writes
    // to none.
    unsafe { builder.private_fd_tables() }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().map_or(Ok(1234), |port| port.parse())?;
    let clients = arguments.next().map(|count| count.parse()).transpose()?;
    let builder = Server::builder().port(port).output_max(2 * MESSAGE_MAX);
    let builder = match clients {
        // More shards than cores: the scheduler moves them.
        Some(count) => own_tables(builder.shards(tables::shards_for(count)?).cores(Cores::None)),
        None => builder,
    };
    let server =
        builder.start(|_| WebSockets::new(Echo).message_max(MESSAGE_MAX).fragments_max(1 << 17).deflate(Some(256)))?;
    println!("listening on {}", server.local_addr());
    server.join()?;
    Ok(())
}
