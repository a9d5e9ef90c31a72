//! Threads and their counters, the queue of records, and the helper that writes it.

pub mod counters;
pub mod directories;
pub mod events;
pub mod forks;
pub mod helper;
pub mod helper_state;
mod queue;
pub mod recorder;
mod segment;
pub mod task;
pub mod thread;
pub mod threads;
