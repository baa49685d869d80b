//! Who tells standard error what happens, so that nobody who measures ever waits for somebody who reads.

use std::io::{Write, stderr};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// A thread that writes to standard error what it is given. A pipe that nobody reads, or a terminal that was told to stop,
/// holds up that thread alone: what it cannot take meanwhile is left out. Dropped, it writes what it still has, for as
/// long as a reader who is there can need.
pub(crate) struct Announcer {
    /// `None` from the end on, and where there is no thread.
    texts: Option<SyncSender<String>>,
    /// Ends when the thread does.
    end: Receiver<()>,
}

impl Announcer {
    /// Starts the thread. Where there is none to be had, whoever says something writes it.
    pub(crate) fn new() -> Announcer {
        let (texts, given) = sync_channel::<String>(TEXTS_MAX);
        let (living, end) = channel::<()>();
        let write = move || {
            let _living = living;
            given.iter().for_each(|text| drop(stderr().write_all(text.as_bytes())));
        };
        let started = thread::Builder::new().name("announcer".to_owned()).spawn(write);
        Announcer { texts: started.is_ok().then_some(texts), end }
    }

    /// Writes `text` soon; or never, where those before it are not read.
    pub(crate) fn say(&self, text: String) {
        // Neither a full queue nor that nobody is there to read is a reason to stop measuring. All of a text is left out or
        // nothing: half a line would be read as something else.
        let _ = match &self.texts {
            Some(texts) => texts.try_send(text).is_ok(),
            None => stderr().write_all(text.as_bytes()).is_ok(),
        };
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.texts = None;
        // Both ways to end are good: the thread has, or is held up by somebody who does not read.
        let _ = self.end.recv_timeout(PATIENCE);
    }
}

/// Texts that wait: more than there are before a reader who is slow has read the first.
const TEXTS_MAX: usize = 64;

/// The longest that a reader is waited for at the end: far longer than one needs who reads at all.
const PATIENCE: Duration = Duration::from_secs(1);
