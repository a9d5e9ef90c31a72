//! Where the process enters this library.

mod admission;
mod begin;
mod constructor;
mod panic;
