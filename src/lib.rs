//! esockets
#![deny(unsafe_code)]
#![warn(missing_docs)]

mod acceptor;
mod buffer;
mod builder;
mod client;
mod config;
mod connection;
mod error;
mod handler;
mod kernel;
mod mailbox;
mod output;
mod peer;
mod reactor;
mod reason;
mod remote;
mod server;
mod shard;
mod slab;
pub mod socket;
mod spin;
mod stats;
pub mod sys;
pub mod testing;
mod wheel;

pub use builder::Builder;
pub use client::{Client, ClientId};
pub use config::{Cores, Selector};
pub use error::Error;
pub use handler::{Closures, Handler};
pub use peer::Peer;
pub use reason::CloseReason;
pub use remote::{Remote, Unsent};
pub use server::Server;
pub use shard::{Shard, ShardInfo};
pub use stats::{ShardStats, Stats};
