//! How much address space the engine takes, by the process's limit on it (RLIMIT_AS, `ulimit -v`).
//!
//! # Design
//! Pages that are not touched cost no memory, so without a limit there is room for everything from the start in what
//! cannot grow: the counters of a thread lie at fixed places from its GS base. Under a limit they are few, and arenas small:
//! the cache is flushed where it would grow else.

use crate::cache::arena::{LARGEST_ARENA, MAX_ARENAS};
use crate::isa::x86_64::context::MAX_SLOTS;
use crate::os::process;

/// Address space for what cannot grow, and for all arenas together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    /// Counters of a thread, a power of two.
    pub slots: usize,
    /// Bytes of the first arena of a neighbourhood, a power of two.
    pub first_arena: usize,
    /// Bytes of all arenas at most.
    pub arenas: usize,
    /// Bytes of memory for translations and tables at most.
    pub memory: usize,
}

const LEAST_SLOTS: usize = 1 << 14;
const LEAST_ARENA: usize = 1 << 20;
const FIRST_ARENA: usize = 8 << 20;

impl AddressSpace {
    /// For a process with this limit.
    pub fn under(limit: Option<u64>) -> AddressSpace {
        let Some(limit) = limit else {
            return AddressSpace {
                slots: MAX_SLOTS,
                first_arena: FIRST_ARENA,
                arenas: MAX_ARENAS * LARGEST_ARENA,
                memory: usize::MAX,
            };
        };
        // An eighth is the engine's: the rest is what the program was given its limit for.
        let share = usize::try_from(limit / 8).unwrap_or(usize::MAX);
        let slots = (share / 256 / size_of::<u64>()).max(1);
        AddressSpace {
            slots: (1 << slots.ilog2()).clamp(LEAST_SLOTS, MAX_SLOTS),
            first_arena: (1 << (share / 8).max(1).ilog2()).clamp(LEAST_ARENA, FIRST_ARENA),
            arenas: share.clamp(2 * LEAST_ARENA, MAX_ARENAS * LARGEST_ARENA),
            memory: share.max(2 * LEAST_ARENA),
        }
    }

    /// For the calling process.
    pub fn of_this_process() -> AddressSpace {
        AddressSpace::under(process::address_space_limit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_follows_the_limit() {
        let without = AddressSpace::under(None);
        assert_eq!((without.slots, without.first_arena), (MAX_SLOTS, FIRST_ARENA));
        let mut last = AddressSpace::under(Some(0));
        for limit in (10..40).map(|bits| 1 << bits) {
            let space = AddressSpace::under(Some(limit));
            assert!(space.slots.is_power_of_two() && space.first_arena.is_power_of_two());
            assert!(space.slots >= last.slots && space.first_arena >= last.first_arena);
            assert!(limit < 1 << 25 || space.arenas as u64 <= limit / 8, "{limit}: {space:?}");
            last = space;
        }
        assert_eq!((last.slots, last.first_arena), (MAX_SLOTS, FIRST_ARENA));
    }
}
