//! A search for people: the answer, why not more, and a table of all trials.

use std::fmt::{self, Display, Formatter};

use super::{advised, errors, fitted, machine_line, message, row, shown};
use crate::quantity::{counted, rate_text, span};
use crate::report::paragraph::paragraph;
use crate::report::percentiles::Percentiles;
use crate::report::{Ending, Exit, Report, advice};
use crate::search::found::Found;
use crate::search::percent;

/// `found` as text in lines of at most `columns`.
pub(crate) fn render(found: &Found, columns: usize) -> String {
    let mut sentences = advice::sentences(&everything(found));
    // What it says of an open loop is said of the search as a whole.
    sentences.retain(|sentence| found.lacks_connections || !sentence.contains("-R"));
    sentences.extend(found.advice());
    fitted(&Page(found, columns).to_string(), columns) + &advised(&sentences, columns)
}

/// The report with all trials, not only the one that decided: what failed in any of them is to be told.
fn everything(found: &Found) -> Report {
    let mut report = found.report.clone();
    report.stages.retain(|result| !result.is_measured());
    report.stages.extend(found.trials.iter().map(|trial| trial.result.clone()));
    report
}

/// The page without its advice; its table is one for a terminal of so many columns.
struct Page<'a>(&'a Found, usize);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Page(found, columns) = *self;
        let plan = &found.report.plan;
        let connections = counted(plan.connections, "connection");
        writeln!(f, "Search · {} · {connections} · {}", plan.name, message(plan))?;
        writeln!(f, "{}\n", machine_line(&found.report))?;
        row(f, "Answer", &found.sentence())?;
        for (index, miss) in found.first_failed().into_iter().flat_map(|trial| &trial.misses).enumerate() {
            row(f, if index == 0 { "  why not" } else { "" }, miss)?;
        }
        for (index, reason) in found.generator().into_iter().flatten().enumerate() {
            row(
                f,
                if index == 0 { "Verdict" } else { "" },
                &format!("{}{reason}", if index == 0 { "SUSPECT: " } else { "" }),
            )?;
        }
        trials(f, found, columns)?;
        errors(f, &everything(found))?;
        row(f, "Result", result(found))
    }
}

/// All trials, in ascending order of their rates.
fn trials(f: &mut Formatter<'_>, found: &Found, columns: usize) -> fmt::Result {
    if found.trials.is_empty() {
        return Ok(());
    }
    let each = span(found.report.plan.duration.as_nanos() as u64);
    let number = counted(found.trials.len() as u64, "trial");
    writeln!(f, "\n{number} of {each} or more, within {} %, by rate", found.bounds.precision * 100.0)?;
    writeln!(f, "  {:>10} {:>10} {:>8} {:>8} {:>9}  result", "due/s", "answers/s", "p50", "p99", "errors")?;
    for trial in found.by_rate() {
        let times = Percentiles::of(&trial.result.recorder.latency);
        let figures = format!(
            "  {:>10} {:>10} {:>8} {:>8} {:>9} ",
            rate_text(trial.rate_per_s),
            rate_text(trial.result.recorder.answered_per_s()),
            shown(times.p50_ns),
            shown(times.p99_ns),
            percent(trial.error_part())
        );
        f.write_str(&paragraph(&figures, &trial.outcome(), columns))?;
    }
    for note in found.notes() {
        f.write_str(&paragraph(" ", note, columns))?;
    }
    writeln!(f)
}

fn result(found: &Found) -> &'static str {
    match (found.report.ending, found.exit()) {
        (Ending::Interrupted, _) => "INTERRUPTED: the answer is unconfirmed; this is what there was until then",
        (_, Exit::Failed) if found.trials.is_empty() => "FAILED: not all connections could be opened",
        (_, Exit::Failed) => "FAILED: connections were lost, and could not be opened again; the answer is unconfirmed",
        (_, Exit::Suspect) if found.answer.is_best_spoiled => {
            "SUSPECT: the answer is unconfirmed, because the generator gave out before the server did"
        }
        (_, Exit::Suspect) if found.answer.server_failed_per_s.is_some() => {
            "SUSPECT: near the limit the generator gave out before the server did"
        }
        (_, Exit::Suspect) => "SUSPECT: the generator gave out before the server did",
        (_, Exit::Missed) => "NONE: not even the lowest rate meets the conditions",
        _ => "FOUND",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::found::tests::found;
    use crate::search::trial::Trial;

    #[test]
    fn the_answer_stands_first_and_then_each_trial() {
        let text = render(&found(&[(1000.0, true), (2000.0, false)], |_| ()), 80);
        assert!(text.starts_with("Search · 127.0.0.1:4000 · 10 connections · 64 B a message\n"), "{text}");
        let answer = text.lines().find(|line| line.starts_with("Answer")).unwrap();
        assert_eq!(answer, "Answer        1,000/s meets p99 < 2.00 ms; 2,000/s does not");
        assert!(text.contains("  why not     p99 < 2.00 ms: 50.0 ms"), "{text}");
        assert!(
            text.contains("pass\n") && text.contains("FAIL: p99 50.0 ms\n") && text.contains("Result        FOUND"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn long_reasons_stay_below_their_column_and_marks_are_explained() {
        let text = render(&found(&[(1000.0, true), (2000.0, false)], |recorder| recorder.busy_part = 0.9), 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let mut rows = text.lines().skip_while(|line| !line.contains("unclear: p99 "));
        assert!(rows.next().is_some_and(|row| row.starts_with("       2,000")), "{text}");
        assert!(rows.next().is_some_and(|row| row.starts_with(&" ".repeat(53))), "it goes on below: {text}");
        assert!(text.contains("  unclear: the conditions were missed"), "{text}");
    }

    #[test]
    fn an_interrupted_search_is_unconfirmed() {
        let mut found = found(&[(1000.0, true)], |_| ());
        (found.report.ending, found.answer.is_confirmed) = (Ending::Interrupted, false);
        let result = found.trials[0].result.clone();
        found.trials.push(Trial::broken_off(2, 2000.0, false, result));
        let text = render(&found, 80);
        assert!(text.contains("unconfirmed: 1,000/s met p99 < 2.00 ms; more was not tried"), "{text}");
        assert!(text.contains("broken off after") && text.contains("INTERRUPTED: the answer is unconfirmed"), "{text}");
    }

    #[test]
    fn a_search_without_a_trial_says_why() {
        let mut none = found(&[], |_| ());
        none.lacks_connections = true;
        let text = render(&none, 80);
        assert!(text.contains("FAILED: not all connections could be opened"), "{text}");
    }
}
