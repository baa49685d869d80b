//! Results that `--json` wrote, read again into what reports are made from. No clock, no socket.

mod figures;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::address::Address;
use crate::cgroup::Cgroup;
use crate::churn::{Churn, Close};
use crate::documents::objects;
use crate::failure::{Act, Failure, Kind};
use crate::layers::Layers;
use crate::layout::Layout;
use crate::machine::{Machine, System};
use crate::netstat::Netstat;
use crate::parts::{Part, Window};
use crate::plan::Plan;
use crate::protocol::Protocol;
use crate::protocol::http::Http;
use crate::protocol::script::Script;
use crate::recorder::{Failures, Recorder};
use crate::report::json::facts::{
    CourseFacts, FailureFacts, KernelFacts, LengthFacts, LookFacts, SecondFacts, SourceFacts, TargetFacts, UseFacts,
    VerdictFacts,
};
use crate::report::{Ending, Report, StageResult};
use crate::results::figures::{TimesFacts, course, finite, moment, span};
use crate::routes::{PortRange, Sources, Used};
use crate::schedule::{Arrival, Rate};
use crate::series::{self, Series};
use crate::server_process::{Look, Sample, ServerUse};
use crate::shard::Shard;
use crate::stage::Stage;
use crate::strange::Strange;
use crate::target::Target;
use crate::times::Times;

/// The reports in `text`, which `name` has: one JSON object or several behind each other, between which lines may stand
/// that begin with anything else. The parts of each are those that it is the sum of, or itself.
///
/// # Errors
/// A sentence: what is wrong with the first that is no report.
pub(crate) fn read(name: &str, text: &str) -> Result<Vec<Report>, String> {
    let documents = objects(text).map_err(|why| format!("{name}: {why}"))?;
    let are_many = documents.len() > 1;
    let named = |(index, document)| {
        let name = if are_many { format!("{name}, number {}", index + 1) } else { name.to_owned() };
        report(&name, document).map_err(|why| format!("{name}: {why}"))
    };
    documents.into_iter().enumerate().map(named).collect()
}

fn report(name: &str, document: &RawValue) -> Result<Report, String> {
    let head: BTreeMap<String, &RawValue> = parsed(document)?;
    let of = |field: &str| head.get(field).map_or(Value::Null, |raw| parsed(raw).unwrap_or_default());
    let (version, format) = (of("version"), of("format"));
    let version = version.as_str().unwrap_or("unknown");
    match format.as_u64() {
        Some(FORMAT) => {}
        Some(other) => {
            return Err(format!(
                "its results have format {other}, and this loadgen, {}, reads format {FORMAT}: loadgen {version} wrote it, \
                 which can read it",
                env!("CARGO_PKG_VERSION")
            ));
        }
        None => return Err("it has no results of `loadgen --json`".to_owned()),
    }
    if let Some(problem) = of("problem").as_str() {
        return Err(format!("nothing was run: {problem}"));
    }
    if head.contains_key("answer_per_s") {
        let sentence = "it is that of a search, and searches can be neither added up nor compared: each chose rates of its own. \
                        Instead measure one rate: together, with `loadgen open -R RATE --shard i/n`, and merge those results \
                        with --slo, then the next rate; or with `loadgen open -R RATE --runs 5`, and compare those";
        return Err(sentence.to_owned());
    }
    if of("plan")["server_inside"] == true {
        return Err(
            "its server was a part of it: such results can be neither added up nor compared, as the server is another one each time"
                .to_owned(),
        );
    }
    if !head.contains_key("begun_at_unix_s") {
        return Err(format!(
            "it does not say when it was measured: another version of loadgen wrote it ({version}), measure again"
        ));
    }
    parsed::<File>(document)?.report(name).map_err(|why| format!("its field {why}"))
}

/// `document` as a `T`; if it is none, the sentence names the field.
fn parsed<'a, T: Deserialize<'a>>(document: &'a RawValue) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_str(document.get());
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let whole = error.inner().to_string();
        let why = whole.split(" at line ").next().unwrap_or(&whole);
        match error.path().iter().next() {
            Some(_) => format!("its field {} is not as it should be: {why}", error.path()),
            None => format!("a field is not as it should be: {why}"),
        }
    })
}

