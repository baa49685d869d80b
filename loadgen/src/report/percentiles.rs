//! The percentiles of measured times, those that its samples can bear.

use crate::times::Times;

/// Times in nanoseconds; `None` where fewer than ten samples lie beyond, too few to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Percentiles {
    /// How many samples there are.
    pub(crate) samples: u64,
    /// Half of them took no longer.
    pub(crate) p50_ns: Option<u64>,
    /// Nine in ten took no longer.
    pub(crate) p90_ns: Option<u64>,
    /// 99 in 100 took no longer.
    pub(crate) p99_ns: Option<u64>,
    /// 999 in 1,000 took no longer.
    pub(crate) p999_ns: Option<u64>,
    /// 9,999 in 10,000 took no longer.
    pub(crate) p9999_ns: Option<u64>,
    /// The longest, to three digits; `None` without samples.
    pub(crate) max_ns: Option<u64>,
}

impl Percentiles {
    /// Those of `times`.
    pub(crate) fn of(times: &Times) -> Percentiles {
        let samples = times.len();
        let at = |beyond_in: u64| {
            let quantile = 1.0 - 1.0 / beyond_in as f64;
            (samples / beyond_in >= BEYOND_MIN).then(|| times.at_quantile(quantile))
        };
        Percentiles {
            samples,
            p50_ns: at(2),
            p90_ns: at(10),
            p99_ns: at(100),
            p999_ns: at(1_000),
            p9999_ns: at(10_000),
            max_ns: (samples > 0).then(|| times.max()),
        }
    }

    /// Names and values, from the median to the longest.
    pub(crate) fn rows(&self) -> [(&'static str, Option<u64>); 6] {
        [
            ("p50", self.p50_ns),
            ("p90", self.p90_ns),
            ("p99", self.p99_ns),
            ("p99.9", self.p999_ns),
            ("p99.99", self.p9999_ns),
            ("max", self.max_ns),
        ]
    }
}

/// Samples that must lie beyond a percentile before it says something about more than those few.
const BEYOND_MIN: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn of_samples(samples: u64) -> Percentiles {
        let mut times = Times::new(60_000_000_000);
        (1..=samples).for_each(|ns| times.record(ns));
        Percentiles::of(&times)
    }

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let shown = |samples| of_samples(samples).rows().map(|(_, value)| value.is_some());
        assert_eq!(shown(0), [false; 6]);
        assert_eq!(shown(19), [false, false, false, false, false, true]);
        assert_eq!(shown(20), [true, false, false, false, false, true]);
        assert_eq!(shown(999), [true, true, false, false, false, true]);
        assert_eq!(shown(1_000), [true, true, true, false, false, true]);
        assert_eq!(shown(100_000), [true; 6]);
    }

    #[test]
    fn values_are_those_of_the_ranks() {
        let percentiles = of_samples(1_000);
        assert_eq!((percentiles.p50_ns, percentiles.p90_ns, percentiles.p99_ns), (Some(500), Some(900), Some(990)));
        assert_eq!((percentiles.max_ns, percentiles.samples), (Some(1_000), 1_000));
    }
}
