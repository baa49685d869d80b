//! A chart as SVG: a frame with two axes, and lines, areas and cells in it. It knows nothing of what it shows.

use std::fmt::Write;

/// Where values lie on an axis, from 0 to 1, and which of them are named.
pub(super) struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
    /// Places and names.
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to a little more than `most`, evenly; `name` makes the names.
    pub(super) fn linear(most: f64, name: impl Fn(f64) -> String) -> Axis {
        let most = if most > 0.0 { most } else { 1.0 };
        // Up to five steps, of one, two or five times a power of ten.
        let raw = most / 5.0;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|nice| nice * power).find(|step| *step >= raw * 0.999);
        let step = step.unwrap_or(10.0 * power);
        let high = (most / step).ceil() * step;
        // 0.3, and not three times 0.1, which is 0.30000000000000004.
        let rounded = |at: f64| if power < 1.0 { (at / power).round() / power.recip().round() } else { at };
        let ticks = (0..=(high / step).round() as u32).map(|n| rounded(f64::from(n) * step));
        let ticks = ticks.map(|at| (at, name(at))).collect();
        Axis { low: 0.0, high, is_log: false, ticks }
    }

    /// The same up to just `end`, as time is.
    pub(super) fn linear_to(end: f64, name: impl Fn(f64) -> String) -> Axis {
        let mut axis = Axis::linear(end, name);
        axis.high = end.max(f64::MIN_POSITIVE);
        axis.ticks.retain(|(at, _)| *at <= end * 1.001);
        axis
    }

    /// From the power of ten at or below `least` to the one at or above `most`.
    pub(super) fn log(least: f64, most: f64, name: impl Fn(f64) -> String) -> Axis {
        let (low, high) = (least.max(1.0).log10().floor() as i32, most.max(1.0).log10().ceil() as i32);
        let high = high.max(low + 1);
        let ticks = (low..=high).map(|power| 10f64.powi(power)).map(|at| (at, name(at))).collect();
        Axis { low: 10f64.powi(low), high: 10f64.powi(high), is_log: true, ticks }
    }

    /// From `least` to `most`, with names at one, two and five times each power of ten; where they lie too close together for
    /// two of those, at each of its tenths.
    pub(super) fn log_to(least: f64, most: f64, name: impl Fn(f64) -> String) -> Axis {
        // Of nothing, and of one value, an axis can be drawn, too: its length has bounds.
        let low = least.clamp(AXIS_LEAST, AXIS_MOST);
        let high = most.clamp(low * 1.1, AXIS_MOST * 1.1);
        let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let at_tenths = |tenths: &[u32]| {
            let ticks =
                powers.clone().flat_map(|power| tenths.iter().map(move |n| f64::from(*n) * 10f64.powi(power - 1)));
            ticks.filter(|at| (low * 0.999..=high * 1.001).contains(at)).collect::<Vec<_>>()
        };
        let some = [at_tenths(&[10, 20, 50]), at_tenths(&[10, 20, 30, 40, 50, 60, 70, 80, 90])];
        let ticks = some.into_iter().find(|ticks| ticks.len() > 1);
        let ticks = ticks.unwrap_or_else(|| at_tenths(&(10..100).collect::<Vec<_>>()));
        let ticks = ticks.into_iter().map(|at| (at, name(at))).collect();
        Axis { low, high, is_log: true, ticks }
    }

    /// Percentiles from 0 up to the one beyond which one in `beyond_in` lies, stretched by log(1/(1−p)).
    pub(super) fn percentiles(beyond_in: f64) -> Axis {
        let powers = beyond_in.max(10.0).log10().ceil() as i32;
        let name = |power: i32| match power {
            0 => "0 %".to_owned(),
            1 => "90 %".to_owned(),
            2 => "99 %".to_owned(),
            power => format!("99.{} %", "9".repeat(power as usize - 2)),
        };
        let ticks = (0..=powers).map(|power| (10f64.powi(power), name(power))).collect();
        Axis { low: 1.0, high: 10f64.powi(powers), is_log: true, ticks }
    }

    /// Where `value` lies, from 0 to 1.
    pub(super) fn place(&self, value: f64) -> f64 {
        let part = if self.is_log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        part.clamp(0.0, 1.0)
    }
}

/// A chart that is being drawn.
pub(super) struct Chart {
    x: Axis,
    y: Axis,
    svg: String,
    /// The classes and names of its lines.
    names: Vec<(String, String)>,
}

