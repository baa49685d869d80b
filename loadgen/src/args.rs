//! The command line: what can be asked for, and the help that teaches it.

mod examples;
pub(crate) mod trust;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use clap::{Parser, Subcommand};

use self::examples::{
    CHURN_EXAMPLES, COMPARE_EXAMPLES, EXAMPLES, EXAMPLES_AND_MORE, MERGE_EXAMPLES, OPEN_EXAMPLES, RR_EXAMPLES,
    SEARCH_EXAMPLES,
};
use self::trust::Trust;
use crate::address::UnixAddress;
use crate::churn::{Churn, Close};
use crate::listen_address::ListenAddress;
use crate::moment::parse_moment;
use crate::pipeline::DEPTH_MAX;
use crate::quantity::{parse_count, parse_duration, parse_rate, parse_size};
use crate::schedule::{Arrival, Rate};
use crate::shard::Shard;
use crate::slo::Slo;
use crate::source_list::SourceList;
use crate::stage::Stage;
use crate::target::Target;

/// Opens very many connections and measures latency at scale, against any server.
///
/// Without a command it shows what it can do: it starts an echo server in its own process, opens as many connections as
/// suit this machine, measures a closed and an open loop with every byte verified, and explains what it found. That
/// takes about 15 seconds.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, after_help = EXAMPLES, after_long_help = EXAMPLES_AND_MORE, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl Args {
    /// Where results go, of commands that have some.
    pub(crate) fn output(&self) -> Option<&Output> {
        match &self.command {
            None => Some(&self.output),
            Some(Command::Serve(_) | Command::Compare(_)) => None,
            Some(Command::Merge(merge)) => merge.is_apart().then_some(&merge.output),
            Some(Command::Rr(aimed)) => Some(&aimed.load.output),
            Some(Command::Open(open)) => Some(&open.aimed.load.output),
            Some(Command::Churn(churn)) => Some(&churn.aimed.load.output),
            Some(Command::Doctor(doctor)) => Some(&doctor.held.load.output),
            Some(Command::Hold(held)) => Some(&held.load.output),
            Some(Command::Search(search)) => Some(&search.aimed.load.output),
        }
    }

    /// Whether its options suit its command, as far as their names and values do not tell.
    ///
    /// # Errors
    /// A sentence that says which does not.
    pub(crate) fn check(&self) -> Result<(), String> {
        let load = match &self.command {
            Some(Command::Open(open)) => &open.aimed.load,
            Some(Command::Churn(churn)) => &churn.aimed.load,
            Some(Command::Search(search)) => &search.aimed.load,
            Some(Command::Hold(held)) if held.load.runs > 1 || held.load.warmup.is_some() => {
                return Err(HELD_ONCE.to_owned());
            }
            Some(Command::Hold(held)) => &held.load,
            _ => return Ok(()),
        };
        match load.pipeline {
            Some(_) => Err(ONE_AT_A_TIME.to_owned()),
            None => Ok(()),
        }
    }
}

const ONE_AT_A_TIME: &str = "--pipeline is for `rr`, the closed loop: with open, search, churn and hold each connection has \
                             one request under way at a time, so leave it out";

