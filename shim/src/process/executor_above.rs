//! The executor that a Python worker works for: an ancestor, a few processes up.
//!
//! Neither the command line nor the environment of `python3 -m pyspark.daemon` says which application and
//! executor it belongs to, and its node would be the host's name where the executor's is `--hostname`. The
//! executor started it (Spark's `PythonWorkerFactory`), so its command line is in `/proc`.

use crate::{
    base::{file, ids},
    files::trusted::c_path,
};
use alloc::{ffi::CString, format};
use guest::role::{self, Role, SparkIds};

/// The daemon's parent is the executor, a worker's grandparent is; a launching script may lie between.
const GENERATIONS: usize = 4;
/// Class paths make long command lines.
const MAX_COMMAND_LINE: usize = 1 << 20;

/// The ids of the nearest executor above this process.
pub fn ids() -> Option<SparkIds> {
    let mut pid = ids::getppid();
    for _ in 0..GENERATIONS {
        if pid <= 1 {
            return None;
        }
        let line = file::read_file(&path(pid, "cmdline"), MAX_COMMAND_LINE).ok()?;
        let arguments = || line.split(|&byte| byte == 0);
        let program = arguments().next().unwrap_or_default();
        if role::of(program, arguments(), false) == Role::Executor {
            return Some(role::spark_ids(arguments(), core::iter::empty()));
        }
        pid = parent(pid)?;
    }
    None
}

fn path(pid: u32, file: &str) -> CString {
    c_path(format!("/proc/{pid}/{file}").into_bytes())
}

/// The parent, the second field after the name in `/proc/<pid>/stat` (proc(5)).
fn parent(pid: u32) -> Option<u32> {
    let stat = file::read_file(&path(pid, "stat"), 4096).ok()?;
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let field = stat[name_end + 1..].split(|&byte| byte == b' ').nth(2)?;
    core::str::from_utf8(field).ok()?.parse().ok()
}
