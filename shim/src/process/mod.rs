//! Who this process is.

pub mod executor_above;
pub mod identity;
pub mod settings;
