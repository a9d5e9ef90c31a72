//! Counting: what a metric is, the tracer's contract, and the x86-64 dynamic binary translator.
//!
//! The engine knows nothing of Spark, of record files or of the C library: a [`contract::Host`] tells it which
//! branch targets are its own hooks and is told about system calls, new processes and everything that makes
//! counts incomplete.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod contract;
pub mod reserved;
pub mod seccomp;
pub mod sys;
pub mod x86;

pub use ::weights::metric::{self, METRICS, Metric, Totals, Weights};
pub use contract::{Call, CallToken, Host, Limits, Notice, Redirect, Thread, Tracer};
pub use x86::app_memory::read_start as read_memory_start;
pub use x86::dispatch::{engine_enter, unfollow_me};
pub use x86::engine::{Engine, abandon};
#[cfg(feature = "faults")]
pub use x86::faults;
pub use x86::restrictions::dispatches_to_user;
#[cfg(feature = "sabotage")]
pub use x86::sabotage;
pub use x86::thread::{ThreadState, is_in_dispatcher};
