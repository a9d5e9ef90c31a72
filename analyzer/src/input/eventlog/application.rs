//! What event logs say about one attempt of an application.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::input::eventlog::event::{Event, SparkMetrics, StageInfo, TaskEvent, first_line};
use crate::input::eventlog::plan::{Metrics, PlanNode, Rdd};

/// One attempt of an application, as far as its logs tell. Times are ms since the epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Application {
    /// Application id.
    pub id: Option<String>,
    /// Attempt id; YARN and Kubernetes have one, standalone has none.
    pub attempt: Option<String>,
    /// The name that the user gave it.
    pub name: Option<String>,
    /// The user who submitted it.
    pub user: Option<String>,
    /// Spark's version.
    pub spark_version: Option<String>,
    /// When it started.
    pub started: Option<i64>,
    /// When it ended; unknown for running and crashed ones.
    pub ended: Option<i64>,
    /// By executor id.
    pub executors: BTreeMap<String, Executor>,
    /// By job id.
    pub jobs: BTreeMap<i64, Job>,
    /// The stages' attempts, by id and attempt.
    pub stages: BTreeMap<(i64, i64), Stage>,
    /// By TID.
    pub tasks: BTreeMap<i64, Task>,
    /// By execution id.
    pub sql: BTreeMap<i64, SqlExecution>,
}

/// An executor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Executor {
    /// Where it ran.
    pub host: Option<String>,
    /// Its cores.
    pub cores: Option<i64>,
    /// When it was added.
    pub added: Option<i64>,
    /// When it was removed.
    pub removed: Option<i64>,
    /// Why it was removed.
    pub removed_reason: Option<String>,
}

/// A job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// When it was submitted.
    pub submitted: Option<i64>,
    /// When it completed.
    pub completed: Option<i64>,
    /// How it ended.
    pub result: Option<String>,
    /// Its stages; with adaptive execution some of them never run.
    pub stages: Vec<i64>,
    /// The description that the user gave it.
    pub description: Option<String>,
    /// The job group that the user gave it.
    pub group: Option<String>,
    /// The SQL execution that it belongs to.
    pub sql_execution: Option<String>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// An attempt of a stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stage {
    /// Stage id.
    pub id: i64,
    /// Attempt.
    pub attempt: i64,
    /// Its name: the call in the user's program.
    pub name: Option<String>,
    /// Planned number of tasks.
    pub tasks: Option<i64>,
    /// The stages that it depends on.
    pub parents: Vec<i64>,
    /// When it was submitted.
    pub submitted: Option<i64>,
    /// When it completed.
    pub completed: Option<i64>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// The first frame that is not Spark's of the call that led to it.
    pub call_site: Option<String>,
    /// Its RDDs, as [`Rdd::text`] has them.
    pub rdds: Option<String>,
    /// Values of its metrics of SQL, as [`Metrics::text`] has them.
    pub sql_metrics: Option<String>,
}

/// An attempt of a task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    /// Stage id.
    pub stage: i64,
    /// Stage attempt.
    pub stage_attempt: i64,
    /// Index in the stage.
    pub index: Option<i64>,
    /// Attempt.
    pub attempt: Option<i64>,
    /// Partition.
    pub partition: Option<i64>,
    /// Executor id.
    pub executor: Option<String>,
    /// The executor's host.
    pub host: Option<String>,
    /// When the driver launched it.
    pub launched: Option<i64>,
    /// When the driver saw its end; unknown for open ones.
    pub finished: Option<i64>,
    /// Locality level.
    pub locality: Option<String>,
    /// Whether it was a speculative copy.
    pub speculative: Option<bool>,
    /// Whether it failed; unknown for open ones.
    pub failed: Option<bool>,
    /// Whether it was killed; unknown for open ones.
    pub killed: Option<bool>,
    /// How it ended: `Success`, `ExceptionFailure`, ...; unknown for open ones.
    pub reason: Option<String>,
    /// Why it did not succeed, in a line.
    pub failure: Option<String>,
    /// Spark's own metrics; unknown for open tasks and for those whose executor was lost.
    pub metrics: Option<SparkMetrics>,
}

