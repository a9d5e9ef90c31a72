//! The preloaded shim's logic that needs no process around it, so that it can be tested under std.
//!
//! `shim` itself is a `no_std` cdylib in which nothing can be tested; whatever is a function of its
//! arguments lives here.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod budget;
pub mod bytecode;
pub mod code_heap;
pub mod descriptor_table;
pub mod directories;
pub mod directory_table;
pub mod dynamic_symbols;
pub mod escape;
pub mod file_pattern;
pub mod redact;
pub mod requests;
pub mod rewritten;
pub mod role;
pub mod syscall;
pub mod syscall_number;
pub mod task_name;
pub mod worker_stream;
