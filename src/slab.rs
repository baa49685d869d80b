//! A table whose keys notice when their slot has been given to somebody else.

/// Names one tenancy of one slot. A key of a tenant who has left finds nothing, whoever lives there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    /// Counts the slot's tenants: 31 bits, so that the upper half of all u64 tokens stays free for others. It repeats
    /// after two thousand million tenants of the same slot, by when no event of the first can be under way.
    pub(crate) generation: u32,
}

impl Key {
    #[inline]
    pub(crate) fn token(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    #[inline]
    pub(crate) fn from_token(token: u64) -> Key {
        Key { slot: token as u32, generation: (token >> 32) as u32 }
    }
}

/// Grows by whole chunks and never moves what it holds: no copying spike and no doubled peak on the way to a million.
/// Chunks are kept when their tenants leave.
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    /// First of the chain of vacant slots.
    vacant: u32,
    len: usize,
}

struct Slot<T> {
    generation: u32,
    tenant: Tenant<T>,
}

enum Tenant<T> {
    Vacant { next: u32 },
    Present(T),
}

/// Large enough that the list of chunks stays in the cache (8 KB for a million slots), small enough that a server of
/// ten connections does not pay for it.
const CHUNK: usize = 1024;
const NONE: u32 = u32::MAX;
const GENERATIONS: u32 = 1 << 31;

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab { chunks: Vec::new(), vacant: NONE, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The key that the next [`insert`](Slab::insert) will give out.
    pub(crate) fn next_key(&self) -> Key {
        match self.slot(self.vacant) {
            Some(slot) => Key { slot: self.vacant, generation: slot.generation },
            None => Key { slot: self.slots(), generation: 0 },
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        self.len += 1;
        if key.slot == self.slots() {
            if (key.slot as usize).is_multiple_of(CHUNK) {
                self.chunks.push(Vec::with_capacity(CHUNK));
            }
            let chunk = &mut self.chunks[key.slot as usize / CHUNK];
            chunk.push(Slot { generation: 0, tenant: Tenant::Present(value) });
            return key;
        }
        let slot = &mut self.chunks[key.slot as usize / CHUNK][key.slot as usize % CHUNK];
        if let Tenant::Vacant { next } = std::mem::replace(&mut slot.tenant, Tenant::Present(value)) {
            self.vacant = next;
        }
        key
    }

    #[inline]
    pub(crate) fn find(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.chunks.get_mut(key.slot as usize / CHUNK)?.get_mut(key.slot as usize % CHUNK)?;
        match &mut slot.tenant {
            Tenant::Present(value) if slot.generation == key.generation => Some(value),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.find(key)?;
        let slot = &mut self.chunks[key.slot as usize / CHUNK][key.slot as usize % CHUNK];
        slot.generation = (slot.generation + 1) % GENERATIONS;
        let tenant = std::mem::replace(&mut slot.tenant, Tenant::Vacant { next: self.vacant });
        self.vacant = key.slot;
        self.len -= 1;
        match tenant {
            Tenant::Present(value) => Some(value),
            Tenant::Vacant { .. } => None,
        }
    }

    /// How many slots there have ever been: every tenant lives below this number.
    pub(crate) fn slots(&self) -> u32 {
        match self.chunks.last() {
            Some(last) => ((self.chunks.len() - 1) * CHUNK + last.len()) as u32,
            None => 0,
        }
    }

    /// The key of whoever lives in `slot` now. With [`slots`](Slab::slots) it walks the table, while tenants come and go.
    pub(crate) fn key_at(&self, slot: u32) -> Option<Key> {
        let found = self.slot(slot)?;
        matches!(found.tenant, Tenant::Present(_)).then_some(Key { slot, generation: found.generation })
    }

    fn slot(&self, slot: u32) -> Option<&Slot<T>> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_tenant_who_left_finds_nothing() {
        let mut slab = Slab::new();
        let old = slab.insert("old");
        assert_eq!(slab.remove(old), Some("old"));
        let new = slab.insert("new");
        assert_eq!(new.slot, old.slot, "the slot is used again");
        assert_eq!(slab.find(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.find(new), Some(&mut "new"));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn the_next_key_is_the_one_that_insert_gives() {
        let mut slab = Slab::new();
        let mut keys = Vec::new();
        for i in 0..3 * CHUNK {
            let promised = slab.next_key();
            assert_eq!(slab.insert(i), promised);
            keys.push(promised);
            if i % 3 == 0 {
                slab.remove(keys.swap_remove(i / 5 % keys.len())).unwrap();
            }
        }
        assert_eq!(slab.len(), keys.len());
    }

    #[test]
    fn a_walk_meets_every_tenant_once() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..2500).map(|i| slab.insert(i)).collect();
        for &key in keys.iter().step_by(2) {
            slab.remove(key).unwrap();
        }
        let met: Vec<Key> = (0..slab.slots()).filter_map(|slot| slab.key_at(slot)).collect();
        let left: Vec<Key> = keys.into_iter().skip(1).step_by(2).collect();
        assert_eq!(met, left);
    }

    #[test]
    fn a_key_survives_the_journey_through_a_token() {
        let key = Key { slot: 7, generation: GENERATIONS - 1 };
        assert_eq!(Key::from_token(key.token()), key);
        assert!(key.token() < 1 << 63, "the upper half is free for other sources");
    }
}
