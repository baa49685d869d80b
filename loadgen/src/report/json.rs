//! Results for programs: one JSON object, whose fields are documented here and whose names end in their units.

pub(crate) mod facts;
pub(crate) mod search;

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use serde::Serialize;

use crate::errno;
use crate::machine::Machine;
use crate::moment::{rfc3339, unix_s};
use crate::parts::Part;
use crate::plan::Plan;
use crate::recorder::{Failures, Recorder};
use crate::report::json::facts::{
    CourseFacts, FailureFacts, KernelFacts, LengthFacts, LookFacts, SecondFacts, SourceFacts, TargetFacts, UseFacts,
    VerdictFacts,
};
use crate::report::percentiles::Percentiles;
use crate::report::runs::Runs;
use crate::report::{Report, StageResult};
use crate::routes::Used;
use crate::schedule::{Arrival, Rate};
use crate::series;
use crate::server_process::{Look, ServerUse};
use crate::shard::Shard;
use crate::slo::Outcome;
use crate::stage::Stage;
use crate::timeline::Timeline;
use crate::times::Times;
use crate::verdict::Verdict;

/// All results of a run. Fields are only ever added; a change of meaning changes `format`.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    /// The version of this layout: 1.
    format: u32,
    /// The version of loadgen.
    version: &'static str,
    /// The command line.
    command: &'a [String],
    /// When it began, as RFC 3339 has it, and in seconds since 1970.
    begun_at: String,
    begun_at_unix_s: f64,
    /// The machine that generated the load.
    machine: MachineFacts<'a>,
    /// What was to be run.
    plan: PlanFacts<'a>,
    /// `complete`, `interrupted`, `no connection` or `all connections lost`.
    ending: &'static str,
    /// Whether all of it was done, nothing failed and nothing was lost; the exit code says the same.
    is_ok: bool,
    /// What became of each stage, in order.
    stages: Vec<StageFacts>,
    /// What became of connections, second by second; seconds in which nothing did are left out.
    connections: Vec<SecondFacts>,
    /// The server's processes second by second and at the end of each stage, where `--server-pid` named them.
    server_seconds: Vec<LookFacts>,
    /// How long it took to close all connections, by reset.
    closing_s: f64,
    /// Resident memory of loadgen's process before the first connection.
    resident_begin_bytes: u64,
    /// What the server counted, where it was a part of loadgen's own process.
    server: Option<ServerFacts<'a>>,
    /// Whether the figures are what they seem.
    verdict: VerdictFacts,
    /// The runs together; null with one.
    runs: Option<RunsFacts>,
    /// What was to be kept to, by `--slo`.
    slo: Vec<SloFacts>,
    /// What a reader should know although nothing speaks against the figures.
    warnings: Vec<String>,
    /// What a person should know about it.
    advice: Vec<String>,
    /// The parts that `merge` added up; empty of a run.
    parts: &'a [Part],
}

/// The machine, and the limits that it set.
#[derive(Debug, Serialize)]
struct MachineFacts<'a> {
    /// A random number of the kernel's that is the same as long as the machine runs, and no other machine's.
    boot_id: &'a str,
    kernel: &'a str,
    processor: &'a str,
    architecture: &'static str,
    /// Cores on which loadgen may run.
    cores: usize,
    memory_bytes: u64,
    memory_available_bytes: u64,
    /// RLIMIT_NOFILE, as raised.
    descriptors_max: u64,
    /// The first and last port of `net.ipv4.ip_local_port_range`.
    ports_kernel: [u16; 2],
    /// `net.core.somaxconn`.
    somaxconn: u64,
}