impl Chart {
    /// An empty chart. `title` and `words` are for those who cannot see it; both are plain text without markup.
    pub(super) fn new(title: &str, words: &str, x: Axis, y: Axis) -> Chart {
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}: {words}\"><title>{title}: {words}</title>"
        );
        for (at, name) in &y.ticks {
            let top = top_of(y.place(*at));
            // Writing to a string cannot fail, here and below.
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{top:.1}\" y2=\"{top:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                top + 4.0
            );
        }
        let mut free_from = 0.0;
        for (at, name) in &x.ticks {
            let left = left_of(x.place(*at));
            let half = name.chars().count() as f64 * CHARACTER / 2.0;
            let (bottom, middle) = (HEIGHT - BOTTOM, left.min(WIDTH - half));
            let _ =
                write!(svg, "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{left:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
            // Names that would touch each other are left out.
            if middle - half >= free_from {
                free_from = middle + half + CHARACTER;
                let _ = write!(
                    svg,
                    "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
                    middle,
                    bottom + 18.0
                );
            }
        }
        Chart { x, y, svg, names: Vec::new() }
    }

    /// A line through points in the order of x, in the colour of `class`. Its name stands in the [`key`](Chart::key); that
    /// of an upright line, which marks a place, beside its upper end.
    pub(super) fn line(&mut self, class: &str, name: &str, points: &[(f64, f64)]) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let path = self.path(points);
        let _ = write!(self.svg, "<path class=\"line {class}\" d=\"{path}\"/>");
        if points.len() > 1 && first.0 == last.0 {
            let left = left_of(self.x.place(last.0));
            let is_left = left > WIDTH / 2.0;
            let (anchor, left) = if is_left { ("end", left - 4.0) } else { ("start", left + 4.0) };
            let _ = write!(
                self.svg,
                "<text class=\"name {class}\" x=\"{left:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{name}</text>",
                TOP + NAME_HEIGHT
            );
        } else if !name.is_empty() {
            self.names.push((class.to_owned(), name.to_owned()));
        }
    }

    /// Which line is which, to stand behind the title; nothing where none has a name. Within it, names would lie on lines.
    pub(super) fn key(&self) -> String {
        let names = self.names.iter().map(|(class, name)| format!("<span class=\"{class}\">{name}</span>"));
        let names: String = names.collect();
        if names.is_empty() { names } else { format!("<span class=\"key\">{names}</span>") }
    }

    /// A line, and the area between it and the axis.
    pub(super) fn area(&mut self, class: &str, points: &[(f64, f64)]) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let path = self.path(points);
        let (from, to, bottom) = (left_of(self.x.place(first.0)), left_of(self.x.place(last.0)), HEIGHT - BOTTOM);
        let _ = write!(
            self.svg,
            "<path class=\"area {class}\" d=\"{path}L{to:.1} {bottom}L{from:.1} {bottom}Z\"/><path class=\"line {class}\" \
             d=\"{path}\"/>"
        );
    }

    /// A cell over these spans of both axes, as dense as `density` says, from 0 to 1.
    pub(super) fn cell(&mut self, x: (f64, f64), y: (f64, f64), density: f64) {
        let (left, right) = (left_of(self.x.place(x.0)), left_of(self.x.place(x.1)));
        let (top, bottom) = (top_of(self.y.place(y.1)), top_of(self.y.place(y.0)));
        let (width, height) = (right - left + 0.3, bottom - top + 0.3);
        let _ = write!(
            self.svg,
            "<rect class=\"cell\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill-opacity=\"{density:.2}\"/>"
        );
    }

    /// The finished picture.
    pub(super) fn finish(self) -> String {
        self.svg + "</svg>"
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let place = |(x, y): &(f64, f64)| format!("{:.1} {:.1}", left_of(self.x.place(*x)), top_of(self.y.place(*y)));
        "M".to_owned() + &points.iter().map(place).collect::<Vec<_>>().join("L")
    }
}

fn left_of(part: f64) -> f64 {
    LEFT + part * (WIDTH - LEFT - RIGHT)
}

fn top_of(part: f64) -> f64 {
    HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
}

/// What no axis of a logarithmic scale goes beyond, whatever it is asked for.
const AXIS_LEAST: f64 = 1e-6;
const AXIS_MOST: f64 = 1e18;

/// The picture's own units: as wide as a phone nearly shows them, so that letters stay readable there.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 250.0;

