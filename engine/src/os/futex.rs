//! The engine's lock: a futex, because a thread that spins may keep the holder off its processor.

use core::sync::atomic::{AtomicU32, Ordering};

use super::seccomp::optional;
use super::syscall::nr;

const FREE: u32 = 0;
const HELD: u32 = 1;
const AWAITED: u32 = 2;
/// Looks at the word before asking the kernel: the lock is held for microseconds.
const SPINS: u32 = 100;

/// A lock without an owner; not recursive.
pub struct Lock(AtomicU32);

impl Default for Lock {
    fn default() -> Self {
        Self::new()
    }
}

impl Lock {
    /// A free lock.
    pub const fn new() -> Lock {
        Lock(AtomicU32::new(FREE))
    }

    /// Waits for the lock and takes it.
    pub fn take(&self) {
        for _ in 0..SPINS {
            if self
                .0
                .compare_exchange_weak(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                return;
            }
            core::hint::spin_loop();
        }
        // Where a filter may forbid to sleep the thread looks on: the holder needs microseconds.
        const FUTEX_WAIT_PRIVATE: u64 = 128;
        while self.0.swap(AWAITED, Ordering::Acquire) != FREE {
            let word = self.0.as_ptr() as u64;
            // SAFETY: the word lives as long as the engine.
            unsafe { optional(nr::FUTEX, [word, FUTEX_WAIT_PRIVATE, u64::from(AWAITED), 0, 0, 0]) };
        }
    }

    /// Gives it back. Also takes it from a holder that no longer exists (after fork, after a panic).
    pub fn release(&self) {
        const FUTEX_WAKE_PRIVATE: u64 = 129;
        if self.0.swap(FREE, Ordering::Release) == AWAITED {
            // SAFETY: as in `take`.
            unsafe {
                optional(nr::FUTEX, [self.0.as_ptr() as u64, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0])
            };
        }
    }
}
