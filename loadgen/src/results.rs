//! Results that `--json` wrote, read again into what reports are made from. No clock, no socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Deserializer, Value};

use crate::address::Address;
use crate::cgroup::Cgroup;
use crate::churn::{Churn, Close};
use crate::failure::{Act, Failure, Kind};
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
    FailureFacts, KernelFacts, LengthFacts, LookFacts, SecondFacts, SourceFacts, TargetFacts, UseFacts, VerdictFacts,
};
use crate::report::{Ending, Report, StageResult};
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

fn objects(text: &str) -> Result<Vec<Value>, String> {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start();
        if !rest.starts_with('{') {
            match rest.find("\n{") {
                Some(at) => rest = &rest[at + 1..],
                None if found.is_empty() => return Err("it has no JSON object".to_owned()),
                None => return Ok(found),
            }
        }
        let mut values = Deserializer::from_str(rest).into_iter();
        match values.next() {
            Some(Ok(value)) => found.push(value),
            Some(Err(error)) => return Err(format!("it is no JSON: {error}")),
            None => return Ok(found),
        }
        rest = &rest[values.byte_offset()..];
    }
}

fn report(name: &str, document: Value) -> Result<Report, String> {
    if document["format"] != 1 {
        return Err("it has no results of `loadgen --json`".to_owned());
    }
    if let Some(problem) = document["problem"].as_str() {
        return Err(format!("nothing was run: {problem}"));
    }
    if document.get("answer_per_s").is_some() {
        let sentence = "it is that of a search, and searches cannot be added up: each chose rates of its own. Instead measure \
                        one rate together, with `loadgen open -R RATE --shard i/n`, and merge those results with --slo; then \
                        the next rate";
        return Err(sentence.to_owned());
    }
    if document["plan"]["server_inside"] == true {
        return Err("its server was a part of it: results of different servers are not one".to_owned());
    }
    if document.get("begun_at_unix_s").is_none() {
        return Err(
            "it does not say when it was measured: another version of loadgen wrote it, measure again".to_owned()
        );
    }
    let file: File =
        serde_json::from_value(document).map_err(|error| format!("a field is not as it should be: {error}"))?;
    file.report(name)
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
    bytes_sent: u64,
    bytes_received: u64,
    latency: TimesFacts,
    connect_time: Option<TimesFacts>,
    exchange: Option<TimesFacts>,
    reconnect: Option<TimesFacts>,
    service: Option<TimesFacts>,
    send_lag: Option<TimesFacts>,
    generator_cpu_s: f64,
    generator_busy_part: f64,
    generator_waited_part: f64,
    heartbeats_skipped: u64,
    answered_in_thirds: [u64; 3],
    server_processes: Option<UseFacts>,
    resident_bytes: u64,
    kernel: KernelFacts,
}

#[derive(Debug, Deserialize)]
struct TimesFacts {
    samples: u64,
    histogram: Option<String>,
}

