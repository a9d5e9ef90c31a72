//! What one execution of an x86-64 instruction counts: the rules of `engine/COUNTING.md` in code.
//!
//! This is the one place that knows them; the translator, static inspection and the tests ask here.

use iced_x86::{
    Code, FlowControl, Instruction, InstructionInfo, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register, UsedMemory,
};

use crate::metric::{Metric, Weights};

/// How often the dynamic part of an instruction's weights happens in one execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// All weights are static.
    Never,
    /// Once per iteration of a REP-prefixed string instruction.
    Iterations,
    /// Once per element that the opmask register enables; `u8` is the number of elements.
    Opmask(Register, u8),
    /// Once per element whose sign bit is set in a vector register (AVX2 masked moves and gathers).
    VectorMask {
        /// The register that holds the mask.
        mask: Register,
        /// Elements that reach memory.
        lanes: u8,
        /// Bytes of one element of the mask.
        element: u8,
    },
    /// Once per byte whose sign bit is set (MASKMOVDQU, MASKMOVQ).
    ByteMask(Register),
}

/// The weights of one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstructionWeights {
    /// What each execution adds.
    pub fixed: Weights,
    /// What each repetition adds.
    pub repeated: Weights,
    /// What a repetition is.
    pub repeats: Repeats,
}

/// Is this instruction a string instruction with a REP prefix?
pub fn is_rep_string(instruction: &Instruction) -> bool {
    instruction.is_string_instruction()
        && (instruction.has_rep_prefix() || instruction.has_repne_prefix())
}

/// The weights of `instruction`, whose details `info` were made from it.
pub fn of(instruction: &Instruction, info: &InstructionInfo) -> InstructionWeights {
    let mut fixed = Weights::default();
    let mut repeated = Weights::default();
    fixed.add(Metric::Instructions, 1);
    if is_barrier(instruction) {
        fixed.add(Metric::Barriers, 1);
    }
    if is_branch(instruction) {
        fixed.add(Metric::Branches, 1);
    }
    let repeats = repeats(instruction);
    if touches_no_data(instruction) {
        return InstructionWeights { fixed, repeated, repeats: Repeats::Never };
    }
    match repeats {
        Repeats::Never => {
            info.used_memory().iter().for_each(|m| access(&mut fixed, m, memory_bytes(m)))
        }
        Repeats::Iterations => {
            // Of the whole repetition the decoder knows no size; the operand has one.
            let size = instruction.memory_size().size() as u16;
            info.used_memory().iter().for_each(|m| access(&mut repeated, m, size));
        }
        Repeats::Opmask(_, elements) | Repeats::VectorMask { lanes: elements, .. } => {
            for m in info.used_memory() {
                if is_indexed_by_vector(instruction) {
                    // A gather or scatter makes one access per enabled element.
                    access(&mut repeated, m, element_bytes(instruction, m, elements));
                } else {
                    // A masked move is one access of as many bytes as its mask enables.
                    access(&mut fixed, m, 0);
                    bytes(&mut repeated, m, element_bytes(instruction, m, elements));
                }
            }
        }
        Repeats::ByteMask(_) => {
            fixed.add(Metric::MemoryWrites, 1);
            repeated.add(Metric::MemoryBytesWritten, 1);
        }
    }
    InstructionWeights { fixed, repeated, repeats }
}

/// Convenience for callers without a factory at hand.
pub fn of_instruction(
    instruction: &Instruction,
    factory: &mut InstructionInfoFactory,
) -> InstructionWeights {
    of(instruction, factory.info(instruction))
}

/// Fences, LOCK-prefixed instructions, XCHG with memory (locked by itself) and serialising instructions
/// that user mode may execute (Intel SDM vol. 3, 10.3 "Serializing Instructions").
fn is_barrier(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Mfence
        | Mnemonic::Lfence
        | Mnemonic::Sfence
        | Mnemonic::Cpuid
        | Mnemonic::Serialize => true,
        Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq => true,
        Mnemonic::Xchg => has_memory_operand(instruction),
        _ => instruction.has_lock_prefix(),
    }
}

