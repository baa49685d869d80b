//! What a search found: its trials, its answer, and what that is worth. No clock, no socket.

use crate::quantity::{rate_text, span};
use crate::recorder::Recorder;
use crate::report::{Ending, Exit, Report, StageResult};
use crate::search::bracket::{Answer, Bounds};
use crate::search::trial::Trial;
use crate::slo::Slo;
use crate::stage::Stage;

/// A search that has ended, in whatever way.
#[derive(Debug)]
pub(crate) struct Found {
    /// The run that it was; of its measured stages only the one that decides the answer.
    pub(crate) report: Report,
    /// The trials, in the order in which they were run.
    pub(crate) trials: Vec<Trial>,
    /// What they had to keep to.
    pub(crate) slo: Slo,
    /// Where it was looked.
    pub(crate) bounds: Bounds,
    /// What they say together.
    pub(crate) answer: Answer,
    /// Whether not all connections could be opened, or opened again.
    pub(crate) lacks_connections: bool,
}

impl Found {
    /// Puts together what `report` measured, with all of its stages, and what `trials` made of that.
    pub(crate) fn new(report: Report, trials: Vec<Trial>, (slo, bounds): (Slo, Bounds), answer: Answer) -> Found {
        let mut found = Found { report, trials, slo, bounds, answer, lacks_connections: false };
        let shown = found.decisive().map(|trial| trial.result.clone());
        found.report.stages.retain(|result| !result.stage.is_measured() || result.is_warmup);
        found.report.stages.extend(shown);
        found.report.slo = Some(found.slo.clone());
        found
    }

    /// The trial whose figures are the answer's: the last that passed at the best rate, or, without one, the last of all.
    pub(crate) fn decisive(&self) -> Option<&Trial> {
        let best =
            self.trials.iter().rfind(|trial| trial.is_passed() && Some(trial.rate_per_s) == self.answer.best_per_s);
        best.or(self.trials.last())
    }

    /// The trials in ascending order of their rates, those of the same rate in the order in which they were run.
    pub(crate) fn by_rate(&self) -> Vec<&Trial> {
        let mut trials: Vec<&Trial> = self.trials.iter().collect();
        trials.sort_by(|one, two| one.rate_per_s.total_cmp(&two.rate_per_s));
        trials
    }

    /// The last trial that failed at the rate above the answer.
    pub(crate) fn first_failed(&self) -> Option<&Trial> {
        let is_it = |trial: &&Trial| !trial.is_passed() && Some(trial.rate_per_s) == self.answer.first_failed_per_s;
        self.trials.iter().rfind(is_it)
    }

    /// Why it was the generator that gave out, and not the server: it is to blame for most of the trials that failed at
    /// the rate above the answer. None where it is not.
    pub(crate) fn generator(&self) -> Option<&[String]> {
        let failed = || {
            self.trials
                .iter()
                .filter(|trial| !trial.is_passed() && Some(trial.rate_per_s) == self.answer.first_failed_per_s)
        };
        let blamed = failed().filter(|trial| !trial.generator.is_empty()).count();
        let last = failed().rfind(|trial| !trial.generator.is_empty())?;
        (blamed * 2 > failed().count()).then_some(&last.generator)
    }

    /// How the program ends.
    pub(crate) fn exit(&self) -> Exit {
        match (self.generator(), self.answer.best_per_s) {
            _ if self.report.ending != Ending::Complete || self.lacks_connections || self.trials.is_empty() => {
                Exit::Failed
            }
            (Some(_), _) => Exit::Suspect,
            (None, None) => Exit::Missed,
            (None, Some(_)) => Exit::Ok,
        }
    }

    /// The answer in a sentence.
    pub(crate) fn sentence(&self) -> String {
        let slo = &self.slo;
        let rate = |per_s: f64| format!("{}/s", rate_text(per_s));
        match (self.answer.best_per_s.map(rate), self.answer.first_failed_per_s.map(rate)) {
            (Some(best), Some(failed)) if self.generator().is_some() => {
                format!("at least {best} meets {slo}; at {failed} the generator gave out before the server did")
            }
            (Some(best), Some(failed)) => format!("{best} meets {slo}; {failed} does not"),
            (Some(best), None) if self.report.ending == Ending::Complete && !self.lacks_connections => {
                format!("{best} meets {slo}; that is the highest rate of this search (--to)")
            }
            (Some(best), None) => format!("{best} meets {slo}; more was not tried"),
            (None, Some(failed)) if self.generator().is_some() => {
                format!("unknown: at {failed}, the lowest rate, the generator gave out before the server did")
            }
            (None, Some(failed)) => format!("not even {failed}, the lowest rate of this search, meets {slo}"),
            (None, None) => "unknown: no trial was run to its end".to_owned(),
        }
    }

