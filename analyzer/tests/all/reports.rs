//! Reports: what went in comes out, reconciled, in every dimension and format.

use std::fs;

use crate::fixture::{
    self, APPLICATION, TASKS, Writer, data, event_log, executors, executors_with_engine, expect,
    report, rolling_event_log, rows, sum, text,
};
use polars::prelude::{AnyValue, ParquetReader, SerReader};
use records::{Event, Flags, METRICS};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a store of these executors' records and Spark's event log.
fn stored(executors: [Writer; 2]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for writer in executors {
        writer.save(&folder.path().join("records"));
    }
    expect(folder.path(), 0, &["ingest", "records", "--event-log", text(&event_log())]);
    folder
}

/// The events of Spark's log, read without our reader.
fn logged() -> Vec<Value> {
    let log = fs::read_to_string(event_log()).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number_text(value: &AnyValue<'_>) -> String {
    match value {
        AnyValue::UInt64(number) => number.to_string(),
        AnyValue::Int64(number) => number.to_string(),
        AnyValue::Float64(number) => Value::from(*number).to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rows_reconcile_with_process_totals() {
    let folder = stored(executors());
    let of_one = ["app", "node", "executor", "process", "thread", "job", "stage", "task", "time"];
    let combined = ["node,stage", "executor,task", "thread,stage", "job,node", "time,job,process"];
    for by in of_one.into_iter().chain(combined) {
        let report = report(folder.path(), &["--by", by]);
        for metric in METRICS {
            let expected = report["process_totals"][metric.name].as_u64();
            assert_eq!(report["total"][metric.name].as_u64(), expected, "{by} {}", metric.name);
            assert_eq!(sum(&report, metric.name), expected.unwrap_or(0), "{by} {}", metric.name);
            assert_eq!(expected.is_none(), metric.is_engine(), "{by} {}", metric.name);
        }
        assert_eq!(report["total"]["tasks"], 10);
        assert_eq!(report["total"]["recorded_tasks"], 10);
        assert_eq!(report["notes"], serde_json::json!([]), "{by}");
    }
    // Per process, and per stage within the process, from the numbers that the records were made with.
    let report = report(folder.path(), &["--by", "process,stage"]);
    for writer in executors() {
        let id: String = writer.process.iter().map(|byte| format!("{byte:02x}")).collect();
        let own: Vec<_> = rows(&report).iter().filter(|row| row["process_id"] == *id).collect();
        let tasks: Vec<_> = TASKS.iter().filter(|task| task.3 == writer.executor).collect();
        let steps: u64 = tasks.iter().map(|task| task.0 as u64 + 1).sum();
        let total = steps + tasks.len() as u64 + 1001;
        let index = records::metric::by_name("file_read_bytes").unwrap() as u64;
        let read = |row: &Value| row["file_read_bytes"].as_u64().unwrap();
        assert_eq!(own.iter().map(|row| read(row)).sum::<u64>(), total * (index + 1));
        for row in own {
            let expected = match row["stage"].as_i64() {
                None => total - steps,
                Some(stage) => {
                    let of_stage = tasks.iter().filter(|task| i64::from(task.1) == stage);
                    of_stage.map(|task| task.0 as u64 + 1).sum()
                }
            };
            assert_eq!(read(row), expected * (index + 1), "{row}");
        }
    }
}

/// Threads that live when a process ends may never have written a counter: what they did is in the process's rest.
#[test]
fn threads_of_which_nothing_is_known_leave_totals_as_they_are() {
    let mut writers = executors();
    for writer in &mut writers {
        let name = b"shutdown-hook-0";
        writer.put(900, Flags::NONE, &Event::ThreadStart { name }, None);
    }
    let folder = stored(writers);
    let [by_process, by_thread] =
        ["process", "thread"].map(|by| report(folder.path(), &["--by", by]));
    for metric in METRICS {
        assert_eq!(
            by_thread["total"][metric.name], by_process["total"][metric.name],
            "{}",
            metric.name
        );
    }
    assert_eq!(by_thread["total"]["at_least"], by_process["total"]["at_least"]);
}

#[test]
fn jobs_threads_and_times_are_told_apart() {
    let folder = stored(executors());
    // Jobs, as the log's lines say which stages they run: each stage of this log ran in the first one.
    let events = logged();
    let of = |name: &str| {
        let name = name.to_owned();
        events.iter().filter(move |event| event["Event"] == name)
    };
    let job_of = |stage: i32| {
        let mut jobs = of("SparkListenerJobStart");
        jobs.find(|job| job["Stage IDs"].as_array().unwrap().contains(&stage.into())).unwrap()
            ["Job ID"]
            .as_i64()
            .unwrap()
    };
    let by_job = report(folder.path(), &["--by", "job"]);
    for row in rows(&by_job).iter().filter(|row| row["part"] == "tasks") {
        let job = row["job"].as_i64().unwrap();
        let tasks = TASKS.iter().filter(|task| job_of(task.1) == job).count();
        assert!(row["tasks"] == tasks && tasks > 0, "{row}");
    }
    // Threads: between tasks one step passes on the task's thread, the main thread takes 1000 steps.
    let by_thread = report(folder.path(), &["--by", "thread", "--columns", "file_open_calls"]);
    let index = records::metric::by_name("file_open_calls").unwrap() as u64 + 1;
    let mut seen = Vec::new();
    for row in rows(&by_thread) {
        let steps = row["file_open_calls"].as_u64().unwrap() / index;
        seen.push((row["tid"].as_i64().unwrap(), row["part"] == "tasks", steps));
        let name = if row["tid"] == 100 { "java" } else { "Executor task l" };
        assert_eq!(row["thread_name"], name);
    }
    seen.sort_unstable();
    let mut expected = Vec::new();
    for executor in ["0", "1"] {
        let tasks: Vec<_> = TASKS.iter().filter(|task| task.3 == executor).collect();
        let steps = tasks.iter().map(|task| task.0 as u64 + 1).sum();
        expected.extend([(100, false, 1000), (101, true, steps)]);
        expected.push((101, false, tasks.len() as u64 + 1));
    }
    expected.sort_unstable();
    assert_eq!(seen, expected);
    // Time: a task without records is in the buckets that it ran in by the driver's clock.
    let log = event_log();
    expect(folder.path(), 0, &["ingest", "--store", "log", "--event-log", log.to_str().unwrap()]);
    let by_time = report(folder.path(), &["--store", "log", "--by", "time", "--bucket", "500ms"]);
    for row in rows(&by_time) {
        let ran = |event: &&Value| {
            let bucket = |name: &str| event["Task Info"][name].as_i64().unwrap() / 500 * 500;
            row["time_ms"] == bucket("Launch Time")
                && row["until_ms"] == bucket("Finish Time") + 500
        };
        assert!(row["tasks"] == of("SparkListenerTaskEnd").filter(ran).count(), "{row}");
    }
    let (table, _) = expect(folder.path(), 0, &["report", "--by", "time,job"]);
    assert!(table.contains("2026-11-21 03:4"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let (wide, _) = expect(folder.path(), 0, &["report", "--by", "thread", "--wide"]);
    assert!(wide.contains("101 Executor task l"), "{wide}");
    assert!(wide.lines().any(|line| line.chars().count() > 80), "{wide}");
}

#[test]
fn ratios_and_completeness_of_figures() {
    let mut writers = executors_with_engine();
    // The engine lost one thread of executor 0 for a while.
    for writer in writers.iter_mut().filter(|writer| writer.executor == "0") {
        writer.put(0, Flags::WAS_RELEASED | Flags::FINAL, &Event::Snapshot, None);
    }
    let folder = stored(writers);
    let report = report(folder.path(), &["--by", "stage"]);
    let number = |row: &Value, name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name}"));
    for row in rows(&report).iter().filter(|row| row["part"] == "tasks") {
        let instructions = number(row, "instructions");
        let bytes = number(row, "memory_bytes_read") + number(row, "memory_bytes_written");
        let close = |name: &str, expected: f64| {
            assert!((number(row, name) - expected).abs() <= 1e-6, "{name} {row}");
        };
        close("memory_bytes_per_instruction", bytes / instructions);
        close(
            "barriers_per_thousand_instructions",
            number(row, "barriers") * 1000.0 / instructions,
        );
        let records =
            number(row, "spark_shuffle_read_records") + number(row, "spark_shuffle_write_records");
        assert!((number(row, "spark_shuffle_records") - records).abs() < 0.5);
        match records {
            0.0 => assert_eq!(row["instructions_per_shuffle_record"], Value::Null),
            _ => close("instructions_per_shuffle_record", instructions / records),
        }
        assert_eq!(row["exact_tasks"], row["tasks"]);
        let localities = ["process_local", "node_local", "rack_local", "any", "no_pref"];
        let local = |name: &&str| number(row, &format!("spark_{name}_tasks"));
        assert_eq!(localities.iter().map(local).sum::<f64>(), number(row, "tasks"));
    }
    // Ten tasks and the rest of each process.
    assert_eq!(report["completeness"]["file_open_calls"], serde_json::json!([12, 0, 0]));
    assert_eq!(report["completeness"]["spark_cpu_time_ns"], serde_json::json!([10, 0, 0]));
    let known = report["completeness"]["instructions"].as_array().unwrap();
    assert_eq!(known.iter().map(|parts| parts.as_u64().unwrap()).sum::<u64>(), 12);
    let outside = rows(&report).iter().find(|row| row["part"] == "outside tasks").unwrap();
    assert_eq!(outside["completeness"]["instructions"], serde_json::json!([1, 1, 0]));
    assert_eq!(outside["completeness"]["file_open_calls"], Value::Null, "all of it is known");
    assert_eq!(report["overhead"]["record_files"], 2);
    let files = fs::read_dir(folder.path().join("records")).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(report["overhead"]["record_bytes"], bytes);
    assert_eq!(report["overhead"]["cpu_ns"], Value::Null);
    let (table, _) = expect(folder.path(), 0, &["report", "--figures", "all"]);
    assert!(table.contains("Ratios") && table.contains("barr/1k"), "{table}");
    assert!(table.contains("in 2 record files"), "{table}");
}

/// CSV, JSON and Parquet hold the same rows; a file appears whole.
#[test]
fn every_format_holds_the_same_figures() {
    let folder = stored(executors());
    let by = ["--by", "node,thread,job,stage"];
    let json = report(folder.path(), &by);
    for (format, file) in [("csv", "rows.csv"), ("parquet", "rows.parquet")] {
        let mut arguments =
            vec!["report", "--format", format, "--output", file, "--figures", "all"];
        arguments.extend(by);
        let (printed, _) = expect(folder.path(), 0, &arguments);
        assert_eq!(printed, "", "{format}");
    }
    let file = fs::File::open(folder.path().join("rows.parquet")).unwrap();
    let frame = ParquetReader::new(file).finish().unwrap();
    assert_eq!(frame.height(), rows(&json).len());
    let csv = fs::read_to_string(folder.path().join("rows.csv")).unwrap();
    let mut lines = csv.split_terminator("\r\n");
    let heads: Vec<_> = lines.next().unwrap().split(',').collect();
    let names: Vec<_> = frame.get_column_names().iter().map(|name| name.as_str()).collect();
    assert_eq!(heads, names);
    for ((at, row), line) in rows(&json).iter().enumerate().zip(lines) {
        for (name, cell) in
            heads.iter().zip(line.split(',')).filter(|(name, _)| **name != "at_least")
        {
            let expected = match &row[*name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                number => number.to_string(),
            };
            assert_eq!(cell, expected, "{name} in CSV");
            let value = frame.column(name).unwrap().get(at).unwrap();
            let value = match value {
                AnyValue::Null => String::new(),
                AnyValue::String(text) => text.to_owned(),
                number => number_text(&number),
            };
            assert_eq!(value, expected, "{name} in Parquet");
        }
    }
    // Without a choice: who it is, and what matters most.
    let (csv, _) = expect(folder.path(), 0, &["report", "--format", "csv"]);
    let heads: Vec<_> = csv.lines().next().unwrap().split(',').collect();
    assert_eq!(heads.len(), 6 + 10 + 1, "{heads:?}");
    assert!(csv.contains(",word count,0,0,csv: scan text text.txt > explode"), "{csv}");
    let refused = fixture::analyzer(folder.path(), &["report", "--output", "no/such/folder.json"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains(".new-")), "{left:?}");
}

#[test]
fn spark_figures_stand_beside_ours() {
    let folder = stored(executors());
    // Spark's sums, taken from the log's lines without our reader.
    let events = logged();
    let of_kind = |kind: &'static str| events.iter().filter(move |event| event["Event"] == kind);
    let ends: Vec<_> = of_kind("SparkListenerTaskEnd").collect();
    let expect_sum = |stage: Option<i64>, path: &[&str]| -> u64 {
        let of_stage = |event: &&&Value| stage.is_none_or(|stage| event["Stage ID"] == stage);
        let value = |event: &&Value| {
            path.iter().fold(&event["Task Metrics"], |value, key| &value[*key]).as_u64().unwrap()
        };
        ends.iter().filter(of_stage).map(value).sum()
    };
    let report = report(folder.path(), &["--by", "stage"]);
    let stages: Vec<_> = rows(&report).iter().filter_map(|row| row["stage"].as_i64()).collect();
    assert_eq!(stages, [0, 2, 4, 7]);
    for (row, stage) in rows(&report).iter().zip(stages.into_iter().map(Some)) {
        for (figure, path) in [
            ("spark_run_time_ms", &["Executor Run Time"][..]),
            ("spark_cpu_time_ns", &["Executor CPU Time"]),
            ("spark_gc_time_ms", &["JVM GC Time"]),
            ("spark_shuffle_write_bytes", &["Shuffle Write Metrics", "Shuffle Bytes Written"]),
            ("spark_shuffle_read_records", &["Shuffle Read Metrics", "Total Records Read"]),
            ("spark_input_bytes", &["Input Metrics", "Bytes Read"]),
            ("spark_output_records", &["Output Metrics", "Records Written"]),
            ("spark_memory_spilled_bytes", &["Memory Bytes Spilled"]),
        ] {
            assert_eq!(row[figure], expect_sum(stage, path), "{stage:?} {figure}");
        }
    }
    let outside = rows(&report).last().unwrap();
    assert_eq!(outside["part"], "outside tasks");
    assert_eq!(outside["spark_cpu_time_ns"], Value::Null);
    assert_eq!(report["total"]["spark_cpu_time_ns"], expect_sum(None, &["Executor CPU Time"]));
    let name = "csv: scan text text.txt > explode > filter > partial aggregate > exchange";
    assert_eq!(report["stages"][0]["name"], name);
    // The graph: jobs, their stages, and what these read.
    let (jobs, stages) = (report["jobs"].as_array().unwrap(), report["stages"].as_array().unwrap());
    assert_eq!(jobs.len(), of_kind("SparkListenerJobStart").count());
    for event in of_kind("SparkListenerStageCompleted") {
        let info = &event["Stage Info"];
        let found = stages.iter().find(|one| one["stage"] == info["Stage ID"]).unwrap();
        assert_eq!(found["parents"], info["Parent IDs"]);
        let job = jobs.iter().find(|one| one["job"] == found["job"]).unwrap();
        assert!(job["stages"].as_array().unwrap().contains(&info["Stage ID"]), "{job}");
    }
}

#[test]
fn tables_fit_80_columns() {
    let folder = tempfile::tempdir().unwrap();
    for writer in executors() {
        writer.save(&folder.path().join("records"));
    }
    let logs = data("eventlogs");
    expect(folder.path(), 0, &["ingest", "records", "--event-log", text(&logs)]);
    for by in [
        "app",
        "node",
        "executor",
        "process",
        "stage",
        "task",
        "node,stage",
        "app,node,executor,task",
    ] {
        for app in [APPLICATION, "app-20261121034638-0001"] {
            let (table, _) = expect(folder.path(), 0, &["report", "--by", by, "--app", app]);
            for line in table.lines() {
                assert!(line.chars().count() <= 80, "{by}: {line}");
            }
        }
    }
}

#[test]
fn spreads_over_tasks() {
    let folder = stored(executors());
    let report = report(folder.path(), &["--spread"]);
    let of = |measure: &str| {
        let all = report["spreads"].as_array().unwrap();
        all.iter().find(|one| one["measure"] == measure && one["stage"] == 0).cloned()
    };
    // Stage 0 has the TIDs 0 to 6, and a task takes TID + 1 steps of what all metrics advance by.
    let calls = of("syscall_calls").unwrap();
    let step = calls["points"][0].as_u64().unwrap();
    let points: Vec<_> = calls["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one.as_u64().unwrap() / step)
        .collect();
    assert_eq!(points, [1, 2, 4, 6, 7, 7]);
    assert_eq!((&calls["known"], &calls["unknown"]), (&Value::from(7), &Value::from(0)));
    assert_eq!(calls["skew"], 1.75);
    assert_eq!(calls["stragglers"], serde_json::json!([[6, 7 * step]]));
    assert_eq!(of("instructions"), None, "not counted");
    let slow: Vec<_> = of("duration_ms").unwrap()["stragglers"].as_array().unwrap().clone();
    assert!(!slow.is_empty(), "the first tasks of each executor took far longer");
    let (table, _) = expect(folder.path(), 0, &["report", "--spread"]);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.contains("stragglers: task 6 ("), "{table}");
    let (markdown, _) = expect(folder.path(), 0, &["report", "--format", "markdown"]);
    let rows: Vec<_> = markdown.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 2 + 5);
    assert!(rows.iter().all(|row| row.matches('|').count() == rows[0].matches('|').count()));
}

/// Spark 4 calls the stages of SQL queries after its own code: the query's plan says more.
#[test]
fn stages_of_queries_are_called_after_their_operators() {
    let folder = tempfile::tempdir().unwrap();
    expect(folder.path(), 0, &["ingest", "--event-log", text(&rolling_event_log())]);
    let report = report(folder.path(), &[]);
    let names: Vec<_> =
        report["stages"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(
        names,
        [
            "csv: scan csv joinmovies.csv > filter > broadcast",
            "csv: scan csv joinratings.csv > filter > broadcast hash join > explode > partial aggregate > exchange",
            "csv: read exchange > aggregate > sample",
            "csv: read exchange > aggregate > exchange by range",
            "csv: read exchange > sort > write genres",
        ]
    );
}
