//! The application's memory, read with errors instead of faults; fields of structures in it.

use crate::base::sys;

/// The application's word at an address.
pub fn word(address: u64) -> Option<u32> {
    let mut bytes = [0u8; 4];
    (sys::read_memory(address, &mut bytes) == 4).then(|| u32::from_ne_bytes(bytes))
}

/// The same of eight bytes.
pub fn long(address: u64) -> Option<u64> {
    let mut bytes = [0u8; 8];
    (sys::read_memory(address, &mut bytes) == 8).then(|| u64::from_ne_bytes(bytes))
}

/// So many bytes of the application's memory.
pub fn structure<const N: usize>(address: u64) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    (sys::read_memory(address, &mut bytes) == N).then_some(bytes)
}

pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
