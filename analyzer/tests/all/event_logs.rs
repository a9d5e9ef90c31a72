//! Event logs as they are found: figures that cannot be, logs in several files, packed ones, folders with anything else
//! in them, attempts of an application, runs of one program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::fixture::{APPLICATION, Writer, analyzer, data, event_log, expect, report, rows, text};
use serde_json::{Value, json};

fn ingest(at: &Path, code: i32, log: &str) -> (String, String) {
    expect(at, code, &["ingest", "--event-log", log])
}

#[test]
fn a_negative_figure_costs_itself_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (log, figure, others) in [
        ("negative_run_time", "spark_run_time_ms", 490 * 2),
        ("negative_deserialize_time", "spark_deserialize_time_ms", 5 * 3),
    ] {
        let path = data("eventlogs").join(log);
        expect(at, 0, &["ingest", "--store", log, "--event-log", text(&path)]);
        let all = report(at, &["--store", log]);
        assert_eq!(all["total"]["tasks"], 4, "{log}");
        assert_eq!(all["total"]["spark_failed_tasks"], 0, "every end was seen");
        assert_eq!(all["total"]["spark_cpu_time_ns"], 4 * 300_000_000_i64);
        let known = &all["completeness"][figure];
        assert!(known[2].as_u64() >= Some(1), "{log} {known}");
        assert!(all["total"][figure].as_u64() >= Some(others), "{log} {}", all["total"]);
        assert!(all["total"]["at_least"].as_array().unwrap().contains(&figure.into()), "{log}");
    }
}

#[test]
fn a_log_that_is_rolled_by_the_hour_is_one_application() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let log = data("eventlogs/rolled_by_the_hour");
    let (said, _) = ingest(at, 0, text(&log));
    assert!(said.contains("1 event log"), "{said}");
    let all = report(at, &["--by", "app"]);
    assert_eq!(rows(&all).len(), 1);
    assert_eq!(all["total"]["tasks"], 4);
    assert_eq!(rows(&all)[0]["application_id"], "app-20210614-0001");
}

#[test]
fn rolling_files_that_are_missing_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let whole = fs::read_to_string(event_log()).unwrap();
    let lines: Vec<_> = whole.split_inclusive('\n').collect();
    let rolling = at.join("eventlog_v2_app");
    fs::create_dir(&rolling).unwrap();
    for (number, some) in lines.chunks(lines.len().div_ceil(4)).enumerate() {
        if number != 1 {
            let name = format!("events_{}_{APPLICATION}", number + 1);
            fs::write(rolling.join(name), some.concat()).unwrap();
        }
    }
    let (_, warning) = ingest(at, 1, "eventlog_v2_app");
    assert!(warning.contains("number 2 is missing"), "{warning}");
    assert!(report(at, &[])["total"]["tasks"].as_u64() > Some(0));
}

#[test]
fn a_folder_of_logs_may_hold_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let logs = at.join("logs");
    fs::create_dir_all(logs.join("closed")).unwrap();
    fs::set_permissions(logs.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::copy(event_log(), logs.join(APPLICATION)).unwrap();
    std::os::unix::fs::symlink("/nonexistent/log", logs.join("dangling")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(logs.join("pipe")).status();
    assert!(made.unwrap().success());
    let (said, notes) = ingest(at, 0, "logs");
    assert!(said.contains("1 event log"), "{said}");
    assert!(notes.contains("dangling: No such file") && notes.contains("passed over"), "{notes}");
    assert!(notes.contains("pipe: no regular file"), "{notes}");
    // root may open any folder, and finds nothing in it.
    assert!(
        notes.contains("closed: Permission denied") || fs::read_dir(logs.join("closed")).is_ok()
    );
    assert_eq!(report(at, &[])["total"]["tasks"], 10);
}

#[test]
fn packed_logs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let whole = fs::read(event_log()).unwrap();
    fs::write(at.join("log"), &whole).unwrap();
    let packed = std::process::Command::new("gzip").args(["-k", "log"]).current_dir(at).status();
    assert!(packed.unwrap().success());
    let skippable = [
        &[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7][..],
        &zstd::encode_all(&whole[..], 1).unwrap(),
    ];
    fs::write(at.join("log.zstd"), skippable.concat()).unwrap();
    for log in ["log.gz", "log.zstd"] {
        expect(at, 0, &["ingest", "--store", &format!("store-{log}"), "--event-log", log]);
        let all = report(at, &["--store", &format!("store-{log}")]);
        assert_eq!(all["total"]["tasks"], 10, "{log}");
    }
    fs::write(at.join("log.zip"), b"PK\x03\x04 and so on").unwrap();
    let (_, error) = ingest(at, 3, "log.zip");
    assert!(error.contains("log.zip: a zip archive: unpack it"), "{error}");
    assert!(!at.join("sparkanalyzer-store").exists(), "nothing to store, no store");
}

