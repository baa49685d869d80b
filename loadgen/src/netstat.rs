//! The kernel's own counts of what went wrong with TCP on this machine: /proc/net/netstat.

use std::fs;

/// Counts since the machine (or its network namespace) began, or between two moments; of all programs together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Netstat {
    /// Connections dropped because a listener's queue was full: ListenOverflows.
    pub(crate) listen_overflows: u64,
    /// Connections dropped at a listener for whatever reason, those included: ListenDrops.
    pub(crate) listen_drops: u64,
    /// SYNs, and answers to them, that were sent again: TCPSynRetrans.
    pub(crate) syn_retransmits: u64,
    /// Times that TCP waited in vain, for whatever: TCPTimeouts.
    pub(crate) timeouts: u64,
    /// Connections that were given up because the peer had not answered for too long: TCPAbortOnTimeout.
    pub(crate) given_up: u64,
}

impl Netstat {
    /// The counts now; zeros where the kernel does not tell.
    pub(crate) fn now() -> Netstat {
        Netstat::parse(&fs::read_to_string("/proc/net/netstat").unwrap_or_default())
    }

    /// What was counted since `before`.
    pub(crate) fn since(self, before: Netstat) -> Netstat {
        Netstat {
            listen_overflows: self.listen_overflows.saturating_sub(before.listen_overflows),
            listen_drops: self.listen_drops.saturating_sub(before.listen_drops),
            syn_retransmits: self.syn_retransmits.saturating_sub(before.syn_retransmits),
            timeouts: self.timeouts.saturating_sub(before.timeouts),
            given_up: self.given_up.saturating_sub(before.given_up),
        }
    }

    /// The counts of both.
    pub(crate) fn and(self, other: Netstat) -> Netstat {
        self.with(other, |one, other| one + other)
    }

    /// The more of both, of each.
    pub(crate) fn or_more(self, other: Netstat) -> Netstat {
        self.with(other, u64::max)
    }

    fn with(self, other: Netstat, of: fn(u64, u64) -> u64) -> Netstat {
        Netstat {
            listen_overflows: of(self.listen_overflows, other.listen_overflows),
            listen_drops: of(self.listen_drops, other.listen_drops),
            syn_retransmits: of(self.syn_retransmits, other.syn_retransmits),
            timeouts: of(self.timeouts, other.timeouts),
            given_up: of(self.given_up, other.given_up),
        }
    }

    /// Names and counts, as the kernel calls them; the last one only where there were any.
    pub(crate) fn rows(self) -> impl Iterator<Item = (&'static str, u64)> {
        let rows = [
            ("TCPSynRetrans", self.syn_retransmits),
            ("TCPTimeouts", self.timeouts),
            ("ListenOverflows", self.listen_overflows),
            ("ListenDrops", self.listen_drops),
        ];
        rows.into_iter().chain((self.given_up > 0).then_some(("TCPAbortOnTimeout", self.given_up)))
    }

    /// Two lines begin with `TcpExt:`: the names, and below each its value.
    fn parse(text: &str) -> Netstat {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let pairs: Vec<(&str, u64)> = names
            .split_whitespace()
            .zip(values.split_whitespace())
            .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
            .collect();
        let value = |wanted: &str| pairs.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, value)| *value);
        Netstat {
            listen_overflows: value("ListenOverflows"),
            listen_drops: value("ListenDrops"),
            syn_retransmits: value("TCPSynRetrans"),
            timeouts: value("TCPTimeouts"),
            given_up: value("TCPAbortOnTimeout"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_below_their_names() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPTimeouts TCPSynRetrans TCPAbortOnTimeout New\n\
                    TcpExt: 9 3 4 5 6 7 -1\nIpExt: InOctets\nIpExt: 7\n";
        let expected = Netstat { listen_overflows: 3, listen_drops: 4, syn_retransmits: 6, timeouts: 5, given_up: 7 };
        assert_eq!(Netstat::parse(text), expected);
        assert_eq!(Netstat::parse(""), Netstat::default());
        let later = Netstat { syn_retransmits: 8, ..expected };
        assert_eq!(later.since(expected), Netstat { syn_retransmits: 2, ..Netstat::default() });
    }
}
