//! One random instruction of a given opcode and shape.

use iced_x86::{
    Code, EncodingKind, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpCodeOperandKind as Kind, OpKind, Register, RoundingControl,
};

use crate::machine::{DATA, FAR, WINDOW};
use crate::opcodes::{Cell, Shape, is_memory, is_vsib};
use crate::random::Random;

const GPR8: [Register; 20] = [
    Register::AL,
    Register::CL,
    Register::DL,
    Register::BL,
    Register::SPL,
    Register::BPL,
    Register::SIL,
    Register::DIL,
    Register::R8L,
    Register::R9L,
    Register::R10L,
    Register::R11L,
    Register::R12L,
    Register::R13L,
    Register::R14L,
    Register::R15L,
    Register::AH,
    Register::CH,
    Register::DH,
    Register::BH,
];

/// The 64-bit register of a hardware number.
pub fn gpr64(number: usize) -> Register {
    Register::RAX + number as u32
}

/// Opmask registers from this one on keep their values.
pub const FIRST_KEPT_MASK: usize = 4;

/// What [`crate::machine::CODE`] reaches: every third time what the engine's translation of it does not.
const NEAR: [u64; 3] = [DATA, DATA, FAR];

/// Registers that keep their values throughout a sequence, so that memory operands stay valid.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Point into the data.
    pub bases: [usize; 2],
    /// A small multiple of 64.
    pub index: usize,
    /// Number of the vector register whose elements are small.
    pub vector_index: usize,
    /// Displacements are multiples of 64.
    pub aligned: bool,
    /// The windows that the code reaches by its own address.
    pub near: [u64; 3],
}

impl Frame {
    /// RBX and RBP point into the data, R12 is the index, XMM15 the vector of indices.
    pub fn of_vectors() -> Frame {
        Frame { bases: [3, 5], index: 12, vector_index: 15, aligned: true, near: NEAR }
    }

    /// A random choice.
    pub fn random(random: &mut Random) -> Frame {
        let mut numbers = [0; 3];
        for at in 0..3 {
            numbers[at] = loop {
                let number = random.below(16) as usize;
                if number != 4 && !numbers[..at].contains(&number) {
                    break number;
                }
            };
        }
        Frame {
            bases: [numbers[0], numbers[1]],
            index: numbers[2],
            vector_index: random.below(16) as usize,
            aligned: !random.one_in(5),
            near: NEAR,
        }
    }

    /// Must this register keep its value?
    pub fn keeps(&self, register: Register) -> bool {
        let full = register.full_register();
        if full.is_gpr() {
            let number = full.number();
            return number == 4 || number == self.index || self.bases.contains(&number);
        }
        if full.is_k() {
            // These mask memory, so that it is known what they enable.
            return full.number() >= FIRST_KEPT_MASK;
        }
        full.is_vector_register() && full.number() == self.vector_index
    }

    /// A displacement that keeps an operand inside the data.
    pub fn displacement(&self, random: &mut Random) -> i64 {
        if self.aligned {
            random.below(17) as i64 * 64 - 512
        } else if random.one_in(2) {
            random.below(256) as i64 - 128
        } else {
            random.below(1200) as i64 - 600
        }
    }

    /// A memory operand of a shape, into `instruction`.
    pub fn set_memory(&self, random: &mut Random, instruction: &mut Instruction, shape: Shape) {
        let middle = (WINDOW / 4) as i64;
        let displacement = self.displacement(random);
        let indexed = random.one_in(4);
        let scale = 1 << random.below(4);
        match shape {
            Shape::Register => {}
            Shape::RipRelative => {
                let window = random.pick(&self.near);
                instruction.set_memory_base(Register::RIP);
                instruction.set_memory_displacement64(
                    (window as i64 + middle + displacement).cast_unsigned(),
                );
                instruction.set_memory_displ_size(8);
            }
            Shape::Stack => {
                instruction.set_memory_base(Register::RSP);
                self.finish(instruction, displacement, indexed, scale);
            }
            Shape::Fs => {
                instruction.set_segment_prefix(Register::FS);
                self.finish(instruction, displacement, indexed, scale);
                if instruction.memory_index() == Register::None {
                    instruction.set_memory_displ_size(8);
                }
            }
            Shape::Memory if random.one_in(8) => {
                let at = (DATA as i64 + middle + displacement).cast_unsigned();
                instruction.set_memory_displacement64(at);
                instruction.set_memory_displ_size(8);
            }
            Shape::Memory => {
                let base = random.pick(&self.bases);
                let short = random.one_in(10);
                let register = if short { GPR32[base] } else { gpr64(base) };
                instruction.set_memory_base(register);
                self.finish(instruction, displacement, indexed && !short, scale);
            }
        }
    }

