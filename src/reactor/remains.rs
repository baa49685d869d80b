//! What is left of a loop that has died, and the one that takes its place.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Common, Handler, Kernel, Post, Reactor, Resident};
use crate::config::Config;
use crate::connection::{drop_panic, panicked};
use crate::mailbox::Mailbox;
use crate::reason::CloseReason;
use crate::slab::Slab;
use crate::stats::SharedCounters;

/// The messages that still wait, the listeners, and an empty table, whose keys go on: an id from before is nobody's.
pub(crate) struct Remains<K: Kernel, H: Handler> {
    pub(crate) kernel: K,
    table: Slab<Resident<K::Stream, H::Session>>,
    mailbox: Mailbox<Post<H::Message>>,
    counters: SharedCounters,
    pub(crate) common: Arc<Common>,
    shard: usize,
}

impl<K: Kernel, H: Handler> Reactor<K, H> {
    /// Lets everyone go who is still there, tells the handler, and drops it.
    pub(crate) fn into_remains(mut self, reason: CloseReason) -> Remains<K, H> {
        self.desk.counters.died();
        // The loop's own mistake may be made again, for one connection after the other; each attempt ends one at least.
        for _ in 0..=self.table.slots() {
            match catch_unwind(AssertUnwindSafe(|| self.close_all(reason))) {
                Ok(()) => break,
                Err(panic) => drop_panic(panic),
            }
        }
        let Reactor { handler, table, mailbox, desk, .. } = self;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(move || drop(handler))) {
            panicked(&desk.counters, panic);
        }
        desk.counters.rests();
        let (counters, common, shard) = (desk.counters, desk.common, desk.shard as usize);
        Remains { kernel: desk.kernel, table, mailbox, counters, common, shard }
    }
}

impl<K: Kernel, H: Handler> Remains<K, H> {
    /// A loop in the place of the one that has died, with a handler of its own.
    pub(crate) fn revive(self, handler: H, config: &Config) -> Reactor<K, H> {
        let Remains { kernel, table, mailbox, counters, common, shard } = self;
        Reactor { table, ..Reactor::new(kernel, handler, mailbox, counters, common, config, shard) }
    }
}
