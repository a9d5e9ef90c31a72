//! ELF files: which programs a preloaded library can reach, what is in a file, and making a file need the
//! library itself.
//!
//! The dynamic loader maps `LD_PRELOAD` libraries, so a program is within reach when the kernel
//! starts a loader for it (it has a `PT_INTERP` segment), the loader is willing (no set-uid,
//! set-gid or file capabilities that the caller does not hold already), and library and program are
//! of the same kind (64-bit x86-64). For a script the interpreter is what counts. Everything is
//! decided from the file itself, before anything runs ([`examine`]).
//!
//! Where the environment cannot be touched, a file can be rewritten to need the library itself ([`plan`] says
//! what changes, [`rewrite`] does it). What is in a file is read by [`layout`] and
//! [`facts`], its code by [`functions`] and [`code`].
//!
//! This crate knows ELF and nothing of records, reports or the command line.

pub mod code;
pub mod facts;
pub mod functions;
mod image;
pub mod layout;
mod mark;
pub mod plan;
mod privilege;
mod reach;
pub mod regular_file;
pub mod rewrite;
mod script;
mod search;

pub use image::{Image, Kind};
pub use mark::Mark;
pub use reach::{OutOfReach, examine};
pub use search::find_program;
