//! Threads and their counters, the queue of records, and the helper that writes it.

pub mod directories;
pub mod forks;
pub mod helper;
pub mod recorder;
pub mod segment;
pub mod threads;
