//! Reading the store and joining our tasks with Spark's.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use records::METRIC_COUNT;

use crate::console::progress::Step;
use crate::report::directories::{Directories, NO_DIRECTORY, are_told};
use crate::report::figure::Scale;
use crate::report::jobs::Jobs;
use crate::report::key::{Dimension, Key, Part, Place, Span};
use crate::report::logged::LoggedTasks;
use crate::report::logs::Logs;
use crate::report::notes::Notes;
use crate::report::pieces::Pieces;
use crate::report::print::human;
use crate::report::rated::{Rated, read, text};
use crate::report::rows::{Counted, Row, Rows, Run, SaidRun, Share};
use crate::report::stage_attempts::StageAttempts;
use crate::report::stage_names::{self, StageNames};
use crate::report::task_facts::TaskFacts;
use crate::report::tasks::Tasks;
use crate::report::threads::Threads;
use crate::report::{grouped, limits};
use crate::store::{Store, StoreError, Table};

/// The role whose processes are an application's executors.
const EXECUTOR: &str = "executor";
/// The role of Python workers.
const PYTHON_WORKER: &str = "python_worker";

/// What the user asked for.
pub struct Question<'a> {
    /// Dimensions, with those that others imply.
    pub by: &'a [Dimension],
    /// What reports call applications; empty = every application with records, or every one if there are none.
    pub applications: &'a [String],
    /// Roles of processes; empty = executors and whatever ran tasks.
    pub roles: &'a [String],
    /// Width of buckets of time, in ms.
    pub bucket_ms: i64,
    /// Whether single tasks are to be listed, too.
    pub lists_tasks: bool,
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
    /// What stage attempts of the event logs are called.
    pub stage_names: StageNames,
    /// What event logs say of applications, executors, jobs, stages and queries.
    pub logs: Logs,
    /// Application id -> the name that its user gave it.
    pub application_names: BTreeMap<String, String>,
    /// (application, TID) -> first and last ms since the epoch, on the driver's clock if the event log has the
    /// task, else on its node's.
    pub task_times: HashMap<(String, i64), (i64, i64)>,
    /// Single tasks, if they were asked for.
    pub tasks: Option<TaskFacts>,
    /// What counting wrote, of these processes.
    pub written: Written,
    /// All application ids in the store.
    pub known_applications: BTreeSet<String>,
}

impl Answer {
    /// What reports call the applications that have rows.
    pub fn applications(&self) -> Vec<String> {
        let all = self.rows.iter().filter_map(|(key, _)| Some(key.application.as_ref()?.0.clone()));
        let all: BTreeSet<_> = all.collect();
        all.into_iter().collect()
    }
}

/// What counting cost, as far as records know: files and their bytes. They do not know processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Record files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Written {
    /// For people; nothing if there is no file.
    pub fn line(self) -> Option<String> {
        let bytes = human(self.bytes, Scale::Bytes);
        let files = if self.files == 1 { "file" } else { "files" };
        (self.files > 0).then(|| {
            format!(
                "Counting wrote {bytes} in {} record {files}; what it cost in processor time is not in records: \
                 compare with a run without it.",
                self.files
            )
        })
    }
}

/// A process of the store.
pub(super) struct Process {
    pub place: Place,
    /// The application's id, which the place has as reports call it.
    pub id: Option<String>,
    pub cluster: Option<String>,
    pub attempt: Option<String>,
    pub role: Option<String>,
    pub counted: Counted,
    life: Life,
    is_final: bool,
    missing_segments: u64,
    left_out_bytes: u64,
    tells_directories: bool,
}

/// By what a process's children are found.
#[derive(Clone, Debug, Default)]
struct Life {
    boot: Option<String>,
    container: Option<String>,
    pid: Option<i64>,
    ppid: Option<i64>,
    start_ns: Option<i64>,
}

impl Process {
    /// What reports call an application that a record of the process names.
    pub fn called(&self, id: &str) -> String {
        let own = self.place.application.as_ref().filter(|_| self.id.as_deref() == Some(id));
        own.cloned().unwrap_or_else(|| id.to_owned())
    }
}

/// The processes whose tasks a report has.
pub(super) type Selected<'a> = BTreeMap<&'a str, &'a Process>;

/// Which processes ran tasks.
#[derive(Default)]
pub(super) struct Ran {
    /// Number of tasks.
    pub tasks: usize,
    /// (process, application of its tasks).
    pub pairs: HashSet<(String, Option<String>)>,
    /// Whether there are tasks of which the records do not know the stage.
    pub lacks_stages: bool,
}

/// Where tasks are of.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) struct Of<'a> {
    pub process: &'a str,
    pub application: Option<&'a str>,
    pub executor: Option<&'a str>,
    pub stage: Option<(i64, Option<i64>)>,
    /// What their column `engine` says.
    pub engine: Option<&'a str>,
    /// Thread number, if rows are per thread.
    pub thread: Option<i64>,
    /// Buckets of time, if rows are per time.
    pub time: Option<Span>,
    /// TID, if rows are per task.
    pub task: Option<i64>,
}

/// What tasks are added to, one by one or many that were summed up somewhere.
pub(super) struct Sums<'a> {
    pub question: &'a Question<'a>,
    pub selected: &'a Selected<'a>,
    pub jobs: &'a Jobs,
    pub threads: Option<Threads>,
    pub answer: Answer,
    /// Ids of the applications that are asked for.
    pub ids: &'a [String],
    /// Process -> what its tasks did.
    in_tasks: HashMap<String, [u64; METRIC_COUNT]>,
}

