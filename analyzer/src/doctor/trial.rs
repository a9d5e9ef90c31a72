//! Programs that are run here natively and followed: their output, their end and what was counted say what would
//! break in this environment.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Findings;
use super::confinement::profile_of;

/// The class of Trial.java.
const CLASS: &[u8] = include_bytes!("Trial.class");
/// How long a trial may take natively, and followed: much longer is a hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a run left.
struct Run {
    /// `None`: it hung and was killed.
    status: Option<ExitStatus>,
    stdout: String,
    stderr: String,
}

/// Runs this executable's own trial, threads with signals, and a tiny JVM where there is one.
pub fn check(findings: &mut Findings, shim: &Path, java: Option<&Path>, refused: &[&str]) {
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => return findings.skipped("trial", format!("no temporary folder: {error}")),
    };
    let Ok(own) = std::env::current_exe() else {
        return findings.skipped("trial", "the analyzer does not find itself");
    };
    let mut program = Command::new(&own);
    program.arg("trial");
    compare(findings, "threads", &own, shim, folder.path(), &program, refused);
    let Some(java) = java else {
        return findings.skipped("jvm", "no java");
    };
    if let Err(error) = fs::write(folder.path().join("Trial.class"), CLASS) {
        return findings.skipped("jvm", format!("{}: {error}", folder.path().display()));
    }
    let mut program = Command::new(java);
    program.args(["-Xmx64m", "-cp"]).arg(folder.path()).arg("Trial");
    compare(findings, "jvm", &own, shim, folder.path(), &program, refused);
}

fn compare(
    findings: &mut Findings,
    check: &'static str,
    own: &Path,
    shim: &Path,
    folder: &Path,
    program: &Command,
    refused: &[&str],
) {
    let mut native = Command::new(program.get_program());
    native.args(program.get_args());
    let native = match run(&mut native, folder) {
        Ok(native) if native.status.is_some_and(|status| status.success()) => native,
        Ok(native) => {
            let why = format!("it does not run natively: {}", native.said());
            return findings.skipped(check, why);
        }
        Err(error) => return findings.skipped(check, error.to_string()),
    };
    let json = folder.join("json");
    let _ = fs::remove_file(&json);
    let mut traced = Command::new(own);
    traced.arg("trace").arg("--json").arg(&json).arg("--shim").arg(shim).arg("--");
    traced.arg(program.get_program()).args(program.get_args());
    let followed = match run(&mut traced, folder) {
        Ok(followed) => followed,
        Err(error) => return findings.skipped(check, error.to_string()),
    };
    let counted = fs::read(&json).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let verdict = verdict(&native, &followed, counted.as_ref().unwrap_or(&Value::Null));
    let remedy = match (profile_of(refused), refused) {
        (_, []) => {
            "report it with this output; tracer = \"none\" counts system calls without following"
                .to_owned()
        }
        (profile, refused) => format!(
            "allow {} in the container's or service's profile{}; tracer = \"none\" counts system calls without \
             following",
            refused.join(", "),
            profile.map_or_else(String::new, |profile| format!(" (it is as {profile})"))
        ),
    };
    match verdict {
        Verdict::Whole(found) => findings.good(check, found),
        Verdict::Partly(found) => findings.warning(check, found, remedy),
        Verdict::Broken(found) => findings.problem(check, found, remedy),
    }
}

enum Verdict {
    Whole(String),
    Partly(String),
    Broken(String),
}

/// The native run against the followed one.
fn verdict(native: &Run, followed: &Run, counted: &Value) -> Verdict {
    let Some(status) = followed.status else {
        return Verdict::Broken(format!("it hangs when it is followed: {}", followed.said()));
    };
    if Some(status) != native.status || followed.stdout != native.stdout {
        return Verdict::Broken(format!("it breaks when it is followed: {}", followed.said()));
    }
    match counted["totals"]["instructions"].as_u64() {
        Some(instructions @ 1..) if counted["complete"] == true => {
            Verdict::Whole(format!("as natively, {instructions} instructions counted, complete"))
        }
        Some(instructions) => {
            let gaps = counted["gaps"].as_array().map_or(&[][..], Vec::as_slice);
            let gaps: Vec<_> = gaps.iter().filter_map(Value::as_str).take(3).collect();
            let gaps = gaps.join("\n");
            Verdict::Partly(format!("as natively, {instructions} instructions counted; {gaps}"))
        }
        None => {
            Verdict::Partly(format!("as natively, but nothing is counted: {}", followed.said()))
        }
    }
}

impl Run {
    /// What it said last and how it ended, in short.
    fn said(&self) -> String {
        const LONGEST: usize = 400;
        let text = format!("{}{}", self.stdout, self.stderr);
        let text: Vec<char> = text.trim().chars().collect();
        let text: String = text[text.len().saturating_sub(LONGEST)..].iter().collect();
        let end = self.status.map_or_else(|| "killed".to_owned(), |status| status.to_string());
        if text.is_empty() { end } else { format!("{end}: {text}") }
    }
}

/// Runs a command with its output in files, so that what it leaves behind cannot keep us waiting.
fn run(command: &mut Command, folder: &Path) -> std::io::Result<Run> {
    use std::os::unix::process::CommandExt;

    let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
    command.stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
    // Other words for a locale would differ, and other settings of the library would not be this trial's.
    command.env("LC_ALL", "C").env_remove("LD_PRELOAD");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(conf::ENVIRONMENT_PREFIX) {
            command.env_remove(name);
        }
    }
    let mut child = command.process_group(0).spawn()?;
    let begin = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if begin.elapsed() > PATIENCE => {
                // SAFETY: the group that was made for this child, which was not waited for yet.
                unsafe { libc::kill(-child.id().cast_signed(), libc::SIGKILL) };
                child.wait()?;
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let text = |path: &Path| fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned());
    Ok(Run { status, stdout: text(&stdout)?, stderr: text(&stderr)? })
}
