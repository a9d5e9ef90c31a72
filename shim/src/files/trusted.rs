//! Files and folders that others may have put in our way: opened so that nothing happens, looked at through the
//! descriptor, and only then used. The rules are those of [`conf::trust`].

use crate::base::{
    file::{self, Status, flag},
    ids,
    sys::{self, nr},
};
use alloc::{ffi::CString, vec::Vec};
use conf::trust::{self, Flaw, Look, Place, Who};
use core::{
    ffi::CStr,
    fmt,
    sync::atomic::{AtomicU32, Ordering},
};
use engine::sys::optional;

/// The effective user and group, as they were found last.
static USER: AtomicU32 = AtomicU32::new(0);
static GROUP: AtomicU32 = AtomicU32::new(0);

/// Why a place cannot be used.
#[derive(Clone, Copy, Debug)]
pub enum Refusal {
    /// The system refuses: a negated errno.
    Error(i64),
    /// It is not as it must be.
    Flaw(Flaw),
    /// Another folder lies there than at the start.
    Replaced,
    /// What begins a file is longer than may be.
    Header,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Error(error) => f.write_str(file::error_text(*error)),
            Refusal::Flaw(flaw) => write!(f, "{flaw}"),
            Refusal::Replaced => f.write_str("another folder lies there than at the start"),
            Refusal::Header => f.write_str("its header is longer than a header may be"),
        }
    }
}

impl From<Flaw> for Refusal {
    fn from(flaw: Flaw) -> Self {
        Refusal::Flaw(flaw)
    }
}

/// Notes the effective user and group: at the start of a process the kernel has told them unasked.
pub fn set_user(user: u32, group: u32) {
    USER.store(user, Ordering::Relaxed);
    GROUP.store(group, Ordering::Relaxed);
}

/// Asks who they are now.
pub fn look_at_user() {
    if may(nr::GETEUID) && may(nr::GETEGID) {
        set_user(ids::geteuid(), ids::getegid());
    }
}

/// Whether no filter that the process has installed keeps us from a call.
pub fn may(number: u64) -> bool {
    engine::seccomp::allows(number, &[0; 6])
}

/// The effective user that was noted last.
pub fn user() -> u32 {
    USER.load(Ordering::Relaxed)
}

/// Judges by a rule for the effective user.
fn judge<E>(rule: impl Fn(&Who) -> Result<(), E>) -> Result<(), E> {
    let user = user();
    rule(&Who { user, is_in_namespace: false }).or_else(|flaw| {
        // Seldom needed, so looked at late.
        if is_in_namespace() { rule(&Who { user, is_in_namespace: true }) } else { Err(flaw) }
    })
}

/// Whether users may have no number in this process's user namespace (user_namespaces(7)).
fn is_in_namespace() -> bool {
    let map = file::read_file(c"/proc/self/uid_map", 4096).unwrap_or_default();
    let map = core::str::from_utf8(&map).unwrap_or_default();
    let mut numbers = map.split_ascii_whitespace();
    let whole = ["0", "0", "4294967295"];
    !map.is_empty() && !(whole.iter().all(|one| numbers.next() == Some(one)))
}

/// What the rules need of a place.
pub fn place(status: &Status) -> Place {
    Place { mode: status.mode, owner: status.owner, is_read_only: false }
}

/// Opens an existing file to read or append: the descriptor if it is a regular file by this rule. With a FIFO or a
/// device in its place nothing happens.
pub fn open_file(
    path: &CStr,
    flags: u64,
    rule: impl Fn(&Place, &Who) -> Result<(), Flaw>,
) -> Result<i32, Refusal> {
    let fd = file::open(path, flags | flag::CAREFUL, 0);
    if sys::failed(fd) {
        return Err(kind_in_the_way(path).unwrap_or(Refusal::Error(fd)));
    }
    let status = file::fstat(fd as u64).unwrap_or_default();
    let judged = judge(|who| rule(&place(&status), who)).or_else(|flaw| {
        // Nobody writes to a file that is mounted read-only, whatever its mode says.
        let is_read_only = is_read_only(path);
        let place = Place { is_read_only, ..place(&status) };
        if is_read_only { judge(|who| rule(&place, who)) } else { Err(flaw) }
    });
    if let Err(flaw) = judged {
        file::close(fd as i32);
        return Err(flaw.into());
    }
    Ok(fd as i32)
}

/// What lies at a path where a file or folder could not be opened, if that is why.
fn kind_in_the_way(path: &CStr) -> Option<Refusal> {
    let status = kind_of(path)?;
    let is_usual = trust::regular(&place(&status)).is_ok() || is_folder(&status);
    (!is_usual).then_some(Refusal::Flaw(Flaw::Kind(status.mode)))
}

fn kind_of(path: &CStr) -> Option<Status> {
    may(nr::NEWFSTATAT).then(|| file::lstat_at(file::AT_FDCWD, path).ok()).flatten()
}

fn is_folder(status: &Status) -> bool {
    const TYPE: u32 = 0o170_000;
    status.mode & TYPE == 0o040_000
}

