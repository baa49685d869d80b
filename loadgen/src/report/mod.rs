//! What a run found: everything that the text and the JSON of its results are made from.

pub(crate) mod advice;
pub(crate) mod csv;
pub(crate) mod hgrm;
pub(crate) mod hlog;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod paragraph;
pub(crate) mod percentiles;
pub(crate) mod runs;
pub(crate) mod text;
pub(crate) mod warnings;

use std::time::{Duration, SystemTime};

use crate::machine::Machine;
use crate::netstat::Netstat;
use crate::parts::Part;
use crate::plan::Plan;
use crate::recorder::{Recorder, merge_failures};
use crate::routes::Used;
use crate::series::Series;
use crate::server_process::{Look, ServerUse};
use crate::slo::{Outcome, Slo};
use crate::stage::Stage;
use crate::times::Times;
use crate::verdict::Verdict;

/// A run that has ended, in whatever way.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// The command line, the program's name included.
    pub(crate) command: Vec<String>,
    /// When it began.
    pub(crate) begun_at: SystemTime,
    /// What was to be run.
    pub(crate) plan: Plan,
    /// Where.
    pub(crate) machine: Machine,
    /// What became of each stage, in order.
    pub(crate) stages: Vec<StageResult>,
    /// How it ended.
    pub(crate) ending: Ending,
    /// What it has to keep to.
    pub(crate) slo: Option<Slo>,
    /// What the server counted, where it is a part of this process.
    pub(crate) server: Option<ServerSide>,
    /// What the server's processes had, second by second of the run and at the end of each stage, where they were named.
    pub(crate) server_looks: Vec<Look>,
    /// Resident memory of this process before the first connection, in bytes.
    pub(crate) resident_begin_bytes: u64,
    /// Where its connections came from.
    pub(crate) sources_used: Used,
    /// What it is the sum of, where it is that of several runs.
    pub(crate) parts: Vec<Part>,
    /// How long it took to close all connections.
    pub(crate) closing_time: Duration,
}

/// The other end's account of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerSide {
    /// Connections that each shard accepted.
    pub(crate) accepted: Vec<u64>,
    /// Bytes that came in, over all shards.
    pub(crate) bytes_in: u64,
    /// Bytes that went out, over all shards.
    pub(crate) bytes_out: u64,
}

/// What became of one stage.
#[derive(Debug, Clone)]
pub(crate) struct StageResult {
    /// The stage.
    pub(crate) stage: Stage,
    /// Whether it is left out of the figures.
    pub(crate) is_warmup: bool,
    /// What its workers recorded, merged.
    pub(crate) recorder: Recorder,
    /// From the run's beginning to its order.
    pub(crate) begun_after: Duration,
    /// When its window opened.
    pub(crate) window_begin_at: SystemTime,
    /// From its order to its last record.
    pub(crate) elapsed: Duration,
    /// Processor time of the server's threads, where the server is a part of this process.
    pub(crate) server_cpu_time: Option<Duration>,
    /// What the server's processes used, where they were named.
    pub(crate) server_use: Option<ServerUse>,
    /// Resident memory of this process at the stage's end, in bytes.
    pub(crate) resident_bytes: u64,
    /// What the kernel counted meanwhile, of all programs.
    pub(crate) netstat: Netstat,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All stages were run to their end.
    Complete,
    /// A signal broke it off: what there is, is true, but not all that was asked for.
    Interrupted,
    /// No connection could be opened.
    NoConnection,
    /// Every connection was lost.
    AllLost,
}

impl StageResult {
    /// Whether it is one that the figures are made of.
    pub(crate) fn is_measured(&self) -> bool {
        self.stage.is_measured() && !self.is_warmup
    }
}

impl Report {
    /// Connections that were opened.
    pub(crate) fn established(&self) -> u64 {
        self.stages.iter().map(|result| result.recorder.established).sum()
    }

