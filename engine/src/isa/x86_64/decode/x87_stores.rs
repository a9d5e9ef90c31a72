//! Instructions that store the x87 instruction pointer.

use iced_x86::{Instruction, Mnemonic};

/// Does the instruction store the x87 instruction pointer?
pub fn stores_x87_pointer(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(
        instruction.mnemonic(),
        Fnstenv
            | Fnsave
            | Fxsave
            | Fxsave64
            | Xsave
            | Xsave64
            | Xsavec
            | Xsavec64
            | Xsaveopt
            | Xsaveopt64
    )
}

/// Does it store 64 bits of the pointer?
pub fn stores_wide_x87_pointer(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(instruction.mnemonic(), Fxsave64 | Xsave64 | Xsavec64 | Xsaveopt64)
}
