//! The live view as text: what was seen in the last second, in lines that fit a terminal. No clock, no terminal.

use std::time::Duration;

use crate::live::{Counts, Seen};
use crate::quantity::{count, span};

/// What happened in the last second or so.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Figures {
    answered_per_s: f64,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    max_ns: Option<u64>,
}

impl Figures {
    /// Of `elapsed`, in which answers took as long as `times` says. As in a result, a percentile with fewer than ten answers
    /// beyond it is none.
    pub(crate) fn new(elapsed: Duration, times: &Counts) -> Figures {
        let answers = times.total();
        let percentile =
            |per_beyond: u64, quantile| (answers >= per_beyond * 10).then(|| times.at_quantile(quantile))?;
        Figures {
            answered_per_s: answers as f64 / elapsed.as_secs_f64().max(1e-9),
            p50_ns: percentile(2, 0.5),
            p99_ns: percentile(100, 0.99),
            max_ns: times.at_quantile(1.0),
        }
    }

    /// What the picture shows of it.
    pub(crate) fn tail(&self) -> Tail {
        Tail { p99_ns: self.p99_ns, max_ns: self.max_ns }
    }

    fn parts(&self) -> Vec<String> {
        self.some(" answers/s", &TIMES)
    }

    /// The rate, with its unit, and those times that are named.
    fn some(&self, unit: &str, names: &[&str]) -> Vec<String> {
        let times = [("p50", self.p50_ns), ("p99", self.p99_ns), ("max", self.max_ns)];
        let times = times.into_iter().filter(|(name, _)| names.contains(name));
        let times = times.map(|(name, ns)| format!("{name} {}", ns.map_or_else(|| "-".to_owned(), span)));
        std::iter::once(format!("{}{unit}", count(self.answered_per_s as u64))).chain(times).collect()
    }

    /// In one line of at most `columns`: what is left out first is what tells least.
    fn line(&self, separator: &str, columns: usize) -> String {
        let whole = |parts: Vec<String>| format!("  {}", parts.join(separator));
        let candidates =
            [(" answers/s", &TIMES[..]), (" answers/s", &["p50", "p99"]), ("/s", &["p50", "p99"]), ("/s", &["p99"])];
        let mut lines = candidates.iter().map(|(unit, names)| whole(self.some(unit, names)));
        let fits = lines.find(|line| line.chars().count() <= columns);
        fits.unwrap_or_else(|| fitting("  ", self.some("/s", &["p99"]), separator, columns))
    }
}

/// How long the slow answers of a second took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Tail {
    /// `None` where there were too few.
    pub(crate) p99_ns: Option<u64>,
    pub(crate) max_ns: Option<u64>,
}

/// A stage that goes on.
#[derive(Debug)]
pub(crate) struct View<'a> {
    /// Its name.
    pub(crate) stage: &'a str,
    /// Since it began.
    pub(crate) elapsed: Duration,
    /// How long it will be, where that is known; else it is over when as many connections are open as are wanted.
    pub(crate) duration: Option<Duration>,
    /// The connections that are wanted.
    pub(crate) goal: u64,
    /// What was seen last.
    pub(crate) seen: Seen,
    /// Where anything was answered.
    pub(crate) figures: Option<Figures>,
    /// The tail of each of the last seconds.
    pub(crate) tails: &'a [Tail],
}

