//! The time of a run: nanoseconds since its beginning, the same for all its threads.

use std::time::Instant;

/// Counts from one moment on; copies of it agree with each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn start() -> Clock {
        Clock { epoch: Instant::now() }
    }

    /// Nanoseconds since the beginning. Costs some 25 ns and no system call.
    pub(crate) fn now_ns(self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}
