//! How an indirect branch finds the pad of its target: which bits of the target choose the table's entry, and how the pad
//! compares the rest.
//!
//! # Design
//! The hash is 16 bits of the target, because MOVZX takes as many out of a register without touching a flag. They are the
//! bits from 4 on, where the CPU has RORX to bring them down: targets seldom lie in the same 16 bytes, and functions begin
//! at multiples of 16. So an entry's line of the cache serves 128 bytes of code instead of 8, and no entry is left empty.

use crate::isa::x86_64::context::disp;
use crate::isa::x86_64::cpu::Cpu;
use crate::isa::x86_64::emit::buffer::Code;
use crate::isa::x86_64::registers::gpr;

/// Bits of a target that choose an entry.
pub const HASH_BITS: u32 = 16;

/// How a pad compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// By CRC32 and LOOP.
    CrcAndLoop,
    /// By CRC32 and JRCXZ.
    Crc,
    /// By LEA, BSWAP and JRCXZ.
    Difference,
}

/// The form of all lookups of a translator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookups {
    /// The lowest bit that chooses an entry; if not 0, the CPU has RORX.
    pub shift: u8,
    /// How pads compare.
    pub comparison: Comparison,
}

impl Lookups {
    /// The fastest form for a CPU.
    pub fn of(cpu: Cpu) -> Lookups {
        let comparison = match cpu {
            _ if !cpu.has_sse4_2() => Comparison::Difference,
            // LOOP is one micro-operation on its CPUs that have BMI2, and several on Intel's.
            _ if cpu.is_amd() && cpu.has_bmi2() => Comparison::CrcAndLoop,
            _ => Comparison::Crc,
        };
        Lookups { shift: if cpu.has_bmi2() { 4 } else { 0 }, comparison }
    }
}

impl<const N: usize> Code<N> {
    /// An indirect branch to the application PC in a register (RCX itself is kept aside): see [`super::targets`].
    pub fn lookup(&mut self, target: usize, table: u32, lookups: Lookups) {
        self.store(target, disp::LOOKUP_TARGET);
        self.jump_by(target, table, lookups.shift);
    }

    /// A return to the application PC in RCX, which has just been popped; RCX's own value is kept aside.
    pub fn lookup_return(&mut self, table: u32, lookups: Lookups) {
        self.jump_by(gpr::RCX, table, lookups.shift);
    }

    fn jump_by(&mut self, target: usize, table: u32, shift: u8) {
        let (high, low) = (target as u8 >> 3, target as u8 & 7);
        let mut from = (high, low);
        if shift > 0 {
            self.put(&[0xc4, 0xe3 ^ high << 5, 0xfb, 0xf0, 0xc8 | low, shift]); // rorx rcx, target, shift
            from = (0, gpr::RCX as u8);
        }
        if from.0 > 0 {
            self.put(&[0x41]);
        }
        self.put(&[0x0f, 0xb7, 0xc8 | from.1]); // movzx ecx, the low 16 bits
        self.put(&[0xff, 0x24, 0xcd]); // jmp [rcx*8 + table]
        self.put(&table.to_le_bytes());
    }
}
