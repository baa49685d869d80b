//! A search as a page: latency over rate as a picture, the table of trials, and the sections of the trial that decided.

use super::axes::Axes;
use super::chart::{Axis, Chart};
use super::{STYLE, connections, escaped, failures, figure, machine, plain, section, server, settings, short};
use crate::quantity::{rate_text, span};
use crate::report::percentiles::Percentiles;
use crate::report::{Ending, Exit, advice, text};
use crate::search::bracket::Grade;
use crate::search::found::Found;
use crate::search::percent;
use crate::search::trial::Trial;
use crate::slo::Reached;

/// `found` as a page.
pub(crate) fn render(found: &Found) -> String {
    let page = text::search::render(found, usize::MAX);
    let head = page.lines().next().unwrap_or("loadgen");
    let report = &found.report;
    let measured = report.measured().next_back().filter(|it| it.recorder.timeline.intervals().len() > 0);
    let section = measured.map_or_else(String::new, |result| {
        format!(
            "<p class=\"dim\">Below: the trial at the answer.</p>\n{}",
            section(result, None, &Axes::of(report, result))
        )
    });
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"generator\" content=\"loadgen {version}\">\
         <title>{title}</title><style>\n{STYLE}</style></head><body>\n<h1>{title}</h1>\n<p class=\"dim\">{machine}</p>\n\
         {verdict}{server}<h2>Latency over rate</h2>\n<div class=\"charts\">{pictures}</div>\n{table}{section}\
         <h2>Connections</h2>\n<div class=\"charts\">{connections}</div>\n{looks}{failures}{settings}</body></html>\n",
        version = env!("CARGO_PKG_VERSION"),
        title = escaped(head),
        machine = escaped(&machine(report)),
        verdict = verdict(found),
        pictures = latencies(found) + &achieved(found),
        table = table(found),
        connections = connections(report),
        server = server(found),
        looks = server::section(report),
        failures = failed(found),
        settings = settings(report),
    )
}

/// What the server used at the answer.
fn server(found: &Found) -> String {
    let (Some(trial), Some(used)) = (found.decisive(), text::server_used(&found.report)) else { return String::new() };
    format!("<p>The server at {}/s: {}</p>\n", rate_text(trial.rate_per_s), escaped(&used))
}

/// What failed in any of the trials, of each kind once.
fn failed(found: &Found) -> String {
    let mut all = found.everything();
    let first = all.stages.iter().position(|result| result.is_measured()).unwrap_or(all.stages.len());
    let trials = all.stages.split_off(first);
    if let Some((sum, others)) = trials.split_first() {
        let mut sum = sum.clone();
        others.iter().for_each(|other| sum.recorder.merge(&other.recorder));
        all.stages.push(sum);
    }
    failures(&all).replacen("<h2>Failures</h2>", "<h2>Failures, of all trials together</h2>", 1)
}

fn verdict(found: &Found) -> String {
    let (class, word) = match found.exit() {
        Exit::Failed if found.report.ending == Ending::Interrupted => ("failed", "INTERRUPTED"),
        Exit::Failed => ("failed", "FAILED"),
        Exit::Missed => ("failed", "NONE"),
        Exit::Suspect => ("suspect", "SUSPECT"),
        Exit::Ok | Exit::Worse => ("ok", "FOUND"),
    };
    let why_not = |trial: &Trial, miss| format!("At {}/s: {miss}", rate_text(trial.rate_per_s));
    let mut items: Vec<String> = Vec::new();
    items.extend(found.first_failed().into_iter().flat_map(|it| it.misses.iter().map(move |miss| why_not(it, miss))));
    items.extend(found.generator().into_iter().flatten().cloned());
    items.extend(advice::of_search(found));
    let list: String = items.iter().map(|item| format!("<li>{}</li>", escaped(item))).collect();
    let list = if list.is_empty() { list } else { format!("<ul>{list}</ul>") };
    format!("<div class=\"verdict {class}\"><b>{word}</b> {}{list}</div>\n", escaped(&found.sentence()))
}

