//! Targets of indirect branches: the shared lookup table and the pads that it leads to.
//!
//! # Design
//! An indirect branch stores its target in the thread's block and jumps through the table's entry for the
//! target's hash ([`super::lookup`]), so the jump's target is
//! known one load after the application's own. The check comes behind it: each target that was ever jumped to has a pad
//! ([`super::pad`]), which compares the stored target with its own PC and goes on in its
//! fragment, or to the next pad of the same table entry, at last to [`super::miss`]. One register is
//! needed, RCX. Returns have a table and pads of their own: those find the target where it was popped from, below the
//! stack pointer, where nothing but the kernel's signal frames may write, and those keep away from 128 bytes.
//!
//! A table lies below 2 GiB, so that it is reached from everywhere without a base register, and is shared by all
//! threads: entries and links are single words, changed under the engine's lock.

use crate::isa::x86_64::context::MAX_SLOTS;
use crate::isa::x86_64::emit::ibl::HASH_BITS;
use crate::os::memory;
use crate::os::reserved::Reserved;

const ENTRIES: usize = 1 << HASH_BITS;

/// The way in for one target.
#[derive(Clone, Copy)]
struct Pad {
    pc: u64,
    /// First host byte.
    entry: u64,
    /// Where the word is written that holds where to go on when the target is another one.
    link: u64,
    /// The pad after it, plus one; 0 = none.
    next: u32,
}

/// All pads for one way.
pub struct Targets {
    table: usize,
    miss: u64,
    /// The lowest bit of a target that chooses its entry.
    shift: u8,
    /// The first pad of each entry, plus one.
    heads: usize,
    pads: Reserved<Pad>,
}

// SAFETY: the table is written under the engine's lock, one word at a time.
unsafe impl Send for Targets {}

impl Targets {
    /// A table whose every entry leads to `miss`, and is chosen by the bits of a target from `shift` on; `None` when the
    /// kernel has no room below 2 GiB.
    pub fn new(miss: u64, shift: u8) -> Option<Targets> {
        let pads = Reserved::new(MAX_SLOTS)?;
        let protection = memory::PROT_READ | memory::PROT_WRITE;
        let heads = memory::map_anonymous(0, ENTRIES * size_of::<u32>(), protection)?;
        let Some(table) = memory::map_low(ENTRIES * size_of::<u64>()) else {
            // SAFETY: mapped just now and not used.
            unsafe { memory::unmap(heads, ENTRIES * size_of::<u32>()) };
            return None;
        };
        let mut targets = Targets { table, miss, shift, heads, pads };
        targets.clear();
        Some(targets)
    }

    /// Address of the table, below 2 GiB.
    pub fn table(&self) -> u32 {
        self.table as u32
    }

    /// Where an indirect branch to `pc` goes when its pad is the first; `None` when it has no pad.
    pub fn knows(&self, pc: u64) -> bool {
        self.find(pc).is_some()
    }

    /// Adds a pad for `pc`, which has none; `link` is where its word is written. `None` when there are too many.
    pub fn add(&mut self, pc: u64, entry: u64, link: u64) -> Option<()> {
        let next = self.head(pc);
        let after = self.entry_of(next);
        let index = self.pads.push(Pad { pc, entry, link, next })?;
        set(link, after);
        set(self.slot(pc), entry);
        self.set_head(pc, index + 1);
        Some(())
    }

    /// Takes the pad for `pc` off: nothing leads there any more.
    pub fn remove(&mut self, pc: u64) {
        let Some((before, index)) = self.find(pc) else { return };
        let next = self.pads.as_slice()[index as usize].next;
        let after = self.entry_of(next);
        match before {
            Some(before) => {
                let before = &mut self.pads.as_mut_slice()[before as usize];
                before.next = next;
                set(before.link, after);
            }
            None => {
                self.set_head(pc, next);
                set(self.slot(pc), after);
            }
        }
    }

    /// Gives the memory back, for good: there is no code that looks for anything.
    pub fn give_up(&mut self) {
        self.pads.shrink();
        if self.table != 0 {
            // SAFETY: the mappings are ours alone, and all code that uses the table is gone.
            unsafe { self.unmap() };
            self.table = 0;
        }
    }

    /// # Safety
    /// Nothing uses the tables any more.
    unsafe fn unmap(&self) {
        // SAFETY: the mappings are ours alone.
        unsafe {
            memory::unmap(self.table, ENTRIES * size_of::<u64>());
            memory::unmap(self.heads, ENTRIES * size_of::<u32>());
        }
    }

