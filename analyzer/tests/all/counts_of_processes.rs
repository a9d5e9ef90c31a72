//! What each kind of process and each way to end adds to the counts of tasks and of what lies outside.

use std::fs;

use crate::fixture::{APPLICATION, Writer, counters, executors, expect, report, rows, sum};
use records::{Event, Flags, MetricSet, TaskId, TaskMethod, TaskOutcome};
use serde_json::Value;

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
        "application_id,application_name,executor_id,stage,stage_attempt,stage_name,task_id,part,instructions,at_least"
    );
    assert_eq!(lines[2], format!("{APPLICATION},,0,0,,,1,tasks,20,instructions"));
    assert_eq!(lines[3], format!("{APPLICATION},,0,0,,,2,tasks,,"));
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
