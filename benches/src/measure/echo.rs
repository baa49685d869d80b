//! Processor time of the server for each echoed message, and how many there are in a second.

use std::time::Duration;

use super::connections;
use crate::bench::Bench;
use crate::child::Child;
use crate::client::Client;
use crate::failure::Result;
use crate::server::Contender;
use crate::table::{Show, Unit, thousands};

/// Connections and bytes of a message.
const CELLS: [(usize, usize); 5] = [(50, 64), (1000, 64), (10_000, 64), (50, 4096), (50, 16_384)];
const WINDOW: Duration = Duration::from_millis(300);
const WINDOW_QUICK: Duration = Duration::from_millis(50);
/// The part of a window that is echoed before it: caches, branch predictors and buffers are warm then.
const WARM_UP: u32 = 5;

pub(super) fn run(bench: &mut Bench, descriptors: usize) {
    for (wanted, bytes) in CELLS {
        let count = connections(bench, "echo", wanted, descriptors);
        let what = format!("{} × {}", thousands(count as f64), size(bytes));
        let rows = vec![
            bench.row(format!("echo, {what}: processor time"), Unit::Nanoseconds, Show::Ratio),
            bench.row(format!("echo, {what}: echoes a second ↑"), Unit::PerSecond, Show::Ratio),
        ];
        let rounds = bench.options.rounds;
        bench.interleave(&format!("echo {what}"), rounds, rows, |bench, contender| {
            sample(bench, contender, count, bytes)
        });
    }
}

fn sample(bench: &mut Bench, contender: &Contender, count: usize, bytes: usize) -> Result<Vec<f64>> {
    let window = if bench.options.quick { WINDOW_QUICK } else { WINDOW };
    let setting = bench.place(bench.options.client_core, bytes)?;
    let child = Child::start(contender, &setting)?;
    let mut client = Client::new(child.address, bytes)?;
    client.open(count, &mut bench.routes)?;
    client.echo_for(window / WARM_UP)?;
    let before = child.cpu_ns()?;
    let stretch = client.echo_for(window)?;
    let used = child.cpu_ns()? - before;
    let echoes = stretch.echoes as f64;
    Ok(vec![used as f64 / echoes, echoes / stretch.elapsed.as_secs_f64()])
}

fn size(bytes: usize) -> String {
    if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes / 1024) }
}
