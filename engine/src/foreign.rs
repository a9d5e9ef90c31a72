//! What stands in a block to count it, and what its counts are worth: for the translator, and for tracers that leave
//! translating to others.
//!
//! # Design
//! One slot per block and one per instruction whose weights depend on run-time state (REP, masks). The inserted code
//! reaches a thread's counters through GS, at [`COUNTERS_AT`], and spills into the words at [`SPILLS_AT`]. Slots of the
//! same code at the same place are the same, whoever translates it and however often.

use core::sync::atomic::{AtomicU64, Ordering};

pub use iced_x86::Mnemonic;
use iced_x86::{
    Code as Opcode, Decoder, DecoderOptions, Encoder, InstructionInfoFactory, OpKind, Register,
};

use super::Instruction;
use super::block::{self, Block, End, MAX_INSTRUCTIONS, Refusal};
use super::block_map::BlockMap;
use super::counter_place;
use super::emit::Code;
use super::thread::{MAX_SLOTS, disp, gpr, spill};
use super::weights::Repeats;
use crate::metric::{METRICS, Totals, Weights};
use crate::reserved::Reserved;

/// Where the counters lie from the thread's GS base.
pub const COUNTERS_AT: usize = disp::counter(0);
/// Where the inserted code spills to from the thread's GS base: [`SPILL_BYTES`] bytes.
pub const SPILLS_AT: usize = disp::spill(0);
/// Bytes of the spill area.
pub const SPILL_BYTES: usize = 8 * spill::COUNT;
/// Number of counters.
pub const COUNTERS: usize = MAX_SLOTS;

/// What counters are worth: the sum of counts times weights.
pub fn weigh(weights: &[Weights], counters: &[AtomicU64]) -> Totals {
    let mut totals = [0u64; METRICS];
    for (weights, counter) in weights.iter().zip(counters) {
        let count = counter.load(Ordering::Relaxed);
        if count != 0 {
            for (sum, &weight) in totals.iter_mut().zip(&weights.0) {
                *sum = sum.wrapping_add(count.wrapping_mul(u64::from(weight)));
            }
        }
    }
    totals
}

/// Counts before an instruction what its run-time state says.
pub fn before<const N: usize>(
    code: &mut Code<N>,
    encoder: &mut Encoder,
    instruction: &Instruction,
    slot: u32,
    repeats: Repeats,
) {
    match repeats {
        Repeats::Iterations => code.add_rcx(slot, is_narrow(instruction)),
        repeats => population(code, encoder, slot, repeats),
    }
}

/// Corrects behind an instruction what was counted before it: iterations that it did not make.
pub fn after<const N: usize>(
    code: &mut Code<N>,
    instruction: &Instruction,
    slot: u32,
    repeats: Repeats,
) {
    if repeats == Repeats::Iterations && stops_early(instruction) {
        code.subtract_rcx(slot, is_narrow(instruction));
    }
}

/// Counts the elements that a mask enables; the mask's register is read before the instruction.
fn population<const N: usize>(
    code: &mut Code<N>,
    encoder: &mut Encoder,
    slot: u32,
    repeats: Repeats,
) {
    let (lanes, fetch) = match repeats {
        Repeats::Opmask(mask, lanes) => {
            let opcode = match lanes {
                64 => Opcode::VEX_Kmovq_r64_kr,
                17..=32 => Opcode::VEX_Kmovd_r32_kr,
                _ => Opcode::VEX_Kmovw_r32_kr,
            };
            let into = if lanes == 64 { Register::RAX } else { Register::EAX };
            (u64::from(lanes), Instruction::with2(opcode, into, mask))
        }
        Repeats::VectorMask { mask, lanes, element } => {
            let opcode = match (element, mask.is_ymm()) {
                (4, false) => Opcode::VEX_Vmovmskps_r32_xmm,
                (4, true) => Opcode::VEX_Vmovmskps_r32_ymm,
                (_, false) => Opcode::VEX_Vmovmskpd_r32_xmm,
                (_, true) => Opcode::VEX_Vmovmskpd_r32_ymm,
            };
            (u64::from(lanes), Instruction::with2(opcode, Register::EAX, mask))
        }
        Repeats::ByteMask(mask) if mask.is_mm() => {
            (8, Instruction::with2(Opcode::Pmovmskb_r32_mm, Register::EAX, mask))
        }
        Repeats::ByteMask(mask) => {
            (16, Instruction::with2(Opcode::Pmovmskb_r32_xmm, Register::EAX, mask))
        }
        Repeats::Never | Repeats::Iterations => return,
    };
    let Ok(fetch) = fetch else { return };
    let mut bytes = [0u8; 16];
    let len = encode(encoder, &fetch, 0, &mut bytes).unwrap_or(0);
    code.add_population(slot, lanes, &bytes[..len]);
}

/// Encodes an instruction for the address `rip`; its length.
pub(super) fn encode(
    encoder: &mut Encoder,
    instruction: &Instruction,
    rip: u64,
    into: &mut [u8; 16],
) -> Option<usize> {
    let len = encoder.encode(instruction, rip).ok()?;
    let mut buffer = encoder.take_buffer();
    into[..len].copy_from_slice(&buffer[..len]);
    buffer.clear();
    encoder.set_buffer(buffer);
    Some(len)
}

/// CMPS and SCAS may stop before the count is used up.
fn stops_early(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(instruction.mnemonic(), Cmpsb | Cmpsw | Cmpsd | Cmpsq | Scasb | Scasw | Scasd | Scasq)
}

/// Does a REP instruction count in ECX (32-bit addresses)?
pub(super) fn is_narrow(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|op| {
        matches!(
            instruction.op_kind(op),
            OpKind::MemorySegESI | OpKind::MemoryESEDI | OpKind::MemorySegEDI
        )
    })
}

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
        let sum = block::sum_weights(self.block.instructions(), &mut self.factory, |at, w| {
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
            before(&mut code, &mut self.encoder, instruction, slot, repeats);
        }
        code
    }

    /// What stands behind instruction `at`.
    pub fn after(&self, at: usize) -> Inserted {
        let mut code = Inserted::at(0);
        if let Some((slot, repeats)) = self.dynamic_slot(at) {
            after(&mut code, &self.block.instructions[at], slot, repeats);
        }
        code
    }

    /// What stands at the end when the other translator ends the block behind its first `kept` instructions, and
    /// goes on with another block there; `None` when there are no more slots.
    pub fn cut(&mut self, kept: usize) -> Option<Inserted> {
        let mut code = Inserted::at(0);
        let counted = kept > self.counter_at();
        let part = if counted { kept..self.block.len } else { 0..kept };
        let sum =
            block::sum_weights(&self.block.instructions()[part], &mut self.factory, |_, _| {});
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
