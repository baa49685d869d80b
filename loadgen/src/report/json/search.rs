//! A search for programs: what a run's object has, about the trial that decided, and the answer and all trials besides.

use serde::Serialize;

use super::{Document, SloFacts, StageFacts, VerdictFacts, slo, stage};
use crate::plan::Plan;
use crate::report::{Exit, advice};
use crate::search::bracket::Grade;
use crate::search::found::Found;
use crate::search::trial::Trial;

/// All results of a search.
#[derive(Debug, Serialize)]
struct SearchDocument<'a> {
    /// `stages` are connects, warm-ups and the trial that decided; `verdict` is that on the whole search.
    #[serde(flatten)]
    run: Document<'a>,
    /// The answer, as it was said.
    answer: String,
    /// The highest rate that meets the conditions; null if none does.
    answer_per_s: Option<f64>,
    /// How many trials at that rate passed, and of how many; null if none does.
    answer_passes: Option<usize>,
    answer_trials: Option<usize>,
    /// The lowest rate above it that does not, or at which the generator gave out; null if all that were tried do.
    first_failed_per_s: Option<f64>,
    /// The lowest rate above it at which it was the server that did not; null if it is not known.
    server_failed_per_s: Option<f64>,
    /// Whether all trials that it takes were run, and were clear; false if the search was broken off, or the generator gave
    /// out at the answer.
    is_confirmed: bool,
    /// Whether it was the generator that gave out, at the first of these or at the answer, which then is a lower bound.
    is_generator_limit: bool,
    /// Where it was looked.
    from_per_s: f64,
    to_per_s: f64,
    precision_percent: f64,
    /// In the order in which they were run.
    trials: Vec<TrialFacts<'a>>,
}

/// One trial.
#[derive(Debug, Serialize)]
struct TrialFacts<'a> {
    rate_per_s: f64,
    /// Whether it kept to all conditions and achieved its rate.
    is_passed: bool,
    /// Whether it failed by far, so that it was repeated only if it bounded the answer.
    is_overloaded: bool,
    /// Whether it was broken off by a signal, so that it neither passed nor failed.
    is_broken_off: bool,
    /// Whether it was to confirm the answer.
    is_confirmation: bool,
    slo: Vec<SloFacts>,
    /// What it came to, in a word or two.
    result: &'static str,
    /// Why it did not pass: in a few words each, and in whole sentences.
    why: &'a [String],
    misses: &'a [String],
    /// Why that may be the generator's fault.
    generator: &'a [String],
    /// All that was measured.
    results: StageFacts,
}

/// `found` as JSON text with a newline at its end.
pub(crate) fn render(found: &Found) -> String {
    let mut run = Document::of(&found.report);
    run.is_ok = found.exit() == Exit::Ok;
    run.advice = advice::of_search(found);
    run.runs = None;
    run.verdict = match (found.exit(), found.generator()) {
        (Exit::Failed, _) => VerdictFacts { verdict: "none".into(), reasons: Vec::new() },
        (_, Some(reasons)) => VerdictFacts { verdict: "suspect".into(), reasons: reasons.to_vec() },
        (_, None) => VerdictFacts { verdict: "valid".into(), reasons: Vec::new() },
    };
    let document = SearchDocument {
        run,
        answer: found.sentence(),
        answer_per_s: found.answer.best_per_s,
        answer_passes: found.evidence().map(|(passes, _)| passes),
        answer_trials: found.evidence().map(|(_, all)| all),
        first_failed_per_s: found.answer.first_failed_per_s,
        server_failed_per_s: found.answer.server_failed_per_s,
        is_confirmed: found.answer.is_confirmed && !found.answer.is_best_spoiled,
        is_generator_limit: found.answer.is_generator_limit(),
        from_per_s: found.bounds.from_per_s,
        to_per_s: found.bounds.to_per_s,
        precision_percent: found.bounds.precision * 100.0,
        trials: found.trials.iter().map(|trial| facts(&found.report.plan, trial)).collect(),
    };
    serde_json::to_string_pretty(&document).expect("numbers and strings can always be written as JSON") + "\n"
}

fn facts<'a>(plan: &Plan, trial: &'a Trial) -> TrialFacts<'a> {
    TrialFacts {
        rate_per_s: trial.rate_per_s,
        is_passed: trial.is_passed(),
        is_overloaded: trial.grade == Grade::Overloaded,
        is_broken_off: trial.grade == Grade::BrokenOff,
        is_confirmation: trial.is_last,
        slo: trial.outcomes.iter().cloned().map(slo).collect(),
        result: trial.word(),
        why: &trial.why,
        misses: &trial.misses,
        generator: &trial.generator,
        results: stage(plan, &trial.result, None, super::INTERVALS_OF_STAGE.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::found::tests::found;

    #[test]
    fn a_program_finds_the_answer_and_the_trials() {
        let text = render(&found(&[(1000.0, true), (2000.0, false)], |_| ()));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["answer_per_s"], &value["first_failed_per_s"]), (&1000.0.into(), &2000.0.into()));
        assert_eq!((&value["is_ok"], &value["verdict"]["verdict"]), (&true.into(), &"valid".into()));
        assert_eq!((value["stages"].as_array().unwrap().len(), value["trials"].as_array().unwrap().len()), (2, 2));
        let failed = &value["trials"][1];
        assert_eq!((&failed["is_passed"], &failed["results"]["stage"]), (&false.into(), &"open".into()));
        assert!(failed["misses"][0].as_str().unwrap().starts_with("p99 < 2.00 ms"), "{failed:#}");
        assert_eq!((&failed["result"], &failed["why"]), (&"FAIL".into(), &serde_json::json!(["p99 50.0 ms"])));
        assert_eq!((&value["is_confirmed"], &value["server_failed_per_s"]), (&true.into(), &2000.0.into()));
        assert_eq!((&value["answer_passes"], &value["answer_trials"]), (&1.into(), &1.into()));
        let weak = render(&found(&[(1000.0, true), (2000.0, false)], |recorder| recorder.busy_part = 0.9));
        let weak: serde_json::Value = serde_json::from_str(&weak).unwrap();
        assert_eq!((&weak["verdict"]["verdict"], &weak["is_generator_limit"]), (&"suspect".into(), &true.into()));
        assert_eq!(weak["server_failed_per_s"], serde_json::Value::Null);
    }
}
