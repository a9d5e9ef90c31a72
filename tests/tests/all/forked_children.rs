//! Every child that a process forks has records or is named, however soon it ends and whatever numbers it has.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use tests::artifacts::{self, Artifacts};
use tests::preloaded::{compile, counted, processes, shown};
use tests::skip::skip;

fn traced(artifacts: &Artifacts, tracer: &str, command: &[&str]) -> (Output, serde_json::Value) {
    let place = tempfile::tempdir().expect("a directory");
    let json = place.path().join("json");
    let mut trace = Command::new(&artifacts.analyzer);
    trace.args(["trace", "--tracer", tracer, "--shim"]).arg(&artifacts.shim);
    let output = trace.arg("--json").arg(&json).arg("--").args(command).output().expect("starts");
    let report = std::fs::read(&json).unwrap_or_else(|_| panic!("{}", shown(&output)));
    (output, serde_json::from_slice(&report).expect("JSON"))
}

#[test]
fn each_child_is_counted_or_named() {
    let Some(artifacts) = artifacts::need("each_child_is_counted_or_named") else { return };
    let place = tempfile::tempdir().expect("a directory");
    let program = compile("gcc", "forks.c", place.path(), &[]);
    let program = program.to_str().expect("UTF-8");
    for (tracer, arguments) in
        [("engine", &[program][..]), ("none", &[program]), ("engine", &[program, "clone3"])]
    {
        let (output, report) = traced(&artifacts, tracer, arguments);
        assert!(output.status.success(), "{}", shown(&output));
        let made: usize = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
        let all = report["processes"].as_array().expect("a list");
        assert_eq!(all.len(), made, "{tracer}: {:#}", report["gaps"]);
        // Who is killed, before its first record or later, is named or has an end.
        let gaps = report["gaps"].as_array().expect("a list").iter().map(ToString::to_string);
        let is_killed = |gap: &String| {
            gap.contains("no record of its end") || gap.contains("not counted: child")
        };
        assert!(gaps.filter(is_killed).count() <= 12, "{tracer}: {:#}", report["gaps"]);
    }
}

#[test]
fn numbers_are_the_same_on_both_sides() {
    let Some(artifacts) = artifacts::need("numbers_are_the_same_on_both_sides") else { return };
    let place = tempfile::tempdir().expect("a directory");
    let program = compile("gcc", "forks.c", place.path(), &[]);
    for tracer in ["engine", "none"] {
        let records = place.path().join(tracer);
        let mut command = counted(&artifacts, &program, &records);
        let output = command.env("SPARKANALYZER_TRACER", tracer).output().expect("starts");
        assert!(output.status.success(), "{}", shown(&output));
        // Of who was killed before its first record.
        for file in std::fs::read_dir(&records).expect("a directory") {
            let file = file.expect("an entry").path();
            if std::fs::metadata(&file).expect("a file").len() == 0 {
                std::fs::remove_file(&file).expect("removes");
            }
        }
        let all = processes(&records);
        let told: Vec<_> = all.iter().flat_map(|process| &process.forks).collect();
        assert_eq!(all[0].forks.iter().collect::<BTreeSet<_>>().len(), 36, "{tracer}: each once");
        assert_eq!(told.len(), 36 + 12, "{tracer}");
        for child in all.iter().filter(|process| process.forked) {
            assert!(told.contains(&&child.parent_fork), "{tracer}: {child:#?}");
        }
    }
}

/// Inside, process numbers begin at 1, and the folder of records is hidden.
#[test]
fn children_in_namespaces() {
    const TEST: &str = "children_in_namespaces";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let unshare = ["unshare", "-Urpf", "--mount-proc"];
    let works = Command::new(unshare[0]).args(&unshare[1..]).arg("true").output();
    if works.is_ok_and(|output| output.status.success()) {
        let script = "echo $$; /bin/echo inside; (exit 3)";
        let (output, report) =
            traced(&artifacts, "engine", &[&unshare[..], &["sh", "-c", script]].concat());
        assert_eq!(output.stdout, b"1\ninside\n", "{}", shown(&output));
        let gaps = report["gaps"].to_string();
        assert!(!gaps.contains("not counted: "), "{gaps}");
    } else {
        skip(TEST, "unshare cannot make namespaces here");
    }
    let bwrap = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"];
    let works = Command::new("bwrap").args(bwrap).arg("true").output();
    if works.is_ok_and(|output| output.status.success()) && Path::new("/tmp").is_dir() {
        let inside = ["sh", "-c", "exit 6"];
        let command = [&["bwrap"][..], &bwrap, &["--unshare-all"], &inside].concat();
        let (output, report) = traced(&artifacts, "engine", &command);
        assert_eq!(output.status.code(), Some(6), "{}", shown(&output));
        assert_eq!(report["complete"], false, "what ran inside has left nothing");
    } else {
        skip(TEST, "bwrap is not installed, or cannot make namespaces here");
    }
}

/// It is followed as a thread is, and no less of one for being another process.
#[test]
fn a_process_that_shares_the_memory_is_counted_to_its_end() {
    let Some(artifacts) = artifacts::need("a_process_that_shares_the_memory") else { return };
    let place = tempfile::tempdir().expect("a directory");
    let program = compile("gcc", "shares_memory.c", place.path(), &[]);
    let json = place.path().join("json");
    let mut trace = Command::new(&artifacts.analyzer);
    trace.args(["trace", "--snapshot-interval", "10", "--shim"]).arg(&artifacts.shim);
    let output = trace.arg("--json").arg(&json).arg("--").arg(&program).output().expect("starts");
    assert!(output.status.success(), "{}", shown(&output));
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&json).expect("a report")).expect("JSON");
    // At least five instructions a round; looks for threads that have vanished come every 160 ms.
    let instructions = report["totals"]["instructions"].as_u64().expect("counted");
    assert!(instructions > 5 * 400_000_000, "{instructions}");
}
