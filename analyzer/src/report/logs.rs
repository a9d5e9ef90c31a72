//! What the event logs say besides tasks: applications and their attempts, executors, jobs, stages, queries.
//!
//! An application that was tried several times (YARN does that) has a log per attempt, each with TIDs, stages and jobs
//! counted anew. So where a store has several attempts, each is an application of its own in a report:
//! `application_1_0001/2`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use polars::prelude::DataFrame;

use crate::input::eventlog::{Metrics, Operator, Rdd};
use crate::report::rated::text;
use crate::store::{Store, StoreError, Table, numbers};

/// Which attempts of applications the store has logs of.
#[derive(Clone, Debug, Default)]
pub struct Attempts(HashMap<String, BTreeSet<Option<String>>>);

impl Attempts {
    /// Notes an attempt.
    pub fn add(&mut self, id: &str, attempt: Option<&str>) {
        self.0.entry(id.to_owned()).or_default().insert(attempt.map(str::to_owned));
    }

    /// What a report calls an attempt: the application's id, with the attempt where there are several.
    pub fn called(&self, id: &str, attempt: Option<&str>) -> String {
        match attempt {
            Some(attempt) if self.are_several(id) => format!("{id}/{attempt}"),
            _ => id.to_owned(),
        }
    }

    /// The id of what a report calls so.
    pub fn id_of(&self, called: &str) -> String {
        match called.rsplit_once('/') {
            Some((id, _)) if !self.0.contains_key(called) && self.are_several(id) => id.to_owned(),
            _ => called.to_owned(),
        }
    }

    /// Whether there are logs of several attempts.
    pub fn are_several(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|all| all.len() > 1)
    }
}

/// An application's attempt.
#[derive(Clone, Debug, Default)]
pub struct App {
    /// The name that its user gave it.
    pub name: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// Spark's version.
    pub version: Option<String>,
    /// When it started and ended, ms since the epoch.
    pub started_ms: Option<i64>,
    /// Unknown for running and crashed ones.
    pub ended_ms: Option<i64>,
}

/// An executor.
#[derive(Clone, Debug, Default)]
pub struct ExecutorFacts {
    /// Its host.
    pub host: Option<String>,
    /// Its cores.
    pub cores: Option<i64>,
    /// When it was added and removed, ms since the epoch.
    pub added_ms: Option<i64>,
    /// Unknown if it stayed to the end.
    pub removed_ms: Option<i64>,
    /// Why it was removed.
    pub reason: Option<String>,
}

/// A job.
#[derive(Clone, Debug, Default)]
pub struct JobFacts {
    /// All stages that it needs, also those that it found done.
    pub stages: Vec<i64>,
    /// What the user said it does.
    pub description: Option<String>,
    /// The query that it is of.
    pub query: Option<i64>,
    /// When it was submitted and completed, ms since the epoch.
    pub submitted_ms: Option<i64>,
    /// Unknown for running ones.
    pub completed_ms: Option<i64>,
    /// How it ended.
    pub result: Option<String>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// A stage's attempt.
#[derive(Clone, Debug, Default)]
pub struct StageFacts {
    /// What Spark calls it.
    pub name: Option<String>,
    /// How many tasks were planned.
    pub planned_tasks: Option<i64>,
    /// The stages whose output it reads.
    pub parents: Vec<i64>,
    /// When it was submitted and completed, ms since the epoch.
    pub submitted_ms: Option<i64>,
    /// Unknown for running ones.
    pub completed_ms: Option<i64>,
    /// Why it failed.
    pub failure: Option<String>,
    /// The first frame that is the user's.
    pub call_site: Option<String>,
    /// Its RDDs.
    pub rdds: Vec<Rdd>,
    /// The values of its metrics of SQL.
    pub metrics: Metrics,
}

/// A SQL query.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Its description.
    pub description: Option<String>,
    /// When it started and ended, ms since the epoch.
    pub started_ms: Option<i64>,
    /// Unknown for running ones.
    pub ended_ms: Option<i64>,
    /// Its last plan.
    pub plan: Option<Operator>,
    /// What the driver measured of it.
    pub driver_metrics: Metrics,
    /// Why it failed.
    pub failure: Option<String>,
}

/// What the event logs say besides tasks, by what reports call applications.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    /// Which attempts there are.
    pub attempts: Attempts,
    /// Applications.
    pub apps: BTreeMap<String, App>,
    /// (application, executor).
    pub executors: BTreeMap<(String, String), ExecutorFacts>,
    /// (application, job).
    pub jobs: BTreeMap<(String, i64), JobFacts>,
    /// (application, stage, attempt).
    pub stages: BTreeMap<(String, i64, i64), StageFacts>,
    /// (application, execution).
    pub queries: BTreeMap<(String, i64), Query>,
}

/// A row of a table.
struct At<'f> {
    table: Table,
    frame: &'f DataFrame,
    at: usize,
}

impl At<'_> {
    fn text(&self, name: &str) -> Option<String> {
        text(self.frame.column(name).ok()?, self.at)
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.frame.column(name).ok()?.i64().ok()?.get(self.at)
    }

    /// A number that the row is told apart by.
    fn key(&self, name: &'static str) -> Result<i64, StoreError> {
        self.number(name).ok_or_else(|| self.error(name))
    }

    /// What is kept of an event log as a text; `None` where there is none.
    fn kept<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let text = self.text(name);
        text.map(|text| parse(&text).ok_or_else(|| self.error(name))).transpose()
    }

    fn error(&self, column: &'static str) -> StoreError {
        StoreError::Value { table: self.table.name(), column }
    }
}

