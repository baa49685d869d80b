//! Signals as flags that can be looked at: SIGINT and SIGTERM to end, SIGUSR1 to say how things are.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

/// Whether the user wants the program to end.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    is_set: Arc<AtomicBool>,
}

impl Signals {
    /// From now on the first SIGINT or SIGTERM sets the flag, and a second one ends the process at once, with 128 plus
    /// the signal's number as a shell expects: an end that takes too long can still be cut short.
    ///
    /// # Errors
    /// Those of sigaction(2).
    pub(crate) fn catch() -> io::Result<Signals> {
        let is_set = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset, passes, and sets it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&is_set))?;
            flag::register(signal, Arc::clone(&is_set))?;
        }
        Ok(Signals { is_set })
    }

    /// Whether a signal has come.
    pub(crate) fn came(&self) -> bool {
        self.is_set.load(Relaxed)
    }
}

/// Whether the user asked, by SIGUSR1, how things are.
#[derive(Debug)]
pub(crate) struct Asked {
    is_set: Arc<AtomicBool>,
}

impl Asked {
    /// From now on SIGUSR1, which would end the process otherwise, is a question.
    ///
    /// # Errors
    /// Those of sigaction(2).
    pub(crate) fn catch() -> io::Result<Asked> {
        let is_set = Arc::new(AtomicBool::new(false));
        flag::register(SIGUSR1, Arc::clone(&is_set))?;
        Ok(Asked { is_set })
    }

    /// Whether it came since the last call.
    pub(crate) fn again(&self) -> bool {
        self.is_set.swap(false, Relaxed)
    }
}
