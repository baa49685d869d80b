//! HdrHistogram's percentile text, which its plotters read: the latencies of all runs together, in milliseconds.

use std::fmt::Write;

use crate::report::Report;

/// The percentiles of `report`, in five steps for each halving of what lies beyond.
pub(crate) fn render(report: &Report) -> String {
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let latencies = report.latencies();
    let Some(histogram) = latencies.as_histogram() else { return text };
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += step.count_since_last_iteration();
        let (value_ms, quantile) = (step.value_iterated_to() as f64 / NS_PER_MS, step.quantile_iterated_to());
        // Writing to a string cannot fail.
        let _ = match 1.0 - quantile {
            beyond if beyond > 0.0 => {
                writeln!(text, "{value_ms:>12.6} {quantile:>2.12} {total:>10} {:>14.2}", 1.0 / beyond)
            }
            _ => writeln!(text, "{value_ms:>12.6} {quantile:>2.12} {total:>10}"),
        };
    }
    let in_ms = |ns: f64| ns / NS_PER_MS;
    let (mean, deviation) = (in_ms(histogram.mean()), in_ms(histogram.stdev()));
    let _ = writeln!(text, "#[Mean    = {mean:>12.6}, StdDeviation   = {deviation:>12.6}]");
    let (max, len) = (in_ms(histogram.max() as f64), histogram.len());
    let _ = writeln!(text, "#[Max     = {max:>12.6}, Total count    = {len:>12}]");
    let _ = writeln!(text, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", histogram.buckets(), SUB_BUCKETS);
    text
}

/// As HdrHistogram's own tools have it.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Of a histogram with three digits.
const SUB_BUCKETS: u32 = 2048;

const NS_PER_MS: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{report, three_runs};

    #[test]
    fn each_line_has_its_value_its_part_and_its_count() {
        let text = render(&report());
        let lines: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert_eq!(lines[0][..2], [0.001, 0.0]);
        assert!(lines.iter().any(|line| line[1] == 0.5 && (line[0] - 0.5).abs() < 0.001 && line[2] == 500.0), "{text}");
        assert_eq!(lines.last().unwrap()[1..], [1.0, 1000.0]);
        assert!(lines.is_sorted_by(|one, two| one[2] <= two[2]));
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }

    #[test]
    fn runs_are_added() {
        assert!(render(&three_runs()).contains("Total count    =         3000]"), "{}", render(&three_runs()));
    }
}
