//! Connections with several requests under way: replies are counted as they become whole, and others sent in their place.

use super::reopen::Then;
use super::{Worker, speech};
use crate::client::State;
use crate::client::pipelined::Brought;
use crate::failure::{Act, Failure, Kind};
use crate::recorder::note;
use crate::stage::Drive;

impl Worker {
    /// Sends and receives what can be, and fills up what has become free.
    pub(super) fn exchange_pipelined(&mut self, slot: u32) {
        let mut broken = self.flush_pipelined(slot).err();
        let mut reads = 0;
        // When nothing can be sent any more, what the server has answered until then is read to the end.
        while reads < READ_BUDGET || broken.is_some() {
            let under_way = self.pipeline.under_way(slot);
            let Worker { plan, share, clients, responses, wires, scratch, recorder, whole, .. } = self;
            let Some(client) = &mut clients[slot as usize] else { return };
            if !client.wants_turn() {
                break;
            }
            let mut speech = speech(plan, share, (responses, wires), slot);
            let mut brought = Brought { whole, bytes: &mut recorder.bytes_received, strange: &mut recorder.strange };
            let outcome = client.receive_pipelined(&mut speech, scratch, (under_way, broken), &mut brought);
            let is_last = client.is_last();
            reads += 1;
            let now_ns = self.count_whole(slot);
            match outcome {
                Err(failure) => return self.lose(slot, failure),
                // What the server has left unanswered is sent again (RFC 9112, 9.3.2), and its time goes on.
                Ok(()) if is_last => return self.reopen(slot),
                Ok(()) if broken.is_none() => broken = self.fill_up(slot, now_ns, now_ns).err(),
                Ok(()) => {}
            }
        }
        match broken {
            Some(failure) => self.lose(slot, failure),
            None => self.queue_again(slot),
        }
    }

    /// Counts the replies that have become whole; returns the moment at which they were.
    fn count_whole(&mut self, slot: u32) -> u64 {
        let now_ns = self.clock.now_ns();
        for at in 0..self.whole.len() {
            let Some(sent_ns) = self.pipeline.end_oldest(slot) else { break };
            self.pending -= 1;
            if let Some(kind) = self.whole[at] {
                self.failed += 1;
                note(&mut self.recorder.request_failures, Failure::new(Act::Reply, kind));
                continue;
            }
            let latency_ns = now_ns - sent_ns;
            self.recorder.latency.record(latency_ns);
            self.live.note(latency_ns);
            self.recorder.timeline.record(now_ns - self.begin_ns, self.end_ns - self.begin_ns, latency_ns);
            self.note_answered(now_ns);
        }
        self.whole.clear();
        self.tell_client(slot);
        now_ns
    }

    /// Tells the client what is under way now.
    fn tell_client(&mut self, slot: u32) {
        let size = self.plan.protocol.request_len(self.destination(slot));
        if let Some(client) = &mut self.clients[slot as usize] {
            client.note_under_way(size, self.pipeline.oldest_ns(slot));
        }
    }

    /// Sends as many requests as there is room for, wanted since `due_ns`, as long as the window is open; and those of a
    /// connection that was closed before they were answered.
    pub(super) fn refill(&mut self, slot: u32, due_ns: u64, now_ns: u64) {
        if let Err(failure) = self.fill_up(slot, due_ns, now_ns) {
            self.lose(slot, failure);
        }
    }

    fn fill_up(&mut self, slot: u32, due_ns: u64, now_ns: u64) -> Result<(), Failure> {
        // A word from the server before anybody may ask, such as the ping of a WebSocket, is no reason to ask.
        let may_ask = !matches!(self.drive, Drive::Connect(_)) && (self.begin_ns..self.end_ns).contains(&now_ns);
        if may_ask {
            let added = u64::from(self.pipeline.fill(slot, due_ns));
            self.pending += added;
            self.recorder.due += added;
        }
        self.tell_client(slot);
        self.flush_pipelined(slot)
    }

    /// Sends what can be of what is under way.
    fn flush_pipelined(&mut self, slot: u32) -> Result<(), Failure> {
        let under_way = self.pipeline.under_way(slot);
        let Worker { plan, share, clients, responses, wires, scratch, recorder, .. } = self;
        let Some(client) = &mut clients[slot as usize] else { return Ok(()) };
        let mut speech = speech(plan, share, (responses, wires), slot);
        recorder.bytes_sent += client.flush_pipelined(&mut speech, scratch, under_way)?;
        Ok(())
    }

    /// Counts those that were under way on a connection that is gone, which was in `state`; the oldest, if it was the one to
    /// fail, is counted already.
    pub(super) fn abandon(&mut self, slot: u32, state: State) {
        if state == State::Busy {
            self.pipeline.end_oldest(slot);
        }
        let is_owed = matches!(self.reopened.remove(&slot), Some(Then::Send { .. }));
        let abandoned = u64::from(self.pipeline.forget(slot)) + u64::from(is_owed);
        if abandoned > 0 {
            self.pending -= abandoned;
            self.failed += abandoned;
            *self.recorder.request_failures.entry(Failure::new(Act::Reply, Kind::Abandoned)).or_default() += abandoned;
        }
    }
}

/// Reads of one turn, so that one connection does not keep the others waiting.
const READ_BUDGET: usize = 16;
