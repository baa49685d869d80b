//! What a stage's first responses came to, once it is known how long the bodies have to be.

use super::Worker;
use crate::failure::{Act, Failure, Kind};
use crate::stage::Drive;

impl Worker {
    /// Counts those as failed that passed for answers as long as nobody knew how long bodies have to be, and were of another
    /// length. There are few, for little is voted upon; their times stay among the others.
    pub(super) fn settle_lengths(&mut self) {
        for (destination, wrong) in self.responses.settle() {
            let recorder = &mut self.recorder;
            *recorder.request_failures.entry(Failure::new(Act::Reply, Kind::Length)).or_default() += wrong;
            recorder.answered -= wrong;
            // As a rule they are the first of all.
            recorder.answered_in_window = recorder.answered_in_window.saturating_sub(wrong);
            recorder.thirds[0] = recorder.thirds[0].saturating_sub(wrong);
            self.failed += wrong;
            if let Drive::Churn(_) = self.drive {
                *recorder.failed_at.entry(destination).or_default() += wrong;
            }
        }
        self.recorder.body_lens = self.responses.body_lens();
    }
}
