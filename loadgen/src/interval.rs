//! What several runs say together: mean, median, and how far chance may have moved them. Numbers only.

/// Figures of the same kind, one of each run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    values: Vec<f64>,
}

/// A 95 % confidence interval: in 95 of 100 cases the truth lies in it, as far as runs differ by chance alone and their
/// differences are normally distributed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    /// The lower end.
    pub(crate) low: f64,
    /// The upper end.
    pub(crate) high: f64,
}

impl Sample {
    /// Those of the runs, in any order.
    pub(crate) fn new(values: Vec<f64>) -> Sample {
        Sample { values }
    }

    /// How many runs there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Their mean; 0 where there are none.
    pub(crate) fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len().max(1) as f64
    }

    /// The one in the middle, or the mean of the two there; 0 where there are none.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => 0.0,
            len if len % 2 == 1 => sorted[len / 2],
            len => (sorted[len / 2 - 1] + sorted[len / 2]) / 2.0,
        }
    }

    /// The interval of the mean, by Student's t; `None` for fewer than two runs, which say nothing of their differences.
    pub(crate) fn interval(&self) -> Option<Interval> {
        let half = student_t(self.len().checked_sub(1)? as f64)? * self.mean_variance()?.sqrt();
        Some(Interval { low: self.mean() - half, high: self.mean() + half })
    }

    /// The interval of the geometric mean, of figures that are all above zero: of the mean of their logarithms, so that it
    /// stays above zero, too. Otherwise that of the mean.
    pub(crate) fn interval_of_ratios(&self) -> Option<Interval> {
        if self.values.iter().any(|value| *value <= 0.0) {
            return self.interval();
        }
        let logarithms = Sample::new(self.values.iter().map(|value| value.ln()).collect());
        logarithms.interval().map(|it| Interval { low: it.low.exp(), high: it.high.exp() })
    }

    /// The interval of how much the mean of `other` is above that of this, by Welch's t, which does not assume that both
    /// vary alike. `None` where one has fewer than two runs.
    pub(crate) fn difference(&self, other: &Sample) -> Option<Interval> {
        let (mine, theirs) = (self.mean_variance()?, other.mean_variance()?);
        let difference = other.mean() - self.mean();
        let part = |variance: f64, len: usize| variance * variance / (len as f64 - 1.0);
        // Where nothing varies at all the difference is what it is (Welch and Satterthwaite would divide by zero).
        let freedom = match part(mine, self.len()) + part(theirs, other.len()) {
            0.0 => return Some(Interval { low: difference, high: difference }),
            parts => (mine + theirs).powi(2) / parts,
        };
        let half = student_t(freedom)? * (mine + theirs).sqrt();
        Some(Interval { low: difference - half, high: difference + half })
    }

    /// The variance of the mean.
    fn mean_variance(&self) -> Option<f64> {
        let freedom = self.len().checked_sub(1).filter(|freedom| *freedom > 0)? as f64;
        let mean = self.mean();
        Some(self.values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / freedom / self.len() as f64)
    }
}

/// The factor that leaves 2.5 % on each side with so many degrees of freedom, rounded down to one of the table, so that it
/// is never too small. `None` below one.
fn student_t(freedom: f64) -> Option<f64> {
    STUDENT_T.iter().rev().find(|(least, _)| *least <= freedom).map(|(_, factor)| *factor)
}

/// Student's t at 97.5 %, by degrees of freedom, as every table has it.
const STUDENT_T: [(f64, f64); 20] = [
    (1.0, 12.706),
    (2.0, 4.303),
    (3.0, 3.182),
    (4.0, 2.776),
    (5.0, 2.571),
    (6.0, 2.447),
    (7.0, 2.365),
    (8.0, 2.306),
    (9.0, 2.262),
    (10.0, 2.228),
    (11.0, 2.201),
    (12.0, 2.179),
    (13.0, 2.160),
    (14.0, 2.145),
    (15.0, 2.131),
    (20.0, 2.086),
    (30.0, 2.042),
    (60.0, 2.000),
    (120.0, 1.980),
    (1e6, 1.960),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: &[f64]) -> Sample {
        Sample::new(values.to_vec())
    }

    fn close(interval: Option<Interval>, low: f64, high: f64) -> bool {
        interval.is_some_and(|it| (it.low - low).abs() < 0.01 && (it.high - high).abs() < 0.01)
    }

    #[test]
    fn means_medians_and_intervals_are_those_of_the_textbook() {
        let runs = sample(&[10.0, 14.0, 12.0, 13.0, 11.0]);
        assert_eq!((runs.mean(), runs.median()), (12.0, 12.0));
        // 12 ± 2.776 × sqrt(2.5 / 5).
        assert!(close(runs.interval(), 10.04, 13.96), "{:?}", runs.interval());
        assert_eq!(sample(&[1.0, 3.0]).median(), 2.0);
        assert_eq!((sample(&[]).mean(), sample(&[]).median(), sample(&[5.0]).interval()), (0.0, 0.0, None));
    }

    #[test]
    fn the_interval_of_ratios_never_reaches_zero() {
        let times = sample(&[100.0, 110.0, 1000.0]);
        assert!(times.interval().unwrap().low < 0.0);
        // The logarithms of these are 4.605, 4.700 and 6.908: 5.404 ± 4.303 × 0.7521.
        assert!(close(times.interval_of_ratios(), 8.74, 5658.74), "{:?}", times.interval_of_ratios());
        assert_eq!(sample(&[0.0, 2.0]).interval_of_ratios(), sample(&[0.0, 2.0]).interval());
        assert_eq!(sample(&[5.0]).interval_of_ratios(), None);
    }

    #[test]
    fn a_difference_is_welchs() {
        let (one, two) = (sample(&[10.0, 12.0, 11.0, 13.0]), sample(&[20.0, 26.0, 23.0]));
        // Means 11.5 and 23, variances of them 0.4167 and 3; 2.56 degrees of freedom, of which 2 are taken: ± 4.303 × 1.848.
        assert!(close(one.difference(&two), 11.5 - 7.954, 11.5 + 7.954), "{:?}", one.difference(&two));
        assert_eq!(one.difference(&sample(&[1.0])), None);
        let same = sample(&[3.0, 3.0]);
        assert_eq!(same.difference(&sample(&[4.0, 4.0])), Some(Interval { low: 1.0, high: 1.0 }));
    }
}
