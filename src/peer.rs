//! Who is at the other end, as accept(2) said: asked later, the kernel may no longer know.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The peer's address, in the 24 bytes that a connection can afford for it (a `SocketAddr` takes 32).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    ip: [u8; 16],
    scope: u32,
    port: u16,
    family: Family,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    V4,
    V6,
}

/// What an IPv4 address begins with where an IPv6 address is asked for (RFC 4291, section 2.5.5.2).
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl Peer {
    #[inline]
    pub(crate) fn v4(ip: [u8; 4], port: u16) -> Peer {
        let [a, b, c, d] = ip;
        let ip = [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        Peer { ip, scope: 0, port, family: Family::V4 }
    }

    /// A mapped address becomes what it stands for.
    #[inline]
    pub(crate) fn v6(ip: [u8; 16], port: u16, scope: u32) -> Peer {
        match ip.strip_prefix(&MAPPED) {
            Some(&[a, b, c, d]) => Peer::v4([a, b, c, d], port),
            _ => Peer { ip, scope, port, family: Family::V6 },
        }
    }

    /// The IP address. On a dual-stack listener an IPv4 peer shows as an IPv4 address, not as a mapped one.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::new(self.ip[0], self.ip[1], self.ip[2], self.ip[3]).into(),
            Family::V6 => Ipv6Addr::from(self.ip).into(),
        }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Both, as the standard library writes them.
    #[must_use]
    pub fn socket_addr(&self) -> SocketAddr {
        match self.ip() {
            IpAddr::V4(ip) => (ip, self.port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, self.port, 0, self.scope).into(),
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        match address {
            SocketAddr::V4(v4) => Peer::v4(v4.ip().octets(), v4.port()),
            SocketAddr::V6(v6) => Peer::v6(v6.ip().octets(), v6.port(), v6.scope_id()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket_addr().fmt(f)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket_addr().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_out_as_they_went_in_and_fit_into_24_bytes() {
        for text in ["127.0.0.1:80", "[::1]:65535", "[fe80::1%7]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Peer::from(address).socket_addr(), address);
            assert_eq!(Peer::from(address).to_string(), text);
        }
        assert!(size_of::<Peer>() <= 24);
    }

    #[test]
    fn a_mapped_address_shows_as_ipv4() {
        let peer = Peer::from("[::ffff:10.0.0.1]:5".parse::<SocketAddr>().unwrap());
        assert_eq!(peer.to_string(), "10.0.0.1:5");
    }
}
