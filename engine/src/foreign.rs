//! Counting in the code of another translator: what stands in its blocks, and what their counts are worth.
//!
//! # Design
//! One slot per block and one per instruction whose weights depend on run-time state (REP, masks). The inserted code
//! reaches a thread's counters through GS, at [`COUNTERS_AT`], and spills into the words at [`SPILLS_AT`]. Slots of the
//! same code at the same place are the same, whoever translates it and however often.

use ::weights::x86::Repeats;
use iced_x86::{Decoder, DecoderOptions, Encoder, Instruction, InstructionInfoFactory};

use crate::cache::block_map::BlockMap;
use crate::isa::x86_64::context::{MAX_SLOTS, disp, spill};
use crate::isa::x86_64::count::weigh::sum_weights;
use crate::isa::x86_64::count::{insert, place as counter_place};
use crate::isa::x86_64::decode::block::{Block, MAX_INSTRUCTIONS};
use crate::isa::x86_64::emit::buffer::Code;
use crate::isa::x86_64::registers::gpr;
use crate::metric::Weights;
use crate::os::reserved::Reserved;

pub use crate::code::mappings::CodeMemory;
pub use crate::code::write_protect::Guarded;
pub use crate::isa::x86_64::count::weigh::weigh;
pub use crate::isa::x86_64::decode::block::{End, Refusal};
pub use crate::isa::x86_64::gs::set_gs_base;
pub use crate::os::futex::Lock;
pub use crate::translate::translator::Source;
pub use iced_x86::Mnemonic;

/// Where the counters lie from the thread's GS base.
pub const COUNTERS_AT: usize = disp::counter(0);
/// Where the inserted code spills to from the thread's GS base: [`SPILL_BYTES`] bytes.
pub const SPILLS_AT: usize = disp::spill(0);
/// Bytes of the spill area.
pub const SPILL_BYTES: usize = 8 * spill::COUNT;
/// Number of counters.
pub const COUNTERS: usize = MAX_SLOTS;

/// Blocks counted in the code of another translator: what to insert where, and the weights of all slots.
pub struct Insertion {
    block: Block,
    dead: Option<(usize, usize)>,
    slot: u32,
    dynamic: [(usize, Repeats); MAX_INSTRUCTIONS],
    dynamics: usize,
    weights: Reserved<Weights>,
    slots: BlockMap,
    factory: InstructionInfoFactory,
    encoder: Encoder,
}

/// Inserted before or behind one instruction at most.
pub type Inserted = Code<256>;

impl Insertion {
    /// No block yet; `None` when the kernel refuses memory.
    pub fn new() -> Option<Insertion> {
        let mut factory = InstructionInfoFactory::new();
        // The decoder builds its tables at first use, by the host's allocator: now.
        for instruction in &mut Decoder::with_ip(64, &[0xf3, 0xa4], 0, DecoderOptions::NONE) {
            let _ = factory.info(&instruction);
        }
        Some(Insertion {
            block: Block::empty(),
            dead: None,
            slot: 0,
            dynamic: [(0, Repeats::Never); MAX_INSTRUCTIONS],
            dynamics: 0,
            weights: Reserved::new(MAX_SLOTS)?,
            slots: BlockMap::new()?,
            factory,
            encoder: Encoder::new(64),
        })
    }

    /// The weights of all slots.
    pub fn weights(&self) -> &[Weights] {
        self.weights.as_slice()
    }

    /// Bytes of memory in use.
    pub fn memory(&self) -> usize {
        self.weights.bytes() + self.slots.memory()
    }

    /// How the block at `pc` ends and where; the reason if its first instruction cannot be translated.
    ///
    /// # Errors
    /// The reason.
    ///
    /// # Safety
    /// `[pc, limit)` must be readable application code.
    pub unsafe fn look(&mut self, pc: u64, limit: u64) -> Result<(End, u64), Refusal> {
        // SAFETY: forwarded.
        unsafe { self.block.decode(pc, limit) };
        self.block.refusal.map_or(Ok((self.block.end, self.block.next_pc)), Err)
    }

    /// The instructions of the block last looked at.
    pub fn instructions(&self) -> &[Instruction] {
        self.block.instructions()
    }

    /// Gives the block last looked at its slots; `None` when there are no more.
    pub fn begin(&mut self) -> Option<()> {
        let mut dynamic_weights = [Weights::default(); MAX_INSTRUCTIONS];
        let (dynamic, mut dynamics) = (&mut self.dynamic, 0);
        let sum = sum_weights(self.block.instructions(), &mut self.factory, |at, w| {
            dynamic[dynamics] = (at, w.repeats);
            dynamic_weights[dynamics] = w.repeated;
            dynamics += 1;
        });
        self.dynamics = dynamics;
        self.dead = counter_place::flags_dead_before(self.block.instructions(), &mut self.factory);
        let dynamic_weights = &dynamic_weights[..dynamics];
        if let Some(slot) = self.slots.get(self.block.pc)
            && let Some((first, rest)) = self.weights.as_slice()[slot as usize..].split_first()
            && *first == sum
            && rest.starts_with(dynamic_weights)
        {
            self.slot = slot;
            return Some(());
        }
        self.slot = self.weights.push(sum)?;
        for weights in dynamic_weights {
            self.weights.push(*weights)?;
        }
        self.slots.insert(self.block.pc, self.slot)
    }

