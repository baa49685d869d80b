//! What can go wrong with a connection or a request: by act, by kind, and by the kernel's number for it.

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::errno;

/// One way to fail. Ordered, so that it can be counted in a map; never "other".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Failure {
    /// What was being done.
    pub(crate) act: Act,
    /// What became of it.
    pub(crate) kind: Kind,
    /// The kernel's error number (see errno(3)), where it was the kernel that said so.
    pub(crate) errno: Option<i32>,
}

/// What was being done when something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    /// Opening the connection.
    Connect,
    /// Sending a request.
    Send,
    /// Waiting for a reply, or reading it.
    Reply,
    /// Keeping the connection open, with no request on its way.
    Idle,
    /// Waiting for the server to close the connection, behind its reply.
    Close,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Nobody listens at the target.
    Refused,
    /// No way to the target's host or network.
    Unreachable,
    /// Nothing happened within the time that was given.
    TimedOut,
    /// The connection was reset.
    Reset,
    /// The server closed the connection before a reply began.
    Closed,
    /// The server closed the connection in the middle of a reply.
    Truncated,
    /// The reply's bytes are another connection's.
    Swapped,
    /// The reply is that to a later request of its connection, and the one that was expected came behind it.
    Misplaced,
    /// The reply has a gap: bytes of its own are missing, or come later than those behind them.
    Lost,
    /// The reply's bytes are of its own connection, and came before.
    Doubled,
    /// The reply's bytes are nobody's, as far as can be told.
    Corrupted,
    /// More bytes came back than were sent, and nobody sent them.
    Surplus,
    /// The reply is not what `--expect` says.
    Unexpected,
    /// An HTTP response with this status, which is not one of success.
    Status(u16),
    /// An HTTP response whose body is not as long as most of the first ones were.
    Length,
    /// No HTTP response.
    Malformed,
    /// TLS could not be agreed on, or was broken.
    Tls,
    /// The server does not agree to speak WebSocket, whatever its status says.
    Handshake,
    /// No frame that a WebSocket server may send.
    Frame,
    /// The server closed the WebSocket, with this code (RFC 6455, 7.4).
    CloseFrame(u16),
    /// This process, or the system, has no descriptor left.
    OutOfDescriptors,
    /// No source port is left toward the target.
    OutOfPorts,
    /// This machine has no address from which the target could be reached.
    NoAddress,
    /// No Unix socket has the target's name.
    NoSocket,
    /// The kernel has no memory left for it.
    OutOfMemory,
    /// The kernel does not let this user do it, or a firewall of this machine forbids it.
    Forbidden,
    /// It was behind a request of the same connection that failed, and went with the connection.
    Abandoned,
    /// Any other error of the kernel, told apart by its number.
    System,
}

impl Failure {
    /// The failure of `act` by this program's own judgement.
    pub(crate) fn new(act: Act, kind: Kind) -> Failure {
        Failure { act, kind, errno: None }
    }

    /// The failure of `act` that the kernel reported as `error`.
    pub(crate) fn of(act: Act, error: &io::Error) -> Failure {
        let errno = error.raw_os_error();
        let kind = match errno {
            Some(EMFILE | ENFILE) => Kind::OutOfDescriptors,
            Some(ENOBUFS) => Kind::OutOfMemory,
            // No argument of a connect is invalid here: so the kernel says that a route is a black hole.
            Some(EINVAL) if act == Act::Connect => Kind::Unreachable,
            _ => match error.kind() {
                io::ErrorKind::ConnectionRefused => Kind::Refused,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Kind::Unreachable,
                io::ErrorKind::TimedOut => Kind::TimedOut,
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Kind::Reset,
                io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => Kind::OutOfPorts,
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Kind::NoSocket,
                io::ErrorKind::OutOfMemory => Kind::OutOfMemory,
                io::ErrorKind::PermissionDenied => Kind::Forbidden,
                _ => Kind::System,
            },
        };
        Failure { act, kind, errno }
    }
}

impl Act {
    /// The one that has this name in results.
    pub(crate) fn named(name: &str) -> Option<Act> {
        ACTS.into_iter().find(|act| act.name() == name)
    }

    /// Its name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Act::Connect => "connect",
            Act::Send => "send",
            Act::Reply => "reply",
            Act::Idle => "idle",
            Act::Close => "close",
        }
    }
}

const ACTS: [Act; 5] = [Act::Connect, Act::Send, Act::Reply, Act::Idle, Act::Close];

impl Kind {
    /// The one that has this name in results.
    pub(crate) fn named(name: &str) -> Option<Kind> {
        let numbered = |prefix: &str, kind: fn(u16) -> Kind| Some(kind(name.strip_prefix(prefix)?.parse().ok()?));
        let known = KINDS.iter().copied().find(|kind| kind.words() == name);
        known
            .or_else(|| numbered("HTTP status ", Kind::Status))
            .or_else(|| numbered("WebSocket close ", Kind::CloseFrame))
    }

