//! Programs that are run here natively and followed: their output, their end and what was counted say what would
//! break in this environment.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::commands::doctor::bounded::{Run, run};
use crate::commands::doctor::confinement::profile_of;
use crate::commands::doctor::findings::Findings;

/// The class of Trial.java.
const CLASS: &[u8] = include_bytes!("Trial.class");
/// How long a trial may take natively; followed it may take so long and a hundred times what it took natively.
const PATIENCE: Duration = Duration::from_secs(30);
const TIMES: u32 = 100;
/// But no longer than this.
const END_OF_PATIENCE: Duration = Duration::from_secs(120);

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
    program.arg("followed-trial");
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
    let native = match run(&mut native, PATIENCE) {
        Ok(native) if native.is_success() => native,
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
    let patience = (PATIENCE + native.took * TIMES).min(END_OF_PATIENCE);
    let followed = match run(&mut traced, patience) {
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
