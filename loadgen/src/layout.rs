//! Threads and their descriptor tables: how many a number of connections needs under a limit. Arithmetic, no system call.
//!
//! The kernel applies RLIMIT_NOFILE to each descriptor table. All threads share one, as long as everything fits into it;
//! else every worker and every shard has its own (see `unshared`), and there are as many of them as the limit demands.

use crate::quantity::{count, counted};

/// What a run is asked for, as far as descriptors are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// Connections, of all workers together.
    pub(crate) connections: u64,
    /// Worker threads that the user wants.
    pub(crate) threads: Option<usize>,
    /// Worker threads when neither the user nor the limit wants more.
    pub(crate) threads_usual: usize,
    /// Shards of a server in the same process, when neither the user nor the limit wants more.
    pub(crate) shards_usual: Option<usize>,
}

/// How the threads of a run are laid out over descriptor tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Worker threads.
    pub(crate) threads: usize,
    /// Shards of the server in the same process, if there is one.
    pub(crate) shards: Option<usize>,
    /// Whether every worker and every shard has a table of its own.
    pub(crate) own_tables: bool,
}

impl Layout {
    /// The layout for `wish` where a table holds `limit` descriptors. Where the limit demands more tables than there may
    /// be, or than the user allows, it is the most that can be done: [`fits`](Layout::fits) says how much that is.
    pub(crate) fn new(wish: &Wish, limit: u64) -> Layout {
        let most = usize::try_from(wish.connections).unwrap_or(usize::MAX);
        let threads = wish.threads.unwrap_or(wish.threads_usual).min(most).max(1);
        let shared = Layout { threads, shards: wish.shards_usual, own_tables: false };
        if shared.fits(limit) >= wish.connections {
            return shared;
        }
        let threads = wish.threads.unwrap_or(workers_for(wish.connections, limit).max(threads)).min(most).max(1);
        let shards = wish.shards_usual.map(|usual| shards_for(wish.connections, usual, limit));
        Layout { threads, shards, own_tables: true }
    }

    /// How many connections this layout has descriptors for.
    pub(crate) fn fits(&self, limit: u64) -> u64 {
        if self.own_tables {
            let by_workers = self.threads as u64 * room(limit, 0);
            return self.shards.map_or(by_workers, |shards| by_workers.min(shards_hold(shards, limit)));
        }
        let (ends, threads) = (1 + u64::from(self.shards.is_some()), self.threads + self.shards.unwrap_or(0));
        limit.saturating_sub(RESERVE + 4 * threads as u64) / ends
    }

    /// The least limit at which as many workers, and as many shards as suit it, have descriptors for `connections`.
    pub(crate) fn limit_needed(&self, connections: u64) -> u64 {
        let by_workers = connections.div_ceil((self.threads as u64).max(1)).saturating_add(RESERVE);
        self.shards.map_or(by_workers, |_| by_workers.max(shards_limit(connections, None)))
    }

    /// How many descriptors `connections` take, and what for, where `limit` is too low for that.
    pub(crate) fn need(&self, connections: u64, limit: u64) -> String {
        let tables = match (self.shards, self.threads) {
            (Some(_), _) => " in the table of each thread, the server's as well".to_owned(),
            (None, threads @ 2..) => format!(" in the table of each of {} threads", count(threads as u64)),
            (None, _) => String::new(),
        };
        let needed = self.limit_needed(connections);
        let whose = if tables.is_empty() { "connections" } else { "its connections" };
        format!(
            "{} are needed{tables}, {} for {whose} and {RESERVE} for loadgen itself, but the limit (`ulimit -n`) is {}",
            count(needed),
            count(needed.saturating_sub(RESERVE)),
            count(limit)
        )
    }