impl View<'_> {
    /// One line for a file or a pipe.
    pub(crate) fn plain(&self) -> String {
        let parts: Vec<String> = std::iter::once(self.open()).chain(self.figures()).chain(self.failed()).collect();
        // A second is over a little before it is: see `Progress`.
        let seconds = self.elapsed.as_secs_f64().round();
        format!("{seconds:>4} s  {}: {}", self.stage, parts.join(" · "))
    }

    /// The lines for a terminal of so many columns and rows: what does not fit is left out. Without `is_utf8` in ASCII.
    pub(crate) fn lines(&self, (columns, rows): (usize, usize), is_utf8: bool) -> Vec<String> {
        // The last column stays free: some terminals begin a new line when it is written to.
        let columns = columns.saturating_sub(1).max(1);
        let separator = if is_utf8 { " · " } else { " | " };
        let mut lines = vec![self.progress(columns, is_utf8)];
        let mut connections: Vec<String> = std::iter::once(self.open()).chain(self.failed()).collect();
        // A row stays free for what was there before: with as many lines as rows it would be scrolled away each time.
        let rows = rows.saturating_sub(1).max(1);
        if let (Some(figures), true) = (&self.figures, rows > 2) {
            lines.push(fitting("  ", connections, separator, columns));
            lines.push(figures.line(separator, columns));
            lines.push(self.sparkline(columns, is_utf8));
        } else {
            // What failed is worth more than how fast the others were.
            connections.rotate_left(1);
            let figures = self.figures.as_ref().map_or_else(Vec::new, |figures| figures.some("/s", &["p99", "p50"]));
            let parts = connections.drain(..);
            lines.push(fitting("  ", parts.chain(figures).collect(), separator, columns));
        }
        lines.truncate(rows);
        lines
    }

    fn open(&self) -> String {
        format!("{} of {} open", count(self.seen.open), count(self.goal))
    }

    fn failed(&self) -> Option<String> {
        (self.seen.failed > 0).then(|| format!("{} FAILED", count(self.seen.failed)))
    }

    fn figures(&self) -> Vec<String> {
        self.figures.as_ref().map_or_else(Vec::new, Figures::parts)
    }

    /// The stage, a bar, and how much of it there was.
    fn progress(&self, columns: usize, is_utf8: bool) -> String {
        let (part, number) = match self.duration {
            Some(all) => {
                let elapsed = self.elapsed.min(all);
                let part = elapsed.as_secs_f64() / all.as_secs_f64().max(1e-9);
                (part, format!("{} of {}", clock(self.elapsed), clock(all).replace(".0 s", " s")))
            }
            None => {
                let part = self.seen.open as f64 / self.goal.max(1) as f64;
                (part, format!("{:.0} %", part.min(1.0) * 100.0))
            }
        };
        let full = (part.clamp(0.0, 1.0) * BAR_COLUMNS as f64) as usize;
        let (filled, empty) = if is_utf8 { ("█", "░") } else { ("#", "-") };
        let bar = filled.repeat(full) + &empty.repeat(BAR_COLUMNS - full);
        let room = columns.saturating_sub(number.chars().count() + 1);
        let stage: String = self.stage.chars().take(room).collect();
        match columns >= self.stage.chars().count() + BAR_COLUMNS + number.chars().count() + 2 {
            true => format!("{stage} {bar} {number}"),
            false => format!("{stage} {number}").chars().take(columns).collect(),
        }
    }

    /// The 99th percentile over the last seconds, or, where none of them had enough answers for that, the longest time; on a
    /// scale from the lowest to the highest of those that are shown, and what its lowest and its highest column stand for.
    fn sparkline(&self, columns: usize, is_utf8: bool) -> String {
        let has_p99 = self.tails.iter().any(|tail| tail.p99_ns.is_some());
        let head = if has_p99 { "  p99 " } else { "  max " };
        let room = columns.saturating_sub(head.len());
        let fits = room >= SCALE_COLUMNS + SPARK_COLUMNS_LEAST;
        let seconds = if fits { room - SCALE_COLUMNS } else { room }.min(SPARK_SECONDS);
        let shown = &self.tails[self.tails.len().saturating_sub(seconds)..];
        let shown = || shown.iter().map(|tail| if has_p99 { tail.p99_ns } else { tail.max_ns });
        let known = || shown().flatten();
        let (Some(least), Some(most)) = (known().min(), known().max()) else { return String::new() };
        // What differs by no more than it is counted to is not to look like a mountain.
        let most = most.max((least as f64 * SCALE_LEAST) as u64);
        let levels = if is_utf8 { LEVELS } else { LEVELS_ASCII };
        let picture: String = shown().map(|ns| ns.map_or(' ', |ns| spark(ns, least, most, levels))).collect();
        let scale = format!("  {} {}  {} {}", levels[0], span(least), levels[levels.len() - 1], span(most));
        let line = format!("{head}{picture}{}", if fits { &scale } else { "" });
        line.chars().take(columns).collect()
    }
}

