//! The folder of the record files: who may have made it, whether this process can write there, and what is said
//! where it cannot.
//!
//! # Design
//!
//! It is looked at before counting begins, and again each time a file is made in it, through its descriptor. What
//! others can change is refused ([`conf::trust`]), and files never get the folder's group. A process that should be
//! counted and cannot write says so on standard error, once; not under `analyzer trace`: there the analyzer tells of
//! it, and the output of the programs is not ours.

use crate::{
    base::{
        file,
        sys::{self, nr},
    },
    files::{
        log,
        trusted::{self, Refusal, absolute, c_path},
    },
};
use alloc::{boxed::Box, ffi::CString, format, string::String, vec, vec::Vec};
use core::{
    ffi::CStr,
    fmt,
    ptr::null_mut,
    sync::atomic::{AtomicBool, AtomicPtr, Ordering},
};
use engine::sys::optional;
use guest::escape::Bytes;

/// Whether this process, or the one that it was forked from, has said that it cannot write.
static TOLD: AtomicBool = AtomicBool::new(false);
/// What it could not say yet, or null.
static PENDING: AtomicPtr<String> = AtomicPtr::new(null_mut());

/// The folder that the settings name.
#[derive(Clone)]
pub struct OutputFolder {
    path: CString,
    /// Device and inode that it must have.
    pin: Option<(u64, u64)>,
}

impl OutputFolder {
    /// The folder at this path, by the working directory as it is now; `pin` = it must be this one.
    pub fn new(path: &[u8], pin: Option<(u64, u64)>) -> Result<OutputFolder, Refusal> {
        Ok(OutputFolder { path: c_path(without_end(absolute(path)?)), pin })
    }

    /// Opens it, for the names in it; made if it is missing and may be.
    pub fn open(&self, may_make: bool) -> Result<i32, Refusal> {
        match self.open_existing() {
            Err(Refusal::Error(sys::ENOENT)) if may_make && self.pin.is_none() => {
                // SAFETY: the path is NUL-terminated and only read.
                let result =
                    unsafe { optional(nr::MKDIR, [self.path.as_ptr() as u64, 0o750, 0, 0, 0, 0]) };
                const EEXIST: i64 = -17;
                if sys::failed(result) && result != EEXIST {
                    return Err(Refusal::Error(result));
                }
                self.open_existing()
            }
            opened => opened,
        }
    }

    fn open_existing(&self) -> Result<i32, Refusal> {
        let (fd, status) = trusted::open_folder(&self.path)?;
        if self.pin.is_some_and(|pin| pin != (status.device, status.inode)) {
            file::close(fd);
            return Err(Refusal::Replaced);
        }
        Ok(fd)
    }

    /// Whether files could be made in it. Nothing is: a process may end before it has something to write.
    pub fn check(&self) -> Result<(), Refusal> {
        match self.open_existing() {
            Ok(fd) => {
                file::close(fd);
                may_write(&self.path)
            }
            Err(Refusal::Error(sys::ENOENT)) if self.pin.is_none() => {
                let path = self.path.to_bytes();
                let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0).max(1);
                may_write(&c_path(path[..end.min(path.len())].to_vec()))
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// The space on disk of this user's record files in it.
    ///
    /// Sizes say nothing of it, and others can make files in a sticky folder: theirs must not stop our snapshots.
    pub fn bytes(&self) -> Option<u64> {
        let folder = self.open_existing().ok()?;
        let flags = file::flag::O_DIRECTORY | file::flag::O_CLOEXEC;
        // SAFETY: the path is NUL-terminated and only read.
        let fd = unsafe { sys::call4(nr::OPENAT, folder as u64, c".".as_ptr() as u64, flags, 0) };
        file::close(folder);
        if sys::failed(fd) {
            return None;
        }
        let user = trusted::user();
        let mut total = 0u64;
        let is_whole = for_each_name(fd as u64, |name| {
            if name.to_bytes().ends_with(b".sar") {
                total = total.saturating_add(bytes_of(fd as u64, name, user));
            }
        });
        file::close(fd as i32);
        is_whole.then_some(total)
    }
}

impl fmt::Display for OutputFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Bytes(self.path.to_bytes()))
    }
}

/// A path without slashes and dots at its end: behind them the last part would be followed if it is a link.
fn without_end(mut path: Vec<u8>) -> Vec<u8> {
    while path.len() > 1 && (path.ends_with(b"/") || path.ends_with(b"/.")) {
        path.pop();
    }
    path
}

/// What a file of this user takes; 0 if it is no regular file, or another one's.
fn bytes_of(folder: u64, name: &CStr, user: u32) -> u64 {
    let Ok(status) = file::lstat_at(folder, name) else { return 0 };
    let is_regular = conf::trust::regular(&trusted::place(&status)).is_ok();
    if !is_regular || status.owner != user {
        return 0;
    }
    // Others may have given it more names.
    status.blocks.saturating_mul(512) / status.links.max(1)
}

/// Shows each name in a folder; whether all were to be had.
fn for_each_name(folder: u64, mut see: impl FnMut(&CStr)) -> bool {
    let mut buffer = vec![0u8; 16 * 1024];
    loop {
        // SAFETY: the kernel writes within the buffer only.
        let count = unsafe {
            sys::call3(nr::GETDENTS64, folder, buffer.as_mut_ptr() as u64, buffer.len() as u64)
        };
        if count <= 0 {
            return count == 0;
        }
        let mut rest = &buffer[..count as usize];
        // struct linux_dirent64: inode 8, offset 8, length 2, type 1, name.
        while rest.len() > 19 {
            let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
            if let Some(name) =
                rest.get(19..length).and_then(|name| CStr::from_bytes_until_nul(name).ok())
            {
                see(name);
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn may_write(path: &CStr) -> Result<(), Refusal> {
    const WRITE_AND_SEARCH: u64 = 3;
    // The loader makes this call before us, so a filter that forbids it has done its harm.
    // SAFETY: the path is NUL-terminated and only read.
    let result = unsafe { sys::call2(nr::ACCESS, path.as_ptr() as u64, WRITE_AND_SEARCH) };
    if sys::failed(result) { Err(Refusal::Error(result)) } else { Ok(()) }
}

/// Says that nothing can be written: in the log, and once on standard error, with what to do.
pub fn tell(folder: &dyn fmt::Display, why: &Refusal) {
    let is_first = !TOLD.swap(true, Ordering::Relaxed) && !log::has_reporter();
    if !is_first || !log::uses_standard_error() {
        let text = format_args!("cannot write records to {folder}: {why}; nothing is counted");
        log::line(log::Level::Error, text);
    }
    if is_first {
        let text = format!(
            "cannot write records to {folder}: {why}; nothing is counted. As root: \
             install -d -o root -m 1777 {folder}; or name another output_dir"
        );
        if !log::on_standard_error(&text) {
            PENDING.store(Box::into_raw(Box::new(text)), Ordering::Release);
        }
    }
}

/// Says what could not be said by a thread without the program's descriptors.
pub fn tell_what_is_pending() {
    let text = PENDING.swap(null_mut(), Ordering::Acquire);
    if !text.is_null() {
        // SAFETY: from a box, by whoever swaps it out alone.
        log::on_standard_error(&unsafe { Box::from_raw(text) });
    }
}
