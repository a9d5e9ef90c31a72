//! What is kept of a translated block: where it lies, how it maps back to the application's instructions, and its ways
//! out.

use crate::isa::x86_64::decode::block::MAX_INSTRUCTIONS;

/// A translated block.
#[derive(Clone, Copy)]
pub struct Fragment {
    /// Application PC.
    pub pc: u64,
    /// First host byte.
    pub host: u64,
    /// Counter slot; slots of dynamic parts follow it.
    pub slot: u32,
    /// First entry in the map.
    pub map: u32,
    /// Host bytes.
    pub host_len: u16,
    /// Application bytes.
    pub app_len: u16,
    /// Instructions, those of all copies.
    pub len: u8,
    /// Copies of the block: see [`super::self_loop`].
    pub copies: u8,
    /// The counter stands before this instruction.
    pub counter_at: u8,
    /// The application's state is not whole from the counter up to (not including) this instruction.
    pub whole_from: u8,
    /// Its code went away: nothing leads here any more.
    pub dead: bool,
    /// For guarded code, the exit to the dispatcher that it begins with while its pages are open, plus one; else 0.
    pub watch: u32,
    /// The last exit that was linked here, plus one; 0 = none.
    pub incoming: u32,
    /// Where its source lay when it was translated: for code that may change, this far from the application's PC
    /// to a copy; 0 = the source itself.
    pub copy: i64,
}

impl Fragment {
    /// Address of the bytes that it was translated from.
    pub fn source(&self) -> u64 {
        self.pc.wrapping_add_signed(self.copy)
    }

    /// Whether the application's code still is what the fragment was translated from.
    ///
    /// # Safety
    /// The application's code must be readable.
    pub unsafe fn source_is_the_same(&self) -> bool {
        // SAFETY: the copy lies in the cache; the source is readable, as the caller says, and may be being written.
        (0..usize::from(self.app_len)).all(|at| unsafe {
            (self.pc as *const u8).add(at).read_volatile() == *(self.source() as *const u8).add(at)
        })
    }

    /// How far an instruction of the application lies from the block's first one; `index` is that of its place.
    pub fn offset_of(&self, places: &[Place], index: usize) -> u64 {
        let first = index - index % usize::from(self.len / self.copies);
        places[first..index].iter().map(|place| u64::from(place.app_len)).sum()
    }

    /// Its code may change by a mere store.
    pub fn is_changing(&self) -> bool {
        self.copy != 0
    }
}

/// Where one application instruction lies in its fragment.
#[derive(Clone, Copy)]
pub struct Place {
    /// Offset of the first host byte, inserted code included.
    pub host: u16,
    /// Inserted bytes before the instruction proper.
    pub body: u8,
    /// Bytes of the application's instruction.
    pub app_len: u8,
    /// A packed [`Recipe`].
    pub recipe: u8,
}

impl Place {
    /// What must be undone to see the application's state at the instruction proper.
    pub fn recipe(&self) -> Recipe {
        Recipe::unpack(self.recipe)
    }
}

/// How the application's registers are found while an instruction proper executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// They are in place.
    Plain,
    /// This one lies in the spill slot `ANY`.
    Spilled(u8),
    /// The source is being compared: RAX lies in `ANY`, the status flags in `FLAGS`.
    Compare,
    /// In place; what is left in RCX was counted beforehand in this dynamic slot of the fragment.
    Rep {
        /// Index of the dynamic slot.
        slot: u8,
        /// Addresses, and so the count, are 32-bit.
        narrow: bool,
    },
}

impl Recipe {
    /// One byte: there is a place for each instruction of every block.
    pub fn pack(self) -> u8 {
        match self {
            Recipe::Plain => 0,
            Recipe::Compare => 1,
            Recipe::Spilled(register) => 0x10 | register,
            Recipe::Rep { slot, narrow } => 0x80 | u8::from(narrow) << 6 | slot,
        }
    }

    fn unpack(byte: u8) -> Recipe {
        match byte {
            0 => Recipe::Plain,
            1 => Recipe::Compare,
            0x80.. => Recipe::Rep { slot: byte & 0x3f, narrow: byte & 0x40 != 0 },
            _ => Recipe::Spilled(byte & 0xf),
        }
    }
}

const _: () = assert!(size_of::<Place>() == 6 && MAX_INSTRUCTIONS <= 0x40);

/// A way out of a fragment.
#[derive(Clone, Copy)]
pub struct Exit {
    /// Application PC to go on at.
    pub target: u64,
    /// Offset in the arena of the displacement to patch; 0 when the exit is never linked.
    pub site: u32,
    /// Offset in the arena of the exit's stub.
    pub stub: u32,
    /// The next exit that is linked to the same fragment, plus one; 0 = none.
    pub next_incoming: u32,
    /// The arena.
    pub arena: u8,
    /// What is to be done on the way.
    pub kind: ExitKind,
}

/// What the dispatcher does at an exit before it goes on at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// Nothing: a branch.
    Branch,
    /// A system call; the target is the PC behind it.
    Syscall,
    /// The fragment's source has changed: it is translated anew.
    Changed,
    /// The x87 instruction pointer is to be the application's; the target is the fragment's own PC, and it goes on behind
    /// this exit.
    X87Pointer {
        /// All 64 bits of it.
        wide: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_fit_in_a_byte() {
        let rep = |slot, narrow| Recipe::Rep { slot, narrow };
        let spilled = (0..16).map(Recipe::Spilled);
        for recipe in [Recipe::Plain, Recipe::Compare, rep(0, false), rep(47, true)]
            .into_iter()
            .chain(spilled)
        {
            assert_eq!(Recipe::unpack(recipe.pack()), recipe);
        }
    }
}
