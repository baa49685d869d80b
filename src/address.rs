//! Where a server listens: what its program asks for, and what has become of it.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// An address to listen on, for [`Builder::listen`](crate::Builder::listen): of TCP, or a Unix socket.
///
/// ```
/// use esockets::Address;
///
/// let everybody = Address::tcp("::", 443); // IPv4 as well
/// let neighbours = Address::unix("/run/app/app.sock").mode(0o660).tag(1);
/// let either: Address = "unix:/run/app/app.sock".parse()?; // or "127.0.0.1:80", "[::1]:80", "localhost:80"
/// assert_eq!((everybody.to_string(), either.to_string()), ("[::]:443".into(), "unix:/run/app/app.sock".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub(crate) place: Place,
    pub(crate) tag: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16, only_v6: bool },
    Unix { path: PathBuf, mode: Option<u32> },
}

impl Address {
    /// A TCP address: an IP address or a name for one, of which the first that it resolves to is taken. `::` takes IPv4 as
    /// well, where [`only_v6`](Address::only_v6) does not forbid it. Port 0 lets the kernel choose a free one.
    pub fn tcp(host: impl Into<String>, port: u16) -> Address {
        Address { place: Place::Tcp { host: host.into(), port, only_v6: false }, tag: 0 }
    }

    /// A Unix stream socket, see unix(7), under this path; of at most 107 bytes, counted from the root.
    ///
    /// The file is made at the start and removed when the server is asked to end. One that was left behind by a server that
    /// is dead is replaced; one at which somebody listens is not, nor is any other file.
    ///
    /// Behind an `@` it is no path but an abstract name, as systemd and ss(8) write it: there is no file, and everybody in the same
    /// network namespace may connect. A file whose name begins so is `./@name`.
    ///
    /// All shards share one socket, for SO_REUSEPORT is not for these: see [`Builder::listen`](crate::Builder::listen).
    pub fn unix(path: impl Into<PathBuf>) -> Address {
        Address { place: Place::Unix { path: path.into(), mode: None }, tag: 0 }
    }

    /// A number of your own by which the handler knows connections to this address: [`Client::tag`](crate::Client::tag).
    /// Default: 0. Costs nothing: it has room in what is kept of the peer's address.
    #[must_use]
    pub fn tag(mut self, tag: u8) -> Address {
        self.tag = tag;
        self
    }

    /// Who may connect to a Unix socket, as the mode of its file: who may write to it. Default: as the process's umask has it,
    /// mostly its own user alone (0o755). It holds before anybody can connect. Nothing for an address of TCP or an abstract name.
    ///
    /// Who may look for the file is up to its folder, which also is what protects it from being replaced.
    #[must_use]
    pub fn mode(mut self, bits: u32) -> Address {
        if let Place::Unix { mode, .. } = &mut self.place {
            *mode = Some(bits);
        }
        self
    }

    /// Whether an IPv6 wildcard leaves IPv4 to others (IPV6_V6ONLY, see ipv6(7)). Default: false. With it, `::` and `0.0.0.0`
    /// can have the same port, and a tag each.
    #[must_use]
    pub fn only_v6(mut self, only: bool) -> Address {
        if let Place::Tcp { only_v6, .. } = &mut self.place {
            *only_v6 = only;
        }
        self
    }
}

/// The abstract name that stands for a path, if it is one: what is behind an `@` at its beginning.
pub(crate) fn abstract_name(path: &Path) -> Option<&[u8]> {
    path.as_os_str().as_bytes().strip_prefix(b"@")
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port, .. } if host.contains(':') && !host.starts_with('[') => {
                write!(f, "[{host}]:{port}")
            }
            Place::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Place::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a text is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError {
    text: String,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no address: it is host:port, [ipv6]:port or unix:/path", self.text)
    }
}

impl Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    /// `host:port`, or `unix:` and a path.
    fn from_str(text: &str) -> Result<Address, AddressError> {
        let wrong = || AddressError { text: text.into() };
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(wrong()) } else { Ok(Address::unix(path)) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        // Without brackets nobody knows where the address ends and the port begins.
        if host.is_empty() || bare.is_none() && host.contains(':') {
            return Err(wrong());
        }
        Ok(Address::tcp(bare.unwrap_or(host), port.parse().map_err(|_| wrong())?))
    }
}

/// Where a server listens, as the kernel says it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LocalAddr {
    /// An address of TCP.
    Ip(SocketAddr),
    /// The path of a Unix socket, or `@` and its abstract name.
    Unix(PathBuf),
}

impl LocalAddr {
    /// The address of TCP, if it is one.
    #[must_use]
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            LocalAddr::Ip(address) => Some(*address),
            LocalAddr::Unix(_) => None,
        }
    }

    /// The path of the Unix socket, or `@` and its abstract name, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            LocalAddr::Ip(_) => None,
            LocalAddr::Unix(path) => Some(path),
        }
    }
}

impl From<SocketAddr> for LocalAddr {
    fn from(address: SocketAddr) -> LocalAddr {
        LocalAddr::Ip(address)
    }
}

impl fmt::Display for LocalAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalAddr::Ip(address) => address.fmt(f),
            LocalAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for text in ["127.0.0.1:80", "[::1]:0", "localhost:65535", "unix:/run/a b.sock", "unix:here"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("[::1]:80".parse(), Ok(Address::tcp("::1", 80)));
        for text in ["", "80", ":80", "::1:80", "127.0.0.1:65536", "unix:", "127.0.0.1:"] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("unix:/path"), "{error}");
        }
    }

    #[test]
    fn what_does_not_concern_an_address_changes_nothing() {
        assert_eq!(Address::tcp("::", 1).mode(0o600), Address::tcp("::", 1));
        assert_eq!(Address::unix("a").only_v6(true), Address::unix("a"));
    }
}
