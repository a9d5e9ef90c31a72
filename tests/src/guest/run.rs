//! One program's run, natively or under `analyzer trace`, and what is seen of it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::programs::{compile, file};
use super::session::{End, in_session, wait_unless};
use crate::artifacts::Artifacts;

/// What can be seen of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error: the program's.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub end: End,
}

impl Seen {
    /// In words, for messages.
    pub fn shown(&self) -> String {
        let short = |bytes: &[u8]| {
            let text: String = String::from_utf8_lossy(bytes).chars().take(200).collect();
            text
        };
        format!(
            "{:?}, stdout {:?}, stderr {:?}",
            self.end,
            short(&self.stdout),
            short(&self.stderr)
        )
    }
}

/// A run under `analyzer trace`.
#[derive(Debug)]
pub struct Traced {
    /// What can be seen of the program.
    pub seen: Seen,
    /// The JSON; null if there is none.
    pub json: Value,
    /// Lines of the library's and the analyzer's on standard error.
    pub messages: Vec<String>,
    /// The working directory, with the record files in `out`.
    pub directory: tempfile::TempDir,
}

impl Traced {
    /// `complete` of the JSON.
    pub fn is_complete(&self) -> bool {
        self.json["complete"].as_bool().unwrap_or(false)
    }

    /// A metric of `totals`, 0 when it is unknown.
    pub fn total(&self, metric: &str) -> u64 {
        self.json["totals"][metric].as_u64().unwrap_or(0)
    }

    /// The sum of `<class>_<metric>` over all classes of descriptors.
    pub fn over_classes(&self, metric: &str) -> u64 {
        let classes = ["file", "pipe", "socket", "other"];
        classes.iter().map(|class| self.total(&format!("{class}_{metric}"))).sum()
    }

    /// How many processes have a record.
    pub fn counted_processes(&self) -> usize {
        let mut pids: Vec<u64> = self.json["processes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|process| process["totals"]["instructions"].as_u64().is_some_and(|n| n > 0))
            .filter_map(|process| process["pid"].as_u64())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids.len()
    }

    /// Gaps and notices.
    pub fn remarks(&self) -> String {
        format!(
            "complete {}, gaps {}, notices {}",
            self.json["complete"], self.json["gaps"], self.json["notices"]
        )
    }
}

/// A command, and the little that may be around it.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What it reads.
    pub input: Vec<u8>,
    /// More environment variables.
    pub environment: Vec<(String, String)>,
    /// More options of `trace`.
    pub options: Vec<String>,
    /// How long it may take.
    pub limit: Duration,
}

/// More record files than any of the programs can need.
pub(super) const FILES: usize = 500;

/// How long a run may take: a hang is what passes any load of a test machine.
pub const LIMIT: Duration = Duration::from_secs(20);

impl Guest {
    /// A program with arguments, all else as usual.
    pub fn new(program: &Path, arguments: &[&str]) -> Self {
        let mut command = vec![program.to_str().expect("UTF-8").to_owned()];
        command.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let (input, environment, options) = (Vec::new(), Vec::new(), Vec::new());
        Self { command, input, environment, options, limit: LIMIT }
    }

