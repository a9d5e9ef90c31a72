//! What depends on the instruction set: a folder for each.

pub mod x86_64;
