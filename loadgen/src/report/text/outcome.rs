//! How a run ended, and what its figures are worth, in words.

use std::fmt::{self, Formatter};

use super::row;
use crate::protocol::Protocol;
use crate::quantity::count;
use crate::report::{Ending, Exit, Report};
use crate::verdict::{JUDGED_MIN, Verdict};

/// The verdict, and the reasons for it, in rows of their own.
pub(super) fn verdict(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    match Verdict::of(report) {
        Verdict::None if is_short(report) => row(f, "Verdict", &format!("none: {SHORT}")),
        Verdict::None => Ok(()),
        Verdict::Valid => row(f, "Verdict", &format!("VALID: {VALID}")),
        Verdict::Suspect(reasons) => reasons.iter().enumerate().try_for_each(|(index, reason)| {
            row(
                f,
                if index == 0 { "Verdict" } else { "" },
                &format!("{}{reason}", if index == 0 { "SUSPECT: " } else { "" }),
            )
        }),
    }
}

/// Whether there is no verdict because there was too little time for one.
pub(crate) fn is_short(report: &Report) -> bool {
    report.weighed().any(|it| it.recorder.window_ns < JUDGED_MIN.as_nanos() as u64) && !report.is_failed()
}

/// Why there is no verdict on a short run, and what VALID means.
pub(crate) const SHORT: &str = "in less than 2 s chance decides";
pub(crate) const VALID: &str = "the figures are the server's";

/// How `report` ended: a word in capitals and, where there is more to say, a colon and a sentence.
pub(crate) fn result(report: &Report) -> String {
    let sentence = match (report.ending, report.is_ok()) {
        (Ending::Interrupted, _) if report.is_clean() => "INTERRUPTED: this is what there was until then",
        (Ending::Interrupted, _) => "INTERRUPTED, and FAILED before that",
        (Ending::Complete, true) if report.plan.churn.is_some() => {
            "OK: every reply was right, and every connection ended as it had to"
        }
        (Ending::Complete, true) if matches!(report.plan.protocol, Protocol::Echo { .. }) => {
            "OK: every byte came back, and no connection was lost"
        }
        (Ending::Complete, true) => "OK: every reply was right, and no connection was lost",
        (Ending::NoConnection, _) => "FAILED: no connection could be opened",
        (Ending::AllLost, _) => "FAILED: every connection was lost",
        (Ending::Complete, false) if report.exit() != Exit::Failed => {
            "not all was well, but that is for --slo to judge"
        }
        (Ending::Complete, false) if report.answered() == 0 && has_wrong_replies(report) => {
            "FAILED: no reply was what it has to be, see the errors"
        }
        (Ending::Complete, false) if report.answered() == 0 => "FAILED: nothing was answered",
        (Ending::Complete, false) => match report.unfinished() {
            0 => "FAILED: see the errors",
            1 => "FAILED: 1 request was not answered by the end",
            number => return format!("FAILED: {} requests were not answered by the end", count(number)),
        },
    };
    sentence.to_owned()
}

fn has_wrong_replies(report: &Report) -> bool {
    let mut failures = report.stages.iter().flat_map(|result| result.recorder.request_failures.keys());
    failures.any(|failure| failure.kind.is_wrong_reply())
}
