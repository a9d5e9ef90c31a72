//! Ingest and report: what goes in comes out, reconciled, whatever the order.

mod fixture;

use std::fs;

use fixture::{
    APPLICATION, TASKS, Writer, contents, counters, data, event_log, executors,
    executors_with_engine, expect, report, rolling_event_log,
};
use polars::prelude::{AnyValue, ParquetReader, SerReader};
use records::{Event, Flags, METRICS, MetricSet, TaskId, TaskMethod, TaskOutcome};
use serde_json::Value;

fn text(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

fn rows(report: &Value) -> &Vec<Value> {
    report["rows"].as_array().unwrap()
}

fn number_text(value: &AnyValue<'_>) -> String {
    match value {
        AnyValue::UInt64(number) => number.to_string(),
        AnyValue::Int64(number) => number.to_string(),
        AnyValue::Float64(number) => Value::from(*number).to_string(),
        other => panic!("{other:?}"),
    }
}

/// Sum over rows; null counts as nothing.
fn sum(report: &Value, figure: &str) -> u64 {
    rows(report).iter().filter_map(|row| row[figure].as_u64()).sum()
}

#[test]
fn rows_reconcile_with_process_totals() {
    let folder = tempfile::tempdir().unwrap();
    for writer in executors() {
        writer.save(&folder.path().join("records"));
    }
    expect(folder.path(), 0, &["ingest", "records", "--event-log", text(&event_log())]);
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

#[test]
fn jobs_threads_and_times_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    for writer in executors() {
        writer.save(&folder.path().join("records"));
    }
    expect(folder.path(), 0, &["ingest", "records", "--event-log", text(&event_log())]);
    // Jobs, as the log's lines say which stages they run: each stage of this log ran in the first one.
    let log = fs::read_to_string(event_log()).unwrap();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
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
    let folder = tempfile::tempdir().unwrap();
    for mut writer in executors_with_engine() {
        // The engine lost one thread of executor 0 for a while.
        if writer.executor == "0" {
            writer.put(0, Flags::WAS_RELEASED | Flags::FINAL, &Event::Snapshot, None);
        }
        writer.save(&folder.path().join("records"));
    }
    expect(folder.path(), 0, &["ingest", "records", "--event-log", text(&event_log())]);
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
    let (table, _) = expect(folder.path(), 0, &["report"]);
    assert!(table.contains("Ratios") && table.contains("barr/1k"), "{table}");
    assert!(table.contains("in 2 record files"), "{table}");
}

/// CSV, JSON and Parquet hold the same rows; a file appears whole.
#[test]
fn every_format_holds_the_same_figures() {
    let folder = tempfile::tempdir().unwrap();
    for writer in executors() {
        writer.save(&folder.path().join("records"));
    }
    expect(folder.path(), 0, &["ingest", "records", "--event-log", text(&event_log())]);
    let by = ["--by", "node,thread,job,stage"];
    let json = report(folder.path(), &by);
    for (format, file) in [("csv", "rows.csv"), ("parquet", "rows.parquet")] {
        let mut arguments = vec!["report", "--format", format, "--output", file];
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
    let refused = fixture::analyzer(folder.path(), &["report", "--output", "no/such/folder.json"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains(".new-")), "{left:?}");
}

#[test]
fn spark_figures_stand_beside_ours() {
    let folder = tempfile::tempdir().unwrap();
    for writer in executors() {
        writer.save(&folder.path().join("records"));
    }
    expect(folder.path(), 0, &["ingest", "records", "--event-log", text(&event_log())]);
    // Spark's sums, taken from the log's lines without our reader.
    let log = fs::read_to_string(event_log()).unwrap();
    let events: Vec<Value> =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
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
    assert_eq!(report["stages"][0]["name"], "csv at NativeMethodAccessorImpl.java:0");
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
fn a_killed_executor_reconciles_with_its_last_records() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new("killed", "executor", "n", "0");
    writer.segment();
    writer.put(100, Flags::NONE, &Event::ThreadStart { name: b"java" }, None);
    writer.put(0, Flags::NONE, &Event::Snapshot, Some(counters(5)));
    // After the last total, a task ended and another one began.
    writer.start(101, 0, 0, 1).end(101, 0, 0, 41);
    writer.start(101, 1, 0, 42);
    writer.put(101, Flags::NONE, &Event::Snapshot, Some(counters(50)));
    writer.save(&folder.path().join("records"));
    expect(folder.path(), 0, &["ingest", "records"]);
    let report = report(folder.path(), &["--by", "task", "--columns", "file_open_calls,tasks"]);
    let index = records::metric::by_name("file_open_calls").unwrap() as u64 + 1;
    let calls: Vec<_> = rows(&report).iter().map(|row| row["file_open_calls"].as_u64()).collect();
    assert_eq!(calls, [Some(40 * index), Some(8 * index), Some(2 * index)]);
    assert_eq!(report["process_totals"]["file_open_calls"], 50 * index);
    let notes = report["notes"].to_string();
    assert!(notes.contains("1 recorded task attempts had not ended"), "{notes}");
    assert!(notes.contains("run still or were killed"), "{notes}");
    assert!(notes.contains("no event log of app-20261121034702-0000"), "{notes}");
}

#[test]
fn what_the_engine_did_not_count_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let task = |writer: &mut Writer, tid: u32, task: i64, from: u64, to: u64, end_flags: Flags| {
        let start = Event::TaskStart(TaskId { stage: 0, task_id: task, ..Default::default() });
        let followed =
            end_flags.contains(Flags::FOLLOWED) || end_flags.contains(Flags::WAS_RELEASED);
        let flags = if followed { Flags::FOLLOWED } else { Flags::NONE };
        writer.put(tid, flags, &start, Some(counters(from)));
        let end = Event::TaskEnd {
            task: TaskId { stage: 0, task_id: task, ..Default::default() },
            outcome: TaskOutcome::RETURNED,
        };
        writer.put(tid, end_flags, &end, Some(counters(to)));
    };
    let mut writer = Writer::new("engine", "executor", "n", "0");
    writer.metrics = MetricSet::ALL;
    writer.segment();
    task(&mut writer, 101, 0, 0, 10, Flags::FOLLOWED);
    task(&mut writer, 102, 1, 0, 20, Flags::WAS_RELEASED);
    task(&mut writer, 103, 2, 0, 0, Flags::NONE);
    writer.put(0, Flags::WAS_RELEASED | Flags::FINAL, &Event::Snapshot, Some(counters(30)));
    writer.save(&folder.path().join("records"));
    expect(folder.path(), 0, &["ingest", "records"]);
    let by_task = report(folder.path(), &["--by", "task"]);
    let said: Vec<_> = rows(&by_task)
        .iter()
        .map(|row| {
            let bounds = row["at_least"].as_array().unwrap();
            (row["instructions"].as_u64(), bounds.contains(&Value::from("instructions")))
        })
        .collect();
    // Exact, a lower bound, unknown, and the rest of the process: at least zero, so unknown.
    assert_eq!(said, [(Some(10), false), (Some(20), true), (None, false), (None, false)]);
    let by_stage = report(folder.path(), &["--by", "stage"]);
    assert_eq!(rows(&by_stage)[0]["instructions"], 30);
    assert!(rows(&by_stage)[0]["at_least"].to_string().contains("instructions"));
    let (table, _) = expect(folder.path(), 0, &["report", "--by", "task"]);
    assert!(table.contains("20+") && table.contains("+ = at least"), "{table}");
    let (csv, _) = expect(
        folder.path(),
        0,
        &["report", "--by", "task", "--format", "csv", "--columns", "instructions"],
    );
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "application_id,executor_id,stage,stage_attempt,task_id,part,instructions,at_least"
    );
    assert_eq!(lines[2], format!("{APPLICATION},0,0,,1,tasks,20,instructions"));
    assert_eq!(lines[3], format!("{APPLICATION},0,0,,2,tasks,,"));
}

