//! What will be run: a command line and a machine's facts, checked and made exact. No clock, no socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::address::Address;
use crate::args::{CoreChoice, Load};
use crate::churn::Churn;
use crate::layers::Layers;
use crate::layout::{Layout, Wish};
use crate::machine::Machine;
use crate::problem::Problem;
use crate::protocol::Protocol;
use crate::quantity::{bytes, count};
use crate::routes::{Routes, Sources, Used};
use crate::shard::Shard;

/// One run, all of it decided.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The targets as a person wrote them, for messages.
    pub(crate) name: String,
    /// Their addresses; connections are spread over them evenly.
    pub(crate) targets: Vec<Address>,
    /// How many connections, over all workers of this process.
    pub(crate) connections: u64,
    /// Which part of the load this process has, where several share it.
    pub(crate) shard: Shard,
    /// How many connections all shards have together.
    pub(crate) connections_whole: u64,
    /// What is said on them.
    pub(crate) protocol: Protocol,
    /// What lies between their sockets and that.
    pub(crate) layers: Layers,
    /// How many requests of a connection may be under way at once; more than one only in a closed loop.
    pub(crate) pipeline: u32,
    /// How long the measurement lasts.
    pub(crate) duration: Duration,
    /// How long a connect, and how long a reply, may take.
    pub(crate) timeout: Duration,
    /// How long after the window of an open loop requests are sent that fell due in it; the others are given up.
    pub(crate) drain: Duration,
    /// Connects begun per second, over all workers of all shards; `None` is as fast as they succeed.
    pub(crate) connect_rate: Option<f64>,
    /// Worker threads, never more than connections, and their descriptor tables. When it has shards, the server is a part
    /// of this process, and both ends of each connection use its limits.
    pub(crate) layout: Layout,
    /// The cores that workers are pinned to, one after the other; none when empty.
    pub(crate) cores: Vec<usize>,
    /// Who chooses source addresses and ports.
    pub(crate) sources: Sources,
    /// Where connections come and go: how, and how many source ports wait in TIME_WAIT meanwhile; `None` for "as many as
    /// there are connections", whose number nobody knows.
    pub(crate) churn: Option<(Churn, Option<u64>)>,
    /// Whether the other shards have the same sources, so that ports are to be divided among them.
    pub(crate) are_sources_shared: bool,
    /// Processes of the server that are to be watched.
    pub(crate) server_pids: Vec<u32>,
    /// Sets this run's bytes apart from those of any other run.
    pub(crate) seed: u64,
}

/// One worker's part of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    /// The worker's number, from 0, among those of all shards.
    pub(crate) worker: usize,
    /// How many workers all shards have, if each has as many as this one.
    pub(crate) workers: usize,
    /// How many connections are this worker's.
    pub(crate) connections: u32,
    /// The number of this worker's first connection among those of all shards.
    pub(crate) connection_first: u64,
    /// The core to run on.
    pub(crate) core: Option<usize>,
    /// Where its connections come from.
    pub(crate) routes: Routes,
}

impl Plan {
    /// The plan for `load` against `targets`, the addresses that stand for `name`; none for a server inside, whose
    /// address is not known yet: [`with_server`](Plan::with_server) adds it.
    ///
    /// # Errors
    /// The first wish that cannot be granted, by this machine or by any.
    pub(crate) fn new(
        load: &Load,
        (name, targets, protocol): (String, Vec<Address>, Protocol),
        machine: &Machine,
        seed: u64,
    ) -> Result<Plan, Problem> {
        let is_unix = targets.iter().any(|target| target.ip().is_none());
        if is_unix && targets.iter().any(|target| target.ip().is_some()) {
            let sentence = "some targets are Unix sockets and others are not: measure one kind";
            return Err(Problem::Usage(sentence.to_owned()));
        }
        if is_unix && load.source.is_some() {
            let sentence = "--source is for TCP: a connection to a Unix socket has no source address, and needs none";
            return Err(Problem::Usage(sentence.to_owned()));
        }
        let (shard, given) = (load.shard, given_sources(load));
        if shard.count > load.connections {
            let sentence = format!(
                "-c {} is fewer than {} shards: each needs a connection, and the number is that of all shards together",
                load.connections, shard.count
            );
            return Err(Problem::Usage(sentence));
        }
        let part = shard.part(load.connections);
        let connections = part.end - part.start;
        if let Some(stranger) = given.into_iter().flatten().find(|ip| !suits(**ip, &targets)) {
            let sentence = format!("--source {stranger} and {name} are not of one family, IPv4 or IPv6");
            return Err(Problem::Usage(sentence));
        }
        let is_inside = targets.is_empty();
        let is_here = targets.iter().all(Address::is_here);
        // The server needs cores, too, where it is on this machine.
        let cores = machine.cores.len();
        let wish = Wish {
            connections,
            threads: load.threads.map(usize::from),
            threads_usual: if is_here { cores.div_ceil(2) } else { cores },
            shards_usual: is_inside.then_some(cores),
        };
        let targets = if is_inside { vec![Address::Ip((Ipv4Addr::LOCALHOST, 0).into())] } else { targets };
        Plan {
            sources: Sources::toward(&ips(&targets), load.connections, given, machine.ports, std::process::id()),
            name,
            targets,
            connections,
            shard,
            connections_whole: load.connections,
            protocol,
            layers: Layers::default(),
            pipeline: load.pipeline.unwrap_or(1),
            duration: load.duration,
            timeout: load.timeout,
            drain: load.timeout,
            connect_rate: load.connect_rate,
            are_sources_shared: !shard.is_whole() && !has_own_sources(load) && (is_here || given.is_some()),
            layout: Layout::new(&wish, machine.descriptors_max),
            cores: cores_of(&load.cores, machine).map_err(Problem::Machine)?,
            churn: None,
            server_pids: load.server_pid.clone(),
            seed,
        }
        .within_bounds()
    }

