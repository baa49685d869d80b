//! One message to all connections: what each of them costs the server, beside a bare loop of send calls.

use super::{DESCRIPTORS_SPARE, connections};
use crate::bench::Bench;
use crate::child::Child;
use crate::client::Client;
use crate::crowd::Crowd;
use crate::failure::Result;
use crate::machine;
use crate::options::ClientCore;
use crate::server::{BROADCAST, BROADCAST_BYTES, Contender, Setting};
use crate::table::{middle, sorted, thousands};

const CONNECTIONS: usize = 10_000;
/// More than one descriptor table may hold here: as many threads as it takes, with a table each.
const CONNECTIONS_MANY: usize = 100_000;
const CONNECTIONS_MANY_QUICK: usize = 20_000;
/// Opening so many takes its time.
const ROUNDS_MANY_MAX: usize = 3;
const MESSAGES: usize = 20;
const MESSAGES_QUICK: usize = 2;
/// Both ends of a connection, in the kernel, and what is under way between them.
const CONNECTION_BYTES: u64 = 16 << 10;

/// Nobody else takes part, so it stands below the table.
pub(super) fn run(bench: &mut Bench, descriptors: usize) {
    let count = connections(bench, "broadcast", CONNECTIONS, descriptors);
    let one = Load { count, tables: 1, room: descriptors };
    compare(bench, one, bench.options.rounds);
    let wanted = if bench.options.quick { CONNECTIONS_MANY_QUICK } else { CONNECTIONS_MANY };
    let count = fitting(bench, wanted);
    let room = descriptors.saturating_sub(DESCRIPTORS_SPARE).max(1);
    // A hash deals connections out to the tables, unevenly.
    let many = Load { count, tables: count.div_ceil(room * 3 / 4 + 1).max(2), room };
    compare(bench, many, bench.options.rounds.min(ROUNDS_MANY_MAX));
}

#[derive(Debug, Clone, Copy)]
struct Load {
    count: usize,
    /// Threads of the server, each with a descriptor table.
    tables: usize,
    /// Connections that one process of clients may have.
    room: usize,
}

/// As many as there is memory for, which is noted where it is less than what is wanted.
fn fitting(bench: &mut Bench, wanted: usize) -> usize {
    let Some(available) = machine::available_bytes() else { return wanted };
    let count = wanted.min((available / CONNECTION_BYTES) as usize).max(1);
    if count < wanted {
        bench.notes.push(format!("broadcast: {count} connections instead of {wanted}, for want of memory"));
    }
    count
}

fn compare(bench: &mut Bench, load: Load, rounds: usize) {
    let mut ratios: [Vec<f64>; 2] = Default::default();
    let mut least = Vec::new();
    for round in 0..rounds {
        eprintln!("        broadcast to {}, round {} of {rounds}", thousands(load.count as f64), round + 1);
        let costs: Result<Vec<f64>> = BROADCAST.iter().map(|contender| sample(bench, contender, load)).collect();
        match costs {
            Ok(costs) => {
                least.push(costs[0]);
                ratios.iter_mut().zip(&costs[1..]).for_each(|(ratios, cost)| ratios.push(cost / costs[0]));
            }
            Err(error) => return bench.notes.push(format!("broadcast: {error}")),
        }
    }
    let least = middle(least) / 1000.0;
    let [again, ours] = ratios.map(sorted);
    let threads = match load.tables {
        1 => String::new(),
        tables => format!(" of {tables} threads with a descriptor table each"),
    };
    bench.notes.push(format!(
        "One message of {BROADCAST_BYTES} B to {} connections{threads} takes a bare loop of send calls {least:.2} µs of processor \
         time for each (median of {rounds} rounds), the same once more {:.2} times that, and esockets {:.2} times \
         ({:.2} to {:.2})",
        thousands(load.count as f64),
        middle(again),
        middle(ours.iter().copied()),
        ours[0],
        ours[rounds - 1],
    ));
}

fn sample(bench: &mut Bench, contender: &Contender, load: Load) -> Result<f64> {
    let messages = if bench.options.quick { MESSAGES_QUICK } else { MESSAGES };
    let setting = Setting { tables: load.tables, ..bench.place(ClientCore::Same, BROADCAST_BYTES)? };
    let child = Child::start(contender, &setting)?;
    let mut client = Client::new(child.address, BROADCAST_BYTES)?;
    let own = if load.tables > 1 { 1 } else { load.count };
    client.open(own, &mut bench.routes)?;
    let mut crowd = Crowd::open(child.address, load.count - own, load.room)?;
    let mut say = |times: usize| {
        (0..times).try_for_each(|_| {
            crowd.listen()?;
            client.cue()?;
            crowd.wait()
        })
    };
    say(messages / 2)?;
    let before = child.cpu_ns()?;
    say(messages)?;
    let used = child.cpu_ns()? - before;
    Ok(used as f64 / (messages * load.count) as f64)
}
