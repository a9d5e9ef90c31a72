//! The kernel, asked without the C library: the engine may be entered while the application holds any of its locks.

pub mod futex;
pub mod memory;
pub mod process;
pub mod procfs;
pub mod reserved;
pub mod seccomp;
pub mod signal_mask;
pub mod signals;
pub mod syscall;