#[test]
fn what_is_no_input_leaves_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("notes.txt"), "one\ntwo\n").unwrap();
    fs::write(at.join("x.sar"), "none").unwrap();
    for arguments in [&["ingest", "--event-log", "notes.txt"][..], &["ingest", "x.sar"]] {
        let (_, error) = expect(at, 3, arguments);
        assert!(
            error.contains("notes.txt: not a Spark event log") || error.contains("x.sar"),
            "{error}"
        );
        assert!(!at.join("sparkanalyzer-store").exists(), "{arguments:?}");
    }
    let (_, error) = expect(at, 2, &["ingest", "x.sar", "--store", "postgres://me:secret@db/runs"]);
    assert!(error.contains("postgres:// is not served") && !error.contains("secret"), "{error}");
    assert_eq!(fs::read_dir(at).unwrap().count(), 2, "no folder of that name");
}

/// YARN tries an application again: each attempt counts its TIDs and stages anew.
#[test]
fn attempts_are_rows_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let log = fs::read_to_string(event_log()).unwrap();
    for attempt in ["1", "2"] {
        let own =
            log.replace("\"App ID\":", &format!("\"App Attempt ID\":\"{attempt}\",\"App ID\":"));
        fs::write(at.join(attempt), own).unwrap();
        ingest(at, 0, attempt);
    }
    let all = report(at, &["--by", "app"]);
    let ids: Vec<_> = rows(&all).iter().map(|row| row["application_id"].clone()).collect();
    assert_eq!(ids, [format!("{APPLICATION}/1"), format!("{APPLICATION}/2")]);
    assert!(rows(&all).iter().all(|row| row["tasks"] == 10));
    let one = report(at, &["--app", &format!("{APPLICATION}/2")]);
    assert_eq!(one["total"]["tasks"], 10);
    assert_eq!(one["stages"].as_array().unwrap().len(), 4);
    assert_eq!(one["stages"][3]["name"], "csv: read exchange > sort > write words");
}

/// A log of a query that scans two tables at once, as two runs of it number the scans.
fn run(folder: &Path, application: &str, first: &str, second: &str) {
    let mut log = String::new();
    let mut put = |event: Value| log += &format!("{event}\n");
    put(
        json!({"Event": "SparkListenerApplicationStart", "App Name": "join", "App ID": application}),
    );
    let scan = |name: &str, id: i64| {
        json!({"nodeName": "Scan csv ", "simpleString": "FileScan csv", "children": [],
            "metadata": {"Location": format!("InMemoryFileIndex(1 paths)[file:/data/{name}.csv]")},
            "metrics": [{"name": "number of output rows", "accumulatorId": id, "metricType": "sum"}]})
    };
    // The metrics' numbers are those of the tables, whatever the stages' are.
    let table = |name: &str| if name == "large" { 1 } else { 2 };
    put(
        json!({"Event": "org.apache.spark.sql.execution.ui.SparkListenerSQLExecutionStart", "executionId": 0,
        "description": "save at <unknown>:0",
        "sparkPlanInfo": {"nodeName": "SortMergeJoin", "simpleString": "SortMergeJoin", "metadata": {}, "metrics": [],
            "children": [scan("large", 1), scan("small", 2)]}}),
    );
    put(json!({"Event": "SparkListenerJobStart", "Job ID": 0, "Stage IDs": [0, 1],
        "Properties": {"spark.sql.execution.id": "0"}}));
    for (stage, name) in [(0, first), (1, second)] {
        let (tasks, time) = if name == "large" { (4, 1000) } else { (2, 10) };
        for task in 0..tasks {
            put(json!({"Event": "SparkListenerTaskEnd", "Stage ID": stage, "Stage Attempt ID": 0,
                "Task End Reason": {"Reason": "Success"},
                "Task Info": {"Task ID": stage * 10 + task, "Executor ID": "1", "Host": "n", "Launch Time": 5,
                    "Finish Time": 5 + time, "Failed": false, "Killed": false},
                "Task Metrics": {"Executor Run Time": time}}));
        }
        put(
            json!({"Event": "SparkListenerStageCompleted", "Stage Info": {"Stage ID": stage, "Stage Attempt ID": 0,
            "Stage Name": "$anonfun$withThreadLocalCaptured$1 at <unknown>:0", "Number of Tasks": tasks,
            "Parent IDs": [], "Accumulables": [{"ID": table(name), "Value": "7", "Metadata": "sql"}]}}),
        );
    }
    fs::write(folder.join(application), log).unwrap();
    expect(folder, 0, &["ingest", "--quiet", "--event-log", application]);
}

