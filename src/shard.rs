//! A shard as its handler sees it: where it runs, and the connections on it.

use crate::client::{Client, ClientId};

/// Which shard a handler is being made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardInfo {
    pub(crate) index: usize,
    pub(crate) count: usize,
    pub(crate) core: Option<usize>,
}

impl ShardInfo {
    /// The shard's index, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many shards the server has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The core that the shard's thread is pinned to.
    #[must_use]
    pub fn core(&self) -> Option<usize> {
        self.core
    }
}

/// All connections of one shard, while it handles a message from another thread.
pub struct Shard<'a, S> {
    index: usize,
    roster: &'a mut dyn Roster<S>,
}

/// A visit to a connection; false disconnects it after what was sent has been flushed.
pub(crate) type Visit<'a, S> = &'a mut dyn FnMut(&mut Client<'_>, &mut S) -> bool;

/// The connections of a shard, whatever its kernel.
pub(crate) trait Roster<S> {
    fn len(&self) -> usize;
    /// False if there is no such connection, or if it is about to end.
    fn visit(&mut self, id: ClientId, visit: Visit<'_, S>) -> bool;
    fn visit_all(&mut self, visit: Visit<'_, S>);
}

impl<'a, S> Shard<'a, S> {
    pub(crate) fn new(index: usize, roster: &'a mut dyn Roster<S>) -> Shard<'a, S> {
        Shard { index, roster }
    }

    /// The shard's index.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many connections it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.roster.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Visits one connection: `visit` may do all that a handler may, and disconnects it by returning false. False here if
    /// the connection is gone or about to end. Cost: a look-up and what `visit` sends.
    pub fn client(&mut self, id: ClientId, mut visit: impl FnMut(&mut Client<'_>, &mut S) -> bool) -> bool {
        self.roster.visit(id, &mut visit)
    }

    /// Visits every connection of the shard, in no particular order. Cost: a walk through the table, which is as long as
    /// the most connections that it ever held.
    pub fn each_client(&mut self, mut visit: impl FnMut(&mut Client<'_>, &mut S) -> bool) {
        self.roster.visit_all(&mut visit);
    }
}
