//! The programs: `tests/guest` compiled, and those of the system.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::artifacts::repository;
use crate::build;

/// The file `tests/guest/<name>`.
pub fn file(name: &str) -> PathBuf {
    repository().join("tests/guest").join(name)
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: the call has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// The path of a program of the system, if it is installed.
pub fn program(name: &str) -> Option<PathBuf> {
    let places = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists())
}

/// Compiles `tests/guest/<name>.c`; the executable's path. One that is newer than its sources is kept.
///
/// # Panics
/// When the compiler fails: its output is shown.
pub fn compile(name: &str) -> PathBuf {
    compile_with(name, &[])
}

/// The same with more flags, which become part of the executable's name.
///
/// # Panics
/// When the compiler fails: its output is shown.
pub fn compile_with(name: &str, flags: &[&str]) -> PathBuf {
    let source = file(&format!("{name}.c"));
    let inputs = [source.clone(), file("filter.h"), file("surroundings.h")];
    let directory = build::output_directory("guest-programs");
    let executable = directory.join(format!("{name}{}", flags.concat()));
    if build::is_newer(&executable, &inputs) {
        return executable;
    }
    let fresh = directory.join(format!(".{name}.{}", build::fresh_number()));
    let output = Command::new("gcc")
        .args(["-O1", "-g", "-pthread", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&fresh)
        .arg(&source)
        .args(flags)
        .output()
        .unwrap_or_else(|error| panic!("gcc: {error}"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(&fresh, &executable)
        .unwrap_or_else(|error| panic!("{}: {error}", executable.display()));
    executable
}
