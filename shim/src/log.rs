//! The shim's own messages: off by default, bounded, never through libc.
//!
//! A message is one `write` of one line of at most 512 bytes; after [`MAX_LINES`] lines of a process
//! only one more says that the rest is left out. Where they go: `log_file`, else standard error.

use crate::sys;
use core::{
    ffi::{CStr, c_char},
    fmt::{self, Write},
    sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering},
};

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
/// Path of the log file, or null.
static FILE: AtomicPtr<c_char> = AtomicPtr::new(core::ptr::null_mut());

/// Lets lines up to this level through (0 = none).
pub fn set_level(level: u8) {
    if let Some(status) = sys::fstat(2) {
        STANDARD_ERROR.store(status.device ^ status.inode, Ordering::Relaxed);
    }
    LEVEL.store(level, Ordering::Relaxed);
}

/// Sends lines to a file; empty = standard error.
pub fn set_file(path: &str) {
    if !path.is_empty() {
        let path = crate::segment::c_path(path.as_bytes().to_vec());
        FILE.store(path.into_raw(), Ordering::Release);
    }
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
    let mut buffer = Line { bytes: [0; 512], used: 0 };
    let _ = write!(buffer, "sparkanalyzer[{}]: {text}", sys::getpid());
    let used = buffer.used.min(buffer.bytes.len() - 1);
    buffer.bytes[used] = b'\n';
    let path = FILE.load(Ordering::Acquire);
    if path.is_null() {
        // A program may close its standard error and get the number again for a file of its own.
        let now = sys::fstat(2).map_or(0, |status| status.device ^ status.inode);
        if [0, now].contains(&STANDARD_ERROR.load(Ordering::Relaxed)) {
            sys::write_all(2, &buffer.bytes[..=used]);
        }
        return;
    }
    // SAFETY: a leaked C string.
    let path = unsafe { CStr::from_ptr(path) };
    // O_WRONLY, O_CREAT, O_APPEND, O_NOFOLLOW, O_CLOEXEC
    let fd = sys::open(path, 0o2_402_101, 0o640);
    if !sys::failed(fd) {
        sys::write_all(fd as i32, &buffer.bytes[..=used]);
        sys::close(fd as i32);
    }
}

struct Line {
    bytes: [u8; 512],
    used: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - 1 - self.used;
        let take = text.len().min(room);
        self.bytes[self.used..self.used + take].copy_from_slice(&text.as_bytes()[..take]);
        self.used += take;
        Ok(())
    }
}