    /// Bytes of address space.
    pub fn address_space(&self) -> u64 {
        let tables = ENTRIES * (size_of::<u64>() + size_of::<u32>());
        (tables + self.pads.address_space()) as u64
    }

    /// Takes all pads off.
    pub fn clear(&mut self) {
        self.pads.clear();
        if self.table == 0 {
            return;
        }
        // SAFETY: the engine's own mappings; words are replaced as a whole.
        unsafe { memory::discard(self.heads, ENTRIES * size_of::<u32>()) };
        (0..ENTRIES).for_each(|entry| set((self.table + 8 * entry) as u64, self.miss));
    }

    /// Bytes of memory in use, beside the table itself.
    pub fn memory(&self) -> usize {
        self.pads.bytes()
    }

    /// The pad for `pc` and the one before it.
    fn find(&self, pc: u64) -> Option<(Option<u32>, u32)> {
        if self.table == 0 {
            return None;
        }
        let mut before = None;
        let mut at = self.head(pc).checked_sub(1)?;
        loop {
            let pad = &self.pads.as_slice()[at as usize];
            if pad.pc == pc {
                return Some((before, at));
            }
            before = Some(at);
            at = pad.next.checked_sub(1)?;
        }
    }

    fn entry_of(&self, pad: u32) -> u64 {
        pad.checked_sub(1).map_or(self.miss, |index| self.pads.as_slice()[index as usize].entry)
    }

    fn hash(&self, pc: u64) -> usize {
        (pc >> self.shift) as usize % ENTRIES
    }

    fn slot(&self, pc: u64) -> u64 {
        (self.table + 8 * self.hash(pc)) as u64
    }

    fn head(&self, pc: u64) -> u32 {
        // SAFETY: inside the mapping, which only the engine's lock's holder uses.
        unsafe { *(self.heads as *const u32).add(self.hash(pc)) }
    }

    fn set_head(&mut self, pc: u64, pad: u32) {
        // SAFETY: as in `head`.
        unsafe { *(self.heads as *mut u32).add(self.hash(pc)) = pad };
    }
}

/// Replaces one word that translated code jumps through.
fn set(at: u64, value: u64) {
    // SAFETY: an aligned word of the table or of a pad, in the engine's own memory; threads read the old or the new one.
    unsafe { (at as *mut u64).write_volatile(value) };
}

impl Drop for Targets {
    fn drop(&mut self) {
        if self.table != 0 {
            // SAFETY: whoever drops them executes nothing that uses them.
            unsafe { self.unmap() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows an entry's chain as translated code would: pads by their entry, to the miss.
    fn chain(targets: &Targets, pc: u64) -> std::vec::Vec<u64> {
        let mut seen = std::vec::Vec::new();
        // SAFETY: the table is mapped.
        let mut at = unsafe { *(targets.slot(pc) as *const u64) };
        while at != targets.miss {
            seen.push(at);
            let pad = targets.pads.as_slice().iter().find(|pad| pad.entry == at).unwrap();
            // SAFETY: the word that the test gave.
            at = unsafe { *(pad.link as *const u64) };
        }
        seen
    }

    #[test]
    fn chains_hold_what_is_there() {
        for shift in [0, 4] {
            let mut targets = Targets::new(7, shift).unwrap();
            assert!(targets.table() < 1 << 31);
            let links = [0u64; 4];
            let pc = |i: u64| 0x5555_0000_1230 + (i << (HASH_BITS + u32::from(shift)));
            let link = |i: u64| &raw const links[i as usize] as u64;
            for i in 0..4 {
                targets.add(pc(i), 100 + i, link(i)).unwrap();
            }
            let neighbour = pc(0) + (1 << shift);
            assert_eq!(chain(&targets, pc(7)), [103, 102, 101, 100]);
            assert_eq!(chain(&targets, neighbour), []);
            assert!(targets.knows(pc(2)) && !targets.knows(pc(4)) && !targets.knows(neighbour));
            targets.remove(pc(2));
            assert_eq!(chain(&targets, pc(7)), [103, 101, 100]);
            targets.remove(pc(3));
            targets.remove(pc(3));
            assert_eq!(chain(&targets, pc(7)), [101, 100]);
            targets.clear();
            assert_eq!(chain(&targets, pc(7)), []);
            targets.give_up();
            assert!(!targets.knows(pc(1)));
            targets.remove(pc(1));
            targets.clear();
        }
    }
}