/// The plan, as it was carried out.
#[derive(Debug, Serialize)]
struct PlanFacts<'a> {
    /// The targets as they were written.
    target: &'a str,
    /// Their addresses.
    addresses: Vec<String>,
    /// The first of them.
    address: String,
    /// Where connections came from.
    sources: SourceFacts,
    /// Whether the server was a part of loadgen's own process.
    server_inside: bool,
    /// Connections of this process; and of all shards, where it is one of several.
    connections: u64,
    connections_whole: u64,
    /// Which shard this process was, from 0, and of how many (`--shard`); null where the load was its own.
    shard: Option<Shard>,
    /// `echo`, `script` (`--send`, `--expect`) or `http`.
    protocol: &'static str,
    /// What `--send` and `--expect` said; null without.
    send: Option<&'a str>,
    expect: Option<&'a str>,
    /// How many requests of a connection could be under way at once (`--pipeline`).
    pipeline: u32,
    /// Bytes of a request; of an echo, the reply has as many.
    message_bytes: u32,
    threads: usize,
    /// Shards of the server inside.
    shards: Option<usize>,
    /// Whether every thread has a descriptor table of its own.
    own_descriptor_tables: bool,
    /// Connections that the descriptors are enough for.
    connections_max: u64,
    /// Cores that threads were pinned to; empty if they were not.
    cores: &'a [usize],
    duration_s: f64,
    timeout_s: f64,
    connect_rate_per_s: Option<f64>,
    /// Sets this run's bytes apart.
    seed: u64,
}

/// What several runs say together.
#[derive(Debug, Serialize)]
struct RunsFacts {
    runs: usize,
    figures: Vec<RunsFigure>,
}

/// One figure over the runs.
#[derive(Debug, Serialize)]
struct RunsFigure {
    /// `answered_per_s`, `p50_ns` and so on.
    name: &'static str,
    /// Null where not every run has the figure.
    median: Option<f64>,
    /// The 95 % confidence interval of the geometric mean: by Student's t, of the mean of the logarithms.
    mean_range: Option<[f64; 2]>,
}

/// One condition.
#[derive(Debug, Serialize)]
struct SloFacts {
    condition: String,
    /// Of several runs in the worst. Null where there were too few samples to tell.
    measured: Option<String>,
    is_met: bool,
}

/// The other end's account.
#[derive(Debug, Serialize)]
struct ServerFacts<'a> {
    /// Connections that each shard accepted.
    accepted: &'a [u64],
    bytes_in: u64,
    bytes_out: u64,
    /// Whether it is the generator's account too; always true of a run that is not complete.
    agrees: bool,
}

