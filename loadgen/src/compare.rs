//! The command `compare`: what differs between the results of two files, and whether that is more than chance.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Write, stdout};
use std::path::Path;

use serde::Serialize;

use crate::args::Compare;
use crate::documents;
use crate::interval::Sample;
use crate::moment::rfc3339_seconds;
use crate::problem::Problem;
use crate::quantity::{count, counted, rate_text, span};
use crate::report::paragraph::paragraph;
use crate::report::percentiles::Percentiles;
use crate::report::{Exit, Report, StageResult};
use crate::results;
use crate::terminal::report_columns;
use crate::unlike::{self, Difference};
use crate::verdict::Verdict;

/// Compares two files of results and writes what it found. Returns whether the second is worse.
///
/// # Errors
/// A file that cannot be read, or has no results that can be compared.
pub(crate) fn run(arguments: &Compare) -> Result<Exit, Problem> {
    let (before, after) = (read(&arguments.before)?, read(&arguments.after)?);
    let differences = unlike::loads(&before, &after);
    let is_judged = differences.is_empty() || arguments.unlike;
    let mut figures: Vec<Figure> =
        MEASURES.iter().filter_map(|measure| Figure::new(measure, &before, &after, arguments.tolerance)).collect();
    if !is_judged {
        figures.iter_mut().for_each(|figure| figure.finding = Finding::NotJudged);
    }
    let files = [File::of(&arguments.before, &before), File::of(&arguments.after, &after)];
    let is_worse = figures.iter().any(|figure| figure.finding == Finding::Worse);
    let comparison = Comparison {
        version: env!("CARGO_PKG_VERSION"),
        command: crate::command_line(),
        notes: notes(&files, &unlike::circumstances(&before, &after)),
        runs: files.each_ref().map(|file| file.runs),
        files,
        is_judged,
        differences,
        is_worse,
        figures,
    };
    write(&comparison, arguments.json.as_deref())?;
    let is_told = comparison.figures.iter().any(|it| !matches!(it.finding, Finding::Unknown | Finding::NotJudged));
    Ok(match (is_worse, is_told) {
        (true, _) => Exit::Worse,
        (false, true) => Exit::Ok,
        // A script is not to take for a yes what nobody can tell.
        (false, false) => Exit::Suspect,
    })
}

/// The one result in the file at `path`.
fn read(path: &Path) -> Result<Report, Problem> {
    let wrong = |why: String| Problem::Machine(format!("cannot compare {why}"));
    let name = path.display().to_string();
    let mut reports = documents::text(path).and_then(|text| results::read(&name, &text)).map_err(wrong)?.into_iter();
    let why = match (reports.next(), reports.len()) {
        (Some(report), 0) if !report.is_ok() => "that run failed or was broken off: what it measured is no result",
        (Some(report), 0) => {
            let kinds: BTreeSet<&str> = report.measured().map(|result| result.stage.name()).collect();
            match kinds.len() {
                0 => "it has no closed loop, no open loop and no churn",
                1 => return Ok(report),
                _ => "it has both closed and open loops: compare results of one kind",
            }
        }
        _ => {
            "it has several results: parts of one load are added up by `loadgen merge`, and others need files of their own"
        }
    };
    Err(wrong(format!("{name}: {why}")))
}

/// What a reader should know of `files`, whose loads may be the same.
fn notes(files: &[File; 2], circumstances: &[Difference]) -> Vec<String> {
    let mut notes: Vec<String> =
        circumstances.iter().map(|it| format!("Not the server, but it may tell: {}.", it.words())).collect();
    let suspects = files.iter().filter(|file| file.verdict == "suspect");
    notes.extend(
        suspects.map(|file| format!("The verdict on {} was SUSPECT: it may be loadgen that differs.", file.name)),
    );
    if let least @ ..RUNS_ADVISED = files[0].runs.min(files[1].runs) {
        let these = if least == 1 { "one tells nothing of chance".to_owned() } else { format!("{least} hardly do") };
        notes.push(format!(
            "{RUNS_ADVISED} runs of each (--runs {RUNS_ADVISED}) tell small changes from chance; {these}."
        ));
    }
    notes
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
            page(comparison, report_columns())
        }
        None => page(comparison, report_columns()),
    };
    match stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Problem::Output { name: "standard output".to_owned(), error })
        }
        _ => Ok(()),
    }
}

