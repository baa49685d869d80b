//! A shard as a WebSocket's handler sees it: the WebSockets on it that are open.

use std::fmt;

use super::client::{Client, Desk};
use super::close::NORMAL;
use super::session::{Session, Stage, Talk};
use crate::ClientId;

/// All open WebSockets of one shard, for as long as one call of the handler lasts.
pub struct Shard<'a, 'b, S> {
    inner: &'a mut crate::Shard<'b, Session<S>>,
    desk: &'a mut Desk,
}

impl<'a, 'b, S> Shard<'a, 'b, S> {
    pub(super) fn new(inner: &'a mut crate::Shard<'b, Session<S>>, desk: &'a mut Desk) -> Shard<'a, 'b, S> {
        Shard { inner, desk }
    }

    /// The shard's index.
    #[must_use]
    pub fn index(&self) -> usize {
        self.inner.index()
    }

    /// How many connections it holds, with those that are opening and closing.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Visits one WebSocket; false closes it, with 1000. False here if it is not open, or not any more.
    pub fn client(&mut self, id: ClientId, mut visit: impl FnMut(&mut Client<'_, '_>, &mut S) -> bool) -> bool {
        let (desk, mut is_open) = (&mut *self.desk, false);
        self.inner.client(id, |client, session| {
            is_open = call_on(client, session, desk, &mut visit);
            true
        }) && is_open
    }

    /// Visits every open WebSocket of the shard, in no particular order; false closes it, with 1000. Cost: a walk through the
    /// table, which is as long as the most connections that it ever held.
    pub fn each_client(&mut self, mut visit: impl FnMut(&mut Client<'_, '_>, &mut S) -> bool) {
        let desk = &mut *self.desk;
        self.inner.each_client(|client, session| {
            call_on(client, session, desk, &mut visit);
            true
        });
    }
}

/// Whether it was there to be visited.
fn call_on<S>(
    client: &mut crate::Client<'_>,
    session: &mut Session<S>,
    desk: &mut Desk,
    visit: &mut impl FnMut(&mut Client<'_, '_>, &mut S) -> bool,
) -> bool {
    let Stage::Open(Talk { session, link, .. }) = &mut session.0 else { return false };
    let mut client = Client::new(client, link, desk);
    if !client.is_open() {
        return false;
    }
    if !visit(&mut client, session) {
        client.close(NORMAL, "");
    }
    true
}

impl<S> fmt::Debug for Shard<'_, '_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("index", &self.index()).field("len", &self.len()).finish_non_exhaustive()
    }
}