    /// How many times a source was taken: for each connection once, also where they come and go, and those that were tried in
    /// place of others as well.
    pub(crate) fn sources_taken(&self) -> u64 {
        let taken = self.stages.iter().filter(|result| result.stage.churn().is_some());
        let taken = taken.map(|result| result.recorder.attempted).sum::<u64>().max(self.plan.connections);
        let spares = self.stages.iter().map(|result| result.recorder.spares_max).max().unwrap_or(0);
        // Workers take turns at those beyond the last connection's.
        taken + spares * (self.plan.threads() * self.plan.targets.len()) as u64
    }

    /// Whether all that was asked for was done, something was measured, nothing failed and nothing was lost. A script must
    /// not take what was broken off for a result: an interrupted run is not ok.
    pub(crate) fn is_ok(&self) -> bool {
        let is_whole = self.stages.iter().all(|result| result.recorder.unfinished == 0);
        self.ending == Ending::Complete && self.answered() > 0 && is_whole && self.is_clean()
    }

    /// The runs: the stages that were measurements.
    pub(crate) fn measured(&self) -> impl DoubleEndedIterator<Item = &StageResult> + Clone {
        self.stages.iter().filter(|result| result.is_measured())
    }

    /// The same, and those in which connections were held: what a verdict is about.
    pub(crate) fn weighed(&self) -> impl DoubleEndedIterator<Item = &StageResult> + Clone {
        let is_weighed = |result: &&StageResult| result.is_measured() || matches!(result.stage, Stage::Hold { .. });
        self.stages.iter().filter(is_weighed)
    }

