//! Results for people: a page of text that is understood at a glance.

pub(crate) mod outcome;
pub(crate) mod search;
mod table;

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::churn::{Churn, Close};
use crate::failure::Act;
use crate::moment::rfc3339_seconds;
use crate::netstat::Netstat;
use crate::parts::together;
use crate::plan::Plan;
use crate::protocol::Protocol;
use crate::quantity::{bytes, count, counted, rate_text, span};
use crate::recorder::{Failures, Recorder, merge_failures};
use crate::report::paragraph::paragraph;
use crate::report::percentiles::Percentiles;
use crate::report::runs::{Runs, Timed};
use crate::report::{Ending, Report, StageResult, advice, warnings};
use crate::schedule::Arrival;
use crate::series::Series;
use crate::server_process::ServerUse;
use crate::stage::Stage;
use crate::times::Times;

/// `report` as text in lines of at most `columns`.
pub(crate) fn render(report: &Report, columns: usize) -> String {
    fitted(&Page(report, columns).to_string(), columns) + &advised(&advice::sentences(report), columns)
}

/// `page` in lines of at most `columns`.
fn fitted(page: &str, columns: usize) -> String {
    // A line that is too long is a row, or the head: what continues a row stands below its text.
    page.lines()
        .map(|line| {
            let is_row =
                line.chars().count() > columns && line.chars().skip(LABEL_COLUMNS - 2).take(2).all(|c| c == ' ');
            match line.char_indices().nth(LABEL_COLUMNS - 1) {
                Some((at, _)) if is_row => paragraph(&line[..at], &line[at..], columns),
                _ if line.chars().count() > columns => head_lines(line, columns),
                _ => format!("{line}\n"),
            }
        })
        .collect()
}

fn advised(sentences: &[String], columns: usize) -> String {
    sentences.iter().map(|sentence| paragraph("!", sentence, columns)).collect()
}

/// A head that is too long for one line: broken between the facts that it strings together.
fn head_lines(line: &str, columns: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for fact in line.split(" · ") {
        match lines.last_mut() {
            Some(last) if last.chars().count() + 5 + fact.chars().count() <= columns => *last += &format!(" · {fact}"),
            Some(last) => {
                last.push_str(" ·");
                lines.push(fact.to_owned());
            }
            None => lines.push(fact.to_owned()),
        }
    }
    lines.iter().map(|line| paragraph("", line, columns).trim_start().to_owned()).collect()
}

/// The page without its advice, its tables and pictures for a terminal of so many columns, its other lines as long as they
/// are.
struct Page<'a>(&'a Report, usize);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Page(report, columns) = *self;
        head(f, report)?;
        let runs = Runs::of(report);
        for result in &report.stages {
            match result.stage {
                _ if result.is_warmup => warmup(f, result)?,
                _ if runs.is_some() && result.is_measured() => {}
                Stage::Connect => connections(f, report, result, columns)?,
                Stage::Verify => verified(f, report, &result.recorder)?,
                Stage::Closed { .. } | Stage::Open { .. } | Stage::Churn(_) => exchanges(f, report, result, columns)?,
                Stage::Hold { .. } => held(f, report, result)?,
            }
        }
        if let Some(runs) = runs {
            several(f, report, &runs, columns)?;
        }
        writeln!(f)?;
        errors(f, report)?;
        processor(f, report)?;
        memory(f, report)?;
        server_processes(f, report)?;
        server(f, report)?;
        for warning in warnings::sentences(report) {
            row(f, "Note", &warning)?;
        }
        for outcome in report.slo_outcomes() {
            let name = match outcome.is_met {
                true => "SLO met",
                false if outcome.is_missed() => "SLO MISSED",
                false => "SLO UNKNOWN",
            };
            row(f, name, &format!("{}: {}", outcome.condition, outcome.words()))?;
        }
        outcome::verdict(f, report)?;
        row(f, "Result", &outcome::result(report))
    }
}

