//! The process: its id and its threads', its limits, and time.

use core::sync::atomic::{AtomicU32, Ordering};

use super::seccomp::optional;
use super::syscall::{nr, syscall6};

/// The bytes of address space that the process may have, of all kinds (RLIMIT_AS) or of writable memory of its own
/// (RLIMIT_DATA); `None` = as many as it likes.
pub fn address_space_limit() -> Option<u64> {
    [limit(RLIMIT_DATA), limit(RLIMIT_AS)].into_iter().flatten().min()
}

/// Writable memory of the process's own (`include/uapi/asm-generic/resource.h`).
pub const RLIMIT_DATA: u64 = 2;

/// Address space of all kinds.
pub const RLIMIT_AS: u64 = 9;

/// The present limit on something (getrlimit(2)); `None` = there is none.
pub fn limit(resource: u64) -> Option<u64> {
    let mut limit = [u64::MAX; 2];
    // SAFETY: the kernel writes `struct rlimit64`.
    unsafe { optional(nr::PRLIMIT64, [0, resource, 0, limit.as_mut_ptr() as u64, 0, 0]) };
    (limit[0] != u64::MAX).then_some(limit[0])
}

/// Sleeps for a time below a second, or until a signal comes.
pub fn sleep_ns(ns: u64) {
    let time = [0u64, ns];
    // SAFETY: the kernel reads `struct timespec`.
    unsafe { optional(nr::NANOSLEEP, [time.as_ptr() as u64, 0, 0, 0, 0, 0]) };
}

/// The calling thread's kernel id.
pub fn gettid() -> u32 {
    // SAFETY: no pointers.
    unsafe { syscall6(nr::GETTID, [0; 6]) as u32 }
}

/// The process's id, asked for once.
pub fn getpid() -> u32 {
    match PID.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: no pointers.
            let pid = unsafe { optional(nr::GETPID, [0; 6]) }.max(0) as u32;
            PID.store(pid, Ordering::Relaxed);
            pid
        }
        known => known,
    }
}

/// This is a child of fork, whose id is not known yet.
pub fn forget_pid() {
    PID.store(0, Ordering::Relaxed);
}

static PID: AtomicU32 = AtomicU32::new(0);
