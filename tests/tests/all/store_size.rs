//! Generated record sets through ingest and report: every sum is what the generator says, and memory does not
//! grow with the input.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::artifacts::{self, Artifacts};
use tests::cost::{Cost, measure};
use tests::record_set::RecordSet;

/// Memory that ingest and report may take, whatever the input.
const MEMORY: u64 = 1 << 30;

fn analyzer(artifacts: &Artifacts, at: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(&artifacts.analyzer);
    command.current_dir(at).args(arguments).stdin(Stdio::null());
    command
}

fn ingest(artifacts: &Artifacts, at: &Path, arguments: &[&str]) -> Cost {
    let mut command = analyzer(artifacts, at, &["ingest", "--quiet", "--store", "store"]);
    command.args(arguments);
    let cost = measure(command).unwrap();
    assert!(cost.memory < MEMORY, "ingest took {} MiB", cost.memory >> 20);
    cost
}

fn report(artifacts: &Artifacts, at: &Path, by: &str) -> Value {
    let arguments = ["report", "--store", "store", "--by", by, "--format", "json"];
    let output = analyzer(artifacts, at, &arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Tasks whose end a killed executor did not come to write, and those that were whole.
fn is_open(set: &RecordSet, task: u64) -> bool {
    let round = task / set.executors() / set.cores;
    let last = (set.tasks_per_executor - 1) / set.cores;
    set.is_killed(set.executor_of(task)) && round == last
}

/// The sum of a metric over the tasks of a set: of an open task what its last tick said.
fn expected(set: &RecordSet, metric: usize) -> u64 {
    let done = |task| {
        let work = set.work_of(task)[metric];
        let part = work / (set.ticks_per_task + 1) * set.ticks_per_task;
        if is_open(set, task) { part } else { work }
    };
    (0..set.tasks()).map(done).sum()
}

/// Checks a report's sums over tasks and its totals.
fn check(set: &RecordSet, report: &Value) {
    let rows = report["rows"].as_array().unwrap().iter().filter(|row| row["part"] == "tasks");
    let sum = |figure: &str| rows.clone().map(|row| row[figure].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("recorded_tasks"), set.tasks());
    for name in ["instructions", "barriers", "file_open_calls"] {
        let metric = records::metric::by_name(name).unwrap();
        assert_eq!(sum(name), expected(set, metric), "{name}");
    }
}

#[test]
fn sums_are_what_was_generated() {
    let Some(artifacts) = artifacts::need("sums_are_what_was_generated") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let set = RecordSet {
        nodes: 5,
        executors_per_node: 2,
        tasks_per_executor: 402,
        tasks_per_stage: 100,
        killed_every: 3,
        segment_bytes: 1 << 20,
        ..RecordSet::default()
    };
    set.write_records(&at.join("records")).unwrap();
    set.write_event_log(&mut fs::File::create(at.join("log")).unwrap()).unwrap();
    ingest(&artifacts, at, &["records"]);
    for by in ["stage", "node,stage", "executor", "task", "process"] {
        check(&set, &report(&artifacts, at, by));
    }
    ingest(&artifacts, at, &["--event-log", "log"]);
    for by in ["stage", "task"] {
        let report = report(&artifacts, at, by);
        check(&set, &report);
        let run_ms = set.tasks() * set.ticks_per_task * 1000;
        assert_eq!(report["total"]["spark_run_time_ms"], run_ms, "by {by}");
    }
    let nodes = report(&artifacts, at, "node");
    let rows = nodes["rows"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|row| row["part"] == "tasks").count(), 5);
}

/// One segment of a process that never ends, far larger than a piece, and twice as many tasks as a row group
/// has rows; killed, so that its sources are kept, and read a second time when it has grown.
#[test]
#[ignore = "writes 800 MB"]
fn a_process_of_any_length() {
    let Some(artifacts) = artifacts::need("a_process_of_any_length") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let set = RecordSet {
        nodes: 1,
        tasks_per_executor: 160_000,
        killed_every: 1,
        segment_bytes: u64::MAX,
        ..RecordSet::default()
    };
    let written = set.write_records(&at.join("records")).unwrap();
    assert_eq!(written.files, 1);
    let cost = ingest(&artifacts, at, &["records"]);
    println!("{} MB in one file: {cost:?}", written.bytes / 1_000_000);
    check(&set, &report(&artifacts, at, "stage"));
}

/// An event log of two million tasks, and the same again: whatever is in it, it is read in pieces.
#[test]
#[ignore = "writes 2 GB"]
fn an_event_log_of_any_length() {
    let Some(artifacts) = artifacts::need("an_event_log_of_any_length") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let set = RecordSet { nodes: 40, tasks_per_executor: 50_000, ..RecordSet::default() };
    let mut log = BufWriter::new(fs::File::create(at.join("log")).unwrap());
    set.write_event_log(&mut log).and_then(|()| log.flush()).unwrap();
    let bytes = fs::metadata(at.join("log")).unwrap().len();
    for what in ["new", "again"] {
        let cost = ingest(&artifacts, at, &["--event-log", "log"]);
        println!("{} tasks in {} MB, {what}: {cost:?}", set.tasks(), bytes / 1_000_000);
    }
    let by_app = report(&artifacts, at, "app");
    let run_ms = set.tasks() * set.ticks_per_task * 1000;
    assert_eq!(by_app["total"]["spark_run_time_ms"], run_ms);
}

/// A hundred million records of 2,800 nodes, 200 at a time, and a report over all of them.
#[test]
#[ignore = "writes 26 GB, 2 GB at a time"]
fn a_hundred_million_records() {
    let Some(artifacts) = artifacts::need("a_hundred_million_records") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (mut records, mut cpu, mut wall, mut memory) = (0, 0.0, 0.0, 0);
    let sets: Vec<RecordSet> = (0..14)
        .map(|batch| RecordSet {
            application: format!("app-20261121{batch:06}-0000"),
            nodes: 200,
            tasks_per_executor: 2000,
            tasks_per_stage: 20_000,
            killed_every: 50,
            seed: batch,
            ..RecordSet::default()
        })
        .collect();
    for set in &sets {
        records += set.write_records(&at.join("batch")).unwrap().records;
        let cost = ingest(&artifacts, at, &["batch"]);
        (cpu, wall, memory) = (cpu + cost.cpu, wall + cost.wall, memory.max(cost.memory));
        fs::remove_dir_all(at.join("batch")).unwrap();
    }
    println!(
        "{records} records: ingest {wall:.1} s, {cpu:.1} s of CPU time, {:.2} million records/s, {} MiB",
        records as f64 / wall / 1e6,
        memory >> 20
    );
    for by in ["stage", "node,stage", "executor"] {
        let mut command = analyzer(&artifacts, at, &["report", "--store", "store", "--by", by]);
        command.stdout(Stdio::null());
        let cost = measure(command).unwrap();
        assert!(cost.memory < MEMORY, "the report took {} MiB", cost.memory >> 20);
        println!("report --by {by}: {cost:?}");
    }
    let whole = report(&artifacts, at, "app");
    let sum: u64 = sets.iter().map(|set| expected(set, 0)).sum();
    let rows = whole["rows"].as_array().unwrap().iter().filter(|row| row["part"] == "tasks");
    assert_eq!(rows.map(|row| row["instructions"].as_u64().unwrap()).sum::<u64>(), sum);
}
