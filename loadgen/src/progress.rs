//! What a person sees while a run goes on: a live view on a terminal, a plain line a second elsewhere.

use std::env::var;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use crate::announcer::Announcer;
use crate::churn::Churn;
use crate::live::{Counts, Seen};
use crate::stage::Stage;
use crate::terminal;
use crate::view::{Figures, SPARK_SECONDS, Tail, View};

/// Tells on standard error how far a run is. Standard output is left to the results.
pub(crate) struct Progress {
    face: Face,
    /// None where nothing is said. Dropped, it waits: what was said stands before the results, or a problem.
    announcer: Option<Announcer>,
    stage: String,
    duration: Option<Duration>,
    /// Whether replies are waited for once the duration is over.
    drains: bool,
    goal: u64,
    /// How many requests of a connection may be under way at once.
    pipeline: u32,
    /// When its window opens: a moment after its order.
    begun_at: Instant,
    drawn_at: Instant,
    /// When the second began that goes on, and what there was then.
    second_at: Instant,
    times_before: Counts,
    /// Those of the last whole second.
    figures: Option<Figures>,
    tails: Vec<Tail>,
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
    /// Silent if `is_quiet`, else as suits standard error. `goal` is the number of connections that are wanted,
    /// `pipeline` how many requests of each may be under way at once.
    pub(crate) fn new(is_quiet: bool, goal: u64, pipeline: u32) -> Progress {
        let is_screen = stderr().is_terminal() && var("TERM").is_ok_and(|term| term != "dumb");
        let face = match (is_quiet, is_screen) {
            (true, _) => Face::Silent,
            (false, false) => Face::Lines,
            (false, true) => Face::Screen { is_utf8: is_utf8() },
        };
        let now = Instant::now();
        Progress {
            face,
            announcer: (!is_quiet).then(Announcer::new),
            stage: String::new(),
            duration: None,
            drains: false,
            goal,
            pipeline,
            begun_at: now,
            drawn_at: now,
            second_at: now,
            times_before: Counts::default(),
            figures: None,
            tails: Vec::new(),
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
        self.write(clear.to_owned() + &lines);
    }

    /// A stage begins, which may be left out of the figures, with `times` counted before it; its window opens in `lead`.
    pub(crate) fn begin(&mut self, stage: Stage, is_warmup: bool, (lead, times): (Duration, Counts)) {
        let at_once = if self.pipeline > 1 { format!(", {} at once", self.pipeline) } else { String::new() };
        let name = match stage {
            Stage::Connect => "connecting".to_owned(),
            Stage::Verify => "verifying".to_owned(),
            Stage::Closed { .. } => format!("closed loop{at_once}"),
            Stage::Open { rate, .. } => format!("open loop at {rate}/s{at_once}"),
            Stage::Churn(Churn { arrivals: Some((rate, _)), .. }) => format!("churn at {rate}/s"),
            Stage::Churn(_) => "churn".to_owned(),
            Stage::Hold { .. } => "holding".to_owned(),
        };
        let name = if is_warmup { format!("warming up, {name}") } else { name };
        self.begin_part(name, stage.duration(), times);
        self.drains = stage.is_measured();
        self.begun_at += lead;
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
        self.tails.clear();
    }

    /// Shows what is `seen` now, with the `times` that were counted so far, if it is time to.
    pub(crate) fn show(&mut self, seen: Seen, times: &Counts) {
        let (second_at, elapsed) = (self.second_at, self.second_at.elapsed());
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
            self.tails.push(figures.map_or_else(Tail::default, |figures| figures.tail()));
            let surplus = self.tails.len().saturating_sub(SPARK_SECONDS);
            self.tails.drain(..surplus);
            self.second_at = Instant::now();
            self.times_before.clone_from(times);
        }
        self.drawn_at = Instant::now();
        // The first second is shown as it grows.
        if let Some(text) = self.text(seen, self.figures.or(figures), second_at + elapsed / 2) {
            self.write(text);
        }
    }

    /// What is shown of a second whose middle is at `middle_at`.
    fn text(&self, seen: Seen, figures: Option<Figures>, middle_at: Instant) -> Option<String> {
        let is_plain = matches!(self.face, Face::Lines);
        // A line is about its second, a view about what goes on.
        let stage = self.stage_at(if is_plain { middle_at } else { Instant::now() });
        let view = View {
            stage: &stage,
            elapsed: self.begun_at.elapsed(),
            duration: self.duration,
            goal: self.goal,
            seen,
            figures,
            tails: &self.tails,
        };
        match self.face {
            Face::Silent | Face::Over => None,
            Face::Lines => Some(view.plain() + "\n"),
            Face::Screen { is_utf8 } => Some(painted(&view.lines(terminal::size(stderr()), is_utf8))),
        }
    }

    fn write(&self, text: String) {
        if let Some(announcer) = &self.announcer {
            announcer.say(text);
        }
    }

    /// The stage's name at a moment, and behind its window that replies are waited for: their number is no rate any more.
    fn stage_at(&self, moment: Instant) -> String {
        match self.duration {
            Some(duration) if self.drains && moment > self.begun_at + duration => format!("{}, draining", self.stage),
            _ => self.stage.clone(),
        }
    }

    /// Takes the live view away, to make room for the results, or for the shell of somebody who has seen enough: nothing
    /// is shown from now on.
    pub(crate) fn end(&mut self) {
        if let Face::Screen { .. } = self.face {
            self.write(CLEAR.to_owned());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draining_begins_when_the_window_has_ended_not_before() {
        let (duration, lead) = (Duration::from_secs(3), Duration::from_millis(300));
        let mut progress = Progress::new(true, 1, 1);
        let ordered_at = Instant::now();
        progress.begin(Stage::Closed { duration }, false, (lead, Counts::default()));
        assert_eq!(progress.stage_at(ordered_at + lead + duration), "closed loop");
        assert_eq!(progress.stage_at(Instant::now() + lead + duration * 2), "closed loop, draining");
        progress.begin(Stage::Hold { duration, heartbeat: None }, false, (lead, Counts::default()));
        assert_eq!(progress.stage_at(Instant::now() + duration * 2), "holding", "nothing is waited for");
    }

    #[test]
    fn a_pipeline_is_shown_with_its_depth() {
        let duration = Duration::from_secs(3);
        let mut progress = Progress::new(true, 1, 8);
        progress.begin(Stage::Closed { duration }, false, (Duration::ZERO, Counts::default()));
        assert_eq!(progress.stage, "closed loop, 8 at once");
        progress.begin(Stage::Connect, false, (Duration::ZERO, Counts::default()));
        assert_eq!(progress.stage, "connecting", "nothing is asked yet");
    }

    #[test]
    fn a_line_is_called_what_the_middle_of_its_second_was() {
        let duration = Duration::from_secs(3);
        let mut progress = Progress::new(true, 1, 1);
        progress.face = Face::Lines;
        progress.begin(Stage::Closed { duration }, false, (Duration::ZERO, Counts::default()));
        let end_at = progress.begun_at + duration;
        let said = |middle_at| progress.text(Seen::default(), None, middle_at).unwrap();
        assert!(said(end_at - duration / 10).contains("closed loop: "));
        assert!(said(end_at + duration / 10).contains("closed loop, draining: "));
    }
}