const HELD_ONCE: &str = "hold opens its connections once and holds them once: leave --runs and --warmup out, and run it several \
                         times for figures to be compared";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an echo server to measure against, until SIGINT or SIGTERM
    ///
    /// SIGUSR1 makes it say how many connections are open, and what each takes of its memory.
    Serve(Serve),
    /// Closed loop: each connection sends, waits for the whole echo, and sends again
    ///
    /// Shows the throughput that the server reaches when every client waits for it. A server that stands still is asked
    /// nothing meanwhile, so for latency at a given rate use `open`.
    ///
    /// Where an HTTP server closes a connection between two responses, as it may, with or without a word, the connection is
    /// opened again, and that is a part of the next request's latency.
    #[command(after_help = RR_EXAMPLES, mut_arg("pipeline", |it| it.hide(false)))]
    Rr(Aimed),
    /// Open loop: requests are due at a fixed rate, whether or not the server keeps up
    ///
    /// Latency counts from the moment at which a request was due, so a server that stands still shows it. Beside it
    /// stand the service time (from sending) and the send lag (from due to sending): a large send lag means that all
    /// connections were busy, or that loadgen itself was too slow.
    ///
    /// To send in time, each worker busy-waits through the last two milliseconds before a request is due: up to a core for
    /// each, for which it competes with a server on the same machine.
    #[command(after_help = OPEN_EXAMPLES)]
    Open(Open),
    /// Connections that come and go: each connects, has one exchange, and closes
    ///
    /// In -c places, one at a time in each. Without -R a closed loop: each that is over is followed by the next. With -R
    /// they are due at that rate, and their time counts from the moment at which they were due. Shown are the time of
    /// the whole, until the reply is there, of the connect, and of the exchange; and how many there were at once, which
    /// is less than -c where the server lets them go faster than loadgen opens them.
    #[command(after_help = CHURN_EXAMPLES)]
    Churn(Comings),
    /// Search the highest rate that meets the conditions of --slo
    ///
    /// Trials of an open loop, on connections that are opened once: from the lowest rate on it doubles until one fails, and
    /// then halves what is left until the highest rate that passed and the lowest that failed lie close together. A trial
    /// passes if the conditions hold and at least 99 % of its rate was achieved; one that failed is repeated, and of three
    /// two decide. The best rate is confirmed by a trial of twice the length. Where it was not the server that gave out but
    /// loadgen itself, the answer says so, and is a lower bound.
    #[command(after_help = SEARCH_EXAMPLES)]
    Search(Search),
    /// Open connections and hold them: one verified echo on each, silence or heartbeats, and a verified echo again
    ///
    /// Without a target the server is in this process, and both ends of each connection are.
    #[command(
        mut_arg("runs", |it| it.hide(true)),
        mut_arg("warmup", |it| it.hide(true)),
        after_help = "Examples:\n  loadgen hold 127.0.0.1:1234 -c 10k -d 1m\n  loadgen hold 127.0.0.1:1234 -c 10k -d 1h --heartbeat 30s\n  loadgen hold -c 1M"
    )]
    Hold(Held),
    /// Say what a run would need, what fits, and what would make more fit; nothing is run
    ///
    /// Takes the options of the run that it is about, whichever command that is: what does not matter to whether it fits,
    /// such as the -R of `open` or --html, is taken and not looked at. What a server allows that is not loadgen's own, or not
    /// on this machine, cannot be seen from here: run it there, too. Exit code 0: it fits, 1: it does not.
    #[command(
        after_help = "Examples:\n  loadgen doctor -c 1M\n  loadgen doctor 127.0.0.1:1234 -c 1M\n  loadgen doctor 127.0.0.1:1234 -c 1M -R 20k -d 1h\n  loadgen doctor [::1]:1234 -c 100 -R 2k --close fin     a `churn`"
    )]
    Doctor(Doctor),
    /// Compare the results in two JSON files: is the difference real, or chance?
    ///
    /// Each file is one `--json` of `rr`, `open` or `churn`, best with `--runs 5`: without several runs nobody can tell chance
    /// from change, and the exit code is 4. The server may be another one, the load has to be the same (see --unlike). The change of the means stands with its 95 % confidence interval, by Welch's t. Exit code
    /// 5: something is worse, really and by more than the tolerance.
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(Compare),
    /// Add the results of several machines or processes up to one: histograms are added, never percentiles averaged
    ///
    /// Each file holds results of `--json`, one or several behind each other, such as those in the logs of pods. Rates,
    /// counts and failures are added, too. The sum is SUSPECT if a part is, if a shard is missing or there twice, if the
    /// parts were not measured at the same time, or if they differ in what should be the same.
    #[command(after_help = MERGE_EXAMPLES)]
    Merge(Merge),
}

