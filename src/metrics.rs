//! What a server has counted, as the text that Prometheus and others fetch (OpenMetrics 1.0).

use std::fmt::{self, Write};
use std::time::Duration;

use crate::histogram::Histogram;
use crate::reason::{CloseReason, Refusal};
use crate::stats::{ShardStats, Stats};

/// The metrics of one server or of several, as text: `to_string` or `write!` makes it. Made by [`Stats::metrics`], or, for
/// several servers, like this:
///
/// ```
/// # use esockets::{Metrics, Server};
/// # let start = || Server::builder().port(0).shards(1).handle_readable(|client| !client.recv().is_empty()).start();
/// # let (public, inner) = (start()?, start()?);
/// let (public, inner) = (public.stats(), inner.stats());
/// let text = Metrics::default().server("public", &public).server("inner", &inner).to_string();
/// assert!(text.contains("esockets_connections_open{server=\"public\",shard=\"0\"} 0\n"));
/// # Ok::<(), esockets::Error>(())
/// ```
///
/// Each line is about one shard, by the label `shard`; what there is in all is for the query to say:
/// `sum(rate(esockets_connections_accepted_total[1m]))`. Names end in their unit, which is always the base unit, and those of
/// counters in `_total`. Counters begin at zero when the server starts.
///
/// Costs, for each shard, some 30 lines, and 60 more with [`histograms`](crate::Builder::histograms).
#[derive(Debug, Clone, Default)]
pub struct Metrics<'a> {
    servers: Vec<(Option<&'a str>, &'a Stats)>,
}

impl Stats {
    /// The same as text for Prometheus, for a program with one server.
    #[must_use]
    pub fn metrics(&self) -> Metrics<'_> {
        Metrics { servers: vec![(None, self)] }
    }
}

impl<'a> Metrics<'a> {
    /// What the HTTP header Content-Type says of the text.
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// One server more, with this value of the label `server`, which must be its own.
    #[must_use]
    pub fn server(mut self, name: &'a str, stats: &'a Stats) -> Metrics<'a> {
        self.servers.push((Some(name), stats));
        self
    }

    /// Each shard of each server, with its labels.
    fn shards(&self) -> impl Iterator<Item = (Labels<'a>, &'a ShardStats)> {
        self.servers.iter().flat_map(|&(server, stats)| {
            let shards = stats.shards.iter().enumerate();
            shards.map(move |(shard, counted)| (Labels { server, shard }, counted))
        })
    }

    fn histogram(&self, f: &mut fmt::Formatter<'_>, family: &HistogramFamily) -> fmt::Result {
        let (name, help, time) = family;
        if self.shards().all(|(_, counted)| time(counted).is_none()) {
            return Ok(());
        }
        head(f, name, "histogram", "seconds", help)?;
        for (labels, counted) in self.shards() {
            let Some(time) = time(counted) else { continue };
            for power in SHORTEST_POWER..=LONGEST_POWER {
                let limit = Duration::from_nanos(1 << power);
                let (bound, count) = (limit.as_secs_f64(), time.count_within(limit));
                writeln!(f, "{name}_bucket{{{labels},le=\"{bound:?}\"}} {count}")?;
            }
            let (count, sum) = (time.count(), time.sum().as_secs_f64());
            writeln!(f, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
            writeln!(f, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}")?;
        }
        Ok(())
    }
}

/// Bounds of the buckets that are told, from 256 ns to 17 s, each twice the one before: bounds of the histogram's own, so that
/// their counts are exact.
const SHORTEST_POWER: u32 = 8;
const LONGEST_POWER: u32 = 34;

