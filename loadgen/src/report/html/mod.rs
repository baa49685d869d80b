//! Results as one page with pictures, for browsers and reports: no network, no script, light and dark, phone and desktop.

mod axes;
mod chart;
mod hold;
mod runs;
pub(crate) mod search;
mod server;

use std::fmt::Write;

use self::axes::Axes;
use self::chart::{Axis, Chart};
use crate::churn::Churn;
use crate::moment::rfc3339_seconds;
use crate::quantity::{bytes, count, counted, rate_text, span};
use crate::recorder::{Recorder, total};
use crate::report::percentiles::Percentiles;
use crate::report::runs::Timed;
use crate::report::text::outcome;
use crate::report::{Report, StageResult, advice, text, warnings};
use crate::schedule::Arrival;
use crate::series::Part;
use crate::shell;
use crate::stage::Stage;
use crate::times::Times;
use crate::verdict::Verdict;

/// `report` as a page.
pub(crate) fn render(report: &Report) -> String {
    let page = text::render(report, usize::MAX);
    let head = page.lines().next().unwrap_or("loadgen");
    let shown = report.numbered().filter(|(it, _)| has_section(report, it));
    let held = hold::section(report);
    let sections: String = shown.map(|(it, number)| section(it, number, &Axes::of(report, it))).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"generator\" content=\"loadgen {version}\">\
         <title>{title}</title><style>\n{STYLE}</style></head><body>\n<h1>{title}</h1>\n<p class=\"dim\">{machine}</p>\n\
         {verdict}{held}{runs}{sections}{server}<h2>Connections</h2>\n<div class=\"charts\">{connections}</div>\n{failures}{settings}</body></html>\n",
        version = env!("CARGO_PKG_VERSION"),
        title = escaped(head),
        machine = escaped(&machine(report)),
        verdict = verdict(report),
        runs = runs::summary(report),
        server = server::section(report),
        connections = connections(report),
        failures = failures(report),
        settings = settings(report),
    )
}

/// What came from outside must not become markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    let (cores, memory) = (counted(machine.cores.len() as u64, "core"), bytes(machine.memory_bytes));
    format!(
        "loadgen {} on {cores} of {}, {memory}, Linux {}; begun {}",
        env!("CARGO_PKG_VERSION"),
        machine.processor,
        machine.kernel,
        rfc3339_seconds(report.begun_at)
    )
}

/// How it ended, what became of the conditions, and what the figures are worth: none of these hides another one.
fn verdict(report: &Report) -> String {
    let result = outcome::result(report);
    let (word, sentence) = result.split_once(": ").unwrap_or((&result, ""));
    let class = if report.is_failed() { "failed" } else { "ok" };
    let what_to_do = warnings::sentences(report).into_iter().chain(advice::sentences(report)).collect::<Vec<_>>();
    let mut boxes = judgement(class, word, sentence, &what_to_do);
    let conditions = report.slo_outcomes();
    if !conditions.is_empty() {
        let (class, word) = match () {
            () if conditions.iter().any(|outcome| outcome.is_missed()) => ("failed", "SLO MISSED"),
            () if conditions.iter().any(|outcome| !outcome.is_met) => ("suspect", "SLO UNKNOWN"),
            () => ("ok", "SLO MET"),
        };
        let conditions: Vec<String> = conditions
            .into_iter()
            .map(|outcome| {
                let kept = match outcome.is_met {
                    true => "kept to",
                    false if outcome.is_missed() => "missed",
                    false => "not judged",
                };
                format!("{} was {kept}: {}", outcome.condition, outcome.words())
            })
            .collect();
        boxes += &judgement(class, word, "", &conditions);
    }
    boxes
        + &match Verdict::of(report) {
            Verdict::Suspect(reasons) => {
                judgement("suspect", "SUSPECT", "these figures may not be, or not only, the server's", &reasons)
            }
            Verdict::Valid => judgement("ok", "VALID", outcome::VALID, &[]),
            Verdict::None if outcome::is_short(report) => judgement("none", "NO VERDICT", outcome::SHORT, &[]),
            Verdict::None => String::new(),
        }
}

