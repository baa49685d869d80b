//! What fits: a plan's descriptors, ports, memory and whatever else may run short, said before anything is begun.

use std::fmt::{self, Display, Formatter};

use thiserror::Error;

use crate::cgroup::Allowance;
use crate::churn::Close;
use crate::echo::QUEUE_SIZE;
use crate::layout::{self, Layout};
use crate::machine::Machine;
use crate::pipeline::Pipeline;
use crate::plan::Plan;
use crate::quantity::{bytes, count, counted};
use crate::routes::Sources;

/// One thing that a plan needs, and whether there is enough of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What it is.
    pub(crate) thing: &'static str,
    /// Need and supply, with the sum behind them.
    pub(crate) sum: String,
    /// How many connections there is enough of it for; `None` where it does not come down to a number.
    pub(crate) fits: Option<u64>,
    /// Whether the plan fits.
    pub(crate) grade: Grade,
    /// What would make more fit: a command, or what to do.
    pub(crate) remedy: String,
}

/// Whether a plan fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grade {
    /// It does.
    Fits,
    /// It does, or not, depending on what cannot be known beforehand.
    Doubtful,
    /// It cannot.
    Short,
}

/// What there is too little of, each with how many connections would have fitted and how to get more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) struct Shortage {
    /// Connections asked for.
    connections: u64,
    /// Of how many shards this is one.
    shards: u64,
    short: Vec<Finding>,
}

impl Display for Shortage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for finding in &self.short {
            let connections = counted(self.connections, "connection");
            write!(f, "out of {} for {connections}: {}", finding.thing, finding.sum)?;
            if let Some(fits) = finding.fits {
                write!(f, "; {} would fit", if fits > 0 { count(fits) } else { "none".to_owned() })?;
            }
            write!(f, ".\nFor more: {}", finding.remedy)?;
            match finding.fits {
                // It is given for all shards alike.
                Some(fits @ 1..) => writeln!(f, "; or `-c {}`.", fits.saturating_mul(self.shards))?,
                _ => writeln!(f, ".")?,
            }
        }
        write!(f, "`loadgen doctor` with the same options shows all that it takes.")
    }
}

/// Whether `plan` fits into `machine`, as far as can be told beforehand.
///
/// # Errors
/// All that there is too little of.
pub(crate) fn check(plan: &Plan, machine: &Machine) -> Result<(), Shortage> {
    let short: Vec<Finding> =
        findings(plan, machine).into_iter().filter(|finding| finding.grade == Grade::Short).collect();
    if short.is_empty() {
        Ok(())
    } else {
        Err(Shortage { connections: plan.connections, shards: plan.shard.count, short })
    }
}

/// What `plan` perhaps lacks of `machine`'s memory, each a sentence: no reason to refuse it, but to say so beforehand, for
/// where it does run out, it does so in the middle.
pub(crate) fn doubts(plan: &Plan, machine: &Machine) -> Vec<String> {
    let found = [Some(memory(plan, machine)), memory_of_cgroup(plan, machine)];
    let doubtful = found.into_iter().flatten().filter(|finding| finding.grade == Grade::Doubtful);
    let sentence = |it: Finding| {
        let fits = count(it.fits.unwrap_or_default());
        format!(
            "perhaps out of {} for {}: {}; {fits} surely fit",
            it.thing,
            counted(plan.connections, "connection"),
            it.sum
        )
    };
    doubtful.map(sentence).collect()
}

/// All that `plan` needs of `machine`, the likeliest to run short first.
pub(crate) fn findings(plan: &Plan, machine: &Machine) -> Vec<Finding> {
    let of_tcp = |finding: fn(&Plan, &Machine) -> Option<Finding>| finding(plan, machine).filter(|_| !plan.is_unix());
    let all = [
        Some(descriptors(plan, machine)),
        of_tcp(|plan, machine| Some(ports(plan, machine))),
        of_tcp(ports_waiting),
        Some(memory(plan, machine)),
        memory_of_cgroup(plan, machine),
        files(plan, machine),
        threads(plan, machine),
        threads_of_cgroup(plan, machine),
        of_tcp(|plan, machine| Some(backlog(plan, machine))),
        of_tcp(bytes_under_way),
        of_tcp(orphans),
        of_tcp(tracked),
    ];
    all.into_iter().flatten().collect()
}

/// How many connections suit `machine` when both ends of each are this process's: what fits half of its memory, and no
/// more than `most`.
pub(crate) fn suitable(machine: &Machine, most: u64) -> u64 {
    let program = program_bytes(machine.cores.len());
    let of_cgroup = machine.cgroup.memory.as_ref().map_or(u64::MAX, |it| it.left.saturating_sub(program));
    let by_memory = machine.memory_available_bytes.min(of_cgroup) / 2 / (2 * CONNECTION_END_BYTES);
    by_memory.min(most).min(layout::both_ends_max(machine.descriptors_max)).max(1)
}

