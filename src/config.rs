//! Every knob and limit with its default, checked once. What each means and costs is said at the builder's method.

use std::time::Duration;

use crate::address::{Address, Place, abstract_name};
use crate::error::Error;
use crate::socket::{Keepalive, Line};
#[cfg(feature = "tls")]
use crate::tls::Tls;
use crate::tuning::Tuning;

/// How a shard waits for events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Selector {
    /// Block in epoll_wait(2) until there is something to do.
    #[default]
    Epoll,
    /// Poll for up to this long before blocking, and less when that does not pay: the time adapts to how near events have
    /// been. Saves the sleep and the wake-up (a single connection's round trip was measured at 77 → 26 µs) and costs
    /// processor time while it polls. 1 µs to 1 s.
    Spin(Duration),
}

/// Which cores the shards are pinned to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cores {
    /// Shard i on the i-th core that this process may use, starting over when there are more shards than cores.
    #[default]
    All,
    /// The same with these cores, by the numbers that the system gives them (`/proc/cpuinfo`).
    List(Vec<usize>),
    /// Not at all: the scheduler moves the shards about.
    None,
}

/// How the kernel deals new connections out to the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Steering {
    /// By the hash of both addresses and ports: as even as dice are, 10 % up and down at some hundred connections a shard
    /// and 1 % at some ten thousand.
    #[default]
    Hash,
    /// To the shard that is pinned to the core on which the connection's first packet was processed; those of cores
    /// without a shard by the hash. From the network card's queue to the handler a connection then stays on one core,
    /// provided that each of these cores has a receive queue; as even as the card deals packets out. It takes shards that
    /// are pinned to cores of their own.
    Cpu,
}

/// What becomes of a shard whose loop has died: of a panic outside of the handler's functions, which is a mistake in this
/// library, or because the system does not let it wait for events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ShardDeath {
    /// Another takes its place, on the same thread and with the same listener, and with a handler that is made anew. Nobody
    /// has to know: whoever is connected to the other shards is not concerned, and whoever waits to be accepted is.
    #[default]
    Respawn,
    /// It stays away: its listener closes, the other shards go on, and [`Server::join`](crate::Server::join) tells.
    Leave,
    /// The whole process ends at once (abort(3)): for programs that somebody else starts again, and that rather lose
    /// everything than the state of one shard.
    Abort,
}

/// What becomes of a message for which there is no room: more would wait for its peer than
/// [`output_max`](crate::Builder::output_max) allows, or on its shard than
/// [`output_max_shard`](crate::Builder::output_max_shard) does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// The connection ends with a reset, as [`OutputFull`](crate::CloseReason::OutputFull): who waits for an answer that has a
    /// hole, or never comes, is told so at once.
    #[default]
    Close,
    /// The message is refused, as a whole: [`Client::send`](crate::Client::send) returns false, and the connection goes on as
    /// if it had not been sent. For messages that can be missed, such as the state of something that comes again. One of which
    /// the kernel has already taken a part cannot be refused, and ends the connection: it was longer than `output_max`, or
    /// the shard was full; so a full shard still loses some of those who read slowly. `send` tells by false: a handler that gives
    /// that back as its own value disconnects. Counted in [`ShardStats::refused_messages`](crate::ShardStats::refused_messages).
    Refuse,
    /// The message is taken all the same, and nothing is read from the connection until little enough waits. The limits are marks
    /// then, and not walls: memory is bounded by what one call of the handler sends, where it only answers, and not at all where
    /// it sends by itself.
    Pause,
}

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Instead of `host` and `port`, if there are any.
    pub(crate) addresses: Vec<Address>,
    pub(crate) share_port: bool,
    pub(crate) queue_size: u32,
    pub(crate) block_time: Option<Duration>,
    pub(crate) tick: Option<Duration>,
    pub(crate) selector: Selector,
    /// `None` is one for each core.
    pub(crate) shards: Option<usize>,
    pub(crate) cores: Cores,
    pub(crate) steering: Steering,
    pub(crate) nodelay: bool,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) user_timeout: Option<Duration>,
    pub(crate) tuning: Tuning,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
    pub(crate) connections_max: Option<usize>,
    pub(crate) connections_per_address: Option<usize>,
    pub(crate) accept_rate_per_address: Option<usize>,
    pub(crate) limits: Limits,
    pub(crate) accept_budget: usize,
    pub(crate) mailbox_max: usize,
    pub(crate) stop_timeout: Duration,
    pub(crate) shard_death: ShardDeath,
    pub(crate) histograms: bool,
    /// Set only by those who have promised what it takes.
    pub(crate) private_fd_tables: bool,
}