/// A word that is seen from afar, a sentence, and a list below them.
fn judgement(class: &str, word: &str, sentence: &str, items: &[String]) -> String {
    let list: String = items.iter().map(|item| format!("<li>{}</li>", escaped(item))).collect();
    let list = if list.is_empty() { list } else { format!("<ul>{list}</ul>") };
    format!("<div class=\"verdict {class}\"><b>{word}</b> {}{list}</div>\n", escaped(sentence))
}

/// Of what was more than to open, or to verify, connections.
fn has_section(report: &Report, result: &StageResult) -> bool {
    let has_course = result.recorder.timeline.intervals().len() > 0;
    let is_sum = !report.parts.is_empty() && result.stage.duration().is_some() && result.recorder.latency.len() > 0;
    (has_course || is_sum) && !result.is_warmup
}

fn section(result: &StageResult, number: Option<(usize, usize)>, axes: &Axes) -> String {
    let recorder = &result.recorder;
    let name = match result.stage {
        Stage::Closed { .. } => "Closed loop".to_owned(),
        Stage::Open { rate, arrival: Arrival::Poisson, .. } => {
            format!("Open loop, {rate} requests/s due, as a Poisson process")
        }
        Stage::Open { rate, .. } => format!("Open loop, {rate} requests/s due, evenly spaced"),
        Stage::Churn(Churn { arrivals: Some((rate, _)), .. }) => format!("Churn, {rate} connections/s due"),
        Stage::Churn(_) => "Churn, closed loop".to_owned(),
        Stage::Hold { .. } => "Heartbeats".to_owned(),
        Stage::Connect | Stage::Verify => result.stage.name().to_owned(),
    };
    let name = match number {
        Some((run, all @ 2..)) => format!("Run {run} of {all}: {name}"),
        _ => name,
    };
    let times = Percentiles::of(&recorder.latency);
    let shown = |ns: Option<u64>| ns.map_or_else(|| "–".to_owned(), span);
    let failed = recorder.failed() + recorder.unfinished;
    let figures: String = [
        (
            if result.stage.churn().is_some() { "connections a second" } else { "answers a second" },
            rate_text(recorder.answered_per_s()),
        ),
        ("median latency", shown(times.p50_ns)),
        ("99th percentile", shown(times.p99_ns)),
        ("longest", shown(times.max_ns)),
        (if result.stage.churn().is_some() { "connections done" } else { "answered" }, count(recorder.answered)),
        ("failed or unfinished", count(failed)),
    ]
    .into_iter()
    .map(tile)
    .collect();
    // A sum has a course of its own where its parts were measured at the same time.
    let has_course = recorder.timeline.intervals().len() > 0;
    let course = if has_course { heat(result, axes) + &throughput(result, axes) } else { String::new() };
    let charts = percentiles(recorder, axes) + &course;
    let missing = if has_course { "" } else { NO_COURSE };
    let table = table(recorder);
    format!(
        "<h2>{name}</h2>\n<div class=\"figures\">{figures}</div>\n<div class=\"charts\">{charts}</div>\n{missing}{table}"
    )
}

/// A number that is seen from afar, and what it is of.
fn tile((name, value): (&str, String)) -> String {
    format!("<div><strong>{value}</strong><span class=\"dim\">{name}</span></div>")
}

fn figure(title: &str, chart: Chart) -> String {
    format!("<figure><h3>{title}{}</h3>{}</figure>\n", chart.key(), chart.finish())
}

/// Each kind of time over the part of the requests that took no longer.
fn percentiles(recorder: &Recorder, axes: &Axes) -> String {
    let kinds = if recorder.exchange.len() > 0 {
        [
            ("blue", "whole", &recorder.latency),
            ("teal", "connect", &recorder.connect),
            ("amber", "exchange", &recorder.exchange),
        ]
    } else {
        [
            ("blue", "latency", &recorder.latency),
            ("teal", "service", &recorder.service),
            ("amber", "send lag", &recorder.lag),
        ]
    };
    let kinds: Vec<_> = kinds.into_iter().filter(|(_, _, times)| times.len() > 0).collect();
    let curves: Vec<_> = kinds.into_iter().map(|(class, name, times)| (class, name, curve(times))).collect();
    let (x, y) = axes.curves();
    let mut chart =
        Chart::new("Latency by percentile", "time, over the part of the requests that took no longer", x, y);
    for (class, name, points) in &curves {
        chart.line(class, name, points);
    }
    figure("Latency by percentile", chart)
}

