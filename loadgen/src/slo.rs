//! What a run has to keep to: conditions on its latencies, its failures and its rate.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use crate::quantity::{parse_duration, parse_rate, rate_text, span};
use crate::recorder::{Recorder, total};
use crate::times::Times;

/// Conditions that have to hold together, such as `p99<2ms,err<0.01%`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slo {
    conditions: Vec<Condition>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Condition {
    /// So many percent of the requests are answered within so many nanoseconds; of an open loop, from when they were due.
    Percentile { percent: f64, below_ns: u64 },
    /// All answers come within so many nanoseconds.
    Max { below_ns: u64 },
    /// Less than this part of the requests fails or stays unanswered; of a hold, less than this part of the connections
    /// is lost, or never opened.
    Errors { below: f64 },
    /// More than so many answers come a second.
    Rate { above_per_s: f64 },
}

/// What became of one condition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// The condition, as it was written.
    pub(crate) condition: String,
    /// What was measured; `None` where fewer than ten samples lie beyond the percentile.
    pub(crate) measured: Option<String>,
    /// Whether it was kept to; not, where it could not be measured.
    pub(crate) is_met: bool,
    /// How much of what is allowed was taken: beyond 1, it was missed.
    taken: f64,
    /// Of how many runs it was the worst; `None` where there was one.
    pub(crate) worst_of: Option<usize>,
}

impl Outcome {
    /// Whether it was not kept to: where it could not be measured, nobody knows.
    pub(crate) fn is_missed(&self) -> bool {
        !self.is_met && self.measured.is_some()
    }

    /// What was measured, in words; of several runs that of the worst.
    pub(crate) fn words(&self) -> String {
        let measured = self.measured.as_deref().unwrap_or("too few samples to tell");
        match self.worst_of {
            Some(runs) => format!("{measured}, in the worst of {runs} runs"),
            None => measured.to_owned(),
        }
    }

    /// Whether it is worse than what became of the same condition in another run: a miss is worse than not to know.
    pub(crate) fn is_worse_than(&self, other: &Outcome) -> bool {
        let rank = |it: &Outcome| (it.is_missed(), !it.is_met, it.taken);
        rank(self) > rank(other)
    }
}

impl Slo {
    /// What became of each condition in what `recorder` saw. `held` is how many connections were to be held, where it was
    /// not requests that were asked for: failures are held against those then, since the more often each connection
    /// echoes, the less one that is lost would weigh.
    pub(crate) fn judge(&self, recorder: &Recorder, held: Option<u64>) -> Vec<Outcome> {
        self.conditions.iter().map(|condition| condition.judge(recorder, held)).collect()
    }

    /// Whether one of them asks for a rate.
    pub(crate) fn asks_for_rate(&self) -> bool {
        self.conditions.iter().any(|condition| matches!(condition, Condition::Rate { .. }))
    }

    /// How many samples it takes to judge all of them.
    pub(crate) fn samples_min(&self) -> f64 {
        let needed = self.conditions.iter().map(|condition| match condition {
            Condition::Percentile { percent, .. } => BEYOND_MIN * 100.0 / (100.0 - percent),
            _ => 1.0,
        });
        needed.fold(1.0, f64::max)
    }

    /// The longest time that one of them allows, in nanoseconds; 0 where none is about time.
    pub(crate) fn longest_ns(&self) -> u64 {
        let allowed = self.conditions.iter().map(|condition| match condition {
            Condition::Percentile { below_ns, .. } | Condition::Max { below_ns } => *below_ns,
            _ => 0,
        });
        allowed.max().unwrap_or(0)
    }

    /// The percentiles of its conditions, in percent, with the nanoseconds that they have to stay below.
    pub(crate) fn percentiles(&self) -> impl Iterator<Item = (f64, u64)> {
        self.conditions.iter().filter_map(|condition| match condition {
            Condition::Percentile { percent, below_ns } => Some((*percent, *below_ns)),
            _ => None,
        })
    }

    /// Whether failures are judged by it: then they are no reason by themselves to call a run failed.
    pub(crate) fn allows_errors(&self) -> bool {
        self.of_errors().next().is_some()
    }

