//! Timers as arithmetic on ticks: a hierarchical wheel in which arming, re-arming and disarming cost the same for one
//! timer as for a million.

use std::time::Duration;

/// Ticks are this long: fine enough for the timeouts of connections, coarse enough that a wheel of them seldom turns.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// A hundred days: what half a word of ticks can still tell from the past, with room to spare.
const LONGEST: u32 = 100 * 24 * 3600 * 100;

/// The tick that a moment of the kernel's clock belongs to.
pub(crate) const fn tick(now: Duration) -> u64 {
    (now.as_millis() / TICK.as_millis()) as u64
}

/// A span in ticks, rounded up, a hundred days at most.
pub(crate) const fn ticks(span: Duration) -> u32 {
    let ticks = span.as_nanos().div_ceil(TICK.as_nanos());
    if ticks < LONGEST as u128 { ticks as u32 } else { LONGEST }
}

/// One timer for each id, ids being small integers (slots of a table). It reads no clock: moments are counted in ticks.
///
/// Four rounds of 64 buckets each: a bucket of the first round holds one tick, one of the next 64, and so on. When a
/// round has turned, the next bucket of the round above is dealt out again (Varghese and Lauck, 1987).
#[derive(Debug)]
pub(crate) struct Wheel {
    /// Links of the id's bucket, by id. Grown to the largest id that was ever armed; nothing before the first.
    nodes: Vec<Node>,
    heads: [[u32; BUCKETS]; ROUNDS],
    /// A bit for each bucket that is not empty.
    occupied: [u64; ROUNDS],
    now: u64,
    armed: usize,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    next: u32,
    previous: u32,
    /// The lower half of the tick at which it is due; the upper follows from the wheel's present.
    due: u32,
    round: u8,
    bucket: u8,
}

const ROUNDS: usize = 4;
const BUCKETS: usize = 64;
const BITS: u32 = 6;
const NONE: u32 = u32::MAX;
/// A timer further away than this waits in the last bucket and is dealt out again from there.
const SPAN: u64 = 1 << (BITS * ROUNDS as u32);
/// The furthest moment that half a word can still tell from the past.
const FURTHEST: u64 = u32::MAX as u64 / 2;
const UNARMED: u8 = u8::MAX;

