//! A tiny real job that looks at itself from within its executors.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use conf::Settings;
use records::Event;
use records::metric::INSTRUCTIONS;
use serde_json::Value;

use crate::commands::doctor::findings::{Findings, said_by};
use crate::input::record_files::{self, RecordFile};

/// The job.
const PROGRAM: &str = include_str!("job.py");
/// How the job's line with its findings begins.
const MARK: &str = "SPARKANALYZER-DOCTOR ";

/// Runs the job with these arguments of spark-submit and says whether its executors were counted.
pub fn check(
    findings: &mut Findings,
    home: Option<&Path>,
    shim: &Path,
    settings: Option<&Settings>,
    arguments: &[OsString],
) {
    let submit =
        home.map_or_else(|| PathBuf::from("spark-submit"), |home| home.join("bin/spark-submit"));
    let output_dir = settings.map_or_else(String::new, |settings| settings.output_dir.clone());
    let program =
        std::env::temp_dir().join(format!("sparkanalyzer-doctor-{}.py", std::process::id()));
    if let Err(error) = std::fs::write(&program, PROGRAM) {
        return findings.skipped("job", format!("{}: {error}", program.display()));
    }
    let is_said = |key: &str| arguments.iter().any(|one| one.to_string_lossy().contains(key));
    let is_local = arguments.iter().any(|one| {
        let text = one.to_string_lossy();
        text == "local" || text.starts_with("local[") || text.ends_with("=local")
    });
    let mut command = Command::new(&submit);
    for (key, value) in [
        ("spark.executorEnv.LD_PRELOAD", shim.display().to_string()),
        ("spark.executorEnv.SPARKANALYZER_OUTPUT_DIR", output_dir.clone()),
    ] {
        if !is_said(key) && !value.is_empty() {
            command.arg("--conf").arg(format!("{key}={value}"));
        }
    }
    if is_local {
        // Tasks run in the driver's JVM, which is this command's.
        command.env("LD_PRELOAD", shim);
    }
    let output = command.args(arguments).arg(&program).stdin(Stdio::null()).output();
    // It may be gone already.
    let _ = std::fs::remove_file(&program);
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            let found = format!("{}: {error}", submit.display());
            return findings.problem("job", found, "name Spark's folder by --spark-home");
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix(MARK));
    let Some(seen) = line.and_then(|line| serde_json::from_str::<Value>(line).ok()) else {
        let said = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<_> = said.lines().filter(|line| line.contains("rror")).take(3).collect();
        let tail = if tail.is_empty() { said_by(&output) } else { tail.join("; ") };
        return findings.problem(
            "job",
            format!("it failed: {tail}"),
            "does it run without counting?",
        );
    };
    judge(findings, &seen, Path::new(&output_dir));
}

fn judge(findings: &mut Findings, seen: &Value, output_dir: &Path) {
    let application = seen["application"].as_str().unwrap_or("unknown");
    let empty = Vec::new();
    let executors = seen["executors"].as_array().unwrap_or(&empty);
    for one in executors {
        let host = one["host"].as_str().unwrap_or("?");
        let of = format!("executor process {} on {host}", one["pid"]);
        let files = one["files"].as_array().map_or(0, Vec::len);
        if one["has_library"] != true {
            findings.problem(
                "job",
                format!("{of}: the library is not in it"),
                "is it at that path on that node? Does the cluster manager pass LD_PRELOAD on?",
            );
        } else if files == 0 {
            findings.problem(
                "job",
                format!(
                    "{of}: the library is in it, and no record file of it in {}",
                    one["output_dir"]
                ),
                "run analyzer doctor on that node, as the user that runs the executors",
            );
        } else {
            findings.good("job", format!("{of}: counted, {files} record file(s)"));
        }
    }
    if executors.is_empty() {
        let remedy = "does the cluster have Python for executors? The job asks them from within";
        findings.problem("job", format!("{application}: no executor answered"), remedy);
    }
    let (tasks, counted) = tasks_in(output_dir, application);
    let found = format!(
        "{application}: {tasks} tasks in the records on this node, {counted} with instructions counted"
    );
    match (tasks, counted) {
        (0, _) => findings.warning(
            "job",
            found,
            "if its executors ran on other nodes, their records are there; collect them",
        ),
        (_, 0) => findings.warning(
            "job",
            found,
            "tracer = \"engine\" and metrics with \"instructions\" in the conf count them",
        ),
        _ => findings.good("job", found),
    }
}

/// How many tasks of an application the record files tell of, and of how many instructions are known.
fn tasks_in(folder: &Path, application: &str) -> (usize, usize) {
    let (mut tasks, mut counted) = (0, 0);
    for path in record_files::find(&[folder.to_owned()]).unwrap_or_default().files {
        let Ok(file) = RecordFile::load(&path) else { continue };
        let Ok(segment) = file.segment() else { continue };
        let own = segment.header().application_id == application.as_bytes();
        for group in segment.groups() {
            if let Event::TaskEnd { task, .. } = group.event
                && (own || task.application_id == application.as_bytes())
            {
                tasks += 1;
                let values = group.values.as_ref();
                let value = values.and_then(|values| values.get(INSTRUCTIONS));
                counted += usize::from(value.is_some_and(|value| value > 0));
            }
        }
    }
    (tasks, counted)
}
