//! Reading the store and joining our tasks with Spark's.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use polars::prelude::{BooleanChunked, Column, DataFrame, Int64Chunked, PolarsResult};
use records::{METRIC_COUNT, METRICS, TaskMethod};

use super::figure::LOCALITIES;
use super::jobs::Jobs;
use super::key::{Dimension, Key, Part, Place};
use super::notes::Notes;
use super::rows::{Counted, Row, Rows, Run, SparkSaid, TaskFigures};
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
    let (working, task_rows) = processes_with_tasks(store, question.applications)?;
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
    let mut tasks = Tasks {
        question,
        selected: &selected,
        jobs: &jobs,
        logged: &mut logged,
        threads: &mut threads,
        answer: &mut answer,
        seen: Vec::new(),
        attempts: HashMap::new(),
        in_tasks: HashMap::new(),
    };
    let step = Step::of("tasks", task_rows);
    let mut done = 0;
    store.scan(Table::Tasks, None, question.applications, &mut |frame| {
        done += frame.height();
        tasks.take(frame)?;
        step.advance(done);
        Ok(())
    })?;
    step.end(&format!("{task_rows} joined"));
    let in_tasks = tasks.in_tasks;
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

/// The ids of all processes that ran tasks, and the number of tasks.
fn processes_with_tasks(
    store: &dyn Store,
    applications: &[String],
) -> Result<(HashSet<String>, usize), StoreError> {
    let mut found = HashSet::new();
    let mut rows = 0;
    store.scan(Table::Tasks, Some(&["process_id"]), applications, &mut |frame| {
        rows += frame.height();
        let mut last = None;
        for id in frame.column("process_id")?.str()?.iter().flatten() {
            if last != Some(id) {
                found.insert(id.to_owned());
                last = Some(id);
            }
        }
        Ok(())
    })?;
    Ok((found, rows))
}

/// A set of TIDs, which Spark gives in turn: a bit each.
#[derive(Debug, Default)]
struct Tids(HashMap<i64, u64>);

impl Tids {
    /// Says whether it was not in the set yet.
    fn insert(&mut self, tid: i64) -> bool {
        let word = self.0.entry(tid >> 6).or_default();
        let bit = 1 << (tid & 63);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

/// Takes in the tasks of the records. Neighbours that are of one row and were counted alike are summed up
/// column by column.
struct Tasks<'a> {
    question: &'a Question<'a>,
    selected: &'a BTreeMap<&'a String, &'a Process>,
    jobs: &'a Jobs,
    logged: &'a mut LoggedTasks,
    threads: &'a mut Option<Threads>,
    answer: &'a mut Answer,
    /// TIDs that were seen, of each application attempt in `attempts`.
    seen: Vec<Tids>,
    /// (application, attempt) -> place in `seen`.
    attempts: HashMap<(Option<String>, Option<String>), usize>,
    /// Process -> what its tasks did.
    in_tasks: HashMap<String, [u64; METRIC_COUNT]>,
}

/// What neighbouring tasks have in common.
#[derive(Clone, Copy, PartialEq)]
struct Common<'f> {
    process: &'f str,
    application: Option<&'f str>,
    executor: Option<&'f str>,
    stage: Option<(i64, Option<i64>)>,
    engine: Option<&'f str>,
}

/// Neighbours in a frame.
struct Neighbours<'f> {
    common: Common<'f>,
    from: usize,
    /// Those of them that the event log tells of.
    logged: Vec<usize>,
}

