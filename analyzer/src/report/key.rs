//! Keys: by what rows are told apart.

use std::cmp::Ordering;

/// By what rows are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Dimension {
    /// Application
    App,
    /// Node
    Node,
    /// Executor
    Executor,
    /// Process
    Process,
    /// Thread
    Thread,
    /// Directory of files; of whole processes, so not with thread, time, job, stage or task
    Directory,
    /// Time, in buckets (--bucket) and, where no snapshot divides what a task did, in rows of several
    Time,
    /// SQL query that the job is of
    Query,
    /// Job that ran the stage
    Job,
    /// Stage attempt
    Stage,
    /// Task attempt
    Task,
}

impl Dimension {
    /// The head of its column.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::App => "application",
            Dimension::Node => "node",
            Dimension::Executor => "executor",
            Dimension::Process => "process",
            Dimension::Thread => "thread",
            Dimension::Directory => "directory",
            Dimension::Time => "time",
            Dimension::Query => "query",
            Dimension::Job => "job",
            Dimension::Stage => "stage",
            Dimension::Task => "task",
        }
    }

    /// Whether it tells tasks apart that ran in one process, so that the rest of the process has none.
    pub fn is_of_tasks(self) -> bool {
        matches!(
            self,
            Dimension::Time
                | Dimension::Query
                | Dimension::Job
                | Dimension::Stage
                | Dimension::Task
        )
    }

    /// The first of some dimensions that cannot be told together with directories.
    pub fn not_with_directories(by: &[Dimension]) -> Option<Dimension> {
        let is_part = |one: &Dimension| one.is_of_tasks() || *one == Dimension::Thread;
        let part = by.iter().copied().find(is_part);
        part.filter(|_| by.contains(&Dimension::Directory))
    }

    /// What was asked for and what that implies: ids mean something within what gave them only.
    pub fn implied(asked: &[Dimension]) -> Vec<Dimension> {
        let mut by = asked.to_vec();
        if by.contains(&Dimension::Task) {
            by.extend([Dimension::Stage, Dimension::Executor]);
        }
        if by.contains(&Dimension::Thread) {
            by.push(Dimension::Process);
        }
        let is_of_application = |one: &Dimension| {
            use Dimension::{Executor, Job, Query, Stage};
            matches!(one, Query | Job | Stage | Executor)
        };
        if by.iter().any(is_of_application) {
            by.push(Dimension::App);
        }
        by.sort();
        by.dedup();
        by
    }
}

/// A name that sorts as people expect: `node-2` before `node-10`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub String);

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (mut one, mut two) = (self.0.as_str(), other.0.as_str());
        loop {
            let (in_one, in_two) = (digits(one), digits(two));
            if in_one > 0 && in_two > 0 {
                let (first, second) =
                    (one[..in_one].trim_start_matches('0'), two[..in_two].trim_start_matches('0'));
                let order = first.len().cmp(&second.len()).then_with(|| first.cmp(second));
                if order.is_ne() {
                    return order;
                }
                (one, two) = (&one[in_one..], &two[in_two..]);
                continue;
            }
            match (one.chars().next(), two.chars().next()) {
                (Some(first), Some(second)) if first == second => {
                    (one, two) = (&one[first.len_utf8()..], &two[second.len_utf8()..]);
                }
                (first, second) => {
                    return first.cmp(&second).then_with(|| self.0.cmp(&other.0));
                }
            }
        }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether a row is of tasks or of the rest of their processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Inside tasks.
    Tasks,
    /// Outside tasks.
    Outside,
    /// Inside and outside tasks.
    Whole,
}

impl Part {
    /// The part's name.
    pub fn name(self) -> &'static str {
        match self {
            Part::Tasks => "tasks",
            Part::Outside => "outside tasks",
            Part::Whole => "whole processes",
        }
    }
}

/// A thread of a process; the system may have given its number to several, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thread {
    /// Thread number.
    pub tid: i64,
    /// The last name that it was started with.
    pub name: Option<String>,
}

/// Some whole buckets of time in which something was measured: more than one, if it is not known how it
/// is divided among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Its beginning, in ms since the epoch.
    pub from_ms: i64,
    /// Its end, which is no part of it.
    pub until_ms: i64,
    /// Whether it is just one bucket.
    pub is_bucket: bool,
}

