//! The command `merge`: the results of several machines or processes, added up to those of one load.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::args::Merge;
use crate::churn::Churn;
use crate::documents;
use crate::machine::Machine;
use crate::netstat::Netstat;
use crate::output::{Outlet, RUN};
use crate::parts::refusal;
use crate::problem::Problem;
use crate::quantity::span;
use crate::report::{Ending, Exit, Report, StageResult};
use crate::results::{self, SECONDS_MAX};
use crate::schedule::Rate;
use crate::signals::Signals;
use crate::stage::Stage;
use crate::timeline::Timeline;

/// Adds the results in the files up and writes them as those of a run. Returns what they are worth.
///
/// # Errors
/// A file that cannot be read or written, or holds what cannot be added to the others.
pub(crate) fn run(arguments: &Merge) -> Result<Exit, Problem> {
    let output = &arguments.output;
    if output.hlog.is_some() || output.csv.is_some() {
        let sentence = "merge has no --hlog and no --csv: JSON tells only to 1 % how latencies lay over time; give the runs \
                        themselves --hlog, whose logs HdrHistogram's tools join";
        return Err(Problem::Usage(sentence.to_owned()));
    }
    let signals = Signals::catch().map_err(Problem::Signals)?;
    let read: Result<Vec<Vec<Report>>, Problem> = arguments.files.iter().map(|path| read(path)).collect();
    let mut report = sum(read?.concat()).map_err(|why| Problem::Machine(format!("cannot merge: {why}")))?;
    report.slo.clone_from(&arguments.slo);
    // Opened when all is read: a sum may take the place of one of its parts.
    let mut outlet = Outlet::open(output, RUN, &signals)?;
    outlet.write(&report, "")?;
    Ok(report.exit())
}

fn read(path: &Path) -> Result<Vec<Report>, Problem> {
    let read = documents::text(path).and_then(|text| results::read(&path.display().to_string(), &text));
    read.map_err(|why| Problem::Machine(format!("cannot merge {why}")))
}

/// The sum of `reports`, of which there is at least one.
///
/// # Errors
/// A sentence: why they cannot be added.
fn sum(mut reports: Vec<Report>) -> Result<Report, String> {
    // Sums do not depend on an order, but messages do.
    reports.sort_by_key(|report| report.parts.iter().map(|part| part.shard).min());
    let begun_at = reports.iter().map(|report| report.begun_at).min().unwrap_or(SystemTime::UNIX_EPOCH);
    let latest = reports.iter().map(|report| report.begun_at).max().unwrap_or(begun_at);
    if latest.duration_since(begun_at).unwrap_or_default() > Duration::from_secs(SECONDS_MAX) {
        return Err("they were measured months apart".to_owned());
    }
    reports.iter_mut().for_each(|report| count_from(report, begun_at));
    let mut parts: Vec<_> = reports.iter().flat_map(|report| report.parts.clone()).collect();
    parts.sort_by_key(|part| part.shard);
    if let Some(why) = refusal(&parts) {
        return Err(why);
    }
    line_up(&mut reports);
    let mut reports = reports.into_iter();
    let mut whole = reports.next().ok_or("there are no results")?;
    let mut seen = vec![(whole.machine.boot_id.clone(), netstats(&whole))];
    for report in reports {
        are_alike(&whole, &report)?;
        note_netstats(&mut seen, &report);
        add(&mut whole, report);
    }
    for (index, result) in whole.stages.iter_mut().enumerate() {
        result.netstat = seen.iter().map(|(_, counts)| counts[index]).fold(Netstat::default(), Netstat::and);
        if let Some(rate) = result.stage.rate_mut() {
            // Shards of a rate add up to it but for its last bits.
            let round = |per_s: f64| (per_s * 1e6).round() / 1e6;
            *rate = Rate { from_per_s: round(rate.from_per_s), to_per_s: round(rate.to_per_s) };
        }
    }
    (whole.command, whole.parts) = (crate::command_line(), parts);
    Ok(whole)
}

/// Lets the times of `report` count from when the first of all began.
fn count_from(report: &mut Report, begun_at: SystemTime) {
    let later = report.begun_at.duration_since(begun_at).unwrap_or_default();
    report.begun_at = begun_at;
    report.server_looks.iter_mut().for_each(|look| look.at += later);
    for result in &mut report.stages {
        result.begun_after += later;
        let series = std::mem::take(&mut result.recorder.series);
        result.recorder.series = series.later_by(later.as_secs_f64().round() as u64);
    }
}