/// The first line: open or closed loop, on what, how many, how large.
fn head(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let has = |wanted: fn(&Stage) -> bool| report.stages.iter().any(|result| wanted(&result.stage));
    let has_open = has(|stage| matches!(stage, Stage::Open { .. }));
    let kind = match (has(|stage| matches!(stage, Stage::Closed { .. })), has_open) {
        _ if report.plan.churn.is_some() => "Churn",
        (true, true) => "Closed loop, then open loop",
        (true, false) => "Closed loop",
        (false, true) => "Open loop",
        (false, false) if has(|stage| matches!(stage, Stage::Hold { .. })) => "Held connections",
        (false, false) => "Connections",
    };
    let plan = &report.plan;
    let thing = if plan.churn.is_some() { "place" } else { "connection" };
    let connections = counted(plan.connections, thing);
    writeln!(f, "{kind} · {} · {connections} · {}{}", plan.name, message(plan), plan.at_once())?;
    writeln!(f, "{}", machine_line(report))?;
    parts(f, report)?;
    if !plan.shard.is_whole() {
        let (numbers, whole) = (plan.shard.part(plan.connections_whole), count(plan.connections_whole));
        let numbers = format!("connections {} to {} of {whole}", count(numbers.start), count(numbers.end - 1));
        row(f, "Shard", &format!("{}, counted from 0: {numbers}", plan.shard))?;
    }
    if plan.layout.own_tables {
        let sums = plan.layout.sums(plan.connections, report.machine.descriptors_max);
        for (index, sum) in sums.iter().enumerate() {
            row(f, if index == 0 { "Descriptors" } else { "" }, sum)?;
        }
    }
    Ok(())
}

/// What it is the sum of, if it is one.
fn parts(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    if report.parts.is_empty() {
        return Ok(());
    }
    let machines: BTreeSet<&str> = report.parts.iter().map(|part| part.boot_id.as_str()).collect();
    let number = counted(report.parts.len() as u64, "result");
    let mut sum = format!("{number} added up, of {}", counted(machines.len() as u64, "machine"));
    if let Some(part) = together(&report.parts) {
        sum += &format!(", measured at the same time for {:.1} %", (part * 1000.0).floor() / 10.0);
    }
    row(f, "Parts", &sum)?;
    for part in report.parts.iter().take(PARTS_SHOWN) {
        let connections = counted(part.connections, "connection");
        let verdict = match part.verdict.as_str() {
            "none" => String::new(),
            verdict => format!(", {}", verdict.to_uppercase()),
        };
        row(f, "", &format!("{}: {connections}{verdict}", part.name))?;
    }
    match report.parts.len().saturating_sub(PARTS_SHOWN) {
        0 => Ok(()),
        more => row(f, "", &format!("and {} more", count(more as u64))),
    }
}

/// What is sent each time.
fn message(plan: &Plan) -> String {
    match plan.protocol {
        Protocol::Echo { size } => format!("{} a message", bytes(size.into())),
        Protocol::Script(_) => format!("{} a request", bytes(plan.size().into())),
        Protocol::Http(_) => "GET".to_owned(),
    }
}

fn machine_line(report: &Report) -> String {
    let (machine, threads) = (&report.machine, counted(report.plan.threads() as u64, "generating thread"));
    let cores = counted(machine.cores.len() as u64, "core");
    let (processor, kernel, begun) = (&machine.processor, &machine.kernel, rfc3339_seconds(report.begun_at));
    format!("{threads} · {cores} of {processor} · Linux {kernel} · loadgen {VERSION} · begun {begun}")
}

fn connections(f: &mut Formatter<'_>, report: &Report, result: &StageResult, columns: usize) -> fmt::Result {
    let (plan, recorder) = (&report.plan, &result.recorder);
    let wanted = plan.connections;
    let elapsed = span(recorder.window_ns);
    row(f, "Connections", &format!("{} of {} opened, in {elapsed}", count(recorder.established), count(wanted)))?;
    if recorder.established > 0 {
        row(f, "  connect", &times(&recorder.latency))?;
        row(f, "  from", &report.sources_used.to_string())?;
    }
    if recorder.attempted < wanted {
        let why = if report.ending == Ending::Interrupted { "" } else { ": one after the other had failed" };
        row(f, "  not tried", &format!("{}{why}", count(wanted - recorder.attempted)))?;
    }
    over_time(f, &report.series(), columns)?;
    // A connect that was begun twice is called out, and a hold says that there was none.
    let is_hold = report.stages.iter().any(|result| matches!(result.stage, Stage::Hold { .. }));
    if is_hold { kernel(f, result.netstat) } else { kernel_if_any(f, result.netstat) }
}

fn kernel_if_any(f: &mut Formatter<'_>, netstat: Netstat) -> fmt::Result {
    if netstat == Netstat::default() { Ok(()) } else { kernel(f, netstat) }
}

fn kernel(f: &mut Formatter<'_>, netstat: Netstat) -> fmt::Result {
    let counts: Vec<String> = netstat.rows().map(|(name, number)| format!("{name} +{}", count(number))).collect();
    row(f, "  kernel", &format!("{} (all programs here)", counts.join(" · ")))
}

