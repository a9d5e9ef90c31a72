//! Where the process enters this library.

pub mod constructor;
pub mod process;