impl Wheel {
    pub(crate) fn new() -> Wheel {
        Wheel { nodes: Vec::new(), heads: [[NONE; BUCKETS]; ROUNDS], occupied: [0; ROUNDS], now: 0, armed: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Arms the timer of `id`, or moves it if it is armed. A moment that has passed is due at the next tick.
    pub(crate) fn arm(&mut self, id: u32, due: u64) {
        let unarmed = Node { next: NONE, previous: NONE, due: 0, round: UNARMED, bucket: 0 };
        if self.nodes.len() <= id as usize {
            self.nodes.resize(id as usize + 1, unarmed);
        }
        self.disarm(id);
        let due = due.clamp(self.now + 1, self.now + FURTHEST);
        self.nodes[id as usize].due = due as u32;
        self.link(id, due);
        self.armed += 1;
    }

    pub(crate) fn disarm(&mut self, id: u32) {
        let Some(&node) = self.nodes.get(id as usize) else { return };
        if node.round == UNARMED {
            return;
        }
        match node.previous {
            NONE => self.heads[node.round as usize][node.bucket as usize] = node.next,
            previous => self.nodes[previous as usize].next = node.next,
        }
        if node.next != NONE {
            self.nodes[node.next as usize].previous = node.previous;
        }
        if self.heads[node.round as usize][node.bucket as usize] == NONE {
            self.occupied[node.round as usize] &= !(1 << node.bucket);
        }
        self.nodes[id as usize].round = UNARMED;
        self.armed -= 1;
    }

    /// Moves the present to `now` and puts every id that is due into `expired`, disarmed.
    pub(crate) fn expire(&mut self, now: u64, expired: &mut Vec<u32>) {
        while self.now < now {
            // Between two occupied buckets nothing happens, so the ticks in between are skipped, not counted.
            match self.next_stop() {
                Some(stop) if stop <= now => self.now = stop,
                _ => {
                    self.now = now;
                    return;
                }
            }
            self.deal_out();
            let bucket = (self.now % BUCKETS as u64) as usize;
            self.empty(0, bucket, |_, id| expired.push(id));
        }
    }

    /// The next tick at which [`expire`](Wheel::expire) has something to do: never after the first timer, but earlier
    /// when that is so far away that it has to be dealt out again on the way.
    pub(crate) fn next_stop(&self) -> Option<u64> {
        (0..ROUNDS).filter_map(|round| self.next_stop_of(round)).min()
    }

    fn next_stop_of(&self, round: usize) -> Option<u64> {
        let shift = BITS * round as u32;
        let turn = self.now >> shift;
        // Rotated so that bit 0 is the bucket after the present one; the present one itself comes last.
        let ahead = self.occupied[round].rotate_right((turn as u32 + 1) % BUCKETS as u32);
        (ahead != 0).then(|| (turn + 1 + u64::from(ahead.trailing_zeros())) << shift)
    }

    /// At the start of a turn of some round, its bucket's timers move to the rounds below.
    fn deal_out(&mut self) {
        for round in (1..ROUNDS).rev() {
            let shift = BITS * round as u32;
            if self.now.trailing_zeros() >= shift {
                let bucket = ((self.now >> shift) % BUCKETS as u64) as usize;
                self.empty(round, bucket, |wheel, id| {
                    let ahead = wheel.nodes[id as usize].due.wrapping_sub(wheel.now as u32);
                    wheel.link(id, wheel.now + u64::from(ahead));
                    wheel.armed += 1;
                });
            }
        }
    }

    fn empty(&mut self, round: usize, bucket: usize, mut each: impl FnMut(&mut Wheel, u32)) {
        let mut id = std::mem::replace(&mut self.heads[round][bucket], NONE);
        self.occupied[round] &= !(1 << bucket);
        while id != NONE {
            let next = self.nodes[id as usize].next;
            self.nodes[id as usize].round = UNARMED;
            self.armed -= 1;
            each(self, id);
            id = next;
        }
    }

    fn link(&mut self, id: u32, due: u64) {
        let ahead = (due - self.now).min(SPAN - 1);
        let round = if ahead == 0 { 0 } else { (ahead.ilog2() / BITS) as usize };
        let bucket = (((self.now + ahead) >> (BITS * round as u32)) % BUCKETS as u64) as usize;
        let head = std::mem::replace(&mut self.heads[round][bucket], id);
        if head != NONE {
            self.nodes[head as usize].previous = id;
        }
        self.occupied[round] |= 1 << bucket;
        let node = &mut self.nodes[id as usize];
        (node.next, node.previous) = (head, NONE);
        (node.round, node.bucket) = (round as u8, bucket as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A generator of numbers that look random and are the same every time (xorshift, Marsaglia 2003).
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }
    }

    fn expired(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let mut expired = Vec::new();
        wheel.expire(now, &mut expired);
        expired.sort_unstable();
        expired
    }

    #[test]
    fn it_agrees_with_a_sorted_map_on_whatever_is_armed_moved_and_disarmed() {
        for seed in 1..=200 {
            let (mut dice, mut wheel, mut model, mut now) = (Dice(seed), Wheel::new(), BTreeMap::new(), 0u64);
            for _ in 0..300 {
                let id = dice.below(20) as u32;
                let reach = 1 << dice.below(27);
                match dice.below(4) {
                    0 => {
                        wheel.disarm(id);
                        model.remove(&id);
                    }
                    1 => {
                        now += dice.below(reach);
                        let mut due: Vec<u32> = model.iter().filter(|&(_, &at)| at <= now).map(|(&id, _)| id).collect();
                        due.sort_unstable();
                        model.retain(|_, at| *at > now);
                        assert_eq!(expired(&mut wheel, now), due, "seed {seed} at {now}");
                    }
                    _ => {
                        let at = now + 1 + dice.below(reach);
                        wheel.arm(id, at);
                        model.insert(id, at);
                    }
                }
                let first = model.values().min().copied();
                assert_eq!(wheel.next_stop().is_some(), first.is_some());
                assert!(wheel.next_stop() <= first || first.is_none(), "seed {seed}: it would sleep past a timer");
                assert_eq!(wheel.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn spans_are_rounded_up_and_bounded() {
        assert_eq!(ticks(Duration::from_millis(1)), 1);
        assert_eq!(ticks(Duration::from_millis(20)), 2);
        assert_eq!(ticks(Duration::MAX), LONGEST);
    }

    #[test]
    fn a_moment_that_has_passed_is_due_at_the_next_tick() {
        let mut wheel = Wheel::new();
        assert_eq!(expired(&mut wheel, 1000), []);
        wheel.arm(3, 5);
        assert_eq!(wheel.next_stop(), Some(1001));
        assert_eq!(expired(&mut wheel, 1001), [3]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn no_timer_needs_no_memory() {
        let mut wheel = Wheel::new();
        wheel.disarm(1_000_000);
        assert_eq!(wheel.nodes.capacity(), 0);
    }

    #[test]
    fn the_lower_half_of_a_tick_may_overflow() {
        let mut wheel = Wheel::new();
        let near = u64::from(u32::MAX) - 5;
        assert_eq!(expired(&mut wheel, near), []);
        wheel.arm(1, near + 100);
        assert_eq!(expired(&mut wheel, near + 99), []);
        assert_eq!(expired(&mut wheel, near + 100), [1]);
    }
}
