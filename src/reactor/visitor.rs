//! A handler's way to all connections of its shard.

use std::io;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::{Desk, Handler, Kernel, Reactor, Resident, tick};
use crate::client::ClientId;
use crate::connection::{Connection, panicked};
use crate::error::ConnectError;
#[cfg(test)]
use crate::planted::Bug;
use crate::reason::CloseReason;
use crate::shard::{Roster, Shard, Visit};
use crate::slab::{Key, Slab};
use crate::target::Target;
use crate::trace;
use crate::wheel::ticks;

impl<K: Kernel, H: Handler> Reactor<K, H> {
    pub(super) fn message(&mut self, message: H::Message) {
        self.with_shard(None, |handler, shard| handler.handle_message(shard, message));
    }

    /// The handler has asked for the whole shard in a call for this client.
    #[cold]
    pub(super) fn call(&mut self, caller: Key) {
        let id = ClientId { shard: self.desk.shard, key: caller };
        self.with_shard(Some(caller), |handler, shard| handler.handle_shard(shard, id));
    }

    /// Lets the handler act on all connections of the shard, for one of them or for none in particular.
    #[inline]
    pub(super) fn with_shard(&mut self, whose: Option<Key>, act: impl FnOnce(&mut H, &mut Shard<'_, H::Session>)) {
        let Reactor { handler, table, ready, desk, .. } = self;
        let (index, mut timed, mut visited) = (desk.shard as usize, Vec::new(), Vec::new());
        let mut visitor = Visitor { table, ready, desk, timed: &mut timed, visited: &mut visited };
        match whose {
            Some(key) => visitor.desk.counters.serves(key),
            None => visitor.desk.counters.works(),
        }
        let mut shard = Shard::new(index, &mut visitor);
        let told = catch_unwind(AssertUnwindSafe(|| act(handler, &mut shard)));
        if let Err(panic) = told {
            panicked(&self.desk.counters, panic);
        }
        timed.into_iter().for_each(|key| self.set_timer(key));
        if !visited.is_empty() {
            self.excuse_visited(&visited);
        }
    }

    /// Who was active in a visit was so at its end: the turn may have begun long before, if the handler takes its time.
    fn excuse_visited(&mut self, visited: &[RangeInclusive<u32>]) {
        let (begun_at, now) = (self.desk.tick, tick(self.desk.kernel.now()));
        #[cfg(test)]
        let now = Bug::VisitIdle.instead(now, begun_at);
        if now > begun_at {
            for slot in visited.iter().cloned().flatten() {
                if let Some(key) = self.table.key_at(slot)
                    && let Some(resident) = self.table.find(key)
                {
                    resident.connection.excuse(begun_at as u32, now as u32);
                }
            }
        }
    }
}

/// A handler's way to all connections of its shard.
struct Visitor<'a, K: Kernel, Session> {
    table: &'a mut Slab<Resident<K::Stream, Session>>,
    ready: &'a mut Vec<Key>,
    desk: &'a mut Desk<K>,
    /// Those whose timers have changed.
    timed: &'a mut Vec<Key>,
    /// The slots of those who were visited, if that matters: neighbours, one behind the other, are one range.
    visited: &'a mut Vec<RangeInclusive<u32>>,
}

impl<K: Kernel, Session> Visitor<'_, K, Session> {
    fn visit_key(&mut self, key: Key, visit: Visit<'_, Session>) -> bool {
        #[cfg(test)]
        let key = if Bug::ReusedSlot.is_planted() { self.table.key_at(key.slot).unwrap_or(key) } else { key };
        let Some(Resident { connection, session: Some(session), .. }) = self.table.find(key) else { return false };
        if connection.is_finishing() {
            return false;
        }
        self.desk.counters.serves(key);
        match connection.hand(&mut self.desk.turn(), key, None, |client| visit(client, session)) {
            Ok(true) => {}
            Ok(false) => connection.end(CloseReason::Finished),
            // It is closed in its next turn, which finds the reason.
            Err(reason) => connection.end_now(&mut self.desk.turn(), reason),
        }
        if self.desk.limits.idle_timeout.is_some() {
            note(self.visited, key.slot);
        }
        // It is granted already.
        self.desk.slate.take_call();
        if connection.has_new_timer() {
            self.timed.push(key);
        }
        if connection.needs_turn() && connection.enqueue() {
            self.ready.push(key);
        }
        // What the handler does between two visits is nobody's.
        self.desk.counters.works();
        true
    }
}

/// Costs as much as the visits do, wherever they are: a walk from the first to the last would be as long as the table.
fn note(visited: &mut Vec<RangeInclusive<u32>>, slot: u32) {
    match visited.last_mut() {
        Some(last) if last.contains(&slot) => {}
        Some(last) if last.end() + 1 == slot => *last = *last.start()..=slot,
        _ => visited.push(slot..=slot),
    }
}

impl<K: Kernel, Session> Roster<Session> for Visitor<'_, K, Session> {
    fn len(&self) -> usize {
        self.table.len()
    }

    fn visit(&mut self, id: ClientId, visit: Visit<'_, Session>) -> bool {
        id.shard == self.desk.shard && self.visit_key(id.key, visit)
    }

    fn visit_all(&mut self, visit: Visit<'_, Session>) {
        for slot in 0..self.table.slots() {
            if let Some(key) = self.table.key_at(slot) {
                self.visit_key(key, &mut *visit);
            }
        }
    }

    fn connect(&mut self, target: &Target, timeout: Duration, session: Session) -> Result<ClientId, ConnectError> {
        let error = |source| ConnectError { target: target.clone(), source };
        let Visitor { table, ready, desk, timed, .. } = self;
        if desk.stops {
            return Err(error(io::Error::other("the server is being stopped")));
        }
        let stream = desk.kernel.open(target, &desk.line).map_err(error)?;
        let begun = desk.kernel.connect(&stream, target);
        let (key, now) = (table.next_key(), tick(desk.kernel.now()) as u32);
        // One more, because part of the present tick is over.
        let span = ticks(timeout);
        #[cfg(test)]
        let span = Bug::AttemptLate.instead(span, 2 * span + 9);
        let until = now.wrapping_add(span + 1);
        let mut connection = Connection::called(stream, target.peer(), until, &begun);
        if begun.is_ok()
            && let Err(source) = connection.register(&mut desk.kernel, key)
        {
            desk.kernel.close(connection.into_stream(), false);
            return Err(error(source));
        }
        desk.counters.called();
        let id = ClientId { shard: desk.shard, key };
        trace::called(id, connection.address());
        let dead = begun.is_err() && connection.enqueue();
        table.insert(key, Resident { connection, session: Some(session), generation: key.generation });
        // It is told in its first turn.
        if dead {
            ready.push(key);
        } else {
            timed.push(key);
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_noted_as_one_and_others_by_themselves() {
        let mut visited = Vec::new();
        [3, 4, 4, 5, 900_000, 5, 6, 0].into_iter().for_each(|slot| note(&mut visited, slot));
        assert_eq!(visited, [3..=5, 900_000..=900_000, 5..=6, 0..=0]);
    }
}
