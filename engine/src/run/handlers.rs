//! The application's handlers, as it set them (rt_sigaction).

use core::sync::atomic::{AtomicU64, Ordering};

/// Number of signals (`_NSIG`).
pub(crate) const SIGNALS: usize = 64;
pub(crate) const SA_SIGINFO: u64 = 4;
const SA_ONSTACK: u64 = 0x0800_0000;
pub(crate) const SA_NODEFER: u64 = 0x4000_0000;
pub(crate) const SA_RESTORER: u64 = 0x0400_0000;
pub(crate) const SA_RESETHAND: u64 = 0x8000_0000;

/// `struct kernel_sigaction` of x86-64 (`include/linux/signal_types.h`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct KernelAction {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

impl KernelAction {
    pub fn from_bytes(bytes: [u8; 32]) -> KernelAction {
        let word =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        KernelAction { handler: word(0), flags: word(8), restorer: word(16), mask: word(24) }
    }

    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let words = [self.handler, self.flags, self.restorer, self.mask];
        for (field, word) in bytes.chunks_exact_mut(8).zip(words) {
            field.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// The application's handlers, as it set them.
pub(crate) struct Actions {
    pub table: [ActionCell; SIGNALS + 1],
    /// Bit N - 1: signal N is ours although the application set no handler for it.
    pub borrowed: AtomicU64,
}

pub(crate) struct ActionCell {
    pub handler: AtomicU64,
    pub flags: AtomicU64,
    pub mask: AtomicU64,
    /// Where the application's handler returns to.
    pub restorer: AtomicU64,
}

/// What the application set for a signal, as far as a frame needs it.
pub(crate) struct ActionEntry {
    pub flags: u64,
    pub on_stack: bool,
    pub restorer: Option<u64>,
}

impl Actions {
    pub(crate) const fn new() -> Actions {
        Actions {
            table: [const {
                ActionCell {
                    handler: AtomicU64::new(0),
                    flags: AtomicU64::new(0),
                    mask: AtomicU64::new(0),
                    restorer: AtomicU64::new(0),
                }
            }; SIGNALS + 1],
            borrowed: AtomicU64::new(0),
        }
    }

    pub(crate) fn handler(&self, signal: i32) -> u64 {
        self.table[signal as usize].handler.load(Ordering::Acquire)
    }

    /// What was set for a signal.
    pub(crate) fn entry(&self, signal: i32) -> ActionEntry {
        let cell = &self.table[signal as usize];
        let flags = cell.flags.load(Ordering::Relaxed);
        let restorer = cell.restorer.load(Ordering::Relaxed);
        ActionEntry {
            flags,
            on_stack: flags & SA_ONSTACK != 0,
            restorer: (flags & SA_RESTORER != 0).then_some(restorer),
        }
    }

    /// The default action from now on, as the application sees it.
    pub(crate) fn take_off(&self, signal: i32) {
        self.table[signal as usize].handler.store(0, Ordering::Release);
        self.borrowed.fetch_or(1 << (signal - 1), Ordering::AcqRel);
    }

    pub fn is_borrowed(&self, signal: i32) -> bool {
        self.borrowed.load(Ordering::Acquire) & 1 << (signal - 1) != 0
    }
}
