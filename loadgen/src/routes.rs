//! Where connections come from: source addresses and ports, computed, no socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

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
}

/// Who chooses the sources of a run's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sources {
    /// The kernel: one address of this machine, ports of its own range.
    Kernel,
    /// This program: addresses of 127.`network`.0.0/16, ports from [`PORT_FIRST`] up to but excluding `port_end`.
    Loopback {
        /// The second octet of the addresses, 1 to 254.
        network: u8,
        /// The first port of the kernel's range, which must stay free for all other programs' connects.
        port_end: u16,
    },
}

impl Sources {
    /// The sources for connections to `target`, given the kernel's own range.
    ///
    /// All of 127.0.0.0/8 belongs to the machine itself, so toward a target there every process can have 64,516
    /// addresses of its own: `process` (its id) picks them, lest two processes fight over the same ports. Elsewhere,
    /// and when the kernel's range leaves too few ports below it, the kernel chooses.
    pub(crate) fn toward(target: IpAddr, range: PortRange, process: u32) -> Sources {
        match target {
            IpAddr::V4(v4) if v4.is_loopback() && range.first >= PORT_FIRST + PORTS_WORTHWHILE => {
                Sources::Loopback { network: (process % 254) as u8 + 1, port_end: range.first }
            }
            _ => Sources::Kernel,
        }
    }

    /// How many connections to one destination can exist at once from these sources.
    pub(crate) fn capacity(self, range: PortRange) -> u64 {
        match self {
            Sources::Kernel => range.len(),
            Sources::Loopback { port_end, .. } => ADDRESSES * u64::from(port_end - PORT_FIRST),
        }
    }
}

/// One worker's sources, one after the other; those of different workers of a run are disjoint.
///
/// It yields `None` for "let the kernel choose", and ends when what was planned, spares included, is used up.
#[derive(Debug, Clone)]
pub(crate) struct Routes {
    sources: Sources,
    next: u64,
    step: u64,
    end: u64,
}

impl Routes {
    /// The sources for `connections` connections of worker number `worker` of `workers`.
    pub(crate) fn new(sources: Sources, worker: usize, workers: usize, connections: u64) -> Routes {
        let (next, step) = (worker as u64, workers as u64);
        let end = match sources {
            Sources::Kernel => u64::MAX,
            Sources::Loopback { port_end, .. } => {
                let pairs = ADDRESSES * u64::from(port_end - PORT_FIRST);
                pairs.min(next + (connections + SPARES) * step)
            }
        };
        Routes { sources, next, step, end }
    }
}

impl Iterator for Routes {
    type Item = Option<SocketAddr>;

    fn next(&mut self) -> Option<Option<SocketAddr>> {
        if self.next >= self.end {
            return None;
        }
        let pair = self.next;
        self.next += self.step;
        match self.sources {
            Sources::Kernel => Some(None),
            Sources::Loopback { network, port_end } => {
                let ports = u64::from(port_end - PORT_FIRST);
                let (address, port) = (pair / ports, PORT_FIRST + (pair % ports) as u16);
                let ip = Ipv4Addr::new(127, network, (address / HOSTS) as u8 + 1, (address % HOSTS) as u8 + 1);
                Some(Some(SocketAddr::new(ip.into(), port)))
            }
        }
    }
}

/// The first port that a process without privilege may bind.
pub(crate) const PORT_FIRST: u16 = 1024;

/// Below so many ports an address, spreading over addresses is not worth leaving the choice to the kernel.
const PORTS_WORTHWHILE: u16 = 1000;

/// Values used of each of the last two octets, 1 to 254: never a network's or a broadcast address.
const HOSTS: u64 = 254;

/// Source addresses that one process has.
const ADDRESSES: u64 = HOSTS * HOSTS;

/// Sources beyond those needed, for ports on which something listens: more than any machine has listeners.
const SPARES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const RANGE: PortRange = PortRange { first: 32768, last: 60999 };
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn only_ipv4_loopback_targets_get_explicit_sources() {
        assert_eq!(Sources::toward(LOOPBACK, RANGE, 7), Sources::Loopback { network: 8, port_end: 32768 });
        assert_eq!(Sources::toward("::1".parse().unwrap(), RANGE, 7), Sources::Kernel);
        assert_eq!(Sources::toward("10.0.0.1".parse().unwrap(), RANGE, 7), Sources::Kernel);
    }

    #[test]
    fn a_kernel_range_that_starts_low_leaves_the_choice_to_the_kernel() {
        let whole = PortRange { first: 1024, last: 65535 };
        assert_eq!(Sources::toward(LOOPBACK, whole, 7), Sources::Kernel);
        assert_eq!(Sources::Kernel.capacity(whole), 64_512);
        assert_eq!(Sources::Kernel.capacity(RANGE), 28_232);
    }

    #[test]
    fn every_process_id_gives_a_usable_network() {
        for process in [0, 1, 253, 254, 255, u32::MAX] {
            let Sources::Loopback { network, .. } = Sources::toward(LOOPBACK, RANGE, process) else { panic!() };
            assert!((1..=254).contains(&network), "{process}");
        }
    }

    #[test]
    fn sources_stay_below_the_kernels_range_and_go_to_the_next_address_after_it() {
        let sources = Sources::toward(LOOPBACK, RANGE, 0);
        let routes: Vec<SocketAddr> = Routes::new(sources, 0, 1, 40_000).flatten().collect();
        assert_eq!(routes.len(), 44_096);
        assert!(routes.iter().all(|route| (1024..32768).contains(&route.port())));
        assert_eq!(routes[0], "127.1.1.1:1024".parse().unwrap());
        assert_eq!(routes[31_743], "127.1.1.1:32767".parse().unwrap());
        assert_eq!(routes[31_744], "127.1.1.2:1024".parse().unwrap());
    }

    #[test]
    fn workers_share_no_source() {
        let sources = Sources::toward(LOOPBACK, RANGE, 0);
        let all: Vec<SocketAddr> =
            (0..7).flat_map(|worker| Routes::new(sources, worker, 7, 10_000).flatten()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn the_last_address_is_still_of_the_network_and_then_it_ends() {
        let sources = Sources::Loopback { network: 9, port_end: PORT_FIRST + 1 };
        let routes: Vec<SocketAddr> = Routes::new(sources, 0, 1, u64::from(u32::MAX)).flatten().collect();
        assert_eq!(routes.len() as u64, sources.capacity(RANGE));
        assert_eq!(routes.last(), Some(&"127.9.254.254:1024".parse().unwrap()));
    }

    #[test]
    fn the_kernels_choice_never_runs_out_here() {
        assert_eq!(Routes::new(Sources::Kernel, 3, 4, 1).take(100_000).flatten().count(), 0);
    }
}