#[test]
fn other_roles_are_left_out_and_named() {
    let folder = tempfile::tempdir().unwrap();
    for writer in executors() {
        writer.save(&folder.path().join("records"));
    }
    for (name, role) in [("driver", "driver"), ("shell", "other"), ("launcher", "other")] {
        Writer::new(name, role, "127.0.0.1", "")
            .segment()
            .finish(7)
            .save(&folder.path().join("records"));
    }
    expect(folder.path(), 0, &["ingest", "records"]);
    let executors_only = report(folder.path(), &["--by", "node"]);
    let notes = executors_only["notes"].to_string();
    assert!(notes.contains("processes of role 1 driver, 2 other"), "{notes}");
    let all = report(folder.path(), &["--by", "node", "--roles", "all"]);
    let calls = |report: &Value| report["total"]["file_open_calls"].as_u64().unwrap();
    let index = records::metric::by_name("file_open_calls").unwrap() as u64 + 1;
    assert_eq!(calls(&all) - calls(&executors_only), 3 * 7 * index);
    let driver = report(folder.path(), &["--by", "process", "--roles", "driver"]);
    assert_eq!(rows(&driver).len(), 1);
}

#[test]
fn a_local_mode_driver_is_an_executor_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut driver = Writer::new("local", "driver", "laptop", "");
    driver.segment();
    let id = TaskId {
        stage: 3,
        task_id: 5,
        application_id: b"local-1",
        executor_id: b"driver",
        ..Default::default()
    };
    driver.put(7, Flags::NONE, &Event::TaskStart(id), Some(counters(1)));
    let end = Event::TaskEnd { task: id, outcome: TaskOutcome::RETURNED };
    driver.put(7, Flags::NONE, &end, Some(counters(3)));
    driver.finish(4);
    driver.save(&folder.path().join("records"));
    expect(folder.path(), 0, &["ingest", "records"]);
    let report = report(folder.path(), &["--by", "executor,stage"]);
    assert_eq!(rows(&report)[0]["application_id"], "local-1");
    assert!(folder.path().join("sparkanalyzer-store/tasks/app=local-1").exists());
    assert_eq!(rows(&report)[0]["executor_id"], "driver");
    assert_eq!(rows(&report)[0]["stage"], 3);
    assert_eq!(rows(&report)[1]["part"], "outside tasks");
}

