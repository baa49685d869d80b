//! Which way connections go: source addresses and ports, and destinations, computed, no socket.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use crate::quantity::count;

/// The ports that the kernel gives out by itself, both included: `net.ipv4.ip_local_port_range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortRange {
    /// The first port of the range.
    pub(crate) first: u16,
    /// The last port of the range.
    pub(crate) last: u16,
}

impl PortRange {
    /// How many ports the range holds.
    pub(crate) fn len(self) -> u64 {
        u64::from(self.last.saturating_sub(self.first)) + 1
    }

    /// Whether so many ports are free below it that explicit sources are worth while.
    fn leaves_room(self) -> bool {
        self.first >= PORT_FIRST + PORTS_WORTHWHILE
    }
}

/// Who chooses the sources of a run's connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sources {
    /// The kernel: one address of this machine, ports of its own range.
    Kernel,
    /// This program: 127.0.0.1, then addresses of 127.`network`.0.0/16, ports from [`PORT_FIRST`] up to but excluding
    /// `port_end`.
    Loopback {
        /// The second octet of the addresses after the first, 1 to 254.
        network: u8,
        /// The first port of the kernel's range, which must stay free for all other programs' connects.
        port_end: u32,
    },
    /// The user: these addresses, ports from [`PORT_FIRST`] up to but excluding `port_end`.
    Given {
        /// The addresses, one after the other.
        addresses: Arc<[IpAddr]>,
        /// The first port of the kernel's range; 65,536 where that leaves too few, for the addresses are the user's.
        port_end: u32,
    },
}

impl Sources {
    /// The sources for so many `connections` to `targets`, given the kernel's own range and perhaps addresses.
    ///
    /// As long as that is comfortable for it the kernel chooses, as it does for every other client: servers know
    /// 127.0.0.1, and may refuse its neighbours. Beyond half of its range toward one target it searches ever longer for
    /// a port. But all of 127.0.0.0/8 belongs to the machine itself, so toward targets there every process can have
    /// 64,516 addresses of its own after the first: `process` (its id) picks them, lest two processes fight over the same
    /// ports. Elsewhere, and when the kernel's range leaves too few ports below it, the kernel chooses in any case.
    pub(crate) fn toward(
        targets: &[SocketAddr],
        connections: u64,
        given: Option<&[IpAddr]>,
        range: PortRange,
        process: u32,
    ) -> Sources {
        if let Some(addresses) = given {
            let port_end = if range.leaves_room() { u32::from(range.first) } else { PORT_END };
            return Sources::Given { addresses: addresses.into(), port_end };
        }
        let is_loopback = |target: &SocketAddr| matches!(target.ip(), IpAddr::V4(v4) if v4.is_loopback());
        let is_comfortable = connections.div_ceil(targets.len().max(1) as u64) < range.len() / 2;
        if !is_comfortable && range.leaves_room() && targets.iter().all(is_loopback) {
            return Sources::Loopback { network: (process % 254) as u8 + 1, port_end: u32::from(range.first) };
        }
        Sources::Kernel
    }

    /// How many connections to so many destinations can exist at once from these sources.
    pub(crate) fn capacity(&self, destinations: usize, range: PortRange) -> u64 {
        let each = match self {
            Sources::Kernel => range.len(),
            _ => self.addresses() * self.ports(),
        };
        each * destinations as u64
    }

    /// How many source addresses there are to choose from; the kernel has one.
    pub(crate) fn addresses(&self) -> u64 {
        match self {
            Sources::Kernel => 1,
            Sources::Loopback { .. } => 1 + HOSTS * HOSTS,
            Sources::Given { addresses, .. } => addresses.len() as u64,
        }
    }

    /// How many ports of each address this program gives out by itself; 0 when that is left to the kernel.
    pub(crate) fn ports(&self) -> u64 {
        match self {
            Sources::Kernel => 0,
            Sources::Loopback { port_end, .. } | Sources::Given { port_end, .. } => {
                u64::from(port_end.saturating_sub(PORT_FIRST.into()))
            }
        }
    }

