//! Which part of a load is this process's, where several share one: shard i of n. Arithmetic, no clock, no socket.

use std::env;
use std::fmt::{self, Display, Formatter};
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Shard number `index`, from 0, of `count`, that together are one load; a load that is not shared is shard 0 of 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Shard {
    /// From 0, as Kubernetes counts.
    pub(crate) index: u64,
    /// At least 1.
    pub(crate) count: u64,
}

impl Shard {
    /// All of a load.
    pub(crate) const WHOLE: Shard = Shard { index: 0, count: 1 };

    /// Whether it is all of the load.
    pub(crate) fn is_whole(self) -> bool {
        self.count == 1
    }

    /// Its part of so many things: those of all shards are disjoint, complete, and differ in length by at most one.
    pub(crate) fn part(self, things: u64) -> Range<u64> {
        // Rounding down makes neighbours differ by at most one.
        let first = |index: u64| (u128::from(things) * u128::from(index) / u128::from(self.count)) as u64;
        first(self.index)..first(self.index + 1)
    }

    /// Its part of a rate.
    pub(crate) fn rate(self, per_s: f64) -> f64 {
        per_s / self.count as f64
    }

    /// What number its worker has among the workers of all shards, and how many those are.
    ///
    /// Numbers alternate between shards: then shard i has every moment of a schedule whose number leaves i when divided
    /// by the count, however many workers it has itself, and machines need not have equally many.
    pub(crate) fn worker(self, (worker, workers): (usize, usize)) -> (usize, usize) {
        let (index, count) = (self.index as usize, self.count as usize);
        (worker * count + index, workers * count)
    }

    /// `i/n`, or `n` alone where `index`, of a job's completion, says which.
    fn parse(text: &str, index: Option<&str>) -> Result<Shard, String> {
        let wrong = || format!("'{text}' is no shard: give i/n, from 0/n to n-1/n, such as 0/4, 1/4, 2/4 and 3/4");
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let (index, count) = match text.split_once('/') {
            Some((index, count)) => (number(index)?, number(count)?),
            None => {
                let count = number(text)?;
                let index = index.ok_or_else(|| {
                    format!(
                        "which of {count} shards this is, {INDEX_VARIABLE} would say, but it is not set, as it is in a \
                         Kubernetes Job of completionMode Indexed; elsewhere give i/n, such as 0/{count}"
                    )
                })?;
                let index = index.parse().map_err(|_| format!("{INDEX_VARIABLE} is '{index}', which is no number"))?;
                (index, count)
            }
        };
        if !(1..=COUNT_MAX).contains(&count) {
            return Err(format!("'{text}' is not between 1 and {COUNT_MAX} shards"));
        }
        if index >= count {
            return Err(format!("shard {index} of {count} does not exist: they count from 0 to {}", count - 1));
        }
        Ok(Shard { index, count })
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        Shard::parse(text, env::var(INDEX_VARIABLE).ok().as_deref())
    }
}

impl Display for Shard {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// Kubernetes sets it in the pods of a Job of completionMode Indexed.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// More machines than anybody has: a slip of the finger.
const COUNT_MAX: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_equal_disjoint_and_complete() {
        for (things, count) in [(10, 3), (3, 3), (1_000_003, 7), (2, 5), (u64::MAX, 10_000)] {
            let mut next = 0;
            for index in 0..count {
                let part = Shard { index, count }.part(things);
                assert_eq!(part.start, next);
                let len = part.end - part.start;
                assert!((things / count..=things.div_ceil(count)).contains(&len), "{things} {index}/{count}");
                next = part.end;
            }
            assert_eq!(next, things);
        }
    }

    #[test]
    fn workers_of_all_shards_have_numbers_of_their_own() {
        let mut numbers: Vec<(usize, usize)> =
            (0..3).flat_map(|index| (0..2).map(move |it| Shard { index, count: 3 }.worker((it, 2)))).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..6).map(|number| (number, 6)).collect::<Vec<_>>());
        assert_eq!(Shard::WHOLE.worker((4, 7)), (4, 7));
    }

    #[test]
    fn shards_count_from_0_and_a_job_says_which() {
        assert_eq!(Shard::parse("3/4", None), Ok(Shard { index: 3, count: 4 }));
        assert_eq!(Shard::parse("3/4", Some("1")), Ok(Shard { index: 3, count: 4 }), "what is written counts");
        assert_eq!(Shard::parse("4", Some("2")), Ok(Shard { index: 2, count: 4 }));
        assert!(Shard::parse("4", None).unwrap_err().contains("JOB_COMPLETION_INDEX would say, but it is not set"));
        assert!(Shard::parse("4", Some("x")).unwrap_err().contains("JOB_COMPLETION_INDEX is 'x'"));
        assert!(Shard::parse("4/4", None).unwrap_err().contains("count from 0 to 3"));
        assert!(Shard::parse("4", Some("4")).unwrap_err().contains("count from 0 to 3"));
        for wrong in ["", "/", "1/", "/2", "a/2", "-1/2", "0/0", "0/10001", "1/2/3"] {
            assert!(Shard::parse(wrong, None).is_err(), "{wrong}");
        }
    }
}
