//! Where the limit lies: of the trials so far, which rate to try next, or the answer. No clock, no socket.

/// Where a search looks, and how closely.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bounds {
    /// The lowest rate, which is tried first.
    pub(crate) from_per_s: f64,
    /// The highest.
    pub(crate) to_per_s: f64,
    /// The search ends when the lowest rate that failed is no more than this part above the highest that passed.
    pub(crate) precision: f64,
}

/// What a trial at one rate came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grade {
    /// It kept to the conditions.
    Passed,
    /// It did not, by what may have been chance: such a one is repeated.
    Missed,
    /// It did not, by far: it counts twice.
    Overloaded,
    /// It did not, and that may be the generator's fault: it says nothing, and is repeated; but not for ever.
    Spoiled,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Next {
    /// Try this rate.
    Try {
        /// Requests due per second.
        rate_per_s: f64,
        /// Whether it is to confirm the answer, for which it should be longer.
        is_last: bool,
    },
    /// Nothing more: this is the answer.
    Answer(Answer),
}

/// What a search found, so far or in the end.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Answer {
    /// The highest rate that passed; `None` if not even the lowest did.
    pub(crate) best_per_s: Option<f64>,
    /// The lowest that failed, above it; `None` if all that were tried passed.
    pub(crate) first_failed_per_s: Option<f64>,
}

/// The trials of a search, by their rates.
///
/// From the lowest rate on it doubles until one fails, and then halves, on a logarithmic scale, what lies between the
/// highest that passed and the lowest that failed. A rate that failed once is tried again, and of three trials two decide;
/// those that the generator spoiled do not count, unless there are three of them at one rate.
/// The best is confirmed at the end; if that fails, the search goes on below it.
#[derive(Debug)]
pub(crate) struct Bracket {
    bounds: Bounds,
    tried: Vec<Tried>,
}

/// The trials at one rate.
#[derive(Debug, Clone, Copy)]
struct Tried {
    rate_per_s: f64,
    passed: u32,
    failed: u32,
    spoiled: u32,
    /// Whether the last of them was to confirm the answer.
    is_last: bool,
    is_confirmed: bool,
}

impl Tried {
    /// Whether the rate passes; `None` if that needs another trial.
    fn passes(&self) -> Option<bool> {
        match (self.passed, self.failed) {
            _ if self.spoiled >= SPOILED_MAX => Some(false),
            (0, 1) => None,
            (passed, failed) if passed == failed => None,
            (passed, failed) => Some(passed > failed),
        }
    }
}

impl Bracket {
    /// Nothing tried yet.
    pub(crate) fn new(bounds: Bounds) -> Bracket {
        Bracket { bounds, tried: Vec::new() }
    }

    /// A trial, as [`next`](Bracket::next) wanted it, came to `grade`.
    pub(crate) fn note(&mut self, rate_per_s: f64, is_last: bool, grade: Grade) {
        let known = self.tried.iter().position(|tried| tried.rate_per_s == rate_per_s);
        let index = known.unwrap_or_else(|| {
            self.tried.push(Tried { rate_per_s, passed: 0, failed: 0, spoiled: 0, is_last, is_confirmed: false });
            self.tried.len() - 1
        });
        let tried = &mut self.tried[index];
        match grade {
            Grade::Passed => tried.passed += 1,
            Grade::Missed => tried.failed += 1,
            Grade::Overloaded => tried.failed += 2,
            Grade::Spoiled => tried.spoiled += 1,
        }
        tried.is_last = is_last;
        tried.is_confirmed = is_last && grade == Grade::Passed;
    }

    /// What is known by now.
    pub(crate) fn answer(&self) -> Answer {
        let rates = |passes: bool| {
            self.tried.iter().filter(move |tried| tried.passes() == Some(passes)).map(|tried| tried.rate_per_s)
        };
        let first_failed_per_s = rates(false).reduce(f64::min);
        let best = rates(true).filter(|rate| first_failed_per_s.is_none_or(|failed| *rate < failed));
        Answer { best_per_s: best.reduce(f64::max), first_failed_per_s }
    }

