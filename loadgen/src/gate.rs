//! How many connects may be under way: as many as hide a network's delay, and never more than a server's queues take.

use crate::accept_queues::AcceptQueues;

/// Lets one worker's connects pass.
///
/// Where the server's queues can be seen, on this machine, it looks at them and lets as many pass as leave half of each
/// free. Elsewhere what can be seen is a SYN that was sent again, a second late: then half as many may be under way, and
/// one more after each round that went well.
pub(crate) struct Gate {
    queues: Option<AcceptQueues>,
    workers: u64,
    /// Connects that may still begin before the next look.
    credit: u64,
    /// When to look again, if the queues were too full.
    shut_until_ns: u64,
    /// Since when they have been.
    shut_since_ns: Option<u64>,
    /// How long they may be: then it is better to let the connects fail than to wait for ever.
    patience_ns: u64,
    window: u64,
    window_max: u64,
    /// Successes since the window grew or shrank.
    successes: u64,
    shrunk_ns: u64,
}

impl Gate {
    /// The gate of one of `workers`, at `queues` if they can be seen; after `patience_ns` without room it stays open.
    pub(crate) fn new(queues: Option<AcceptQueues>, workers: usize, patience_ns: u64) -> Gate {
        let workers = workers as u64;
        let window = (CONNECTING_MAX / workers.max(1)).clamp(WINDOW_LEAST, WINDOW_MOST);
        Gate {
            queues,
            workers,
            credit: 0,
            shut_until_ns: 0,
            shut_since_ns: None,
            patience_ns,
            window,
            window_max: window,
            successes: 0,
            shrunk_ns: 0,
        }
    }

    /// How many may be under way at once.
    pub(crate) fn window(&self) -> u64 {
        self.window
    }

    /// Until when nothing can pass; a moment long ago if something may.
    pub(crate) fn shut_until_ns(&self) -> u64 {
        self.shut_until_ns
    }

    /// Lets one connect pass, or not.
    pub(crate) fn pass(&mut self, now_ns: u64) -> bool {
        let Some(queues) = &mut self.queues else { return true };
        if self.credit == 0 {
            match queues.look() {
                Some(seen) => self.credit = seen.credit(self.workers),
                // The listener is gone, or cannot be seen any more: the connects will tell.
                None => self.queues = None,
            }
            if self.queues.is_some() && self.credit == 0 {
                return self.stay_shut(now_ns);
            }
        }
        self.shut_since_ns = None;
        self.credit = self.credit.saturating_sub(1);
        true
    }

    /// A connect succeeded after `took_ns`.
    pub(crate) fn note_established(&mut self, took_ns: u64, now_ns: u64) {
        if took_ns < RETRANSMIT_NS {
            self.successes += 1;
            if self.successes >= self.window && self.window < self.window_max {
                (self.window, self.successes) = (self.window + 1, 0);
            }
        } else if now_ns.saturating_sub(self.shrunk_ns) >= RETRANSMIT_NS {
            // All that were dropped together come back together: they are one sign, not many.
            (self.window, self.successes, self.shrunk_ns) = ((self.window / 2).max(1), 0, now_ns);
        }
    }

    fn stay_shut(&mut self, now_ns: u64) -> bool {
        let since_ns = *self.shut_since_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(since_ns) > self.patience_ns {
            self.queues = None;
            return true;
        }
        self.shut_until_ns = now_ns + LOOK_AGAIN_NS;
        false
    }
}

/// Connects under way at once, of all workers together: half of what a listener lets wait by default.
const CONNECTING_MAX: u64 = 2048;

/// The same, of one worker: more hides no delay that a network has.
const WINDOW_MOST: u64 = 128;
const WINDOW_LEAST: u64 = 8;

/// What takes longer was sent twice: the first retransmission is due after 1 s (RFC 6298), less the clock's grain.
pub(crate) const RETRANSMIT_NS: u64 = 950_000_000;

/// A shard that has woken up accepts hundreds in this time.
const LOOK_AGAIN_NS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept_queues::tests::skip;
    use std::net::{SocketAddr, TcpStream};

    const S: u64 = 1_000_000_000;

    #[test]
    fn many_workers_share_the_window() {
        assert_eq!(Gate::new(None, 1, S).window(), 128);
        assert_eq!(Gate::new(None, 51, S).window(), 40);
        assert_eq!(Gate::new(None, 1024, S).window(), 8);
    }

    #[test]
    fn a_retransmission_halves_the_window_and_successes_open_it_again() {
        let mut gate = Gate::new(None, 1, S);
        gate.note_established(S, 5 * S);
        gate.note_established(S, 5 * S + 1);
        assert_eq!(gate.window(), 64, "those of one moment are one sign");
        gate.note_established(3 * S, 7 * S);
        assert_eq!(gate.window(), 32);
        (0..32).for_each(|_| gate.note_established(50_000, 8 * S));
        assert_eq!(gate.window(), 33);
        (0..100_000).for_each(|_| gate.note_established(50_000, 8 * S));
        assert_eq!(gate.window(), 128);
    }

    #[test]
    fn it_shuts_before_a_queue_is_full_and_opens_when_there_is_room() {
        let options = esockets::socket::Listen {
            queue_size: 8,
            nodelay: true,
            keepalive: None,
            user_timeout: None,
            shared: false,
            only_v6: false,
            tuning: esockets::Tuning::default(),
        };
        let listener = esockets::socket::listen(SocketAddr::from(([127, 0, 0, 1], 0)), &options).unwrap();
        let address = esockets::socket::local_addr(&listener).unwrap();
        let Some(queues) = AcceptQueues::of(&[address]) else {
            return skip("a gate that shuts: queues are not seen here");
        };
        let mut gate = Gate::new(Some(queues), 1, 10 * S);
        let mut waiting = Vec::new();
        while gate.pass(1) {
            waiting.push(TcpStream::connect(address).unwrap());
        }
        assert_eq!((waiting.len(), gate.shut_until_ns()), (4, 1 + LOOK_AGAIN_NS));
        assert!(!gate.pass(2 * LOOK_AGAIN_NS));
        listener.accept().unwrap();
        assert!(gate.pass(3 * LOOK_AGAIN_NS), "one was accepted");
        drop(TcpStream::connect(address).unwrap());
        assert!(!gate.pass(4 * LOOK_AGAIN_NS) && gate.pass(20 * S), "in the end it lets them fail");
    }
}
