//! Registers by their hardware numbers.

use iced_x86::Register;

/// General-purpose registers in hardware numbering.
pub mod gpr {
    #![allow(missing_docs)]
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    pub const R8: usize = 8;
    pub const R9: usize = 9;
    pub const R10: usize = 10;
    pub const R11: usize = 11;
}

/// Hardware number of a 64-bit register.
pub fn number(register: Register) -> usize {
    register.full_register().number()
}

/// The 64-bit register of a hardware number.
pub fn register(number: usize) -> Register {
    Register::RAX + number as u32
}
