//! How a connection ended, as a value.

use std::fmt;
use std::io;

/// Why a connection is over. Whatever the reason: if something that was sent has not even reached the kernel, the peer sees
/// a reset and not an orderly end. Each connection has exactly one, told to
/// [`handle_closed`](crate::Handler::handle_closed) and counted in the [statistics](crate::ShardStats::closed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The handler wanted it: it returned false, or called [`Client::close`](crate::Client::close). Everything that was
    /// sent has been handed to the kernel.
    Finished,
    /// The peer finished sending and the handler did not keep its half open. What was sent has been handed to the kernel.
    PeerClosed,
    /// The peer reset the connection, or had closed it when we wrote (ECONNRESET, EPIPE).
    Reset,
    /// The peer no longer answers, or no longer reads: [`keepalive`](crate::Builder::keepalive) or
    /// [`user_timeout`](crate::Builder::user_timeout) gave up (ETIMEDOUT), or it took none of what was queued for it in the
    /// 30 s after its handler was done, which is no knob.
    Vanished,
    /// No byte went either way for [`idle_timeout`](crate::Builder::idle_timeout).
    Idle,
    /// The timer that the handler had set ran out, see [`Client::set_timeout`](crate::Client::set_timeout).
    Expired,
    /// The handler left as much unconsumed as [`input_max`](crate::Builder::input_max) allows, and the peer sent more. The
    /// peer sees a reset.
    InputFull,
    /// The handler sent more than [`output_max`](crate::Builder::output_max) or
    /// [`output_max_shard`](crate::Builder::output_max_shard) allows to wait. The peer sees a reset.
    OutputFull,
    /// The handler called [`Client::abort`](crate::Client::abort). The peer sees a reset.
    Aborted,
    /// The handler panicked while it had this connection in hand, or the shard that it was on died of a panic, see
    /// [`shard_death`](crate::Builder::shard_death). The peer sees a reset.
    Panicked,
    /// It was never served: `handle_incoming` said no, or one of the limits of [`Refusal`] was reached.
    /// There was no session, so no `handle_closed` speaks of it.
    Refused,
    /// It was called from here, see [`Shard::connect`](crate::Shard::connect), and nobody listens there (ECONNREFUSED).
    ConnectRefused,
    /// It was called from here, and there was no answer in the time that it had, or the kernel gave up (ETIMEDOUT).
    ConnectTimedOut,
    /// It was called from here, and could not be connected for another reason; the number is an errno, see connect(2).
    ConnectFailed(i32),
    /// Somebody called [`Remote::disconnect`](crate::Remote::disconnect) for it.
    Disconnected,
    /// The server stopped.
    Stopped,
    /// It had said no whole message when its [`first_message_timeout`](crate::Builder::first_message_timeout) was over.
    FirstMessageTimedOut,
    /// It took none of what waited for it during [`write_timeout`](crate::Builder::write_timeout). The peer sees a reset.
    WriteTimedOut,
    /// Any other error of the socket; the number is its errno, see errno(3).
    Failed(i32),
}

impl CloseReason {
    /// Every reason once, in the order in which statistics list them; `Failed` and
    /// `ConnectFailed` stand for all errnos.
    pub const ALL: [CloseReason; 19] = [
        CloseReason::Finished,
        CloseReason::PeerClosed,
        CloseReason::Reset,
        CloseReason::Vanished,
        CloseReason::Idle,
        CloseReason::Expired,
        CloseReason::InputFull,
        CloseReason::OutputFull,
        CloseReason::Aborted,
        CloseReason::Panicked,
        CloseReason::Refused,
        CloseReason::Disconnected,
        CloseReason::Stopped,
        CloseReason::Failed(0),
        CloseReason::ConnectRefused,
        CloseReason::ConnectTimedOut,
        CloseReason::ConnectFailed(0),
        CloseReason::FirstMessageTimedOut,
        CloseReason::WriteTimedOut,
    ];

    /// What an error of the connection's socket means for the connection.
    pub(crate) fn of_error(error: &io::Error) -> CloseReason {
        match error.raw_os_error().unwrap_or(0) {
            libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED => CloseReason::Reset,
            libc::ETIMEDOUT => CloseReason::Vanished,
            errno => CloseReason::Failed(errno),
        }
    }