/// Connects that succeeded, second by second, as a picture; only where there was more than one.
fn over_time(f: &mut Formatter<'_>, series: &Series, columns: usize) -> fmt::Result {
    let seconds = series.established();
    // The last one ends before it is over.
    let Some((_, [first, rest @ ..])) = seconds.split_last() else { return Ok(()) };
    let (least, most) = rest.iter().fold((first, first), |(least, most), it| (least.min(it), most.max(it)));
    let range = if least == most { count(*most) } else { format!("{} to {}", count(*least), count(*most)) };
    let room = columns.saturating_sub(LABEL_COLUMNS + 2 + range.len()).clamp(1, SERIES_COLUMNS);
    let each = seconds.len().div_ceil(room);
    let column = |part: &[u64]| {
        let mean = part.iter().sum::<u64>() as f64 / part.len() as f64;
        let eighths = (mean / (*most).max(1) as f64 * 8.0).ceil() as usize;
        [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][eighths.min(8)]
    };
    let picture: String = seconds.chunks(each).map(column).collect();
    row(f, "  a second", &format!("{picture}  {range}"))
}

fn verified(f: &mut Formatter<'_>, report: &Report, recorder: &Recorder) -> fmt::Result {
    let right = format!("{} of {} {}", count(recorder.answered), count(recorder.due), rightly(&report.plan));
    row(f, "Verified", &format!("{right}, in {}", span(recorder.window_ns)))?;
    if recorder.answered == 0 {
        return Ok(());
    }
    let is_echo = matches!(report.plan.protocol, Protocol::Echo { .. });
    row(f, if is_echo { "  echo" } else { "  reply" }, &times(&recorder.latency))
}

/// What is verified of a reply.
fn rightly(plan: &Plan) -> &'static str {
    if matches!(plan.protocol, Protocol::Echo { .. }) { "echoed every byte" } else { "answered as they had to" }
}

/// Times in one line.
fn times(times: &Times) -> String {
    let times = Percentiles::of(times);
    let parts = [("p50", times.p50_ns), ("p99", times.p99_ns), ("max", times.max_ns)];
    let known: Vec<String> = parts.iter().filter_map(|(name, ns)| Some(format!("{name} {}", span((*ns)?)))).collect();
    known.join(" · ")
}

fn shown(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".to_owned(), span)
}

fn held(f: &mut Formatter<'_>, report: &Report, result: &StageResult) -> fmt::Result {
    let recorder = &result.recorder;
    let before = report.stages.iter().take_while(|other| other.begun_after < result.begun_after);
    let lost_before: u64 = before.map(|result| result.recorder.lost).sum();
    let (at_begin, lost) = (report.established().saturating_sub(lost_before), recorder.lost);
    let time = format!("{} of {}", span(recorder.window_ns), span(report.plan.duration.as_nanos() as u64));
    row(f, "Held", &format!("{time}, {}", counted(at_begin, "connection")))?;
    let sooner =
        if lost_before > 0 { format!(", and {} before, while verified", count(lost_before)) } else { String::new() };
    row(f, "  lost", &format!("{}{sooner}", count(lost)))?;
    if recorder.due == 0 {
        return Ok(());
    }
    let skipped = match recorder.skipped {
        0 => String::new(),
        skipped => format!(", {} left out while connections were opened again", count(skipped)),
    };
    let right = format!("{} of {} {}", count(recorder.answered), count(recorder.due), rightly(&report.plan));
    row(f, "  heartbeats", &format!("{right}{skipped}"))?;
    if recorder.answered == 0 {
        return Ok(());
    }
    row(f, "  latency", &format!("{} (from due)", times(&recorder.latency)))?;
    row(f, "  service", &times(&recorder.service))?;
    row(f, "  send lag", &times(&recorder.lag))
}

