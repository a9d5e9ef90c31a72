//! What is counted at system calls.

pub mod behind;
pub mod descriptors;
pub mod syscalls;
