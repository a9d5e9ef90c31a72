//! The bridge to a Java virtual machine: which Spark task runs on which thread, and when.

pub mod agent;
pub mod application;
pub mod jvmti;
pub mod launcher;
pub mod renamed;
pub mod tasks;
