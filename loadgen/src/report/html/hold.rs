//! Connections that were held, on a page: how many, for how long, and what became of them.

use super::tile;
use crate::quantity::{count, span};
use crate::report::Report;
use crate::report::percentiles::Percentiles;
use crate::stage::Stage;

/// The figures of a `hold`; nothing of a run that held nothing.
pub(super) fn section(report: &Report) -> String {
    let Some(at) = report.stages.iter().position(|result| matches!(result.stage, Stage::Hold { .. })) else {
        return String::new();
    };
    let held = &report.stages[at].recorder;
    let lost_before: u64 = report.stages[..at].iter().map(|result| result.recorder.lost).sum();
    let begun = report.established().saturating_sub(lost_before);
    let verified = |result: Option<&crate::report::StageResult>| match result {
        Some(result) => format!("{} of {}", count(result.recorder.answered), count(result.recorder.due)),
        None => "–".to_owned(),
    };
    let is_verified = |result: &&crate::report::StageResult| result.stage == Stage::Verify;
    let before = report.stages[..at].iter().find(is_verified);
    let after = report.stages[at..].iter().find(is_verified);
    let echo = before.and_then(|result| Percentiles::of(&result.recorder.latency).max_ns);
    let tiles: String = [
        ("connections held", count(begun.saturating_sub(held.lost))),
        ("lost meanwhile", count(held.lost)),
        ("held for", span(held.window_ns)),
        ("verified before", verified(before)),
        ("verified after", verified(after)),
        ("longest echo before", echo.map_or_else(|| "–".to_owned(), span)),
    ]
    .into_iter()
    .map(tile)
    .collect();
    format!("<h2>Held</h2>\n<div class=\"figures\">{tiles}</div>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;
    use std::time::Duration;

    #[test]
    fn what_was_held_and_what_was_lost_stand_on_the_page_with_and_without_heartbeats() {
        assert_eq!(section(&report()), "");
        for heartbeat in [None, Some(Duration::from_secs(1))] {
            let mut run = report();
            run.stages[1].stage = Stage::Hold { duration: Duration::from_secs(1), heartbeat };
            run.stages[1].recorder.lost = 2;
            let tiles = section(&run);
            for wanted in [
                "<strong>8</strong><span class=\"dim\">connections held",
                "<strong>2</strong>",
                "<strong>1.00 s</strong>",
            ] {
                assert!(tiles.contains(wanted), "no {wanted} in {tiles}");
            }
        }
    }
}
