//! Accepting: what each error of accept(2) means, and when to try again.

use std::io;
use std::time::Duration;

/// Remembers that connections wait: the edge that said so comes once, and nothing tells when descriptors are free again.
#[derive(Debug)]
pub(crate) struct Acceptor {
    /// Cleared only when the kernel says that nobody waits.
    waiting: bool,
    /// While the system is out of something, the moment of the next attempt.
    retry_at: Option<Duration>,
    pause: Duration,
    /// Connections in a row that failed before they were accepted.
    skipped: u32,
    /// Up for each that had spoken when it was accepted, down for each that had not.
    trust: u8,
    /// Connections since one was last listened to for no better reason than to find out.
    unheard: u8,
}

/// What to do after an attempt to accept failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody waits any more.
    Drained,
    /// That connection has failed before it was accepted (accept(2) passes on what happened to it): take the next.
    Skipped,
    /// The system is out of descriptors or memory, or something is amiss that no one foresaw: try again later.
    Paused,
}

/// The first pause: short, for a process that is only just over its limit.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest: ten vain system calls a second cost nothing, and those who wait are served within 200 ms.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Trust is full after so many more who had spoken than had not.
const TRUST_MAX: u8 = 8;
/// Without trust one of so many is listened to: a read in vain is about a hundredth of what it costs to take in so many.
/// In the test build it is tried often, for the simulation has few connections.
const UNHEARD_MAX: u8 = if cfg!(test) { 2 } else { 64 };
/// So many failures in a row are no longer the connections' own: a filter that forbids accept(2) says EPERM each time.
const SKIPPED_MAX: u32 = 64;

impl Acceptor {
    pub(crate) fn new() -> Acceptor {
        Acceptor { waiting: false, retry_at: None, pause: PAUSE_MIN, skipped: 0, trust: 0, unheard: 0 }
    }

    /// An edge said that somebody waits.
    pub(crate) fn note(&mut self) {
        self.waiting = true;
    }

    /// Whether somebody waits, for all that is known.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Whether to accept now; `now` is asked for only during a pause.
    pub(crate) fn is_due(&self, now: impl FnOnce() -> Duration) -> bool {
        self.waiting && self.retry_at.is_none_or(|retry_at| retry_at <= now())
    }

    /// When to accept again, if somebody waits and not now.
    #[inline]
    pub(crate) fn retry_at(&self) -> Option<Duration> {
        self.retry_at.filter(|_| self.waiting)
    }

    pub(crate) fn succeeded(&mut self) {
        self.retry_at = None;
        self.pause = PAUSE_MIN;
        self.skipped = 0;
    }

    /// Learns from an error, at a moment that is asked for only if there is to be a pause.
    pub(crate) fn failed(&mut self, error: &io::Error, now: impl FnOnce() -> Duration) -> Failure {
        match classify(error) {
            Failure::Drained => {
                self.waiting = false;
                self.succeeded();
                Failure::Drained
            }
            Failure::Skipped if self.skipped < SKIPPED_MAX => {
                self.skipped += 1;
                Failure::Skipped
            }
            Failure::Skipped | Failure::Paused => {
                self.pause(now());
                Failure::Paused
            }
        }
    }

    /// Waits, longer each time until something is accepted.
    pub(crate) fn pause(&mut self, now: Duration) {
        #[cfg(test)]
        if crate::planted::Bug::AcceptSpin.is_planted() {
            return;
        }
        self.retry_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// Whether the next connection may well have spoken by now, so that a read before its registration saves an event.
    #[inline]
    pub(crate) fn expects_words(&mut self) -> bool {
        if self.trust > 0 {
            return true;
        }
        self.unheard = (self.unheard + 1) % UNHEARD_MAX;
        self.unheard == 0
    }

    /// Learns whether one of whom it was expected had spoken.
    #[inline]
    pub(crate) fn heard(&mut self, spoken: bool) {
        self.trust = if spoken { (self.trust + 1).min(TRUST_MAX) } else { self.trust.saturating_sub(1) };
    }

    /// A descriptor has become free: the reason for the pause may be gone.
    pub(crate) fn relieved(&mut self) {
        #[cfg(test)]
        if crate::planted::Bug::PauseLasts.is_planted() {
            return;
        }
        self.retry_at = None;
    }
}

fn classify(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Failure::Drained,
        Some(
            libc::EINTR
            | libc::ECONNABORTED
            | libc::ECONNRESET
            | libc::EPROTO
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::ETIMEDOUT
            | libc::EPERM,
        ) => Failure::Skipped,
        // EMFILE, ENFILE, ENOBUFS, ENOMEM; and whatever else comes must neither end the service nor make it spin.
        _ => Failure::Paused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(5);

    fn fail(acceptor: &mut Acceptor, errno: i32) -> Failure {
        acceptor.failed(&io::Error::from_raw_os_error(errno), || NOW)
    }

    #[test]
    fn only_an_empty_queue_makes_it_forget_that_somebody_waits() {
        let mut acceptor = Acceptor::new();
        acceptor.note();
        for errno in [libc::EMFILE, libc::ECONNABORTED, libc::EPERM, libc::EINVAL, libc::ENFILE, 9999] {
            assert_ne!(fail(&mut acceptor, errno), Failure::Drained);
            assert!(acceptor.is_due(|| NOW + PAUSE_MAX));
        }
        assert_eq!(fail(&mut acceptor, libc::EAGAIN), Failure::Drained);
        assert!(!acceptor.is_due(|| NOW + PAUSE_MAX) && acceptor.retry_at().is_none());
    }

    #[test]
    fn an_error_that_is_always_there_does_not_make_it_spin() {
        let mut acceptor = Acceptor::new();
        acceptor.note();
        let failures = [(); SKIPPED_MAX as usize + 1].map(|()| fail(&mut acceptor, libc::EPERM));
        assert_eq!(failures[SKIPPED_MAX as usize - 1..], [Failure::Skipped, Failure::Paused]);
        assert!(!acceptor.is_due(|| NOW));
    }

    #[test]
    fn who_speaks_at_once_is_listened_to_and_who_does_not_hardly_ever() {
        let mut acceptor = Acceptor::new();
        let mut reads = |spoken: bool, connections: usize| {
            let mut listen = || acceptor.expects_words().then(|| acceptor.heard(spoken));
            (0..connections).filter_map(|_| listen()).count()
        };
        let rare = 6_400 / usize::from(UNHEARD_MAX);
        assert_eq!(reads(false, 6_400), rare, "a read in vain is rare");
        assert!(reads(true, 1_000) > 930, "it finds out soon that they speak");
        assert!(reads(false, 6_400) <= 8 + rare, "and that they do so no longer");
    }

    #[test]
    fn pauses_grow_to_a_tenth_of_a_second_and_start_over_after_success() {
        let mut acceptor = Acceptor::new();
        acceptor.note();
        let pauses = [(); 6].map(|()| {
            assert_eq!(fail(&mut acceptor, libc::EMFILE), Failure::Paused);
            assert!(!acceptor.is_due(|| NOW));
            (acceptor.retry_at().unwrap() - NOW).as_millis()
        });
        assert_eq!(pauses, [10, 20, 40, 80, 100, 100]);
        acceptor.succeeded();
        assert!(acceptor.is_due(|| NOW));
        fail(&mut acceptor, libc::EMFILE);
        assert_eq!(acceptor.retry_at(), Some(NOW + PAUSE_MIN));
        acceptor.relieved();
        assert!(acceptor.is_due(|| NOW), "a free descriptor ends the pause");
    }
}