/// A SQL query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SqlExecution {
    /// Its description.
    pub description: Option<String>,
    /// When it started.
    pub started: Option<i64>,
    /// When it ended.
    pub ended: Option<i64>,
    /// How far it had come when the plan was written.
    pub progress: Option<i64>,
    /// Its plan, as [`crate::input::eventlog::plan`] has it.
    pub plan: Option<String>,
    /// Values of metrics that the driver measured, as [`Metrics::text`] has them.
    pub driver_metrics: Option<String>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

impl Application {
    /// Takes in one event; `Err` gives it back if it starts another application.
    pub(super) fn take(&mut self, event: Event) -> Result<(), Box<Event>> {
        match event {
            Event::LogStart(start) => agree(&mut self.spark_version, start.spark_version),
            Event::ApplicationStart(start) => {
                let is_other = self.id.is_some() && self.id != start.id
                    || self.id.is_some() && self.attempt != start.attempt;
                if is_other {
                    return Err(Box::new(Event::ApplicationStart(start)));
                }
                agree(&mut self.id, start.id);
                agree(&mut self.attempt, start.attempt);
                agree(&mut self.name, start.name);
                agree(&mut self.user, start.user);
                agree(&mut self.started, start.time);
            }
            Event::ApplicationEnd(end) => agree(&mut self.ended, end.time),
            Event::ExecutorAdded(added) => {
                let executor = self.executors.entry(added.id).or_default();
                agree(&mut executor.host, added.info.host);
                agree(&mut executor.cores, added.info.cores);
                executor.learn_added(added.time);
            }
            Event::ExecutorRemoved(removed) => {
                let executor = self.executors.entry(removed.id).or_default();
                agree(&mut executor.removed, removed.time);
                agree(&mut executor.removed_reason, removed.reason);
            }
            Event::BlockManagerAdded(added) => {
                // In local mode the driver runs the tasks, and no ExecutorAdded may come for it.
                let executor = self.executors.entry(added.id.executor).or_default();
                agree(&mut executor.host, added.id.host);
                executor.learn_added(added.time);
            }
            Event::JobStart(start) => {
                let job = self.jobs.entry(start.id).or_default();
                agree(&mut job.submitted, start.time);
                job.learn_stages(start.stages);
                if let Some(properties) = start.properties {
                    agree(&mut job.description, properties.description);
                    agree(&mut job.group, properties.group);
                    agree(&mut job.sql_execution, properties.sql_execution);
                }
            }
            Event::JobEnd(end) => {
                let job = self.jobs.entry(end.id).or_default();
                agree(&mut job.completed, end.time);
                agree(&mut job.result, end.result.name);
                let said = end.result.exception.and_then(|exception| exception.message);
                agree(&mut job.failure, said.as_deref().and_then(first_line));
            }
            Event::StageSubmitted(stage) | Event::StageCompleted(stage) => {
                self.take_stage(stage.info);
            }
            Event::TaskStart(task) | Event::TaskEnd(task) => self.take_task(*task),
            Event::SqlStart(start) => {
                let execution = self.sql.entry(start.id).or_default();
                agree(&mut execution.description, start.description);
                agree(&mut execution.started, start.time);
                execution.take_plan(start.plan);
            }
            Event::SqlAdapted(adapted) => {
                self.sql.entry(adapted.id).or_default().take_plan(adapted.plan);
            }
            Event::SqlDriverMetrics(measured) => {
                let execution = self.sql.entry(measured.id).or_default();
                execution.driver_metrics =
                    joined(execution.driver_metrics.take(), Metrics::text(measured.updates));
            }
            Event::SqlEnd(end) => {
                let execution = self.sql.entry(end.id).or_default();
                agree(&mut execution.ended, end.time);
                agree(&mut execution.failure, end.failure.as_deref().and_then(first_line));
            }
            Event::Other => {}
        }
        Ok(())
    }

    fn take_stage(&mut self, info: StageInfo) {
        let rdd = |one: crate::input::eventlog::event::RddInfo| Rdd {
            id: one.id,
            name: one.name.unwrap_or_default(),
            scope: one.scope.and_then(|scope| scope_name(&scope)),
            call_site: one.call_site,
            parents: one.parents,
            is_cached: one.storage.disk || one.storage.memory || one.storage.off_heap,
        };
        let mut rdds: Vec<_> = info.rdds.into_iter().map(rdd).collect();
        rdds.sort_by_key(|one| one.id);
        let of_sql =
            info.accumulables.into_iter().filter(|one| one.metadata.as_deref() == Some("sql"));
        let values = of_sql.filter_map(|one| Some((one.id, one.value?.parse().ok()?)));
        let stage = Stage {
            call_site: info.details.as_deref().and_then(users_frame),
            rdds: Rdd::text(&rdds),
            sql_metrics: Metrics::text(values.collect()),
            id: info.id,
            attempt: info.attempt,
            name: info.name,
            tasks: info.tasks,
            parents: info.parents,
            submitted: info.submitted,
            completed: info.completed,
            failure: info.failure.as_deref().and_then(first_line),
        };
        self.add_stage(stage);
    }

