//! Process groups: the program stays in the group that the analyzer was started in, the analyzer leaves it.
//!
//! # Design
//!
//! What a program sends to its own process group (`kill(0, SIGKILL)`) must not hit who waits for its counts; what a
//! terminal sends to the job (Ctrl-C, Ctrl-Z, hanging up) must hit the program and whoever else is in the job, as natively.
//! So the program keeps the group, and the terminal is left alone. A leader of a group cannot leave it for
//! one of its own number: it joins a group that a helper founds, and another helper stays in the old one until the
//! program is there, because a group without members is none.
//!
//! The shell watches the analyzer: when the terminal stops the program, the analyzer stops itself, and a relay in the
//! program's group wakes it when the shell has the job go on.
//!
//! # Limitations
//!
//! A session's leader cannot change its group. Then the program gets one of its own, and the terminal, if the
//! analyzer had it; other members of the analyzer's group do not hear its Ctrl-C.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// How the analyzer and the program are kept apart.
pub struct Apart {
    /// The group that the program is to be in; 0 = one of its own.
    group: i32,
    /// The terminal that the program's own group is to have, and the group that had it.
    terminal: Option<(File, i32)>,
    /// Whether there is a terminal whose signals may stop the program.
    has_terminal: bool,
    helpers: Helpers,
}

/// What the program does with it before it is executed. Makes async-signal-safe calls only.
#[derive(Clone, Copy)]
pub struct Join {
    group: i32,
    terminal: Option<i32>,
}

impl Join {
    /// Puts the calling process into its group.
    pub fn join(self) {
        // SAFETY: these calls take numbers alone, but for the two masks, which are live.
        unsafe {
            libc::setpgid(0, self.group);
            if let Some(terminal) = self.terminal {
                let mut before: libc::sigset_t = std::mem::zeroed();
                let held = only(libc::SIGTTOU);
                libc::pthread_sigmask(libc::SIG_BLOCK, &held, &raw mut before);
                libc::tcsetpgrp(terminal, libc::getpgrp());
                libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
            }
        }
    }
}

fn only(signal: i32) -> libc::sigset_t {
    // SAFETY: an all-zero sigset_t is a valid value, and the set is live.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        set
    }
}

impl Apart {
    /// Leaves the group, or prepares another one for the program. To be called before it is started, by a process with
    /// one thread.
    pub fn prepare() -> Apart {
        let terminal = File::options().read(true).write(true).open("/dev/tty").ok();
        // SAFETY: these calls take and give numbers alone.
        let (own, group, session) = unsafe { (libc::getpid(), libc::getpgrp(), libc::getsid(0)) };
        let mut helpers = Helpers::default();
        if own != session && leave(own == group, &mut helpers).is_ok() {
            return Apart { group, terminal: None, has_terminal: terminal.is_some(), helpers };
        }
        // SAFETY: the descriptor is open.
        let has_it = |file: &File| unsafe { libc::tcgetpgrp(file.as_raw_fd()) } == group;
        let has_terminal = terminal.is_some();
        let terminal = terminal.filter(has_it).map(|file| (file, group));
        Apart { group: 0, terminal, has_terminal, helpers }
    }

    /// For the program.
    pub fn join(&self) -> Join {
        let terminal = self.terminal.as_ref().map(|(file, _)| file.as_raw_fd());
        Join { group: self.group, terminal }
    }

    /// The program is where it belongs.
    pub fn started(&mut self) {
        self.helpers = Helpers::default();
        // What is written to a terminal from its background must not stop the analyzer.
        // SAFETY: a disposition without a handler.
        unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    }

