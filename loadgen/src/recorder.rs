//! What happened: counters, failures by kind, and latency histograms of one worker, which can be merged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::failure::Failure;
use crate::series::Series;
use crate::strange::Strange;
use crate::timeline::Timeline;
use crate::times::Times;

/// How often each way to fail was met.
pub(crate) type Failures = BTreeMap<Failure, u64>;

/// One stage of a run, as one worker (or, merged, all of them) saw it. Nothing here is shared between threads.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    /// Connects that were begun.
    pub(crate) attempted: u64,
    /// Connects that succeeded.
    pub(crate) established: u64,
    /// Connects that failed.
    pub(crate) connect_failures: Failures,
    /// The indices of the destinations that each of these was met at.
    pub(crate) unreached: BTreeMap<Failure, BTreeSet<usize>>,
    /// Sources that a worker tried in place of others, which something else had. Merged: the most of one.
    pub(crate) spares_max: u64,
    /// How often connections that come and go failed toward each destination, by its index.
    pub(crate) failed_at: BTreeMap<usize, u64>,
    /// Connections that ended although no request was on its way.
    pub(crate) losses: Failures,
    /// Connections that were opened again, because the server had closed them in an orderly way.
    pub(crate) reopened: u64,
    /// The most connections that were under way at one moment, of those that come and go. Merged: the sum, of moments that
    /// need not be the same.
    pub(crate) at_once_max: u64,
    /// Connections that were open and are not any more, and not by the server's leave.
    pub(crate) lost: u64,
    /// Requests that were due: in a closed loop those that were sent. Of connections that come and go each is one, from
    /// its connect to its end.
    pub(crate) due: u64,
    /// Requests whose whole reply came back as it had to.
    pub(crate) answered: u64,
    /// Those of them that were answered before the window's end, which is what throughput counts.
    pub(crate) answered_in_window: u64,
    /// Answers in the first, the second and the last third of the window.
    pub(crate) thirds: [u64; 3],
    /// Requests that failed; each took its connection with it, unless its reply was whole.
    pub(crate) request_failures: Failures,
    /// How long the bodies of responses have to be, of each destination by its index; of HTTP.
    pub(crate) body_lens: BTreeMap<usize, u64>,
    /// Requests that were neither answered nor failed when the stage ended.
    pub(crate) unfinished: u64,
    /// Payload handed to the kernel, in bytes.
    pub(crate) bytes_sent: u64,
    /// Payload that came back, in bytes.
    pub(crate) bytes_received: u64,
    /// From the moment a request was due to the end of its reply, or of a connect from its beginning; nanoseconds.
    pub(crate) latency: Times,
    /// From sending a request to the end of its reply; nanoseconds.
    pub(crate) service: Times,
    /// From the moment a request was due to sending it; nanoseconds.
    pub(crate) lag: Times,
    /// Of connections that come and go: from the beginning of a connect to its end, and from sending the request to the
    /// end of its reply; nanoseconds.
    pub(crate) connect: Times,
    pub(crate) exchange: Times,
    /// How long it took to open connections again; nanoseconds. In a closed loop a part of the latency.
    pub(crate) reconnect: Times,
    /// The latencies over time.
    pub(crate) timeline: Timeline,
    /// What became of connections, second by second of the run.
    pub(crate) series: Series,
    /// How long the stage's window was open: its duration, or less if it was broken off. Merged: the longest.
    pub(crate) window_ns: u64,
    /// How long the worker stood still. Merged: the longest, for what stops one usually stops all.
    pub(crate) standstill_ns: u64,
    /// What a server began with that is no echo server, of one connection.
    pub(crate) strange: Option<Strange>,
    /// Processor time of the worker, user and system.
    pub(crate) cpu_time: Duration,
    /// The part of the stage for which it was busy: with processor time, but not with waiting for a request to fall due.
    /// Merged: that of the busiest.
    pub(crate) busy_part: f64,
    /// The part of the stage for which it was ready to run and had no processor. Merged: that of the unluckiest.
    pub(crate) waited_part: f64,
    /// How long all of them together were.
    pub(crate) waited_time: Duration,
    /// Heartbeats that were left out because their connection was just being opened again.
    pub(crate) skipped: u64,
    /// Requests of an open loop that had to wait because all connections were busy.
    pub(crate) starved: u64,
}

impl Recorder {
    /// An empty record that tells apart times up to `latency_ns_max`; longer ones count as that.
    pub(crate) fn new(latency_ns_max: u64) -> Recorder {
        let times = || Times::new(latency_ns_max);
        Recorder {
            attempted: 0,
            established: 0,
            connect_failures: Failures::new(),
            unreached: BTreeMap::new(),
            spares_max: 0,
            failed_at: BTreeMap::new(),
            losses: Failures::new(),
            reopened: 0,
            at_once_max: 0,
            lost: 0,
            due: 0,
            answered: 0,
            answered_in_window: 0,
            thirds: [0; 3],
            request_failures: Failures::new(),
            body_lens: BTreeMap::new(),
            unfinished: 0,
            bytes_sent: 0,
            bytes_received: 0,
            latency: times(),
            service: times(),
            lag: times(),
            reconnect: times(),
            connect: times(),
            exchange: times(),
            timeline: Timeline::new(0),
            series: Series::default(),
            window_ns: 0,
            standstill_ns: 0,
            strange: None,
            cpu_time: Duration::ZERO,
            busy_part: 0.0,
            waited_part: 0.0,
            waited_time: Duration::ZERO,
            skipped: 0,
            starved: 0,
        }
    }