/// A closed or an open loop: its throughput, its sum, and the table and picture of its latencies.
fn exchanges(f: &mut Formatter<'_>, report: &Report, result: &StageResult, columns: usize) -> fmt::Result {
    let recorder = &result.recorder;
    let rate = recorder.answered_per_s();
    // Of what was answered in the window, like the rate; the sums contain what came after it, too.
    let part = match recorder.answered {
        0 => 1e9 / recorder.window_ns.max(1) as f64,
        answered => rate / answered as f64,
    };
    let [out, back] = [recorder.bytes_sent, recorder.bytes_received].map(|sum| bytes((sum as f64 * part) as u64));
    let ways = match report.plan.protocol {
        Protocol::Echo { size } => format!("{}/s each way", bytes((rate * f64::from(size)) as u64)),
        _ => format!("{out}/s out, {back}/s back"),
    };
    let (what, were) = if result.stage.churn().is_some() { ("connections", "done") } else { ("answers", "answered") };
    let throughput = format!("{} {what}/s · {ways}", rate_text(rate));
    writeln!(f)?;
    match result.stage {
        Stage::Open { rate, arrival, .. } => {
            let seed = if arrival == Arrival::Poisson { format!(", seed {}", report.plan.seed) } else { String::new() };
            row(f, "Open loop", &format!("{rate} requests/s due, {} arrivals{seed}", arrival.name()))?;
            row(f, "  achieved", &throughput)?;
        }
        Stage::Churn(churn) => {
            row(f, "Churn", &throughput)?;
            row(f, "  loop", &churn_sentence(report, churn))?;
            row(f, "  from", &report.plan.sources_used(report.sources_taken()).to_string())?;
        }
        _ => row(f, "Closed loop", &throughput)?,
    }
    let failed = crate::recorder::total(&recorder.request_failures);
    let (due, answered, unfinished) = (count(recorder.due), count(recorder.answered), count(recorder.unfinished));
    let sum = format!("{due} due = {answered} {were} + {} failed + {unfinished} unfinished", count(failed));
    row(f, if were == "done" { "  connections" } else { "  requests" }, &sum)?;
    if were == "done" && failed > 0 {
        row(f, "  failed", &failed_acts(&recorder.request_failures))?;
        failed_targets(f, report, std::iter::once(recorder))?;
    }
    // The rate above counts only those in the window: else the sum and the rate would contradict each other.
    let (within, after) = (recorder.answered_in_window, recorder.answered - recorder.answered_in_window);
    let window = span(recorder.window_ns);
    row(f, &format!("  {were}"), &format!("{} in the window of {window} + {} after it", count(within), count(after)))?;
    if recorder.reopened > 0 {
        let reopened = count(recorder.reopened);
        let sentence = format!("{reopened} connections, which the server had closed between two responses, as it may");
        row(f, "  reopened", &sentence)?;
        let is_part = if matches!(result.stage, Stage::Open { .. }) { "" } else { " (a part of the latency)" };
        row(f, "  reconnect", &format!("{}{is_part}", times(&recorder.reconnect)))?;
    }
    if result.stage.churn().is_some() {
        let (most, places) = (count(recorder.at_once_max), count(report.plan.connections));
        row(f, "  at once", &format!("{most} at most, of {places} places"))?;
        kernel_if_any(f, result.netstat)?;
    }
    if recorder.latency.len() == 0 {
        return Ok(());
    }
    writeln!(f)?;
    table::latencies(f, result, columns)?;
    missing(f, report, recorder, were)
}

/// What has no latency, although it was asked for.
fn missing(f: &mut Formatter<'_>, report: &Report, recorder: &Recorder, were: &str) -> fmt::Result {
    let missing = recorder.missing(report.ending == Ending::Interrupted);
    if missing > 0 {
        let (thing, answered) = if were == "done" { ("connection", "done") } else { ("request", "answered") };
        let (things, were) = (counted(missing, thing), if missing == 1 { "was" } else { "were" });
        let sentence = format!(
            "{things} {were} not {answered} as they had to be: missing from these percentiles; those that waited in vain would \
             be above those shown"
        );
        row(f, "  MISSING", &sentence)?;
    }
    Ok(())
}

/// Of connections that come and go: at what they failed.
fn failed_acts(failures: &Failures) -> String {
    let count_of =
        |acts: &[Act]| failures.iter().filter(|(it, _)| acts.contains(&it.act)).map(|(_, number)| number).sum();
    let acts = [
        (count_of(&[Act::Connect]), "connect"),
        (count_of(&[Act::Send, Act::Reply, Act::Idle]), "exchange"),
        (count_of(&[Act::Close]), "close by the server"),
    ];
    let some = acts.into_iter().filter(|(number, _)| *number > 0);
    let words = some.map(|(number, act)| match act.split_once(' ') {
        Some((act, whose)) => format!("{} {whose}", counted(number, act)),
        None => counted(number, act),
    });
    words.collect::<Vec<_>>().join(" · ")
}