/// One stage.
#[derive(Debug, Serialize)]
struct StageFacts {
    /// `connect`, `verify`, `closed`, `open`, `churn` or `hold`.
    stage: &'static str,
    /// Whether it is left out of the figures.
    is_warmup: bool,
    /// The number of the run, from 1; null of a stage that is none, and of a warm-up.
    run: Option<usize>,
    /// The rate of an open loop, over the whole stage; and that at its beginning and at its end.
    rate_target_per_s: Option<f64>,
    rate_target_range_per_s: Option<[f64; 2]>,
    /// `poisson` or `constant`, of an open loop.
    arrival: Option<&'static str>,
    /// How connections end that come and go: `reset`, `fin` or `server`.
    close: Option<&'static str>,
    /// How often each connection that is held was to echo.
    heartbeat_s: Option<f64>,
    /// When requests began to be due, in seconds since 1970 by this machine's clock.
    window_begin_unix_s: f64,
    /// From its order to its last record.
    elapsed_s: f64,
    /// How long requests were begun (or due, or the connections held).
    window_s: f64,
    connections_attempted: u64,
    connections_established: u64,
    connect_failures: Vec<FailureFacts>,
    /// Connections that ended although no request was on its way.
    losses: Vec<FailureFacts>,
    /// Connections that were open and are not any more, and not by the server's leave: these losses, and those that failed
    /// with a request on its way.
    connections_lost: u64,
    /// Connections that were opened again, because the server had closed them in the way that HTTP has for it.
    connections_reopened: u64,
    /// How long that took each time. In a closed loop it is a part of the latency of the request behind it.
    reconnect: Option<PercentileFacts>,
    /// The most that were under way at one moment, of the stage `churn`: fewer than there are places where loadgen opens
    /// them more slowly than the server lets them go.
    connections_at_once_max: Option<u64>,
    /// due = answered + the sum of `request_failures` + unfinished. Of the stage `churn` these are connections, each from
    /// its connect to its end; a connect that failed is a `request_failures` of act `connect`.
    requests_due: u64,
    requests_answered: u64,
    /// Those answered before the window closed, which `answered_per_s` counts.
    requests_answered_in_window: u64,
    requests_unfinished: u64,
    /// Each of these took its connection with it, but for an HTTP response that was whole and not the right one.
    request_failures: Vec<FailureFacts>,
    /// The same by target, of the stage `churn`: those without failures are left out.
    request_failures_by_target: Vec<TargetFacts>,
    /// How many bytes the bodies of HTTP responses have to have, by target: as many as most of the first ones had.
    body_bytes_by_target: Vec<LengthFacts>,
    /// What the server began with, escaped, where it is no echo server.
    first_bytes: Option<String>,
    /// How long the generator stood still: stopped, or without a processor.
    standstill_s: f64,
    answered_per_s: f64,
    bytes_sent: u64,
    bytes_received: u64,
    /// From due to answered, of requests that were answered: those that were not would be above. Of the stage `connect`,
    /// how long connects took.
    latency: PercentileFacts,
    /// The latencies over time, of stages that have a duration; null where nothing was answered, and of a sum whose parts
    /// were not measured at the same time.
    latency_over_time: Option<CourseFacts>,
    /// How long connects took, and from sending the request to the end of its reply; of the stage `churn`.
    connect_time: Option<PercentileFacts>,
    exchange: Option<PercentileFacts>,
    /// From sent (or, of the stage `churn`, from the connect's beginning) to answered; of an open loop, and of heartbeats.
    service: Option<PercentileFacts>,
    /// From due to sent; of an open loop, and of heartbeats.
    send_lag: Option<PercentileFacts>,
    /// Processor time of the generating threads, user and system.
    generator_cpu_s: f64,
    /// The part of the time, from 0 to 1, for which the busiest of them was busy; waiting for a request to fall due is not.
    generator_busy_part: f64,
    /// The part of the time for which one of them was ready to run and had no processor.
    generator_waited_part: f64,
    /// How long all of them together were.
    generator_waited_s: f64,
    /// Heartbeats left out because their connection was just being opened again.
    heartbeats_skipped: u64,
    /// Answers in each third of the window.
    answered_in_thirds: [u64; 3],
    /// Processor time of the server's threads, where they are in this process.
    server_cpu_s: Option<f64>,
    /// What the server's processes used, where `--server-pid` named them.
    server_processes: Option<UseFacts>,
    /// Resident memory of loadgen's process at the stage's end.
    resident_bytes: u64,
    /// /proc/net/netstat, what was added during the stage.
    kernel: KernelFacts,
}

/// Percentiles; null where fewer than ten samples lie beyond.
#[derive(Debug, Serialize)]
struct PercentileFacts {
    samples: u64,
    p50_ns: Option<u64>,
    p90_ns: Option<u64>,
    p99_ns: Option<u64>,
    p99_9_ns: Option<u64>,
    p99_99_ns: Option<u64>,
    max_ns: Option<u64>,
    /// All samples, in nanoseconds: HdrHistogram's compressed V2 format, as base64; null without samples. Such histograms
    /// can be added; percentiles cannot.
    histogram: Option<String>,
}

/// `report` as JSON text with a newline at its end.
pub(crate) fn render(report: &Report) -> String {
    let document = Document::of(report);
    let text = serde_json::to_string_pretty(&document).expect("numbers and strings can always be written as JSON");
    text + "\n"
}

/// What stands in place of a [`Document`] when nothing could be run.
#[derive(Debug, Serialize)]
struct Refusal<'a> {
    format: u32,
    version: &'static str,
    command: &'a [String],
    /// `not begun`.
    ending: &'static str,
    /// False.
    is_ok: bool,
    /// What stood in the way, as it was said on standard error.
    problem: &'a str,
}

