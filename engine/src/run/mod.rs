//! Threads that run translated code: how they come in, what happens at each exit, and how they are let go.

pub mod dispatch;
pub mod engine;
mod find;
mod flush;
mod handlers;
mod new_task;
pub mod restrictions;
mod scarcity;
pub mod served;
mod signal;
mod state_translation;
pub mod stubs;
mod syscalls;
mod tables;
pub mod threads;
mod write_faults;
mod x87;
