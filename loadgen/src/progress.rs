//! What a person sees while a run goes on: a live view on a terminal, a plain line a second elsewhere.

use std::env::var;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use crate::churn::Churn;
use crate::live::{Counts, Seen};
use crate::stage::Stage;
use crate::terminal;
use crate::view::{Figures, SPARK_SECONDS, View};

/// Tells on standard error how far a run is. Standard output is left to the results.
pub(crate) struct Progress {
    face: Face,
    stage: String,
    duration: Option<Duration>,
    /// Whether replies are waited for once the duration is over.
    drains: bool,
    goal: u64,
    begun_at: Instant,
    drawn_at: Instant,
    /// When the second began that goes on, and what there was then.
    second_at: Instant,
    times_before: Counts,
    /// Those of the last whole second.
    figures: Option<Figures>,
    p99s_ns: Vec<Option<u64>>,
}

enum Face {
    Silent,
    Lines,
    Screen {
        /// Whether the terminal shows more than ASCII.
        is_utf8: bool,
    },
    /// A screen that was taken away.
    Over,
}

impl Progress {
    /// Silent if `is_quiet`, else as suits standard error. `goal` is the number of connections that are wanted.
    pub(crate) fn new(is_quiet: bool, goal: u64) -> Progress {
        let is_screen = stderr().is_terminal() && var("TERM").is_ok_and(|term| term != "dumb");
        let face = match (is_quiet, is_screen) {
            (true, _) => Face::Silent,
            (false, false) => Face::Lines,
            (false, true) => Face::Screen { is_utf8: is_utf8() },
        };
        let now = Instant::now();
        Progress {
            face,
            stage: String::new(),
            duration: None,
            drains: false,
            goal,
            begun_at: now,
            drawn_at: now,
            second_at: now,
            times_before: Counts::default(),
            figures: None,
            p99s_ns: Vec::new(),
        }
    }

    /// Lines to begin with, or between two stages.
    pub(crate) fn say(&self, lines: &[String]) {
        let clear = match self.face {
            Face::Silent => return,
            Face::Lines | Face::Over => "",
            Face::Screen { .. } => CLEAR,
        };
        let lines: String = lines.iter().map(|line| format!("        {line}\n")).collect();
        // Nobody there to read it is no reason not to go on.
        let _ = stderr().write_all((clear.to_owned() + &lines).as_bytes());
    }

    /// A stage begins, which may be left out of the figures, with `times` counted before it.
    pub(crate) fn begin(&mut self, stage: Stage, is_warmup: bool, times: Counts) {
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
        self.begin_part(name, stage.duration(), times);
        self.drains = stage.is_measured();
    }

    /// Nothing is done until a moment, which is so far off.
    pub(crate) fn begin_waiting(&mut self, moment: &str, left: Duration, times: Counts) {
        self.begin_part(format!("waiting for {moment}"), Some(left), times);
    }

    /// All connections are being closed.
    pub(crate) fn begin_closing(&mut self, times: Counts) {
        self.begin_part("closing".to_owned(), None, times);
    }

    /// Draws nothing: what is over at once is not to be seen.
    fn begin_part(&mut self, name: String, duration: Option<Duration>, times: Counts) {
        let now = Instant::now();
        (self.stage, self.duration, self.drains) = (name, duration, false);
        (self.begun_at, self.drawn_at, self.second_at) = (now, now, now);
        (self.times_before, self.figures) = (times, None);
        self.p99s_ns.clear();
    }

    /// Shows what is `seen` now, with the `times` that were counted so far, if it is time to.
    pub(crate) fn show(&mut self, seen: Seen, times: &Counts) {
        let elapsed = self.second_at.elapsed();
        let is_over = elapsed >= SECOND;
        let is_due = match &self.face {
            Face::Silent | Face::Over => false,
            Face::Lines => is_over,
            Face::Screen { .. } => self.drawn_at.elapsed() >= DRAWING_PERIOD,
        };
        if !is_due {
            return;
        }
        let recent = times.since(&self.times_before);
        // Before the first answer there is nothing to tell, and after it, that there are none.
        let figures = (self.figures.is_some() || recent.total() > 0).then(|| Figures::new(elapsed, &recent));
        if is_over {
            self.figures = figures;
            self.p99s_ns.push(figures.and_then(|figures| figures.p99_ns()));
            let surplus = self.p99s_ns.len().saturating_sub(SPARK_SECONDS);
            self.p99s_ns.drain(..surplus);
            self.second_at = Instant::now();
            self.times_before.clone_from(times);
        }
        self.drawn_at = Instant::now();
        // The first second is shown as it grows.
        self.draw(seen, self.figures.or(figures));
    }

    fn draw(&self, seen: Seen, figures: Option<Figures>) {
        let stage = self.stage_now();
        let view = View {
            stage: &stage,
            elapsed: self.begun_at.elapsed(),
            duration: self.duration,
            goal: self.goal,
            seen,
            figures,
            p99s_ns: &self.p99s_ns,
        };
        let text = match self.face {
            Face::Silent | Face::Over => return,
            Face::Lines => view.plain() + "\n",
            Face::Screen { is_utf8 } => painted(&view.lines(terminal::columns(stderr()), is_utf8)),
        };
        // Nobody there to read it is no reason to stop measuring.
        let _ = stderr().write_all(text.as_bytes());
    }

    /// The stage's name, and behind its window that replies are waited for: their number is no rate any more.
    fn stage_now(&self) -> String {
        match self.duration {
            Some(duration) if self.drains && self.begun_at.elapsed() > duration => format!("{}, draining", self.stage),
            _ => self.stage.clone(),
        }
    }

    /// Takes the live view away, to make room for the results, or for the shell of somebody who has seen enough: nothing
    /// is shown from now on.
    pub(crate) fn end(&mut self) {
        if let Face::Screen { .. } = self.face {
            let _ = stderr().write_all(CLEAR.as_bytes());
            self.face = Face::Over;
        }
    }
}

impl Drop for Progress {
    /// However a run ends, its view does not stay behind.
    fn drop(&mut self) {
        self.end();
    }
}

/// `lines` over those of before, and the cursor back to where they begin: whatever comes next, be it the `^C` of a terminal,
/// takes no room of its own, and from there all of them can be cleared. In one piece, so that nothing flickers.
fn painted(lines: &[String]) -> String {
    let rows = lines.join("\x1b[K\r\n");
    let back = if lines.len() > 1 { format!("\x1b[{}A", lines.len() - 1) } else { String::new() };
    format!("\r{rows}\x1b[K\x1b[J\r{back}")
}

/// To the beginning of the row, and away with all from there on (ECMA-48: CR, ED).
const CLEAR: &str = "\r\x1b[J";

/// Whether the locale's characters are those of UTF-8: the first of these that is set decides, see locale(7).
fn is_utf8() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| var(name).ok().filter(|it| !it.is_empty()));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// How often there are new figures; a little less than the second that it is, for it is looked at ten times a second.
const SECOND: Duration = Duration::from_millis(950);

/// How often the view is drawn: a bar that moves less often looks as if it stood.
const DRAWING_PERIOD: Duration = Duration::from_millis(190);
