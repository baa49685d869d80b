//! Figures of results that are read: each is held against what it can be, and named if it cannot.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::report::json::facts::CourseFacts;
use crate::report::percentiles::Percentiles;
use crate::timeline::Timeline;
use crate::times::Times;

/// Times, as [`Document`](crate::report::json::Document) has them.
#[derive(Debug, Deserialize)]
pub(super) struct TimesFacts {
    pub(super) samples: u64,
    p50_ns: Option<u64>,
    p90_ns: Option<u64>,
    p99_ns: Option<u64>,
    p99_9_ns: Option<u64>,
    p99_99_ns: Option<u64>,
    max_ns: Option<u64>,
    histogram: Option<String>,
}

impl TimesFacts {
    /// All of them, which `field` has.
    ///
    /// # Errors
    /// A sentence that begins with the field: why they are none.
    pub(super) fn times(self, field: &str) -> Result<Times, String> {
        let shown = [
            ("p50_ns", self.p50_ns),
            ("p90_ns", self.p90_ns),
            ("p99_ns", self.p99_ns),
            ("p99_9_ns", self.p99_9_ns),
            ("p99_99_ns", self.p99_99_ns),
            ("max_ns", self.max_ns),
        ];
        let known: Vec<(&str, u64)> = shown.iter().filter_map(|(name, ns)| Some((*name, (*ns)?))).collect();
        if let Some([(less, low), (more, high)]) = known.windows(2).find(|pair| pair[0].1 > pair[1].1) {
            return Err(format!("{field} has {less} {low} and {more} {high}: percentiles only rise"));
        }
        let times = self.histogram.as_deref().map(Times::decoded).transpose();
        let times = times.map_err(|why| format!("{field}.{why}"))?.unwrap_or(Times::new(u64::MAX >> 1));
        if times.len() != self.samples {
            return Err(format!("{field}.histogram has {} samples, and should have {}", times.len(), self.samples));
        }
        let rows = Percentiles::of(&times).rows();
        for ((name, ns), (_, counted)) in shown.into_iter().zip(rows) {
            if let (Some(ns), Some(counted)) = (ns, counted)
                && ns.abs_diff(counted) > counted / DIGITS_KEPT + 1
            {
                return Err(format!("{field}.{name} is {ns}, and its histogram has {counted} there"));
            }
        }
        Ok(times)
    }
}

/// What was answered when, of `samples` answers in all; an empty one where that is not told.
///
/// # Errors
/// A sentence that begins with the field.
pub(super) fn course(field: &str, facts: Option<CourseFacts>, samples: u64) -> Result<Timeline, String> {
    let Some(CourseFacts { interval_s, histograms }) = facts else { return Ok(Timeline::new(0)) };
    let interval_ns = span(field, interval_s)?.as_nanos() as u64;
    let none = || Times::new(u64::MAX >> 1);
    let decoded = |text: Option<String>| text.as_deref().map(Times::decoded).transpose().map(|it| it.unwrap_or(none()));
    let times = histograms.into_iter().map(decoded).collect::<Result<Vec<Times>, _>>();
    let times = times.map_err(|why| format!("{field}.{why}"))?;
    let counted: u128 = times.iter().map(|times| u128::from(times.len())).sum();
    if counted != u128::from(samples) {
        return Err(format!("{field} has {counted} samples, and should have {samples}"));
    }
    Timeline::of(interval_ns, times).map_err(|why| format!("{field}: {why}"))
}

/// A number that is no less than nothing.
///
/// # Errors
/// A sentence that begins with the field.
pub(super) fn finite(field: &str, number: f64) -> Result<f64, String> {
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err(format!("{field} is {number}, which cannot be")) }
}

/// A span of time, to the nanosecond.
///
/// # Errors
/// A sentence that begins with the field.
pub(super) fn span(field: &str, seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("{field} is {seconds} s, which is no span of time"))
}

/// A moment at which something was measured.
///
/// # Errors
/// A sentence that begins with the field.
pub(super) fn moment(field: &str, unix_s: f64) -> Result<SystemTime, String> {
    let since = span(field, unix_s)?;
    // Twice as far from 1970 as we are: a clock may be wrong, but not so wrong.
    if since > Duration::from_secs(4_000_000_000) {
        return Err(format!("{field} is {unix_s} s since 1970, at which nothing was measured"));
    }
    Ok(UNIX_EPOCH + since)
}

/// Histograms have three digits: what is written beside them differs by no more than one in so many.
const DIGITS_KEPT: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of times of 1 to 1,000 us, after a change.
    fn why(change: impl FnOnce(&mut TimesFacts)) -> String {
        let mut times = Times::new(u64::MAX >> 1);
        (1..=1000).for_each(|us| times.record(us * 1000));
        let of = Percentiles::of(&times);
        let mut facts = TimesFacts {
            samples: of.samples,
            p50_ns: of.p50_ns,
            p90_ns: of.p90_ns,
            p99_ns: of.p99_ns,
            p99_9_ns: of.p999_ns,
            p99_99_ns: of.p9999_ns,
            max_ns: of.max_ns,
            histogram: times.encoded(),
        };
        change(&mut facts);
        facts.times("latency").map_or_else(|why| why, |times| format!("{} samples", times.len()))
    }

    #[test]
    fn times_are_their_histogram_and_percentiles_are_those_of_it() {
        assert_eq!(why(|_| ()), "1000 samples");
        assert_eq!(why(|it| it.samples = 9), "latency.histogram has 1000 samples, and should have 9");
        assert_eq!(why(|it| it.histogram = None), "latency.histogram has 0 samples, and should have 1000");
        assert!(why(|it| it.histogram = Some("x".into())).starts_with("latency.histogram is no base64"));
        let falls = why(|it| it.p90_ns = Some(400_000));
        assert!(falls.starts_with("latency has p50_ns 50") && falls.ends_with("percentiles only rise"), "{falls}");
        assert!(
            why(|it| it.max_ns = Some(2_000_000)).starts_with("latency.max_ns is 2000000, and its histogram has 1")
        );
    }

    #[test]
    fn a_course_has_all_samples_in_intervals_that_there_are() {
        let facts = |interval_s, histograms| Some(CourseFacts { interval_s, histograms });
        let mut times = Times::new(u64::MAX >> 1);
        times.record_n(1000, 3);
        let [one, none] = [times.encoded_coarsely(), None];
        let said = |facts| course("course", facts, 6).map_or_else(|why| why, |it| it.intervals().len().to_string());
        assert_eq!(said(facts(0.25, vec![one.clone(), none.clone(), one.clone()])), "3");
        assert_eq!(said(None), "0", "older results tell nothing of it");
        assert_eq!(said(facts(0.25, vec![one.clone(), none])), "course has 3 samples, and should have 6");
        assert!(said(facts(0.3, vec![one.clone(), one.clone()])).starts_with("course: 300000000 ns is no interval"));
        assert!(said(facts(-1.0, vec![])).starts_with("course is -1 s"));
        assert!(said(facts(1.0, vec![Some("x".into())])).starts_with("course.histogram is no base64"));
    }

    #[test]
    fn no_number_and_less_than_nothing_are_named() {
        for wrong in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(finite("rate", wrong).unwrap_err().starts_with("rate is "), "{wrong}");
            assert!(span("wait_s", wrong).unwrap_err().starts_with("wait_s is "), "{wrong}");
        }
        assert!(moment("at", 1e19).unwrap_err().starts_with("at is 1"));
    }
}
