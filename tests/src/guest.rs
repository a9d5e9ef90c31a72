//! Programs of `tests/guest`, natively and under `analyzer trace`: nothing that they do may differ, and `complete` is
//! true only where nothing is missing.
//!
//! Each run has a session, a working directory and a time limit of its own. A run that passes its limit is ended with
//! everything in its session, and counts as hanging.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::artifacts::{Artifacts, repository};
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

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The exit code; 128 and the number for a signal, as shells and `analyzer trace` say it.
    Code(i32),
    /// It did not end in its time.
    Hung,
}

impl End {
    fn of(status: ExitStatus) -> Self {
        Self::Code(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }
}

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
            let text: String = String::from_utf8_lossy(bytes).chars().take(300).collect();
            text
        };
        format!("{:?}, stdout {:?}, stderr {:?}", self.end, short(&self.stdout), short(&self.stderr))
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
        format!("complete {}, gaps {}, notices {}", self.json["complete"], self.json["gaps"], self.json["notices"])
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
        let json = json.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null);
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
        let end = wait(&mut child, self.limit);
        let read = |name: &str| std::fs::read(directory.join(name)).unwrap_or_default();
        Seen { stdout: read("stdout"), stderr: read("stderr"), end }
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("guest-").tempdir().expect("a directory")
}

/// Makes the command a session of its own.
pub fn in_session(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes system calls and touches no memory but the limit on its stack.
    unsafe {
        command.pre_exec(|| {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: libc::RLIM_INFINITY };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
            match libc::setsid() {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
    }
}

/// Waits for the leader of a session; one that takes too long is ended with all its session.
///
/// # Panics
/// When it cannot be waited for.
pub fn wait(child: &mut Child, limit: Duration) -> End {
    let start = Instant::now();
    let mut nap = Duration::from_micros(500);
    let end = loop {
        match child.try_wait().expect("waits") {
            Some(status) => break End::of(status),
            None if start.elapsed() > limit => break End::Hung,
            None => std::thread::sleep(nap),
        }
        nap = (nap * 2).min(Duration::from_millis(10));
    };
    end_session(child.id());
    if end == End::Hung {
        let _ = child.kill();
        let _ = child.wait();
    }
    end
}

/// Kills what is left of a session.
fn end_session(session: u32) {
    for process in processes() {
        if process.session == session && process.pid != session {
            // SAFETY: the call has no memory arguments; the process is of the session that we made.
            unsafe { libc::kill(process.pid.cast_signed(), libc::SIGKILL) };
        }
    }
}

/// A process as `/proc` has it.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// Its session.
    pub session: u32,
}

/// All processes.
pub fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let mut words = stat.rsplit_once(')')?.1.split_whitespace().skip(1);
            let parent = words.next()?.parse().ok()?;
            let session = words.nth(1)?.parse().ok()?;
            Some(Process { pid, parent, session })
        })
        .collect()
}

/// What the dynamic loader says when a library cannot be preloaded.
const LOADER: &str = "ERROR: ld.so: object ";

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
    let messages = ours.iter().map(|line| String::from_utf8_lossy(line).trim_end().to_owned()).collect();
    *stderr = kept.concat();
    messages
}

/// What is known of a program's counts.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// `complete` is expected to be this; `None`: either may be, as long as it is true.
    pub complete: Option<bool>,
    /// Processes that are made natively, its own among them.
    pub processes: usize,
    /// Instructions that it executes at least.
    pub instructions: u64,
}

/// Nothing but that there is one process.
pub const ANY: Known = Known { complete: None, processes: 1, instructions: 0 };

impl Known {
    /// `complete` must be true.
    pub const fn complete(self) -> Self {
        Self { complete: Some(true), ..self }
    }

    /// `complete` must not be true.
    pub const fn incomplete(self) -> Self {
        Self { complete: Some(false), ..self }
    }

    /// So many processes.
    pub const fn processes(self, processes: usize) -> Self {
        Self { processes, ..self }
    }

    /// So many instructions at least.
    pub const fn instructions(self, instructions: u64) -> Self {
        Self { instructions, ..self }
    }
}