/// `problem` as JSON text with a newline at its end.
pub(crate) fn render_problem(command: &[String], problem: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let refusal = Refusal { format: 1, version, command, ending: "not begun", is_ok: false, problem };
    serde_json::to_string_pretty(&refusal).expect("strings can always be written as JSON") + "\n"
}

impl Document<'_> {
    fn of(report: &Report) -> Document<'_> {
        let stages = report.stages.iter().filter(|result| result.stage.duration().is_some()).count();
        let intervals_max = (INTERVALS_MAX / stages.max(1)).clamp(INTERVALS_OF_STAGE.0, INTERVALS_OF_STAGE.1);
        Document {
            format: 1,
            version: env!("CARGO_PKG_VERSION"),
            command: &report.command,
            begun_at: rfc3339(report.begun_at),
            begun_at_unix_s: unix_s(report.begun_at),
            machine: machine_facts(&report.machine),
            plan: plan_facts(report),
            ending: report.ending.name(),
            is_ok: report.is_ok(),
            stages: report
                .numbered()
                .map(|(result, number)| stage(&report.plan, result, number.map(|(run, _)| run), intervals_max))
                .collect(),
            connections: report.series().seconds().into_iter().map(second).collect(),
            server_seconds: report.server_looks.iter().map(look).collect(),
            closing_s: report.closing_time.as_secs_f64(),
            resident_begin_bytes: report.resident_begin_bytes,
            server: report.server.as_ref().map(|server| ServerFacts {
                accepted: &server.accepted,
                bytes_in: server.bytes_in,
                bytes_out: server.bytes_out,
                agrees: report.both_sides_agree(),
            }),
            verdict: verdict(report),
            runs: Runs::of(report).map(|runs| RunsFacts {
                runs: runs.count,
                figures: runs
                    .rows()
                    .map(|row| RunsFigure { name: row.name, median: row.median, mean_range: row.range })
                    .collect(),
            }),
            slo: report.slo_outcomes().into_iter().map(slo).collect(),
            warnings: super::warnings::sentences(report),
            advice: super::advice::sentences(report),
            parts: &report.parts,
        }
    }
}

fn plan_facts(report: &Report) -> PlanFacts<'_> {
    let plan = &report.plan;
    let [send, expect] = plan.protocol.texts();
    PlanFacts {
        target: &plan.name,
        addresses: plan.targets.iter().map(ToString::to_string).collect(),
        address: plan.targets[0].to_string(),
        sources: sources(&report.sources_used),
        server_inside: plan.is_server_inside(),
        connections: plan.connections,
        connections_whole: plan.connections_whole,
        shard: (!plan.shard.is_whole()).then_some(plan.shard),
        protocol: plan.protocol.name(),
        send,
        expect,
        pipeline: plan.pipeline,
        message_bytes: plan.size(),
        threads: plan.threads(),
        shards: plan.layout.shards,
        own_descriptor_tables: plan.layout.own_tables,
        connections_max: plan.layout.fits(report.machine.descriptors_max),
        cores: &plan.cores,
        duration_s: plan.duration.as_secs_f64(),
        timeout_s: plan.timeout.as_secs_f64(),
        connect_rate_per_s: plan.connect_rate.map(|rate| plan.shard.rate(rate)),
        seed: plan.seed,
    }
}

fn machine_facts(machine: &Machine) -> MachineFacts<'_> {
    MachineFacts {
        boot_id: &machine.boot_id,
        kernel: &machine.kernel,
        processor: &machine.processor,
        architecture: ARCH,
        cores: machine.cores.len(),
        memory_bytes: machine.memory_bytes,
        memory_available_bytes: machine.memory_available_bytes,
        descriptors_max: machine.descriptors_max,
        ports_kernel: [machine.ports.first, machine.ports.last],
        somaxconn: machine.somaxconn,
    }
}

fn sources(used: &Used) -> SourceFacts {
    let Used { chosen_by, addresses, first, last, ports } = *used;
    SourceFacts { chosen_by: chosen_by.into(), addresses, address_first: first, address_last: last, ports }
}

fn verdict(report: &Report) -> VerdictFacts {
    let verdict = Verdict::of(report);
    VerdictFacts { verdict: verdict.name().into(), reasons: verdict.reasons().to_vec() }
}

