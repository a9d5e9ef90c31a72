//! What running a program costs.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::Instant;

/// CPU seconds, wall seconds and memory of one process and its children.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// User and system time, in seconds.
    pub cpu: f64,
    /// Time from start to end, in seconds.
    pub wall: f64,
    /// The largest resident set, in bytes.
    pub memory: u64,
}

/// Runs a command, which must succeed.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub fn measure(mut command: Command) -> Result<Cost, String> {
    let begin = Instant::now();
    let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let mut status = 0;
    // SAFETY: a structure of integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals; the process is our child and nobody else waits for it.
    let pid = unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage) };
    if pid == -1 {
        return Err(format!("wait4: {}", std::io::Error::last_os_error()));
    }
    let status = ExitStatus::from_raw(status);
    if !status.success() {
        return Err(format!("{command:?}: {status}"));
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(Cost {
        cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        wall: begin.elapsed().as_secs_f64(),
        memory: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    })
}