    /// Whether no more has failed than its conditions allow: nothing, where none of them is about that.
    pub(crate) fn bears_errors(&self, recorder: &Recorder) -> bool {
        match self.allows_errors() {
            true => self.of_errors().all(|condition| condition.judge(recorder, None).is_met),
            false => recorder.failed() == 0,
        }
    }

    fn of_errors(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.iter().filter(|condition| matches!(condition, Condition::Errors { .. }))
    }
}

impl Condition {
    fn judge(&self, recorder: &Recorder, held: Option<u64>) -> Outcome {
        let times = &recorder.latency;
        let (measured, is_met, taken) = match *self {
            Condition::Percentile { percent, below_ns } => match Reached::of(times, recorder.missing(false), percent) {
                Reached::TooFew => (None, false, 0.0),
                Reached::Never => (Some(NEVER.to_owned()), false, f64::INFINITY),
                Reached::Within(ns) => (Some(apart(ns, below_ns)), ns < below_ns, ns as f64 / below_ns as f64),
            },
            Condition::Max { .. } if recorder.missing(false) > 0 => (Some(NEVER.to_owned()), false, f64::INFINITY),
            Condition::Max { below_ns } => {
                let ns = (times.len() > 0).then(|| times.max());
                let taken = ns.unwrap_or(0) as f64 / below_ns as f64;
                (ns.map(|ns| apart(ns, below_ns)), ns.is_some_and(|ns| ns < below_ns), taken)
            }
            Condition::Errors { below } => {
                let part = held.map_or_else(|| error_part(recorder), |connections| lost_part(recorder, connections));
                let digits = format!("{:.4}", part * 100.0);
                let of = if held.is_some() { " % of the connections" } else { " %" };
                (Some(digits.trim_end_matches('0').trim_end_matches('.').to_owned() + of), part < below, part / below)
            }
            Condition::Rate { above_per_s } => {
                let rate = recorder.answered_per_s();
                let shown = Some(rate_text(rate)).filter(|shown| *shown != rate_text(above_per_s));
                (
                    Some(format!("{}/s", shown.unwrap_or_else(|| rate.to_string()))),
                    rate > above_per_s,
                    above_per_s / rate,
                )
            }
        };
        Outcome { condition: self.to_string(), measured, is_met, taken, worst_of: None }
    }
}

/// Within which time a part of all requests was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// Too few lie beyond it to tell.
    TooFew,
    /// So many were never answered that it is among those.
    Never,
    /// Within so many nanoseconds.
    Within(u64),
}

impl Reached {
    /// That for `percent` of requests that took these `times`, and `missing` others: what was never answered took longer
    /// than all that was.
    pub(crate) fn of(times: &Times, missing: u64, percent: f64) -> Reached {
        let all = (times.len() + missing) as f64;
        let beyond = (all * (100.0 - percent) / 100.0).floor();
        let quantile = percent / 100.0 * all / times.len().max(1) as f64;
        match (beyond >= BEYOND_MIN, quantile > 1.0) {
            (false, _) => Reached::TooFew,
            (true, true) => Reached::Never,
            (true, false) => Reached::Within(times.at_quantile(quantile)),
        }
    }
}

/// `ns` with three digits, or with as many as show on which side of `limit_ns` it lies.
fn apart(ns: u64, limit_ns: u64) -> String {
    let (value, unit) = match limit_ns {
        0..1_000 => return span(ns),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    match span(ns) == span(limit_ns) || ns.abs_diff(limit_ns) < limit_ns / 200 {
        true if ns == limit_ns => format!("exactly {}", span(ns)),
        true => format!("{value} {unit}"),
        false => span(ns),
    }
}

impl Display for Slo {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let conditions: Vec<String> = self.conditions.iter().map(ToString::to_string).collect();
        f.write_str(&conditions.join(", "))
    }
}