/// Opens a folder, not through a symbolic link as its last part; record files may be written there.
pub fn open_folder(path: &CStr) -> Result<(i32, Status), Refusal> {
    let flags = flag::O_PATH | flag::O_DIRECTORY | flag::O_NOFOLLOW | flag::O_CLOEXEC;
    let fd = file::open(path, flags, 0);
    if sys::failed(fd) {
        let found = kind_of(path).filter(|status| !is_folder(status));
        let found = found.map(|status| Refusal::Flaw(Flaw::Kind(status.mode)));
        return Err(found.unwrap_or(Refusal::Error(fd)));
    }
    let status = file::fstat(fd as u64).unwrap_or_default();
    if let Err(flaw) = judge(|who| trust::folder(&place(&status), who)) {
        file::close(fd as i32);
        return Err(flaw.into());
    }
    Ok((fd as i32, status))
}

/// Makes a file of ours, mode 0640, with the process's own group whatever the folder's is.
pub fn make_file(folder: u64, name: &CStr, flags: u64) -> Result<(i32, Status), Refusal> {
    let flags =
        flags | flag::O_WRONLY | flag::O_CREAT | flag::O_EXCL | flag::O_NOFOLLOW | flag::CAREFUL;
    // The folder's group must not get it open in the moment before it has another.
    let mode = if may(nr::FCHMOD) { 0o600 } else { 0o640 };
    // SAFETY: the name is NUL-terminated and only read.
    let fd = unsafe { sys::call4(nr::OPENAT, folder, name.as_ptr() as u64, flags, mode) };
    if sys::failed(fd) {
        return Err(Refusal::Error(fd));
    }
    let made = settle(fd as u64);
    if made.is_err() {
        // SAFETY: the name is NUL-terminated; the file was made above and has nothing in it.
        unsafe { optional(nr::UNLINKAT, [folder, name.as_ptr() as u64, 0, 0, 0, 0]) };
        file::close(fd as i32);
    }
    Ok((fd as i32, made?))
}

/// Gives a new file the process's group and the mode of our files.
fn settle(fd: u64) -> Result<Status, Refusal> {
    let status = file::fstat(fd).unwrap_or_default();
    trust::regular(&place(&status))?;
    let group = GROUP.load(Ordering::Relaxed);
    if status.group != group {
        const SAME_OWNER: u64 = u32::MAX as u64;
        // SAFETY: our own new file.
        let result = unsafe { optional(nr::FCHOWN, [fd, SAME_OWNER, u64::from(group), 0, 0, 0]) };
        if sys::failed(result) {
            return Err(Refusal::Error(result));
        }
    }
    // SAFETY: as above. A file system without modes has its own way.
    unsafe { optional(nr::FCHMOD, [fd, 0o640, 0, 0, 0, 0]) };
    Ok(status)
}

/// Whether nobody but root and the process's user can change what an absolute path leads to; else where, and how.
pub fn check_way(path: &[u8]) -> Result<(), (Vec<u8>, Flaw)> {
    judge(|who| trust::path(path, who, look))
}

fn look(path: &[u8]) -> Look {
    let path = c_path(path.to_vec());
    let status = match file::lstat_at(file::AT_FDCWD, &path) {
        Ok(status) => status,
        Err(sys::ENOENT) => return Look::Missing,
        Err(_) => return Look::Unknown,
    };
    let mut target = [0u8; 4096];
    const TYPE: u32 = 0o170_000;
    const LINK: u32 = 0o120_000;
    if status.mode & TYPE == LINK {
        return match file::read_link(&path, &mut target) {
            Some(target) => Look::Link(status.owner, target.to_vec()),
            None => Look::Unknown,
        };
    }
    // Only where it matters: what others could write to, and no sticky folder.
    const GROUP_OR_WORLD: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    let is_open = status.mode & GROUP_OR_WORLD != 0 && status.mode & STICKY == 0;
    let is_read_only = is_open && is_read_only(&path);
    Look::Place(Place { is_read_only, ..place(&status) })
}

/// Whether a path is on a file system that is mounted read-only.
fn is_read_only(path: &CStr) -> bool {
    const ST_RDONLY: u64 = 1;
    // struct statfs (asm-generic/statfs.h): 15 words, the flags are the eleventh.
    let mut words = [0u64; 15];
    // SAFETY: the path is NUL-terminated, the structure is written to.
    let result = unsafe { sys::call2(nr::STATFS, path.as_ptr() as u64, words.as_mut_ptr() as u64) };
    !sys::failed(result) && words[10] & ST_RDONLY != 0
}

/// A path as a C string; what follows a NUL is left away.
pub fn c_path(mut path: Vec<u8>) -> CString {
    if let Some(end) = path.iter().position(|&byte| byte == 0) {
        path.truncate(end);
    }
    CString::new(path).unwrap_or_default()
}

/// The path from the root; the helper's working directory is not the application's.
pub fn absolute(path: &[u8]) -> Result<Vec<u8>, Refusal> {
    if path.first() == Some(&b'/') {
        return Ok(path.to_vec());
    }
    let mut buffer = [0u8; 4096];
    // SAFETY: the kernel writes within the buffer only.
    let length = unsafe { sys::call2(nr::GETCWD, buffer.as_mut_ptr() as u64, buffer.len() as u64) };
    if sys::failed(length) {
        return Err(Refusal::Error(length));
    }
    // The kernel counts the NUL, and says so where the folder has no path from the root: `(unreachable)`.
    let mut whole = buffer[..(length.max(1) - 1) as usize].to_vec();
    if whole.first() != Some(&b'/') {
        return Err(Refusal::Error(sys::ENOENT));
    }
    whole.push(b'/');
    whole.extend_from_slice(path);
    Ok(whole)
}