    fn finish(&self, instruction: &mut Instruction, displacement: i64, indexed: bool, scale: u32) {
        if indexed {
            instruction.set_memory_index(gpr64(self.index));
            instruction.set_memory_index_scale(scale);
        }
        instruction.set_memory_displacement64(displacement.cast_unsigned());
        instruction.set_memory_displ_size(u32::from(displacement != 0));
    }
}

const GPR32: [Register; 16] = [
    Register::EAX,
    Register::ECX,
    Register::EDX,
    Register::EBX,
    Register::ESP,
    Register::EBP,
    Register::ESI,
    Register::EDI,
    Register::R8D,
    Register::R9D,
    Register::R10D,
    Register::R11D,
    Register::R12D,
    Register::R13D,
    Register::R14D,
    Register::R15D,
];

fn numbered(first: Register, number: u64) -> Register {
    let found = Register::values().find(|&r| r == first).expect("a register");
    found + number as u32
}

fn gpr(random: &mut Random, size: usize) -> Register {
    if size == 1 {
        return random.pick(&GPR8);
    }
    let number = random.below(16);
    match size {
        2 => Register::AX + number as u32,
        4 => GPR32[number as usize],
        _ => gpr64(number as usize),
    }
}

/// Chooses operands; `None` when the choice breaks a rule of the opcode or of the frame.
pub fn random_instruction(
    random: &mut Random,
    frame: &Frame,
    cell: Cell,
    factory: &mut InstructionInfoFactory,
) -> Option<Instruction> {
    let info = cell.code.op_code();
    let evex = info.encoding() == EncodingKind::EVEX;
    let mut instruction = Instruction::default();
    instruction.set_code(cell.code);
    let mut immediates = 0;
    for (op, &kind) in info.op_kinds().iter().enumerate() {
        let op = op as u32;
        if is_memory(kind) && (cell.shape != Shape::Register) {
            instruction.set_op_kind(op, OpKind::Memory);
            frame.set_memory(random, &mut instruction, cell.shape);
            if kind == Kind::mem_offs {
                let at = if cell.shape == Shape::Fs { 0 } else { DATA + WINDOW as u64 / 4 };
                let at = at.wrapping_add(frame.displacement(random).cast_unsigned());
                instruction.set_memory_base(Register::None);
                instruction.set_memory_index(Register::None);
                instruction.set_memory_displacement64(at);
                instruction.set_memory_displ_size(8);
            }
            if is_vsib(kind) {
                let first = match kind {
                    Kind::mem_vsib32x | Kind::mem_vsib64x => Register::XMM0,
                    Kind::mem_vsib32y | Kind::mem_vsib64y => Register::YMM0,
                    _ => Register::ZMM0,
                };
                if cell.shape == Shape::Memory {
                    instruction.set_memory_base(gpr64(frame.bases[0]));
                    instruction.set_memory_displacement64(64);
                    instruction.set_memory_displ_size(1);
                }
                instruction.set_memory_index(numbered(first, frame.vector_index as u64));
                instruction.set_memory_index_scale(1 << random.below(4));
            }
            continue;
        }
        set_operand(random, frame, &mut instruction, op, kind, evex, &mut immediates, cell.shape)?;
    }
    decorate(random, &mut instruction, cell);
    allowed(frame, &instruction, factory).then_some(instruction)
}

