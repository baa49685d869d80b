//! Where the limit lies: of the trials so far, which rate to try next, or the answer. No clock, no socket.
//!
//! A trial can fail by chance: a stall of a second, of the server or of the machine, is enough at any rate. So nothing
//! that bounds the answer rests on one trial:
//!
//! - A rate *fails* if it failed at least twice, and more often than it passed. By how far it failed makes no difference
//!   to that: a stall fails by far, too.
//! - A rate *passes* if it passed more often than it failed. Once is enough to go on above it, for chance seldom makes a
//!   server faster; the highest is confirmed by a longer trial before it is the answer.
//! - What the generator spoiled is no vote. Three of those in a row make the rate the generator's limit, which says
//!   nothing about the server: what passes above it, passes; and a best that it keeps from being confirmed is
//!   the answer nevertheless, and that is said of it.
//!
//! When to repeat is a matter of time. One that missed closely is repeated at once: it is near the limit, where chance
//! decides, and the search would go the wrong way as often as not. One that failed by far hardly ever does so by chance,
//! and most of them are far from the answer: repeating them all would cost a trial for each step down, and be of no use if
//! a stall lasts for longer than one. So it is only *presumed* to fail: the search goes on below it, and comes back before
//! it answers, if that rate is still the one that bounds the answer. As a rule that costs one trial more; after a stall
//! those that were run below it in vain (five, from a doubling down to 5 %), and then the search goes on above it.

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
    /// It did not, but nearly: such a one is repeated at once.
    Missed,
    /// It did not, by far: such a one is repeated if it bounds the answer.
    Overloaded,
    /// It did not, and that may be the generator's fault: it says nothing, and is repeated; but not for ever.
    Spoiled,
    /// It was broken off: it says nothing.
    BrokenOff,
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
    /// The lowest that failed, above it, whoever was the reason; `None` if all that were tried passed.
    pub(crate) first_failed_per_s: Option<f64>,
    /// The lowest that failed because of the server: the same, or where the generator gave out at that one, a higher one.
    pub(crate) server_failed_per_s: Option<f64>,
    /// Whether the generator spoiled the trials that were to confirm the best.
    pub(crate) is_best_spoiled: bool,
    /// Whether nothing is left to try: only a search that was broken off has an answer without that.
    pub(crate) is_confirmed: bool,
}

impl Answer {
    /// Whether it was the generator that gave out at the lowest rate that failed, so that the best is a lower bound; or
    /// at the best.
    pub(crate) fn is_generator_limit(&self) -> bool {
        let is_bound = self.first_failed_per_s.is_some() && self.first_failed_per_s != self.server_failed_per_s;
        is_bound || self.is_best_spoiled
    }
}

/// The trials of a search, by their rates.
///
/// From the lowest rate on it doubles until one fails, and then halves, on a logarithmic scale, what lies between the
/// highest that passed and the lowest that failed. Then both of them are confirmed; what does not stand up to that moves
/// the bounds, and the search goes on between those.
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
    /// The last ones, as far as the generator spoiled them.
    spoiled: u32,
    /// Whether one failed by far.
    is_overloaded: bool,
    /// Whether the last of them was to confirm the answer.
    is_last: bool,
    is_confirmed: bool,
}

/// What the trials at one rate say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Passes,
    /// Because of the server.
    Fails,
    /// As far as one trial can tell that failed by far.
    IsPresumedToFail,
    /// Because of the generator.
    IsSpoiled,
    /// That needs another trial.
    IsOpen,
}

impl Tried {
    fn standing(&self) -> Standing {
        match (self.passed, self.failed) {
            (passed, failed) if passed > failed => Standing::Passes,
            _ if self.spoiled >= SPOILED_MAX => Standing::IsSpoiled,
            (passed, failed) if failed > passed && failed >= FAILED_MIN => Standing::Fails,
            (0, 1) if self.is_overloaded => Standing::IsPresumedToFail,
            _ => Standing::IsOpen,
        }
    }