    /// Address and port number `pair`: all ports of the first address, then those of the next.
    fn pair(&self, pair: u64) -> Option<SocketAddr> {
        let ports = self.ports().max(1);
        let (address, port) = (pair / ports, PORT_FIRST + (pair % ports) as u16);
        let ip = match self {
            Sources::Kernel => return None,
            Sources::Loopback { network, .. } => {
                let own = address.checked_sub(1).map(|own| ((own / HOSTS) as u8 + 1, (own % HOSTS) as u8 + 1));
                let ip = own.map_or(Ipv4Addr::LOCALHOST, |(third, fourth)| Ipv4Addr::new(127, *network, third, fourth));
                IpAddr::V4(ip)
            }
            Sources::Given { addresses, .. } => addresses[address as usize],
        };
        Some(SocketAddr::new(ip, port))
    }

    /// Which of them the connections of these numbers to so many destinations use.
    pub(crate) fn used(&self, connections: Range<u64>, destinations: usize) -> Used {
        let (destinations, ports) = (destinations.max(1) as u64, self.ports().max(1));
        let (first, end) = (connections.start / destinations, connections.end.div_ceil(destinations).max(1));
        let last_address = ((end - 1) / ports).min(self.addresses() - 1);
        let first_address = (first / ports).min(last_address);
        let ip = |address: u64| self.pair(address * ports).map(|source| source.ip());
        let port = |pair: u64| (u64::from(PORT_FIRST) + pair % ports) as u16;
        // Of several addresses, those between the first and the last use all.
        let is_one = first_address == last_address && end <= ports * self.addresses();
        let ports_used = if is_one { (port(first), port(end - 1)) } else { (PORT_FIRST, port(ports - 1)) };
        Used {
            chosen_by: match self {
                Sources::Kernel => "kernel",
                Sources::Loopback { .. } => "loadgen",
                Sources::Given { .. } => "user",
            },
            addresses: last_address - first_address + 1,
            first: ip(first_address),
            last: ip(last_address),
            ports: (self.ports() > 0).then_some(ports_used),
        }
    }
}

/// The sources that a run uses, for its report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Used {
    /// `kernel`, `loadgen` or `user`; `none` where connections have no source; `several` where runs were added that
    /// differ in that.
    pub(crate) chosen_by: &'static str,
    /// How many addresses.
    pub(crate) addresses: u64,
    /// The first and the last of them; `None` where the kernel chooses, and what it chooses is not known.
    pub(crate) first: Option<IpAddr>,
    pub(crate) last: Option<IpAddr>,
    /// The first and the last port of the first address; `None` where the kernel chooses. A source that something else
    /// has is replaced by one from beyond the last; where no such one was left, either, all that were tried are between them.
    pub(crate) ports: Option<(u16, u16)>,
}

impl Used {
    /// Those of two runs together.
    pub(crate) fn and(self, other: &Used) -> Used {
        let are_same = (self.first, self.last) == (other.first, other.last) && self.addresses == other.addresses;
        Used {
            chosen_by: if self.chosen_by == other.chosen_by { self.chosen_by } else { "several" },
            addresses: if are_same { self.addresses } else { self.addresses + other.addresses },
            first: self.first.zip(other.first).map(|(one, other)| one.min(other)),
            last: self.last.zip(other.last).map(|(one, other)| one.max(other)),
            ports: self.ports.zip(other.ports).map(|((low, high), (l, h))| (low.min(l), high.max(h))),
        }
    }
}

impl Display for Used {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.first, self.last, self.ports) {
            _ if self.addresses == 0 => f.write_str("no address: Unix sockets need none"),
            (Some(first), Some(_), Some((low, high))) if self.addresses == 1 => {
                write!(f, "{first}, ports {low} to {high}")
            }
            (Some(first), Some(last), Some((low, high))) => {
                write!(f, "{} addresses, {first} to {last}, ports {low} to {high} of each", count(self.addresses))
            }
            (Some(first), ..) => write!(f, "{first}, ports that the kernel chose"),
            _ => write!(f, "the address and ports that the kernel chose"),
        }
    }
}

/// The way of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    /// The index of its destination.
    pub(crate) destination: usize,
    /// Its source; `None` for "let the kernel choose".
    pub(crate) source: Option<SocketAddr>,
}

/// One worker's routes, one after the other; those of different workers of a run are disjoint.
///
/// Connection n of a run goes to destination n modulo their number, from pair number n divided by it of address and port:
/// destinations get equally many, and every source is used toward each. A source that something else has is replaced by
/// one of the worker's spares, which lie beyond the last connection's.
#[derive(Debug, Clone)]
pub(crate) struct Routes {
    sources: Sources,
    destinations: u64,
    next: u64,
    end: u64,
    spare: u64,
    spare_step: u64,
    spare_end: u64,
}