/// Which of several targets connections that come and go failed at, the worst first.
fn failed_targets<'a>(
    f: &mut Formatter<'_>,
    report: &Report,
    recorders: impl Iterator<Item = &'a Recorder>,
) -> fmt::Result {
    let targets = &report.plan.targets;
    let mut failed = vec![0; targets.len()];
    let all = recorders.flat_map(|recorder| &recorder.failed_at);
    all.filter(|(at, _)| **at < targets.len()).for_each(|(at, number)| failed[*at] += number);
    let mut failed: Vec<_> = failed.into_iter().zip(targets).filter(|(number, _)| *number > 0).collect();
    if targets.len() < 2 || failed.is_empty() {
        return Ok(());
    }
    failed.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let more = failed.len().saturating_sub(PARTS_SHOWN);
    let mut words: Vec<String> =
        failed.iter().take(PARTS_SHOWN).map(|(number, target)| format!("{} × {target}", count(*number))).collect();
    words.extend((more > 0).then(|| format!("and {} targets more", count(more as u64))));
    row(f, "  at", &words.join(" · "))
}

fn warmup(f: &mut Formatter<'_>, result: &StageResult) -> fmt::Result {
    let (time, answers) = (span(result.recorder.window_ns), count(result.recorder.answered));
    row(f, "Warm-up", &format!("{time}, {answers} answers, which are not in the figures"))
}

/// The runs beside each other, and what they say together.
fn several(f: &mut Formatter<'_>, report: &Report, runs: &Runs, columns: usize) -> fmt::Result {
    let kind = match report.measured().next().map(|result| result.stage) {
        Some(Stage::Open { rate, arrival, .. }) => {
            format!("Open loop, {rate} requests/s due, {} arrivals", arrival.name())
        }
        Some(Stage::Churn(churn)) => format!("Churn, {}", churn_sentence(report, churn)),
        _ => "Closed loop".to_owned(),
    };
    let (what, were) = if report.plan.churn.is_some() { ("connections", "done") } else { ("answers", "answered") };
    let sum = |of: fn(&Recorder) -> u64| count(report.measured().map(|result| of(&result.recorder)).sum());
    writeln!(f, "\n{kind}: {} runs of {}", runs.count, span(report.plan.duration.as_nanos() as u64))?;
    let failed = |recorder: &Recorder| crate::recorder::total(&recorder.request_failures);
    let (due, answered, unfinished) = (sum(|it| it.due), sum(|it| it.answered), sum(|it| it.unfinished));
    row(
        f,
        if were == "done" { "  connections" } else { "  requests" },
        &format!("{due} due = {answered} {were} + {} failed + {unfinished} unfinished", sum(failed)),
    )?;
    let mut failures = Failures::new();
    report.measured().for_each(|result| merge_failures(&mut failures, &result.recorder.request_failures));
    if were == "done" && !failures.is_empty() {
        row(f, "  failed", &failed_acts(&failures))?;
        failed_targets(f, report, report.measured().map(|result| &result.recorder))?;
    }
    // Where a line has no room for all of it, interval and extremes have lines of their own.
    let is_wide = columns >= RUNS_COLUMNS;
    let (beside, below) = if is_wide { ("95 % interval of the mean", "lowest … highest") } else { ("", "") };
    writeln!(f, "\n{}", format!("  {:<10}{:>12}  {beside:<26}{below}", "", "median").trim_end())?;
    for figure in runs.rows() {
        let (name, show): (_, fn(f64) -> String) = match figure.name.strip_suffix("_ns") {
            Some(name) => (name.replace('_', "."), |ns| span(ns as u64)),
            None => (format!("{what}/s"), rate_text),
        };
        let range = figure.range.map(|[low, high]| format!("{} … {}", show(low), show(high)));
        let known = || figure.values.iter().copied().flatten();
        let (least, most) = (known().fold(f64::MAX, f64::min), known().fold(0.0, f64::max));
        let (range, median) =
            (range.unwrap_or_else(|| "-".to_owned()), figure.median.map_or_else(|| "-".to_owned(), show));
        let extremes = format!("{} … {}", show(least), show(most));
        if is_wide {
            writeln!(f, "  {name:<13}{median:>9}  {range:<26}{extremes}")?;
        } else {
            writeln!(f, "  {name:<13}{median:>9}\n    mean (95 %)   {range}\n    extremes      {extremes}")?;
        }
    }
    Ok(())
}

/// How connections come and go.
fn churn_sentence(report: &Report, churn: Churn) -> String {
    let end = match churn.close {
        Close::Reset | Close::Fin if report.plan.is_unix() => "each closed by this side",
        Close::Reset => "each closed by a reset",
        Close::Fin => "each closed by this side's FIN, its port then in TIME_WAIT",
        Close::Server => "each closed by the server",
    };
    match churn.arrivals {
        Some((rate, Arrival::Poisson)) => {
            format!("open, {rate} connections/s due, poisson arrivals, seed {}; {end}", report.plan.seed)
        }
        Some((rate, arrival)) => format!("open, {rate} connections/s due, {} arrivals; {end}", arrival.name()),
        None => format!("closed, in {} places; {end}", count(report.plan.connections)),
    }
}

