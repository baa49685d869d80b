//! The command `search`: the highest rate that meets the conditions of `--slo`, by trials of an open loop.

pub(crate) mod bracket;
pub(crate) mod found;
pub(crate) mod trial;

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use crate::args::Search;
use crate::load;
use crate::machine::Machine;
use crate::output::{Formats, Outlet};
use crate::plan::Plan;
use crate::preflight;
use crate::problem::Problem;
use crate::quantity::{rate_text, span};
use crate::report::{self, Ending, Exit, hgrm, hlog};
use crate::run::Run;
use crate::schedule::{Arrival, Rate};
use crate::search::bracket::{Bounds, Bracket, Next};
use crate::search::found::Found;
use crate::search::trial::Trial;
use crate::signals::Signals;
use crate::slo::Slo;
use crate::stage::Stage;
use crate::terminal::columns;

/// Searches, and writes what was found. Returns how it went.
///
/// # Errors
/// What stood in the way of the search.
pub(crate) fn run(search: &Search) -> Result<Exit, Problem> {
    let load = &search.aimed.load;
    let (slo, bounds) = usable(search).map_err(Problem::Usage)?;
    let signals = Signals::catch().map_err(Problem::Signals)?;
    let machine = Machine::prepare();
    let mut plan = load::plan(&search.aimed.targets, load, None, &machine)?;
    let length = Length { usual: load.duration, samples_min: slo.samples_min() };
    plan.drain = drain(&slo, load.duration).min(load.timeout);
    // Histograms must hold the longest trial, which is one at the lowest rate.
    plan.duration = length.of(bounds.from_per_s, true);
    preflight::check(&plan, &machine)?;
    let mut outlet = Outlet::open(&load.output, FORMATS, &signals)?;
    let base = Plan { duration: load.duration, ..plan.clone() };
    let doubts = preflight::doubts(&plan, &machine);
    let mut hunt = Hunt {
        run: Run::start(plan, machine, &signals, load.output.quiet)?,
        bracket: Bracket::new(bounds),
        trials: Vec::new(),
        slo,
        length,
        warmup: load.warmup,
        arrival: search.arrival,
        lacks_connections: false,
    };
    hunt.run.say(&doubts);
    hunt.go_on()?;
    let answer = hunt.bracket.answer();
    let mut report = hunt.run.finish();
    report.plan = base;
    let mut found = Found::new(report, hunt.trials, (hunt.slo, bounds), answer);
    found.lacks_connections = hunt.lacks_connections;
    outlet.write(&found, "")?;
    Ok(found.exit())
}

/// How results of a search look in each format.
const FORMATS: Formats<Found> = Formats {
    text: report::text::search::render,
    json: report::json::search::render,
    hgrm: |found| hgrm::render(&found.report),
    hlog: |found| {
        hlog::render_of(&found.report, found.trials.iter().map(|trial| (&trial.result, found::tag(&trial.result))))
    },
    csv: report::csv::search::render,
    html: report::html::search::render,
};

/// The conditions and the bounds, if they make sense for a search.
fn usable(search: &Search) -> Result<(Slo, Bounds), String> {
    let load = &search.aimed.load;
    let example = "such as 'p99<2ms,err<0.01%'";
    let slo = load.slo.clone().ok_or_else(|| format!("a search needs --slo, {example}"))?;
    if slo.asks_for_rate() {
        return Err(format!("--slo with a rate makes no sense in a search, which looks for the rate: give {example}"));
    }
    if load.runs > 1 {
        return Err("a search repeats trials where that is needed: leave out --runs".to_owned());
    }
    if !load.shard.is_whole() || load.start_at.is_some() {
        let sentence = "a search is one process's: which rate is next depends on what the last one came to, and another \
                        process would not know; leave out --shard and --start-at";
        return Err(sentence.to_owned());
    }
    let usual = (slo.samples_min() * SAMPLES_SPARE / load.duration.as_secs_f64()).max(FROM_PER_S);
    let usual = up(usual).min(search.to.unwrap_or(f64::MAX));
    let bounds = Bounds {
        from_per_s: search.from.unwrap_or(usual),
        to_per_s: search.to.unwrap_or(TO_PER_S),
        precision: search.precision / 100.0,
    };
    if bounds.from_per_s > bounds.to_per_s {
        let (from, to) = (rate_text(bounds.from_per_s), rate_text(bounds.to_per_s));
        return Err(format!("--from {from} is above --to {to}"));
    }
    let length = Length { usual: load.duration, samples_min: slo.samples_min() };
    let longest = length.of(bounds.from_per_s, false);
    if longest > load.duration.max(TRIAL_MAX) {
        return Err(format!(
            "at {}/s it takes {} until there are samples enough for {slo}: give a higher --from, or a longer -d",
            rate_text(bounds.from_per_s),
            span(longest.as_nanos() as u64)
        ));
    }
    Ok((slo, bounds))
}

