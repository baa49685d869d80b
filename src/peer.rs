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

impl Peer {
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
        let scope = match address {
            SocketAddr::V6(v6) => v6.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        let mut peer = Peer { ip: [0; 16], scope, port: address.port(), family: Family::V4 };
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => peer.ip[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => (peer.ip, peer.family) = (ip.octets(), Family::V6),
        }
        peer
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
