//! What should never happen, on request: tests show that each of these releases threads, and that the program goes on.
//!
//! Compiled only with the feature `faults`, which nothing but a library for those tests asks for.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Where something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Code is met that cannot be decoded.
    Undecodable,
    /// A branch leads to memory that is not executable.
    NotExecutable,
    /// The cache is full.
    Full,
    /// The cache is full, and some thread does not leave it.
    GivenUp,
    /// An assertion fails while the engine's lock is held.
    Assertion,
    /// An assertion fails at a system call.
    AssertionAtCall,
    /// The kernel refuses memory for a new thread's block.
    NoBlock,
    /// No fault: code that the host vouches for is compared, and an assertion fails where it has changed.
    Audit,
}

impl Fault {
    /// All of them, by name.
    pub const ALL: [(&'static str, Fault); 8] = [
        ("undecodable", Fault::Undecodable),
        ("not_executable", Fault::NotExecutable),
        ("full", Fault::Full),
        ("given_up", Fault::GivenUp),
        ("assertion", Fault::Assertion),
        ("assertion_at_call", Fault::AssertionAtCall),
        ("no_block", Fault::NoBlock),
        ("audit", Fault::Audit),
    ];
}

const NONE: usize = usize::MAX;
static ARMED: AtomicUsize = AtomicUsize::new(NONE);
static EVERY: AtomicU64 = AtomicU64::new(1);
static CHANCES: AtomicU64 = AtomicU64::new(0);

/// From now on this fault happens at every `every`th chance; whether there is one of that name.
pub fn arm(name: &str, every: u64) -> bool {
    let found = Fault::ALL.iter().position(|(known, _)| *known == name);
    EVERY.store(every.max(1), Ordering::Relaxed);
    ARMED.store(found.unwrap_or(NONE), Ordering::Release);
    found.is_some()
}

/// Whether it was asked for.
pub(crate) fn is_armed(fault: Fault) -> bool {
    Fault::ALL.get(ARMED.load(Ordering::Acquire)).is_some_and(|(_, armed)| *armed == fault)
}

/// Whether it happens now.
pub(crate) fn strikes(fault: Fault) -> bool {
    is_armed(fault)
        && (CHANCES.fetch_add(1, Ordering::Relaxed) + 1)
            .is_multiple_of(EVERY.load(Ordering::Relaxed))
}
