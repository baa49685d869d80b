//! How fast new connections may come from one address: a bucket of tokens for each, of a bounded number of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::config::Config;
use crate::peer::Peer;
#[cfg(test)]
use crate::planted::Bug;
use crate::reason::Refusal;
use crate::seats::household;

/// What all shards let in together, where that is limited. A bucket holds as many tokens as come in a second.
#[derive(Debug)]
pub(crate) struct Pace {
    buckets: Mutex<Buckets>,
    /// Nanoseconds until there is another token.
    interval: u64,
}

/// For each address the moment at which its bucket is full again, in nanoseconds (the generic cell rate algorithm, ITU-T
/// I.371). That is a second ahead at the most, so who has not come for a second is as good as never seen: of two tables, the
/// older is dropped each second.
#[derive(Debug, Default)]
struct Buckets {
    recent: HashMap<IpAddr, u64>,
    older: HashMap<IpAddr, u64>,
    turned_at: u64,
}

const SECOND: u64 = 1_000_000_000;
/// So many addresses are noted in a second, some 3 MB; others are let in unnoted. Who has more of them than that is not to be
/// held off by counting each.
const ADDRESSES_MAX: usize = if cfg!(test) { 1_000 } else { 1 << 16 };

impl Pace {
    pub(crate) fn new(config: &Config) -> Option<Pace> {
        let rate = config.accept_rate_per_address?;
        #[cfg(test)]
        let rate = Bug::AcceptRate.instead(rate, rate + 1);
        Some(Pace { buckets: Mutex::default(), interval: SECOND / rate as u64 })
    }

    /// Takes a token for `peer`, if there is one. Who has no address, being of this machine, needs none.
    ///
    /// The clocks of two shards have begun a moment apart, which is nothing beside a second.
    pub(crate) fn take(&self, peer: &Peer, now: Duration) -> Result<(), Refusal> {
        let (Some(ip), now) = (peer.ip().map(household), now.as_nanos() as u64) else { return Ok(()) };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.take(ip, now, self.interval) { Ok(()) } else { Err(Refusal::AcceptRate) }
    }
}

impl Buckets {
    fn take(&mut self, ip: IpAddr, now: u64, interval: u64) -> bool {
        self.turn(now);
        let noted = self.recent.get(&ip).or_else(|| self.older.get(&ip));
        let full_at = noted.map_or(now, |&full_at| full_at.max(now)) + interval;
        if full_at > now + SECOND {
            return false;
        }
        if self.recent.len() < ADDRESSES_MAX || self.recent.contains_key(&ip) {
            self.recent.insert(ip, full_at);
        }
        true
    }

    fn turn(&mut self, now: u64) {
        let passed = now.saturating_sub(self.turned_at);
        if passed >= SECOND {
            let recent = std::mem::take(&mut self.recent);
            self.older = if passed < 2 * SECOND { recent } else { HashMap::new() };
            self.turned_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: usize = 5;

    fn pace() -> Pace {
        Pace::new(&Config { accept_rate_per_address: Some(RATE), ..Config::default() }).unwrap()
    }

    fn peer(ip: impl Into<IpAddr>) -> Peer {
        Peer::from(std::net::SocketAddr::new(ip.into(), 1))
    }

    /// How many of `count` who come together at this moment are let in.
    fn admitted(pace: &Pace, ip: impl Into<IpAddr>, now_ms: u64, count: usize) -> usize {
        let peer = peer(ip);
        (0..count).filter(|_| pace.take(&peer, Duration::from_millis(now_ms)).is_ok()).count()
    }

    #[test]
    fn a_full_bucket_is_a_second_of_tokens_and_fills_at_that_rate() {
        let pace = pace();
        assert_eq!(admitted(&pace, [10, 0, 0, 1], 500, 20), 5);
        assert_eq!(admitted(&pace, [10, 0, 0, 2], 500, 20), 5, "another address has its own");
        assert_eq!(admitted(&pace, [10, 0, 0, 1], 699, 20), 0);
        assert_eq!(admitted(&pace, [10, 0, 0, 1], 700, 20), 1, "one in 200 ms");
        assert_eq!(admitted(&pace, [10, 0, 0, 1], 1_500, 20), 4, "a table later");
        assert_eq!(admitted(&pace, [10, 0, 0, 1], 1_700, 20), 1);
        assert_eq!(admitted(&pace, [10, 0, 0, 1], 9_000, 20), 5, "no more than a bucket holds");
    }

    #[test]
    fn whoever_tries_all_the_time_gets_the_rate_and_a_bucket_in_front() {
        let pace = pace();
        let total: usize = (0..10_000).map(|now_ms| admitted(&pace, [10, 0, 0, 1], 777 + now_ms, 3)).sum();
        assert_eq!(total, RATE + 10 * RATE - 1, "the tick at ten seconds is not among them");
    }

    #[test]
    fn a_network_of_ipv6_is_one_and_neighbours_are_none() {
        let pace = pace();
        let ip = |ip: &str| ip.parse::<IpAddr>().unwrap();
        assert_eq!(admitted(&pace, ip("2001:db8::1"), 0, 3), 3);
        assert_eq!(admitted(&pace, ip("2001:db8::2"), 0, 9), 2);
        assert_eq!(admitted(&pace, ip("2001:db8:0:1::2"), 0, 9), 5);
        assert!((0..20).all(|_| pace.take(&Peer::unix(), Duration::ZERO).is_ok()));
    }

    #[test]
    fn many_addresses_take_no_more_memory_than_is_allowed() {
        let pace = pace();
        for count in 0..10 * ADDRESSES_MAX as u32 {
            let now = Duration::from_micros(200 * u64::from(count));
            assert!(pace.take(&peer(count.to_be_bytes()), now).is_ok(), "who cannot be noted is let in");
            let buckets = pace.buckets.lock().unwrap();
            assert!(buckets.recent.len() <= ADDRESSES_MAX && buckets.older.len() <= ADDRESSES_MAX);
        }
        admitted(&pace, [9, 9, 9, 9], 60_000, 1);
        let buckets = pace.buckets.lock().unwrap();
        assert_eq!(
            (buckets.recent.len(), buckets.older.capacity()),
            (1, 0),
            "who has not come for a while is forgotten"
        );
    }
}
