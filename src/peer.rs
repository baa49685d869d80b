//! Who is at the other end, as accept(2) said: asked later, the kernel may no longer know.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The peer's address, in the 24 bytes that a connection can afford for it (a `SocketAddr` takes 32). Of who has come to a
/// Unix socket no more is known than that; all of them are equal.
#[derive(Clone, Copy)]
pub struct Peer {
    ip: [u8; 16],
    scope: u32,
    port: u16,
    family: Family,
    /// Of the address that it has come to. Kept here because a byte is left over here.
    tag: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    V4,
    V6,
    Unix,
}

/// What an IPv4 address begins with where an IPv6 address is asked for (RFC 4291, section 2.5.5.2).
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl Peer {
    #[inline]
    pub(crate) fn v4(ip: [u8; 4], port: u16) -> Peer {
        let [a, b, c, d] = ip;
        let ip = [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        Peer { ip, scope: 0, port, family: Family::V4, tag: 0 }
    }

    /// A mapped address becomes what it stands for.
    #[inline]
    pub(crate) fn v6(ip: [u8; 16], port: u16, scope: u32) -> Peer {
        match ip.strip_prefix(&MAPPED) {
            Some(&[a, b, c, d]) => Peer::v4([a, b, c, d], port),
            _ => Peer { ip, scope, port, family: Family::V6, tag: 0 },
        }
    }

    #[inline]
    pub(crate) fn unix() -> Peer {
        Peer { ip: [0; 16], scope: 0, port: 0, family: Family::Unix, tag: 0 }
    }

    /// The same, come to an address of this tag.
    #[inline]
    pub(crate) fn at(self, tag: u8) -> Peer {
        Peer { tag, ..self }
    }

    #[inline]
    pub(crate) fn tag(&self) -> u8 {
        self.tag
    }

    /// The IP address; `None` for who has come to a Unix socket. On a dual-stack listener an IPv4 peer shows as an IPv4
    /// address, not as a mapped one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.family {
            Family::V4 => Some(Ipv4Addr::new(self.ip[0], self.ip[1], self.ip[2], self.ip[3]).into()),
            Family::V6 => Some(Ipv6Addr::from(self.ip).into()),
            Family::Unix => None,
        }
    }

    /// The port; 0 for who has come to a Unix socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Both, as the standard library writes them.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.ip().map(|ip| match ip {
            IpAddr::V4(ip) => (ip, self.port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, self.port, 0, self.scope).into(),
        })
    }

    /// Whether it has come over this machine's loopback, as its address shows.
    #[inline]
    pub(crate) fn is_loopback(&self) -> bool {
        match self.family {
            Family::V4 => self.ip[0] == 127,
            Family::V6 => self.ip == Ipv6Addr::LOCALHOST.octets(),
            Family::Unix => false,
        }
    }

    /// Whether it has come to a Unix socket: from this machine, with the right to write to the socket's file if it has one.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.family == Family::Unix
    }
}

/// Who it is does not depend on where it has come to.
impl PartialEq for Peer {
    fn eq(&self, other: &Peer) -> bool {
        let who = |peer: &Peer| (peer.ip, peer.scope, peer.port, peer.family);
        who(self) == who(other)
    }
}

impl Eq for Peer {}

impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.ip, self.scope, self.port, self.family).hash(state);
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
    /// The address and the port; `unix` for who has come to a Unix socket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket_addr() {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_out_as_they_went_in_and_fit_into_24_bytes() {
        for text in ["127.0.0.1:80", "[::1]:65535", "[fe80::1%7]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Peer::from(address).socket_addr(), Some(address));
            assert_eq!(Peer::from(address).to_string(), text);
        }
        assert!(size_of::<Peer>() <= 24);
    }

    #[test]
    fn the_loopback_is_known_by_its_addresses() {
        let is_loopback = |text: &str| Peer::from(text.parse::<SocketAddr>().unwrap()).is_loopback();
        assert!(["127.0.0.1:1", "127.255.0.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"].into_iter().all(is_loopback));
        assert!(!["128.0.0.1:1", "[::2]:1", "[7f00::]:1"].into_iter().any(is_loopback) && !Peer::unix().is_loopback());
    }

    #[test]
    fn a_mapped_address_shows_as_ipv4() {
        let peer = Peer::from("[::ffff:10.0.0.1]:5".parse::<SocketAddr>().unwrap());
        assert_eq!(peer.to_string(), "10.0.0.1:5");
    }

    #[test]
    fn who_comes_to_a_unix_socket_has_no_address_and_is_the_same_wherever_it_comes_to() {
        let peer = Peer::unix().at(7);
        assert_eq!((peer.ip(), peer.port(), peer.to_string().as_str(), peer.tag()), (None, 0, "unix", 7));
        assert!(peer.is_unix() && peer == Peer::unix() && peer != Peer::v4([0; 4], 0));
    }
}