/// What of [`Document`](crate::report::json::Document) is read: its fields say what they are.
#[derive(Debug, Deserialize)]
struct File {
    version: String,
    command: Vec<String>,
    begun_at_unix_s: f64,
    machine: MachineFacts,
    plan: PlanFacts,
    ending: String,
    stages: Vec<StageFacts>,
    connections: Vec<SecondFacts>,
    server_seconds: Vec<LookFacts>,
    closing_s: f64,
    resident_begin_bytes: u64,
    verdict: VerdictFacts,
    parts: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct MachineFacts {
    boot_id: String,
    kernel: String,
    processor: String,
    cores: usize,
    memory_bytes: u64,
    memory_available_bytes: u64,
    descriptors_max: u64,
    ports_kernel: [u16; 2],
    somaxconn: u64,
}

#[derive(Debug, Deserialize)]
struct PlanFacts {
    target: String,
    addresses: Vec<String>,
    sources: SourceFacts,
    connections: u64,
    connections_whole: u64,
    shard: Option<Shard>,
    protocol: String,
    send: Option<String>,
    expect: Option<String>,
    #[serde(default = "one_at_a_time")]
    pipeline: u32,
    message_bytes: u32,
    threads: usize,
    own_descriptor_tables: bool,
    duration_s: f64,
    timeout_s: f64,
    connect_rate_per_s: Option<f64>,
    seed: u64,
}

#[derive(Debug, Deserialize)]
struct StageFacts {
    stage: String,
    is_warmup: bool,
    rate_target_range_per_s: Option<[f64; 2]>,
    arrival: Option<String>,
    close: Option<String>,
    heartbeat_s: Option<f64>,
    window_begin_unix_s: f64,
    elapsed_s: f64,
    window_s: f64,
    connections_attempted: u64,
    connections_established: u64,
    connect_failures: Vec<FailureFacts>,
    losses: Vec<FailureFacts>,
    #[serde(default)]
    connections_lost: u64,
    connections_reopened: u64,
    connections_at_once_max: Option<u64>,
    requests_due: u64,
    requests_answered: u64,
    requests_answered_in_window: u64,
    requests_unfinished: u64,
    request_failures: Vec<FailureFacts>,
    #[serde(default)]
    request_failures_by_target: Vec<TargetFacts>,
    #[serde(default)]
    body_bytes_by_target: Vec<LengthFacts>,
    first_bytes: Option<String>,
    standstill_s: f64,
    answered_per_s: f64,
    bytes_sent: u64,
    bytes_received: u64,
    latency: TimesFacts,
    #[serde(default)]
    latency_over_time: Option<CourseFacts>,
    connect_time: Option<TimesFacts>,
    exchange: Option<TimesFacts>,
    reconnect: Option<TimesFacts>,
    service: Option<TimesFacts>,
    send_lag: Option<TimesFacts>,
    generator_cpu_s: f64,
    generator_busy_part: f64,
    generator_waited_part: f64,
    #[serde(default)]
    generator_waited_s: f64,
    heartbeats_skipped: u64,
    answered_in_thirds: [u64; 3],
    server_processes: Option<UseFacts>,
    resident_bytes: u64,
    kernel: KernelFacts,
}

impl File {
    fn report(self, name: &str) -> Result<Report, String> {
        let begun_at = moment("begun_at_unix_s", self.begun_at_unix_s)?;
        let duration = span("plan.duration_s", self.plan.duration_s)?;
        let parts = if self.parts.is_empty() { vec![self.part(name)] } else { self.parts };
        let stages: Result<Vec<StageResult>, String> = self
            .stages
            .into_iter()
            .enumerate()
            .map(|(index, mut stage)| {
                let failed_at = failed_at(&self.plan.addresses, std::mem::take(&mut stage.request_failures_by_target));
                let body_lens = body_lens(&self.plan.addresses, &stage.body_bytes_by_target);
                let result = stage.result(begun_at, duration);
                let mut result = result.map_err(|why| format!("stages[{index}].{why}"))?;
                (result.recorder.failed_at, result.recorder.body_lens) = (failed_at, body_lens);
                Ok(result)
            })
            .collect();
        let mut stages = stages?;
        if self.connections.iter().any(|second| second.second > SECONDS_MAX) {
            return Err(format!("connections tells of a second beyond {SECONDS_MAX}"));
        }
        let seconds: Result<Vec<(u64, series::Part)>, String> =
            self.connections.into_iter().map(SecondFacts::second).collect();
        // A series is that of a whole run: which stage has it makes no difference.
        if let Some(first) = stages.first_mut() {
            first.recorder.series = Series::of_seconds(seconds?);
        }
        let sources_used = self.plan.sources.used();
        // How many ports waited is told by no results, and asked by no report.
        let churn = stages.iter().find_map(|result| result.stage.churn()).map(|churn| (churn, None));
        Ok(Report {
            command: self.command,
            begun_at,
            machine: self.machine.machine(),
            sources_used,
            plan: Plan { churn, ..self.plan.plan(duration)? },
            stages,
            ending: Ending::named(&self.ending)
                .ok_or_else(|| format!("ending is '{}', which is unknown", self.ending))?,
            slo: None,
            server: None,
            server_looks: self.server_seconds.into_iter().map(LookFacts::look).collect::<Result<_, _>>()?,
            resident_begin_bytes: self.resident_begin_bytes,
            parts,
            closing_time: span("closing_s", self.closing_s)?,
        })
    }

