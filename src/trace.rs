//! What is told to `tracing`, if the feature of that name is on; otherwise all of this is empty. The events are listed in
//! watching.md.

use std::any::Any;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::client::ClientId;
use crate::error::Error;
use crate::peer::Peer;
use crate::reason::{CloseReason, Refusal};

#[cfg(feature = "tracing")]
const TARGET: &str = "esockets";

/// Shortages that are nearer to each other than this are one.
#[cfg(feature = "tracing")]
const QUIET: Duration = Duration::from_secs(10);

/// Functions that are empty without the feature.
macro_rules! told {
    ($($(#[$about:meta])* fn $name:ident($($given:ident: $type:ty),*) $body:block)*) => {$(
        $(#[$about])*
        #[inline]
        #[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nobody is told"))]
        pub(crate) fn $name($($given: $type),*) {
            #[cfg(feature = "tracing")]
            $body
        }
    )*};
}

told! {
    fn started(addresses: &dyn fmt::Debug, shards: usize) {
        tracing::info!(target: TARGET, ?addresses, shards, "server started");
    }

    fn stopping(timeout: Duration) {
        tracing::info!(target: TARGET, ?timeout, "server stopping");
    }

    fn draining(timeout: Duration) {
        tracing::info!(target: TARGET, ?timeout, "server draining");
    }

    fn stopped(ended: &Result<(), Error>) {
        match ended {
            Ok(()) => tracing::info!(target: TARGET, "server stopped"),
            Err(error) => tracing::error!(target: TARGET, %error, "server stopped"),
        }
    }

    fn shard_started() {
        tracing::debug!(target: TARGET, "shard started");
    }

    fn shard_ended() {
        tracing::debug!(target: TARGET, "shard ended");
    }

    fn shard_died(reason: &Error) {
        tracing::error!(target: TARGET, %reason, "shard died");
    }

    /// By the watchdog, which is on no shard.
    fn held_up(shard: usize, client: Option<ClientId>, lasted: Duration) {
        let client = client.map(tracing::field::display);
        tracing::warn!(target: TARGET, shard, client, ?lasted, "shard held up");
    }

    fn panicked(panic: &(dyn Any + Send)) {
        let message = panic.downcast_ref::<&str>().copied();
        let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(target: TARGET, panic = message, "handler panicked");
    }

    fn opened(id: ClientId, peer: &Peer) {
        tracing::trace!(target: TARGET, %id, %peer, "connection opened");
    }

    fn called(id: ClientId, peer: &Peer) {
        tracing::trace!(target: TARGET, %id, %peer, "connection called");
    }

    fn closed(id: ClientId, peer: &Peer, reason: CloseReason) {
        tracing::trace!(target: TARGET, %id, %peer, %reason, "connection closed");
    }
}

/// The span of a shard, for as long as this is kept.
#[inline]
pub(crate) fn enter(shard: usize) -> impl Sized {
    #[cfg(feature = "tracing")]
    return tracing::info_span!(target: TARGET, "shard", shard).entered();
    #[cfg(not(feature = "tracing"))]
    let _ = shard;
}

/// What a shard has told already: what happens again and again is not told each time.
#[derive(Debug, Default)]
pub(crate) struct Told {
    #[cfg(feature = "tracing")]
    paused_at: Option<Duration>,
    #[cfg(feature = "tracing")]
    refused: u64,
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, clippy::unused_self, reason = "nobody is told"))]
impl Told {
    /// Accepting pauses: told once for a shortage, however often it is tried again.
    #[inline]
    pub(crate) fn paused(&mut self, error: &io::Error, now: impl FnOnce() -> Duration) {
        #[cfg(feature = "tracing")]
        {
            let now = now();
            let before = self.paused_at.replace(now);
            if before.is_none_or(|before| now.saturating_sub(before) > QUIET) {
                tracing::warn!(target: TARGET, %error, "accepting paused");
            }
        }
    }

    /// A limit has kept somebody out: told of the first, the second, the fourth and so on.
    #[inline]
    pub(crate) fn refused(&mut self, peer: &Peer, why: Refusal) {
        #[cfg(feature = "tracing")]
        {
            self.refused += 1;
            if self.refused.is_power_of_two() {
                tracing::warn!(target: TARGET, %peer, limit = why.name(), refused = self.refused, "connections refused");
            }
        }
    }
}
