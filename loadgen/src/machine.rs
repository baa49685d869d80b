//! Facts about this machine and this process, read from the kernel: cores, memory, limits, processor time.

use std::fs::{self, File};
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::thread::available_parallelism;
use std::time::Duration;

use esockets::sys;

use crate::cgroup::Cgroup;
use crate::routes::PortRange;

/// What the machine has and allows, as it was when the program began.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// What tells this machine, from its start on, from all others: a random number of the kernel's; empty if unknown.
    pub(crate) boot_id: String,
    /// The kernel's release, such as `6.18.2`.
    pub(crate) kernel: String,
    /// The processor's name, or its architecture where the kernel does not tell the name.
    pub(crate) processor: String,
    /// The ids of the cores on which this process may run.
    pub(crate) cores: Vec<usize>,
    /// All memory.
    pub(crate) memory_bytes: u64,
    /// Memory that can be had without swapping: MemAvailable, see proc_meminfo(5).
    pub(crate) memory_available_bytes: u64,
    /// What this process's cgroups, its container's among them, allow it of that, and of threads.
    pub(crate) cgroup: Cgroup,
    /// How many descriptors this process may have open; the program raises it to the hard limit when it begins.
    pub(crate) descriptors_max: u64,
    /// The ports that the kernel gives out by itself.
    pub(crate) ports: PortRange,
    /// How many connections may wait to be accepted at one listener: `net.core.somaxconn`.
    pub(crate) somaxconn: u64,
    /// Limits of the whole system.
    pub(crate) system: System,
}

/// What the kernel allows all programs together. `None` where it does not tell, or sets no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct System {
    /// Open files, of all processes: `fs.file-max` less those that are open.
    pub(crate) files_left: Option<u64>,
    /// Descriptors that a table may have, and so the most that RLIMIT_NOFILE can be: `fs.nr_open`.
    pub(crate) table_max: Option<u64>,
    /// Threads, of this user and of all: RLIMIT_NPROC and `kernel.threads-max`, the lesser.
    pub(crate) threads_max: Option<u64>,
    /// Bytes that may be under way in all TCP connections before the kernel throws some away: `net.ipv4.tcp_mem`.
    pub(crate) tcp_bytes_max: Option<u64>,
    /// Connections that may be left to the kernel to end: `net.ipv4.tcp_max_orphans`.
    pub(crate) orphans_max: Option<u64>,
    /// Connections that firewall rules can keep track of: `net.netfilter.nf_conntrack_max`.
    pub(crate) conntrack_max: Option<u64>,
    /// Where ports in TIME_WAIT may be used again after a second: nowhere (0), everywhere (1), or toward this machine
    /// itself (2): `net.ipv4.tcp_tw_reuse`.
    pub(crate) time_wait_reuse: Option<u64>,
    /// Whether TCP has timestamps, where the peer has them, too: `net.ipv4.tcp_timestamps`.
    pub(crate) has_timestamps: bool,
}

impl System {
    fn read() -> System {
        let number = |path: &str| first_line(path).parse::<u64>().ok();
        let words = |path: &str| -> Vec<u64> {
            first_line(path).split_whitespace().filter_map(|word| word.parse().ok()).collect()
        };
        let files_left = match words("/proc/sys/fs/file-nr").as_slice() {
            [open, _, most] => Some(most.saturating_sub(*open)),
            _ => None,
        };
        let (by_user, by_all) = (processes_max(), number("/proc/sys/kernel/threads-max"));
        System {
            files_left,
            table_max: number("/proc/sys/fs/nr_open"),
            threads_max: by_user.into_iter().chain(by_all).min(),
            tcp_bytes_max: words("/proc/sys/net/ipv4/tcp_mem").get(2).map(|pages| pages * PAGE_BYTES),
            orphans_max: number("/proc/sys/net/ipv4/tcp_max_orphans"),
            conntrack_max: number("/proc/sys/net/netfilter/nf_conntrack_max"),
            time_wait_reuse: number("/proc/sys/net/ipv4/tcp_tw_reuse"),
            has_timestamps: number("/proc/sys/net/ipv4/tcp_timestamps").is_some_and(|value| value > 0),
        }
    }
}

