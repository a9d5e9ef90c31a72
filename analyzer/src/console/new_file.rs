//! A file that appears whole or not at all, in a folder to which others may write.
//!
//! # Design
//!
//! It is written beside its place under a random name that must be new, in the folder that was opened at the
//! beginning, so that neither a planted link is followed nor an exchanged folder. Then it is renamed; what had
//! the name before, a link too, is replaced and never written to.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

/// How often a random name is tried: two of 2^64 that are the same are no chance.
const ATTEMPTS: u32 = 8;

/// The file.
#[derive(Debug)]
pub struct NewFile {
    folder: OwnedFd,
    /// What it is called while it is written; gone once it has its name.
    temporary: Option<OsString>,
    name: OsString,
    file: File,
}

impl NewFile {
    /// Begins it; its mode is 0666 less the caller's umask, as every new file's.
    ///
    /// # Errors
    /// What the system says; the path has no name.
    pub fn begin(path: &Path) -> io::Result<NewFile> {
        NewFile::with_mode(path, 0o666)
    }

    /// Begins it with this mode, less the caller's umask.
    ///
    /// # Errors
    /// As [`NewFile::begin`].
    pub fn with_mode(path: &Path, mode: u32) -> io::Result<NewFile> {
        let Some(name) = path.file_name() else {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = open_folder(parent.unwrap_or(Path::new(".")))?;
        match path.metadata() {
            Ok(there) if there.is_dir() => return Err(io::Error::from_raw_os_error(libc::EISDIR)),
            Ok(there) if !there.is_file() => {
                return Err(io::Error::other("is a pipe or a device, which is not to be replaced"));
            }
            _ => {}
        }
        NewFile::in_folder(folder, name, mode)
    }

    /// Begins it in a folder that is open.
    ///
    /// # Errors
    /// As [`NewFile::begin`].
    pub fn in_folder(folder: OwnedFd, name: &OsStr, mode: u32) -> io::Result<NewFile> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for attempt in 1.. {
            let temporary = OsString::from(format!(".sparkanalyzer-{:016x}.new", random()?));
            match rustix::fs::openat(&folder, &temporary, flags, Mode::from_raw_mode(mode)) {
                Ok(file) => {
                    let (name, file) = (name.to_owned(), File::from(file));
                    return Ok(NewFile { folder, temporary: Some(temporary), name, file });
                }
                Err(rustix::io::Errno::EXIST) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error.into()),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// The file, to be written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name, in the place of whatever has it.
    ///
    /// # Errors
    /// What the system says; then what was there before is there.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(temporary) = &self.temporary {
            rustix::fs::renameat(&self.folder, temporary, &self.folder, &self.name)?;
            self.temporary = None;
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nothing else can be done about what was left.
            let _ = rustix::fs::unlinkat(&self.folder, temporary, AtFlags::empty());
        }
    }
}

/// What the caller has open already and names by a path (`/dev/stdout`, `>(program)` of a shell), to be written
/// to as it is.
pub fn descriptor(path: &Path) -> Option<io::Result<File>> {
    let is_own = ["/dev/stdout", "/dev/stderr", "/dev/null", "/dev/tty"]
        .iter()
        .any(|one| path == Path::new(one))
        || ["/dev/fd", "/proc/self/fd"]
            .iter()
            .any(|folder| path.parent() == Some(Path::new(folder)));
    is_own.then(|| File::options().write(true).open(path))
}

/// Opens a folder, to name files in it.
///
/// # Errors
/// What the system says.
pub fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn it_appears_whole_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let (precious, out) = (folder.path().join("precious"), folder.path().join("out"));
        fs::write(&precious, "precious").unwrap();
        symlink(&precious, &out).unwrap();
        let new = NewFile::begin(&out).unwrap();
        new.file().write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "precious");
        new.finish().unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "new");
        assert!(!out.is_symlink());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(NewFile::begin(&folder.path().join("out")).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(NewFile::begin(folder.path()).is_err());
    }
}
