//! What an instruction needs before it to end without a fault, and what hides a result that differs by nature.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use crate::operand::Frame;
use crate::random::Random;
use crate::sequence::{Maker, Sequence};

/// Results that no two executions share. They are overwritten directly behind the instruction.
pub const DIFFER: [(Mnemonic, &[Register], &str); 5] = [
    (Mnemonic::Rdtsc, &[Register::EAX, Register::EDX], "time"),
    (Mnemonic::Rdtscp, &[Register::EAX, Register::EDX], "time"),
    (Mnemonic::Rdpru, &[Register::EAX, Register::EDX], "time"),
    (Mnemonic::Rdrand, &[], "random, and so its operand"),
    (Mnemonic::Rdseed, &[], "random, and so its operand"),
];

/// Instructions before `instruction`; `None` when this frame has no room for them.
pub fn put(
    maker: &mut Maker,
    random: &mut Random,
    frame: &Frame,
    sequence: &mut Sequence,
    instruction: &mut Instruction,
) -> Option<()> {
    let fs = instruction.segment_prefix() == Register::FS;
    for op in 0..instruction.op_count() {
        match instruction.op_kind(op) {
            OpKind::MemorySegRSI | OpKind::MemorySegESI => {
                maker.put_pointer(random, frame, sequence, Register::RSI, fs)?;
            }
            OpKind::MemoryESRDI | OpKind::MemoryESEDI => {
                maker.put_pointer(random, frame, sequence, Register::RDI, false)?;
            }
            OpKind::MemorySegRDI => {
                maker.put_pointer(random, frame, sequence, Register::RDI, fs)?;
            }
            _ => {}
        }
    }
    if instruction.has_rep_prefix() || instruction.has_repne_prefix() {
        let stops_early = instruction.rflags_written() != 0;
        if stops_early && random.one_in(4) && !frame.keeps(Register::RCX) {
            // A count that has more than 32 bits; most comparisons end at once, the others in a fault.
            let count = random.next() >> random.below(32) | 1 << 32;
            let mov = Instruction::with2(Code::Mov_r64_imm64, Register::RCX, count).ok()?;
            maker.put(sequence, &mov, None)?;
        } else {
            maker.put_value(frame, sequence, Register::RCX, random.below(9) as u32)?;
        }
    }
    if instruction.is_jmp_near_indirect() || instruction.is_call_near_indirect() {
        return put_target(maker, random, frame, sequence, instruction);
    }
    use Mnemonic::*;
    match instruction.mnemonic() {
        Xlatb => maker.put_pointer(random, frame, sequence, Register::RBX, fs),
        Div | Idiv => {
            maker.put_value(frame, sequence, Register::RDX, 0)?;
            maker.put_value(frame, sequence, Register::RAX, random.below(100) as u32)
        }
        Enter | Leave => put_frame_pointer(maker, sequence, frame),
        Popf | Popfq | Popfd => {
            // Status flags, DF and ID; bit 1 is always set.
            let flags =
                random.next() as u32 & 0x0020_08d5 | 0x202 | (random.below(4) as u32 / 3) << 10;
            let push = Instruction::with1(Code::Pushq_imm32, flags as i32).ok()?;
            maker.put(sequence, &push, None)
        }
        Jecxz | Jrcxz if random.one_in(2) && !frame.keeps(Register::RCX) => {
            let count = random.next() << 32;
            let mov = Instruction::with2(Code::Mov_r64_imm64, Register::RCX, count).ok()?;
            maker.put(sequence, &mov, None)
        }
        Xgetbv | Rdpkru => maker.put_value(frame, sequence, Register::RCX, 0),
        Wrpkru | Rdpru | Monitorx => {
            for register in [Register::RCX, Register::RDX] {
                maker.put_value(frame, sequence, register, 0)?;
            }
            if instruction.mnemonic() == Monitorx {
                return maker.put_pointer(random, frame, sequence, Register::RAX, false);
            }
            maker.put_value(frame, sequence, Register::RAX, 0)
        }
        Clzero => maker.put_pointer(random, frame, sequence, Register::RAX, false),
        Cpuid => {
            let leaves = [0, 1, 2, 7, 0x16, 0x8000_0000, 0x8000_0001, 0x8000_0008];
            maker.put_value(frame, sequence, Register::RAX, random.pick(&leaves))?;
            maker.put_value(frame, sequence, Register::RCX, 0)
        }
        Syscall => maker.put_value(frame, sequence, Register::RAX, random.pick(&[39, 102, 0xfff])),
        Loop | Loope | Loopne => {
            maker.put_value(frame, sequence, Register::RCX, random.below(3) as u32)
        }
        Bt | Bts | Btr | Btc
            if instruction.op0_kind() == OpKind::Memory
                && instruction.op1_kind() == OpKind::Register =>
        {
            let offset = random.below(500) as u32;
            maker.put_value(frame, sequence, instruction.op1_register(), offset)
        }
        Wrfsbase => maker.put_pointer(random, frame, sequence, instruction.op0_register(), false),
        Movdir64b => maker.put_pointer(random, frame, sequence, instruction.op0_register(), false),
        Mov if instruction.op0_kind() == OpKind::Register
            && instruction.op0_register().is_segment_register() =>
        {
            let mut store = *instruction;
            store.set_code(if instruction.op1_kind() == OpKind::Memory {
                Code::Mov_r32m16_Sreg
            } else {
                Code::Mov_r64m16_Sreg
            });
            let segment = instruction.op0_register();
            if instruction.op1_kind() == OpKind::Memory {
                store.set_op0_kind(OpKind::Memory);
            } else {
                let register = instruction.op1_register().full_register();
                if frame.keeps(register) {
                    return None;
                }
                store.set_op0_register(register);
            }
            store.set_op1_kind(OpKind::Register);
            store.set_op1_register(segment);
            maker.put(sequence, &store, None)
        }
        Ldmxcsr | Vldmxcsr => maker.put_sibling(sequence, instruction, Code::Stmxcsr_m32),
        Fldcw => maker.put_sibling(sequence, instruction, Code::Fnstcw_m2byte),
        Fldenv => {
            let wide = instruction.code() == Code::Fldenv_m28byte;
            let store = if wide { Code::Fnstenv_m28byte } else { Code::Fnstenv_m14byte };
            maker.put_sibling(sequence, instruction, store)
        }
        Frstor => {
            let wide = instruction.code() == Code::Frstor_m108byte;
            let store = if wide { Code::Fnsave_m108byte } else { Code::Fnsave_m94byte };
            maker.put_sibling(sequence, instruction, store)
        }
        Fxrstor => maker.put_sibling(sequence, instruction, Code::Fxsave_m512byte),
        Fxrstor64 => maker.put_sibling(sequence, instruction, Code::Fxsave64_m512byte),
        Xrstor | Xrstor64 => put_xsave(maker, random, frame, sequence, instruction),
        Xsave | Xsave64 | Xsaveopt | Xsaveopt64 | Xsavec | Xsavec64 => {
            put_vectors_in_use(maker, sequence);
            maker.put_value(frame, sequence, Register::RAX, random.next() as u32)?;
            maker.put_value(frame, sequence, Register::RDX, 0)
        }
        Ret => {
            let register = maker.free(random, frame);
            maker.put_address(sequence, register, random.below(2) as u32)?;
            let push = Instruction::with1(Code::Push_r64, register).ok()?;
            maker.put(sequence, &push, None)
        }
        _ => Some(()),
    }
}

