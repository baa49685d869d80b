//! What a second shard on a second core brings, where each message is so much work that the client hardly takes any of it.

use std::time::Duration;

use crate::bench::Bench;
use crate::child::Child;
use crate::client::Client;
use crate::failure::Result;
use crate::options::ClientCore;
use crate::server::{Contender, SHARDS};
use crate::table::{middle, sorted};

const CONNECTIONS: usize = 200;
const WINDOW: Duration = Duration::from_millis(500);

/// It is a ratio of two of our own, so it stands below the table.
pub(super) fn run(bench: &mut Bench) {
    if bench.cores.len() < 2 {
        return bench.notes.push("two shards: left out, there is one core".to_owned());
    }
    let mut ratios = Vec::new();
    for round in 0..bench.options.rounds {
        eprintln!("        two shards, round {} of {}", round + 1, bench.options.rounds);
        let rates: Result<Vec<f64>> = SHARDS.iter().map(|contender| sample(bench, contender)).collect();
        match rates {
            Ok(rates) => ratios.push(rates[1] / rates[0]),
            Err(error) => return bench.notes.push(format!("two shards: {error}")),
        }
    }
    let ratios = sorted(ratios);
    let (least, median, most) = (ratios[0], middle(ratios.iter().copied()), ratios[ratios.len() - 1]);
    bench.notes.push(format!(
        "Two shards on two cores answer {median:.2} times as many messages as one on one ({least:.2} to {most:.2}, {} rounds), \
         where each message is some 50 µs of work and the client shares a core with one of them",
        ratios.len()
    ));
}

fn sample(bench: &mut Bench, contender: &Contender) -> Result<f64> {
    let setting = bench.place(ClientCore::Same, 64)?;
    let child = Child::start(contender, &setting)?;
    let mut client = Client::new(child.address, 64)?;
    client.open(CONNECTIONS, &mut bench.routes)?;
    client.echo_for(WINDOW / 5)?;
    let stretch = client.echo_for(WINDOW)?;
    Ok(stretch.echoes as f64 / stretch.elapsed.as_secs_f64())
}
