//! What everything stands on: the kernel, threads' own words, memory, locks, time.

pub mod clock;
pub mod filtered;
pub mod guarded;
pub mod heap;
pub mod link;
pub mod lock;
pub mod memory;
pub mod sys;
pub mod tls;