type NumberFamily = (&'static str, &'static str, &'static str, fn(&ShardStats) -> u64);
type HistogramFamily = (&'static str, &'static str, fn(&ShardStats) -> Option<&Histogram>);

/// Name, unit, help, value.
const GAUGES: [NumberFamily; 2] = [
    ("esockets_connections_open", "", "Connections that are open now.", ShardStats::open),
    ("esockets_output_waiting_bytes", "bytes", "Output that waits for peers to take it.", |s| s.output_waiting),
];

/// Name without `_total`, unit, help, value.
const COUNTERS: [NumberFamily; 12] = [
    ("esockets_connections_accepted", "", "Connections taken from the kernel, refused ones included.", |s| s.accepted),
    ("esockets_connections_called", "", "Connections begun from here, failed attempts included.", |s| s.connects),
    ("esockets_received_bytes", "bytes", "Bytes received from peers.", |s| s.bytes_in),
    ("esockets_sent_bytes", "bytes", "Bytes that the kernel took for sending.", |s| s.bytes_out),
    ("esockets_reads", "", "Calls of recv(2).", |s| s.reads),
    ("esockets_writes", "", "Calls of send(2).", |s| s.writes),
    ("esockets_turns", "", "Turns of the loop: calls of epoll_wait(2) and what they led to.", |s| s.turns),
    ("esockets_messages_refused", "", "Messages that were not taken for want of room.", |s| s.refused_messages),
    ("esockets_accept_pauses", "", "Pauses of accepting, without descriptors or memory.", |s| s.accept_pauses),
    ("esockets_handler_panics", "", "Panics caught in the handler's functions.", |s| s.panics),
    ("esockets_shard_deaths", "", "Deaths of the shard's loop.", |s| s.deaths),
    ("esockets_shard_stalls", "", "Times that the watchdog found the shard held up.", |s| s.stalls),
];

const HISTOGRAMS: [HistogramFamily; 2] = [
    ("esockets_turn_duration_seconds", "How long turns of the loop took.", |s| s.turn_time.as_ref()),
    ("esockets_handler_duration_seconds", "How long calls of the handler took.", |s| s.handler_time.as_ref()),
];

impl fmt::Display for Metrics<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, unit, help, value) in GAUGES {
            head(f, name, "gauge", unit, help)?;
            for (labels, counted) in self.shards() {
                writeln!(f, "{name}{{{labels}}} {}", value(counted))?;
            }
        }
        let name = "esockets_connections_closed";
        head(f, name, "counter", "", "Connections that are over, by the reason why.")?;
        for (labels, counted) in self.shards() {
            for reason in CloseReason::ALL {
                let count = counted.closed(reason);
                writeln!(f, "{name}_total{{{labels},reason=\"{}\"}} {count}", reason.name())?;
            }
        }
        let name = "esockets_connections_refused";
        head(f, name, "counter", "", "Connections that a limit kept out, by the limit.")?;
        for (labels, counted) in self.shards() {
            for by in Refusal::ALL {
                writeln!(f, "{name}_total{{{labels},limit=\"{}\"}} {}", by.name(), counted.turned_away(by))?;
            }
        }
        for (name, unit, help, value) in COUNTERS {
            head(f, name, "counter", unit, help)?;
            for (labels, counted) in self.shards() {
                writeln!(f, "{name}_total{{{labels}}} {}", value(counted))?;
            }
        }
        HISTOGRAMS.iter().try_for_each(|family| self.histogram(f, family))?;
        f.write_str("# EOF\n")
    }
}

fn head(f: &mut fmt::Formatter<'_>, name: &str, kind: &str, unit: &str, help: &str) -> fmt::Result {
    writeln!(f, "# TYPE {name} {kind}")?;
    if !unit.is_empty() {
        writeln!(f, "# UNIT {name} {unit}")?;
    }
    writeln!(f, "# HELP {name} {help}")
}

