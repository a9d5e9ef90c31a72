//! Programs that a test makes and then runs.
//!
//! A process that another thread forks while a file is open for writing has that file open as well, until it
//! executes; meanwhile the kernel lets nobody execute the file (ETXTBSY). Hence a program is never opened for
//! writing by a test: `install` writes it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Copies a program, mode 0755.
///
/// # Panics
/// If `install` (coreutils) cannot write it.
pub fn copy(from: &Path, to: &Path) {
    let from = File::open(from).expect("the program is there");
    let written = install(to).stdin(from).status().expect("coreutils are there");
    assert!(written.success(), "cannot write {}", to.display());
}

/// Writes a program, mode 0755.
///
/// # Panics
/// If `install` (coreutils) cannot write it.
pub fn write(to: &Path, content: &[u8]) {
    let mut writer = install(to).stdin(Stdio::piped()).spawn().expect("coreutils are there");
    // Dropped at the end of the statement: `install` sees the end of its input.
    let sent = writer.stdin.take().expect("a pipe").write_all(content);
    let written = writer.wait().expect("our child");
    assert!(sent.is_ok() && written.success(), "cannot write {}", to.display());
}

fn install(to: &Path) -> Command {
    let mut command = Command::new("install");
    command.args(["-m", "755", "/dev/stdin"]).arg(to);
    command
}
