//! Connections that come and go: connect, one echo, close; how many in a second, and what each costs the server.

use std::thread;
use std::time::Duration;

use crate::bench::Bench;
use crate::child::Child;
use crate::client::Client;
use crate::failure::Result;
use crate::server::Contender;
use crate::table::{Show, Unit};

const WINDOW: Duration = Duration::from_millis(300);
const WINDOW_QUICK: Duration = Duration::from_millis(50);
const WARM_UP: u32 = 5;
/// Under way at a time: below the smallest backlog.
const OPEN: usize = 64;
const MESSAGE_BYTES: usize = 64;
/// The server is still closing when the client is through.
const SETTLE: Duration = Duration::from_millis(20);

pub(super) fn run(bench: &mut Bench) {
    let rows = vec![
        bench.row("connect, echo, close: processor time", Unit::Nanoseconds, Show::Ratio),
        bench.row("connect, echo, close: connections a second ↑", Unit::PerSecond, Show::Ratio),
    ];
    let rounds = bench.options.rounds;
    bench.interleave("connect", rounds, rows, sample);
}

fn sample(bench: &mut Bench, contender: &Contender) -> Result<Vec<f64>> {
    let window = if bench.options.quick { WINDOW_QUICK } else { WINDOW };
    let setting = bench.place(bench.options.client_core, MESSAGE_BYTES)?;
    let child = Child::start(contender, &setting)?;
    let mut client = Client::new(child.address, MESSAGE_BYTES)?;
    client.connect_for(window / WARM_UP, OPEN, &mut bench.routes)?;
    thread::sleep(SETTLE);
    let before = child.cpu_ns()?;
    let stretch = client.connect_for(window, OPEN, &mut bench.routes)?;
    thread::sleep(SETTLE);
    let used = child.cpu_ns()? - before;
    let echoes = stretch.echoes as f64;
    Ok(vec![used as f64 / echoes, echoes / stretch.elapsed.as_secs_f64()])
}
