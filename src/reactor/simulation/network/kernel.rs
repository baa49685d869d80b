//! The simulated kernel: what it says of the network, how it fails, and what it checks of every call.

use std::io;

use super::*;
use crate::kernel::Kernel;
use crate::socket::Line;
use crate::target::Target;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Waiting.
impl World {
    fn check_sleep(&mut self, timeout: Duration) {
        self.check_resumed();
        self.check_gone(self.now + timeout);
        if self.fault.is_some() || self.stopping {
            return;
        }
        if !self.backlog.is_empty() && !self.incoming && timeout > ACCEPT_PAUSE_MAX {
            self.fail(format!("it would sleep while {:?} wait to be accepted", self.backlog));
        }
        let vain = self.relieved && self.accept_paused && !self.backlog.is_empty() && !self.incoming;
        self.expect(!vain, || "somebody has left, and those who wait are not asked in".into());
    }

    /// Polls that bring nothing, without anything having been done in between, are a loop that spins.
    fn check_spin(&mut self) {
        let (progress, polls) = self.idle_polls;
        self.idle_polls = if progress == self.progress { (progress, polls + 1) } else { (self.progress, 0) };
        assert!(self.idle_polls.1 < IDLE_POLLS_MAX, "it spins");
    }

    /// Lets time pass until something can be told or `timeout` is over; `meddle` is somebody on another thread.
    fn sleep(world: &SharedWorld, timeout: Duration, meddle: &mut dyn FnMut(bool) -> bool) -> bool {
        let until = world.borrow().now + timeout;
        loop {
            let quiet = {
                let this = &mut *world.borrow_mut();
                if !this.edges.is_empty() || this.incoming || this.now >= until || this.dice.chance(200) {
                    return false;
                }
                !this.step()
            };
            if meddle(quiet) {
                return true;
            }
            let this = &mut *world.borrow_mut();
            this.quiet_waits = if quiet { this.quiet_waits + 1 } else { 0 };
            let span = if quiet { u64::MAX } else { this.dice.pick(&[100, 20_000]) };
            let step = Duration::from_micros(this.dice.below(span)).min(until.saturating_sub(this.now));
            this.now = if quiet { until } else { this.now + step };
            if this.dice.chance(this.temper.jumps) {
                let far = this.dice.pick(&[100, 40_000, 4_000_000]);
                this.now += Duration::from_millis(this.dice.below(far));
            }
        }
    }

    /// Picks what this wait tells: edges in any order, few at a time, among events that mean nothing.
    fn collect(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let most =
            if self.dice.chance(3) { self.dice.up_to(self.temper.batch as u64) as usize } else { self.temper.batch };
        while events.len() < most {
            if self.dice.chance(self.temper.spurious) {
                let event = self.nonsense();
                events.extend(event);
            } else if self.incoming && self.dice.chance(2) {
                self.incoming = false;
                events.push(Event::Incoming);
            } else if !self.edges.is_empty() {
                let at = self.dice.below(self.edges.len() as u64) as usize;
                let n = self.edges.swap_remove(at);
                let event = self.event(n);
                events.extend(event);
            } else if !self.incoming {
                break;
            }
        }
        self.tell(|| format!("events {events:?}"));
        events
    }

    fn nonsense(&mut self) -> Option<Event> {
        let dice = &mut self.dice;
        let (readable, writable, ended) = (dice.chance(2), dice.chance(2), dice.chance(4));
        let key = match dice.below(3) {
            0 => return Some(Event::Incoming),
            1 if self.graves.is_empty() => return None,
            1 => dice.pick(&self.graves),
            _ => dice.pick(&self.wires.iter().map(|wire| wire.key).collect::<Vec<_>>())?,
        };
        Some(Event::Stream(key, Edge::new(readable, writable, ended)))
    }
}

/// The kernel, as the loop holds it.
pub(crate) struct Simulated {
    pub(crate) world: SharedWorld,
    /// Somebody on another thread, who acts while the loop waits; told whether nothing else will happen, and true if
    /// the loop has to wake up.
    pub(crate) meddle: Box<dyn FnMut(bool) -> bool>,
    /// The same while the loop is at work: it asks for the end, or does not.
    pub(crate) interrupt: Box<dyn FnMut() -> bool>,
}

