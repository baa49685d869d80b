//! How long it pays to poll before blocking, learnt from how long the last waits took.

use std::time::Duration;

/// Polling wins the time of a sleep and a wake-up when the next event is near, and burns a core when it is not. So the
/// time to poll doubles after a wait that a longer poll would have caught, and halves after one that it would not.
#[derive(Debug)]
pub(crate) struct Spin {
    longest: Duration,
    budget: Duration,
}

/// What a budget of nothing grows to first: about what the sleep and the wake-up cost.
const FIRST: Duration = Duration::from_micros(8);

impl Spin {
    pub(crate) fn new(longest: Duration) -> Spin {
        Spin { longest, budget: longest }
    }

    /// How long to poll this time before blocking.
    pub(crate) fn budget(&self) -> Duration {
        self.budget
    }

    /// Learns from a wait that polled in vain and then blocked: `waited` is its whole length.
    pub(crate) fn blocked(&mut self, waited: Duration) {
        self.budget = if waited <= self.longest {
            (self.budget * 2).clamp(FIRST.min(self.longest), self.longest)
        } else if self.budget <= FIRST {
            Duration::ZERO
        } else {
            self.budget / 2
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_micros(100);

    #[test]
    fn it_gives_up_when_events_are_rare() {
        let mut spin = Spin::new(LONGEST);
        (0..10).for_each(|_| spin.blocked(Duration::from_millis(1)));
        assert_eq!(spin.budget(), Duration::ZERO);
    }

    #[test]
    fn it_comes_back_to_the_longest_when_they_are_near_again() {
        let mut spin = Spin { longest: LONGEST, budget: Duration::ZERO };
        (0..10).for_each(|_| spin.blocked(Duration::from_micros(60)));
        assert_eq!(spin.budget(), LONGEST);
    }

    #[test]
    fn a_longest_below_the_first_step_is_never_exceeded() {
        let mut spin = Spin::new(Duration::from_micros(2));
        spin.blocked(Duration::from_micros(1));
        assert_eq!(spin.budget(), Duration::from_micros(2));
    }
}