    /// Whether the server failed more often than not, if only once, or as often.
    fn is_failing(&self) -> bool {
        self.standing() != Standing::IsSpoiled && self.failed > 0 && self.failed >= self.passed
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
            let (passed, failed, spoiled, is_overloaded, is_confirmed) = (0, 0, 0, false, false);
            self.tried.push(Tried { rate_per_s, passed, failed, spoiled, is_overloaded, is_last, is_confirmed });
            self.tried.len() - 1
        });
        let tried = &mut self.tried[index];
        match grade {
            Grade::Passed => tried.passed += 1,
            Grade::Missed | Grade::Overloaded => tried.failed += 1,
            Grade::Spoiled => tried.spoiled += 1,
            Grade::BrokenOff => return,
        }
        if grade != Grade::Spoiled {
            tried.spoiled = 0;
        }
        tried.is_overloaded |= grade == Grade::Overloaded;
        tried.is_last = is_last;
        tried.is_confirmed = is_last && grade == Grade::Passed;
    }

    /// What is known by now.
    pub(crate) fn answer(&self) -> Answer {
        match self.next() {
            Next::Answer(answer) => answer,
            Next::Try { .. } => self.so_far(),
        }
    }

    /// The next rate to try, or the answer.
    pub(crate) fn next(&self) -> Next {
        if let Some(again) = self.tried.iter().find(|tried| tried.standing() == Standing::IsOpen) {
            return Next::Try { rate_per_s: again.rate_per_s, is_last: again.is_last };
        }
        let so_far = self.so_far();
        let first = |rate_per_s| Next::Try { rate_per_s, is_last: false };
        match (so_far.best_per_s, so_far.first_failed_per_s) {
            (None, None) => first(self.bounds.from_per_s),
            (Some(best), None) if best < self.bounds.to_per_s => first((best * 2.0).min(self.bounds.to_per_s)),
            (Some(best), Some(failed)) if failed > best * (1.0 + self.bounds.precision) => first(between(best, failed)),
            _ => self.confirm(so_far),
        }
    }

    /// What is still to be confirmed of `answer`, which is close enough; the bounds come first, for without them the search
    /// goes on above.
    fn confirm(&self, answer: Answer) -> Next {
        let known = |rate_per_s: Option<f64>| self.tried.iter().find(|tried| Some(tried.rate_per_s) == rate_per_s);
        let mut bounds = [answer.first_failed_per_s, answer.server_failed_per_s].into_iter().filter_map(known);
        if let Some(bound) = bounds.find(|bound| bound.standing() == Standing::IsPresumedToFail) {
            return Next::Try { rate_per_s: bound.rate_per_s, is_last: false };
        }
        match known(answer.best_per_s) {
            Some(best) if best.spoiled >= SPOILED_MAX => {
                Next::Answer(Answer { is_best_spoiled: true, is_confirmed: true, ..answer })
            }
            Some(best) if !best.is_confirmed => Next::Try { rate_per_s: best.rate_per_s, is_last: true },
            _ => Next::Answer(Answer { is_confirmed: true, ..answer }),
        }
    }

    /// What the trials say so far; one that failed once counts as failing.
    fn so_far(&self) -> Answer {
        let rates = |is_it: fn(&Tried) -> bool| {
            self.tried.iter().filter(move |tried| is_it(tried)).map(|tried| tried.rate_per_s)
        };
        let server_failed_per_s = rates(Tried::is_failing).reduce(f64::min);
        let passed = rates(|tried| tried.standing() == Standing::Passes);
        let best_per_s = passed.filter(|rate| server_failed_per_s.is_none_or(|failed| *rate < failed)).reduce(f64::max);
        let spoiled = rates(|tried| tried.standing() == Standing::IsSpoiled);
        let first_failed_per_s = spoiled
            .filter(|rate| best_per_s.is_none_or(|best| *rate > best))
            .chain(server_failed_per_s)
            .reduce(f64::min);
        Answer { best_per_s, first_failed_per_s, server_failed_per_s, ..Answer::default() }
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

/// Trials at one rate that failed before it does: one may be chance.
const FAILED_MIN: u32 = 2;

/// Trials in a row at one rate that the generator spoiled: then it is its limit, and not chance.
const SPOILED_MAX: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use Grade::{BrokenOff, Missed, Overloaded, Passed, Spoiled};

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

    /// An answer that the server bounds.
    fn limit(best_per_s: f64, failed_per_s: f64) -> Answer {
        let failed = Some(failed_per_s);
        Answer {
            best_per_s: Some(best_per_s),
            first_failed_per_s: failed,
            server_failed_per_s: failed,
            is_best_spoiled: false,
            is_confirmed: true,
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
        let nothing = Answer { best_per_s: None, ..limit(0.0, 100.0) };
        assert_eq!((answer, tried.len()), (nothing, 2), "a miss is repeated, and both agree");
        let (answer, tried) = search(bounds(0.05), |_, _| Overloaded);
        assert_eq!((answer, tried.len()), (nothing, 2), "and so is what fails by far");
    }

    #[test]
    fn a_bound_that_passes_is_the_answer_and_is_confirmed() {
        let bounds = Bounds { from_per_s: 300.0, to_per_s: 1000.0, precision: 0.05 };
        let (answer, tried) = search(bounds, monotone(1e9));
        assert_eq!(answer, Answer { best_per_s: Some(1000.0), is_confirmed: true, ..Answer::default() });
        assert_eq!(tried, [(300.0, false), (600.0, false), (1000.0, false), (1000.0, true)]);
        let one = Bounds { from_per_s: 300.0, to_per_s: 300.0, precision: 0.05 };
        assert_eq!(search(one, monotone(1e9)).1, [(300.0, false), (300.0, true)]);
    }

    #[test]
    fn one_trial_with_a_stall_changes_nothing_whichever_it_is_and_however_far_it_fails() {
        for capacity in [100.0, 1_000.0, 3_000_000.0] {
            let (calm, usual) = search(bounds(0.05), monotone(capacity));
            for (unlucky, grade) in (0..usual.len() + 2).flat_map(|trial| [(trial, Missed), (trial, Overloaded)]) {
                let server = |rate, number| if number == unlucky { grade } else { monotone(capacity)(rate, number) };
                let (answer, tried) = search(bounds(0.05), server);
                let what = format!("{grade:?} in trial {unlucky} of {capacity}: {answer:?} {tried:?}");
                let (best, failed) = (answer.best_per_s.unwrap(), answer.first_failed_per_s.unwrap());
                // Where it came back to a rate, the rates between are others.
                assert!(best <= capacity && capacity < failed && failed <= best * 1.050_001, "{what} but {calm:?}");
                assert!(tried.len() <= usual.len() + 10, "{} trials more: {what}", tried.len() - usual.len());
            }
        }
    }

    #[test]
    fn a_stall_over_several_trials_in_a_row_does_not_bound_the_answer_where_it_fails_by_far() {
        for begin in 1..8 {
            let is_stalled = |number| (begin..begin + 3).contains(&number);
            let (answer, tried) = search(bounds(0.05), |rate, number| match number {
                number if is_stalled(number) && number < 8 => Overloaded,
                number => monotone(1_000_000.0)(rate, number),
            });
            assert!(answer.best_per_s.is_some_and(|best| best > 900_000.0), "from {begin} on: {answer:?} {tried:?}");
        }
    }

    #[test]
    fn every_bound_of_an_answer_failed_at_least_twice_and_more_often_than_it_passed() {
        for seed in 0..500 {
            let mut grades: Vec<(f64, Grade)> = Vec::new();
            let (answer, tried) = search(bounds(0.05), |rate, number| {
                let unlucky = if chance(seed, 2 * number) < 0.5 { Overloaded } else { Missed };
                let grade = if chance(seed, 2 * number + 1) < 0.1 { unlucky } else { monotone(5_000.0)(rate, number) };
                grades.push((rate, grade));
                grade
            });
            let Some(failed) = answer.first_failed_per_s else { panic!("seed {seed}: {answer:?}") };
            let at_it = || grades.iter().filter(|(rate, _)| *rate == failed);
            let passed = at_it().filter(|(_, grade)| *grade == Passed).count();
            assert!(at_it().count() - passed >= 2.max(passed + 1), "seed {seed}: {answer:?} {grades:?}");
            assert!(tried.len() <= 60, "seed {seed}: {} trials", tried.len());
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
        let so_far = Answer { is_confirmed: false, ..limit(100.0, 200.0) };
        assert_eq!(bracket.answer(), so_far, "one miss decides nothing");
        assert_eq!(bracket.next(), Next::Try { rate_per_s: 200.0, is_last: false });
        bracket.note(200.0, false, BrokenOff);
        assert_eq!((bracket.answer(), bracket.next()), (so_far, Next::Try { rate_per_s: 200.0, is_last: false }));
    }

    #[test]
    fn what_the_generator_spoils_is_repeated_but_not_for_ever() {
        let calm = search(bounds(0.05), monotone(1_000.0)).0;
        let spoilt = |rate, number| if number % 3 == 1 { Spoiled } else { monotone(1_000.0)(rate, number) };
        assert_eq!(search(bounds(0.05), spoilt).0, calm);
        let (answer, tried) = search(bounds(0.05), |rate, _| if rate > 300.0 { Spoiled } else { Passed });
        assert!((290.0..=300.0).contains(&answer.best_per_s.unwrap()), "{answer:?}");
        assert_eq!(tried.iter().filter(|(rate, _)| *rate == 400.0).count(), 3, "{tried:?}");
        assert!(answer.is_generator_limit() && answer.server_failed_per_s.is_none(), "{answer:?}");
        let never = search(bounds(0.05), |_, _| Spoiled).0;
        assert!(never.best_per_s.is_none() && never.is_generator_limit(), "{never:?}");
    }

    #[test]
    fn a_best_that_the_generator_kept_from_being_confirmed_is_the_answer_and_says_so() {
        let (mut is_late, mut late) = (false, 0);
        let mut bracket = Bracket::new(bounds(0.05));
        while let Next::Try { rate_per_s, is_last } = bracket.next() {
            is_late |= is_last;
            late += u32::from(is_late);
            bracket.note(rate_per_s, is_last, if is_late { Spoiled } else { monotone(1_000.0)(rate_per_s, 0) });
        }
        assert_eq!((late, bracket.answer()), (3, Answer { is_best_spoiled: true, ..limit(995.0, 1040.0) }));
        assert!(bracket.answer().is_generator_limit());
    }

    #[test]
    fn what_the_server_fails_above_the_generators_limit_is_known_and_confirmed() {
        let mut overloaded = 0;
        let (answer, tried) = search(bounds(0.05), |rate, _| match rate {
            _ if rate <= 1_000.0 => Passed,
            _ if rate <= 1_500.0 => Spoiled,
            _ => {
                overloaded += 1;
                Overloaded
            }
        });
        assert!(answer.is_generator_limit() && answer.server_failed_per_s == Some(1600.0), "{answer:?}");
        assert!(answer.first_failed_per_s.is_some_and(|failed| failed < 1_100.0), "{answer:?}");
        assert_eq!(overloaded, 2, "{tried:?}");
    }

    #[test]
    fn what_passes_above_the_generators_limit_lifts_it() {
        // A stall at 1,600/s, and then a while in which the generator was late.
        let mut at_1600 = 0;
        let (answer, tried) = search(bounds(0.05), |rate, number| {
            at_1600 += u32::from(rate == 1600.0);
            match rate {
                1600.0 if at_1600 == 1 => Overloaded,
                _ if rate > 800.0 && rate < 1600.0 => Spoiled,
                _ => monotone(5_000.0)(rate, number),
            }
        });
        assert!(answer.best_per_s.is_some_and(|best| best > 4_700.0), "{answer:?} {tried:?}");
        assert!(!answer.is_generator_limit(), "{answer:?}");
    }

    /// A number from 0 to 1.
    fn chance(seed: u64, number: usize) -> f64 {
        (crate::payload::mix(seed.wrapping_mul(1000).wrapping_add(number as u64)) >> 11) as f64 / (1u64 << 53) as f64
    }

    #[test]
    fn a_noisy_server_has_an_answer_near_its_capacity() {
        // Beside the edge it passes or misses by chance, the more surely the farther away.
        for seed in 0..200u64 {
            let (answer, _) = search(bounds(0.05), |rate, number| {
                let passes = 1.0 / (1.0 + ((rate - 1_000.0) / 30.0).exp());
                if chance(seed, number) < passes { Passed } else { Missed }
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