/// Whether this machine has `address`, so that connections can come from it.
pub(crate) fn is_own_address(address: IpAddr) -> bool {
    // UDP, so that no TCP port is taken, not even for a moment. A network's broadcast address can be bound, too, but not be
    // connected to: connections bound to it would come from another address. Nothing is sent.
    UdpSocket::bind((address, 0)).and_then(|socket| socket.connect((address, DISCARD))).is_ok()
}

impl Machine {
    /// How long a port of this machine stays in TIME_WAIT, as far as it keeps the next connection from being opened, toward
    /// this machine itself or elsewhere.
    ///
    /// With TCP's timestamps a new connection is told from the old one. Then a program that binds the port by itself gets
    /// it at once (tcp_twsk_unique() in the kernel's sources), and what the kernel chooses obeys `net.ipv4.tcp_tw_reuse`.
    pub(crate) fn time_wait(&self, is_server_here: bool, is_kernels_choice: bool) -> Duration {
        match self.system.time_wait_reuse {
            _ if !self.system.has_timestamps => TIME_WAIT,
            _ if !is_kernels_choice => Duration::ZERO,
            Some(1) => TIME_WAIT_REUSED,
            Some(2) if is_server_here => TIME_WAIT_REUSED,
            _ => TIME_WAIT,
        }
    }

    /// Raises this process's descriptor limit as far as it goes, and reads all the rest.
    pub(crate) fn prepare() -> Machine {
        Machine {
            boot_id: first_line("/proc/sys/kernel/random/boot_id"),
            kernel: first_line("/proc/sys/kernel/osrelease"),
            processor: processor(),
            cores: cores(),
            memory_bytes: meminfo_bytes("MemTotal:"),
            memory_available_bytes: meminfo_bytes("MemAvailable:"),
            cgroup: cgroup(),
            descriptors_max: raise_descriptor_limit(),
            ports: port_range(),
            somaxconn: first_line("/proc/sys/net/core/somaxconn").parse().unwrap_or(0),
            system: System::read(),
        }
    }
}

/// Resident memory of this process, in bytes: VmRSS, see proc_pid_status(5).
pub(crate) fn resident_bytes() -> u64 {
    Resident::open().bytes()
}

/// The way to [`resident_bytes`] of a process that may run out of descriptors: it holds the one that this takes.
#[derive(Debug)]
pub(crate) struct Resident(Option<File>);

impl Resident {
    pub(crate) fn open() -> Resident {
        Resident(File::open("/proc/self/status").ok())
    }

    pub(crate) fn bytes(&self) -> u64 {
        // The whole of it is shorter; what is read from its beginning is written anew.
        let mut text = [0; 4096];
        let read = self.0.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        kibibytes_in(&String::from_utf8_lossy(&text[..read]), "VmRSS:")
    }
}

/// Processor time, user and system, of those threads of this process whose name begins with `prefix`.
pub(crate) fn threads_cpu_time(prefix: &str) -> Duration {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let named = tasks
        .flatten()
        .map(|task| task.path())
        .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with(prefix)));
    // The first number of schedstat is the time spent on a processor, in nanoseconds (sched-stats in the kernel's
    // documentation); stat has the same only in hundredths of a second.
    let used_ns = |schedstat: String| schedstat.split(' ').next()?.parse::<u64>().ok();
    Duration::from_nanos(
        named.filter_map(|task| fs::read_to_string(task.join("schedstat")).ok().and_then(used_ns)).sum(),
    )
}