/// The time that all but one in so many did not exceed, over those so many.
fn curve(times: &Times) -> Vec<(f64, f64)> {
    let last = times.len() as f64;
    let steps =
        (0..=(last.log10() * STEPS_PER_POWER).floor() as u32).map(|step| 10f64.powf(f64::from(step) / STEPS_PER_POWER));
    steps.map(|beyond_in| (beyond_in, times.at_quantile(1.0 - 1.0 / beyond_in) as f64)).collect()
}

/// A power of ten without decimals.
fn plain(ns: u64) -> String {
    span(ns).replace(".00", "").replace(".0", "")
}

/// How many requests took how long, over time.
fn heat(result: &StageResult, axes: &Axes) -> String {
    let timeline = &result.recorder.timeline;
    let seconds = timeline.interval_ns() as f64 / 1e9;
    let times: Vec<Times> = timeline.intervals().collect();
    let (y, low, high) = axes.heat();
    let row_of = |ns: u64| (y.place(ns as f64) * HEAT_ROWS as f64).min(HEAT_ROWS as f64 - 1.0) as usize;
    let mut cells = Vec::new();
    for (index, interval) in times.iter().enumerate() {
        let mut rows = [0u64; HEAT_ROWS];
        let values = interval.as_histogram().into_iter().flat_map(|histogram| histogram.iter_recorded());
        values.for_each(|it| rows[row_of(it.value_iterated_to())] += it.count_at_value());
        cells.extend(
            rows.into_iter().enumerate().filter(|(_, number)| *number > 0).map(|(row, number)| (index, row, number)),
        );
    }
    let densest = cells.iter().map(|(_, _, number)| *number).max().unwrap_or(1);
    // Even a single one must be seen.
    let density = |number: u64| 0.12 + 0.88 * ((number as f64 + 1.0).ln() / (densest as f64 + 1.0).ln());
    let edge = |row: usize| 10f64.powf(low + (high - low) * row as f64 / HEAT_ROWS as f64);
    let words = "how many requests took how long; the denser the more";
    let mut chart = Chart::new("Latency over time", words, axes.course(), y);
    for (index, row, number) in cells {
        let from_s = index as f64 * seconds;
        chart.cell((from_s, from_s + seconds), (edge(row), edge(row + 1)), density(number));
    }
    let things = if result.stage.churn().is_some() { "connections" } else { "requests" };
    format!("<figure><h3>Latency over time{}</h3>{}</figure>\n", heat_key(densest, things, density), chart.finish())
}

/// How many `things` a cell has that is as dense as that: few, some and the most, by their logarithm.
fn heat_key(densest: u64, things: &str, density: impl Fn(u64) -> f64) -> String {
    let mut numbers = vec![1, (densest as f64).sqrt().round() as u64, densest];
    numbers.dedup();
    let cell = |number: &u64| format!("<i style=\"opacity:{:.2}\"></i>{}", density(*number), count(*number));
    let cells: Vec<String> = numbers.iter().map(cell).collect();
    format!("<span class=\"heat\">{things} a cell: {}</span>", cells.join(" "))
}

fn throughput(result: &StageResult, axes: &Axes) -> String {
    let timeline = &result.recorder.timeline;
    let seconds = timeline.interval_ns() as f64 / 1e9;
    let points: Vec<(f64, f64)> = timeline
        .intervals()
        .enumerate()
        .map(|(index, times)| ((index as f64 + 0.5) * seconds, times.len() as f64 / seconds))
        // In the last one, which the window's end cuts, there are fewer for no fault of the server's.
        .filter(|(at_s, _)| at_s + 0.5 * seconds <= result.recorder.window_ns as f64 / 1e9 + 1e-6)
        .collect();
    let title = format!("{} a second", if result.stage.churn().is_some() { "Connections" } else { "Answers" });
    let mut chart = Chart::new(&title, "over time", axes.course(), axes.per_s());
    chart.area("blue", &points);
    if let Some((rate, _)) = result.stage.arrivals() {
        let window_s =
            result.stage.duration().unwrap_or_default().as_secs_f64().min(result.recorder.window_ns as f64 / 1e9);
        chart.line("amber", "due", &[(0.0, rate.from_per_s), (window_s, rate.to_per_s)]);
    }
    figure(&title, chart)
}

