//! Counting: what a metric is, the tracer's contract, and the x86-64 dynamic binary translator.
//!
//! The engine knows nothing of Spark, of record files or of the C library: a [`contract::Client`] tells it which
//! branch targets are its own hooks and is told about system calls, new processes and everything that makes
//! counts incomplete.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cache;
mod code;
pub mod contract;
#[cfg(feature = "faults")]
pub mod failpoints;
pub mod foreign;
mod isa;
#[cfg(feature = "sabotage")]
pub mod mutants;
mod os;
mod run;
mod tracer;
mod translate;

pub use ::weights::metric::{self, METRICS, Metric, Totals, Weights};
pub use contract::{Call, CallToken, Client, Limits, Notice, Redirect, Thread, Tracer};
pub use isa::x86_64::app_memory::read_start as read_memory_start;
pub use isa::x86_64::context::ThreadState;
pub use isa::x86_64::registry::is_in_dispatcher;
pub use os::seccomp;
pub use run::engine::Engine;
pub use run::restrictions::dispatches_to_user;
pub use run::stubs::{engine_enter, unfollow_me};
pub use run::threads::abandon;

/// What clients ask of the kernel by the engine's way: without the C library, and as their own filters allow.
pub mod sys {
    pub use crate::os::memory::{PROT_READ, PROT_WRITE, map_anonymous};
    pub use crate::os::process::gettid;
    pub use crate::os::seccomp::optional;
    pub use crate::os::syscall::{nr, syscall6};
}