fn errors(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let mut merged = Failures::new();
    for recorder in report.stages.iter().map(|result| &result.recorder) {
        for failures in [&recorder.connect_failures, &recorder.request_failures, &recorder.losses] {
            failures.iter().for_each(|(failure, number)| *merged.entry(*failure).or_default() += number);
        }
    }
    if merged.is_empty() {
        return row(f, "Errors", "none");
    }
    for (index, (failure, number)) in merged.iter().enumerate() {
        row(f, if index == 0 { "Errors" } else { "" }, &format!("{} × {failure}", count(*number)))?;
    }
    Ok(())
}

/// Cores' worth of processor time, of each side where the server is inside.
fn processor(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    for (index, timed) in Timed::of(report).iter().enumerate() {
        let generator = timed.cores(|result| Some(result.recorder.cpu_time)).unwrap_or(0.0);
        let (name, server) = (&timed.name, timed.cores(|result| result.server_cpu_time));
        let server = server.map_or_else(String::new, |cores| format!(", server's threads {cores:.2}"));
        let label = if index == 0 { "Processor" } else { "" };
        row(f, label, &format!("{name}: generator's threads {generator:.2} cores{server}"))?;
    }
    Ok(())
}

fn memory(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let most = report.resident_bytes_max();
    let whose = if report.plan.is_server_inside() { "server and generator, one process" } else { "generator" };
    let mut text = format!("{} resident: {whose}", bytes(most));
    // With few of them it would be the program that is counted, not they.
    if report.plan.churn.is_none() && report.established() >= MEMORY_CONNECTIONS {
        let (begin, established) = (report.resident_begin_bytes, report.established() as f64);
        let (all, more) = (most as f64 / established, most.saturating_sub(begin) as f64 / established);
        text += &format!("; {all:.0} bytes a connection, {more:.0} without the {} before the first", bytes(begin));
    }
    row(f, "Memory", &text)?;
    if report.closing_time >= CLOSING_SHOWN {
        row(f, "Closed", &format!("all by reset, in {}", span(report.closing_time.as_nanos() as u64)))?;
    }
    Ok(())
}

/// What the server's processes used, where they were named, and which of them ended.
fn server_processes(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let Some(used) = server_used(report) else { return Ok(()) };
    row(f, "Server", &used)?;
    let last = report.stages.iter().rev().find_map(|result| result.server_use.as_ref());
    last.into_iter().flat_map(|used| &used.gone).try_for_each(|(pid, at)| {
        row(f, "  ENDED", &format!("process {pid}, {:.1} s after the run began", at.as_secs_f64()))
    })
}

/// What the server's processes used: their processor time of each stage with a duration, and the
/// most of the rest.
pub(crate) fn server_used(report: &Report) -> Option<String> {
    let used = || report.stages.iter().filter_map(|result| Some((result, result.server_use.as_ref()?)));
    used().next()?;
    let timed = Timed::of(report);
    let cores = timed.iter().filter_map(|timed| {
        let cores = timed.cores(|result| Some(result.server_use.as_ref()?.cpu_time))?;
        // Of a single stage it is plain which one it was.
        let stage = if report.measured().nth(1).is_some() { format!(" ({})", timed.name) } else { String::new() };
        Some(format!("{cores:.2} cores{stage}"))
    });
    let most = |of: fn(&ServerUse) -> u64| used().map(|(_, used)| of(used)).max().unwrap_or(0);
    let resident = most(|used| used.most.resident_bytes);
    let mut parts: Vec<String> = cores.collect();
    parts.push(format!("{} resident at most", bytes(resident)));
    if report.plan.churn.is_none() && report.established() >= MEMORY_CONNECTIONS {
        let each = resident as f64 / report.established() as f64;
        parts.push(format!("{each:.0} bytes a connection, beside what the kernel takes for its socket"));
    }
    let descriptors = used().filter_map(|(_, used)| used.most.descriptors).max();
    let others = match used().any(|(_, used)| used.most.has_own_tables) {
        true => " (in the first of several tables: the others are not counted)",
        false => "",
    };
    parts.push(descriptors.map_or_else(
        || "descriptors unknown (another user's)".to_owned(),
        |most| format!("{}{others}", counted(most, "descriptor")),
    ));
    parts.push(counted(most(|used| used.most.threads), "thread"));
    Some(parts.join(" · "))
}