/// Jumps, conditional jumps (LOOP and JRCXZ among them), calls and returns, near and far; what enters the kernel or leaves
/// it, and XBEGIN, is none.
fn is_branch(instruction: &Instruction) -> bool {
    match instruction.flow_control() {
        FlowControl::UnconditionalBranch
        | FlowControl::IndirectBranch
        | FlowControl::ConditionalBranch
        | FlowControl::IndirectCall => true,
        // SYSCALL and the instructions of virtual machines are calls for iced, IRET, SYSRET and UIRET returns.
        FlowControl::Call => instruction.mnemonic() == Mnemonic::Call,
        FlowControl::Return => matches!(instruction.mnemonic(), Mnemonic::Ret | Mnemonic::Retf),
        _ => false,
    }
}

/// Instructions whose memory operand is an address or a hint, not an access.
fn touches_no_data(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(
        instruction.mnemonic(),
        Lea | Nop
            | Prefetchnta
            | Prefetcht0
            | Prefetcht1
            | Prefetcht2
            | Prefetchw
            | Prefetchwt1
            | Prefetch
            | Prefetchit0
            | Prefetchit1
            | Reservednop
            | Clflush
            | Clflushopt
            | Clwb
            | Cldemote
            | Clzero
            | Monitor
            | Monitorx
            | Umonitor
            | Endbr64
            | Endbr32
    )
}

fn has_memory_operand(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|op| instruction.op_kind(op) == OpKind::Memory)
}

/// Is the memory operand addressed by a vector of indices (VSIB)?
fn is_indexed_by_vector(instruction: &Instruction) -> bool {
    instruction.is_vsib()
}

fn repeats(instruction: &Instruction) -> Repeats {
    if is_rep_string(instruction) {
        return Repeats::Iterations;
    }
    if matches!(
        instruction.mnemonic(),
        Mnemonic::Maskmovdqu | Mnemonic::Vmaskmovdqu | Mnemonic::Maskmovq
    ) {
        // [rDI], the data, the mask
        return Repeats::ByteMask(instruction.op2_register());
    }
    if !has_memory_operand(instruction) {
        return Repeats::Never;
    }
    if instruction.op_mask() != Register::None {
        if instruction.is_broadcast() {
            return Repeats::Never;
        }
        let elements = opmask_elements(instruction);
        return if elements == 0 {
            Repeats::Never
        } else {
            Repeats::Opmask(instruction.op_mask(), elements)
        };
    }
    use Code::*;
    match instruction.code() {
        VEX_Vmaskmovps_xmm_xmm_m128 | VEX_Vpmaskmovd_xmm_xmm_m128 => {
            vector_mask(instruction.op1_register(), 4, 4)
        }
        VEX_Vmaskmovps_ymm_ymm_m256 | VEX_Vpmaskmovd_ymm_ymm_m256 => {
            vector_mask(instruction.op1_register(), 8, 4)
        }
        VEX_Vmaskmovpd_xmm_xmm_m128 | VEX_Vpmaskmovq_xmm_xmm_m128 => {
            vector_mask(instruction.op1_register(), 2, 8)
        }
        VEX_Vmaskmovpd_ymm_ymm_m256 | VEX_Vpmaskmovq_ymm_ymm_m256 => {
            vector_mask(instruction.op1_register(), 4, 8)
        }
        VEX_Vmaskmovps_m128_xmm_xmm | VEX_Vpmaskmovd_m128_xmm_xmm => {
            vector_mask(instruction.op1_register(), 4, 4)
        }
        VEX_Vmaskmovps_m256_ymm_ymm | VEX_Vpmaskmovd_m256_ymm_ymm => {
            vector_mask(instruction.op1_register(), 8, 4)
        }
        VEX_Vmaskmovpd_m128_xmm_xmm | VEX_Vpmaskmovq_m128_xmm_xmm => {
            vector_mask(instruction.op1_register(), 2, 8)
        }
        VEX_Vmaskmovpd_m256_ymm_ymm | VEX_Vpmaskmovq_m256_ymm_ymm => {
            vector_mask(instruction.op1_register(), 4, 8)
        }
        VEX_Vgatherdps_xmm_vm32x_xmm | VEX_Vpgatherdd_xmm_vm32x_xmm => {
            vector_mask(instruction.op2_register(), 4, 4)
        }
        VEX_Vgatherdps_ymm_vm32y_ymm | VEX_Vpgatherdd_ymm_vm32y_ymm => {
            vector_mask(instruction.op2_register(), 8, 4)
        }
        VEX_Vgatherdpd_xmm_vm32x_xmm | VEX_Vpgatherdq_xmm_vm32x_xmm => {
            vector_mask(instruction.op2_register(), 2, 8)
        }
        VEX_Vgatherdpd_ymm_vm32x_ymm | VEX_Vpgatherdq_ymm_vm32x_ymm => {
            vector_mask(instruction.op2_register(), 4, 8)
        }
        // Two 64-bit indices reach the low two dwords alone.
        VEX_Vgatherqps_xmm_vm64x_xmm | VEX_Vpgatherqd_xmm_vm64x_xmm => {
            vector_mask(instruction.op2_register(), 2, 4)
        }
        VEX_Vgatherqps_xmm_vm64y_xmm | VEX_Vpgatherqd_xmm_vm64y_xmm => {
            vector_mask(instruction.op2_register(), 4, 4)
        }
        VEX_Vgatherqpd_xmm_vm64x_xmm | VEX_Vpgatherqq_xmm_vm64x_xmm => {
            vector_mask(instruction.op2_register(), 2, 8)
        }
        VEX_Vgatherqpd_ymm_vm64y_ymm | VEX_Vpgatherqq_ymm_vm64y_ymm => {
            vector_mask(instruction.op2_register(), 4, 8)
        }
        _ => Repeats::Never,
    }
}