/// What tells one shard's lines from those of the others.
#[derive(Clone, Copy)]
struct Labels<'a> {
    server: Option<&'a str>,
    shard: usize,
}

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = self.server {
            f.write_str("server=\"")?;
            for letter in server.chars() {
                match letter {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    letter => f.write_char(letter)?,
                }
            }
            f.write_str("\",")?;
        }
        write!(f, "shard=\"{}\"", self.shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Counters, SharedCounters};
    use std::collections::BTreeSet;
    use std::process::{Command, Stdio};

    /// All counters of one shard, each with another value.
    fn counted() -> Stats {
        let counters = Counters::shared(true);
        let mut value = 100;
        let mut times = |count: fn(&Counters)| {
            value += 1;
            (0..value).for_each(|_| count(&counters));
        };
        times(Counters::accepted);
        times(Counters::called);
        times(|counters| counters.read(3));
        times(|counters| counters.wrote(5));
        times(Counters::turned);
        times(Counters::stalled);
        times(Counters::accept_paused);
        times(Counters::panicked);
        times(Counters::died);
        times(|counters| counters.refused_messages(1));
        for (index, by) in Refusal::ALL.into_iter().enumerate() {
            (0..70 + index).for_each(|_| counters.turned_away(by));
        }
        counters.output_waits(9_999);
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| counters.closed(reason));
        }
        let timings = counters.timings().unwrap();
        (1..=2000).for_each(|us| timings.turns.record(Duration::from_micros(us)));
        (1..=3000).for_each(|us| timings.calls.record(Duration::from_micros(us)));
        Stats::collect([&counters, &SharedCounters::default()].into_iter())
    }

    #[test]
    fn every_number_that_a_shard_has_counted_is_told() {
        let stats = counted();
        let text = stats.metrics().to_string();
        let told: BTreeSet<&str> =
            text.lines().filter_map(|line| line.rsplit_once("} ")).map(|(_, told)| told).collect();
        // Whatever is added to the counters is in there, too.
        let debug = format!("{:?}", stats.shards[0]);
        let fields: Vec<&str> = debug
            .split(['{', ',', '[', ']'])
            .map(|part| part.rsplit(' ').find(|s| !s.is_empty()).unwrap_or(""))
            .collect();
        let numbers: BTreeSet<&str> = fields.into_iter().filter(|part| part.parse::<u64>().is_ok()).collect();
        assert!(numbers.len() >= 11 + CloseReason::ALL.len() - 2, "{debug}: {numbers:?}");
        assert!(!numbers.contains("0"), "each is to be counted above, too: {debug}");
        assert!(numbers.is_subset(&told), "{:?} are not told", numbers.difference(&told));
    }

    #[test]
    fn names_lines_and_labels_are_those_that_prometheus_expects() {
        let stats = counted();
        let text = Metrics::default().server("a\"b\\c\nd", &stats).to_string();
        for line in [
            "# TYPE esockets_connections_accepted counter",
            "# UNIT esockets_received_bytes bytes",
            r#"esockets_connections_accepted_total{server="a\"b\\c\nd",shard="0"} 101"#,
            r#"esockets_received_bytes_total{server="a\"b\\c\nd",shard="0"} 309"#,
            r#"esockets_connections_closed_total{server="a\"b\\c\nd",shard="0",reason="peer_closed"} 2"#,
            r#"esockets_turn_duration_seconds_bucket{server="a\"b\\c\nd",shard="0",le="0.001048576"} 1048"#,
            r#"esockets_turn_duration_seconds_bucket{server="a\"b\\c\nd",shard="0",le="+Inf"} 2000"#,
            r#"esockets_turn_duration_seconds_sum{server="a\"b\\c\nd",shard="0"} 2.001"#,
            r#"esockets_handler_duration_seconds_count{server="a\"b\\c\nd",shard="0"} 3000"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
        assert!(!SharedCounters::default().snapshot().to_string().contains("handler"));
        let untimed = Stats::collect([&SharedCounters::default()].into_iter()).metrics().to_string();
        assert!(!untimed.contains("duration"), "what was not measured is not told as zero");
    }

    /// Prometheus's own parser of the format, from its library for Python.
    #[test]
    fn the_parser_of_prometheus_understands_it() {
        use std::io::Write as _;
        let script = "
import sys
try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
except ImportError:
    sys.exit(77)
families = list(parse(sys.stdin.read()))
print(len(families), sum(len(family.samples) for family in families))
";
        let python = Command::new("python3").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut python) = python else { return println!("skipped: python3 is not there") };
        let (one, two) = (counted(), counted());
        let text = Metrics::default().server("a\"b\\c\nd", &one).server("other", &two).to_string();
        // If it has ended already, its status says why.
        let _ = python.stdin.take().unwrap().write_all(text.as_bytes());
        let output = python.wait_with_output().unwrap();
        if output.status.code() == Some(77) {
            return println!("skipped: python3 has no prometheus_client");
        }
        assert!(output.status.success(), "{}", output.status);
        let samples = text.lines().filter(|line| !line.starts_with('#')).count();
        let families = text.lines().filter(|line| line.starts_with("# TYPE")).count();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("{families} {samples}"));
    }
}
