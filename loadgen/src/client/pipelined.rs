//! A connection with several requests under way: the replies come in the order of the requests, and each is verified.
//!
//! Here `sent` counts from the beginning of the oldest request, over all that are under way, and `received` is how far the
//! reply to the oldest has come.

use std::io;

use super::{Client, Speech, State};
use crate::diagnosis::Reply;
use crate::failure::{Act, Failure, Kind};
use crate::payload::{CELL, next_message};
use crate::protocol::Protocol;
use crate::strange::Strange;
use crate::wires::{Heard, Place};

/// What a read brought, apart from what is wrong with it.
pub(crate) struct Brought<'a> {
    /// Replies that are whole now, the oldest first, each with what is wrong with it.
    pub(crate) whole: &'a mut Vec<Option<Kind>>,
    /// Bytes, added to what is there.
    pub(crate) bytes: &'a mut u64,
    /// What a server began with that is no echo server.
    pub(crate) strange: &'a mut Option<Strange>,
}

impl Client {
    /// Requests of `size` bytes are under way, the oldest since `oldest_ns`; nothing is, if that is `None`.
    pub(crate) fn note_under_way(&mut self, size: u32, oldest_ns: Option<u64>) {
        self.size = size;
        self.state = if oldest_ns.is_some() { State::Busy } else { State::Idle };
        self.sent_ns = oldest_ns.unwrap_or(self.sent_ns);
    }

    /// Sends what the socket takes of the requests that are `under_way`, as many at once as `scratch` takes; returns how many
    /// bytes that was. Where the peer had closed, there is something to read: how it ended.
    ///
    /// # Errors
    /// The failure with which the connection ended; replies that came before it are still to be read.
    pub(crate) fn flush_pipelined(
        &mut self,
        speech: &mut Speech<'_>,
        scratch: &mut [u8],
        under_way: u32,
    ) -> Result<u64, Failure> {
        let begun = self.sent;
        self.flush_wire(speech, self.size == 0 || self.sent.is_multiple_of(self.size))?;
        let end = self.size * under_way;
        while self.sent < end && !self.is_full {
            let len = scratch.len().min((end - self.sent) as usize);
            self.fill(speech, &mut scratch[..len]);
            let place = Place { size: self.size, at: self.sent % self.size };
            match speech.wires.send(speech.slot, &self.socket, &scratch[..len], place) {
                Ok((taken, is_full)) => {
                    self.sent += taken as u32;
                    self.is_full = is_full;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_full = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    (self.is_full, self.is_readable) = (true, true);
                    if error.kind() != io::ErrorKind::BrokenPipe {
                        return Err(Failure::of(Act::Send, &error));
                    }
                }
            }
        }
        Ok(u64::from(self.sent - begun))
    }

    /// Writes what is to be sent next over all of `out`.
    fn fill(&self, speech: &Speech<'_>, mut out: &mut [u8]) {
        let request = speech.protocol.request(speech.destination);
        let (mut nth, mut offset) = (self.sent / self.size, (self.sent % self.size) as usize);
        while !out.is_empty() {
            let (piece, rest) = out.split_at_mut(out.len().min(self.size as usize - offset));
            match request {
                Some(request) => piece.copy_from_slice(&request[offset..offset + piece.len()]),
                None => speech.stream.fill(self.begun + self.span(nth) + offset as u64, piece),
            }
            (out, nth, offset) = (rest, nth + 1, 0);
        }
    }