/// Lets the courses of each stage count from when its first window opened. Where windows did not open together, or one part
/// tells nothing of its course, there is none: a picture of what was not one load would show what never was.
fn line_up(reports: &mut [Report]) {
    for index in 0..reports.iter().map(|report| report.stages.len()).min().unwrap_or(0) {
        let results = || reports.iter().map(|report| &report.stages[index]);
        let Some(first_at) = results().map(|it| it.window_begin_at).min() else { return };
        let late_ns =
            |it: &StageResult| it.window_begin_at.duration_since(first_at).unwrap_or_default().as_nanos() as u64;
        let longest_ns = results().map(|it| it.recorder.window_ns).max().unwrap_or(0);
        let is_told = |it: &StageResult| it.recorder.timeline.intervals().len() > 0 || it.recorder.answered == 0;
        let is_one = results().all(|it| is_told(it) && late_ns(it) <= longest_ns / APART_MAX);
        for result in reports.iter_mut().map(|report| &mut report.stages[index]) {
            let course = std::mem::replace(&mut result.recorder.timeline, Timeline::new(0));
            if is_one {
                result.recorder.timeline = course.later_by(late_ns(result));
            }
        }
    }
}

/// Windows that open later than this part of them are not open together.
const APART_MAX: u64 = 20;

/// What must be the same for sums to mean something.
fn are_alike(whole: &Report, part: &Report) -> Result<(), String> {
    let [mine, its] = [whole, part].map(|report| report.parts.first().map_or("", |part| part.name.as_str()));
    let [one, other] = [whole, part].map(|report| report.plan.protocol.name());
    if one != other {
        return Err(format!("{mine} speaks {one}, and {its} {other}"));
    }
    let [one, other] = [whole, part].map(|report| report.stages.iter().map(kind).collect::<Vec<_>>());
    if one != other {
        let said = |report: &Report, kinds: &[String]| format!("{} ({})", kinds.join(", "), report.ending.name());
        let (one, other) = (said(whole, &one), said(part, &other));
        return Err(format!("they have not the same stages: {mine} has {one}, and {its} {other}"));
    }
    Ok(())
}

/// What is done in a stage, whatever its figures.
fn kind(result: &StageResult) -> String {
    let name = match result.stage {
        Stage::Open { arrival, .. } => format!("open with {} arrivals", arrival.name()),
        Stage::Churn(Churn { arrivals, close, .. }) => {
            let arrivals = arrivals.map_or("a closed loop", |(_, arrival)| arrival.name());
            format!("churn with {arrivals} and --close {}", close.name())
        }
        Stage::Hold { heartbeat: Some(interval), .. } => {
            format!("hold with heartbeats each {}", span(interval.as_nanos() as u64))
        }
        stage => stage.name().to_owned(),
    };
    if result.is_warmup { format!("warm-up, {name}") } else { name }
}

fn add(whole: &mut Report, part: Report) {
    // An index means the same target in both only where they have the same.
    let has_same_targets = whole.plan.targets == part.plan.targets;
    for (mine, mut its) in whole.stages.iter_mut().zip(part.stages) {
        if !has_same_targets {
            for recorder in [&mut mine.recorder, &mut its.recorder] {
                recorder.failed_at.clear();
                recorder.body_lens.clear();
            }
        }
        add_stage(mine, its);
    }
    let (plan, its) = (&mut whole.plan, part.plan);
    plan.connections += its.connections;
    plan.connections_whole = plan.connections;
    plan.layout.threads += its.layout.threads;
    plan.layout.own_tables |= its.layout.own_tables;
    plan.connect_rate = plan.connect_rate.zip(its.connect_rate).map(|(mine, its)| mine + its);
    plan.duration = plan.duration.max(its.duration);
    whole.sources_used = whole.sources_used.clone().and(&part.sources_used);
    add_machine(&mut whole.machine, part.machine, plan.layout.own_tables);
    if whole.ending == Ending::Complete {
        whole.ending = part.ending;
    }
    if whole.server_looks.is_empty() {
        whole.server_looks = part.server_looks;
    }
    whole.resident_begin_bytes += part.resident_begin_bytes;
    whole.closing_time = whole.closing_time.max(part.closing_time);
}

