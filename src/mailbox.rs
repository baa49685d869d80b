//! The only queue between threads: bounded, many senders, one receiver, and one wake-up however much is queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// The receiving end, owned by one thread.
pub(crate) struct Mailbox<M> {
    receiver: Receiver<M>,
    asleep: Arc<AtomicBool>,
    /// What the last look before sleeping found.
    found: Option<M>,
    /// It has slept, and nobody has sent anything since the look before.
    quiet: bool,
}

/// A sending end.
pub(crate) struct Postbox<M> {
    sender: SyncSender<M>,
    asleep: Arc<AtomicBool>,
}

impl<M> Clone for Postbox<M> {
    fn clone(&self) -> Postbox<M> {
        Postbox { sender: self.sender.clone(), asleep: Arc::clone(&self.asleep) }
    }
}

/// Why a message was not taken; it comes back with the reason.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Undelivered<M> {
    Full(M),
    Gone(M),
}

/// A mailbox for `capacity` messages, and the way to send to it.
pub(crate) fn mailbox<M>(capacity: usize) -> (Postbox<M>, Mailbox<M>) {
    let (sender, receiver) = sync_channel(capacity);
    let asleep = Arc::new(AtomicBool::new(false));
    (Postbox { sender, asleep: Arc::clone(&asleep) }, Mailbox { receiver, asleep, found: None, quiet: false })
}

impl<M> Postbox<M> {
    /// Queues a message without waiting; true says that the receiver sleeps and it is on this sender to wake it.
    pub(crate) fn send(&self, message: M) -> Result<bool, Undelivered<M>> {
        self.sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) => Undelivered::Full(message),
            TrySendError::Disconnected(message) => Undelivered::Gone(message),
        })?;
        // Pairs with the fence in `may_sleep`: either the receiver sees the message or we see that it sleeps.
        fence(Ordering::SeqCst);
        Ok(self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed))
    }
}

impl<M> Mailbox<M> {
    /// The next message. A `None` right after [`awake`](Mailbox::awake) may miss one that comes at that moment, which the
    /// next look finds.
    pub(crate) fn take(&mut self) -> Option<M> {
        if std::mem::take(&mut self.quiet) {
            return None;
        }
        self.found.take().or_else(|| self.receiver.try_recv().ok())
    }

    /// Announces that the receiver is about to sleep, and looks a last time; false says that something has come.
    pub(crate) fn may_sleep(&mut self) -> bool {
        if self.found.is_none() {
            self.asleep.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            self.found = self.receiver.try_recv().ok();
        }
        if self.found.is_some() {
            self.awake();
        }
        self.found.is_none()
    }

    /// Takes the announcement back: from here on senders need not wake anybody.
    pub(crate) fn awake(&mut self) {
        // Who had sent something would have taken it back already.
        self.quiet = self.found.is_none() && self.asleep.load(Ordering::Relaxed);
        self.asleep.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn only_the_first_message_to_a_sleeper_asks_for_a_wake_up() {
        let (postbox, mut mailbox) = mailbox(8);
        assert_eq!(postbox.send(0), Ok(false), "it is awake");
        assert!(!mailbox.may_sleep(), "something has come");
        assert_eq!(mailbox.take(), Some(0));
        assert!(mailbox.may_sleep());
        assert_eq!([1, 2, 3].map(|m| postbox.send(m)), [Ok(true), Ok(false), Ok(false)]);
        assert_eq!([(); 4].map(|()| mailbox.take()), [Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn what_does_not_fit_comes_back() {
        let (postbox, mailbox) = mailbox(1);
        assert_eq!(postbox.send("a"), Ok(false));
        assert_eq!(postbox.send("b"), Err(Undelivered::Full("b")));
        drop(mailbox);
        assert_eq!(postbox.send("c"), Err(Undelivered::Gone("c")));
    }

    #[test]
    fn nobody_sleeps_on_a_message() {
        let (postbox, mut mailbox) = mailbox(4);
        let (wake, woken) = std::sync::mpsc::channel();
        let sender = thread::spawn(move || {
            for message in 0..20_000 {
                loop {
                    match postbox.send(message) {
                        Ok(true) => break wake.send(()).unwrap(),
                        Ok(false) => break,
                        Err(_) => thread::yield_now(),
                    }
                }
            }
        });
        for expected in 0..20_000 {
            let message = loop {
                match mailbox.take() {
                    Some(message) => break message,
                    // A lost wake-up would leave this thread here for ever.
                    None if mailbox.may_sleep() => woken.recv().unwrap(),
                    None => {}
                }
            };
            assert_eq!(message, expected);
        }
        sender.join().unwrap();
    }
}
