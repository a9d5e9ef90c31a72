//! Reading the store and joining our tasks with Spark's.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use polars::prelude::{BooleanChunked, Column, DataFrame, PolarsResult};
use records::{METRIC_COUNT, METRICS};

use super::figure::LOCALITIES;
use super::jobs::Jobs;
use super::key::{Dimension, Key, Part, Place};
use super::notes::Notes;
use super::rows::{Counted, Row, Rows, SparkSaid, TaskFigures};
use super::stage_names;
use super::threads::Threads;
use crate::eventlog::SPARK_METRICS;
use crate::progress::Step;
use crate::store::{ENGINE_EXACT, ENGINE_PARTIAL, Store, StoreError, Table};

/// The role whose processes are an application's executors.
const EXECUTOR: &str = "executor";

/// What the user asked for.
pub struct Question<'a> {
    /// Dimensions, with those that others imply.
    pub by: &'a [Dimension],
    /// Application ids; empty = every application with records, or every one if there are none.
    pub applications: &'a [String],
    /// Roles of processes; empty = executors and whatever ran tasks.
    pub roles: &'a [String],
    /// Width of buckets of time, in ms.
    pub bucket_ms: i64,
}

impl Question<'_> {
    /// The beginning of the bucket in which something ended.
    fn bucket(&self, times: Option<(i64, i64)>) -> Option<i64> {
        times.map(|(_, end)| end.div_euclid(self.bucket_ms) * self.bucket_ms)
    }
}

/// The answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// The rows.
    pub rows: Rows,
    /// Which job ran which stage.
    pub jobs: Jobs,
    /// Totals of the processes as their records say, to reconcile with.
    pub process_totals: Row,
    /// What a reader should know besides.
    pub notes: Notes,
    /// Stage attempts that the event log names: (application, stage, attempt) -> name.
    pub stage_names: BTreeMap<(String, i64, i64), String>,
    /// Application id -> the name that its user gave it.
    pub application_names: BTreeMap<String, String>,
    /// (application, TID) -> first and last ms since the epoch, on the driver's clock if the event log has the
    /// task, else on its node's.
    pub task_times: HashMap<(String, i64), (i64, i64)>,
    /// All application ids in the store.
    pub known_applications: BTreeSet<String>,
}

/// A process of the store.
struct Process {
    place: Place,
    cluster: Option<String>,
    attempt: Option<String>,
    role: Option<String>,
    counted: Counted,
    is_final: bool,
    missing_segments: u64,
    left_out_bytes: u64,
}

/// A task attempt of an event log.
struct LoggedTask {
    /// With its stage and TID.
    place: Place,
    said: SparkSaid,
    times: Option<(i64, i64)>,
    is_joined: bool,
}

/// An application attempt of an event log.
struct LoggedApp {
    attempt: Option<String>,
    cluster: Option<String>,
    /// TID -> index of the task.
    tasks: HashMap<i64, usize>,
}