/// What tells a row apart; dimensions that were not asked for are `None`, as are unknown ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Application id.
    pub application: Option<Name>,
    /// Node name.
    pub node: Option<Name>,
    /// Executor id.
    pub executor: Option<Name>,
    /// Process id.
    pub process: Option<String>,
    /// Thread.
    pub thread: Option<Thread>,
    /// Directory; unknown where records do not tell.
    pub directory: Option<String>,
    /// Tasks before the rest.
    pub part: Part,
    /// The buckets of time that it ran in.
    pub time: Option<Span>,
    /// Execution id of the SQL query.
    pub query: Option<i64>,
    /// Job id.
    pub job: Option<i64>,
    /// Stage id and attempt.
    pub stage: Option<(i64, Option<i64>)>,
    /// TID.
    pub task: Option<i64>,
}

/// Where and when something ran, and what it was part of.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Application id.
    pub application: Option<String>,
    /// Node name.
    pub node: Option<String>,
    /// Executor id.
    pub executor: Option<String>,
    /// Process id.
    pub process: Option<String>,
    /// Thread.
    pub thread: Option<Thread>,
    /// Directory.
    pub directory: Option<String>,
    /// The buckets of time that it ran in.
    pub time: Option<Span>,
    /// Execution id of the SQL query.
    pub query: Option<i64>,
    /// Job id.
    pub job: Option<i64>,
    /// Stage id and attempt.
    pub stage: Option<(i64, Option<i64>)>,
    /// TID.
    pub task: Option<i64>,
}

impl Key {
    /// The key of something at this place, in these dimensions.
    pub fn new(by: &[Dimension], place: &Place, part: Part) -> Key {
        let name = |dimension: Dimension, name: &Option<String>| {
            name.clone().filter(|_| by.contains(&dimension)).map(Name)
        };
        Key {
            application: name(Dimension::App, &place.application),
            node: name(Dimension::Node, &place.node),
            executor: name(Dimension::Executor, &place.executor),
            process: place.process.clone().filter(|_| by.contains(&Dimension::Process)),
            thread: place.thread.clone().filter(|_| by.contains(&Dimension::Thread)),
            directory: place.directory.clone().filter(|_| by.contains(&Dimension::Directory)),
            part,
            time: place.time.filter(|_| by.contains(&Dimension::Time)),
            query: place.query.filter(|_| by.contains(&Dimension::Query)),
            job: place.job.filter(|_| by.contains(&Dimension::Job)),
            stage: place.stage.filter(|_| by.contains(&Dimension::Stage)),
            task: place.task.filter(|_| by.contains(&Dimension::Task)),
        }
    }

    /// The same with fewer dimensions.
    pub fn projected(&self, by: &[Dimension]) -> Key {
        let text = |name: &Option<Name>| name.as_ref().map(|name| name.0.clone());
        let place = Place {
            application: text(&self.application),
            node: text(&self.node),
            executor: text(&self.executor),
            process: self.process.clone(),
            thread: self.thread.clone(),
            directory: self.directory.clone(),
            time: self.time,
            query: self.query,
            job: self.job,
            stage: self.stage,
            task: self.task,
        };
        Key::new(by, &place, self.part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_their_numbers() {
        let mut names = ["n10", "n9", "n9a", "n09", "127.0.0.2", "127.0.0.10", ""]
            .map(|name| Name(name.into()));
        names.sort();
        let names = names.map(|name| name.0);
        assert_eq!(names, ["", "127.0.0.2", "127.0.0.10", "n09", "n9", "n9a", "n10"]);
    }

    #[test]
    fn ids_bring_what_gives_them_their_meaning() {
        use Dimension::{App, Executor, Job, Node, Process, Stage, Task, Thread, Time};
        assert_eq!(Dimension::implied(&[Stage, Node]), [App, Node, Stage]);
        assert_eq!(Dimension::implied(&[Task]), [App, Executor, Stage, Task]);
        assert_eq!(Dimension::implied(&[Thread]), [Process, Thread]);
        assert_eq!(Dimension::implied(&[Job, Time]), [App, Time, Job]);
    }
}
