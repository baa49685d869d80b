//! Descriptor tables of one's own, for this program's threads; the only file of it that may hold unsafe code, but for an attribute in `closed`.
#![allow(unsafe_code)]

use std::io;
use std::thread::{Builder, JoinHandle};

use esockets::sys;

/// Starts a thread that begins by leaving the descriptor table of its process for one of its own, and then does `work`
/// with what came of that.
///
/// `work` must hold no descriptor when it is given, and let none that it opens leave its thread: it would mean something
/// else there. This program's workers are given a plan, counters and channels, and hand over records.
///
/// # Errors
/// Those of the thread's start; that of its table is `work`'s argument.
pub(crate) fn spawn(name: String, work: impl FnOnce(io::Result<()>) + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name).spawn(move || {
        // SAFETY: the thread begins here and has opened nothing; what it is to do holds nothing that another thread
        // opened, opens all it needs after this line, and sends only numbers away, see above.
        let own = unsafe { sys::own_descriptor_table(&[]) };
        work(own);
    })
}

/// The same for each shard of a server whose handler, sessions and messages hold no descriptor, as the echo server's do.
pub(crate) fn for_each_shard(builder: esockets::Builder) -> esockets::Builder {
    // SAFETY: this program starts one handler, `Echo`, which has no field, nor have its sessions and its messages.
    unsafe { builder.private_fd_tables() }
}
