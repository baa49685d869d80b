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

/// What happens again sooner than this is the same trouble.
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

    /// Told of the first, the second, the fourth and so on, until there was none for a while.
    fn panicked(panic: &(dyn Any + Send)) {
        std::thread_local! {
            /// A shard is a thread.
            static PANICS: std::cell::Cell<Trouble<std::time::Instant>> = const { std::cell::Cell::new(Trouble { count: 0, last: None }) };
        }
        let mut panics = PANICS.get();
        if let Some(panics) = panics.again(std::time::Instant::now()) {
            let message = panic.downcast_ref::<&str>().copied();
            let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            tracing::error!(target: TARGET, panic = message, panics, "handler panicked");
        }
        PANICS.set(panics);
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

/// What happens again and again, and is not told each time.
#[cfg(feature = "tracing")]
#[derive(Debug, Clone, Copy)]
struct Trouble<T> {
    count: u64,
    last: Option<T>,
}

#[cfg(feature = "tracing")]
impl<T: Copy + std::ops::Sub<Output = Duration> + PartialOrd> Trouble<T> {
    /// It has happened again; how many times by now, if that is to be told.
    fn again(&mut self, now: T) -> Option<u64> {
        if self.last.is_some_and(|last| now > last && now - last > QUIET) {
            self.count = 0;
        }
        (self.count, self.last) = (self.count + 1, Some(now));
        self.count.is_power_of_two().then_some(self.count)
    }
}

#[cfg(feature = "tracing")]
impl<T> Default for Trouble<T> {
    fn default() -> Trouble<T> {
        Trouble { count: 0, last: None }
    }
}

/// What a shard has told already.
#[derive(Debug, Default)]
pub(crate) struct Told {
    #[cfg(feature = "tracing")]
    paused_at: Option<Duration>,
    #[cfg(feature = "tracing")]
    refused: [Trouble<Duration>; Refusal::ALL.len()],
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

    /// A limit has kept somebody out: told, for each limit, of the first, the second, the fourth and so on, until there was
    /// none for a while.
    #[inline]
    pub(crate) fn refused(&mut self, peer: &Peer, why: Refusal, now: impl FnOnce() -> Duration) {
        #[cfg(feature = "tracing")]
        if let Some(refused) = self.refused[why as usize].again(now()) {
            tracing::warn!(target: TARGET, %peer, limit = why.name(), refused, "connections refused");
        }
    }
}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_less_and_less_and_anew_when_it_was_quiet() {
        let mut trouble = Trouble::default();
        let told: Vec<u64> = (0..100).filter_map(|second| trouble.again(Duration::from_secs(second))).collect();
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64]);
        assert_eq!(trouble.again(Duration::from_secs(109)), None, "ten seconds are not more than ten");
        assert_eq!(trouble.again(Duration::from_secs(120)), Some(1));
        assert_eq!(trouble.again(Duration::from_secs(121)), Some(2));
    }
}