#[test]
fn threads_that_a_task_has_started_add_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new("threads", "executor", "n", "0");
    let of_task = |outcome: Option<TaskOutcome>| {
        let method = TaskMethod::TASK_THREAD;
        let task = TaskId { stage: 2, task_id: 7, method, ..TaskId::default() };
        match outcome {
            Some(outcome) => Event::TaskEnd { task, outcome },
            None => Event::TaskStart(task),
        }
    };
    let ended = of_task(Some(TaskOutcome::UNKNOWN));
    writer.segment().start(101, 7, 2, 10);
    for (thread, until_end, in_all) in [(102, 5, 5), (103, 7, 20)] {
        writer.put(thread, Flags::NONE, &Event::ThreadStart { name: b"started" }, None);
        writer.put(thread, Flags::NONE, &of_task(None), Some(counters(0)));
        writer.put(thread, Flags::NONE, &ended, Some(counters(until_end)));
        writer.put(thread, Flags::FINAL, &Event::ThreadEnd, Some(counters(in_all)));
    }
    writer.end(101, 7, 2, 40).finish(40 + 5 + 20);
    writer.save(&folder.path().join("records"));
    expect(folder.path(), 0, &["ingest", "records"]);
    let index = records::metric::by_name("file_read_bytes").unwrap() as u64;
    let steps = |row: &Value| row["file_read_bytes"].as_u64().unwrap() / (index + 1);
    for by in ["task", "stage", "executor", "thread", "time"] {
        let report = report(folder.path(), &["--by", by]);
        assert_eq!((&report["total"]["tasks"], steps(&report["total"])), (&1.into(), 65), "{by}");
        let in_tasks = rows(&report).iter().filter(|row| row["part"] == "tasks").map(steps);
        assert_eq!(in_tasks.sum::<u64>(), 30 + 5 + 7, "{by}: {report}");
        assert_eq!(sum(&report, "file_read_bytes"), 65 * (index + 1), "{by}: {report}");
        assert_eq!(report["notes"].as_array().unwrap().len(), 1, "only that there is no event log");
    }
}

