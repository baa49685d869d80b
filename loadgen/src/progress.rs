//! What a person sees while a run goes on: a live line on a terminal, a plain line a second elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::churn::Churn;
use crate::live::Seen;
use crate::quantity::count;
use crate::stage::Stage;
use crate::terminal;

/// Tells on standard error how far a run is. Standard output is left to the results.
pub(crate) struct Progress {
    face: Face,
    stage: String,
    duration: Option<Duration>,
    /// Whether replies are waited for once the duration is over.
    drains: bool,
    goal: u64,
    begun_at: Instant,
    told_at: Instant,
    answered_before: u64,
}

enum Face {
    Silent,
    Lines,
    Bar(ProgressBar),
}

impl Progress {
    /// Silent if `is_quiet`, else as suits standard error. `goal` is the number of connections that are wanted.
    pub(crate) fn new(is_quiet: bool, goal: u64) -> Progress {
        let face = if is_quiet {
            Face::Silent
        } else if stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            Face::Bar(bar)
        } else {
            Face::Lines
        };
        let now = Instant::now();
        let (stage, duration, drains) = (String::new(), None, false);
        Progress { face, stage, duration, drains, goal, begun_at: now, told_at: now, answered_before: 0 }
    }

    /// Lines to begin with.
    pub(crate) fn say(&self, lines: &[String]) {
        let is_shown = !matches!(self.face, Face::Silent);
        for line in lines.iter().filter(|_| is_shown) {
            // Nobody there to read it is no reason not to begin.
            let _ = writeln!(stderr(), "        {line}");
        }
    }

    /// A stage begins, which may be left out of the figures.
    pub(crate) fn begin(&mut self, stage: Stage, is_warmup: bool) {
        let name = match stage {
            Stage::Connect => "connecting".to_owned(),
            Stage::Verify => "verifying".to_owned(),
            Stage::Closed { .. } => "closed loop".to_owned(),
            Stage::Open { rate, .. } => format!("open loop at {rate}/s"),
            Stage::Churn(Churn { arrivals: Some((rate, _)), .. }) => format!("churn at {rate}/s"),
            Stage::Churn(_) => "churn".to_owned(),
            Stage::Hold { .. } => "holding".to_owned(),
        };
        let name = if is_warmup { format!("warming up, {name}") } else { name };
        self.begin_part(name, stage.duration());
        self.drains = stage.is_measured();
    }

    /// All connections are being closed.
    pub(crate) fn begin_closing(&mut self) {
        self.begin_part("closing".to_owned(), None);
    }

    fn begin_part(&mut self, name: String, duration: Option<Duration>) {
        (self.stage, self.duration) = (name, duration);
        (self.begun_at, self.told_at, self.answered_before) = (Instant::now(), Instant::now(), 0);
        self.drains = false;
        if let Face::Bar(bar) = &self.face {
            // First its name: each of the others draws.
            bar.set_prefix(self.stage.clone());
            bar.set_message(String::new());
            bar.set_style(style(self.duration.is_some(), terminal::columns(stderr()) < BAR_TERMINAL_COLUMNS));
            bar.set_length(self.duration.map_or(self.goal, |duration| duration.as_millis() as u64));
            bar.set_position(0);
            bar.reset_elapsed();
        }
    }

    /// Shows what is `seen` now, if it is time to.
    pub(crate) fn show(&mut self, seen: Seen) {
        let since = self.told_at.elapsed();
        let is_due = match self.face {
            Face::Silent => false,
            Face::Lines => since >= LINE_PERIOD,
            Face::Bar(_) => since >= BAR_PERIOD,
        };
        if !is_due {
            return;
        }
        if let Face::Bar(bar) = &self.face
            && bar.is_finished()
        {
            return;
        }
        let rate_per_s = (seen.answered - self.answered_before.min(seen.answered)) as f64 / since.as_secs_f64();
        (self.told_at, self.answered_before) = (Instant::now(), seen.answered);
        let mut line = format!("{} of {} open", count(seen.open), count(self.goal));
        if seen.answered > 0 {
            line += &format!(" · {} answers/s", count(rate_per_s as u64));
        }
        if seen.failed > 0 {
            line += &format!(" · {} FAILED", count(seen.failed));
        }
        match &self.face {
            Face::Silent => {}
            Face::Lines => {
                let seconds = self.begun_at.elapsed().as_secs();
                // Nobody there to read it is no reason to stop measuring.
                let _ = writeln!(stderr(), "{seconds:>4} s  {}: {line}", self.stage_now());
            }
            Face::Bar(bar) => {
                let elapsed = self.begun_at.elapsed().as_millis() as u64;
                bar.set_position(if self.duration.is_some() { elapsed } else { seen.open });
                bar.set_prefix(self.stage_now());
                bar.set_message(line);
            }
        }
    }

    /// The stage's name, and behind its window that replies are waited for: their number is no rate any more.
    fn stage_now(&self) -> String {
        match self.duration {
            Some(duration) if self.drains && self.begun_at.elapsed() > duration => format!("{}, draining", self.stage),
            _ => self.stage.clone(),
        }
    }

    /// Takes the live line away, to make room for the results, or for the shell of somebody who has seen enough: nothing
    /// is shown from now on.
    pub(crate) fn end(&self) {
        if let Face::Bar(bar) = &self.face {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    /// However a run ends, its line does not stay behind.
    fn drop(&mut self) {
        self.end();
    }
}

/// How often a line is printed; a little less than the second that it is, for it is looked at ten times a second.
const LINE_PERIOD: Duration = Duration::from_millis(950);

/// How often the live line changes: a rate that changes faster cannot be read.
const BAR_PERIOD: Duration = Duration::from_millis(450);

/// Below so many columns the picture makes room for the numbers.
const BAR_TERMINAL_COLUMNS: usize = 80;

/// Whatever the last field is, it is cut where the terminal ends: a line that wraps could not be taken away again.
fn style(is_timed: bool, is_narrow: bool) -> ProgressStyle {
    let template = match (is_narrow, is_timed) {
        (true, _) => "{prefix:.20} · {wide_msg}",
        (false, true) => "{prefix} {bar:20} {elapsed} · {wide_msg}",
        (false, false) => "{prefix} {bar:20} {percent:>3} % · {wide_msg}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
