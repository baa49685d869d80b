//! The command `compare`: what differs between the results of two files, and whether that is more than chance.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::args::Compare;
use crate::interval::Sample;
use crate::problem::Problem;
use crate::quantity::{rate_text, span};
use crate::report::Exit;

/// Compares two files of results and writes what it found. Returns whether the second is worse.
///
/// # Errors
/// A file that cannot be read, or has no results that can be compared.
pub(crate) fn run(arguments: &Compare) -> Result<Exit, Problem> {
    let (before, after) = (Results::read(&arguments.before)?, Results::read(&arguments.after)?);
    let differences = before.differences(&after)?;
    let (before, after) = (before.runs, after.runs);
    let figures: Vec<Figure> =
        MEASURES.iter().filter_map(|measure| Figure::new(measure, &before, &after, arguments.tolerance)).collect();
    let is_worse = figures.iter().any(|figure| figure.finding == Finding::Worse);
    let comparison = Comparison { runs: [before.len(), after.len()], is_worse, figures: &figures, notes: &differences };
    write(&comparison, arguments.json.as_deref())?;
    let is_judged = figures.iter().any(|figure| figure.finding != Finding::Unknown);
    Ok(match (is_worse, is_judged) {
        (true, _) => Exit::Worse,
        (false, true) => Exit::Ok,
        // A script is not to take for a yes what nobody can tell.
        (false, false) => Exit::Suspect,
    })
}

/// Writes the text, and the JSON to `json`: `-` is standard output, in the text's place.
fn write(comparison: &Comparison, json: Option<&Path>) -> Result<(), Problem> {
    let rendered =
        || serde_json::to_string_pretty(comparison).expect("numbers and strings can always be written as JSON") + "\n";
    let text = match json {
        Some(path) if path.as_os_str() == "-" => rendered(),
        Some(path) => {
            let unwritten = |error| Problem::Output { name: path.display().to_string(), error };
            fs::write(path, rendered()).map_err(unwritten)?;
            page(comparison)
        }
        None => page(comparison),
    };
    match stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Problem::Output { name: "standard output".to_owned(), error })
        }
        _ => Ok(()),
    }
}

/// What can be compared: a name, where it stands in a stage's results, whether more of it is better.
struct Measure {
    name: &'static str,
    path: &'static str,
    more_is_better: bool,
}

const MEASURES: [Measure; 6] = [
    Measure { name: "answers/s", path: "/answered_per_s", more_is_better: true },
    Measure { name: "p50", path: "/latency/p50_ns", more_is_better: false },
    Measure { name: "p90", path: "/latency/p90_ns", more_is_better: false },
    Measure { name: "p99", path: "/latency/p99_ns", more_is_better: false },
    Measure { name: "p99.9", path: "/latency/p99_9_ns", more_is_better: false },
    Measure { name: "max", path: "/latency/max_ns", more_is_better: false },
];

/// One measure of both files.
#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    /// The geometric means over the runs of each: of their ratio the interval speaks.
    before: f64,
    after: f64,
    /// How much more the second's is, in percent of the first's.
    change_percent: f64,
    /// The ends of the 95 % confidence interval of that; null with fewer than two runs in a file. It is that of the
    /// difference of the logarithms: one of the difference itself can end below -100 %, where there is nothing.
    change_percent_range: Option<[f64; 2]>,
    finding: Finding,
}

/// What a change amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Finding {
    /// Too few runs to tell chance from change.
    Unknown,
    /// Chance alone makes such differences.
    NoDifference,
    /// Real, but within the tolerance.
    Tolerable,
    /// Real, and for the better.
    Better,
    /// Real, and for the worse.
    Worse,
}

