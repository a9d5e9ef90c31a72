//! Ingest: the same inputs make the same store, whatever the order, growing or after a kill.

use std::fs;

use crate::fixture::{
    self, APPLICATION, contents, event_log, executors, expect, report, rolling_event_log, rows,
    text,
};
use serde_json::Value;

/// The same inputs in any order, apart or together, once or again, make the same store.
#[test]
fn order_and_repetition_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let [one, other] = executors();
    one.save(&at.join("one"));
    other.save(&at.join("other"));
    // An earlier copy of the same executor's file, as a live ingest would have seen it.
    let whole = other.bytes(0);
    fs::create_dir(at.join("early")).unwrap();
    fs::write(at.join("early").join(other.file(0)), &whole[..whole.len() / 2 / 256 * 256]).unwrap();
    let log = event_log();
    let half = fs::read(&log).unwrap();
    fs::write(at.join("early.log"), &half[..half.len() / 2]).unwrap();
    let steps: [(&str, &[&[&str]]); 3] = [
        ("together", &[&["one", "other", "--event-log", text(&log)]]),
        (
            "apart",
            &[
                &["--event-log", text(&log)],
                &["other"],
                &["early"],
                &["one"],
                &["one", "other", "--event-log", "early.log"],
            ],
        ),
        (
            "growing",
            &[
                &["early", "--event-log", "early.log"],
                &["one"],
                &["--event-log", text(&log)],
                &["other"],
                &["other"],
            ],
        ),
    ];
    let stores = steps.map(|(store, ingests)| {
        for inputs in ingests {
            let mut arguments = vec!["ingest", "--quiet", "--store", store];
            arguments.extend(*inputs);
            // The earlier copies end within a group: that is told, as part of them is left out.
            let code = if inputs.contains(&"early") { None } else { Some(0) };
            let output = fixture::analyzer(at, &arguments);
            assert!(
                code.is_none_or(|code| output.status.code() == Some(code)),
                "{arguments:?} {output:?}"
            );
        }
        ["process", "task", "node,stage"].map(|by| report(at, &["--by", by, "--store", store]))
    });
    assert_eq!(stores[1], stores[0]);
    assert_eq!(stores[2], stores[0]);
    // What is replaced goes: each has the parts of two logs and executors at most.
    for store in ["together", "apart", "growing"] {
        let files = contents(&at.join(store));
        let tasks = files.iter().filter(|(path, _)| path.to_string_lossy().contains("/tasks/"));
        assert!(tasks.count() <= 2, "{store}");
        assert!(files.iter().all(|(path, _)| !path.to_string_lossy().contains(".staging")));
    }
}

#[test]
fn growing_files_are_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let [_, writer] = executors();
    let path = folder.path().join(writer.file(0));
    let whole = writer.bytes(0);
    let mut tasks = Vec::new();
    let header = records::Segment::parse(whole).unwrap().records_at();
    for end in (header..=whole.len()).step_by(256 * 8).chain([whole.len()]) {
        fs::write(&path, &whole[..end]).unwrap();
        let output = fixture::analyzer(folder.path(), &["ingest", text(&path)]);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        let report = report(folder.path(), &[]);
        assert_eq!(report["total"]["syscall_calls"], report["process_totals"]["syscall_calls"]);
        tasks.push(report["total"]["recorded_tasks"].as_u64().unwrap());
    }
    assert!(tasks.is_sorted() && tasks[0] == 0, "{tasks:?}");
    assert_eq!(tasks.last(), Some(&5));
}

#[test]
fn what_a_killed_ingest_leaves_behind() {
    let folder = tempfile::tempdir().unwrap();
    for writer in executors() {
        writer.save(&folder.path().join("records"));
    }
    let log = event_log();
    let ingest = ["ingest", "records", "--event-log", text(&log)];
    expect(folder.path(), 0, &ingest);
    let whole = report(folder.path(), &["--by", "task"]);
    let store = folder.path().join("sparkanalyzer-store");
    // Killed while it wrote a table, and before it had removed what was outdated.
    fs::create_dir(store.join(".staging")).unwrap();
    fs::write(store.join(".staging/00000099-tasks.parquet"), b"PAR1").unwrap();
    let outdated = store.join("tasks").join(format!("app={APPLICATION}")).join("00000099.parquet");
    fs::write(&outdated, b"PAR1").unwrap();
    assert_eq!(report(folder.path(), &["--by", "task"]), whole);
    // Killed between the exchange and the last move; another file is lost.
    let tables = ["processes", "spark_apps"].map(|table| {
        let folder = fs::read_dir(store.join(table)).unwrap().next().unwrap().unwrap().path();
        fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
    });
    let name = tables[0].file_stem().unwrap().to_str().unwrap();
    fs::rename(&tables[0], store.join(format!(".staging/{name}-processes.parquet"))).unwrap();
    assert_eq!(report(folder.path(), &["--by", "task"]), whole);
    fs::remove_file(&tables[1]).unwrap();
    let (_, error) = expect(folder.path(), 3, &["report"]);
    assert!(error.contains("spark_apps") && error.contains("ingest"), "{error}");
    expect(folder.path(), 0, &ingest);
    assert_eq!(report(folder.path(), &["--by", "task"]), whole);
    assert!(!outdated.exists() && !store.join(".staging").exists());
}

#[test]
fn the_rolling_log_of_spark_4() {
    let folder = tempfile::tempdir().unwrap();
    expect(folder.path(), 0, &["ingest", "--event-log", text(&rolling_event_log())]);
    let report = report(folder.path(), &["--by", "node,stage"]);
    assert_eq!(report["total"]["tasks"], 10);
    assert_eq!(report["total"]["recorded_tasks"], 0);
    assert_eq!(report["total"]["spark_failed_tasks"], 0);
    assert_eq!(report["total"]["file_read_bytes"], Value::Null);
    let keys: Vec<_> = rows(&report)
        .iter()
        .map(|row| format!("{} {}", row["node"].as_str().unwrap(), row["stage"]))
        .collect();
    assert_eq!(
        keys,
        ["127.0.0.1 0", "127.0.0.1 1", "127.0.0.1 3", "127.0.0.2 1", "127.0.0.2 5", "127.0.0.2 8"]
    );
}

#[test]
fn standard_input_is_an_event_log() {
    let folder = tempfile::tempdir().unwrap();
    let log =
        fs::File::open(rolling_event_log().join("events_1_app-20261121034638-0001.zstd")).unwrap();
    let output = std::process::Command::new(assert_cmd::cargo::cargo_bin("analyzer"))
        .current_dir(folder.path())
        .args(["ingest", "--event-log", "-"])
        .stdin(log)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(report(folder.path(), &["--by", "app"])["total"]["tasks"], 10);
}
