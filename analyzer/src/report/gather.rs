//! Reading the store and joining our tasks with Spark's.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::console::progress::Step;
use crate::report::accumulate::{
    EXECUTOR, Life, Nodes, PYTHON_WORKER, Process, Ran, Selected, Sums,
};
use crate::report::answer::{Answer, Written};
use crate::report::directories::{Directories, are_told};
use crate::report::jobs::Jobs;
use crate::report::key::{Dimension, Place};
use crate::report::logged::LoggedTasks;
use crate::report::logs::Logs;
use crate::report::notes::Notes;
use crate::report::pieces::Pieces;
use crate::report::question::Question;
use crate::report::rated::{Rated, read, text};
use crate::report::stage_attempts::StageAttempts;
use crate::report::task_facts::TaskFacts;
use crate::report::tasks::Tasks;
use crate::report::threads::Threads;
use crate::report::{grouped, limits, stage_names};
use crate::store::{Store, StoreError, Table};

/// Answers a question from a store.
///
/// # Errors
/// When the store cannot be read.
pub fn gather(store: &dyn Store, question: &Question<'_>) -> Result<Answer, StoreError> {
    let tasks = question.lists_tasks.then(TaskFacts::default);
    let mut answer = Answer { tasks, ..Answer::default() };
    let logged = LoggedTasks::applications(store)?;
    let mut processes = read_processes(store, &logged.attempts)?;
    let asked: Vec<_> =
        question.applications.iter().map(|one| logged.attempts.id_of(one)).collect();
    let ran = match store.sql() {
        Some(spark) => grouped::processes_with_tasks(spark)?,
        None => processes_with_tasks(store, &asked)?,
    };
    inherit_applications(&mut processes);
    let ids = asked.as_slice();
    answer.logs = Logs::read(store, &asked)?;
    answer.known_applications.extend(answer.logs.apps.keys().cloned());
    answer
        .known_applications
        .extend(processes.values().filter_map(|process| process.place.application.clone()));
    answer.stage_names = stage_names::of_stages(&answer.logs);
    let jobs = Jobs::of_logs(&answer.logs);
    let threads = match question.by.contains(&Dimension::Thread) {
        true => Some(Threads::read(store)?),
        false => None,
    };
    let named = |(id, app): (&String, &super::logs::App)| Some((id.clone(), app.name.clone()?));
    answer.application_names = answer.logs.apps.iter().filter_map(named).collect();

    let working: HashSet<&String> = ran.pairs.iter().map(|(process, _)| process).collect();
    let mut selected = Selected::new();
    for (id, process) in &processes {
        let role = process.role.as_deref().unwrap_or("unknown");
        let has_role = if question.roles.is_empty() {
            [EXECUTOR, PYTHON_WORKER].contains(&role) || working.contains(id)
        } else {
            question.roles.iter().any(|one| one == role || one == "all")
        };
        let is_asked = question.applications.is_empty()
            || process
                .place
                .application
                .as_ref()
                .is_some_and(|id| question.applications.contains(id));
        if !is_asked {
            continue;
        }
        if has_role {
            selected.insert(id, process);
        } else {
            answer.notes.left_out_role(role);
        }
    }
    // Who asks for other roles asks for no executors, and so not for tasks that have no record.
    let wants_unrecorded = question.roles.is_empty()
        || question.roles.iter().any(|role| role == EXECUTOR || role == "all");
    let nodes = wants_unrecorded.then(|| nodes_of_executors(&selected));
    let mut sums = Sums {
        question,
        selected: &selected,
        jobs: &jobs,
        threads,
        answer,
        ids,
        in_tasks: HashMap::new(),
    };
    if question.by.contains(&Dimension::Directory) {
        sums.add_directories(Directories::read(store)?);
    } else {
        add_tasks(store, &mut sums, &ran, logged, nodes.as_ref())?;
        sums.add_outside();
    }
    let mut answer = sums.answer;
    if answer.rows.are_too_many() {
        return Err(limits::too_many("rows in the report", limits::rows()));
    }
    answer.jobs = jobs;
    read_notices(store, &selected, &mut answer.notes)?;
    answer.written = written(store, &selected)?;
    Ok(answer)
}