/// How to run an echo server.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  loadgen serve --listen 127.0.0.1:1234 --shards 2 --cores all\n  loadgen serve --listen unix:/tmp/echo.sock\n  loadgen serve --connections-max 1M"
)]
pub(crate) struct Serve {
    /// Where to listen
    ///
    /// A port, :port, host:port, unix:/path or unix:@name. The host is 127.0.0.1 when there is none; port 0 lets the kernel
    /// choose one. A Unix socket's file is removed at the end. Given several times, it listens at each of them.
    #[arg(long, value_name = "ADDR", default_values_t = [ListenAddress::default()])]
    pub(crate) listen: Vec<ListenAddress>,
    /// Reactor threads, each with a listener [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) shards: Option<u16>,
    /// Pin shards to cores: a list as 0,2,4-7, all, or none
    #[arg(long, value_name = "LIST|all|none", default_value = "none")]
    pub(crate) cores: CoreChoice,
    /// How many connections it will have to hold
    ///
    /// It then has as many shards as the descriptor limit demands for them, each with a descriptor table of its own when
    /// one is not enough.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub(crate) connections_max: Option<u64>,
}

/// Which results to compare.
#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// Results from before a change, or of one server
    #[arg(value_name = "A.json")]
    pub(crate) before: PathBuf,
    /// Results from after it, or of the other server
    #[arg(value_name = "B.json")]
    pub(crate) after: PathBuf,
    /// Judge although the loads differ: it is meant
    ///
    /// Without it results of another kind of loop, -c, -R, -s, --pipeline, protocol, path, or a duration twice as long are
    /// shown beside each other, but not judged, and the exit code is 4.
    #[arg(long)]
    pub(crate) unlike: bool,
    /// By how many percent a figure may be worse
    #[arg(long, value_name = "PERCENT", default_value = "2", value_parser = parse_percent)]
    pub(crate) tolerance: f64,
    /// Write JSON to FILE, or instead of the text
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub(crate) json: Option<PathBuf>,
}

