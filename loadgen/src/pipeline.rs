//! What is under way on each of one worker's connections, where that is more than one request: how many, and since when.

/// A ring of sending times for each connection; empty, and without memory, where each has one request at a time. The clock
/// comes in as an argument.
#[derive(Debug)]
pub(crate) struct Pipeline {
    depth: u32,
    rings: Vec<Ring>,
    /// When each request was sent, `depth` of them for each connection.
    times: Vec<u64>,
}

/// Which of a connection's times count.
#[derive(Debug, Clone, Copy, Default)]
struct Ring {
    oldest: u32,
    len: u32,
}

impl Pipeline {
    /// Up to `depth` requests at once on each of `connections`.
    pub(crate) fn new(depth: u32, connections: u32) -> Pipeline {
        let connections = if depth > 1 { connections as usize } else { 0 };
        let times = vec![0; connections * depth as usize];
        Pipeline { depth, rings: vec![Ring::default(); connections], times }
    }

    /// Whether a connection may have more than one request under way.
    pub(crate) fn is_used(&self) -> bool {
        self.depth > 1
    }

    /// How many requests of the connection in `slot` are under way.
    pub(crate) fn under_way(&self, slot: u32) -> u32 {
        self.rings.get(slot as usize).map_or(0, |ring| ring.len)
    }

    /// Begins as many as there is room for, all of them at `now_ns`; returns how many that were.
    pub(crate) fn fill(&mut self, slot: u32, now_ns: u64) -> u32 {
        let ring = &mut self.rings[slot as usize];
        let added = self.depth - ring.len;
        for nth in ring.len..self.depth {
            let at = (ring.oldest + nth) % self.depth;
            self.times[slot as usize * self.depth as usize + at as usize] = now_ns;
        }
        ring.len = self.depth;
        added
    }

    /// When the oldest that is under way was sent.
    pub(crate) fn oldest_ns(&self, slot: u32) -> Option<u64> {
        let ring = self.rings.get(slot as usize).filter(|ring| ring.len > 0)?;
        Some(self.times[slot as usize * self.depth as usize + ring.oldest as usize])
    }

    /// The oldest is over; returns when it was sent.
    pub(crate) fn end_oldest(&mut self, slot: u32) -> Option<u64> {
        let sent_ns = self.oldest_ns(slot)?;
        let ring = &mut self.rings[slot as usize];
        (ring.oldest, ring.len) = ((ring.oldest + 1) % self.depth, ring.len - 1);
        Some(sent_ns)
    }

    /// Nothing is under way on the connection in `slot` any more; returns how many were.
    pub(crate) fn forget(&mut self, slot: u32) -> u32 {
        self.rings.get_mut(slot as usize).map_or(0, |ring| std::mem::take(&mut ring.len))
    }

    /// Nothing is under way on any of them.
    pub(crate) fn clear(&mut self) {
        self.rings.iter_mut().for_each(|ring| ring.len = 0);
    }

    /// Bytes that a connection's ring takes, at this `depth`.
    pub(crate) fn bytes(depth: u32) -> u64 {
        if depth > 1 { (size_of::<Ring>() + size_of::<u64>() * depth as usize) as u64 } else { 0 }
    }
}

/// The most that may be under way on a connection: beyond it the queue is all that grows.
pub(crate) const DEPTH_MAX: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_keeps_its_own_time_however_often_the_ring_turns() {
        let mut pipeline = Pipeline::new(3, 2);
        assert_eq!((pipeline.fill(1, 10), pipeline.fill(1, 11)), (3, 0));
        assert_eq!((pipeline.under_way(0), pipeline.oldest_ns(0)), (0, None));
        for now_ns in 20..40 {
            assert_eq!(pipeline.end_oldest(1), Some(if now_ns < 23 { 10 } else { now_ns - 3 }));
            assert_eq!(pipeline.fill(1, now_ns), 1);
        }
        assert_eq!((pipeline.end_oldest(1), pipeline.fill(1, 50)), (Some(37), 1));
        assert_eq!([pipeline.forget(1), pipeline.forget(1), pipeline.forget(0)], [3, 0, 0]);
        assert_eq!((pipeline.end_oldest(1), pipeline.fill(1, 60), pipeline.oldest_ns(1)), (None, 3, Some(60)));
        pipeline.clear();
        assert_eq!((pipeline.under_way(1), pipeline.oldest_ns(1)), (0, None));
    }

    #[test]
    fn one_at_a_time_takes_no_memory() {
        let mut pipeline = Pipeline::new(1, 1_000_000);
        assert_eq!((pipeline.rings.capacity(), pipeline.times.capacity(), pipeline.is_used()), (0, 0, false));
        assert_eq!((pipeline.under_way(5), pipeline.end_oldest(5), pipeline.forget(5)), (0, None, 0));
        assert_eq!([1, 2, 16].map(Pipeline::bytes), [0, 24, 136]);
    }
}
