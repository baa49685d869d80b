//! Who may still come in: over all shards of a server, and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::config::Config;
use crate::peer::Peer;
#[cfg(test)]
use crate::planted::Bug;
use crate::reason::Refusal;

/// The connections that count, where they are limited.
#[derive(Debug)]
pub(crate) struct Seats {
    all: Option<Counted>,
    by_address: Option<Guests>,
}

/// How many there are, and may be.
#[derive(Debug)]
struct Counted {
    taken: AtomicUsize,
    most: usize,
}

/// Connections by where they come from.
#[derive(Debug)]
struct Guests {
    /// Only who has some is in it.
    taken: Mutex<HashMap<IpAddr, usize>>,
    of_each: usize,
}

impl Guests {
    /// Who has no address, being of this machine, is not counted by it.
    fn take(&self, peer: &Peer) -> bool {
        let Some(ip) = peer.ip() else { return true };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let seats = taken.entry(household(ip)).or_default();
        let is_free = *seats < self.of_each;
        *seats += usize::from(is_free);
        is_free
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn leave(&self, peer: &Peer) {
        let Some(ip) = peer.ip().map(household) else { return };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seats) = taken.get_mut(&ip) {
            *seats -= 1;
            if *seats == 0 {
                taken.remove(&ip);
            }
        }
    }
}

/// The address by which somebody is known: of IPv6 the network, because who has one address there has 2⁶⁴.
pub(crate) fn household(ip: IpAddr) -> IpAddr {
    #[cfg(test)]
    if Bug::Household.is_planted() {
        return ip;
    }
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
    }
}

impl Seats {
    pub(crate) fn new(config: &Config) -> Seats {
        #[cfg(test)]
        let config = &Config {
            connections_max: config.connections_max.map(|most| Bug::ConnectionsMax.instead(most, most + 1)),
            connections_per_address: config
                .connections_per_address
                .map(|most| Bug::ConnectionsPerAddress.instead(most, most + 1)),
            ..config.clone()
        };
        let all = config.connections_max.map(|most| Counted { taken: AtomicUsize::new(0), most });
        let by_address = config.connections_per_address.map(|of_each| Guests { taken: Mutex::default(), of_each });
        Seats { all, by_address }
    }

    /// Takes one for `peer`, if there is one for it.
    #[inline]
    pub(crate) fn take(&self, peer: &Peer) -> Result<(), Refusal> {
        if self.by_address.as_ref().is_some_and(|guests| !guests.take(peer)) {
            return Err(Refusal::ConnectionsPerAddress);
        }
        let is_full = self.all.as_ref().is_some_and(|all| all.taken.fetch_add(1, Ordering::Relaxed) >= all.most);
        if is_full {
            self.leave(peer);
            return Err(Refusal::ConnectionsMax);
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn leave(&self, peer: &Peer) {
        if let Some(all) = &self.all {
            all.taken.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(guests) = &self.by_address {
            guests.leave(peer);
        }
    }

    /// How many are taken, as far as they are counted, and how many addresses have some.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> (usize, usize) {
        let all = self.all.as_ref().map_or(0, |all| all.taken.load(Ordering::Relaxed));
        (all, self.by_address.as_ref().map_or(0, Guests::len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_guest_and_who_has_left_is_forgotten() {
        let peer = |ip: &str| Peer::from(std::net::SocketAddr::new(ip.parse().unwrap(), 1));
        let config = Config { connections_per_address: Some(1), ..Config::default() };
        let seats = Seats::new(&config);
        let take = |ip: &str| seats.take(&peer(ip)).is_ok();
        assert!(take("2001:db8::1"));
        assert_eq!(seats.take(&peer("2001:db8::2")), Err(Refusal::ConnectionsPerAddress), "the same network");
        assert!(take("2001:db8:0:1::1"), "another one");
        assert!(take("10.0.0.1") && take("10.0.0.2"), "all of IPv4 are others");
        ["2001:db8::2", "2001:db8:0:1::9", "10.0.0.1", "10.0.0.2"].iter().for_each(|ip| seats.leave(&peer(ip)));
        assert_eq!(seats.taken(), (0, 0));
        assert!((0..3).all(|_| seats.take(&Peer::unix()).is_ok()), "neighbours have no address to be counted by");
        assert_eq!(seats.taken(), (0, 0));
        seats.leave(&Peer::unix());
    }
}
