//! One trial of a search: a rate, what was measured at it, and whether it kept to the conditions. No clock, no socket.

use crate::recorder::{Recorder, total};
use crate::report::StageResult;
use crate::search::bracket::Grade;
use crate::slo::{Outcome, Slo};
use crate::verdict;

/// A trial that was run to its end.
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
    /// Why that may be the generator's fault. Of a trial that passed there is nothing to say: what the generator delayed
    /// is in its latencies, so the server did at least as well.
    pub(crate) generator: Vec<String>,
}

impl Trial {
    /// Judges what `result` has measured at `rate_per_s` by `slo`.
    pub(crate) fn judge(number: usize, rate_per_s: f64, is_last: bool, result: StageResult, slo: &Slo) -> Trial {
        let recorder = &result.recorder;
        let outcomes = slo.judge(recorder, None);
        let mut misses: Vec<String> = verdict::rate_not_achieved(&result, rate_per_s).into_iter().collect();
        let is_overloaded = ended(recorder) < recorder.due as f64 * OVERLOADED;
        misses.extend(outcomes.iter().filter(|outcome| !outcome.is_met).map(|outcome| {
            let measured = outcome.measured.as_deref().unwrap_or("too few samples to tell");
            format!("{}: {measured}", outcome.condition)
        }));
        // As in any run: where failures are not a condition, none is allowed.
        if !slo.allows_errors() && recorder.failed() > 0 {
            misses.push(format!("{} failed", recorder.failed()));
        }
        let is_passed = misses.is_empty();
        let generator = if is_passed { Vec::new() } else { verdict::reasons_of_generator(&result) };
        let grade = match () {
            () if is_passed => Grade::Passed,
            () if !generator.is_empty() => Grade::Spoiled,
            () if is_overloaded => Grade::Overloaded,
            () => Grade::Missed,
        };
        Trial { number, rate_per_s, is_last, result, outcomes, grade, misses, generator }
    }

    /// Whether it passed.
    pub(crate) fn is_passed(&self) -> bool {
        self.grade == Grade::Passed
    }

    /// What it came to, in a word.
    pub(crate) fn word(&self) -> &'static str {
        match self.grade {
            Grade::Passed if self.is_last => "confirmed",
            Grade::Passed => "pass",
            Grade::Missed => "FAIL",
            Grade::Overloaded => "FAIL, by far",
            Grade::Spoiled => "FAIL, generator",
        }
    }

    /// `VALID`, or `SUSPECT` where something speaks against the figures.
    pub(crate) fn verdict(&self) -> &'static str {
        let is_short = self.result.recorder.window_ns < verdict::JUDGED_MIN.as_nanos() as u64;
        match verdict::reasons(&self.result).is_empty() {
            _ if is_short => "-",
            true => "VALID",
            false => "SUSPECT",
        }
    }
}

/// Requests that had come to an end when the window did.
fn ended(recorder: &Recorder) -> f64 {
    (recorder.answered_in_window + total(&recorder.request_failures)) as f64
}

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
    fn a_failure_is_a_miss_unless_a_condition_is_about_it() {
        let lossy = |recorder: &mut Recorder| {
            recorder.due += 1;
            note(&mut recorder.request_failures, Failure::new(Act::Reply, Kind::TimedOut));
        };
        assert_eq!(trial("p50<2ms", lossy).misses, ["1 failed"]);
        assert_eq!(trial("p50<2ms,err<1%", lossy).grade, Grade::Passed);
    }

    #[test]
    fn only_a_trial_that_failed_can_be_the_generators_fault() {
        let busy = |recorder: &mut Recorder| recorder.busy_part = 0.95;
        assert!(trial("p99<2ms", busy).generator.is_empty());
        assert_eq!(trial("p99<1us", busy).word(), "FAIL, generator");
        assert_eq!(trial("p99<1us", |_| ()).word(), "FAIL");
    }
}