fn slo(Outcome { condition, measured, is_met, .. }: Outcome) -> SloFacts {
    SloFacts { condition, measured, is_met }
}

fn stage(plan: &Plan, result: &StageResult, run: Option<usize>, intervals_max: usize) -> StageFacts {
    let recorder: &Recorder = &result.recorder;
    let (rate, arrival) = result.stage.arrivals().unzip();
    let churn = result.stage.churn();
    let heartbeat_s = match result.stage {
        Stage::Hold { heartbeat, .. } => heartbeat.map(|interval| interval.as_secs_f64()),
        _ => None,
    };
    let has_due_moments = rate.is_some() || heartbeat_s.is_some();
    StageFacts {
        stage: result.stage.name(),
        is_warmup: result.is_warmup,
        run,
        rate_target_per_s: rate.map(Rate::mean_per_s),
        rate_target_range_per_s: rate.map(|rate| [rate.from_per_s, rate.to_per_s]),
        arrival: arrival.map(Arrival::name),
        close: churn.map(|churn| churn.close.name()),
        heartbeat_s,
        window_begin_unix_s: unix_s(result.window_begin_at),
        elapsed_s: result.elapsed.as_secs_f64(),
        window_s: recorder.window_ns as f64 / 1e9,
        connections_attempted: recorder.attempted,
        connections_established: recorder.established,
        connect_failures: failures(&recorder.connect_failures),
        losses: failures(&recorder.losses),
        connections_lost: recorder.lost,
        connections_reopened: recorder.reopened,
        reconnect: (recorder.reopened > 0).then(|| percentiles(&recorder.reconnect)),
        connections_at_once_max: churn.map(|_| recorder.at_once_max),
        requests_due: recorder.due,
        requests_answered: recorder.answered,
        requests_answered_in_window: recorder.answered_in_window,
        requests_unfinished: recorder.unfinished,
        request_failures: failures(&recorder.request_failures),
        request_failures_by_target: by_target(plan, &recorder.failed_at),
        body_bytes_by_target: lengths(plan, &recorder.body_lens),
        first_bytes: recorder.strange.as_ref().map(ToString::to_string),
        standstill_s: recorder.standstill_ns as f64 / 1e9,
        answered_per_s: recorder.answered_per_s(),
        bytes_sent: recorder.bytes_sent,
        bytes_received: recorder.bytes_received,
        latency: percentiles(&recorder.latency),
        latency_over_time: course(&recorder.timeline, intervals_max),
        connect_time: churn.map(|_| percentiles(&recorder.connect)),
        exchange: churn.map(|_| percentiles(&recorder.exchange)),
        service: has_due_moments.then(|| percentiles(&recorder.service)),
        send_lag: has_due_moments.then(|| percentiles(&recorder.lag)),
        generator_cpu_s: recorder.cpu_time.as_secs_f64(),
        generator_busy_part: recorder.busy_part,
        generator_waited_part: recorder.waited_part,
        generator_waited_s: recorder.waited_time.as_secs_f64(),
        heartbeats_skipped: recorder.skipped,
        answered_in_thirds: recorder.thirds,
        server_cpu_s: result.server_cpu_time.map(|time| time.as_secs_f64()),
        server_processes: result.server_use.as_ref().map(server_use),
        resident_bytes: result.resident_bytes,
        kernel: KernelFacts {
            syn_retransmits: result.netstat.syn_retransmits,
            timeouts: result.netstat.timeouts,
            listen_overflows: result.netstat.listen_overflows,
            listen_drops: result.netstat.listen_drops,
            given_up: result.netstat.given_up,
        },
    }
}

/// `timeline` in no more than so many intervals; `None` where nothing is in it.
fn course(timeline: &Timeline, intervals_max: usize) -> Option<CourseFacts> {
    let timeline = timeline.clone().within(intervals_max);
    let histograms: Vec<_> = timeline.intervals().map(|times| times.encoded_coarsely()).collect();
    let interval_s = timeline.interval_ns() as f64 / 1e9;
    (!histograms.is_empty()).then_some(CourseFacts { interval_s, histograms })
}

