//! Whom a limit keeps out: told so, if the handler has something to say, and closed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{BUFFER, Desk, Handler, Kernel, Reactor};
use crate::connection::panicked;
use crate::peer::Peer;
use crate::reason::{CloseReason, Refusal};

impl<K: Kernel, H: Handler> Reactor<K, H> {
    #[cold]
    pub(super) fn turn_away(&mut self, stream: K::Stream, address: &Peer, why: Refusal) {
        let Reactor { handler, desk, .. } = self;
        desk.counters.works();
        let told = catch_unwind(AssertUnwindSafe(|| {
            let farewell = handler.handle_refused(address, why);
            if !farewell.is_empty() {
                desk.bid(&stream, farewell);
            }
        }));
        if let Err(panic) = told {
            panicked(&desk.counters, panic);
        }
        desk.counters.turned_away(why);
        desk.told.refused(address, why, || desk.kernel.now());
        desk.counters.closed(CloseReason::Refused);
        self.acceptor.relieved();
        self.desk.kernel.close(stream, false);
    }
}

impl<K: Kernel> Desk<K> {
    /// One attempt to send, and none to wait: nobody is remembered for whom there is no room.
    fn bid(&mut self, stream: &K::Stream, farewell: &[u8]) {
        let sent = self.kernel.send(stream, farewell);
        self.counters.wrote(*sent.as_ref().unwrap_or(&0));
        // Closing over what the peer has said by now would be a reset, which may overtake the farewell.
        let received = self.kernel.receive(stream, &mut self.buffer[..BUFFER]);
        self.counters.read(*received.as_ref().unwrap_or(&0));
    }
}