    /// Reads once, and verifies what has come for the requests that are `under_way`. When the connection has `broken` while
    /// it was sent on, its end is that failure.
    ///
    /// # Errors
    /// The failure with which the connection ended: replies that were whole before it are in `brought`, and count.
    pub(crate) fn receive_pipelined(
        &mut self,
        speech: &mut Speech<'_>,
        scratch: &mut [u8],
        (under_way, broken): (u32, Option<Failure>),
        brought: &mut Brought<'_>,
    ) -> Result<(), Failure> {
        match speech.wires.read(speech.slot, &self.socket, scratch) {
            // The kernel tells a reset once: who has been told by send(2) reads an end.
            Ok(Heard { len: 0, .. }) => broken.map_or_else(|| self.end_pipelined(speech, brought.whole), Err),
            Ok(Heard { len, is_drained }) => {
                let is_first = self.begun == 0 && self.received == 0;
                *brought.bytes += len as u64;
                self.verify_pipelined(speech, &scratch[..len], under_way, brought.whole).inspect_err(|failure| {
                    let is_ours = matches!(failure.kind, Kind::Swapped | Kind::Misplaced | Kind::Lost | Kind::Doubled);
                    if is_first && brought.whole.is_empty() && !is_ours {
                        brought.strange.get_or_insert_with(|| Strange::new(&scratch[..len], speech.destination));
                    }
                })?;
                // As with one request at a time: a short read means drained, unless the end is behind it.
                self.is_readable = !is_drained || self.is_read_closed;
                Ok(())
            }
            Err(trouble) => self.bear(trouble).map_err(|failure| broken.unwrap_or(failure)),
        }
    }

    /// The server has finished: its last response ends with that, or it has closed a connection that was idle for all that
    /// it knew, which HTTP servers may at any time (RFC 9112, 9.5). One that has answered nothing has no such reason.
    fn end_pipelined(&mut self, speech: &mut Speech<'_>, whole: &mut Vec<Option<Kind>>) -> Result<(), Failure> {
        let has_answered = self.begun > 0;
        let is_between = self.received == 0 && matches!(speech.protocol, Protocol::Http(_));
        match speech.responses.end((speech.slot, speech.destination)) {
            Some(response) if self.state == State::Busy && self.sent >= self.size => {
                whole.push(response.fault);
                self.pass();
            }
            _ if is_between && has_answered => {}
            _ => return Err(self.ended()),
        }
        (self.is_last, self.is_readable) = (true, false);
        Ok(())
    }

    fn verify_pipelined(
        &mut self,
        speech: &mut Speech<'_>,
        mut bytes: &[u8],
        under_way: u32,
        whole: &mut Vec<Option<Kind>>,
    ) -> Result<(), Failure> {
        while !bytes.is_empty() {
            if whole.len() == under_way as usize {
                // Nobody asked for these.
                self.state = State::Idle;
                return Err(self.unasked(speech, bytes));
            }
            if self.is_last {
                return Err(Failure::new(Act::Reply, Kind::Surplus));
            }
            let (taken, response) = self.verify_piece(speech, bytes)?;
            bytes = &bytes[taken..];
            if let Some(fault) = response {
                // A reply to what has not been asked yet.
                if self.sent < self.size {
                    return Err(Failure::new(Act::Reply, Kind::Surplus));
                }
                whole.push(fault);
                self.pass();
            }
        }
        Ok(())
    }

    /// Verifies what of `bytes` belongs to the oldest request's reply: how many do, and, if it is whole with them, what is
    /// wrong with it.
    fn verify_piece(
        &mut self,
        speech: &mut Speech<'_>,
        bytes: &[u8],
    ) -> Result<(usize, Option<Option<Kind>>), Failure> {
        match speech.protocol {
            Protocol::Echo { .. } => {
                let piece = bytes.len().min((self.size - self.received) as usize);
                let is_right = piece <= self.sent.saturating_sub(self.received) as usize
                    && speech.stream.matches(self.begun + u64::from(self.received), &bytes[..piece]);
                if !is_right {
                    return Err(self.diagnose_pipelined(speech, bytes));
                }
                self.received += piece as u32;
                Ok((piece, (self.received == self.size).then_some(None)))
            }
            Protocol::Script(script) => {
                let advanced = script.advance(self.received, bytes);
                let (position, taken) = advanced.map_err(|_| Failure::new(Act::Reply, Kind::Unexpected))?;
                self.received = position;
                Ok((taken, script.is_whole(position).then_some(None)))
            }
            Protocol::Http(_) => {
                let taken = speech.responses.take((speech.slot, speech.destination), bytes);
                self.received = 1;
                let Some((response, taken)) = taken.map_err(|kind| Failure::new(Act::Reply, kind))? else {
                    return Ok((bytes.len(), None));
                };
                self.is_last = response.is_last;
                Ok((taken, Some(response.fault)))
            }
        }
    }

