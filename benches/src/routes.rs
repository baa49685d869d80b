//! Where connections come from: explicit source addresses and ports below the range that the kernel deals out itself.
//!
//! A connect without them slows down a hundredfold once half of that range is in use toward one destination, and what
//! other programs on the machine may use of it stays theirs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process;

/// Few services listen between here and the range.
const PORT_FIRST: u16 = 10_000;
/// Where `ip_local_port_range` begins if it cannot be read.
const RANGE_DEFAULT: u16 = 32_768;

/// Addresses between those who connect at the same time.
const APART: usize = 16;

/// Never gives the same source twice before all of 127.0.0.0/8 is through, hours later.
#[derive(Debug)]
pub(crate) struct Routes {
    address: u32,
    port: u16,
    port_end: u16,
}

impl Routes {
    /// Starts at an address that depends on the process, so that two runs at a time do not meet.
    pub(crate) fn new() -> Routes {
        let network = 1 + process::id() % 250;
        Routes::from(u32::from(Ipv4Addr::new(127, network as u8, 0, 1)), ephemeral_first())
    }

    fn from(address: u32, port_end: u16) -> Routes {
        Routes { address, port: PORT_FIRST, port_end: port_end.max(PORT_FIRST + 1) }
    }

    /// Routes for somebody who connects at the same time: these go on where no others come for a long while.
    pub(crate) fn apart(&mut self) -> Routes {
        self.address = (0..APART).fold(self.address, |address, _| next_address(address));
        Routes::from(self.address, self.port_end)
    }

    pub(crate) fn next(&mut self) -> SocketAddrV4 {
        let route = SocketAddrV4::new(Ipv4Addr::from(self.address), self.port);
        self.port += 1;
        if self.port >= self.port_end {
            self.port = PORT_FIRST;
            self.address = next_address(self.address);
        }
        route
    }
}

/// Leaves out 127.0.0.0/16, where the servers are, and the network's last address, which is a broadcast.
fn next_address(address: u32) -> u32 {
    let next = address + 1;
    if next >= u32::from(Ipv4Addr::new(127, 255, 255, 255)) { u32::from(Ipv4Addr::new(127, 1, 0, 1)) } else { next }
}

fn ephemeral_first() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(RANGE_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_before_addresses_and_stay_below_the_range() {
        let mut routes = Routes::from(u32::from(Ipv4Addr::new(127, 9, 0, 1)), PORT_FIRST + 2);
        let given: Vec<String> = (0..4).map(|_| routes.next().to_string()).collect();
        assert_eq!(given, ["127.9.0.1:10000", "127.9.0.1:10001", "127.9.0.2:10000", "127.9.0.2:10001"]);
    }

    #[test]
    fn after_the_last_address_comes_the_first() {
        let last = u32::from(Ipv4Addr::new(127, 255, 255, 254));
        assert_eq!(Ipv4Addr::from(next_address(last)), Ipv4Addr::new(127, 1, 0, 1));
    }

    #[test]
    fn a_range_that_begins_low_still_leaves_a_port() {
        let mut routes = Routes::from(u32::from(Ipv4Addr::new(127, 9, 0, 1)), 1024);
        assert_ne!(routes.next(), routes.next());
    }
}