    /// What it is as a part of something larger.
    fn part(&self, name: &str) -> Part {
        let plan = &self.plan;
        let is_timed = |stage: &&StageFacts| !stage.is_warmup && !matches!(stage.stage.as_str(), "connect" | "verify");
        let windows = self.stages.iter().filter(is_timed).map(|stage| Window {
            stage: stage.stage.clone(),
            begin_unix_s: stage.window_begin_unix_s,
            window_s: stage.window_s,
            rate_target_range_per_s: stage.rate_target_range_per_s,
        });
        Part {
            name: plan.shard.map_or_else(|| name.to_owned(), |shard| format!("shard {shard}")),
            shard: plan.shard,
            version: self.version.clone(),
            command: self.command.clone(),
            boot_id: self.machine.boot_id.clone(),
            seed: plan.seed,
            target: plan.target.clone(),
            said: match (&plan.send, &plan.expect) {
                (Some(send), Some(expect)) => format!("{}, {send:?} answered by {expect:?}", plan.protocol),
                _ => plan.protocol.clone(),
            },
            pipeline: plan.pipeline,
            message_bytes: plan.message_bytes,
            duration_s: plan.duration_s,
            timeout_s: plan.timeout_s,
            connections: plan.connections,
            connections_whole: plan.connections_whole,
            windows: windows.collect(),
            body_bytes: self.stages.last().map_or(Vec::new(), |stage| stage.body_bytes_by_target.clone()),
            verdict: self.verdict.verdict.clone().into_owned(),
            reasons: self.verdict.reasons.clone(),
        }
    }
}

impl MachineFacts {
    fn machine(self) -> Machine {
        Machine {
            boot_id: self.boot_id,
            kernel: self.kernel,
            processor: self.processor,
            cores: (0..self.cores.min(CORES_MAX)).collect(),
            memory_bytes: self.memory_bytes,
            memory_available_bytes: self.memory_available_bytes,
            cgroup: Cgroup::default(),
            descriptors_max: self.descriptors_max,
            ports: PortRange { first: self.ports_kernel[0], last: self.ports_kernel[1] },
            somaxconn: self.somaxconn,
            system: System::default(),
        }
    }
}

impl PlanFacts {
    fn plan(self, duration: Duration) -> Result<Plan, String> {
        if self.connections > CONNECTIONS_MAX || self.connections_whole > CONNECTIONS_MAX {
            return Err(format!("plan.connections is {}, which no machine holds", self.connections));
        }
        if let Some(shard) = self.shard.filter(|shard| shard.index >= shard.count) {
            return Err(format!("plan.shard.index: there is no shard {shard}, for they are counted from 0"));
        }
        let protocol = self.protocol()?;
        let targets = self.addresses.iter().map(|address| Address::named(address)).collect::<Result<Vec<_>, _>>();
        let targets = targets.map_err(|why| format!("plan.addresses has one that is none: {why}"))?;
        if targets.is_empty() {
            return Err("plan.addresses has no target".to_owned());
        }
        Ok(Plan {
            name: self.target,
            targets,
            connections: self.connections,
            shard: Shard::WHOLE,
            connections_whole: self.connections,
            protocol,
            layers: Layers::default(),
            pipeline: self.pipeline,
            duration,
            timeout: span("plan.timeout_s", self.timeout_s)?,
            drain: span("plan.timeout_s", self.timeout_s)?,
            connect_rate: self.connect_rate_per_s,
            layout: Layout { threads: self.threads, shards: None, own_tables: self.own_descriptor_tables },
            cores: Vec::new(),
            churn: None,
            // Where connections came from, the report itself says.
            sources: Sources::Kernel,
            are_sources_shared: false,
            server_pids: Vec::new(),
            seed: self.seed,
        })
    }

