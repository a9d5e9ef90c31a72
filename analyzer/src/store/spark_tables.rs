//! The tables of one application attempt, as Spark's event log tells it: spark_apps, spark_executors,
//! spark_jobs, spark_stages, spark_tasks, spark_sql. Their rows hold all that is known, so what a store knows
//! of an application is read back from them.

use polars::prelude::{DataFrame, PolarsError, PolarsResult};

use crate::input::eventlog::{
    Application, Executor, Job, Metrics, SPARK_METRICS, SqlExecution, Stage, Task,
};
use crate::store::columns::Columns;
use crate::store::table::Table;

/// The attempt that rows are of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attempt<'a> {
    /// Application id.
    pub id: Option<&'a str>,
    /// Attempt id.
    pub attempt: Option<&'a str>,
}

/// A row of one of the tables.
pub trait Entry: Clone + PartialEq {
    /// What it is told apart by within an application, and sorted by.
    type Key: Ord;
    /// Its table.
    const TABLE: Table;

    /// Its key.
    fn key(&self) -> Self::Key;

    /// Adds what another row with the same key says.
    fn merge(&mut self, other: Self);

    /// Rows as a frame.
    ///
    /// # Errors
    /// When polars refuses, which would be an error in this program.
    fn frame(of: Attempt<'_>, rows: &[Self]) -> PolarsResult<DataFrame>;

    /// The rows of a frame.
    ///
    /// # Errors
    /// When it lacks columns.
    fn rows(frame: &DataFrame) -> PolarsResult<Vec<Self>>;
}

/// An application without what other tables have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// The cluster that the user named for it.
    pub cluster: Option<String>,
    /// Its own values; the collections are empty.
    pub application: Application,
}

impl Entry for Head {
    type Key = ();
    const TABLE: Table = Table::SparkApps;

    fn key(&self) {}

    fn merge(&mut self, other: Head) {
        self.cluster = other.cluster.or(self.cluster.take());
        self.application.merge(other.application);
    }

    fn frame(of: Attempt<'_>, rows: &[Head]) -> PolarsResult<DataFrame> {
        Columns::of(rows)
            .text("application_id", |_| of.id)
            .text("application_attempt", |_| of.attempt)
            .text("cluster", |one| one.cluster.as_deref())
            .text("name", |one| one.application.name.as_deref())
            .text("user", |one| one.application.user.as_deref())
            .text("spark_version", |one| one.application.spark_version.as_deref())
            .signed("started_ms", |one| one.application.started)
            .signed("ended_ms", |one| one.application.ended)
            .frame()
    }

    fn rows(frame: &DataFrame) -> PolarsResult<Vec<Head>> {
        let (cluster, name) = (text(frame, "cluster")?, text(frame, "name")?);
        let (user, version) = (text(frame, "user")?, text(frame, "spark_version")?);
        let (started, ended) = (signed(frame, "started_ms")?, signed(frame, "ended_ms")?);
        let row = |at| Head {
            cluster: cluster(at),
            application: Application {
                name: name(at),
                user: user(at),
                spark_version: version(at),
                started: started(at),
                ended: ended(at),
                ..Application::default()
            },
        };
        Ok((0..frame.height()).map(row).collect())
    }
}

impl Entry for (String, Executor) {
    type Key = String;
    const TABLE: Table = Table::SparkExecutors;

    fn key(&self) -> String {
        self.0.clone()
    }

    fn merge(&mut self, other: Self) {
        self.1.merge(other.1);
    }

    fn frame(of: Attempt<'_>, rows: &[Self]) -> PolarsResult<DataFrame> {
        Columns::of(rows)
            .text("application_id", |_| of.id)
            .text("application_attempt", |_| of.attempt)
            .text("executor_id", |(executor, _)| Some(executor))
            .text("host", |(_, one)| one.host.as_deref())
            .signed("cores", |(_, one)| one.cores)
            .signed("added_ms", |(_, one)| one.added)
            .signed("removed_ms", |(_, one)| one.removed)
            .text("removed_reason", |(_, one)| one.removed_reason.as_deref())
            .frame()
    }

    fn rows(frame: &DataFrame) -> PolarsResult<Vec<Self>> {
        let (id, host, cores) =
            (text(frame, "executor_id")?, text(frame, "host")?, signed(frame, "cores")?);
        let (added, removed) = (signed(frame, "added_ms")?, signed(frame, "removed_ms")?);
        let reason = text(frame, "removed_reason")?;
        let row = |at| {
            let executor = Executor {
                host: host(at),
                cores: cores(at),
                added: added(at),
                removed: removed(at),
                removed_reason: reason(at),
            };
            Ok((key(id(at), "executor_id")?, executor))
        };
        (0..frame.height()).map(row).collect()
    }
}

