//! What the event logs say of tasks.

use std::collections::{HashMap, HashSet};

use polars::prelude::{DataFrame, PolarsResult};

use crate::input::eventlog::SPARK_METRICS;
use crate::report::accumulate::{Nodes, Sums};
use crate::report::figure::LOCALITIES;
use crate::report::key::Place;
use crate::report::limits;
use crate::report::logged_task::LoggedTask;
use crate::report::logs::Attempts;
use crate::report::rated::{read, text};
use crate::report::rows::{SaidRun, SparkSaid};
use crate::store::{Store, StoreError, Table};

/// An application attempt of an event log.
pub struct LoggedApp {
    /// Its place among all.
    pub number: usize,
    /// Attempt.
    pub attempt: Option<String>,
    cluster: Option<String>,
    /// TID -> index of the task.
    tasks: HashMap<i64, usize>,
}

/// What the event logs say of tasks.
#[derive(Default)]
pub struct LoggedTasks {
    /// Which attempts of applications there are.
    pub attempts: Attempts,
    /// All tasks that were read.
    pub tasks: Vec<LoggedTask>,
    /// Application id -> its attempts.
    pub apps: HashMap<String, Vec<LoggedApp>>,
    are_too_many: bool,
}

impl LoggedTasks {
    /// Reads the applications, without their tasks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn applications(store: &dyn Store) -> Result<LoggedTasks, StoreError> {
        let mut logged = LoggedTasks::default();
        let Some(apps) = read(store, Table::SparkApps)? else { return Ok(logged) };
        for number in 0..apps.height() {
            let column = |name| text(apps.column(name).ok()?, number);
            let app = LoggedApp {
                number,
                attempt: column("application_attempt"),
                cluster: column("cluster"),
                tasks: HashMap::new(),
            };
            let id = column("application_id").unwrap_or_default();
            logged.attempts.add(&id, app.attempt.as_deref());
            logged.apps.entry(id).or_default().push(app);
        }
        Ok(logged)
    }

    /// Reads the tasks, without those that are surely of other applications than these.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read_tasks(
        &mut self,
        store: &dyn Store,
        applications: &[String],
    ) -> Result<(), StoreError> {
        store.scan(Table::SparkTasks, None, applications, &mut |frame| {
            self.take(&frame)?;
            match self.are_too_many {
                true => Err(limits::too_many("tasks in the event logs", limits::logged_tasks())),
                false => Ok(()),
            }
        })
    }

    /// Takes in rows of the table.
    ///
    /// # Errors
    /// When it is another table.
    pub fn take(&mut self, frame: &DataFrame) -> PolarsResult<()> {
        let metrics = SPARK_METRICS
            .iter()
            .map(|name| frame.column(name).cloned())
            .collect::<Result<Vec<_>, _>>()?;
        if self.tasks.len() + frame.height() > limits::logged_tasks() {
            self.are_too_many = true;
            return Ok(());
        }
        for at in 0..frame.height() {
            let text_of = |name| text(frame.column(name).ok()?, at);
            let number = |name| frame.column(name).ok()?.i64().ok()?.get(at);
            let truth = |name| frame.column(name).ok()?.bool().ok()?.get(at);
            let (Some(application), Some(tid)) = (text_of("application_id"), number("task_id"))
            else {
                continue;
            };
            let attempt = text_of("application_attempt");
            let (failed, killed) = (truth("failed"), truth("killed"));
            if let Some(apps) = self.apps.get_mut(&application)
                && let Some(app) = apps.iter_mut().find(|app| app.attempt == attempt)
            {
                app.tasks.insert(tid, self.tasks.len());
            }
            self.tasks.push(LoggedTask {
                place: Place {
                    application: Some(self.attempts.called(&application, attempt.as_deref())),
                    node: text_of("host"),
                    executor: text_of("executor_id"),
                    stage: number("stage").map(|stage| (stage, number("stage_attempt"))),
                    task: Some(tid),
                    ..Place::default()
                },
                said: SparkSaid {
                    has_failed: failed.zip(killed).map(|(failed, killed)| failed || killed),
                    locality: text_of("locality")
                        .and_then(|name| LOCALITIES.iter().position(|(spark, _)| *spark == name)),
                    times: number("launched_ms").zip(number("finished_ms")).and_then(
                        |(first, last)| {
                            Some((u64::try_from(first).ok()?, u64::try_from(last).ok()?))
                        },
                    ),
                    metrics: std::array::from_fn(|index| metrics[index].u64().ok()?.get(at)),
                },
                times: number("launched_ms").zip(number("finished_ms")),
                failed,
                killed,
                speculative: truth("speculative").unwrap_or(false),
                failure: text_of("failure").map(String::into_boxed_str),
                is_joined: false,
            });
        }
        Ok(())
    }

    /// The attempt of which a process's tasks are. Cluster and attempt have to be the same where both sides know
    /// them, and where one does not, there must be no choice.
    pub fn attempt_of(
        &self,
        application: &str,
        cluster: Option<&str>,
        attempt: Option<&str>,
    ) -> Option<&LoggedApp> {
        let agrees = |one: Option<&str>, other: Option<&str>| {
            one.zip(other).is_none_or(|(one, other)| one == other)
        };
        let mut candidates = self.apps.get(application)?.iter().filter(|app| {
            agrees(app.cluster.as_deref(), cluster) && agrees(app.attempt.as_deref(), attempt)
        });
        candidates.next().filter(|_| candidates.next().is_none())
    }

    /// Index of the task with this identity.
    pub fn find(
        &self,
        application: &str,
        cluster: Option<&str>,
        attempt: Option<&str>,
        tid: i64,
    ) -> Option<usize> {
        self.attempt_of(application, cluster, attempt)?.tasks.get(&tid).copied()
    }

    /// Adds the tasks of which there is no record.
    pub fn add_unrecorded(&self, sums: &mut Sums<'_>, nodes: &Nodes) {
        let joined = self.tasks.iter().filter(|task| task.is_joined);
        let recorded: HashSet<_> =
            joined.filter_map(|task| task.place.application.clone()).collect();
        for task in self.tasks.iter().filter(|task| !task.is_joined) {
            let Some(application) = &task.place.application else { continue };
            if !is_wanted(sums, application, &recorded) {
                continue;
            }
            if let Some((times, tid)) = task.times.zip(task.place.task) {
                sums.answer.task_times.insert((application.clone(), tid), times);
            }
            if let Some(facts) = &mut sums.answer.tasks {
                let executor = task.place.executor.clone().unwrap_or_default();
                let node = nodes.get(&(application.clone(), executor));
                facts.take_unrecorded(task, node.map(String::as_str));
            }
            let time = sums.question.span(None, task.times);
            let place = Place { time, ..task.place.clone() };
            sums.add_unrecorded(place, &SaidRun::of(&task.said), nodes);
        }
    }
}

/// Whether a report has the tasks of an application of which there is no record; if not, it says so.
pub fn is_wanted(sums: &mut Sums<'_>, application: &String, recorded: &HashSet<String>) -> bool {
    let asked = &sums.question.applications;
    if !asked.is_empty() {
        return asked.contains(application);
    }
    let is_wanted = recorded.contains(application) || sums.selected.is_empty();
    if !is_wanted {
        sums.answer.notes.log_without_records(application);
    }
    is_wanted
}
