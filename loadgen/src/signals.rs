//! Signals as flags that can be looked at: SIGINT, SIGTERM and SIGHUP to end, SIGUSR1 to say how things are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use std::{fs, io, thread};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

/// Whether the user wants the program to end.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    is_set: Arc<AtomicBool>,
}

impl Signals {
    /// From now on the first SIGINT, SIGTERM or SIGHUP (the terminal is gone) sets the flag, and a second one ends the
    /// process at once, with 128 plus the signal's number as a shell expects: an end that takes too long can still be cut
    /// short. Not if it comes along with the first: timeout(1) signals its child, and then its group, of which that is one.
    /// SIGHUP stays ignored where it was when the program began, as nohup(1) has it.
    ///
    /// # Errors
    /// Those of sigaction(2).
    pub(crate) fn catch() -> io::Result<Signals> {
        let (is_set, is_armed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&is_armed))?;
            flag::register(signal, Arc::clone(&is_set))?;
        }
        let came = Arc::clone(&is_set);
        // A thread, because a handler may do next to nothing, and whoever writes results may be stuck.
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            while !came.load(Relaxed) {
                thread::sleep(LOOK_PERIOD);
            }
            thread::sleep(TOGETHER);
            is_armed.store(true, Relaxed);
        })?;
        Ok(Signals { is_set })
    }

    /// Whether a signal has come.
    pub(crate) fn came(&self) -> bool {
        self.is_set.load(Relaxed)
    }
}

/// How often it is looked whether the first signal has come.
const LOOK_PERIOD: Duration = Duration::from_millis(100);
/// Signals that come within so long are one.
const TOGETHER: Duration = Duration::from_millis(200);

/// Whether the process ignores `signal`: SigIgn of proc_pid_status(5). Where that cannot be read, it does not.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
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