/// Which results to add up.
#[derive(Debug, clap::Args)]
#[command(mut_arg("hlog", |it| it.hide(true)))]
#[command(mut_arg("csv", |it| it.hide(true)))]
pub(crate) struct Merge {
    /// Results of `--json`, or of `merge --json`
    #[arg(required = true, value_name = "FILE.json")]
    pub(crate) files: Vec<PathBuf>,
    /// What the sum has to keep to, as for a run
    #[arg(long, value_name = "CONDITIONS")]
    pub(crate) slo: Option<Slo>,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl Merge {
    /// Whether the sum goes elsewhere than where its parts are: what goes wrong must not be written over one of them.
    fn is_apart(&self) -> bool {
        self.output.json.as_ref().is_none_or(|path| !self.files.contains(path))
    }
}

/// What every load has.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Load {
    /// How many connections
    #[arg(short = 'c', long, allow_negative_numbers = true, help_heading = LOAD, value_name = "N", default_value = "50", value_parser = parse_count)]
    pub(crate) connections: u64,
    /// How long to measure, or to hold
    ///
    /// A bare number is seconds; -z and -D mean the same.
    #[arg(short = 'd', short_aliases = ['z', 'D'], long, allow_negative_numbers = true, help_heading = LOAD, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// Load for so long before, out of the figures [default: not at all]
    #[arg(long, help_heading = LOAD, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) warmup: Option<Duration>,
    /// Measure so often: medians, 95 % intervals of the mean
    ///
    /// The runs follow each other on the same connections. Shown are, of each figure, the median over the runs, the 95 %
    /// confidence interval of their (geometric) mean, and each run's own. `compare` wants five: --runs without a number is that.
    #[arg(long, help_heading = LOAD, value_name = "N", num_args = 0..=1, default_value_t = 1, default_missing_value = "5", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) runs: u16,
    /// Bytes in a message [default: 64]
    #[arg(short = 's', long, allow_negative_numbers = true, help_heading = LOAD, value_name = "BYTES", value_parser = parse_size)]
    pub(crate) size: Option<u32>,
    /// Send this, such as 'PING\r\n', instead of messages to be echoed
    ///
    /// Escapes: \r \n \t \0 \\ \xHH
    #[arg(long, help_heading = LOAD, value_name = "TEXT", requires = "expect", conflicts_with = "size", allow_hyphen_values = true)]
    pub(crate) send: Option<String>,
    /// What has to come back, such as '+PONG\r\n'; * is any bytes
    ///
    /// Just that, where * is any bytes up to what follows it, as in 'VERSION *\r\n' (\* is a star).
    #[arg(long, help_heading = LOAD, value_name = "TEXT", requires = "send", allow_hyphen_values = true)]
    pub(crate) expect: Option<String>,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// Up to K requests at once on each connection [default: 1]
    ///
    /// The server has to answer them in their order. Each that is answered is replaced at once, and each has a latency of its
    /// own, from when it was sent.
    #[arg(long, hide = true, help_heading = LOAD, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=i64::from(DEPTH_MAX)))]
    pub(crate) pipeline: Option<u32>,
    /// Reach the servers of http:// targets over this Unix socket
    ///
    /// A path, or @name, as with curl.
    #[arg(long, help_heading = LOAD, value_name = "PATH", value_parser = UnixAddress::new)]
    pub(crate) unix_socket: Option<UnixAddress>,
    /// How long a connect, and a reply, may take
    ///
    /// What takes longer has failed, which is noticed up to a sixteenth of it late. Where a server takes no more connections,
    /// so that as many connects as are under way at once (128 at the most, for each thread) time out one after the other, the
    /// rest is not tried.
    #[arg(long, help_heading = LOAD, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Connects begun per second [default: as fast as they succeed]
    #[arg(long, help_heading = LOAD, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) connect_rate: Option<f64>,
    /// What decides where chance does [default: another one each time]
    ///
    /// Chance decides on the bytes that are sent, and on the moments of arrival. The same seed, connections and threads give
    /// the same load again; the results tell which it was.
    #[arg(long, help_heading = LOAD, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Which part of the load this process generates: shard I of N, from 0
    ///
    /// I is left out where Kubernetes says it (JOB_COMPLETION_INDEX). It takes its part of connections, rates and sources,
    /// which are given for all shards alike, and so is --seed; `merge` adds the results [default: all of it].
    #[arg(long, help_heading = LOAD, value_name = "I/N", default_value_t = Shard::WHOLE, hide_default_value = true)]
    pub(crate) shard: Shard,
    /// When to begin to measure: 2026-11-25T10:00:00Z, or Unix seconds
    ///
    /// By this machine's clock; connections are open and warmed up before. It lines up shards [default: as soon as
    /// connections are open].
    #[arg(long, help_heading = LOAD, value_name = "MOMENT", value_parser = parse_moment)]
    pub(crate) start_at: Option<SystemTime>,
    /// Source addresses, such as 10.0.0.2,10.0.1.0/24
    ///
    /// Each gives some 30,000 connections to each target more [default: the kernel's choice; toward 127.0.0.0/8, beyond half
    /// of its ports, 127.0.0.1 and then others of 127.0.0.0/8].
    #[arg(long, help_heading = THREADS, value_name = "LIST|CIDR")]
    pub(crate) source: Option<SourceList>,
    /// Worker threads
    ///
    /// [default: one per core; half as many when the target is this machine; as many as the descriptor limit demands]
    #[arg(short = 't', long, allow_negative_numbers = true, help_heading = THREADS, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Pin workers to cores: a list as 0,2,4-7, all, or none
    #[arg(long, help_heading = THREADS, value_name = "LIST|all|none", default_value = "none")]
    pub(crate) cores: CoreChoice,
    /// Exit code 3 unless that holds, such as 'p99<2ms,err<0.01%'
    ///
    /// Where there are too few samples to judge one, and none was missed, the exit code is 4: let it run for longer.
    ///
    /// Of several runs each has to meet it. Conditions: any percentile (p95, p99.9), max<1s, err<0.01%, rate>10k. With err, failures count against that and are
    /// not by themselves a failed run. `hold` is judged by its heartbeats, or without them by its verifications, and err
    /// is the part of its connections that failed to open, were lost, or answered wrongly.
    #[arg(long, help_heading = RESULTS, value_name = "CONDITIONS")]
    pub(crate) slo: Option<Slo>,
    /// The server's processes, to be watched on this machine
    ///
    /// With those that they have started; several as A,B. Their processor time, memory, descriptors and threads stand
    /// beside the results. Descriptors of threads with a table of their own are not counted.
    #[arg(long, help_heading = RESULTS, value_name = "PID", value_delimiter = ',')]
    pub(crate) server_pid: Vec<u32>,
    /// As wrk has it; latencies are always shown
    #[arg(long, hide = true)]
    pub(crate) latency: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// A load on a server.
#[derive(Debug, clap::Args)]
pub(crate) struct Aimed {
    /// The server: host:port, http://host/path, ws://host/path, tls://…, unix:/path
    ///
    /// host:port or tcp://host:port, such as `127.0.0.1:1234` or `[::1]:1234`, which has to echo unless --send and --expect
    /// say otherwise; or http://host:port/path, of which GET is asked, without headers of one's own, other methods or
    /// bodies; or unix:/path, unix:@name. Connections are spread evenly over several.
    #[arg(required = true, value_name = "TARGET", value_delimiter = ',')]
    pub(crate) targets: Vec<Target>,
    #[command(flatten)]
    pub(crate) load: Load,
}

/// A load on a server that may be in this process.
#[derive(Debug, clap::Args)]
pub(crate) struct Held {
    /// The server: host:port, http://… or unix:/path [default: one inside]
    ///
    /// One or several: host:port, tcp://host:port, http://host:port/path, ws://host:port/path or unix:/path; without one the server is in
    /// this process.
    #[arg(value_name = "TARGET", value_delimiter = ',')]
    pub(crate) targets: Vec<Target>,
    /// A verified echo on each connection so often [default: silence]
    ///
    /// All of them are spread evenly over that time, and each is timed from the moment at which it was due: one whose
    /// predecessor was still on its way then follows it, and has waited.
    #[arg(long, help_heading = LOAD, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) heartbeat: Option<Duration>,
    #[command(flatten)]
    pub(crate) load: Load,
}

/// An open loop: a load with a rate.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("due").args(["rate", "ramp"]).required(true)))]
pub(crate) struct Open {
    /// Requests due per second, over all connections
    #[arg(short = 'R', long, allow_negative_numbers = true, help_heading = LOAD, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// In place of -R, a rate that changes evenly, such as 1k:50k
    ///
    /// From A to B, while it is measured.
    #[arg(long, help_heading = LOAD, value_name = "A:B", value_parser = parse_ramp, conflicts_with = "rate")]
    pub(crate) ramp: Option<Rate>,
    /// How due moments lie: poisson or constant
    ///
    /// poisson: independent of each other, as those of many people are, so that some come close together; constant: evenly
    /// spaced.
    #[arg(long, help_heading = LOAD, value_enum, default_value_t, hide_possible_values = true)]
    pub(crate) arrival: Arrival,
    #[command(flatten)]
    pub(crate) aimed: Aimed,
}

impl Open {
    /// The stage that it asks for.
    pub(crate) fn stage(&self) -> Stage {
        let rate = self.ramp.or(self.rate.map(Rate::constant)).unwrap_or(Rate::constant(1.0));
        Stage::Open { duration: self.aimed.load.duration, rate, arrival: self.arrival }
    }
}

/// Connections that come and go.
#[derive(Debug, clap::Args)]
pub(crate) struct Comings {
    /// Connections due per second, over all places [default: a closed loop]
    #[arg(short = 'R', long, allow_negative_numbers = true, help_heading = LOAD, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// How due moments lie: poisson or constant
    #[arg(long, help_heading = LOAD, value_enum, default_value_t, hide_possible_values = true)]
    pub(crate) arrival: Arrival,
    /// How connections end: reset, fin or server
    ///
    /// Once their reply is there. reset: by a reset from this side, nothing is left of it on either; fin: by a FIN from this
    /// side, which comes first, so that its source port waits 60 s in TIME_WAIT; server: by the server, whose FIN is waited
    /// for (HTTP servers are asked for it, with `Connection: close`).
    #[arg(long, help_heading = LOAD, value_enum, default_value_t, hide_possible_values = true)]
    pub(crate) close: Close,
    #[command(flatten)]
    pub(crate) aimed: Aimed,
}

impl Comings {
    /// The stage that it asks for.
    pub(crate) fn stage(&self) -> Stage {
        let arrivals = self.rate.map(|rate| (Rate::constant(rate), self.arrival));
        Stage::Churn(Churn { duration: self.aimed.load.duration, arrivals, close: self.close })
    }
}

/// A load to be examined.
#[derive(Debug, clap::Args)]
#[command(mut_arg("pipeline", |it| it.hide(false).help("Of an `rr`: up to K requests at once on each connection")))]
pub(crate) struct Doctor {
    /// Of a `churn`, with --close: connections due per second
    #[arg(short = 'R', long, allow_negative_numbers = true, help_heading = LOAD, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// Of a `churn`: how its connections end: reset, fin or server
    #[arg(long, help_heading = LOAD, value_enum, hide_possible_values = true)]
    pub(crate) close: Option<Close>,
    #[arg(long, hide = true, value_parser = parse_ramp, conflicts_with = "rate")]
    ramp: Option<Rate>,
    #[arg(long, hide = true, value_enum)]
    arrival: Option<Arrival>,
    #[command(flatten)]
    pub(crate) held: Held,
}

impl Doctor {
    /// The connections that come and go, if it is about some.
    pub(crate) fn churn(&self) -> Option<Churn> {
        let arrivals = self.rate.map(|rate| (Rate::constant(rate), Arrival::default()));
        let close = self.close?;
        Some(Churn { duration: self.held.load.duration, arrivals, close })
    }
}

/// A search for a rate: a load, and where to look.
#[derive(Debug, clap::Args)]
#[command(mut_arg("slo", |slo| slo.required(true).help("What has to hold at a rate, such as 'p99<2ms,err<0.01%'")
    .long_help("What has to hold at a rate: any percentile (p95, p99.9), max<1s, err. Without err no request may fail.")))]