impl Entry for (i64, Job) {
    type Key = i64;
    const TABLE: Table = Table::SparkJobs;

    fn key(&self) -> i64 {
        self.0
    }

    fn merge(&mut self, other: Self) {
        self.1.merge(other.1);
    }

    fn frame(of: Attempt<'_>, rows: &[Self]) -> PolarsResult<DataFrame> {
        Columns::of(rows)
            .text("application_id", |_| of.id)
            .text("application_attempt", |_| of.attempt)
            .signed("job", |(job, _)| Some(*job))
            .signed("submitted_ms", |(_, one)| one.submitted)
            .signed("completed_ms", |(_, one)| one.completed)
            .text("result", |(_, one)| one.result.as_deref())
            .made_text("stages", |(_, one)| Some(list(&one.stages)))
            .text("description", |(_, one)| one.description.as_deref())
            .text("job_group", |(_, one)| one.group.as_deref())
            .text("sql_execution", |(_, one)| one.sql_execution.as_deref())
            .text("failure", |(_, one)| one.failure.as_deref())
            .frame()
    }

    fn rows(frame: &DataFrame) -> PolarsResult<Vec<Self>> {
        let (job, stages) = (signed(frame, "job")?, text(frame, "stages")?);
        let (submitted, completed) =
            (signed(frame, "submitted_ms")?, signed(frame, "completed_ms")?);
        let (result, description) = (text(frame, "result")?, text(frame, "description")?);
        let (group, sql) = (text(frame, "job_group")?, text(frame, "sql_execution")?);
        let failure = text(frame, "failure")?;
        let row = |at| {
            let one = Job {
                submitted: submitted(at),
                completed: completed(at),
                result: result(at),
                stages: numbers(stages(at))?,
                description: description(at),
                group: group(at),
                sql_execution: sql(at),
                failure: failure(at),
            };
            Ok((key(job(at), "job")?, one))
        };
        (0..frame.height()).map(row).collect()
    }
}

impl Entry for Stage {
    type Key = (i64, i64);
    const TABLE: Table = Table::SparkStages;

    fn key(&self) -> (i64, i64) {
        (self.id, self.attempt)
    }

    fn merge(&mut self, other: Self) {
        Stage::merge(self, other);
    }

    fn frame(of: Attempt<'_>, rows: &[Self]) -> PolarsResult<DataFrame> {
        Columns::of(rows)
            .text("application_id", |_| of.id)
            .text("application_attempt", |_| of.attempt)
            .signed("stage", |stage| Some(stage.id))
            .signed("stage_attempt", |stage| Some(stage.attempt))
            .text("name", |stage| stage.name.as_deref())
            .signed("planned_tasks", |stage| stage.tasks)
            .made_text("parents", |stage| Some(list(&stage.parents)))
            .signed("submitted_ms", |stage| stage.submitted)
            .signed("completed_ms", |stage| stage.completed)
            .text("failure", |stage| stage.failure.as_deref())
            .text("call_site", |stage| stage.call_site.as_deref())
            .text("rdds", |stage| stage.rdds.as_deref())
            .text("sql_metrics", |stage| stage.sql_metrics.as_deref())
            .frame()
    }

    fn rows(frame: &DataFrame) -> PolarsResult<Vec<Self>> {
        let (id, attempt) = (signed(frame, "stage")?, signed(frame, "stage_attempt")?);
        let (name, tasks) = (text(frame, "name")?, signed(frame, "planned_tasks")?);
        let (parents, failure) = (text(frame, "parents")?, text(frame, "failure")?);
        let (submitted, completed) =
            (signed(frame, "submitted_ms")?, signed(frame, "completed_ms")?);
        let (call_site, rdds) = (text(frame, "call_site")?, text(frame, "rdds")?);
        let sql_metrics = text(frame, "sql_metrics")?;
        let row = |at| {
            Ok(Stage {
                call_site: call_site(at),
                rdds: rdds(at),
                sql_metrics: metrics_text(sql_metrics(at))?,
                id: key(id(at), "stage")?,
                attempt: key(attempt(at), "stage_attempt")?,
                name: name(at),
                tasks: tasks(at),
                parents: numbers(parents(at))?,
                submitted: submitted(at),
                completed: completed(at),
                failure: failure(at),
            })
        };
        (0..frame.height()).map(row).collect()
    }
}