    /// The next rate to try, or the answer.
    pub(crate) fn next(&self) -> Next {
        if let Some(again) = self.tried.iter().find(|tried| tried.passes().is_none()) {
            return Next::Try { rate_per_s: again.rate_per_s, is_last: again.is_last };
        }
        let answer = self.answer();
        let first = |rate_per_s| Next::Try { rate_per_s, is_last: false };
        match (answer.best_per_s, answer.first_failed_per_s) {
            (None, None) => first(self.bounds.from_per_s),
            (None, Some(_)) => Next::Answer(answer),
            (Some(best), None) if best < self.bounds.to_per_s => first((best * 2.0).min(self.bounds.to_per_s)),
            (Some(best), Some(failed)) if failed > best * (1.0 + self.bounds.precision) => first(between(best, failed)),
            (Some(best), _) => {
                let is_confirmed = self.tried.iter().any(|tried| tried.rate_per_s == best && tried.is_confirmed);
                if is_confirmed { Next::Answer(answer) } else { Next::Try { rate_per_s: best, is_last: true } }
            }
        }
    }
}

/// The middle of both on a logarithmic scale, with three digits if that is one that lies between them.
fn between(low: f64, high: f64) -> f64 {
    let middle = (low * high).sqrt();
    let unit = 10f64.powf(middle.log10().floor() - 2.0);
    let rounded = (middle / unit).round() * unit;
    // Whole numbers stay whole, whatever the unit's last digit is.
    let rounded = if unit >= 1.0 { rounded.round() } else { rounded };
    if low < rounded && rounded < high { rounded } else { middle }
}

