//! The demonstration: an echo server in this process, as many connections as suit the machine, a closed and an open loop.

use std::time::Duration;

use crate::args::{CoreChoice, Load, Output};
use crate::echo;
use crate::load;
use crate::machine::Machine;
use crate::output::Outlet;
use crate::plan::Plan;
use crate::preflight;
use crate::problem::Problem;
use crate::report::paragraph::paragraph;
use crate::report::{Ending, Report};
use crate::run::Run;
use crate::signals::Signals;
use crate::stage::Stage;
use crate::terminal::report_columns;

/// Runs the demonstration and writes what it found. Returns whether all was well.
///
/// # Errors
/// What stood in the way of it.
pub(crate) fn run(output: &Output) -> Result<bool, Problem> {
    let signals = Signals::catch().map_err(Problem::Signals)?;
    let machine = Machine::prepare();
    let mut outlet = Outlet::open(output, &signals)?;
    let plan = plan(&machine, output)?;
    preflight::check(&plan, &machine)?;
    let (server, plan) = echo::start_inside(plan)?;
    let mut run = Run::start(plan, machine, &signals, output.quiet)?;
    run.stage(Stage::Connect)?;
    let closed = run.stage(Stage::Closed { duration: LOOP_TIME })?;
    if let Some(reached_per_s) = closed.map(|recorder| recorder.answered_per_s()) {
        run.stage(Stage::Open { duration: LOOP_TIME, rate_per_s: comfortable(reached_per_s) })?;
    }
    let mut report = run.finish();
    report.server = Some(echo::stop_inside(server)?);
    outlet.write(&report, &closing(&report))?;
    Ok(report.is_ok())
}

fn plan(machine: &Machine, output: &Output) -> Result<Plan, Problem> {
    let load = Load {
        connections: preflight::suitable(machine, CONNECTIONS_MAX),
        duration: LOOP_TIME,
        size: 64,
        timeout: Duration::from_secs(5),
        connect_rate: None,
        source: None,
        threads: None,
        cores: CoreChoice::None,
        server_pid: Vec::new(),
        output: output.clone(),
    };
    load::plan(&[], &load, machine)
}

/// Half of what the closed loop reached, in round numbers: a rate at which a server that is well answers at once.
fn comfortable(reached_per_s: f64) -> f64 {
    let half = (reached_per_s / 2.0).clamp(1.0, RATE_MAX);
    let unit = 10f64.powf(half.log10().floor() - 1.0);
    ((half / unit).floor() * unit).max(1.0)
}

/// What the figures mean, and what to try next.
fn closing(report: &Report) -> String {
    if report.ending != Ending::Complete {
        return String::new();
    }
    let rate = report.stages.iter().find_map(|result| match result.stage {
        Stage::Open { rate_per_s, .. } => Some(rate_per_s as u64),
        _ => None,
    });
    let half = rate.unwrap_or(1000) / 2;
    let sums = report.plan.layout.sums(report.plan.connections, report.machine.descriptors_max).join("; ");
    let number =
        format!("Both ends of each connection are in this process, with {sums}. A million: `loadgen hold -c 1M`");
    let explanation = "The closed loop shows what the server can do when every client waits for it: its latency is mostly \
                       the others' turn. The open loop shows how it answers at a rate that it can bear.";
    format!(
        "\n{}{}\nTry next:\n  \
         loadgen serve --listen 127.0.0.1:1234             in one terminal, and in another one:\n  \
         loadgen open 127.0.0.1:1234 -c 1k -R {half:<12} half of this rate\n  \
         loadgen hold 127.0.0.1:1234 -c 10k -d 1m          idle connections\n  \
         loadgen rr HOST:PORT -c 100                       any server of yours that echoes\n  \
         loadgen --help\n",
        paragraph("Note:", &number, report_columns()),
        paragraph("Note:", explanation, report_columns())
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
    fn a_comfortable_rate_is_at_most_half_and_has_two_digits() {
        assert_eq!(comfortable(257_000.0), 120_000.0);
        assert_eq!(comfortable(1_999.0), 990.0);
        assert_eq!(comfortable(30.0), 15.0);
        assert_eq!(comfortable(0.0), 1.0);
        assert_eq!(comfortable(9e9), 200_000.0);
    }
}
