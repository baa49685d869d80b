//! Servers that hold very many connections: pinned, sharded epoll reactors that run your handler inline.
//!
//! N reactor threads, the *shards*, each own a listener (SO_REUSEPORT), an epoll instance and the connections that they
//! accepted. A connection lives and dies on one shard, and your [`Handler`] runs right there: nothing is handed to another
//! thread, nothing is locked, and a connection at rest owns no buffer.
//!
//! ```text
//!              ┌ shard 0, pinned to core 0 ──────────────────────────────────────────┐
//!   clients ──▶│ listener ─▶ accept ─▶ handle_incoming ─▶ table of connections       │
//!      ▲       │                                             │            ▲          │
//!      │       │ epoll ───▶ note, enqueue ─▶ serve: ─▶ read ─▶ handle_readable ─▶ send│──▶ clients
//!      │       │ mailbox ─▶ handle_message   timers ─▶ handle_timeout   close ─▶ handle_closed
//!      │       └─────────────────────────────────────────────────────────────────────┘
//!   the kernel deals      shard 1, pinned to core 1: the same, and so on; between shards only the
//!   connections out       stop flag, the counters and the mailboxes
//! ```
//!
//! # The life of a connection
//!
//! The kernel deals it to a shard, the shard accepts it and asks [`Handler::handle_incoming`], which gives a session or
//! refuses. It is registered once, for edges. What a wait brings is written down, and each event gives its connection a
//! turn: it is flushed, read, handed to [`Handler::handle_readable`] and flushed again, until it is drained or its budget is
//! used up, and then it rests. When it ends, in whatever way, [`Handler::handle_closed`] is told once, with the
//! [`CloseReason`].
//!
//! A handler makes connections, too: [`Shard::connect`] calls an address from the shard that it is on, and the connection is a
//! [`Client`] as any other. One connection's handler reaches another connection by asking for the whole shard, see
//! [`Client::call_shard`] and [`Shard`], where a proxy is written out.
//!
//! # What it promises
//!
//! - Every byte that a peer sent before it finished or was cut off is shown to the handler, in order, once, and before the
//!   end is; except where the handler itself ended the connection or paused it.
//! - Every byte that was sent goes out in order, once, or the connection ends with a reset, and with a reason that says
//!   so. The kernel's word is the last that there is: that it took the bytes does not mean that the peer has them.
//! - One `handle_closed` for each session that `handle_incoming` gave or [`Shard::connect`] took.
//! - Memory for one connection is bounded by [`input_max`](Builder::input_max) and [`output_max`](Builder::output_max), and that
//!   for the output of a shard by [`output_max_shard`](Builder::output_max_shard), if you say so.
//! - Running out of descriptors pauses accepting, neither ends nor spins, and is over when there are some again.
//! - A panic in a handler costs the connection in hand (where panics unwind; with `panic = "abort"` it is the process).
//! - A shard whose loop dies is replaced by another on the same listener, unless [`shard_death`](Builder::shard_death) says
//!   otherwise.
//! - A server can be replaced by its next version without anybody being refused or reset: see [`Listeners`].
//!
//! [`guide`] is for whoever builds a server on it; [`failures`] goes through what goes wrong, one by one, with what is not
//! promised; [`security`] says whom it trusts, and how it has been tested; [`watching`] how to see what a server does:
//! statistics, metrics, histograms, events. With the feature `websocket` the module of that name speaks RFC 6455.
//!
//! # What is absent on purpose
//!
//! No thread but the shards (and a [`watchdog`](Builder::watchdog), if there is to be one); no signal handler; no global
//! state, so several servers in one process do not know of each other; nothing printed; no allocation for an idle
//! connection; no unsafe code outside one file, [`sys`] (the unsafe knob
//! [`private_fd_tables`](Builder::private_fd_tables) is declared in another, and passed on in a third). Linux only.
//!
//! # What a connection costs
//!
//! In system calls: accept4 and epoll_ctl when it comes, recv and send for each message that comes and is answered, close
//! when it goes; epoll_wait is shared. In memory: a slot of 56 bytes and your session, in the library; some 4 KB in the
//! kernel.
//!
//! # What limits it
//!
//! Shards share nothing that is written on the path of a message: each has its own listener, epoll instance, table and
//! counters, so two shards on two cores do twice the work of one, as long as whoever talks to them does not take the cores
//! away. What is left in common is in the kernel. Up to some 16 cores that is the descriptor table, whose lock every accept
//! and close takes, and whose growth stops everybody: [`private_fd_tables`](Builder::private_fd_tables) ends that. At 128
//! cores it is the network card (as many receive queues as shards, each queue's interrupts on its shard's core), memory
//! that is not local (pin with [`Cores::List`], one server for each node), the single shared counter of
//! [`connections_max`](Builder::connections_max), and the hash that deals connections out: with few connections a shard
//! some shards have more than others (±10 % at 400 a shard, 1 % at 40,000). On two cores two
//! shards answered 1.85 times as many messages as one (the benches' part `shards`); none of this has been measured beyond.
//!
//! # Where to read
//!
//! From the bottom up, each file uses only files before it: `buffer` `queue` `slab` `wheel` `spin` `mailbox` are data
//! structures that know nothing of connections; `reason` `histogram` `stats` `metrics` `peer` `address` `target` `sys`
//! `agreed` `tuning` `socket` `unix` `claim` `loan` `error` what the rest is said in; `kernel` the seam to the system, and
//! `tls` one that encrypts; `listeners` `config` `seats` `pace` what was asked for; `slate` `client` `shard` `handler` what a program sees; `timed` and `trace` who watches;
//! `acceptor` and `connection` the life of one connection; `reactor` the loop, on one screen in `Reactor::turn`;
//! `watchdog` who looks at it from beside; `remote` `life` `entrance` `server` `builder` the whole. `websocket` stands on
//! top, and knows of it only what a user does.
#![deny(unsafe_code)]

