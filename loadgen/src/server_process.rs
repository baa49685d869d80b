//! Processes of the server beside ours: what /proc says of their processor time, memory, descriptors and threads.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What one process, or several together, had at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Processor time since it began, user and system, of all its threads, ended ones included; to a hundredth of a second.
    pub(crate) cpu_time: Duration,
    /// Resident memory: VmRSS.
    pub(crate) resident_bytes: u64,
    /// Open descriptors of the first thread's table, without those of threads that have one of their own. `None` where
    /// this user may not look.
    pub(crate) descriptors: Option<u64>,
    /// Whether there are threads with a table of their own.
    pub(crate) has_own_tables: bool,
    /// Threads.
    pub(crate) threads: u64,
}

/// The processes that were named, and what was seen of them in the stage that goes on.
#[derive(Debug, Clone)]
pub(crate) struct ServerWatch {
    processes: Vec<Process>,
    /// What they had when the stage began, and the most since.
    begin: Sample,
    most: Sample,
    /// When watching began, and the looks of every second since.
    begun_at: Instant,
    looks: Vec<Look>,
}

/// What was seen of both sides at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// Since the run's beginning.
    pub(crate) at: Duration,
    /// The server's processes.
    pub(crate) server: Sample,
    /// Processor time of the generating threads since they began.
    pub(crate) generator_cpu_time: Duration,
}

/// A process, for as long as it is the one that was named: a number may be given to another one later.
#[derive(Debug, Clone)]
struct Process {
    pid: u32,
    /// When it began, in the kernel's ticks: tells it from a later one of its number.
    started: u64,
    /// What it had when it was last seen; after its end its processor time still counts.
    last: Sample,
    /// When it was first seen to have ended, since watching began.
    gone_at: Option<Duration>,
}

/// What the server's processes did in one stage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerUse {
    /// Processor time that was used in the stage.
    pub(crate) cpu_time: Duration,
    /// The most of each that was seen at one moment.
    pub(crate) most: Sample,
    /// Those that ended, in this stage or before, and when, since the run's beginning.
    pub(crate) gone: Vec<(u32, Duration)>,
}

impl ServerWatch {
    /// Watches the processes `pids`, and those that they have started so far: a server that is named by its first process
    /// often works in others.
    ///
    /// # Errors
    /// The first that there is none of.
    pub(crate) fn new(pids: &[u32]) -> Result<ServerWatch, String> {
        let named: Result<Vec<Process>, String> = pids.iter().map(|pid| Process::find(*pid)).collect();
        // A child may end between the listing and the look at it.
        let children = descendants(pids, &parents()).into_iter().filter(|pid| *pid != std::process::id());
        let children = children.filter_map(|pid| Process::find(pid).ok());
        let processes = named.map(|named| named.into_iter().chain(children).collect::<Vec<_>>());
        let mut watch = ServerWatch {
            processes: processes?,
            begin: Sample::default(),
            most: Sample::default(),
            begun_at: Instant::now(),
            looks: Vec::new(),
        };
        watch.begin();
        Ok(watch)
    }

    /// A stage begins.
    pub(crate) fn begin(&mut self) {
        self.most = Sample::default();
        self.begin = self.look();
    }

    /// Looks at all of them; costs a few reads of /proc for each, and as many again as it has threads.
    pub(crate) fn look(&mut self) -> Sample {
        let at = self.begun_at.elapsed();
        self.processes.iter_mut().for_each(|process| process.look(at, true));
        let all = self.processes.iter().map(|process| process.last).reduce(Sample::and).unwrap_or_default();
        self.most = Sample {
            cpu_time: all.cpu_time,
            resident_bytes: self.most.resident_bytes.max(all.resident_bytes),
            descriptors: self.most.descriptors.max(all.descriptors),
            has_own_tables: self.most.has_own_tables || all.has_own_tables,
            threads: self.most.threads.max(all.threads),
        };
        all
    }

    /// Looks at what is lost when they end, and whether they have: costs one read of /proc for each, and is to be called as
    /// often as their end is to be told exactly.
    pub(crate) fn glance(&mut self) {
        let at = self.begun_at.elapsed();
        self.processes.iter_mut().for_each(|process| process.look(at, false));
    }

