//! The calling thread's signal mask.

use super::syscall::{nr, syscall6};

/// SIGKILL and SIGSTOP, which the kernel takes out of every mask.
pub const NEVER_BLOCKED: u64 = 1 << 8 | 1 << 18;

/// Blocks all signals; returns the mask to restore.
pub fn block_signals() -> u64 {
    let (all, mut old) = (u64::MAX, 0u64);
    // SAFETY: both words are ours.
    unsafe {
        syscall6(nr::RT_SIGPROCMASK, [2, &raw const all as u64, &raw mut old as u64, 8, 0, 0]);
    }
    old
}

pub fn restore_signals(mask: u64) {
    // SAFETY: the word is ours.
    unsafe { syscall6(nr::RT_SIGPROCMASK, [2, &raw const mask as u64, 0, 8, 0, 0]) };
}

/// Works on the engine's tables for a thread that runs natively: a handler of its own must not find the lock taken.
pub fn undisturbed<R>(work: impl FnOnce() -> R) -> R {
    let mask = block_signals();
    let result = work();
    restore_signals(mask);
    result
}
