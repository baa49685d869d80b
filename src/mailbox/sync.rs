//! What a mailbox synchronises with: the standard library's, or in a model check loom's, which tries every interleaving.

#[cfg(not(loom))]
pub(super) use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering, fence},
    mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

#[cfg(loom)]
pub(super) use self::channel::{Receiver, SyncSender, sync_channel};
#[cfg(loom)]
pub(super) use {
    loom::sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
    std::sync::mpsc::TrySendError,
};

/// A bounded channel for loom, which has none. It promises no more than the standard library's does, so that it hides no
/// mistake of the mailbox: what was sent is seen for sure only by who knows from elsewhere that it was.
#[cfg(loom)]
mod channel {
    use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use loom::sync::{Arc, Mutex, MutexGuard};
    use std::sync::PoisonError;
    use std::sync::mpsc::{TryRecvError, TrySendError};

    struct Channel<M> {
        /// Each message has a place of its own: the few of a model never come round.
        places: Vec<Place<M>>,
        capacity: usize,
        taken: AtomicUsize,
        reserved: AtomicUsize,
        is_gone: AtomicBool,
    }

    struct Place<M> {
        is_full: AtomicBool,
        message: Mutex<Option<M>>,
    }

    impl<M> Place<M> {
        fn message(&self) -> MutexGuard<'_, Option<M>> {
            self.message.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    const PLACES: usize = 6;

    pub(in super::super) struct SyncSender<M>(Arc<Channel<M>>);

    pub(in super::super) struct Receiver<M>(Arc<Channel<M>>);

    pub(in super::super) fn sync_channel<M>(capacity: usize) -> (SyncSender<M>, Receiver<M>) {
        let place = |_| Place { is_full: AtomicBool::new(false), message: Mutex::new(None) };
        let channel = Arc::new(Channel {
            places: (0..PLACES).map(place).collect(),
            capacity,
            taken: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            is_gone: AtomicBool::new(false),
        });
        (SyncSender(Arc::clone(&channel)), Receiver(channel))
    }

    impl<M> Clone for SyncSender<M> {
        fn clone(&self) -> SyncSender<M> {
            SyncSender(Arc::clone(&self.0))
        }
    }

    impl<M> SyncSender<M> {
        pub(in super::super) fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
            let channel = &*self.0;
            let mut reserved = channel.reserved.load(Ordering::Relaxed);
            loop {
                if channel.is_gone.load(Ordering::Acquire) {
                    return Err(TrySendError::Disconnected(message));
                }
                if reserved - channel.taken.load(Ordering::Acquire).min(reserved) >= channel.capacity {
                    return Err(TrySendError::Full(message));
                }
                let next = reserved + 1;
                match channel.reserved.compare_exchange(reserved, next, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(now) => reserved = now,
                }
            }
            let place = &channel.places[reserved];
            *place.message() = Some(message);
            place.is_full.store(true, Ordering::Release);
            Ok(())
        }
    }

    impl<M> Receiver<M> {
        pub(in super::super) fn try_recv(&self) -> Result<M, TryRecvError> {
            let taken = self.0.taken.load(Ordering::Relaxed);
            let Some(place) = self.0.places.get(taken) else { return Err(TryRecvError::Empty) };
            if !place.is_full.load(Ordering::Acquire) {
                return Err(TryRecvError::Empty);
            }
            self.0.taken.store(taken + 1, Ordering::Release);
            place.message().take().ok_or(TryRecvError::Empty)
        }
    }

    impl<M> Drop for Receiver<M> {
        fn drop(&mut self) {
            self.0.is_gone.store(true, Ordering::Release);
            self.0.places.iter().for_each(|place| drop(place.message().take()));
        }
    }
}
