//! The table: rows of samples, shown as ratios to the least loop of the same round, medians with their spread.

use crate::server::Contender;

/// How a figure is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    PerSecond,
    Bytes,
    Instructions,
    Calls,
}

/// What a row shows of each server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// As a ratio to the least loop.
    Ratio,
    /// As it is, because the least loop's is next to nothing.
    Figure,
}

#[derive(Debug, Clone)]
pub(crate) struct Row {
    label: String,
    unit: Unit,
    show: Show,
    /// For each contender, one sample a round, `None` where it failed.
    samples: Vec<Vec<Option<f64>>>,
}

impl Row {
    pub(crate) fn new(label: impl Into<String>, unit: Unit, show: Show, contenders: usize) -> Row {
        Row { label: label.into(), unit, show, samples: vec![Vec::new(); contenders] }
    }

    pub(crate) fn add(&mut self, contender: usize, sample: Option<f64>) {
        self.samples[contender].push(sample);
    }

    /// A contender's samples as they are shown. Each is held against the least loop of its own round: what slows the
    /// machine for a while slows both.
    fn shown(&self, contender: usize) -> Vec<f64> {
        let of = |sample: &Option<f64>, least: &Option<f64>| match self.show {
            Show::Figure => *sample,
            Show::Ratio => (*sample).zip(*least).map(|(sample, least)| sample / least),
        };
        let pairs = self.samples[contender].iter().zip(&self.samples[0]);
        sorted(pairs.filter_map(|(sample, least)| of(sample, least)).collect())
    }

    fn cell(&self, contender: usize) -> String {
        let shown = self.shown(contender);
        let Some(middle) = median(&shown) else { return "–".to_owned() };
        let write = |value: f64| match self.show {
            Show::Ratio => format!("{value:.2}"),
            Show::Figure => figure(value, self.unit),
        };
        let (low, high) = (write(shown[0]), write(shown[shown.len() - 1]));
        if low == high { write(middle) } else { format!("{} ({low}–{high})", write(middle)) }
    }

    fn markdown(&self) -> String {
        let least = median(&sorted(self.samples[0].iter().flatten().copied().collect()));
        let least = least.map_or_else(|| "–".to_owned(), |value| figure(value, self.unit));
        let others = (1..self.samples.len()).map(|contender| self.cell(contender));
        let cells: Vec<String> = [self.label.clone(), least].into_iter().chain(others).collect();
        format!("| {} |", cells.join(" | "))
    }

    /// Who does better than the contender at `ours` by more than the noise, the least loop aside.
    fn better_than(&self, ours: usize, contenders: &[Contender]) -> Option<String> {
        let mine = median(&self.shown(ours))?;
        let noise = self.noise();
        let lead = |other: f64| if self.unit == Unit::PerSecond { other - mine } else { mine - other };
        let rivals = contenders.iter().enumerate().filter(|(_, rival)| rival.package.is_some());
        let ahead: Vec<&str> = rivals
            .filter(|(index, _)| median(&self.shown(*index)).is_some_and(|other| lead(other) > noise))
            .map(|(_, rival)| rival.title)
            .collect();
        (!ahead.is_empty()).then(|| format!("{} ({})", self.label, ahead.join(" and ")))
    }

    /// By how much the least loop differs from itself, or less than what is shown.
    fn noise(&self) -> f64 {
        let again = median(&self.shown(1)).filter(|_| self.show == Show::Ratio);
        again.map_or(0.0, |again| (again - 1.0).abs()).max(0.005)
    }
}

/// The table in Markdown; the least loop's column holds figures, all others what their row shows.
pub(crate) fn markdown(rows: &[Row], contenders: &[Contender]) -> String {
    let titles: Vec<&str> = contenders.iter().map(|contender| contender.title).collect();
    let mut lines = vec![format!("| | {} |", titles.join(" | ")), format!("|---|{}", "---:|".repeat(titles.len()))];
    lines.extend(rows.iter().map(Row::markdown));
    lines.join("\n")
}

/// The rows in which another library does better than esockets; the least loop comes first and second.
pub(crate) fn losses(rows: &[Row], contenders: &[Contender]) -> Vec<String> {
    let Some(ours) = contenders.iter().position(|contender| contender.name == "esockets") else { return Vec::new() };
    rows.iter().filter_map(|row| row.better_than(ours, contenders)).collect()
}

fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Nanoseconds => format!("{:.2} µs", value / 1000.0),
        Unit::PerSecond => format!("{} /s", thousands(value)),
        Unit::Bytes => format!("{} B", thousands(value)),
        Unit::Instructions => thousands(value),
        // Plus zero: no negative zero is shown.
        Unit::Calls => format!("{:.2}", (value * 100.0).round() / 100.0 + 0.0),
    }
}

/// A whole number with its thousands marked.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The median of `values`, in whatever order; no number if there are none.
pub(crate) fn middle(values: impl IntoIterator<Item = f64>) -> f64 {
    median(&sorted(values.into_iter().collect())).unwrap_or(f64::NAN)
}

/// Of sorted values.
fn median(values: &[f64]) -> Option<f64> {
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length.is_multiple_of(2) => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(show: Show, unit: Unit, samples: &[&[f64]]) -> Row {
        let mut row = Row::new("what", unit, show, samples.len());
        for (contender, samples) in samples.iter().enumerate() {
            samples.iter().for_each(|sample| row.add(contender, Some(*sample)));
        }
        row
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let row = row(Show::Ratio, Unit::Nanoseconds, &[&[1000.0, 2000.0, 4000.0], &[1100.0, 1800.0, 4000.0]]);
        assert_eq!(row.markdown(), "| what | 2.00 µs | 1.00 (0.90–1.10) |");
    }

    #[test]
    fn a_failure_costs_its_own_round_only() {
        let mut row = row(Show::Ratio, Unit::PerSecond, &[&[10.0, 20.0], &[20.0]]);
        row.add(1, None);
        assert_eq!(row.markdown(), "| what | 15 /s | 2.00 |");
    }

    #[test]
    fn figures_are_shown_as_they_are() {
        assert_eq!(row(Show::Figure, Unit::Bytes, &[&[0.0], &[4864.4]]).markdown(), "| what | 0 B | 4,864 B |");
    }

    const FOUR: [Contender; 4] = [
        Contender { title: "least", name: "least", package: None },
        Contender { title: "least again", name: "least", package: None },
        Contender { title: "esockets", name: "esockets", package: None },
        Contender { title: "another", name: "another", package: Some("another") },
    ];

    #[test]
    fn losses_name_the_winner() {
        let dearer = row(Show::Ratio, Unit::Nanoseconds, &[&[1.0], &[1.0], &[1.2], &[1.1]]);
        let faster = row(Show::Ratio, Unit::PerSecond, &[&[1.0], &[1.0], &[1.2], &[1.1]]);
        assert_eq!(losses(&[dearer, faster], &FOUR), ["what (another)"]);
    }

    #[test]
    fn what_is_within_the_noise_is_no_loss() {
        let noisy = row(Show::Ratio, Unit::Nanoseconds, &[&[1.0], &[1.15], &[1.2], &[1.1]]);
        assert!(losses(&[noisy], &FOUR).is_empty());
    }
}