    fn protocol(&self) -> Result<Protocol, String> {
        match (self.protocol.as_str(), &self.send, &self.expect) {
            ("echo", ..) => Ok(Protocol::Echo { size: self.message_bytes }),
            ("script", Some(send), Some(expect)) => {
                let script = Script::new(send, expect).map_err(|why| format!("plan.expect: {why}"))?;
                Ok(Protocol::Script(Arc::new(script)))
            }
            ("http", ..) => {
                let targets: Vec<Target> = self
                    .target
                    .split(", ")
                    .map(str::parse)
                    .collect::<Result<_, _>>()
                    .map_err(|why| format!("plan.target: {why}"))?;
                let paths = targets.iter().map(|target| target.path.as_deref().unwrap_or("/"));
                Ok(Protocol::Http(Arc::new(Http::new(targets.iter().map(Target::authority).zip(paths), false))))
            }
            _ => Err(format!("plan.protocol is '{}', which is unknown", self.protocol)),
        }
    }
}

impl SourceFacts {
    fn used(&self) -> Used {
        let known = ["kernel", "loadgen", "user", "none"];
        Used {
            chosen_by: known.into_iter().find(|known| *known == self.chosen_by).unwrap_or("several"),
            addresses: self.addresses,
            first: self.address_first,
            last: self.address_last,
            ports: self.ports,
        }
    }
}

impl StageFacts {
    fn result(self, begun_at: SystemTime, duration: Duration) -> Result<StageResult, String> {
        let window_begin_at = moment("window_begin_unix_s", self.window_begin_unix_s)?;
        let used = self.server_processes.as_ref().map(UseFacts::used).transpose()?;
        Ok(StageResult {
            stage: self.stage(if self.is_warmup { span("window_s", self.window_s)? } else { duration })?,
            is_warmup: self.is_warmup,
            begun_after: window_begin_at.duration_since(begun_at).unwrap_or_default(),
            window_begin_at,
            elapsed: span("elapsed_s", self.elapsed_s)?,
            server_cpu_time: None,
            server_use: used,
            resident_bytes: self.resident_bytes,
            netstat: Netstat {
                listen_overflows: self.kernel.listen_overflows,
                listen_drops: self.kernel.listen_drops,
                syn_retransmits: self.kernel.syn_retransmits,
                timeouts: self.kernel.timeouts,
                given_up: self.kernel.given_up,
            },
            recorder: self.recorder()?,
        })
    }

