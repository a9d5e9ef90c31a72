//! Everything specific to x86-64.

pub use ::weights::x86 as weights;
pub use iced_x86::Instruction;

mod block;
mod block_end;
mod block_map;
mod cache;
mod code_memory;
pub mod dispatch;
mod emit;
pub mod engine;
mod flush;
mod fragment;
mod interrupted_state;
mod lock;
mod restartable;
mod signal;
mod signal_settings;
mod syscall;
pub mod thread;
mod tracer;
mod translate;
