//! The one kind of lock: a futex, signals blocked inside, and never a wait without end.
//!
//! A thread that vanished with the lock held (a vfork child that was killed, a panic) would stop the host
//! at its next record; after [`PATIENCE_NS`] the library switches itself off instead.

use crate::base::{clock, futex, guarded, signals::SignalsBlocked, survivor};
use core::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, Ordering},
};

const FREE: u32 = 0;
const HELD: u32 = 1;
const WAITED_FOR: u32 = 2;
/// How long a thread waits before the library is switched off.
const PATIENCE_NS: u64 = 5_000_000_000;

/// A value that one thread at a time uses.
pub struct Lock<T> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached through `with`, by one thread at a time.
unsafe impl<T> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// A free lock.
    pub const fn new(value: T) -> Lock<T> {
        Lock { word: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }

    /// Runs `body` with the value, signals blocked; `None` when the library is off or was given up.
    /// Must not be nested.
    pub fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> Option<R> {
        if guarded::switched_off() {
            return None;
        }
        let _blocked = SignalsBlocked::new();
        if self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err()
            && !self.wait()
        {
            return None;
        }
        // SAFETY: the word was FREE and is ours now.
        let result = body(unsafe { &mut *self.value.get() });
        if self.word.swap(FREE, Ordering::Release) == WAITED_FOR {
            futex::wake(&self.word, 1);
        }
        Some(result)
    }

    /// As [`Lock::with`], also where the library is switched off, and without a wait: for a last word. `None` where
    /// the lock is held, perhaps for ever.
    pub fn try_with<R>(&self, body: impl FnOnce(&mut T) -> R) -> Option<R> {
        let _blocked = SignalsBlocked::new();
        self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).ok()?;
        // SAFETY: the word was FREE and is ours now.
        let result = body(unsafe { &mut *self.value.get() });
        if self.word.swap(FREE, Ordering::Release) == WAITED_FOR {
            futex::wake(&self.word, 1);
        }
        Some(result)
    }

    fn wait(&self) -> bool {
        let until = clock::monotonic_ns() + PATIENCE_NS;
        while self.word.swap(WAITED_FOR, Ordering::Acquire) != FREE {
            if guarded::switched_off() {
                return false;
            }
            if survivor::is_caller() {
                // Who held it has ended inside, and nobody else is left.
                return true;
            }
            if clock::monotonic_ns() > until {
                guarded::switch_off();
                return false;
            }
            futex::wait(&self.word, WAITED_FOR, PATIENCE_NS / 20);
        }
        true
    }

    /// Frees the lock in a child of fork, where the thread that held it does not exist.
    ///
    /// # Safety
    ///
    /// This process has one thread and it is not inside `with`. The value may be half changed.
    pub unsafe fn reset(&self) {
        self.word.store(FREE, Ordering::Release);
    }
}