/// The limits that a connection itself has to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) input_max: usize,
    pub(crate) output_max: usize,
    /// `None` is half of `output_max`.
    pub(crate) output_low: Option<usize>,
    /// For all connections of a shard together.
    pub(crate) output_max_shard: Option<usize>,
    pub(crate) overflow: Overflow,
    pub(crate) read_budget: usize,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) first_message_timeout: Option<Duration>,
    pub(crate) write_timeout: Option<Duration>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            host: "127.0.0.1".into(),
            port: 1234,
            addresses: Vec::new(),
            share_port: false,
            queue_size: 1000,
            block_time: None,
            tick: None,
            selector: Selector::Epoll,
            shards: None,
            cores: Cores::All,
            steering: Steering::Hash,
            nodelay: true,
            keepalive: Some(Keepalive::default()),
            user_timeout: Some(Duration::from_secs(120)),
            tuning: Tuning::default(),
            #[cfg(feature = "tls")]
            tls: None,
            connections_max: None,
            connections_per_address: None,
            accept_rate_per_address: None,
            limits: Limits::default(),
            accept_budget: 64,
            mailbox_max: 1024,
            stop_timeout: Duration::from_secs(10),
            shard_death: ShardDeath::default(),
            histograms: false,
            private_fd_tables: false,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            input_max: 64 << 10,
            output_max: 256 << 10,
            output_low: None,
            output_max_shard: None,
            overflow: Overflow::Close,
            read_budget: 64 << 10,
            idle_timeout: None,
            first_message_timeout: None,
            write_timeout: None,
        }
    }
}

impl Limits {
    /// How much a connection with nothing queued and nothing left over may read at once.
    pub(crate) fn plain_read(&self) -> usize {
        let most = self.output_max_shard.map_or(self.output_max, |shard| shard.min(self.output_max));
        self.read_budget.min(self.input_max).min(most)
    }

    #[inline]
    pub(crate) fn output_low(&self) -> usize {
        self.output_low.unwrap_or(self.output_max / 2)
    }
}

/// More threads than this are a mistake, not a machine.
const SHARDS_MAX: usize = 4096;
/// Slots are counted in 32 bits; a thousand million sockets do not fit into any machine's memory.
const CONNECTIONS_MAX: usize = 1 << 30;
/// A buffer of a gibibyte for one connection is a denial of service in waiting.
const BYTES_MAX: usize = 1 << 30;
/// More for one thread is no limit.
const SHARD_BYTES_MAX: usize = 1 << 40;
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

impl Config {
    /// What a socket that calls is made with.
    pub(crate) fn line(&self) -> Line {
        Line { nodelay: self.nodelay, keepalive: self.keepalive, user_timeout: self.user_timeout }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let limits = &self.limits;
        if let Selector::Spin(longest) = self.selector {
            span("selector", longest, Duration::from_micros(1), Duration::from_secs(1))?;
        }
        if let Some(time) = self.block_time {
            span("block_time", time, Duration::from_millis(1), TIMEOUT_MAX)?;
        }
        if let Some(period) = self.tick {
            span("tick", period, Duration::from_millis(1), TIMEOUT_MAX)?;
        }
        count("queue_size", self.queue_size as usize, 1, i32::MAX as usize)?;
        count("shards", self.shards.unwrap_or(1), 1, SHARDS_MAX)?;
        count("connections_max", self.connections_max.unwrap_or(1), 1, CONNECTIONS_MAX)?;
        count("connections_per_address", self.connections_per_address.unwrap_or(1), 1, CONNECTIONS_MAX)?;
        count("accept_rate_per_address", self.accept_rate_per_address.unwrap_or(1), 1, 1_000_000)?;
        count("accept_budget", self.accept_budget, 1, 1 << 20)?;
        count("mailbox_max", self.mailbox_max, 1, 1 << 24)?;
        count("input_max", limits.input_max, 1, BYTES_MAX)?;
        count("output_max", limits.output_max, 2, BYTES_MAX)?;
        count("output_low", limits.output_low(), 0, limits.output_max - 1)?;
        count("output_max_shard", limits.output_max_shard.unwrap_or(2), 2, SHARD_BYTES_MAX)?;
        count("read_budget", limits.read_budget, 1, BYTES_MAX)?;
        let timeouts = [
            ("idle_timeout", limits.idle_timeout),
            ("first_message_timeout", limits.first_message_timeout),
            ("write_timeout", limits.write_timeout),
        ];
        for (knob, timeout) in timeouts {
            timeout.map_or(Ok(()), |timeout| span(knob, timeout, Duration::from_millis(1), TIMEOUT_MAX))?;
        }
        span("stop_timeout", self.stop_timeout, Duration::ZERO, TIMEOUT_MAX)?;
        self.check_keepalive()?;
        if let Some(timeout) = self.user_timeout {
            span("user_timeout", timeout, Duration::from_millis(1), TIMEOUT_MAX)?;
        }
        self.check_addresses()?;
        self.check_tuning()?;
        self.check_cores()?;
        self.check_steering()
    }

