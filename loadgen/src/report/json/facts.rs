//! What results say in the same words whether they are written or read again: each fact once.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Source addresses and ports.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SourceFacts {
    /// `kernel`, `loadgen`, `user` (by `--source`), or `none` (Unix sockets have no source); `several` of results that were
    /// added and differ in that.
    pub(crate) chosen_by: Cow<'static, str>,
    /// How many addresses were used.
    pub(crate) addresses: u64,
    /// The first and the last of them; null where the kernel chose, not toward this machine itself.
    pub(crate) address_first: Option<IpAddr>,
    pub(crate) address_last: Option<IpAddr>,
    /// The first and last port of the first address; null where the kernel chose.
    pub(crate) ports: Option<(u16, u16)>,
}

/// Whether the figures are what they seem.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VerdictFacts {
    /// `valid`, `suspect`, or `none` where there was nothing to judge.
    pub(crate) verdict: Cow<'static, str>,
    /// Why it is suspect.
    pub(crate) reasons: Vec<String>,
}

/// The server's processes in one stage, all of them together. Looked at every second and at the stage's ends.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UseFacts {
    /// Processor time, user and system, in hundredths of a second.
    pub(crate) cpu_s: f64,
    /// The most that was seen at one moment.
    pub(crate) resident_bytes_max: u64,
    /// Null where this user may not look; without those of threads with a descriptor table of their own.
    pub(crate) descriptors_max: Option<u64>,
    pub(crate) threads_max: u64,
    /// Whether that number leaves out such threads; told since Linux 6.2.
    pub(crate) has_own_descriptor_tables: bool,
    /// The processes that had ended by the stage's end, and when that was seen, since the run began.
    pub(crate) gone_pids: Vec<u32>,
    pub(crate) gone_at_s: Vec<f64>,
}

/// The server's processes at one moment, all of them together.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LookFacts {
    /// Since the run began.
    pub(crate) at_s: f64,
    /// Processor time since they began, which only grows.
    pub(crate) cpu_total_s: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) descriptors: Option<u64>,
    pub(crate) threads: u64,
    /// Processor time of the generating threads since they began.
    pub(crate) generator_cpu_total_s: f64,
}

/// One second of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SecondFacts {
    /// Whole seconds since the run began.
    pub(crate) second: u64,
    /// Connects that were begun.
    pub(crate) attempted: u64,
    pub(crate) established: u64,
    /// Connects that failed.
    pub(crate) failed: Vec<FailureFacts>,
    /// Connections that were open and are not any more.
    pub(crate) lost: Vec<FailureFacts>,
    /// Connections that ended as they had to, of those that come and go.
    pub(crate) ended: u64,
    /// Connections that were open at its end.
    pub(crate) open: u64,
}

/// What was answered when.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CourseFacts {
    /// How long an interval is: a quarter of a second, or two, four and so on as long.
    pub(crate) interval_s: f64,
    /// The latencies of what was answered in each, from when the window opened: as `histogram`, but to two digits, 1 %; null
    /// where there were none. What was answered after the window has intervals behind it.
    pub(crate) histograms: Vec<Option<String>>,
}

/// What the kernel counted during a stage, of all programs on the machine.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KernelFacts {
    /// TCPSynRetrans: SYNs, and answers to them, that were sent again.
    pub(crate) syn_retransmits: u64,
    /// TCPTimeouts.
    pub(crate) timeouts: u64,
    /// ListenOverflows: connections dropped because a listener's queue was full.
    pub(crate) listen_overflows: u64,
    /// ListenDrops: those, and connections that a listener dropped for other reasons.
    pub(crate) listen_drops: u64,
    /// TCPAbortOnTimeout: connections that were given up because the peer had not answered for too long.
    #[serde(default)]
    pub(crate) given_up: u64,
}

/// How often connections that come and go failed toward one target.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TargetFacts {
    pub(crate) address: String,
    pub(crate) count: u64,
}

/// How long the bodies of one target's responses have to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LengthFacts {
    pub(crate) address: String,
    pub(crate) bytes: u64,
}

/// How often one thing failed in one way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FailureFacts {
    /// `connect`, `send`, `reply`, `idle` (no request was on its way) or `close` (the server's end of it was waited for).
    pub(crate) act: Cow<'static, str>,
    /// Such as `refused`, `timed out`, `bytes lost`, `HTTP status 404`.
    pub(crate) kind: Cow<'static, str>,
    /// The kernel's error number; null where loadgen itself judged.
    pub(crate) errno: Option<i32>,
    /// Its name, such as `ECONNRESET`.
    pub(crate) errno_name: Option<Cow<'static, str>>,
    pub(crate) count: u64,
}