/// 1,200 as 1.2k.
fn short(number: f64) -> String {
    let (scaled, unit) = match number {
        1e6.. => (number / 1e6, "M"),
        1e3.. => (number / 1e3, "k"),
        _ => (number, ""),
    };
    format!("{:.1}", scaled).trim_end_matches('0').trim_end_matches('.').to_owned() + unit
}

/// Connections that were open, and opened, over the run.
fn connections(report: &Report) -> String {
    if report.plan.churn.is_some() {
        return connects(report);
    }
    let first = report.stages.first().filter(|result| result.stage == Stage::Connect);
    let connected_s = first.map_or(0.0, |result| (result.begun_after + result.elapsed).as_secs_f64());
    let last = report.stages.last().map_or(0.0, |result| (result.begun_after + result.elapsed).as_secs_f64());
    let mut open = vec![(0.0, 0.0)];
    for (tenth, _, number) in report.series().tenths() {
        let (before, from_s) = (open.last().map_or(0.0, |(_, number)| *number), tenth as f64 / 10.0);
        // What was opened in the tenth in which the last was, was opened by then.
        let to_s = if (from_s..from_s + 0.1).contains(&connected_s) { connected_s } else { from_s + 0.1 };
        open.extend([(from_s, before), (to_s, number as f64)]);
    }
    let end = open.last().copied().unwrap_or_default();
    open.push((last.max(end.0), end.1));
    let x = || Axis::linear_to(last.max(end.0), |s| format!("{s} s"));
    let most = open.iter().map(|(_, number)| *number).fold(0.0, f64::max);
    let mut held = Chart::new("Connections open", "over the whole run", x(), Axis::linear(most, short));
    held.area("teal", &open);
    let connects =
        report.stages.first().filter(|result| result.stage == Stage::Connect && result.recorder.established > 0);
    let connects = connects.map_or_else(String::new, |result| {
        let mut times = Recorder::new(u64::MAX >> 1);
        times.latency = result.recorder.latency.clone();
        percentiles(&times, &Axes::of_curves(&times))
            .replace("Latency by percentile", "Connect time by percentile")
            .replace(">latency<", ">connect<")
    });
    figure("Connections open", held) + &connects
}

/// Of those that come and go, how many a second were opened, and how many could not be: which of them are open at one
/// moment is chance.
fn connects(report: &Report) -> String {
    let end_s = report
        .stages
        .last()
        .map_or(0.0, |result| result.begun_after.as_secs_f64() + result.recorder.window_ns as f64 / 1e9);
    let series = report.series();
    let (parts, each_s) = if end_s < TENTHS_END_S { (series.tenths(), 0.1) } else { (series.seconds(), 1.0) };
    // What the window's end cuts off is no whole part.
    let steps = |of: fn(&Part) -> u64| -> Vec<(f64, f64)> {
        let number = |index| parts.iter().find(|(at, _, _)| *at == index).map_or(0, |(_, part, _)| of(part));
        let step = |index: u64| {
            let (from_s, per_s) = (index as f64 * each_s, number(index) as f64 / each_s);
            [(from_s, per_s), (from_s + each_s, per_s)]
        };
        (0..(end_s / each_s) as u64).flat_map(step).collect()
    };
    let (opened, failed) = (steps(|part| part.established), steps(|part| total(&part.failed)));
    let most = opened.iter().chain(&failed).map(|(_, per_s)| *per_s).fold(0.0, f64::max);
    let x = Axis::linear_to(end_s, |s| format!("{s} s"));
    let mut chart = Chart::new("Connects a second", "over the whole run", x, Axis::linear(most, short));
    chart.area("teal", &opened);
    if failed.iter().any(|(_, per_s)| *per_s > 0.0) {
        chart.line("teal", "opened", &opened);
        chart.line("amber", "failed", &failed);
    }
    figure("Connects a second", chart)
}