#[command(mut_arg("runs", |runs| runs.hide(true)))]
#[command(mut_arg("shard", |shard| shard.hide(true)))]
#[command(mut_arg("start_at", |start_at| start_at.hide(true)))]
#[command(mut_arg("duration", |it| it.default_value("5s").help("How long each trial is measured")
    .long_help("How long each trial is measured; longer where the conditions need more samples.")))]
#[command(mut_arg("warmup", |it| it.help("Run each trial's load for so long before [default: not at all]")
    .long_help("Run each trial's load for so long before it is measured [default: not at all].")))]
#[command(mut_arg("csv", |it| it.help("Write a table to FILE, one line for each trial").long_help("Write a table to FILE, one line \
for each trial.")))]
pub(crate) struct Search {
    /// The lowest rate, tried first [default: 100, or more]
    ///
    /// More, where the conditions ask for percentiles that need more samples.
    #[arg(long, help_heading = LOAD, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) from: Option<f64>,
    /// The highest rate that is tried [default: none]
    #[arg(long, help_heading = LOAD, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) to: Option<f64>,
    /// How many percent failure may lie above the answer
    ///
    /// The search ends when the lowest rate that failed lies no further above the highest that did not.
    #[arg(long, help_heading = LOAD, value_name = "PERCENT", default_value = "5", value_parser = parse_precision)]
    pub(crate) precision: f64,
    /// How due moments lie: poisson or constant
    #[arg(long, help_heading = LOAD, value_enum, default_value_t, hide_possible_values = true)]
    pub(crate) arrival: Arrival,
    #[command(flatten)]
    pub(crate) aimed: Aimed,
}