impl Entry for (i64, Task) {
    type Key = i64;
    const TABLE: Table = Table::SparkTasks;

    fn key(&self) -> i64 {
        self.0
    }

    fn merge(&mut self, other: Self) {
        self.1.merge(other.1);
    }

    fn frame(of: Attempt<'_>, rows: &[Self]) -> PolarsResult<DataFrame> {
        let mut columns = Columns::of(rows)
            .text("application_id", |_| of.id)
            .text("application_attempt", |_| of.attempt)
            .signed("task_id", |(task, _)| Some(*task))
            .signed("stage", |(_, one)| Some(one.stage))
            .signed("stage_attempt", |(_, one)| Some(one.stage_attempt))
            .signed("task_index", |(_, one)| one.index)
            .signed("attempt", |(_, one)| one.attempt)
            .signed("partition", |(_, one)| one.partition)
            .text("executor_id", |(_, one)| one.executor.as_deref())
            .text("host", |(_, one)| one.host.as_deref())
            .signed("launched_ms", |(_, one)| one.launched)
            .signed("finished_ms", |(_, one)| one.finished)
            .text("locality", |(_, one)| one.locality.as_deref())
            .truth("speculative", |(_, one)| one.speculative)
            .truth("failed", |(_, one)| one.failed)
            .truth("killed", |(_, one)| one.killed)
            .text("reason", |(_, one)| one.reason.as_deref())
            .text("failure", |(_, one)| one.failure.as_deref());
        for (index, name) in SPARK_METRICS.iter().enumerate() {
            columns =
                columns.unsigned(name, |(_, one)| one.metrics.and_then(|values| values[index]));
        }
        columns.frame()
    }

    fn rows(frame: &DataFrame) -> PolarsResult<Vec<Self>> {
        let (task, stage) = (signed(frame, "task_id")?, signed(frame, "stage")?);
        let (stage_attempt, index) =
            (signed(frame, "stage_attempt")?, signed(frame, "task_index")?);
        let (attempt, partition) = (signed(frame, "attempt")?, signed(frame, "partition")?);
        let (executor, host) = (text(frame, "executor_id")?, text(frame, "host")?);
        let (launched, finished) = (signed(frame, "launched_ms")?, signed(frame, "finished_ms")?);
        let (locality, speculative) = (text(frame, "locality")?, truth(frame, "speculative")?);
        let (failed, killed) = (truth(frame, "failed")?, truth(frame, "killed")?);
        let (reason, failure) = (text(frame, "reason")?, text(frame, "failure")?);
        let metrics = SPARK_METRICS
            .iter()
            .map(|name| frame.column(name)?.u64())
            .collect::<PolarsResult<Vec<_>>>()?;
        let row = |at| {
            let mut values = [None; SPARK_METRICS.len()];
            for (value, column) in values.iter_mut().zip(&metrics) {
                *value = column.get(at);
            }
            let one = Task {
                stage: key(stage(at), "stage")?,
                stage_attempt: key(stage_attempt(at), "stage_attempt")?,
                index: index(at),
                attempt: attempt(at),
                partition: partition(at),
                executor: executor(at),
                host: host(at),
                launched: launched(at),
                finished: finished(at),
                locality: locality(at),
                speculative: speculative(at),
                failed: failed(at),
                killed: killed(at),
                reason: reason(at),
                failure: failure(at),
                // Metrics that are all unknown are as good as none.
                metrics: values.iter().any(Option::is_some).then_some(values),
            };
            Ok((key(task(at), "task_id")?, one))
        };
        (0..frame.height()).map(row).collect()
    }
}

impl Entry for (i64, SqlExecution) {
    type Key = i64;
    const TABLE: Table = Table::SparkSql;

    fn key(&self) -> i64 {
        self.0
    }

    fn merge(&mut self, other: Self) {
        self.1.merge(other.1);
    }

    fn frame(of: Attempt<'_>, rows: &[Self]) -> PolarsResult<DataFrame> {
        Columns::of(rows)
            .text("application_id", |_| of.id)
            .text("application_attempt", |_| of.attempt)
            .signed("execution", |(execution, _)| Some(*execution))
            .text("description", |(_, one)| one.description.as_deref())
            .signed("started_ms", |(_, one)| one.started)
            .signed("ended_ms", |(_, one)| one.ended)
            .signed("progress", |(_, one)| one.progress)
            .text("plan", |(_, one)| one.plan.as_deref())
            .text("driver_metrics", |(_, one)| one.driver_metrics.as_deref())
            .text("failure", |(_, one)| one.failure.as_deref())
            .frame()
    }

