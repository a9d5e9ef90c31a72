//! Both runs side by side: what differs, and what `complete` says although something is missing.

use super::run::{FILES, Guest, LOADER, Seen, Traced};
use super::session::End;
use crate::artifacts::Artifacts;

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
pub fn compare_with(
    artifacts: &Artifacts,
    guest: &Guest,
    native: &Seen,
    known: Known,
) -> Result<Traced, String> {
    let traced = guest.traced(artifacts);
    let mut wrong = Vec::new();
    if traced.seen != *native {
        wrong.push(format!("natively {}\n    traced {}", native.shown(), traced.seen.shown()));
    }
    wrong.extend(complaint_of_loader(&traced, native));
    wrong.extend(too_many_files(&traced));
    wrong.extend(wrong_completeness(&traced, known));
    if wrong.is_empty() {
        return Ok(traced);
    }
    Err(format!(
        "{}\n    {}\n    messages {:?}",
        wrong.join("\n    "),
        traced.remarks(),
        traced.messages
    ))
}

/// A library that begins one record file after the other fills the disk.
pub fn too_many_files(traced: &Traced) -> Option<String> {
    let files = std::fs::read_dir(traced.directory.path().join("out")).map_or(0, Iterator::count);
    (files > FILES).then(|| format!("{files} record files"))
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
        wrong.push(format!(
            "says complete, but {written} bytes are counted of {output} that it wrote"
        ));
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