/// `5` or `0.5%`: more than nothing, and no more than everything.
fn parse_precision(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().ok();
    let percent = percent.filter(|percent| (0.1..=100.0).contains(percent));
    percent.ok_or_else(|| format!("'{text}' is no precision: give percent, 0.1 to 100, such as 5"))
}

/// `1k:50k`: two rates.
fn parse_ramp(text: &str) -> Result<Rate, String> {
    let (from, to) =
        text.split_once(':').ok_or_else(|| format!("'{text}' is no ramp: give two rates, such as 1k:50k"))?;
    Ok(Rate { from_per_s: parse_rate(from)?, to_per_s: parse_rate(to)? })
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.parse::<f64>().ok().filter(|percent| (0.0..=1_000_000.0).contains(percent));
    percent.ok_or_else(|| format!("'{text}' is no percentage, such as 2 or 0.5"))
}

/// The options' groups in the help.
const LOAD: &str = "Load";
const THREADS: &str = "Sources and threads";
const RESULTS: &str = "Results";

/// Where results go.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Output {
    /// Write the results as JSON to FILE, or with - to standard output
    ///
    /// With - instead of the text. One object: what ran (version, command, machine, limits), then `stages`, each with its
    /// connections, requests (due = answered + failed + unfinished), failures by kind and errno, latency percentiles,
    /// processor time; and `connections`: attempted, established, failed and lost in each second. Every number's name ends
    /// in its unit; a percentile with fewer than ten samples beyond it is null. `histogram` beside percentiles holds all
    /// samples, as HdrHistogram's compressed V2 format in base64: add those of several runs, never their percentiles;
    /// `latency_over_time` has one for each interval. When
    /// nothing could be run it has `is_ok` false and the `problem`. A FIFO is waited for until somebody reads it.
    #[arg(long, help_heading = RESULTS, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the latencies' percentiles to FILE, for HdrHistogram
    ///
    /// In its text format and milliseconds: of all runs together; of `hold`, of its echoes, verifications and heartbeats.
    #[arg(long, help_heading = RESULTS, value_name = "FILE")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Write a histogram of each interval to FILE, for HdrHistogram
    ///
    /// In its V2 log format and nanoseconds, tagged with the stage (of several runs closed-1, closed-2 and so on).
    #[arg(long, help_heading = RESULTS, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
    /// Write the run over time to FILE, for spreadsheets
    ///
    /// One line for each quarter of a second (one second, in runs of more than 30 s); the column `run` is the number of the
    /// run. Behind them stands one for each second in which connections were opened, failed, lost or closed.
    #[arg(long, help_heading = RESULTS, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Write a page with pictures to FILE
    ///
    /// Percentiles, latency and throughput over time, the server's processes, settings, verdict; it needs no network, and
    /// can be mailed as it is.
    #[arg(long, help_heading = RESULTS, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Show no progress on standard error
    ///
    /// Neither a live view on a terminal, nor a line a second in a pipe. The latencies shown there are those of the last
    /// second, to 6.25 %.
    #[arg(short = 'q', long, help_heading = RESULTS)]
    pub(crate) quiet: bool,
}

