//! Opening connections: which way, how fast, how many at once, and when to give up.

use std::io;
use std::net::SocketAddr;

use socket2::Socket;

use crate::address::Address;
use crate::failure::{Act, Failure, Kind};
use crate::gate::Gate;
use crate::routes::Routes;
use crate::schedule::Pace;

/// One worker's connects.
pub(crate) struct Connector {
    targets: Vec<Address>,
    routes: Routes,
    pace: Option<Pace>,
    gate: Gate,
    begin_ns: u64,
    total: u32,
    begun: u32,
    /// Connects that the kernel took, whatever became of them.
    opened: u64,
    /// Sources that were tried in place of others.
    spares: u64,
    failed: u64,
    /// Connects that timed out since the last that succeeded.
    timed_out: u64,
    is_given_up: bool,
}

impl Connector {
    /// `total` connects to `targets` on `routes`, begun from `begin_ns` on as `pace` says, or as fast as they succeed, and
    /// as `gate` lets them.
    pub(crate) fn new(
        targets: Vec<Address>,
        routes: Routes,
        gate: Gate,
        (begin_ns, pace): (u64, Option<Pace>),
        total: u32,
    ) -> Connector {
        Connector {
            targets,
            routes,
            pace,
            gate,
            begin_ns,
            total,
            begun: 0,
            opened: 0,
            spares: 0,
            failed: 0,
            timed_out: 0,
            is_given_up: false,
        }
    }

    /// Whether no connect is left to begin.
    pub(crate) fn is_done(&self) -> bool {
        self.begun == self.total || self.is_given_up
    }

    /// When the next connect may begin, by the run's clock; `None` when none is left, or as long as `connecting` are under
    /// way.
    pub(crate) fn next_ns(&self, connecting: u64) -> Option<u64> {
        let may = !self.is_done() && connecting < self.gate.window();
        let due_ns = || self.begin_ns.saturating_add(self.pace.map_or(0, |pace| pace.due_ns(u64::from(self.begun))));
        may.then(|| due_ns().max(self.gate.shut_until_ns()))
    }

    /// Whether one may begin now; `next_ns` says when to ask again.
    pub(crate) fn may_begin(&mut self, now_ns: u64) -> bool {
        self.gate.pass(now_ns)
    }

    /// Begins the next connect, from the next source that is free; its number is counted from 0.
    ///
    /// # Errors
    /// The failure of this connect; the next may still succeed.
    pub(crate) fn open(&mut self) -> (u32, Result<Socket, Failure>) {
        let number = self.begun;
        self.begun += 1;
        let Some(route) = self.routes.next() else {
            return (number, Err(Failure::new(Act::Connect, Kind::OutOfPorts)));
        };
        let mut source = route.source;
        loop {
            let failure = match self.targets[route.destination].open(source) {
                Ok(socket) => {
                    self.opened += 1;
                    return (number, Ok(socket));
                }
                Err(error) => self.failure(&error, source),
            };
            // Something else has this source: it listens there, or has a connection from there.
            let is_taken = failure.kind == Kind::OutOfPorts && source.is_some();
            source = if is_taken { self.routes.spare() } else { None };
            self.spares += u64::from(source.is_some());
            if source.is_none() {
                return (number, Err(failure));
            }
        }
    }

    /// How many sources were tried in place of others, which something else has.
    pub(crate) fn spares(&self) -> u64 {
        self.spares
    }

    /// The kernel says the same when no port is left and when there is no address to begin with, as toward `::1` where IPv6
    /// is off: that is told apart by whether there was ever a port.
    fn failure(&self, error: &io::Error, source: Option<SocketAddr>) -> Failure {
        let failure = Failure::of(Act::Connect, error);
        let is_first = self.opened == 0 && source.is_none() && error.kind() == io::ErrorKind::AddrNotAvailable;
        if is_first { Failure { kind: Kind::NoAddress, ..failure } } else { failure }
    }

    /// A connect succeeded after `took_ns`.
    pub(crate) fn note_established(&mut self, took_ns: u64, now_ns: u64) {
        self.timed_out = 0;
        self.gate.note_established(took_ns, now_ns);
    }

