//! What one execution of an instruction is worth, by the project's public counting rules.
//!
//! An implementation of its own, apart from the engine's: two readings of one rule that must agree.
//! - implicit stack accesses (push, pop, pushf, popf, call, ret, enter, leave) are memory accesses;
//! - a read-modify-write is one read and one write, cmpxchg included whether it stores or not;
//! - lea, nops, prefetches and cache-line control (clflush and kin) access nothing;
//! - a masked vector move is one access; a gather or scatter makes one per enabled element;
//! - a conditional move reads, whatever the condition;
//! - barriers: mfence, lfence, sfence, a LOCK prefix, xchg with memory, serialising instructions.

use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
};

/// Weight of one instruction at one address.
#[derive(Debug, Clone, Copy)]
pub struct Weight {
    /// Memory reads of one execution, or of one iteration where `rep`.
    pub reads: u8,
    /// Memory writes of one execution, or of one iteration where `rep`.
    pub writes: u8,
    /// Bytes that those reads move.
    pub bytes_read: u16,
    /// Bytes that those writes move.
    pub bytes_written: u16,
    /// 1 if the instruction is a barrier.
    pub barriers: u8,
    /// A string instruction with a REP, REPE or REPNE prefix.
    pub rep: bool,
    /// The REP count is ECX, not RCX (67h prefix).
    pub short_count: bool,
    /// How many accesses there are depends on a mask, so that this weight tells less than all.
    pub accesses_vary: bool,
    /// The accesses are known, the bytes they move depend on a mask.
    pub bytes_vary: bool,
    /// `mov ss` or `pop ss`: the next instruction's trap is the first that comes.
    pub hides_next: bool,
    /// `pushf` of any width: stores EFLAGS.TF.
    pub pushes_flags: bool,
    /// Length in bytes.
    pub length: u8,
}

/// Decodes the instruction at `address`; bytes that are no instruction weigh like a plain one.
pub fn weigh(bytes: &[u8], address: u64) -> Weight {
    let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
    let rep = is_rep_string(&instruction);
    let accesses = accesses(&instruction);
    Weight {
        reads: accesses.reads,
        writes: accesses.writes,
        bytes_read: accesses.bytes_read,
        bytes_written: accesses.bytes_written,
        accesses_vary: accesses.vary,
        bytes_vary: accesses.vary || accesses.bytes_vary,
        barriers: u8::from(is_barrier(&instruction)),
        rep,
        short_count: bytes.iter().take_while(|byte| is_legacy_prefix(**byte)).any(|b| *b == 0x67),
        hides_next: matches!(
            instruction.code(),
            Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 | Code::Mov_Sreg_r64m16
        ) && instruction.op0_register() == iced_x86::Register::SS,
        pushes_flags: matches!(instruction.mnemonic(), Mnemonic::Pushfq | Mnemonic::Pushf),
        length: instruction.len() as u8,
    }
}

fn is_legacy_prefix(byte: u8) -> bool {
    matches!(byte, 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65)
}

fn is_rep_string(instruction: &Instruction) -> bool {
    instruction.is_string_instruction()
        && (instruction.has_rep_prefix() || instruction.has_repne_prefix())
}

#[derive(Default)]
struct Accesses {
    reads: u8,
    writes: u8,
    bytes_read: u16,
    bytes_written: u16,
    vary: bool,
    bytes_vary: bool,
}

impl Accesses {
    fn read(&mut self, bytes: u16) {
        self.reads += 1;
        self.bytes_read += bytes;
    }

    fn write(&mut self, bytes: u16) {
        self.writes += 1;
        self.bytes_written += bytes;
    }
}

/// One iteration of a string instruction; other instructions by iced's list of their operands.
fn accesses(instruction: &Instruction) -> Accesses {
    use Mnemonic::{Clflush, Clflushopt, Clwb};
    let mut accesses = Accesses::default();
    if matches!(instruction.mnemonic(), Clflush | Clflushopt | Clwb) {
        return accesses;
    }
    if instruction.is_vsib() {
        accesses.vary = true;
        return accesses;
    }
    let mut factory = InstructionInfoFactory::new();
    for memory in factory.info(instruction).used_memory() {
        // A REP instruction's whole access has no size of its own; an iteration's is the operand's.
        let iteration = is_rep_string(instruction).then(|| instruction.memory_size());
        let bytes = iteration.unwrap_or_else(|| memory.memory_size()).size() as u16;
        match memory.access() {
            OpAccess::Read => accesses.read(bytes),
            OpAccess::Write => accesses.write(bytes),
            OpAccess::ReadWrite | OpAccess::ReadCondWrite => {
                accesses.read(bytes);
                accesses.write(bytes);
            }
            // A conditional move reads always; REP's iterations are the stepper's; gathers were left above.
            OpAccess::CondRead => accesses.read(bytes),
            OpAccess::CondWrite => accesses.write(bytes),
            OpAccess::None | OpAccess::NoMemAccess => {}
        }
    }
    accesses.bytes_vary = bytes_vary(instruction);
    accesses
}

/// Masked vector accesses move the bytes that the mask enables; XSAVE's area depends on what it is asked for.
fn bytes_vary(instruction: &Instruction) -> bool {
    let mnemonic = format!("{:?}", instruction.mnemonic());
    instruction.has_op_mask()
        || ["Vmaskmov", "Vpmaskmov", "Maskmov", "Xsave", "Xrstor"]
            .iter()
            .any(|start| mnemonic.starts_with(start))
}

fn is_barrier(instruction: &Instruction) -> bool {
    let exchanges_memory = instruction.mnemonic() == Mnemonic::Xchg
        && (instruction.op0_kind() == OpKind::Memory || instruction.op1_kind() == OpKind::Memory);
    instruction.has_lock_prefix()
        || exchanges_memory
        || matches!(
            instruction.mnemonic(),
            Mnemonic::Mfence
                | Mnemonic::Lfence
                | Mnemonic::Sfence
                | Mnemonic::Cpuid
                | Mnemonic::Serialize
                | Mnemonic::Iretq
                | Mnemonic::Iretd
                | Mnemonic::Iret
        )
}
