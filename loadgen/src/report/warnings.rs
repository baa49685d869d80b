//! What a reader of the figures should know, although nothing speaks against them.

use crate::quantity::counted;
use crate::report::{Report, StageResult};
use crate::stage::Stage;

/// Sentences about `report`; none when there is nothing to say.
pub(crate) fn sentences(report: &Report) -> Vec<String> {
    report.stages.iter().filter_map(|result| cores_filled(report, result)).collect()
}

/// Only where the server is in this process is its processor time known.
fn cores_filled(report: &Report, result: &StageResult) -> Option<String> {
    let name = match result.stage {
        Stage::Closed { .. } => "closed",
        Stage::Open { .. } => "open",
        _ => return None,
    };
    let cores = report.machine.cores.len();
    let used = result.server_cpu_time? + result.recorder.cpu_time;
    let is_full = used.as_secs_f64() > result.elapsed.as_secs_f64() * cores as f64 * CORES_FULL;
    is_full.then(|| {
        format!(
            "generator and server together filled {} in the {name} loop: each would be faster without the other",
            counted(cores as u64, "core")
        )
    })
}

/// A machine that is busy for this part of the time lets threads wait.
const CORES_FULL: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;
    use std::time::Duration;

    #[test]
    fn a_full_machine_is_said_where_both_sides_are_known() {
        let mut full = report();
        full.stages[1].server_cpu_time = Some(Duration::from_millis(3200));
        assert!(sentences(&full)[0].contains("filled 4 cores in the closed loop"), "{:?}", sentences(&full));
    }
}
