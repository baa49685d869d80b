//! The latency that few messages exceed, at a fixed rate that does not wait for the server.

use std::time::Duration;

use crate::bench::Bench;
use crate::child::Child;
use crate::failure::Result;
use crate::open_loop::{self, Load, percentile};
use crate::options::ClientCore;
use crate::server::Contender;
use crate::table::{Show, Unit, thousands};

/// A fraction of what the slowest server does on a core, so that queues come from the server and not from the rate.
const RATE: u32 = 20_000;
const CONNECTIONS: usize = 200;
const MESSAGE_BYTES: usize = 64;
/// 16,000 messages: sixteen of them lie beyond the 99.9th percentile.
const TIME: Duration = Duration::from_millis(800);
const TIME_QUICK: Duration = Duration::from_millis(150);
const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

pub(super) fn run(bench: &mut Bench) {
    if bench.cores.len() < 2 {
        bench
            .notes
            .push("tail is left out: the client spins, which takes a core that the server does not need".to_owned());
        return;
    }
    let rows = SHARES.map(|(name, _)| {
        bench.row(format!("open loop, {} a second: {name}", thousands(RATE.into())), Unit::Nanoseconds, Show::Ratio)
    });
    let mut lags = Vec::new();
    let rounds = bench.options.rounds;
    bench.interleave("tail", rounds, rows.to_vec(), |bench, contender| {
        let (samples, lag) = sample(bench, contender)?;
        lags.push(lag);
        Ok(samples)
    });
    lags.sort_unstable();
    let (middle, last) = (percentile(&lags, 0.5) as f64 / 1000.0, percentile(&lags, 1.0) as f64 / 1000.0);
    bench.notes.push(format!(
        "open loop: the client's own part of p99, from due to sent, was {middle:.1} µs in the median run, {last:.1} µs in the worst"
    ));
}

fn sample(bench: &mut Bench, contender: &Contender) -> Result<(Vec<f64>, u64)> {
    let time = if bench.options.quick { TIME_QUICK } else { TIME };
    let setting = bench.place(ClientCore::Other, MESSAGE_BYTES)?;
    let child = Child::start(contender, &setting)?;
    let load = Load { rate: RATE, connections: CONNECTIONS, message_bytes: MESSAGE_BYTES, time };
    let latencies = open_loop::run(child.address, load, &mut bench.routes)?;
    let samples = SHARES.map(|(_, share)| percentile(&latencies.from_due, share) as f64);
    Ok((samples.to_vec(), percentile(&latencies.send_lag, 0.99)))
}
