//! The only queue between threads: bounded, many senders, one receiver, and one wake-up however much is queued.

mod sync;

use sync::{Arc, AtomicBool, Ordering, Receiver, SyncSender, TrySendError, fence, sync_channel};

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
        let Flags { asleep, .. } = &*self.flags;
        // Who comes too late for it writes nothing. Of a swap loom would believe that it could stand behind the next announcement.
        Ok(asleep.load(Ordering::Relaxed)
            && asleep.compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed).is_ok())
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
            // There may be more behind it. A swap again: a store would stand between a sender's flag and the next look, which
            // then need not see what that sender has queued, and would clear the flag all the same.
            self.flags.posted.swap(true, Ordering::Relaxed);
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

/// Few threads and few messages, in all ways that the memory model allows, by loom. A shard that slept on a message would sleep
/// for ever here, which loom calls a deadlock. `RUSTFLAGS='--cfg loom' cargo test --lib mailbox::model` runs it.
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::{Condvar, Mutex};
    use loom::thread;

    /// As an eventfd: a wake-up that comes before the sleep ends it.
    #[derive(Default)]
    struct Waker {
        is_woken: Mutex<bool>,
        changed: Condvar,
    }

    impl Waker {
        fn wake(&self) {
            *self.is_woken.lock().unwrap() = true;
            self.changed.notify_one();
        }

        fn sleep(&self) {
            let mut is_woken = self.is_woken.lock().unwrap();
            while !*is_woken {
                is_woken = self.changed.wait(is_woken).unwrap();
            }
            *is_woken = false;
        }
    }

    type Sent = (usize, usize);

    /// `senders` that send `each` messages to one receiver, which takes all that there is, and sleeps.
    fn exchange(senders: usize, each: usize, capacity: usize) {
        let (postbox, mut mailbox) = mailbox::<Sent>(capacity);
        let waker = Arc::new(Waker::default());
        let send = |sender| {
            let (postbox, waker) = (postbox.clone(), Arc::clone(&waker));
            thread::spawn(move || (0..each).filter(|&message| deliver(&postbox, &waker, (sender, message))).count())
        };
        let senders: Vec<_> = (0..senders).map(send).collect();
        let mut next = vec![0; senders.len()];
        let fits = capacity >= senders.len() * each;
        // Of messages that may be too many only the first is sure to be taken.
        let expected = if fits { senders.len() * each } else { 1 };
        let mut got = 0;
        while got < expected {
            while let Some((sender, message)) = mailbox.take() {
                assert_eq!(message, next[sender], "in order");
                next[sender] += 1;
                got += 1;
            }
            if got < expected && mailbox.may_sleep() {
                waker.sleep();
                mailbox.awake();
            }
        }
        let taken: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        got += std::iter::from_fn(|| mailbox.take()).count();
        assert_eq!(got, taken, "each that was taken in comes out, once");
    }

    /// Whether it was taken in; the sleeper is woken if that is asked for.
    fn deliver(postbox: &Postbox<Sent>, waker: &Waker, message: Sent) -> bool {
        let sent = postbox.send(message);
        if sent == Ok(true) {
            waker.wake();
        }
        sent.is_ok()
    }

    /// All interleavings in which threads are held up against their will so many times: almost all mistakes need one or two.
    fn check(preemptions_max: usize, model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions_max);
        builder.check(model);
    }

    #[test]
    fn no_message_of_one_sender_is_slept_on() {
        check(3, || exchange(1, 2, 4));
    }

    #[test]
    fn no_message_of_two_senders_is_slept_on() {
        check(2, || exchange(2, 1, 4));
    }

    #[test]
    fn none_of_several_messages_of_two_senders_is_slept_on() {
        check(1, || exchange(2, 2, 4));
    }

    #[test]
    fn a_full_mailbox_gives_back_or_delivers() {
        check(2, || exchange(2, 1, 1));
    }

    #[test]
    fn a_message_to_a_mailbox_that_closes_is_taken_in_or_comes_back_and_is_dropped_once() {
        check(2, || {
            let (postbox, mut mailbox) = mailbox::<Arc<()>>(2);
            let message = Arc::new(());
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let (postbox, message) = (postbox.clone(), Arc::clone(&message));
                    thread::spawn(move || match postbox.send(message) {
                        Ok(_) => {}
                        Err(Undelivered::Gone(back)) => drop(back),
                        Err(Undelivered::Full(_)) => panic!("there is room for both"),
                    })
                })
                .collect();
            drop(mailbox.take());
            mailbox.may_sleep();
            drop(mailbox);
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            assert!(matches!(postbox.send(Arc::clone(&message)), Err(Undelivered::Gone(_))), "known from now on");
            drop(postbox);
            assert_eq!(Arc::strong_count(&message), 1, "each was dropped");
        });
    }
}
