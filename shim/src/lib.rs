//! libshim.so: the guest that is preloaded into every process and counts in those whose role asks for it.
//!
//! # Hard rules of this library
//!
//! - No needed library, no versioned and no strong undefined symbol. Imports from libc are weak or found
//!   in the link map ([`base::link`]); what rustc needs of a libc is in [`base::memory`], hidden.
//! - Raw system calls ([`base::sys`]) and an own heap ([`base::heap`]) for its own needs; never malloc, never errno,
//!   never a lock of libc, never `thread_local!`.
//! - No Rust frame is on the stack while the application's call waits in libc: hooks are assembly
//!   ([`hooks`]) that calls into Rust before and after. Cancellation and exceptions unwind through
//!   hand-written unwinding tables only.
//! - Every entry from outside goes through [`base::guarded`]: a panic below it switches the library off and lets the
//!   host's call go on.
//! - Baseline x86-64 code: nothing wider than xmm0-15.
//!
//! # Limitations
//!
//! - Calls that libc makes inside itself are not seen by hooks; the engine sees them at the instruction.
//! - A process that is not dynamically linked never loads this library.
#![no_std]

#[cfg(panic = "unwind")]
compile_error!(
    "libshim.so must be built with panic=abort and alone: cargo build -p shim --profile shim (or ./run build)"
);

#[cfg(any(target_feature = "sse3", target_feature = "avx", target_feature = "popcnt"))]
compile_error!(
    "libshim.so must be built for baseline x86-64: no target-cpu or target-feature in RUSTFLAGS"
);

extern crate alloc;

mod base;
mod bridge;
mod client;
mod count;
mod entry;
mod files;
mod hooks;
mod lifecycle;
mod process;
mod record;
