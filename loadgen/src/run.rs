//! One run: a plan's workers led through its stages, with progress, signals and accounts, up to its report.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::crew::{self, Crew};
use crate::machine::{Machine, resident_bytes, threads_cpu_time};
use crate::moment::rfc3339;
use crate::netstat::Netstat;
use crate::plan::Plan;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::quantity::span;
use crate::recorder::Recorder;
use crate::report::{Ending, Report, StageResult};
use crate::server_process::ServerWatch;
use crate::signals::Signals;
use crate::stage::Stage;

/// A run that goes on. [`finish`](Run::finish) makes it a report.
pub(crate) struct Run<'a> {
    signals: &'a Signals,
    /// The server's processes, where they were named, and when they were last looked at.
    watch: Option<ServerWatch>,
    watched_at: Instant,
    crew: Crew,
    progress: Progress,
    report: Report,
}

impl<'a> Run<'a> {
    /// Starts the workers of `plan`.
    ///
    /// # Errors
    /// A worker that could not be started, or a process of the server that does not exist.
    pub(crate) fn start(
        plan: Plan,
        machine: Machine,
        signals: &'a Signals,
        is_quiet: bool,
    ) -> Result<Run<'a>, Problem> {
        let pids = &plan.server_pids;
        let watch = (!pids.is_empty()).then(|| ServerWatch::new(pids)).transpose().map_err(Problem::Machine)?;
        let (crew, progress) =
            (Crew::start(&plan, !is_quiet)?, Progress::new(is_quiet, plan.connections, plan.pipeline));
        if plan.layout.own_tables {
            progress.say(&plan.layout.sums(plan.connections, machine.descriptors_max));
        }
        let command = crate::command_line();
        let report = Report {
            command,
            begun_at: SystemTime::now(),
            sources_used: plan.sources_used(plan.connections),
            parts: Vec::new(),
            plan,
            machine,
            stages: Vec::new(),
            ending: Ending::Complete,
            slo: None,
            server: None,
            server_looks: Vec::new(),
            resident_begin_bytes: resident_bytes(),
            closing_time: Duration::ZERO,
        };
        Ok(Run { signals, watch, watched_at: Instant::now(), crew, progress, report })
    }

    /// Runs `stage`, unless an earlier one left nothing to run it on. Returns what it recorded.
    ///
    /// # Errors
    /// A worker that broke down.
    pub(crate) fn stage(&mut self, stage: Stage) -> Result<Option<&Recorder>, Problem> {
        self.perform(stage, false, None)
    }

    /// The same, with a window that opens at `begin_at`, if that is said.
    ///
    /// # Errors
    /// The moment has passed before anything was measured. Where something was, what comes late is not worth less.
    pub(crate) fn stage_at(
        &mut self,
        stage: Stage,
        begin_at: Option<SystemTime>,
    ) -> Result<Option<&Recorder>, Problem> {
        self.perform(stage, false, begin_at)
    }

    /// The same as [`stage_at`](Run::stage_at) with what is to be left out of the figures, though not of the sum of
    /// bytes and failures.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn warm_up(&mut self, stage: Stage, begin_at: Option<SystemTime>) -> Result<(), Problem> {
        self.perform(stage, true, begin_at).map(drop)
    }

    fn perform(
        &mut self,
        whole: Stage,
        is_warmup: bool,
        begin_at: Option<SystemTime>,
    ) -> Result<Option<&Recorder>, Problem> {
        if let Some(begin_at) = begin_at {
            self.wait_for(begin_at)?;
        }
        if self.report.ending != Ending::Complete {
            return Ok(None);
        }
        let stage = whole.of_shard(self.report.plan.shard);
        let server_cpu_before = self.server_cpu_time();
        let (begun_at, netstat_before) = (Instant::now(), Netstat::now());
        let begun_after = self.report.begun_at.elapsed().unwrap_or_default();
        if let Some(watch) = &mut self.watch {
            watch.begin();
        }
        let now = SystemTime::now();
        let window_begin_at = begin_at.filter(|at| *at > now).unwrap_or(now + crew::LEAD);
        let lead = window_begin_at.duration_since(now).unwrap_or_default();
        self.progress.begin(stage, is_warmup, (lead, self.crew.times()));
        let recorder = self.crew.run((whole, lead), self.signals, |seen, times| {
            match self.signals.came() {
                true => self.progress.end(),
                false => self.progress.show(seen, times),
            }
            match &mut self.watch {
                Some(watch) if self.watched_at.elapsed() >= SAMPLE_PERIOD => {
                    self.watched_at = Instant::now();
                    watch.note(threads_cpu_time(GENERATOR_THREADS));
                }
                // Of what ends meanwhile no more than a tenth of a second is to be lost.
                Some(watch) => watch.glance(),
                None => {}
            }
        })?;
        let server_use = self.watch.as_mut().map(|watch| {
            watch.note(threads_cpu_time(GENERATOR_THREADS));
            watch.end()
        });
        let server_cpu_time =
            self.server_cpu_time().zip(server_cpu_before).map(|(now, before)| now.saturating_sub(before));
        let elapsed = begun_at.elapsed().saturating_sub(lead.saturating_sub(crew::LEAD));
        let resident_bytes = resident_bytes();
        // What it counts is TCP's.
        let is_unix = self.report.plan.is_unix();
        let netstat = if is_unix { Netstat::default() } else { Netstat::now().since(netstat_before) };
        let result = StageResult {
            stage,
            is_warmup,
            recorder,
            begun_after,
            window_begin_at,
            elapsed,
            server_cpu_time,
            server_use,
            resident_bytes,
            netstat,
        };
        self.report.stages.push(result);
        self.report.sources_used = self.report.plan.sources_used(self.report.sources_taken());
        self.report.ending = self.ended();
        Ok(self.report.stages.last().map(|result| &result.recorder))
    }

    /// Waits until shortly before `begin_at`, with all connections open, or until a signal comes.
    ///
    /// # Errors
    /// It has passed, and nothing was measured yet.
    fn wait_for(&mut self, begin_at: SystemTime) -> Result<(), Problem> {
        if self.report.ending != Ending::Complete {
            return Ok(());
        }
        let left = || begin_at.duration_since(SystemTime::now()).unwrap_or_default().saturating_sub(crew::LEAD_TIMED);
        let is_first = !self.report.stages.iter().any(|result| result.stage.duration().is_some() && !result.is_warmup);
        let late = (SystemTime::now() + crew::LEAD).duration_since(begin_at).unwrap_or_default();
        if is_first && !late.is_zero() {
            let (moment, late) = (rfc3339(begin_at), span(late.as_nanos() as u64));
            return Err(Problem::Late(format!(
                "{moment}, as --start-at has it, came before everything was ready, which was {late} later: nothing was \
                 measured. Give a later one, so that all connections (and the warm-up) are ready for it"
            )));
        }
        self.progress.begin_waiting(&rfc3339(begin_at), left(), self.crew.times());
        while !left().is_zero() && !self.signals.came() {
            thread::sleep(left().min(LOOK_UP_TIME));
            self.progress.show(self.crew.seen(), &self.crew.times());
        }
        self.report.ending = self.ended();
        Ok(())
    }

    /// Closes all connections, now that the results are complete.
    pub(crate) fn finish(mut self) -> Report {
        let begun_at = Instant::now();
        self.progress.begin_closing(self.crew.times());
        self.crew.close(|seen, times| self.progress.show(seen, times));
        self.report.closing_time = begun_at.elapsed();
        self.progress.end();
        self.report.server_looks = self.watch.map(ServerWatch::into_looks).unwrap_or_default();
        self.report
    }

    /// Opens all connections anew, for a trial has cost some: those that are left are closed.
    ///
    /// # Errors
    /// A worker that could not be started, or broke down.
    pub(crate) fn renew(&mut self) -> Result<(), Problem> {
        self.crew.renew(&self.report.plan)?;
        self.report.ending = Ending::Complete;
        self.perform(Stage::Connect, false, None).map(drop)
    }

    /// Whether all connections that are wanted are open.
    pub(crate) fn is_complete(&self) -> bool {
        self.crew.seen().open == self.report.plan.connections
    }

    /// How it would end now.
    pub(crate) fn ending(&self) -> Ending {
        self.report.ending
    }

    /// What became of the last stage, if it was one that the figures are made of.
    pub(crate) fn last_measured(&self) -> Option<&StageResult> {
        self.report.stages.last().filter(|result| result.is_measured())
    }

    /// Says something between two stages.
    pub(crate) fn say(&self, lines: &[String]) {
        self.progress.say(lines);
    }

    fn ended(&self) -> Ending {
        // Since connections were opened for the last time.
        let opened = self.report.stages.iter().rposition(|result| result.stage == Stage::Connect).unwrap_or(0);
        let stages = &self.report.stages[opened..];
        let lost: u64 = stages.iter().map(|result| result.recorder.lost).sum();
        let established: u64 = stages.iter().map(|result| result.recorder.established).sum();
        match established {
            _ if self.signals.came() => Ending::Interrupted,
            // Nothing was begun yet: a moment was waited for.
            0 if stages.is_empty() => Ending::Complete,
            0 => Ending::NoConnection,
            _ if lost == established => Ending::AllLost,
            _ => Ending::Complete,
        }
    }

    fn server_cpu_time(&self) -> Option<Duration> {
        self.report.plan.is_server_inside().then(|| threads_cpu_time(SERVER_THREADS))
    }
}

/// How often all that the server's processes have is looked at; a little less than the second that it is, see [`Progress`].
const SAMPLE_PERIOD: Duration = Duration::from_millis(950);

/// How long a signal may wait to be noticed.
const LOOK_UP_TIME: Duration = Duration::from_millis(50);
/// What the names of the workers begin with, see [`Crew`].
const GENERATOR_THREADS: &str = "loadgen-";

/// What the names of the server's threads begin with.
const SERVER_THREADS: &str = "esockets-";
