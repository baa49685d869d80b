//! The only queue between threads: bounded, many senders, one receiver, and one wake-up however much is queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// The receiving end, owned by one thread.
pub(crate) struct Mailbox<M> {
    receiver: Receiver<M>,
    flags: Arc<Flags>,
    /// What the last look before sleeping found.
    found: Option<M>,
}

/// A sending end.
pub(crate) struct Postbox<M> {
    sender: SyncSender<M>,
    flags: Arc<Flags>,
}

/// What both ends know without looking into the queue, which takes a fence and forty instructions, twice a turn.
#[derive(Debug, Default)]
struct Flags {
    /// The receiver sleeps, or is about to.
    asleep: AtomicBool,
    /// Something may be in the queue. Set behind each message; cleared by the receiver alone, before it looks.
    posted: AtomicBool,
}

impl<M> Clone for Postbox<M> {
    fn clone(&self) -> Postbox<M> {
        Postbox { sender: self.sender.clone(), flags: Arc::clone(&self.flags) }
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
    let flags = Arc::<Flags>::default();
    (Postbox { sender, flags: Arc::clone(&flags) }, Mailbox { receiver, flags, found: None })
}

impl<M> Postbox<M> {
    /// Queues a message without waiting; true says that the receiver sleeps and it is on this sender to wake it.
    pub(crate) fn send(&self, message: M) -> Result<bool, Undelivered<M>> {
        self.sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) => Undelivered::Full(message),
            TrySendError::Disconnected(message) => Undelivered::Gone(message),
        })?;
        // A swap, so that of several senders in a row the receiver sees what each has queued, whichever's flag it clears.
        self.flags.posted.swap(true, Ordering::Release);
        // Pairs with the fence in `may_sleep`: either the receiver sees that something was posted or we see that it sleeps.
        fence(Ordering::SeqCst);
        Ok(self.flags.asleep.load(Ordering::Relaxed) && self.flags.asleep.swap(false, Ordering::Relaxed))
    }
}

impl<M> Mailbox<M> {
    /// The next message. A `None` may miss one that comes at this moment, which the next look finds.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<M> {
        self.found.take().or_else(|| self.look_if_posted())
    }

    /// Announces that the receiver is about to sleep, and looks a last time; false says that something has come.
    pub(crate) fn may_sleep(&mut self) -> bool {
        if self.found.is_none() {
            self.flags.asleep.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            self.found = self.look_if_posted();
        }
        if self.found.is_some() {
            self.awake();
        }
        self.found.is_none()
    }

    #[inline]
    fn look_if_posted(&mut self) -> Option<M> {
        if self.flags.posted.load(Ordering::Relaxed) { self.look() } else { None }
    }

    /// Looks into the queue because something was posted.
    #[cold]
    fn look(&mut self) -> Option<M> {
        // A swap, because it reads the latest of all that was stored: who posted before it is seen by the look after it, and
        // who posts later sets the flag again.
        self.flags.posted.swap(false, Ordering::AcqRel);
        let found = self.receiver.try_recv().ok();
        if found.is_some() {
            // There may be more behind it.
            self.flags.posted.store(true, Ordering::Relaxed);
        }
        found
    }

    /// Takes the announcement back: from here on senders need not wake anybody.
    pub(crate) fn awake(&mut self) {
        self.flags.asleep.store(false, Ordering::Relaxed);
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
        const SENDERS: usize = 3;
        const EACH: usize = 20_000;
        let (postbox, mut mailbox) = mailbox(4);
        let (wake, woken) = std::sync::mpsc::channel();
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (postbox, wake) = (postbox.clone(), wake.clone());
                thread::spawn(move || (0..EACH).for_each(|message| post(&postbox, (sender, message), &wake)))
            })
            .collect();
        let mut next = [0; SENDERS];
        for _ in 0..SENDERS * EACH {
            let (sender, message) = loop {
                match mailbox.take() {
                    Some(message) => break message,
                    // A lost wake-up would leave this thread here for ever.
                    None if mailbox.may_sleep() => woken.recv().unwrap(),
                    None => {}
                }
            };
            assert_eq!(message, next[sender]);
            next[sender] += 1;
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }

    fn post<M>(postbox: &Postbox<M>, mut message: M, wake: &std::sync::mpsc::Sender<()>) {
        loop {
            match postbox.send(message) {
                Ok(true) => return wake.send(()).unwrap(),
                Ok(false) => return,
                Err(Undelivered::Full(again) | Undelivered::Gone(again)) => message = again,
            }
            thread::yield_now();
        }
    }
}
