//! A search for programs: what a run's object has, about the trial that decided, and the answer and all trials besides.

use serde::Serialize;

use super::{Document, SloFacts, StageFacts, VerdictFacts, slo, stage};
use crate::report::Exit;
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
    /// The lowest rate above it that does not; null if all that were tried do.
    first_failed_per_s: Option<f64>,
    /// Whether it was the generator that gave out at that rate, so that the answer is a lower bound.
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
    /// Whether it failed by far, so that it was not repeated.
    is_overloaded: bool,
    /// Whether it was to confirm the answer.
    is_confirmation: bool,
    slo: Vec<SloFacts>,
    /// Why it did not pass.
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
    run.advice.extend(found.advice());
    run.runs = None;
    run.verdict = match (found.generator(), found.exit()) {
        (Some(reasons), _) => VerdictFacts { verdict: "suspect".into(), reasons: reasons.to_vec() },
        (None, Exit::Failed) => VerdictFacts { verdict: "none".into(), reasons: Vec::new() },
        (None, _) => VerdictFacts { verdict: "valid".into(), reasons: Vec::new() },
    };
    let document = SearchDocument {
        run,
        answer: found.sentence(),
        answer_per_s: found.answer.best_per_s,
        first_failed_per_s: found.answer.first_failed_per_s,
        is_generator_limit: found.generator().is_some(),
        from_per_s: found.bounds.from_per_s,
        to_per_s: found.bounds.to_per_s,
        precision_percent: found.bounds.precision * 100.0,
        trials: found.trials.iter().map(facts).collect(),
    };
    serde_json::to_string_pretty(&document).expect("numbers and strings can always be written as JSON") + "\n"
}

fn facts(trial: &Trial) -> TrialFacts<'_> {
    TrialFacts {
        rate_per_s: trial.rate_per_s,
        is_passed: trial.is_passed(),
        is_overloaded: trial.grade == Grade::Overloaded,
        is_confirmation: trial.is_last,
        slo: trial.outcomes.iter().cloned().map(slo).collect(),
        misses: &trial.misses,
        generator: &trial.generator,
        results: stage(&trial.result, None),
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
        let weak = render(&found(&[(1000.0, true), (2000.0, false)], |recorder| recorder.busy_part = 0.9));
        let weak: serde_json::Value = serde_json::from_str(&weak).unwrap();
        assert_eq!((&weak["verdict"]["verdict"], &weak["is_generator_limit"]), (&"suspect".into(), &true.into()));
    }
}
