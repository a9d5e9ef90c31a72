//! The traced program as a child process: started as the shell would start it, waited for, signals
//! passed on.
//!
//! The child has the process group in which the analyzer was started ([`crate::commands::trace::group`]): a terminal's signals reach it and not
//! the analyzer, which reports. Signals that come for the analyzer alone are passed on.
//!
//! Where children are not waited for (SIGCHLD is ignored, as some launchers leave it), the kernel would forget how the child
//! ended: the analyzer waits all the same, and the child finds the disposition as it was.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::commands::trace::group::Apart;
use crate::console::exit::{Exit, Failure};

/// Process number of the child while it can be signalled, else 0.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// The disposition of SIGPIPE before Rust's runtime set it to ignored.
static INHERITED_SIGPIPE: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
/// That of SIGCHLD.
static INHERITED_SIGCHLD: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);

/// Runs before Rust's runtime: constructors precede `main`.
#[used]
// SAFETY: .init_array holds pointers to C functions that take no notice of their arguments.
#[unsafe(link_section = ".init_array")]
static REMEMBER: extern "C" fn() = remember_dispositions;

extern "C" fn remember_dispositions() {
    INHERITED_SIGPIPE.store(disposition(libc::SIGPIPE), Ordering::Relaxed);
    INHERITED_SIGCHLD.store(disposition(libc::SIGCHLD), Ordering::Relaxed);
}

/// A running program.
pub struct Child {
    pid: i32,
    started: Instant,
    apart: Apart,
}

/// How a program ended and what it used.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Its process number.
    pub pid: u32,
    /// How it ended.
    pub how: How,
    /// From start to end.
    pub wall: Duration,
    /// Time on the CPU in user mode, of it and the children that it waited for.
    pub user: Duration,
    /// Time on the CPU in the kernel, likewise.
    pub system: Duration,
}

/// The two ways to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It exited with this code.
    Exited(u8),
    /// This signal killed it.
    Killed(i32),
}

impl Ended {
    /// The code for the analyzer to exit with, as a shell would report it.
    pub fn exit_code(&self) -> u8 {
        match self.how {
            How::Exited(code) => code,
            How::Killed(signal) => 128u8.saturating_add(u8::try_from(signal).unwrap_or(u8::MAX)),
        }
    }
}