    fn rows(frame: &DataFrame) -> PolarsResult<Vec<Self>> {
        let (progress, plan) = (signed(frame, "progress")?, text(frame, "plan")?);
        let (driver_metrics, failure) = (text(frame, "driver_metrics")?, text(frame, "failure")?);
        let (id, description) = (signed(frame, "execution")?, text(frame, "description")?);
        let (started, ended) = (signed(frame, "started_ms")?, signed(frame, "ended_ms")?);
        let row = |at| {
            let one = SqlExecution {
                description: description(at),
                started: started(at),
                ended: ended(at),
                progress: progress(at),
                plan: plan(at),
                driver_metrics: metrics_text(driver_metrics(at))?,
                failure: failure(at),
            };
            Ok((key(id(at), "execution")?, one))
        };
        (0..frame.height()).map(row).collect()
    }
}

/// The tables of an application of which nothing is known: their columns.
///
/// # Errors
/// When polars refuses, which would be an error in this program.
pub fn empty_tables() -> PolarsResult<Vec<(Table, DataFrame)>> {
    fn empty<E: Entry>() -> PolarsResult<(Table, DataFrame)> {
        Ok((E::TABLE, E::frame(Attempt::default(), &[])?))
    }
    Ok(vec![
        empty::<Head>()?,
        empty::<(String, Executor)>()?,
        empty::<(i64, Job)>()?,
        empty::<Stage>()?,
        empty::<(i64, Task)>()?,
        empty::<(i64, SqlExecution)>()?,
    ])
}

fn list(ids: &[i64]) -> String {
    ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

/// The numbers of a list with commas.
pub fn numbers(list: Option<String>) -> PolarsResult<Vec<i64>> {
    let list = list.unwrap_or_default();
    let number = |id: &str| id.parse().map_err(|_| wrong(format!("{id:?} in a list of numbers")));
    list.split(',').filter(|id| !id.is_empty()).map(number).collect()
}

/// A text of [`Metrics`].
fn metrics_text(text: Option<String>) -> PolarsResult<Option<String>> {
    match text.as_deref().map(Metrics::pairs) {
        Some(None) => Err(wrong("a text of metrics that is none".into())),
        _ => Ok(text),
    }
}

/// What a row is told apart by, which it must have.
fn key<T>(value: Option<T>, name: &str) -> PolarsResult<T> {
    value.ok_or_else(|| wrong(format!("a row without {name}")))
}

fn wrong(what: String) -> PolarsError {
    PolarsError::ComputeError(what.into())
}

fn text<'f>(
    frame: &'f DataFrame,
    name: &str,
) -> PolarsResult<impl Fn(usize) -> Option<String> + use<'f>> {
    let column = frame.column(name)?.str()?;
    Ok(move |at| column.get(at).map(str::to_owned))
}

fn signed<'f>(
    frame: &'f DataFrame,
    name: &str,
) -> PolarsResult<impl Fn(usize) -> Option<i64> + use<'f>> {
    let column = frame.column(name)?.i64()?;
    Ok(move |at| column.get(at))
}

fn truth<'f>(
    frame: &'f DataFrame,
    name: &str,
) -> PolarsResult<impl Fn(usize) -> Option<bool> + use<'f>> {
    let column = frame.column(name)?.bool()?;
    Ok(move |at| column.get(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_written_here_is_an_error() {
        assert_eq!(numbers(Some("3,-1".into())).unwrap(), [3, -1]);
        assert_eq!(numbers(Some(String::new())).unwrap(), [0; 0]);
        assert!(numbers(Some("3,x".into())).is_err() && numbers(Some("1 2".into())).is_err());
        let jobs = vec![(7, Job { stages: vec![3], ..Job::default() })];
        let frame = <(i64, Job)>::frame(Attempt::default(), &jobs).unwrap();
        assert_eq!(<(i64, Job)>::rows(&frame).unwrap(), jobs);
        let mut nameless = frame.clone();
        let none = polars::prelude::Column::full_null(
            "job".into(),
            1,
            frame.column("job").unwrap().dtype(),
        );
        nameless.with_column(none).unwrap();
        assert!(<(i64, Job)>::rows(&nameless).is_err(), "it is not job 0");
    }
}
