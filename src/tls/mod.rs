//! Connections through TLS, with [rustls]: the feature `tls`.
//!
//! A server that is given a [`Tls`] speaks it on all its addresses, or on those with one [tag](Tls::only_tag); its handler is the
//! same as without, plain or of WebSockets, and sees what was said, not how.
//!
//! ```no_run
//! use esockets::Server;
//! use esockets::tls::Tls;
//!
//! let tls = Tls::from_pem_files("chain.pem", "key.pem")?.alpn(&["http/1.1"]);
//! let server = Server::builder().tls(&tls).handle_readable(|client| {
//!     let data = client.recv();
//!     client.send(data)
//! });
//! let server = server.start()?;
//! // Renewed by whoever renews them; nobody who is connected notices.
//! tls.reload_pem_files("chain.pem", "key.pem")?;
//! # server.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! - [`handle_incoming`](crate::Handler::handle_incoming) is called when the TCP connection is there, as ever; what is sent
//!   then waits for the handshake, of which each message has to come [within 10 s](Tls::handshake_timeout);
//!   [`first_message_timeout`](crate::Builder::first_message_timeout) includes all of it. What was agreed on is in [`Client::tls`](crate::Client::tls), from the
//!   first [`handle_readable`](crate::Handler::handle_readable) on.
//! - A storm of handshakes does not starve who is connected: a shard does [so many](Tls::handshakes_max) a turn.
//!   To the [watchdog](crate::Builder::watchdog) and to the [histograms](crate::Builder::histograms) they are part of the wait.
//! - All limits count what was said, not what it was encrypted to; a connection holds up to 64 KiB of the latter beside that,
//!   while its socket is full.
//! - The end is said in TLS, too (close_notify, RFC 8446, section 6.1), both ways, and one's half may be
//!   [finished](crate::Client::finish) alone. A peer that goes without having said it may have been cut off by somebody else:
//!   that is [`CloseReason::Reset`](crate::CloseReason::Reset), and no [`handle_eof`](crate::Handler::handle_eof).
//! - A peer that breaks TLS, or with which nothing can be agreed on, is told so by an alert (or, if it speaks HTTP, with
//!   status 400), and is closed with
//!   [`CloseReason::Failed`](crate::CloseReason::Failed) and EPROTO (71).
//!   [`Tls::handshakes`] counts them, and says why the last one was.
//! - Sessions are resumed by tickets, which are the client's to keep: the server has no memory of them.
//! - Keys are renewed as often as the protocol wants (RFC 8446, section 5.5).
//!
//! # What is absent
//!
//! Calling out through TLS: [`Shard::connect`](crate::Shard::connect) connects, and that is all. Early data (0-RTT).
//! A word to those whom a limit [refuses](crate::Handler::handle_refused): without a handshake they could not read it.
//!
//! [rustls]: https://docs.rs/rustls

mod error;
mod secured;
mod settings;
mod wire;

pub use crate::agreed::Agreed;
pub use error::Error;
pub use rustls;
pub use settings::{Handshakes, Tls};

pub(crate) use secured::Secured;
