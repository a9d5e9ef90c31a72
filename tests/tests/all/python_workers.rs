//! Tasks in Python workers: `tests/python/pyspark` has a worker of PySpark's shape, whose tasks are loops of known length,
//! and the one class that the library looks at. Spark itself is in `tests/spark`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use records::{Event, Flags, Segment, TaskMethod, TaskOutcome, notice};
use tests::{artifacts, skip::skip};

const TASKS: usize = 10;
const ROUNDS: u64 = 20_011;

/// A Python that has audit hooks, by its real name: version managers put scripts in front of it.
fn python(test: &str) -> Option<PathBuf> {
    let program = "import sys; print(sys.executable if sys.version_info >= (3, 8) else '')";
    let wanted = std::env::var("SPARKANALYZER_TEST_PYTHON").unwrap_or("python3".into());
    let output = Command::new(wanted).args(["-c", program]).output().ok();
    let path = String::from_utf8(output.map(|output| output.stdout).unwrap_or_default()).ok()?;
    if path.trim().is_empty() {
        skip(test, "no python3 of version 3.8 or newer");
        return None;
    }
    Some(path.trim().into())
}

fn worker(python: &Path, options: &[&str], way: &str) -> Command {
    let mut command = Command::new(python);
    command.args(options).args(["-m", "pyspark.daemon", way]);
    command.args([TASKS.to_string(), ROUNDS.to_string()]);
    command.current_dir(artifacts::repository().join("tests/python"));
    command.env("PYTHONHASHSEED", "0").env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    command
}

/// A task of a process: what it has executed from its start to its end, or to the last that is known of it.
#[derive(Debug, Default)]
struct Served {
    task_id: i64,
    instructions: u64,
    method: TaskMethod,
    outcome: Option<TaskOutcome>,
}

/// What the processes of a run have told.
#[derive(Default)]
struct Told {
    tasks: Vec<Served>,
    /// What the processes that served tasks, and their children, have executed.
    in_all: u64,
    notices: Vec<String>,
}

/// Runs a way natively and counted; what it prints must be the same.
fn counted(python: &Path, way: &str, settings: &[(&str, &str)]) -> Option<(Output, Told)> {
    let shim = artifacts::need(way)?.shim;
    let native = worker(python, &[], way).output().expect("starts");
    assert!(native.status.success(), "{way}: {}", String::from_utf8_lossy(&native.stderr));
    let records = tempfile::tempdir().expect("a directory");
    let output = worker(python, &[], way)
        .env("LD_PRELOAD", shim)
        .env("SPARKANALYZER_OUTPUT_DIR", records.path())
        .envs(settings.iter().copied())
        .output()
        .expect("starts");
    assert_eq!(output, native, "{way}: {}", String::from_utf8_lossy(&output.stderr));
    let mut told = Told::default();
    for file in std::fs::read_dir(records.path()).expect("a directory") {
        let bytes = std::fs::read(file.expect("an entry").path()).expect("reads");
        take(&mut told, &bytes, way);
    }
    told.tasks.sort_by_key(|task| task.task_id);
    Some((output, told))
}

fn take(told: &mut Told, bytes: &[u8], way: &str) {
    let mut open: HashMap<u32, (i64, u64)> = HashMap::new();
    let mut last: HashMap<u32, u64> = HashMap::new();
    let before = told.tasks.len();
    let segment = Segment::parse(bytes).expect("a segment");
    for group in segment.groups() {
        let instructions = group.values.as_ref().and_then(|values| values.get(0)).unwrap_or(0);
        let now = last.entry(group.tid).or_default();
        *now = instructions.max(*now);
        match group.event {
            Event::TaskStart(task) => {
                assert_eq!((task.stage, task.attempt, task.stage_attempt), (5, 0, -1), "{way}");
                let is_first = open.insert(group.tid, (task.task_id, instructions)).is_none();
                assert!(is_first, "{way}: {task:?}");
            }
            Event::TaskEnd { task, outcome } => {
                assert!(!group.flags.contains(Flags::CLOSED_BY_NEXT), "{way}: {task:?}");
                let (started, at_start) = open.remove(&group.tid).expect("a start");
                assert_eq!(started, task.task_id, "{way}");
                told.tasks.push(Served {
                    task_id: task.task_id,
                    instructions: instructions - at_start,
                    method: task.method,
                    outcome: Some(outcome),
                });
            }
            Event::Notice { code, text, .. } => {
                told.notices.push(format!("{code}: {}", String::from_utf8_lossy(text)));
            }
            _ => {}
        }
    }
    for (tid, (task_id, at_start)) in open {
        let instructions = last[&tid] - at_start;
        told.tasks.push(Served { task_id, instructions, ..Served::default() });
    }
    if told.tasks.len() > before {
        assert_eq!(segment.header().task_method, TaskMethod::PYTHON_WORKER, "{way}");
        told.in_all += last.get(&0).copied().unwrap_or(0);
    }
}

/// Checks that a task's count is that of its loop's length, and the same for each length; what a round takes.
fn assert_lengths(tasks: &[Served], way: &str) -> u64 {
    assert_eq!(tasks.len(), TASKS, "{way}: {tasks:?}");
    let counts = |length: usize| {
        tasks[3..TASKS - 1].iter().filter(move |task| task.task_id as usize % 3 == length)
    };
    // 70 is the first, so lengths 1, 2 and 3 are those of TIDs with the rest 1, 2 and 0.
    let least =
        [1, 2, 0].map(|rest| counts(rest).map(|one| one.instructions).min().expect("tasks"));
    let [once, twice, thrice] = least;
    assert!(once < twice && twice < thrice, "{way}: {tasks:?}");
    let (step, next) = (twice - once, thrice - twice);
    assert!(step.abs_diff(next) < step / 100, "{way}: {least:?}");
    for (least, rest) in least.into_iter().zip([1, 2, 0]) {
        for one in counts(rest) {
            assert!(one.instructions - least < step / 20, "{way}: {tasks:?}");
        }
    }
    step / ROUNDS
}