impl Child {
    /// Starts `file` with `arguments`, the first of which is the name it goes by.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn start(
        file: &Path,
        arguments: &[OsString],
        variables: &[(&'static str, OsString)],
    ) -> Result<Child, Failure> {
        for (name, value) in variables {
            // Command::env would sort the child's whole environment.
            // SAFETY: this process has one thread, so nobody reads the environment meanwhile.
            unsafe { std::env::set_var(name, value) };
        }
        let mut command = Command::new(file);
        command.arg0(&arguments[0]).args(&arguments[1..]);
        let original_mask = block_signals();
        let handled = handle_signals();
        let pipe = INHERITED_SIGPIPE.load(Ordering::Relaxed);
        let child_ends = INHERITED_SIGCHLD.load(Ordering::Relaxed);
        // SAFETY: the default action needs no handler.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        let mut apart = Apart::prepare();
        let join = apart.join();
        let restore = move || {
            join.join();
            for signal in handled.into_iter().flatten() {
                // SAFETY: the default action needs no handler.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            // SAFETY: the dispositions are those this process was started with, default or ignored;
            // the mask is a plain set of signals.
            unsafe {
                libc::signal(libc::SIGPIPE, pipe);
                libc::signal(libc::SIGCHLD, child_ends);
                libc::pthread_sigmask(libc::SIG_SETMASK, &original_mask, std::ptr::null_mut());
            }
            Ok(())
        };
        // SAFETY: the closure only makes async-signal-safe calls and allocates nothing.
        unsafe { command.pre_exec(restore) };
        let started = Instant::now();
        let spawned = command.spawn();
        apart.started();
        if let Ok(child) = &spawned {
            CHILD.store(child.id().cast_signed(), Ordering::Relaxed);
        }
        // SAFETY: the mask was returned by pthread_sigmask; signals that came in between are
        // delivered now.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &original_mask, std::ptr::null_mut()) };
        match spawned {
            Ok(child) => Ok(Child { pid: child.id().cast_signed(), started, apart }),
            Err(error) => Err(Failure::new(
                Exit::OutOfReach,
                format!("{}: cannot be started: {error}", file.display()),
            )),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When the system has lost sight of it.
    pub fn wait(self) -> Result<Ended, Failure> {
        let lost = || {
            let error = std::io::Error::last_os_error();
            Failure::new(Exit::Environment, format!("waiting for process {}: {error}", self.pid))
        };
        let id = self.pid.cast_unsigned();
        // First without collecting it: until then its number cannot be given to another process,
        // which a signal that is passed on could hit.
        loop {
            // SAFETY: an all-zero siginfo_t is a valid value of this plain C struct.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            let options = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT;
            // SAFETY: `info` is live and writable.
            if unsafe { libc::waitid(libc::P_PID, id, &raw mut info, options) } == 0 {
                if info.si_code != libc::CLD_STOPPED {
                    break;
                }
                // SAFETY: `info` is live and writable; waitid has just filled it in.
                let signal = unsafe {
                    libc::waitid(libc::P_PID, id, &raw mut info, libc::WSTOPPED | libc::WNOHANG);
                    info.si_status()
                };
                self.apart.stopped(self.pid, signal);
            } else if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
                return Err(lost());
            }
        }
        let wall = self.started.elapsed();
        CHILD.store(0, Ordering::Relaxed);
        self.apart.ended();
        let mut status = 0;
        // SAFETY: an all-zero rusage is a valid value of this plain C struct.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `status` and `usage` are live and writable.
        if unsafe { libc::wait4(self.pid, &raw mut status, 0, &raw mut usage) } < 0 {
            return Err(lost());
        }
        let how = if libc::WIFSIGNALED(status) {
            How::Killed(libc::WTERMSIG(status))
        } else {
            How::Exited(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
        };
        let (user, system) = (duration(usage.ru_utime), duration(usage.ru_stime));
        Ok(Ended { pid: id, how, wall, user, system })
    }
}

/// Ends this process as the program ended, where the caller's shell looks at that: a loop goes on after a command that exited, and
/// stops after one that the terminal's interrupt killed.
pub fn end_likewise(ended: &Ended) {
    if ended.how == How::Killed(libc::SIGINT) {
        // SAFETY: the default action needs no handler; whatever had to be put away is.
        unsafe {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            libc::raise(libc::SIGINT);
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    let micros = time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_usec);
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Signals that supervisors, and people, send to one process.
const PASSED_ON: [i32; 6] =
    [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];

extern "C" fn pass_on(signal: i32) {
    let child = CHILD.load(Ordering::Relaxed);
    if child > 0 {
        // SAFETY: kill is async-signal-safe, leaves errno alone when it succeeds, and the child is
        // not collected before CHILD is cleared, so the number is its own.
        unsafe { libc::kill(child, signal) };
    }
}

/// Holds the signals back until the child's number is known; returns the mask as it was.
fn block_signals() -> libc::sigset_t {
    // SAFETY: both sets are live and writable; an all-zero sigset_t is a valid one.
    unsafe {
        let mut held: libc::sigset_t = std::mem::zeroed();
        let mut original: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut held);
        for signal in PASSED_ON {
            libc::sigaddset(&raw mut held, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &held, &raw mut original);
        original
    }
}

/// Installs the handlers, except where the caller had the signal ignored (nohup, background jobs);
/// says which. Handlers, unlike an ignored signal, do not outlive the child's exec.
fn handle_signals() -> [Option<i32>; PASSED_ON.len()] {
    let mut handled = [None; PASSED_ON.len()];
    for (place, signal) in handled.iter_mut().zip(PASSED_ON) {
        if disposition(signal) == libc::SIG_IGN {
            continue;
        }
        // SAFETY: an all-zero sigaction is a valid value; the handler makes only async-signal-safe
        // calls.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = pass_on as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
        *place = Some(signal);
    }
    handled
}

fn disposition(signal: i32) -> usize {
    // SAFETY: an all-zero sigaction is a valid value; a null new action only asks.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action);
        action.sa_sigaction
    }
}