    fn add_stage(&mut self, stage: Stage) {
        match self.stages.entry((stage.id, stage.attempt)) {
            Entry::Occupied(mut known) => known.get_mut().merge(stage),
            Entry::Vacant(free) => {
                free.insert(stage);
            }
        }
    }

    fn take_task(&mut self, event: TaskEvent) {
        let info = event.info;
        // Start events already carry these fields, with values that mean nothing yet.
        let is_end = event.reason.is_some();
        let task = Task {
            stage: event.stage,
            stage_attempt: event.stage_attempt,
            index: info.index,
            attempt: info.attempt,
            partition: info.partition.filter(|&partition| partition >= 0),
            executor: info.executor,
            host: info.host,
            launched: info.launched,
            finished: info.finished.filter(|&time| is_end && time > 0),
            locality: info.locality,
            speculative: info.speculative,
            failed: info.failed.filter(|_| is_end),
            killed: info.killed.filter(|_| is_end),
            failure: event
                .reason
                .as_ref()
                .and_then(crate::input::eventlog::event::TaskEndReason::failure),
            reason: event.reason.and_then(|reason| reason.name),
            // Metrics that are all unknown are as good as none.
            metrics: event
                .metrics
                .map(|metrics| metrics.values())
                .filter(|values| values.iter().any(Option::is_some)),
        };
        self.tasks.entry(info.id).or_default().merge(task);
    }

    /// The beginning of the next piece, which is of the same application.
    pub(super) fn next_piece(&self) -> Application {
        Application { id: self.id.clone(), attempt: self.attempt.clone(), ..Application::default() }
    }

    /// Adds what another piece or copy of the log says; the result does not depend on the order of merging.
    pub fn merge(&mut self, other: Application) {
        fn by_key<K: Ord, T: Default>(
            to: &mut BTreeMap<K, T>,
            from: BTreeMap<K, T>,
            merge: impl Fn(&mut T, T),
        ) {
            for (key, one) in from {
                merge(to.entry(key).or_default(), one);
            }
        }
        agree(&mut self.id, other.id);
        agree(&mut self.attempt, other.attempt);
        agree(&mut self.name, other.name);
        agree(&mut self.user, other.user);
        agree(&mut self.spark_version, other.spark_version);
        agree(&mut self.started, other.started);
        agree(&mut self.ended, other.ended);
        by_key(&mut self.executors, other.executors, Executor::merge);
        by_key(&mut self.jobs, other.jobs, Job::merge);
        other.stages.into_values().for_each(|stage| self.add_stage(stage));
        by_key(&mut self.tasks, other.tasks, Task::merge);
        by_key(&mut self.sql, other.sql, SqlExecution::merge);
    }
}

impl Executor {
    /// Two events give this time; the earlier one stands.
    fn learn_added(&mut self, time: Option<i64>) {
        self.added = [self.added, time].into_iter().flatten().min();
    }

    /// Adds what another copy says.
    pub fn merge(&mut self, other: Executor) {
        agree(&mut self.host, other.host);
        agree(&mut self.cores, other.cores);
        self.learn_added(other.added);
        agree(&mut self.removed, other.removed);
        agree(&mut self.removed_reason, other.removed_reason);
    }
}

impl Job {
    fn learn_stages(&mut self, stages: Vec<i64>) {
        if stages > self.stages {
            self.stages = stages;
        }
    }

    /// Adds what another copy says.
    pub fn merge(&mut self, other: Job) {
        agree(&mut self.submitted, other.submitted);
        agree(&mut self.completed, other.completed);
        agree(&mut self.result, other.result);
        self.learn_stages(other.stages);
        agree(&mut self.description, other.description);
        agree(&mut self.group, other.group);
        agree(&mut self.sql_execution, other.sql_execution);
        agree(&mut self.failure, other.failure);
    }
}