pub(crate) struct SimulatedStream {
    slot: usize,
    connection: usize,
}

pub(crate) fn connection_of(peer: &Peer) -> usize {
    usize::from(peer.port()) - 1
}

pub(super) fn errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl Kernel for Simulated {
    type Stream = SimulatedStream;

    fn wait(&mut self, timeout: Option<Duration>, note: impl FnMut(Event)) -> io::Result<usize> {
        // Even time without an end is over when all that was planned has happened.
        let timeout = timeout.unwrap_or(DAY);
        {
            let this = &mut *self.world.borrow_mut();
            assert!(this.fault.is_none(), "{}", this.fault.as_ref().map_or("", |fault| fault));
            this.enter();
            this.tell(|| format!("wait {timeout:?}"));
            if this.dice.chance(this.temper.wait_errors) {
                (this.wait_failed, this.stopping) = (true, true);
                return Err(errno(libc::EBADF));
            }
            this.check_owed();
            this.check_shares();
            this.check_timers(timeout);
            this.check_ticks(timeout);
            this.check_stalls(timeout);
            if !this.woken {
                this.check_requests(timeout);
            }
            if !timeout.is_zero() {
                this.check_sleep(timeout);
            }
        }
        let woken = std::mem::take(&mut self.world.borrow_mut().woken)
            || !timeout.is_zero() && World::sleep(&self.world, timeout, &mut self.meddle);
        let mut this = self.world.borrow_mut();
        let events = this.collect();
        this.begin_turn();
        this.share_out(&events);
        if events.is_empty() && timeout.is_zero() {
            this.check_spin();
        } else {
            this.progress += 1;
        }
        drop(this);
        let count = events.len();
        events.into_iter().for_each(note);
        Ok(count + usize::from(woken))
    }

    fn batch(&self) -> usize {
        self.world.borrow().temper.batch
    }

    fn register(&mut self, stream: &SimulatedStream, key: Key, writing: bool) -> io::Result<()> {
        let this = &mut *self.world.borrow_mut();
        this.enter();
        let n = this.check_stream(stream, "register");
        if let Some(error) = this.fails_for_good(&[libc::ENOSPC, libc::ENOMEM]) {
            this.wires[n].failed = true;
            return Err(errno(error));
        }
        this.tell(|| format!("register {n} as {key:?}, writing {writing}"));
        let fresh = this.wires[n].key.is_none();
        this.expect(fresh, || format!("{n} is registered twice"));
        (this.wires[n].key, this.wires[n].writing) = (Some(key), writing);
        this.raise(n);
        Ok(())
    }

    fn rearm(&mut self, stream: &SimulatedStream, key: Key) -> io::Result<()> {
        let this = &mut *self.world.borrow_mut();
        this.enter();
        let n = this.check_stream(stream, "rearm");
        if let Some(error) = this.fails_for_good(&[libc::ENOSPC, libc::ENOMEM]) {
            this.wires[n].failed = true;
            return Err(errno(error));
        }
        this.tell(|| format!("rearm {n}"));
        let same = this.wires[n].key == Some(key);
        this.expect(same, || format!("{n} is armed again under another key"));
        this.wires[n].writing = true;
        this.raise(n);
        Ok(())
    }

    fn accept(&mut self) -> io::Result<(SimulatedStream, Peer)> {
        let interrupted = (self.interrupt)();
        let this = &mut *self.world.borrow_mut();
        this.woken |= interrupted;
        this.relieved = false;
        this.enter();
        if !this.listening {
            return Err(errno(libc::EAGAIN));
        }
        let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EINVAL];
        let passed_on = [libc::ECONNABORTED, libc::EPROTO, libc::ECONNRESET, libc::ETIMEDOUT, libc::EPERM];
        let open = this.slots.len() - this.free.len();
        if this.now < this.exhausted_until || open >= this.temper.descriptors {
            this.accept_paused = true;
            return Err(errno(libc::EMFILE));
        }
        if let Some(error) = this.fails(&[&exhausted[..], &passed_on[..], &[libc::EINTR]].concat()) {
            // It may be over at the next call, or last until somebody leaves.
            if exhausted.contains(&error) && this.dice.chance(2) {
                this.exhausted_until = this.now + Duration::from_millis(this.dice.up_to(500));
            }
            this.accept_paused |= exhausted.contains(&error);
            this.tell(|| format!("accept fails with {error}"));
            if passed_on.contains(&error)
                && let Some(n) = this.backlog.pop_front()
            {
                this.wires[n].closed = true;
            }
            return Err(errno(error));
        }
        this.accept_paused = false;
        let Some(n) = this.backlog.pop_front() else { return Err(errno(libc::EAGAIN)) };
        this.wires[n].accepted = true;
        this.check_welcome();
        this.stir(n);
        (this.accepted, this.progress) = (this.accepted + 1, this.progress + 1);
        this.tell(|| format!("accept {n}"));
        Ok((this.seat(n), limits::address_of(n)))
    }

    fn open(&mut self, _target: &Target, _line: &Line) -> io::Result<SimulatedStream> {
        self.world.borrow_mut().open()
    }

    fn connect(&mut self, stream: &SimulatedStream, _target: &Target) -> io::Result<()> {
        let this = &mut *self.world.borrow_mut();
        let n = this.check_stream(stream, "connect");
        this.connect(n)
    }

    fn connected(&mut self, stream: &SimulatedStream) -> io::Result<bool> {
        let this = &mut *self.world.borrow_mut();
        let n = this.check_stream(stream, "connected");
        this.connected(n)
    }

    fn stop_listening(&mut self) {
        let this = &mut *self.world.borrow_mut();
        this.check_awaited();
        this.listening = false;
        for n in std::mem::take(&mut this.backlog) {
            this.wires[n].closed = true;
        }
    }

    fn receive(&mut self, stream: &SimulatedStream, buffer: &mut [u8]) -> io::Result<usize> {
        let this = &mut *self.world.borrow_mut();
        this.enter();
        let n = this.check_stream(stream, "receive");
        this.expect(!buffer.is_empty(), || format!("{n} is read into nothing, which looks like its end"));
        this.check_share(n, 0);
        this.check_untouched(n);
        this.check_pressed(n);
        if let Some(error) = this.fails(&[libc::EINTR, libc::EAGAIN]) {
            // Whoever is told that there is nothing is owed an edge when there is.
            let wire = &mut this.wires[n];
            if error == libc::EAGAIN && wire.has_input() {
                (wire.renew, wire.told) = (true, wire.read);
                wire.pretended |= wire.due_at_stop.is_some();
            }
            return Err(errno(error));
        }
        if let Some(error) = this.fails_for_good(&[libc::ECONNRESET, libc::ETIMEDOUT, libc::ENOMEM, libc::EHOSTUNREACH])
        {
            this.tell(|| format!("receive {n} fails with {error}"));
            this.wires[n].failed = true;
            return Err(errno(error));
        }
        let wire = &mut this.wires[n];
        let count = (wire.arrived - wire.read).min(buffer.len() as u64);
        for (at, byte) in (wire.read..wire.read + count).zip(buffer) {
            *byte = keyed(n, false, at);
        }
        wire.read += count;
        this.check_share(n, count);
        if count > 0 {
            this.progress += 1;
            this.stir(n);
        }
        this.tell(|| format!("receive {n}: {count}"));
        let wire = &mut this.wires[n];
        match count {
            // Linux: who has seen the FIN is never told of a reset by recv(2).
            0 if wire.finished => wire.eof_read = true,
            0 if std::mem::take(&mut wire.error) => {
                wire.failed = true;
                return Err(errno(libc::ECONNRESET));
            }
            0 if !wire.reset => return Err(errno(libc::EAGAIN)),
            _ => {}
        }
        Ok(count as usize)
    }

    fn send(&mut self, stream: &SimulatedStream, bytes: &[u8]) -> io::Result<usize> {
        let this = &mut *self.world.borrow_mut();
        this.enter();
        let n = this.check_stream(stream, "send");
        let wire = &mut this.wires[n];
        let at = wire.taken;
        let slipped = bytes.iter().zip(at..).find(|&(&byte, at)| byte != keyed(n, true, at)).map(|(_, at)| at);
        let shut = wire.shut;
        this.expect(slipped.is_none(), || {
            format!("{n} is sent the wrong byte at {slipped:?}, {} from {at}", bytes.len())
        });
        this.expect(!shut, || format!("{n} is sent something after the end"));
        let wire = &mut this.wires[n];
        if wire.reset {
            wire.failed = true;
            return Err(errno(if std::mem::take(&mut wire.error) { libc::ECONNRESET } else { libc::EPIPE }));
        }
        if let Some(error) = this.fails_for_good(&[libc::ECONNRESET, libc::ENOBUFS, libc::ETIMEDOUT, libc::EPERM]) {
            this.tell(|| format!("send {n} fails with {error}"));
            this.wires[n].failed = true;
            return Err(errno(error));
        }
        if let Some(error) = this.fails(&[libc::EINTR, libc::EAGAIN]).filter(|_| !bytes.is_empty()) {
            this.wires[n].full |= error == libc::EAGAIN;
            return Err(errno(error));
        }
        let wire = &mut this.wires[n];
        let mut count = wire.room().min(bytes.len() as u64);
        if count > 1 && this.dice.chance(this.temper.errors) {
            count = this.dice.up_to(count);
        }
        let wire = &mut this.wires[n];
        wire.taken += count;
        wire.full |= count < bytes.len() as u64;
        if count > 0 {
            this.progress += 1;
            this.stir(n);
            this.wires[n].sent_at = this.turn_at;
            this.wires[n].emptied();
        }
        this.tell(|| format!("send {n}: {count} of {}", bytes.len()));
        if count == 0 && !bytes.is_empty() {
            return Err(errno(libc::EAGAIN));
        }
        Ok(count as usize)
    }

    fn unacknowledged(&self, stream: &SimulatedStream) -> usize {
        let this = &mut *self.world.borrow_mut();
        let n = this.check_stream(stream, "unacknowledged");
        let now = this.now;
        let wire = &mut this.wires[n];
        let on_its_way = wire.taken - wire.drained;
        wire.asked_at = now;
        wire.seen = (on_its_way, wire.drained_at);
        on_its_way as usize
    }

    fn finish_sending(&mut self, stream: &SimulatedStream) -> io::Result<()> {
        let this = &mut *self.world.borrow_mut();
        this.enter();
        let n = this.check_stream(stream, "finish_sending");
        this.tell(|| format!("finish_sending {n}"));
        if let Some(error) = this.fails_for_good(&[libc::ENOTCONN]) {
            this.wires[n].failed = true;
            return Err(errno(error));
        }
        let early = this.wires[n].is_pending();
        this.expect(!early, || format!("{n} is to finish before it is connected"));
        (this.wires[n].shut, this.wires[n].shut_at) = (true, this.now);
        this.check_whole(n);
        Ok(())
    }

    fn close(&mut self, stream: SimulatedStream, reset: bool) {
        let this = &mut *self.world.borrow_mut();
        this.enter();
        let n = this.check_stream(&stream, "close");
        this.tell(|| format!("close {n}, reset {reset}, {:?}", this.wires[n].account.reason));
        this.check_parting(n, reset);
        this.slots[stream.slot] = None;
        this.free.push(stream.slot);
        this.wires[n].closed = true;
        this.exhausted_until = Duration::ZERO;
        this.relieved |= this.wires[n].account.id.is_some();
        this.graves.extend(this.wires[n].key);
        this.progress += 1;
    }

    fn now(&self) -> Duration {
        let this = &mut *self.world.borrow_mut();
        this.now += Duration::from_nanos(this.dice.below(2_000));
        this.let_drain_end();
        this.now
    }
}

impl World {
    /// Gives it a descriptor.
    pub(super) fn seat(&mut self, n: usize) -> SimulatedStream {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(n);
        SimulatedStream { slot, connection: n }
    }

    fn check_stream(&mut self, stream: &SimulatedStream, what: &str) -> usize {
        let n = stream.connection;
        let holds = self.slots[stream.slot] == Some(n);
        self.expect(holds, || format!("{what} on {n}, which is closed"));
        n
    }
}
