//! A random sequence: instructions with what they need before them, encoded at a place.

use iced_x86::{
    Code, Decoder, DecoderOptions, Encoder, Instruction, InstructionInfoFactory, Mnemonic, OpKind,
    Register,
};

use crate::machine::SLOT;
use crate::opcodes::{Cell, Shape};
use crate::operand::{FIRST_KEPT_MASK, Frame, gpr64, random_instruction};
use crate::prelude;
use crate::random::Random;

/// One instruction of a sequence.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where it begins.
    pub offset: u16,
    /// As decoded from its bytes.
    pub instruction: Instruction,
    /// The cell that it stands for; `None` for what was put around it.
    pub cell: Option<u32>,
}

/// A sequence at its place.
#[derive(Clone, Default)]
pub struct Sequence {
    /// Address of its first byte.
    pub pc: u64,
    /// Machine code.
    pub code: Vec<u8>,
    /// Its instructions in order.
    pub items: Vec<Item>,
    /// Its path or its accesses depend on values: only steps tell.
    pub dynamic: bool,
    /// How often it is gone through.
    pub passes: u32,
}

/// Makes sequences.
pub struct Maker {
    encoder: Encoder,
    factory: InstructionInfoFactory,
    /// Branches and addresses that lead behind the next instruction: offset, form, instructions still to pass.
    open: Vec<(usize, Instruction, u32)>,
    /// A branch does not reach where it should lead.
    too_far: bool,
}

/// What became of a request to add an instruction.
type Encoded = Option<()>;

impl Maker {
    /// Nothing yet.
    pub fn new() -> Maker {
        Maker {
            encoder: Encoder::new(64),
            factory: InstructionInfoFactory::new(),
            open: Vec::new(),
            too_far: false,
        }
    }

    /// An empty sequence at `pc`.
    pub fn begin(&mut self, sequence: &mut Sequence, pc: u64) {
        sequence.pc = pc;
        sequence.code.clear();
        sequence.items.clear();
        sequence.dynamic = false;
        sequence.passes = 1;
        self.open.clear();
        self.too_far = false;
    }

    /// Appends one instruction as it is.
    pub fn put(
        &mut self,
        sequence: &mut Sequence,
        instruction: &Instruction,
        cell: Option<u32>,
    ) -> Encoded {
        let offset = sequence.code.len();
        let at = sequence.pc + offset as u64;
        let mut instruction = *instruction;
        if instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64 {
            instruction.set_near_branch64(at + 16);
        }
        let encoded = self.encoder.encode(&instruction, at);
        let mut buffer = self.encoder.take_buffer();
        if encoded.is_ok() {
            sequence.code.extend_from_slice(&buffer);
        }
        buffer.clear();
        self.encoder.set_buffer(buffer);
        encoded.ok()?;
        let decoded =
            Decoder::with_ip(64, &sequence.code[offset..], at, DecoderOptions::NONE).decode();
        sequence.items.push(Item { offset: offset as u16, instruction: decoded, cell });
        Some(())
    }

    /// Appends machine code.
    pub fn put_bytes(&mut self, sequence: &mut Sequence, bytes: &[u8]) {
        let start = sequence.code.len();
        sequence.code.extend_from_slice(bytes);
        let at = sequence.pc + start as u64;
        for instruction in Decoder::with_ip(64, bytes, at, DecoderOptions::NONE) {
            let offset = (instruction.ip() - sequence.pc) as u16;
            sequence.items.push(Item { offset, instruction, cell: None });
        }
    }

    /// An instruction whose branch target or address is the place behind `passes` more items.
    pub fn put_open(
        &mut self,
        sequence: &mut Sequence,
        instruction: &Instruction,
        cell: Option<u32>,
        passes: u32,
    ) -> Encoded {
        let offset = sequence.code.len();
        self.put(sequence, instruction, cell)?;
        self.open.push((offset, *instruction, passes));
        Some(())
    }