/// One column: its height is the logarithm's, for a tail is soon ten times what it was.
fn spark(ns: u64, least: u64, most: u64, levels: &[char; 8]) -> char {
    let height = (most.max(1) as f64 / least.max(1) as f64).ln().max(f64::MIN_POSITIVE);
    let part = (ns.max(1) as f64 / least.max(1) as f64).ln() / height;
    levels[((part * (levels.len() - 1) as f64).round() as usize).min(levels.len() - 1)]
}

/// As many of `parts` as fit into `columns`, from the first on.
fn fitting(indent: &str, parts: Vec<String>, separator: &str, columns: usize) -> String {
    let mut line = indent.to_owned();
    for (index, part) in parts.iter().enumerate() {
        let joint = if index == 0 { "" } else { separator };
        if line.chars().count() + joint.chars().count() + part.chars().count() > columns {
            break;
        }
        line += joint;
        line += part;
    }
    line
}

/// For a person who waits: `4.5 s`, `1:05:00`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) => format!("{:.1} s", time.as_secs_f64()),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// The times that are shown where there is room.
const TIMES: [&str; 3] = ["p50", "p99", "max"];

/// Seconds that the picture of the tail goes back.
pub(crate) const SPARK_SECONDS: usize = 30;

/// What the scale beside it takes at the most, and by how much its upper end is above its lower one at the least: times
/// are counted to a sixteenth.
const SCALE_COLUMNS: usize = 26;
const SCALE_LEAST: f64 = 1.25;

const LEVELS: &[char; 8] = &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const LEVELS_ASCII: &[char; 8] = &['_', '.', '-', '=', '+', '*', '%', '#'];

/// With less room the numbers beside it are left out.
const SPARK_COLUMNS_LEAST: usize = 10;