    fn check_addresses(&self) -> Result<(), Error> {
        for (index, address) in self.addresses.iter().enumerate() {
            let why = match &address.place {
                Place::Unix { path, .. } if path.as_os_str().is_empty() => "the path of a Unix socket is empty".into(),
                Place::Unix { path, .. } if abstract_name(path) == Some(b"") => {
                    "the abstract name of a Unix socket is empty".into()
                }
                Place::Unix { mode: Some(mode), .. } if *mode > 0o777 => {
                    format!("{mode:#o} is not the mode of a socket: it is between 0 and 0o777")
                }
                Place::Tcp { port: 0, .. } => continue,
                place if self.addresses[..index].iter().any(|other| other.place == *place) => {
                    format!("{address} is there twice")
                }
                _ => continue,
            };
            return Err(Error::Config { knob: "listen", why });
        }
        Ok(())
    }

    fn check_tuning(&self) -> Result<(), Error> {
        let tuning = &self.tuning;
        if let Some(wait) = tuning.defer_accept {
            span("tuning.defer_accept", wait, Duration::from_secs(1), Duration::from_secs(3600))?;
        }
        if let Some(time) = tuning.busy_poll {
            span("tuning.busy_poll", time, Duration::from_micros(1), Duration::from_secs(1))?;
        }
        count("tuning.fast_open", tuning.fast_open.unwrap_or(1) as usize, 1, 1 << 20)?;
        count("tuning.receive_buffer", tuning.receive_buffer.unwrap_or(1), 1, BYTES_MAX)?;
        count("tuning.send_buffer", tuning.send_buffer.unwrap_or(1), 1, BYTES_MAX)
    }

    /// The addresses to open: what was asked for, and if nothing was and nothing `is_given`, `host` and `port`.
    pub(crate) fn to_open(&self, is_given: bool) -> Vec<Address> {
        match self.addresses.is_empty() && !is_given {
            true => vec![Address::tcp(&self.host, self.port)],
            false => self.addresses.clone(),
        }
    }

    fn check_keepalive(&self) -> Result<(), Error> {
        let Some(keepalive) = self.keepalive else { return Ok(()) };
        let (second, longest) = (Duration::from_secs(1), Duration::from_secs(32_767));
        span("keepalive", keepalive.idle, second, longest)?;
        span("keepalive", keepalive.interval, second, longest)?;
        count("keepalive", keepalive.probes as usize, 1, 127)
    }

    fn check_cores(&self) -> Result<(), Error> {
        let Cores::List(list) = &self.cores else { return Ok(()) };
        let usable = usable_cores();
        let why = match list.iter().find(|core| !usable.contains(core)) {
            None if list.is_empty() => "the list is empty; Cores::None pins nothing".into(),
            Some(core) => format!("core {core} is not among those that this process may use: {usable:?}"),
            None => return Ok(()),
        };
        Err(Error::Config { knob: "cores", why })
    }

    fn check_steering(&self) -> Result<(), Error> {
        let refuse = |why: &str| Err(Error::Config { knob: "steering", why: why.into() });
        if self.steering == Steering::Hash {
            return Ok(());
        }
        if self.share_port {
            return refuse("it is for the whole port, and with `share_port` others have shards there, too");
        }
        let mut cores: Vec<usize> = (0..self.shard_count()).filter_map(|shard| self.core_of(shard)).collect();
        cores.sort_unstable();
        cores.dedup();
        if cores.len() < self.shard_count() {
            return refuse(
                "Steering::Cpu takes shards that are pinned to cores of their own: see `cores` and `shards`",
            );
        }
        Ok(())
    }

    /// How many shards to start.
    pub(crate) fn shard_count(&self) -> usize {
        self.shards.unwrap_or_else(|| match &self.cores {
            Cores::List(list) => list.len(),
            _ => usable_cores().len().max(1),
        })
    }

    /// The core that a shard is pinned to.
    pub(crate) fn core_of(&self, shard: usize) -> Option<usize> {
        let cores = match &self.cores {
            Cores::None => return None,
            Cores::All => usable_cores(),
            Cores::List(list) => list.clone(),
        };
        (!cores.is_empty()).then(|| cores[shard % cores.len()])
    }
}

/// The cores on which the calling thread may run.
fn usable_cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

fn count(knob: &'static str, value: usize, least: usize, most: usize) -> Result<(), Error> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Config { knob, why: format!("{value} is not between {least} and {most}") })
}

pub(crate) fn span(knob: &'static str, value: Duration, least: Duration, most: Duration) -> Result<(), Error> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Config { knob, why: format!("{value:?} is not between {least:?} and {most:?}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        Config::default().check().unwrap();
    }

    #[test]
    fn what_shards_and_cores_are_left_to_the_machine_fits_together() {
        let config = Config::default();
        assert!(config.shard_count() >= 1);
        let first = config.core_of(0);
        assert!(first.is_some());
        assert_eq!(config.core_of(config.shard_count()), first, "more shards than cores start over");
        let listed = Config { cores: Cores::List(vec![first.unwrap()]), ..Config::default() };
        assert_eq!((listed.shard_count(), listed.core_of(5)), (1, first));
    }
}