fn vector_mask(mask: Register, lanes: u8, element: u8) -> Repeats {
    Repeats::VectorMask { mask, lanes, element }
}

/// Elements that the opmask of an EVEX instruction with a memory operand selects in memory.
fn opmask_elements(instruction: &Instruction) -> u8 {
    let size = instruction.memory_size();
    if is_indexed_by_vector(instruction) {
        // As many elements as both the index vector and the data vector hold.
        let index = instruction.memory_index();
        let index_bytes = index.size();
        let index_element = match instruction.mnemonic() {
            Mnemonic::Vgatherqps
            | Mnemonic::Vgatherqpd
            | Mnemonic::Vpgatherqd
            | Mnemonic::Vpgatherqq
            | Mnemonic::Vscatterqps
            | Mnemonic::Vscatterqpd
            | Mnemonic::Vpscatterqd
            | Mnemonic::Vpscatterqq => 8,
            _ => 4,
        };
        let data = (0..instruction.op_count())
            .filter(|&op| instruction.op_kind(op) == OpKind::Register)
            .map(|op| instruction.op_register(op).size())
            .max()
            .unwrap_or(0);
        let element = size.element_size().max(1);
        return (index_bytes / index_element).min(data / element) as u8;
    }
    let element = size.element_size();
    size.size().checked_div(element).unwrap_or(0) as u8
}

/// Bytes of one element of a masked access.
fn element_bytes(instruction: &Instruction, memory: &UsedMemory, elements: u8) -> u16 {
    let size = memory.memory_size();
    if is_indexed_by_vector(instruction) {
        return instruction.memory_size().element_size() as u16;
    }
    size.size() as u16 / u16::from(elements.max(1))
}

/// Bytes of one access. The XSAVE family's area depends on the requested components and counts as 512,
/// its legacy region, as in the rules.
fn memory_bytes(memory: &UsedMemory) -> u16 {
    use iced_x86::MemorySize as M;
    match memory.memory_size() {
        M::Xsave | M::Xsave64 => 512,
        size => size.size() as u16,
    }
}

fn access(weights: &mut Weights, memory: &UsedMemory, size: u16) {
    let (read, write) = directions(memory.access());
    if read {
        weights.add(Metric::MemoryReads, 1);
        weights.add(Metric::MemoryBytesRead, size);
    }
    if write {
        weights.add(Metric::MemoryWrites, 1);
        weights.add(Metric::MemoryBytesWritten, size);
    }
}

fn bytes(weights: &mut Weights, memory: &UsedMemory, size: u16) {
    match memory.access() {
        OpAccess::Read | OpAccess::CondRead => weights.add(Metric::MemoryBytesRead, size),
        OpAccess::Write | OpAccess::CondWrite => weights.add(Metric::MemoryBytesWritten, size),
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => {
            weights.add(Metric::MemoryBytesRead, size);
            weights.add(Metric::MemoryBytesWritten, size);
        }
        OpAccess::None | OpAccess::NoMemAccess => {}
    }
}

fn directions(access: OpAccess) -> (bool, bool) {
    match access {
        OpAccess::Read | OpAccess::CondRead => (true, false),
        OpAccess::Write | OpAccess::CondWrite => (false, true),
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
        OpAccess::None | OpAccess::NoMemAccess => (false, false),
    }
}
