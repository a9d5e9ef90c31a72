//! Reading a conf file: what lies in its place may be anything.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use conf::trust::{self, Place};

/// The text of a regular file; a FIFO in its place would be waited for without end.
///
/// # Errors
/// When it cannot be read, or is something else.
pub fn read(path: &Path) -> io::Result<String> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    let place = Place { mode: found.mode(), owner: found.uid(), is_read_only: false };
    trust::regular(&place).map_err(|flaw| io::Error::other(flaw.to_string()))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}