    /// What an error of an attempt to connect means for it.
    pub(crate) fn of_attempt(error: &io::Error) -> CloseReason {
        match error.raw_os_error().unwrap_or(0) {
            libc::ECONNREFUSED => CloseReason::ConnectRefused,
            libc::ETIMEDOUT => CloseReason::ConnectTimedOut,
            errno => CloseReason::ConnectFailed(errno),
        }
    }

    /// Its place in [`ALL`](CloseReason::ALL).
    pub(crate) fn index(self) -> usize {
        match self {
            CloseReason::Finished => 0,
            CloseReason::PeerClosed => 1,
            CloseReason::Reset => 2,
            CloseReason::Vanished => 3,
            CloseReason::Idle => 4,
            CloseReason::Expired => 5,
            CloseReason::InputFull => 6,
            CloseReason::OutputFull => 7,
            CloseReason::Aborted => 8,
            CloseReason::Panicked => 9,
            CloseReason::Refused => 10,
            CloseReason::Disconnected => 11,
            CloseReason::Stopped => 12,
            CloseReason::Failed(_) => 13,
            CloseReason::ConnectRefused => 14,
            CloseReason::ConnectTimedOut => 15,
            CloseReason::ConnectFailed(_) => 16,
            CloseReason::FirstMessageTimedOut => 17,
            CloseReason::WriteTimedOut => 18,
        }
    }

    /// Whether the peer must see a reset, because an orderly end would pass off what it got as the whole.
    pub(crate) fn resets(self) -> bool {
        matches!(self, CloseReason::OutputFull | CloseReason::InputFull | CloseReason::Aborted | CloseReason::Panicked)
    }

    /// The name in the form that metrics use: lower case, words joined by underscores.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CloseReason::Finished => "finished",
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::Reset => "reset",
            CloseReason::Vanished => "vanished",
            CloseReason::ConnectRefused => "connect_refused",
            CloseReason::ConnectTimedOut => "connect_timed_out",
            CloseReason::ConnectFailed(_) => "connect_failed",
            CloseReason::FirstMessageTimedOut => "first_message_timed_out",
            CloseReason::WriteTimedOut => "write_timed_out",
            CloseReason::Idle => "idle",
            CloseReason::Expired => "expired",
            CloseReason::InputFull => "input_full",
            CloseReason::OutputFull => "output_full",
            CloseReason::Aborted => "aborted",
            CloseReason::Panicked => "panicked",
            CloseReason::Refused => "refused",
            CloseReason::Disconnected => "disconnected",
            CloseReason::Stopped => "stopped",
            CloseReason::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Failed(errno) => write!(f, "failed: {}", io::Error::from_raw_os_error(*errno)),
            CloseReason::ConnectFailed(errno) => {
                write!(f, "could not connect: {}", io::Error::from_raw_os_error(*errno))
            }
            reason => f.write_str(reason.name()),
        }
    }
}

/// Which limit has kept somebody out, before the handler was asked: the knob of that name. Told to
/// [`handle_refused`](crate::Handler::handle_refused) and counted in the [statistics](crate::ShardStats::turned_away).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// [`connections_max`](crate::Builder::connections_max): the server is full.
    ConnectionsMax,
    /// [`connections_per_address`](crate::Builder::connections_per_address): the address has all that it may have.
    ConnectionsPerAddress,
    /// [`accept_rate_per_address`](crate::Builder::accept_rate_per_address): too many have come from the address of late.
    AcceptRate,
}

impl Refusal {
    /// Each of them once, in the order in which statistics list them.
    pub const ALL: [Refusal; 3] = [Refusal::ConnectionsMax, Refusal::ConnectionsPerAddress, Refusal::AcceptRate];

    /// The name in the form that metrics use, which is the knob's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Refusal::ConnectionsMax => "connections_max",
            Refusal::ConnectionsPerAddress => "connections_per_address",
            Refusal::AcceptRate => "accept_rate_per_address",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_stands_at_its_index() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index, "{reason}");
        }
    }

    #[test]
    fn errors_of_a_socket_keep_their_errno() {
        let reason = |errno| CloseReason::of_error(&io::Error::from_raw_os_error(errno));
        assert_eq!(reason(libc::EPIPE), CloseReason::Reset);
        assert_eq!(reason(libc::ETIMEDOUT), CloseReason::Vanished);
        assert_eq!(reason(libc::EHOSTUNREACH), CloseReason::Failed(libc::EHOSTUNREACH));
        assert!(reason(libc::EHOSTUNREACH).to_string().contains("route"), "it is told in words");
    }
}
