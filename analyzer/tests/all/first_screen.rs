//! The first screen, what it finds, and choosing applications, figures and rows.

use std::fs;
use std::path::Path;

use crate::fixture::{
    APPLICATION, Writer, data, event_log, executors, executors_with_engine, expect, report, rows,
    text,
};
use records::{Flags, MetricSet};
use serde_json::{Value, json};

fn stored(at: &Path) {
    for writer in executors_with_engine() {
        writer.save(&at.join("records"));
    }
    expect(
        at,
        0,
        &["ingest", "records", "--event-log", text(&data("eventlogs").join(APPLICATION))],
    );
}

#[test]
fn without_options_the_newest_application_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    stored(at);
    let other = data("eventlogs/eventlog_v2_app-20261121034638-0001");
    expect(at, 0, &["ingest", "--event-log", text(&other)]);
    let (screen, _) = expect(at, 0, &["report"]);
    for part in [
        "word count (app-20261121034702-0000)",
        "user root, Spark 3.5.9, 2026-11-21 03:47:01 UTC, 12.5s wall, finished",
        "2 executors, 2 cores, 4 stages, 10 tasks",
        "Findings",
        "text.txt>",
        "write words",
        "1 other application",
    ] {
        assert!(screen.contains(part), "{part}\n{screen}");
    }
    assert!(screen.lines().count() < 50, "one screen: {screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    // The names of the stages tell them apart.
    let lines: Vec<_> = screen.lines().skip_while(|line| !line.starts_with("stage ")).collect();
    let names: std::collections::BTreeSet<_> =
        lines[1..5].iter().map(|line| &line[2..22]).collect();
    assert_eq!(names.len(), 4, "{screen}");
    // What a stage cost is what its row says.
    let json = report(at, &["--app", APPLICATION]);
    let first = &rows(&json)[0];
    assert!(lines[1].contains(&format!(" {} ", first["instructions"])), "{} {first}", lines[1]);
    // By name, pattern, and as the latest: the same.
    for app in ["word count", "word*", "*034702*", APPLICATION] {
        let (same, _) = expect(at, 0, &["report", "--app", app]);
        assert_eq!(same, screen, "{app}");
    }
    let (_, error) = expect(at, 3, &["report", "--app", "words"]);
    assert!(error.contains("rating per genre"), "{error}");
    let (apps, _) = expect(at, 0, &["apps"]);
    let ids: Vec<_> = apps.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(ids, [APPLICATION, "app-20261121034638-0001"], "the newest first");
    let (apps, _) = expect(at, 0, &["apps", "--format", "json"]);
    let apps: Value = serde_json::from_str(&apps).unwrap();
    assert_eq!(apps["applications"][0]["tasks"], 10);
    assert_eq!(
        apps["applications"][0]["instructions"],
        json["rows"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["part"] == "tasks")
            .map(|row| row["instructions"].as_u64().unwrap())
            .sum::<u64>()
    );
}

