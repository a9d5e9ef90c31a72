//! The helper of a counted process: it takes snapshots and writes the record files.
//!
//! # Design
//!
//! The helper is a process of its own that shares the memory of the counted one, and nothing else of it: no thread
//! group, no handlers, no descriptors, no root, directory or umask ([`parent`]). So the counted process has the
//! threads that it made, its files have no numbers in it, and no signal that it sends to its group or to its
//! children meets the helper. It is a child without an exit signal, which only a wait with `__WALL` or `__WCLONE`
//! would see: there is no helper beside a process that waits so.
//!
//! Nobody is woken for a record: the helper looks at the queue while there is something in it, and sleeps
//! until its next snapshot otherwise. It is woken by a futex when the queue is filling up and for what must be
//! written before the process goes on; and by a signal, which the kernel sends it when the process ends. The memory
//! is still there then: whatever ended the process, the last counts are written, and the helper ends.
//!
//! It ends before exec, before the end of the process and before calls that want memory that nobody shares, and is
//! waited for: nobody finds a zombie. Where it is not to be had, the process is counted without: its own threads
//! write when they must.
//!
//! It never has a right that the process has given up ([`rights`]).
//!
//! # Limitations
//!
//! - Who looks at all processes sees one more, with the program's arguments and the name `sparkanalyzer`.
//! - Who kills both at once (the kernel when memory runs out, a signal to all processes) loses what was counted
//!   since the last snapshot. Before Linux 5.16 a signal that leaves a core file ends both.
//! - A change of root, of directory or of namespaces other than the user's is not the helper's.

mod birth;
mod control;
mod credentials;
mod life;
mod parent;
mod rights;

pub use control::{after_fork_in_child, before_exec, exec_failed, finish, flush, start};
pub use rights::{cannot_follow, mirror, mirrored, mirrors};
