//! Harness for the suites that need more than one crate.
//!
//! - [`artifacts`]: where `analyzer` and `libshim.so` are
//! - [`build`]: compiles the programs of `tests/native`
//! - [`guest`]: programs of `tests/guest`, natively and under `analyzer trace`
//! - [`stepper`]: the oracle: counts instructions by PTRACE_SINGLESTEP
//! - [`weight`]: what one execution of an instruction is worth
//! - [`call_log`]: the calls of a program's threads as strace saw them, natively and counted
//! - [`cost`]: CPU time and memory of a program's run
//! - [`preloaded`]: programs of `tests/shim` under the preloaded library, and what they recorded
//! - [`passes`]: what passes of a program cost, by the oracle and by us
//! - [`program_file`]: programs that a test makes and then runs
//! - [`random_program`]: programs that nobody thought of
//! - [`record_set`]: synthetic record files and event logs of any size
//! - [`run`]: runs a program natively or under `analyzer trace`, in an environment that does not vary
//! - [`surroundings`]: random seccomp filters and resource limits around programs
//! - [`system_calls`]: what strace saw, to be compared with what the engine counted
//! - [`skip`]: says loudly that a test could not run here
//! - [`worker_of_user`]: a worker as any user, and where its records go

pub mod artifacts;
pub mod build;
pub mod call_log;
pub mod cost;
pub mod elf;
pub mod guest;
pub mod passes;
pub mod preloaded;
pub mod program_file;
pub mod random_program;
pub mod record_set;
pub mod run;
pub mod skip;
pub mod stepper;
pub mod surroundings;
pub mod system_calls;
pub mod weight;
pub mod worker_of_user;
