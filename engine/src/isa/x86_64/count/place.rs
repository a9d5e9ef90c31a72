//! Where in a block its counter stands, and by which instructions it counts.
//!
//! # Design
//! One INC in memory is cheapest (ADD is a byte longer, and stands where it counts several executions), but changes flags: it
//! stands where they are dead. Else LOAD, LEA, STORE through a
//! register that is about to be overwritten, or through RCX where an indirect branch has put it aside; if there is
//! nothing of the kind, through a register that is put aside for it. The place must be exact for a signal handler
//! too: between the counter and the instruction that overwrites the flags or the register nothing may fault.

use iced_x86::{
    Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, RflagsBits,
};

use crate::isa::x86_64::decode::block::{Block, End};

const STATUS_FLAGS: u32 = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::CF
    | RflagsBits::PF;

/// The counter of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterPlace {
    /// It stands before this instruction.
    pub at: usize,
    /// The application's state is not whole from the counter up to (not including) this instruction.
    pub until: usize,
    /// How it counts.
    pub how: How,
}

/// How a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By one INC: all flags but the carry, which it leaves alone, are dead.
    Increment,
    /// By one ADD of several executions: the flags are dead.
    Add,
    /// Through a register that is dead.
    Through(Register),
    /// Through RCX, which the branch at the block's end has put aside.
    WithTarget,
    /// Through this register, which is put aside for it.
    Aside(Register),
}

/// Finds the cheapest place; `once`: it counts one execution, not several together.
pub fn find(block: &Block, once: bool, factory: &mut InstructionInfoFactory) -> CounterPlace {
    let instructions = block.instructions();
    let (flags, how) = match once {
        true => (STATUS_FLAGS & !RflagsBits::CF, How::Increment),
        false => (STATUS_FLAGS, How::Add),
    };
    if let Some((at, until)) = dead_before(flags, instructions, factory) {
        return CounterPlace { at, until, how };
    }
    for (at, instruction) in instructions.iter().enumerate() {
        if let Some(register) = overwritten_register(instruction, factory) {
            return CounterPlace { at, until: at + 1, how: How::Through(register) };
        }
    }
    match block.end {
        End::Return | End::Indirect => {
            CounterPlace { at: instructions.len() - 1, until: 0, how: How::WithTarget }
        }
        _ => CounterPlace {
            at: 0,
            until: 0,
            how: How::Aside(unused_register(instructions, factory)),
        },
    }
}

/// A register that the block does not name: coming back through memory delays who waits for it.
/// Of those the ones first that calls destroy.
fn unused_register(instructions: &[Instruction], factory: &mut InstructionInfoFactory) -> Register {
    use Register::{R8, R9, R10, R11, RAX, RCX, RDI, RDX, RSI};
    let mut unused = [R11, R10, R9, R8, RCX, RSI, RDI, RDX].map(Some);
    for instruction in instructions {
        for used in factory.info(instruction).used_registers() {
            let used = used.register().full_register();
            unused.iter_mut().filter(|one| **one == Some(used)).for_each(|one| *one = None);
        }
    }
    unused.into_iter().flatten().next().unwrap_or(RAX)
}

/// The register that a plain instruction overwrites without reading it.
fn overwritten_register(
    instruction: &Instruction,
    factory: &mut InstructionInfoFactory,
) -> Option<Register> {
    if instruction.op_count() == 0
        || instruction.op0_kind() != OpKind::Register
        || !is_plain(instruction, factory)
    {
        return None;
    }
    let register = instruction.op0_register().full_register();
    let whole = instruction.op0_register().size() >= 4 && register != Register::RSP;
    let only_written = factory
        .info(instruction)
        .used_registers()
        .iter()
        .filter(|used| used.register().full_register() == register)
        .all(|used| used.access() == OpAccess::Write);
    (whole && only_written).then_some(register)
}

/// Where the counter's `add` may stand: before which instruction flags are dead.
///
/// The place must be exact for a signal handler too: between it and the instruction that overwrites the
/// last live flag nothing may fault, so only plain integer instructions on registers lie there.
/// Returns it and the first instruction that sees only new flags; `None` when the block has no such place.
pub fn flags_dead_before(
    instructions: &[Instruction],
    factory: &mut InstructionInfoFactory,
) -> Option<(usize, usize)> {
    dead_before(STATUS_FLAGS, instructions, factory)
}

fn dead_before(
    flags: u32,
    instructions: &[Instruction],
    factory: &mut InstructionInfoFactory,
) -> Option<(usize, usize)> {
    /// Instructions looked at from one place; flags are mostly overwritten at once.
    const WINDOW: usize = 4;
    (0..instructions.len()).find_map(|start| {
        let mut live = flags;
        for (i, instruction) in instructions.iter().enumerate().skip(start).take(WINDOW) {
            if !is_plain(instruction, factory)
                || instruction.rflags_read() & live != 0
                || flags_depend_on_count(instruction)
            {
                return None;
            }
            live &= !overwritten_flags(instruction);
            if live == 0 {
                return Some((start, i + 1));
            }
        }
        None
    })
}

/// Status flags that no longer hold an older value after the instruction.
fn overwritten_flags(instruction: &Instruction) -> u32 {
    let mut flags =
        instruction.rflags_written() | instruction.rflags_cleared() | instruction.rflags_set();
    // AF is called undefined after logic instructions; every CPU clears it.
    if matches!(
        instruction.mnemonic(),
        Mnemonic::And | Mnemonic::Or | Mnemonic::Xor | Mnemonic::Test
    ) {
        flags |= RflagsBits::AF;
    }
    flags
}

/// Shifts by a count of zero leave all flags alone.
fn flags_depend_on_count(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(instruction.mnemonic(), Shl | Shr | Sar | Sal | Rol | Ror | Rcl | Rcr | Shld | Shrd)
}

/// An integer instruction on registers and immediates that cannot fault.
fn is_plain(instruction: &Instruction, factory: &mut InstructionInfoFactory) -> bool {
    use Mnemonic::*;
    let known = matches!(
        instruction.mnemonic(),
        Add | Sub
            | Cmp
            | Test
            | And
            | Or
            | Xor
            | Adc
            | Sbb
            | Inc
            | Dec
            | Neg
            | Not
            | Mov
            | Movzx
            | Movsx
            | Movsxd
            | Lea
            | Imul
            | Cdq
            | Cdqe
            | Cqo
            | Bswap
    );
    known
        && instruction.op_kinds().all(|kind| match kind {
            OpKind::Register => true,
            OpKind::Memory => instruction.mnemonic() == Lea,
            kind => matches!(
                kind,
                OpKind::Immediate8
                    | OpKind::Immediate16
                    | OpKind::Immediate32
                    | OpKind::Immediate64
                    | OpKind::Immediate8to16
                    | OpKind::Immediate8to32
                    | OpKind::Immediate8to64
                    | OpKind::Immediate32to64
            ),
        })
        && (0..instruction.op_count())
            .filter(|&op| instruction.op_kind(op) == OpKind::Register)
            .all(|op| instruction.op_register(op).is_gpr())
        && (instruction.mnemonic() == Lea || factory.info(instruction).used_memory().is_empty())
}
