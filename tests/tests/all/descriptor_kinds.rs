//! Classes of descriptors whose numbers stand for something else all the time: as the program knows them, without a call per
//! call.

use std::process::Command;

use tests::artifacts;
use tests::preloaded::{compile, shown};
use tests::skip::skip;

#[test]
fn classes_are_right_while_numbers_change() {
    let Some(artifacts) = artifacts::need("classes_are_right_while_numbers_change") else { return };
    let place = tempfile::tempdir().expect("a directory");
    let program = compile("gcc", "descriptor_kinds.c", place.path(), &[]);
    // Under a filter that kills for fstat, and without.
    for arguments in [&[][..], &["filter"]] {
        let json = place.path().join("json");
        let mut command = Command::new(&artifacts.analyzer);
        command.args(["trace", "--shim"]).arg(&artifacts.shim).arg("--json").arg(&json);
        command.arg("--").arg(&program).args(arguments).current_dir(place.path());
        let output = command.output().expect("starts");
        assert!(output.status.success(), "{arguments:?}: {}", shown(&output));
        let report: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&json).expect("a report")).expect("JSON");
        assert_eq!(report["complete"], true, "{arguments:?}: {:#}", report["gaps"]);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(text.lines().count(), 4, "{text}");
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let [class, calls, bytes] = words[..] else { panic!("{text}") };
            let number = |word: &str| word.parse::<u64>().expect("a number");
            // What it has printed went into a pipe.
            let [more_calls, more_bytes] =
                if class == "pipe" { [1, text.len() as u64] } else { [0, 0] };
            let total = |quantity: &str| &report["totals"][format!("{class}_write_{quantity}")];
            assert_eq!(*total("calls"), number(calls) + more_calls, "{arguments:?}, {class}");
            assert_eq!(*total("bytes"), number(bytes) + more_bytes, "{arguments:?}, {class}");
        }
    }
}

/// Bytes one by one: the kernel is asked no more often for many than for few.
#[test]
fn nothing_is_asked_for_each_call() {
    const TEST: &str = "nothing_is_asked_for_each_call";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        return skip(TEST, "strace is not installed");
    }
    let asked = |count: &str| {
        let place = tempfile::tempdir().expect("a directory");
        let log = place.path().join("log");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "trace=fstat,newfstatat,readlink,readlinkat", "-o"]);
        command.arg(&log).arg(&artifacts.analyzer).args(["trace", "--shim"]).arg(&artifacts.shim);
        command.args(["--", "dd", "if=/dev/zero", "bs=1", "status=none", count]);
        command.arg(format!("of={}", place.path().join("out").display()));
        let output = command.output().expect("starts");
        assert!(output.status.success(), "{}", shown(&output));
        std::fs::read_to_string(&log).expect("a log").lines().count()
    };
    let (few, many) = (asked("count=10"), asked("count=3000"));
    assert!(many < few + 100, "{many} questions for 6,000 calls, {few} for 20");
}
