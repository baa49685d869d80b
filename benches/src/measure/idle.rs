//! Resident memory of the server for each connection that has echoed once and is silent.

use super::connections;
use crate::bench::Bench;
use crate::child::Child;
use crate::client::Client;
use crate::failure::Result;
use crate::options::ClientCore;
use crate::server::Contender;
use crate::table::{Show, Unit, thousands};

const CONNECTIONS: usize = 15_000;
const CONNECTIONS_QUICK: usize = 5_000;
/// It hardly varies, and opening so many takes its time.
const ROUNDS_MAX: usize = 3;
const MESSAGE_BYTES: usize = 64;

pub(super) fn run(bench: &mut Bench, descriptors: usize) {
    let wanted = if bench.options.quick { CONNECTIONS_QUICK } else { CONNECTIONS };
    let count = connections(bench, "idle", wanted, descriptors);
    let label = format!("idle, {}: resident memory per connection", thousands(count as f64));
    let rows = vec![bench.row(label, Unit::Bytes, Show::Figure)];
    let rounds = bench.options.rounds.min(ROUNDS_MAX);
    bench.interleave("idle", rounds, rows, |bench, contender| sample(bench, contender, count));
}

/// The first connection is not counted: what the server needs for having any at all, its buffers, is there before.
fn sample(bench: &mut Bench, contender: &Contender, count: usize) -> Result<Vec<f64>> {
    let setting = bench.place(ClientCore::Same, MESSAGE_BYTES)?;
    let child = Child::start(contender, &setting)?;
    let mut client = Client::new(child.address, MESSAGE_BYTES)?;
    client.open(1, &mut bench.routes)?;
    let before = child.resident_bytes()?;
    client.open(count, &mut bench.routes)?;
    let after = child.resident_bytes()?;
    Ok(vec![after.saturating_sub(before) as f64 / (count - 1).max(1) as f64])
}
