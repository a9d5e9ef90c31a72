//! Signals of the calling thread: all of them blocked for a while, and one taken that a write of ours has caused.

use crate::base::sys::{call2, call4, nr};

/// Blocks every signal in this thread for as long as the value lives.
///
/// Taken around what must not be entered twice by one thread: a handler that runs inside would find
/// its own locks held. On the engine's stack, where a followed thread's signals wait anyway, no call is made.
pub struct SignalsBlocked {
    before: Option<u64>,
}

const SIG_SETMASK: u64 = 2;

impl SignalsBlocked {
    /// Blocks them.
    pub fn new() -> SignalsBlocked {
        if engine::is_in_dispatcher() {
            return SignalsBlocked { before: None };
        }
        let all = u64::MAX;
        let mut before = 0u64;
        // SAFETY: both pointers are to u64, the size of the kernel's sigset_t on x86-64.
        unsafe {
            call4(
                nr::RT_SIGPROCMASK,
                SIG_SETMASK,
                &raw const all as u64,
                &raw mut before as u64,
                8,
            );
        }
        SignalsBlocked { before: Some(before) }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // SAFETY: as above; restores what `new` found.
            unsafe { call4(nr::RT_SIGPROCMASK, SIG_SETMASK, &raw const before as u64, 0, 8) };
        }
    }
}

/// The signal that a write past the size limit of files leaves (SIGXFSZ): the application has not earned it.
/// With signals blocked only.
pub struct SizeLimitSignal {
    was_pending: bool,
}

impl SizeLimitSignal {
    const BIT: u64 = 1 << (25 - 1);

    fn is_pending() -> bool {
        let mut pending = 0u64;
        // SAFETY: the word has the size of the kernel's sigset_t.
        unsafe { call2(nr::RT_SIGPENDING, &raw mut pending as u64, 8) };
        pending & Self::BIT != 0
    }

    /// Before writing.
    pub fn look() -> SizeLimitSignal {
        SizeLimitSignal { was_pending: Self::is_pending() }
    }

    /// After it: takes the signal that has come meanwhile.
    pub fn take_ours(self) {
        if !self.was_pending && Self::is_pending() {
            let (set, at_once) = (Self::BIT, [0u64; 2]);
            // SAFETY: both structures live as long as the call.
            unsafe {
                let (set, at_once) = (&raw const set as u64, &raw const at_once as u64);
                call4(nr::RT_SIGTIMEDWAIT, set, 0, at_once, 8);
            }
        }
    }
}
