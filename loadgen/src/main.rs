//! `loadgen`: opens connections and measures latency at scale.

fn main() {}
