//! Threads of a JVM that are followed during their tasks alone, thousands of times: `tests/jvm/tasks` has the classes by
//! which the library knows Spark's tasks, and no more of Spark. Spark itself is in `tests/spark`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use records::{Event, Flags, Group, Segment, TaskMethod};
use tests::{artifacts, skip::skip};

const MAIN: &str = "org.apache.spark.executor.CoarseGrainedExecutorBackend";
const TASKS: usize = 2000;
/// The places of instructions and memory reads in the metric table.
const COUNTED: [usize; 2] = [0, 1];

/// The Java programs, compiled.
struct Programs {
    folder: tempfile::TempDir,
    shim: PathBuf,
}

impl Programs {
    /// `None` if they cannot be had; then the skip is told.
    fn of(test: &str) -> Option<Programs> {
        let shim = artifacts::need(test)?.shim;
        let folder = tempfile::tempdir().expect("a directory");
        let sources = artifacts::repository().join("tests/jvm");
        let compiled = Command::new("javac")
            .args(["--release", "11", "-d"])
            .arg(folder.path())
            .arg("-sourcepath")
            .arg(format!("{0}/tasks:{0}", sources.display()))
            .arg(sources.join("tasks").join(MAIN.replace('.', "/") + ".java"))
            .arg(sources.join("tasks/Known.java"))
            .status();
        if !compiled.is_ok_and(|status| status.success()) {
            skip(test, "no Java compiler");
            return None;
        }
        let javac = std::fs::canonicalize("/usr/bin/javac").expect("javac was run");
        let include = javac.ancestors().nth(2).expect("a JDK").join("include");
        let made = Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-I"])
            .arg(&include)
            .arg("-I")
            .arg(include.join("linux"))
            .arg("-o")
            .arg(folder.path().join("native.so"))
            .arg(sources.join("native.c"))
            .status();
        assert!(made.expect("a C compiler").success());
        Some(Programs { folder, shim })
    }