/// Instructions behind it.
pub fn put_behind(
    maker: &mut Maker,
    random: &mut Random,
    frame: &Frame,
    sequence: &mut Sequence,
    instruction: &Instruction,
) -> Option<()> {
    let mnemonic = instruction.mnemonic();
    for (differs, registers, _) in DIFFER {
        if differs != mnemonic {
            continue;
        }
        for &register in registers {
            maker.put_value(frame, sequence, register, random.next() as u32)?;
        }
        if registers.is_empty() {
            maker.put_value(frame, sequence, instruction.op0_register(), random.next() as u32)?;
        }
    }
    let loads_ss = mnemonic == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register() == Register::SS;
    if loads_ss || tests::weight::may_hide_trap(mnemonic) {
        // The trap behind it does not come, or comes behind the next instruction.
        let nop = Instruction::with(Code::Nopd);
        return maker.put(sequence, &nop, None);
    }
    Some(())
}

fn put_frame_pointer(maker: &mut Maker, sequence: &mut Sequence, frame: &Frame) -> Option<()> {
    if frame.keeps(Register::RBP) {
        return None;
    }
    let mut lea = Instruction::default();
    lea.set_code(Code::Lea_r64_m);
    lea.set_op0_kind(OpKind::Register);
    lea.set_op0_register(Register::RBP);
    lea.set_op1_kind(OpKind::Memory);
    lea.set_memory_base(Register::RSP);
    lea.set_memory_displacement64(32);
    lea.set_memory_displ_size(1);
    maker.put(sequence, &lea, None)
}

