//! Encoding one instruction.

use iced_x86::{Encoder, Instruction};

/// Encodes an instruction for the address `rip`; its length.
pub fn encode(
    encoder: &mut Encoder,
    instruction: &Instruction,
    rip: u64,
    into: &mut [u8; 16],
) -> Option<usize> {
    let len = encoder.encode(instruction, rip).ok()?;
    let mut buffer = encoder.take_buffer();
    into[..len].copy_from_slice(&buffer[..len]);
    buffer.clear();
    encoder.set_buffer(buffer);
    Some(len)
}