impl Routes {
    /// The routes of the connections `first` to `end` (excluded) of a run with `total` of them toward so many
    /// destinations, for worker number `worker` of `workers`.
    pub(crate) fn new(
        sources: Sources,
        destinations: usize,
        (first, end, total): (u64, u64, u64),
        (worker, workers): (usize, usize),
    ) -> Routes {
        let destinations = destinations.max(1) as u64;
        let pairs = sources.addresses() * sources.ports();
        let (spare, spare_step) = (total.div_ceil(destinations) + worker as u64, workers as u64);
        let spare_end = pairs.min(spare + SPARES * spare_step);
        Routes { sources, destinations, next: first, end, spare, spare_step, spare_end }
    }

    /// A source in place of one that is taken. `None` when there is none left, or when the kernel chooses.
    pub(crate) fn spare(&mut self) -> Option<SocketAddr> {
        if self.spare >= self.spare_end {
            return None;
        }
        let pair = self.spare;
        self.spare += self.spare_step;
        self.sources.pair(pair)
    }
}

impl Iterator for Routes {
    type Item = Route;

    /// Ends with the worker's last connection, or when there are no pairs left for it.
    fn next(&mut self) -> Option<Route> {
        let (destination, pair) = (self.next % self.destinations, self.next / self.destinations);
        let is_left = self.sources == Sources::Kernel || pair < self.sources.addresses() * self.sources.ports();
        if self.next >= self.end || !is_left {
            return None;
        }
        self.next += 1;
        Some(Route { destination: destination as usize, source: self.sources.pair(pair) })
    }
}

/// One worker's sources for connections that come and go, over and over, and toward each destination by itself: the next
/// one is always that which has been at rest for longest. Those of different workers are disjoint.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    sources: Sources,
    /// How many of them there are, of which this worker has every so-manieth.
    pairs: u64,
    worker: u64,
    workers: u64,
    /// How many were taken toward each destination.
    taken: Vec<u64>,
}

impl Rotation {
    /// The sources of worker number `worker` of `workers` toward so many destinations.
    pub(crate) fn new(sources: Sources, destinations: usize, (worker, workers): (usize, usize)) -> Rotation {
        let pairs = sources.addresses() * sources.ports();
        Rotation { sources, pairs, worker: worker as u64, workers: workers as u64, taken: vec![0; destinations] }
    }

    /// The next source toward the destination of this index; `None` where the kernel chooses.
    pub(crate) fn next(&mut self, destination: usize) -> Option<SocketAddr> {
        let turn = self.taken[destination] % self.len().max(1);
        self.taken[destination] += 1;
        // More workers than sources share them: the kernel then says which of them are in use.
        self.sources.pair((self.worker + turn * self.workers) % self.pairs.max(1))
    }

    /// How many sources it has toward each destination; 0 where the kernel chooses.
    pub(crate) fn len(&self) -> u64 {
        self.pairs.saturating_sub(self.worker).div_ceil(self.workers)
    }
}

/// The first port that a process without privilege may bind.
pub(crate) const PORT_FIRST: u16 = 1024;

/// One more than the last port.
const PORT_END: u32 = 65_536;

/// Below so many ports an address, spreading over addresses is not worth leaving the choice to the kernel.
const PORTS_WORTHWHILE: u16 = 1000;

/// Values used of each of the last two octets, 1 to 254: never a network's or a broadcast address.
const HOSTS: u64 = 254;

