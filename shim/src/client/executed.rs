//! Programs that this process executes under a filter: they are told to leave themselves alone.

use crate::{base::sys, record::threads};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use records::notice;

const ENTRY: &[u8] = b"SPARKANALYZER_FILTERED=1\0";

/// Adds [`crate::base::filtered::VARIABLE`] to the environment that an exec call is given. The memory is not given back: where the exec fails the
/// application may make it again.
pub fn keep_out(environment: &mut u64) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        let text =
            format_args!("a program is executed under a filter that leaves no room to count it");
        threads::notice(notice::PART_NOT_COUNTED, 0, text);
    }
    let mut pointers: Vec<u64> = Vec::new();
    let mut at = *environment;
    while at != 0 {
        let mut pointer = [0u8; 8];
        if sys::read_memory(at, &mut pointer) != pointer.len() {
            // The kernel will say what it thinks of it.
            return;
        }
        let pointer = u64::from_ne_bytes(pointer);
        if pointer == 0 {
            break;
        }
        if pointers.try_reserve(3).is_err() {
            return;
        }
        pointers.push(pointer);
        at += 8;
    }
    pointers.extend([ENTRY.as_ptr() as u64, 0]);
    *environment = pointers.leak().as_ptr() as u64;
}