    /// Whether it is one of bytes that came and are wrong.
    pub(crate) fn is_of_bytes(self) -> bool {
        matches!(self, Kind::Swapped | Kind::Misplaced | Kind::Lost | Kind::Doubled | Kind::Corrupted | Kind::Surplus)
    }

    /// Whether it is a reply that came and is not what it has to be: wrong bytes, or another answer than was asked for, as
    /// an overloaded server may give.
    pub(crate) fn is_wrong_reply(self) -> bool {
        self.is_of_bytes()
            || matches!(self, Kind::Unexpected | Kind::Status(_) | Kind::Length | Kind::Malformed | Kind::Frame)
    }

    /// Its name in results.
    pub(crate) fn name(self) -> Cow<'static, str> {
        match self {
            Kind::Status(number) | Kind::CloseFrame(number) => format!("{} {number}", self.words()).into(),
            kind => kind.words().into(),
        }
    }
}

/// Gives every kind its name, but those that have a number, and lists them: the compiler sees to it that none is left out.
macro_rules! named {
    ($($kind:ident $name:literal)*) => {
        const KINDS: &[Kind] = &[$(Kind::$kind),*];

        impl Kind {
            fn words(self) -> &'static str {
                match self {
                    Kind::Status(_) => "HTTP status",
                    Kind::CloseFrame(_) => "WebSocket close",
                    $(Kind::$kind => $name,)*
                }
            }
        }
    };
}

named! {
    Refused "refused"
    Unreachable "unreachable"
    TimedOut "timed out"
    Reset "reset"
    Closed "closed by the server"
    Truncated "truncated"
    Swapped "swapped"
    Misplaced "another request's reply"
    Lost "bytes lost"
    Doubled "bytes doubled"
    Corrupted "corrupted"
    Surplus "surplus bytes"
    Unexpected "unexpected reply"
    Length "another length than most responses"
    Malformed "no HTTP response"
    Tls "TLS failed"
    Handshake "no WebSocket handshake"
    Frame "no WebSocket frame"
    OutOfDescriptors "out of descriptors"
    OutOfPorts "out of ports"
    NoAddress "no address"
    NoSocket "no such socket"
    OutOfMemory "out of memory"
    Forbidden "forbidden"
    Abandoned "given up with its connection"
    System "system error"
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.act.name(), self.kind.name())?;
        match self.errno {
            Some(errno) => {
                // The kernel's words, without the number behind them where it has a name.
                let words = io::Error::from_raw_os_error(errno).to_string();
                match errno::name(errno) {
                    Some(name) => {
                        write!(f, " ({name}: {})", words.split(" (os error").next().unwrap_or_default())
                    }
                    None => write!(f, " ({words})"),
                }
            }
            None => Ok(()),
        }
    }
}

/// Error numbers that `io::ErrorKind` has no word for; the same on every Linux architecture except MIPS, SPARC and
/// Alpha for ENOBUFS, where it is then shown by its number.
pub(crate) const EINVAL: i32 = 22;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_become_kinds() {
        let kind = |errno| Failure::of(Act::Connect, &io::Error::from_raw_os_error(errno)).kind;
        assert_eq!(kind(111), Kind::Refused);
        assert_eq!(kind(113), Kind::Unreachable);
        assert_eq!(kind(101), Kind::Unreachable);
        assert_eq!(kind(110), Kind::TimedOut);
        assert_eq!([kind(24), kind(23)], [Kind::OutOfDescriptors; 2]);
        assert_eq!([kind(98), kind(99)], [Kind::OutOfPorts; 2]);
        assert_eq!([kind(104), kind(32)], [Kind::Reset; 2]);
        assert_eq!([kind(12), kind(105)], [Kind::OutOfMemory; 2]);
        assert_eq!([kind(13), kind(1)], [Kind::Forbidden; 2]);
        assert_eq!([kind(2), kind(20)], [Kind::NoSocket; 2]);
        assert_eq!(kind(100), Kind::System);
    }

    #[test]
    fn each_is_found_again_by_its_name() {
        for kind in KINDS.iter().copied().chain([Kind::Status(404), Kind::CloseFrame(1013)]) {
            assert_eq!(Kind::named(&kind.name()), Some(kind));
        }
        for act in [Act::Connect, Act::Send, Act::Reply, Act::Idle, Act::Close] {
            assert_eq!(Act::named(act.name()), Some(act));
        }
        assert_eq!((Kind::named("luck"), Act::named("rest")), (None, None));
    }

    #[test]
    fn a_failure_reads_as_act_kind_and_the_kernels_words() {
        let refused = Failure::of(Act::Connect, &io::Error::from_raw_os_error(111));
        assert_eq!(refused.to_string(), "connect: refused (ECONNREFUSED: Connection refused)");
        let protocol = Failure::of(Act::Reply, &io::Error::from_raw_os_error(71));
        assert_eq!(protocol.to_string(), "reply: system error (EPROTO: Protocol error)");
        assert_eq!(Failure::new(Act::Reply, Kind::Truncated).to_string(), "reply: truncated");
    }
}