impl Sums<'_> {
    /// The key of the row of tasks.
    pub fn key(&self, of: &Of<'_>) -> Key {
        let process = self.selected.get(of.process);
        let own = process.map(|process| process.place.clone()).unwrap_or_default();
        let called = |id: &str| process.map_or_else(|| id.to_owned(), |one| one.called(id));
        let application = of.application.map(called).or(own.application);
        let named = |(threads, tid): (&Threads, i64)| threads.named(of.process, tid);
        let ran = application.as_deref().zip(of.stage);
        let job = ran.and_then(|(id, stage)| self.jobs.that_ran(id, stage));
        let place = Place {
            executor: of.executor.map(str::to_owned).or(own.executor),
            query: job.and_then(|job| job.query),
            job: job.map(|job| job.job),
            application,
            stage: of.stage,
            thread: self.threads.as_ref().zip(of.thread).map(named),
            time: of.time,
            task: of.task,
            ..own
        };
        Key::new(self.question.by, &place, Part::Tasks)
    }

    /// The row of tasks.
    pub fn row(&mut self, of: &Of<'_>) -> &mut Row {
        let key = self.key(of);
        self.answer.rows.at(key)
    }

    /// Takes what tasks did from their process and thread.
    pub fn take(&mut self, of: &Of<'_>, values: &[u64; METRIC_COUNT]) {
        if !self.in_tasks.contains_key(of.process) {
            self.in_tasks.insert(of.process.to_owned(), [0; METRIC_COUNT]);
        }
        for (sum, value) in self.in_tasks.get_mut(of.process).into_iter().flatten().zip(values) {
            *sum = sum.saturating_add(*value);
        }
        if let (Some(threads), Some(thread)) = (&mut self.threads, of.thread) {
            threads.take(of.process, thread, values);
        }
    }

    /// Adds the counters of many tasks, or of what only adds to tasks that are there.
    pub fn add_run(&mut self, of: &Of<'_>, run: &Run, share: Share) -> &mut Row {
        self.take(of, &run.sums.map(|(_, value)| value));
        let row = self.row(of);
        row.add_run(run, share);
        row
    }

    /// Adds tasks that only the event log tells of.
    pub fn add_unrecorded(&mut self, mut place: Place, said: &SaidRun, nodes: &Nodes) {
        let application = place.application.clone().unwrap_or_default();
        let job = place.stage.and_then(|stage| self.jobs.that_ran(&application, stage));
        (place.job, place.query) = (job.map(|job| job.job), job.and_then(|job| job.query));
        let executor = place.executor.clone().unwrap_or_default();
        if let Some(node) = nodes.get(&(application.clone(), executor)) {
            place.node = Some(node.clone());
        }
        self.answer.notes.unrecorded_tasks(&application, u64::from(said.tasks));
        let row = self.answer.rows.at(Key::new(self.question.by, &place, Part::Tasks));
        row.add_unrecorded(said.tasks);
        row.add_said_run(said);
    }

    /// Adds a process to what rows are to be reconciled with.
    fn note(&mut self, process: &Process) {
        self.answer.process_totals.add_counted(&process.counted);
        self.answer.notes.process(
            process.is_final,
            process.role.as_deref() == Some(PYTHON_WORKER),
            process.missing_segments,
            process.left_out_bytes,
        );
    }

    /// Adds whole processes: what they did in each directory, and all else.
    fn add_directories(&mut self, mut directories: Directories) {
        for (id, process) in self.selected {
            self.note(process);
            let all = directories.take(id);
            let is_told = process.tells_directories || !all.is_empty();
            let mut rest = process.counted.clone();
            let key = |directory| {
                let place = Place { directory, ..process.place.clone() };
                Key::new(self.question.by, &place, Part::Whole)
            };
            let rows = &mut self.answer.rows;
            for (name, counted) in all {
                rest.subtract(&counted.values.map(|value| value.unwrap_or(0)));
                rows.at(key(Some(name))).add_files(&counted);
            }
            rows.at(key(is_told.then(|| NO_DIRECTORY.to_owned()))).add_counted(&rest);
        }
    }

    /// Adds what processes and their threads did outside tasks.
    fn add_outside(&mut self) {
        for (id, process) in self.selected {
            self.note(process);
            let mut rest = process.counted.clone();
            if let Some(sums) = self.in_tasks.get(*id) {
                rest.subtract(sums);
            }
            let threads = self.threads.iter_mut().flat_map(|threads| threads.outside(id));
            for (thread, outside) in threads {
                rest.subtract(&outside.values.map(|value| value.unwrap_or(0)));
                let place = Place { thread: Some(thread), ..process.place.clone() };
                let key = Key::new(self.question.by, &place, Part::Outside);
                self.answer.rows.at(key).add_counted(&outside);
            }
            // Of all threads something is left only if one lacks its record, or was not counted.
            if self.threads.is_none() || !rest.is_nothing() {
                let key = Key::new(self.question.by, &process.place, Part::Outside);
                self.answer.rows.at(key).add_counted(&rest);
            }
        }
    }
}

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
    let ran = match store.spark() {
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
    match store.spark() {
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

/// (application, executor) -> node, as the records name it.
pub(super) type Nodes = HashMap<(String, String), String>;

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