    fn stage(&self, duration: Duration) -> Result<Stage, String> {
        let unknown = || format!("stage is '{}', which is unknown, or lacks a field", self.stage);
        let arrivals = || {
            let [from_per_s, to_per_s] = self.rate_target_range_per_s?;
            let arrival = [Arrival::Poisson, Arrival::Constant].into_iter();
            let arrival = arrival.into_iter().find(|it| self.arrival.as_deref() == Some(it.name()))?;
            Some((Rate { from_per_s, to_per_s }, arrival))
        };
        Ok(match self.stage.as_str() {
            "connect" => Stage::Connect,
            "verify" => Stage::Verify,
            "closed" => Stage::Closed { duration },
            "hold" => {
                Stage::Hold { duration, heartbeat: self.heartbeat_s.map(|it| span("heartbeat_s", it)).transpose()? }
            }
            "open" => {
                let (rate, arrival) = arrivals().ok_or_else(unknown)?;
                Stage::Open { duration, rate, arrival }
            }
            "churn" => {
                let close = [Close::Reset, Close::Fin, Close::Server].into_iter();
                let close = close.into_iter().find(|it| self.close.as_deref() == Some(it.name()));
                Stage::Churn(Churn { duration, arrivals: arrivals(), close: close.ok_or_else(unknown)? })
            }
            _ => return Err(unknown()),
        })
    }

    /// Whether its figures can be: all that was due became something, and what is a part of something is no more than that.
    fn check(&self) -> Result<(), String> {
        let failed: u128 = self.request_failures.iter().map(|failure| u128::from(failure.count)).sum();
        let became = u128::from(self.requests_answered) + failed + u128::from(self.requests_unfinished);
        if u128::from(self.requests_due) != became {
            return Err(format!("requests_due is {}, and {became} of them became something", self.requests_due));
        }
        let thirds: u128 = self.answered_in_thirds.iter().map(|third| u128::from(*third)).sum();
        let parts = [
            ("requests_answered_in_window", self.requests_answered_in_window.into(), self.requests_answered),
            ("answered_in_thirds", thirds, self.requests_answered_in_window),
            ("connections_established", self.connections_established.into(), self.connections_attempted),
        ];
        if let Some((field, part, whole)) = parts.into_iter().find(|(_, part, whole)| *part > u128::from(*whole)) {
            return Err(format!("{field} is {part}, which is a part of {whole}"));
        }
        let latencies = self.latency.samples;
        if !matches!(self.stage.as_str(), "connect") && latencies != self.requests_answered {
            return Err(format!("latency.samples is {latencies}, and {} were answered", self.requests_answered));
        }
        let per_s = if self.window_s > 0.0 { self.requests_answered_in_window as f64 / self.window_s } else { 0.0 };
        if (self.answered_per_s - per_s).abs() > per_s * ROUNDING {
            return Err(format!(
                "answered_per_s is {}, and its answers and its window make {per_s}",
                self.answered_per_s
            ));
        }
        let [from_per_s, to_per_s] = self.rate_target_range_per_s.unwrap_or_default();
        for (field, number) in [
            ("rate_target_range_per_s", from_per_s),
            ("rate_target_range_per_s", to_per_s),
            ("generator_busy_part", self.generator_busy_part),
            ("generator_waited_part", self.generator_waited_part),
        ] {
            finite(field, number)?;
        }
        Ok(())
    }