    /// The sums that `connections` come down to, one for each side, for people.
    pub(crate) fn sums(&self, connections: u64, limit: u64) -> Vec<String> {
        if !self.own_tables {
            let (fits, ends) = (count(self.fits(limit)), if self.shards.is_some() { "both ends of " } else { "" });
            return vec![format!("1 table × {} descriptors: {ends}{fits} connections", count(limit))];
        }
        let (tables, each) = (self.threads as u64, room(limit, 0));
        let product = count(tables * each);
        let workers = format!("{} × {} = {product} for {}", counted(tables, "table"), count(each), count(connections));
        let shards = self.shards.map(|shards| format!("server: {}", shards_sum(shards, connections, limit)));
        [workers].into_iter().chain(shards).collect()
    }
}

/// Whether a server with so many shards can hold `connections` in one table, all its threads sharing it.
pub(crate) fn shares_table(shards: usize, connections: u64, limit: u64) -> bool {
    connections + RESERVE + 4 * shards as u64 <= limit
}

/// How many workers with a table each have descriptors for `connections`; the most that there may be, where none are enough.
pub(crate) fn workers_for(connections: u64, limit: u64) -> usize {
    connections.div_ceil(room(limit, 0).max(1)).min(TABLES_MAX) as usize
}

/// How many shards with a table each hold `connections`: as many as usual where they do, else the least number that does.
/// Where none does, it is the number that holds most: every shard's table has the wake-ups of all, so that many of them
/// leave each other no room.
pub(crate) fn shards_for(connections: u64, usual: usize, limit: u64) -> usize {
    if shards_hold(usual, limit) >= connections { usual } else { shards_needed(connections, limit) }
}

/// The same where no number is usual.
fn shards_needed(connections: u64, limit: u64) -> usize {
    let (mut best, mut most) = (1, 0);
    for shards in 1..=TABLES_MAX as usize {
        let hold = shards_hold(shards, limit);
        if hold >= connections {
            return shards;
        }
        if hold > most {
            (best, most) = (shards, hold);
        }
    }
    best
}

/// The least limit at which so many shards, or else the best number of them, hold `connections`.
pub(crate) fn shards_limit(connections: u64, shards: Option<usize>) -> u64 {
    let fits = |limit| {
        let shards = shards.unwrap_or_else(|| shards_needed(connections, limit));
        shards_hold(shards, limit) >= connections
    };
    let reserve = RESERVE + RESERVE_OWN + shards.unwrap_or(1) as u64;
    // The mean and five deviations of it are less than twice the mean and these.
    let (mut short, mut enough) = (0, connections.saturating_mul(2).saturating_add(reserve + 100));
    while enough - short > 1 {
        let middle = short + (enough - short) / 2;
        (short, enough) = if fits(middle) { (short, middle) } else { (middle, enough) };
    }
    enough
}

/// How many connections there are descriptors for where both ends of each are one process's.
pub(crate) fn both_ends_max(limit: u64) -> u64 {
    shards_hold(shards_needed(u64::MAX, limit), limit).min(TABLES_MAX * room(limit, 0))
}

/// How many connections so many shards with a table each hold.
///
/// The kernel deals connections out by a hash, so that the number of one shard scatters about the mean like a binomial
/// distribution: with a mean of m its standard deviation is at most the square root of m. The mean that is counted on
/// leaves room for five of them: a shard is full once in three million runs, one of sixty once in fifty thousand.
pub(crate) fn shards_hold(shards: usize, limit: u64) -> u64 {
    shards as u64 * shard_holds(shards, limit)
}

/// How many of them are each shard's, on the average.
fn shard_holds(shards: usize, limit: u64) -> u64 {
    let room = room(limit, shards as u64);
    if shards == 1 {
        return room;
    }
    // m + 5 √m = room, solved for √m.
    let root = (DEVIATIONS.mul_add(DEVIATIONS, 4.0 * room as f64).sqrt() - DEVIATIONS) / 2.0;
    (root * root) as u64
}