#[allow(clippy::too_many_arguments, reason = "one table")]
fn set_operand(
    random: &mut Random,
    frame: &Frame,
    instruction: &mut Instruction,
    op: u32,
    kind: Kind,
    evex: bool,
    immediates: &mut u32,
    shape: Shape,
) -> Option<()> {
    let vectors = if evex { 32 } else { 16 };
    let mut vector = |first: Register| numbered(first, random.below(vectors));
    let register = match kind {
        Kind::xmm_or_mem | Kind::xmm_reg | Kind::xmm_rm | Kind::xmm_vvvv | Kind::xmmp3_vvvv => {
            vector(Register::XMM0)
        }
        Kind::xmm_is4 | Kind::xmm_is5 => numbered(Register::XMM0, random.below(16)),
        Kind::ymm_is4 | Kind::ymm_is5 => numbered(Register::YMM0, random.below(16)),
        Kind::ymm_or_mem | Kind::ymm_reg | Kind::ymm_rm | Kind::ymm_vvvv => vector(Register::YMM0),
        Kind::zmm_or_mem | Kind::zmm_reg | Kind::zmm_rm | Kind::zmm_vvvv | Kind::zmmp3_vvvv => {
            vector(Register::ZMM0)
        }
        Kind::r8_or_mem | Kind::r8_reg | Kind::r8_opcode => gpr(random, 1),
        Kind::r16_or_mem | Kind::r16_reg | Kind::r16_reg_mem | Kind::r16_rm | Kind::r16_opcode => {
            gpr(random, 2)
        }
        Kind::r32_or_mem
        | Kind::r32_reg
        | Kind::r32_reg_mem
        | Kind::r32_rm
        | Kind::r32_opcode
        | Kind::r32_vvvv => gpr(random, 4),
        Kind::r64_or_mem
        | Kind::r64_reg
        | Kind::r64_reg_mem
        | Kind::r64_rm
        | Kind::r64_opcode
        | Kind::r64_vvvv => gpr(random, 8),
        Kind::mm_or_mem | Kind::mm_reg | Kind::mm_rm => numbered(Register::MM0, random.below(8)),
        Kind::k_or_mem | Kind::k_reg | Kind::k_rm | Kind::k_vvvv => {
            numbered(Register::K0, random.below(8))
        }
        Kind::kp1_reg => numbered(Register::K0, random.below(4) * 2),
        Kind::seg_reg => {
            random.pick(&[Register::ES, Register::SS, Register::DS, Register::FS, Register::CS])
        }
        Kind::es => Register::ES,
        Kind::cs => Register::CS,
        Kind::ss => Register::SS,
        Kind::ds => Register::DS,
        Kind::fs => Register::FS,
        Kind::gs => Register::GS,
        Kind::al => Register::AL,
        Kind::cl => Register::CL,
        Kind::ax => Register::AX,
        Kind::dx => Register::DX,
        Kind::eax => Register::EAX,
        Kind::rax => Register::RAX,
        Kind::st0 => Register::ST0,
        Kind::sti_opcode => numbered(Register::ST0, random.below(8)),
        _ => Register::None,
    };
    if register != Register::None {
        instruction.set_op_kind(op, OpKind::Register);
        instruction.set_op_register(op, register);
        return Some(());
    }
    let value = random.next();
    let immediate = match kind {
        Kind::imm8 if *immediates > 0 => OpKind::Immediate8_2nd,
        Kind::imm8 | Kind::imm8_const_1 | Kind::imm4_m2z => OpKind::Immediate8,
        Kind::imm8sex16 => OpKind::Immediate8to16,
        Kind::imm8sex32 => OpKind::Immediate8to32,
        Kind::imm8sex64 => OpKind::Immediate8to64,
        Kind::imm16 => OpKind::Immediate16,
        Kind::imm32 => OpKind::Immediate32,
        Kind::imm32sex64 => OpKind::Immediate32to64,
        Kind::imm64 => OpKind::Immediate64,
        Kind::br64_1 | Kind::br64_4 => OpKind::NearBranch64,
        Kind::seg_rSI if random.one_in(8) => OpKind::MemorySegESI,
        Kind::seg_rSI => OpKind::MemorySegRSI,
        Kind::es_rDI if instruction.op0_kind() == OpKind::MemorySegESI => OpKind::MemoryESEDI,
        Kind::es_rDI => OpKind::MemoryESRDI,
        Kind::seg_rDI => OpKind::MemorySegRDI,
        Kind::seg_rBX_al => OpKind::Memory,
        _ => return None,
    };
    instruction.set_op_kind(op, immediate);
    match immediate {
        OpKind::Immediate8 if kind == Kind::imm8_const_1 => instruction.set_immediate8(1),
        OpKind::Immediate8 if kind == Kind::imm4_m2z => {
            instruction.set_immediate8((value & 3) as u8)
        }
        OpKind::Immediate8 => instruction.set_immediate8(value as u8),
        OpKind::Immediate8_2nd => instruction.set_immediate8_2nd((value & 3) as u8),
        OpKind::Immediate16 => {
            let stack = matches!(instruction.mnemonic(), Mnemonic::Ret | Mnemonic::Enter);
            instruction.set_immediate16(if stack { value as u16 & 0x38 } else { value as u16 });
        }
        OpKind::Immediate8to16 => instruction.set_immediate8to16(i16::from(value as i8)),
        OpKind::Immediate8to32 => instruction.set_immediate8to32(i32::from(value as i8)),
        OpKind::Immediate8to64 => instruction.set_immediate8to64(i64::from(value as i8)),
        OpKind::Immediate32 => instruction.set_immediate32(value as u32),
        OpKind::Immediate32to64 => instruction.set_immediate32to64(i64::from(value as i32)),
        OpKind::Immediate64 => instruction.set_immediate64(value),
        OpKind::Memory => {
            instruction.set_memory_base(Register::RBX);
            instruction.set_memory_index(Register::AL);
        }
        _ => {}
    }
    if *immediates == 0 && matches!(kind, Kind::imm8 | Kind::imm16) {
        *immediates = 1;
    }
    let implied = matches!(
        immediate,
        OpKind::MemorySegRSI | OpKind::MemorySegESI | OpKind::MemorySegRDI | OpKind::Memory
    );
    if implied && shape == Shape::Fs {
        instruction.set_segment_prefix(Register::FS);
    }
    let _ = frame;
    Some(())
}

