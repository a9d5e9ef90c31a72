//! A temporary folder that nobody else may look into, whatever the umask says.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

/// Makes it (0700); it is removed with its contents when it is dropped.
///
/// # Errors
/// What the system says.
pub fn make() -> io::Result<TempDir> {
    let permissions = Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix("sparkanalyzer-").permissions(permissions).tempdir()
}
