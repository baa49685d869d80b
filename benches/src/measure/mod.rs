//! What is measured, each in a file of its own.

mod broadcast;
mod connect;
mod echo;
mod idle;
mod instructions;
mod messages;
mod shards;
mod tail;
mod timers;

use crate::bench::Bench;
use crate::options::Part;

pub(crate) fn run(bench: &mut Bench, part: Part, descriptors: usize) {
    match part {
        Part::Echo => echo::run(bench, descriptors),
        Part::Idle => idle::run(bench, descriptors),
        Part::Connect => connect::run(bench),
        Part::Tail => tail::run(bench),
        Part::Instructions => instructions::run(bench),
        Part::Shards => shards::run(bench),
        Part::Broadcast => broadcast::run(bench, descriptors),
        Part::Messages => messages::run(bench),
        Part::Timers => timers::run(bench),
    }
}

/// Descriptors that a process needs beside its connections.
const DESCRIPTORS_SPARE: usize = 100;

/// As many as are wanted, or as the limit allows, which is noted then.
fn connections(bench: &mut Bench, what: &str, wanted: usize, descriptors: usize) -> usize {
    let count = wanted.min(descriptors.saturating_sub(DESCRIPTORS_SPARE)).max(1);
    if count < wanted {
        bench
            .notes
            .push(format!("{what}: {count} connections instead of {wanted}, the limit is {descriptors} descriptors"));
    }
    count
}
