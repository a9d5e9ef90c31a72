//! Blocks that branch to themselves.
//!
//! # Design
//! Additions to one counter wait for each other in memory, six or seven cycles on some CPUs: more than a small loop takes.
//! So the fragment of such a block is the loop unrolled: copies in a row, of which the last counts for all. Who leaves the
//! loop from an earlier one passes a settlement at the cold end, which counts that copy and those before it,
//! and goes on as from the last. A thread that is unlinked leaves after [`MOST_COPIES`] iterations at most; counters that
//! others read while it is inside lag behind by no more.

use iced_x86::Instruction;

use crate::isa::x86_64::context::disp;
use crate::isa::x86_64::decode::block::{Block, End};
use crate::isa::x86_64::decode::x87_stores::stores_x87_pointer;
use crate::isa::x86_64::emit::buffer::Code;
use crate::isa::x86_64::registers::gpr;
use crate::translate::translator::Translator;

/// Copies of a block at most.
pub const MOST_COPIES: usize = 8;
/// Instructions of all copies together: longer loops are no faster than their counter.
const MOST_INSTRUCTIONS: usize = 32;
/// Bytes of a way out of one copy: a store, a load, an LEA and a jump to what they share.
const WAY_BYTES: usize = 9 + 9 + 4 + 5;
/// Bytes of what they share: a store, a load and a jump.
const SHARED_BYTES: usize = 9 + 9 + 5;

/// How many copies the fragment of a block has; `dynamics` are its instructions that need counters of their own.
pub fn copies(block: &Block, dynamics: usize) -> usize {
    let to_itself = |branch: &Instruction| {
        branch.is_jcc_short_or_near() && branch.near_branch_target() == block.pc
    };
    let looping = block.end == End::Conditional
        && dynamics == 0
        // It begins with a way to the dispatcher, each time.
        && !block.instructions().first().is_some_and(stores_x87_pointer)
        && block.instructions().last().is_some_and(to_itself);
    if looping { (MOST_INSTRUCTIONS / block.len).clamp(1, MOST_COPIES) } else { 1 }
}

impl Code {
    /// The way out of a copy that is not the last, for the condition on which the loop goes on; returns the offset of its
    /// displacement.
    pub fn leave_loop(&mut self, branch: &Instruction) -> usize {
        let goes_on = branch.condition_code() as u8 - 1;
        self.put(&[0x0f, 0x80 | goes_on ^ 1, 0, 0, 0, 0]);
        self.len() - 4
    }
}

impl Translator {
    /// Leads the ways out of all copies but the last to where they are counted, and on to the code at `behind`.
    pub(crate) fn emit_settlement(
        &mut self,
        code: &mut Code,
        arena: u8,
        slot: u32,
        ways_out: &[usize],
        behind: u64,
    ) {
        const BYTES: usize = (MOST_COPIES - 1) * WAY_BYTES + SHARED_BYTES;
        let arena = self.cache.arena(arena);
        let shared = ways_out.len() * WAY_BYTES;
        let mut cold: Code<BYTES> = Code::at(arena.cold_address(shared + SHARED_BYTES));
        for (copies, &field) in (1..).zip(ways_out) {
            let from = code.address + field as u64 + 4;
            code.set_u32(field, cold.here().wrapping_sub(from) as u32);
            cold.spill_rcx();
            cold.load(gpr::RCX, disp::counter(slot));
            #[cfg(feature = "sabotage")]
            let copies = copies + u8::from(crate::mutants::is("loop_settles_one_more"));
            cold.put(&[0x48, 0x8d, 0x49, copies]); // lea rcx, [rcx+copies]
            cold.jump(cold.address + shared as u64);
        }
        cold.store(gpr::RCX, disp::counter(slot));
        cold.unspill_rcx();
        cold.jump(behind);
        let at = arena.put_cold(cold.bytes(), 1);
        debug_assert_eq!((cold.len(), cold.address), (shared + SHARED_BYTES, at));
    }
}