fn graded(thing: &'static str, plan: &Plan, fits: u64, sum: String, remedy: String) -> Finding {
    let grade = if plan.connections > fits { Grade::Short } else { Grade::Fits };
    Finding { thing, sum, fits: Some(fits), grade, remedy }
}

/// RLIMIT_NOFILE, see getrlimit(2): of each table.
fn descriptors(plan: &Plan, machine: &Machine) -> Finding {
    let (layout, limit, connections) = (plan.layout, machine.descriptors_max, plan.connections);
    let mut sum = layout.sums(connections, limit).join("; ");
    if layout.fits(limit) < connections {
        sum =
            layout.need(connections, limit) + &if layout.fits(limit) > 0 { format!(": {sum}") } else { String::new() };
    }
    let mut remedy = more_descriptors(layout.limit_needed(connections), "this shell", machine);
    let threads = layout::workers_for(connections, limit);
    let more = Layout { threads, ..layout };
    // It may be the shards that are short: more workers are no help then.
    if layout.own_tables && threads > layout.threads && more.fits(limit) >= connections {
        remedy = format!("`--threads {threads}`, each with a table of its own; or {remedy}");
    }
    graded("descriptors", plan, layout.fits(limit), sum, remedy)
}

/// How to have tables of `needed` descriptors in `shell`.
pub(crate) fn more_descriptors(needed: u64, shell: &str, machine: &Machine) -> String {
    let remedy = format!("`sudo prlimit --pid $$ --nofile={needed}` in {shell}, or LimitNOFILE={needed} in a unit");
    match machine.system.table_max.filter(|most| needed > *most) {
        Some(_) => format!("first `sudo sysctl -w fs.nr_open={needed}`, then {remedy}"),
        None => remedy,
    }
}

/// `net.ipv4.ip_local_port_range`, see ip(7).
fn ports(plan: &Plan, machine: &Machine) -> Finding {
    let destinations = plan.targets.len();
    // What the kernel chooses for few connections, loadgen chooses for many.
    let is_kernels = plan.sources == Sources::Kernel;
    let widest =
        if is_kernels { Sources::toward(&plan.ips(), u64::MAX, None, machine.ports, 0) } else { plan.sources.clone() };
    let sharing = if plan.are_sources_shared { plan.shard.count } else { 1 };
    let fits = widest.capacity(destinations, machine.ports) / sharing;
    let toward = counted(destinations as u64, "destination");
    let (sum, remedy) = if is_kernels && widest != Sources::Kernel {
        let (kernels, beyond) = (count(machine.ports.len()), count(fits));
        let sum =
            format!("the kernel's {kernels}, of which this takes less than half; from other addresses up to {beyond}");
        (sum, "more targets")
    } else if is_kernels {
        let sum = format!("the kernel's {} ports × 1 address × {toward} = {}", count(machine.ports.len()), count(fits));
        let remedy = "`--source` with more addresses of this machine, or more targets, or `sudo sysctl -w \
                      net.ipv4.ip_local_port_range=\"1024 65535\"`";
        (sum, remedy)
    } else {
        let (ports, addresses) = (plan.sources.ports(), plan.sources.addresses());
        let needed = plan.connections.div_ceil(destinations as u64).div_ceil(ports.max(1));
        let some = |number: u64| format!("{} address{}", count(number), if number == 1 { "" } else { "es" });
        let product = format!("{} ports × {} × {toward} = {}", count(ports), some(addresses), count(fits));
        (format!("{product}; {} needed", some(needed)), "more addresses in `--source`")
    };
    graded("ports", plan, fits, sum, remedy.to_owned())
}

/// TIME_WAIT, see tcp(7): ports of connections that are over, where this side closes them.
fn ports_waiting(plan: &Plan, machine: &Machine) -> Option<Finding> {
    let (_, waiting) = plan.churn.filter(|(churn, _)| churn.close == Close::Fin)?;
    let all = plan.sources.capacity(plan.targets.len(), machine.ports);
    let wait_s = machine.time_wait(plan.is_server_here(), plan.sources == Sources::Kernel).as_secs();
    let each = format!("each waits {wait_s} s in TIME_WAIT");
    let (sum, grade) = match waiting {
        Some(0) => {
            ("none: with TCP's timestamps, those that loadgen chooses are used again at once".into(), Grade::Fits)
        }
        Some(waiting) => {
            let needed = waiting.saturating_add(plan.connections);
            let sum = format!("{each}: {} at this rate, of {}", count(needed), count(all));
            (sum, if needed > all { Grade::Short } else { Grade::Fits })
        }
        None => {
            let per_s = all / wait_s.max(1);
            let sum = format!("{each}: {} are enough for {} connections/s, however long", count(all), count(per_s));
            (sum, if per_s < FAST_PER_S { Grade::Doubtful } else { Grade::Fits })
        }
    };
    let remedy = "`--close reset` or `--close server`, which keep no port; `--source` with addresses of this machine, whose \
                  ports need not wait where both sides have TCP's timestamps; a lower -R";
    Some(Finding { thing: "ports waiting", sum, fits: None, grade, remedy: remedy.to_owned() })
}

