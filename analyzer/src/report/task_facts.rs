//! Single tasks, with what findings need of them: much less than a row per task holds.

use std::collections::HashMap;

use crate::input::eventlog::{SPARK_METRICS, SparkMetrics};
use crate::report::logged_task::LoggedTask;
use crate::report::rows::{Share, between};

/// Of more tasks of an application no list is kept: a quarter of a kilobyte each.
const MOST: usize = 2_000_000;
/// Stands for a value that is not known.
const UNKNOWN: u64 = u64::MAX;

/// A task attempt.
#[derive(Clone, Debug)]
pub struct TaskFact {
    /// Application, as reports call it.
    pub application: u32,
    /// Node.
    pub node: Option<u32>,
    /// Executor.
    pub executor: Option<u32>,
    /// Stage id and attempt.
    pub stage: Option<(i64, Option<i64>)>,
    /// TID.
    pub task: i64,
    /// First and last ms since the epoch, on the driver's clock if the event log has the task, else on its node's.
    pub times: Option<(i64, i64)>,
    /// Whether it failed; unknown for open ones.
    pub failed: Option<bool>,
    /// Whether it was killed.
    pub killed: Option<bool>,
    /// Whether it was a speculative copy.
    pub speculative: bool,
    /// Why it did not succeed.
    pub failure: Option<Box<str>>,
    instructions: u64,
    spark: [u64; SPARK_METRICS.len()],
}

fn known(value: u64) -> Option<u64> {
    (value != UNKNOWN).then_some(value)
}

impl TaskFact {
    /// Its instructions, if they are exactly known: of its own thread and of all that worked for it.
    pub fn instructions(&self) -> Option<u64> {
        known(self.instructions)
    }

    /// How long it took, in ms.
    pub fn duration(&self) -> Option<u64> {
        self.times.and_then(|(start, end)| between(start, end))
    }

    /// A metric that Spark measured.
    pub fn spark(&self, index: usize) -> Option<u64> {
        known(self.spark[index])
    }

    /// Whether what it did was of use.
    pub fn has_succeeded(&self) -> bool {
        self.failed != Some(true) && self.killed != Some(true)
    }

    fn learn(&mut self, said: &LoggedTask) {
        (self.failed, self.killed) = (said.failed, said.killed);
        self.speculative = said.speculative;
        self.failure.clone_from(&said.failure);
        self.times = said.times.or(self.times);
        let metrics: &SparkMetrics = &said.said.metrics;
        self.spark = metrics.map(|value| value.unwrap_or(UNKNOWN));
    }
}

/// All tasks of the applications that are asked for.
#[derive(Clone, Debug, Default)]
pub struct TaskFacts {
    /// The tasks.
    pub all: Vec<TaskFact>,
    /// How many there are besides.
    pub left_out: u64,
    names: Vec<String>,
    index: HashMap<String, u32>,
    /// (application, TID) -> place.
    places: HashMap<(u32, i64), u32>,
}

/// Where a record says that a task ran, and what it counted.
pub struct Recorded<'a> {
    /// Application, as reports call it.
    pub application: &'a str,
    /// Node.
    pub node: Option<&'a str>,
    /// Executor.
    pub executor: Option<&'a str>,
    /// Stage id and attempt.
    pub stage: Option<(i64, Option<i64>)>,
    /// TID.
    pub task: i64,
    /// First and last ms on the node's clock.
    pub times: Option<(i64, i64)>,
    /// Instructions, if exactly known.
    pub instructions: Option<u64>,
    /// What the record is of.
    pub share: Share,
}

impl TaskFacts {
    fn named(&mut self, name: &str) -> u32 {
        if let Some(at) = self.index.get(name) {
            return *at;
        }
        let at = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.index.insert(name.to_owned(), at);
        at
    }

    /// The number of a name.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.index.get(name).copied()
    }

    /// A name.
    pub fn name(&self, at: u32) -> &str {
        &self.names[at as usize]
    }

    /// The place of a task; a new one, unless there are too many.
    fn at(&mut self, application: &str, task: i64) -> Option<&mut TaskFact> {
        let application = self.named(application);
        let next = self.all.len();
        let place = match self.places.get(&(application, task)) {
            Some(place) => *place as usize,
            None if next >= MOST => {
                self.left_out += 1;
                return None;
            }
            None => {
                self.places.insert((application, task), next as u32);
                self.all.push(TaskFact {
                    application,
                    node: None,
                    executor: None,
                    stage: None,
                    task,
                    times: None,
                    failed: None,
                    killed: None,
                    speculative: false,
                    failure: None,
                    instructions: 0,
                    spark: [UNKNOWN; SPARK_METRICS.len()],
                });
                next
            }
        };
        self.all.get_mut(place)
    }

    /// Takes in what a record tells of a task, and the event log if it has the task.
    pub fn take(&mut self, one: &Recorded<'_>, logged: Option<&LoggedTask>) {
        let (node, executor) =
            (one.node.map(|name| self.named(name)), one.executor.map(|name| self.named(name)));
        let Some(fact) = self.at(one.application, one.task) else { return };
        match (one.instructions, known(fact.instructions)) {
            (Some(more), Some(sum)) => fact.instructions = sum.saturating_add(more),
            _ => fact.instructions = UNKNOWN,
        }
        if !one.share.is_further() || fact.stage.is_none() {
            (fact.node, fact.executor) = (node.or(fact.node), executor.or(fact.executor));
            (fact.stage, fact.times) = (one.stage, one.times.or(fact.times));
        }
        if let Some(said) = logged {
            fact.learn(said);
        }
    }

    /// Takes in a task of which there is no record.
    pub fn take_unrecorded(&mut self, task: &LoggedTask, node: Option<&str>) {
        let place = &task.place;
        let (Some(application), Some(tid)) = (&place.application, place.task) else { return };
        let node = node.or(place.node.as_deref()).map(|name| self.named(name));
        let executor = place.executor.as_deref().map(|name| self.named(name));
        let Some(fact) = self.at(application, tid) else { return };
        (fact.node, fact.executor, fact.stage) = (node, executor, place.stage);
        fact.instructions = UNKNOWN;
        fact.learn(task);
    }
}