fn add_stage(mine: &mut StageResult, its: StageResult) {
    mine.recorder.merge(&its.recorder);
    let mut its_stage = its.stage;
    if let (Some(rate), Some(its)) = (mine.stage.rate_mut(), its_stage.rate_mut()) {
        (rate.from_per_s, rate.to_per_s) = (rate.from_per_s + its.from_per_s, rate.to_per_s + its.to_per_s);
    }
    mine.begun_after = mine.begun_after.min(its.begun_after);
    mine.window_begin_at = mine.window_begin_at.min(its.window_begin_at);
    mine.elapsed = mine.elapsed.max(its.elapsed);
    mine.resident_bytes += its.resident_bytes;
    // They watched the same server: to add what they saw would count it twice.
    mine.server_use = mine.server_use.take().or(its.server_use);
}

/// What several machines have together; what one has twice, because two processes ran on it, counts once.
fn add_machine(mine: &mut Machine, its: Machine, own_tables: bool) {
    mine.descriptors_max = match own_tables {
        true => mine.descriptors_max.min(its.descriptors_max),
        false => mine.descriptors_max.saturating_add(its.descriptors_max),
    };
    mine.somaxconn = mine.somaxconn.min(its.somaxconn);
    if mine.boot_id.split(' ').any(|boot_id| boot_id == its.boot_id) {
        return;
    }
    mine.boot_id = format!("{} {}", mine.boot_id, its.boot_id);
    let cores = mine.cores.len() + its.cores.len();
    mine.cores = (0..cores).collect();
    mine.memory_bytes += its.memory_bytes;
    mine.memory_available_bytes += its.memory_available_bytes;
    for (mine, its) in [(&mut mine.kernel, its.kernel), (&mut mine.processor, its.processor)] {
        if !mine.split(" and ").any(|known| known == its) {
            *mine = format!("{mine} and {its}");
        }
    }
}

/// The kernel's counts of each stage.
fn netstats(report: &Report) -> Vec<Netstat> {
    report.stages.iter().map(|result| result.netstat).collect()
}