impl Figure {
    /// `None` where one of the files does not have it in each of its runs, or nothing of it.
    fn new(measure: &Measure, before: &[Value], after: &[Value], tolerance_percent: f64) -> Option<Figure> {
        let sample = |runs: &[Value]| {
            let value = |run: &Value| run.pointer(measure.path)?.as_f64().filter(|value| *value > 0.0);
            let logarithms: Option<Vec<f64>> = runs.iter().map(|run| value(run).map(f64::ln)).collect();
            logarithms.map(Sample::new)
        };
        let (before, after) = (sample(before)?, sample(after)?);
        let percent = |difference: f64| difference.exp_m1() * 100.0;
        let change = percent(after.mean() - before.mean());
        let range = before.difference(&after).map(|it| [percent(it.low), percent(it.high)]);
        let finding = match range {
            None => Finding::Unknown,
            Some([low, high]) if low <= 0.0 && high >= 0.0 => Finding::NoDifference,
            _ if change.abs() <= tolerance_percent => Finding::Tolerable,
            _ if (change > 0.0) == measure.more_is_better => Finding::Better,
            _ => Finding::Worse,
        };
        Some(Figure {
            name: measure.name,
            before: before.mean().exp(),
            after: after.mean().exp(),
            change_percent: change,
            change_percent_range: range,
            finding,
        })
    }

    fn shown(&self, value: f64) -> String {
        if self.name == "answers/s" { rate_text(value) } else { span(value as u64) }
    }
}

#[derive(Debug, Serialize)]
struct Comparison<'a> {
    /// How many runs each file has.
    runs: [usize; 2],
    is_worse: bool,
    figures: &'a [Figure],
    /// What makes the comparison something else than it seems.
    notes: &'a [String],
}

fn page(comparison: &Comparison) -> String {
    let Comparison { runs: [before, after], figures, notes, .. } = *comparison;
    let mut text =
        format!("{before} runs against {after}; geometric means, and their change with its 95 % interval\n\n");
    text += &format!("  {:<10}{:>12}{:>12}{:>10}  {:<22}\n", "", "before", "after", "change", "95 % interval");
    for figure in figures {
        let range = figure.change_percent_range.map(|[low, high]| format!("{low:+.1} % to {high:+.1} %"));
        let words = match figure.finding {
            Finding::Unknown => "fewer than two runs: no telling",
            Finding::NoDifference => "no difference beyond chance",
            Finding::Tolerable => "real, within the tolerance",
            Finding::Better => "BETTER",
            Finding::Worse => "WORSE",
        };
        text += &format!(
            "  {:<10}{:>12}{:>12}{:>10}  {:<22}{words}\n",
            figure.name,
            figure.shown(figure.before),
            figure.shown(figure.after),
            format!("{:+.1} %", figure.change_percent),
            range.unwrap_or_else(|| "-".to_owned())
        );
    }
    text += &notes.iter().map(|note| format!("\n! {note}\n")).collect::<String>();
    if before.min(after) < RUNS_ADVISED {
        text += &format!(
            "\n! {RUNS_ADVISED} runs of each (--runs {RUNS_ADVISED}) tell small changes from chance; fewer hardly do.\n"
        );
    }
    text
}

/// The results in a file, as far as they are compared.
struct Results {
    name: String,
    plan: Value,
    is_suspect: bool,
    /// The measured stages.
    runs: Vec<Value>,
}

