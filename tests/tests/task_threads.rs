//! Threads of a JVM that are followed during their tasks alone, thousands of times: `tests/jvm/tasks` has the classes by
//! which the library knows Spark's tasks, and no more of Spark. Spark itself is in `tests/spark`.

use std::collections::HashMap;
use std::process::{Command, Stdio};

use records::{Event, Flags, Segment};
use tests::{artifacts, skip::skip};

const MAIN: &str = "org.apache.spark.executor.CoarseGrainedExecutorBackend";
const TASKS: usize = 2000;
/// The places of instructions and memory reads in the metric table.
const COUNTED: [usize; 2] = [0, 1];

#[test]
fn every_task_has_its_counts() {
    const TEST: &str = "every_task_has_its_counts";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let classes = tempfile::tempdir().expect("a directory");
    let sources = artifacts::repository().join("tests/jvm/tasks/org/apache/spark");
    let compiled = Command::new("javac")
        .args(["--release", "11", "-d"])
        .arg(classes.path())
        .args(
            ["executor/CoarseGrainedExecutorBackend.java", "executor/Executor.java"]
                .map(|file| sources.join(file)),
        )
        .args(
            ["memory/TaskMemoryManager.java", "scheduler/Task.java"].map(|file| sources.join(file)),
        )
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        return skip(TEST, "no Java compiler");
    }
    let java = |collector: &str| {
        let mut command = Command::new("/usr/bin/java");
        command.args([collector, "-cp"]).arg(classes.path()).args([MAIN, &TASKS.to_string()]);
        command.stdin(Stdio::null());
        command
    };
    let native = java("-XX:+UseG1GC").output().expect("starts").stdout;
    for collector in ["-XX:+UseG1GC", "-XX:+UseSerialGC"] {
        let records = tempfile::tempdir().expect("a directory");
        let output = java(collector)
            .env("LD_PRELOAD", &artifacts.shim)
            .env("SPARKANALYZER_OUTPUT_DIR", records.path())
            .output()
            .expect("starts");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && output.stdout == native, "{collector}: {complaint}");
        let file = std::fs::read_dir(records.path()).expect("a directory").next().expect("a file");
        let bytes = std::fs::read(file.expect("an entry").path()).expect("reads");
        tasks_make_up_their_threads(&bytes, collector);
    }
}

/// Each task is there, followed from start to end, and a thread has executed what its tasks did and nothing else.
fn tasks_make_up_their_threads(bytes: &[u8], collector: &str) {
    let mut open: HashMap<u32, (i64, [u64; 2])> = HashMap::new();
    let mut in_tasks: HashMap<u32, [u64; 2]> = HashMap::new();
    let mut ended = 0;
    for group in Segment::parse(bytes).expect("a segment").groups() {
        let values = group.values.as_ref();
        let counted = || {
            let values = values.expect("this kind has values");
            COUNTED.map(|metric| values.get(metric).expect("the engine counts"))
        };
        match group.event {
            Event::TaskStart(task) => {
                assert!(group.flags.contains(Flags::FOLLOWED), "{collector}: {task:?}");
                assert!(open.insert(group.tid, (task.task_id, counted())).is_none(), "{task:?}");
            }
            Event::TaskEnd { task, .. } => {
                assert!(group.flags.contains(Flags::FOLLOWED), "{collector}: {task:?}");
                let (started, before) = open.remove(&group.tid).expect("a start");
                assert_eq!(started, task.task_id);
                let sum = in_tasks.entry(group.tid).or_default();
                for ((sum, now), before) in sum.iter_mut().zip(counted()).zip(before) {
                    assert!(now > before + 10_000, "{collector}: {task:?} from {before} to {now}");
                    *sum += now - before;
                }
                ended += 1;
            }
            Event::ThreadEnd => {
                let sum = in_tasks.get(&group.tid).copied().unwrap_or_default();
                assert_eq!(counted(), sum, "{collector}: thread {} and its tasks", group.tid);
            }
            Event::Notice { text, .. } => {
                panic!("{collector}: {}", String::from_utf8_lossy(text));
            }
            _ => {}
        }
    }
    assert_eq!(ended, TASKS, "{collector}");
    assert!(in_tasks.len() >= 4, "{collector}: {} threads", in_tasks.len());
}
