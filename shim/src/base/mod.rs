//! What everything stands on: the kernel, threads' own words, memory, locks, time; and the tracer as a pointer.

pub mod clock;
pub mod file;
pub mod filtered;
pub mod futex;
pub mod guarded;
pub mod heap;
pub mod ids;
pub mod link;
pub mod lock;
mod memory;
pub mod signals;
pub mod startup;
pub mod survivor;
pub mod sys;
pub mod text;
pub mod tls;
pub mod tracer;