/// Rounded up to two digits.
fn up(rate_per_s: f64) -> f64 {
    let unit = 10f64.powf(rate_per_s.log10().floor() - 1.0);
    (rate_per_s / unit - 1e-9).ceil() * unit
}

/// How long requests are still sent that fell due in a trial: what is later than any condition allows is a miss already,
/// and a server that has to catch up with all of them would begin the next trial without its connections.
fn drain(slo: &Slo, duration: Duration) -> Duration {
    Duration::from_nanos(slo.longest_ns()).max(duration / 4).max(DRAIN_MIN)
}

/// How long a trial takes.
#[derive(Debug, Clone, Copy)]
struct Length {
    usual: Duration,
    samples_min: f64,
}

impl Length {
    /// At this rate: long enough for the samples that the conditions need, and twice as long to confirm.
    fn of(&self, rate_per_s: f64, is_last: bool) -> Duration {
        let needed = Duration::from_secs_f64(self.samples_min * SAMPLES_SPARE / rate_per_s);
        self.usual.max(needed) * if is_last { 2 } else { 1 }
    }
}

/// A search that goes on.
struct Hunt<'a> {
    run: Run<'a>,
    bracket: Bracket,
    trials: Vec<Trial>,
    slo: Slo,
    length: Length,
    warmup: Option<Duration>,
    arrival: Arrival,
    lacks_connections: bool,
}