/// Adds the tasks of all wanted processes, and those of event logs without a record if `nodes` are given.
fn add_tasks(
    store: &dyn Store,
    sums: &mut Sums<'_>,
    ran: &Ran,
    mut logged: LoggedTasks,
    nodes: Option<&Nodes>,
) -> Result<(), StoreError> {
    let question = sums.question;
    let is_python = |one: &&Process| one.role.as_deref() == Some(PYTHON_WORKER);
    let has_python = sums.selected.values().any(is_python);
    let step = Step::of("tasks", ran.tasks);
    match store.sql() {
        // A row per task comes to this machine anyway.
        Some(spark) if !question.by.contains(&Dimension::Task) => {
            grouped::add(spark, sums, ran, logged, nodes, has_python)?;
        }
        _ => {
            logged.read_tasks(store, sums.ids)?;
            let mut done = 0;
            let stage_attempts = match has_python {
                true => StageAttempts::read(store, sums.ids, sums.selected)?,
                false => StageAttempts::default(),
            };
            let pieces = match question.by.contains(&Dimension::Time) {
                true => Pieces::begin(store, sums.ids)?,
                false => None,
            };
            let ids = sums.ids;
            let mut tasks = Tasks::new(sums, &mut logged, &stage_attempts, pieces);
            store.scan(Table::Tasks, None, ids, &mut |frame| {
                done += frame.height();
                tasks.take(frame)?;
                step.advance(done);
                Ok(())
            })?;
            if let Some(pieces) = tasks.pieces {
                pieces.shift(store, sums)?;
            }
            if let Some(nodes) = nodes {
                logged.add_unrecorded(sums, nodes);
            }
        }
    }
    step.end(&format!("{} joined", ran.tasks));
    Ok(())
}

/// Which processes ran tasks.
fn processes_with_tasks(store: &dyn Store, applications: &[String]) -> Result<Ran, StoreError> {
    let mut ran = Ran::default();
    store.scan(Table::Tasks, Some(&["process_id"]), applications, &mut |frame| {
        ran.tasks += frame.height();
        let mut last = None;
        for id in frame.column("process_id")?.str()?.iter().flatten() {
            if last != Some(id) {
                ran.pairs.insert((id.to_owned(), None));
                last = Some(id);
            }
        }
        Ok(())
    })?;
    Ok(ran)
}

fn nodes_of_executors(processes: &Selected<'_>) -> Nodes {
    let entry = |process: &&&Process| {
        let place = &process.place;
        Some(((place.application.clone()?, place.executor.clone()?), place.node.clone()?))
    };
    processes.values().filter_map(|process| entry(&process)).collect()
}

/// Finds the applications of processes whose records name none among those that started them: in local mode the
/// driver runs the tasks, and nothing in a Python worker's command line says of which application it is.
fn inherit_applications(processes: &mut BTreeMap<String, Process>) {
    /// Boot, container and number.
    type Pid = (Option<String>, Option<String>, i64);
    let mut by_pid: HashMap<Pid, Vec<&Process>> = HashMap::new();
    for process in processes.values() {
        let life = &process.life;
        if let (Some(_), Some(pid)) = (&life.boot, life.pid) {
            by_pid
                .entry((life.boot.clone(), life.container.clone(), pid))
                .or_default()
                .push(process);
        }
    }
    // The system gives numbers again: the last that began before counts.
    let parent_of = |life: &Life| {
        let key = (life.boot.clone(), life.container.clone(), life.ppid?);
        let all = by_pid.get(&key)?.iter();
        all.filter(|one| one.life.start_ns <= life.start_ns).max_by_key(|one| one.life.start_ns)
    };
    let mut found = Vec::new();
    for (id, process) in processes.iter() {
        if process.id.is_some() || process.role.as_deref() != Some(PYTHON_WORKER) {
            continue;
        }
        let mut above = parent_of(&process.life);
        for _ in 0..GENERATIONS {
            match above {
                Some(one) if one.id.is_some() => {
                    found.push((
                        id.clone(),
                        one.id.clone(),
                        one.attempt.clone(),
                        one.place.clone(),
                    ));
                    break;
                }
                Some(one) => above = parent_of(&one.life),
                None => break,
            }
        }
    }
    for (id, application, attempt, place) in found {
        if let Some(process) = processes.get_mut(&id) {
            process.id = application;
            process.attempt = process.attempt.take().or(attempt);
            process.place.application = place.application;
            process.place.executor = process.place.executor.take().or(place.executor);
        }
    }
}