    /// Closes what leads to here.
    fn pass(&mut self, sequence: &mut Sequence, all: bool) {
        let here = sequence.pc + sequence.code.len() as u64;
        let mut at = 0;
        while at < self.open.len() {
            let (offset, mut instruction, passes) = self.open[at];
            if passes > 0 && !all {
                self.open[at].2 -= 1;
                at += 1;
                continue;
            }
            let address = sequence.pc + offset as u64;
            if instruction.op0_kind() == OpKind::NearBranch64 {
                instruction.set_near_branch64(here);
            } else {
                instruction.set_memory_displacement64(here);
            }
            let encoded = self.encoder.encode(&instruction, address);
            let mut buffer = self.encoder.take_buffer();
            self.too_far |= encoded.is_err();
            if let Ok(length) = encoded {
                sequence.code[offset..offset + length].copy_from_slice(&buffer);
                let decoded =
                    Decoder::with_ip(64, &sequence.code[offset..], address, DecoderOptions::NONE)
                        .decode();
                if let Some(item) =
                    sequence.items.iter_mut().find(|item| usize::from(item.offset) == offset)
                {
                    item.instruction = decoded;
                }
            }
            buffer.clear();
            self.encoder.set_buffer(buffer);
            self.open.swap_remove(at);
        }
    }

    /// Adds an instruction of this cell with what it needs; `false` when it cannot be had in this frame.
    pub fn add(
        &mut self,
        random: &mut Random,
        frame: &Frame,
        sequence: &mut Sequence,
        cell: Cell,
        number: u32,
    ) -> bool {
        let (code, items, open) = (sequence.code.len(), sequence.items.len(), self.open.len());
        for _ in 0..4 {
            let added = random_instruction(random, frame, cell, &mut self.factory).and_then(
                |instruction| self.add_with_prelude(random, frame, sequence, instruction, number),
            );
            if added.is_some() && sequence.code.len() < SLOT as usize - 256 {
                self.pass(sequence, false);
                return true;
            }
            sequence.code.truncate(code);
            sequence.items.truncate(items);
            self.open.truncate(open);
        }
        false
    }

    fn add_with_prelude(
        &mut self,
        random: &mut Random,
        frame: &Frame,
        sequence: &mut Sequence,
        mut instruction: Instruction,
        number: u32,
    ) -> Encoded {
        prelude::put(self, random, frame, sequence, &mut instruction)?;
        let branch = instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64;
        let away = instruction.mnemonic() == Mnemonic::Ret
            || instruction.is_jmp_near_indirect()
            || instruction.is_call_near_indirect();
        let rep = instruction.is_string_instruction()
            && (instruction.has_rep_prefix() || instruction.has_repne_prefix());
        let memory = instruction.op_kinds().any(|kind| kind == OpKind::Memory);
        let unknown_mask =
            instruction.has_op_mask() && instruction.op_mask().number() < FIRST_KEPT_MASK;
        let masked = memory && (unknown_mask || instruction.is_vsib())
            || matches!(
                instruction.mnemonic(),
                Mnemonic::Vmaskmovps
                    | Mnemonic::Vmaskmovpd
                    | Mnemonic::Vpmaskmovd
                    | Mnemonic::Vpmaskmovq
                    | Mnemonic::Maskmovq
                    | Mnemonic::Maskmovdqu
                    | Mnemonic::Vmaskmovdqu
            );
        sequence.dynamic |= branch || away || rep || masked;
        if branch {
            self.put_open(sequence, &instruction, Some(number), random.below(3) as u32 + 1)?;
        } else {
            self.put(sequence, &instruction, Some(number))?;
        }
        prelude::put_behind(self, random, frame, sequence, &instruction)
    }

    /// Ends the sequence with the jump out; with `again` it is gone through once more before. `None` when a branch in it
    /// cannot be closed.
    pub fn end(&mut self, sequence: &mut Sequence, again: Option<u64>) -> Encoded {
        self.pass(sequence, true);
        if self.too_far {
            return None;
        }
        let trampoline = sequence.pc & !(0x1ff_ffff);
        if let Some(counter) = again {
            let mut decrement = Instruction::default();
            decrement.set_code(Code::Dec_rm32);
            decrement.set_op0_kind(OpKind::Memory);
            decrement.set_memory_displacement64(counter);
            decrement.set_memory_displ_size(8);
            self.put(sequence, &decrement, None)?;
            let start = sequence.pc;
            self.put_branch(sequence, Code::Jne_rel32_64, start)?;
            sequence.passes = 2;
        }
        self.put_branch(sequence, Code::Jmp_rel32_64, trampoline)
    }

