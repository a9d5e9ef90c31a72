//! Whether executing a file raises privileges, in which case the dynamic loader ignores
//! `LD_PRELOAD`.
//!
//! The kernel sets `AT_SECURE` when the effective user or group changes at exec, or when a user
//! other than root gains file capabilities (Linux `security/commoncap.c`,
//! `cap_bprm_creds_from_file`). It does neither on `nosuid` mounts nor under `no_new_privs`.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::OutOfReach;

/// The reason why executing `file` is a privileged start for this process, if it is one.
pub fn raised_by(file: &Path) -> Option<OutOfReach> {
    let found = std::fs::metadata(file).ok()?;
    let path = || file.to_owned();
    // SAFETY: these calls have no arguments and cannot fail.
    let (user, group) = unsafe { (libc::getuid(), libc::getgid()) };
    let sets_user = found.mode() & libc::S_ISUID != 0 && found.uid() != user;
    // Without the group's execute bit, set-gid means mandatory locking.
    let group_bits = libc::S_ISGID | libc::S_IXGRP;
    let sets_group = found.mode() & group_bits == group_bits && found.gid() != group;
    let capable = user != 0 && has_capabilities(file);
    if !(sets_user || sets_group || capable) || is_nosuid(file) || no_new_privileges() {
        None
    } else if sets_user {
        Some(OutOfReach::SetUid { path: path(), user: found.uid() })
    } else if sets_group {
        Some(OutOfReach::SetGid { path: path(), group: found.gid() })
    } else {
        Some(OutOfReach::Capabilities { path: path() })
    }
}

fn has_capabilities(file: &Path) -> bool {
    let Ok(file) = CString::new(file.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: both strings are NUL-terminated; a size of zero asks for the length and writes
    // nothing.
    unsafe {
        libc::getxattr(file.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) > 0
    }
}

fn is_nosuid(file: &Path) -> bool {
    let Ok(file) = CString::new(file.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: an all-zero statvfs is a valid value of this plain C struct.
    let mut mount: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `file` is NUL-terminated and `mount` is a live, writable struct of the right type.
    let answered = unsafe { libc::statvfs(file.as_ptr(), &raw mut mount) } == 0;
    answered && mount.f_flag & libc::ST_NOSUID != 0
}

fn no_new_privileges() -> bool {
    // SAFETY: this prctl reads one flag of the calling thread; unused arguments must be zero.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 }
}
