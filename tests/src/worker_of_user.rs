//! A Python worker's part played by `tests/shim/life.c`, as any user: to see where its records go.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::artifacts::Artifacts;
use crate::preloaded::{compile, shown};
use crate::program_file;

/// A user that is nobody's here, with a group of the same number.
pub const OTHER: u32 = 12345;

/// A folder that everybody may look into, with the program and the library in it.
pub struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    /// `None` unless this is root, who alone can be anybody: then that is said.
    ///
    /// # Panics
    /// When the folder or the program cannot be made.
    pub fn new(test: &str, artifacts: &Artifacts) -> Option<Stage> {
        // SAFETY: takes no argument.
        if unsafe { libc::geteuid() } != 0 {
            crate::skip::skip(test, "needs root, to run programs as other users");
            return None;
        }
        let stage = Stage { folder: tempfile::tempdir().expect("a directory") };
        set_mode(stage.folder.path(), 0o755);
        let life = compile("gcc", "life.c", stage.folder.path(), &[]);
        program_file::copy(&life, &stage.path("python3"));
        fs::copy(&artifacts.shim, stage.path("libshim.so")).expect("copied");
        set_mode(&stage.path("libshim.so"), 0o755);
        Some(stage)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new folder in it.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn folder(&self, name: &str, owner: u32, group: u32, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).expect("a directory");
        own(&path, owner, group);
        set_mode(&path, mode);
        path
    }

    /// The worker as this user, with nothing but the library in its environment.
    pub fn worker(&self, user: u32) -> Command {
        let mut command = Command::new(self.path("python3"));
        command
            .args(["writes", "3", "-m", "pyspark.worker"])
            .env_clear()
            .env("LD_PRELOAD", self.path("libshim.so"))
            .current_dir("/")
            .stdin(Stdio::null())
            .uid(user)
            .gid(user);
        command
    }

    /// Runs the worker as this user with these variables; what it said, and how many files it left in the folder.
    pub fn run(&self, user: u32, folder: &Path, variables: &[(&str, &str)]) -> (String, usize) {
        let mut worker = self.worker(user);
        worker.env("SPARKANALYZER_OUTPUT_DIR", folder).envs(variables.iter().copied());
        let output = finished(&mut worker);
        (String::from_utf8_lossy(&output.stderr).into_owned(), records(folder).len())
    }
}

/// Runs a command, which must succeed in some seconds.
///
/// # Panics
/// When it does not.
pub fn finished(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let begin = std::time::Instant::now();
    while child.try_wait().expect("our child").is_none() {
        if begin.elapsed() > std::time::Duration::from_secs(20) {
            child.kill().expect("our child");
            panic!("it hangs: {command:?}");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "{}", shown(&output));
    output
}

/// The record files in a folder; none if it is no folder.
pub fn records(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "sar")).collect()
}

/// Gives a path to somebody.
///
/// # Panics
/// When the system refuses.
pub fn own(path: &Path, owner: u32, group: u32) {
    std::os::unix::fs::lchown(path, Some(owner), Some(group)).expect("root may");
}

/// Changes the mode.
///
/// # Panics
/// When the system refuses.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its owner may");
}

/// Makes a FIFO or a device, as `mknod` is told.
///
/// # Panics
/// When it cannot be made.
pub fn make_node(path: &Path, kind: &[&str]) {
    let status = Command::new("mknod").arg("-m644").arg(path).args(kind).status();
    assert!(status.expect("coreutils are there").success(), "{}", path.display());
}
