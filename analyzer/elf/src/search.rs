//! Where a program is, found as `execvp` finds it.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::OutOfReach;

/// Where `execvp` looks when `PATH` is not set (glibc's `confstr(_CS_PATH)`).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The file that `execvp(name, ...)` would start, with `path` as the value of `PATH`.
///
/// # Errors
/// [`OutOfReach::NotFound`] when there is none, [`OutOfReach::NotExecutable`] when there is one
/// that may not be executed and no other.
pub fn find_program(name: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, OutOfReach> {
    let not_found = || OutOfReach::NotFound { name: name.to_owned() };
    if name.is_empty() {
        return Err(not_found());
    }
    if name.as_bytes().contains(&b'/') {
        let file = PathBuf::from(name);
        return match check(&file) {
            Check::Executable => Ok(file),
            Check::Missing => Err(not_found()),
            Check::Refused(why) => Err(OutOfReach::NotExecutable { path: file, why }),
        };
    }
    let default = OsString::from(DEFAULT_PATH);
    let mut refused = None;
    for folder in path.unwrap_or(&default).as_bytes().split(|&byte| byte == b':') {
        let folder = if folder.is_empty() { &b"."[..] } else { folder };
        let file = Path::new(OsStr::from_bytes(folder)).join(name);
        match check(&file) {
            Check::Executable => return Ok(file),
            Check::Missing => {}
            Check::Refused(why) => {
                refused.get_or_insert(OutOfReach::NotExecutable { path: file, why });
            }
        }
    }
    Err(refused.unwrap_or_else(not_found))
}

enum Check {
    Executable,
    Missing,
    Refused(String),
}

fn check(file: &Path) -> Check {
    match std::fs::metadata(file) {
        Ok(found) if found.is_dir() => Check::Refused("it is a directory".to_owned()),
        Ok(found) if !found.is_file() => Check::Refused("it is not a regular file".to_owned()),
        Ok(_) if may_execute(file) => Check::Executable,
        Ok(_) => Check::Refused("no permission to execute it".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Check::Refused(error.to_string())
        }
        Err(_) => Check::Missing,
    }
}

/// Asks the kernel, which knows about access lists, mount options and capabilities.
fn may_execute(file: &Path) -> bool {
    let Ok(file) = CString::new(file.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: `file` is a NUL-terminated string that outlives the call; nothing is written.
    unsafe { libc::faccessat(libc::AT_FDCWD, file.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn put(folder: &Path, name: &str, mode: u32) {
        std::fs::write(folder.join(name), "#!/bin/sh\n").expect("writable");
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode))
            .expect("own file");
    }

    #[test]
    fn the_first_executable_in_path_order_wins() {
        let (one, two) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        put(one.path(), "tool", 0o644);
        put(two.path(), "tool", 0o755);
        put(one.path(), "locked", 0o644);
        std::fs::create_dir(two.path().join("folder")).expect("dir");
        let path = std::env::join_paths([one.path(), two.path()]).expect("no colons");
        let find = |name: &str| find_program(OsStr::new(name), Some(&path));
        assert_eq!(find("tool").expect("found"), two.path().join("tool"));
        assert!(matches!(find("locked"), Err(OutOfReach::NotExecutable { .. })));
        assert!(matches!(find("folder"), Err(OutOfReach::NotExecutable { .. })));
        assert!(matches!(find("nothing"), Err(OutOfReach::NotFound { .. })));
        assert!(matches!(find(""), Err(OutOfReach::NotFound { .. })));
    }

    #[test]
    fn a_name_with_a_slash_is_not_searched() {
        let found = find_program(OsStr::new("/bin/sh"), Some(OsStr::new("/nowhere")));
        assert_eq!(found.expect("Debian has it"), PathBuf::from("/bin/sh"));
        assert!(find_program(OsStr::new("./sh-that-is-not-here"), None).is_err());
    }
}