/// Where an indirect branch leads to: in its register, or in its memory operand.
fn put_target(
    maker: &mut Maker,
    random: &mut Random,
    frame: &Frame,
    sequence: &mut Sequence,
    instruction: &Instruction,
) -> Option<()> {
    let passes = random.below(2) as u32;
    if instruction.op0_kind() == OpKind::Register {
        let register = instruction.op0_register();
        if frame.keeps(register) {
            return None;
        }
        return maker.put_address(sequence, register, passes);
    }
    let register = maker.free(random, frame);
    maker.put_address(sequence, register, passes)?;
    let mut store = *instruction;
    store.set_code(Code::Mov_rm64_r64);
    store.set_op1_kind(OpKind::Register);
    store.set_op1_register(register);
    maker.put(sequence, &store, None)
}

/// Which of the vector components XSAVE finds in use when they hold zeros (after VZEROALL, VZEROUPPER) is the CPU's affair
/// (SDM vol. 1, 13.6): saving and loading xmm registers, as the dispatcher does, may change it. So none does.
fn put_vectors_in_use(maker: &mut Maker, sequence: &mut Sequence) {
    if std::is_x86_feature_detected!("avx512f") {
        // vpternlogd zmm0, zmm0, zmm0, 255; vpternlogd zmm16, zmm16, zmm16, 255
        maker.put_bytes(sequence, &[0x62, 0xf3, 0x7d, 0x48, 0x25, 0xc0, 0xff]);
        maker.put_bytes(sequence, &[0x62, 0xa3, 0x7d, 0x40, 0x25, 0xc0, 0xff]);
    } else if std::is_x86_feature_detected!("avx2") {
        maker.put_bytes(sequence, &[0xc5, 0xfd, 0x76, 0xc0]); // vpcmpeqd ymm0, ymm0, ymm0
    }
}

/// An area that XRSTOR takes: made by XSAVE, its header's reserved part cleared before.
fn put_xsave(
    maker: &mut Maker,
    random: &mut Random,
    frame: &Frame,
    sequence: &mut Sequence,
    instruction: &Instruction,
) -> Option<()> {
    put_vectors_in_use(maker, sequence);
    maker.put_value(frame, sequence, Register::RAX, random.next() as u32)?;
    maker.put_value(frame, sequence, Register::RDX, 0)?;
    for word in 0..8 {
        let mut clear = *instruction;
        clear.set_code(Code::Mov_rm64_imm32);
        let at = instruction.memory_displacement64().wrapping_add(512 + 8 * word);
        clear.set_memory_displacement64(at);
        clear.set_memory_displ_size(instruction.memory_displ_size().max(1));
        clear.set_op1_kind(OpKind::Immediate32to64);
        clear.set_immediate32to64(0);
        maker.put(sequence, &clear, None)?;
    }
    let wide = instruction.mnemonic() == Mnemonic::Xrstor64;
    maker.put_sibling(sequence, instruction, if wide { Code::Xsave64_mem } else { Code::Xsave_mem })
}
