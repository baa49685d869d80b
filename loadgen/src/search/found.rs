//! What a search found: its trials, its answer, and what that is worth. No clock, no socket.

use crate::failure::Kind;
use crate::quantity::{rate_text, span};
use crate::recorder::Recorder;
use crate::report::{Ending, Exit, Report, StageResult};
use crate::search::bracket::{Answer, Bounds, Grade};
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
        // The last trial may have cost all connections, like any other: it ends a search only where it needs them again.
        if answer.is_confirmed {
            found.report.ending = Ending::Complete;
        }
        found
    }

    /// The trial whose figures are the answer's: the last that passed at the best rate, or, without one, the last of all.
    pub(crate) fn decisive(&self) -> Option<&Trial> {
        let best =
            self.trials.iter().rfind(|trial| trial.is_passed() && Some(trial.rate_per_s) == self.answer.best_per_s);
        best.or(self.trials.last())
    }

    /// The report with all trials, not only the one that decides: what failed in any of them is to be told.
    pub(crate) fn everything(&self) -> Report {
        let mut report = self.report.clone();
        report.stages.retain(|result| !result.is_measured());
        report.stages.extend(self.trials.iter().map(|trial| trial.result.clone()));
        report
    }

    /// How many trials at the best rate passed, and of how many.
    pub(crate) fn evidence(&self) -> Option<(usize, usize)> {
        let at_best = |trial: &&Trial| Some(trial.rate_per_s) == self.answer.best_per_s;
        let run = || self.trials.iter().filter(at_best).filter(|trial| trial.is_passed() || trial.is_failed());
        self.answer.best_per_s.map(|_| (run().filter(|trial| trial.is_passed()).count(), run().count()))
    }

    /// The trials in ascending order of their rates, those of the same rate in the order in which they were run.
    pub(crate) fn by_rate(&self) -> Vec<&Trial> {
        let mut trials: Vec<&Trial> = self.trials.iter().collect();
        trials.sort_by(|one, two| one.rate_per_s.total_cmp(&two.rate_per_s));
        trials
    }

    /// The last trial at the lowest rate that failed, above the answer, of those that make it the bound.
    pub(crate) fn first_failed(&self) -> Option<&Trial> {
        let is_generator = self.answer.first_failed_per_s != self.answer.server_failed_per_s;
        self.last_failed(self.answer.first_failed_per_s, is_generator)
    }

    /// Why it was the generator that gave out there, and not the server; or at the answer. None where it was the server.
    pub(crate) fn generator(&self) -> Option<&[String]> {
        let Answer { best_per_s, first_failed_per_s, is_best_spoiled, .. } = self.answer;
        let spoiled = self.last_failed(if is_best_spoiled { best_per_s } else { first_failed_per_s }, true);
        Some(&spoiled.filter(|_| self.answer.is_generator_limit())?.generator)
    }

    /// The last trial at a rate that failed because of the generator, or of the server.
    fn last_failed(&self, rate_per_s: Option<f64>, is_generator: bool) -> Option<&Trial> {
        let is_it = |trial: &&Trial| trial.is_failed() && trial.generator.is_empty() != is_generator;
        self.trials.iter().filter(|trial| Some(trial.rate_per_s) == rate_per_s).rfind(is_it)
    }

    /// What has to be known to understand the table of trials.
    pub(crate) fn notes(&self) -> Vec<&'static str> {
        let is_spoiled = self.trials.iter().any(|trial| !trial.generator.is_empty());
        let failed = |trial: &Trial| trial.is_failed() && trial.generator.is_empty();
        let is_mixed = self
            .trials
            .iter()
            .filter(|trial| trial.is_passed())
            .any(|passed| self.trials.iter().any(|other| other.rate_per_s == passed.rate_per_s && failed(other)));
        [is_spoiled.then_some(SPOILED), is_mixed.then_some(MIXED)].into_iter().flatten().collect()
    }

    /// Whether the server failed in a way that is no question of the rate: bytes were wrong in any of the trials, or other
    /// answers than were asked for came in each that failed, down to the lowest rate. Where failures are a condition, it is
    /// the condition that decides on them.
    pub(crate) fn has_wrong_replies(&self) -> bool {
        !self.slo.allows_errors() && (self.has_wrong_bytes() || self.is_wrong_throughout())
    }

    fn has_wrong_bytes(&self) -> bool {
        let warmups = self.report.stages.iter().filter(|result| result.is_warmup);
        let mut all = warmups.chain(self.trials.iter().map(|trial| &trial.result));
        all.any(|result| has_failure(result, Kind::is_of_bytes))
    }

    /// Whether no rate passed, and whatever failed had replies that are wrong.
    fn is_wrong_throughout(&self) -> bool {
        let mut failed = self.trials.iter().filter(|trial| trial.is_failed()).peekable();
        let is_none = self.answer.best_per_s.is_none() && failed.peek().is_some();
        is_none && failed.all(|trial| has_failure(&trial.result, Kind::is_wrong_reply))
    }

    /// How the program ends.
    pub(crate) fn exit(&self) -> Exit {
        match self.answer.best_per_s {
            _ if self.lacks_connections || !self.answer.is_confirmed || self.has_wrong_replies() => Exit::Failed,
            _ if self.answer.is_generator_limit() => Exit::Suspect,
            None => Exit::Missed,
            Some(_) => Exit::Ok,
        }
    }

    /// The answer in a sentence; where trials at that rate contradict each other, with how many of them say so.
    pub(crate) fn sentence(&self) -> String {
        match self.evidence().filter(|(passes, all)| passes < all) {
            Some((passes, all)) => format!("{} ({passes} of {all} trials at {} passed)", self.claim(), self.best()),
            None => self.claim(),
        }
    }

    fn best(&self) -> String {
        self.answer.best_per_s.map_or_else(String::new, rate)
    }

    fn claim(&self) -> String {
        if !self.answer.is_confirmed {
            return self.unconfirmed();
        }
        let Answer { best_per_s, first_failed_per_s, server_failed_per_s, is_best_spoiled, .. } = self.answer;
        let (slo, is_generator) = (&self.slo, self.answer.is_generator_limit());
        match (best_per_s.map(rate), first_failed_per_s.map(rate), server_failed_per_s.map(rate)) {
            (Some(best), _, failed) if is_best_spoiled => format!(
                "unconfirmed: {best} met {slo}, but the generator gave out before the server did when that was to be \
                 confirmed{}",
                failed.map_or_else(String::new, |failed| format!("; {failed} does not meet it"))
            ),
            (Some(best), Some(doubtful), Some(failed)) if is_generator => format!(
                "{best} meets {slo}, {failed} does not; what lies between is unknown, for at {doubtful} the generator gave \
                 out before the server did"
            ),
            (Some(best), Some(doubtful), None) => {
                format!("at least {best} meets {slo}; at {doubtful} the generator gave out before the server did")
            }
            (Some(best), Some(failed), _) => format!("{best} meets {slo}; {failed} does not"),
            (Some(best), None, _) => format!("{best} meets {slo}; that is the highest rate of this search (--to)"),
            (None, Some(doubtful), Some(failed)) if is_generator => format!(
                "unknown: {failed} does not meet {slo}, and at {doubtful}, the lowest rate, the generator gave out before the \
                 server did"
            ),
            (None, Some(doubtful), None) => {
                format!("unknown: at {doubtful}, the lowest rate, the generator gave out before the server did")
            }
            (None, Some(failed), _) => format!("not even {failed}, the lowest rate of this search, meets {slo}"),
            (None, None, _) => "unknown: no trial was run to its end".to_owned(),
        }
    }

    /// What there was of an answer when the search was broken off.
    fn unconfirmed(&self) -> String {
        let slo = &self.slo;
        let is_run = self.trials.iter().any(|trial| trial.is_passed() || trial.is_failed());
        match (self.answer.best_per_s.map(rate), self.answer.server_failed_per_s.map(rate)) {
            (Some(best), Some(failed)) => {
                format!(
                    "unconfirmed: {best} met {slo}, and {failed} did not; the trials that would make it sure were not run"
                )
            }
            (Some(best), None) if self.answer.first_failed_per_s.is_some() => {
                format!("unconfirmed: {best} met {slo}; above it, the generator gave out before the server did")
            }
            (Some(best), None) => format!("unconfirmed: {best} met {slo}; more was not tried"),
            (None, Some(failed)) => {
                format!("unconfirmed: {failed}, the lowest rate that was tried, did not meet {slo}")
            }
            (None, None) if is_run => {
                "unknown: the generator gave out before the server did, as far as it went".to_owned()
            }
            (None, None) => "unknown: no trial was run to its end".to_owned(),
        }
    }

    /// What a person should know about it, and could do.
    pub(crate) fn advice(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let Answer { best_per_s, first_failed_per_s, server_failed_per_s, is_confirmed, .. } = self.answer;
        // Whatever the conditions allow: where nothing passed, other rates do not mend that.
        if self.has_wrong_replies() || best_per_s.is_none() && (self.has_wrong_bytes() || self.is_wrong_throughout()) {
            sentences
                .push("Wrong replies are no question of the rate: see with `loadgen rr` what comes back.".to_owned());
        } else if !is_confirmed && !self.trials.is_empty() {
            let begin = best_per_s.map(|best| format!("; `--from {}` begins at the rate that passed", plain(best)));
            sentences.push(format!(
                "Only a search that is run to its end has an answer to rely on: run it again{}.",
                begin.unwrap_or_default()
            ));
        } else if self.answer.is_generator_limit() {
            let known = match server_failed_per_s.map(rate) {
                Some(failed) => {
                    format!("The server's limit lies below {failed}, but the generator is too weak here to tell where")
                }
                None => "The server may bear more than the generator can make here".to_owned(),
            };
            sentences.push(format!(
                "{known}: give it cores (--threads, --cores), stop what else runs, or run it on another machine."
            ));
        } else if let (None, Some(failed)) = (best_per_s, first_failed_per_s) {
            sentences.push(self.lower(failed));
        }
        sentences.extend(self.few_connections());
        sentences
    }

    /// What to do where not even the lowest rate passed.
    fn lower(&self, failed_per_s: f64) -> String {
        let may = format!("A lower rate may meet it: `--from {}` begins there.", plain(failed_per_s / 10.0));
        let Some(trial) = self.decisive() else { return may };
        let recorder = &trial.result.recorder;
        if recorder.answered == 0 {
            return "The server answered nothing, which no lower rate mends: see with `loadgen rr` whether it answers at all."
                .to_owned();
        }
        // The time of a request that met an idle server: by Little's law, of the usual one where fewer than one was under
        // way; where there were more, of the quick ones, and of an overloaded server's, of the first.
        let is_idle = recorder.service.mean() / 1e9 * trial.rate_per_s < 1.0;
        let quantile = match trial.grade {
            Grade::Overloaded => 0.0,
            _ if is_idle => 0.5,
            _ => 0.1,
        };
        let idle_ns = recorder.service.at_quantile(quantile);
        let is_slow = |(percent, below_ns): (f64, u64)| percent >= 50.0 && idle_ns >= below_ns;
        match self.slo.percentiles().any(is_slow) {
            true => format!(
                "No lower rate will meet it: the server takes {} for a request even where nothing waits before it. Allow it \
                 more time.",
                span(idle_ns)
            ),
            false => may,
        }
    }

    /// Where requests waited for connections, and the server was no slower than before: their number was the limit.
    fn few_connections(&self) -> Option<String> {
        // Where the generator was late, what it then sends at once needs more connections than the rate does.
        let first_failed = self.first_failed().filter(|_| !self.answer.is_generator_limit());
        let (failed, best) = (first_failed?, self.decisive().filter(|trial| trial.is_passed())?);
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

/// Whether a request of `result` failed in a way of which `is_it` is true.
fn has_failure(result: &StageResult, is_it: fn(Kind) -> bool) -> bool {
    result.recorder.request_failures.keys().any(|failure| is_it(failure.kind))
}

fn rate(per_s: f64) -> String {
    format!("{}/s", rate_text(per_s))
}

/// As it is written on a command line.
fn plain(per_s: f64) -> String {
    rate_text(per_s).replace(',', "")
}

/// The stage of `result` in a file that has those of several rates: `open-1000` at 1,000 requests a second.
pub(crate) fn tag(result: &StageResult) -> String {
    match result.stage {
        Stage::Open { rate, .. } => format!("open-{}", rate.mean_per_s()),
        stage => stage.name().to_owned(),
    }
}

/// What a trial is that the generator spoiled.
const SPOILED: &str = "unclear: the conditions were missed, but perhaps because of loadgen, which was late itself. Such a \
                       trial counts neither for nor against the server, and is repeated; three in a row make that rate \
                       loadgen's limit.";

/// What is made of trials that contradict each other.
const MIXED: &str = "Of several trials at one rate most decide; one that fails alone may be a moment's stall.";

/// Beyond this part of the requests it is not chance that they wait for a connection.
const STARVED: f64 = 0.05;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::failure::{Act, Failure};
    use crate::recorder::note;
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
        let lowest = |is_it: fn(&Trial) -> bool| {
            trials.iter().filter(|trial| is_it(trial)).map(|trial| trial.rate_per_s).reduce(f64::min)
        };
        let answer = Answer {
            best_per_s: rates.iter().filter(|(_, passes)| *passes).map(|(rate, _)| *rate).reduce(f64::max),
            first_failed_per_s: lowest(Trial::is_failed),
            server_failed_per_s: lowest(|trial| trial.is_failed() && trial.generator.is_empty()),
            is_confirmed: !rates.is_empty(),
            is_best_spoiled: false,
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
        let mute = found(&[(100.0, false)], |recorder| recorder.answered = 0);
        assert!(mute.advice()[0].starts_with("The server answered nothing"), "{:?}", mute.advice());
        let slow = found(&[(100.0, false)], |recorder| {
            recorder.service = crate::times::Times::new(u64::MAX >> 1);
            recorder.service.record_n(3_000_000, 1000);
        });
        assert!(
            slow.advice()[0].contains("takes 3.00 ms for a request even where nothing waits"),
            "{:?}",
            slow.advice()
        );
        let mut weak = found(&[(1000.0, true), (1050.0, false)], |recorder| recorder.busy_part = 0.9);
        assert_eq!(weak.exit(), Exit::Suspect);
        assert!(weak.sentence().starts_with("at least 1,000/s") && weak.sentence().contains("before the server did"));
        weak.lacks_connections = true;
        assert_eq!(weak.exit(), Exit::Failed);
        assert!(found(&[(1000.0, true)], |_| ()).sentence().contains("(--to)"));
    }

    #[test]
    fn wrong_replies_are_a_failure_and_no_question_of_the_rate() {
        let failing = |rates: &[(f64, bool)], kind: Kind| {
            found(rates, |it| note(&mut it.request_failures, Failure::new(Act::Reply, kind)))
        };
        let (never, above) = (&[(100.0, false)][..], &[(1000.0, true), (1050.0, false)][..]);
        for (rates, kind, exit) in [
            (never, Kind::Corrupted, Exit::Failed),
            (never, Kind::Status(500), Exit::Failed),
            (never, Kind::TimedOut, Exit::Missed),
            (never, Kind::Reset, Exit::Missed),
            (above, Kind::Doubled, Exit::Failed),
            (above, Kind::Status(503), Exit::Ok),
        ] {
            let found = failing(rates, kind);
            assert_eq!(found.exit(), exit, "{kind:?}");
            let advice = found.advice().join(" ");
            assert_eq!(advice.contains("no question of the rate"), exit == Exit::Failed, "{kind:?}: {advice}");
            assert_eq!(advice.contains("A lower rate"), exit == Exit::Missed, "{kind:?}: {advice}");
        }
        let mut judged = failing(never, Kind::Corrupted);
        judged.slo = "p99<2ms,err<1%".parse().unwrap();
        assert_eq!(judged.exit(), Exit::Missed, "the condition decides");
        assert!(!judged.advice().join(" ").contains("A lower rate"), "{:?}", judged.advice());
        let mut warm = found(above, |_| ());
        warm.report.stages[0].is_warmup = true;
        note(&mut warm.report.stages[0].recorder.request_failures, Failure::new(Act::Reply, Kind::Swapped));
        assert_eq!(warm.exit(), Exit::Failed);
    }

    #[test]
    fn what_failed_clearly_above_the_generators_limit_is_in_the_sentence_and_the_advice() {
        let both = |passes: bool| {
            let mut rates = vec![(1050.0, false), (1600.0, false)];
            rates.extend(passes.then_some((1000.0, true)));
            // The generator is busy at the lower of the two rates that fail.
            let number = std::cell::Cell::new(0);
            found(&rates, |recorder| {
                recorder.busy_part = if number.replace(1) == 0 { 0.9 } else { 0.1 };
            })
        };
        let between = both(true);
        assert_eq!(between.exit(), Exit::Suspect);
        let sentence = between.sentence();
        assert!(sentence.starts_with("1,000/s meets p99 < 2.00 ms, 1,600/s does not; "), "{sentence}");
        assert!(sentence.ends_with("at 1,050/s the generator gave out before the server did"), "{sentence}");
        assert!(between.generator().is_some_and(|reasons| reasons[0].contains("busy for 90 %")));
        assert!(between.advice()[0].contains("limit lies below 1,600/s"), "{:?}", between.advice());
        let none = both(false);
        assert_eq!(none.exit(), Exit::Suspect);
        assert!(none.sentence().starts_with("unknown: 1,600/s does not meet"), "{}", none.sentence());
    }

    #[test]
    fn an_answer_that_the_generator_kept_from_being_confirmed_says_so() {
        let mut found = found(&[(1000.0, true), (1000.0, false), (1050.0, false)], |recorder| recorder.busy_part = 0.9);
        found.answer.first_failed_per_s = Some(1050.0);
        (found.answer.server_failed_per_s, found.answer.is_best_spoiled) = (Some(1050.0), true);
        assert_eq!(found.exit(), Exit::Suspect);
        let sentence = found.sentence();
        let wanted = "unconfirmed: 1,000/s met p99 < 2.00 ms, but the generator gave out";
        assert!(sentence.starts_with(wanted) && found.generator().is_some(), "{sentence}");
        assert!(sentence.ends_with("1,050/s does not meet it (1 of 2 trials at 1,000/s passed)"), "{sentence}");
    }

    #[test]
    fn what_failed_because_of_the_generator_above_the_servers_limit_changes_nothing() {
        let number = std::cell::Cell::new(0);
        let found = found(&[(1000.0, true), (1050.0, false), (1600.0, false)], |recorder| {
            recorder.busy_part = if number.replace(1) == 0 { 0.1 } else { 0.9 };
        });
        assert_eq!((found.exit(), found.generator()), (Exit::Ok, None));
        assert_eq!(found.sentence(), "1,000/s meets p99 < 2.00 ms; 1,050/s does not");
        assert!(found.advice().is_empty() && found.notes() == [SPOILED]);
    }

    #[test]
    fn a_search_that_was_broken_off_has_an_unconfirmed_answer() {
        let mut found = found(&[(1000.0, true), (2000.0, false)], |_| ());
        found.answer.is_confirmed = false;
        assert_eq!(found.exit(), Exit::Failed);
        assert!(found.sentence().starts_with("unconfirmed: 1,000/s met p99 < 2.00 ms, and 2,000/s did not"));
        assert!(found.advice()[0].contains("`--from 1000`"), "{:?}", found.advice());
        found.answer.server_failed_per_s = None;
        assert!(found.sentence().contains("above it, the generator gave out"), "{}", found.sentence());
        found.answer.first_failed_per_s = None;
        assert!(found.sentence().ends_with("more was not tried"), "{}", found.sentence());
        found.answer.best_per_s = None;
        assert!(found.sentence().starts_with("unknown: the generator"), "{}", found.sentence());
    }

    #[test]
    fn a_last_trial_that_cost_all_connections_leaves_the_answer_as_it_is() {
        let Found { mut report, trials, slo, bounds, answer, .. } = found(&[(100.0, false)], |_| ());
        report.ending = Ending::AllLost;
        let lost = Found::new(report.clone(), trials.clone(), (slo.clone(), bounds), answer);
        assert_eq!((lost.exit(), lost.report.ending), (Exit::Missed, Ending::Complete));
        let answer = Answer { is_confirmed: false, ..answer };
        let early = Found::new(report, trials, (slo, bounds), answer);
        assert_eq!((early.exit(), early.report.ending), (Exit::Failed, Ending::AllLost));
    }

    #[test]
    fn a_pass_beside_a_failure_is_explained() {
        assert_eq!(found(&[(1000.0, true), (1000.0, false)], |_| ()).notes(), [MIXED]);
        assert!(found(&[(1000.0, true), (1050.0, false)], |_| ()).notes().is_empty());
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
        let late = found(&[(1000.0, true), (1050.0, false)], |recorder| {
            (recorder.starved, recorder.busy_part) = (900, 0.9);
        });
        assert!(late.advice().iter().all(|sentence| !sentence.contains("-c 20")), "{:?}", late.advice());
    }
}
