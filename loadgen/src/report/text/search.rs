//! A search for people: the answer, why not more, and a table of all trials.

use std::fmt::{self, Display, Formatter};

use super::outcome::VALID;
use super::{advised, errors, fitted, machine_line, message, row, server_used};
use crate::quantity::{counted, rate_text, span};
use crate::recorder::Recorder;
use crate::report::paragraph::paragraph;
use crate::report::{Ending, Exit, advice};
use crate::search::found::Found;
use crate::search::percent;

/// `found` as text in lines of at most `columns`.
pub(crate) fn render(found: &Found, columns: usize) -> String {
    let sentences = advice::of_search(found);
    fitted(&Page(found, columns).to_string(), columns) + &advised(&sentences, columns)
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
        let why_not = found.first_failed().into_iter().flat_map(|trial| trial.misses.iter().map(move |it| (trial, it)));
        for (index, (trial, miss)) in why_not.enumerate() {
            let name = if index == 0 { "  why not" } else { "" };
            row(f, name, &format!("at {}/s: {miss}", rate_text(trial.rate_per_s)))?;
        }
        // Of a server that answered nothing there are no figures.
        let is_answered = found.decisive().is_some_and(|trial| trial.result.recorder.answered > 0);
        if found.generator().is_none() && found.exit() != Exit::Failed && is_answered {
            row(f, "Verdict", &format!("VALID: {VALID}"))?;
        }
        for (index, reason) in found.generator().into_iter().flatten().enumerate() {
            row(
                f,
                if index == 0 { "Verdict" } else { "" },
                &format!("{}{reason}", if index == 0 { "SUSPECT: " } else { "" }),
            )?;
        }
        trials(f, found, columns)?;
        failures(f, found)?;
        if let (Some(trial), Some(used)) = (found.decisive(), server_used(&found.report)) {
            row(f, "Server", &format!("at {}/s: {used}", rate_text(trial.rate_per_s)))?;
        }
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
        let figures = format!(
            "  {:>10} {:>10} {:>8} {:>8} {:>9} ",
            rate_text(trial.rate_per_s),
            rate_text(trial.result.recorder.answered_per_s()),
            trial.time(50.0, "-"),
            trial.time(99.0, "-"),
            percent(trial.error_part())
        );
        f.write_str(&paragraph(&figures, &trial.outcome(), columns))?;
    }
    for note in found.notes() {
        f.write_str(&paragraph(" ", note, columns))?;
    }
    writeln!(f)
}

/// What failed in any of the trials.
fn failures(f: &mut Formatter<'_>, found: &Found) -> fmt::Result {
    let all = found.everything();
    let trials = counted(found.trials.len() as u64, "trial");
    let is_none = |recorder: &Recorder| recorder.failed() == 0;
    if found.trials.is_empty() || !all.stages.iter().all(|result| is_none(&result.recorder)) {
        errors(f, &all)?;
        return if found.trials.len() > 1 { row(f, "", &format!("({trials} together)")) } else { Ok(()) };
    }
    // What was under way when one was broken off may have been answered.
    let whole = found.trials.iter().filter(|trial| trial.is_passed() || trial.is_failed());
    match whole.map(|trial| trial.result.recorder.unfinished).sum() {
        0 => row(f, "Errors", &format!("none in {trials}")),
        number => {
            row(f, "Errors", &format!("none in {trials}, but {} unanswered at their ends", counted(number, "request")))
        }
    }
}

fn result(found: &Found) -> &'static str {
    match (found.report.ending, found.exit()) {
        (Ending::Interrupted, _) => "INTERRUPTED: the answer is unconfirmed; this is what there was until then",
        (_, Exit::Failed) if found.trials.is_empty() => "FAILED: not all connections could be opened",
        (_, Exit::Failed) if found.answer.is_confirmed && !found.lacks_connections => {
            "FAILED: replies were wrong, which is no question of the rate"
        }
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
    use crate::failure::{Act, Failure, Kind};
    use crate::recorder::note;
    use crate::search::found::tests::found;
    use crate::search::trial::Trial;
    use crate::server_process::{Sample, ServerUse};
    use std::time::Duration;

    #[test]
    fn the_answer_stands_first_and_then_each_trial() {
        let text = render(&found(&[(1000.0, true), (2000.0, false)], |_| ()), 80);
        assert!(text.starts_with("Search · 127.0.0.1:4000 · 10 connections · 64 B a message\n"), "{text}");
        let answer = text.lines().find(|line| line.starts_with("Answer")).unwrap();
        assert_eq!(answer, "Answer        1,000/s meets p99 < 2.00 ms; 2,000/s does not");
        assert!(text.contains("  why not     at 2,000/s: p99 < 2.00 ms: 50.0 ms"), "{text}");
        assert!(
            text.contains("pass\n") && text.contains("FAIL: p99 50.0 ms\n") && text.contains("Result        FOUND"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn a_verdict_and_errors_are_those_of_the_whole_search() {
        let text = render(&found(&[(1000.0, true), (2000.0, false)], |_| ()), 80);
        assert!(text.contains("Verdict       VALID: ") && text.contains("Errors        none in 2 trials\n"), "{text}");
        let text = render(&found(&[(1000.0, true), (2000.0, false)], |it| it.unfinished = 7), 80);
        assert!(text.contains("none in 2 trials, but 7 requests unanswered at their ends"), "{text}");
        let text = render(&found(&[(1000.0, true), (2000.0, false)], |recorder| recorder.busy_part = 0.9), 80);
        assert!(text.contains("Verdict       SUSPECT: ") && !text.contains("VALID"), "{text}");
        let lossy = found(&[(1000.0, true), (2000.0, false)], |recorder| {
            note(&mut recorder.request_failures, Failure::new(Act::Reply, Kind::Reset));
        });
        let text = render(&lossy, 80);
        assert!(text.contains("1 × reply: reset\n              (2 trials together)\n"), "{text}");
        assert!(text.contains("reopened before the next trial") && !text.contains("does not reopen"), "{text}");
    }

    #[test]
    fn wrong_replies_stand_in_the_result() {
        let wrong = found(&[(100.0, false)], |it| {
            note(&mut it.request_failures, Failure::new(Act::Reply, Kind::Corrupted));
        });
        let text = render(&wrong, 80);
        assert!(text.contains("Result        FAILED: replies were wrong, which is no question"), "{text}");
        assert!(!text.contains("VALID") && !text.contains("lower rate"), "{text}");
    }

    #[test]
    fn what_the_server_used_at_the_answer_is_said() {
        let mut found = found(&[(1000.0, true), (2000.0, false)], |_| ());
        assert!(!render(&found, 120).contains("\nServer"));
        let most = Sample { resident_bytes: 5 << 20, descriptors: Some(7), threads: 2, ..Sample::default() };
        let used = ServerUse { cpu_time: Duration::from_millis(500), most, gone: Vec::new() };
        let shown = found.report.stages.last_mut().unwrap();
        (shown.server_use, shown.elapsed) = (Some(used), Duration::from_secs(1));
        let text = render(&found, 120);
        let wanted = "Server        at 1,000/s: 0.50 cores · 5.00 MiB resident at most · 7 descriptors · 2 threads\n";
        assert!(text.contains(wanted), "{text}");
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
