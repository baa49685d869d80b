//! The table of a stage's latencies, with the times beside them that explain them, and a picture.

use std::fmt::{self, Formatter};

use super::shown;
use crate::quantity::{count, span};
use crate::report::StageResult;
use crate::report::percentiles::Percentiles;
use crate::stage::Stage;

/// The table of `result` in lines of at most `columns`.
pub(super) fn latencies(f: &mut Formatter<'_>, result: &StageResult, columns: usize) -> fmt::Result {
    let recorder = &result.recorder;
    let latency = Percentiles::of(&recorder.latency);
    let mut numbers = match result.stage {
        Stage::Churn(_) => vec![
            ("whole", latency),
            ("connect", Percentiles::of(&recorder.connect)),
            ("exchange", Percentiles::of(&recorder.exchange)),
        ],
        Stage::Open { .. } => vec![("latency", latency), ("service", Percentiles::of(&recorder.service))],
        _ => vec![("latency", latency)],
    };
    if result.stage.arrivals().is_some() {
        numbers.push(("send lag", Percentiles::of(&recorder.lag)));
    }
    // Where not even the numbers have room they stand closer, and the picture is left out.
    let width = TABLE_NAME_COLUMNS + numbers.len() * TABLE_CELL_COLUMNS;
    let (gap, name_columns) = if width > columns { ("", 7) } else { (" ", 8) };
    let line = |name: &str, cell: &dyn Fn(&(&str, Percentiles)) -> String, picture: &str| {
        let cells: String = numbers.iter().map(|column| format!("{:>10}{gap}", cell(column))).collect();
        format!("  {name:<name_columns$}{cells} {picture}").trim_end().to_owned()
    };
    let scale = Scale::of(&latency, columns.saturating_sub(width + 1));
    writeln!(f, "{}", line("", &|(name, _)| (*name).to_owned(), &scale.caption()))?;
    for (index, (name, value)) in latency.rows().into_iter().enumerate() {
        writeln!(f, "{}", line(name, &|(_, times)| shown(times.rows()[index].1), &scale.bar(value)))?;
    }
    writeln!(f, "{}", line("samples", &|(_, times)| count(times.samples), ""))?;
    let has_gap = numbers.iter().any(|(_, times)| times.rows().iter().any(|(_, ns)| ns.is_none()));
    if has_gap { writeln!(f, "  -: too few samples, fewer than ten beyond it") } else { Ok(()) }
}

/// A logarithmic scale from the power of ten below the median to the one above the longest.
struct Scale {
    low: i32,
    high: i32,
    /// How long the longest bar is.
    columns: usize,
}

impl Scale {
    /// One for `latency`, with `room` columns for its picture.
    fn of(latency: &Percentiles, room: usize) -> Scale {
        let exponent = |ns: u64| (ns.max(1) as f64).log10();
        let longest = latency.max_ns.unwrap_or(1);
        let low = exponent(latency.p50_ns.unwrap_or(longest)).floor() as i32;
        let columns = if room < BAR_COLUMNS_MIN { 0 } else { room.min(BAR_COLUMNS) };
        Scale { low, high: (exponent(longest).ceil() as i32).max(low + 1), columns }
    }

    /// What it spans, as far as there is room for that.
    fn caption(&self) -> String {
        let (low, high) = (span(10u64.pow(self.low as u32)), span(10u64.pow(self.high as u32)));
        // Powers of ten read better without their decimals.
        let plain = |text: String| text.replace(".00", "").replace(".0", "");
        let short = format!("{} … {}", plain(low), plain(high));
        let candidates = [format!("{short}, logarithmic"), short];
        candidates.into_iter().find(|text| text.chars().count() <= self.columns).unwrap_or_default()
    }

    fn bar(&self, value: Option<u64>) -> String {
        let Some(ns) = value.filter(|_| self.columns > 0) else { return String::new() };
        let part = ((ns.max(1) as f64).log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        let eighths = (part.clamp(0.0, 1.0) * self.columns as f64 * 8.0).round() as usize;
        let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
        // Even the shortest leaves a trace.
        format!("{}{}", "█".repeat(eighths / 8), if eighths == 0 { "▏" } else { rest })
    }
}

/// The longest bar of the picture: with three columns of numbers the line still fits a terminal of 80.
const BAR_COLUMNS: usize = 32;

/// A shorter one tells nothing.
const BAR_COLUMNS_MIN: usize = 8;

/// Columns of the percentiles' names, and of each of the numbers with the blank behind it.
const TABLE_NAME_COLUMNS: usize = 10;
const TABLE_CELL_COLUMNS: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_with_the_logarithm() {
        let scale = Scale { low: 3, high: 5, columns: 32 };
        let columns = |ns| scale.bar(Some(ns)).chars().count();
        assert_eq!([columns(1_000), columns(10_000), columns(100_000)], [1, 16, 32]);
        assert_eq!(scale.caption(), "1 us … 100 us, logarithmic");
        assert_eq!(scale.bar(None), "");
    }
}
