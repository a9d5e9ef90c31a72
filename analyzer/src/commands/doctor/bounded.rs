//! Runs programs that may hang, for a limited time, and with nothing of this process's own settings.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a run left.
pub struct Run {
    /// How it ended; `None`: it hung and was killed.
    pub status: Option<ExitStatus>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Run {
    /// Whether it ended with exit code 0.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// What it said last and how it ended, in short.
    pub fn said(&self) -> String {
        const LONGEST: usize = 400;
        let text = format!("{}{}", self.stdout, self.stderr);
        let text: Vec<char> = text.trim().chars().collect();
        let text: String = text[text.len().saturating_sub(LONGEST)..].iter().collect();
        let end = self.status.map_or_else(
            || format!("it hung for {} s and was killed", self.took.as_secs()),
            |status| status.to_string(),
        );
        if text.is_empty() { end } else { format!("{end}: {text}") }
    }
}

/// Runs a command, at most so long. Its output goes to files in a temporary folder, so that what it leaves behind
/// keeps nobody waiting. It has a process group of its own, and none of the library's variables but its own.
///
/// # Errors
/// When it cannot be started.
pub fn run(command: &mut Command, patience: Duration) -> std::io::Result<Run> {
    let folder = tempfile::tempdir()?;
    let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
    command.stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
    // Other languages have other words.
    command.env("LC_ALL", "C");
    let own: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    for (name, _) in std::env::vars_os() {
        let is_ours = name.to_string_lossy().starts_with(conf::ENVIRONMENT_PREFIX);
        if (is_ours || name == "LD_PRELOAD") && !own.contains(&name) {
            command.env_remove(name);
        }
    }
    let begin = Instant::now();
    let mut child = command.process_group(0).spawn()?;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if begin.elapsed() > patience => {
                // SAFETY: the group that was made for this child, which was not waited for yet.
                unsafe { libc::kill(-child.id().cast_signed(), libc::SIGKILL) };
                child.wait()?;
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let took = begin.elapsed();
    let text = |path: &Path| fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned());
    Ok(Run { status, stdout: text(&stdout)?, stderr: text(&stderr)?, took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hangs_is_killed_with_all_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo begun; sleep 1000 & sleep 1000"]);
        let run = run(&mut command, Duration::from_millis(300)).expect("starts");
        assert_eq!((run.status, run.stdout.as_str()), (None, "begun\n"));
        assert!(run.said().contains("hung"), "{}", run.said());
        assert!(run.took < Duration::from_secs(20));
    }
}