#[test]
fn figures_rows_and_their_order_are_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    stored(at);
    let (main, _) = expect(at, 0, &["report", "--by", "stage"]);
    assert!(main.contains("instrs") && !main.contains("barriers"), "{main}");
    let (memory, _) = expect(at, 0, &["report", "--figures", "memory"]);
    assert!(memory.contains("barriers") && !memory.contains("sock in"), "{memory}");
    let tasks = report(
        at,
        &["--by", "task", "--where", "stage=0 and instructions>4", "--sort", "instructions"],
    );
    let ids: Vec<_> = rows(&tasks).iter().map(|row| row["task_id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [6, 5, 4], "TID + 1 instructions each");
    assert!(
        tasks["notes"][0].as_str().unwrap().contains("rows are not shown"),
        "{}",
        tasks["notes"]
    );
    let least = report(
        at,
        &["--by", "task", "--where", "part=tasks", "--sort", "-instructions", "--top", "2"],
    );
    let ids: Vec<_> = rows(&least).iter().map(|row| row["task_id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [0, 1]);
    let named = report(at, &["--where", "name~'write words'"]);
    assert_eq!((rows(&named).len(), &rows(&named)[0]["stage"]), (1, &7.into()));
    let (_, error) = expect(at, 2, &["report", "--where", "instructoins>1"]);
    assert!(error.contains("did you mean \"instructions\""), "{error}");
    // Times are figures like the others.
    let wall = report(at, &["--by", "app", "--where", "spark_wall_ms>0"]);
    let ends: Vec<Value> = fs::read_to_string(event_log())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["Event"] == "SparkListenerTaskEnd")
        .collect();
    let of = |name: &str| {
        ends.iter().map(|event| event["Task Info"][name].as_i64().unwrap()).collect::<Vec<_>>()
    };
    let (first, last) = (of("Launch Time").into_iter().min(), of("Finish Time").into_iter().max());
    assert_eq!(rows(&wall)[0]["spark_wall_ms"].as_i64(), Some(last.unwrap() - first.unwrap()));
    assert_eq!(rows(&wall)[0]["spark_first_launch_ms"].as_i64(), first);
    let (figures, _) = expect(at, 0, &["figures", "spark_wall"]);
    assert!(figures.contains("from the first task's launch to the last one's finish"), "{figures}");
    let (rules, _) = expect(at, 0, &["figures", "--rules", "--format", "json"]);
    assert!(serde_json::from_str::<Value>(&rules).unwrap().as_array().unwrap().len() >= 19);
}

/// A row per query, and its plan: operators with the stages that ran them, as the log's numbers of metrics say.
#[test]
fn queries_have_rows_and_plans() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    stored(at);
    let by_query = report(at, &["--by", "query"]);
    let of_query: Vec<_> = rows(&by_query).iter().filter(|row| row["part"] == "tasks").collect();
    assert_eq!(
        (of_query.len(), &of_query[0]["query"], &of_query[0]["tasks"]),
        (1, &0.into(), &10.into())
    );
    let (plans, _) = expect(at, 0, &["report", "--plan", "--format", "json"]);
    let plans: Value = serde_json::from_str(&plans).unwrap();
    let operators = plans["queries"][0]["operators"].as_array().unwrap();
    let of = |node: &str| {
        operators
            .iter()
            .filter(|one| one["node"].as_str().unwrap().trim() == node)
            .collect::<Vec<_>>()
    };
    // The sums that the log's stages end with.
    let scan = of("Scan text")[0];
    assert_eq!(
        (&scan["stages"], &scan["rows"], &scan["bytes"]),
        (&json!([[0, 0]]), &224_833.into(), &27_129_216.into())
    );
    let written: Vec<_> = of("Exchange").iter().map(|one| one["stages"].clone()).collect();
    assert_eq!(written, [json!([[4, 0], [7, 0]]), json!([[0, 0], [2, 0], [4, 0]])]);
    assert_eq!(of("Sort")[0]["stages"], json!([[7, 0]]));
    let (table, _) = expect(at, 0, &["report", "--plan"]);
    assert!(table.contains("query 0: csv at") && table.contains("partial aggregate"), "{table}");
    expect(at, 2, &["report", "--plan", "--format", "csv"]);
}

/// The legend stands where the total alone lacks a part.
#[test]
fn signs_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    executors()[0].save(&at.join("records"));
    let [_, mut counted] = executors_with_engine();
    counted.process[0] = b'E';
    counted.retold().save(&at.join("records"));
    expect(at, 0, &["ingest", "records"]);
    let (table, _) = expect(at, 0, &["report", "--by", "executor", "--columns", "instructions"]);
    assert!(
        table.contains("+ = at least: a part is unknown.") && table.contains("- = unknown."),
        "{table}"
    );
}

/// What an event log says of a task, beside its records.
struct Task {
    id: i64,
    stage: i64,
    executor: &'static str,
    start: i64,
    ms: i64,
    records: u64,
    instructions: u64,
    failed: bool,
}

