//! Which instructions there are, in which shapes, and which are left out for what reason.

use iced_x86::{Code, Mnemonic, OpCodeOperandKind as Kind};

/// How an instruction reaches its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Registers and immediates alone.
    Register,
    /// `[base + index * scale + displacement]`, an absolute address, or the operand that the opcode implies.
    Memory,
    /// Relative to RIP, near or out of the code cache's reach.
    RipRelative,
    /// Through RSP.
    Stack,
    /// With an FS prefix.
    Fs,
}

/// All shapes, in the order of the table's columns.
pub const SHAPES: [Shape; 5] =
    [Shape::Register, Shape::Memory, Shape::RipRelative, Shape::Stack, Shape::Fs];

/// An opcode in a shape.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// The opcode.
    pub code: Code,
    /// The shape.
    pub shape: Shape,
}

/// Left out, with reasons. Everything else is tried; what this CPU does not have announces itself by SIGILL.
pub fn left_out(code: Code) -> Option<&'static str> {
    use Mnemonic::*;
    match code.mnemonic() {
        Int | Sysenter | Sysexit | Sysret | Sysretq | Sysexitq => {
            Some("system calls with other conventions")
        }
        Iret | Iretd | Iretq | Retf | Uiret | Loadall => {
            Some("far transfers: the engine releases the thread")
        }
        Wrgsbase | Rdgsbase | Swapgs | Lgs | Lfs | Lss => {
            Some("segment registers that the harness or the engine needs")
        }
        Vmcall | Vmmcall | Vmgexit | Vmfunc | Vmrun | Vmlaunch | Vmresume => {
            Some("calls to the hypervisor")
        }
        Mwait | Mwaitx | Umwait | Tpause | Monitor | Hlt => Some("wait for an event"),
        Xbegin | Xabort | Xend => Some("transactions: the engine releases the thread"),
        Int1 => Some("a trap that the engine releases at"),
        _ => {
            let kinds = code.op_code().op_kinds();
            if kinds.iter().any(|kind| matches!(kind, Kind::farbr2_2 | Kind::farbr4_2)) {
                return Some("far transfers: the engine releases the thread");
            }
            if code.is_jmp_far_indirect() || code.is_call_far_indirect() {
                return Some("far transfers: the engine releases the thread");
            }
            if code.op_code().fwait() {
                return Some("FWAIT and another instruction, which are there by themselves");
            }
            if matches!(code, Code::Call_rm16 | Code::Jmp_rm16 | Code::Retnw | Code::Retnw_imm16)
                || kinds.iter().any(|kind| matches!(kind, Kind::br16_1 | Kind::br16_2))
            {
                return Some("near branches with 16 bits: the engine releases the thread");
            }
            let segments = matches!(code.mnemonic(), Pop)
                && kinds.iter().any(|k| matches!(k, Kind::fs | Kind::gs));
            segments.then_some("segment registers that the harness or the engine needs")
        }
    }
}

/// The shapes that an opcode has.
pub fn shapes(code: Code) -> Vec<Shape> {
    let kinds = code.op_code().op_kinds();
    let memory = kinds.iter().any(|&kind| is_memory(kind));
    let indexed = kinds.iter().any(|&kind| is_vsib(kind));
    let either = kinds.iter().any(|&kind| may_be_register(kind));
    let implied =
        kinds.iter().any(|&k| matches!(k, Kind::seg_rSI | Kind::seg_rDI | Kind::seg_rBX_al));
    let offset = kinds.contains(&Kind::mem_offs);
    let mut shapes = Vec::new();
    if !memory || either {
        shapes.push(Shape::Register);
    }
    if implied {
        return vec![Shape::Memory, Shape::Fs];
    }
    if offset {
        return vec![Shape::Memory, Shape::Fs];
    }
    if memory {
        shapes.push(Shape::Memory);
        if !indexed {
            shapes.push(Shape::RipRelative);
        }
        shapes.push(Shape::Stack);
        shapes.push(Shape::Fs);
    }
    shapes
}

/// Is it an operand in memory, or may it be?
pub fn is_memory(kind: Kind) -> bool {
    may_be_register(kind)
        || is_vsib(kind)
        || matches!(kind, Kind::mem | Kind::mem_offs | Kind::mem_mpx | Kind::mem_mib)
}

/// Is it addressed by a vector of indices?
pub fn is_vsib(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::mem_vsib32x
            | Kind::mem_vsib64x
            | Kind::mem_vsib32y
            | Kind::mem_vsib64y
            | Kind::mem_vsib32z
            | Kind::mem_vsib64z
    )
}

/// Is it a register or memory, as ModRM says?
pub fn may_be_register(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::r8_or_mem
            | Kind::r16_or_mem
            | Kind::r32_or_mem
            | Kind::r64_or_mem
            | Kind::mm_or_mem
            | Kind::xmm_or_mem
            | Kind::ymm_or_mem
            | Kind::zmm_or_mem
            | Kind::k_or_mem
    )
}

/// Every opcode of 64-bit mode that is not left out, in each of its shapes.
pub fn cells() -> Vec<Cell> {
    Code::values()
        .filter(|code| {
            let info = code.op_code();
            info.is_instruction() && info.mode64() && left_out(*code).is_none()
        })
        .flat_map(|code| shapes(code).into_iter().map(move |shape| Cell { code, shape }))
        .collect()
}