/// Margins, for the names of ticks; that at the right end has half of its name beyond it.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// From the upper edge to the foot of a name.
const NAME_HEIGHT: f64 = 12.0;

/// About as wide as a letter.
const CHARACTER: f64 = 7.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_ticks_and_places_in_proportion() {
        let axis = Axis::linear(870.0, |value| value.to_string());
        let names: Vec<&str> = axis.ticks.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["0", "200", "400", "600", "800", "1000"]);
        assert_eq!([0.0, 500.0, 2000.0].map(|value| axis.place(value)), [0.0, 0.5, 1.0]);
        let log = Axis::log(2_000.0, 3_000_000.0, |value| value.to_string());
        assert_eq!((log.ticks.len(), log.place(1_000.0), log.place(10_000_000.0)), (5, 0.0, 1.0));
        let parts = Axis::percentiles(5_000.0);
        assert_eq!(parts.ticks.last().unwrap().1, "99.99 %");
        assert!((parts.place(100.0) - 0.5).abs() < 1e-9, "99 % is half of the way to 99.99 %");
    }

    #[test]
    fn an_axis_of_nothing_has_an_end() {
        for (least, most) in [(f64::MAX, 1.0), (f64::INFINITY, f64::NEG_INFINITY), (0.0, 0.0), (5.0, 5.0)] {
            let axis = Axis::log_to(least, most, |value| value.to_string());
            assert!(axis.ticks.len() < 100 && axis.high > axis.low && axis.high.is_finite(), "{least} {most}");
        }
        let names = |least, most| {
            let axis = Axis::log_to(least, most, |at| format!("{at:.0}"));
            axis.ticks.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(150.0, 1100.0), "200 500 1000");
        assert_eq!(names(500.0, 800.0), "500 600 700 800");
        assert_eq!(names(2400.0, 2700.0), "2400 2500 2600 2700", "never an axis without names");
    }

    #[test]
    fn names_of_ticks_are_as_short_as_the_step_and_do_not_touch() {
        let axis = Axis::linear(0.45, |value| format!("{value} s"));
        let names: Vec<&str> = axis.ticks.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["0 s", "0.1 s", "0.2 s", "0.3 s", "0.4 s", "0.5 s"]);
        for beyond_in in [1e2, 1e4, 1e5, 1e6, 1e8] {
            let chart = Chart::new("a", "b", Axis::percentiles(beyond_in), Axis::linear(1.0, |_| String::new()));
            let svg = chart.finish();
            let texts = svg.split("<text class=\"tick\" x=\"").skip(1).filter(|it| it.contains("\"middle\""));
            let mut free_from = 0.0;
            for text in texts {
                let (middle, rest) = text.split_once('"').unwrap();
                let name = rest.split('>').nth(1).unwrap().trim_end_matches("</text");
                let (middle, half) = (middle.parse::<f64>().unwrap(), name.chars().count() as f64 * CHARACTER / 2.0);
                assert!(middle - half >= free_from && middle + half <= WIDTH + 0.1, "{beyond_in}: {name}: {svg}");
                free_from = middle + half + CHARACTER - 0.1;
            }
            assert!(free_from > WIDTH / 2.0, "{svg}");
        }
    }

    #[test]
    fn lines_are_named_above_and_an_upright_one_beside_it() {
        let axis = || Axis::linear(10.0, |value| value.to_string());
        let mut chart = Chart::new("a", "b", axis(), axis());
        assert_eq!(chart.key(), "");
        chart.line("blue", "p99", &[(0.0, 1.0), (10.0, 1.0)]);
        chart.line("teal", "here", &[(2.0, 0.0), (2.0, 10.0)]);
        assert_eq!(chart.key(), "<span class=\"key\"><span class=\"blue\">p99</span></span>");
        let svg = chart.finish();
        assert!(!svg.contains("p99") && svg.contains(">here</text>"), "{svg}");
    }

    #[test]
    fn nothing_and_one_point_can_be_drawn() {
        let axis = || Axis::linear_to(0.0, |value| value.to_string());
        let mut chart = Chart::new("a", "b", axis(), Axis::log(0.0, 0.0, |value| value.to_string()));
        chart.line("x", "name", &[]);
        chart.area("x", &[(0.0, 0.0)]);
        chart.cell((0.0, 1.0), (1.0, 1.0), 1.0);
        let svg = chart.finish();
        assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.ends_with("</svg>"), "{svg}");
    }
}
