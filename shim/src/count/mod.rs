//! What is counted at system calls, and which threads are followed.

pub mod behind;
pub mod descriptor_calls;
pub mod descriptors;
pub mod follow;
pub mod syscalls;
pub mod targets;
