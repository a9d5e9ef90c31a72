//! Instructions that do not end a block: copied, or re-encoded where they depend on their own address.

use iced_x86::{Code as Opcode, Instruction, OpKind, Register};

use crate::cache::fragment::Recipe;
use crate::isa::x86_64::context::{disp, spill};
use crate::isa::x86_64::decode::block::{Block, Refusal};
use crate::isa::x86_64::emit::buffer::Code;
use crate::isa::x86_64::registers::{gpr, number, register};
use crate::translate::translator::{Failure, Translator};

impl Translator {
    /// An instruction that does not end the block. Returns the offset of the instruction proper.
    pub(crate) fn emit_plain(
        &mut self,
        code: &mut Code,
        block: &Block,
        instruction: &Instruction,
        recipe: &mut Recipe,
    ) -> Result<usize, Failure> {
        // SAFETY: the block was decoded from these bytes a moment ago, under the engine's lock.
        let bytes = unsafe { block.bytes_of(instruction) };
        if !instruction.is_ip_rel_memory_operand() {
            let body = code.len();
            code.put(bytes);
            return Ok(body);
        }
        let target = instruction.ip_rel_memory_address();
        if put_near(code, instruction, bytes, target) {
            return Ok(code.len() - instruction.len());
        }
        let full = Failure::Refused(Refusal::Unsupported);
        if instruction.code() == Opcode::Lea_r64_m {
            let body = code.len();
            code.load_immediate(number(instruction.op0_register()), target);
            return Ok(body);
        }
        #[cfg(feature = "sabotage")]
        let target =
            if crate::mutants::is("far_operand_off_by_eight") { target + 8 } else { target };
        // Too far: through a register that the instruction does not use.
        let scratch = self.free_register(instruction).ok_or(full)?;
        code.store(scratch, disp::spill(spill::ANY));
        code.load_immediate(scratch, target);
        let mut through = *instruction;
        through.set_memory_base(register(scratch));
        through.set_memory_displacement64(0);
        through.set_memory_displ_size(0);
        let mut bytes = [0u8; 16];
        let len = self.encode(&through, code.here(), &mut bytes).ok_or(full)?;
        let body = code.len();
        code.put(&bytes[..len]);
        #[cfg(feature = "sabotage")]
        if crate::mutants::is("far_operand_loses_register") {
            return Ok(body);
        }
        code.load(scratch, disp::spill(spill::ANY));
        *recipe = Recipe::Spilled(scratch as u8);
        Ok(body)
    }

    /// A low register that the instruction neither uses nor implies.
    fn free_register(&mut self, instruction: &Instruction) -> Option<usize> {
        let info = self.factory.info(instruction);
        let candidates = [gpr::RAX, gpr::RCX, gpr::RDX, gpr::RBX, gpr::RSI, gpr::RDI];
        candidates.into_iter().find(|&candidate| {
            let full = register(candidate);
            info.used_registers().iter().all(|used| used.register().full_register() != full)
        })
    }
}

/// Copies a RIP-relative instruction with a new displacement, if one reaches.
fn put_near(code: &mut Code, instruction: &Instruction, bytes: &[u8], target: u64) -> bool {
    let next = code.here() + instruction.len() as u64;
    let Ok(displacement) = i32::try_from(target.wrapping_sub(next) as i64) else {
        return false;
    };
    if instruction.memory_base() != Register::RIP {
        return false;
    }
    // The displacement is followed by an immediate at most, whose size the decoder told.
    let old = (target.wrapping_sub(instruction.next_ip()) as u32).to_le_bytes();
    let trailing = immediate_bytes(instruction);
    let at = instruction.len() - trailing - 4;
    if bytes[at..at + 4] != old {
        return false;
    }
    #[cfg(feature = "sabotage")]
    let displacement = displacement + i32::from(crate::mutants::is("near_operand_off_by_one"));
    let start = code.len();
    code.put(bytes);
    code.set_u32(start + at, displacement as u32);
    true
}

/// Bytes of the immediate behind a memory operand's displacement.
fn immediate_bytes(instruction: &Instruction) -> usize {
    (0..instruction.op_count())
        .map(|op| match instruction.op_kind(op) {
            OpKind::Immediate8
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64 => 1,
            OpKind::Immediate8_2nd => 1,
            OpKind::Immediate16 => 2,
            OpKind::Immediate32 | OpKind::Immediate32to64 => 4,
            OpKind::Immediate64 => 8,
            _ => 0,
        })
        .sum()
}