    /// All stages; those that were measured with their number among those of their kind, from 1, and how many these are.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (&StageResult, Option<(usize, usize)>)> {
        let mut so_far = Vec::new();
        self.stages.iter().map(move |result| {
            let is_same = |other: &&Stage| **other == result.stage;
            let number = result.is_measured().then(|| {
                so_far.push(result.stage);
                let all = self.measured().filter(|it| it.stage == result.stage).count();
                (so_far.iter().filter(is_same).count(), all)
            });
            (result, number)
        })
    }

    /// All latencies that were asked for: those of all runs (of the last kind of loop, where there are two) together; of a
    /// hold those of its echoes, verifications and heartbeats.
    pub(crate) fn latencies(&self) -> Times {
        let mut all = Times::new(self.plan.latency_ns_max());
        let kind = self.measured().next_back().map(|result| result.stage);
        let is_asked = |result: &&StageResult| match kind {
            Some(kind) => result.is_measured() && result.stage == kind,
            None => result.stage != Stage::Connect,
        };
        self.stages.iter().filter(is_asked).for_each(|result| all.merge(&result.recorder.latency));
        all
    }

    /// What became of each condition; of several runs, in the worst. None where there are none.
    pub(crate) fn slo_outcomes(&self) -> Vec<Outcome> {
        let Some(slo) = &self.slo else { return Vec::new() };
        let held = self.measured().next().is_none().then_some(self.plan.connections);
        let mut runs = self.judged().into_iter().map(|recorder| slo.judge(&recorder, held));
        let (mut outcomes, mut count) = (runs.next().unwrap_or_default(), 1);
        for judged in runs {
            count += 1;
            for (worst, new) in outcomes.iter_mut().zip(judged).filter(|(worst, new)| new.is_worse_than(worst)) {
                *worst = new;
            }
        }
        outcomes.iter_mut().for_each(|outcome| outcome.worst_of = (count > 1).then_some(count));
        outcomes
    }

    /// What conditions are about: each run, or, where nothing but echoes now and then was asked for, all of those together.
    /// Times then are those of the heartbeats, if there were some: a verification asks all at once, and what a request waits
    /// for the others is not what was asked about.
    fn judged(&self) -> Vec<Recorder> {
        let mut judged: Vec<Recorder> = self.measured().map(|result| result.recorder.clone()).collect();
        if judged.is_empty() {
            let mut all = Recorder::new(self.plan.latency_ns_max());
            let echoes = self.stages.iter().filter(|result| result.stage != Stage::Connect);
            echoes.for_each(|result| all.merge(&result.recorder));
            let held = self.stages.iter().filter(|result| matches!(result.stage, Stage::Hold { .. }));
            if let Some(heartbeats) = held.map(|result| &result.recorder.latency).find(|it| it.len() > 0) {
                all.latency = heartbeats.clone();
            }
            judged.push(all);
        }
        if self.ending == Ending::Interrupted {
            // What was under way need not have been slow, nor have failed.
            for it in &mut judged {
                it.due -= std::mem::take(&mut it.unfinished);
            }
        }
        // A connection that was never opened, or lost while others were, is a failure of each: the load was not what was
        // asked for.
        for connects in self.stages.iter().filter(|result| result.stage == Stage::Connect) {
            for it in &mut judged {
                merge_failures(&mut it.connect_failures, &connects.recorder.connect_failures);
                merge_failures(&mut it.losses, &connects.recorder.losses);
            }
        }
        judged
    }

    /// How the program ends. A run that failed is no measurement; a condition that was missed is a no, whoever was the
    /// reason for it; a yes, or figures without a condition, count only if they are what they seem, and if there were
    /// samples enough to judge all conditions.
    pub(crate) fn exit(&self) -> Exit {
        let outcomes = self.slo_outcomes();
        match () {
            () if self.is_failed() => Exit::Failed,
            () if outcomes.iter().any(Outcome::is_missed) => Exit::Missed,
            () if outcomes.iter().any(|outcome| !outcome.is_met) => Exit::Suspect,
            () if !Verdict::of(self).reasons().is_empty() => Exit::Suspect,
            () => Exit::Ok,
        }
    }

    /// Whether something went wrong that no condition of `--slo` is about.
    pub(crate) fn is_failed(&self) -> bool {
        let is_whole = self.ending == Ending::Complete && self.answered() > 0 && self.is_conserved();
        // Where failures are a condition, it is the condition that decides on them.
        let may_err = self.slo.as_ref().is_some_and(Slo::allows_errors);
        !(self.is_ok() || may_err && is_whole)
    }

    fn is_conserved(&self) -> bool {
        self.stages.iter().all(|result| result.recorder.is_conserved())
    }

    /// Whether what was done went well: nothing failed, nothing was lost, and nothing is unaccounted for. What an
    /// interrupted run left unfinished is no failure of the server's.
    pub(crate) fn is_clean(&self) -> bool {
        let is_clean = |result: &StageResult| result.recorder.failed() == 0 && result.recorder.is_conserved();
        self.stages.iter().all(is_clean) && self.both_sides_agree()
    }

    /// Requests without an end.
    pub(crate) fn unfinished(&self) -> u64 {
        self.stages.iter().map(|result| result.recorder.unfinished).sum()
    }

    /// Requests that were answered.
    pub(crate) fn answered(&self) -> u64 {
        self.stages.iter().map(|result| result.recorder.answered).sum()
    }

    /// Whether the server, where it was asked, counted what the generator counted. Only a complete run can tell: any other
    /// leaves bytes on their way.
    pub(crate) fn both_sides_agree(&self) -> bool {
        let Some(server) = &self.server else { return true };
        let sum = |of: fn(&Recorder) -> u64| self.stages.iter().map(|result| of(&result.recorder)).sum();
        let (sent, received): (u64, u64) =
            (sum(|recorder| recorder.bytes_sent), sum(|recorder| recorder.bytes_received));
        let accepted: u64 = server.accepted.iter().sum();
        let same = (accepted, server.bytes_in, server.bytes_out) == (self.established(), sent, received);
        same || self.ending != Ending::Complete
    }

    /// What became of connections, second by second, in all stages.
    pub(crate) fn series(&self) -> Series {
        let mut series = Series::default();
        self.stages.iter().for_each(|result| series.merge(&result.recorder.series));
        series
    }

    /// The most that was resident at a stage's end, in bytes.
    pub(crate) fn resident_bytes_max(&self) -> u64 {
        self.stages.iter().map(|result| result.resident_bytes).max().unwrap_or(0)
    }
}

/// What the program's exit code says of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is well.
    Ok,
    /// Something failed, or was lost, or broken off.
    Failed,
    /// A condition of `--slo` was not kept to.
    Missed,
    /// The figures are not what they seem.
    Suspect,
    /// A comparison found something that is worse.
    Worse,
}