/// The other end's account, and whether it is the same.
fn server(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let Some(side) = &report.server else { return Ok(()) };
    let by_shard: Vec<String> = side.accepted.iter().map(|accepted| count(*accepted)).collect();
    let by_shard = match (side.accepted.iter().min(), side.accepted.iter().max()) {
        (Some(least), Some(most)) if by_shard.len() > SHARDS_SHOWN => {
            format!("{} × {} to {}", by_shard.len(), count(*least), count(*most))
        }
        _ => by_shard.join(" + "),
    };
    let (into, out) = (bytes(side.bytes_in), bytes(side.bytes_out));
    let agree = match (report.both_sides_agree(), report.ending) {
        (false, _) => ": the two sides DISAGREE",
        (true, Ending::Complete) => ": both sides agree",
        _ => "",
    };
    row(f, "Server", &format!("{by_shard} connections by shard, {into} in, {out} out{agree}"))
}

fn row(f: &mut Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "{name:<width$}{text}", width = LABEL_COLUMNS)
}

/// Columns of a row's name and of the blanks behind it.
const LABEL_COLUMNS: usize = 14;

/// Columns of the picture of connects over time: more seconds are averaged.
const SERIES_COLUMNS: usize = 40;

/// Parts that are shown one by one: as many as leave room for the rest of the page.
const PARTS_SHOWN: usize = 16;

/// Shards whose connections are shown one by one.
const SHARDS_SHOWN: usize = 8;

/// Connections for which their memory can be told from the program's.
const MEMORY_CONNECTIONS: u64 = 10_000;

