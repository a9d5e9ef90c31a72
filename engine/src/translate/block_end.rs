//! How a block is left: the branch, call, return or system call at its end, exit stubs, and the links between blocks.

use iced_x86::{Code as Opcode, Instruction, MemoryOperand, OpKind, Register};

use crate::cache::fragment::{Exit, ExitKind, Recipe};
use crate::isa::x86_64::decode::block::{Block, End, Refusal};
use crate::isa::x86_64::emit::buffer::Code;
use crate::isa::x86_64::exits::Way;
use crate::isa::x86_64::registers::{gpr, number};
use crate::translate::translator::{Failure, Translator};

/// Bytes of an exit stub: `mov dword gs:[disp32], imm32` and `jmp rel32`.
const STUB_BYTES: usize = 17;

impl Translator {
    /// The instruction that ends the block; `counter` is the slot that is counted once RCX is aside. Returns the offset
    /// of the part that may fault.
    pub(crate) fn emit_end(
        &mut self,
        code: &mut Code,
        arena: u8,
        block: &Block,
        counter: Option<u32>,
        recipe: &mut Recipe,
    ) -> Result<usize, Failure> {
        let instruction =
            block.instructions().last().expect("a block with an end has instructions");
        let mut body = code.len();
        let lookups = self.lookups;
        match block.end {
            End::Cut => unreachable!("a cut block has no end instruction"),
            End::Trap => body = self.emit_plain(code, block, instruction, recipe)?,
            End::Direct => {
                if instruction.is_call_near() {
                    let literal = self.cache.arena(arena).put_word(block.next_pc);
                    code.push_literal(literal);
                }
                self.emit_exit_jump(code, arena, instruction.near_branch_target())?;
            }
            End::Conditional => {
                let taken = instruction.near_branch_target();
                if instruction.is_jcc_short_or_near() {
                    let condition = instruction.condition_code() as u8 - 1;
                    self.emit_exit(code, arena, taken, &[0x0f, 0x80 | condition])?;
                    self.emit_exit_jump(code, arena, block.next_pc)?;
                } else {
                    // JRCXZ and LOOPcc have short forms alone: they hop over the way out that is not taken.
                    self.emit_short_conditional(code, arena, instruction, block.next_pc, taken)?;
                }
            }
            End::Indirect => {
                code.spill_rcx();
                if let Some(slot) = counter {
                    code.count_through(gpr::RCX, slot, 1);
                    let needed = self.factory.info(instruction).used_registers();
                    if needed.iter().any(|one| one.register().full_register() == Register::RCX) {
                        code.unspill_rcx();
                    }
                }
                body = code.len();
                let target = self.load_target(code, instruction)?;
                if instruction.is_call_near_indirect() {
                    let literal = self.cache.arena(arena).put_word(block.next_pc);
                    code.push_literal(literal);
                }
                code.lookup(target, self.ways_in(Way::Jump).table(), lookups);
                *recipe = Recipe::Spilled(gpr::RCX as u8);
            }
            End::Return => {
                code.spill_rcx();
                if let Some(slot) = counter {
                    code.count_through(gpr::RCX, slot, 1);
                }
                body = code.len();
                code.put(&[0x59]); // pop rcx
                if instruction.op_count() == 1 {
                    code.put(&[0x48, 0x8d, 0xa4, 0x24]); // lea rsp, [rsp+imm32]
                    code.put(&u32::from(instruction.immediate16()).to_le_bytes());
                    code.lookup(gpr::RCX, self.ways_in(Way::Jump).table(), lookups);
                } else {
                    code.lookup_return(self.ways_in(Way::Return).table(), lookups);
                }
                *recipe = Recipe::Spilled(gpr::RCX as u8);
            }
            End::Syscall => {
                let to_dispatcher = self.cache.arena(arena).to_dispatcher;
                let index = self.unlinked_exit(arena, block.next_pc, ExitKind::Syscall)?;
                code.exit(index, to_dispatcher);
            }
        }
        Ok(body)
    }

    /// An exit that always leads to the dispatcher.
    pub(crate) fn unlinked_exit(
        &mut self,
        arena: u8,
        target: u64,
        kind: ExitKind,
    ) -> Result<u32, Failure> {
        let exit = Exit { target, site: 0, stub: 0, next_incoming: 0, arena, kind };
        self.exits.push(exit).ok_or(Failure::Full)
    }