/// Prefixes, masks, rounding and broadcasts, where the opcode takes them.
fn decorate(random: &mut Random, instruction: &mut Instruction, cell: Cell) {
    let info = cell.code.op_code();
    let memory = cell.shape != Shape::Register;
    if memory && info.can_use_lock_prefix() && random.one_in(3) {
        instruction.set_has_lock_prefix(true);
    }
    if info.can_use_rep_prefix() && instruction.is_string_instruction() && random.one_in(2) {
        instruction.set_has_rep_prefix(true);
    } else if info.can_use_repne_prefix() && instruction.is_string_instruction() && random.one_in(2)
    {
        instruction.set_has_repne_prefix(true);
    }
    if info.can_use_op_mask_register() && (info.require_op_mask_register() || random.one_in(2)) {
        let known = memory && !instruction.is_vsib() && !random.one_in(24);
        let mask = if known { 4 + random.below(4) } else { 1 + random.below(7) };
        instruction.set_op_mask(Register::K0 + mask as u32);
        let stores = instruction.op0_kind() == OpKind::Memory;
        if info.can_use_zeroing_masking() && !stores && random.one_in(2) {
            instruction.set_zeroing_masking(true);
        }
    }
    if memory && info.can_broadcast() && random.one_in(3) {
        instruction.set_is_broadcast(true);
    }
    if !memory && info.can_use_rounding_control() && random.one_in(4) {
        let modes = [
            RoundingControl::RoundToNearest,
            RoundingControl::RoundDown,
            RoundingControl::RoundUp,
            RoundingControl::RoundTowardZero,
        ];
        instruction.set_rounding_control(random.pick(&modes));
    } else if !memory && info.can_suppress_all_exceptions() && random.one_in(4) {
        instruction.set_suppress_all_exceptions(true);
    }
}

/// Does the instruction leave the frame's registers alone, and obey rules that are no operand kinds?
fn allowed(frame: &Frame, instruction: &Instruction, factory: &mut InstructionInfoFactory) -> bool {
    let op_code = instruction.op_code();
    if op_code.requires_unique_reg_nums() || op_code.requires_unique_dest_reg_num() {
        let mut numbers: Vec<usize> = instruction
            .op_kinds()
            .enumerate()
            .filter(|(_, kind)| *kind == OpKind::Register)
            .map(|(op, _)| instruction.op_register(op as u32).number())
            .collect();
        if instruction.is_vsib() {
            numbers.push(instruction.memory_index().number());
        }
        let first = numbers.first().copied();
        let all = op_code.requires_unique_reg_nums();
        let unique = numbers.iter().enumerate().all(|(i, number)| {
            if all { !numbers[..i].contains(number) } else { i == 0 || first != Some(*number) }
        });
        if !unique {
            return false;
        }
    }
    if instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Register
        && matches!(instruction.op0_register(), Register::FS | Register::GS | Register::CS)
    {
        return false;
    }
    // Leave RSP to what moves it by a little.
    let moves_stack =
        instruction.is_stack_instruction() || instruction.mnemonic() == Mnemonic::Leave;
    if matches!(instruction.code(), Code::VEX_Vzeroall | Code::VEX_Vzeroupper) {
        return true;
    }
    factory.info(instruction).used_registers().iter().all(|used| {
        let written =
            !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None);
        let stack = used.register().full_register() == Register::RSP && moves_stack;
        !written || stack && !explicit_rsp(instruction) || !frame.keeps(used.register())
    })
}

fn explicit_rsp(instruction: &Instruction) -> bool {
    instruction.op_count() > 0
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().full_register() == Register::RSP
        && instruction.mnemonic() == Mnemonic::Pop
}