/// The rates of the trials, on a logarithmic scale.
fn rates(points: &[(f64, f64)]) -> Axis {
    let all = || points.iter().map(|(rate, _)| *rate);
    Axis::log_to(all().fold(f64::MAX, f64::min), all().fold(1.0, f64::max), |per_s| format!("{}/s", short(per_s)))
}

/// A figure over the rates, the median of the trials at each, where they have it: of those that were `unclear`, or of the
/// others.
fn points(found: &Found, is_unclear: bool, of: impl Fn(&Trial) -> Option<f64>) -> Vec<(f64, f64)> {
    let mut trials = found.by_rate();
    trials.retain(|trial| trial.grade != Grade::BrokenOff && (trial.grade == Grade::Spoiled) == is_unclear);
    let median = |group: &[&Trial]| {
        let mut values: Vec<f64> = group.iter().filter_map(|trial| of(trial)).collect();
        values.sort_by(f64::total_cmp);
        Some((group[0].rate_per_s, *values.get(values.len() / 2)?))
    };
    let points = trials.chunk_by(|one, two| one.rate_per_s == two.rate_per_s).filter_map(median).collect::<Vec<_>>();
    match points[..] {
        // A line of one point could not be seen.
        [(rate, value)] => vec![(rate / DASH, value), (rate * DASH, value)],
        _ => points,
    }
}

/// A point that stands alone is a dash that goes so far to both sides.
const DASH: f64 = 1.03;

/// Percentiles over the rate: the knee is where the answer is.
fn latencies(found: &Found) -> String {
    if found.trials.is_empty() {
        return String::new();
    }
    let line = |percent: f64, is_unclear: bool| {
        points(found, is_unclear, |trial| match trial.reached(percent) {
            Reached::Within(ns) => Some(ns.max(1) as f64),
            Reached::TooFew | Reached::Never => None,
        })
    };
    let lines = [
        ("blue", "p99", line(99.0, false)),
        ("teal", "p50", line(50.0, false)),
        ("amber", "p99 unclear", line(99.0, true)),
    ];
    let allowed: Vec<(f64, u64)> = found.slo.percentiles().collect();
    let values = || {
        let measured = lines.iter().flat_map(|(_, _, points)| points).map(|(_, ns)| *ns);
        measured.chain(allowed.iter().map(|(_, ns)| *ns as f64))
    };
    let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(1.0, f64::max));
    let y = Axis::log(least.min(most), most, |ns| plain(ns as u64));
    let mut all = [false, true].map(|is_unclear| points(found, is_unclear, |_| Some(0.0))).concat();
    all.sort_by(|one, two| one.0.total_cmp(&two.0));
    let mut chart = Chart::new("Latency over rate", "percentiles, of several trials the median", rates(&all), y);
    for (class, name, points) in &lines {
        chart.line(class, name, points);
    }
    let (first, last) = (all.first().map_or(1.0, |it| it.0), all.last().map_or(1.0, |it| it.0));
    for (percent, ns) in allowed {
        chart.line("amber", &format!("p{percent} allowed"), &[(first, ns as f64), (last, ns as f64)]);
    }
    answer(&mut chart, found, (10f64.powf(least.min(most).log10().floor()), most));
    figure("Percentiles", chart)
}

/// What was answered over what was due: where it bends, the server gives out.
fn achieved(found: &Found) -> String {
    if found.trials.is_empty() {
        return String::new();
    }
    let answered = |trial: &Trial| Some(trial.result.recorder.answered_per_s().max(1.0));
    let [clear, unclear] = [false, true].map(|is_unclear| points(found, is_unclear, answered));
    let mut points = [clear.as_slice(), &unclear].concat();
    points.sort_by(|one, two| one.0.total_cmp(&two.0));
    let most = points.iter().map(|(due, answered)| due.max(*answered)).fold(1.0, f64::max);
    let least = points.iter().map(|(due, answered)| due.min(*answered)).fold(most, f64::min);
    let y = Axis::log_to(least, most, |per_s| format!("{}/s", short(per_s)));
    let mut chart = Chart::new("Answers a second", "over the rate that was due", rates(&points), y);
    chart.line("amber", "due", &points.iter().map(|(due, _)| (*due, *due)).collect::<Vec<_>>());
    chart.line("blue", "answered", &clear);
    chart.line("teal", "unclear", &unclear);
    answer(&mut chart, found, (least, most));
    figure("Answers a second", chart)
}

