//! Whether standard output was closed when the program was started: looked at before std opens /dev/null in its place.
//!
//! Afterwards nobody could tell: others hand over a /dev/null that is open for reading and writing, too.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether nothing that is written to standard output arrives anywhere, because it was closed from the beginning.
pub(crate) fn is_stdout_closed() -> bool {
    IS_STDOUT_CLOSED.load(Ordering::Relaxed)
}

static IS_STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// What the loader calls before std begins (the ELF gABI, Initialization and Termination Functions).
// SAFETY: the section holds pointers to functions of the C calling convention; this one needs nothing of std or of libc that
// would have to be begun before: a system call, and an atomic.
#[allow(unsafe_code, reason = "a pointer in this section is called, whatever it is")]
#[unsafe(link_section = ".init_array")]
#[used]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    let is_closed = rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_err();
    IS_STDOUT_CLOSED.store(is_closed, Ordering::Relaxed);
}