impl SqlExecution {
    /// Adds what another copy says.
    pub fn merge(&mut self, other: SqlExecution) {
        agree(&mut self.description, other.description);
        agree(&mut self.started, other.started);
        agree(&mut self.ended, other.ended);
        agree(&mut self.failure, other.failure);
        // Of two plans the one that was written when the query had come further.
        if (other.progress, &other.plan) > (self.progress, &self.plan) {
            (self.progress, self.plan) = (other.progress, other.plan);
        }
        self.driver_metrics = joined(self.driver_metrics.take(), other.driver_metrics);
    }

    fn take_plan(&mut self, plan: Option<PlanNode>) {
        if let Some((progress, text)) = plan.and_then(PlanNode::text) {
            let (progress, plan) = (Some(progress), Some(text));
            self.merge(SqlExecution { progress, plan, ..SqlExecution::default() });
        }
    }
}

/// Values of metrics of both texts; of two values of one metric, the larger.
fn joined(one: Option<String>, other: Option<String>) -> Option<String> {
    let (Some(one), Some(other)) = (&one, &other) else { return one.or(other) };
    if one == other {
        return Some(one.clone());
    }
    // Logs' own are made here, and a store's were looked at as they were read.
    let pairs = |text: &str| Metrics::pairs(text).unwrap_or_default();
    let mut all: BTreeMap<i64, i64> = pairs(one).into_iter().collect();
    for (id, value) in pairs(other) {
        let known = all.entry(id).or_insert(value);
        *known = value.max(*known);
    }
    Metrics::text(all.into_iter().collect())
}

/// Packages whose frames say nothing of what the user called.
const NOT_THE_USERS: [&str; 13] = [
    "org.apache.spark.",
    "java.",
    "javax.",
    "jdk.",
    "sun.",
    "scala.",
    "py4j.",
    "java.base/",
    "org.apache.hadoop.",
    "org.sparkproject.",
    "io.netty.",
    "com.databricks.",
    "<unknown>",
];

/// The first frame of a stack that is the user's: `Main$.count(Main.scala:12)`.
fn users_frame(stack: &str) -> Option<String> {
    let is_users = |frame: &&str| {
        !frame.is_empty() && !NOT_THE_USERS.iter().any(|package| frame.starts_with(package))
    };
    stack.lines().map(str::trim).find(is_users).and_then(first_line)
}

/// The name in an RDD's scope, which is JSON in a text.
fn scope_name(scope: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Scope {
        name: String,
    }
    let scope: Scope = serde_json::from_str(scope).ok()?;
    Some(scope.name.trim().to_owned())
}

impl Stage {
    /// Adds what another copy says.
    pub fn merge(&mut self, other: Stage) {
        agree(&mut self.name, other.name);
        agree(&mut self.tasks, other.tasks);
        agree(&mut self.submitted, other.submitted);
        agree(&mut self.completed, other.completed);
        agree(&mut self.failure, other.failure);
        agree(&mut self.call_site, other.call_site);
        agree(&mut self.rdds, other.rdds);
        agree(&mut self.sql_metrics, other.sql_metrics);
        if other.parents > self.parents {
            self.parents = other.parents;
        }
    }
}

impl Task {
    /// Adds what another copy says.
    pub fn merge(&mut self, other: Task) {
        self.stage = self.stage.max(other.stage);
        self.stage_attempt = self.stage_attempt.max(other.stage_attempt);
        agree(&mut self.index, other.index);
        agree(&mut self.attempt, other.attempt);
        agree(&mut self.partition, other.partition);
        agree(&mut self.executor, other.executor);
        agree(&mut self.host, other.host);
        agree(&mut self.launched, other.launched);
        agree(&mut self.finished, other.finished);
        agree(&mut self.locality, other.locality);
        agree(&mut self.speculative, other.speculative);
        agree(&mut self.failed, other.failed);
        agree(&mut self.killed, other.killed);
        agree(&mut self.reason, other.reason);
        agree(&mut self.failure, other.failure);
        agree(&mut self.metrics, other.metrics);
    }
}

/// Known wins over unknown; of two different values, which copies of one log never have, the larger.
fn agree<T: PartialOrd>(to: &mut Option<T>, from: Option<T>) {
    let is_better = match (&to, &from) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(old), Some(new)) => new > old,
    };
    if is_better {
        *to = from;
    }
}
