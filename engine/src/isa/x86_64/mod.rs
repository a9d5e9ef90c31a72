//! x86-64: a thread's state, decoding, what counts, machine code.

pub mod app_memory;
pub mod context;
pub mod count;
pub mod cpu;
pub mod decode;
pub mod emit;
pub mod exits;
pub mod file_memory;
pub mod gs;
pub mod masks;
pub mod registers;
pub mod registry;
pub mod signal_frame;
