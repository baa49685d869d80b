//! The run over time as a table for spreadsheets: one row for each interval of each stage in which something was answered, and
//! behind them one for each second in which something happened to connections.

pub(crate) mod search;

use std::fmt::Write;

use crate::recorder::total;
use crate::report::Report;
use crate::report::percentiles::Percentiles;
use crate::series::Part;

/// The rows of `report`, under a line that names their columns; an empty field where samples are too few to tell. Answers
/// that came after the window stand in a row of no length. Runs are numbered from 1; other stages have no number.
pub(crate) fn render(report: &Report) -> String {
    let mut text = format!("{COLUMNS}\n");
    let shown = report.numbered().filter(|(result, _)| result.recorder.answered > 0 && !result.is_warmup);
    for (result, number) in shown {
        let run = number.map_or_else(String::new, |(run, _)| run.to_string());
        let timeline = &result.recorder.timeline;
        let seconds = timeline.interval_ns() as f64 / 1e9;
        for (index, times) in timeline.intervals().enumerate() {
            let (from_s, window_s) = (index as f64 * seconds, result.recorder.window_ns as f64 / 1e9);
            let (begin_s, answered) = (result.begun_after.as_secs_f64() + from_s, times.len());
            // The window's end may cut the last one short; behind it there is no time to hold answers against.
            let length_s = (window_s - from_s).clamp(0.0, seconds);
            let rate = if length_s > 0.0 { format!("{:.1}", answered as f64 / length_s) } else { String::new() };
            // Writing to a string cannot fail.
            let _ = write!(text, "{},{begin_s:.3},{length_s:.3},{answered},{rate}", result.stage.name());
            for (_, value) in Percentiles::of(&times).rows() {
                let _ = write!(text, ",{}", value.map_or_else(String::new, |ns| ns.to_string()));
            }
            let _ = writeln!(text, ",{run},,,,,,");
        }
    }
    text + &connections(report)
}

/// Seconds of the whole run, whatever its stages were.
fn connections(report: &Report) -> String {
    let row = |(second, what, open): (u64, Part, u64)| {
        let (failed, lost) = (total(&what.failed), total(&what.lost));
        let answers = ",".repeat(COLUMNS_OF_ANSWERS);
        let Part { attempted, established, ended, .. } = what;
        format!("connections,{second}.000,1.000{answers},{attempted},{established},{failed},{lost},{ended},{open}\n")
    };
    report.series().seconds().into_iter().map(row).collect()
}

const COLUMNS: &str = "stage,begin_s,interval_s,answered,answered_per_s,latency_p50_ns,latency_p90_ns,latency_p99_ns,\
                       latency_p99_9_ns,latency_p99_99_ns,latency_max_ns,run,\
                       attempted,established,failed,lost,ended,open";

/// From `answered` to `run`: empty where a row is about connections.
const COLUMNS_OF_ANSWERS: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Act, Failure, Kind};
    use crate::report::tests::{report, three_runs};
    use crate::series::Series;

    #[test]
    fn each_row_has_a_field_for_each_column() {
        let mut report = report();
        let timeline = &mut report.stages[1].recorder.timeline;
        (0..1000).for_each(|ms| timeline.record(ms * 1_000_000, u64::MAX, 5_000));
        timeline.close();
        let text = render(&report);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert!(rows.len() >= 5 && rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
        assert_eq!(rows[2][..5], ["closed", "0.250", "0.250", "250", "1000.0"]);
        assert_eq!(rows[2][8..10], ["", ""], "250 samples are too few for 99.9 %");
    }

    #[test]
    fn each_run_has_its_number() {
        let mut three = three_runs();
        for result in &mut three.stages[1..] {
            result.recorder.timeline.record(0, u64::MAX, 1000);
            result.recorder.timeline.close();
        }
        let text = render(&three);
        let last: Vec<&str> = text.lines().map(|line| line.split(',').nth(11).unwrap()).collect();
        assert_eq!(last[..4], ["run", "1", "2", "3"]);
    }

    #[test]
    fn connections_are_told_second_by_second() {
        let mut report = report();
        let series = &mut report.stages[0].recorder.series;
        *series = Series::default();
        (0..3).for_each(|_| series.note_established(0));
        series.note_lost(2_000_000_000, Failure::new(Act::Idle, Kind::Reset));
        let text = render(&report);
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("connections,")).collect();
        assert_eq!(
            rows,
            ["connections,0.000,1.000,,,,,,,,,,0,3,0,0,0,3", "connections,2.000,1.000,,,,,,,,,,0,0,0,1,0,2"]
        );
        assert!(text.lines().all(|line| line.split(',').count() == 18), "{text}");
    }
}
