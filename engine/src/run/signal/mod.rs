//! Signals of followed threads.

mod actions;
mod alt_stack;
pub mod deliver;
pub mod entry;
mod frame;
