//! One message to all connections: what each of them costs the server, beside a bare loop of send calls.

use super::connections;
use crate::bench::Bench;
use crate::child::Child;
use crate::client::Client;
use crate::failure::Result;
use crate::options::ClientCore;
use crate::server::{BROADCAST, BROADCAST_BYTES, Contender};
use crate::table::thousands;

const CONNECTIONS: usize = 10_000;
const MESSAGES: usize = 20;
const MESSAGES_QUICK: usize = 2;

/// Nobody else takes part, so it stands below the table.
pub(super) fn run(bench: &mut Bench, descriptors: usize) {
    let count = connections(bench, "broadcast", CONNECTIONS, descriptors);
    let mut ratios: [Vec<f64>; 2] = Default::default();
    let mut least = Vec::new();
    for round in 0..bench.options.rounds {
        eprintln!("        broadcast, round {} of {}", round + 1, bench.options.rounds);
        let costs: Result<Vec<f64>> = BROADCAST.iter().map(|contender| sample(bench, contender, count)).collect();
        match costs {
            Ok(costs) => {
                least.push(costs[0]);
                ratios.iter_mut().zip(&costs[1..]).for_each(|(ratios, cost)| ratios.push(cost / costs[0]));
            }
            Err(error) => return bench.notes.push(format!("broadcast: {error}")),
        }
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let rounds = least.len();
    let least = median(&mut least) / 1000.0;
    let [again, ours] = ratios.each_mut().map(median);
    bench.notes.push(format!(
        "One message of {BROADCAST_BYTES} B to {} connections takes a bare loop of send calls {least:.2} µs of processor time for \
         each (median of {rounds} rounds), the same once more {again:.2} times that, and esockets {ours:.2} times ({:.2} to {:.2})",
        thousands(count as f64),
        ratios[1][0],
        ratios[1][rounds - 1],
    ));
}

fn sample(bench: &mut Bench, contender: &Contender, count: usize) -> Result<f64> {
    let messages = if bench.options.quick { MESSAGES_QUICK } else { MESSAGES };
    let setting = bench.place(ClientCore::Same, BROADCAST_BYTES)?;
    let child = Child::start(contender, &setting)?;
    let mut client = Client::new(child.address, BROADCAST_BYTES)?;
    client.open(count, &mut bench.routes)?;
    client.cue_times(messages / 2)?;
    let before = child.cpu_ns()?;
    client.cue_times(messages)?;
    let used = child.cpu_ns()? - before;
    Ok(used as f64 / (messages * count) as f64)
}
