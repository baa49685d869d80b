//! A search as a table for spreadsheets: one row for each trial, in the order in which they were run.

use std::fmt::Write;

use crate::report::percentiles::Percentiles;
use crate::search::found::Found;

/// The rows of `found`, under a line that names their columns; an empty field where samples are too few to tell.
pub(crate) fn render(found: &Found) -> String {
    let mut text = format!("{COLUMNS}\n");
    for trial in &found.trials {
        let (result, recorder) = (&trial.result, &trial.result.recorder);
        let (begin_s, window_s) = (result.begun_after.as_secs_f64(), recorder.window_ns as f64 / 1e9);
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{},{},{},{},{begin_s:.3},{window_s:.3},{},{:.1},{}",
            trial.number,
            trial.rate_per_s,
            trial.is_passed(),
            !trial.generator.is_empty(),
            recorder.answered,
            recorder.answered_per_s(),
            trial.error_part()
        );
        for (_, value) in Percentiles::of(&recorder.latency).rows() {
            let _ = write!(text, ",{}", value.map_or_else(String::new, |ns| ns.to_string()));
        }
        let _ = writeln!(text, ",{},{}", trial.word(), quoted(&trial.why.join("; ")));
    }
    text
}

/// As RFC 4180 has a field that may hold commas; an empty one stays so.
fn quoted(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
}

const COLUMNS: &str = "trial,rate_per_s,is_passed,is_generator,begin_s,window_s,answered,answered_per_s,error_part,\
                       latency_p50_ns,latency_p90_ns,latency_p99_ns,latency_p99_9_ns,latency_p99_99_ns,latency_max_ns,\
                       result,why";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::found::tests::found;

    #[test]
    fn each_trial_is_a_row_with_a_field_for_each_column() {
        let text = render(&found(&[(1000.0, true), (2000.0, false)], |_| ()));
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert!(rows.len() == 3 && rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
        assert_eq!((rows[1][..4].to_vec(), rows[2][2]), (vec!["1", "1000", "true", "false"], "false"));
        assert_eq!((&rows[1][15..], &rows[2][15..]), (&["pass", ""][..], &["FAIL", "\"p99 50.0 ms\""][..]));
        assert_eq!(quoted("1,000 failed; so"), "\"1,000 failed; so\"");
    }
}
