//! What is no failure, but makes the numbers of a run something else than they seem.

use crate::quantity::{counted, rate_text, span};
use crate::report::percentiles::Percentiles;
use crate::report::{Ending, Report, StageResult};
use crate::schedule::Rate;
use crate::stage::Stage;

/// Sentences about `report`; none when its numbers are what they seem.
pub(crate) fn sentences(report: &Report) -> Vec<String> {
    let mut sentences = Vec::new();
    let has_gone_on = !matches!(report.ending, Ending::NoConnection | Ending::AllLost);
    for result in &report.stages {
        if let (Stage::Open { rate, .. }, true) = (result.stage, has_gone_on) {
            sentences.extend(rate_not_achieved(result, rate));
            sentences.extend(sent_late(result));
        }
        sentences.extend(cores_filled(report, result));
    }
    // While connections are opened and held, many more threads than cores take turns: that is no standstill.
    let measured =
        report.stages.iter().filter(|result| matches!(result.stage, Stage::Closed { .. } | Stage::Open { .. }));
    let standstill_ns: u64 = measured.map(|result| result.recorder.standstill_ns).sum();
    if standstill_ns > 0 {
        sentences.push(format!(
            "the generator stood still for {}: it was stopped, or had no processor; the latencies contain that, and it is \
             not the server's",
            span(standstill_ns)
        ));
    }
    sentences
}

/// All may have been answered in the end: but if not in the window, then late, and later from second to second.
fn rate_not_achieved(result: &StageResult, rate: Rate) -> Option<String> {
    let recorder = &result.recorder;
    let is_short = (recorder.answered_in_window as f64) < recorder.due as f64 * ACHIEVED_MIN;
    (is_short && recorder.due >= DUE_MIN).then(|| {
        format!(
            "achieved {}/s of {rate}/s: the latencies are those of an overloaded server or generator",
            rate_text(recorder.answered_per_s())
        )
    })
}

fn sent_late(result: &StageResult) -> Option<String> {
    let recorder = &result.recorder;
    let (latency, lag) = (Percentiles::of(&recorder.latency).p90_ns?, Percentiles::of(&recorder.lag).p90_ns?);
    // A tenth of the latency: enough to be seen in the first digit.
    (lag > latency / 10).then(|| {
        format!(
            "one request in ten was sent {} or more after it was due: all connections were busy (try more: -c), or loadgen \
             had too little processor time (try --threads, or another machine)",
            span(lag)
        )
    })
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

/// Less than this part of what was due answered in the window is more than what is always under way at its end.
const ACHIEVED_MIN: f64 = 0.95;

/// So few requests that one more or less under way at the window's end makes the difference say nothing.
const DUE_MIN: u64 = 100;

/// A machine that is busy for this part of the time lets threads wait.
const CORES_FULL: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;
    use crate::schedule::Arrival;
    use std::time::Duration;

    fn open() -> Report {
        let mut report = report();
        report.stages[1].stage =
            Stage::Open { duration: Duration::from_secs(1), rate: Rate::constant(1000.0), arrival: Arrival::Constant };
        report
    }

    #[test]
    fn a_good_run_needs_none() {
        assert_eq!((sentences(&report()), sentences(&open())), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_rate_that_was_answered_late_was_not_achieved() {
        let mut late = open();
        late.stages[1].recorder.answered_in_window = 528;
        let wanted = "achieved 528/s of 1,000/s: the latencies are those of an overloaded server or generator";
        assert_eq!(sentences(&late), [wanted]);
        assert!(late.is_ok(), "all of it was answered: a warning, no failure");
        late.ending = Ending::AllLost;
        assert_eq!(sentences(&late), Vec::<String>::new(), "the errors say why");
    }

    #[test]
    fn a_generator_that_is_late_or_still_says_so() {
        let mut late = open();
        late.stages[1].recorder.lag.record_n(95_000, 1000);
        assert!(sentences(&late)[0].contains("one request in ten was sent 95.0 us or more"), "{:?}", sentences(&late));
        let mut still = report();
        still.stages[1].recorder.standstill_ns = 1_500_000_000;
        assert!(sentences(&still)[0].contains("stood still for 1.50 s"));
    }

    #[test]
    fn a_full_machine_is_said_where_both_sides_are_known() {
        let mut full = report();
        full.stages[1].server_cpu_time = Some(Duration::from_millis(3200));
        assert!(sentences(&full)[0].contains("filled 4 cores in the closed loop"), "{:?}", sentences(&full));
    }
}
