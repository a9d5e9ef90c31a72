//! `analyzer trace` when its records come to harm: the program's output and exit code stay its own, the
//! message says what happened, and the result does not claim to be complete.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tests::artifacts::{self, Artifacts};
use tests::skip::skip;

struct Traced {
    output: Output,
    json: Value,
}

/// `analyzer trace --out DIR -- /bin/sh -c SCRIPT`, with the shell's own reads and writes to count.
fn trace(artifacts: &Artifacts, out: &Path, settings: &[(&str, &str)], script: &str) -> Traced {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("json");
    let output = Command::new(&artifacts.analyzer)
        .args(["trace", "--snapshot-interval", "10", "--shim"])
        .arg(&artifacts.shim)
        .arg("--json")
        .arg(&json)
        .arg("--out")
        .arg(out)
        .args(["--", "/bin/sh", "-c", script, "sh"])
        .arg(out)
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("starts");
    let json = std::fs::read(&json)
        .map(|bytes| serde_json::from_slice(&bytes).expect("is JSON"))
        .unwrap_or(Value::Null);
    Traced { output, json }
}

impl Traced {
    fn assert_program_unharmed(&self) {
        assert_eq!(self.output.status.code(), Some(7), "{}", self.said());
        assert_eq!(String::from_utf8_lossy(&self.output.stdout), "begin\nend\n", "{}", self.said());
        assert!(!self.said().contains("panicked"), "{}", self.said());
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    fn assert_incomplete(&self, words: &str) {
        assert_eq!(self.json["complete"], Value::Bool(false), "{}", self.said());
        assert!(self.said().contains(words), "says {words:?}: {}", self.said());
        assert!(!self.json["gaps"].as_array().expect("gaps").is_empty());
    }
}

/// Some tens of snapshots long, without children.
const WORK: &str = "i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done";

#[test]
fn a_disk_that_fills_up() {
    let Some(artifacts) = artifacts::need("trace: a_disk_that_fills_up") else { return };
    let disk = tempfile::tempdir().expect("a directory");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=32k", "tmpfs"])
        .arg(disk.path())
        .stderr(Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        skip("trace: a_disk_that_fills_up", "a tmpfs cannot be mounted here (not root?)");
        return;
    }
    let out = disk.path().join("records");
    // The shell fills the disk itself, then works on while records are due.
    let script = format!(
        "echo begin; head -c 100000 /dev/zero >$1/hog 2>&-; {WORK}; {WORK}; echo end; exit 7"
    );
    let traced = trace(&artifacts, &out, &[], &script);
    let _ = Command::new("umount").arg("-l").arg(disk.path()).status();
    traced.assert_program_unharmed();
    traced.assert_incomplete("file system was full");
}

#[test]
fn record_files_deleted_by_somebody_else() {
    let Some(artifacts) = artifacts::need("record_files_deleted_by_somebody_else") else { return };
    let out = tempfile::tempdir().expect("a directory");
    let script = format!("echo begin; {WORK}; rm -f $1/*.sar; {WORK}; echo end; exit 7");
    let traced = trace(&artifacts, out.path(), &[], &script);
    traced.assert_program_unharmed();
    traced.assert_incomplete("changed by somebody else");
}

#[test]
fn record_files_cut_by_somebody_else() {
    let Some(artifacts) = artifacts::need("record_files_cut_by_somebody_else") else { return };
    let out = tempfile::tempdir().expect("a directory");
    let script =
        format!("echo begin; {WORK}; for f in $1/*.sar; do : >$f; done; {WORK}; echo end; exit 7");
    let traced = trace(&artifacts, out.path(), &[], &script);
    traced.assert_program_unharmed();
    // Either the shim noticed and began anew, or the file cannot be read: never a number that is not so.
    let instructions = traced.json["totals"]["instructions"].as_u64();
    assert!(
        traced.json["complete"] == Value::Bool(false) || instructions > Some(60_000 * 10),
        "{}",
        traced.said()
    );
}

#[test]
fn size_limits_leave_the_totals_whole() {
    let Some(artifacts) = artifacts::need("size_limits_leave_the_totals_whole") else { return };
    let out = tempfile::tempdir().expect("a directory");
    let script = format!("echo begin; {WORK}; {WORK}; {WORK}; echo end; exit 7");
    let settings = [
        ("SPARKANALYZER_SEGMENT_BYTES", "65536"),
        ("SPARKANALYZER_MAX_BYTES_PER_PROCESS", "65536"),
        ("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "10"),
    ];
    let limited = trace(&artifacts, out.path(), &settings, &script);
    limited.assert_program_unharmed();
    let free_out = tempfile::tempdir().expect("a directory");
    let free = trace(&artifacts, free_out.path(), &[], &script);
    // The process's end is written past the limit, so its totals are the same.
    for metric in ["file_write_bytes", "pipe_write_bytes"] {
        assert_eq!(limited.json["totals"][metric], free.json["totals"][metric], "{metric}");
    }
    assert!(
        limited.json["totals"]["instructions"].as_u64() > Some(180_000 * 10),
        "{}",
        limited.said()
    );
}

#[test]
fn an_output_folder_that_is_a_file() {
    let Some(artifacts) = artifacts::need("an_output_folder_that_is_a_file") else { return };
    let traced = trace(&artifacts, Path::new("/dev/null"), &[], "echo begin");
    assert_eq!(traced.output.status.code(), Some(4), "{}", traced.said());
    assert!(traced.said().contains("/dev/null"), "{}", traced.said());
    assert!(traced.output.stdout.is_empty(), "the program was not started");
}
