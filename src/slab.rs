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

/// What lives in a slab. It remembers which tenancy it is itself, because its own layout mostly has four bytes to spare
/// where a field beside it would cost eight.
pub(crate) trait Tenant {
    /// The generation of the key that it was given.
    fn generation(&self) -> u32;
}

/// Grows by whole chunks and never moves what it holds: no copying spike and no doubled peak on the way to a million.
/// Chunks are kept when their tenants leave.
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    /// First of the chain of vacant slots.
    vacant: u32,
    len: usize,
}

enum Slot<T> {
    /// With the generation of its next tenant, and the next in the chain.
    Vacant {
        generation: u32,
        next: u32,
    },
    Let(T),
}

/// Large enough that the list of chunks stays in the cache (24 KB for a million slots), small enough that a server of
/// ten connections does not pay for it.
const CHUNK: usize = 1024;
const NONE: u32 = u32::MAX;
const GENERATIONS: u32 = 1 << 31;

impl<T: Tenant> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab { chunks: Vec::new(), vacant: NONE, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The key that the next [`insert`](Slab::insert) will give out.
    pub(crate) fn next_key(&self) -> Key {
        match self.slot(self.vacant) {
            Some(&Slot::Vacant { generation, .. }) => Key { slot: self.vacant, generation },
            _ => Key { slot: self.slots(), generation: 0 },
        }
    }

    /// Takes in a tenant who has been told `key`, the [next](Slab::next_key).
    pub(crate) fn insert(&mut self, key: Key, tenant: T) {
        debug_assert_eq!((key, key.generation), (self.next_key(), tenant.generation()), "somebody else's key");
        self.len += 1;
        if key.slot != self.vacant {
            if (key.slot as usize).is_multiple_of(CHUNK) {
                self.chunks.push(Vec::with_capacity(CHUNK));
            }
            self.chunks[key.slot as usize / CHUNK].push(Slot::Let(tenant));
            return;
        }
        let slot = &mut self.chunks[key.slot as usize / CHUNK][key.slot as usize % CHUNK];
        if let Slot::Vacant { next, .. } = std::mem::replace(slot, Slot::Let(tenant)) {
            self.vacant = next;
        }
    }

    #[inline]
    pub(crate) fn find(&mut self, key: Key) -> Option<&mut T> {
        match self.chunks.get_mut(key.slot as usize / CHUNK)?.get_mut(key.slot as usize % CHUNK)? {
            Slot::Let(tenant) if tenant.generation() == key.generation => Some(tenant),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.find(key)?;
        let generation = (key.generation + 1) % GENERATIONS;
        let vacant = Slot::Vacant { generation, next: self.vacant };
        let slot = &mut self.chunks[key.slot as usize / CHUNK][key.slot as usize % CHUNK];
        self.vacant = key.slot;
        self.len -= 1;
        match std::mem::replace(slot, vacant) {
            Slot::Let(tenant) => Some(tenant),
            Slot::Vacant { .. } => None,
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
        match self.slot(slot)? {
            Slot::Let(tenant) => Some(Key { slot, generation: tenant.generation() }),
            Slot::Vacant { .. } => None,
        }
    }

    fn slot(&self, slot: u32) -> Option<&Slot<T>> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)
    }

    /// Bytes that a slot takes.
    #[cfg(test)]
    pub(crate) fn slot_bytes() -> usize {
        size_of::<Slot<T>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody with a name.
    #[derive(Debug, PartialEq)]
    struct Person(&'static str, u32);

    impl Tenant for Person {
        fn generation(&self) -> u32 {
            self.1
        }
    }

    fn move_in(slab: &mut Slab<Person>, name: &'static str) -> Key {
        let key = slab.next_key();
        slab.insert(key, Person(name, key.generation));
        assert_eq!(slab.find(key).map(|person| person.0), Some(name));
        key
    }

    #[test]
    fn a_key_of_a_tenant_who_left_finds_nothing() {
        let mut slab = Slab::new();
        let old = move_in(&mut slab, "old");
        assert_eq!(slab.remove(old).unwrap().0, "old");
        let new = move_in(&mut slab, "new");
        assert_eq!(new.slot, old.slot, "the slot is used again");
        assert_eq!(slab.find(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.find(new).unwrap().0, "new");
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_key_finds_who_was_told_it() {
        let mut slab = Slab::new();
        let mut keys = Vec::new();
        for i in 0..3 * CHUNK {
            keys.push(move_in(&mut slab, "somebody"));
            if i % 3 == 0 {
                slab.remove(keys.swap_remove(i / 5 % keys.len())).unwrap();
            }
        }
        assert_eq!(slab.len(), keys.len());
    }

    #[test]
    fn a_walk_meets_every_tenant_once() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..2500).map(|_| move_in(&mut slab, "somebody")).collect();
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