    /// The oldest request has its reply.
    fn pass(&mut self) {
        self.begun = next_message(self.begun, self.size);
        self.sent -= self.size;
        self.received = 0;
    }

    fn unasked(&self, speech: &Speech<'_>, bytes: &[u8]) -> Failure {
        match speech.protocol {
            Protocol::Echo { .. } => self.diagnose_pipelined(speech, bytes),
            _ => Failure::new(self.act(), Kind::Surplus),
        }
    }

    /// What became of replies of which `bytes` are not what is to come next.
    #[cold]
    fn diagnose_pipelined(&self, speech: &Speech<'_>, bytes: &[u8]) -> Failure {
        let (stream, connections, size) = (speech.stream, speech.connections, self.size.max(1));
        let sent = self.span(self.sent / size) + u64::from(self.sent % size);
        let received = u64::from(self.received);
        let (position, sent) = (self.begun + received, sent.saturating_sub(received));
        let kind = |bytes| Reply { stream, connections, position, sent, bytes }.kind();
        // Messages of a length that is no multiple of a cell's have gaps between them in the stream: then it is told from
        // this one's bytes alone. Where one has lost some, the first of the next one stand at its end; if no whole cell can
        // be before them, it is looked at without them.
        let len = match u64::from(size) % CELL {
            0 => bytes.len(),
            _ => bytes.len().min((size - self.received) as usize),
        };
        let wrong = (0..len).find(|at| stream.byte_at(position + *at as u64) != bytes[*at]).unwrap_or(len);
        let least = if ((len - wrong) as u64) < 3 * CELL { len.min(wrong + 1) } else { len };
        let mut kinds = (least..=len).rev().map(|len| kind(&bytes[..len]));
        let kind = match kinds.find(|kind| *kind != Kind::Corrupted).unwrap_or(Kind::Corrupted) {
            Kind::Lost if self.is_out_of_order(speech, bytes) => Kind::Misplaced,
            kind => kind,
        };
        Failure::new(if self.state == State::Busy { Act::Reply } else { self.act() }, kind)
    }

    /// Whether `bytes`, with which a reply begins, are the first of what a later request has sent, and the reply that was
    /// expected stands behind it. Without that it may have been left out as well.
    fn is_out_of_order(&self, speech: &Speech<'_>, bytes: &[u8]) -> bool {
        let Some(cell) = bytes.first_chunk().filter(|_| self.received == 0 && u64::from(self.size) >= CELL) else {
            return false;
        };
        let (owner, belongs) = speech.stream.owner(*cell);
        let is_later = belongs > self.begun && (belongs - self.begun).is_multiple_of(self.span(1));
        let mut others = bytes.chunks(self.size as usize).skip(1).filter_map(<[u8]>::first_chunk::<{ CELL as usize }>);
        owner == speech.stream.connection() && is_later && others.any(|cell| speech.stream.matches(self.begun, cell))
    }