    /// The same plan, if its numbers are those that can be counted.
    fn within_bounds(self) -> Result<Plan, Problem> {
        if self.connections.div_ceil(self.threads() as u64) > u64::from(u32::MAX) {
            return Err(Problem::Usage(format!("-c {} is more than any machine holds", self.connections)));
        }
        if self.under_way_bytes() > UNDER_WAY_BYTES_MAX {
            let sentence = format!(
                "--pipeline {} with requests of {}: at most 1 GiB of a connection can be under way at once",
                self.pipeline,
                bytes(self.size().into())
            );
            return Err(Problem::Usage(sentence));
        }
        Ok(self)
    }

    /// What the plan would be for `connections`, made of the same `load` on the same `machine`.
    ///
    /// # Errors
    /// More of them than any machine holds.
    pub(crate) fn resized(&self, connections: u64, load: &Load, machine: &Machine) -> Result<Plan, Problem> {
        let targets = if self.is_server_inside() { Vec::new() } else { self.targets.clone() };
        let same = (self.name.clone(), targets, self.protocol.clone());
        let plan = Plan::new(&Load { connections, ..load.clone() }, same, machine, self.seed)?;
        Ok(match self.churn {
            Some((churn, _)) => {
                plan.with_churn(churn, load.warmup.unwrap_or_default() + load.duration * load.runs.into(), machine)
            }
            None => plan,
        })
    }

    /// The same plan for connections that come and go, for `lasting` in all. Where their ports may be too many for the
    /// kernel's range, sources are chosen as for as many connections at once.
    pub(crate) fn with_churn(self, churn: Churn, lasting: Duration, machine: &Machine) -> Plan {
        if self.is_unix() {
            return Plan { churn: Some((churn, Some(0))), ..self };
        }
        let (is_here, churn) = (self.is_server_here(), churn.of_shard(self.shard));
        let waiting = |is_kernels| churn.waiting_max(machine.time_wait(is_here, is_kernels), lasting);
        let ports = self.connections.saturating_add(waiting(true).unwrap_or(u64::MAX));
        let sources = match self.sources {
            Sources::Kernel => Sources::toward(&self.ips(), ports, None, machine.ports, std::process::id()),
            given => given,
        };
        let waiting = waiting(sources == Sources::Kernel);
        Plan { sources, churn: Some((churn, waiting)), ..self }
    }

    /// The same plan, now that the server inside listens at `address`.
    pub(crate) fn with_server(self, address: SocketAddr) -> Plan {
        Plan { targets: vec![Address::Ip(address)], ..self }
    }

    /// Bytes of a request.
    pub(crate) fn size(&self) -> u32 {
        self.protocol.request_len(0)
    }

    /// Bytes of all requests of a connection that may be under way at once.
    pub(crate) fn under_way_bytes(&self) -> u64 {
        u64::from(self.size()) * u64::from(self.pipeline)
    }

    /// What stands behind the protocol, or a message's size, where more than one is under way at once.
    pub(crate) fn at_once(&self) -> String {
        match self.pipeline {
            0..=1 => String::new(),
            depth => format!(" · pipelined, {} at once", count(depth.into())),
        }
    }

    /// The index of the destination of the connection with this number.
    pub(crate) fn destination(&self, connection: u64) -> usize {
        (connection % self.targets.len() as u64) as usize
    }