/// MemAvailable, see proc_meminfo(5).
fn memory(plan: &Plan, machine: &Machine) -> Finding {
    let available = machine.memory_available_bytes;
    // Both ends of a connection to this machine lie in this machine's memory, whichever process has them.
    let ends = if plan.is_server_here() { 2 } else { 1 };
    let (own, kernels) = (Pipeline::bytes(plan.pipeline), pipeline_kernel_bytes(plan));
    let (least_each, pipeline) = (CONNECTION_END_BYTES * ends + own, own + kernels);
    let each = least_each + kernels;
    // Toward this machine, the other shards are here, too.
    let (connections, sharing) =
        if ends == 2 { (plan.connections_whole, plan.shard.count) } else { (plan.connections, 1) };
    let needed = connections.saturating_mul(each);
    let (at_once, remedy) = match pipeline {
        0 => (String::new(), ""),
        _ => (
            format!("; {} requests at once: {}", count(plan.pipeline.into()), bytes(pipeline)),
            "a smaller --pipeline; or ",
        ),
    };
    let sum = format!(
        "{}{} a connection ({}{}), {} in all, of {} available",
        if kernels > 0 { "up to " } else { "" },
        bytes(each),
        if ends == 2 { "both ends: kernel, server and loadgen" } else { "kernel and loadgen" },
        at_once,
        bytes(needed),
        bytes(available)
    );
    // What the kernel has of a pipeline is no more than that, and mostly less: a server that keeps up leaves nothing there.
    let grade = match plan.connections {
        wanted if wanted > available / least_each / sharing => Grade::Short,
        wanted if wanted > available / each / sharing => Grade::Doubtful,
        _ => Grade::Fits,
    };
    let remedy = format!("{remedy}stop other programs, or add memory");
    Finding { thing: "memory", sum, fits: Some(available / each / sharing), grade, remedy }
}

/// What the kernel has of a connection's requests, or of the replies to them, where several are under way at once. (Of one
/// at a time, most connections are at rest.) On the way to another machine each waits for its acknowledgement; to this
/// machine itself, for its reader.
fn pipeline_kernel_bytes(plan: &Plan) -> u64 {
    if plan.pipeline == 1 {
        return 0;
    }
    let added = if plan.is_server_here() { UNREAD_BYTES } else { UNACKNOWLEDGED_BYTES };
    let most = if plan.is_unix() { UNIX_BUFFERS_BYTES_MAX } else { BUFFERS_BYTES_MAX };
    (plan.under_way_bytes() + u64::from(plan.pipeline) * added).min(most)
}

/// Memory that this process's cgroups leave it, as a container has it: who takes more is killed without a word.
///
/// An end of a connection is that cgroup's whose process opened or accepted it. So both ends count where the server is in
/// this process; where it is another one on this machine, it may be in the same container, or not.
fn memory_of_cgroup(plan: &Plan, machine: &Machine) -> Option<Finding> {
    let Allowance { file, limit, left } = machine.cgroup.memory.as_ref()?;
    let program = program_bytes(plan.threads());
    let free = left.saturating_sub(program);
    // Whether the kernel's part of what is under way is the cgroup's depends on the version.
    let (own, kernels) = (Pipeline::bytes(plan.pipeline), pipeline_kernel_bytes(plan));
    let least_each = OPENED_END_BYTES + own + if plan.is_server_inside() { ACCEPTED_END_BYTES } else { 0 };
    let (ends, connections, sharing) =
        if plan.is_server_here() { (2, plan.connections_whole, plan.shard.count) } else { (1, plan.connections, 1) };
    let each = CONNECTION_END_BYTES * ends + own + kernels;
    let surely = free / each / sharing;
    let grade = match plan.connections {
        wanted if wanted > free / least_each => Grade::Short,
        wanted if wanted > surely => Grade::Doubtful,
        _ => Grade::Fits,
    };
    let needed = connections.saturating_mul(each).saturating_add(program);
    let where_server =
        if ends == 2 && !plan.is_server_inside() { ", with the server in this container, too," } else { "" };
    let (all, rest, whole) = (bytes(needed), bytes(*left), bytes(*limit));
    let sum = format!("up to {all} in all{where_server} of the {rest} that {file} leaves of {whole}");
    // What is in use by others sways.
    let mebibytes = (limit - left).saturating_add(needed).div_ceil(1 << 20) + 1;
    let remedy = format!(
        "raise the container's memory limit to {mebibytes} MiB: `docker run --memory={mebibytes}m`, limits.memory in \
         Kubernetes, MemoryMax= in a unit"
    );
    Some(Finding { thing: "cgroup memory", sum, fits: Some(surely), grade, remedy })
}

