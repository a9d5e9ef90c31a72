//! Programs of `tests/shim` with libshim.so preloaded, and what they recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use records::metric::by_name;
use records::{Event, Flags, METRICS, Segment};

use crate::artifacts::{Artifacts, repository};

/// Compiles `tests/shim/<source>` into `directory`; the executable's path.
///
/// # Panics
/// When the compiler fails: its output is shown.
pub fn compile(compiler: &str, source: &str, directory: &Path, flags: &[&str]) -> PathBuf {
    let stem = source.split('.').next().unwrap_or(source);
    let executable = directory.join(stem);
    let output = Command::new(compiler)
        .args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(&executable)
        .arg(repository().join("tests/shim").join(source))
        .args(flags)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    executable
}

/// A command that is counted as under `analyzer trace`, system calls only, records into `directory`.
pub fn counted(artifacts: &Artifacts, program: &Path, directory: &Path) -> Command {
    // As `trace` does: its processes make none, which would be left when it is over.
    let _ = std::fs::create_dir_all(directory);
    let mut command = Command::new(program);
    command
        .env("LD_PRELOAD", &artifacts.shim)
        .env("SPARKANALYZER_TRACE", "0123456789abcdef0123456789abcdef")
        .env("SPARKANALYZER_OUTPUT_DIR", directory)
        .env("SPARKANALYZER_TRACER", "none")
        .env("SPARKANALYZER_LOG_LEVEL", "error");
    command
}

/// What one process recorded.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Whether it was forked from a counted process.
    pub forked: bool,
    /// The last totals; metric name to value, zeros left out.
    pub totals: BTreeMap<&'static str, u64>,
    /// Whether its end was recorded.
    pub ended: bool,
    /// Threads that started, and that ended.
    pub threads: (usize, usize),
    /// Values that the ends of threads have, added up.
    pub ended_threads: BTreeMap<&'static str, u64>,
    /// Paths of `Exec` records.
    pub execs: Vec<String>,
    /// Pids and paths of `Spawn` records of other programs.
    pub spawns: Vec<(u32, String)>,
    /// Numbers of `Spawn` records of forks, and the number in the process's own header.
    pub forks: Vec<u32>,
    /// The number that the fork which made it has in its parent.
    pub parent_fork: u32,
    /// Codes of notices.
    pub notices: Vec<u16>,
}

impl Process {
    /// A metric's total.
    ///
    /// # Panics
    /// When there is no such metric.
    pub fn total(&self, metric: &str) -> u64 {
        assert!(by_name(metric).is_some(), "{metric} is no metric");
        self.totals.get(metric).copied().unwrap_or(0)
    }
}

/// Reads every record file in a directory; one process each, in the order of their starts.
///
/// # Panics
/// When a file cannot be read, or has bytes that must be left out.
pub fn processes(directory: &Path) -> Vec<Process> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("the directory of records")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    // Segments of one process differ in their last digits only.
    files.sort();
    let mut found: BTreeMap<[u8; 16], (u64, Process)> = BTreeMap::new();
    for file in files {
        let bytes = std::fs::read(&file).expect("a readable record file");
        let segment =
            Segment::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_eq!(segment.left_out_bytes(), 0, "{}", file.display());
        let header = segment.header();
        let (_, process) = found.entry(header.process_id).or_insert_with(|| {
            let process = Process {
                pid: header.pid,
                comm: text(header.comm),
                forked: header.parent_process.is_some(),
                totals: BTreeMap::new(),
                ended: false,
                threads: (0, 0),
                ended_threads: BTreeMap::new(),
                execs: Vec::new(),
                spawns: Vec::new(),
                forks: Vec::new(),
                parent_fork: header.parent_fork,
                notices: Vec::new(),
            };
            (header.start_mono_ns, process)
        });
        for group in segment.groups() {
            let values = || {
                let values = group.values.as_ref()?;
                Some(METRICS.iter().zip(values.raw()).filter(|(_, value)| **value != 0))
            };
            if group.tid == 0
                && !matches!(group.event, Event::Directory { .. })
                && let Some(values) = values()
            {
                process.totals = values.map(|(metric, value)| (metric.name, *value)).collect();
            }
            match group.event {
                Event::ThreadStart { .. } => process.threads.0 += 1,
                Event::ThreadEnd => {
                    assert!(group.flags.contains(Flags::FINAL));
                    process.threads.1 += 1;
                    for (metric, value) in values().into_iter().flatten() {
                        *process.ended_threads.entry(metric.name).or_default() += value;
                    }
                }
                Event::Exec { path } => process.execs.push(text(path)),
                Event::Spawn { pid, fork: 0, path } => process.spawns.push((pid, text(path))),
                Event::Spawn { fork, .. } => process.forks.push(fork),
                Event::Notice { code, .. } => process.notices.push(code),
                Event::ProcessEnd { .. } => process.ended = true,
                _ => {}
            }
        }
    }
    let mut ordered: Vec<_> = found.into_values().collect();
    ordered.sort_by_key(|(start, _)| *start);
    ordered.into_iter().map(|(_, process)| process).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The output's streams and status in one text, for messages.
pub fn shown(output: &Output) -> String {
    format!(
        "{}\nstdout: {}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