/// What can be compared: a name, what it is of a run, whether more of it is better.
struct Measure {
    name: &'static str,
    of: fn(&StageResult) -> Option<f64>,
    more_is_better: bool,
}

impl Measure {
    const fn time(name: &'static str, of: fn(&StageResult) -> Option<f64>) -> Measure {
        Measure { name, of, more_is_better: false }
    }
}

const MEASURES: [Measure; 6] = [
    Measure { name: "answers/s", of: |run| Some(run.recorder.answered_per_s()), more_is_better: true },
    Measure::time("p50", |run| time(run, "p50")),
    Measure::time("p90", |run| time(run, "p90")),
    Measure::time("p99", |run| time(run, "p99")),
    Measure::time("p99.9", |run| time(run, "p99.9")),
    Measure::time("max", |run| time(run, "max")),
];

/// One of the percentiles of `run`, in nanoseconds; `None` where it has too few samples.
fn time(run: &StageResult, name: &str) -> Option<f64> {
    let rows = Percentiles::of(&run.recorder.latency).rows();
    rows.into_iter().find(|(row, _)| *row == name)?.1.map(|ns| ns as f64)
}

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
    /// The loads are not the same, and that is not said to be meant.
    NotJudged,
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
    fn new(measure: &Measure, before: &Report, after: &Report, tolerance_percent: f64) -> Option<Figure> {
        let sample = |report: &Report| {
            let value = |run: &StageResult| (measure.of)(run).filter(|value| *value > 0.0);
            let logarithms: Option<Vec<f64>> = report.measured().map(|run| value(run).map(f64::ln)).collect();
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

    /// Its line in the table.
    fn row(&self) -> [String; 6] {
        let range = self.change_percent_range.map(|[low, high]| format!("{} to {}", percent(low), percent(high)));
        let words = match self.finding {
            Finding::NotJudged => "not judged",
            Finding::Unknown => "fewer than two runs: no telling",
            Finding::NoDifference => "no difference beyond chance",
            Finding::Tolerable => "real, within the tolerance",
            Finding::Better => "BETTER",
            Finding::Worse => "WORSE",
        };
        [
            self.name.to_owned(),
            self.shown(self.before),
            self.shown(self.after),
            percent(self.change_percent),
            range.unwrap_or_else(|| "-".to_owned()),
            words.to_owned(),
        ]
    }

    fn shown(&self, value: f64) -> String {
        if self.name == "answers/s" { rate_text(value) } else { span(value as u64) }
    }
}

/// `+3.1 %`; of ten times and more without a decimal.
fn percent(percent: f64) -> String {
    if percent.abs() < 1000.0 { format!("{percent:+.1} %") } else { format!("+{} %", count(percent as u64)) }
}

/// A file that was compared.
#[derive(Debug, Serialize)]
struct File {
    name: String,
    /// The server.
    target: String,
    /// The command line that measured it.
    command: Vec<String>,
    begun_at: String,
    /// Of loadgen.
    version: String,
    machine: MachineFacts,
    /// How many runs it has.
    runs: usize,
    /// As in its results.
    verdict: &'static str,
}

/// Where it was measured from.
#[derive(Debug, Serialize)]
struct MachineFacts {
    cores: usize,
    processor: String,
    kernel: String,
}

impl File {
    fn of(path: &Path, report: &Report) -> File {
        let machine = &report.machine;
        File {
            name: path.display().to_string(),
            target: report.plan.name.clone(),
            command: report.command.clone(),
            begun_at: rfc3339_seconds(report.begun_at),
            version: report.parts.first().map_or_else(String::new, |part| part.version.clone()),
            machine: MachineFacts {
                cores: machine.cores.len(),
                processor: machine.processor.clone(),
                kernel: machine.kernel.clone(),
            },
            runs: report.measured().count(),
            verdict: Verdict::of(report).name(),
        }
    }
}

/// All that was found.
#[derive(Debug, Serialize)]
struct Comparison {
    /// The version of loadgen that compared.
    version: &'static str,
    /// Its command line.
    command: Vec<String>,
    /// The first, and the second.
    files: [File; 2],
    /// How many runs each file has.
    runs: [usize; 2],
    /// Whether figures were judged: they are not where the loads differ and nobody said that this is meant.
    is_judged: bool,
    /// In what the loads differ.
    differences: Vec<Difference>,
    is_worse: bool,
    figures: Vec<Figure>,
    /// What makes the comparison something else than it seems.
    notes: Vec<String>,
}

/// It in lines of at most `columns`, but for its tables.
fn page(comparison: &Comparison, columns: usize) -> String {
    let names = ["before", "after"].into_iter().zip(&comparison.files);
    let files = names.map(|(when, file)| {
        let (runs, version) = (counted(file.runs as u64, "run"), format!("loadgen {}", file.version));
        let verdict = if file.verdict == "suspect" { "SUSPECT" } else { "" };
        [
            when.to_owned(),
            file.name.clone(),
            file.target.clone(),
            runs,
            file.begun_at.clone(),
            version,
            verdict.to_owned(),
        ]
    });
    let mut text = table(files.collect(), &[1, 2, 4, 5, 6]) + "\n";
    text += "Geometric means over the runs, and their change with its 95 % interval\n\n";
    let mut rows = vec![["", "before", "after", "change", "95 % interval", ""].map(str::to_owned)];
    rows.extend(comparison.figures.iter().map(Figure::row));
    text += &table(rows, &[4, 5]);
    if !comparison.differences.is_empty() {
        let lead = match comparison.is_judged {
            true => {
                "The loads differ, as was said to be meant (--unlike): the change is that of the load and the server together."
            }
            false => {
                "NOT JUDGED: the loads differ, so nobody can tell whether it is the server that does. Measure both with the \
                 same options, or add --unlike if the difference is what you want to know about."
            }
        };
        text += &format!("\n{}", paragraph("!", lead, columns));
        text += &comparison.differences.iter().map(|it| paragraph("  -", &it.words(), columns)).collect::<String>();
    }
    text + &comparison.notes.iter().map(|note| format!("\n{}", paragraph("!", note, columns))).collect::<String>()
}

/// Rows below each other, their columns as wide as they have to be; those of `left` begin with their words, others end.
fn table<const N: usize>(rows: Vec<[String; N]>, left: &[usize]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let line = |row: &[String; N]| {
        let cells = row.iter().enumerate().map(|(column, cell)| match width(column) {
            width if column == 0 || left.contains(&column) => format!("  {cell:<width$}"),
            width => format!("  {cell:>width$}"),
        });
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// With five the interval is two and a half times as narrow as with two.
const RUNS_ADVISED: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    /// A report with a run for each rate, whose latencies are as many microseconds.
    fn runs(rates: &[f64]) -> Report {
        let mut report = report();
        let run = report.stages.remove(1);
        report.stages.extend(rates.iter().map(|rate| {
            let mut run = run.clone();
            (run.recorder.answered_in_window, run.recorder.window_ns) = (10, (1e10 / rate) as u64);
            run.recorder.latency = crate::times::Times::new(u64::MAX >> 1);
            run.recorder.latency.record_n((*rate * 1000.0) as u64, 30);
            run
        }));
        report
    }

    fn figure(index: usize, before: &[f64], after: &[f64]) -> Figure {
        Figure::new(&MEASURES[index], &runs(before), &runs(after), 2.0).unwrap()
    }

    fn finding(before: &[f64], after: &[f64], index: usize) -> Finding {
        figure(index, before, after).finding
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
        assert!(Figure::new(&MEASURES[4], &runs(&[100.0]), &runs(&[100.0]), 2.0).is_none(), "30 samples have no p99.9");
    }

    #[test]
    fn no_interval_ends_below_nothing() {
        let wide = figure(0, &[100.0, 900.0, 100.0], &[10.0, 200.0, 20.0]);
        let [low, high] = wide.change_percent_range.unwrap();
        assert!(low > -100.0 && low < wide.change_percent && wide.change_percent < high, "{low} to {high}");
        assert_eq!(wide.finding, Finding::NoDifference);
        let half = figure(0, &[100.0; 2], &[50.0; 2]);
        assert!((half.change_percent + 50.0).abs() < 1e-4 && (half.before - 100.0).abs() < 1e-4);
    }

    #[test]
    fn columns_are_as_wide_as_they_have_to_be() {
        let rows = [figure(0, &[100.0; 2], &[101.0; 2]).row(), figure(0, &[1.0, 9.0], &[1e6, 3e8]).row()];
        let table = table(rows.to_vec(), &[4, 5]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].contains(" %  -100.0 % to +"), "{table}");
        let words = ["real, within", "no difference"];
        assert_eq!(lines[0].find(words[0]).unwrap(), lines[1].find(words[1]).unwrap(), "{table}");
    }
}
