//! The demonstration: an echo server in this process, as many connections as suit the machine, a closed and an open loop.

use std::time::Duration;

use crate::args::{CoreChoice, Load, Output};
use crate::echo;
use crate::load;
use crate::machine::Machine;
use crate::output::{Outlet, RUN};
use crate::plan::Plan;
use crate::preflight;
use crate::problem::Problem;
use crate::report::paragraph::paragraph;
use crate::report::{Ending, Exit, Report};
use crate::run::Run;
use crate::schedule::{Arrival, Rate};
use crate::shard::Shard;
use crate::signals::Signals;
use crate::stage::Stage;
use crate::terminal::report_columns;

/// Runs the demonstration and writes what it found. Returns how it went.
///
/// # Errors
/// What stood in the way of it.
pub(crate) fn run(output: &Output) -> Result<Exit, Problem> {
    let signals = Signals::catch().map_err(Problem::Signals)?;
    let machine = Machine::prepare();
    let mut outlet = Outlet::open(output, RUN, &signals)?;
    let plan = plan(&machine, output)?;
    preflight::check(&plan, &machine)?;
    let (server, plan) = echo::start_inside(plan)?;
    let mut run = Run::start(plan, machine, &signals, output.quiet)?;
    run.stage(Stage::Connect)?;
    let closed = run.stage(Stage::Closed { duration: LOOP_TIME })?;
    if let Some(reached_per_s) = closed.map(|recorder| recorder.answered_per_s()) {
        let rate = Rate::constant(comfortable(reached_per_s));
        run.stage(Stage::Open { duration: LOOP_TIME, rate, arrival: Arrival::Poisson })?;
    }
    let mut report = run.finish();
    report.server = Some(echo::stop_inside(server)?);
    outlet.write(&report, &closing(&report))?;
    // It shows what there is to see. That both sides share a machine, and are in each other's way, is no mistake of whoever
    // tries it.
    Ok(if report.is_ok() { Exit::Ok } else { Exit::Failed })
}

fn plan(machine: &Machine, output: &Output) -> Result<Plan, Problem> {
    let load = Load {
        trust: Default::default(),
        connections: preflight::suitable(machine, CONNECTIONS_MAX),
        duration: LOOP_TIME,
        size: Some(64),
        send: None,
        expect: None,
        pipeline: None,
        unix_socket: None,
        timeout: Duration::from_secs(5),
        connect_rate: None,
        seed: None,
        shard: Shard::WHOLE,
        start_at: None,
        warmup: None,
        runs: 1,
        slo: None,
        source: None,
        threads: None,
        cores: CoreChoice::None,
        server_pid: Vec::new(),
        latency: false,
        output: output.clone(),
    };
    load::plan(&[], &load, None, machine)
}

/// A quarter of what the closed loop reached, in round numbers: a rate at which a server that is well answers at once, and
/// so does a generator that shares its cores.
fn comfortable(reached_per_s: f64) -> f64 {
    let part = (reached_per_s / 4.0).clamp(1.0, RATE_MAX);
    let unit = 10f64.powf(part.log10().floor() - 1.0);
    ((part / unit).floor() * unit).max(1.0)
}

/// What the figures mean, and what to try next.
fn closing(report: &Report) -> String {
    if report.ending != Ending::Complete {
        return String::new();
    }
    let rate = report.stages.iter().find_map(|result| match result.stage {
        Stage::Open { rate, .. } => Some(rate.mean_per_s() as u64),
        _ => None,
    });
    let half = rate.unwrap_or(1000) / 2;
    let sums = report.plan.layout.sums(report.plan.connections, report.machine.descriptors_max).join("; ");
    let number =
        format!("Both ends of each connection are in this process, with {sums}. A million: `loadgen hold -c 1M`");
    let suspicion = "Where the verdict is SUSPECT, that is because both sides share this machine's cores. For figures of a \
                     server, run it and loadgen on cores, or machines, of their own.";
    let explanation = "The closed loop shows what the server can do when every client waits for it: its latency is mostly \
                       the others' turn. The open loop shows how it answers at a rate that it can bear.";
    format!(
        "\n{}{}{}\nTry next:\n  \
         loadgen serve --listen 127.0.0.1:1234             in one terminal, and in another one:\n  \
         loadgen open 127.0.0.1:1234 -c 1k -R {half:<12} half of this rate\n  \
         loadgen hold 127.0.0.1:1234 -c 10k -d 1m          idle connections\n  \
         loadgen rr HOST:PORT -c 100                       any server of yours that echoes; or http://HOST/\n  \
         loadgen --help\n",
        paragraph("Note:", &number, report_columns()),
        paragraph("Note:", explanation, report_columns()),
        paragraph("Note:", suspicion, report_columns())
    )
}

/// How long each of the two loops is measured.
const LOOP_TIME: Duration = Duration::from_secs(7);

/// More would show nothing that these do not, and would take longer to open.
const CONNECTIONS_MAX: u64 = 10_000;

/// Requests a second beyond which the generator, not the server, would be what is shown.
const RATE_MAX: f64 = 200_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comfortable_rate_is_at_most_a_quarter_and_has_two_digits() {
        assert_eq!(comfortable(257_000.0), 64_000.0);
        assert_eq!(comfortable(1_999.0), 490.0);
        assert_eq!(comfortable(30.0), 7.5);
        assert_eq!(comfortable(0.0), 1.0);
        assert_eq!(comfortable(9e9), 200_000.0);
    }
}