/// Tasks 7 and 8 of a stage's second attempt: the first used Python in two workers, the second in none.
#[test]
fn python_workers_add_to_the_tasks_that_they_serve() {
    let folder = tempfile::tempdir().unwrap();
    let mut executor = Writer::new("jvm", "executor", "n", "0");
    executor.metrics = MetricSet::ALL;
    executor.flags = Flags::FOLLOWED;
    executor.segment();
    for (thread, task) in [(101, 7), (102, 8)] {
        let id = TaskId { stage: 2, stage_attempt: 1, task_id: task, ..TaskId::default() };
        executor.put(thread, Flags::FOLLOWED, &Event::TaskStart(id), Some(counters(10)));
        let end = Event::TaskEnd { task: id, outcome: TaskOutcome::RETURNED };
        executor.put(thread, Flags::FOLLOWED, &end, Some(counters(40)));
    }
    executor.finish(80);
    let worker = |name: &str, steps: [u64; 2]| {
        let mut python = Writer::new(name, "python_worker", "n", "0");
        python.application = executor.application;
        python.metrics = MetricSet::ALL;
        python.flags = Flags::FOLLOWED;
        python.segment().served(100, 7, 2, steps).finish(steps[1] + 6);
        python
    };
    let records = folder.path().join("records");
    for writer in [&executor, &worker("one", [4, 9]), &worker("two", [5, 12])] {
        writer.save(&records);
    }
    expect(folder.path(), 0, &["ingest", "records"]);
    for by in ["stage", "task", "executor", "process", "thread"] {
        let report = report(folder.path(), &["--by", by]);
        let total = &report["total"];
        assert_eq!((&total["tasks"], &total["instructions"]), (&2.into(), &113.into()), "{by}");
        assert_eq!(total["python_instructions"], 5 + 7, "{by}: {report}");
        let in_tasks = rows(&report).iter().filter(|row| row["part"] == "tasks");
        let in_tasks: u64 = in_tasks.map(|row| row["instructions"].as_u64().unwrap()).sum();
        assert_eq!(in_tasks, 30 + 30 + 5 + 7, "{by}: {report}");
        assert_eq!(sum(&report, "instructions"), 113, "{by}: {report}");
        let notes = report["notes"].to_string();
        assert!(notes.contains("2 records of Python workers add to their tasks"), "{notes}");
    }
    let by_task = report(folder.path(), &["--by", "task"]);
    let told: Vec<_> = rows(&by_task)
        .iter()
        .filter(|row| row["part"] == "tasks")
        .map(|row| {
            ["task_id", "stage", "stage_attempt", "instructions", "python_instructions"]
                .map(|key| row[key].as_i64())
        })
        .collect();
    let expected = [[7, 2, 1, 42, 12].map(Some), [Some(8), Some(2), Some(1), Some(30), None]];
    assert_eq!(told, expected, "a worker does not know the stage's attempt, the task does");
}

#[test]
fn a_task_over_two_segments_is_one_task() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new("rotated", "executor", "n", "0");
    writer.segment().start(101, 0, 0, 10);
    writer.segment();
    writer.put(101, Flags::FIRST_OF_SEGMENT, &Event::Snapshot, Some(counters(15)));
    writer.put(0, Flags::FIRST_OF_SEGMENT, &Event::Snapshot, Some(counters(15)));
    writer.end(101, 0, 0, 30).finish(31);
    writer.save(&folder.path().join("records"));
    expect(folder.path(), 0, &["ingest", "records"]);
    let whole = report(folder.path(), &["--by", "task"]);
    assert_eq!(rows(&whole)[0]["pipe_open_calls"].as_u64().unwrap() % 20, 0);
    assert_eq!(whole["total"]["tasks"], 1);
    // Without the first segment it is known that the task ran, not what it did; totals hold.
    fs::remove_file(folder.path().join("records").join(writer.file(0))).unwrap();
    expect(folder.path(), 0, &["ingest", "records", "--store", "second"]);
    let late = report(folder.path(), &["--by", "task", "--store", "second"]);
    assert_eq!(rows(&late)[0]["pipe_open_calls"], Value::Null);
    assert_eq!(
        late["process_totals"]["pipe_open_calls"],
        whole["process_totals"]["pipe_open_calls"]
    );
    assert_eq!(sum(&late, "pipe_open_calls"), whole["total"]["pipe_open_calls"].as_u64().unwrap());
    let notes = late["notes"].to_string();
    assert!(notes.contains("1 record files are missing"), "{notes}");
    assert!(notes.contains("lack their start record"), "{notes}");
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
fn spreads_over_tasks() {
    let folder = tempfile::tempdir().unwrap();
    for writer in executors() {
        writer.save(&folder.path().join("records"));
    }
    expect(folder.path(), 0, &["ingest", "records", "--event-log", text(&event_log())]);
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

/// Spark 4 calls the stages of SQL queries after its own code: then the query's description says more.
#[test]
fn stages_of_spark_4_have_names() {
    let folder = tempfile::tempdir().unwrap();
    expect(folder.path(), 0, &["ingest", "--event-log", text(&rolling_event_log())]);
    let report = report(folder.path(), &[]);
    let names: Vec<_> =
        report["stages"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["csv at NativeMethodAccessorImpl.java:0"; 5]);
}