/// Two processes of one machine have both seen what the kernel counted, of all programs: the more of both counts.
fn note_netstats(seen: &mut Vec<(String, Vec<Netstat>)>, report: &Report) {
    let theirs = netstats(report);
    match seen.iter_mut().find(|(boot_id, _)| *boot_id == report.machine.boot_id) {
        Some((_, mine)) => mine.iter_mut().zip(theirs).for_each(|(mine, its)| *mine = mine.or_more(its)),
        None => seen.push((report.machine.boot_id.clone(), theirs)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report as run;
    use crate::report::{hgrm, json};
    use crate::shard::Shard;
    use std::time::Duration;

    /// The parts of a load, as they are read.
    fn shards(count: u64, change: impl Fn(u64, &mut Report)) -> Vec<Report> {
        let shard = |index| {
            let mut report = run();
            report.plan.shard = Shard { index, count };
            report.begun_at += Duration::from_secs(1000 + index);
            report
                .stages
                .iter_mut()
                .for_each(|it| it.window_begin_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1005));
            change(index, &mut report);
            results::read("a.json", &json::render(&report)).unwrap().remove(0)
        };
        (0..count).map(shard).collect()
    }

    #[test]
    fn histograms_are_added_bucket_by_bucket_and_counts_one_by_one() {
        let parts = shards(3, |index, report| {
            let recorder = &mut report.stages[1].recorder;
            recorder.latency.record_n(1 << (20 + index), 100);
            (recorder.due, recorder.answered) = (1100, 1100);
        });
        let mut expected = parts[0].stages[1].recorder.latency.clone();
        parts[1..].iter().for_each(|part| expected.merge(&part.stages[1].recorder.latency));
        let whole = sum(parts).unwrap();
        let recorder = &whole.stages[1].recorder;
        assert_eq!(recorder.latency.encoded(), expected.encoded());
        assert_eq!(
            (recorder.due, recorder.answered, whole.plan.connections, whole.plan.threads()),
            (3300, 3300, 30, 6)
        );
        assert_eq!(
            (whole.machine.cores.len(), whole.resident_bytes_max()),
            (4, 3 << 20),
            "one machine, three processes"
        );
        assert!(hgrm::render(&whole).contains("Total count    =         3300]"));
    }

    #[test]
    fn what_was_answered_when_is_added_where_it_was_at_the_same_time() {
        let counted = |late_ms: u64, change: fn(u64, &mut Report)| {
            let parts = shards(2, |index, report| {
                let open = &mut report.stages[1];
                open.window_begin_at += Duration::from_millis(late_ms * index);
                open.recorder.window_ns = 10_000_000_000;
                open.recorder.answered_in_window = 1000;
                open.recorder.timeline = Timeline::new(10_000_000_000);
                (0..1000).for_each(|n| open.recorder.timeline.record(n * 1_000_000, u64::MAX, 1_000_000));
                open.recorder.timeline.close();
                change(index, report);
            });
            let whole = sum(parts).unwrap();
            whole.stages[1].recorder.timeline.intervals().map(|times| times.len()).collect::<Vec<_>>()
        };
        assert_eq!(counted(0, |_, _| ()), [500; 4]);
        assert_eq!(counted(250, |_, _| ()), [250, 500, 500, 500, 250], "each at its own time");
        assert_eq!(counted(501, |_, _| ()), [0; 0], "not one load");
        let untold = |index, report: &mut Report| {
            if index == 1 {
                report.stages[1].recorder.timeline = Timeline::new(0);
            }
        };
        assert_eq!(counted(0, untold), [0; 0], "a half would look like the whole");
    }

    #[test]
    fn times_count_from_the_first_that_began() {
        let whole = sum(shards(2, |_, report| report.stages[0].recorder.series.note_attempt(0))).unwrap();
        assert_eq!(whole.series().seconds().into_iter().map(|(second, ..)| second).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(whole.begun_at, SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
        assert_eq!(whole.stages[1].begun_after, Duration::from_secs(5));
    }

    #[test]
    fn a_rate_is_the_whole_again_and_machines_are_counted() {
        let open = |index: u64, report: &mut Report| {
            let rate = Rate::constant(Shard { index, count: 7 }.rate(1000.0));
            report.stages[1].stage = Stage::Open { duration: report.plan.duration, rate, arrival: Default::default() };
            report.machine.boot_id = format!("boot {}", index % 2).replace(' ', "-");
            report.stages[1].netstat.syn_retransmits = index;
        };
        let whole = sum(shards(7, open)).unwrap();
        assert!(matches!(whole.stages[1].stage, Stage::Open { rate, .. } if rate == Rate::constant(1000.0)));
        assert_eq!(whole.machine.cores.len(), 8);
        assert_eq!(whole.stages[1].netstat.syn_retransmits, 5 + 6, "the most of each machine");
    }

    #[test]
    fn what_is_not_alike_is_refused_by_name() {
        let why = |change: fn(&mut Report)| {
            sum(shards(2, |index, it| {
                if index == 1 {
                    change(it)
                }
            }))
            .unwrap_err()
        };
        let stages = why(|it| drop(it.stages.pop()));
        assert!(
            stages.contains("shard 0/2 has connect, closed (complete), and shard 1/2 connect (complete)"),
            "{stages}"
        );
        let hold = Stage::Hold { duration: Duration::from_secs(1), heartbeat: None };
        assert!(
            sum(shards(2, |index, it| if index == 0 {
                it.stages[1].stage = hold
            }))
            .is_err()
        );
        let other = why(|it| it.plan.shard.count = 3);
        assert_eq!(other, "shard 0/2 and shard 1/3 are not of one load");
    }

    #[test]
    fn a_sum_can_be_added_to() {
        let mut parts = shards(3, |_, _| ());
        let last = parts.pop().unwrap();
        let two = sum(parts.clone()).unwrap();
        let two = results::read("two.json", &json::render(&two)).unwrap().remove(0);
        let (at_once, in_steps) = (sum(parts.into_iter().chain([last.clone()]).collect()), sum(vec![last, two]));
        let written = |whole: Result<Report, String>| json::render(&whole.unwrap());
        assert_eq!(written(in_steps), written(at_once));
    }
}