impl Hunt<'_> {
    /// Runs trials until there is an answer, or none to be had.
    fn go_on(&mut self) -> Result<(), Problem> {
        self.run.stage(Stage::Connect)?;
        while let Next::Try { rate_per_s, is_last } = self.bracket.next() {
            if !self.is_connected()? || !self.trial(rate_per_s, is_last)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether all connections are open; those that a trial has cost are opened again.
    fn is_connected(&mut self) -> Result<bool, Problem> {
        if self.run.ending() == Ending::Interrupted {
            return Ok(false);
        }
        if !self.trials.is_empty() && !self.run.is_complete() {
            self.run.renew()?;
        }
        self.lacks_connections = !self.run.is_complete();
        Ok(!self.lacks_connections)
    }

    /// Runs one trial; false if it was broken off.
    fn trial(&mut self, rate_per_s: f64, is_last: bool) -> Result<bool, Problem> {
        let (duration, rate) = (self.length.of(rate_per_s, is_last), Rate::constant(rate_per_s));
        let stage = Stage::Open { duration, rate, arrival: self.arrival };
        if let Some(warmup) = self.warmup {
            self.run.warm_up(stage.lasting(warmup), None)?;
            if !self.run.is_complete() && !self.is_connected()? {
                return Ok(false);
            }
        }
        if self.run.stage(stage)?.is_none() {
            return Ok(false);
        }
        let Some(result) = self.run.last_measured().cloned() else { return Ok(false) };
        let (number, is_interrupted) = (self.trials.len() + 1, self.run.ending() == Ending::Interrupted);
        let trial = match is_interrupted {
            true => Trial::broken_off(number, rate_per_s, is_last, result),
            false => Trial::judge(number, rate_per_s, is_last, result, &self.slo),
        };
        let columns = if stderr().is_terminal() { columns(stderr()) } else { usize::MAX };
        self.run.say(&[line(&trial, columns.saturating_sub(INDENT_COLUMNS + 1))]);
        self.bracket.note(rate_per_s, is_last, trial.grade);
        self.trials.push(trial);
        Ok(!is_interrupted)
    }
}

/// What is said of a trial while the search goes on, in one line of at most `columns`: what is left out first is what the
/// table at the end has, too.
fn line(trial: &Trial, columns: usize) -> String {
    let rate = format!("{:>10}/s  ", rate_text(trial.rate_per_s));
    let [p50, p99] = [50.0, 99.0].map(|it| format!("p{it} {:>7}  ", trial.time(it, "-")));
    let errors = format!("err {:>8}  ", percent(trial.error_part()));
    let heads = [format!("{rate}{p50}{p99}{errors}"), format!("{rate}{p50}{p99}"), format!("{rate}{p99}"), rate];
    let room = |head: &String| columns.saturating_sub(head.chars().count());
    let [.., last] = &heads;
    let head = heads.iter().find(|head| room(head) >= trial.word().chars().count() + CUT.len()).unwrap_or(last);
    let outcome = trial.outcome();
    if outcome.chars().count() <= room(head) {
        return format!("{head}{outcome}");
    }
    let cut: String = outcome.chars().take(room(head).saturating_sub(CUT.len())).collect();
    format!("{head}{cut}{CUT}").chars().take(columns).collect()
}

/// What stands in place of what there is no room for.
const CUT: &str = "...";

/// Columns before what is said between two stages.
const INDENT_COLUMNS: usize = 8;

/// A part from 0 to 1 in percent, with as many decimals as it needs to be seen.
pub(crate) fn percent(part: f64) -> String {
    match part * 100.0 {
        0.0 => "0 %".to_owned(),
        few @ ..0.1 => format!("{few:.4} %"),
        some => format!("{some:.2} %"),
    }
}

/// The lowest rate, unless the conditions need more samples than it gives: most servers bear more.
const FROM_PER_S: f64 = 100.0;

/// The highest: the clock tells no more apart, and the generator gives out long before.
const TO_PER_S: f64 = 1e9;

/// More samples than just enough, for chance may make them fewer.
const SAMPLES_SPARE: f64 = 1.2;

/// A trial that is longer is not what anybody meant.
const TRIAL_MAX: Duration = Duration::from_secs(600);

/// The least drain: a server that stops for a moment shall not lose a trial's last requests.
const DRAIN_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser;

    fn of(rest: &str) -> Result<(Slo, Bounds), String> {
        let line = format!("loadgen search 127.0.0.1:1 {rest}");
        let args = Args::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Some(Command::Search(search)) = args.command else { panic!("{line}") };
        usable(&search)
    }

    #[test]
    fn the_lowest_rate_gives_the_samples_that_the_conditions_need() {
        let from = |rest: &str| of(rest).unwrap().1.from_per_s;
        assert_eq!(from("--slo p50<1ms"), 100.0);
        assert_eq!(from("--slo p99<1ms"), 240.0, "1,200 in 5 s");
        assert_eq!(from("--slo p99.9<1ms -d 10s"), 1200.0);
        assert_eq!(from("--slo p99<1ms --to 50"), 50.0);
        assert_eq!(from("--slo p99<1ms --from 10"), 10.0);
        let length = Length { usual: Duration::from_secs(5), samples_min: 1000.0 };
        assert_eq!(length.of(10.0, false), Duration::from_secs(120));
        assert_eq!(length.of(1000.0, true), Duration::from_secs(10));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (rest, wanted) in [
            ("", "--slo"),
            ("--slo rate>5k,p99<1ms", "looks for the rate"),
            ("--slo p99<1ms --runs 3", "leave out --runs"),
            ("--slo p99<1ms --from 2k --to 1k", "--from 2,000 is above --to 1,000"),
            ("--slo p99.99<1ms --from 1", "a longer -d"),
            ("--slo p99<1ms --precision 0", "precision"),
        ] {
            let sentence = of(rest).unwrap_err();
            assert!(sentence.contains(wanted), "{rest}: {sentence}");
        }
    }

    #[test]
    fn what_is_said_of_a_trial_fits_the_terminal() {
        let trials = found::tests::found(&[(1000.0, true), (123_456.0, false)], |it| it.busy_part = 0.9).trials;
        for columns in 1..120 {
            assert!(trials.iter().all(|trial| line(trial, columns).chars().count() <= columns), "{columns}");
        }
        assert_eq!(line(&trials[1], 51), "   123,456/s  p50  550 us  p99 50.0 ms  unclear:...");
        assert!(line(&trials[1], usize::MAX).ends_with("  unclear: p99 50.0 ms, loadgen busy 90 %"));
        assert!(line(&trials[0], 71).contains("err      0 %  pass"), "{}", line(&trials[0], 71));
    }

    #[test]
    fn small_parts_are_seen() {
        assert_eq!([0.0, 0.000_05, 0.5].map(percent), ["0 %", "0.0050 %", "50.00 %"]);
        assert_eq!([100.0, 101.0, 1234.0].map(up), [100.0, 110.0, 1300.0]);
    }
}
