//! Decoding a basic block.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};

use crate::isa::x86_64::cpu::Cpu;
use crate::isa::x86_64::decode::rseq;
use crate::isa::x86_64::decode::x87_stores::stores_x87_pointer;

/// Most instructions of one block; a longer run is split into several blocks.
pub const MAX_INSTRUCTIONS: usize = 48;
/// The longest x86 instruction (SDM vol. 2, 2.3.11).
pub(crate) const MAX_INSTRUCTION_BYTES: u64 = 15;
/// Most bytes of a block whose source may change: all of them are compared each time it is entered.
pub const MAX_CHANGING_BYTES: usize = 64;
/// Most bytes of a block whose memory is guarded.
pub const MAX_GUARDED_BYTES: usize = 192;

/// How a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Cut by a limit, or before something that cannot be translated: goes on at the next PC.
    Cut,
    /// JMP or CALL to a fixed address.
    Direct,
    /// Jcc, JRCXZ, LOOPcc.
    Conditional,
    /// JMP or CALL through a register or memory.
    Indirect,
    /// RET, RET imm16.
    Return,
    /// SYSCALL.
    Syscall,
    /// An instruction that always traps or faults (UD2, INT3, HLT ...).
    Trap,
}

/// Why an instruction cannot be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Refusal {
    /// The decoder does not know it.
    Undecodable = 1,
    /// It uses or changes GS, which the engine needs.
    UsesGs = 2,
    /// A far transfer, transaction, 32-bit system call or other rarity.
    Unsupported = 3,
    /// It takes the address of a restartable sequence's descriptor.
    RestartableSequence = 4,
}

/// A decoded basic block.
pub struct Block {
    /// PC of the first instruction.
    pub pc: u64,
    /// PC after the last instruction.
    pub next_pc: u64,
    /// Its source may change: `bytes` holds what was decoded.
    pub changing: bool,
    /// The source of a changing block at the moment of its decoding.
    bytes: [u8; MAX_GUARDED_BYTES],
    /// The instructions.
    pub instructions: [Instruction; MAX_INSTRUCTIONS],
    /// How many of them.
    pub len: usize,
    /// How the block ends.
    pub end: End,
    /// When it is empty: why.
    pub refusal: Option<Refusal>,
}

impl Block {
    /// An empty block to decode into.
    pub fn empty() -> Block {
        Block {
            pc: 0,
            next_pc: 0,
            changing: false,
            bytes: [0; MAX_GUARDED_BYTES],
            instructions: [Instruction::default(); MAX_INSTRUCTIONS],
            len: 0,
            end: End::Cut,
            refusal: None,
        }
    }

    /// The decoded instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions[..self.len]
    }

    /// The bytes of one of its instructions.
    ///
    /// # Safety
    /// The source of a block that is not changing must still be readable.
    pub unsafe fn bytes_of(&self, instruction: &Instruction) -> &[u8] {
        if self.changing {
            let at = (instruction.ip() - self.pc) as usize;
            return &self.bytes[at..at + instruction.len()];
        }
        // SAFETY: the caller says that the bytes are readable.
        unsafe { core::slice::from_raw_parts(instruction.ip() as *const u8, instruction.len()) }
    }

    /// The whole source of a changing block.
    pub fn source(&self) -> &[u8] {
        &self.bytes[..(self.next_pc - self.pc) as usize]
    }

    /// Decodes the block at `pc`, whose bytes hold still and are readable up to `limit`.
    ///
    /// # Safety
    /// `[pc, limit)` must be readable for the time of the call.
    pub unsafe fn decode(&mut self, pc: u64, limit: u64) {
        let span = (limit - pc).min(MAX_INSTRUCTIONS as u64 * MAX_INSTRUCTION_BYTES);
        self.changing = false;
        // SAFETY: the caller says that the bytes are readable.
        let bytes = unsafe { core::slice::from_raw_parts(pc as *const u8, span as usize) };
        self.decode_bytes(pc, bytes, |_| false);
    }

    /// Decodes the block at `pc` from a copy of bytes that others may be changing. With a `factory` it may be changing
    /// them itself, and ends behind an instruction that may write to what follows: any store but one through the stack
    /// pointer.
    ///
    /// # Safety
    /// As [`Block::decode`].
    pub unsafe fn decode_changing(
        &mut self,
        pc: u64,
        limit: u64,
        mut factory: Option<&mut InstructionInfoFactory>,
    ) {
        let most = if factory.is_some() { MAX_CHANGING_BYTES } else { MAX_GUARDED_BYTES };
        let span = ((limit - pc) as usize).min(most);
        self.changing = true;
        for (at, byte) in self.bytes[..span].iter_mut().enumerate() {
            // SAFETY: readable, as the caller says; volatile, because others may be writing.
            *byte = unsafe { (pc as *const u8).add(at).read_volatile() };
        }
        let bytes = self.bytes;
        self.decode_bytes(pc, &bytes[..span], |instruction| {
            factory.as_mut().is_some_and(|factory| may_write_code(instruction, factory))
        });
    }

    fn decode_bytes(
        &mut self,
        pc: u64,
        bytes: &[u8],
        mut ends_behind: impl FnMut(&Instruction) -> bool,
    ) {
        let mut decoder = Decoder::with_ip(64, bytes, pc, decoder_options());
        self.pc = pc;
        self.next_pc = pc;
        self.len = 0;
        self.end = End::Cut;
        self.refusal = None;
        while self.len < MAX_INSTRUCTIONS && decoder.can_decode() {
            let slot = &mut self.instructions[self.len];
            decoder.decode_out(slot);
            if self.len > 0 && stores_x87_pointer(slot) {
                return; // it has a way in of its own
            }
            match classify(slot) {
                Err(refusal) => {
                    if self.len == 0 {
                        self.refusal = Some(refusal);
                    }
                    return;
                }
                Ok(end) => {
                    self.len += 1;
                    self.next_pc = slot.next_ip();
                    if let Some(end) = end {
                        self.end = end;
                        return;
                    }
                    if ends_behind(slot) {
                        return;
                    }
                }
            }
        }
    }
}

