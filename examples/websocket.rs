//! An echo server of WebSockets: what is sent comes back, texts as texts and bytes as bytes, compressed for who offers it.
//!
//! `cargo run --release --features websocket --example websocket`, then in a browser's console:
//! `s = new WebSocket('ws://127.0.0.1:1234'); s.onmessage = m => console.log(m.data); s.onopen = () => s.send('hello')`.
//! Another port: `-- 4321`.
//!
//! Its limits are those that the Autobahn suite asks for: messages of 16 MiB, some in 65,536 fragments.

use esockets::websocket::{Answer, Client, Handler, Request, WebSockets};
use esockets::{Peer, Server};

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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(1234), |port| port.parse())?;
    let server = Server::builder()
        .port(port)
        .output_max(2 * MESSAGE_MAX)
        .start(|_| WebSockets::new(Echo).message_max(MESSAGE_MAX).fragments_max(1 << 17).deflate(Some(256)))?;
    println!("listening on {}", server.local_addr());
    server.join()?;
    Ok(())
}