impl Logs {
    /// Reads them: of all applications who they are, and of these ids (all, if none is named) the rest.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(store: &dyn Store, applications: &[String]) -> Result<Logs, StoreError> {
        let mut logs = Logs::default();
        each(store, Table::SparkApps, &[], &mut |row| {
            let id = row.text("application_id").unwrap_or_default();
            logs.attempts.add(&id, row.text("application_attempt").as_deref());
            Ok(())
        })?;
        let Logs { attempts, apps, executors, jobs, stages, queries } = &mut logs;
        let called = |row: &At<'_>| {
            let id = row.text("application_id").unwrap_or_default();
            attempts.called(&id, row.text("application_attempt").as_deref())
        };
        each(store, Table::SparkApps, &[], &mut |row| {
            let app = App {
                name: row.text("name"),
                user: row.text("user"),
                version: row.text("spark_version"),
                started_ms: row.number("started_ms"),
                ended_ms: row.number("ended_ms"),
            };
            apps.insert(called(row), app);
            Ok(())
        })?;
        each(store, Table::SparkExecutors, applications, &mut |row| {
            let executor = ExecutorFacts {
                host: row.text("host"),
                cores: row.number("cores"),
                added_ms: row.number("added_ms"),
                removed_ms: row.number("removed_ms"),
                reason: row.text("removed_reason"),
            };
            let missing = || row.error("executor_id");
            let id = row.text("executor_id").ok_or_else(missing)?;
            executors.insert((called(row), id), executor);
            Ok(())
        })?;
        each(store, Table::SparkJobs, applications, &mut |row| {
            let id = row.key("job")?;
            let job = JobFacts {
                stages: numbers(row.text("stages"))?,
                description: row.text("description"),
                // Spark's property may be any text; only numbers are queries.
                query: row.text("sql_execution").and_then(|id| id.parse().ok()),
                submitted_ms: row.number("submitted_ms"),
                completed_ms: row.number("completed_ms"),
                result: row.text("result"),
                failure: row.text("failure"),
            };
            jobs.insert((called(row), id), job);
            Ok(())
        })?;
        each(store, Table::SparkStages, applications, &mut |row| {
            let (id, attempt) = (row.key("stage")?, row.key("stage_attempt")?);
            let stage = StageFacts {
                name: row.text("name"),
                planned_tasks: row.number("planned_tasks"),
                parents: numbers(row.text("parents"))?,
                submitted_ms: row.number("submitted_ms"),
                completed_ms: row.number("completed_ms"),
                failure: row.text("failure"),
                call_site: row.text("call_site"),
                rdds: row.kept("rdds", |text| Rdd::parse(text).ok())?.unwrap_or_default(),
                metrics: row.kept("sql_metrics", Metrics::parse)?.unwrap_or_default(),
            };
            stages.insert((called(row), id, attempt), stage);
            Ok(())
        })?;
        each(store, Table::SparkSql, applications, &mut |row| {
            let id = row.key("execution")?;
            let query = Query {
                description: row.text("description"),
                started_ms: row.number("started_ms"),
                ended_ms: row.number("ended_ms"),
                plan: row.kept("plan", |text| Operator::parse(text).ok())?,
                driver_metrics: row.kept("driver_metrics", Metrics::parse)?.unwrap_or_default(),
                failure: row.text("failure"),
            };
            queries.insert((called(row), id), query);
            Ok(())
        })?;
        Ok(logs)
    }

    /// The first job that lists a stage, by jobs' numbers: later ones that list it found it done.
    pub fn first_job(&self, application: &str, stage: i64) -> Option<(i64, &JobFacts)> {
        let own = (application.to_owned(), i64::MIN)..=(application.to_owned(), i64::MAX);
        let mut jobs = self.jobs.range(own);
        jobs.find(|(_, job)| job.stages.contains(&stage)).map(|((_, id), job)| (*id, job))
    }
}

fn each(
    store: &dyn Store,
    table: Table,
    applications: &[String],
    take: &mut dyn FnMut(&At<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    store.scan(table, None, applications, &mut |frame| {
        (0..frame.height()).try_for_each(|at| take(&At { table, frame: &frame, at }))
    })
}

#[cfg(test)]
mod tests {
    use polars::prelude::{NamedFrom, Series};

    use super::*;

    /// A store of one query.
    struct One(&'static str);

    impl Store for One {
        fn scan(
            &self,
            table: Table,
            _columns: Option<&[&str]>,
            _applications: &[String],
            each: &mut dyn FnMut(DataFrame) -> Result<(), StoreError>,
        ) -> Result<(), StoreError> {
            if table != Table::SparkSql {
                return Ok(());
            }
            let columns = vec![
                Series::new("application_id".into(), ["a"]).into(),
                Series::new("execution".into(), [4i64]).into(),
                Series::new("plan".into(), [self.0]).into(),
            ];
            each(DataFrame::new(1, columns)?)
        }
    }

    #[test]
    fn a_plan_that_is_none_is_an_error() {
        let sound = Logs::read(&One(r#"{"node":"Scan"}"#), &[]);
        let queries = sound.map(|logs| logs.queries[&("a".into(), 4)].plan.is_some());
        assert!(queries.unwrap());
        let error = Logs::read(&One("no plan"), &[]).unwrap_err().to_string();
        assert!(error.contains("spark_sql") && error.contains("plan"), "{error}");
    }

    #[test]
    fn attempts_have_names_where_there_are_several() {
        let mut attempts = Attempts::default();
        attempts.add("a", Some("1"));
        assert_eq!(attempts.called("a", Some("1")), "a");
        attempts.add("a", Some("2"));
        assert_eq!(attempts.called("a", Some("1")), "a/1");
        assert_eq!(attempts.called("a", None), "a", "nobody knows which");
        assert_eq!(attempts.called("b", None), "b");
        assert_eq!(["a/1", "a", "../x"].map(|called| attempts.id_of(called)), ["a", "a", "../x"]);
    }
}
