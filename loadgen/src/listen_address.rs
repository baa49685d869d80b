//! Where to listen: an address as it is written on a command line, and what it stands for.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use crate::address::{Address, UnixAddress};

/// `host:port`, `:port` or `port`; without a host 127.0.0.1, which is seen by nobody else. Or `unix:` and a path or a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    /// Over TCP.
    Tcp {
        /// A name or an address, an IPv6 one without its brackets.
        host: String,
        /// 0 lets the kernel choose one.
        port: u16,
    },
    /// A Unix socket.
    Unix(UnixAddress),
}

impl ListenAddress {
    /// The address to listen on; of a name with several the first of IPv4, for that is what most clients try.
    ///
    /// # Errors
    /// A sentence that says which name could not be resolved, and why.
    pub(crate) fn resolve(&self) -> Result<Address, String> {
        let (host, port) = match self {
            ListenAddress::Tcp { host, port } => (host.as_str(), *port),
            ListenAddress::Unix(unix) => return Ok(Address::Unix(unix.clone())),
        };
        let failed = |error: io::Error| format!("cannot find the address of '{host}': {error}");
        let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(failed)?.collect();
        let found = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        found.copied().map(Address::Ip).ok_or_else(|| format!("'{host}' has no address"))
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ListenAddress, String> {
        let example =
            "give a port or host:port, such as 1234, 127.0.0.1:1234, [::1]:1234 or 0.0.0.0:1234, or unix:/path";
        if let Some(name) = text.strip_prefix("unix:") {
            return UnixAddress::new(name).map(ListenAddress::Unix);
        }
        let rest = text.strip_prefix("tcp://").unwrap_or(text);
        let (host, port) = rest.rsplit_once(':').unwrap_or(("", rest));
        let host = match host.strip_prefix('[').map(|inner| inner.strip_suffix(']')) {
            Some(Some(inner)) => inner,
            Some(None) => return Err(format!("'[' without ']' in '{text}': {example}")),
            None if host.contains(':') => return Err(format!("an IPv6 address needs brackets in '{text}': {example}")),
            None if host.is_empty() => "127.0.0.1",
            None => host,
        };
        match port.parse() {
            Ok(port) => Ok(ListenAddress::Tcp { host: host.to_owned(), port }),
            Err(_) => Err(format!("'{port}' is not a port from 0 to 65535: {example}")),
        }
    }
}

impl Default for ListenAddress {
    fn default() -> ListenAddress {
        ListenAddress::Tcp { host: IpAddr::V4(Ipv4Addr::LOCALHOST).to_string(), port: 1234 }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            ListenAddress::Tcp { host, port } => write!(f, "{host}:{port}"),
            ListenAddress::Unix(unix) => unix.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_enough() {
        for text in ["1234", ":1234", "127.0.0.1:1234", "tcp://127.0.0.1:1234"] {
            let address: ListenAddress = text.parse().expect(text);
            assert_eq!(
                (&address, address.resolve()),
                (&ListenAddress::default(), Ok(Address::Ip(([127, 0, 0, 1], 1234).into())))
            );
        }
        let v6 = "[::1]:0".parse::<ListenAddress>().unwrap();
        assert_eq!((v6.to_string().as_str(), v6.resolve()), ("[::1]:0", Ok(Address::Ip("[::1]:0".parse().unwrap()))));
        assert!("localhost:1".parse::<ListenAddress>().unwrap().resolve().unwrap().is_here());
    }

    #[test]
    fn unix_sockets_are_written_as_targets_are() {
        for text in ["unix:/run/a.sock", "unix:here", "unix:@name"] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.resolve()), (text, Address::named(text)));
        }
        assert!("unix:".parse::<ListenAddress>().is_err() && "unix:@".parse::<ListenAddress>().is_err());
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for wrong in ["", "nowhere", "127.0.0.1", "::1:80", "[::1:80", "65536", "host:"] {
            let error = wrong.parse::<ListenAddress>().expect_err(wrong);
            assert!(error.contains("127.0.0.1:1234"), "{wrong}: {error}");
        }
    }
}