/// Answers a question from a store.
///
/// # Errors
/// When the store cannot be read.
pub fn gather(store: &dyn Store, question: &Question<'_>) -> Result<Answer, StoreError> {
    let mut answer = Answer::default();
    let processes = read_processes(store)?;
    let tasks = read(store, Table::Tasks)?.map(Rated::of).transpose()?;
    let working = tasks.as_ref().map(Rated::processes).unwrap_or_default();
    let mut logged = LoggedTasks::read(store)?;
    answer.known_applications.extend(logged.apps.keys().cloned());
    answer
        .known_applications
        .extend(processes.values().filter_map(|process| process.place.application.clone()));
    answer.stage_names = stage_names::of_stages(store)?;
    let jobs = Jobs::read(store)?;
    let mut threads = match question.by.contains(&Dimension::Thread) {
        true => Some(Threads::read(store)?),
        false => None,
    };
    answer.application_names = std::mem::take(&mut logged.names);

    let mut selected: BTreeMap<&String, &Process> = BTreeMap::new();
    for (id, process) in &processes {
        let role = process.role.as_deref().unwrap_or("unknown");
        let has_role = if question.roles.is_empty() {
            role == EXECUTOR || working.contains(id)
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
    let nodes = nodes_of_executors(&selected);
    let mut seen = HashSet::new();
    let mut in_tasks: HashMap<String, [u64; METRIC_COUNT]> = HashMap::new();
    if let Some(tasks) = tasks {
        let step = Step::of("tasks", tasks.len());
        for at in 0..tasks.len() {
            step.advance(at);
            let id = tasks.text("process_id", at).unwrap_or_default();
            let Some(process) = selected.get(&id) else { continue };
            let application = tasks.text("application_id", at);
            let tid = tasks.signed("task_id", at);
            let logged_task = application.as_deref().zip(tid).and_then(|(application, tid)| {
                let attempt = process.attempt.as_deref();
                logged.find(application, process.cluster.as_deref(), attempt, tid)
            });
            let counted = tasks.counted(at);
            answer.notes.task(
                tasks.is_null("start_real_ns", at),
                tasks.is_null("end_real_ns", at),
                tasks.truth("is_late", at),
                tasks.truth("closed_by_next", at) || tasks.truth("closed_by_thread_end", at),
            );
            let identity = (application.clone(), process.attempt.clone(), tid);
            let is_repeated = tid.is_some() && !seen.insert(identity);
            let application = application.or_else(|| process.place.application.clone());
            let stage = tasks.signed("stage", at).map(|id| (id, tasks.signed("stage_attempt", at)));
            let stage =
                stage.or_else(|| logged_task.and_then(|task| logged.tasks[task].place.stage));
            let ms = |name| tasks.signed(name, at).map(|ns| ns / 1_000_000);
            let times = logged_task.and_then(|task| logged.tasks[task].times);
            let times = times.or_else(|| ms("start_real_ns").zip(ms("end_real_ns")));
            if let (Some(times), Some(application), Some(tid)) = (times, &application, tid) {
                answer.task_times.insert((application.clone(), tid), times);
            }
            let said = logged_task.map(|task| {
                logged.tasks[task].is_joined = true;
                &logged.tasks[task].said
            });
            if said.is_none() {
                let application = application.as_deref().unwrap_or("unknown");
                answer.notes.unlogged_task(application, logged.apps.contains_key(application));
            }
            let thread = tasks.signed("tid", at);
            if let (Some(threads), Some(thread)) = (&mut threads, thread) {
                threads.take_task(&id, thread, &counted);
            }
            let place = Place {
                executor: tasks.text("executor_id", at).or_else(|| process.place.executor.clone()),
                thread: threads.as_ref().zip(thread).map(|(threads, tid)| threads.named(&id, tid)),
                time: question.bucket(times),
                job: application.as_deref().zip(stage).and_then(|(id, stage)| jobs.of(id, stage)),
                stage,
                task: tid,
                application,
                ..process.place.clone()
            };
            let key = Key::new(question.by, &place, Part::Tasks);
            let figures = TaskFigures { counted: Some(&counted), is_repeated, spark: said };
            answer.rows.at(key).add_task(&figures);
            add(in_tasks.entry(id).or_insert([0; METRIC_COUNT]), &counted);
        }
        step.end(&format!("{} joined", tasks.len()));
    }
    for (id, process) in &selected {
        answer.process_totals.add_counted(&process.counted);
        answer.notes.process(process.is_final, process.missing_segments, process.left_out_bytes);
        let mut rest = process.counted.clone();
        if let Some(sums) = in_tasks.get(*id) {
            rest.subtract(sums);
        }
        for (thread, outside) in threads.iter_mut().flat_map(|threads| threads.outside(id)) {
            rest.subtract(&outside.values.map(|value| value.unwrap_or(0)));
            let place = Place { thread: Some(thread), ..process.place.clone() };
            let key = Key::new(question.by, &place, Part::Outside);
            answer.rows.at(key).add_counted(&outside);
        }
        // Of all threads something is left only if one lacks its record, or was not counted.
        if threads.is_none() || !rest.is_nothing() {
            let key = Key::new(question.by, &process.place, Part::Outside);
            answer.rows.at(key).add_counted(&rest);
        }
    }
    // Who asks for other roles asks for no executors, and so not for tasks that have no record.
    if question.roles.is_empty()
        || question.roles.iter().any(|role| role == EXECUTOR || role == "all")
    {
        add_unrecorded(&mut answer, question, &logged, &jobs, &nodes, selected.is_empty());
    }
    answer.jobs = jobs;
    read_notices(store, &selected, &mut answer.notes)?;
    Ok(answer)
}

/// Tasks that only the event log tells of.
fn add_unrecorded(
    answer: &mut Answer,
    question: &Question<'_>,
    logged: &LoggedTasks,
    jobs: &Jobs,
    nodes: &HashMap<(String, String), String>,
    is_nothing_recorded: bool,
) {
    let recorded: HashSet<_> = logged
        .tasks
        .iter()
        .filter(|task| task.is_joined)
        .filter_map(|task| task.place.application.clone())
        .collect();
    for task in logged.tasks.iter().filter(|task| !task.is_joined) {
        let Some(application) = &task.place.application else { continue };
        let is_asked = if question.applications.is_empty() {
            recorded.contains(application) || is_nothing_recorded
        } else {
            question.applications.contains(application)
        };
        if !is_asked {
            answer.notes.log_without_records(application);
            continue;
        }
        answer.notes.unrecorded_task(application);
        if let Some((times, tid)) = task.times.zip(task.place.task) {
            answer.task_times.insert((application.clone(), tid), times);
        }
        let mut place = task.place.clone();
        place.job = place.stage.and_then(|stage| jobs.of(application, stage));
        place.time = question.bucket(task.times);
        let executor = place.executor.clone().unwrap_or_default();
        if let Some(node) = nodes.get(&(application.clone(), executor)) {
            place.node = Some(node.clone());
        }
        let key = Key::new(question.by, &place, Part::Tasks);
        let figures = TaskFigures { counted: None, is_repeated: false, spark: Some(&task.said) };
        answer.rows.at(key).add_task(&figures);
    }
}

/// (application, executor) -> node, as the records name it.
fn nodes_of_executors(
    processes: &BTreeMap<&String, &Process>,
) -> HashMap<(String, String), String> {
    let entry = |process: &&&Process| {
        let place = &process.place;
        Some(((place.application.clone()?, place.executor.clone()?), place.node.clone()?))
    };
    processes.values().filter_map(|process| entry(&process)).collect()
}

fn add(sums: &mut [u64; METRIC_COUNT], counted: &Counted) {
    for (sum, value) in sums.iter_mut().zip(&counted.values) {
        *sum = sum.saturating_add(value.unwrap_or(0));
    }
}

/// A table whose rows have counters.
pub struct Rated {
    frame: DataFrame,
    metrics: Vec<Column>,
    engine: Column,
}

impl Rated {
    /// Takes the frame of a table with counters.
    ///
    /// # Errors
    /// When it has none.
    pub fn of(frame: DataFrame) -> PolarsResult<Rated> {
        let metrics = METRICS
            .iter()
            .map(|metric| frame.column(metric.name).cloned())
            .collect::<Result<_, _>>()?;
        let engine = frame.column("engine")?.clone();
        Ok(Rated { frame, metrics, engine })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.frame.height()
    }

    /// The ids of all processes in it.
    fn processes(&self) -> HashSet<String> {
        let ids = self.frame.column("process_id").ok().and_then(|column| column.str().ok());
        ids.into_iter().flat_map(|ids| ids.iter().flatten().map(str::to_owned)).collect()
    }

    /// A text of a row.
    pub fn text(&self, name: &str, at: usize) -> Option<String> {
        text(self.frame.column(name).ok()?, at)
    }

    /// A signed number of a row.
    pub fn signed(&self, name: &str, at: usize) -> Option<i64> {
        self.frame.column(name).ok()?.i64().ok()?.get(at)
    }

    fn unsigned(&self, name: &str, at: usize) -> Option<u64> {
        self.frame.column(name).ok()?.u64().ok()?.get(at)
    }

    fn truth(&self, name: &str, at: usize) -> bool {
        let column: Option<&BooleanChunked> =
            self.frame.column(name).ok().and_then(|column| column.bool().ok());
        column.and_then(|column| column.get(at)).unwrap_or(false)
    }

    fn is_null(&self, name: &str, at: usize) -> bool {
        self.signed(name, at).is_none()
    }

    /// A row's counters.
    pub fn counted(&self, at: usize) -> Counted {
        let values = std::array::from_fn(|index| self.metrics[index].u64().ok()?.get(at));
        let engine = text(&self.engine, at);
        let is_partial = engine.as_deref() == Some(ENGINE_PARTIAL);
        let is_exact = engine.as_deref() == Some(ENGINE_EXACT);
        debug_assert!(
            is_exact || is_partial || values[0].is_none(),
            "what the engine did not count is null"
        );
        Counted { values, is_partial, is_exact }
    }
}

/// Reads a table, and says so if it takes long.
pub(super) fn read(store: &dyn Store, table: Table) -> Result<Option<DataFrame>, StoreError> {
    let step = Step::begin(&format!("reading {}", table.name()));
    let frame = store.frame(table, None)?;
    step.end(&match &frame {
        Some(frame) => format!("{} rows", frame.height()),
        None => "none".to_owned(),
    });
    Ok(frame)
}

pub(super) fn text(column: &Column, at: usize) -> Option<String> {
    column.str().ok()?.get(at).map(str::to_owned)
}

fn read_processes(store: &dyn Store) -> Result<BTreeMap<String, Process>, StoreError> {
    let Some(frame) = read(store, Table::Processes)? else { return Ok(BTreeMap::new()) };
    let rows = Rated::of(frame)?;
    let process = |at| {
        let id = rows.text("process_id", at)?;
        let process = Process {
            place: Place {
                application: rows.text("application_id", at),
                node: rows.text("node", at),
                executor: rows.text("executor_id", at),
                process: Some(id.clone()),
                ..Place::default()
            },
            cluster: rows.text("cluster", at),
            attempt: rows.text("application_attempt", at),
            role: rows.text("role", at),
            counted: rows.counted(at),
            is_final: rows.truth("is_final", at),
            missing_segments: rows.unsigned("missing_segments", at).unwrap_or(0),
            left_out_bytes: rows.unsigned("left_out_bytes", at).unwrap_or(0),
        };
        Some((id, process))
    };
    Ok((0..rows.len()).filter_map(process).collect())
}

/// What the event logs say of tasks.
struct LoggedTasks {
    names: BTreeMap<String, String>,
    tasks: Vec<LoggedTask>,
    apps: HashMap<String, Vec<LoggedApp>>,
}

impl LoggedTasks {
    fn read(store: &dyn Store) -> Result<LoggedTasks, StoreError> {
        let mut logged =
            LoggedTasks { names: BTreeMap::new(), tasks: Vec::new(), apps: HashMap::new() };
        if let Some(apps) = read(store, Table::SparkApps)? {
            for at in 0..apps.height() {
                let column = |name| text(apps.column(name).ok()?, at);
                let app = LoggedApp {
                    attempt: column("application_attempt"),
                    cluster: column("cluster"),
                    tasks: HashMap::new(),
                };
                let id = column("application_id").unwrap_or_default();
                if let Some(name) = column("name") {
                    logged.names.insert(id.clone(), name);
                }
                logged.apps.entry(id).or_default().push(app);
            }
        }
        let Some(frame) = read(store, Table::SparkTasks)? else { return Ok(logged) };
        let metrics = SPARK_METRICS
            .iter()
            .map(|name| frame.column(name).cloned())
            .collect::<Result<Vec<_>, _>>()?;
        for at in 0..frame.height() {
            let text_of = |name| text(frame.column(name).ok()?, at);
            let number = |name| frame.column(name).ok()?.i64().ok()?.get(at);
            let truth = |name| frame.column(name).ok()?.bool().ok()?.get(at);
            let (Some(application), Some(tid)) = (text_of("application_id"), number("task_id"))
            else {
                continue;
            };
            let attempt = text_of("application_attempt");
            let failed =
                truth("failed").zip(truth("killed")).map(|(failed, killed)| failed || killed);
            if let Some(apps) = logged.apps.get_mut(&application)
                && let Some(app) = apps.iter_mut().find(|app| app.attempt == attempt)
            {
                app.tasks.insert(tid, logged.tasks.len());
            }
            logged.tasks.push(LoggedTask {
                place: Place {
                    application: Some(application),
                    node: text_of("host"),
                    executor: text_of("executor_id"),
                    stage: number("stage").map(|stage| (stage, number("stage_attempt"))),
                    task: Some(tid),
                    ..Place::default()
                },
                said: SparkSaid {
                    has_failed: failed,
                    locality: text_of("locality")
                        .and_then(|name| LOCALITIES.iter().position(|(spark, _)| *spark == name)),
                    metrics: std::array::from_fn(|index| metrics[index].u64().ok()?.get(at)),
                },
                times: number("launched_ms").zip(number("finished_ms")),
                is_joined: false,
            });
        }
        Ok(logged)
    }

    /// Index of the task with this identity. Cluster and attempt have to be the same where both sides know them,
    /// and where one does not, there must be no choice.
    fn find(
        &self,
        application: &str,
        cluster: Option<&str>,
        attempt: Option<&str>,
        tid: i64,
    ) -> Option<usize> {
        let agrees = |one: Option<&str>, other: Option<&str>| {
            one.zip(other).is_none_or(|(one, other)| one == other)
        };
        let mut candidates = self.apps.get(application)?.iter().filter(|app| {
            agrees(app.cluster.as_deref(), cluster) && agrees(app.attempt.as_deref(), attempt)
        });
        let only = candidates.next().filter(|_| candidates.next().is_none())?;
        only.tasks.get(&tid).copied()
    }
}

fn read_notices(
    store: &dyn Store,
    processes: &BTreeMap<&String, &Process>,
    notes: &mut Notes,
) -> Result<(), StoreError> {
    let Some(frame) = read(store, Table::Notices)? else { return Ok(()) };
    for at in 0..frame.height() {
        let column = |name| text(frame.column(name).ok()?, at);
        let is_selected = column("process_id").is_some_and(|id| processes.contains_key(&id));
        if is_selected && column("kind").as_deref() == Some("notice") {
            let code = frame.column("code")?.i64()?.get(at).unwrap_or_default();
            let name = column("name").unwrap_or_else(|| format!("notice {code}"));
            notes.notice(&name, column("text").unwrap_or_default());
        }
    }
    Ok(())
}
