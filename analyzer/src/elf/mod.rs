//! Which programs a preloaded library can reach, and why others cannot be.
//!
//! The dynamic loader maps `LD_PRELOAD` libraries, so a program is within reach when the kernel
//! starts a loader for it (it has a `PT_INTERP` segment), the loader is willing (no set-uid,
//! set-gid or file capabilities that the caller does not hold already), and library and program are
//! of the same kind (64-bit x86-64). For a script the interpreter is what counts. Everything is
//! decided from the file itself, before anything runs.

mod image;
mod privilege;
mod reach;
mod script;
mod search;

pub use image::{Image, Kind};
pub use reach::{OutOfReach, examine};
pub use search::find_program;
