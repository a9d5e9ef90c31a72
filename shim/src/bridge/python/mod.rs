//! The bridge to a Python worker's interpreter: which Spark task it serves, and when.

pub mod interpreter;
pub mod tasks;
