//! Servers of WebSockets (RFC 6455), for a million browsers: the feature `websocket`.
//!
//! A [`Handler`] gets whole messages and sends whole messages; [`WebSockets`] turns it into the [`esockets::Handler`](crate::Handler)
//! that a server is started with, and is built on nothing that is not public: what it does, any protocol can.
//!
//! ```
//! use esockets::Peer;
//! use esockets::websocket::testing::{Received, TestClient};
//! use esockets::websocket::{Answer, Client, Handler, Request, WebSockets};
//!
//! /// Counts what each client says, on pages of one site.
//! struct Count;
//!
//! impl Handler for Count {
//!     type Session = u64;
//!     type Message = ();
//!
//!     fn handle_open(&mut self, request: &Request<'_>, _address: &Peer) -> Answer<u64> {
//!         match request.origin() {
//!             Some("https://example.com") => Answer::accept(0),
//!             _ => Answer::refuse(403),
//!         }
//!     }
//!
//!     fn handle_text(&mut self, client: &mut Client<'_, '_>, said: &mut u64, text: &str) -> bool {
//!         *said += 1;
//!         client.send_text(&format!("{text} is what you said {said} times"))
//!     }
//! }
//!
//! let mut client = TestClient::open(WebSockets::new(Count), "/", &[("Origin", "https://example.com")]);
//! client.send_text("hello");
//! assert_eq!(client.received(), [Received::Text("hello is what you said 1 times".into())]);
//! let stranger = TestClient::open(WebSockets::new(Count), "/", &[("Origin", "https://elsewhere.com")]);
//! assert_eq!(stranger.status(), 403);
//! ```
//!
//! # What it promises
//!
//! - A message is handed over whole, in order, once; from the shard's own buffer if it came in one piece, and otherwise put
//!   together, in no more than [`message_max`](WebSockets::message_max), which nothing is kept of when it is delivered.
//! - A text is UTF-8. One that is not ends the connection at its first wrong byte, however much of the message is missing.
//! - Pings are answered; nobody can make answers pile up. Who answers none is let go.
//! - What RFC 6455 forbids ends the connection, with the code that it names and with a reason in words: a frame without a mask, and
//!   a length that takes more bytes than it needs, included.
//! - The close handshake is done once and in order: after a close frame nothing is sent, and of what comes only the close frame
//!   counts. The server ends the TCP connection first.
//! - A request that two readers could read differently is refused, and its connection ends. One that asks for no WebSocket can be
//!   answered with a [page](Handler::handle_page).
//! - An idle WebSocket is 16 bytes more than a connection, and your session; and 16 for the timer of its pings. That
//!   holds with compression, too, for its memory is the shard's.
//! - Compression (permessage-deflate, RFC 7692) is [off](WebSockets::deflate) until you ask for it. Each message stands
//!   alone; the limit of a message is that of what is inflated; what is no deflate data, or goes on behind its end,
//!   ends the connection with 1007, as wrong text does. What is not UTF-8 is seen as it is inflated, which is when the
//!   message is whole: until then it is kept as it came, so that no peer has more kept than it has sent.
//!
//! # What is absent
//!
//! Other extensions, and compression that looks back into the message before (it takes 300 KB for each connection).
//! Clients: this is the server's side. A stop of the server says no
//! goodbye: [drain](crate::Server::drain), and let a message [close](Client::close) everybody with 1001.
//!
//! # Where to read
//!
//! `close` `frame` `text` are rules without state; `deflate` compresses; `handshake` `extensions` the opening;
//! `session` what is kept; `client` `shard` `handler` what a program sees; `sockets` how bytes become messages.

mod client;
mod close;
mod deflate;
mod extensions;
mod frame;
mod handler;
mod handshake;
mod session;
mod shard;
mod sockets;
pub mod testing;
mod text;

pub use client::{Client, Frame};
pub use handler::{Answer, Handler, Page};
pub use handshake::Request;
pub use session::Session;
pub use shard::Shard;
pub use sockets::WebSockets;
