//! A session for each run: whatever is left of it after its end, or after its time, is ended.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The exit code; 128 and the number for a signal, as shells and `analyzer trace` say it.
    Code(i32),
    /// It did not end in its time.
    Hung,
}

impl End {
    fn of(status: ExitStatus) -> Self {
        Self::Code(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }
}

/// Makes the command a session of its own.
pub fn in_session(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes system calls and touches no memory but the limit on its stack.
    unsafe {
        command.pre_exec(|| {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: libc::RLIM_INFINITY };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
            match libc::setsid() {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
    }
}

/// Waits for the leader of a session; one that takes too long is ended with all its session.
///
/// # Panics
/// When it cannot be waited for.
pub fn wait(child: &mut Child, limit: Duration) -> End {
    wait_unless(child, limit, || false)
}

/// The same, and the session is ended as well when something goes without bound.
///
/// # Panics
/// When it cannot be waited for.
pub(super) fn wait_unless(
    child: &mut Child,
    limit: Duration,
    is_boundless: impl Fn() -> bool,
) -> End {
    let start = Instant::now();
    let mut nap = Duration::from_micros(500);
    let end = loop {
        match child.try_wait().expect("waits") {
            Some(status) => break End::of(status),
            None if start.elapsed() > limit || is_boundless() => break End::Hung,
            None => std::thread::sleep(nap),
        }
        nap = (nap * 2).min(Duration::from_millis(10));
    };
    end_session(child.id());
    if end == End::Hung {
        let _ = child.kill();
        let _ = child.wait();
    }
    end
}

/// Gives what is left of a session a moment to end, as children do that nobody waits for; then kills it.
fn end_session(session: u32) {
    let start = Instant::now();
    loop {
        let left = processes();
        let mut left =
            left.iter().filter(|one| one.session == session && one.pid != session).peekable();
        if left.peek().is_none() {
            return;
        }
        if start.elapsed() > Duration::from_secs(1) {
            for process in left {
                // SAFETY: the call has no memory arguments; the process is of the session that we made.
                unsafe { libc::kill(process.pid.cast_signed(), libc::SIGKILL) };
            }
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process as `/proc` has it.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// Its session.
    pub session: u32,
}

/// All processes.
pub fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let mut words = stat.rsplit_once(')')?.1.split_whitespace().skip(1);
            let parent = words.next()?.parse().ok()?;
            let session = words.nth(1)?.parse().ok()?;
            Some(Process { pid, parent, session })
        })
        .collect()
}