impl Results {
    fn read(path: &Path) -> Result<Results, Problem> {
        let wrong = |why: String| Problem::Machine(format!("cannot compare {}: {why}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let mut results: Value =
            serde_json::from_str(&text).map_err(|error| wrong(format!("it is no JSON: {error}")))?;
        if results["format"] != 1 || !results["stages"].is_array() {
            return Err(wrong("it has no results of `loadgen --json`".to_owned()));
        }
        if results["is_ok"] == false {
            return Err(wrong("that run failed or was broken off: what it measured is no result".to_owned()));
        }
        let stages = results["stages"].take();
        let is_run = |stage: &&Value| {
            matches!(stage["stage"].as_str(), Some("closed" | "open" | "churn")) && stage["is_warmup"] != true
        };
        let runs: Vec<Value> = stages.as_array().into_iter().flatten().filter(is_run).cloned().collect();
        let first = runs.first().ok_or_else(|| wrong("it has no closed and no open loop".to_owned()))?;
        if runs.iter().any(|run| run["stage"] != first["stage"]) {
            return Err(wrong("it has both closed and open loops: compare results of one kind".to_owned()));
        }
        let is_suspect = results["verdict"]["verdict"] == "suspect";
        Ok(Results { name: path.display().to_string(), plan: results["plan"].take(), is_suspect, runs })
    }

    /// What else is not the same, in sentences.
    fn differences(&self, other: &Results) -> Result<Vec<String>, Problem> {
        if self.runs[0]["stage"] != other.runs[0]["stage"] {
            let sentence = format!(
                "cannot compare: one of {} and {} is a closed loop, the other an open one",
                self.name, other.name
            );
            return Err(Problem::Machine(sentence));
        }
        let planned = |field| (field, &self.plan[field], &other.plan[field]);
        let rate = "rate_target_per_s";
        let load = ["protocol", "send", "expect", "message_bytes"].map(planned).into_iter();
        let mut load = load.chain([(rate, &self.runs[0][rate], &other.runs[0][rate])]);
        if let Some((field, mine, theirs)) = load.find(|(_, mine, theirs)| mine != theirs) {
            let sentence = format!(
                "cannot compare {} and {}: they are of different loads, {field} was {mine}, then {theirs}",
                self.name, other.name
            );
            return Err(Problem::Machine(sentence));
        }
        let mut told: Vec<String> = ["connections", "threads", "duration_s"]
            .map(planned)
            .into_iter()
            .filter(|(_, mine, theirs)| mine != theirs)
            .map(|(field, mine, theirs)| format!("The loads differ: {field} was {mine}, then {theirs}."))
            .collect();
        let [mine, theirs] = [self, other].map(|results| results.plan["pipeline"].as_u64().unwrap_or(1));
        if mine != theirs {
            told.push(format!(
                "The loads differ: pipeline was {mine}, then {theirs} requests at once on a connection, each of which waits \
                 for those before it."
            ));
        }
        let suspects = [self, other].into_iter().filter(|results| results.is_suspect);
        told.extend(
            suspects
                .map(|results| format!("The verdict on {} was SUSPECT: it may be loadgen that differs.", results.name)),
        );
        Ok(told)
    }
}

/// With five the interval is two and a half times as narrow as with two.
const RUNS_ADVISED: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn finding(before: &[f64], after: &[f64], index: usize) -> Finding {
        let runs = |values: &[f64]| -> Vec<Value> {
            values.iter().map(|value| json!({ "answered_per_s": value, "latency": { "p50_ns": value } })).collect()
        };
        Figure::new(&MEASURES[index], &runs(before), &runs(after), 2.0).unwrap().finding
    }

    #[test]
    fn a_change_is_told_from_chance_and_good_from_bad() {
        let base = [100.0, 101.0, 99.0, 100.5, 99.5];
        let more = base.map(|value| value * 1.1);
        assert_eq!([finding(&base, &more, 0), finding(&base, &more, 1)], [Finding::Better, Finding::Worse]);
        assert_eq!([finding(&more, &base, 0), finding(&more, &base, 1)], [Finding::Worse, Finding::Better]);
        assert_eq!(finding(&base, &[100.2, 99.0, 101.5, 99.9, 100.1], 0), Finding::NoDifference);
        assert_eq!(finding(&base, &base.map(|value| value * 1.015), 0), Finding::Tolerable);
        assert_eq!(finding(&base, &[200.0], 0), Finding::Unknown);
    }

    #[test]
    fn what_not_all_runs_have_is_left_out() {
        let some = [json!({ "latency": { "p99_9_ns": null } })];
        assert!(Figure::new(&MEASURES[4], &some, &some, 2.0).is_none());
    }

    #[test]
    fn no_interval_ends_below_nothing() {
        let runs = |values: &[f64]| values.iter().map(|value| json!({ "answered_per_s": value })).collect::<Vec<_>>();
        let figure =
            Figure::new(&MEASURES[0], &runs(&[100.0, 900.0, 100.0]), &runs(&[10.0, 200.0, 20.0]), 2.0).unwrap();
        let [low, high] = figure.change_percent_range.unwrap();
        assert!(low > -100.0 && low < figure.change_percent && figure.change_percent < high, "{low} to {high}");
        assert_eq!(figure.finding, Finding::NoDifference);
        let half = Figure::new(&MEASURES[0], &runs(&[100.0; 2]), &runs(&[50.0; 2]), 2.0).unwrap();
        assert!((half.change_percent + 50.0).abs() < 1e-9 && (half.before - 100.0).abs() < 1e-9);
    }
}