    /// Adds what `other` saw.
    pub(crate) fn merge(&mut self, other: &Recorder) {
        self.attempted += other.attempted;
        self.established += other.established;
        self.reopened += other.reopened;
        self.spares_max = self.spares_max.max(other.spares_max);
        self.at_once_max += other.at_once_max;
        self.lost += other.lost;
        self.due += other.due;
        self.answered += other.answered;
        self.answered_in_window += other.answered_in_window;
        self.thirds = std::array::from_fn(|third| self.thirds[third] + other.thirds[third]);
        self.busy_part = self.busy_part.max(other.busy_part);
        self.waited_part = self.waited_part.max(other.waited_part);
        self.skipped += other.skipped;
        self.starved += other.starved;
        self.unfinished += other.unfinished;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.window_ns = self.window_ns.max(other.window_ns);
        self.standstill_ns = self.standstill_ns.max(other.standstill_ns);
        if self.strange.is_none() {
            self.strange.clone_from(&other.strange);
        }
        self.cpu_time += other.cpu_time;
        self.waited_time += other.waited_time;
        merge_failures(&mut self.connect_failures, &other.connect_failures);
        for (failure, destinations) in &other.unreached {
            self.unreached.entry(*failure).or_default().extend(destinations);
        }
        for (destination, count) in &other.failed_at {
            *self.failed_at.entry(*destination).or_default() += count;
        }
        self.body_lens.extend(&other.body_lens);
        merge_failures(&mut self.losses, &other.losses);
        merge_failures(&mut self.request_failures, &other.request_failures);
        self.latency.merge(&other.latency);
        self.service.merge(&other.service);
        self.lag.merge(&other.lag);
        self.reconnect.merge(&other.reconnect);
        self.connect.merge(&other.connect);
        self.exchange.merge(&other.exchange);
        self.timeline.merge(&other.timeline);
        self.series.merge(&other.series);
    }

    /// Failures of all sorts.
    pub(crate) fn failed(&self) -> u64 {
        total(&self.connect_failures) + total(&self.losses) + total(&self.request_failures)
    }

    /// Requests that have no time because they were never answered; where it was broken off, without those that were under
    /// way, which need not have been slow.
    pub(crate) fn missing(&self, is_broken_off: bool) -> u64 {
        total(&self.request_failures) + if is_broken_off { 0 } else { self.unfinished }
    }

    /// Answers per second of the window.
    pub(crate) fn answered_per_s(&self) -> f64 {
        if self.window_ns == 0 { 0.0 } else { self.answered_in_window as f64 * 1e9 / self.window_ns as f64 }
    }

    /// Whether every request is accounted for: due = answered + failed + unfinished.
    pub(crate) fn is_conserved(&self) -> bool {
        self.due == self.answered + total(&self.request_failures) + self.unfinished
    }
}

/// Counts one more of `failure`.
pub(crate) fn note(failures: &mut Failures, failure: Failure) {
    *failures.entry(failure).or_default() += 1;
}

/// The sum over all kinds.
pub(crate) fn total(failures: &Failures) -> u64 {
    failures.values().sum()
}

/// Adds `theirs` to `mine`, kind by kind.
pub(crate) fn merge_failures(mine: &mut Failures, theirs: &Failures) {
    for (failure, count) in theirs {
        *mine.entry(*failure).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Act, Kind};

    const MINUTE: u64 = 60_000_000_000;

    #[test]
    fn merged_percentiles_are_those_of_all_samples_together() {
        let (mut fast, mut slow) = (Recorder::new(MINUTE), Recorder::new(MINUTE));
        fast.latency.record_n(1_000, 99);
        slow.latency.record(1_000_000);
        fast.merge(&slow);
        assert_eq!(fast.latency.len(), 100);
        assert_eq!(fast.latency.at_quantile(0.99) / 100, 10, "not the mean of the two workers' p99");
        assert!(fast.latency.max() >= 1_000_000);
    }

    #[test]
    fn merging_adds_failures_kind_by_kind() {
        let (reset, late) = (Failure::new(Act::Reply, Kind::Reset), Failure::new(Act::Reply, Kind::TimedOut));
        let (mut one, mut two) = (Recorder::new(MINUTE), Recorder::new(MINUTE));
        note(&mut one.request_failures, reset);
        note(&mut two.request_failures, reset);
        note(&mut two.request_failures, late);
        note(&mut two.losses, reset);
        one.merge(&two);
        assert_eq!(one.request_failures, Failures::from([(reset, 2), (late, 1)]));
        assert_eq!(one.failed(), 4);
    }

    #[test]
    fn a_request_that_is_nowhere_is_noticed() {
        let mut recorder = Recorder::new(MINUTE);
        (recorder.due, recorder.answered, recorder.unfinished) = (3, 1, 1);
        assert!(!recorder.is_conserved());
        note(&mut recorder.request_failures, Failure::new(Act::Send, Kind::Reset));
        assert!(recorder.is_conserved());
    }

    #[test]
    fn throughput_counts_only_the_window() {
        let mut recorder = Recorder::new(MINUTE);
        assert_eq!(recorder.answered_per_s(), 0.0);
        (recorder.answered, recorder.answered_in_window, recorder.window_ns) = (1_200, 1_000, 500_000_000);
        assert_eq!(recorder.answered_per_s(), 2_000.0);
    }
}
