//! Files by raw system calls: opened, read, looked at; nothing of them is buffered.

use crate::base::sys::{EINTR, EPERM, call1, call2, call3, failed, nr};
use alloc::vec::Vec;
use core::ffi::CStr;

/// What files are opened with: see open(2).
#[allow(missing_docs)]
pub mod flag {
    pub const O_WRONLY: u64 = 1;
    pub const O_CREAT: u64 = 0o100;
    pub const O_EXCL: u64 = 0o200;
    pub const O_NOCTTY: u64 = 0o400;
    pub const O_APPEND: u64 = 0o2_000;
    pub const O_NONBLOCK: u64 = 0o4_000;
    pub const O_DIRECTORY: u64 = 0o200_000;
    pub const O_NOFOLLOW: u64 = 0o400_000;
    pub const O_CLOEXEC: u64 = 0o2_000_000;
    pub const O_PATH: u64 = 0o10_000_000;
    /// A FIFO or device in a file's place neither stops nor changes anything until it is seen for what it is.
    pub const CAREFUL: u64 = O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
}

/// The descriptor number that means "the current directory" (`AT_FDCWD`).
pub const AT_FDCWD: u64 = -100i64 as u64;

/// Writes all bytes to a descriptor of this process, for messages; errors are dropped.
pub fn write_all(fd: i32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the slice is readable for its length.
        let result =
            unsafe { call3(nr::WRITE, fd as u64, bytes.as_ptr() as u64, bytes.len() as u64) };
        match result {
            EINTR => {}
            written if written > 0 => bytes = &bytes[written as usize..],
            _ => return,
        }
    }
}

/// Opens a file; `path` ends with NUL. The descriptor, or a negated errno.
pub fn open(path: &CStr, flags: u64, mode: u64) -> i64 {
    let arguments = [AT_FDCWD, path.as_ptr() as u64, flags, mode, 0, 0];
    // A descriptor that could not be closed would stay in the application's table.
    if !engine::seccomp::allows(nr::CLOSE, &[0; 6]) {
        return EPERM;
    }
    // SAFETY: the path is NUL-terminated and the kernel only reads it.
    unsafe { engine::sys::optional(nr::OPENAT, arguments) }
}

/// Closes a descriptor that the shim itself opened.
pub fn close(fd: i32) {
    // SAFETY: only descriptors of the shim's own are given here.
    unsafe { call1(nr::CLOSE, fd as u64) };
}

/// Reads up to the buffer's length; the count, or a negated errno. Interrupted reads are repeated.
pub fn read(fd: i32, buffer: &mut [u8]) -> i64 {
    loop {
        // SAFETY: the kernel writes within the buffer only.
        let result =
            unsafe { call3(nr::READ, fd as u64, buffer.as_mut_ptr() as u64, buffer.len() as u64) };
        if result != EINTR {
            return result;
        }
    }
}

/// The parts of `struct stat` that the shim uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Number of names.
    pub links: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub owner: u32,
    /// Group.
    pub group: u32,
    /// Size in bytes.
    pub size: u64,
    /// Size on disk, in blocks of 512 bytes.
    pub blocks: u64,
}

/// `struct stat` of x86-64 (`arch/x86/include/uapi/asm/stat.h`).
#[repr(C)]
struct RawStat {
    device: u64,
    inode: u64,
    links: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    pad: u32,
    rdev: u64,
    size: i64,
    block_size: u64,
    blocks: u64,
    rest: [u64; 9],
}

fn status_of(raw: &RawStat) -> Status {
    Status {
        device: raw.device,
        inode: raw.inode,
        links: raw.links,
        mode: raw.mode,
        owner: raw.uid,
        group: raw.gid,
        size: raw.size as u64,
        blocks: raw.blocks,
    }
}

/// What a descriptor stands for; `None` if it is not open.
#[inline]
pub fn fstat(fd: u64) -> Option<Status> {
    let mut raw = core::mem::MaybeUninit::<RawStat>::uninit();
    // SAFETY: the kernel fills the structure when it succeeds.
    unsafe {
        let result = engine::sys::optional(nr::FSTAT, [fd, raw.as_mut_ptr() as u64, 0, 0, 0, 0]);
        (!failed(result)).then(|| status_of(raw.assume_init_ref()))
    }
}

/// What a path names, symbolic links followed.
pub fn stat(path: &CStr) -> Option<Status> {
    stat_at(AT_FDCWD, path)
}

