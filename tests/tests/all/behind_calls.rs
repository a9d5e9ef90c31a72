//! Bytes that the kernel moves behind the calls that asked for them: io_uring and libaio, to the unit.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use tests::artifacts;
use tests::preloaded::{compile, shown};
use tests::skip::skip;

const TEST: &str = "requests_behind_calls_count_to_the_unit";

/// The counts that are not 0, but times.
fn counts(report: &serde_json::Value) -> BTreeMap<String, u64> {
    let totals = report["totals"].as_object().expect("an object");
    let is_call = |name: &str| {
        ["file", "pipe", "socket", "other"].iter().any(|class| name.starts_with(class))
            && !name.ends_with("_ns")
    };
    totals
        .iter()
        .filter(|(name, _)| is_call(name))
        .filter_map(|(name, value)| {
            Some((name.clone(), value.as_u64().filter(|value| *value > 0)?))
        })
        .collect()
}

/// Under which words a way is a gap, or "" where everything is counted; and what is counted, as `class op calls bytes errors`.
const WAYS: &[(&str, &str, &[&str])] = &[
    ("nothing", "", &[]),
    ("reads", "", &["file open 1 0 0", "file read 16 65536 0"]),
    ("own-memory", "", &["file open 1 0 0", "file read 16 65536 0"]),
    ("registered", "", &["file open 1 0 0", "file read 1 4096 0", "other close 1 0 0"]),
    (
        "fixed",
        "",
        &["file open 1 0 0", "file write 1 1000 0", "socket send 1 100 0", "socket recv 1 100 0"],
    ),
    (
        "opens",
        "",
        &[
            "file open 2 0 1",
            "file read 1 10 0",
            "file close 1 0 0",
            "other read 1 0 1",
            "pipe write 1 7 0",
            "pipe read 1 7 0",
        ],
    ),
    ("multishot", "", &["socket send 5 500 0", "socket recv 6 500 0", "socket close 1 0 0"]),
    ("splices", "", &["file open 1 0 0", "file read 1 3000 0", "pipe write 1 3000 0"]),
    ("late", "", &["file open 1 0 0", "file read 2 4196 0"]),
    ("unwaited", "", &["pipe read 1 300 0", "pipe write 1 300 0"]),
    ("child", "a ring that was not seen", &["file open 1 0 0"]),
    ("silent", "want no result", &["file open 1 0 0", "file read 1 0 0"]),
    ("polled", "SQPOLL", &["file open 1 0 0"]),
    ("aio", "", &["file open 1 0 0", "file read 201 819210 0", "file write 200 819200 0"]),
    ("aio-memory", "", &["file open 1 0 0", "file read 201 819210 0", "file write 200 819200 0"]),
];

#[test]
fn requests_behind_calls_count_to_the_unit() {
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let place = tempfile::tempdir().expect("a directory");
    let program = compile("gcc", "behind.c", place.path(), &[]);
    std::fs::write(place.path().join("data"), vec![0; 65536]).expect("writes");
    let here = |command: &mut Command| {
        let output = command.current_dir(place.path()).output().expect("starts");
        (output.status.code(), output)
    };
    for (way, gap, expected) in WAYS {
        const NO_RING: Option<i32> = Some(3);
        let (native, output) = here(Command::new(&program).arg(way));
        if native == NO_RING {
            skip(TEST, &format!("{way}: the kernel refuses io_uring"));
            continue;
        }
        assert_eq!(native, Some(0), "{way}: {}", shown(&output));
        let json = place.path().join("json");
        let mut command = Command::new(&artifacts.analyzer);
        command.args(["trace", "--shim"]).arg(&artifacts.shim).arg("--json").arg(&json);
        let (traced, output) = here(command.arg("--").arg(&program).arg(way));
        assert_eq!(traced, Some(0), "{way}: {}", shown(&output));
        let report = read(&json);
        let gaps = report["gaps"].to_string();
        assert_eq!(report["complete"].as_bool(), Some(gap.is_empty()), "{way}: {gaps}");
        assert!(gaps.contains(gap), "{way}: {gaps}");
        let mut all = BTreeMap::new();
        for line in *expected {
            let words: Vec<_> = line.split(' ').collect();
            for (quantity, value) in ["calls", "bytes", "errors"].iter().zip(&words[2..]) {
                let value: u64 = value.parse().expect("a number");
                if value > 0 {
                    all.insert(format!("{}_{}_{quantity}", words[0], words[1]), value);
                }
            }
        }
        assert_eq!(counts(&report), all, "{way}");
    }
}

fn read(json: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(json).expect("a report")).expect("JSON")
}