    fn java(&self, arguments: &[&str]) -> Command {
        let folder = self.folder.path().display();
        let mut command = Command::new("/usr/bin/java");
        command.arg("-cp").arg(self.folder.path());
        command.arg(format!("-Dnative.library={folder}/native.so")).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// What the program prints, and its records.
    fn counted(&self, arguments: &[&str], settings: &[(&str, &str)]) -> (Vec<u8>, Vec<u8>) {
        let records = tempfile::tempdir().expect("a directory");
        let output = self
            .java(arguments)
            .env("LD_PRELOAD", &self.shim)
            .env("SPARKANALYZER_OUTPUT_DIR", records.path())
            .envs(settings.iter().copied())
            .output()
            .expect("starts");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {complaint}");
        let file = std::fs::read_dir(records.path()).expect("a directory").next().expect("a file");
        (output.stdout, std::fs::read(file.expect("an entry").path()).expect("reads"))
    }
}

/// What a group's thread has executed until then.
fn instructions(group: &Group<'_>) -> Option<u64> {
    group.values.as_ref()?.get(0)
}

#[test]
fn every_task_has_its_counts() {
    let Some(programs) = Programs::of("every_task_has_its_counts") else { return };
    let tasks = TASKS.to_string();
    let native = programs.java(&["-XX:+UseG1GC", MAIN, &tasks]).output().expect("starts").stdout;
    for collector in ["-XX:+UseG1GC", "-XX:+UseSerialGC"] {
        let (printed, records) = programs.counted(&[collector, MAIN, &tasks], &[]);
        assert_eq!(printed, native, "{collector}");
        tasks_make_up_their_threads(&records, collector);
    }
}

/// The n-th task's loop has (1 + n modulo 3) times as many rounds; interpreted, everything else in a task is always the
/// same. So all tasks of a length have one count but the first few, in which classes are loaded, and counts of different
/// lengths differ by what the loop's rounds are.
#[test]
fn loops_of_known_length_are_counted_exactly() {
    const TASKS: usize = 36;
    const LENGTH: u64 = 100_000;
    let Some(programs) = Programs::of("loops_of_known_length_are_counted_exactly") else { return };
    let mut per_round = [0, 0];
    for (kind, per_round) in ["native", "bytecodes"].into_iter().zip(&mut per_round) {
        let (tasks, length) = (TASKS.to_string(), LENGTH.to_string());
        let arguments = ["-Xint", "-XX:+UseSerialGC", "Known", kind, &tasks, &length, MAIN];
        let (_, records) = programs.counted(&arguments, &[]);
        let mut counts = [const { Vec::new() }; 3];
        let mut started = 0;
        for group in Segment::parse(&records).expect("a segment").groups() {
            match group.event {
                Event::TaskStart(_) => started = instructions(&group).expect("counted"),
                Event::TaskEnd { task, .. } => counts[task.task_id as usize % 3]
                    .push(instructions(&group).expect("counted") - started),
                _ => {}
            }
        }
        let least = counts.each_ref().map(|counts| *counts.iter().min().expect("tasks"));
        for (least, counts) in least.iter().zip(&counts) {
            let same = counts.iter().filter(|count| *count == least).count();
            assert!(same >= TASKS / 3 - 3, "{kind}: {same} tasks with {least} of {counts:?}");
        }
        let [once, twice, thrice] = least;
        assert_eq!(twice - once, thrice - twice, "{kind}: {least:?}");
        assert_eq!((twice - once) % LENGTH, 0, "{kind}: {least:?}");
        *per_round = (twice - once) / LENGTH;
    }
    assert_eq!(per_round[0], 2, "a subtraction and a branch");
    assert!(per_round[1] > 50, "an interpreted round takes {}", per_round[1]);
}

/// Each task starts a thread that ends before it, and one that goes on after it.
#[test]
fn threads_that_a_task_starts_count_for_it() {
    const TASKS: usize = 12;
    const LENGTH: u64 = 2_000_000;
    let Some(programs) = Programs::of("threads_that_a_task_starts_count_for_it") else { return };
    let arguments = ["Known", "threads", &TASKS.to_string(), &LENGTH.to_string(), MAIN];
    let followed = [("SPARKANALYZER_TASK_THREADS", "followed")];
    let (_, records) = programs.counted(&arguments, &followed);
    // Thread -> its task, what it had executed when the task ended, and in all.
    let mut threads: HashMap<u32, (i64, u64, u64)> = HashMap::new();
    let mut ended = 0;
    for group in Segment::parse(&records).expect("a segment").groups() {
        match group.event {
            Event::TaskStart(task) if task.method == TaskMethod::TASK_THREAD => {
                assert!(threads.insert(group.tid, (task.task_id, 0, 0)).is_none());
            }
            Event::TaskEnd { task, .. } if task.method == TaskMethod::TASK_THREAD => {
                let thread = threads.get_mut(&group.tid).expect("a start");
                assert_eq!((thread.0, thread.1), (task.task_id, 0));
                thread.1 = instructions(&group).expect("followed");
            }
            Event::TaskEnd { task, .. } => {
                let of_it = threads.values().filter(|thread| thread.0 == task.task_id);
                assert!(of_it.clone().all(|thread| thread.1 > 0) && of_it.count() == 2, "{task:?}");
                ended += 1;
            }
            Event::ThreadEnd => {
                if let Some(thread) = threads.get_mut(&group.tid) {
                    thread.2 = instructions(&group).expect("followed");
                }
            }
            _ => {}
        }
    }
    assert_eq!(ended, TASKS);
    for (task, in_task, in_all) in threads.into_values() {
        let loop_ = 2 * LENGTH * (1 + task as u64 % 3);
        assert!((loop_..loop_ * 3 / 2).contains(&in_task), "task {task}: {in_task} of {loop_}");
        // Java calls a thread ended when it still has to end itself.
        let is_joined = in_all < in_task + loop_ / 4;
        assert!(
            is_joined || in_all >= 2 * loop_,
            "task {task}: {in_task} until its end, {in_all} in all"
        );
    }
    let (_, records) = programs.counted(&arguments, &[]);
    let segment = Segment::parse(&records).expect("a segment");
    let of_tasks = segment.groups().filter(|group| {
        matches!(group.event, Event::TaskStart(task) if task.method == TaskMethod::TASK_THREAD)
    });
    assert_eq!(of_tasks.count(), 0, "nobody asked for them");
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