fn table(recorder: &Recorder) -> String {
    let columns = [
        (if recorder.exchange.len() > 0 { "whole" } else { "latency" }, &recorder.latency),
        ("connect", &recorder.connect),
        ("exchange", &recorder.exchange),
        ("service", &recorder.service),
        ("send lag", &recorder.lag),
    ];
    let columns: Vec<_> = columns
        .into_iter()
        .filter(|(_, times)| times.len() > 0)
        .map(|(name, times)| (name, Percentiles::of(times)))
        .collect();
    let head: String = columns.iter().map(|(name, _)| format!("<th>{name}</th>")).collect();
    let mut rows = String::new();
    for index in 0..columns.first().map_or(0, |(_, times)| times.rows().len()) {
        let name = columns[0].1.rows()[index].0;
        let cells = columns.iter().map(|(_, times)| times.rows()[index].1.map_or_else(|| "–".to_owned(), span));
        let cells: String = cells.map(|value| format!("<td>{value}</td>")).collect();
        let _ = write!(rows, "<tr><td>{name}</td>{cells}</tr>");
    }
    format!(
        "<div class=\"scroll\"><table><thead><tr><th>percentile</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n"
    )
}

fn failures(report: &Report) -> String {
    let mut rows = String::new();
    for result in &report.stages {
        let recorder = &result.recorder;
        for failures in [&recorder.connect_failures, &recorder.request_failures, &recorder.losses] {
            for (failure, number) in failures {
                let (stage, words) = (result.stage.name(), escaped(&failure.to_string()));
                let _ = write!(rows, "<tr><td>{stage}: {words}</td><td>{}</td></tr>", count(*number));
            }
        }
    }
    if rows.is_empty() {
        return "<h2>Failures</h2>\n<p>None.</p>\n".to_owned();
    }
    format!("<h2>Failures</h2>\n<div class=\"scroll\"><table><tbody>{rows}</tbody></table></div>\n")
}

fn settings(report: &Report) -> String {
    let (plan, machine) = (&report.plan, &report.machine);
    let cores = counted(machine.cores.len() as u64, "core");
    let timed = Timed::of(report);
    let cpu = timed.iter().map(|timed| {
        let generator = timed.cores(|result| Some(result.recorder.cpu_time)).unwrap_or(0.0);
        let server = timed.cores(|it| it.server_cpu_time.or(Some(it.server_use.as_ref()?.cpu_time)));
        let server = server.map_or_else(String::new, |cores| format!(", server {cores:.2} cores"));
        format!("{}: generator {generator:.2} cores{server}", timed.name)
    });
    let rows: [(&str, String); 11] = [
        ("Command", shell::typed(&report.command)),
        ("Target", format!("{} ({})", plan.name, plan.addresses())),
        ("Protocol", format!("{}, {} a request{}", plan.protocol.name(), bytes(plan.size().into()), plan.at_once())),
        (
            "Connections",
            format!(
                "{} by {}, from {}",
                count(plan.connections),
                counted(plan.threads() as u64, "thread"),
                report.sources_used
            ),
        ),
        (
            "Duration",
            format!("{}, timeout {}", span(plan.duration.as_nanos() as u64), span(plan.timeout.as_nanos() as u64)),
        ),
        ("Seed", plan.seed.to_string()),
        ("Processor time", cpu.collect::<Vec<_>>().join("; ")),
        ("Memory", format!("{} resident at the most", bytes(report.resident_bytes_max()))),
        ("Machine", format!("{}, {cores}, {}", machine.processor, bytes(machine.memory_bytes))),
        ("Kernel", format!("Linux {}, somaxconn {}", machine.kernel, machine.somaxconn)),
        (
            "Limits",
            format!(
                "{} descriptors, ports {} to {}",
                count(machine.descriptors_max),
                machine.ports.first,
                machine.ports.last
            ),
        ),
    ];
    let row = |name: &str, value: &str| format!("<tr><td>{}</td><td>{}</td></tr>", escaped(name), escaped(value));
    let parts = report.parts.iter().filter(|part| !part.command.is_empty());
    let parts: String = parts.map(|part| row(&part.name, &shell::typed(&part.command))).collect();
    let rows: String = rows.iter().map(|(name, value)| row(name, value)).collect::<String>() + &parts;
    format!("<h2>Settings</h2>\n<table class=\"settings\"><tbody>{rows}</tbody></table>\n")
}

