//! Each target with all of its corpus, and with that changed at random by a fixed seed: what finds the cheap mistakes on any
//! toolchain. `ESOCKETS_FUZZ=1000000` sets the number of changes of each.

use std::fs;
use std::path::Path;

use esockets_fuzz::TARGETS;

/// The numbers of splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let seed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (seed ^ (seed >> 31)) as usize % bound.max(1)
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{name} has a corpus");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn change(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut data = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        match random.below(4) {
            0 => data.insert(at, random.below(256) as u8),
            1 => data.truncate(at),
            2 => {
                let other = &corpus[random.below(corpus.len())];
                data.extend_from_slice(&other[random.below(other.len())..]);
            }
            _ => {
                if let Some(byte) = data.get_mut(at) {
                    *byte = random.below(256) as u8;
                }
            }
        }
    }
    data
}

#[test]
fn no_target_panics() {
    let times = std::env::var("ESOCKETS_FUZZ").ok().and_then(|times| times.parse().ok()).unwrap_or(2_000);
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        let mut random = Random(1);
        let changed = (0..times).map(|_| change(&mut random, &corpus));
        for data in corpus.iter().cloned().chain(changed) {
            let told = std::panic::catch_unwind(|| target(&data));
            assert!(told.is_ok(), "{name} panics at {:?}", data.escape_ascii().to_string());
        }
    }
}