    /// The register that holds the target of an indirect branch, RCX when it must be loaded.
    fn load_target(
        &mut self,
        code: &mut Code,
        instruction: &Instruction,
    ) -> Result<usize, Failure> {
        let refused = Failure::Refused(Refusal::Unsupported);
        if instruction.op0_kind() == OpKind::Register && instruction.op0_register() != Register::RSP
        {
            return Ok(number(instruction.op0_register()));
        }
        let load = if instruction.op0_kind() == OpKind::Register {
            Instruction::with2(Opcode::Mov_r64_rm64, Register::RCX, Register::RSP)
        } else if instruction.is_ip_rel_memory_operand() {
            let target = instruction.ip_rel_memory_address();
            if i32::try_from(target.wrapping_sub(code.here() + 7) as i64).is_ok() {
                code.put(&[0x48, 0x8b, 0x0d]); // mov rcx, [rip+disp32]
                let next = code.here() + 4;
                code.put(&(target.wrapping_sub(next) as u32).to_le_bytes());
                return Ok(gpr::RCX);
            }
            code.load_immediate(gpr::RCX, target);
            Instruction::with2(
                Opcode::Mov_r64_rm64,
                Register::RCX,
                MemoryOperand::with_base(Register::RCX),
            )
        } else {
            let operand = MemoryOperand {
                segment_prefix: instruction.segment_prefix(),
                base: instruction.memory_base(),
                index: instruction.memory_index(),
                scale: instruction.memory_index_scale(),
                displacement: instruction.memory_displacement64() as i64,
                displ_size: instruction.memory_displ_size(),
                is_broadcast: false,
            };
            Instruction::with2(Opcode::Mov_r64_rm64, Register::RCX, operand)
        };
        let mut bytes = [0u8; 16];
        let len =
            self.encode(&load.map_err(|_| refused)?, code.here(), &mut bytes).ok_or(refused)?;
        code.put(&bytes[..len]);
        Ok(gpr::RCX)
    }

    fn emit_short_conditional(
        &mut self,
        code: &mut Code,
        arena: u8,
        instruction: &Instruction,
        fall_through: u64,
        taken: u64,
    ) -> Result<(), Failure> {
        use iced_x86::Mnemonic::{Jecxz, Jrcxz, Loop, Loope, Loopne};
        let opcode = match instruction.mnemonic() {
            Loopne => 0xe0,
            Loope => 0xe1,
            Loop => 0xe2,
            Jrcxz | Jecxz => 0xe3,
            _ => return Err(Failure::Refused(Refusal::Unsupported)),
        };
        // The two-byte branch comes right before the first jump: no padding may come between them.
        let prefix = address_size_prefix(instruction);
        let start = prefix.len() as u64 + 2;
        let holds = Code::<0>::holds_jump;
        code.pad_until(|at| holds(at + start) && holds(at + start + 5));
        code.put(prefix);
        code.put(&[opcode, 0x05]);
        self.emit_exit(code, arena, fall_through, &[0xe9])?;
        self.emit_exit(code, arena, taken, &[0xe9])
    }

    pub(crate) fn emit_exit_jump(
        &mut self,
        code: &mut Code,
        arena: u8,
        target: u64,
    ) -> Result<(), Failure> {
        self.emit_exit(code, arena, target, &[0xe9])
    }

    /// A branch that leads to its stub until it is linked to its target's fragment.
    fn emit_exit(
        &mut self,
        code: &mut Code,
        arena: u8,
        target: u64,
        opcode: &[u8],
    ) -> Result<(), Failure> {
        if *opcode == [0xe9] {
            code.align_jump();
        } else {
            code.align_field(opcode.len() as u64);
        }
        code.put(opcode);
        let index = self.exits.len() as u32;
        let arena_ref = self.cache.arena(arena);
        let to_dispatcher = arena_ref.to_dispatcher;
        let mut stub: Code<STUB_BYTES> = Code::at(arena_ref.cold_address(STUB_BYTES));
        stub.exit(index, to_dispatcher);
        debug_assert_eq!(stub.len(), STUB_BYTES);
        let stub_at = arena_ref.put_cold(stub.bytes(), 1);
        let site = (code.here() - arena_ref.base) as u32;
        code.put(&(stub_at.wrapping_sub(code.here() + 4) as u32).to_le_bytes());
        let stub = (stub_at - arena_ref.base) as u32;
        let exit = Exit { target, site, stub, next_incoming: 0, arena, kind: ExitKind::Branch };
        self.exits.push(exit).ok_or(Failure::Full).map(|_| ())
    }
}

/// The address-size prefix of JECXZ and of LOOPcc that count in ECX.
fn address_size_prefix(instruction: &Instruction) -> &'static [u8] {
    use Opcode::*;
    match instruction.code() {
        Jecxz_rel8_64 | Loop_rel8_64_ECX | Loope_rel8_64_ECX | Loopne_rel8_64_ECX => &[0x67],
        _ => &[],
    }
}
