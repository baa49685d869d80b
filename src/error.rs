//! What can go wrong when a server starts or ends: which act, on which address, and what to do about it.

use std::fmt;
use std::io;

use crate::address::LocalAddr;
use crate::target::Target;

/// Why a server did not start, or did not end well.
///
/// Its `Debug` says the same as its `Display`, in words, because that is what a `main` that returns it prints.
#[non_exhaustive]
pub enum Error {
    /// A knob of the builder has a value that makes no sense.
    Config {
        /// The knob, by the name of the builder's method.
        knob: &'static str,
        /// What is wrong with the value, and what would be right.
        why: String,
    },
    /// The host is neither an address nor a name that resolves to one.
    Resolve {
        /// The host as it was given.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The address cannot be listened on.
    Listen {
        /// The address, as far as it is known.
        address: LocalAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The descriptors that this process was started with are no listeners for a server.
    Inherited {
        /// Which of them, and what is wrong with it.
        why: String,
    },
    /// The listening sockets of the server that runs could not be taken over; it goes on.
    TakeOver {
        /// What the system said.
        source: io::Error,
    },
    /// The listening sockets could not be handed over; the server goes on as before.
    HandOver {
        /// What was tried.
        act: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A resource that a shard needs cannot be had: a thread, an epoll instance, an eventfd, a core to be pinned to.
    Shard {
        /// The shard's index.
        shard: usize,
        /// What was tried.
        act: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A shard's thread panicked outside the functions of the handler that are caught: while it made its handler, or
    /// because of a mistake in this library.
    Died {
        /// The shard's index.
        shard: usize,
        /// The panic's message.
        message: String,
    },
}

impl Error {
    /// The kind of the system's error; `InvalidInput` for a knob and `Other` for a panic.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Error::Config { .. } | Error::Inherited { .. } => io::ErrorKind::InvalidInput,
            Error::Died { .. } => io::ErrorKind::Other,
            Error::Resolve { source, .. }
            | Error::Listen { source, .. }
            | Error::TakeOver { source }
            | Error::HandOver { source, .. }
            | Error::Shard { source, .. } => source.kind(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config { knob, why } => write!(f, "cannot start with this `{knob}`: {why}"),
            Error::Resolve { host, source } => write!(
                f,
                "cannot resolve the host `{host}`: {source}; give an address such as 127.0.0.1, or 0.0.0.0 for all"
            ),
            Error::Listen { address, source } => {
                write!(f, "cannot listen on {address}: {source}{}", listen_advice(source, address))
            }
            Error::Inherited { why } => write!(f, "cannot listen with the sockets that were passed on: {why}"),
            Error::TakeOver { source } => write!(
                f,
                "cannot take over the sockets of the server that runs: {source}{}; it goes on",
                hand_over_advice(source)
            ),
            Error::HandOver { act, source } => {
                write!(f, "cannot hand over: {act} failed: {source}{}; the server goes on", hand_over_advice(source))
            }
            Error::Shard { shard, act, source } => {
                write!(f, "shard {shard} cannot {act}: {source}{}", shard_advice(source))
            }
            Error::Died { shard, message } => write!(f, "the thread of shard {shard} panicked: {message}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Config { .. } | Error::Inherited { .. } | Error::Died { .. } => None,
            Error::Resolve { source, .. }
            | Error::Listen { source, .. }
            | Error::TakeOver { source }
            | Error::HandOver { source, .. }
            | Error::Shard { source, .. } => Some(source),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

fn listen_advice(source: &io::Error, address: &LocalAddr) -> String {
    let port = match address {
        LocalAddr::Ip(address) => address.port(),
        LocalAddr::Unix(path) => return unix_advice(source, &path.display().to_string()),
    };
    match source.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; another program listens there (`ss -ltnp 'sport = :{port}'` shows which); take another port, 0 for any free \
             one, or let both set share_port(true)"
        ),
        io::ErrorKind::AddrNotAvailable => "; the address is not one of this machine's (`ip addr` lists them)".into(),
        io::ErrorKind::PermissionDenied if source.raw_os_error().is_some() => {
            "; ports below net.ipv4.ip_unprivileged_port_start (usually 1024) need CAP_NET_BIND_SERVICE".into()
        }
        io::ErrorKind::PermissionDenied => "; see `tuning` for what it takes".into(),
        _ => String::new(),
    }
}

fn unix_advice(source: &io::Error, path: &str) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; another program listens there (`ss -lxp src {path}` shows which); take another path, or stop that one"
        ),
        io::ErrorKind::AlreadyExists => "; it is left as it is: take another path, or remove it yourself".into(),
        io::ErrorKind::NotFound => "; its folder has to be there".into(),
        io::ErrorKind::PermissionDenied => "; its folder must be one that this user may write to".into(),
        io::ErrorKind::InvalidInput => "; take a shorter one".into(),
        _ => String::new(),
    }
}

fn hand_over_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            " (the other program has ended, or has given up)"
        }
        io::ErrorKind::WouldBlock => " (nothing came within the stream's timeout)",
        _ if source.raw_os_error() == Some(libc::EMFILE) => " (raise `ulimit -n`)",
        _ => "",
    }
}

fn shard_advice(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EMFILE) => "; a shard needs three descriptors of its own: raise `ulimit -n` or take fewer shards",
        Some(libc::ENFILE) => "; the system is out of descriptors: raise the sysctl fs.file-max",
        Some(libc::EAGAIN) => "; the limit of threads is reached (`ulimit -u`, or the cgroup's pids.max)",
        _ => "",
    }
}

/// Why a connection could not even be begun, see [`Shard::connect`](crate::Shard::connect).
#[derive(Debug)]
pub struct ConnectError {
    pub(crate) target: Target,
    pub(crate) source: io::Error,
}

impl ConnectError {
    /// What the system said; `Other` if the server is stopping.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.source.raw_os_error() {
            Some(libc::EMFILE) => {
                "; this process may open no more: raise the limit (ulimit -n), or call fewer at a time"
            }
            Some(libc::ENFILE) => "; the whole system may open no more: raise fs.file-max",
            Some(libc::ENOBUFS | libc::ENOMEM) => "; the kernel has no memory left for sockets",
            _ => "",
        };
        write!(f, "cannot connect to {}: {}{advice}", self.target, self.source)
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_act_the_address_and_the_way_out() {
        let error = Error::Listen {
            address: LocalAddr::Ip("127.0.0.1:80".parse().unwrap()),
            source: io::Error::from_raw_os_error(libc::EADDRINUSE),
        };
        let text = error.to_string();
        assert!(text.contains("listen on 127.0.0.1:80") && text.contains("in use") && text.contains("sport = :80"));
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse);
    }
}