/// On which cores threads are to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CoreChoice {
    /// Wherever the kernel puts them.
    None,
    /// Pinned, one after the other, over all cores.
    All,
    /// Pinned, one after the other, over these cores.
    List(Vec<usize>),
}

impl FromStr for CoreChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<CoreChoice, String> {
        match text {
            "none" => Ok(CoreChoice::None),
            "all" => Ok(CoreChoice::All),
            list => {
                let parts: Option<Vec<Vec<usize>>> = list.split(',').map(core_range).collect();
                let cores =
                    parts.ok_or_else(|| format!("'{list}' is no list of cores: give 0,2,4-7, or all, or none"))?;
                Ok(CoreChoice::List(cores.concat()))
            }
        }
    }
}

/// `3` or `4-7`. Ends are bounded, so that a slip of the finger does not fill the memory.
fn core_range(text: &str) -> Option<Vec<usize>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < 65_536).then(|| (first..=last).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_short_help_has_a_line_for_each_option() {
        for name in ["rr", "open", "churn", "hold", "doctor", "serve", "compare"] {
            let mut command = Args::command().term_width(100);
            command.build();
            let help = command.find_subcommand_mut(name).unwrap().render_help().to_string();
            let options = help.lines().filter(|line| line.trim_start().starts_with('-')).count();
            // An option's second line would begin where its words do, or deeper than its name.
            let more =
                help.lines().filter(|line| line.starts_with("          ") && !line.trim_start().starts_with('-'));
            assert_eq!((options > 2, more.collect::<Vec<_>>()), (true, Vec::<&str>::new()), "{name}: {help}");
        }
    }

    #[test]
    fn what_other_tools_call_it_is_understood() {
        let load = |line: &str| match Args::try_parse_from(line.split(' ')).unwrap().command {
            Some(Command::Rr(Aimed { load, .. })) => (load.threads, load.connections, load.duration.as_secs()),
            _ => panic!("{line}"),
        };
        for line in ["-t2 -c100 -d30s", "-t 2 -c 100 -z 30s", "-D 30 -c 100 -t 2", "-c100 -t2 -d30 --latency"] {
            assert_eq!(load(&format!("loadgen rr http://h/ {line}")), (Some(2), 100, 30), "{line}");
        }
    }

    #[test]
    fn cores_are_all_none_or_a_list() {
        assert_eq!("all".parse(), Ok(CoreChoice::All));
        assert_eq!("none".parse(), Ok(CoreChoice::None));
        assert_eq!("0,2,4-6".parse(), Ok(CoreChoice::List(vec![0, 2, 4, 5, 6])));
        for wrong in ["", "a", "1,", "3-1", "0-99999999999", "-1"] {
            assert!(wrong.parse::<CoreChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_load_without_a_target_or_a_rate_is_refused() {
        let parses = |line: &str| Args::try_parse_from(line.split(' ')).is_ok();
        assert!(parses("loadgen") && parses("loadgen --quiet") && parses("loadgen rr localhost:1"));
        assert!(parses("loadgen rr a:1,b:2 c:3 --source 10.0.0.1,10.0.1.0/24 -c 5") && parses("loadgen hold -c 1M"));
        assert!(
            parses("loadgen doctor h:1 -c 1M -R 20k --arrival constant --heartbeat 5s --html p --slo p99<1s")
                && parses("loadgen serve --connections-max 1M")
        );
        assert!(parses("loadgen open [::1]:1 -R 20k -c 1M -d 500ms -s 8MiB --connect-rate 5k"));
        for wrong in [
            "loadgen rr",
            "loadgen rr -c 9",
            "loadgen open h:1",
            "loadgen rr h:1 -c 0",
            "loadgen --quiet rr h:1",
            "loadgen up",
        ] {
            assert!(!parses(wrong), "{wrong}");
        }
    }
}
