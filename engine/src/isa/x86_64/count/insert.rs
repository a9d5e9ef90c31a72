//! What stands before and behind an instruction whose accesses depend on run-time state: REP, masks.

use ::weights::x86::Repeats;
use iced_x86::{Code as Opcode, Encoder, Instruction, Mnemonic, OpKind, Register};

use crate::isa::x86_64::emit::buffer::Code;
use crate::isa::x86_64::emit::encode::encode;

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

/// CMPS and SCAS may stop before the count is used up.
fn stops_early(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(instruction.mnemonic(), Cmpsb | Cmpsw | Cmpsd | Cmpsq | Scasb | Scasw | Scasd | Scasq)
}

/// Does a REP instruction count in ECX (32-bit addresses)?
pub fn is_narrow(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|op| {
        matches!(
            instruction.op_kind(op),
            OpKind::MemorySegESI | OpKind::MemoryESEDI | OpKind::MemorySegEDI
        )
    })
}