    /// What stands before instruction `at`.
    pub fn before(&mut self, at: usize) -> Inserted {
        let mut code = Inserted::at(0);
        if at == self.counter_at() {
            match self.dead {
                Some(_) => code.count(self.slot, 1),
                None => code.count_aside(gpr::RAX, self.slot, 1),
            }
        }
        if let Some((slot, repeats)) = self.dynamic_slot(at) {
            let instruction = &self.block.instructions[at];
            insert::before(&mut code, &mut self.encoder, instruction, slot, repeats);
        }
        code
    }

    /// What stands behind instruction `at`.
    pub fn after(&self, at: usize) -> Inserted {
        let mut code = Inserted::at(0);
        if let Some((slot, repeats)) = self.dynamic_slot(at) {
            insert::after(&mut code, &self.block.instructions[at], slot, repeats);
        }
        code
    }

    /// What stands at the end when the other translator ends the block behind its first `kept` instructions, and
    /// goes on with another block there; `None` when there are no more slots.
    pub fn cut(&mut self, kept: usize) -> Option<Inserted> {
        let mut code = Inserted::at(0);
        let counted = kept > self.counter_at();
        let part = if counted { kept..self.block.len } else { 0..kept };
        let sum = sum_weights(&self.block.instructions()[part], &mut self.factory, |_, _| {});
        let slot = self.weights.push(sum)?;
        if counted {
            // The rest was counted with the block: it is taken back, and will be counted in the next one.
            let counter = disp::counter(slot);
            code.store(gpr::RAX, disp::spill(spill::ANY));
            code.load(gpr::RAX, counter);
            code.put(&[0x48, 0x8d, 0x40, 0xff]); // lea rax, [rax-1]
            code.store(gpr::RAX, counter);
            code.load(gpr::RAX, disp::spill(spill::ANY));
        } else {
            code.count_aside(gpr::RAX, slot, 1);
        }
        Some(code)
    }

    fn counter_at(&self) -> usize {
        self.dead.map_or(0, |(start, _)| start)
    }

    fn dynamic_slot(&self, at: usize) -> Option<(u32, Repeats)> {
        let index = self.dynamic[..self.dynamics].iter().position(|&(place, _)| place == at)?;
        Some((self.slot + 1 + index as u32, self.dynamic[index].1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inserted(bytes: &[u8]) -> (Insertion, std::vec::Vec<u8>) {
        let mut insertion = Insertion::new().expect("memory");
        let pc = bytes.as_ptr() as u64;
        // SAFETY: the bytes are there.
        unsafe { insertion.look(pc, pc + bytes.len() as u64) }.expect("translatable");
        insertion.begin().expect("slots");
        let mut all = std::vec::Vec::new();
        for at in 0..insertion.instructions().len() {
            all.extend_from_slice(insertion.before(at).bytes());
            all.extend_from_slice(insertion.after(at).bytes());
        }
        (insertion, all)
    }

    #[test]
    fn the_same_code_has_the_same_slots() {
        let code = [0x48, 0x01, 0xd8, 0xf3, 0xa4, 0xc3]; // add rax, rbx; rep movsb; ret
        let (mut insertion, once) = inserted(&code);
        let pc = code.as_ptr() as u64;
        assert_eq!(insertion.weights().len(), 2);
        // SAFETY: the bytes are there.
        unsafe { insertion.look(pc, pc + 6) }.expect("translatable");
        insertion.begin().expect("slots");
        assert_eq!(insertion.weights().len(), 2);
        assert!(once.starts_with(insertion.before(0).bytes()));
        assert_eq!(insertion.weights()[0].0, [3, 1, 0, 8, 0, 0]);
        assert_eq!(insertion.weights()[1].0, [0, 1, 1, 1, 1, 0]);
    }

    #[test]
    fn a_block_that_is_cut_counts_what_was_kept() {
        let code = [0x8b, 0x03, 0x48, 0x01, 0xd8, 0x90, 0xc3]; // mov eax, [rbx]; add rax, rbx; nop; ret
        let (mut insertion, _) = inserted(&code);
        // The counter stands at the addition: before it nothing is counted, behind it the rest is too much.
        insertion.cut(1).expect("slots");
        assert_eq!(insertion.weights()[1].0, [1, 1, 0, 4, 0, 0]);
        insertion.cut(2).expect("slots");
        assert_eq!(insertion.weights()[2].0, [2, 1, 0, 8, 0, 0]);
    }
}
