//! One trial of a search: a rate, what was measured at it, and whether it kept to the conditions. No clock, no socket.

use crate::failure::{Act, Failure, Kind};
use crate::quantity::{count, span};
use crate::recorder::{Recorder, total};
use crate::report::StageResult;
use crate::search::bracket::Grade;
use crate::slo::{Outcome, Reached, Slo, error_part};
use crate::verdict;

/// A trial.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    /// Its number, from 1, in the order in which they were run.
    pub(crate) number: usize,
    /// Requests due per second.
    pub(crate) rate_per_s: f64,
    /// Whether it was to confirm the answer.
    pub(crate) is_last: bool,
    /// All that was measured.
    pub(crate) result: StageResult,
    /// What became of each condition.
    pub(crate) outcomes: Vec<Outcome>,
    /// What it came to.
    pub(crate) grade: Grade,
    /// Why it did not pass, each a sentence.
    pub(crate) misses: Vec<String>,
    /// The same in a few words each, for a table.
    pub(crate) why: Vec<String>,
    /// Why that may be the generator's fault. Of a trial that passed there is nothing to say: what the generator delayed
    /// is in its latencies, so the server did at least as well.
    pub(crate) generator: Vec<String>,
}

impl Trial {
    /// Judges what `result` has measured at `rate_per_s` by `slo`.
    pub(crate) fn judge(number: usize, rate_per_s: f64, is_last: bool, result: StageResult, slo: &Slo) -> Trial {
        let recorder = &result.recorder;
        let outcomes = slo.judge(recorder, None);
        let (mut misses, mut why) = (Vec::new(), Vec::new());
        if let Some(sentence) = verdict::rate_not_achieved(&result, rate_per_s) {
            misses.push(sentence);
            let answered_part = recorder.answered_in_window as f64 / recorder.due.max(1) as f64;
            why.push(format!("achieved {} %", (answered_part * 100.0).floor()));
        }
        for outcome in outcomes.iter().filter(|outcome| !outcome.is_met) {
            let measured = outcome.measured.as_deref().unwrap_or("too few samples to tell");
            misses.push(format!("{}: {measured}", outcome.condition));
            let name = outcome.condition.split(' ').next().unwrap_or_default();
            why.push(format!("{name} {measured}"));
        }
        // As in any run: where failures are not a condition, none is allowed.
        if !slo.allows_errors() && recorder.failed() > 0 {
            misses.push(format!("{} failed", count(recorder.failed())));
            why.extend(misses.last().cloned());
        }
        let is_passed = misses.is_empty();
        let generator = match is_passed {
            true => Vec::new(),
            // Replies that are wrong, and connections that end, are no generator's doing, however busy it was.
            false if misses_by_fault(recorder, slo) => Vec::new(),
            false => verdict::reasons_of_generator(&result, is_lag_felt(recorder, slo)),
        };
        if !generator.is_empty() {
            why.push(format!("loadgen {}", verdict::generator_in_short(&result)));
        }
        let grade = match () {
            () if is_passed => Grade::Passed,
            () if !generator.is_empty() => Grade::Spoiled,
            () if ended_part(recorder) < OVERLOADED => Grade::Overloaded,
            () => Grade::Missed,
        };
        Trial { number, rate_per_s, is_last, result, outcomes, grade, misses, why, generator }
    }

    /// One that was broken off: of what it has measured nobody knows what would have become.
    pub(crate) fn broken_off(number: usize, rate_per_s: f64, is_last: bool, result: StageResult) -> Trial {
        let after = format!("after {}", span(result.recorder.window_ns));
        Trial {
            number,
            rate_per_s,
            is_last,
            result,
            outcomes: Vec::new(),
            grade: Grade::BrokenOff,
            misses: vec![format!("broken off {after}")],
            why: vec![after],
            generator: Vec::new(),
        }
    }

    /// Whether it passed.
    pub(crate) fn is_passed(&self) -> bool {
        self.grade == Grade::Passed
    }

    /// Whether it failed, whoever was the reason.
    pub(crate) fn is_failed(&self) -> bool {
        matches!(self.grade, Grade::Missed | Grade::Overloaded | Grade::Spoiled)
    }