/// AMD's CPUs take a near branch with an operand-size prefix for a 16-bit one, Intel's ignore the prefix (AMD APM vol. 3,
/// 1.2.2; SDM vol. 2, "CALL").
fn decoder_options() -> u32 {
    if Cpu::this().is_amd() { DecoderOptions::AMD } else { DecoderOptions::NONE }
}

/// Whether an instruction stores through anything but the stack pointer.
fn may_write_code(instruction: &Instruction, factory: &mut InstructionInfoFactory) -> bool {
    use OpAccess::{CondWrite, ReadCondWrite, ReadWrite, Write};
    factory.info(instruction).used_memory().iter().any(|memory| {
        matches!(memory.access(), Write | CondWrite | ReadWrite | ReadCondWrite)
            && memory.base() != Register::RSP
    })
}

/// Whether the instruction ends a block, or why it cannot be translated.
fn classify(instruction: &Instruction) -> Result<Option<End>, Refusal> {
    if instruction.is_invalid() {
        return Err(Refusal::Undecodable);
    }
    if uses_gs(instruction) {
        return Err(Refusal::UsesGs);
    }
    if rseq::is_entered_by(instruction) {
        return Err(Refusal::RestartableSequence);
    }
    use Mnemonic::*;
    match instruction.mnemonic() {
        Sysenter | Sysexit | Sysret | Int | Int1 | Into | Iret | Iretd | Iretq | Retf | Loadall
        | Xbegin | Xabort | Swapgs | Rdgsbase | Wrgsbase | Rsm | Uiret => {
            return Err(Refusal::Unsupported);
        }
        Ud0 | Ud1 | Ud2 | Int3 | Hlt => return Ok(Some(End::Trap)),
        Syscall => return Ok(Some(End::Syscall)),
        _ => {}
    }
    match instruction.flow_control() {
        FlowControl::Next | FlowControl::Interrupt | FlowControl::Exception => Ok(None),
        FlowControl::UnconditionalBranch | FlowControl::Call => match instruction.op0_kind() {
            OpKind::NearBranch64 => Ok(Some(End::Direct)),
            _ => Err(Refusal::Unsupported),
        },
        FlowControl::ConditionalBranch => match instruction.op0_kind() {
            OpKind::NearBranch64 => Ok(Some(End::Conditional)),
            _ => Err(Refusal::Unsupported),
        },
        FlowControl::IndirectBranch | FlowControl::IndirectCall => {
            let wide = instruction.is_jmp_near_indirect() || instruction.is_call_near_indirect();
            let size = match instruction.op0_kind() {
                OpKind::Register => instruction.op0_register().size(),
                _ => instruction.memory_size().size(),
            };
            if wide && size == 8 { Ok(Some(End::Indirect)) } else { Err(Refusal::Unsupported) }
        }
        FlowControl::Return => {
            use iced_x86::Code::{Retnq, Retnq_imm16};
            match instruction.code() {
                Retnq | Retnq_imm16 => Ok(Some(End::Return)),
                _ => Err(Refusal::Unsupported),
            }
        }
        FlowControl::XbeginXabortXend => Ok(None),
    }
}

fn uses_gs(instruction: &Instruction) -> bool {
    let writes = instruction.op_count() > 0
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register() == Register::GS
        && matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Pop);
    let loads = instruction.mnemonic() == Mnemonic::Lgs;
    // An LEA or NOP may carry the prefix without an access; they are rare enough to be refused along.
    writes || loads || instruction.segment_prefix() == Register::GS
}
