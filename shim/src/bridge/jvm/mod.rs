//! The bridge to a Java virtual machine: which Spark task runs on which thread, and when.

pub mod agent;
mod application;
mod breakpoints;
mod environment;
mod jvmti;
pub mod launcher;
mod renamed;
pub mod tasks;