fn server_use(used: &ServerUse) -> UseFacts {
    UseFacts {
        cpu_s: used.cpu_time.as_secs_f64(),
        resident_bytes_max: used.most.resident_bytes,
        descriptors_max: used.most.descriptors,
        threads_max: used.most.threads,
        has_own_descriptor_tables: used.most.has_own_tables,
        gone_pids: used.gone.iter().map(|(pid, _)| *pid).collect(),
        gone_at_s: used.gone.iter().map(|(_, at)| at.as_secs_f64()).collect(),
    }
}

fn look(look: &Look) -> LookFacts {
    LookFacts {
        at_s: look.at.as_secs_f64(),
        cpu_total_s: look.server.cpu_time.as_secs_f64(),
        resident_bytes: look.server.resident_bytes,
        descriptors: look.server.descriptors,
        threads: look.server.threads,
        generator_cpu_total_s: look.generator_cpu_time.as_secs_f64(),
    }
}

fn second((second, what, open): (u64, series::Part, u64)) -> SecondFacts {
    SecondFacts {
        second,
        attempted: what.attempted,
        established: what.established,
        failed: failures(&what.failed),
        lost: failures(&what.lost),
        ended: what.ended,
        open,
    }
}

fn by_target(plan: &Plan, failed_at: &BTreeMap<usize, u64>) -> Vec<TargetFacts> {
    let fact = |(destination, count): (&usize, &u64)| {
        Some(TargetFacts { address: plan.targets.get(*destination)?.to_string(), count: *count })
    };
    failed_at.iter().filter_map(fact).collect()
}

fn lengths(plan: &Plan, body_lens: &BTreeMap<usize, u64>) -> Vec<LengthFacts> {
    let fact = |(destination, bytes): (&usize, &u64)| {
        Some(LengthFacts { address: plan.targets.get(*destination)?.to_string(), bytes: *bytes })
    };
    body_lens.iter().filter_map(fact).collect()
}

fn failures(failures: &Failures) -> Vec<FailureFacts> {
    let facts = |(failure, count): (&crate::failure::Failure, &u64)| FailureFacts {
        act: failure.act.name().into(),
        kind: failure.kind.name(),
        errno: failure.errno,
        errno_name: failure.errno.and_then(errno::name).map(Into::into),
        count: *count,
    };
    failures.iter().map(facts).collect()
}

fn percentiles(times: &Times) -> PercentileFacts {
    let Percentiles { samples, p50_ns, p90_ns, p99_ns, p999_ns, p9999_ns, max_ns } = Percentiles::of(times);
    let histogram = times.encoded();
    PercentileFacts { samples, p50_ns, p90_ns, p99_ns, p99_9_ns: p999_ns, p99_99_ns: p9999_ns, max_ns, histogram }
}

/// Intervals in all stages together, and in one at the least and at the most: each takes half a KiB or so.
const INTERVALS_MAX: usize = 1200;
const INTERVALS_OF_STAGE: (usize, usize) = (15, 240);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn a_program_finds_the_numbers_under_their_names() {
        let value: serde_json::Value = serde_json::from_str(&render(&report())).unwrap();
        assert_eq!(value["format"], 1);
        assert_eq!(value["is_ok"], true);
        assert_eq!(value["ending"], "complete");
        let closed = &value["stages"][1];
        assert_eq!((closed["stage"].as_str(), closed["requests_answered"].as_u64()), (Some("closed"), Some(1000)));
        assert_eq!(closed["answered_per_s"], 990.0);
        assert_eq!(closed["latency"]["samples"], 1000);
        assert_eq!(closed["latency"]["p99_9_ns"], serde_json::Value::Null, "one sample beyond is not enough");
        assert!(closed["latency"]["histogram"].as_str().unwrap().starts_with("HISTF"), "{}", closed["latency"]);
        assert_eq!(closed["send_lag"], serde_json::Value::Null);
    }
}