/// Which part of the requests failed, or had no answer at the end. Lost connections without a request count, too.
pub(crate) fn error_part(recorder: &Recorder) -> f64 {
    let failed = recorder.failed() + recorder.unfinished;
    let all = recorder.due + total(&recorder.losses) + total(&recorder.connect_failures);
    if all == 0 { 0.0 } else { failed as f64 / all as f64 }
}

/// Which part of `connections` failed to open, was lost, or answered wrongly. Nearly every failure took its connection with
/// it; an HTTP response of the wrong status did not, and may come on one of them again and again.
fn lost_part(recorder: &Recorder, connections: u64) -> f64 {
    let failed = recorder.failed() + recorder.unfinished;
    failed.min(connections) as f64 / connections.max(1) as f64
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Percentile { percent, below_ns } => write!(f, "p{percent} < {}", span(*below_ns)),
            Condition::Max { below_ns } => write!(f, "max < {}", span(*below_ns)),
            Condition::Errors { below } => write!(f, "err < {} %", below * 100.0),
            Condition::Rate { above_per_s } => write!(f, "rate > {}/s", rate_text(*above_per_s)),
        }
    }
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Slo, String> {
        let conditions = text.split(',').map(|part| condition(part.trim())).collect::<Result<_, _>>()?;
        Ok(Slo { conditions })
    }
}

fn condition(text: &str) -> Result<Condition, String> {
    let wrong =
        || format!("'{text}' is no condition: give p99<2ms, max<1s, err<0.01% or rate>10k, several with commas");
    let (name, is_below, value) = match (text.split_once('<'), text.split_once('>')) {
        (Some((name, value)), None) => (name.trim(), true, value.trim()),
        (None, Some((name, value))) => (name.trim(), false, value.trim()),
        _ => return Err(wrong()),
    };
    // A bare number would be seconds, and was hardly meant to be.
    let has_unit = |value: &&str| value.ends_with(|last: char| last.is_ascii_alphabetic());
    let ns = |value: &str| {
        let duration =
            Some(value).filter(has_unit).ok_or_else(|| format!("'{value}' in '{text}' has no unit: us, ms, s"))?;
        parse_duration(duration).map(|duration| duration.as_nanos() as u64)
    };
    match (name, is_below) {
        ("max", true) => Ok(Condition::Max { below_ns: ns(value)? }),
        ("err", true) => {
            let percent: Option<f64> = value.strip_suffix('%').and_then(|number| number.trim().parse().ok());
            let below = percent.map(|percent| percent / 100.0).filter(|part| (0.0..=1.0).contains(part));
            below.map(|below| Condition::Errors { below }).ok_or_else(wrong)
        }
        ("rate", false) => Ok(Condition::Rate { above_per_s: parse_rate(value)? }),
        (percentile, true) => {
            let percent: Option<f64> = percentile.strip_prefix('p').and_then(|number| number.parse().ok());
            let percent = percent.filter(|percent| *percent > 0.0 && *percent < 100.0).ok_or_else(wrong)?;
            Ok(Condition::Percentile { percent, below_ns: ns(value)? })
        }
        _ => Err(wrong()),
    }
}

/// What stands in place of a time that nobody knows the end of.
const NEVER: &str = "never answered";