    /// How many workers there are.
    pub(crate) fn threads(&self) -> usize {
        self.layout.threads
    }

    /// Whether the server is a part of this process.
    pub(crate) fn is_server_inside(&self) -> bool {
        self.layout.shards.is_some()
    }

    /// Whether the server is on this machine, in whatever process.
    pub(crate) fn is_server_here(&self) -> bool {
        self.targets.iter().all(Address::is_here)
    }

    /// Whether the targets are Unix sockets, which have no ports.
    pub(crate) fn is_unix(&self) -> bool {
        self.targets.iter().any(|target| target.ip().is_none())
    }

    /// The IP addresses and ports of the targets; none of Unix sockets.
    pub(crate) fn ips(&self) -> Vec<SocketAddr> {
        ips(&self.targets)
    }

    /// The sources that so many of its connections use.
    pub(crate) fn sources_used(&self, connections: u64) -> Used {
        if self.is_unix() {
            return Used { chosen_by: "none", addresses: 0, first: None, last: None, ports: None };
        }
        let first = self.shard.part(self.connections_whole).start - self.route_base();
        let used = self.sources.used(first..first + connections, self.targets.len());
        // Toward loopback it is known what the kernel chooses; elsewhere its routes decide.
        let localhost = |ip: IpAddr| if ip.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { ip };
        let here = self.ips().first().copied().filter(|_| self.is_server_here());
        let first = used.first.or(here.map(|target| localhost(target.ip())));
        Used { first, last: used.last.or(first), ..used }
    }

