//! Waiting for a word to change (futex(2)).

use crate::base::sys::{call4, nr};
use core::sync::atomic::AtomicU32;

/// Sleeps while `*word == expected`, at most this long; wakes early on [`wake`].
pub fn wait(word: &AtomicU32, expected: u32, nanoseconds: u64) {
    const FUTEX_WAIT_PRIVATE: u64 = 128;
    let timeout = [nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000];
    // SAFETY: the word lives as long as the reference, the timeout as long as the call.
    unsafe {
        engine::sys::optional(
            nr::FUTEX,
            [
                word.as_ptr() as u64,
                FUTEX_WAIT_PRIVATE,
                u64::from(expected),
                &raw const timeout as u64,
                0,
                0,
            ],
        );
    }
}

/// As [`wait`], for a word that the kernel wakes as one that memories may share (`CLONE_CHILD_CLEARTID`).
pub fn wait_shared(word: &AtomicU32, expected: u32, nanoseconds: u64) {
    const FUTEX_WAIT: u64 = 0;
    let timeout = [nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000];
    // SAFETY: as above.
    unsafe {
        let (word, timeout) = (word.as_ptr() as u64, &raw const timeout as u64);
        call4(nr::FUTEX, word, FUTEX_WAIT, u64::from(expected), timeout);
    }
}

/// Wakes up to `count` waiters of the word.
pub fn wake(word: &AtomicU32, count: u32) {
    const FUTEX_WAKE_PRIVATE: u64 = 129;
    // SAFETY: the kernel only uses the address as a key.
    unsafe {
        engine::sys::optional(
            nr::FUTEX,
            [word.as_ptr() as u64, FUTEX_WAKE_PRIVATE, u64::from(count), 0, 0, 0],
        )
    };
}
