//! The tables of one application attempt, as Spark's event log tells it: spark_apps, spark_executors,
//! spark_jobs, spark_stages, spark_tasks, spark_sql.

use polars::prelude::{DataFrame, PolarsResult};

use super::columns::Columns;
use super::kept::KeptApplication;
use super::table::Table;
use crate::eventlog::SPARK_METRICS;

/// Makes the tables.
///
/// # Errors
/// When polars refuses, which would be an error in this program.
pub fn make(kept: &KeptApplication) -> PolarsResult<Vec<(Table, DataFrame)>> {
    let app = &kept.application;
    let id = app.id.as_deref();
    let attempt = app.attempt.as_deref();
    let apps = Columns::of(std::slice::from_ref(app))
        .text("application_id", |_| id)
        .text("application_attempt", |_| attempt)
        .text("cluster", |_| kept.cluster.as_deref())
        .text("name", |app| app.name.as_deref())
        .text("user", |app| app.user.as_deref())
        .text("spark_version", |app| app.spark_version.as_deref())
        .signed("started_ms", |app| app.started)
        .signed("ended_ms", |app| app.ended)
        .frame()?;
    let rows: Vec<_> = app.executors.iter().collect();
    let executors = Columns::of(&rows)
        .text("application_id", |_| id)
        .text("application_attempt", |_| attempt)
        .text("executor_id", |(executor, _)| Some(executor))
        .text("host", |(_, one)| one.host.as_deref())
        .signed("cores", |(_, one)| one.cores)
        .signed("added_ms", |(_, one)| one.added)
        .signed("removed_ms", |(_, one)| one.removed)
        .text("removed_reason", |(_, one)| one.removed_reason.as_deref())
        .frame()?;
    let list = |ids: &[i64]| ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    let rows: Vec<_> = app.jobs.iter().collect();
    let jobs = Columns::of(&rows)
        .text("application_id", |_| id)
        .text("application_attempt", |_| attempt)
        .signed("job", |(job, _)| Some(**job))
        .signed("submitted_ms", |(_, one)| one.submitted)
        .signed("completed_ms", |(_, one)| one.completed)
        .text("result", |(_, one)| one.result.as_deref())
        .made_text("stages", |(_, one)| Some(list(&one.stages)))
        .text("description", |(_, one)| one.description.as_deref())
        .text("job_group", |(_, one)| one.group.as_deref())
        .text("sql_execution", |(_, one)| one.sql_execution.as_deref())
        .frame()?;
    let stages = Columns::of(&app.stages)
        .text("application_id", |_| id)
        .text("application_attempt", |_| attempt)
        .signed("stage", |stage| Some(stage.id))
        .signed("stage_attempt", |stage| Some(stage.attempt))
        .text("name", |stage| stage.name.as_deref())
        .signed("planned_tasks", |stage| stage.tasks)
        .made_text("parents", |stage| Some(list(&stage.parents)))
        .signed("submitted_ms", |stage| stage.submitted)
        .signed("completed_ms", |stage| stage.completed)
        .text("failure", |stage| stage.failure.as_deref())
        .frame()?;
    let rows: Vec<_> = app.sql.iter().collect();
    let sql = Columns::of(&rows)
        .text("application_id", |_| id)
        .text("application_attempt", |_| attempt)
        .signed("execution", |(execution, _)| Some(**execution))
        .text("description", |(_, one)| one.description.as_deref())
        .signed("started_ms", |(_, one)| one.started)
        .signed("ended_ms", |(_, one)| one.ended)
        .frame()?;
    Ok(vec![
        (Table::SparkApps, apps),
        (Table::SparkExecutors, executors),
        (Table::SparkJobs, jobs),
        (Table::SparkStages, stages),
        (Table::SparkTasks, tasks(kept)?),
        (Table::SparkSql, sql),
    ])
}

fn tasks(kept: &KeptApplication) -> PolarsResult<DataFrame> {
    let app = &kept.application;
    let rows: Vec<_> = app.tasks.iter().collect();
    let mut columns = Columns::of(&rows)
        .text("application_id", |_| app.id.as_deref())
        .text("application_attempt", |_| app.attempt.as_deref())
        .signed("task_id", |(task, _)| Some(**task))
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
        .text("reason", |(_, one)| one.reason.as_deref());
    for (index, name) in SPARK_METRICS.iter().enumerate() {
        columns = columns.unsigned(name, |(_, one)| one.metrics.and_then(|values| values[index]));
    }
    columns.frame()
}