    /// Looks, and remembers it beside what the generator's threads have used: once a second.
    pub(crate) fn note(&mut self, generator_cpu_time: Duration) {
        let server = self.look();
        self.looks.push(Look { at: self.begun_at.elapsed(), server, generator_cpu_time });
    }

    /// All that was remembered.
    pub(crate) fn into_looks(self) -> Vec<Look> {
        self.looks
    }

    /// A stage has ended: what was used in it.
    pub(crate) fn end(&mut self) -> ServerUse {
        let now = self.look();
        let gone = self.processes.iter().filter_map(|process| Some((process.pid, process.gone_at?))).collect();
        ServerUse { cpu_time: now.cpu_time.saturating_sub(self.begin.cpu_time), most: self.most, gone }
    }
}

impl Sample {
    fn and(self, other: Sample) -> Sample {
        Sample {
            cpu_time: self.cpu_time + other.cpu_time,
            resident_bytes: self.resident_bytes + other.resident_bytes,
            descriptors: self.descriptors.zip(other.descriptors).map(|(mine, its)| mine + its),
            has_own_tables: self.has_own_tables || other.has_own_tables,
            threads: self.threads + other.threads,
        }
    }
}

impl Process {
    fn find(pid: u32) -> Result<Process, String> {
        let missing = || format!("--server-pid {pid}: there is no such process; `pgrep -a NAME` finds one");
        let (started, _, last) = read(pid).filter(|(_, is_over, _)| !is_over).ok_or_else(missing)?;
        Ok(Process { pid, started, last, gone_at: None })
    }

    /// Looks at it, `at` so long after watching began; at its descriptors only if `with_descriptors`.
    fn look(&mut self, at: Duration, with_descriptors: bool) {
        if self.gone_at.is_some() {
            return;
        }
        let seen = read(self.pid).filter(|(started, ..)| *started == self.started);
        // A process that has ended and was not waited for yet still tells what it used, to the last.
        self.last.cpu_time = seen.map_or(self.last.cpu_time, |(_, _, sample)| sample.cpu_time);
        let Some((_, false, sample)) = seen else {
            self.gone_at = Some(at);
            self.last = Sample { cpu_time: self.last.cpu_time, descriptors: Some(0), ..Sample::default() };
            return;
        };
        let (descriptors, has_own_tables) = match with_descriptors {
            true => descriptors(self.pid),
            false => (self.last.descriptors, self.last.has_own_tables),
        };
        self.last = Sample { descriptors, has_own_tables, ..sample };
    }
}

/// When process `pid` began, whether it is over (a zombie), and what it has but for descriptors; `None` when there is none.
fn read(pid: u32) -> Option<(u64, bool, Sample)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The fields of proc_pid_stat(5) behind the name, which may hold anything but ends with the last parenthesis.
fn parse_stat(stat: &str) -> Option<(u64, bool, Sample)> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    // Counted as in the manual, where the state is the third.
    let number = |field: usize| fields.get(field - 3)?.trim().parse::<u64>().ok();
    let ticks = number(14)? + number(15)?;
    let sample = Sample {
        cpu_time: Duration::from_millis(ticks * 1000 / TICKS_PER_S),
        resident_bytes: number(24)? * PAGE_BYTES,
        descriptors: None,
        has_own_tables: false,
        threads: number(20)?,
    };
    Some((number(22)?, matches!(*fields.first()?, "Z" | "X"), sample))
}

/// How many descriptors the table of the process's first thread holds, `None` where this user may not look; and whether
/// another thread's holds a different number, which two threads of one table do only while it changes.
fn descriptors(pid: u32) -> (Option<u64>, bool) {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let Ok(own) = fs::read_dir(folder.join("fd")) else { return (None, false) };
    let own = own.count() as u64;
    let tasks = fs::read_dir(folder.join("task")).into_iter().flatten().flatten();
    // Since Linux 6.2 a table's size is that of its folder; before, it is 0, and nothing is told.
    let mut sizes = tasks.filter_map(|task| Some(fs::metadata(task.path().join("fd")).ok()?.len()));
    let first = sizes.next();
    let has_own_tables = sizes.any(|size| Some(size) != first);
    (Some(own), has_own_tables)
}