    fn recorder(self) -> Result<Recorder, String> {
        self.check()?;
        let times = |field, facts: Option<TimesFacts>| {
            facts.map_or_else(|| Ok(Times::new(u64::MAX >> 1)), |facts| facts.times(field))
        };
        let losses = failures(self.losses)?;
        Ok(Recorder {
            attempted: self.connections_attempted,
            established: self.connections_established,
            connect_failures: failures(self.connect_failures)?,
            losses,
            lost: self.connections_lost,
            reopened: self.connections_reopened,
            at_once_max: self.connections_at_once_max.unwrap_or(0),
            due: self.requests_due,
            answered: self.requests_answered,
            answered_in_window: self.requests_answered_in_window,
            thirds: self.answered_in_thirds,
            request_failures: failures(self.request_failures)?,
            unfinished: self.requests_unfinished,
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            timeline: course("latency_over_time", self.latency_over_time, self.latency.samples)?,
            latency: self.latency.times("latency")?,
            connect: times("connect_time", self.connect_time)?,
            exchange: times("exchange", self.exchange)?,
            reconnect: times("reconnect", self.reconnect)?,
            service: times("service", self.service)?,
            lag: times("send_lag", self.send_lag)?,
            window_ns: span("window_s", self.window_s)?.as_nanos() as u64,
            standstill_ns: span("standstill_s", self.standstill_s)?.as_nanos() as u64,
            strange: self.first_bytes.map(Strange::of_results),
            cpu_time: span("generator_cpu_s", self.generator_cpu_s)?,
            busy_part: self.generator_busy_part,
            waited_part: self.generator_waited_part,
            waited_time: span("generator_waited_s", self.generator_waited_s)?,
            skipped: self.heartbeats_skipped,
            // What no results need, or have, is left as it is.
            ..Recorder::new(u64::MAX >> 1)
        })
    }
}

impl UseFacts {
    fn used(&self) -> Result<ServerUse, String> {
        let most = Sample {
            cpu_time: Duration::ZERO,
            resident_bytes: self.resident_bytes_max,
            descriptors: self.descriptors_max,
            threads: self.threads_max,
            has_own_tables: self.has_own_descriptor_tables,
        };
        let moments: Vec<Duration> =
            self.gone_at_s.iter().map(|at| span("server_processes.gone_at_s", *at)).collect::<Result<_, _>>()?;
        let gone = self.gone_pids.iter().copied().zip(moments).collect();
        Ok(ServerUse { cpu_time: span("server_processes.cpu_s", self.cpu_s)?, most, gone })
    }
}

impl LookFacts {
    fn look(self) -> Result<Look, String> {
        let LookFacts { at_s, cpu_total_s, resident_bytes, descriptors, threads, generator_cpu_total_s } = self;
        // Each stage says that for itself.
        let has_own_tables = false;
        let server = Sample {
            cpu_time: span("server_seconds.cpu_total_s", cpu_total_s)?,
            resident_bytes,
            descriptors,
            threads,
            has_own_tables,
        };
        let generator_cpu_time = span("server_seconds.generator_cpu_total_s", generator_cpu_total_s)?;
        Ok(Look { at: span("server_seconds.at_s", at_s)?, server, generator_cpu_time })
    }
}

impl SecondFacts {
    fn second(self) -> Result<(u64, series::Part), String> {
        let SecondFacts { second, attempted, established, failed, lost, ended, open: _ } = self;
        Ok((second, series::Part { attempted, established, failed: failures(failed)?, lost: failures(lost)?, ended }))
    }
}

/// Lengths of bodies by the index of their target among `addresses`.
fn body_lens(addresses: &[String], list: &[LengthFacts]) -> BTreeMap<usize, u64> {
    let index = |fact: &LengthFacts| addresses.iter().position(|address| *address == fact.address);
    list.iter().filter_map(|fact| Some((index(fact)?, fact.bytes))).collect()
}

/// Failures by the index of their target among `addresses`.
fn failed_at(addresses: &[String], list: Vec<TargetFacts>) -> BTreeMap<usize, u64> {
    let mut failed_at = BTreeMap::new();
    for fact in list {
        if let Some(index) = addresses.iter().position(|address| *address == fact.address) {
            let count: &mut u64 = failed_at.entry(index).or_default();
            *count = count.saturating_add(fact.count);
        }
    }
    failed_at
}

fn failures(list: Vec<FailureFacts>) -> Result<Failures, String> {
    let failure = |facts: FailureFacts| {
        let known = Act::named(&facts.act).zip(Kind::named(&facts.kind));
        let (act, kind) = known.ok_or_else(|| format!("failures: '{}: {}' is unknown", facts.act, facts.kind))?;
        Ok((Failure { act, kind, errno: facts.errno }, facts.count))
    };
    list.into_iter().map(failure).collect()
}

/// As it was before there were pipelines.
pub(crate) fn one_at_a_time() -> u32 {
    1
}

/// A hundred days and more.
pub(crate) const SECONDS_MAX: u64 = 10_000_000;
/// The version of the layout that is read.
const FORMAT: u64 = 1;

const CONNECTIONS_MAX: u64 = 1 << 40;
const CORES_MAX: usize = 1 << 16;

/// By which part of it a figure may differ from what it is made of.
const ROUNDING: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::note;
    use crate::report::json;
    use crate::report::tests::report as run;
    use crate::timeline::Timeline;
    use std::io;
    use std::time::UNIX_EPOCH;

