//! From application PC to fragment: open addressing in the engine's own memory.

use crate::os::memory;

#[derive(Clone, Copy)]
struct Entry {
    pc: u64,
    /// Fragment index plus one; zero = free.
    fragment: u64,
}

/// A growing hash table, PC to fragment index.
pub struct BlockMap {
    table: *mut Entry,
    capacity: usize,
    len: usize,
}

// SAFETY: the table is plain memory that belongs to the map; access is serialised by the engine's lock.
unsafe impl Send for BlockMap {}

const FIRST_CAPACITY: usize = 1 << 12;

impl BlockMap {
    /// An empty map.
    pub fn new() -> Option<BlockMap> {
        Some(BlockMap { table: Self::allocate(FIRST_CAPACITY)?, capacity: FIRST_CAPACITY, len: 0 })
    }

    fn allocate(capacity: usize) -> Option<*mut Entry> {
        let bytes = capacity * size_of::<Entry>();
        memory::map_anonymous(0, bytes, memory::PROT_READ | memory::PROT_WRITE)
            .map(|at| at as *mut Entry)
    }

    fn entries(&mut self) -> &mut [Entry] {
        // SAFETY: the mapping holds `capacity` entries, zeroed by the kernel.
        unsafe { core::slice::from_raw_parts_mut(self.table, self.capacity) }
    }

    /// Index of the entry for `pc`, or of the free one where it belongs.
    fn slot(&mut self, pc: u64) -> usize {
        let mask = self.capacity - 1;
        // Fibonacci hashing (Knuth, TAOCP vol. 3, 6.4).
        let mut at = (pc.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        let entries = self.entries();
        while entries[at].fragment != 0 && entries[at].pc != pc {
            at = (at + 1) & mask;
        }
        at
    }

    /// The fragment for `pc`.
    pub fn get(&mut self, pc: u64) -> Option<u32> {
        let at = self.slot(pc);
        let found = self.entries()[at].fragment;
        (found != 0).then(|| found as u32 - 1)
    }

    /// Adds or replaces an entry; `None` when memory is refused.
    pub fn insert(&mut self, pc: u64, fragment: u32) -> Option<()> {
        if self.len * 2 >= self.capacity {
            self.grow()?;
        }
        let at = self.slot(pc);
        let fresh = self.entries()[at].fragment == 0;
        self.entries()[at] = Entry { pc, fragment: u64::from(fragment) + 1 };
        self.len += usize::from(fresh);
        Some(())
    }

    /// Removes the entry for `pc`, if there is one.
    pub fn remove(&mut self, pc: u64) {
        let at = self.slot(pc);
        if self.entries()[at].fragment != 0 {
            self.entries()[at].fragment = 0;
            self.len -= 1;
            self.close_gap(at);
        }
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        // SAFETY: the table is the map's own, and zeros are free entries.
        unsafe { memory::discard(self.table as usize, self.capacity * size_of::<Entry>()) };
        self.len = 0;
    }

    /// Forgets everything and gives the memory back that it did not have at first.
    pub fn shrink(&mut self) {
        let bytes = |capacity: usize| capacity * size_of::<Entry>();
        let kept = self.capacity.min(FIRST_CAPACITY);
        // SAFETY: the end of our own mapping, in whole pages.
        unsafe { memory::unmap(self.table as usize + bytes(kept), bytes(self.capacity - kept)) };
        self.capacity = kept;
        self.clear();
    }

    fn grow(&mut self) -> Option<()> {
        let (old, old_capacity) = (self.table, self.capacity);
        self.table = Self::allocate(old_capacity * 2)?;
        self.capacity = old_capacity * 2;
        for i in 0..old_capacity {
            // SAFETY: the old table is still mapped.
            let entry = unsafe { *old.add(i) };
            if entry.fragment != 0 {
                let at = self.slot(entry.pc);
                self.entries()[at] = entry;
            }
        }
        // SAFETY: nothing refers to the old table any more.
        unsafe { memory::unmap(old as usize, old_capacity * size_of::<Entry>()) };
        Some(())
    }

    /// Keeps the entries that the predicate wants.
    pub fn retain(&mut self, mut keep: impl FnMut(u64, u32) -> bool) {
        for at in 0..self.capacity {
            loop {
                let entry = self.entries()[at];
                if entry.fragment == 0 || keep(entry.pc, entry.fragment as u32 - 1) {
                    break;
                }
                self.entries()[at].fragment = 0;
                self.len -= 1;
                self.close_gap(at);
            }
        }
    }

    /// Moves entries of the run behind a freed place so that each is still found (Knuth, TAOCP vol. 3, 6.4,
    /// algorithm R).
    fn close_gap(&mut self, freed: usize) {
        let mask = self.capacity - 1;
        let mut at = (freed + 1) & mask;
        while self.entries()[at].fragment != 0 {
            let entry = self.entries()[at];
            self.entries()[at].fragment = 0;
            let home = self.slot(entry.pc);
            self.entries()[home] = entry;
            at = (at + 1) & mask;
        }
    }

    /// Bytes of memory in use.
    pub fn memory(&self) -> usize {
        self.capacity * size_of::<Entry>()
    }
}

impl Drop for BlockMap {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone.
        unsafe { memory::unmap(self.table as usize, self.capacity * size_of::<Entry>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_put_in_across_growth() {
        let mut map = BlockMap::new().unwrap();
        for i in 0..100_000u64 {
            map.insert(0x7fff_0000_0000 + i * 5, i as u32).unwrap();
        }
        assert!((0..100_000u64).all(|i| map.get(0x7fff_0000_0000 + i * 5) == Some(i as u32)));
        assert_eq!(map.get(0x7fff_0000_0001), None);
        map.retain(|_, fragment| fragment % 3 == 0);
        assert!((0..100_000u64).all(|i| {
            let found = map.get(0x7fff_0000_0000 + i * 5);
            found == (i % 3 == 0).then_some(i as u32)
        }));
        (0..50_000u64).for_each(|i| map.remove(0x7fff_0000_0000 + i * 5));
        assert!((0..100_000u64).all(|i| {
            let found = map.get(0x7fff_0000_0000 + i * 5);
            found == (i >= 50_000 && i % 3 == 0).then_some(i as u32)
        }));
        map.clear();
        assert!((0..100_000u64).all(|i| map.get(0x7fff_0000_0000 + i * 5).is_none()));
        map.shrink();
        assert_eq!(map.capacity, FIRST_CAPACITY);
        map.insert(5, 6).unwrap();
        assert_eq!((map.get(5), map.get(6)), (Some(6), None));
    }
}
