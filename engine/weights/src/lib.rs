//! What one execution of an instruction counts.
//!
//! A crate of its own, so that whoever looks at code without running it (`analyzer inspect`) weighs it by
//! the very function that the engine uses, and needs nothing of the engine's run-time.
#![no_std]

pub mod metric;
pub mod x86;