/// What a path below a directory's descriptor names.
pub fn stat_at(directory: u64, path: &CStr) -> Option<Status> {
    status_at(directory, path, 0).ok()
}

/// What a path below a directory's descriptor names, a symbolic link itself; a negated errno if nothing.
pub fn lstat_at(directory: u64, path: &CStr) -> Result<Status, i64> {
    const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
    status_at(directory, path, AT_SYMLINK_NOFOLLOW)
}

fn status_at(directory: u64, path: &CStr, flags: u64) -> Result<Status, i64> {
    let mut raw = core::mem::MaybeUninit::<RawStat>::uninit();
    // SAFETY: as above; the path is NUL-terminated.
    unsafe {
        let arguments = [directory, path.as_ptr() as u64, raw.as_mut_ptr() as u64, flags, 0, 0];
        let result = engine::sys::optional(nr::NEWFSTATAT, arguments);
        if failed(result) { Err(result) } else { Ok(status_of(raw.assume_init_ref())) }
    }
}

/// Reads a whole file of at most `limit` bytes; a negated errno, or `-EFBIG`.
pub fn read_file(path: &CStr, limit: usize) -> Result<Vec<u8>, i64> {
    let fd = open(path, flag::CAREFUL, 0);
    if failed(fd) {
        return Err(fd);
    }
    let text = read_to_end(fd as i32, limit);
    close(fd as i32);
    text
}

/// Reads what a descriptor has, at most `limit` bytes; a negated errno, or `-EFBIG`.
pub fn read_to_end(fd: i32, limit: usize) -> Result<Vec<u8>, i64> {
    const EFBIG: i64 = -27;
    const ENOMEM: i64 = -12;
    let mut text = Vec::new();
    loop {
        let used = text.len();
        if used > limit {
            return Err(EFBIG);
        }
        if text.try_reserve(4096).is_err() {
            return Err(ENOMEM);
        }
        text.resize(used + 4096, 0);
        let count = read(fd, &mut text[used..]);
        text.truncate(used + count.max(0) as usize);
        match count {
            0 => return Ok(text),
            count if count < 0 => return Err(count),
            _ => {}
        }
    }
}

/// The words for the errors that a user can do something about.
pub fn error_text(error: i64) -> &'static str {
    match -error {
        1 => "not permitted",
        2 => "no such file or directory",
        5 => "input/output error",
        6 => "no such device, or a FIFO that nobody reads",
        12 => "not enough memory",
        13 => "permission denied",
        20 => "not a directory",
        22 => "invalid argument",
        24 => "too many open files",
        27 => "file too large",
        28 => "no space left on device",
        30 => "read-only file system",
        36 => "file name too long",
        40 => "too many symbolic links",
        122 => "disk quota exceeded",
        _ => "the system refused",
    }
}

/// The target of a symbolic link (not NUL-terminated); `None` if it cannot be read or does not fit.
pub fn read_link<'b>(path: &CStr, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let size = buffer.len();
    read_link_start(path, buffer).filter(|target| target.len() < size)
}

/// The target of a symbolic link, as far as it fits; `None` if it cannot be read.
pub fn read_link_start<'b>(path: &CStr, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let (path, room) = (path.as_ptr() as u64, buffer.len() as u64);
    let arguments = [path, buffer.as_mut_ptr() as u64, room, 0, 0, 0];
    // SAFETY: the kernel writes within the buffer only.
    let length = unsafe { engine::sys::optional(nr::READLINK, arguments) };
    (length > 0).then(|| &buffer[..length as usize])
}

/// Whether a path names something.
pub fn exists(path: &CStr) -> bool {
    // SAFETY: the path is NUL-terminated and only read.
    unsafe { !failed(call2(nr::ACCESS, path.as_ptr() as u64, 0)) }
}

/// `/proc/self/fd/<fd>`
pub fn descriptor_path(fd: u64, buffer: &mut [u8; 32]) -> &CStr {
    const PREFIX: &[u8] = b"/proc/self/fd/";
    buffer[..PREFIX.len()].copy_from_slice(PREFIX);
    let digits = if fd == 0 { 1 } else { fd.ilog10() as usize + 1 };
    let end = (PREFIX.len() + digits).min(buffer.len() - 1);
    let mut rest = fd;
    for byte in buffer[PREFIX.len()..end].iter_mut().rev() {
        *byte = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    buffer[end] = 0;
    CStr::from_bytes_until_nul(buffer).unwrap_or_default()
}
