//! Everything specific to x86-64.

pub use ::weights::x86 as weights;
pub use iced_x86::Instruction;

mod address_space;
pub mod app_memory;
pub mod block;
mod block_end;
mod block_map;
mod cache;
pub mod code_memory;
mod counter_place;
pub mod counting;
mod cpu;
pub mod dispatch;
mod emit;
#[cfg(test)]
mod emitted_code;
pub mod engine;
mod extended_state;
#[cfg(feature = "faults")]
pub mod faults;
mod file_memory;
mod flush;
mod fragment;
pub mod guarded;
mod interrupted_state;
pub mod links;
pub mod lock;
mod lookup;
mod pad;
mod plain;
mod restartable;
pub mod restrictions;
#[cfg(feature = "sabotage")]
pub mod sabotage;
mod scarcity;
mod self_loop;
mod signal;
mod signal_frame;
mod signal_settings;
mod syscall;
mod targets;
pub mod thread;
mod tracer;
mod translate;
mod way_in;