impl Exit {
    /// The exit code; 2 is wrong usage.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Missed => 3,
            Exit::Suspect => 4,
            Exit::Worse => 5,
        }
    }
}

impl Ending {
    /// The one that has this name in results.
    pub(crate) fn named(name: &str) -> Option<Ending> {
        let all = [Ending::Complete, Ending::Interrupted, Ending::NoConnection, Ending::AllLost];
        all.into_iter().find(|ending| ending.name() == name)
    }

    /// Its name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Ending::Complete => "complete",
            Ending::Interrupted => "interrupted",
            Ending::NoConnection => "no connection",
            Ending::AllLost => "all connections lost",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::failure::{Act, Failure, Kind};
    use crate::plan::tests::{machine, plan};
    use crate::recorder::note;

    /// A closed loop in which 1,000 requests took 1 to 1,000 us.
    pub(crate) fn report() -> Report {
        let plan = plan("127.0.0.1:4000 -c 10 -d 1s").unwrap();
        let (mut connect, mut closed) = (Recorder::new(plan.latency_ns_max()), Recorder::new(plan.latency_ns_max()));
        (connect.attempted, connect.established) = (10, 10);
        connect.latency.record_n(100_000, 10);
        (closed.due, closed.answered, closed.answered_in_window, closed.window_ns) = (1000, 1000, 990, 1_000_000_000);
        (1..=1000).for_each(|us| closed.latency.record(us * 1000));
        closed.cpu_time = Duration::from_millis(500);
        let stage = |stage, recorder| StageResult {
            stage,
            is_warmup: false,
            recorder,
            begun_after: Duration::ZERO,
            window_begin_at: SystemTime::UNIX_EPOCH,
            elapsed: Duration::from_secs(1),
            server_cpu_time: None,
            server_use: None,
            resident_bytes: 1 << 20,
            netstat: Netstat::default(),
        };
        let stages = vec![stage(Stage::Connect, connect), stage(Stage::Closed { duration: plan.duration }, closed)];
        let command = vec!["loadgen".into(), "rr".into()];
        Report {
            command,
            begun_at: SystemTime::UNIX_EPOCH,
            sources_used: plan.sources_used(plan.connections),
            parts: Vec::new(),
            plan,
            machine: machine(),
            stages,
            ending: Ending::Complete,
            slo: None,
            server: None,
            server_looks: Vec::new(),
            resident_begin_bytes: 1 << 19,
            closing_time: Duration::from_millis(5),
        }
    }

    /// The same with two runs more, each 10 answers behind the one before.
    pub(crate) fn three_runs() -> Report {
        let mut three = report();
        for answered in [980, 970] {
            let mut run = three.stages[1].clone();
            run.recorder.answered_in_window = answered;
            three.stages.push(run);
        }
        three
    }

    #[test]
    fn runs_have_numbers_and_their_latencies_a_sum() {
        let mut three = three_runs();
        let numbers = |report: &Report| report.numbered().map(|(_, number)| number).collect::<Vec<_>>();
        assert_eq!(numbers(&three), [None, Some((1, 3)), Some((2, 3)), Some((3, 3))]);
        assert_eq!(three.latencies().len(), 3000);
        three.stages[1].is_warmup = true;
        assert_eq!(
            (numbers(&three)[1..].to_vec(), three.latencies().len()),
            (vec![None, Some((1, 2)), Some((2, 2))], 2000)
        );
        three
            .stages
            .iter_mut()
            .for_each(|result| result.stage = Stage::Hold { duration: Duration::ZERO, heartbeat: None });
        three.stages[0].stage = Stage::Connect;
        assert_eq!(three.latencies().len(), 3000, "all echoes of a hold");
    }

    #[test]
    fn a_server_that_counted_something_else_is_a_failed_run() {
        let mut report = report();
        report.stages[1].recorder.bytes_sent = 64_000;
        report.stages[1].recorder.bytes_received = 64_000;
        report.server = Some(ServerSide { accepted: vec![4, 6], bytes_in: 64_000, bytes_out: 64_000 });
        assert!(report.is_ok());
        report.server = Some(ServerSide { accepted: vec![4, 6], bytes_in: 64_000, bytes_out: 63_936 });
        assert!(!report.is_ok());
        report.ending = Ending::Interrupted;
        assert!(report.is_clean(), "the rest was on its way");
    }

