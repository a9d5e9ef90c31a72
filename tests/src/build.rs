//! Compiles the programs of `tests/native`.
//!
//! A source says in its first lines how it wants to be built:
//! `@flags -O1 -mavx2` (compiler flags), `@needs avx512f` (CPU flags of /proc/cpuinfo it executes),
//! `@alone` (brings its own `main`, instead of the frame that calls `pass` n times),
//! `@libraries` (its path depends on the libraries that are loaded: the oracle has ours loaded too, idle),
//! `@fixed` (cannot be a position-independent executable).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::artifacts::repository;

/// A program of `tests/native`, as its first lines describe it.
#[derive(Debug, Clone)]
pub struct Source {
    /// File name without the extension.
    pub name: String,
    /// The source file.
    pub path: PathBuf,
    /// Compiler flags.
    pub flags: Vec<String>,
    /// CPU flags that it executes.
    pub needs: Vec<String>,
    /// It has its own `main`.
    pub alone: bool,
    /// The instructions it executes depend on which libraries are loaded.
    pub libraries: bool,
    /// It cannot be position-independent.
    pub fixed: bool,
}

/// How the executable is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linking {
    /// At any address (`-pie`).
    Pie,
    /// At a fixed address (`-no-pie`).
    Fixed,
    /// Without a dynamic loader (`-static`).
    Static,
}

impl Source {
    /// The program `tests/native/<file>`.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn named(file: &str) -> Self {
        Self::read(&repository().join("tests/native").join(file))
    }

    /// A program that is not part of `tests/native`.
    ///
    /// # Panics
    /// When the file cannot be read.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let head: Vec<&str> = text.lines().take(12).collect();
        let words = |directive: &str| -> Vec<String> {
            head.iter()
                .filter_map(|line| line.split_once(directive))
                .flat_map(|(_, rest)| rest.split_whitespace())
                .filter(|word| *word != "*/")
                .map(str::to_owned)
                .collect()
        };
        let has = |directive: &str| head.iter().any(|line| line.contains(directive));
        Self {
            name: path.file_stem().expect("a file").to_string_lossy().into_owned(),
            path: path.to_path_buf(),
            flags: words("@flags"),
            needs: words("@needs"),
            alone: has("@alone"),
            libraries: has("@libraries"),
            fixed: has("@fixed"),
        }
    }

    /// Every program that the frame drives, by name.
    ///
    /// # Panics
    /// When `tests/native` cannot be read.
    pub fn all_passes() -> Vec<Self> {
        let directory = repository().join("tests/native");
        let mut sources: Vec<Self> = std::fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| ["c", "S", "cpp"].iter().any(|e| extension == *e))
                    && path.file_stem().is_some_and(|stem| stem != "frame")
            })
            .map(|path| Self::read(&path))
            .filter(|source| !source.alone)
            .collect();
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        sources
    }

    /// The CPU flags that this machine lacks.
    pub fn missing_cpu_flags(&self) -> Vec<String> {
        let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let have: Vec<&str> = information
            .lines()
            .find(|line| line.starts_with("flags"))
            .map(|line| line.split_whitespace().collect())
            .unwrap_or_default();
        self.needs.iter().filter(|need| !have.contains(&need.as_str())).cloned().collect()
    }

    /// Compiles and links; the executable's path. An executable newer than its sources is kept.
    ///
    /// # Panics
    /// When the compiler fails: its output is shown.
    pub fn build(&self, linking: Linking) -> PathBuf {
        let native = repository().join("tests/native");
        let frame = native.join("frame.c");
        let inputs = [self.path.clone(), frame.clone(), native.join("frame.h")];
        let directory = output_directory("native-programs");
        let executable = directory.join(format!("{}-{}", self.name, linking.word()));
        if is_newer(&executable, &inputs) {
            return executable;
        }
        // Several test processes may build the same program: each renames a file of its own.
        let fresh = directory.join(format!(".{}-{}.{}", self.name, linking.word(), fresh_number()));
        let is_cpp = self.path.extension().is_some_and(|extension| extension == "cpp");
        let mut command = Command::new(if is_cpp { "g++" } else { "gcc" });
        command.args(["-g", "-Wall", "-Wextra", "-Werror", "-I"]).arg(&native);
        command.args(match linking {
            Linking::Pie => &["-fPIE", "-pie"][..],
            Linking::Fixed => &["-fno-pie", "-no-pie"],
            Linking::Static => &["-fno-pie", "-static"],
        });
        command.arg("-o").arg(&fresh).arg(&self.path);
        command.args(if self.flags.iter().any(|flag| flag.starts_with("-O")) {
            &[][..]
        } else {
            &["-O1"]
        });
        command.args(&self.flags);
        if !self.alone {
            command.args(["-x", "c"]).arg(&frame).args(["-x", "none"]);
        }
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(
            output.status.success(),
            "{command:?}:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        std::fs::rename(&fresh, &executable)
            .unwrap_or_else(|error| panic!("{}: {error}", executable.display()));
        executable
    }
}

impl Linking {
    fn word(self) -> &'static str {
        match self {
            Self::Pie => "pie",
            Self::Fixed => "fixed",
            Self::Static => "static",
        }
    }
}

/// The folder of that name beside this test's own executable, which programs are compiled into.
pub(crate) fn output_directory(name: &str) -> PathBuf {
    let directory = crate::artifacts::own_target()
        .unwrap_or_else(|| repository().join("target/debug"))
        .join(name);
    std::fs::create_dir_all(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    directory
}

/// A word that no other file of a test has.
pub(crate) fn fresh_number() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether a file is newer than all that it is made of.
pub(crate) fn is_newer(output: &Path, inputs: &[PathBuf]) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    let Some(output) = changed(output) else { return false };
    inputs.iter().all(|input| changed(input).is_some_and(|input| input < output))
}
