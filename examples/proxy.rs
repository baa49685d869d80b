//! A proxy: what a client says, a server behind it hears, and the other way round; nothing is lost, and little is kept.
//!
//! `cargo run --release --example proxy -- 127.0.0.1:1234 127.0.0.1:80`; the target may be `unix:/path`, too. If one side does not
//! read, the other is not read from, so a slow reader costs `output_max` at the most; who finishes sending may still read.
//! If the server is not reached, the client is reset, and standard error says why.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use esockets::{Client, ClientId, CloseReason, Handler, Peer, Server, Shard, Target};

/// How long the server behind may take to be connected.
const CALL_MAX: Duration = Duration::from_secs(5);
/// A pair that neither side has said anything to for so long is let go: one may have left, and the other hang. As in nginx.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// Of calls that fail it is said no more often, however many clients come.
const COMPLAINTS_EVERY: Duration = Duration::from_secs(1);

/// One for each shard.
struct Proxy {
    target: Target,
    complained_at: Option<Instant>,
    /// Calls that have failed since.
    failed: u64,
    /// What the call for one side leaves to be done at the other, in the call for the shard that follows at once.
    passing: Vec<u8>,
    finishes: bool,
}

/// One side of a pair. The other side's id is known as soon as it has been called.
#[derive(Default)]
struct Side {
    other: Option<ClientId>,
    finished: bool,
}

impl Handler for Proxy {
    type Session = Side;
    type Message = ();

    fn handle_incoming(&mut self, client: &mut Client<'_>, _address: &Peer) -> Option<Side> {
        client.call_shard();
        Some(Side::default())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, _side: &mut Side) -> bool {
        self.passing.extend_from_slice(client.recv());
        client.call_shard();
        true
    }

    fn handle_eof(&mut self, client: &mut Client<'_>, side: &mut Side) -> bool {
        (side.finished, self.finishes) = (true, true);
        client.call_shard();
        true
    }

    /// What has waited here has left: the other side may go on.
    fn handle_writable(&mut self, client: &mut Client<'_>, _side: &mut Side) -> bool {
        client.call_shard();
        true
    }

    fn handle_shard(&mut self, shard: &mut Shard<'_, Side>, caller: ClientId) {
        let (mut other, mut finished, mut high) = (None, false, false);
        let found = shard.client(caller, |client, side| {
            (other, finished, high) = (side.other, side.finished, client.output_is_high());
            true
        });
        match other {
            Some(other) => self.pass_on(shard, caller, other, finished, high),
            None if found => self.call(shard, caller),
            None => {}
        }
    }

    /// Who is left is told what there is, and goes, too.
    fn handle_closed_on(&mut self, shard: &mut Shard<'_, Side>, side: Side, _id: ClientId, reason: CloseReason) {
        if matches!(reason, CloseReason::ConnectRefused | CloseReason::ConnectTimedOut | CloseReason::ConnectFailed(_))
        {
            self.complain(reason);
        }
        let orderly = matches!(reason, CloseReason::Finished | CloseReason::PeerClosed | CloseReason::Stopped);
        if let Some(other) = side.other {
            shard.client(other, |client, _| {
                if orderly {
                    client.close()
                } else {
                    client.abort()
                }
                true
            });
        }
    }
}

impl Proxy {
    fn new(target: Target) -> Proxy {
        Proxy { target, complained_at: None, failed: 0, passing: Vec::new(), finishes: false }
    }

    /// A client is new.
    fn call(&mut self, shard: &mut Shard<'_, Side>, caller: ClientId) {
        let side = Side { other: Some(caller), finished: false };
        let called = shard.connect(self.target.clone(), CALL_MAX, side);
        if let Err(error) = &called {
            self.complain(error);
        }
        shard.client(caller, |_, side| {
            side.other = called.as_ref().ok().copied();
            side.other.is_some()
        });
    }

    fn complain(&mut self, why: impl Display) {
        self.failed += 1;
        if self.complained_at.is_none_or(|at| at.elapsed() >= COMPLAINTS_EVERY) {
            let failed = std::mem::take(&mut self.failed);
            eprintln!("calling {}: {why} (calls that failed since it was last said: {failed})", self.target);
            self.complained_at = Some(Instant::now());
        }
    }

    fn pass_on(&mut self, shard: &mut Shard<'_, Side>, from: ClientId, to: ClientId, finished: bool, high: bool) {
        let (passing, finishes) = (&mut self.passing, std::mem::take(&mut self.finishes));
        let (mut full, mut over) = (false, false);
        shard.client(to, |client, side| {
            if !passing.is_empty() {
                client.send(passing);
            }
            if finishes {
                client.finish();
            }
            if !high {
                client.resume();
            }
            (full, over) = (client.output_is_high(), finished && side.finished);
            true
        });
        passing.clear();
        shard.client(from, |client, _| {
            if full {
                client.pause();
            }
            // Both have said everything; what waits here still goes out, and with the last of it the other side.
            !over
        });
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, target] = arguments.as_slice() else {
        return Err(
            "two addresses, please: where to listen, and whom to call, as in 127.0.0.1:1234 127.0.0.1:80".into()
        );
    };
    let (listen, target): (SocketAddr, Target) = (listen.parse()?, target.parse()?);
    let builder = Server::builder().host(listen.ip().to_string()).port(listen.port()).idle_timeout(Some(IDLE_MAX));
    let server = builder.start(move |_| Proxy::new(target.clone()))?;
    println!("listening on {}", server.local_addr());
    server.join()?;
    Ok(())
}