    /// A connect failed while `established` had succeeded. The others are not tried where they would tell nothing new:
    /// after as many failures as can be under way at once, without one success; or after some that timed out, without one
    /// in between, for a server that takes no more makes each wait for all of its time.
    pub(crate) fn note_failure(&mut self, kind: Kind, established: u64) {
        self.failed += 1;
        self.timed_out += u64::from(kind == Kind::TimedOut);
        self.is_given_up |= established == 0 && self.failed >= FAILURES_MAX;
        self.is_given_up |= self.timed_out >= self.gate.window().max(TIMED_OUT_LEAST);
    }
}

/// Fewer timeouts than this are a mishap.
const TIMED_OUT_LEAST: u64 = 3;

/// Failures without a success before a worker gives up.
const FAILURES_MAX: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::Sources;
    use esockets::socket;
    use std::net::TcpListener;

    fn connector(target: SocketAddr, pace: Option<Pace>, total: u32) -> Connector {
        let sources = Sources::Given { addresses: [[127, 200, 1, 1].into()].into(), port_end: 1034 };
        let routes = Routes::new(sources, 1, (0, u64::from(total), u64::from(total)), (0, 1));
        Connector::new(vec![Address::Ip(target)], routes, Gate::new(None, 1, 1_000_000_000), (5, pace), total)
    }

    #[test]
    fn it_begins_as_many_as_asked_and_as_fast_as_allowed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connector = connector(listener.local_addr().unwrap(), Some(Pace::new(10.0, 0, 1)), 2);
        assert_eq!(connector.next_ns(128), None);
        assert_eq!(connector.next_ns(0), Some(5));
        assert_eq!(connector.open().0, 0);
        assert_eq!(connector.next_ns(1), Some(100_000_005));
        assert_eq!(connector.open().0, 1);
        assert_eq!(connector.next_ns(0), None);
        assert!(connector.is_done());
    }

    #[test]
    fn a_source_that_is_taken_is_passed_over() {
        let taken = TcpListener::bind("127.200.1.1:1024").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connector = connector(listener.local_addr().unwrap(), None, 1);
        let socket = connector.open().1.unwrap();
        assert_eq!(socket::local_addr(&socket).unwrap(), "127.200.1.1:1025".parse().unwrap());
        assert_eq!(connector.spares(), 1);
        drop(taken);
    }

    #[test]
    fn a_missing_address_is_told_from_missing_ports() {
        let error = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let mut connector = connector("127.0.0.1:1".parse().unwrap(), None, 2);
        assert_eq!(connector.failure(&error, None).kind, Kind::NoAddress);
        assert_eq!(connector.failure(&error, Some("127.0.0.1:2".parse().unwrap())).kind, Kind::OutOfPorts);
        connector.opened = 1;
        assert_eq!(connector.failure(&error, None).kind, Kind::OutOfPorts, "there were ports before");
    }

    #[test]
    fn failures_without_a_success_end_it() {
        let mut hopeless = connector("127.0.0.1:1".parse().unwrap(), None, 1000);
        (1..FAILURES_MAX).for_each(|_| hopeless.note_failure(Kind::Refused, 0));
        assert!(!hopeless.is_done());
        hopeless.note_failure(Kind::Refused, 0);
        assert!(hopeless.is_done());
        let mut hopeful = connector("127.0.0.1:1".parse().unwrap(), None, 1000);
        (0..1000).for_each(|_| hopeful.note_failure(Kind::Refused, 1));
        assert!(!hopeful.is_done());
    }

    #[test]
    fn a_server_that_takes_no_more_ends_it() {
        let mut full = connector("127.0.0.1:1".parse().unwrap(), None, 1000);
        let timeouts = full.gate.window();
        for _ in 0..3 {
            (1..timeouts).for_each(|_| full.note_failure(Kind::TimedOut, 700));
            assert!(!full.is_done());
            full.note_established(1000, 5);
        }
        (0..timeouts).for_each(|_| full.note_failure(Kind::TimedOut, 700));
        assert!(full.is_done());
    }
}