    fn put_branch(&mut self, sequence: &mut Sequence, code: Code, target: u64) -> Encoded {
        let mut branch = Instruction::default();
        branch.set_code(code);
        branch.set_op0_kind(OpKind::NearBranch64);
        let offset = sequence.code.len();
        self.put(sequence, &branch, None)?;
        let end = sequence.code.len();
        let next = sequence.pc + end as u64;
        sequence.code[end - 4..].copy_from_slice(&(target.wrapping_sub(next) as u32).to_le_bytes());
        let decoded = Decoder::with_ip(
            64,
            &sequence.code[offset..],
            sequence.pc + offset as u64,
            DecoderOptions::NONE,
        )
        .decode();
        sequence.items.last_mut()?.instruction = decoded;
        Some(())
    }

    /// `lea register, [base + displacement]`: a valid pointer.
    pub fn put_pointer(
        &mut self,
        random: &mut Random,
        frame: &Frame,
        sequence: &mut Sequence,
        register: Register,
        fs: bool,
    ) -> Encoded {
        if frame.keeps(register) {
            // It points into the data already, unless it is the index.
            return (register.full_register().number() != frame.index && !fs).then_some(());
        }
        let mut lea = Instruction::default();
        lea.set_code(Code::Lea_r64_m);
        lea.set_op0_kind(OpKind::Register);
        lea.set_op0_register(register.full_register());
        lea.set_op1_kind(OpKind::Memory);
        if fs {
            lea.set_memory_displacement64(frame.displacement(random).cast_unsigned());
            lea.set_memory_displ_size(8);
        } else {
            lea.set_memory_base(gpr64(frame.bases[1]));
            lea.set_memory_displacement64(frame.displacement(random).cast_unsigned());
            lea.set_memory_displ_size(1);
        }
        self.put(sequence, &lea, None)
    }

    /// `mov r32, imm32`.
    pub fn put_value(
        &mut self,
        frame: &Frame,
        sequence: &mut Sequence,
        register: Register,
        value: u32,
    ) -> Encoded {
        if frame.keeps(register) {
            return None;
        }
        let short = Register::EAX + register.full_register().number() as u32;
        let mov = Instruction::with2(Code::Mov_r32_imm32, short, value).ok()?;
        self.put(sequence, &mov, None)
    }

    /// `lea register, [rip + behind the next `passes` items]`.
    pub fn put_address(
        &mut self,
        sequence: &mut Sequence,
        register: Register,
        passes: u32,
    ) -> Encoded {
        let mut lea = Instruction::default();
        lea.set_code(Code::Lea_r64_m);
        lea.set_op0_kind(OpKind::Register);
        lea.set_op0_register(register);
        lea.set_op1_kind(OpKind::Memory);
        lea.set_memory_base(Register::RIP);
        lea.set_memory_displacement64(sequence.pc + 512);
        lea.set_memory_displ_size(8);
        self.put_open(sequence, &lea, None, passes)
    }

    /// The same operand for another opcode.
    pub fn put_sibling(
        &mut self,
        sequence: &mut Sequence,
        instruction: &Instruction,
        code: Code,
    ) -> Encoded {
        let mut sibling = *instruction;
        sibling.set_code(code);
        self.put(sequence, &sibling, None)
    }

    /// A free general-purpose register.
    pub fn free(&self, random: &mut Random, frame: &Frame) -> Register {
        loop {
            let register = gpr64(random.below(16) as usize);
            if !frame.keeps(register) {
                return register;
            }
        }
    }
}

/// The shape of an instruction's memory operand, for messages.
pub fn describe(sequence: &Sequence) -> String {
    use iced_x86::{Formatter, IntelFormatter};
    let mut formatter = IntelFormatter::new();
    let mut text = String::new();
    for item in &sequence.items {
        let mut line = String::new();
        formatter.format(&item.instruction, &mut line);
        let at = usize::from(item.offset);
        let bytes: String = sequence.code[at..at + item.instruction.len()]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        text.push_str(&format!("  {:#x} {bytes:30} {line}\n", sequence.pc + at as u64));
    }
    text
}

const _: Shape = Shape::Register;