/// What the program takes of its cgroup's memory beside connections, with so many workers.
fn program_bytes(workers: usize) -> u64 {
    PROGRAM_BYTES + workers as u64 * WORKER_BYTES
}

/// `fs.file-max`: of all processes together.
fn files(plan: &Plan, machine: &Machine) -> Option<Finding> {
    let left = machine.system.files_left?;
    let ends = if plan.is_server_here() { 2 } else { 1 };
    let needed = plan.connections.saturating_mul(ends);
    let sum = format!("{} of the {} that the system may still open", count(needed), count(left));
    let remedy = format!("`sudo sysctl -w fs.file-max={}`", needed.saturating_mul(2));
    // Whoever administers the system is exempt from it.
    let finding = graded("open files", plan, left / ends, sum, remedy);
    Some(Finding { grade: doubtful_at_worst(finding.grade), ..finding })
}

/// RLIMIT_NPROC and `kernel.threads-max`.
fn threads(plan: &Plan, machine: &Machine) -> Option<Finding> {
    let most = machine.system.threads_max?;
    let (needed, who) = threads_needed(plan);
    let sum = format!("{needed} ({who}), of {} allowed", count(most));
    let grade = if needed > most { Grade::Short } else { Grade::Fits };
    Some(Finding { thing: "threads", sum, fits: None, grade, remedy: format!("`ulimit -u {}`", needed * 2) })
}

/// `pids.max` of this process's cgroups, as a container has it.
fn threads_of_cgroup(plan: &Plan, machine: &Machine) -> Option<Finding> {
    let Allowance { file, limit, left } = machine.cgroup.threads.as_ref()?;
    let (needed, who) = threads_needed(plan);
    let needed = needed + 1;
    let sum = format!("{needed} ({who}, and one for signals); {file} leaves {} of {}", count(*left), count(*limit));
    let grade = if needed > *left { Grade::Short } else { Grade::Fits };
    let most = (limit - left).saturating_add(needed);
    let remedy = format!(
        "raise the container's limit of threads to {most}: `docker run --pids-limit={most}`, podPidsLimit of the kubelet in \
         Kubernetes, TasksMax= in a unit"
    );
    Some(Finding { thing: "cgroup threads", sum, fits: None, grade, remedy })
}

/// How many threads it takes, and whose they are.
fn threads_needed(plan: &Plan) -> (u64, &'static str) {
    let shards = plan.layout.shards.unwrap_or(0);
    let who = if shards == 0 { "workers and main" } else { "workers, shards and main" };
    ((plan.layout.threads + shards) as u64 + 1, who)
}

/// listen(2) and `net.core.somaxconn`: of the server inside, or of the one that `loadgen serve` is.
fn backlog(plan: &Plan, machine: &Machine) -> Finding {
    let (most, wanted) = (machine.somaxconn, u64::from(QUEUE_SIZE));
    let sum = if plan.is_server_here() {
        format!(
            "loadgen's server asks for {} a shard and gets {}; connects wait before it is full",
            count(wanted),
            count(wanted.min(most))
        )
    } else {
        "the server's own affair; should connects take 1 s or 3 s, it is too short: then try --connect-rate".to_owned()
    };
    let grade = if plan.is_server_here() && most < wanted { Grade::Doubtful } else { Grade::Fits };
    Finding {
        thing: "backlog",
        sum,
        fits: None,
        grade,
        remedy: format!("`sudo sysctl -w net.core.somaxconn={wanted}`"),
    }
}

/// `net.ipv4.tcp_mem`, see tcp(7).
fn bytes_under_way(plan: &Plan, machine: &Machine) -> Option<Finding> {
    let most = machine.system.tcp_bytes_max?;
    // A message takes whole pages, at the sender until it is acknowledged, and at the receiver until it is read.
    let sent = u64::from(plan.size()).max(pipeline_kernel_bytes(plan));
    let each = sent.next_multiple_of(4096) * 2;
    let fits = most / each;
    let messages = if plan.pipeline > 1 { counted(plan.pipeline.into(), "request") } else { "a message".to_owned() };
    let sum = format!(
        "none at rest; {} of them with {messages} on the way at once fill the {} of TCP",
        count(fits),
        bytes(most)
    );
    let remedy =
        format!("`sudo sysctl -w net.ipv4.tcp_mem=\"{0} {0} {0}\"`", plan.connections.saturating_mul(each) / 4096);
    let grade = if plan.connections > fits && sent > SMALL_BYTES { Grade::Doubtful } else { Grade::Fits };
    Some(Finding { thing: "bytes under way", sum, fits: None, grade, remedy })
}

