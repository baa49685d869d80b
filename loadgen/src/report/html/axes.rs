//! What the axes of a stage's pictures reach to: the same for all runs of one kind, so that one can be laid beside another.

use super::chart::Axis;
use super::{plain, short};
use crate::recorder::Recorder;
use crate::report::{Report, StageResult};
use crate::times::Times;

/// The reach of each axis. Of several runs it is that of all of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axes {
    /// The shortest and the longest time of the curves of percentiles, and how many requests the longest has.
    curve_ns: (f64, f64),
    samples: u64,
    /// The shortest and the longest time of the heat map.
    heat_ns: (f64, f64),
    /// When the last answer came.
    end_s: f64,
    most_per_s: f64,
}

impl Axes {
    /// Those of `result`, which is a stage of `report`.
    pub(super) fn of(report: &Report, result: &StageResult) -> Axes {
        let runs = report.measured().filter(|other| result.is_measured() && other.stage == result.stage);
        runs.map(Axes::of_one).fold(Axes::of_one(result), Axes::and)
    }

    /// Of one recorder's percentiles alone.
    pub(super) fn of_curves(recorder: &Recorder) -> Axes {
        let kinds = [&recorder.latency, &recorder.service, &recorder.lag, &recorder.connect, &recorder.exchange];
        let kinds = || kinds.into_iter().filter(|times| times.len() > 0);
        let least = kinds().map(|times| times.at_quantile(0.0)).filter(|ns| *ns > 0).min();
        let most = kinds().map(Times::max).max().unwrap_or(1).max(1) as f64;
        let curve_ns = (least.map_or(most, |ns| ns as f64), most);
        Axes { curve_ns, samples: recorder.latency.len(), heat_ns: curve_ns, end_s: 0.0, most_per_s: 0.0 }
    }

    fn of_one(result: &StageResult) -> Axes {
        let timeline = &result.recorder.timeline;
        let each_s = timeline.interval_ns() as f64 / 1e9;
        let times = || timeline.intervals().filter(|times| times.len() > 0);
        let least = times().map(|it| it.at_quantile(0.0)).min().unwrap_or(1).max(1) as f64;
        let rate = result.stage.arrivals().map_or(0.0, |(rate, _)| rate.from_per_s.max(rate.to_per_s));
        Axes {
            heat_ns: (least, result.recorder.latency.max() as f64),
            end_s: (result.recorder.window_ns as f64 / 1e9).max(timeline.intervals().len() as f64 * each_s),
            most_per_s: times().map(|it| it.len() as f64 / each_s).fold(rate, f64::max),
            ..Axes::of_curves(&result.recorder)
        }
    }

    fn and(self, other: Axes) -> Axes {
        let both = |one: (f64, f64), two: (f64, f64)| (one.0.min(two.0), one.1.max(two.1));
        Axes {
            curve_ns: both(self.curve_ns, other.curve_ns),
            samples: self.samples.max(other.samples),
            heat_ns: both(self.heat_ns, other.heat_ns),
            end_s: self.end_s.max(other.end_s),
            most_per_s: self.most_per_s.max(other.most_per_s),
        }
    }

    /// Percentiles, and how long those took.
    pub(super) fn curves(&self) -> (Axis, Axis) {
        let (least, most) = self.curve_ns;
        (Axis::percentiles(self.samples as f64), Axis::log(least, most, |ns| plain(ns as u64)))
    }

    /// The times of the heat map, and the powers of ten that they lie between.
    pub(super) fn heat(&self) -> (Axis, f64, f64) {
        let (least, most) = self.heat_ns;
        let low = least.log10().floor();
        (Axis::log(least, most, |ns| plain(ns as u64)), low, most.max(1.0).log10().ceil().max(low + 1.0))
    }

    /// Time since the stage began.
    pub(super) fn course(&self) -> Axis {
        Axis::linear_to(self.end_s, |s| format!("{s} s"))
    }

    /// How many a second.
    pub(super) fn per_s(&self) -> Axis {
        Axis::linear(self.most_per_s, short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{report, three_runs};

    #[test]
    fn all_runs_of_one_kind_reach_as_far_as_the_slowest_and_the_fastest() {
        let mut three = three_runs();
        three.stages[2].recorder.latency.record(70_000_000);
        three.stages[3].recorder.window_ns = 9_000_000_000;
        let [one, two, last] = [1, 2, 3].map(|index| Axes::of(&three, &three.stages[index]));
        assert!(one == two && two == last && one.end_s == 9.0 && one.curve_ns.1 > 69e6, "{one:?} {two:?} {last:?}");
        let alone = report();
        assert!(Axes::of(&alone, &alone.stages[1]).curve_ns.1 < 2e6);
        three.stages[2].is_warmup = true;
        assert!(Axes::of(&three, &three.stages[1]).curve_ns.1 < 2e6, "a warm-up is no run");
    }
}