#[test]
fn each_task_has_what_its_worker_did_for_it() {
    let test = "each_task_has_what_its_worker_did_for_it";
    let Some(python) = python(test) else { return };
    for way in ["loop", "socket"] {
        let Some((_, told)) = counted(&python, way, &[]) else { return };
        let a_round = assert_lengths(&told.tasks, way);
        assert!((20..500).contains(&a_round), "{way}: {a_round} instructions a round");
        for task in &told.tasks {
            assert_eq!(task.method, TaskMethod::PYTHON_WORKER, "{way}");
            let last = task.task_id as usize == 70 + TASKS - 1;
            let expected = if last { TaskOutcome::UNKNOWN } else { TaskOutcome::RETURNED };
            assert!(task.outcome == Some(expected) || last, "{way}: {task:?}");
        }
        let in_tasks: u64 = told.tasks.iter().map(|task| task.instructions).sum();
        assert!(in_tasks < told.in_all, "{way}: {in_tasks} in tasks, {} in all", told.in_all);
        assert_eq!(told.notices, [""; 0], "{way}");
    }
}

#[test]
fn audit_events_of_a_task_change_nothing() {
    let Some(python) = python("audit_events_of_a_task_change_nothing") else { return };
    let Some((_, told)) = counted(&python, "events", &[]) else { return };
    assert_eq!(told.tasks.len(), TASKS, "{:?}", told.tasks);
    let numbers: Vec<_> = told.tasks.iter().map(|task| task.task_id).collect();
    assert_eq!(numbers, (70..70 + TASKS as i64).collect::<Vec<_>>());
}

/// What a task's threads and children do is the task's.
#[test]
fn threads_and_children_count_for_the_task() {
    let Some(python) = python("threads_and_children_count_for_the_task") else { return };
    let Some((_, told)) = counted(&python, "thread", &[]) else { return };
    let (threads, own): (Vec<_>, Vec<_>) =
        told.tasks.into_iter().partition(|task| task.method == TaskMethod::TASK_THREAD);
    assert_eq!((own.len(), threads.len()), (TASKS, TASKS));
    assert_lengths(&threads, "thread");
    let Some((_, told)) = counted(&python, "fork", &[]) else { return };
    // A worker and its child tell of a task each.
    assert_eq!(told.tasks.len(), 2 * TASKS, "{:?}", told.tasks);
    let together = |pair: &[Served]| {
        assert_eq!(pair[0].task_id, pair[1].task_id, "{pair:?}");
        pair[0].instructions + pair[1].instructions
    };
    let counts: Vec<_> = told.tasks.chunks(2).map(together).collect();
    let steps = [counts[4] - counts[3], counts[5] - counts[4]];
    assert!(steps[0].abs_diff(steps[1]) < steps[0] / 50, "{counts:?}");
}

/// Killed in the middle of its last task.
#[test]
fn a_killed_worker_leaves_the_tasks_that_it_has_served() {
    let Some(python) = python("a_killed_worker_leaves_the_tasks_that_it_has_served") else {
        return;
    };
    let Some((_, told)) = counted(&python, "killed", &[]) else { return };
    assert_eq!(told.tasks.len(), TASKS, "{:?}", told.tasks);
    let ended = told.tasks.iter().filter(|task| task.outcome == Some(TaskOutcome::RETURNED));
    assert_eq!(ended.count(), TASKS - 1, "{:?}", told.tasks);
}

/// System calls alone are told apart by task as well; isolated mode and unwanted roles change nothing.
#[test]
fn settings_that_leave_the_engine_or_the_role_out() {
    let test = "settings_that_leave_the_engine_or_the_role_out";
    let Some(python) = python(test) else { return };
    let Some((_, told)) = counted(&python, "loop", &[("SPARKANALYZER_TRACER", "none")]) else {
        return;
    };
    assert_eq!(told.tasks.len(), TASKS, "{:?}", told.tasks);
    let Some((_, told)) = counted(&python, "loop", &[("SPARKANALYZER_ROLES", "executor")]) else {
        return;
    };
    assert_eq!((told.tasks.len(), told.in_all), (0, 0), "nobody asked for Python workers");
}

/// An interpreter that has no audit hooks is said to have none.
#[test]
fn an_interpreter_without_hooks_is_told() {
    let test = "an_interpreter_without_hooks_is_told";
    let Some(artifacts) = artifacts::need(test) else { return };
    let folder = tempfile::tempdir().expect("a directory");
    let records = folder.path().join("records");
    std::fs::create_dir(&records).expect("a new directory");
    // Its name and arguments make it a Python worker for the library.
    let program = folder.path().join("python3");
    std::fs::copy("/bin/true", &program).expect("copies");
    let status = Command::new(&program)
        .args(["-m", "pyspark.daemon"])
        .env("LD_PRELOAD", artifacts.shim)
        .env("SPARKANALYZER_OUTPUT_DIR", &records)
        .status();
    assert!(status.expect("starts").success());
    let mut told = Told::default();
    for file in std::fs::read_dir(records).expect("a directory") {
        take(&mut told, &std::fs::read(file.expect("an entry").path()).expect("reads"), test);
    }
    let begins = format!("{}: no PyImport_GetModuleDict", notice::TASK_DETECTION);
    assert!(told.notices.iter().any(|text| text.starts_with(&begins)), "{:?}", told.notices);
}