/// `net.ipv4.tcp_max_orphans`: connections that a program closed, and that the kernel has yet to end.
fn orphans(plan: &Plan, machine: &Machine) -> Option<Finding> {
    let most = machine.system.orphans_max?;
    let sum = format!("none: loadgen resets its connections; up to {} if the server closes them first", count(most));
    let remedy = format!("`sudo sysctl -w net.ipv4.tcp_max_orphans={}`", plan.connections);
    Some(Finding { thing: "orphans", sum, fits: None, grade: Grade::Fits, remedy })
}

/// `net.netfilter.nf_conntrack_max`: it counts only where a firewall rule asks for the state of connections.
fn tracked(plan: &Plan, machine: &Machine) -> Option<Finding> {
    let most = machine.system.conntrack_max?;
    let sum = format!("{} at most, if a firewall rule here tracks them", count(most));
    let grade = if plan.connections > most { Grade::Doubtful } else { Grade::Fits };
    let remedy = format!("`sudo sysctl -w net.netfilter.nf_conntrack_max={}`", plan.connections.saturating_mul(2));
    Some(Finding { thing: "tracked", sum, fits: None, grade, remedy })
}

fn doubtful_at_worst(grade: Grade) -> Grade {
    if grade == Grade::Short { Grade::Doubtful } else { grade }
}

/// What one end of a TCP connection takes at rest: 4 KiB of the kernel (measured: 8 KB for both ends on loopback), and
/// less than 100 bytes of the program that has it.
const CONNECTION_END_BYTES: u64 = 4 * 1024 + 200;

/// What a cgroup is charged at least for an end that its process opened, and for one that it accepted (measured on Linux
/// 6.18, version 1: 4,140 and 1,500; a new end that the kernel makes may be charged to nobody).
const OPENED_END_BYTES: u64 = 4_200;
const ACCEPTED_END_BYTES: u64 = 1_500;

/// What the program takes of its cgroup's memory beside connections and workers: code, histograms, and what the kernel has
/// for it.
const PROGRAM_BYTES: u64 = 16 << 20;

/// What each worker takes at the most: its buffers, stack and histograms, and what the kernel has for its thread. Measured in
/// a cgroup as the difference between 51 workers and 1, for each: 229 KiB in `hold`, 515 in `rr`, 1,003 in `open`.
const WORKER_BYTES: u64 = 1 << 20;

/// More connections a second than a machine opens and closes.
const FAST_PER_S: u64 = 200_000;

/// Messages of this size are echoed before many of them can be under way.
const SMALL_BYTES: u64 = 4096;

/// What the kernel adds to a message that waits to be acknowledged, in a segment of its own (measured: 832).
const UNACKNOWLEDGED_BYTES: u64 = 832;

/// What it adds to a message that lies behind others until it is read (measured: 53 to 66).
const UNREAD_BYTES: u64 = 66;

/// What a sender's and a receiver's buffer grow to, unless somebody has set `net.ipv4.tcp_wmem` and `tcp_rmem`.
const BUFFERS_BYTES_MAX: u64 = (4 << 20) + (6 << 20);