    /// The addresses of the targets, for messages.
    pub(crate) fn addresses(&self) -> String {
        self.targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// The parts of the workers: as equal as can be, nothing left over.
    pub(crate) fn shares(&self) -> Vec<Share> {
        let (threads, numbers) = (self.threads(), self.shard.part(self.connections_whole));
        let base = self.route_base();
        // Where sources are shared, the spares lie beyond the connections of all shards.
        let last = if self.are_sources_shared { self.connections_whole } else { numbers.end };
        let share = |thread: usize| {
            let part = Shard { index: thread as u64, count: threads as u64 }.part(self.connections);
            let (connection_first, end) = (numbers.start + part.start, numbers.start + part.end);
            let core = if self.cores.is_empty() { None } else { Some(self.cores[thread % self.cores.len()]) };
            let (worker, workers) = self.shard.worker((thread, threads));
            let numbered = (connection_first - base, end - base, last - base);
            Share {
                worker,
                workers,
                connections: (end - connection_first) as u32,
                connection_first,
                core,
                routes: Routes::new(self.sources.clone(), self.targets.len(), numbered, (worker, workers)),
            }
        };
        (0..threads).map(share).collect()
    }

    /// What is subtracted from a connection's number among those of all shards, to be its number among those that share
    /// its sources: a multiple of the number of targets, so that it goes to the same one.
    fn route_base(&self) -> u64 {
        let (first, targets) = (self.shard.part(self.connections_whole).start, self.targets.len().max(1) as u64);
        if self.are_sources_shared { 0 } else { first / targets * targets }
    }

    /// The longest time that a histogram of this run must be able to hold, in nanoseconds: a minute, or longer when
    /// requests can wait longer.
    pub(crate) fn latency_ns_max(&self) -> u64 {
        (self.duration + self.timeout * 2).max(Duration::from_secs(60)).as_nanos() as u64
    }
}

/// What is under way on a connection is counted in 32 bits.
const UNDER_WAY_BYTES_MAX: u64 = 1 << 30;

/// The cores of `choice`, none of them if nothing is to be pinned.
///
/// # Errors
/// A sentence that names the first core that this process cannot run on.
pub(crate) fn cores_of(choice: &CoreChoice, machine: &Machine) -> Result<Vec<usize>, String> {
    match choice {
        CoreChoice::None => Ok(Vec::new()),
        CoreChoice::All => Ok(machine.cores.clone()),
        CoreChoice::List(list) => match list.iter().find(|core| !machine.cores.contains(core)) {
            Some(missing) => {
                Err(format!("--cores names core {missing}, but this process may run on {:?} only", machine.cores))
            }
            None => Ok(list.clone()),
        },
    }
}

/// The source addresses that `load` gives this shard: its part of the list, or all of it where the list is shorter than
/// the shards are many.
pub(crate) fn given_sources(load: &Load) -> Option<&[IpAddr]> {
    let list = load.source.as_ref()?.addresses.as_slice();
    let part = load.shard.part(list.len() as u64);
    Some(if has_own_sources(load) { &list[part.start as usize..part.end as usize] } else { list })
}

/// Whether each shard of `load` has source addresses that no other one has.
fn has_own_sources(load: &Load) -> bool {
    load.source.as_ref().is_some_and(|list| list.addresses.len() as u64 >= load.shard.count)
}

/// Whether connections to all of `targets` can come from `source`.
fn suits(source: IpAddr, targets: &[Address]) -> bool {
    ips(targets).iter().all(|target| target.is_ipv4() == source.is_ipv4())
}

fn ips(targets: &[Address]) -> Vec<SocketAddr> {
    targets.iter().filter_map(Address::ip).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use crate::cgroup::Cgroup;
    use crate::machine::System;
    use crate::routes::PortRange;
    use clap::Parser;

    /// A machine with four cores and Linux's usual limits.
    pub(crate) fn machine() -> Machine {
        Machine {
            boot_id: "boot".into(),
            kernel: "6.1".into(),
            processor: "test".into(),
            cores: vec![0, 1, 2, 3],
            memory_bytes: 8 << 30,
            memory_available_bytes: 4 << 30,
            cgroup: Cgroup::default(),
            descriptors_max: 20_000,
            ports: PortRange { first: 32768, last: 60999 },
            somaxconn: 4096,
            system: System::default(),
        }
    }

    /// The plan for `loadgen rr` with these arguments on that machine.
    pub(crate) fn plan(arguments: &str) -> Result<Plan, String> {
        let line = format!("loadgen rr {arguments}");
        let Some(Command::Rr(rr)) = Args::parse_from(line.split_whitespace()).command else { panic!("{line}") };
        let names: Vec<String> = rr.targets.iter().map(ToString::to_string).collect();
        let targets = rr.targets.iter().map(|target| target.resolve(rr.load.timeout)).collect::<Result<_, _>>()?;
        let protocol = Protocol::Echo { size: rr.load.size.unwrap_or(64) };
        Plan::new(&rr.load, (names.join(","), targets, protocol), &machine(), 1).map_err(|problem| problem.to_string())
    }

    /// The plan for `loadgen hold` with these arguments and no target, with the server inside, on that machine.
    pub(crate) fn plan_inside(arguments: &str) -> Plan {
        let line = format!("loadgen hold {arguments}");
        let Some(Command::Hold(hold)) = Args::parse_from(line.split_whitespace()).command else { panic!("{line}") };
        let protocol = Protocol::Echo { size: hold.load.size.unwrap_or(64) };
        Plan::new(&hold.load, ("inside".into(), Vec::new(), protocol), &machine(), 1).unwrap()
    }

    #[test]
    fn shares_are_equal_disjoint_and_complete() {
        for (connections, threads) in [(1u64, 1u64), (10, 3), (1_000_000, 52), (7, 7), (100, 64)] {
            let shares = plan(&format!("127.0.0.1:1 -c {connections} --threads {threads}")).unwrap().shares();
            let (least, most) = (connections / threads, connections.div_ceil(threads));
            let mut next = 0;
            for share in &shares {
                assert_eq!(share.connection_first, next);
                assert!((least..=most).contains(&u64::from(share.connections)), "{share:?}");
                next += u64::from(share.connections);
            }
            assert_eq!((next, shares.len() as u64), (connections, threads));
        }
    }

    /// The plans of all `count` shards of a load.
    fn shards(arguments: &str, count: u64) -> Vec<Plan> {
        (0..count).map(|index| plan(&format!("{arguments} --shard {index}/{count}")).unwrap()).collect()
    }

    #[test]
    fn shards_have_connections_of_their_own_and_reach_every_target_alike() {
        let plans = shards("192.0.2.1:1,192.0.2.2:1 -c 1003 --threads 3", 4);
        let shares: Vec<Share> = plans.iter().flat_map(Plan::shares).collect();
        let mut next = 0;
        for share in &shares {
            assert_eq!(share.connection_first, next);
            next += u64::from(share.connections);
        }
        assert_eq!((next, shares[0].workers), (1003, 12));
        let mut workers: Vec<usize> = shares.iter().map(|share| share.worker).collect();
        workers.sort_unstable();
        assert_eq!(workers, (0..12).collect::<Vec<_>>());
        for share in shares {
            let (first, targets) = (share.connection_first, 2);
            let to: Vec<usize> = share.routes.map(|route| route.destination).collect();
            assert_eq!(to, (first..first + to.len() as u64).map(|it| (it % targets) as usize).collect::<Vec<_>>());
        }
        assert!(plan("127.0.0.1:1 -c 3 --shard 0/4").unwrap_err().contains("-c 3 is fewer than 4 shards"));
    }

    #[test]
    fn shards_never_come_from_the_same_source() {
        let few = "--source 127.0.0.5,127.0.0.6";
        let many = "--source 127.0.0.5,127.0.0.6,127.0.0.7,127.0.0.8,127.0.0.9";
        for (sources, addresses) in [(few, 2), (many, 1), ("", 1 + 254 * 254)] {
            let plans = shards(&format!("127.0.0.1:1,127.0.0.1:2 -c 70k --threads 2 {sources}"), 4);
            assert_eq!(plans[0].sources.addresses(), addresses, "{sources}");
            let mut used = std::collections::HashSet::new();
            for mut share in plans.iter().flat_map(Plan::shares) {
                // A spare is taken only where something else has the port: a few of them are enough to see.
                let spares: Vec<_> = std::iter::from_fn(|| share.routes.spare()).take(50).collect();
                let own = share.routes.map(|route| (route.destination, route.source.unwrap()));
                let spare = spares.into_iter().flat_map(|source| [(0, source), (1, source)]);
                assert!(own.chain(spare).all(|it| used.insert(it)), "{sources}");
            }
        }
        let said: Vec<String> = shards("127.0.0.1:1 -c 20 --source 127.0.0.5", 2)
            .iter()
            .map(|plan| plan.sources_used(plan.connections).to_string())
            .collect();
        assert_eq!(said, ["127.0.0.5, ports 1024 to 1033", "127.0.0.5, ports 1034 to 1043"]);
    }

    #[test]
    fn a_server_on_this_machine_is_left_half_of_the_cores() {
        assert_eq!(plan("127.0.0.1:1 -c 100").unwrap().threads(), 2);
        assert_eq!(plan("192.0.2.1:1 -c 100").unwrap().threads(), 4);
    }

    #[test]
    fn no_worker_is_without_a_connection() {
        assert_eq!(plan("192.0.2.1:1 -c 3").unwrap().threads(), 3);
        assert_eq!(plan("127.0.0.1:1 -c 2 --threads 9").unwrap().threads(), 2);
    }

    #[test]
    fn sources_are_of_the_targets_family() {
        assert!(plan("127.0.0.1:1 --source ::1").unwrap_err().contains("family"));
        assert_eq!(plan("127.0.0.1:1 --source 127.0.0.5,127.0.0.9").unwrap().sources.addresses(), 2);
    }

    #[test]
    fn a_unix_socket_has_no_sources_and_is_here() {
        let unix = plan("unix:/run/a.sock -c 100k").unwrap();
        assert_eq!((unix.threads(), unix.is_server_here(), unix.sources_used(9).addresses), (6, true, 0));
        assert!(plan("unix:/run/a.sock --source 127.0.0.1").unwrap_err().contains("no source address"));
        assert!(plan("unix:/run/a.sock 127.0.0.1:1").unwrap_err().contains("one kind"));
    }

    #[test]
    fn connections_are_spread_over_the_targets() {
        let plan = plan("127.0.0.1:1,127.0.0.1:2 127.0.0.1:3 -c 30").unwrap();
        let ports = plan.ips().iter().map(|target| target.port()).collect::<Vec<_>>();
        assert_eq!(ports, [1, 2, 3]);
        let mut reached = [0; 3];
        plan.shares().into_iter().flat_map(|share| share.routes).for_each(|route| reached[route.destination] += 1);
        assert_eq!(reached, [10, 10, 10]);
    }

    #[test]
    fn a_server_inside_has_shards_and_leaves_workers_half_of_the_cores() {
        let small = plan_inside("-c 100");
        assert_eq!((small.threads(), small.layout.shards, small.layout.own_tables), (2, Some(4), false));
        let large = plan_inside("-c 1M");
        assert_eq!((large.threads(), large.layout.shards, large.layout.own_tables), (51, Some(52), true));
    }

    #[test]
    fn cores_that_do_not_exist_are_named() {
        assert!(plan("127.0.0.1:1 --cores 1,9").unwrap_err().contains("core 9"));
        let shares = plan("127.0.0.1:1 --threads 3 --cores 2,3").unwrap().shares();
        assert_eq!(shares.iter().map(|share| share.core).collect::<Vec<_>>(), [Some(2), Some(3), Some(2)]);
    }

    #[test]
    fn histograms_hold_at_least_a_minute() {
        assert_eq!(plan("127.0.0.1:1").unwrap().latency_ns_max(), 60_000_000_000);
        assert_eq!(plan("127.0.0.1:1 -d 2m --timeout 1m").unwrap().latency_ns_max(), 240_000_000_000);
    }
}