/// Spark numbers stages in the order of their submission: of two runs of unchanged code nothing changed.
#[test]
fn stages_that_swapped_their_ids_are_compared_with_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, "app-a", "large", "small");
    run(at, "app-b", "small", "large");
    let (json, _) = expect(at, 0, &["diff", "#app-a", "#app-b", "--format", "json"]);
    let all: Value = serde_json::from_str(&json).unwrap();
    let times = all["changes"].as_array().unwrap().iter();
    let mut seen = Vec::new();
    for one in times.filter(|one| one["figure"] == "spark_run_time_ms" && one["part"] == "stage") {
        assert_eq!(one["percent"], 0.0, "{one}");
        seen.push((one["name"].clone(), one["stages_a"][0].clone(), one["stages_b"][0].clone()));
    }
    assert_eq!(
        seen,
        [
            ("save: scan csv large.csv".into(), 0.into(), 1.into()),
            ("save: scan csv small.csv".into(), 1.into(), 0.into()),
        ]
    );
    let (table, _) = expect(at, 0, &["diff", "#app-a", "#app-b"]);
    assert!(!table.contains('%') || table.contains("changed by less than"), "{table}");
}

/// In local mode a Python worker's records name no application: its process's parents do. Then a stage is one row.
#[test]
fn python_workers_of_local_mode_are_of_the_application() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut driver = Writer::new("driver", "driver", "laptop", "driver");
    (driver.application, driver.pid) = (APPLICATION, 700);
    driver.segment().start(101, 0, 0, 0).end(101, 0, 0, 40).finish(50);
    driver.save(&at.join("records"));
    for (name, pid, ppid) in [("daemon", 701, 700), ("worker", 702, 701)] {
        let mut python = Writer::new(name, "python_worker", "laptop", "");
        (python.pid, python.ppid) = (pid, ppid);
        python.start_real_ns += u64::from(pid);
        python.segment();
        if name == "worker" {
            python.served(702, 0, 0, [5, 9]);
        }
        python.snapshot(pid, 10);
        python.save(&at.join("records"));
    }
    expect(at, 0, &["ingest", "records", "--event-log", text(&event_log())]);
    let all = report(at, &["--by", "stage"]);
    let stage_0: Vec<_> = rows(&all).iter().filter(|row| row["stage"] == 0).collect();
    assert_eq!(stage_0.len(), 1, "{stage_0:?}");
    assert_eq!(
        (&stage_0[0]["application_id"], &stage_0[0]["stage_attempt"]),
        (&APPLICATION.into(), &0.into())
    );
    let index = records::metric::by_name("file_read_bytes").unwrap() as u64 + 1;
    assert_eq!(stage_0[0]["file_read_bytes"].as_u64(), Some((40 + 4) * index));
    // Daemon and worker are in the report; that Spark kills them is no fault.
    assert_eq!(all["process_totals"]["file_read_bytes"].as_u64(), Some((50 + 10 + 10) * index));
    let notes = all["notes"].to_string();
    assert!(notes.contains("2 Python daemons and workers have no last record"), "{notes}");
    assert!(!notes.contains("run still or were killed") && !notes.contains("left out"), "{notes}");
    expect(at, 0, &["export", "--to", "prometheus", "-o", "p"]);
    let exported = fs::read_to_string(at.join("p")).unwrap();
    let mut series: Vec<_> =
        exported.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
    let before = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), before, "each series once");
}

#[test]
fn options_that_do_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    ingest(at, 0, text(&event_log()));
    for format in ["csv", "parquet", "markdown"] {
        let (_, error) = expect(at, 2, &["report", "--spread", "--format", format]);
        assert!(error.contains("--spread is for the formats table and json"), "{error}");
    }
    let (_, error) = expect(at, 2, &["report", "--by", "time", "--bucket", "0s"]);
    assert!(error.contains("more than no time"), "{error}");
    // Whatever the help of an option names is an option.
    let help = expect(at, 0, &["export", "--help"]).0;
    assert!(help.contains("(--bucket)") && help.contains("--bucket <TIME>"), "{help}");
    expect(at, 0, &["export", "--to", "prometheus", "--by", "time", "--bucket", "1s"]);
}

/// A timeline of nothing is not a success.
#[test]
fn an_empty_trace_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut writer = Writer::new("idle", "executor", "n", "1");
    writer.segment().finish(3);
    writer.save(&at.join("records"));
    expect(at, 0, &["ingest", "records"]);
    let refused = analyzer(at, &["export", "--to", "chrome"]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(3), 0), "{error}");
    assert!(error.contains("ingest --event-log"), "{error}");
}