    /// The words of a command line; the first is a program of `tests/guest` where there is one of that name.
    pub fn words(line: &str) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_ours = file(&format!("{}.c", words[0])).exists();
        let program = if is_ours { compile(words[0]) } else { PathBuf::from(words[0]) };
        Self::new(&program, &words[1..])
    }

    /// The same command in surroundings (words of `tests/guest/surroundings.h`).
    #[must_use]
    pub fn under(mut self, words: &[&str]) -> Self {
        let mut command = vec![compile("under").to_str().expect("UTF-8").to_owned()];
        command.extend(words.iter().map(|&word| word.to_owned()));
        command.push("--".to_owned());
        command.append(&mut self.command);
        self.command = command;
        self
    }

    /// The same with something to read.
    #[must_use]
    pub fn reading(mut self, input: &str) -> Self {
        self.input = input.as_bytes().to_vec();
        self
    }

    /// The same with an environment variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with another time limit.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it without any of us.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn native(&self) -> Seen {
        let directory = directory();
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        self.run(command, directory.path())
    }

    /// Runs it under `analyzer trace`.
    ///
    /// # Panics
    /// When the analyzer cannot be started.
    pub fn traced(&self, artifacts: &Artifacts) -> Traced {
        let directory = directory();
        self.traced_in(artifacts, directory)
    }

    /// The same in a directory that the caller made.
    ///
    /// # Panics
    /// When the analyzer cannot be started.
    pub fn traced_in(&self, artifacts: &Artifacts, directory: tempfile::TempDir) -> Traced {
        let json = directory.path().join("json");
        let mut seen = self.run(self.trace_command(artifacts, directory.path()), directory.path());
        let messages = take_messages(&mut seen.stderr);
        let json = std::fs::read(json).ok();
        let json =
            json.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null);
        Traced { seen, json, messages, directory }
    }

    /// `analyzer trace` of it: records in `out` and the JSON in `json` of a directory.
    pub fn trace_command(&self, artifacts: &Artifacts, directory: &Path) -> Command {
        let mut command = Command::new(&artifacts.analyzer);
        command.args(["trace", "--format", "json", "--shim"]).arg(&artifacts.shim);
        command.arg("--json").arg(directory.join("json"));
        if !self.options.iter().any(|option| option == "--out") {
            command.arg("--out").arg(directory.join("out"));
        }
        command.args(&self.options).arg("--").args(&self.command);
        command
    }

    /// Runs a command in a directory, with this one's input, environment and limit.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, mut command: Command, directory: &Path) -> Seen {
        let output = |name: &str| File::create(directory.join(name)).expect("a file for output");
        // A session's leader survives its group's signals no better than natively.
        in_session(&mut command);
        command
            .env_clear()
            .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C"), ("HOME", "/tmp")])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(output("stdout"))
            .stderr(output("stderr"));
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        if let Some(mut stdin) = child.stdin.take() {
            // It may have ended without reading.
            let _ = stdin.write_all(&self.input);
        }
        // A library that begins one record file after the other would fill the disk.
        let records = directory.join("out");
        let has_too_many = || std::fs::read_dir(&records).is_ok_and(|files| files.count() > FILES);
        let end = wait_unless(&mut child, self.limit, has_too_many);
        let read = |name: &str| std::fs::read(directory.join(name)).unwrap_or_default();
        Seen { stdout: read("stdout"), stderr: read("stderr"), end }
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("guest-").tempdir().expect("a directory")
}

/// What the dynamic loader says when a library cannot be preloaded.
pub(super) const LOADER: &str = "ERROR: ld.so: object ";

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Removes the analyzer's JSON from the end of what was written to standard error, and every line of the library's and
/// the analyzer's before it; the lines.
fn take_messages(stderr: &mut Vec<u8>) -> Vec<String> {
    const JSON: &[u8] = b"{\n  \"command\": [";
    let own = stderr.windows(JSON.len()).rposition(|window| window == JSON);
    stderr.truncate(own.unwrap_or(stderr.len()));
    const OURS: [&str; 4] = ["sparkanalyzer[", "analyzer: ", "warning: ", "error: "];
    let is_ours = |line: &[u8]| {
        OURS.iter().any(|head| line.starts_with(head.as_bytes()))
            || line.starts_with(LOADER.as_bytes()) && contains(line, b"libshim.so")
    };
    let (ours, kept): (Vec<&[u8]>, Vec<&[u8]>) =
        stderr.split_inclusive(|&byte| byte == b'\n').partition(|line| is_ours(line));
    let messages =
        ours.iter().map(|line| String::from_utf8_lossy(line).trim_end().to_owned()).collect();
    *stderr = kept.concat();
    messages
}
