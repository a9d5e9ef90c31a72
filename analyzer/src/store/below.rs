//! Files below a store's folder, reached without following a link: others may write to the folder, and what they
//! plant there must not lead a writer to files elsewhere, nor a reader.
//!
//! # Design
//!
//! The store's folder itself is opened as the user names it. Each folder below is opened in the one above it,
//! refusing links, and the file in the last; so it does not matter what is exchanged meanwhile. What is made may
//! be read by its group, as record files may: 0640, less the umask.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::console::new_file::open_folder;

/// The mode of files.
pub const FILE_MODE: u32 = 0o640;
/// The mode of folders.
const FOLDER_MODE: u32 = 0o750;

/// Whether folders that are missing are made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// They are.
    Made,
    /// It is an error.
    Refused,
}

/// A link, named: the system's words for it are of levels of links.
fn named(error: Errno, name: &OsStr) -> io::Error {
    match error {
        Errno::LOOP | Errno::MLINK => {
            let name = name.display();
            io::Error::other(format!("{name} is a symbolic link, which is not followed in a store"))
        }
        other => other.into(),
    }
}

/// Opens the folder that a relative path leads to.
///
/// # Errors
/// What the system says; a part of the path is a link, or leads upwards.
pub fn folder(root: &Path, relative: &Path, missing: Missing) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = open_folder(root)?;
    for part in relative.components() {
        let Component::Normal(name) = part else {
            return Err(io::Error::other("leads out of the store"));
        };
        if missing == Missing::Made {
            match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(FOLDER_MODE)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        at = match rustix::fs::openat(&at, name, flags, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOTDIR) if is_link(&at, name) => return Err(named(Errno::LOOP, name)),
            Err(error) => return Err(named(error, name)),
        };
    }
    Ok(at)
}

fn is_link(folder: &OwnedFd, name: &OsStr) -> bool {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink)
}

/// The folder of a file, and its name in it.
fn place<'p>(
    root: &Path,
    relative: &'p Path,
    missing: Missing,
) -> io::Result<(OwnedFd, &'p OsStr)> {
    let Some(name) = relative.file_name() else { return Err(io::Error::other("leads nowhere")) };
    Ok((folder(root, relative.parent().unwrap_or(Path::new("")), missing)?, name))
}

/// Opens a file for reading.
///
/// # Errors
/// What the system says; it is no regular file, or a link is on the way.
pub fn open(root: &Path, relative: &Path) -> io::Result<File> {
    let (folder, name) = place(root, relative, Missing::Refused)?;
    regular(&folder, name, OFlags::RDONLY)
}

fn regular(folder: &OwnedFd, name: &OsStr, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(FILE_MODE));
    let file = File::from(file.map_err(|error| named(error, name))?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("is no regular file")),
    }
}

/// Makes a file that must be new, and the folders that it lies in.
///
/// # Errors
/// What the system says; something is there, or a link is on the way.
pub fn create(root: &Path, relative: &Path) -> io::Result<File> {
    let (folder, name) = place(root, relative, Missing::Made)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    regular(&folder, name, flags)
}

/// Opens a file to be locked: it is made if it is missing, and nothing is ever written to it.
///
/// # Errors
/// What the system says; it is a link or no regular file.
pub fn lock_file(root: &Path, name: &str) -> io::Result<File> {
    let folder = open_folder(root)?;
    regular(&folder, OsStr::new(name), OFlags::RDWR | OFlags::CREATE)
}

/// Moves a file; the folders that it then lies in are made. `false` if it is not there.
///
/// # Errors
/// What the system says; a link is on the way.
pub fn rename(root: &Path, from: &Path, to: &Path) -> io::Result<bool> {
    let (from_folder, from_name) = match place(root, from, Missing::Refused) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    if rustix::fs::statat(&from_folder, from_name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
        return Ok(false);
    }
    let (to_folder, to_name) = place(root, to, Missing::Made)?;
    rustix::fs::renameat(&from_folder, from_name, &to_folder, to_name)?;
    Ok(true)
}

/// Removes a file; one that is not there is no error. The last file of a folder takes it along.
///
/// # Errors
/// What the system says; a link is on the way.
pub fn remove(root: &Path, relative: &Path) -> io::Result<()> {
    let (folder, name) = match place(root, relative, Missing::Refused) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(parent) = relative.parent().filter(|parent| parent.components().count() > 1)
        && let Ok((above, name)) = place(root, parent, Missing::Refused)
    {
        // It stays if there is more in it.
        let _ = rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR);
    }
    Ok(())
}

/// The names in a folder; none if it is not there or no folder.
///
/// # Errors
/// What the system says.
pub fn names(root: &Path, relative: &Path) -> io::Result<Vec<OsString>> {
    let folder = match folder(root, relative, Missing::Refused) {
        // A link, too, leads to nothing that is the store's.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
        Err(_) => return Ok(Vec::new()),
        Ok(folder) => folder,
    };
    let mut names = Vec::new();
    // Such a descriptor lists nothing.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(&folder, ".", flags, Mode::empty())?;
    for entry in Dir::new(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Whether a file is there.
pub fn is_there(root: &Path, relative: &Path) -> bool {
    open(root, relative).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn no_link_is_followed_and_no_file_truncated() {
        let folder = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (folder.path().join("store"), folder.path().join("elsewhere"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("precious"), "precious").unwrap();
        symlink(elsewhere.join("precious"), root.join(".lock")).unwrap();
        symlink(&elsewhere, root.join("table")).unwrap();
        fs::write(root.join("file"), "x").unwrap();
        let link =
            |error: io::Error| assert!(error.to_string().contains("symbolic link"), "{error}");
        link(lock_file(&root, ".lock").unwrap_err());
        link(open(&root, Path::new("table/precious")).unwrap_err());
        link(create(&root, Path::new("table/new")).unwrap_err());
        link(rename(&root, Path::new("file"), Path::new("table/file")).unwrap_err());
        link(remove(&root, Path::new("table/precious")).unwrap_err());
        assert!(names(&root, Path::new("table")).unwrap().is_empty());
        assert!(create(&root, Path::new("file")).is_err());
        for out in ["../elsewhere/precious", "/etc/passwd"] {
            assert!(
                open(&root, Path::new(out)).unwrap_err().to_string().contains("out of the store")
            );
        }
        let locked = lock_file(&root, "file").unwrap();
        locked.lock().unwrap();
        assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "x");
        create(&root, Path::new("a/b/c")).unwrap();
        let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode();
        assert_eq!((mode("a/b/c") & 0o137, mode("a/b") & 0o027), (0, 0));
        assert!(rename(&root, Path::new("a/b/c"), Path::new("d/e")).unwrap());
        remove(&root, Path::new("d/e")).unwrap();
        assert!(!is_there(&root, Path::new("d/e")));
        assert_eq!(fs::read_to_string(elsewhere.join("precious")).unwrap(), "precious");
    }
}
