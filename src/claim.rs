//! A claim to an address: how a server that wants it for itself is heard by one that would share it.
//!
//! The shards of a server share their port with SO_REUSEPORT, and whoever runs as the same user may join such a group. The
//! kernel cannot be told that it is complete. So a server that shares with nobody says so under a name that all programs of
//! its network namespace can see, and one that would share looks for such names first.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};

/// Holds as long as it lives; the kernel forgets it with the process.
#[derive(Debug)]
pub(crate) struct Claim {
    name: UnixDatagram,
}

/// Abstract names (unix(7)) are looked up by nobody else, take no space in any file system, and belong to the same network
/// namespace as the ports do.
const PREFIX: &str = "esockets/exclusive/";

impl Claim {
    /// Claims an address that this program listens on.
    pub(crate) fn new(address: SocketAddr) -> io::Result<Claim> {
        let name = UnixAddr::from_abstract_name(format!("{PREFIX}{address}"))?;
        Ok(Claim { name: UnixDatagram::bind_addr(&name)? })
    }

    /// A claim that another process has made and handed over. It holds as long as anyone has it.
    pub(crate) fn handed_over(fd: OwnedFd) -> Claim {
        Claim { name: UnixDatagram::from(fd) }
    }
}

impl AsFd for Claim {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.name.as_fd()
    }
}

/// Whether somebody claims `address`, or one that overlaps it.
pub(crate) fn is_claimed(address: SocketAddr) -> bool {
    // Where there is no /proc, nobody can be heard.
    let names = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let claimed = names.lines().filter_map(|line| line.rsplit_once('@')?.1.strip_prefix(PREFIX)?.parse().ok());
    claimed.into_iter().any(|claimed| overlap(address, claimed))
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| match wide {
        _ if wide == narrow => true,
        IpAddr::V4(wide) => wide.is_unspecified() && narrow.is_ipv4(),
        // Our IPv6 sockets take IPv4 as well.
        IpAddr::V6(wide) => wide.is_unspecified(),
    };
    // An IPv4 address written as an IPv6 one is the same address.
    let (port, ip) = (one.port() == other.port(), one.ip().to_canonical());
    port && (covers(ip, other.ip().to_canonical()) || covers(other.ip().to_canonical(), ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_heard_as_long_as_it_lives() {
        let address: SocketAddr = "127.9.8.7:1".parse().unwrap();
        assert!(!is_claimed(address));
        let claim = Claim::new(address).unwrap();
        assert!(is_claimed(address) && is_claimed("0.0.0.0:1".parse().unwrap()));
        assert!(!is_claimed("127.9.8.7:2".parse().unwrap()));
        drop(claim);
        assert!(!is_claimed(address));
    }

    #[test]
    fn a_wildcard_overlaps_what_it_covers() {
        let overlap = |one: &str, other: &str| overlap(one.parse().unwrap(), other.parse().unwrap());
        assert!(overlap("0.0.0.0:1", "10.0.0.1:1") && overlap("[::]:1", "10.0.0.1:1") && overlap("[::1]:1", "[::]:1"));
        assert!(overlap("127.0.0.1:1", "[::ffff:127.0.0.1]:1") && overlap("0.0.0.0:1", "[::ffff:127.0.0.1]:1"));
        assert!(!overlap("0.0.0.0:1", "[::1]:1") && !overlap("10.0.0.1:1", "10.0.0.2:1"));
    }
}