/// Trials at one rate that the generator spoiled: then it is its limit, and not chance.
const SPOILED_MAX: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use Grade::{Missed, Overloaded, Passed, Spoiled};

    fn bounds(precision: f64) -> Bounds {
        Bounds { from_per_s: 100.0, to_per_s: 1e9, precision }
    }

    /// Searches with trials that `server` answers, given the rate and the trial's number; returns what was tried.
    fn search(bounds: Bounds, mut server: impl FnMut(f64, usize) -> Grade) -> (Answer, Vec<(f64, bool)>) {
        let (mut bracket, mut tried) = (Bracket::new(bounds), Vec::new());
        loop {
            match bracket.next() {
                Next::Answer(answer) => return (answer, tried),
                Next::Try { rate_per_s, is_last } => {
                    bracket.note(rate_per_s, is_last, server(rate_per_s, tried.len()));
                    tried.push((rate_per_s, is_last));
                    assert!(tried.len() < 200, "it comes to no end: {tried:?}");
                }
            }
        }
    }

    /// One that keeps to the conditions up to `capacity`, and is overloaded well beyond it.
    fn monotone(capacity: f64) -> impl Fn(f64, usize) -> Grade {
        move |rate, _| match rate {
            _ if rate <= capacity => Passed,
            _ if rate <= capacity * 1.1 => Missed,
            _ => Overloaded,
        }
    }

    #[test]
    fn the_answer_is_within_the_precision_below_the_capacity() {
        for capacity in [100.0, 101.0, 999.0, 1_000.0, 12_345.0, 3_000_000.0] {
            for precision in [0.01, 0.05, 0.5] {
                let (answer, tried) = search(bounds(precision), monotone(capacity));
                let (best, failed) = (answer.best_per_s.unwrap(), answer.first_failed_per_s.unwrap());
                assert!(best <= capacity && capacity < failed, "{capacity}: {answer:?}");
                assert!(failed <= best * (1.0 + precision) * 1.000_001, "{capacity}: {answer:?}");
                assert_eq!(tried.last(), Some(&(best, true)), "the last one confirms");
                assert!(tried.len() <= 40, "{} trials for {capacity} at {precision}", tried.len());
            }
        }
    }

    #[test]
    fn it_doubles_and_then_halves_what_is_left() {
        let (_, tried) = search(bounds(0.05), monotone(1_000.0));
        let rates: Vec<f64> = tried.iter().map(|(rate, _)| *rate).collect();
        assert_eq!(rates, [100.0, 200.0, 400.0, 800.0, 1600.0, 1130.0, 951.0, 1040.0, 1040.0, 995.0, 995.0]);
    }

    #[test]
    fn a_server_that_never_keeps_to_it_has_no_answer() {
        let (answer, tried) = search(bounds(0.05), |_, _| Missed);
        assert_eq!(answer, Answer { best_per_s: None, first_failed_per_s: Some(100.0) });
        assert_eq!(tried.len(), 2, "a miss is repeated, and both agree");
        assert_eq!(search(bounds(0.05), |_, _| Overloaded).1.len(), 1, "what fails by far is not");
    }

    #[test]
    fn a_bound_that_passes_is_the_answer_and_is_confirmed() {
        let bounds = Bounds { from_per_s: 300.0, to_per_s: 1000.0, precision: 0.05 };
        let (answer, tried) = search(bounds, monotone(1e9));
        assert_eq!(answer, Answer { best_per_s: Some(1000.0), first_failed_per_s: None });
        assert_eq!(tried, [(300.0, false), (600.0, false), (1000.0, false), (1000.0, true)]);
        let one = Bounds { from_per_s: 300.0, to_per_s: 300.0, precision: 0.05 };
        assert_eq!(search(one, monotone(1e9)).1, [(300.0, false), (300.0, true)]);
    }

    #[test]
    fn one_unlucky_trial_changes_nothing() {
        let calm = search(bounds(0.05), monotone(1_000.0)).0;
        for unlucky in 0..12 {
            let server = |rate, number| if number == unlucky { Missed } else { monotone(1_000.0)(rate, number) };
            assert_eq!(search(bounds(0.05), server).0, calm, "trial {unlucky}");
        }
    }

    #[test]
    fn an_answer_that_is_not_confirmed_is_looked_for_below() {
        let mut bracket = Bracket::new(bounds(0.05));
        // A lucky trial at a rate that the server cannot bear.
        let (answer, tried) = search(bounds(0.05), |rate, number| match rate {
            _ if rate <= 700.0 => Passed,
            _ if number == 3 => Passed,
            _ => Missed,
        });
        assert!((660.0..=700.0).contains(&answer.best_per_s.unwrap()), "{answer:?} {tried:?}");
        assert!(tried.contains(&(800.0, true)), "800 was to be confirmed: {tried:?}");
        bracket.note(100.0, false, Passed);
        bracket.note(200.0, false, Missed);
        assert_eq!(bracket.answer().first_failed_per_s, None, "one miss decides nothing");
        assert_eq!(bracket.next(), Next::Try { rate_per_s: 200.0, is_last: false });
    }

    #[test]
    fn what_the_generator_spoils_is_repeated_but_not_for_ever() {
        let calm = search(bounds(0.05), monotone(1_000.0)).0;
        let spoilt = |rate, number| if number % 3 == 1 { Spoiled } else { monotone(1_000.0)(rate, number) };
        assert_eq!(search(bounds(0.05), spoilt).0, calm);
        let (answer, tried) = search(bounds(0.05), |rate, _| if rate > 300.0 { Spoiled } else { Passed });
        assert!((290.0..=300.0).contains(&answer.best_per_s.unwrap()), "{answer:?}");
        assert_eq!(tried.iter().filter(|(rate, _)| *rate == 400.0).count(), 3, "{tried:?}");
        assert_eq!(search(bounds(0.05), |_, _| Spoiled).0.best_per_s, None);
    }

    #[test]
    fn a_noisy_server_has_an_answer_near_its_capacity() {
        // Beside the edge it passes or misses by chance, the more surely the farther away.
        for seed in 0..200u64 {
            let chance = |number: usize| {
                (crate::payload::mix(seed.wrapping_mul(1000).wrapping_add(number as u64)) >> 11) as f64
                    / (1u64 << 53) as f64
            };
            let (answer, _) = search(bounds(0.05), |rate, number| {
                let passes = 1.0 / (1.0 + ((rate - 1_000.0) / 30.0).exp());
                if chance(number) < passes { Passed } else { Missed }
            });
            let best = answer.best_per_s.unwrap();
            assert!((850.0..1_100.0).contains(&best), "seed {seed}: {answer:?}");
        }
    }

    #[test]
    fn the_middle_has_three_digits_where_there_is_room() {
        assert_eq!([between(800.0, 1600.0), between(20_000.0, 40_000.0)], [1130.0, 28_300.0]);
        assert!((between(0.5, 1.0) - 0.707).abs() < 1e-9);
        let narrow = between(1000.0, 1001.0);
        assert!(1000.0 < narrow && narrow < 1001.0);
    }
}
