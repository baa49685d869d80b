//! Whom a server calls: an address to connect to.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::peer::Peer;

/// An address to connect to, for [`Shard::connect`](crate::Shard::connect). A name is not one: looking it up takes time in which
/// a shard would stand still, so do that before, or on another thread.
///
/// ```
/// use esockets::Target;
///
/// let tcp: Target = "127.0.0.1:80".parse()?; // or "[::1]:80"
/// let unix: Target = "unix:/run/app.sock".parse()?;
/// assert_eq!((tcp.to_string(), unix.to_string()), ("127.0.0.1:80".into(), "unix:/run/app.sock".into()));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// TCP.
    Tcp(SocketAddr),
    /// The stream socket at this path, see unix(7), or, behind an `@`, of this abstract name: see
    /// [`Address::unix`](crate::Address::unix).
    Unix(PathBuf),
}

impl Target {
    /// Who is at the other end, when there is a connection.
    pub(crate) fn peer(&self) -> Peer {
        match self {
            Target::Tcp(address) => Peer::from(*address),
            Target::Unix(_) => Peer::unix(),
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Target {
        Target::Tcp(address)
    }
}

impl From<&Path> for Target {
    fn from(path: &Path) -> Target {
        Target::Unix(path.into())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => address.fmt(f),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("`unix:` names no path: write unix:/path/to/the.sock, or unix:@name for an abstract one".into()),
            Some(path) => Ok(Target::Unix(path.into())),
            None => text.parse().map(Target::Tcp).map_err(|_| {
                format!("cannot connect to `{text}`: write an address and a port, as in 127.0.0.1:80 or [::1]:80, or unix:/path")
            }),
        }
    }
}
