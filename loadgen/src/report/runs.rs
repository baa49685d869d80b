//! Several runs of the same load: each for itself, and what they say together.

use crate::interval::Sample;
use crate::report::percentiles::Percentiles;
use crate::report::{Ending, Report, StageResult};

/// The runs of a report that has more than one of the same kind.
pub(crate) struct Runs {
    /// How many.
    pub(crate) count: usize,
    columns: Vec<Column>,
}

/// One figure, in each run that has it.
struct Column {
    name: &'static str,
    values: Vec<Option<f64>>,
}

/// One figure over all runs.
pub(crate) struct Row {
    /// `answered_per_s`, `p50_ns` and so on.
    pub(crate) name: &'static str,
    /// In each run; `None` where there were too few samples.
    pub(crate) values: Vec<Option<f64>>,
    /// The median; `None`, too, where not every run has the figure: those that lack it may be the slowest.
    pub(crate) median: Option<f64>,
    /// The 95 % confidence interval of the mean; `None` where not every run has the figure.
    pub(crate) range: Option<[f64; 2]>,
}

impl Runs {
    /// Those of `report`; `None` where there is one, or where loops are of two kinds.
    pub(crate) fn of(report: &Report) -> Option<Runs> {
        // What was broken off is no run like the others.
        let whole = |result: &&StageResult| {
            let duration_ns = result.stage.duration().map_or(0, |duration| duration.as_nanos() as u64);
            report.ending == Ending::Complete || result.recorder.window_ns >= duration_ns
        };
        let mut measured = report.measured().filter(whole);
        let first = measured.next()?.stage;
        let (count, is_one_kind) = (measured.clone().count() + 1, measured.all(|result| result.stage == first));
        if count < 2 || !is_one_kind {
            return None;
        }
        let names = ["p50_ns", "p90_ns", "p99_ns", "p99_9_ns", "p99_99_ns", "max_ns"];
        let rates = report.measured().filter(whole).map(|result| Some(result.recorder.answered_per_s())).collect();
        let mut columns = vec![Column { name: "answered_per_s", values: rates }];
        for (index, name) in names.into_iter().enumerate() {
            let value = |latency: Percentiles| latency.rows()[index].1.map(|ns| ns as f64);
            let values = report
                .measured()
                .filter(whole)
                .map(|result| value(Percentiles::of(&result.recorder.latency)))
                .collect();
            columns.push(Column { name, values });
        }
        Some(Runs { count, columns })
    }

    /// Each figure that some run has.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> {
        self.columns.iter().filter(|column| column.values.iter().any(Option::is_some)).map(|column| {
            let known: Vec<f64> = column.values.iter().copied().flatten().collect();
            let is_whole = known.len() == self.count;
            let sample = Sample::new(known);
            let range = sample.interval().filter(|_| is_whole).map(|it| [it.low, it.high]);
            let median = is_whole.then(|| sample.median());
            Row { name: column.name, values: column.values.clone(), median, range }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn several_runs_have_a_median_and_an_interval_and_one_has_none() {
        assert!(Runs::of(&report()).is_none());
        let mut three = report();
        for answered in [970, 980] {
            let mut run = three.stages[1].clone();
            run.recorder.answered_in_window = answered;
            three.stages.push(run);
        }
        let runs = Runs::of(&three).unwrap();
        let rows: Vec<Row> = runs.rows().collect();
        assert_eq!((runs.count, rows[0].name, rows[0].median), (3, "answered_per_s", Some(980.0)));
        let [low, high] = rows[0].range.unwrap();
        assert!((955.0..956.0).contains(&low) && (1004.0..1005.0).contains(&high), "{low} {high}");
        assert_eq!(rows.iter().map(|row| row.name).collect::<Vec<_>>()[1..], ["p50_ns", "p90_ns", "p99_ns", "max_ns"]);
        three.stages[2].is_warmup = true;
        assert_eq!(Runs::of(&three).unwrap().count, 2, "a warm-up is none");
    }
}
