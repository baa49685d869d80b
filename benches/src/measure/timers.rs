//! What arming, re-arming and expiring a timer cost, by how many there are: the wheel of each shard, without its sockets.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::table::{middle, thousands};

/// The library keeps it to itself, so this is its very file once more; it uses no other.
#[allow(dead_code)]
#[path = "../../../src/wheel.rs"]
mod wheel;

use wheel::{Wheel, ticks};

const COUNTS: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// The same work whatever the number, so that all are measured over the same time.
const ARMINGS: u32 = 2_000_000;
const ARMINGS_QUICK: u32 = 200_000;
/// Timers are due within so long, as idle connections' are.
const SPAN: Duration = Duration::from_secs(60);

/// Nanoseconds for each.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Re-arming in the order of the table, as a handler does that goes through its clients.
    in_order: f64,
    /// In no order at all, as clients come.
    at_random: f64,
    expiring: f64,
    /// Re-arming in a sorted map, whose cost does grow.
    sorted: f64,
    /// Nothing but a write at a random place of a table as large as the wheel's: a million of them are in no cache.
    touching: f64,
}

/// Nobody else takes part, so it stands below the table.
pub(super) fn run(bench: &mut Bench) {
    let mut costs = vec![Vec::new(); COUNTS.len()];
    for round in 0..bench.options.rounds {
        eprintln!("        timers, round {} of {}", round + 1, bench.options.rounds);
        let armings = if bench.options.quick { ARMINGS_QUICK } else { ARMINGS };
        costs.iter_mut().zip(COUNTS).for_each(|(costs, count)| costs.push(cost(count, armings)));
    }
    let median = |part: fn(&Cost) -> f64| {
        let each = costs.iter().map(|costs| format!("{:.0}", middle(costs.iter().map(part))));
        each.collect::<Vec<_>>().join(", ")
    };
    let counts: Vec<String> = COUNTS.iter().map(|&count| thousands(f64::from(count))).collect();
    bench.notes.push(format!(
        "With {} timers, re-arming one takes the wheel {} ns in the table's order and {} ns at random, where a write into as \
         large a table takes {} ns and a sorted map {} ns; letting one expire takes {} ns, its part of the ticks in between \
         included",
        counts.join(", "),
        median(|cost| cost.in_order),
        median(|cost| cost.at_random),
        median(|cost| cost.touching),
        median(|cost| cost.sorted),
        median(|cost| cost.expiring),
    ));
}

/// A generator of numbers that look random and are the same every time (xorshift, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn cost(count: u32, armings: u32) -> Cost {
    let (mut dice, span) = (Dice(0x2545_F491_4F6C_DD1D), u64::from(ticks(SPAN)));
    let mut draw = |pick: fn(&mut Dice, u32, u32) -> u32| -> Vec<(u32, u64)> {
        (0..armings).map(|number| (pick(&mut dice, number, count), 1 + dice.below(span))).collect()
    };
    let ordered = draw(|_, number, count| number % count);
    let random = draw(|dice, _, count| dice.below(count.into()) as u32);
    let first: Vec<u64> = (0..count).map(|_| 1 + dice.below(span)).collect();
    let mut wheel = Wheel::new();
    (0..count).zip(&first).for_each(|(id, &due)| wheel.arm(id, due));
    let in_order = each(&ordered, |id, due| wheel.arm(id, due));
    let at_random = each(&random, |id, due| wheel.arm(id, due));
    let mut table = vec![[0u64; 2]; count as usize];
    let touching = each(&random, |id, due| table[id as usize][0] ^= due);
    black_box(table);
    Cost {
        in_order,
        at_random,
        expiring: expire(wheel, count, armings, &mut dice),
        sorted: sort(first, &random),
        touching,
    }
}

fn each(drawn: &[(u32, u64)], mut work: impl FnMut(u32, u64)) -> f64 {
    let begun = Instant::now();
    black_box(drawn).iter().for_each(|&(id, due)| work(id, due));
    begun.elapsed().as_nanos() as f64 / drawn.len() as f64
}

fn sort(mut due_at: Vec<u64>, random: &[(u32, u64)]) -> f64 {
    let mut map: BTreeSet<(u64, u32)> = due_at.iter().copied().zip(0..).collect();
    each(random, |id, due| {
        let old = std::mem::replace(&mut due_at[id as usize], due);
        map.remove(&(old, id));
        map.insert((due, id));
    })
}

/// All of them expire, tick by tick, and are armed again for the next lap, outside of what is measured.
fn expire(mut wheel: Wheel, count: u32, armings: u32, dice: &mut Dice) -> f64 {
    let span = u64::from(ticks(SPAN));
    let (mut expired, mut laps, mut time) = (Vec::new(), 0, Duration::ZERO);
    while laps * count < armings {
        let lap = u64::from(laps) * span;
        let begun = Instant::now();
        (1..=span).for_each(|tick| wheel.expire(lap + tick, &mut expired));
        time += begun.elapsed();
        assert_eq!(expired.len(), count as usize, "each expires, once");
        for id in expired.drain(..) {
            wheel.arm(id, lap + span + 1 + dice.below(span));
        }
        laps += 1;
    }
    time.as_nanos() as f64 / f64::from(laps * count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_timer_expires_once_a_lap() {
        let cost = cost(100, 1_000);
        assert!(cost.at_random > 0.0 && cost.expiring > 0.0);
    }
}