/// A worker's parent is the daemon, whose parent the JVM is; launching scripts may lie between.
const GENERATIONS: usize = 8;

fn read_processes(
    store: &dyn Store,
    attempts: &super::logs::Attempts,
) -> Result<BTreeMap<String, Process>, StoreError> {
    let Some(frame) = read(store, Table::Processes)? else { return Ok(BTreeMap::new()) };
    let rows = Rated::of(frame)?;
    let process = |at| {
        let id = rows.text("process_id", at)?;
        let (application, attempt) =
            (rows.text("application_id", at), rows.text("application_attempt", at));
        let process = Process {
            place: Place {
                application: application
                    .as_deref()
                    .map(|id| attempts.called(id, attempt.as_deref())),
                node: rows.text("node", at),
                executor: rows.text("executor_id", at),
                process: Some(id.clone()),
                ..Place::default()
            },
            cluster: rows.text("cluster", at),
            id: application,
            life: Life {
                boot: rows.text("boot_id", at),
                container: rows.text("container", at),
                pid: rows.signed("pid", at),
                ppid: rows.signed("ppid", at),
                start_ns: rows.signed("start_real_ns", at),
            },
            attempt,
            role: rows.text("role", at),
            counted: rows.counted(at),
            is_final: rows.truth("is_final", at),
            missing_segments: rows.unsigned("missing_segments", at).unwrap_or(0),
            left_out_bytes: rows.unsigned("left_out_bytes", at).unwrap_or(0),
            tells_directories: are_told(rows.text("settings", at).as_deref()),
        };
        Some((id, process))
    };
    Ok((0..rows.len()).filter_map(process).collect())
}

fn read_notices(
    store: &dyn Store,
    processes: &Selected<'_>,
    notes: &mut Notes,
) -> Result<(), StoreError> {
    let Some(frame) = read(store, Table::Notices)? else { return Ok(()) };
    for at in 0..frame.height() {
        let column = |name| text(frame.column(name).ok()?, at);
        let is_selected =
            column("process_id").is_some_and(|id| processes.contains_key(id.as_str()));
        if is_selected && column("kind").as_deref() == Some("notice") {
            let code = frame.column("code")?.i64()?.get(at).unwrap_or_default();
            let name = column("name").unwrap_or_else(|| format!("notice {code}"));
            notes.notice(&name, column("text").unwrap_or_default());
        }
    }
    Ok(())
}

fn written(store: &dyn Store, processes: &Selected<'_>) -> Result<Written, StoreError> {
    let mut written = Written::default();
    store.scan(Table::Segments, Some(&["process_id", "bytes"]), &[], &mut |frame| {
        let ids = frame.column("process_id")?.str()?;
        for (id, bytes) in ids.iter().zip(frame.column("bytes")?.u64()?.iter()) {
            if id.is_some_and(|id| processes.contains_key(id)) {
                written.files += 1;
                written.bytes += bytes.unwrap_or(0);
            }
        }
        Ok(())
    })?;
    Ok(written)
}