/// The sum for a server, for people.
pub(crate) fn shards_sum(shards: usize, connections: u64, limit: u64) -> String {
    let (room, hold) = (room(limit, shards as u64), count(shards_hold(shards, limit)));
    let (tables, connections) = (counted(shards as u64, "table"), count(connections));
    if shards == 1 {
        return format!("{tables} × {hold} for {connections}");
    }
    let margin = count(room - shard_holds(shards, limit));
    format!("{tables} × ({} − {margin} because a hash deals unevenly, 5 σ) = {hold} for {connections}", count(room))
}

/// How many of a table's descriptors are for connections, when so many shards keep each other's wake-ups in it.
fn room(limit: u64, shards: u64) -> u64 {
    limit.saturating_sub(RESERVE.max(shards + RESERVE_OWN))
}

/// Descriptors for everything but connections: three standard ones, a result file, libraries, and (of a shared table, 4
/// more) for each thread on either side a poll, a listener and a wake-up.
pub(crate) const RESERVE: u64 = 64;

/// The same in a shard's own table, the wake-ups of all shards not counted.
const RESERVE_OWN: u64 = 12;

/// How far beyond the mean a shard's number of connections may be.
const DEVIATIONS: f64 = 5.0;

/// More threads than this on one side are no way to hold connections.
const TABLES_MAX: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 20_000;

    fn alone(connections: u64, threads: Option<usize>) -> Layout {
        Layout::new(&Wish { connections, threads, threads_usual: 2, shards_usual: None }, LIMIT)
    }

    fn both(connections: u64) -> Layout {
        Layout::new(&Wish { connections, threads: None, threads_usual: 1, shards_usual: Some(2) }, LIMIT)
    }

    #[test]
    fn what_fits_into_one_table_shares_it() {
        // 20,000 less the reserve of 64 + 4 × 2.
        assert_eq!(alone(19_928, None), Layout { threads: 2, shards: None, own_tables: false });
        assert_eq!(both(9_962), Layout { threads: 1, shards: Some(2), own_tables: false });
        assert_eq!(alone(1, None).threads, 1, "no worker is without a connection");
    }

    #[test]
    fn one_connection_more_needs_own_tables() {
        assert_eq!(alone(19_929, None), Layout { threads: 2, shards: None, own_tables: true });
        assert_eq!(both(9_963), Layout { threads: 1, shards: Some(2), own_tables: true });
        assert_eq!(both(19_937).threads, 2);
    }

    #[test]
    fn a_million_takes_51_workers_and_52_shards() {
        assert_eq!(alone(1_000_000, None), Layout { threads: 51, shards: None, own_tables: true });
        assert_eq!(both(1_000_000), Layout { threads: 51, shards: Some(52), own_tables: true });
        let sums = both(1_000_000).sums(1_000_000, LIMIT);
        assert_eq!(sums[0], "51 tables × 19,936 = 1,016,736 for 1,000,000");
        let sum = "52 tables × (19,936 − 694 because a hash deals unevenly, 5 σ) = 1,000,584 for 1,000,000";
        assert_eq!(sums[1], format!("server: {sum}"));
    }

    #[test]
    fn tables_are_full_to_the_last_descriptor() {
        let each = LIMIT - 64;
        assert_eq!((alone(each * 7, None).threads, alone(each * 7 + 1, None).threads), (7, 8));
        assert_eq!(alone(each * 7, None).fits(LIMIT), each * 7);
        for connections in [1, 100, 19_936, 19_937, 38_000, 45_000, 250_000, 1_000_000] {
            let shards = shards_needed(connections, LIMIT);
            assert!(shards_hold(shards, LIMIT) >= connections, "{connections}");
            assert!(shards == 1 || shards_hold(shards - 1, LIMIT) < connections, "{connections}");
            assert!(shards as u64 * (LIMIT - 64) >= connections);
        }
    }

    #[test]
    fn a_wish_wins_and_what_fits_then_is_said() {
        let layout = alone(1_000_000, Some(3));
        assert_eq!((layout.threads, layout.fits(LIMIT)), (3, 59_808));
        assert_eq!(alone(100, Some(7)), Layout { threads: 7, shards: None, own_tables: false });
    }

    #[test]
    fn the_wake_ups_of_many_shards_take_their_room() {
        assert_eq!(shards_hold(1, LIMIT), 19_936);
        assert!(shards_hold(500, LIMIT) < 500 * (LIMIT - 500));
    }

    /// Few and many connections, workers as many as it takes or a wish, with and without a server inside.
    fn wishes() -> impl Iterator<Item = Wish> {
        let connections = [1, 7, 36, 37, 100, 1_000, 13_833, 30_000, 50_000, 1_000_000, 40_000_000];
        let threads = [None, Some(1), Some(3), Some(700)];
        connections.into_iter().flat_map(move |connections| {
            threads.into_iter().flat_map(move |threads| {
                [None, Some(1), Some(2), Some(64)].map(|shards_usual| Wish {
                    connections,
                    threads,
                    threads_usual: 2,
                    shards_usual,
                })
            })
        })
    }

    const LIMITS: [u64; 16] = [0, 64, 65, 70, 76, 77, 80, 100, 150, 256, 300, 1_024, 4_096, 20_000, 65_536, 1_048_576];

    #[test]
    fn what_is_said_to_fit_does() {
        for (wish, limit) in wishes().flat_map(|wish| LIMITS.map(|limit| (wish, limit))) {
            let fits = Layout::new(&wish, limit).fits(limit).min(wish.connections);
            let less = Wish { connections: fits, ..wish };
            assert!(Layout::new(&less, limit).fits(limit) >= fits, "{fits} at {limit}: {wish:?}");
            let both = Wish { connections: both_ends_max(limit), threads: None, ..wish };
            assert!(Layout::new(&both, limit).fits(limit) >= both.connections, "{both:?} at {limit}");
        }
    }

    #[test]
    fn the_limit_that_is_advised_is_enough_and_the_least() {
        for (wish, limit) in wishes().flat_map(|wish| LIMITS.map(|limit| (wish, limit))) {
            let layout = Layout::new(&wish, limit);
            if layout.fits(limit) >= wish.connections {
                continue;
            }
            let needed = layout.limit_needed(wish.connections);
            let fits = |limit| Layout::new(&wish, limit).fits(limit) >= wish.connections;
            assert!(needed > limit && fits(needed), "{needed} instead of {limit}: {wish:?}");
            assert!(!fits(needed - 1), "less than {needed} would do instead of {limit}: {wish:?}");
        }
    }

    #[test]
    fn the_limit_for_so_many_shards_is_enough_and_the_least() {
        for connections in [1, 36, 100, 30_000, 1_000_000] {
            for shards in [1, 2, 7, 400, 1_024] {
                let limit = shards_limit(connections, Some(shards));
                assert!(shards_hold(shards, limit) >= connections, "{connections} with {shards}: {limit}");
                assert!(shards_hold(shards, limit - 1) < connections, "{connections} with {shards}: {limit}");
            }
        }
    }

    #[test]
    fn where_no_number_of_shards_does_it_is_the_best() {
        for limit in [70, 100, 300, 1_024] {
            let (best, most) = (shards_for(u64::MAX, 4, limit), both_ends_max(limit));
            assert!(most > 0 && shards_hold(best, limit) == most, "{limit}");
            assert!((1..=1_024).all(|shards| shards_hold(shards, limit) <= most), "{limit}");
        }
        // 256 shards would leave each other hardly any room: fewer hold more.
        assert!(shards_hold(256, 300) < 10_000 && shards_hold(shards_for(10_000, 256, 300), 300) >= 10_000);
    }

    #[test]
    fn limits_too_small_for_anything_fit_nothing() {
        for limit in [0, 3, 64] {
            let wish = Wish { connections: 10, threads: None, threads_usual: 1, shards_usual: Some(1) };
            assert_eq!(Layout::new(&wish, limit).fits(limit), 0, "{limit}");
        }
        assert_eq!(both_ends_max(64), 0);
    }
}
