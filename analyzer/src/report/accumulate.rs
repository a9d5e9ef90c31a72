//! What tasks are added to: the rows of the answer, and what is left of their processes.

use std::collections::{BTreeMap, HashMap, HashSet};

use records::METRIC_COUNT;

use crate::report::answer::Answer;
use crate::report::directories::{Directories, NO_DIRECTORY};
use crate::report::jobs::Jobs;
use crate::report::key::{Key, Part, Place, Span};
use crate::report::question::Question;
use crate::report::rows::{Counted, Row, Run, SaidRun, Share};
use crate::report::threads::Threads;

/// The role whose processes are an application's executors.
pub const EXECUTOR: &str = "executor";
/// The role of Python workers.
pub const PYTHON_WORKER: &str = "python_worker";

/// (application, executor) -> node, as the records name it.
pub type Nodes = HashMap<(String, String), String>;

/// A process of the store.
pub struct Process {
    pub place: Place,
    /// The application's id, which the place has as reports call it.
    pub id: Option<String>,
    pub cluster: Option<String>,
    pub attempt: Option<String>,
    pub role: Option<String>,
    pub counted: Counted,
    pub life: Life,
    pub is_final: bool,
    pub missing_segments: u64,
    pub left_out_bytes: u64,
    pub tells_directories: bool,
}

/// By what a process's children are found.
#[derive(Clone, Debug, Default)]
pub struct Life {
    pub boot: Option<String>,
    pub container: Option<String>,
    pub pid: Option<i64>,
    pub ppid: Option<i64>,
    pub start_ns: Option<i64>,
}

impl Process {
    /// What reports call an application that a record of the process names.
    pub fn called(&self, id: &str) -> String {
        let own = self.place.application.as_ref().filter(|_| self.id.as_deref() == Some(id));
        own.cloned().unwrap_or_else(|| id.to_owned())
    }
}

/// The processes whose tasks a report has.
pub type Selected<'a> = BTreeMap<&'a str, &'a Process>;

/// Which processes ran tasks.
#[derive(Default)]
pub struct Ran {
    /// Number of tasks.
    pub tasks: usize,
    /// (process, application of its tasks).
    pub pairs: HashSet<(String, Option<String>)>,
    /// Whether there are tasks of which the records do not know the stage.
    pub lacks_stages: bool,
}

/// Where tasks are of.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Of<'a> {
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
pub struct Sums<'a> {
    pub question: &'a Question<'a>,
    pub selected: &'a Selected<'a>,
    pub jobs: &'a Jobs,
    pub threads: Option<Threads>,
    pub answer: Answer,
    /// Ids of the applications that are asked for.
    pub ids: &'a [String],
    /// Process -> what its tasks did.
    pub in_tasks: HashMap<String, [u64; METRIC_COUNT]>,
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
    pub fn add_directories(&mut self, mut directories: Directories) {
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
    pub fn add_outside(&mut self) {
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