const BAR_COLUMNS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Live;

    /// A second whose 99th percentile was that.
    fn tail(p99_ns: Option<u64>) -> Tail {
        Tail { p99_ns, max_ns: p99_ns }
    }

    fn view<'a>(stage: &'a str, tails: &'a [Tail], failed: u64) -> View<'a> {
        let figures = Figures {
            answered_per_s: 12_345.6,
            p50_ns: Some(120_000),
            p99_ns: Some(1_230_000),
            max_ns: Some(45_600_000),
        };
        View {
            stage,
            elapsed: Duration::from_secs(5),
            duration: Some(Duration::from_secs(10)),
            goal: 1000,
            seen: Seen { open: 997, failed, emptied_ns: 0 },
            figures: Some(figures),
            tails,
        }
    }

    #[test]
    fn all_figures_stand_in_80_columns() {
        let tails = [Some(100_000), Some(200_000), None, Some(800_000)].map(tail);
        let lines = view("open loop at 20,000/s", &tails, 3).lines((80, 24), true);
        assert_eq!(
            lines,
            [
                "open loop at 20,000/s ██████████░░░░░░░░░░ 5.0 s of 10 s",
                "  997 of 1,000 open · 3 FAILED",
                "  12,345 answers/s · p50 120 us · p99 1.23 ms · max 45.6 ms",
                "  p99 ▁▃ █  ▁ 100 us  █ 800 us",
            ]
        );
    }

    #[test]
    fn whatever_the_terminal_no_line_is_too_long_for_it() {
        let tails: Vec<Tail> = (0..30).map(|second| tail(Some(1000 << (second % 20)))).collect();
        for stage in ["verifying", "warming up, open loop at 123,456 to 1,234,567/s, draining"] {
            for columns in 1..130 {
                for is_utf8 in [true, false] {
                    for line in view(stage, &tails, 1_234_567).lines((columns, 24), is_utf8) {
                        let length = line.chars().count();
                        assert!(length < columns.max(3), "{columns}: {line}");
                        assert!(is_utf8 || line.is_ascii(), "{line}");
                    }
                }
            }
        }
        let figures = |columns| view("open loop at 20,000/s", &tails, 0).lines((columns, 24), true).swap_remove(2);
        assert_eq!(figures(60), "  12,345 answers/s · p50 120 us · p99 1.23 ms · max 45.6 ms");
        assert_eq!(figures(59), "  12,345 answers/s · p50 120 us · p99 1.23 ms");
        assert_eq!(figures(40), "  12,345/s · p50 120 us · p99 1.23 ms");
        assert_eq!(figures(30), "  12,345/s · p99 1.23 ms");
        assert_eq!(figures(20), "  12,345/s");
    }

    #[test]
    fn a_low_terminal_keeps_a_row_and_the_figures() {
        let tails = [tail(Some(100_000))];
        for rows in 1..6 {
            let lines = view("closed loop", &tails, 3).lines((80, rows), true);
            assert_eq!(lines.len(), rows.saturating_sub(1).clamp(1, 4), "{rows}: {lines:?}");
            assert!(lines[0].starts_with("closed loop █"), "{rows}: {lines:?}");
        }
        let three = view("closed loop", &tails, 3).lines((80, 3), true);
        assert_eq!(three[1], "  3 FAILED · 997 of 1,000 open · 12,345/s · p50 120 us · p99 1.23 ms");
        assert_eq!(
            view("closed loop", &tails, 0).lines((80, 4), true)[2],
            "  12,345 answers/s · p50 120 us · p99 1.23 ms · max 45.6 ms"
        );
    }

    #[test]
    fn a_plain_line_has_the_same_figures() {
        assert_eq!(
            view("closed loop", &[], 3).plain(),
            "   5 s  closed loop: 997 of 1,000 open · 12,345 answers/s · p50 120 us · p99 1.23 ms · max 45.6 ms · 3 FAILED"
        );
    }

    #[test]
    fn a_tail_that_hardly_changes_is_flat_and_ascii_has_heights_too() {
        let line = |us: &[u64], columns, is_utf8| {
            let tails: Vec<Tail> = us.iter().map(|us| tail(Some(us * 1000))).collect();
            view("closed loop", &tails, 0).sparkline(columns, is_utf8)
        };
        assert_eq!(line(&[100, 106, 100], 80, true), "  p99 ▁▃▁  ▁ 100 us  █ 125 us", "a step of what is counted");
        assert_eq!(line(&[1, 10, 100], 80, false), "  p99 _+#  _ 1.00 us  # 100 us");
        assert_eq!(line(&[100, 100, 100], 80, true), "  p99 ▁▁▁  ▁ 100 us  █ 125 us");
    }

    #[test]
    fn a_percentile_of_too_few_is_a_dash_and_the_picture_is_of_the_longest_then() {
        let figures = |answers: u64| {
            let (live, mut times) = (Live::new(true), Counts::default());
            (0..answers).for_each(|_| live.note(100_000));
            live.add_times_to(&mut times);
            Figures::new(Duration::from_secs(1), &times).parts()[1..].join(" ")
        };
        let has = |figures: &str, dashes| figures.matches(" -").count() == dashes && figures.contains("max ");
        assert!(has(&figures(19), 2) && has(&figures(20), 1), "{}, {}", figures(19), figures(20));
        assert!(has(&figures(999), 1) && has(&figures(1000), 0), "{}, {}", figures(999), figures(1000));
        let few = [Tail { p99_ns: None, max_ns: Some(100_000) }, Tail { p99_ns: None, max_ns: Some(800_000) }];
        let picture = |tails: &[Tail]| view("closed loop", tails, 0).sparkline(80, true);
        assert_eq!(picture(&few), "  max ▁█  ▁ 100 us  █ 800 us");
        assert_eq!(picture(&[few[0], tail(Some(200_000))]), "  p99  ▁  ▁ 200 us  █ 250 us");
    }

    #[test]
    fn the_scale_is_that_of_what_is_shown() {
        let mut tails = vec![tail(Some(9_000_000_000))];
        tails.extend([tail(Some(100_000)), tail(Some(200_000))].repeat(10));
        let shown = |columns| view("closed loop", &tails, 0).sparkline(columns, true);
        assert!(shown(80).ends_with("  ▁ 100 us  █ 9.00 s") && shown(80).contains("█▁▁"), "{}", shown(80));
        assert!(shown(50).ends_with("█▁█▁█  ▁ 100 us  █ 200 us"), "the peak has left the picture: {}", shown(50));
    }

    #[test]
    fn time_is_told_as_on_a_clock() {
        let told = [250, 5_000, 65_000, 3_900_000].map(|ms| clock(Duration::from_millis(ms)));
        assert_eq!(told, ["0.2 s", "5.0 s", "1:05", "1:05:00"]);
    }
}
