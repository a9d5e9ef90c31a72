//! The shim's own messages: off by default, bounded, never through libc.
//!
//! A message is one `write` of one line of at most 512 bytes; after [`MAX_LINES`] lines of a process
//! only one more says that the rest is left out. Where they go: `log_file`, else standard error. What text
//! from outside could tell a terminal or a reader of lines is written out ([`guest::escape`]).
//!
//! The log file is a regular file of root or of the process's user, no symbolic link; anything else in its
//! place is left alone.

use crate::{
    base::{
        file::{self, flag},
        ids,
        sys::{self, nr},
    },
    files::trusted::{self, Refusal, c_path},
};
use alloc::format;
use conf::trust;
use core::{
    ffi::{CStr, c_char},
    fmt::{self, Write},
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering},
};
use guest::escape::Escaping;

/// How much a line matters; `log_level` lets through its own level and those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something does not work.
    Error = 1,
    /// Something is left out.
    Warn = 2,
    /// What was decided.
    Info = 3,
    /// What happens.
    Debug = 4,
}

/// Lines that one process may write.
pub const MAX_LINES: u32 = 1000;

static LEVEL: AtomicU8 = AtomicU8::new(0);
static LINES: AtomicU32 = AtomicU32::new(0);
/// What descriptor 2 was at the start; 0 = not looked at.
static STANDARD_ERROR: AtomicU64 = AtomicU64::new(0);
/// Whether an analyzer says what this process does not.
static HAS_REPORTER: AtomicBool = AtomicBool::new(false);
/// Path of the log file, or null.
static FILE: AtomicPtr<c_char> = AtomicPtr::new(core::ptr::null_mut());

/// Notes whether an analyzer tells of the processes of this trace.
pub fn set_reporter(is_there: bool) {
    HAS_REPORTER.store(is_there, Ordering::Relaxed);
}

/// Whether it does: then the program's standard error stays its own.
pub fn has_reporter() -> bool {
    HAS_REPORTER.load(Ordering::Relaxed)
}

/// Lets lines up to this level through (0 = none).
pub fn set_level(level: u8) {
    if let Some(status) = file::fstat(2) {
        STANDARD_ERROR.store(status.device ^ status.inode, Ordering::Relaxed);
    }
    LEVEL.store(level, Ordering::Relaxed);
}

/// Sends lines to a file; empty = standard error. Without a file that may be written there are none.
pub fn set_file(path: &str) {
    if path.is_empty() || LEVEL.load(Ordering::Relaxed) == 0 {
        return;
    }
    let c_path = c_path(path.as_bytes().to_vec());
    match open_existing(&c_path) {
        Ok(fd) => file::close(fd),
        Err(Refusal::Error(sys::ENOENT)) => {}
        Err(refusal) => {
            LEVEL.store(0, Ordering::Relaxed);
            if !has_reporter() {
                on_standard_error(&format!("log_file {path}: {refusal}; nothing is logged"));
            }
            return;
        }
    }
    FILE.store(c_path.into_raw(), Ordering::Release);
}

/// Whether lines may go to standard error.
pub fn uses_standard_error() -> bool {
    LEVEL.load(Ordering::Relaxed) > 0 && FILE.load(Ordering::Relaxed).is_null()
}

/// Writes one line if its level is let through.
pub fn line(level: Level, text: fmt::Arguments<'_>) {
    if level as u8 > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    match LINES.fetch_add(1, Ordering::Relaxed) {
        n if n < MAX_LINES => always(text),
        MAX_LINES => always(format_args!("further messages are left out")),
        _ => {}
    }
}

/// Writes one line whatever the level: for a broken configuration.
pub fn always(text: fmt::Arguments<'_>) {
    let line = Line::of(text);
    let path = FILE.load(Ordering::Acquire);
    if path.is_null() {
        if is_standard_error(2) {
            file::write_all(2, line.bytes());
        }
        return;
    }
    if ![nr::OPENAT, nr::FSTAT, nr::WRITE, nr::CLOSE].into_iter().all(trusted::may) {
        return;
    }
    // SAFETY: a leaked C string.
    let path = unsafe { CStr::from_ptr(path) };
    let opened = match open_existing(path) {
        Err(Refusal::Error(sys::ENOENT)) => {
            let made = trusted::make_file(file::AT_FDCWD, path, flag::O_APPEND);
            // Another process may have made it meanwhile.
            made.map(|(fd, _)| fd).or_else(|_| open_existing(path))
        }
        opened => opened,
    };
    if let Ok(fd) = opened {
        file::write_all(fd, line.bytes());
        file::close(fd);
    }
}

fn open_existing(path: &CStr) -> Result<i32, Refusal> {
    trusted::open_file(path, flag::O_WRONLY | flag::O_APPEND | flag::O_NOFOLLOW, trust::log_file)
}

/// Writes one line to the program's standard error, log file or not; whether that was possible.
///
/// A thread that has no descriptors of the program's can open what is no socket and no other user's pipe.
pub fn on_standard_error(text: &str) -> bool {
    let line = Line::of(format_args!("{text}"));
    if is_standard_error(2) {
        file::write_all(2, line.bytes());
        return true;
    }
    if ![nr::OPENAT, nr::FSTAT, nr::WRITE, nr::CLOSE].into_iter().all(trusted::may) {
        return false;
    }
    let pid = own_pid();
    let path = c_path(format!("/proc/{pid}/fd/2").into_bytes());
    let fd = file::open(&path, flag::O_WRONLY | flag::O_APPEND | flag::CAREFUL, 0);
    if sys::failed(fd) {
        return false;
    }
    let is_open = is_standard_error(fd as u64);
    if is_open {
        file::write_all(fd as i32, line.bytes());
    }
    file::close(fd as i32);
    is_open
}

/// The counted process's number; who writes for it has another one.
fn own_pid() -> u32 {
    match ids::counted() {
        0 => ids::getpid(),
        counted => counted,
    }
}

/// A program may close its standard error and get the number again for a file of its own.
fn is_standard_error(fd: u64) -> bool {
    let now = file::fstat(fd).map_or(0, |status| status.device ^ status.inode);
    [0, now].contains(&STANDARD_ERROR.load(Ordering::Relaxed))
}

/// A line of the log: who says it, the text, and what ends it.
struct Line {
    bytes: [u8; 512],
    used: usize,
}

impl Line {
    fn of(text: fmt::Arguments<'_>) -> Line {
        let mut line = Line { bytes: [0; 512], used: 0 };
        let _ = write!(Escaping(&mut line), "sparkanalyzer[{}]: {text}", own_pid());
        line.bytes[line.used] = b'\n';
        line.used += 1;
        line
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - 1 - self.used;
        // No half a character at the end.
        let take = if text.len() <= room { text.len() } else { text.floor_char_boundary(room) };
        self.bytes[self.used..self.used + take].copy_from_slice(&text.as_bytes()[..take]);
        self.used += take;
        if take < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
