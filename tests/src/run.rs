//! Running a program so that two runs execute the same instructions: no address randomisation, a fixed
//! environment, symbols bound at start, output into files.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::artifacts::Artifacts;

/// What a program wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// A command in the environment that does not vary, with its output going to files of its own directory.
#[derive(Debug)]
pub struct Quiet {
    command: Command,
    directory: tempfile::TempDir,
}

impl Quiet {
    /// Prepares `program` with `arguments`; the command can still be changed.
    ///
    /// # Errors
    /// When the directory for the output cannot be made.
    pub fn new(program: &Path, arguments: &[&str]) -> Result<Self, String> {
        let in_words = |error: std::io::Error| format!("output directory: {error}");
        let directory = tempfile::Builder::new().prefix("sa-").tempdir().map_err(in_words)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("LC_ALL", "C"), ("LD_BIND_NOW", "1")])
            .stdin(Stdio::null())
            .stdout(File::create(directory.path().join("stdout")).map_err(in_words)?)
            .stderr(File::create(directory.path().join("stderr")).map_err(in_words)?);
        // SAFETY: between fork and exec the closure makes one system call and touches no memory.
        unsafe {
            command.pre_exec(|| {
                match libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) {
                    -1 => Err(std::io::Error::last_os_error()),
                    _ => Ok(()),
                }
            });
        }
        Ok(Self { command, directory })
    }

    /// The command, for changes and for starting it.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// A directory that is deleted with this value; its path has the same length in every run.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What was written so far.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn captured(&self) -> Result<Captured, String> {
        let read = |name: &str| {
            std::fs::read(self.directory.path().join(name))
                .map_err(|error| format!("{name}: {error}"))
        };
        Ok(Captured { stdout: read("stdout")?, stderr: read("stderr")? })
    }
}

/// A finished native run.
#[derive(Debug)]
pub struct Finished {
    /// What it wrote.
    pub captured: Captured,
    /// How it ended.
    pub status: ExitStatus,
}

/// Runs the program without any of us.
///
/// # Errors
/// When it cannot be started.
pub fn native(program: &Path, arguments: &[&str]) -> Result<Finished, String> {
    let mut quiet = Quiet::new(program, arguments)?;
    let status =
        quiet.command().status().map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(Finished { captured: quiet.captured()?, status })
}

/// A finished run under `analyzer trace`.
#[derive(Debug)]
pub struct Traced {
    /// What the program wrote; stderr is the program's and the analyzer's together.
    pub captured: Captured,
    /// How `analyzer` ended.
    pub status: ExitStatus,
    /// What `--json` wrote; null when there is no such file.
    pub json: serde_json::Value,
    directory: tempfile::TempDir,
}

impl Traced {
    /// A metric of `totals`.
    ///
    /// # Panics
    /// When the JSON has no such number: then what the analyzer said is shown.
    pub fn total(&self, metric: &str) -> u64 {
        self.json["totals"][metric].as_u64().unwrap_or_else(|| {
            panic!(
                "no total of {metric}; status {:?}, stderr:\n{}\njson: {:#}",
                self.status,
                String::from_utf8_lossy(&self.captured.stderr),
                self.json
            )
        })
    }

    /// `complete` of the JSON.
    pub fn complete(&self) -> bool {
        self.json["complete"].as_bool().unwrap_or(false)
    }

    /// The record files of this run.
    pub fn record_files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.directory.path().join("out"))
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        files.sort();
        files
    }
}

/// How to run under `analyzer trace`.
#[derive(Debug, Clone, Default)]
pub struct Tracing<'a> {
    /// More arguments of `trace`, before `--`.
    pub options: &'a [&'a str],
    /// More environment variables.
    pub environment: &'a [(&'a str, &'a str)],
}

impl Tracing<'_> {
    /// Runs the program under `analyzer trace` with the JSON and the records in a directory of its own.
    ///
    /// # Errors
    /// When the analyzer cannot be started or wrote no JSON that can be read.
    pub fn run(
        &self,
        artifacts: &Artifacts,
        program: &Path,
        arguments: &[&str],
    ) -> Result<Traced, String> {
        let mut quiet = Quiet::new(&artifacts.analyzer, &[])?;
        let json_path = quiet.directory().join("json");
        let out = quiet.directory().join("out");
        quiet
            .command()
            .arg("trace")
            .arg("--shim")
            .arg(&artifacts.shim)
            .arg("--json")
            .arg(&json_path)
            .arg("--out")
            .arg(&out)
            .args(self.options)
            .arg("--")
            .arg(program)
            .args(arguments)
            .envs(self.environment.iter().copied());
        let status =
            quiet.command().status().map_err(|error| format!("analyzer trace: {error}"))?;
        let captured = quiet.captured()?;
        let json = match std::fs::read(&json_path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| format!("--json: {error}"))?
            }
            Err(_) => serde_json::Value::Null,
        };
        Ok(Traced { captured, status, json, directory: quiet.directory })
    }
}
