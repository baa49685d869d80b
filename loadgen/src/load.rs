//! The commands `rr`, `open` and `hold`: a load on somebody's server, from the command line to the report.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::args::Load;
use crate::machine::Machine;
use crate::output::Outlet;
use crate::plan::Plan;
use crate::preflight;
use crate::problem::Problem;
use crate::run::Run;
use crate::signals::Signals;
use crate::stage::Stage;

/// Runs `load` through `stages`, after its connections are opened, and writes the results. Returns whether all was well.
///
/// # Errors
/// What stood in the way of the run.
pub(crate) fn run(load: &Load, stages: &[Stage]) -> Result<bool, Problem> {
    let signals = Signals::catch().map_err(Problem::Signals)?;
    let machine = Machine::prepare();
    let target = load.target.resolve(load.timeout).map_err(Problem::Resolve)?;
    let plan = Plan::new(load, target, &machine, fresh_seed()).map_err(Problem::Usage)?;
    preflight::check(&plan, &machine)?;
    let mut outlet = Outlet::open(&load.output)?;
    let mut run = Run::start(plan, machine, &signals, load.output.quiet)?;
    run.stage(Stage::Connect)?;
    for stage in stages {
        run.stage(*stage)?;
    }
    let report = run.finish();
    outlet.write(&report, "")?;
    Ok(report.is_ok())
}

/// A number that no other run has: the time, in nanoseconds, and the process.
pub(crate) fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(48)
}
