//! A handler whose calls are timed, and a kernel whose turns are. Loops that are not timed run without these, not with them
//! switched off: that costs a second copy of the loop in the program, and a loop of which nobody wants to know nothing.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "tls")]
use crate::agreed::Agreed;
use crate::client::{Client, ClientId};
use crate::handler::Handler;
use crate::histogram::Recorder;
use crate::kernel::{Event, Kernel};
use crate::peer::Peer;
use crate::reason::{CloseReason, Refusal};
use crate::shard::Shard;
use crate::slab::Key;
use crate::socket::Line;
use crate::stats::Timings;
use crate::target::Target;

/// A handler or a kernel, and where to write down how long it takes.
pub(crate) struct Timed<T> {
    pub(crate) whole: T,
    timings: Arc<Timings>,
    /// When the last wait was over, on the clock of the kernel.
    begun_at: Duration,
}

impl<T> Timed<T> {
    pub(crate) fn new(whole: T, timings: &Arc<Timings>) -> Timed<T> {
        Timed { whole, timings: Arc::clone(timings), begun_at: Duration::ZERO }
    }
}

/// A call that has begun: it is over when this is dropped, and so it is if it panics.
struct Call<'a> {
    recorder: &'a Recorder,
    begun_at: Instant,
}

impl Drop for Call<'_> {
    #[inline]
    fn drop(&mut self) {
        self.recorder.record(self.begun_at.elapsed());
    }
}

impl<H: Handler> Timed<H> {
    #[inline]
    fn call<R>(&mut self, act: impl FnOnce(&mut H) -> R) -> R {
        let _call = Call { recorder: &self.timings.calls, begun_at: Instant::now() };
        act(&mut self.whole)
    }
}

/// Every function is passed on, those with a default, too (tests/tidy.rs sees to that).
impl<H: Handler> Handler for Timed<H> {
    type Session = H::Session;
    type Message = H::Message;

    fn handle_incoming(&mut self, client: &mut Client<'_>, address: &Peer) -> Option<H::Session> {
        self.call(|handler| handler.handle_incoming(client, address))
    }

    fn handle_refused(&mut self, address: &Peer, why: Refusal) -> &[u8] {
        let _call = Call { recorder: &self.timings.calls, begun_at: Instant::now() };
        self.whole.handle_refused(address, why)
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, session: &mut H::Session) -> bool {
        self.call(|handler| handler.handle_readable(client, session))
    }

    fn handle_writable(&mut self, client: &mut Client<'_>, session: &mut H::Session) -> bool {
        self.call(|handler| handler.handle_writable(client, session))
    }

    fn handle_eof(&mut self, client: &mut Client<'_>, session: &mut H::Session) -> bool {
        self.call(|handler| handler.handle_eof(client, session))
    }

    fn handle_timeout(&mut self, client: &mut Client<'_>, session: &mut H::Session) -> bool {
        self.call(|handler| handler.handle_timeout(client, session))
    }

    fn handle_connected(&mut self, client: &mut Client<'_>, session: &mut H::Session) -> bool {
        self.call(|handler| handler.handle_connected(client, session))
    }

    fn handle_shard(&mut self, shard: &mut Shard<'_, H::Session>, caller: ClientId) {
        self.call(|handler| handler.handle_shard(shard, caller));
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, H::Session>, message: H::Message) {
        self.call(|handler| handler.handle_message(shard, message));
    }

    fn handle_tick(&mut self, shard: &mut Shard<'_, H::Session>) {
        self.call(|handler| handler.handle_tick(shard));
    }

    fn handle_closed(&mut self, session: H::Session, id: ClientId, reason: CloseReason) {
        self.call(|handler| handler.handle_closed(session, id, reason));
    }

    fn handle_closed_on(
        &mut self,
        shard: &mut Shard<'_, H::Session>,
        session: H::Session,
        id: ClientId,
        reason: CloseReason,
    ) {
        self.call(|handler| handler.handle_closed_on(shard, session, id, reason));
    }
}

impl<K: Kernel> Kernel for Timed<K> {
    type Stream = K::Stream;

    #[inline]
    fn wait(&mut self, timeout: Option<Duration>, note: impl FnMut(Event)) -> io::Result<usize> {
        let events = self.whole.wait(timeout, note);
        self.begun_at = self.whole.now();
        events
    }

    #[inline]
    fn turned(&mut self) {
        self.timings.turns.record(self.whole.now().saturating_sub(self.begun_at));
        self.whole.turned();
    }

    fn batch(&self) -> usize {
        self.whole.batch()
    }

    fn register(&mut self, stream: &K::Stream, key: Key, writing: bool) -> io::Result<()> {
        self.whole.register(stream, key, writing)
    }

    fn rearm(&mut self, stream: &K::Stream, key: Key) -> io::Result<()> {
        self.whole.rearm(stream, key)
    }

    fn accept(&mut self) -> io::Result<(K::Stream, Peer)> {
        self.whole.accept()
    }

    fn stop_listening(&mut self) {
        self.whole.stop_listening();
    }

    fn open(&mut self, target: &Target, line: &Line) -> io::Result<K::Stream> {
        self.whole.open(target, line)
    }

    fn connect(&mut self, stream: &K::Stream, target: &Target) -> io::Result<()> {
        self.whole.connect(stream, target)
    }

    fn connected(&mut self, stream: &K::Stream) -> io::Result<bool> {
        self.whole.connected(stream)
    }

    #[inline]
    fn receive(&mut self, stream: &K::Stream, buffer: &mut [u8]) -> io::Result<usize> {
        self.whole.receive(stream, buffer)
    }

    #[inline]
    fn send(&mut self, stream: &K::Stream, bytes: &[u8]) -> io::Result<usize> {
        self.whole.send(stream, bytes)
    }

    #[inline]
    fn holds(&self, stream: &K::Stream) -> bool {
        self.whole.holds(stream)
    }

    #[cfg(feature = "tls")]
    fn agreed(&self, stream: &K::Stream) -> Option<Agreed> {
        self.whole.agreed(stream)
    }

    fn unacknowledged(&self, stream: &K::Stream) -> usize {
        self.whole.unacknowledged(stream)
    }

    fn finish_sending(&mut self, stream: &K::Stream) -> io::Result<()> {
        self.whole.finish_sending(stream)
    }

    fn close(&mut self, stream: K::Stream, reset: bool) {
        self.whole.close(stream, reset);
    }

    fn now(&self) -> Duration {
        self.whole.now()
    }
}