    /// A run of which no field is what it would be anyway.
    fn rich() -> Report {
        let mut run = run();
        run.plan.pipeline = 16;
        run.begun_at = UNIX_EPOCH + Duration::from_millis(1_795_600_800_250);
        let open = &mut run.stages[1];
        let rate = Rate { from_per_s: 900.0, to_per_s: 1100.0 };
        open.stage = Stage::Open { duration: run.plan.duration, rate, arrival: Arrival::Constant };
        open.window_begin_at = run.begun_at + Duration::from_millis(125);
        open.begun_after = Duration::from_millis(125);
        open.netstat.syn_retransmits = 3;
        let recorder = &mut open.recorder;
        (recorder.due, recorder.unfinished, recorder.skipped, recorder.reopened) = (1004, 1, 5, 6);
        recorder.lost = 4;
        (recorder.thirds, recorder.busy_part, recorder.waited_part) = ([1, 2, 3], 0.25, 0.125);
        recorder.body_lens.insert(0, 612);
        (1..=900).for_each(|us| recorder.service.record(us * 900));
        recorder.timeline = Timeline::new(1_000_000_000);
        (0..1000).for_each(|ms| recorder.timeline.record(ms * 1_000_000, u64::MAX, 1_000_000));
        recorder.timeline.close();
        recorder.lag.record_n(5_000, 900);
        note(&mut recorder.request_failures, Failure::new(Act::Reply, Kind::Swapped));
        note(&mut recorder.request_failures, Failure::new(Act::Reply, Kind::Status(503)));
        let reset = Failure::of(Act::Idle, &io::Error::from_raw_os_error(104));
        note(&mut recorder.request_failures, Failure { act: Act::Send, ..reset });
        note(&mut recorder.losses, reset);
        recorder.strange = Some(Strange::new(b"\x1b[2J\"", 0));
        run.stages[0].recorder.series.note_attempt(0);
        run.stages[0].recorder.series.note_lost(3_000_000_000, reset);
        run
    }

    #[test]
    fn what_was_written_is_read_and_written_again_the_same() {
        let written: Value = serde_json::from_str(&json::render(&rich())).unwrap();
        let mut again = read("a.json", &written.to_string()).unwrap().remove(0);
        assert_eq!(again.parts[0].name, "a.json");
        // Whose they are is all that is new.
        again.parts.clear();
        let mut rewritten: Value = serde_json::from_str(&json::render(&again)).unwrap();
        let mut written = written;
        for path in ["/stages/0/latency", "/stages/1/latency", "/stages/1/service", "/stages/1/send_lag"] {
            // The same samples, in a histogram that has room for longer ones.
            let samples = |value: &mut Value| {
                let histogram = value.pointer_mut(path).unwrap()["histogram"].take();
                Times::decoded(histogram.as_str().unwrap()).unwrap().take_values()
            };
            assert_eq!(samples(&mut rewritten), samples(&mut written), "{path}");
        }
        assert_eq!(rewritten, written);
    }

    #[test]
    fn results_that_tell_of_no_pipeline_had_none() {
        let mut older: Value = serde_json::from_str(&json::render(&run())).unwrap();
        assert_eq!(older["plan"].as_object_mut().unwrap().remove("pipeline"), Some(1.into()));
        let read = read("a.json", &older.to_string()).unwrap().remove(0);
        assert_eq!((read.plan.pipeline, read.parts[0].pipeline), (1, 1));
    }