/// Runs a program both ways; what differs, or what `complete` says although something is missing.
///
/// # Errors
/// With the difference in words.
pub fn compare(artifacts: &Artifacts, guest: &Guest, known: Known) -> Result<Traced, String> {
    let native = guest.native();
    if native.end == End::Hung {
        return Err(format!("hangs natively: {}", native.shown()));
    }
    compare_with(artifacts, guest, &native, known)
}

/// The same with a native run that was made before.
///
/// # Errors
/// With the difference in words.
pub fn compare_with(artifacts: &Artifacts, guest: &Guest, native: &Seen, known: Known) -> Result<Traced, String> {
    let traced = guest.traced(artifacts);
    let mut wrong = Vec::new();
    if traced.seen != *native {
        wrong.push(format!("natively {}\n    traced {}", native.shown(), traced.seen.shown()));
    }
    wrong.extend(complaint_of_loader(&traced, native));
    wrong.extend(wrong_completeness(&traced, known));
    if wrong.is_empty() {
        return Ok(traced);
    }
    Err(format!("{}\n    {}\n    messages {:?}", wrong.join("\n    "), traced.remarks(), traced.messages))
}

/// The loader's message is on the program's standard error; where the program cannot be loaded natively either, it is one more
/// of its messages.
pub fn complaint_of_loader(traced: &Traced, native: &Seen) -> Option<String> {
    let complaint = traced.messages.iter().find(|message| message.starts_with(LOADER))?;
    (native.end != End::Code(127)).then(|| complaint.clone())
}

/// What is wrong about `complete`.
pub fn wrong_completeness(traced: &Traced, known: Known) -> Vec<String> {
    let mut wrong = Vec::new();
    if traced.json.is_null() {
        if traced.seen.end != End::Hung {
            wrong.push("no JSON".to_owned());
        }
        return wrong;
    }
    match known.complete {
        Some(true) if !traced.is_complete() => wrong.push("is not complete".to_owned()),
        Some(false) if traced.is_complete() => wrong.push("says complete, and is not".to_owned()),
        _ => {}
    }
    if !traced.is_complete() {
        return wrong;
    }
    let output = (traced.seen.stdout.len() + traced.seen.stderr.len()) as u64;
    let written = traced.over_classes("write_bytes") + traced.over_classes("send_bytes");
    if written < output {
        wrong.push(format!("says complete, but {written} bytes are counted of {output} that it wrote"));
    }
    let processes = traced.counted_processes();
    if processes < known.processes {
        wrong.push(format!("says complete, but has {processes} of {} processes", known.processes));
    }
    let instructions = traced.total("instructions");
    if instructions < known.instructions {
        wrong.push(format!(
            "says complete, but has {instructions} of at least {} instructions",
            known.instructions
        ));
    }
    wrong
}

/// Compares a list of command lines; all that failed in one message.
///
/// # Panics
/// With that message.
pub fn compare_all(artifacts: &Artifacts, cases: &[(&str, Known)]) {
    let mut failures = Failures::default();
    for (line, known) in cases {
        failures.add(line, compare(artifacts, &Guest::words(line), *known));
    }
    failures.finish();
}

/// Failures by name, told together at the end.
#[derive(Debug, Default)]
pub struct Failures {
    all: Vec<String>,
    tried: usize,
}

impl Failures {
    /// Takes up what became of a case.
    pub fn add<T>(&mut self, name: &str, result: Result<T, String>) -> Option<T> {
        self.tried += 1;
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.all.push(format!("{name}:\n    {error}"));
                None
            }
        }
    }

    /// Takes up a condition.
    pub fn check(&mut self, name: &str, is_right: bool, otherwise: impl FnOnce() -> String) {
        self.add(name, if is_right { Ok(()) } else { Err(otherwise()) });
    }

    /// Says what failed.
    ///
    /// # Panics
    /// When anything did.
    pub fn finish(self) {
        assert!(
            self.all.is_empty(),
            "{} of {} wrong:\n{}",
            self.all.len(),
            self.tried,
            self.all.join("\n")
        );
    }
}