impl File {
    fn report(self, name: &str) -> Result<Report, String> {
        let begun_at = moment(self.begun_at_unix_s)?;
        let duration = span(self.plan.duration_s)?;
        let parts = if self.parts.is_empty() { vec![self.part(name)] } else { self.parts };
        let stages: Result<Vec<StageResult>, String> = self
            .stages
            .into_iter()
            .map(|mut stage| {
                let failed_at = failed_at(&self.plan.addresses, std::mem::take(&mut stage.request_failures_by_target));
                let body_lens = body_lens(&self.plan.addresses, &stage.body_bytes_by_target);
                let mut result = stage.result(begun_at, duration)?;
                (result.recorder.failed_at, result.recorder.body_lens) = (failed_at, body_lens);
                Ok(result)
            })
            .collect();
        let mut stages = stages?;
        if self.connections.iter().any(|second| second.second > SECONDS_MAX) {
            return Err(format!("it tells of a second beyond {SECONDS_MAX}"));
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
                .ok_or_else(|| format!("it ended as '{}', which is unknown", self.ending))?,
            slo: None,
            server: None,
            server_looks: self.server_seconds.into_iter().map(LookFacts::look).collect::<Result<_, _>>()?,
            resident_begin_bytes: self.resident_begin_bytes,
            parts,
            closing_time: span(self.closing_s)?,
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
            return Err(format!("it has {} connections, which no machine holds", self.connections));
        }
        if let Some(shard) = self.shard.filter(|shard| shard.index >= shard.count) {
            return Err(format!("there is no shard {shard}: they are counted from 0"));
        }
        let protocol = self.protocol()?;
        let targets: Vec<_> = self.addresses.iter().map(|address| Address::named(address)).collect::<Result<_, _>>()?;
        if targets.is_empty() {
            return Err("it has no target".to_owned());
        }
        Ok(Plan {
            name: self.target,
            targets,
            connections: self.connections,
            shard: Shard::WHOLE,
            connections_whole: self.connections,
            protocol,
            pipeline: self.pipeline,
            duration,
            timeout: span(self.timeout_s)?,
            drain: span(self.timeout_s)?,
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
            ("script", Some(send), Some(expect)) => Ok(Protocol::Script(Arc::new(Script::new(send, expect)?))),
            ("http", ..) => {
                let targets: Vec<Target> = self.target.split(", ").map(str::parse).collect::<Result<_, _>>()?;
                let paths = targets.iter().map(|target| target.path.as_deref().unwrap_or("/"));
                Ok(Protocol::Http(Arc::new(Http::new(targets.iter().map(Target::authority).zip(paths), false))))
            }
            _ => Err(format!("its protocol '{}' is unknown", self.protocol)),
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
        let window_begin_at = moment(self.window_begin_unix_s)?;
        let used = self.server_processes.as_ref().map(UseFacts::used).transpose()?;
        Ok(StageResult {
            stage: self.stage(if self.is_warmup { span(self.window_s)? } else { duration })?,
            is_warmup: self.is_warmup,
            begun_after: window_begin_at.duration_since(begun_at).unwrap_or_default(),
            window_begin_at,
            elapsed: span(self.elapsed_s)?,
            server_cpu_time: None,
            server_use: used,
            resident_bytes: self.resident_bytes,
            netstat: Netstat {
                listen_overflows: self.kernel.listen_overflows,
                listen_drops: self.kernel.listen_drops,
                syn_retransmits: self.kernel.syn_retransmits,
                timeouts: self.kernel.timeouts,
            },
            recorder: self.recorder()?,
        })
    }

    fn stage(&self, duration: Duration) -> Result<Stage, String> {
        let unknown = || format!("its stage '{}' is unknown", self.stage);
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
            "hold" => Stage::Hold { duration, heartbeat: self.heartbeat_s.map(span).transpose()? },
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

    /// Whether its counts are what they have to be: all that was due became something.
    fn check(&self) -> Result<(), String> {
        let failed: u128 = self.request_failures.iter().map(|failure| u128::from(failure.count)).sum();
        let became = u128::from(self.requests_answered) + failed + u128::from(self.requests_unfinished);
        if u128::from(self.requests_due) != became {
            return Err(format!(
                "its stage '{}' had {} requests due, and {became} of them became something",
                self.stage, self.requests_due
            ));
        }
        Ok(())
    }

    fn recorder(self) -> Result<Recorder, String> {
        self.check()?;
        let times = |facts: Option<TimesFacts>| facts.map_or_else(|| Ok(Times::new(u64::MAX >> 1)), TimesFacts::times);
        let losses = failures(self.losses)?;
        Ok(Recorder {
            attempted: self.connections_attempted,
            established: self.connections_established,
            connect_failures: failures(self.connect_failures)?,
            losses,
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
            latency: self.latency.times()?,
            connect: times(self.connect_time)?,
            exchange: times(self.exchange)?,
            reconnect: times(self.reconnect)?,
            service: times(self.service)?,
            lag: times(self.send_lag)?,
            window_ns: span(self.window_s)?.as_nanos() as u64,
            standstill_ns: span(self.standstill_s)?.as_nanos() as u64,
            strange: self.first_bytes.map(Strange::of_results),
            cpu_time: span(self.generator_cpu_s)?,
            busy_part: self.generator_busy_part,
            waited_part: self.generator_waited_part,
            skipped: self.heartbeats_skipped,
            // Connections lost, the course of a stage: what no results need, or have, is left as it is.
            ..Recorder::new(u64::MAX >> 1)
        })
    }
}

impl TimesFacts {
    fn times(self) -> Result<Times, String> {
        let times = self.histogram.as_deref().map(Times::decoded).transpose()?.unwrap_or(Times::new(u64::MAX >> 1));
        if times.len() == self.samples {
            return Ok(times);
        }
        Err(format!("a histogram has {} samples, and should have {}", times.len(), self.samples))
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
        let moments: Vec<Duration> = self.gone_at_s.iter().map(|at| span(*at)).collect::<Result<_, _>>()?;
        let gone = self.gone_pids.iter().copied().zip(moments).collect();
        Ok(ServerUse { cpu_time: span(self.cpu_s)?, most, gone })
    }
}

impl LookFacts {
    fn look(self) -> Result<Look, String> {
        let LookFacts { at_s, cpu_total_s, resident_bytes, descriptors, threads, generator_cpu_total_s } = self;
        // Each stage says that for itself.
        let has_own_tables = false;
        let server = Sample { cpu_time: span(cpu_total_s)?, resident_bytes, descriptors, threads, has_own_tables };
        Ok(Look { at: span(at_s)?, server, generator_cpu_time: span(generator_cpu_total_s)? })
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
        let (act, kind) = known.ok_or_else(|| format!("its failure '{}: {}' is unknown", facts.act, facts.kind))?;
        Ok((Failure { act, kind, errno: facts.errno }, facts.count))
    };
    list.into_iter().map(failure).collect()
}

/// As it was before there were pipelines.
pub(crate) fn one_at_a_time() -> u32 {
    1
}

/// A span of time, to the nanosecond.
fn span(seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("{seconds} s is no span of time"))
}

fn moment(unix_s: f64) -> Result<SystemTime, String> {
    let since = span(unix_s)?;
    // Twice as far from 1970 as we are: a clock may be wrong, but not so wrong.
    if since > Duration::from_secs(4_000_000_000) {
        return Err(format!("{unix_s} s since 1970 is no moment at which anything was measured"));
    }
    Ok(UNIX_EPOCH + since)
}

/// A hundred days and more.
pub(crate) const SECONDS_MAX: u64 = 10_000_000;
const CONNECTIONS_MAX: u64 = 1 << 40;
const CORES_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::note;
    use crate::report::json;
    use crate::report::tests::report as run;
    use std::io;

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
        (recorder.thirds, recorder.busy_part, recorder.waited_part) = ([1, 2, 3], 0.25, 0.125);
        recorder.body_lens.insert(0, 612);
        (1..=900).for_each(|us| recorder.service.record(us * 900));
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
        let mut again = report("a.json", written.clone()).unwrap();
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
        let read = report("a.json", older).unwrap();
        assert_eq!((read.plan.pipeline, read.parts[0].pipeline), (1, 1));
    }