impl Tasks<'_> {
    fn take(&mut self, mut frame: DataFrame) -> Result<(), StoreError> {
        frame.rechunk_mut();
        let rows = Rated::of(frame)?;
        let text = |name: &str| rows.frame.column(name)?.str();
        let number = |name: &str| rows.frame.column(name)?.i64();
        let truth = |name: &str| rows.frame.column(name)?.bool();
        let (processes, applications) = (text("process_id")?, text("application_id")?);
        let (executors, engines) = (text("executor_id")?, text("engine")?);
        let methods = text("method")?;
        let (stages, stage_attempts) = (number("stage")?, number("stage_attempt")?);
        let (task_ids, threads) = (number("task_id")?, number("tid")?);
        let (starts, ends) = (number("start_real_ns")?, number("end_real_ns")?);
        let (late, by_next) = (truth("is_late")?, truth("closed_by_next")?);
        let by_end = truth("closed_by_thread_end")?;
        let is_set = |column: &BooleanChunked, at| column.get(at).unwrap_or(false);
        let question = self.question;
        // Neighbours are of different rows if rows are per one of these.
        let is_fine = question
            .by
            .iter()
            .any(|one| [Dimension::Task, Dimension::Thread, Dimension::Time].contains(one));
        let selected = self.selected;
        let mut current: Option<(&str, Option<&Process>)> = None;
        let mut attempt: Option<((&str, Option<&str>), usize)> = None;
        let mut neighbours: Option<Neighbours<'_>> = None;
        for at in 0..rows.len() {
            let id = processes.get(at).unwrap_or_default();
            if current.is_none_or(|(one, _)| one != id) {
                current = Some((id, selected.get(&id.to_owned()).copied()));
            }
            let Some(process) = current.and_then(|(_, process)| process) else {
                if let Some(before) = neighbours.take() {
                    self.add(&rows, &before, at)?;
                }
                continue;
            };
            let (own_application, task_id) = (applications.get(at), task_ids.get(at));
            let logged_task = own_application.zip(task_id).and_then(|(application, task_id)| {
                let attempt = process.attempt.as_deref();
                self.logged.find(application, process.cluster.as_deref(), attempt, task_id)
            });
            // Of a thread that the task has started: it adds to the task.
            let is_further = methods.get(at) == Some(TaskMethod::TASK_THREAD.name());
            self.answer.notes.task(
                starts.get(at).is_none(),
                ends.get(at).is_none(),
                is_set(late, at),
                is_set(by_next, at) || is_set(by_end, at),
            );
            let seen = match attempt.filter(|(key, _)| *key == (id, own_application)) {
                Some((_, place)) => place,
                None => {
                    let key = (own_application.map(str::to_owned), process.attempt.clone());
                    let next = self.attempts.len();
                    let place = *self.attempts.entry(key).or_insert(next);
                    if place == self.seen.len() {
                        self.seen.push(Tids::default());
                    }
                    attempt = Some(((id, own_application), place));
                    place
                }
            };
            let is_repeated =
                is_further || task_id.is_some_and(|task_id| !self.seen[seen].insert(task_id));
            let application = own_application.or(process.place.application.as_deref());
            match logged_task {
                Some(task) => self.logged.tasks[task].is_joined = true,
                None => {
                    let name = application.unwrap_or("unknown");
                    let has_log = self.logged.apps.contains_key(name);
                    self.answer.notes.unlogged_task(name, has_log);
                }
            }
            let stage = stages.get(at).map(|id| (id, stage_attempts.get(at)));
            let logged = logged_task.map(|task| &self.logged.tasks[task]);
            let stage = stage.or_else(|| logged.and_then(|task| task.place.stage));
            let executor = executors.get(at);
            if !is_fine && !is_repeated {
                let engine = engines.get(at);
                let common = Common { process: id, application, executor, stage, engine };
                if neighbours.as_ref().is_none_or(|one| one.common != common) {
                    if let Some(before) = neighbours.take() {
                        self.add(&rows, &before, at)?;
                    }
                    neighbours = Some(Neighbours { common, from: at, logged: Vec::new() });
                }
                if let Some(neighbours) = &mut neighbours {
                    neighbours.logged.extend(logged_task);
                }
                continue;
            }
            if let Some(before) = neighbours.take() {
                self.add(&rows, &before, at)?;
            }
            let ms = |column: &Int64Chunked| column.get(at).map(|ns| ns / 1_000_000);
            let times = logged_task.and_then(|task| self.logged.tasks[task].times);
            let own_times = || ms(starts).zip(ms(ends)).filter(|_| !is_further);
            let times = times.or_else(own_times);
            if let (Some(times), Some(application), Some(task_id)) = (times, application, task_id) {
                self.answer.task_times.insert((application.to_owned(), task_id), times);
            }
            let counted = rows.counted(at);
            let thread = threads.get(at);
            if let (Some(threads), Some(thread)) = (&mut *self.threads, thread) {
                threads.take_task(id, thread, &counted);
            }
            let named = |(threads, tid): (&Threads, i64)| threads.named(id, tid);
            let place = Place {
                thread: self.threads.as_ref().zip(thread).map(named),
                time: question.bucket(times),
                task: task_id,
                ..self.place(process, application, executor, stage)
            };
            let key = Key::new(question.by, &place, Part::Tasks);
            let spark = logged_task.map(|task| &self.logged.tasks[task].said);
            let figures = TaskFigures { counted: Some(&counted), is_repeated, spark };
            self.answer.rows.at(key).add_task(&figures);
            add(self.in_tasks.entry(id.to_owned()).or_insert([0; METRIC_COUNT]), &counted);
        }
        match neighbours {
            Some(last) => self.add(&rows, &last, rows.len()),
            None => Ok(()),
        }
    }

    fn place(
        &self,
        process: &Process,
        application: Option<&str>,
        executor: Option<&str>,
        stage: Option<(i64, Option<i64>)>,
    ) -> Place {
        Place {
            application: application.map(str::to_owned),
            executor: executor.map(str::to_owned).or_else(|| process.place.executor.clone()),
            job: application.zip(stage).and_then(|(id, stage)| self.jobs.of(id, stage)),
            stage,
            ..process.place.clone()
        }
    }

    /// Adds neighbours, up to a place in the frame.
    fn add(
        &mut self,
        rows: &Rated,
        neighbours: &Neighbours<'_>,
        to: usize,
    ) -> Result<(), StoreError> {
        let Common { process: id, application, executor, stage, .. } = neighbours.common;
        let Some(process) = self.selected.get(&id.to_owned()).copied() else { return Ok(()) };
        let run = rows.run(neighbours.from, to)?;
        let sums = self.in_tasks.entry(id.to_owned()).or_insert([0; METRIC_COUNT]);
        for (sum, (_, value)) in sums.iter_mut().zip(&run.sums) {
            *sum = sum.saturating_add(*value);
        }
        let place = self.place(process, application, executor, stage);
        let row = self.answer.rows.at(Key::new(self.question.by, &place, Part::Tasks));
        row.add_run(&run);
        neighbours.logged.iter().for_each(|&task| row.add_said(&self.logged.tasks[task].said));
        row.add_unsaid(run.tasks - neighbours.logged.len() as u32);
        Ok(())
    }
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

    /// The sums over some rows; their engine column must be the same.
    fn run(&self, from: usize, to: usize) -> PolarsResult<Run> {
        let mut sums = [(0, 0); METRIC_COUNT];
        for ((known, sum), column) in sums.iter_mut().zip(&self.metrics) {
            for array in column.u64()?.downcast_iter() {
                let values = &array.values()[from..to];
                let total = |sum: u64, value: &u64| sum.saturating_add(*value);
                match array.validity().filter(|bits| bits.unset_bits() > 0) {
                    None => {
                        *known = (to - from) as u32;
                        *sum = values.iter().fold(0, total);
                    }
                    Some(bits) if bits.unset_bits() == bits.len() => {}
                    Some(bits) => {
                        let valid =
                            values.iter().enumerate().filter(|(at, _)| bits.get_bit(from + at));
                        *sum =
                            valid.map(|(_, value)| value).inspect(|_| *known += 1).fold(0, total);
                    }
                }
            }
        }
        let engine = text(&self.engine, from);
        let is_partial = engine.as_deref() == Some(ENGINE_PARTIAL);
        let is_exact = engine.as_deref() == Some(ENGINE_EXACT);
        Ok(Run { tasks: (to - from) as u32, sums, is_partial, is_exact })
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