    #[test]
    fn a_failure_weighs_more_than_a_condition_and_a_condition_more_than_a_suspicion() {
        let mut run = report();
        run.stages[1].recorder.window_ns = 3_000_000_000;
        assert_eq!(run.exit(), Exit::Ok);
        run.stages[1].recorder.standstill_ns = 1_000_000_000;
        assert_eq!(run.exit(), Exit::Suspect);
        run.slo = Some("p50<1us,err<1%".parse().unwrap());
        assert_eq!(run.exit(), Exit::Missed);
        run.stages[1].recorder.due += 1;
        note(&mut run.stages[1].recorder.request_failures, Failure::new(Act::Reply, Kind::TimedOut));
        assert_eq!(run.exit(), Exit::Missed, "the condition allows one failure in a hundred");
        run.slo = Some("p50<1s".parse().unwrap());
        assert_eq!(run.exit(), Exit::Failed, "and without it none is allowed");
        run.slo = Some("err<1%".parse().unwrap());
        run.ending = Ending::Interrupted;
        assert_eq!(run.exit(), Exit::Failed);
    }

    #[test]
    fn conditions_are_judged_by_the_worst_run_which_is_said() {
        let mut three = three_runs();
        three.slo = Some("max<1s,p50<2s,p99.9<1s,rate>1".parse().unwrap());
        let recorders = three.stages.iter_mut().skip(1).map(|result| &mut result.recorder);
        recorders.zip([300, 500, 400]).for_each(|(it, ms)| it.latency.record(ms * 1_000_000));
        let words = |report: &Report| report.slo_outcomes().iter().map(Outcome::words).collect::<Vec<_>>();
        let said = words(&three);
        assert_eq!(said[0], "500 ms, in the worst of 3 runs");
        assert!(said[2].starts_with("too few samples to tell") && said[3].starts_with("970/s, "), "{said:?}");
        three.stages[1].recorder.latency.record(1_500_000_000);
        three.stages[1].recorder.latency.record_n(3_000_000_000, 10_000);
        assert_eq!(words(&three)[0], "3.00 s, in the worst of 3 runs");
        assert!(words(&three)[2].starts_with("3.00 s, "), "a miss is worse than not to know");
        three.stages.truncate(2);
        assert_eq!(words(&three)[0], "3.00 s");
    }

    #[test]
    fn conditions_do_not_count_what_an_interruption_left_under_way() {
        let mut run = report();
        run.slo = Some("p99<1s,max<1s,err<1%".parse().unwrap());
        (run.stages[1].recorder.due, run.stages[1].recorder.unfinished) = (1100, 100);
        let met = |run: &Report| run.slo_outcomes().iter().map(|outcome| outcome.is_met).collect::<Vec<_>>();
        assert_eq!(met(&run), [false; 3]);
        run.ending = Ending::Interrupted;
        assert_eq!(met(&run), [true; 3]);
    }

    #[test]
    fn any_failure_and_any_request_without_an_end_is_a_failed_run() {
        assert!(report().is_ok());
        let mut lossy = report();
        note(&mut lossy.stages[1].recorder.losses, Failure::new(Act::Idle, Kind::Reset));
        assert!(!lossy.is_ok());
        let mut unfinished = report();
        (unfinished.stages[1].recorder.due, unfinished.stages[1].recorder.unfinished) = (1001, 1);
        assert!(!unfinished.is_ok());
        unfinished.ending = Ending::Interrupted;
        assert!(unfinished.is_clean() && !unfinished.is_ok(), "the interruption is why");
        let mut unreached = report();
        unreached.ending = Ending::NoConnection;
        assert!(!unreached.is_ok());
        let mut empty = report();
        (empty.stages[1].recorder.due, empty.stages[1].recorder.answered) = (0, 0);
        assert!(!empty.is_ok(), "nothing was measured");
    }
}