    /// How much of the stream so many messages take.
    fn span(&self, messages: u32) -> u64 {
        next_message(0, self.size) * u64::from(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{pair, speak};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use socket2::SockRef;

    /// Sends what is new of so many requests of `size` bytes.
    fn flush(client: &mut Client, size: u32, under_way: u32) -> Result<u64, Failure> {
        client.note_under_way(size, Some(0));
        speak(|speech| client.flush_pipelined(speech, &mut [0; 40], under_way))
    }

    /// Reads until the connection fails: how many replies were whole, and with what it failed.
    fn receive(client: &mut Client, mut under_way: u32, broken: Option<Failure>) -> (usize, Failure) {
        let (mut answered, mut whole) = (0, Vec::new());
        loop {
            let mut brought = Brought { whole: &mut whole, bytes: &mut 0, strange: &mut None };
            let outcome =
                speak(|speech| client.receive_pipelined(speech, &mut [0; 256], (under_way, broken), &mut brought));
            (answered, under_way) = (answered + whole.len(), under_way - whole.len() as u32);
            whole.clear();
            if let Err(failure) = outcome {
                return (answered, failure);
            }
            std::thread::yield_now();
        }
    }

    /// A client with four requests of `size` bytes under way, to whom the peer has sent what `answer` makes of them.
    fn answered(size: u32, answer: impl FnOnce(Vec<u8>) -> Vec<u8>) -> (Client, TcpStream) {
        let (mut client, mut peer) = pair();
        assert_eq!(flush(&mut client, size, 4), Ok(u64::from(size) * 4));
        let mut requests = vec![0; size as usize * 4];
        peer.read_exact(&mut requests).unwrap();
        peer.write_all(&answer(requests)).unwrap();
        (client, peer)
    }

    #[test]
    fn what_is_wrong_with_one_is_told_whatever_stands_behind_it() {
        for size in [5, 7, 8, 9, 12, 15, 16, 17, 23, 40, 65] {
            let len = size as usize;
            let kind = |answer: &dyn Fn(Vec<u8>) -> Vec<u8>| {
                let (mut client, _peer) = answered(size, answer);
                let (answered, failure) = receive(&mut client, 4, None);
                (answered, failure.kind)
            };
            for at in len..2 * len - 3 {
                let without = kind(&|all| [&all[..at], &all[at + 1..]].concat());
                assert_eq!(without, (1, Kind::Lost), "{size} without {at}");
                let changed = kind(&|all| [&all[..at], &[all[at] ^ 0x10], &all[at + 1..]].concat());
                assert_eq!(changed, (1, Kind::Corrupted), "{size}, {at} changed");
            }
            assert_eq!(kind(&|all| [&all[..len], &all[2 * len..]].concat()), (1, Kind::Lost), "{size}: one left out");
            let swapped =
                kind(&|all| [&all[..len], &all[2 * len..3 * len], &all[len..2 * len], &all[3 * len..]].concat());
            let later = if size < 8 { Kind::Lost } else { Kind::Misplaced };
            assert_eq!(swapped, (1, later), "{size}: two in the wrong order");
            assert_eq!(kind(&|all| [&all[..2 * len], &all[len..]].concat()), (2, Kind::Doubled), "{size}: one twice");
        }
    }

    #[test]
    fn a_reset_that_sending_was_told_of_is_told_behind_what_came_before() {
        let (mut client, peer) = answered(16, |requests| requests[..32].to_vec());
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        let mut requests = 4..;
        let broken = requests.find_map(|under_way| flush(&mut client, 16, under_way).err()).unwrap();
        assert!(broken.kind == Kind::Reset && client.wants_turn(), "there is something to read");
        assert_eq!(receive(&mut client, requests.start, Some(broken)), (2, broken));
    }

    #[test]
    fn an_end_is_told_by_reading_whatever_sending_says() {
        let (mut client, peer) = answered(16, |requests| requests[..24].to_vec());
        drop(peer);
        // What is sent behind the end is answered by a reset, and then nothing can be sent.
        let mut requests = 4..;
        while !client.is_full {
            assert!(flush(&mut client, 16, requests.next().unwrap()).is_ok());
        }
        let cut = Failure::new(Act::Reply, Kind::Truncated);
        assert_eq!(receive(&mut client, requests.start, None), (1, cut));
    }
}
