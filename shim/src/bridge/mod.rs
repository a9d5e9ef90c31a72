//! Bridges to run-times that say which Spark task runs.

pub mod jvm;
pub mod python;
