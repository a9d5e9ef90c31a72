//! Opening a file that others may have replaced by something else: a pipe would be waited for without end, and
//! a device may do anything.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens a file for reading without waiting for anybody, and looks at what was opened.
///
/// # Errors
/// What the system says, or that it is no regular file, and what it is instead.
pub fn open(path: &Path) -> io::Result<File> {
    // Without O_NOCTTY a terminal could become this process's own.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match opened {
        // A socket cannot be opened.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            return Err(refused("a socket or a device without a driver"));
        }
        other => other?,
    };
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    if kind.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    Err(refused(match kind.is_fifo() {
        true => "a named pipe (FIFO)",
        false if kind.is_char_device() || kind.is_block_device() => "a device",
        false => "something else",
    }))
}

fn refused(what: &str) -> io::Error {
    io::Error::other(format!("not a regular file but {what}"))
}

/// Reads a regular file of at most so many bytes.
///
/// # Errors
/// As [`open`], and when it is larger.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    // It may grow meanwhile, and in /proc the length is not known.
    if file.metadata()?.len() <= most {
        io::Read::read_to_end(&mut io::Read::take(file, most + 1), &mut bytes)?;
    } else {
        return Err(io::Error::other(format!("larger than {most} bytes")));
    }
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("larger than {most} bytes")));
    }
    Ok(bytes)
}

/// Reads a regular file of at most so many bytes as text.
///
/// # Errors
/// As [`read`], and when it is no UTF-8.
pub fn read_to_string(path: &Path, most: u64) -> io::Result<String> {
    let no_text = |_| io::Error::new(io::ErrorKind::InvalidData, "no UTF-8 text");
    String::from_utf8(read(path, most)?).map_err(no_text)
}

/// Where the next data begins at or behind `at`, if there is any (lseek(2), SEEK_DATA).
///
/// # Errors
/// What the system says.
pub fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    match seek(file, at, libc::SEEK_DATA) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        found => found.map(Some),
    }
}

/// Where the data at `at` ends: at a hole, or at the end of the file.
///
/// # Errors
/// What the system says.
pub fn data_end(file: &File, at: u64) -> io::Result<u64> {
    seek(file, at, libc::SEEK_HOLE)
}

fn seek(file: &File, at: u64, whence: libc::c_int) -> io::Result<u64> {
    let at = i64::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // SAFETY: the descriptor is open as long as `file` lives; lseek touches no memory.
    let found = unsafe { libc::lseek64(file.as_raw_fd(), at, whence) };
    u64::try_from(found).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_named_and_never_waited_for() {
        let folder = tempfile::tempdir().expect("room");
        let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
        let name = std::ffi::CString::new(pipe.as_os_str().as_encoded_bytes()).expect("no NUL");
        // SAFETY: the name is NUL-terminated.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        std::os::unix::fs::symlink(&pipe, &link).expect("room");
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("room");
        for (path, what) in [
            (pipe.as_path(), "FIFO"),
            (&link, "FIFO"),
            (Path::new("/dev/zero"), "device"),
            (&socket, "socket"),
            (folder.path(), "directory"),
        ] {
            let error = open(path).expect_err("refused").to_string();
            assert!(error.contains(what), "{}: {error}", path.display());
        }
        let file = folder.path().join("file");
        std::fs::write(&file, "text").expect("room");
        assert_eq!(read_to_string(&file, 4).expect("small"), "text");
        assert!(read(&file, 3).expect_err("large").to_string().contains("larger than 3 bytes"));
    }
}