/// USER_HZ, in which /proc counts on every Linux of today; see time(7).
const TICKS_PER_S: u64 = 100;

/// What /proc counts memory in, on nearly every machine.
const PAGE_BYTES: u64 = 4096;

/// Each process with its parent, from /proc.
fn parents() -> Vec<(u32, u32)> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))).collect()
}

/// The fourth field of proc_pid_stat(5). The second is a name in parentheses, which may hold anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Those of `parents`' processes that come from `pids`, by whatever many steps, and are none of them.
fn descendants(pids: &[u32], parents: &[(u32, u32)]) -> Vec<u32> {
    let mut known = pids.to_vec();
    let mut next = 0;
    while let Some(&pid) = known.get(next) {
        next += 1;
        let children = parents.iter().filter(|(child, parent)| *parent == pid && !known.contains(child));
        let children: Vec<u32> = children.map(|(child, _)| *child).collect();
        known.extend(children);
    }
    known.split_off(pids.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_come_from_a_process_are_found_once() {
        let parents = [(2, 1), (3, 2), (4, 3), (5, 9), (6, 2), (9, 1)];
        assert_eq!(descendants(&[2], &parents), [3, 6, 4]);
        assert_eq!(descendants(&[2, 3], &parents), [6, 4]);
        assert_eq!(descendants(&[5], &parents), [] as [u32; 0]);
        assert_eq!(parent("7 (a name) with) S 42 7 7 0"), Some(42));
    }
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_with_parentheses_and_spaces_is_no_trap() {
        let stat =
            "77 (a (b) c) S 1 77 77 0 -1 4194560 9 9 9 9 150 50 9 9 20 0 7 0 12345 4096 300 18446744073709551615";
        let (started, is_zombie, sample) = parse_stat(stat).unwrap();
        assert_eq!((started, is_zombie, sample.threads), (12345, false, 7));
        assert_eq!((sample.cpu_time, sample.resident_bytes), (Duration::from_secs(2), 300 * 4096));
        assert_eq!(parse_stat("77 (a"), None);
    }

    #[test]
    fn a_process_is_seen_and_its_end_is_told() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut watch = ServerWatch::new(&[child.id(), std::process::id()]).unwrap();
        let seen = watch.look();
        assert!(seen.resident_bytes > 0 && seen.descriptors > Some(6) && seen.threads >= 3, "{seen:?}");
        watch.note(Duration::ZERO);
        drop(child.stdin.take());
        child.wait().unwrap();
        let used = watch.end();
        assert!(matches!(used.gone[..], [(pid, at)] if pid == child.id() && at > Duration::ZERO), "{:?}", used.gone);
        assert!(used.most.threads >= seen.threads, "its time before its end still counts");
        assert_eq!(watch.into_looks().len(), 1);
        assert!(ServerWatch::new(&[child.id()]).unwrap_err().contains("no such process"));
    }

    #[test]
    fn what_a_process_used_before_its_end_is_not_lost() {
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; read x";
        let mut child =
            Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut watch = ServerWatch::new(&[child.id()]).unwrap();
        watch.begin();
        let before = watch.begin.cpu_time;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // It ends, and is a zombie until it is waited for: nobody looked between its work and its end.
        drop(child.stdin.take());
        while watch.processes[0].gone_at.is_none() {
            watch.glance();
        }
        child.wait().unwrap();
        let used = watch.end();
        assert!(used.cpu_time >= Duration::from_millis(20), "{used:?}, {before:?} before");
        assert_eq!(watch.end().gone, used.gone, "the moment stays");
    }

    #[test]
    fn a_thread_with_a_table_of_its_own_is_noticed() {
        assert_eq!(descriptors(std::process::id()).0.map(|number| number > 2), Some(true));
        assert_eq!(descriptors(u32::MAX), (None, false));
    }
}
