//! libshim.so: the guest that is preloaded into every process and counts in those whose role asks for it.
//!
//! # Hard rules of this library
//!
//! - No needed library, no versioned and no strong undefined symbol. Imports from libc are weak or found
//!   in the link map ([`link`]); what rustc needs of a libc is in [`memory`], hidden.
//! - Raw system calls ([`sys`]) and an own heap ([`heap`]) for its own needs; never malloc, never errno,
//!   never a lock of libc, never `thread_local!`.
//! - No Rust frame is on the stack while the application's call waits in libc: hooks are assembly
//!   ([`hooks`]) that calls into Rust before and after. Cancellation and exceptions unwind through
//!   hand-written unwinding tables only.
//! - Every entry from outside goes through [`guard`]: a panic below it switches the library off and lets the
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

mod behind;
mod clock;
mod descriptors;
mod directories;
mod filtered;
mod forks;
mod guard;
#[cfg(feature = "gum")]
mod gum;
mod heap;
mod hooks;
mod identity;
mod jvm;
mod link;
mod lock;
mod log;
mod memory;
mod output_folder;
mod places;
mod process;
mod python;
mod recorder;
mod segment;
mod settings;
mod start;
mod sys;
mod syscalls;
mod threads;
mod ticker;
mod tls;
mod tracer;