    /// What it came to, in a word or two.
    pub(crate) fn word(&self) -> &'static str {
        match self.grade {
            Grade::Passed if self.is_last => "confirmed",
            Grade::Passed => "pass",
            Grade::Missed | Grade::Overloaded => "FAIL",
            Grade::Spoiled => "unclear",
            Grade::BrokenOff => "broken off",
        }
    }

    /// The same with the reasons: `FAIL: p99 8.10 ms`.
    pub(crate) fn outcome(&self) -> String {
        match (self.why.join(", "), self.grade) {
            (why, _) if why.is_empty() => self.word().to_owned(),
            (after, Grade::BrokenOff) => format!("{} {after}", self.word()),
            (why, _) => format!("{}: {why}", self.word()),
        }
    }

    /// Within which time so many percent of its requests were answered, as a condition would judge it. Those that were on
    /// their way when it was broken off do not count.
    pub(crate) fn reached(&self, percent: f64) -> Reached {
        let recorder = &self.result.recorder;
        Reached::of(&recorder.latency, recorder.missing(self.grade == Grade::BrokenOff), percent)
    }

    /// The same for a table, where `dash` stands for too few samples.
    pub(crate) fn time(&self, percent: f64, dash: &str) -> String {
        match self.reached(percent) {
            Reached::TooFew => dash.to_owned(),
            Reached::Never => "never".to_owned(),
            Reached::Within(ns) => span(ns),
        }
    }

    /// Which part of the requests failed. Those that were on their way when it was broken off did not.
    pub(crate) fn error_part(&self) -> f64 {
        let recorder = &self.result.recorder;
        match self.grade {
            Grade::BrokenOff => recorder.failed() as f64 / recorder.due.max(1) as f64,
            _ => error_part(recorder),
        }
    }
}

/// Whether too much failed, and some of it in a way in which only a server can fail.
fn misses_by_fault(recorder: &Recorder, slo: &Slo) -> bool {
    let is_fault = |failure: &Failure| failure.kind != Kind::TimedOut && failure.act != Act::Connect;
    recorder.request_failures.keys().any(is_fault) && !slo.bears_errors(recorder)
}

/// Whether requests were sent late by a part of what a condition allows: by less, whatever was missed was not missed so.
fn is_lag_felt(recorder: &Recorder, slo: &Slo) -> bool {
    let is_felt =
        |(percent, below_ns): (f64, u64)| recorder.lag.at_quantile(percent / 100.0) as f64 > below_ns as f64 * LAG_FELT;
    slo.percentiles().next().is_none() || slo.percentiles().any(is_felt)
}

/// Of the requests that were due, which part had come to an end when the window did.
fn ended_part(recorder: &Recorder) -> f64 {
    (recorder.answered_in_window + total(&recorder.request_failures)) as f64 / recorder.due.max(1) as f64
}

/// More than this part of the time that is allowed is a lag that may decide whether it is kept to.
const LAG_FELT: f64 = 0.1;

