//! The run over time as a table for spreadsheets: one row for each interval of each stage in which something was answered.

pub(crate) mod search;

use std::fmt::Write;

use crate::report::Report;
use crate::report::percentiles::Percentiles;

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
            let _ = writeln!(text, ",{run}");
        }
    }
    text
}

const COLUMNS: &str = "stage,begin_s,interval_s,answered,answered_per_s,latency_p50_ns,latency_p90_ns,latency_p99_ns,\
                       latency_p99_9_ns,latency_p99_99_ns,latency_max_ns,run";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{report, three_runs};

    #[test]
    fn each_row_has_a_field_for_each_column() {
        let mut report = report();
        let timeline = &mut report.stages[1].recorder.timeline;
        (0..1000).for_each(|ms| timeline.record(ms * 1_000_000, u64::MAX, 5_000));
        timeline.close();
        let text = render(&report);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert!(rows.len() == 5 && rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
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
        let last: Vec<&str> = text.lines().map(|line| line.rsplit(',').next().unwrap()).collect();
        assert_eq!(last, ["run", "1", "2", "3"]);
    }
}