/// Where the answer is.
fn answer(chart: &mut Chart, found: &Found, (low, high): (f64, f64)) {
    if let Some(best) = found.answer.best_per_s {
        chart.line("teal", &format!("{}/s", rate_text(best)), &[(best, low), (best, high)]);
    }
}

fn table(found: &Found) -> String {
    let shown = |ns: Option<u64>| ns.map_or_else(|| "–".to_owned(), span);
    let row = |trial: &&Trial| {
        let recorder = &trial.result.recorder;
        let times = Percentiles::of(&recorder.latency);
        let cells = [
            rate_text(recorder.answered_per_s()),
            trial.time(50.0, "–"),
            trial.time(99.0, "–"),
            trial.time(99.9, "–"),
            shown(times.max_ns),
            percent(trial.error_part()),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
        let outcome = escaped(&trial.outcome());
        format!("<tr><td>{}/s</td>{cells}<td {TEXT}>{outcome}</td></tr>", rate_text(trial.rate_per_s))
    };
    let rows: String = found.by_rate().iter().map(row).collect();
    let head: String =
        ["answers/s", "p50", "p99", "p99.9", "max", "errors"].iter().map(|name| format!("<th>{name}</th>")).collect();
    let note: String = found.notes().iter().map(|note| format!("<p class=\"dim\">{}</p>\n", escaped(note))).collect();
    format!(
        "<div class=\"scroll\"><table><thead><tr><th>due</th>{head}<th {TEXT}>result</th></tr></thead><tbody>{rows}</tbody></table></div>\n{note}"
    )
}

/// A cell with words: unlike numbers they begin at the left and are broken into lines.
const TEXT: &str = "style=\"text-align:left;white-space:normal;min-width:16em;padding-left:1.5em\"";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::found::tests::found;

    #[test]
    fn a_page_has_the_picture_the_table_and_the_answer() {
        let page = render(&found(&[(500.0, true), (1000.0, true), (2000.0, false)], |_| ()));
        assert!(page.contains("Latency over rate") && page.contains("p99 allowed"), "{page}");
        assert!(page.contains("1,000/s meets p99 &lt; 2.00 ms; 2,000/s does not"), "{page}");
        assert!(page.contains("<li>At 2,000/s: p99 &lt; 2.00 ms: 50.0 ms</li>"), "{page}");
        assert_eq!(page.matches(">pass</td>").count(), 2);
        assert!(page.contains(">FAIL: p99 50.0 ms</td>") && !page.contains("unclear"), "{page}");
        assert!(page.matches("<svg").count() >= 2 && !page.contains("NaN") && !page.contains("inf\""), "{page}");
    }

    #[test]
    fn trials_at_one_rate_are_seen_and_unclear_ones_are_no_part_of_the_curve() {
        let page = render(&found(&[(1000.0, true), (1000.0, true)], |_| ()));
        let drawn = page.split("<path class=\"line blue\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(drawn.contains('L'), "{drawn}");
        assert!(!page.contains("p99 unclear"), "{page}");
        let page = render(&found(&[(1000.0, true), (2000.0, false)], |recorder| recorder.busy_part = 0.9));
        assert!(page.contains("p99 unclear") && page.contains("Failures, of all trials together"), "{page}");
    }

    #[test]
    fn a_search_without_a_trial_has_a_page_too() {
        let mut none = found(&[], |_| ());
        none.lacks_connections = true;
        assert!(render(&none).contains("FAILED"));
    }
}