/// Sources of a worker beyond those needed, for ports on which something listens, or from which another load generator has
/// connections to the same target: it, too, begins with 127.0.0.1, so there are as many spares as an address has ports.
const SPARES: u64 = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const RANGE: PortRange = PortRange { first: 32768, last: 60999 };

    /// More than the kernel likes to choose sources for.
    const MANY: u64 = 1_000_000;

    fn target(text: &str) -> Vec<SocketAddr> {
        vec![text.parse().unwrap()]
    }

    fn loopback() -> Sources {
        Sources::toward(&target("127.0.0.1:9"), MANY, None, RANGE, 0)
    }

    /// All routes of a run, worker by worker.
    fn all(sources: &Sources, destinations: usize, connections: u64, workers: u64) -> Vec<Route> {
        let first = |worker: u64| connections * worker / workers;
        (0..workers)
            .flat_map(|worker| {
                let part = (first(worker), first(worker + 1), connections);
                Routes::new(sources.clone(), destinations, part, (worker as usize, workers as usize))
            })
            .collect()
    }

    #[test]
    fn only_ipv4_loopback_targets_get_explicit_sources_unasked() {
        assert_eq!(loopback(), Sources::Loopback { network: 1, port_end: 32768 });
        for elsewhere in ["[::1]:9", "10.0.0.1:9"] {
            assert_eq!(Sources::toward(&target(elsewhere), MANY, None, RANGE, 7), Sources::Kernel);
        }
        let mixed = [target("127.0.0.1:9"), target("10.0.0.1:9")].concat();
        assert_eq!(Sources::toward(&mixed, MANY, None, RANGE, 7), Sources::Kernel);
    }

    #[test]
    fn the_kernel_chooses_up_to_half_of_its_range_toward_each_target() {
        let at = |targets: &[SocketAddr], connections| Sources::toward(targets, connections, None, RANGE, 7);
        let (one, two) = (target("127.0.0.1:9"), [target("127.0.0.1:9"), target("127.0.0.1:8")].concat());
        assert_eq!(
            [at(&one, 1), at(&one, 14_115), at(&two, 28_230)],
            [Sources::Kernel, Sources::Kernel, Sources::Kernel]
        );
        assert!([at(&one, 14_116), at(&two, 28_231)].iter().all(|sources| *sources != Sources::Kernel));
    }

    #[test]
    fn what_is_used_is_said() {
        let said = |sources: Sources, connections| sources.used(0..connections, 1).to_string();
        assert_eq!(said(Sources::Kernel, 50), "the address and ports that the kernel chose");
        assert_eq!(said(loopback(), 20_000), "127.0.0.1, ports 1024 to 21023");
        assert_eq!(said(loopback(), 1_000_000), "32 addresses, 127.0.0.1 to 127.1.1.31, ports 1024 to 32767 of each");
    }

    #[test]
    fn what_is_tried_in_place_of_others_is_said_when_nothing_is_left() {
        let given = |port_end| Sources::Given { addresses: [[10, 0, 0, 2].into()].into(), port_end };
        let said = |sources: &Sources| sources.used(0..5_000 + SPARES, 1).to_string();
        assert_eq!(given(32_768).used(0..5_000, 1).to_string(), "10.0.0.2, ports 1024 to 6023");
        assert_eq!(said(&given(32_768)), "10.0.0.2, ports 1024 to 32767");
        assert_eq!(said(&given(65_536)), "10.0.0.2, ports 1024 to 38791");
        assert_eq!(said(&Sources::Kernel), "the address and ports that the kernel chose");
    }

    #[test]
    fn a_kernel_range_that_starts_low_leaves_the_choice_to_the_kernel() {
        let whole = PortRange { first: 1024, last: 65535 };
        assert_eq!(Sources::toward(&target("127.0.0.1:9"), MANY, None, whole, 7), Sources::Kernel);
        assert_eq!((Sources::Kernel.capacity(1, whole), Sources::Kernel.capacity(1, RANGE)), (64_512, 28_232));
        assert_eq!(Sources::Kernel.capacity(3, RANGE), 84_696);
        let given = Sources::toward(&target("10.0.0.1:9"), 1, Some(&["10.0.0.2".parse().unwrap()]), whole, 7);
        assert_eq!(given.capacity(1, whole), 64_512, "but given addresses are the user's own");
    }

    #[test]
    fn every_process_id_gives_a_usable_network() {
        for process in [0, 1, 253, 254, 255, u32::MAX] {
            let sources = Sources::toward(&target("127.0.0.1:9"), MANY, None, RANGE, process);
            let Sources::Loopback { network, .. } = sources else { panic!() };
            assert!((1..=254).contains(&network), "{process}");
        }
    }

    #[test]
    fn sources_stay_below_the_kernels_range_and_go_to_the_next_address_after_it() {
        let routes: Vec<SocketAddr> = all(&loopback(), 1, 40_000, 1).iter().filter_map(|route| route.source).collect();
        assert_eq!(routes.len(), 40_000);
        assert!(routes.iter().all(|route| (1024..32768).contains(&route.port())));
        assert_eq!(routes[0], "127.0.0.1:1024".parse().unwrap(), "first the address that every server knows");
        assert_eq!(routes[31_743], "127.0.0.1:32767".parse().unwrap());
        assert_eq!(routes[31_744], "127.1.1.1:1024".parse().unwrap());
    }

    #[test]
    fn a_million_take_32_addresses_and_no_source_twice() {
        let routes = all(&loopback(), 1, 1_000_000, 51);
        assert_eq!(routes.len(), 1_000_000);
        assert_eq!(routes.iter().map(|route| route.source).collect::<HashSet<_>>().len(), 1_000_000);
        assert_eq!(routes.iter().map(|route| route.source.unwrap().ip()).collect::<HashSet<_>>().len(), 32);
    }

    #[test]
    fn destinations_get_equally_many_and_share_sources() {
        let routes = all(&loopback(), 3, 10_000, 7);
        let toward = |destination| routes.iter().filter(|route| route.destination == destination).count();
        assert_eq!([toward(0), toward(1), toward(2)], [3334, 3333, 3333]);
        assert_eq!(routes.iter().map(|route| route.source).collect::<HashSet<_>>().len(), 3334);
        let different: HashSet<_> = routes.iter().map(|route| (route.destination, route.source)).collect();
        assert_eq!(different.len(), 10_000);
    }

    #[test]
    fn given_addresses_are_used_to_the_last_port() {
        let addresses: Vec<IpAddr> = ["10.0.0.2", "10.0.0.9"].map(|ip| ip.parse().unwrap()).into();
        let sources = Sources::toward(&target("10.0.0.1:9"), 1, Some(&addresses), RANGE, 7);
        assert_eq!(sources.capacity(2, RANGE), 4 * 31_744);
        let routes = all(&sources, 2, 4 * 31_744, 5);
        assert_eq!(routes.len(), 4 * 31_744);
        assert_eq!(routes.last().unwrap().source, Some("10.0.0.9:32767".parse().unwrap()));
        assert_eq!(all(&sources, 2, 4 * 31_744 + 1, 5).len(), 4 * 31_744, "and not beyond");
    }

    #[test]
    fn spares_are_nobodys_and_bounded() {
        let mut used: HashSet<_> = all(&loopback(), 2, 1_000, 3).iter().map(|route| route.source.unwrap()).collect();
        for worker in 0..3 {
            let mut routes = Routes::new(loopback(), 2, (0, 0, 1_000), (worker, 3));
            let spares: Vec<SocketAddr> = std::iter::from_fn(|| routes.spare()).collect();
            assert_eq!(spares.len() as u64, SPARES);
            assert!(spares.into_iter().all(|spare| used.insert(spare)));
        }
    }

    #[test]
    fn a_rotation_takes_every_source_once_before_it_takes_one_again() {
        let sources = Sources::Given { addresses: [[10, 0, 0, 2].into(), [10, 0, 0, 9].into()].into(), port_end: 1029 };
        let mut seen = Vec::new();
        for worker in 0..3 {
            let mut rotation = Rotation::new(sources.clone(), 2, (worker, 3));
            let first: Vec<SocketAddr> = (0..rotation.len()).map(|_| rotation.next(0).unwrap()).collect();
            assert_eq!(rotation.next(0), Some(first[0]));
            assert_eq!(rotation.next(1), Some(first[0]), "each destination has its own turn");
            seen.extend(first);
        }
        assert_eq!((seen.len(), seen.iter().collect::<HashSet<_>>().len()), (10, 10));
        let mut crowded = Rotation::new(sources, 1, (12, 13));
        assert_eq!(crowded.next(0), Some("10.0.0.2:1026".parse().unwrap()));
        assert_eq!(Rotation::new(Sources::Kernel, 1, (0, 1)).next(0), None);
    }

    #[test]
    fn the_last_address_is_still_of_the_network_and_then_it_ends() {
        let sources = Sources::Loopback { network: 9, port_end: u32::from(PORT_FIRST) + 1 };
        let routes = all(&sources, 1, 70_000, 1);
        assert_eq!(routes.len() as u64, sources.capacity(1, RANGE));
        assert_eq!(routes.last().unwrap().source, Some("127.9.254.254:1024".parse().unwrap()));
        assert_eq!(Routes::new(sources, 1, (0, 1, 70_000), (0, 1)).spare(), None);
    }

    #[test]
    fn the_kernels_choice_never_runs_out_here() {
        let mut routes = Routes::new(Sources::Kernel, 2, (0, 100_000, 100_000), (0, 1));
        assert_eq!(routes.next(), Some(Route { destination: 0, source: None }));
        assert_eq!(routes.next(), Some(Route { destination: 1, source: None }));
        assert_eq!((routes.by_ref().count(), routes.spare()), (99_998, None));
    }
}