/// An application of two executors with one core each, and what `report` finds in it.
fn found(tasks: &[Task], more: &[Value]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut log = String::new();
    let mut put = |event: &Value| log += &format!("{event}\n");
    put(
        &json!({"Event": "SparkListenerApplicationStart", "App Name": "job", "App ID": APPLICATION, "Timestamp": 0}),
    );
    for executor in ["1", "2"] {
        put(
            &json!({"Event": "SparkListenerExecutorAdded", "Timestamp": 0, "Executor ID": executor,
            "Executor Info": {"Host": format!("node-{executor}"), "Total Cores": 1}}),
        );
    }
    more.iter().for_each(&mut put);
    for task in tasks {
        put(
            &json!({"Event": "SparkListenerTaskEnd", "Stage ID": task.stage, "Stage Attempt ID": 0,
            "Task End Reason": {"Reason": if task.failed { "ExceptionFailure" } else { "Success" },
                "Class Name": "java.lang.IllegalStateException", "Description": "no luck"},
            "Task Info": {"Task ID": task.id, "Executor ID": task.executor, "Host": format!("node-{}", task.executor),
                "Launch Time": task.start, "Finish Time": task.start + task.ms, "Failed": task.failed, "Killed": false},
            "Task Metrics": {"Executor Run Time": task.ms - task.ms / 10, "JVM GC Time": 0,
                "Input Metrics": {"Bytes Read": task.records * 100, "Records Read": task.records},
                "Shuffle Read Metrics": {"Remote Bytes Read": 0, "Local Bytes Read": 0, "Total Records Read": 0,
                    "Fetch Wait Time": 0}}}),
        );
    }
    let end = tasks.iter().map(|task| task.start + task.ms).max().unwrap();
    put(&json!({"Event": "SparkListenerApplicationEnd", "Timestamp": end}));
    fs::write(at.join("log"), log).unwrap();
    for executor in ["1", "2"] {
        let node = if executor == "1" { "node-1" } else { "node-2" };
        let mut writer = Writer::new(&format!("executor {executor}"), "executor", node, executor);
        (writer.metrics, writer.flags) = (MetricSet::ALL, Flags::FOLLOWED);
        writer.segment();
        let mut steps = 0;
        for task in tasks.iter().filter(|task| task.executor == executor) {
            writer.start(101, task.id, task.stage as i32, steps);
            steps += task.instructions;
            writer.end(101, task.id, task.stage as i32, steps);
        }
        writer.finish(steps);
        writer.save(&at.join("records"));
    }
    expect(at, 0, &["ingest", "--quiet", "records", "--event-log", "log"]);
    report(at, &[])["findings"].as_array().unwrap().clone()
}

/// Tasks of one stage on two executors in turns: (ms, records, instructions).
fn stage(stage: i64, first_id: i64, tasks: &[(i64, u64, u64)]) -> Vec<Task> {
    let mut free = [10_000 * stage, 10_000 * stage];
    let place = |(at, (ms, records, instructions)): (usize, &(i64, u64, u64))| {
        let start = free[at % 2];
        free[at % 2] += ms;
        Task {
            id: first_id + at as i64,
            stage,
            executor: ["1", "2"][at % 2],
            start,
            ms: *ms,
            records: *records,
            instructions: *instructions,
            failed: false,
        }
    };
    tasks.iter().enumerate().map(place).collect()
}

fn rules(found: &[Value]) -> Vec<&str> {
    found.iter().map(|one| one["rule"].as_str().unwrap()).collect()
}

const LIKE: (i64, u64, u64) = (1000, 1000, 1_000_000);

#[test]
fn like_tasks_are_no_finding() {
    let found = found(&stage(0, 0, &[LIKE; 8]), &[]);
    assert_eq!(rules(&found), [""; 0], "{found:?}");
}

#[test]
fn skew_of_data_is_told_from_warm_up_and_from_a_slow_node() {
    // Task 6 has five times the records, executes five times as much, and takes five times as long.
    let mut tasks = [LIKE; 8];
    tasks[6] = (5000, 5000, 5_000_000);
    let skewed = found(&stage(0, 0, &tasks), &[]);
    assert_eq!(rules(&skewed), ["data_skew"], "{skewed:?}");
    assert_eq!((&skewed[0]["gain_ms"], &skewed[0]["stages"]), (&4000.into(), &json!([[0, 0]])));
    assert!(
        skewed[0]["evidence"].as_str().unwrap().starts_with("task 6 took 5.00s (median 1.00s)")
    );
    // Half of the partitions are empty, and one has nearly all.
    let mut tasks = [(1000, 0, 1_000_000); 8];
    (tasks[5], tasks[6], tasks[7]) =
        ((1100, 10, 1_100_000), (8000, 9000, 9_000_000), (1100, 10, 1_100_000));
    let skewed = found(&stage(0, 0, &tasks), &[]);
    assert_eq!(rules(&skewed), ["data_skew"], "{skewed:?}");
    // The first tasks of both executors execute five times as much for the same data.
    let mut tasks = [LIKE; 8];
    (tasks[0], tasks[1]) = ((5000, 1000, 5_000_000), (5000, 1000, 5_000_000));
    let warm = found(&stage(0, 0, &tasks), &[]);
    assert_eq!(rules(&warm), ["warm_up"], "{warm:?}");
    assert_eq!(warm[0]["gain_instructions"], 8_000_000);
    // Like work, but on one node it takes twice as long.
    let tasks: Vec<_> =
        (0..12).map(|at| if at % 2 == 1 { (2000, 1000, 1_000_000) } else { LIKE }).collect();
    let slow = found(&stage(0, 0, &tasks), &[]);
    assert_eq!(rules(&slow), ["slow_node"], "{slow:?}");
    assert!(slow[0]["evidence"].as_str().unwrap().starts_with("node node-2: stage 0:"), "{slow:?}");
}