    /// What a person should know about it, and could do.
    pub(crate) fn advice(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if self.generator().is_some() {
            sentences.push(
                "The server may bear more than the generator can make here: give it cores (--threads, --cores), stop \
                 what else runs, or run it on another machine."
                    .to_owned(),
            );
        } else if let (None, Some(failed)) = (self.answer.best_per_s, self.answer.first_failed_per_s) {
            let lower = rate_text(failed / 10.0).replace(',', "");
            sentences.push(format!("A lower rate may meet it: `--from {lower}` begins there."));
        }
        sentences.extend(self.few_connections());
        sentences
    }

    /// Where requests waited for connections, and the server was no slower than before: their number was the limit.
    fn few_connections(&self) -> Option<String> {
        let (failed, best) = (self.first_failed()?, self.decisive().filter(|trial| trial.is_passed())?);
        let (failed, best): (&Recorder, &Recorder) = (&failed.result.recorder, &best.result.recorder);
        let is_starved = failed.starved as f64 > failed.due as f64 * STARVED;
        let is_same = failed.service.at_quantile(0.5) < best.service.at_quantile(0.5) * 2;
        let connections = self.report.plan.connections;
        (is_starved && is_same).then(|| {
            format!(
                "All {connections} connections were busy, although the server took no longer for a request than before \
                 (p50 {}): with more of them, such as -c {}, the answer may be higher.",
                span(failed.service.at_quantile(0.5)),
                connections * 2
            )
        })
    }
}

/// The stage of `result` in a file that has those of several rates: `open-1000` at 1,000 requests a second.
pub(crate) fn tag(result: &StageResult) -> String {
    match result.stage {
        Stage::Open { rate, .. } => format!("open-{}", rate.mean_per_s()),
        stage => stage.name().to_owned(),
    }
}

/// Beyond this part of the requests it is not chance that they wait for a connection.
const STARVED: f64 = 0.05;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::tests::report;
    use crate::schedule::{Arrival, Rate};
    use std::time::Duration;

    /// A search with these trials, each of which passes if its requests, which take 1 to 1,000 us, may.
    pub(crate) fn found(rates: &[(f64, bool)], change: impl Fn(&mut Recorder)) -> Found {
        let whole = report();
        let slo: Slo = "p99<2ms".parse().unwrap();
        let trial = |(index, (rate, passes)): (usize, &(f64, bool))| {
            let mut result = whole.stages[1].clone();
            let duration = Duration::from_secs(1);
            result.stage = Stage::Open { duration, rate: Rate::constant(*rate), arrival: Arrival::Constant };
            result.recorder.service.record_n(500_000, 1000);
            if !passes {
                result.recorder.latency.record_n(50_000_000, 100);
                change(&mut result.recorder);
            }
            Trial::judge(index + 1, *rate, false, result, &slo)
        };
        let trials: Vec<Trial> = rates.iter().enumerate().map(trial).collect();
        let answer = Answer {
            best_per_s: rates.iter().filter(|(_, passes)| *passes).map(|(rate, _)| *rate).reduce(f64::max),
            first_failed_per_s: rates.iter().filter(|(_, passes)| !passes).map(|(rate, _)| *rate).reduce(f64::min),
        };
        let bounds = Bounds { from_per_s: 100.0, to_per_s: 1e9, precision: 0.05 };
        Found::new(whole, trials, (slo, bounds), answer)
    }

    #[test]
    fn the_answer_the_exit_code_and_the_sentence_say_the_same() {
        let well = found(&[(1000.0, true), (1050.0, false)], |_| ());
        assert_eq!((well.exit(), well.sentence()), (Exit::Ok, "1,000/s meets p99 < 2.00 ms; 1,050/s does not".into()));
        let never = found(&[(100.0, false)], |_| ());
        assert_eq!(never.exit(), Exit::Missed);
        assert!(never.sentence().starts_with("not even 100/s") && never.advice()[0].contains("`--from 10`"));
        let mut weak = found(&[(1000.0, true), (1050.0, false)], |recorder| recorder.busy_part = 0.9);
        assert_eq!(weak.exit(), Exit::Suspect);
        assert!(weak.sentence().starts_with("at least 1,000/s") && weak.sentence().contains("before the server did"));
        weak.lacks_connections = true;
        assert_eq!(weak.exit(), Exit::Failed);
        assert!(found(&[(1000.0, true)], |_| ()).sentence().contains("(--to)"));
    }

    #[test]
    fn the_figures_are_those_of_the_best_rate() {
        let found = found(&[(500.0, true), (1000.0, true), (2000.0, false)], |_| ());
        let shown: Vec<String> = found.report.stages.iter().map(tag).collect();
        assert_eq!(shown, ["connect", "open-1000"]);
    }

    #[test]
    fn too_few_connections_are_said() {
        let few = found(&[(1000.0, true), (1050.0, false)], |recorder| recorder.starved = 900);
        assert!(few.advice().iter().any(|sentence| sentence.contains("-c 20")), "{:?}", few.advice());
        assert!(found(&[(1000.0, true), (1050.0, false)], |_| ()).advice().is_empty());
    }
}
