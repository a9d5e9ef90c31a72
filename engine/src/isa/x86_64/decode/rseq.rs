//! Restartable sequences (rseq(2)): recognised before a thread enters one.
//!
//! # Design
//! A thread tells the kernel by a store into its `struct rseq` that it is about to enter a critical section; preempted
//! or interrupted there, it goes on at the section's abort handler. The kernel knows the section by its application
//! addresses, so it would never abort a translation of it: two threads could be in one per-CPU section at a time,
//! unnoticed. A thread is therefore released, with a notice, before the instruction that takes the address of a
//! section's descriptor. Serving it would need sections translated in one piece with a descriptor of our own, and
//! still the kernel tells nobody where an aborted section was left, so its instructions could not be counted exactly.
//! What the C library itself registers (glibc from 2.35 on, for `sched_getcpu`) needs nothing of this.

use iced_x86::{Instruction, Mnemonic, OpKind};

use crate::isa::x86_64::file_memory;

/// The word before every abort handler on x86 (`RSEQ_SIG` of librseq, glibc and tcmalloc; the kernel checks it).
const SIGNATURE: u32 = 0x5305_3053;
/// `struct rseq_cs` is aligned to 32 bytes, and as long (`include/uapi/linux/rseq.h`).
const DESCRIPTOR: usize = 32;
/// A section is a few instructions.
const LONGEST_SECTION: u64 = 1 << 16;

/// Does the instruction take the address of a critical section's descriptor?
pub fn is_entered_by(instruction: &Instruction) -> bool {
    address_taken(instruction)
        .is_some_and(|at| at.is_multiple_of(DESCRIPTOR as u64) && at != 0 && is_descriptor(at))
}

fn address_taken(instruction: &Instruction) -> Option<u64> {
    match instruction.mnemonic() {
        Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => {
            Some(instruction.ip_rel_memory_address())
        }
        Mnemonic::Mov => match instruction.op1_kind() {
            OpKind::Immediate64 => Some(instruction.immediate64()),
            OpKind::Immediate32to64 => Some(instruction.immediate32to64().cast_unsigned()),
            OpKind::Immediate32 => Some(u64::from(instruction.immediate32())),
            _ => None,
        },
        _ => None,
    }
}

fn is_descriptor(at: u64) -> bool {
    let mut bytes = [0u8; DESCRIPTOR];
    if !file_memory::read(at, &mut bytes) {
        return false;
    }
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    // Version 0 in the lower half, flags in the upper one; start, length up to the commit's end, abort handler.
    let [head, start, length, abort] = [0, 8, 16, 24].map(word);
    let mut signature = [0u8; 4];
    head as u32 == 0
        && (1..LONGEST_SECTION).contains(&length)
        && abort.wrapping_sub(start) >= length
        && file_memory::read(abort.wrapping_sub(4), &mut signature)
        && u32::from_le_bytes(signature) == SIGNATURE
}