    #[test]
    fn objects_stand_behind_each_other_and_other_lines_between_them() {
        let found = objects("{\"a\": 1}\n{\n\"b\": {}\n}{\"c\": 3}\nloadgen: a line\n{\"d\": 4}\nthe end\n").unwrap();
        assert_eq!(found.len(), 4);
        assert_eq!(found[3]["d"], 4);
        assert!(objects("loadgen: none").unwrap_err().contains("no JSON object"));
        assert!(objects("{\"a\": 1}\n{\"b\": ").unwrap_err().contains("no JSON"));
        assert!(objects("").is_err());
    }

    #[test]
    fn what_is_no_result_is_refused_with_the_reason() {
        let why = |change: fn(&mut Value)| {
            let mut value: Value = serde_json::from_str(&json::render(&run())).unwrap();
            change(&mut value);
            read("a.json", &value.to_string()).expect_err("it was changed")
        };
        assert!(why(|it| it["format"] = 2.into()).contains("a.json: it has no results"));
        assert!(why(|it| it["problem"] = "no route".into()).contains("nothing was run: no route"));
        assert!(why(|it| it["plan"]["server_inside"] = true.into()).contains("its server was a part of it"));
        assert!(why(|it| it["answer_per_s"] = Value::Null).contains("searches cannot be added up"));
        assert!(why(|it| drop(it.as_object_mut().unwrap().remove("begun_at_unix_s"))).contains("another version"));
        assert!(why(|it| it["stages"][1]["stage"] = "dance".into()).contains("stage 'dance' is unknown"));
        assert!(why(|it| it["stages"][1]["requests_due"] = (-1).into()).contains("a field is not as it should be"));
        assert!(why(|it| it["stages"][1]["latency"]["samples"] = 9.into()).contains("1000 samples, and should have 9"));
        assert!(why(|it| it["plan"]["timeout_s"] = (-1).into()).contains("-1 s is no span"));
    }
}
