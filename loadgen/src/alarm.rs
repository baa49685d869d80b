//! A timer that wakes a poll at a moment: epoll_wait(2) by itself sleeps whole milliseconds.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::clock::Clock;

/// A timerfd_create(2). It is never read: an edge comes each time it expires.
pub(crate) struct Alarm {
    timer: OwnedFd,
    set_ns: Option<u64>,
}

impl Alarm {
    /// An alarm that is not set; its events come with `token`.
    ///
    /// # Errors
    /// EMFILE or ENFILE when descriptors have run out.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Alarm> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Alarm { timer, set_ns: None })
    }

    /// Sets it to go off at `at_ns` of `clock`, or not at all. Costs a system call where that is another moment than the
    /// last one.
    pub(crate) fn set(&mut self, at_ns: Option<u64>, clock: Clock) {
        if self.set_ns == at_ns {
            return;
        }
        self.set_ns = at_ns;
        // All zero is "never": what is due already is due in a nanosecond.
        let left_ns = at_ns.map_or(0, |at_ns| at_ns.saturating_sub(clock.now_ns()).max(1));
        let value = Timespec { tv_sec: (left_ns / 1_000_000_000) as i64, tv_nsec: (left_ns % 1_000_000_000) as i64 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // Of a timer of one's own and a time that is one nothing can be wrong; and a poll wakes up anyway, if later.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};

    #[test]
    fn a_poll_wakes_up_when_it_goes_off_and_not_before() {
        let (mut poll, mut events, clock) = (Poll::new().unwrap(), Events::with_capacity(4), Clock::start());
        let mut alarm = Alarm::new(poll.registry(), Token(7)).unwrap();
        for at_ns in [clock.now_ns() + 300_000, clock.now_ns() + 5_000_000, 1] {
            alarm.set(Some(at_ns), clock);
            events.clear();
            while events.is_empty() {
                poll.poll(&mut events, None).unwrap();
            }
            assert!(clock.now_ns() >= at_ns && events.iter().all(|event| event.token() == Token(7)));
        }
    }
}