    /// The program was stopped by this signal: does what the shell would have seen of it, and returns when it is to go
    /// on, or has.
    pub fn stopped(&self, program: i32, signal: i32) {
        let is_terminals = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&signal);
        if !is_terminals || !self.has_terminal {
            return;
        }
        if self.group == 0 {
            // Natively it would be the leader of a session, which no terminal stops.
            // SAFETY: the program is not waited for yet, so the number is its own, and its group's.
            unsafe { libc::kill(-program, libc::SIGCONT) };
            return;
        }
        // SAFETY: the calls take numbers and live masks. This process has one thread, so its copy may do what it
        // likes; it never returns.
        unsafe {
            let wake = only(libc::SIGCONT);
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, &wake, &raw mut before);
            let own = libc::getpid();
            let relay = libc::fork();
            if relay == 0 {
                libc::setpgid(0, self.group);
                relay_wake(own, program, &wake);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
            if relay > 0 {
                libc::kill(own, libc::SIGSTOP);
                libc::kill(relay, libc::SIGKILL);
                libc::waitpid(relay, std::ptr::null_mut(), 0);
            }
        }
    }

    /// The program has ended: the terminal goes back to who had it.
    pub fn ended(&self) {
        if let Some((terminal, group)) = &self.terminal {
            // SIGTTOU is ignored since the start.
            // SAFETY: the descriptor is open.
            unsafe { libc::tcsetpgrp(terminal.as_raw_fd(), *group) };
        }
    }
}

/// In a process of the program's group: wakes the analyzer when the shell has the group go on, or somebody the program
/// alone.
fn relay_wake(analyzer: i32, program: i32, wake: &libc::sigset_t) -> ! {
    const LOOKS_EVERY: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    const BETWEEN: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    // SAFETY: the masks and times are live; the others take numbers.
    unsafe {
        while libc::sigtimedwait(wake, std::ptr::null_mut(), &LOOKS_EVERY) < 0
            && is_stopped(program)
            && libc::getppid() == analyzer
        {}
        // It may be about to stop only now.
        while libc::getppid() == analyzer {
            libc::kill(analyzer, libc::SIGCONT);
            libc::nanosleep(&BETWEEN, std::ptr::null_mut());
        }
        libc::_exit(0)
    }
}

fn is_stopped(process: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// Processes that wait until this value goes.
#[derive(Default)]
struct Helpers {
    /// Their numbers and the ends of pipes at which they wait.
    all: Vec<(i32, i32)>,
}

impl Helpers {
    /// A helper, in a group of its own if it `founds` one; its number.
    fn start(&mut self, founds: bool) -> io::Result<i32> {
        let mut ends = [0; 2];
        // SAFETY: the array has room for two; the child makes async-signal-safe calls alone and does not return. This
        // process has one thread.
        unsafe {
            if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
                return Err(io::Error::last_os_error());
            }
            let helper = libc::fork();
            if helper == 0 {
                libc::close(ends[1]);
                // Those that came before wait for the analyzer alone.
                for (_, end) in &self.all {
                    libc::close(*end);
                }
                if founds {
                    libc::setpgid(0, 0);
                }
                let mut byte = 0u8;
                while libc::read(ends[0], (&raw mut byte).cast(), 1) < 0 {}
                libc::_exit(0);
            }
            libc::close(ends[0]);
            if helper < 0 {
                let error = io::Error::last_os_error();
                libc::close(ends[1]);
                return Err(error);
            }
            self.all.push((helper, ends[1]));
            if founds {
                // Whoever comes first.
                libc::setpgid(helper, helper);
            }
            Ok(helper)
        }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        for (helper, end) in self.all.drain(..) {
            // SAFETY: our own descriptor and child. It goes by itself; whoever has stopped or blocked it does not
            // hold us up.
            unsafe {
                libc::close(end);
                libc::kill(helper, libc::SIGKILL);
                libc::waitpid(helper, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// Moves this process into another group of its session; the old one has a member until the helpers go.
fn leave(is_leader: bool, helpers: &mut Helpers) -> io::Result<()> {
    helpers.start(false)?;
    let group = if is_leader { helpers.start(true)? } else { 0 };
    // SAFETY: takes numbers alone.
    match unsafe { libc::setpgid(0, group) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