/// Of a sum.
const NO_COURSE: &str = "<p class=\"dim\">No latency over time: the parts were not measured at the same time, or one of them \
                         does not tell.</p>\n";

const STYLE: &str = include_str!("style.css");

/// Points of a curve for each power of ten of what lies beyond.
const STEPS_PER_POWER: f64 = 24.0;

/// Connects of shorter runs are counted in tenths of a second.
const TENTHS_END_S: f64 = 3.0;

/// Rows of the heat map.
const HEAT_ROWS: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::churn::Close;
    use crate::failure::{Act, Failure, Kind};
    use crate::plan::tests::plan;
    use crate::recorder::note;
    use crate::report::Ending;
    use crate::report::tests::report;
    use std::time::Duration;

    #[test]
    fn what_comes_from_outside_does_not_become_markup() {
        let mut hostile = report();
        hostile.plan.name = "<script>alert(1)</script>".into();
        hostile.command = vec!["loadgen".into(), "\"><img src=x onerror=alert(1)>".into()];
        let page = render(&hostile);
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    }

    #[test]
    fn a_page_has_its_pictures_its_numbers_and_no_address_to_fetch_from() {
        let mut run = report();
        run.stages[1].elapsed = Duration::from_secs(1);
        (0..1000).for_each(|ms| run.stages[1].recorder.timeline.record(ms * 1_000_000, u64::MAX, (ms + 1) * 1000));
        run.stages[1].recorder.timeline.close();
        let page = render(&run);
        for title in ["Latency by percentile", "Latency over time", "Answers a second", "Connections open", "Settings"]
        {
            assert!(page.contains(title), "no {title}");
        }
        assert_eq!(page.matches("<svg").count(), 5);
        assert!(page.matches("class=\"cell\"").count() > 20);
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("NaN"), "{page}");
        assert!(page.contains("<td>p99</td><td>990 us</td>"));
    }

    #[test]
    fn when_it_began_and_what_to_type_again_stand_on_the_page() {
        let mut run = report();
        run.command = ["loadgen", "rr", "h:1", "--slo", "p99<2ms", "-s", "64 B"].map(str::to_owned).into();
        let page = render(&run);
        assert!(page.contains("Linux 6.1; begun 1970-01-01T00:00:00Z</p>"), "{page}");
        assert!(page.contains("<td>loadgen rr h:1 --slo &#39;p99&lt;2ms&#39; -s &#39;64 B&#39;</td>"), "{page}");
    }

    #[test]
    fn how_it_ended_the_conditions_and_the_verdict_do_not_hide_each_other() {
        let mut run = report();
        run.stages[1].recorder.window_ns = 3_000_000_000;
        run.stages[1].recorder.standstill_ns = 1_500_000_000;
        run.slo = Some("p99<2ms,p50<1us".parse().unwrap());
        let missed = verdict(&run);
        let words = ["<b>OK</b> every byte came back", "<b>SLO MISSED</b>", "<b>SUSPECT</b> these figures"];
        assert!(words.iter().all(|word| missed.contains(word)), "{missed}");
        assert!(missed.contains("<li>p99 &lt; 2.00 ms was kept to: 990 us</li>"), "{missed}");
        assert!(missed.contains("<li>p50 &lt; 1.00 us was missed: 500 us</li>"), "{missed}");
        assert!(missed.contains("<li>the generator stood still for 1.50 s"), "{missed}");
        run.stages[1].recorder.due += 1;
        note(&mut run.stages[1].recorder.request_failures, Failure::new(Act::Reply, Kind::TimedOut));
        let failed = verdict(&run);
        assert!(failed.contains("verdict failed\"><b>FAILED</b> see the errors<ul>"), "{failed}");
        assert!(failed.contains("<b>SLO MISSED</b>") && failed.contains("<b>SUSPECT</b>"), "{failed}");
        run.ending = Ending::Interrupted;
        assert!(verdict(&run).contains("<b>INTERRUPTED, and FAILED before that</b>"), "{}", verdict(&run));
        assert!(verdict(&report()).contains("<b>NO VERDICT</b> in less than 2 s chance decides"));
        run = report();
        run.stages[1].recorder.window_ns = 3_000_000_000;
        run.slo = Some("p99<2ms".parse().unwrap());
        let good = verdict(&run);
        assert!(good.contains("<b>SLO MET</b>") && good.contains("<b>VALID</b>") && !good.contains("failed"), "{good}");
    }

    #[test]
    fn connections_that_come_and_go_are_counted_by_the_second() {
        let mut run = report();
        let churn = Churn { duration: Duration::from_secs(3), arrivals: None, close: Close::Reset };
        run.plan = plan("127.0.0.1:4000 -c 10 -d 3s --threads 1").unwrap();
        run.plan.churn = Some((churn, None));
        run.stages.remove(0);
        run.stages[0].stage = Stage::Churn(churn);
        let recorder = &mut run.stages[0].recorder;
        recorder.window_ns = 3_500_000_000;
        (0..3500u64).for_each(|ms| recorder.series.note_established(ms * 1_000_000));
        (0..1000).for_each(|ms| recorder.timeline.record(ms * 1_000_000, u64::MAX, (ms + 1) * 1000));
        recorder.timeline.close();
        let page = render(&run);
        assert!(
            page.contains("<h3>Connections a second</h3>") && page.contains("<h3>Connects a second</h3>"),
            "{page}"
        );
        assert!(page.contains("connections done") && page.contains("10 by 1 thread, from"), "{page}");
        for wrong in ["Answers a second", "answers a second", "Connections open", "1 threads", ">failed<"] {
            assert!(!page.contains(wrong), "{wrong}: {page}");
        }
        let line =
            |drawn: &str| drawn.split("class=\"line teal\" d=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let drawn = line(&connects(&run));
        let heights: Vec<&str> = drawn.split('L').map(|point| point.rsplit(' ').next().unwrap()).collect();
        assert!(heights.len() == 6 && heights.iter().all(|height| height == &heights[0]), "a thousand each: {drawn}");
        note_failed(&mut run, 1_500_000_000);
        assert!(connects(&run).contains(">failed<"));
    }

    fn note_failed(run: &mut Report, now_ns: u64) {
        let refused = Failure::new(Act::Connect, Kind::Refused);
        run.stages[0].recorder.series.note_failed(now_ns, refused);
    }

    #[test]
    fn connections_that_opened_at_once_are_no_ramp_of_a_second() {
        let mut quick = report();
        (0..10).for_each(|_| quick.stages[0].recorder.series.note_established(20_000_000));
        quick.stages[0].elapsed = Duration::from_millis(30);
        let drawn = connections(&quick);
        let line = drawn.split("class=\"line teal\" d=\"").nth(1).unwrap();
        let line: Vec<&str> = line.split('"').next().unwrap().split('L').collect();
        // All stages end after a second, which is as wide as the picture.
        let left = |point: &str| point.trim_start_matches('M').split(' ').next().unwrap().parse::<f64>().unwrap();
        let width = left(line[line.len() - 1]) - left(line[0]);
        assert!((left(line[2]) - left(line[0])) / width < 0.05, "{line:?}");
    }

    #[test]
    fn a_run_that_opened_nothing_has_a_page_too() {
        let mut empty = report();
        empty.stages.clear();
        assert!(render(&empty).contains("FAILED"));
    }

    #[test]
    fn numbers_on_axes_are_short() {
        assert_eq!([0.0, 950.0, 1_200.0, 150_000.0, 2e6].map(short), ["0", "950", "1.2k", "150k", "2M"]);
    }
}