/// How long the calling thread has been ready to run without having a processor; zero where the kernel does not tell.
pub(crate) fn thread_wait_time() -> Duration {
    // The second number of schedstat, in nanoseconds.
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(schedstat.split(' ').nth(1).and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// The port of a service that takes everything and does nothing: any but 0 would do.
const DISCARD: u16 = 9;

/// TCP_TIMEWAIT_LEN of the kernel, which is not to be set.
const TIME_WAIT: Duration = Duration::from_secs(60);

/// A whole second of the clock has to have passed: up to two.
const TIME_WAIT_REUSED: Duration = Duration::from_secs(2);

/// What the kernel assumes when it cannot be asked; see ip(7).
const PORTS_USUAL: PortRange = PortRange { first: 32768, last: 60999 };

fn raise_descriptor_limit() -> u64 {
    let Ok(limit) = sys::descriptor_limit() else { return 1024 };
    match sys::set_descriptor_limit(limit.hard) {
        Ok(()) => limit.hard,
        Err(_) => limit.soft,
    }
}

/// The soft limit of processes and threads, which count alike: RLIMIT_NPROC, see getrlimit(2).
fn processes_max() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    limits.lines().find_map(|line| line.strip_prefix("Max processes"))?.split_whitespace().next()?.parse().ok()
}

/// What `tcp_mem` counts in, on nearly every machine.
const PAGE_BYTES: u64 = 4096;

/// Of threads, this process's own are not in use by others: whoever asks how many it takes counts them.
fn cgroup() -> Cgroup {
    let mut cgroup = Cgroup::read(|path| fs::read_to_string(path).ok());
    if let Some(threads) = &mut cgroup.threads {
        let own = fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count() as u64);
        threads.left = threads.limit.min(threads.left + own);
    }
    cgroup
}

fn cores() -> Vec<usize> {
    match core_affinity::get_core_ids() {
        Some(ids) if !ids.is_empty() => ids.iter().map(|core| core.id).collect(),
        _ => (0..available_parallelism().map_or(1, usize::from)).collect(),
    }
}

fn processor() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

fn port_range() -> PortRange {
    let line = first_line("/proc/sys/net/ipv4/ip_local_port_range");
    let mut ports = line.split_whitespace().map(str::parse);
    match (ports.next(), ports.next()) {
        (Some(Ok(first)), Some(Ok(last))) => PortRange { first, last },
        _ => PORTS_USUAL,
    }
}

fn meminfo_bytes(name: &str) -> u64 {
    kibibytes_after("/proc/meminfo", name)
}

fn kibibytes_after(path: &str, name: &str) -> u64 {
    kibibytes_in(&fs::read_to_string(path).unwrap_or_default(), name)
}

fn kibibytes_in(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next());
    value.and_then(|kibibytes| kibibytes.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cores_memory_and_limits() {
        let machine = Machine::prepare();
        assert!(!machine.cores.is_empty() && machine.descriptors_max > 0 && machine.ports.len() > 0, "{machine:?}");
        assert!(machine.memory_available_bytes > 0 && machine.memory_available_bytes <= machine.memory_bytes);
        assert!(resident_bytes() > 0 && resident_bytes() < machine.memory_bytes);
        let resident = Resident::open();
        let before = resident.bytes();
        let more = std::hint::black_box(vec![1u8; 32 << 20]);
        assert!(before > 0 && resident.bytes() > before + more.len() as u64 / 2, "it is read anew each time");
    }

    #[test]
    fn broadcast_addresses_are_nobodys_own() {
        for (address, is_own) in
            [("127.0.0.1", true), ("127.31.9.1", true), ("127.255.255.255", false), ("192.0.2.1", false)]
        {
            assert_eq!(is_own_address(address.parse().unwrap()), is_own, "{address}");
        }
    }

    #[test]
    fn processor_time_goes_to_the_threads_that_used_it() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let busy = std::thread::Builder::new().name("busy-for-test".into()).spawn(move || {
            while sys::thread_cpu_time() < Duration::from_millis(5) {}
            wait.recv().ok()
        });
        while threads_cpu_time("busy-for-test") < Duration::from_millis(5) {
            std::thread::yield_now();
        }
        assert_eq!(threads_cpu_time("no such thread"), Duration::ZERO);
        drop(done);
        busy.unwrap().join().unwrap();
    }
}
