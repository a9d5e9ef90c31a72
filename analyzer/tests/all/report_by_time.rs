//! `report --by time`: a bucket has what was executed in it, as far as snapshots tell, and the rows are the totals.

use std::path::Path;

use crate::fixture::database::Server;
use crate::fixture::{self, Writer, expect, report};
use serde_json::Value;

/// When the processes began, in ms.
const BEGAN_MS: u64 = 1_795_232_828_000;

/// A thread with three tasks, of which snapshots cut one, and one that was killed in its task.
fn write(folder: &Path) {
    let mut writer = Writer::new("worker", "executor", "node-1", "1");
    writer.start_real_ns = BEGAN_MS * 1_000_000 + 1_000;
    writer.segment();
    writer.at(2).start(101, 0, 0, 10);
    for (ms, steps) in [(6, 13), (14, 20), (20, 26), (35, 30)] {
        writer.at(ms).snapshot(101, steps);
    }
    writer.at(38).end(101, 0, 0, 37);
    writer.at(41).start(101, 1, 0, 37).at(44).snapshot(101, 38).at(47).end(101, 1, 0, 40);
    writer.at(48).start(101, 2, 1, 40).at(55).end(101, 2, 1, 49);
    writer.at(5).start(102, 3, 1, 0).at(8).snapshot(102, 5);
    // Of threads that are not in tasks nothing is cut.
    writer.at(3).snapshot(103, 100).at(58).snapshot(103, 200);
    writer.save(folder);
}

/// (first ms, end, tasks, calls) of the rows of tasks; `u64::MAX` = the time is unknown.
fn rows(report: &Value) -> Vec<(u64, u64, u64, u64)> {
    let rows = report["rows"].as_array().unwrap().iter().filter(|row| row["part"] == "tasks");
    let since = |value: &Value| value.as_u64().map_or(u64::MAX, |ms| ms - BEGAN_MS);
    let mut rows: Vec<_> = rows
        .map(|row| {
            let of = |name: &str| row[name].as_u64().unwrap();
            (since(&row["time_ms"]), since(&row["until_ms"]), of("tasks"), of("file_read_calls"))
        })
        .collect();
    rows.sort_unstable();
    rows
}

/// What the rows say of a step.
fn steps(steps: u64) -> u64 {
    let index = records::METRICS.iter().position(|metric| metric.name == "file_read_calls");
    fixture::counters(steps)[index.unwrap()]
}

fn expected(rows: &[(u64, u64, u64, u64)]) -> Vec<(u64, u64, u64, u64)> {
    rows.iter().map(|(from, until, tasks, done)| (*from, *until, *tasks, steps(*done))).collect()
}

const LAST: [(u64, u64, u64, u64); 4] =
    [(0, 40, 1, 27), (40, 50, 1, 3), (40, 60, 1, 9), (u64::MAX, u64::MAX, 1, 5)];
const EVERY: [(u64, u64, u64, u64); 8] = [
    (0, 10, 0, 3 + 5),
    (0, 20, 0, 13),
    (0, 40, 1, 0),
    (20, 40, 0, 4),
    (30, 40, 0, 7),
    (40, 50, 1, 3),
    (40, 60, 1, 9),
    (u64::MAX, u64::MAX, 1, 0),
];
const ALL: [(u64, u64, u64, u64); 9] = [
    (0, 10, 0, 3 + 5),
    (0, 20, 0, 7),
    (0, 40, 1, 0),
    (10, 20, 0, 6),
    (20, 40, 0, 4),
    (30, 40, 0, 7),
    (40, 50, 1, 3),
    (40, 60, 1, 9),
    (u64::MAX, u64::MAX, 1, 0),
];

fn ingest(folder: &Path, store: &str, snapshots: &str) {
    let snapshots = ["--snapshots", snapshots];
    expect(
        folder,
        0,
        &[&["ingest", "--quiet", "records", "--store", store][..], &snapshots].concat(),
    );
}

#[test]
fn a_bucket_has_what_was_done_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(&at.join("records"));
    for (snapshots, rows_are) in [("last", &LAST[..]), ("10ms", &EVERY), ("all", &ALL)] {
        ingest(at, snapshots, snapshots);
        let of = |by: &str| report(at, &["--store", snapshots, "--bucket", "10ms", "--by", by]);
        let by_time = of("time");
        assert_eq!(rows(&by_time), expected(rows_are), "{snapshots}");
        // Whatever else rows are per, and whatever the bucket: together they are the totals.
        let total = &by_time["process_totals"];
        for by in
            ["node,time", "stage,time", "task,time", "thread,time", "executor,time", "app,time"]
        {
            let report = of(by);
            let mut sums = std::collections::BTreeMap::new();
            for (from, until, tasks, done) in rows(&report) {
                let sum = sums.entry((from, until)).or_insert((0, 0));
                *sum = (sum.0 + tasks, sum.1 + done);
            }
            let sums: Vec<_> =
                sums.iter().map(|(time, sum)| (time.0, time.1, sum.0, sum.1)).collect();
            assert_eq!(sums, expected(rows_are), "{snapshots} {by}");
        }
        for bucket in ["1ms", "7ms", "10ms", "1s", "1d"] {
            let report = report(at, &["--store", snapshots, "--by", "time", "--bucket", bucket]);
            assert_eq!(&report["process_totals"], total, "{bucket}");
            for metric in records::METRICS.iter().filter(|metric| !metric.is_engine()) {
                assert_eq!(
                    report["total"][metric.name], total[metric.name],
                    "{bucket} {}",
                    metric.name
                );
            }
        }
    }
    let arguments = ["report", "--store", "all", "--by", "time", "--bucket", "10ms", "--wide"];
    let (table, _) = expect(at, 0, &arguments);
    assert!(table.contains(":08 +20ms"), "{table}");
    assert!(table.contains("+20s after a time: measured over so long"), "{table}");
    // A bucket that holds everything has no such row.
    let (table, _) = expect(
        at,
        0,
        &[
            "report",
            "--store",
            "all",
            "--by",
            "time",
            "--app",
            fixture::APPLICATION,
            "--bucket",
            "1d",
        ],
    );
    assert!(!table.contains("after a time"), "{table}");
}

#[test]
fn a_server_says_the_same() {
    let Some(server) = Server::start("a_server_says_the_same", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(&at.join("records"));
    let url = server.store("runs");
    // Snapshots that are kept later are taken from the same files.
    for (snapshots, rows_are) in [("last", &LAST[..]), ("all", &ALL)] {
        ingest(at, &url, snapshots);
        let report = report(at, &["--store", &url, "--bucket", "10ms", "--by", "time"]);
        assert_eq!(rows(&report), expected(rows_are), "{snapshots}");
    }
}
