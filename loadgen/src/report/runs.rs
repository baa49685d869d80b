//! Several runs of the same load: each for itself, and what they say together.

use std::time::Duration;

use crate::interval::Sample;
use crate::report::percentiles::Percentiles;
use crate::report::{Ending, Report, StageResult};
use crate::stage::Stage;

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
    /// The 95 % confidence interval of the geometric mean; `None` where not every run has the figure.
    pub(crate) range: Option<[f64; 2]>,
}

impl Runs {
    /// Those of `report`; `None` where there is one, or where loops are of two kinds.
    pub(crate) fn of(report: &Report) -> Option<Runs> {
        let whole = |result: &&StageResult| is_whole(report, result);
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
            let range = sample.interval_of_ratios().filter(|_| is_whole).map(|it| [it.low, it.high]);
            let median = is_whole.then(|| sample.median());
            Row { name: column.name, values: column.values.clone(), median, range }
        })
    }
}

/// What was broken off is no run like the others.
fn is_whole(report: &Report, result: &StageResult) -> bool {
    let duration_ns = result.stage.duration().map_or(0, |duration| duration.as_nanos() as u64);
    report.ending == Ending::Complete || result.recorder.window_ns >= duration_ns
}

/// Stages whose use of the processor is one figure: one that has a duration, or all runs of one kind but one that was
/// broken off, which stands for itself. Warm-ups are none.
pub(crate) struct Timed<'a> {
    /// `closed loop`, or `closed loop, median of 3 runs`.
    pub(crate) name: String,
    results: Vec<&'a StageResult>,
}

impl Timed<'_> {
    /// Those of `report`, in order.
    pub(crate) fn of(report: &Report) -> Vec<Timed<'_>> {
        let mut groups: Vec<(Stage, bool, Timed<'_>)> = Vec::new();
        let timed = |(result, _): &(&StageResult, _)| result.stage.duration().is_some() && !result.is_warmup;
        for (result, number) in report.numbered().filter(timed) {
            let is_whole = is_whole(report, result);
            let is_same =
                |(stage, whole, _): &&mut (Stage, bool, Timed<'_>)| *stage == result.stage && *whole && is_whole;
            if let Some((_, _, timed)) = groups.iter_mut().find(is_same) {
                timed.results.push(result);
                continue;
            }
            let name = match result.stage {
                Stage::Closed { .. } => "closed loop",
                Stage::Open { .. } => "open loop",
                Stage::Churn(_) => "churn",
                _ => "held",
            };
            let name = match number {
                Some((run, 2..)) if !is_whole => format!("{name}, run {run}, which was broken off"),
                _ => name.to_owned(),
            };
            groups.push((result.stage, is_whole, Timed { name, results: vec![result] }));
        }
        for (_, _, timed) in &mut groups {
            if let runs @ 2.. = timed.results.len() {
                timed.name = format!("{}, median of {runs} runs", timed.name);
            }
        }
        groups.into_iter().map(|(_, _, timed)| timed).collect()
    }

    /// Cores that were in use, of what `used` tells the processor time; `None` where it is told of none.
    pub(crate) fn cores(&self, used: impl Fn(&StageResult) -> Option<Duration>) -> Option<f64> {
        let cores = |result: &&StageResult| Some(used(result)?.as_secs_f64() / result.elapsed.as_secs_f64().max(1e-9));
        let known: Vec<f64> = self.results.iter().filter_map(cores).collect();
        (!known.is_empty()).then(|| Sample::new(known).median())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{report, three_runs};

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
        assert!((955.0..956.0).contains(&low) && (1005.0..1006.0).contains(&high), "{low} {high}");
        assert_eq!(rows.iter().map(|row| row.name).collect::<Vec<_>>()[1..], ["p50_ns", "p90_ns", "p99_ns", "max_ns"]);
        three.stages[2].is_warmup = true;
        assert_eq!(Runs::of(&three).unwrap().count, 2, "a warm-up is none");
    }

    #[test]
    fn the_processor_of_several_runs_is_their_median_and_one_broken_off_stands_for_itself() {
        let mut three = three_runs();
        for (result, ms) in three.stages[1..].iter_mut().zip([100, 300, 900]) {
            result.recorder.cpu_time = Duration::from_millis(ms);
        }
        three.stages[3].recorder.window_ns = 900_000_000;
        let shown = |report: &Report| {
            let shown = |it: Timed<'_>| {
                format!("{} {:.1}", it.name, it.cores(|result| Some(result.recorder.cpu_time)).unwrap())
            };
            Timed::of(report).into_iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(shown(&three), ["closed loop, median of 3 runs 0.3"]);
        three.ending = Ending::Interrupted;
        assert_eq!(
            shown(&three),
            ["closed loop, median of 2 runs 0.2", "closed loop, run 3, which was broken off 0.9"]
        );
        three.stages[1].is_warmup = true;
        assert_eq!(shown(&three)[0], "closed loop 0.3");
        assert!(Timed::of(&three)[0].cores(|_| None).is_none());
    }
}
