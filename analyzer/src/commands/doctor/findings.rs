//! What the checks found.

use std::path::Path;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// Not looked at, and why.
    Skipped,
    /// Counting works, something else may not.
    Warning,
    /// Counting does not work.
    Problem,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Level::Good => "good",
            Level::Skipped => "skipped",
            Level::Warning => "warning",
            Level::Problem => "problem",
        }
    }
}

/// What was found of one thing.
#[derive(Clone, Debug)]
pub struct Finding {
    pub check: &'static str,
    pub level: Level,
    pub found: String,
    pub remedy: Option<String>,
}

/// The findings so far.
#[derive(Debug, Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// All is well.
    pub fn good(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Finding { check, level: Level::Good, found: harmless(found), remedy: None });
    }

    /// It was not looked at.
    pub fn skipped(&mut self, check: &'static str, why: impl Into<String>) {
        self.0.push(Finding { check, level: Level::Skipped, found: harmless(why), remedy: None });
    }

    /// Counting works, but.
    pub fn warning(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (found, remedy) = (harmless(found), Some(harmless(remedy)));
        self.0.push(Finding { check, level: Level::Warning, found, remedy });
    }

    /// Counting does not work.
    pub fn problem(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (found, remedy) = (harmless(found), Some(harmless(remedy)));
        self.0.push(Finding { check, level: Level::Problem, found, remedy });
    }

    pub fn worst(&self) -> Level {
        self.0.iter().map(|one| one.level).max().unwrap_or(Level::Good)
    }
}

/// Without the passwords of addresses.
pub fn harmless(text: impl Into<String>) -> String {
    crate::text::shown::without_passwords(&text.into())
}

/// What a program printed and how it ended, at most so many characters of it.
pub fn said_by(output: &std::process::Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let text: String = text.trim().chars().take(300).collect();
    if text.is_empty() { output.status.to_string() } else { text }
}

/// Says who else may write to a file or folder, or replace it through one above it; `None` if nobody.
pub fn writable_by_others(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    const GROUP_OR_WORLD: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    // SAFETY: it has no preconditions.
    let own = unsafe { libc::geteuid() };
    for one in path.ancestors() {
        let Ok(metadata) = std::fs::metadata(one) else { continue };
        let (mode, owner) = (metadata.mode(), metadata.uid());
        let is_shared = metadata.is_dir() && mode & STICKY != 0;
        if mode & GROUP_OR_WORLD != 0 && !is_shared {
            return Some(format!("{} has mode {:o}", one.display(), mode & 0o7777));
        }
        if owner != 0 && owner != own {
            return Some(format!("{} belongs to user {owner}", one.display()));
        }
    }
    None
}