#[test]
fn what_failed_tasks_executed_is_told() {
    let mut tasks = stage(0, 0, &[LIKE; 8]);
    tasks[5].failed = true;
    let found = found(&tasks, &[]);
    assert_eq!(rules(&found), ["wasted_work"], "{found:?}");
    assert_eq!(found[0]["gain_instructions"], 1_000_000);
    let evidence = found[0]["evidence"].as_str().unwrap();
    assert!(
        evidence.contains("task: 1 failed took 1.00s")
            && evidence.contains("IllegalStateException: no luck"),
        "{evidence}"
    );
}

/// Real jobs: one that has a skewed key, computes the same twice and reads small files, and one that does the same work without.
#[test]
fn real_jobs_show_what_is_wrong_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let found = |job: &str| {
        let log = data("eventlogs").join(format!("{job}.zstd"));
        expect(at, 0, &["ingest", "--quiet", "--store", job, "--event-log", text(&log)]);
        report(at, &["--store", job])["findings"].as_array().unwrap().clone()
    };
    let (troubled, calm) = (found("troubled"), found("calm"));
    for rule in ["data_skew", "recomputation", "small_files"] {
        assert!(rules(&troubled).contains(&rule), "{rule}: {troubled:?}");
        assert!(!rules(&calm).contains(&rule), "{rule}: {calm:?}");
    }
    let again = troubled.iter().find(|one| one["rule"] == "recomputation").unwrap();
    assert_eq!(again["stages"], json!([[6, 0], [9, 0]]));
    let files = troubled.iter().find(|one| one["rule"] == "small_files").unwrap();
    assert!(files["evidence"].as_str().unwrap().contains("scans 120 files"), "{files}");
}

/// Two jobs count the same RDD, which nobody keeps; the third has it kept.
#[test]
fn the_same_lineage_again_is_recomputation() {
    let job = |job: i64, stage: i64, is_cached: bool| {
        let rdd = |id: i64, parents: &[i64], is_cached: bool| {
            json!({"RDD ID": id, "Name": "MapPartitionsRDD", "Callsite": "map at Main.scala:7", "Parent IDs": parents,
                "Storage Level": {"Use Disk": false, "Use Memory": is_cached, "Use Off Heap": false}})
        };
        let rdds = [rdd(0, &[], false), rdd(1, &[0], is_cached), rdd(10 + job, &[1], false)];
        let info = json!({"Stage ID": stage, "Stage Attempt ID": 0, "Stage Name": "count at Main.scala:9",
            "Number of Tasks": 8, "Parent IDs": [], "RDD Info": rdds});
        vec![
            json!({"Event": "SparkListenerJobStart", "Job ID": job, "Stage IDs": [stage], "Submission Time": stage * 10_000}),
            json!({"Event": "SparkListenerStageCompleted", "Stage Info": info}),
        ]
    };
    let tasks =
        || stage(0, 0, &[LIKE; 8]).into_iter().chain(stage(1, 8, &[LIKE; 8])).collect::<Vec<_>>();
    let again = found(&tasks(), &[job(0, 0, false), job(1, 1, false)].concat());
    assert_eq!(rules(&again), ["recomputation"], "{again:?}");
    assert_eq!(again[0]["stages"], json!([[0, 0], [1, 0]]));
    assert_eq!(again[0]["gain_instructions"], 8_000_000);
    let kept = found(&tasks(), &[job(0, 0, true), job(1, 1, true)].concat());
    assert_eq!(rules(&kept), [""; 0], "{kept:?}");
}
