//! Where connections go: an IP address with a port, or a Unix socket; and how a connect to each begins.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use esockets::socket;
use socket2::{Domain, SockAddr, Socket, Type};

/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// Over TCP.
    Ip(SocketAddr),
    /// Over a Unix socket on this machine.
    Unix(UnixAddress),
}

/// A Unix socket, by the path of its file, or by a name without one: see unix(7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnixAddress {
    /// As it was written: a path, or `@` and an abstract name.
    name: String,
    address: SockAddr,
}

impl UnixAddress {
    /// The socket at the path `name`, or, behind an `@`, with an abstract name.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub(crate) fn new(name: &str) -> Result<UnixAddress, String> {
        let wrong = |why: &str| format!("'{name}' is no Unix socket: {why}");
        if name.is_empty() || name == "@" {
            return Err(wrong("give a path, such as unix:/run/redis.sock, or an abstract name, such as unix:@name"));
        }
        let bytes = name.strip_prefix('@').map_or_else(|| name.to_owned(), |name| format!("\0{name}"));
        let address =
            SockAddr::unix(bytes).map_err(|_| wrong("it is longer than the 107 bytes that the kernel takes"))?;
        Ok(UnixAddress { name: name.to_owned(), address })
    }

    /// Its path, or `@` and its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Address {
    /// The address that is written `name`, as results write it.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub(crate) fn named(name: &str) -> Result<Address, String> {
        match name.strip_prefix("unix:") {
            Some(path) => UnixAddress::new(path).map(Address::Unix),
            None => name.parse().map(Address::Ip).map_err(|error| format!("its target's address '{name}': {error}")),
        }
    }

    /// Its IP address and port, if it has them.
    pub(crate) fn ip(&self) -> Option<SocketAddr> {
        if let Address::Ip(ip) = self { Some(*ip) } else { None }
    }

    /// Whether it is surely on this machine.
    pub(crate) fn is_here(&self) -> bool {
        self.ip().is_none_or(|address| address.ip().is_loopback())
    }

    /// A socket on its way there, from `source` if one is given. That of a Unix socket is not on its way yet: it has to
    /// [`knock`](Address::knock).
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and connect(2).
    pub(crate) fn open(&self, source: Option<SocketAddr>) -> io::Result<Socket> {
        match self {
            Address::Ip(address) => socket::connect(*address, source),
            Address::Unix(_) => Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None),
        }
    }

    /// Asks to be let in; whether the queue of those who wait to be accepted had room. A connect over TCP waits by itself;
    /// over a Unix socket it succeeds at once, or says EAGAIN, and nothing will tell when there is room again.
    ///
    /// # Errors
    /// Those of connect(2), EAGAIN excepted.
    pub(crate) fn knock(&self, socket: &Socket) -> io::Result<bool> {
        let Address::Unix(unix) = self else { return Ok(true) };
        match socket.connect(&unix.address) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(unix) => unix.fmt(f),
        }
    }
}

impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix:{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr as Name, UnixListener};

    #[test]
    fn paths_and_abstract_names_are_told_apart_and_nonsense_is_refused() {
        let path = UnixAddress::new("/run/a.sock").unwrap();
        assert_eq!(path.address.as_pathname(), Some("/run/a.sock".as_ref()));
        let name = UnixAddress::new("@a.sock").unwrap();
        assert_eq!(name.address.as_abstract_namespace(), Some(&b"a.sock"[..]));
        assert_eq!(name.to_string(), "unix:@a.sock");
        assert!(UnixAddress::new(&"a".repeat(107)).is_ok() && UnixAddress::new(&"a".repeat(108)).is_err());
        assert!(UnixAddress::new("").is_err() && UnixAddress::new("@").is_err());
    }

    #[test]
    fn a_full_queue_lets_nobody_in_until_one_is_accepted() {
        let name = format!("loadgen-address-{}", std::process::id());
        let listener = UnixListener::bind_addr(&Name::from_abstract_name(&name).unwrap()).unwrap();
        let address = Address::Unix(UnixAddress::new(&format!("@{name}")).unwrap());
        socket2::SockRef::from(&listener).listen(1).unwrap();
        let mut inside = Vec::new();
        let last = loop {
            let socket = address.open(None).unwrap();
            if !address.knock(&socket).unwrap() {
                break socket;
            }
            inside.push(socket);
        };
        assert!(!inside.is_empty() && !address.knock(&last).unwrap());
        listener.accept().unwrap();
        assert!(address.knock(&last).unwrap(), "the same socket, later");
        drop(listener);
        let error = address.knock(&address.open(None).unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