/// Less than this part of what was due is no edge that chance could have crossed.
const OVERLOADED: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Act, Failure, Kind};
    use crate::recorder::note;
    use crate::report::tests::report;
    use crate::schedule::{Arrival, Rate};
    use crate::stage::Stage;
    use std::time::Duration;

    /// A trial at 1,000/s, for a second in which requests took 1 to 1,000 us, after `change`.
    fn trial(slo: &str, change: impl FnOnce(&mut Recorder)) -> Trial {
        let mut result = report().stages.remove(1);
        let (duration, rate) = (Duration::from_secs(1), Rate::constant(1000.0));
        result.stage = Stage::Open { duration, rate, arrival: Arrival::Constant };
        change(&mut result.recorder);
        Trial::judge(1, 1000.0, false, result, &slo.parse().unwrap())
    }

    #[test]
    fn it_passes_if_the_conditions_hold_and_the_rate_was_achieved() {
        assert_eq!(trial("p99<2ms", |_| ()).grade, Grade::Passed);
        let slow = trial("p99<900us", |_| ());
        assert_eq!((slow.grade, slow.misses.len()), (Grade::Missed, 1));
        let late = trial("p99<2ms", |recorder| recorder.answered_in_window = 960);
        assert_eq!(late.grade, Grade::Missed);
        assert!(late.misses[0].starts_with("achieved 960/s of 1,000/s"), "{:?}", late.misses);
        assert_eq!(trial("p99<2ms", |recorder| recorder.answered_in_window = 800).grade, Grade::Overloaded);
        assert_eq!(trial("p99.9<2ms", |_| ()).misses, ["p99.9 < 2.00 ms: too few samples to tell"]);
    }

    #[test]
    fn a_failed_one_says_why_in_a_few_words() {
        let short = |recorder: &mut Recorder| recorder.answered_in_window = 938;
        assert_eq!(trial("p99<900us", short).outcome(), "FAIL: achieved 93 %, p99 990 us");
        assert_eq!(trial("p99.9<2ms", |_| ()).outcome(), "FAIL: p99.9 too few samples to tell");
        assert_eq!(trial("p99<2ms", |_| ()).outcome(), "pass");
        let busy = trial("p99<1us", |recorder| recorder.busy_part = 0.95);
        assert_eq!(busy.outcome(), "unclear: p99 990 us, loadgen busy 95 %");
    }

    #[test]
    fn a_wrong_reply_is_the_servers_fault_however_busy_the_generator_was() {
        let failed = |kind: Kind| {
            move |recorder: &mut Recorder| {
                recorder.busy_part = 0.95;
                (0..20).for_each(|_| note(&mut recorder.request_failures, Failure::new(Act::Reply, kind)));
                recorder.due += 20;
            }
        };
        for slo in ["p99<2ms", "p99<2ms,err<1%"] {
            assert_eq!(trial(slo, failed(Kind::Corrupted)).grade, Grade::Missed, "{slo}");
            assert_eq!(trial(slo, failed(Kind::TimedOut)).grade, Grade::Spoiled, "{slo}");
        }
        let elsewhere = trial("p99<900us,err<5%", failed(Kind::Corrupted));
        assert_eq!(
            elsewhere.grade,
            Grade::Spoiled,
            "errors are within what is allowed, and the rest is the generator's"
        );
    }

    #[test]
    fn a_lag_that_is_small_beside_what_is_allowed_is_not_the_reason_for_a_miss() {
        // The server stood still: one request in twenty took a second, and the others a little more than their lag.
        let stall = |lag_ns: u64| {
            move |recorder: &mut Recorder| {
                recorder.latency = crate::times::Times::new(u64::MAX >> 1);
                [(2 * lag_ns, 950), (1_000_000_000, 50)]
                    .into_iter()
                    .for_each(|(ns, number)| recorder.latency.record_n(ns, number));
                [(lag_ns, 950), (1_000_000_000 - lag_ns, 50)]
                    .into_iter()
                    .for_each(|(ns, number)| recorder.service.record_n(ns, number));
                recorder.lag.record_n(lag_ns, 1000);
            }
        };
        assert_eq!(trial("p99<20ms", stall(25_000)).outcome(), "FAIL: p99 1.00 s");
        assert_eq!(trial("p99<20ms", stall(5_000_000)).outcome(), "unclear: p99 1.00 s, loadgen sent late");
    }

    #[test]
    fn one_that_was_broken_off_neither_passed_nor_failed() {
        let mut result = trial("p99<2ms", |_| ()).result;
        (result.recorder.window_ns, result.recorder.unfinished) = (300_000_000, 500);
        let trial = Trial::broken_off(3, 1000.0, false, result);
        assert!(!trial.is_passed() && !trial.is_failed() && trial.error_part() == 0.0);
        assert_eq!(trial.outcome(), "broken off after 300 ms");
    }

    #[test]
    fn a_failure_is_a_miss_unless_a_condition_is_about_it() {
        let lossy = |recorder: &mut Recorder| {
            recorder.due += 1;
            note(&mut recorder.request_failures, Failure::new(Act::Reply, Kind::TimedOut));
        };
        assert_eq!(trial("p50<2ms", lossy).misses, ["1 failed"]);
        assert_eq!(trial("p50<2ms,err<1%", lossy).grade, Grade::Passed);
    }

    #[test]
    fn its_row_says_never_where_its_condition_does() {
        let mute = trial("p99<2ms,err<50%", |recorder| (recorder.due, recorder.unfinished) = (1100, 100));
        assert_eq!(
            (mute.outcome(), mute.time(99.0, "-")),
            ("FAIL: achieved 90 %, p99 never answered".into(), "never".into())
        );
        assert_eq!((mute.time(50.0, "-"), mute.time(99.9, "-")), ("550 us".into(), "-".into()));
    }

    #[test]
    fn only_a_trial_that_failed_can_be_the_generators_fault() {
        let busy = |recorder: &mut Recorder| recorder.busy_part = 0.95;
        assert!(trial("p99<2ms", busy).generator.is_empty());
        assert_eq!(trial("p99<1us", busy).word(), "unclear");
        assert_eq!(trial("p99<1us", |_| ()).word(), "FAIL");
    }
}
