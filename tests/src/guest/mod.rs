//! Programs of `tests/guest`, natively and under `analyzer trace`: nothing that they do may differ, and `complete` is
//! true only where nothing is missing.
//!
//! Each run has a session, a working directory and a time limit of its own. A run that passes its limit is ended with
//! everything in its session, and counts as hanging.

mod compare;
mod programs;
mod run;
mod session;

pub use compare::{
    ANY, Failures, Known, compare, compare_all, compare_with, complaint_of_loader, too_many_files,
    wrong_completeness,
};
pub use programs::{compile, compile_with, file, is_root, program};
pub use run::{Guest, LIMIT, Seen, Traced};
pub use session::{End, Process, in_session, processes, wait};