    #[test]
    fn what_is_no_result_is_refused_with_the_reason() {
        let why = |change: fn(&mut Value)| {
            let mut value: Value = serde_json::from_str(&json::render(&run())).unwrap();
            change(&mut value);
            read("a.json", &value.to_string()).expect_err("it was changed")
        };
        let format = why(|it| it["format"] = 2.into());
        let version = env!("CARGO_PKG_VERSION");
        assert!(format.starts_with("a.json: its results have format 2, and this loadgen, "), "{format}");
        assert!(format.contains(&format!("reads format 1: loadgen {version} wrote it")), "{format}");
        assert!(why(|it| it["format"] = Value::Null).contains("a.json: it has no results"));
        assert!(why(|it| it["problem"] = "no route".into()).contains("nothing was run: no route"));
        assert!(why(|it| it["plan"]["server_inside"] = true.into()).contains("its server was a part of it"));
        assert!(why(|it| it["answer_per_s"] = Value::Null).contains("searches can be neither added up"));
        assert!(why(|it| drop(it.as_object_mut().unwrap().remove("begun_at_unix_s"))).contains("another version"));
    }

    #[test]
    fn a_figure_that_cannot_be_is_named() {
        let why = |path: &str, value: Value| {
            let mut document: Value = serde_json::from_str(&json::render(&run())).unwrap();
            *document.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
            read("a.json", &document.to_string()).expect_err("it was changed")
        };
        for (path, value, wanted) in [
            ("/stages/1/stage", "dance".into(), "stages[1].stage is 'dance', which is unknown"),
            ("/stages/1/requests_due", (-1).into(), "stages[1].requests_due is not as it should be: invalid value"),
            ("/stages/1/requests_due", 7.into(), "stages[1].requests_due is 7, and 1000 of them became something"),
            ("/stages/1/window_s", "NaN".into(), "stages[1].window_s is not as it should be: invalid type: string"),
            ("/stages/1/window_s", (-1).into(), "stages[1].answered_per_s is 990, and"),
            ("/stages/1/elapsed_s", (-1).into(), "stages[1].elapsed_s is -1 s, which is no span of time"),
            ("/stages/1/generator_busy_part", (-1).into(), "stages[1].generator_busy_part is -1, which cannot be"),
            ("/stages/1/answered_per_s", 991.into(), "stages[1].answered_per_s is 991, and its answers"),
            ("/stages/1/requests_answered_in_window", 1001.into(), "stages[1].requests_answered_in_window is 1001"),
            (
                "/stages/1/answered_in_thirds/0",
                991.into(),
                "stages[1].answered_in_thirds is 991, which is a part of 990",
            ),
            ("/stages/0/connections_established", 11.into(), "stages[0].connections_established is 11"),
            ("/stages/1/latency/samples", 9.into(), "stages[1].latency.samples is 9, and 1000 were answered"),
            ("/stages/0/latency/samples", 9.into(), "stages[0].latency.histogram has 10 samples, and should have 9"),
            ("/stages/1/latency/p50_ns", 1.into(), "stages[1].latency.p50_ns is 1, and its histogram has"),
            ("/stages/1/latency/p50_ns", 1e15.into(), "stages[1].latency.p50_ns is not as it should be"),
            ("/stages/1/latency/p50_ns", 999_999.into(), "stages[1].latency has p50_ns 999999 and p90_ns"),
            ("/stages/1/latency/histogram", "x".into(), "stages[1].latency.histogram is no base64"),
            ("/plan/timeout_s", (-1).into(), "plan.timeout_s is -1 s"),
            ("/plan/seed", "x".into(), "plan.seed is not as it should be"),
            ("/begun_at_unix_s", 1e19.into(), "begun_at_unix_s is 1"),
        ] {
            let said = why(path, value);
            assert!(said.starts_with(&format!("a.json: its field {wanted}")), "{path}: {said}");
        }
    }
}