/// The same of a Unix socket's, which has only a sender's buffer, in each direction (`net.core.wmem_default`): one message
/// more may be begun while it is not full, of up to half of it.
const UNIX_BUFFERS_BYTES_MAX: u64 = 2 * 212_992 * 3 / 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Cgroup;
    use crate::machine::System;
    use crate::plan::tests::{machine, plan, plan_inside};

    /// The things that `plan` has too little of.
    fn short(plan: &Plan, machine: &Machine) -> Vec<(&'static str, Option<u64>)> {
        let found = findings(plan, machine).into_iter().filter(|finding| finding.grade == Grade::Short);
        found.map(|finding| (finding.thing, finding.fits)).collect()
    }

    #[test]
    fn descriptors_fit_to_the_last_one() {
        let of = |connections: u64| plan(&format!("127.0.0.1:1 --threads 1 -c {connections}")).unwrap();
        assert_eq!(check(&of(19_936), &machine()), Ok(()));
        assert_eq!(short(&of(19_937), &machine()), [("descriptors", Some(19_936))]);
        let sentence = check(&of(19_937), &machine()).unwrap_err().to_string();
        let few = Machine { descriptors_max: 20, ..machine() };
        let layout = Layout { threads: 50, shards: None, own_tables: true };
        let said = check(&Plan { layout, ..plan("127.0.0.1:1 -c 50").unwrap() }, &few).unwrap_err().to_string();
        let wanted = "out of descriptors for 50 connections: 65 are needed in the table of each of 50 threads, 1 for its \
                      connections and 64 for loadgen itself, but the limit (`ulimit -n`) is 20; none would fit.\nFor more: \
                      `sudo prlimit --pid $$ --nofile=65` in this shell";
        assert!(said.starts_with(wanted), "{said}");
        for wanted in [
            "20,001 are needed, 19,937 for connections",
            "--nofile=20001",
            "19,936 would fit",
            "--threads 2",
            "-c 19936",
        ] {
            assert!(sentence.contains(wanted), "no '{wanted}' in {sentence}");
        }
    }

    #[test]
    fn more_workers_are_advised_only_where_they_help() {
        let remedy = |arguments: &str| descriptors(&plan_inside(arguments), &machine()).remedy;
        assert!(remedy("-c 1M --threads 50").contains("`--threads 51`"), "{}", remedy("-c 1M --threads 50"));
        // So many do not fit into any number of shards.
        assert!(remedy("-c 19M --threads 900").starts_with("`sudo prlimit"), "{}", remedy("-c 19M --threads 900"));
    }

    #[test]
    fn beyond_what_a_table_may_have_the_system_is_told_first() {
        let system = System { table_max: Some(1 << 20), ..System::default() };
        let remedy = |needed| more_descriptors(needed, "this shell", &Machine { system, ..machine() });
        assert!(remedy(1 << 20).starts_with("`sudo prlimit --pid $$ --nofile=1048576`"), "{}", remedy(1 << 20));
        let first = "first `sudo sysctl -w fs.nr_open=1048577`, then `sudo prlimit --pid $$ --nofile=1048577`";
        assert!(remedy((1 << 20) + 1).starts_with(first), "{}", remedy((1 << 20) + 1));
    }

    #[test]
    fn a_million_fit_where_there_is_memory_for_them() {
        let roomy = Machine { memory_available_bytes: 16 << 30, ..machine() };
        assert_eq!(check(&plan("127.0.0.1:1 -c 1M").unwrap(), &roomy), Ok(()));
        assert_eq!(check(&plan_inside("-c 1M"), &roomy), Ok(()));
        let fits = (4 << 30) / (2 * CONNECTION_END_BYTES);
        assert_eq!(short(&plan_inside("-c 1M"), &machine()), [("memory", Some(fits))]);
    }

    #[test]
    fn ports_run_out_only_where_there_is_one_address() {
        assert_eq!(check(&plan("[::1]:1 -c 28232").unwrap(), &machine()), Ok(()));
        assert_eq!(short(&plan("[::1]:1 -c 28233").unwrap(), &machine()), [("ports", Some(28_232))]);
        assert_eq!(check(&plan("[::1]:1,[::1]:2 -c 28233").unwrap(), &machine()), Ok(()));
        let given = plan("192.0.2.1:1 --source 10.0.0.1,10.0.0.2 -c 63489").unwrap();
        assert_eq!(short(&given, &machine()), [("ports", Some(63_488))]);
        let sentence = check(&plan("[::1]:1 -c 28233").unwrap(), &machine()).unwrap_err().to_string();
        assert!(sentence.contains("ip_local_port_range") && sentence.contains("--source"), "{sentence}");
    }

    #[test]
    fn unix_sockets_need_no_ports() {
        let unix = plan("unix:/run/a.sock -c 60k").unwrap();
        let system =
            System { tcp_bytes_max: Some(1), orphans_max: Some(1), conntrack_max: Some(1), ..System::default() };
        let machine = Machine { system, ..machine() };
        assert_eq!(findings(&unix, &machine).iter().map(|it| it.thing).collect::<Vec<_>>(), ["descriptors", "memory"]);
        assert_eq!(check(&unix, &machine), Ok(()));
    }

    #[test]
    fn shards_on_one_machine_share_its_memory_and_its_ports() {
        let shard = |arguments: &str| plan(&format!("{arguments} --shard 1/4")).unwrap();
        let small = Machine { memory_available_bytes: 2 * CONNECTION_END_BYTES * 100, ..machine() };
        assert_eq!(check(&shard("127.0.0.1:1 -c 100"), &small), Ok(()));
        assert_eq!(short(&shard("127.0.0.1:1 -c 104"), &small), [("memory", Some(25))]);
        assert_eq!(check(&shard("192.0.2.1:1 -c 800"), &small), Ok(()), "each on a machine of its own");
        assert_eq!(check(&shard("[::1]:1 -c 28232"), &machine()), Ok(()));
        let sentence = check(&shard("[::1]:1 -c 28236"), &machine()).unwrap_err().to_string();
        assert!(sentence.contains("7,058 would fit") && sentence.contains("`-c 28232`"), "{sentence}");
        assert_eq!(check(&shard("192.0.2.1:1 -c 112928"), &machine()), Ok(()), "each has its own kernel's ports");
    }

    #[test]
    fn memory_counts_both_ends_on_this_machine() {
        let small = Machine { memory_available_bytes: 2 * CONNECTION_END_BYTES * 100, ..machine() };
        assert_eq!(check(&plan("127.0.0.1:1 -c 100").unwrap(), &small), Ok(()));
        assert_eq!(short(&plan("127.0.0.1:1 -c 101").unwrap(), &small), [("memory", Some(100))]);
        assert_eq!(check(&plan("192.0.2.1:1 -c 200").unwrap(), &small), Ok(()));
    }

    /// That machine, where a container leaves so much memory beside what the program takes with so many workers.
    fn container(left: u64, workers: usize) -> Machine {
        let file = "/sys/fs/cgroup/memory.max".to_owned();
        let memory = Some(Allowance { file, limit: 1 << 30, left: left + program_bytes(workers) });
        Machine { cgroup: Cgroup { memory, threads: None }, ..machine() }
    }

    #[test]
    fn a_containers_memory_is_a_limit_of_its_own() {
        let remote = |arguments: &str| plan(&format!("192.0.2.1:1 {arguments}")).unwrap();
        let here = |arguments: &str| plan(&format!("127.0.0.1:1 {arguments}")).unwrap();
        let small = |plan: &Plan| container(2 * CONNECTION_END_BYTES * 1_000, plan.threads());
        let of = |plan: &Plan| memory_of_cgroup(plan, &small(plan)).map(|it| (it.grade, it.fits.unwrap())).unwrap();
        assert_eq!(of(&plan_inside("-c 1000")), (Grade::Fits, 1_000));
        assert_eq!(of(&plan_inside("-c 1001")), (Grade::Doubtful, 1_000));
        assert_eq!(of(&plan_inside("-c 1508")), (Grade::Short, 1_000));
        assert_eq!(of(&remote("-c 2000")), (Grade::Fits, 2_000));
        assert_eq!(of(&remote("-c 2001")), (Grade::Doubtful, 2_000));
        assert_eq!(of(&remote("-c 2046")), (Grade::Short, 2_000));
        assert_eq!(of(&here("-c 1000")), (Grade::Fits, 1_000));
        assert_eq!(of(&here("-c 2045")), (Grade::Doubtful, 1_000), "the server may be in another container");
        assert_eq!(of(&here("-c 2046")), (Grade::Short, 1_000), "but this process is in this one");
        assert_eq!(of(&here("-c 1004 --shard 0/4")), (Grade::Doubtful, 250), "and so may be the other shards");
        let deep = remote("-c 2000 --pipeline 64");
        let deep = memory_of_cgroup(&deep, &small(&deep)).unwrap();
        assert!(deep.grade == Grade::Short && deep.fits < Some(200), "what is under way counts: {deep:?}");
        let many = plan_inside("-c 5k");
        let sentence = check(&many, &small(&many)).unwrap_err().to_string();
        for wanted in ["/sys/fs/cgroup/memory.max", "1.00 GiB", "raise the container's memory limit", "`-c 1000`"] {
            assert!(sentence.contains(wanted), "no '{wanted}' in {sentence}");
        }
    }

    #[test]
    fn each_worker_takes_memory_of_its_container() {
        let of = |threads: usize| {
            let plan = plan(&format!("192.0.2.1:1 -c 100 --threads {threads}")).unwrap();
            memory_of_cgroup(&plan, &container(100 * CONNECTION_END_BYTES, 2)).unwrap().grade
        };
        assert_eq!([of(1), of(2), of(3)], [Grade::Fits, Grade::Fits, Grade::Short]);
    }

    #[test]
    fn the_memory_limit_that_is_advised_is_enough() {
        for connections in [1_000, 40_000, 300_000] {
            let plan = plan_inside(&format!("-c {connections}"));
            let small = container(0, 0);
            let remedy = memory_of_cgroup(&plan, &small).unwrap().remedy;
            let mebibytes = remedy.split("--memory=").nth(1).and_then(|rest| rest.split('m').next()).unwrap();
            let before = small.cgroup.memory.clone().unwrap();
            let limit = mebibytes.parse::<u64>().unwrap() << 20;
            let memory = Some(Allowance { limit, left: limit - (before.limit - before.left), ..before });
            let raised = Machine { cgroup: Cgroup { memory, threads: None }, ..small };
            assert_eq!(memory_of_cgroup(&plan, &raised).unwrap().grade, Grade::Fits, "{connections}");
        }
    }

    #[test]
    fn what_the_manifest_asks_for_fits_into_what_it_gives() {
        let manifest = include_str!("../kubernetes.yaml");
        let value = |name: &str| manifest.split(name).nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
        let mebibytes = manifest.split("limits:").nth(1).and_then(|rest| rest.split("memory: ").nth(1)).unwrap();
        let limit = mebibytes.split("Mi").next().unwrap().parse::<u64>().unwrap() << 20;
        let arguments = format!("-c {} --threads {}", value("--connections="), value("--threads="));
        let pod = plan(&format!("192.0.2.1:1 {arguments} --shard 0/{}", value("--shard="))).unwrap();
        let memory = Some(Allowance { file: "memory.max".to_owned(), limit, left: limit });
        let node = Machine { cgroup: Cgroup { memory, threads: None }, ..machine() };
        assert_eq!(check(&pod, &node), Ok(()));
        assert_eq!(memory_of_cgroup(&pod, &node).unwrap().grade, Grade::Fits);
    }

    #[test]
    fn a_containers_threads_are_a_limit_of_their_own() {
        let of = |left| {
            let threads = Some(Allowance { file: "/sys/fs/cgroup/pids.max".to_owned(), limit: 10, left });
            let tight = Machine { cgroup: Cgroup { memory: None, threads }, ..machine() };
            check(&plan("127.0.0.1:1 -c 100 --threads 5").unwrap(), &tight).map_err(|it| it.to_string())
        };
        assert_eq!(of(7), Ok(()));
        let sentence = of(6).unwrap_err();
        assert!(sentence.contains("pids.max leaves 6 of 10") && sentence.contains("--pids-limit=11"), "{sentence}");
    }

    #[test]
    fn memory_counts_what_is_under_way_at_once() {
        let each = 2 * CONNECTION_END_BYTES + 16 * (64 + UNREAD_BYTES + 8) + 8;
        let small = Machine { memory_available_bytes: each * 100, ..machine() };
        assert_eq!(check(&plan("127.0.0.1:1 -c 100 --pipeline 16").unwrap(), &small), Ok(()));
        // More than surely fit are doubtful: the kernel's part is the most that it may be.
        let more = plan("127.0.0.1:1 -c 101 --pipeline 16").unwrap();
        assert_eq!((check(&more, &small), memory(&more, &small).grade), (Ok(()), Grade::Doubtful));
        let doubts = doubts(&more, &small);
        assert!(doubts.len() == 1 && doubts[0].ends_with("; 100 surely fit"), "{doubts:?}");
        assert_eq!(short(&plan("127.0.0.1:1 -c 130 --pipeline 16").unwrap(), &small), [("memory", Some(100))]);
        assert_eq!(check(&plan("127.0.0.1:1 -c 101 --pipeline 1").unwrap(), &small), Ok(()));
        let sum = memory(&plan("127.0.0.1:1 -c 100 --pipeline 16").unwrap(), &small).sum;
        assert!(sum.contains("16 requests at once: 2.16 KiB"), "{sum}");
        let sum = memory(&plan("192.0.2.1:1 -c 100 --pipeline 16").unwrap(), &small).sum;
        assert!(sum.contains("16 requests at once: 14.1 KiB"), "{sum}");
        // A Unix socket's buffers are smaller.
        let kernels =
            |target: &str| pipeline_kernel_bytes(&plan(&format!("{target} -c 1 -s 1MiB --pipeline 64")).unwrap());
        assert_eq!([kernels("unix:/run/a.sock"), kernels("127.0.0.1:1")], [UNIX_BUFFERS_BYTES_MAX, BUFFERS_BYTES_MAX]);
        // Buffers are full long before all of it is in the kernel.
        let large = plan("127.0.0.1:1 -c 100 -s 8MiB --pipeline 16").unwrap();
        assert_eq!(short(&large, &machine()), []);
        let system = System { tcp_bytes_max: Some(100 << 20), ..System::default() };
        let tight = Machine { system, ..machine() };
        let grade = |arguments: &str| bytes_under_way(&plan(arguments).unwrap(), &tight).unwrap().grade;
        assert_eq!(grade("127.0.0.1:1 -c 5k --pipeline 1"), Grade::Fits);
        assert_eq!(grade("127.0.0.1:1 -c 5k --pipeline 64"), Grade::Doubtful);
    }

    #[test]
    fn too_few_threads_are_said_and_doubts_do_not_refuse() {
        let system =
            System { threads_max: Some(5), conntrack_max: Some(10), files_left: Some(50), ..System::default() };
        let tight = Machine { system, ..machine() };
        assert_eq!(check(&plan("127.0.0.1:1 -c 100").unwrap(), &tight), Ok(()));
        let doubtful = findings(&plan("127.0.0.1:1 -c 100").unwrap(), &tight);
        let doubtful = doubtful.iter().filter(|finding| finding.grade == Grade::Doubtful);
        assert_eq!(doubtful.map(|finding| finding.thing).collect::<Vec<_>>(), ["open files", "tracked"]);
        assert_eq!(short(&plan("127.0.0.1:1 -c 100 --threads 5").unwrap(), &tight), [("threads", None)]);
    }

    #[test]
    fn the_suitable_number_is_the_least_of_its_bounds() {
        assert_eq!(suitable(&machine(), 5_000), 5_000);
        let small = Machine { memory_available_bytes: 4 * CONNECTION_END_BYTES * 10, ..machine() };
        assert_eq!(suitable(&small, 5_000), 10);
        assert_eq!(suitable(&container(4 * CONNECTION_END_BYTES * 10, machine().cores.len()), 5_000), 10);
        let tables = Machine { descriptors_max: 80, ..machine() };
        assert_eq!(suitable(&tables, 5_000), layout::both_ends_max(80));
        assert_eq!(suitable(&Machine { memory_available_bytes: 0, ..machine() }, 5_000), 1);
    }
}