/// A closing that a person had to wait for.
const CLOSING_SHOWN: Duration = Duration::from_millis(500);

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Columns of a row of several runs, all of it.
const RUNS_COLUMNS: usize = 74;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Failure, Kind};
    use crate::plan::tests::plan_inside;
    use crate::protocol::script::Script;
    use crate::recorder::note;
    use crate::report::tests::{report, three_runs};
    use crate::schedule::Rate;
    use crate::terminal::COLUMNS_USUAL;
    use std::sync::Arc;

    fn render(report: &Report) -> String {
        super::render(report, COLUMNS_USUAL)
    }

    #[test]
    fn the_first_line_says_which_loop_it_was() {
        assert!(render(&report()).starts_with("Closed loop · 127.0.0.1:4000 · 10 connections · 64 B a message\n"));
        let mut open = report();
        open.stages[1].stage =
            Stage::Open { duration: Duration::from_secs(1), rate: Rate::constant(1000.0), arrival: Arrival::Poisson };
        assert!(render(&open).starts_with("Open loop · "));
        assert!(render(&open).contains("\nbegun 1970-01-01T00:00:00Z\n"), "{}", render(&open));
    }

    #[test]
    fn a_percentile_without_enough_samples_is_a_dash() {
        let text = render(&report());
        let line = |name: &str| text.lines().find(|line| line.trim_start().starts_with(name)).unwrap().to_owned();
        assert!(line("p99 ").contains("990 us"), "{text}");
        assert!(line("p99.9 ").trim_end().ends_with('-'), "{text}");
        assert!(line("max").contains("1.00 ms"), "{text}");
    }

    #[test]
    fn it_is_no_wider_than_a_terminal() {
        let mut open = report();
        open.stages[1].stage =
            Stage::Open { duration: Duration::from_secs(1), rate: Rate::constant(1000.0), arrival: Arrival::Poisson };
        let narrow = super::render(&open, 50);
        assert!(narrow.starts_with("Open loop · 127.0.0.1:4000 · 10 connections ·\n64 B a message\n"), "{narrow}");
        let recorder = &mut open.stages[1].recorder;
        for us in 1..=1000 {
            recorder.service.record(us * 999);
            recorder.lag.record(us);
        }
        let series = &mut open.stages[0].recorder.series;
        (0..60u64).for_each(|second| (0..1000).for_each(|_| series.note_established(second * 1_000_000_000)));
        let mut three = three_runs();
        three.stages[0] = open.stages[0].clone();
        for columns in [40, 50, COLUMNS_USUAL, 120] {
            for report in [&open, &three, &report()] {
                let text = super::render(report, columns);
                for line in text.lines() {
                    assert!(line.chars().count() <= columns, "{columns}: {line}\n{text}");
                }
                assert!(columns < 60 || text.contains('█'), "a picture where there is room: {text}");
            }
        }
        let narrow = super::render(&open, 40);
        assert!(narrow.contains("  p50        500 us    500 us    500 ns\n"), "{narrow}");
        open.plan = plan_inside("-c 1M");
        assert!(render(&open).lines().all(|line| line.chars().count() <= COLUMNS_USUAL));
    }

    #[test]
    fn heartbeats_say_what_was_verified() {
        let mut hold = report();
        let (duration, heartbeat) = (Duration::from_secs(1), Some(Duration::from_millis(10)));
        hold.stages[1].stage = Stage::Hold { duration, heartbeat };
        assert!(render(&hold).contains("heartbeats  1,000 of 1,000 echoed every byte\n"), "{}", render(&hold));
        hold.plan.protocol = Protocol::Script(Arc::new(Script::new("PING", "PONG").unwrap()));
        assert!(render(&hold).contains("heartbeats  1,000 of 1,000 answered as they had to\n"), "{}", render(&hold));
    }

    #[test]
    fn connections_that_come_and_go_say_at_what_they_failed() {
        let mut churn = report();
        let kind = Churn { duration: Duration::from_secs(1), arrivals: None, close: Close::Server };
        (churn.stages[1].stage, churn.plan.churn) = (Stage::Churn(kind), Some((kind, None)));
        assert!(!render(&churn).contains("  failed "), "{}", render(&churn));
        let failures = &mut churn.stages[1].recorder.request_failures;
        for (act, kind) in [(Act::Connect, Kind::Refused), (Act::Connect, Kind::TimedOut), (Act::Reply, Kind::Reset)] {
            note(failures, Failure::new(act, kind));
        }
        note(failures, Failure::new(Act::Close, Kind::TimedOut));
        let wanted = "  failed      2 connects · 1 exchange · 1 close by the server\n";
        assert!(render(&churn).contains(wanted), "{}", render(&churn));
        churn.stages.push(churn.stages[1].clone());
        let wanted = "  failed      4 connects · 2 exchanges · 2 closes by the server\n";
        assert!(render(&churn).contains(wanted), "{}", render(&churn));
    }

    #[test]
    fn without_samples_there_is_no_table_and_with_few_a_dash_is_explained() {
        let mut empty = report();
        empty.stages[1].recorder = Recorder::new(1_000_000_000);
        assert!(!render(&empty).contains("p99"), "{}", render(&empty));
        assert_eq!(render(&report()).matches("-: too few samples").count(), 1);
    }

    #[test]
    fn what_is_missing_from_the_percentiles_is_said() {
        let mut lossy = report();
        assert!(!render(&lossy).contains("MISSING"));
        (lossy.stages[1].recorder.due, lossy.stages[1].recorder.unfinished) = (1003, 2);
        note(&mut lossy.stages[1].recorder.request_failures, Failure::new(Act::Reply, Kind::TimedOut));
        assert!(render(&lossy).contains("3 requests were not answered"), "{}", render(&lossy));
    }

    #[test]
    fn the_verdict_and_what_was_to_be_kept_to_stand_before_the_result() {
        let mut still = report();
        still.stages[1].recorder.window_ns = 3_000_000_000;
        assert!(render(&still).contains("Verdict       VALID"), "{}", render(&still));
        still.stages[1].recorder.standstill_ns = 1_500_000_000;
        still.slo = Some("p99<2ms,p99.9<1s".parse().unwrap());
        let text = render(&still);
        assert!(text.contains("Verdict       SUSPECT: the generator stood still for 1.50 s"), "{text}");
        assert!(text.contains("SLO met       p99 < 2.00 ms: 990 us"), "{text}");
        assert!(text.contains("SLO UNKNOWN   p99.9 < 1.00 s: too few samples to tell"), "{text}");
    }

    #[test]
    fn connects_over_time_are_a_picture() {
        let mut long = report();
        for second in 0..60u64 {
            let established = if second < 30 { 100 } else { 50 };
            let series = &mut long.stages[0].recorder.series;
            (0..established).for_each(|_| series.note_established(second * 1_000_000_000));
        }
        let text = render(&long);
        let picture = format!("  a second    {}{}  50 to 100", "█".repeat(15), "▄".repeat(15));
        assert!(text.contains(&picture), "{text}");
        assert!(!render(&report()).contains("a second"), "nothing to see within one");
    }

    #[test]
    fn connects_that_were_begun_twice_are_called_out() {
        let mut slow = report();
        assert!(!render(&slow).contains("TCPSynRetrans"));
        slow.stages[0].netstat.syn_retransmits = 1234;
        assert!(render(&slow).contains("TCPSynRetrans +1,234"));
    }

    #[test]
    fn an_interrupted_run_says_so() {
        let mut broken_off = report();
        broken_off.ending = Ending::Interrupted;
        assert!(render(&broken_off).contains("INTERRUPTED"));
    }
}