mod acceptor;
mod address;
#[cfg(feature = "tls")]
mod agreed;
mod buffer;
mod builder;
mod claim;
mod client;
mod config;
mod connection;
mod entrance;
mod error;
mod handler;
mod histogram;
mod kernel;
mod life;
mod listeners;
mod loan;
mod mailbox;
mod metrics;
mod pace;
mod peer;
#[cfg(test)]
mod planted;
mod queue;
mod reactor;
mod reason;
mod remote;
mod seats;
mod server;
mod shard;
mod slab;
mod slate;
pub mod socket;
mod spin;
mod stats;
pub mod sys;
mod target;
pub mod testing;
mod timed;
#[cfg(feature = "tls")]
pub mod tls;
mod trace;
mod tuning;
mod unix;
mod watchdog;
#[cfg(feature = "websocket")]
pub mod websocket;
mod wheel;

pub use address::{Address, AddressError, LocalAddr};
pub use builder::Builder;
pub use client::{Client, ClientId};
pub use config::{Cores, Overflow, Selector, ShardDeath, Steering};
pub use error::{ConnectError, Error};
pub use handler::{Closures, Handler};
pub use histogram::Histogram;
pub use listeners::Listeners;
pub use metrics::Metrics;
pub use peer::Peer;
pub use reason::{CloseReason, Refusal};
pub use remote::{Remote, Unsent};
pub use server::Server;
pub use shard::{Shard, ShardInfo};
pub use stats::{ShardStats, Stats};
pub use target::Target;
pub use tuning::Tuning;
pub use watchdog::Stall;

#[doc = include_str!("guide.md")]
pub mod guide {}

#[doc = include_str!("failures.md")]
pub mod failures {}

#[doc = include_str!("security.md")]
pub mod security {}

#[doc = include_str!("watching.md")]
pub mod watching {}

/// The README's programs, compiled with the tests so that they cannot rot.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
