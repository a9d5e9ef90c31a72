//! What one execution of an instruction is worth, by the project's public counting rules.
//!
//! An implementation of its own, apart from the engine's: two readings of one rule that must agree.
//! - implicit stack accesses (push, pop, pushf, popf, call, ret, enter, leave) are memory accesses;
//! - a read-modify-write is one read and one write, cmpxchg included whether it stores or not;
//! - lea, nops, prefetches and cache-line control (clflush and kin) access nothing;
//! - a masked vector move is one access; a gather or scatter makes one per enabled element;
//! - a conditional move reads, whatever the condition;
//! - barriers: mfence, lfence, sfence, a LOCK prefix, xchg with memory, serialising instructions;
//! - branches: jumps, conditional or not and taken or not, loop, jrcxz, calls and returns.

use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
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
    /// 1 if the instruction is a branch.
    pub branches: u8,
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
        branches: u8::from(is_branch(&instruction)),
        rep,
        short_count: bytes.iter().take_while(|byte| is_legacy_prefix(**byte)).any(|b| *b == 0x67),
        hides_next: matches!(
            instruction.code(),
            Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 | Code::Mov_Sreg_r64m16
        ) && instruction.op0_register() == Register::SS,
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
    if is_xsave(instruction) {
        // The area's legacy region, whatever components are asked for.
        accesses.bytes_read = 512 * u16::from(accesses.reads);
        accesses.bytes_written = 512 * u16::from(accesses.writes);
    }
    accesses.bytes_vary = varying(instruction).is_some();
    accesses
}

/// The trap flag's trap may not come behind these: with UMIP the kernel emulates them, and SYSRET delays it.
pub fn may_hide_trap(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(mnemonic, Sgdt | Sidt | Smsw | Sldt | Str | Syscall)
}

fn is_xsave(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(
        instruction.mnemonic(),
        Xsave | Xsave64 | Xsavec | Xsavec64 | Xsaveopt | Xsaveopt64 | Xrstor | Xrstor64
    )
}

/// What says which elements of a vector access take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lanes {
    /// The low bits of an opmask register.
    Opmask {
        /// Its number.
        register: u8,
        /// How many bits.
        lanes: u8,
    },
    /// The sign bits of a vector register's elements.
    Signs {
        /// Its number.
        register: u8,
        /// How many elements.
        lanes: u8,
        /// Bytes of one.
        element: u8,
    },
    /// The sign bits of an MMX register's bytes.
    MmxSigns {
        /// Its number.
        register: u8,
    },
}

/// An access whose extent a mask decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Varying {
    /// What is asked.
    pub lanes: Lanes,
    /// A gather or scatter: one access for each lane. Else one for all.
    pub each_lane_is_an_access: bool,
    /// Bytes of one lane.
    pub bytes: u8,
    /// It reads.
    pub reads: bool,
    /// It writes.
    pub writes: bool,
}

/// What a masked access with memory depends on; `None` for all other instructions.
pub fn varying(instruction: &Instruction) -> Option<Varying> {
    use Mnemonic::*;
    let number = |register: Register| register.number() as u8;
    let mask = instruction.op_mask();
    match instruction.mnemonic() {
        Maskmovq | Maskmovdqu | Vmaskmovdqu => {
            // [rDI], what to store, where to store it
            let register = number(instruction.op2_register());
            let lanes = if instruction.mnemonic() == Maskmovq {
                Lanes::MmxSigns { register }
            } else {
                Lanes::Signs { register, lanes: 16, element: 1 }
            };
            let each_lane_is_an_access = false;
            return Some(Varying {
                lanes,
                each_lane_is_an_access,
                bytes: 1,
                reads: false,
                writes: true,
            });
        }
        Vmaskmovps | Vmaskmovpd | Vpmaskmovd | Vpmaskmovq => {
            let element =
                if matches!(instruction.mnemonic(), Vmaskmovps | Vpmaskmovd) { 4 } else { 8 };
            let register = instruction.op1_register();
            let writes = instruction.op0_kind() == OpKind::Memory;
            let lanes = register.size() as u8 / element;
            return Some(Varying {
                lanes: Lanes::Signs { register: number(register), lanes, element },
                each_lane_is_an_access: false,
                bytes: element,
                reads: !writes,
                writes,
            });
        }
        _ => {}
    }
    if let Some((index, element, writes)) = indices(instruction.mnemonic()) {
        let data = if writes { instruction.op1_register() } else { instruction.op0_register() };
        let lanes = (instruction.memory_index().size() / index).min(data.size() / element) as u8;
        let lanes = if mask == Register::None {
            let register = number(instruction.op2_register());
            Lanes::Signs { register, lanes, element: element as u8 }
        } else {
            Lanes::Opmask { register: number(mask), lanes }
        };
        let bytes = element as u8;
        return Some(Varying {
            lanes,
            each_lane_is_an_access: true,
            bytes,
            reads: !writes,
            writes,
        });
    }
    let memory = instruction.op_kinds().position(|kind| kind == OpKind::Memory)?;
    if mask == Register::None || instruction.is_broadcast() {
        return None;
    }
    let size = instruction.memory_size();
    let lanes = (size.size() / size.element_size().max(1)) as u8;
    let writes = memory == 0;
    Some(Varying {
        lanes: Lanes::Opmask { register: number(mask), lanes },
        each_lane_is_an_access: false,
        bytes: size.element_size() as u8,
        reads: !writes,
        writes,
    })
}

/// Bytes of an index and of an element of a gather or scatter, and whether it writes.
fn indices(mnemonic: Mnemonic) -> Option<(usize, usize, bool)> {
    use Mnemonic::*;
    Some(match mnemonic {
        Vgatherdps | Vpgatherdd => (4, 4, false),
        Vgatherdpd | Vpgatherdq => (4, 8, false),
        Vgatherqps | Vpgatherqd => (8, 4, false),
        Vgatherqpd | Vpgatherqq => (8, 8, false),
        Vscatterdps | Vpscatterdd => (4, 4, true),
        Vscatterdpd | Vpscatterdq => (4, 8, true),
        Vscatterqps | Vpscatterqd => (8, 4, true),
        Vscatterqpd | Vpscatterqq => (8, 8, true),
        _ => return None,
    })
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

fn is_branch(instruction: &Instruction) -> bool {
    use Mnemonic::{Call, Jmp, Loop, Loope, Loopne, Ret, Retf};
    let is_conditional = instruction.is_jcc_short_or_near() || instruction.is_jcx_short();
    is_conditional
        || matches!(instruction.mnemonic(), Jmp | Call | Ret | Retf | Loop | Loope | Loopne)
}
