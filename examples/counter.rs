//! Counts: state for each connection and each shard without a lock, statistics, and an orderly stop on Ctrl-C.
//!
//! `cargo run --release --example counter`, then `nc 127.0.0.1 1234` a few times. Another port: `-- 4321`.

use esockets::{Client, ClientId, CloseReason, Handler, Peer, Server};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// One for each shard, made on its thread and never shared: a plain number is enough.
struct Counter {
    shard: usize,
    messages: u64,
}

impl Handler for Counter {
    /// Messages of this connection.
    type Session = u64;
    type Message = ();

    fn handle_incoming(&mut self, _client: &mut Client<'_>, _address: &Peer) -> Option<u64> {
        Some(0)
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, own: &mut u64) -> bool {
        client.recv();
        *own += 1;
        self.messages += 1;
        let answer = format!("{own} from you, {} on shard {}\n", self.messages, self.shard);
        client.send(answer.as_bytes())
    }

    fn handle_closed(&mut self, own: u64, id: ClientId, reason: CloseReason) {
        println!("{id} is gone after {own} messages: {reason}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(1234), |port| port.parse())?;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let server = Server::builder().port(port).start(|shard| Counter { shard: shard.index(), messages: 0 })?;
    println!("listening on {}, stopped by Ctrl-C", server.local_addr());
    signals.forever().next();
    server.stop(); // returns at once; what was sent is flushed
    let stats = server.join()?;
    for (index, shard) in stats.shards.iter().enumerate() {
        println!("shard {index}: {} connections, {} bytes in", shard.accepted, shard.bytes_in);
    }
    println!("in all: {stats}");
    Ok(())
}