/// Samples that have to lie beyond a percentile before it is one.
const BEYOND_MIN: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Act, Failure, Kind};
    use crate::recorder::note;

    /// 1,000 requests that took 1 to 1,000 us, in a second.
    fn recorder() -> Recorder {
        let mut recorder = Recorder::new(60_000_000_000);
        (1..=1000).for_each(|us| recorder.latency.record(us * 1000));
        (recorder.due, recorder.answered, recorder.answered_in_window, recorder.window_ns) =
            (1000, 1000, 1000, 1_000_000_000);
        recorder
    }

    fn met(slo: &str, recorder: &Recorder) -> Vec<bool> {
        slo.parse::<Slo>().unwrap().judge(recorder, None).into_iter().map(|outcome| outcome.is_met).collect()
    }

    #[test]
    fn each_condition_is_judged_by_what_was_measured() {
        let run = recorder();
        assert_eq!(met("p50<502us,p50<499us, p99<1ms,max<1s,max<1ms", &run), [true, false, true, true, false]);
        assert_eq!(met("err<0.01%,rate>999,rate>1k", &run), [true, true, false]);
        let slo: Slo = "p50<1ms,p99.9<2ms,max<1s,err<1%".parse().unwrap();
        assert!((slo.samples_min() - 10_000.0).abs() < 1e-3 && slo.longest_ns() == 1_000_000_000);
        assert_eq!(slo.to_string(), "p50 < 1.00 ms, p99.9 < 2.00 ms, max < 1.00 s, err < 1 %");
        assert!(!slo.asks_for_rate() && "rate>1".parse::<Slo>().unwrap().asks_for_rate());
        assert_eq!(met("p99.9<1s", &run), [false], "too few samples: not kept to");
        assert_eq!("p99.9<1s".parse::<Slo>().unwrap().judge(&run, None)[0].measured, None);
    }

    #[test]
    fn what_misses_by_little_is_shown_to_miss() {
        assert_eq!(apart(20_013_055, 20_000_000), "20.013055 ms");
        assert_eq!(apart(19_999_999, 20_000_000), "19.999999 ms");
        assert_eq!(apart(999_999_999, 1_000_000_000), "0.999999999 s");
        assert_eq!(apart(20_000_000, 20_000_000), "exactly 20.0 ms", "which is not below it");
        assert_eq!([apart(21_000_000, 20_000_000), apart(7, 9)], ["21.0 ms", "7 ns"]);
        let mut run = recorder();
        (run.answered_in_window, run.window_ns) = (4_999_996, 1_000_000_000);
        let outcome = "rate>5M".parse::<Slo>().unwrap().judge(&run, None).remove(0);
        assert!(!outcome.is_met && outcome.measured.as_deref() == Some("4,999,996/s"), "{outcome:?}");
        (run.answered_in_window, run.window_ns) = (9_999, 2_000_000_000);
        let outcome = "rate>5k".parse::<Slo>().unwrap().judge(&run, None).remove(0);
        assert!(!outcome.is_met && outcome.measured.as_deref() == Some("4999.5/s"), "{outcome:?}");
    }

    #[test]
    fn what_failed_or_was_never_answered_is_an_error() {
        let mut run = recorder();
        (run.due, run.unfinished) = (1010, 4);
        (0..6).for_each(|_| note(&mut run.request_failures, Failure::new(Act::Reply, Kind::Reset)));
        assert_eq!(met("err<1%,err<0.9%", &run), [true, false], "10 of 1,010");
        assert_eq!(met("p50<507us,p98.9<1s,p99<1s,max<9s", &run), [true, true, true, false]);
        (run.due, run.unfinished) = (1016, 10);
        assert_eq!(met("p99<1s", &run), [false], "16 of 1,016 were never answered");
        assert!("err<1%".parse::<Slo>().unwrap().allows_errors() && !"p99<1s".parse::<Slo>().unwrap().allows_errors());
    }

    #[test]
    fn errors_of_a_hold_are_a_part_of_its_connections_however_often_they_echoed() {
        let mut hold = recorder();
        (0..2).for_each(|_| note(&mut hold.losses, Failure::new(Act::Idle, Kind::Reset)));
        note(&mut hold.connect_failures, Failure::new(Act::Connect, Kind::Refused));
        let judged = |slo: &str| slo.parse::<Slo>().unwrap().judge(&hold, Some(100)).remove(0);
        assert!(judged("err<3.1%").is_met && !judged("err<3%").is_met, "3 of 100");
        assert_eq!(judged("err<1%").measured.as_deref(), Some("3 % of the connections"));
        assert!(met("err<0.3%", &hold)[0], "of 1,003 requests it would be less");
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for wrong in
            ["", "p99", "p99>2ms", "p0<1s", "p100<1s", "err<1", "err<101%", "rate<5", "p99<2", "max<x", "p99<1s,,"]
        {
            assert!(wrong.parse::<Slo>().is_err(), "{wrong}");
        }
        assert!("p9<<1s".parse::<Slo>().unwrap_err().len() > 20);
    }
}
