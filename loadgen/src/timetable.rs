//! When the stages of a run begin that `--start-at` lines up with those of other processes. No clock of its own.

use std::time::{Duration, SystemTime};

use crate::args::Load;
use crate::moment::rfc3339;
use crate::problem::Problem;

/// The moments of a run: its first measurement begins when that was asked for, each further one a pause after the end of
/// the one before, and the warm-up so that it ends a pause before the first. None of them if nothing was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timetable {
    first_at: Option<SystemTime>,
    warmup: Option<Duration>,
    duration: Duration,
}

impl Timetable {
    /// That of `load`, of which nothing has begun at `now`.
    ///
    /// # Errors
    /// A moment in the past.
    pub(crate) fn new(load: &Load, now: SystemTime) -> Result<Timetable, Problem> {
        let timetable = Timetable { first_at: load.start_at, warmup: load.warmup, duration: load.duration };
        let Some(begin_at) = timetable.warm_up().or(load.start_at) else { return Ok(timetable) };
        if begin_at > now {
            return Ok(timetable);
        }
        let (begin, now) = (rfc3339(begin_at), rfc3339(now));
        let warmup = if load.warmup.is_some() { ", when the warm-up before --start-at would begin," } else { "" };
        Err(Problem::Usage(format!(
            "--start-at: {begin}{warmup} has passed: it is {now} by this machine's clock. Give a moment by which all \
             connections can be open, such as `--start-at $(date -d '+1 min' +%s)`"
        )))
    }

    /// When the warm-up begins; `None` without one.
    pub(crate) fn warm_up(&self) -> Option<SystemTime> {
        self.first_at?.checked_sub(self.warmup? + PAUSE)
    }

    /// When the measurement of this number, from 0, begins.
    pub(crate) fn run(&self, number: u16) -> Option<SystemTime> {
        self.first_at?.checked_add((self.duration + PAUSE) * u32::from(number))
    }
}

/// Between two stages: time for the last replies to come.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser;
    use std::time::UNIX_EPOCH;

    fn timetable(arguments: &str, now_s: u64) -> Result<Timetable, String> {
        let line = format!("loadgen rr h:1 {arguments}");
        let Some(Command::Rr(rr)) = Args::parse_from(line.split_whitespace()).command else { panic!("{line}") };
        Timetable::new(&rr.load, at(now_s)).map_err(|problem| problem.to_string())
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn runs_follow_each_other_from_the_moment_on_and_a_warm_up_ends_before_it() {
        let table = timetable("-d 5s --warmup 2s --start-at 1000", 900).unwrap();
        assert_eq!(table.warm_up(), Some(at(997)));
        assert_eq!([0, 1, 2].map(|number| table.run(number)), [Some(at(1000)), Some(at(1006)), Some(at(1012))]);
        let free = timetable("-d 5s", 900).unwrap();
        assert_eq!((free.warm_up(), free.run(0), free.run(3)), (None, None, None));
    }

    #[test]
    fn what_has_passed_is_refused() {
        assert!(timetable("--start-at 1000", 999).is_ok());
        let error = timetable("--start-at 1000", 1000).unwrap_err();
        assert!(error.contains("1970-01-01T00:16:40Z has passed"), "{error}");
        let error = timetable("--start-at 1000 --warmup 5s", 994).unwrap_err();
        assert!(error.contains("when the warm-up before --start-at would begin"), "{error}");
    }
}
