//! Machine code.

pub mod buffer;
pub mod encode;
pub mod ibl;
pub mod inserted;
pub mod patchable;
pub mod target_check;
