//! Several runs on a page: what they say together, and each run's figures.

use super::axes::Axes;
use super::chart::Chart;
use super::{curve, figure};
use crate::interval::Sample;
use crate::quantity::{rate_text, span};
use crate::report::Report;
use crate::report::runs::{Row, Runs};

/// A table of the runs of `report`; nothing where there are not several.
pub(super) fn summary(report: &Report) -> String {
    let Some(runs) = Runs::of(report) else { return String::new() };
    let figures: Vec<Row> = runs.rows().collect();
    let head: String = figures.iter().map(|figure| format!("<th>{}</th>", name(figure))).collect();
    let line = |class: &str, name: &str, value: &dyn Fn(&Row) -> Option<String>| {
        let cells = figures.iter().map(|figure| value(figure).unwrap_or_else(|| "–".to_owned()));
        let cells: String = cells.map(|value| format!("<td>{value}</td>")).collect();
        format!("<tr{class}><td>{name}</td>{cells}</tr>")
    };
    let mut rows = line(" class=\"sum\"", "median", &|figure| figure.median.map(|value| shown(figure, value)));
    for (end, name) in ["from", "to"].into_iter().enumerate() {
        rows += &line("", &format!("95 % interval of the mean, {name}"), &|figure| {
            figure.range.map(|range| shown(figure, range[end]))
        });
    }
    for run in 0..runs.count {
        rows += &line("", &format!("run {}", run + 1), &|figure| figure.values[run].map(|value| shown(figure, value)));
    }
    format!(
        "<h2>{} runs</h2>\n<div class=\"scroll\"><table class=\"runs\"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody>\
         </table></div>\n<div class=\"charts\">{}</div>\n",
        runs.count,
        overlaid(report)
    )
}

/// The percentiles of all runs, one over the other, and the median of them at each.
fn overlaid(report: &Report) -> String {
    let Some(last) = report.measured().next_back() else { return String::new() };
    let curves: Vec<_> = report.measured().map(|run| curve(&run.recorder.latency)).collect();
    let (x, y) = Axes::of(report, last).curves();
    let mut chart = Chart::new("Latency by percentile, all runs", "each run, and the median of the runs", x, y);
    for (index, points) in curves.iter().enumerate() {
        chart.line("thin", if index == 0 { "a run" } else { "" }, points);
    }
    // As far as all of them reach.
    let reach = curves.iter().map(Vec::len).min().unwrap_or(0);
    let median = (0..reach).map(|step| {
        let times = Sample::new(curves.iter().map(|points| points[step].1).collect());
        (curves[0][step].0, times.median())
    });
    chart.line("blue bold", "median", &median.collect::<Vec<_>>());
    figure("Latency by percentile, all runs", chart)
}

fn name(figure: &Row) -> String {
    match figure.name.strip_suffix("_ns") {
        Some(name) => name.replace('_', "."),
        None => "answers/s".to_owned(),
    }
}

fn shown(figure: &Row, value: f64) -> String {
    if figure.name.ends_with("_ns") { span(value as u64) } else { rate_text(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{report, three_runs};

    #[test]
    fn runs_stand_below_their_median_and_interval() {
        assert_eq!(summary(&report()), "");
        let table = summary(&three_runs());
        assert!(table.contains("<th>answers/s</th><th>p50</th>"), "{table}");
        assert!(table.contains("<td>median</td><td>980</td><td>500 us</td>"), "{table}");
        assert!(table.contains("<td>95 % interval of the mean, from</td><td>955</td>"), "{table}");
        assert!(table.contains("<td>95 % interval of the mean, to</td><td>1,005</td>"), "{table}");
        assert_eq!((table.matches("line thin").count(), table.matches("line blue bold").count()), (3, 1), "{table}");
        assert!(table.contains("<td>run 3</td><td>970</td>") && table.matches("<tr").count() == 7, "{table}");
    }
}
