//! Taking in tasks that Spark has summed up: the same sums, made where the tables are.
//!
//! A group has what neighbours in a table have in common ([`Of`]), so [`Sums`] takes it in as it takes
//! neighbours, and everything that depends on more than a group (which job, which row, what is left outside
//! tasks, ratios, bounds, order) is done by the same code for both. Three tables with what this side has decided
//! are given to Spark: `pairs` (processes whose tasks are wanted, with the event log that they belong to), `logs`
//! and `repeated` (tasks with more than one record). The latter, which hardly ever are, come here one by one,
//! because the first of them in the store counts as the task.

use std::collections::HashSet;

use records::{METRICS, TaskMethod};
use serde_json::json;

use crate::input::eventlog::SPARK_METRICS;
use crate::model::coverage::{ENGINE_EXACT, ENGINE_PARTIAL};
use crate::report::accumulate::{Nodes, Of, Ran, Sums};
use crate::report::figure::{LOCALITIES, is_peak};
use crate::report::key::{Dimension, Key, Place, Span};
use crate::report::logged::{LoggedTasks, is_wanted};
use crate::report::question::Question;
use crate::report::rows::{Run, SaidRun, Share};
use crate::report::stage_attempts::StageAttempts;
use crate::report::tasks::Tasks;
use crate::store::{Kind, SparkError, SparkRow, Sql, StoreError, Table};

/// The tasks that are wanted, with what is known of their process; `is_further` are threads that a task has started and
/// Python workers, which add to the task.
fn recorded_tasks() -> String {
    let further = TaskMethod::FURTHER.map(|method| format!("'{}'", method.name())).join(", ");
    // In local mode a Python worker's records do not name the application: its process knows.
    let columns = Table::Tasks.columns().iter().map(|(name, _)| match name.as_str() {
        "application_id" => "coalesce(t.application_id, p.own) AS application_id".to_owned(),
        name => format!("t.`{name}`"),
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    format!(
        "(SELECT {columns}, p.attempt AS process_attempt, p.log, \
         coalesce(t.method IN ({further}), false) AS is_further \
         FROM tasks t JOIN (SELECT /*+ BROADCAST */ * FROM pairs) p \
         ON t.process_id = p.process_id AND t.application_id <=> p.application_id)"
    )
}

/// The same, where a Python worker's tasks have the attempt of their stage (`own_attempt`) from another record, as
/// [`super::stage_attempts`] finds it.
fn recorded_tasks_of_python() -> String {
    let recorded = recorded_tasks();
    format!(
        "(SELECT f.*, o.own_attempt FROM {recorded} f LEFT JOIN (SELECT application_id, process_attempt, task_id, \
         max(stage_attempt) AS own_attempt FROM {recorded} WHERE NOT is_further AND application_id IS NOT NULL \
         AND task_id IS NOT NULL GROUP BY 1, 2, 3) o ON f.is_further AND f.application_id = o.application_id \
         AND f.process_attempt <=> o.process_attempt AND f.task_id = o.task_id)"
    )
}

/// Those with one record.
const REPEATED: &str = "LEFT ANTI JOIN (SELECT /*+ BROADCAST */ * FROM repeated) d \
    ON r.application_id <=> d.application_id AND r.process_attempt <=> d.attempt AND r.task_id = d.task_id";
/// The tasks of event logs.
const LOGGED: &str = "(SELECT s.*, g.log FROM spark_tasks s LEFT JOIN logs g \
    ON s.application_id = g.application_id AND s.application_attempt <=> g.application_attempt)";

/// Which processes ran tasks.
///
/// # Errors
/// When Spark does not answer.
pub fn processes_with_tasks(spark: &dyn Sql) -> Result<Ran, StoreError> {
    let mut ran = Ran::default();
    let sql = "SELECT process_id, application_id, count(*) AS tasks, \
        count_if(stage IS NULL AND task_id IS NOT NULL) AS stageless FROM tasks GROUP BY 1, 2";
    spark.query(sql, &mut |row| {
        ran.tasks += row.count("tasks")? as usize;
        ran.lacks_stages |= row.count("stageless")? > 0;
        let process = process_of(row)?.to_owned();
        ran.pairs.insert((process, row.text("application_id")?.map(str::to_owned)));
        Ok(())
    })?;
    Ok(ran)
}

/// Adds the tasks of all wanted processes, and those of event logs without a record if `nodes` are given.
///
/// # Errors
/// When Spark does not answer.
pub fn add(
    spark: &dyn Sql,
    sums: &mut Sums<'_>,
    ran: &Ran,
    mut logged: LoggedTasks,
    nodes: Option<&Nodes>,
    has_python: bool,
) -> Result<(), StoreError> {
    let (recorded_tasks, attempt) = match has_python {
        true => (recorded_tasks_of_python(), "coalesce(r.stage_attempt, r.own_attempt)"),
        false => (recorded_tasks(), "r.stage_attempt"),
    };
    let has_log = name_pairs(spark, sums, ran, &logged)?;
    let mut recorded = HashSet::new();
    let repeated = name_repeated(spark)?;
    if repeated {
        add_repeated(spark, sums, &mut logged, &mut recorded)?;
    }
    let once = if repeated { REPEATED } else { "" };
    let mut keys = vec![
        "r.process_id",
        "r.application_id",
        "r.executor_id",
        "r.engine",
        "IF(r.is_further, r.method, NULL) AS share",
    ];
    let joined = format!(
        "{recorded_tasks} r {once} LEFT JOIN {LOGGED} l ON r.log = l.log AND r.task_id = l.task_id"
    );
    let by = sums.question.by;
    // What of a record's row depends on the event log's: then both come together.
    let is_joined = has_log && (by.contains(&Dimension::Time) || ran.lacks_stages);
    let times = Times { bucket_ms: sums.question.bucket_ms };
    let stage = match is_joined {
        true => format!(
            "coalesce(r.stage, l.stage) AS stage, \
             IF(r.stage IS NULL, l.stage_attempt, {attempt}) AS stage_attempt"
        ),
        false => format!("r.stage AS stage, {attempt} AS stage_attempt"),
    };
    keys.push(&stage);
    let span = times.of_task(is_joined);
    if by.contains(&Dimension::Time) {
        keys.push(&span);
    }
    if by.contains(&Dimension::Thread) {
        keys.push("r.tid AS thread");
    }
    let keys = keys.join(", ");
    let counted = counted_columns();
    let said = said_columns();
    let from = if is_joined { joined.clone() } else { format!("{recorded_tasks} r {once}") };
    let together = if is_joined { format!(", {said}") } else { String::new() };
    spark.query(&grouped(&keys, &format!("{counted}{together}"), &from), &mut |row| {
        let run = run(row)?;
        let of = of(sums.question, row)?;
        sums.answer.notes.tasks(
            row.count("without_start")?,
            row.count("open")?,
            row.count("late")?,
            row.count("closed")?,
        );
        let share = share(row)?;
        if share == Share::Python {
            sums.answer.notes.python_records(run.tasks.into());
        }
        sums.add_run(&of, &run, share);
        match (is_joined, has_log) {
            (true, _) => add_said(sums, row, Some(said_run(row)?), &logged, &mut recorded),
            (false, false) => add_said(sums, row, None, &logged, &mut recorded),
            (false, true) => Ok(()),
        }
    })?;
    if has_log && !is_joined {
        spark.query(&grouped(&keys, &said, &joined), &mut |row| {
            add_said(sums, row, Some(said_run(row)?), &logged, &mut recorded)
        })?;
    }
    if by.contains(&Dimension::Time) && spark.has_rows(Table::Snapshots) {
        let joined = format!(
            "{recorded_tasks} r LEFT JOIN {LOGGED} l ON r.log = l.log AND r.task_id = l.task_id"
        );
        let from = if is_joined { joined } else { format!("{recorded_tasks} r") };
        shift_pieces(spark, sums, &keys, &from, &times)?;
    }
    let (Some(nodes), false) = (nodes, logged.apps.is_empty()) else { return Ok(()) };
    let mut keys =
        "l.application_id, l.application_attempt, l.executor_id, l.host, l.stage, l.stage_attempt"
            .to_owned();
    if by.contains(&Dimension::Time) {
        keys.push_str(&format!(", {}", times.of_logged()));
    }
    let from = format!(
        "(SELECT * FROM {LOGGED} WHERE application_id IS NOT NULL AND task_id IS NOT NULL) l \
         LEFT ANTI JOIN {recorded_tasks} r ON r.log = l.log AND r.task_id = l.task_id"
    );
    spark.query(&grouped(&keys, &said, &from), &mut |row| {
        // The query has left out those without one.
        let Some(id) = row.text("application_id")? else { return Ok(()) };
        let application = logged.attempts.called(id, row.text("application_attempt")?);
        if is_wanted(sums, &application, &recorded) {
            let place = Place {
                application: Some(application),
                node: row.text("host")?.map(str::to_owned),
                executor: row.text("executor_id")?.map(str::to_owned),
                stage: stage_of(row)?,
                time: span_of(sums.question, row, "")?,
                ..Place::default()
            };
            sums.add_unrecorded(place, &said_run(row)?, nodes);
        }
        Ok(())
    })
}

/// How columns say which buckets something was done in: as [`Question::span`] does.
struct Times {
    bucket_ms: i64,
}

impl Times {
    /// Of a task that records tell of, or else the event log.
    fn of_task(&self, is_joined: bool) -> String {
        let own =
            |at: usize| Self::own("r.start_real_ns", "r.end_real_ns", self.bucket_ms)[at].clone();
        let logged = self.logged();
        let one = |at: usize| match is_joined {
            true => format!("coalesce({}, {})", own(at), logged[at]),
            false => own(at),
        };
        format!("{} AS from_ms, {} AS until_ms", one(0), one(1))
    }

    /// Of a task that only the event log tells of.
    fn of_logged(&self) -> String {
        let [from, until] = self.logged();
        format!("{from} AS from_ms, {until} AS until_ms")
    }

    fn logged(&self) -> [String; 2] {
        let (start, end, width) = ("l.launched_ms", "l.finished_ms", self.bucket_ms);
        let last = format!("greatest({start}, {end})");
        [
            format!("IF({end} IS NULL, NULL, {start} - pmod({start}, {width}))"),
            format!(
                "IF({start} IS NULL OR {end} IS NULL, NULL, {last} - pmod({last}, {width}) + {width})"
            ),
        ]
    }

    fn own(start: &str, end: &str, bucket_ms: i64) -> [String; 2] {
        let width = bucket_ms.saturating_mul(1_000_000);
        let last = format!("greatest({start}, {end} - 1)");
        [
            format!("IF({end} IS NULL, NULL, ({start} - pmod({start}, {width})) DIV 1000000)"),
            format!(
                "IF({start} IS NULL OR {end} IS NULL, NULL, \
                 ({last} - pmod({last}, {width})) DIV 1000000 + {bucket_ms})"
            ),
        ]
    }
}

/// Moves what was done between snapshots to the rows of the time between them: [`super::pieces`] in SQL.
fn shift_pieces(
    spark: &dyn Sql,
    sums: &mut Sums<'_>,
    keys: &str,
    from: &str,
    times: &Times,
) -> Result<(), StoreError> {
    let names = || METRICS.iter().map(|metric| metric.name);
    let differences: Vec<_> =
        names().map(|name| format!("s.{name} - lag(s.{name}) OVER thread AS {name}")).collect();
    let differences = differences.join(", ");
    let cut = format!(
        "(SELECT s.process_id, s.tid, lag(s.real_ns) OVER thread AS since_ns, s.real_ns, {differences} \
         FROM snapshots s LEFT SEMI JOIN pairs p ON s.process_id = p.process_id \
         WINDOW thread AS (PARTITION BY s.process_id, s.tid \
         ORDER BY s.real_ns, s.file_name, s.row_index))"
    );
    let [own_from, own_until] = Times::own("c.since_ns", "c.real_ns", times.bucket_ms);
    let sums_of: Vec<_> = names()
        .enumerate()
        .map(|(at, name)| sum(&format!("IF(c.{name} < 0, NULL, c.{name})"), &format!("m{at}")))
        .collect();
    let keys = format!("{keys}, {own_from} AS piece_from_ms, {own_until} AS piece_until_ms");
    let from = format!(
        "{from} JOIN {cut} c ON c.process_id = r.process_id AND c.tid = r.tid \
         AND c.since_ns >= r.start_real_ns AND c.real_ns <= coalesce(r.end_real_ns, c.real_ns) \
         AND c.since_ns < c.real_ns \
         LEFT SEMI JOIN snapshots b ON b.process_id = r.process_id AND b.tid = r.tid \
         AND b.real_ns = r.start_real_ns"
    );
    let columns = format!("count(*) AS tasks, {}", sums_of.join(", "));
    spark.query(&grouped(&keys, &columns, &from), &mut |row| {
        let key = sums.key(&of(sums.question, row)?);
        let time = span_of(sums.question, row, "piece_")?;
        if time != key.time {
            sums.answer.rows.shift(&key, Key { time, ..key.clone() }, &run(row)?);
        }
        Ok(())
    })
}

/// Tells Spark which processes' tasks are wanted and which event log each belongs to; whether there is one.
fn name_pairs(
    spark: &dyn Sql,
    sums: &Sums<'_>,
    ran: &Ran,
    logged: &LoggedTasks,
) -> Result<bool, StoreError> {
    let mut has_log = false;
    let mut pairs = Vec::new();
    for (id, application) in &ran.pairs {
        let Some(process) = sums.selected.get(id.as_str()) else { continue };
        let (cluster, attempt) = (process.cluster.as_deref(), process.attempt.as_deref());
        let own = application.as_ref().or(process.id.as_ref());
        let log = own.and_then(|id| logged.attempt_of(id, cluster, attempt));
        has_log |= log.is_some();
        pairs.push(json!({
            "process_id": id,
            "application_id": application,
            "own": process.id,
            "attempt": attempt,
            "log": log.map(|log| log.number),
        }));
    }
    let columns = [
        ("process_id", Kind::Text),
        ("application_id", Kind::Text),
        ("own", Kind::Text),
        ("attempt", Kind::Text),
        ("log", Kind::Signed),
    ];
    spark.name_rows("pairs", &columns, &pairs)?;
    let apps = logged.apps.iter().flat_map(|(id, apps)| apps.iter().map(move |app| (id, app)));
    let logs = apps.map(|(id, app)| {
        json!({"application_id": id, "application_attempt": app.attempt, "log": app.number})
    });
    let columns = [
        ("application_id", Kind::Text),
        ("application_attempt", Kind::Text),
        ("log", Kind::Signed),
    ];
    spark.name_rows("logs", &columns, &logs.collect::<Vec<_>>())?;
    Ok(has_log)
}

/// Finds the tasks with more than one record, and tells Spark; whether there are any.
fn name_repeated(spark: &dyn Sql) -> Result<bool, StoreError> {
    let mut repeated = Vec::new();
    let sql = format!(
        "SELECT application_id, process_attempt AS attempt, task_id FROM {} \
         WHERE task_id IS NOT NULL AND NOT is_further GROUP BY 1, 2, 3 HAVING count(*) > 1",
        recorded_tasks()
    );
    spark.query(&sql, &mut |row| {
        repeated.push(row.clone().into_value());
        Ok(())
    })?;
    let columns =
        [("application_id", Kind::Text), ("attempt", Kind::Text), ("task_id", Kind::Signed)];
    if !repeated.is_empty() {
        spark.name_rows("repeated", &columns, &repeated)?;
    }
    Ok(!repeated.is_empty())
}

/// Adds the tasks with more than one record, as on one machine.
fn add_repeated(
    spark: &dyn Sql,
    sums: &mut Sums<'_>,
    logged: &mut LoggedTasks,
    recorded: &mut HashSet<String>,
) -> Result<(), StoreError> {
    let of_logs = "JOIN (SELECT DISTINCT application_id, task_id FROM repeated) d \
        ON t.application_id = d.application_id AND t.task_id = d.task_id";
    spark.rows(Table::SparkTasks, None, of_logs, &mut |frame| Ok(logged.take(&frame)?))?;
    let of_records = "JOIN pairs p \
        ON t.process_id = p.process_id AND t.application_id <=> p.application_id \
        JOIN repeated d ON coalesce(t.application_id, p.own) <=> d.application_id AND p.attempt <=> d.attempt \
        AND t.task_id = d.task_id";
    let stage_attempts = StageAttempts::of_frames(sums.selected, &mut |each| {
        spark.rows(Table::Tasks, None, of_records, each)
    })?;
    // Their pieces are moved with all others'.
    let mut tasks = Tasks::new(sums, logged, &stage_attempts, None);
    spark.rows(Table::Tasks, None, of_records, &mut |frame| tasks.take(frame))?;
    let joined = logged.tasks.iter().filter(|task| task.is_joined);
    recorded.extend(joined.filter_map(|task| task.place.application.clone()));
    Ok(())
}

/// A query for groups.
fn grouped(keys: &str, columns: &str, from: &str) -> String {
    let places: Vec<_> = (1..=keys_in(keys)).map(|at| at.to_string()).collect();
    format!("SELECT {keys}, {columns} FROM {from} GROUP BY {}", places.join(", "))
}

/// How many columns a list has: its commas outside parentheses, plus one.
fn keys_in(list: &str) -> usize {
    let mut depth = 0;
    let mut commas = 0;
    for one in list.chars() {
        match one {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => commas += 1,
            _ => {}
        }
    }
    commas + 1
}

/// The number of values of a column that are known, and their sum, which stops at the largest number as
/// [`super::rows::Sum`] does.
fn sum(name: &str, short: &str) -> String {
    let most = format!("{}BD", u64::MAX);
    format!("count({name}) AS k{short}, IF(sum({name}) > {most}, {most}, sum({name})) AS s{short}")
}

fn counted_columns() -> String {
    let mut columns = vec![
        "count(*) AS tasks".to_owned(),
        "count_if(r.start_real_ns IS NULL) AS without_start".to_owned(),
        "count_if(r.end_real_ns IS NULL) AS open".to_owned(),
        "count_if(r.is_late) AS late".to_owned(),
        "count_if(r.closed_by_next OR r.closed_by_thread_end) AS closed".to_owned(),
    ];
    let metrics = METRICS.iter().enumerate();
    columns
        .extend(metrics.map(|(at, metric)| sum(&format!("r.{}", metric.name), &format!("m{at}"))));
    columns.join(", ")
}

fn said_columns() -> String {
    let mut columns = vec![
        "count(*) AS all_tasks".to_owned(),
        "count(l.task_id) AS logged".to_owned(),
        "count_if(l.failed IS NOT NULL AND l.killed IS NOT NULL) AS kfailed".to_owned(),
        "count_if(l.failed IS NOT NULL AND l.killed IS NOT NULL AND (l.failed OR l.killed)) AS sfailed"
            .to_owned(),
    ];
    let names: Vec<_> = LOCALITIES.iter().map(|(name, _)| format!("'{name}'")).collect();
    columns.push(format!("count_if(l.locality IN ({})) AS klocality", names.join(", ")));
    let localities = names.iter().enumerate();
    columns.extend(localities.map(|(at, name)| format!("count_if(l.locality = {name}) AS l{at}")));
    let has_times = "l.launched_ms >= 0 AND l.finished_ms >= 0";
    columns.push(format!("count_if({has_times}) AS ktimes"));
    columns.push(format!("min(IF({has_times}, l.launched_ms, NULL)) AS first_ms"));
    columns.push(format!("max(IF({has_times}, l.finished_ms, NULL)) AS last_ms"));
    let metrics = SPARK_METRICS.iter().enumerate();
    columns.extend(metrics.map(|(at, name)| match is_peak(at) {
        true => format!("count(l.{name}) AS kp{at}, max(l.{name}) AS sp{at}"),
        false => sum(&format!("l.{name}"), &format!("p{at}")),
    }));
    columns.join(", ")
}

fn share(row: &SparkRow) -> Result<Share, StoreError> {
    Ok(Share::of(row.text("share")?))
}

/// The process of a group, which all tasks have.
fn process_of(row: &SparkRow) -> Result<&str, StoreError> {
    let missing = || SparkError::Answer { what: "tasks of no process".into() };
    Ok(row.text("process_id")?.ok_or_else(missing)?)
}

fn stage_of(row: &SparkRow) -> Result<Option<(i64, Option<i64>)>, StoreError> {
    let (stage, attempt) = (row.signed("stage")?, row.signed("stage_attempt")?);
    Ok(stage.map(|stage| (stage, attempt)))
}

/// The buckets that columns of [`Times`] name.
fn span_of(
    question: &Question<'_>,
    row: &SparkRow,
    prefix: &str,
) -> Result<Option<Span>, StoreError> {
    let column = |name: &str| row.signed(&format!("{prefix}{name}"));
    let times = column("from_ms")?.zip(column("until_ms")?);
    Ok(times.map(|(from_ms, until_ms)| question.spanning(from_ms, until_ms)))
}

fn of<'r>(question: &Question<'_>, row: &'r SparkRow) -> Result<Of<'r>, StoreError> {
    Ok(Of {
        process: process_of(row)?,
        application: row.text("application_id")?,
        executor: row.text("executor_id")?,
        stage: stage_of(row)?,
        engine: row.text("engine")?,
        thread: row.signed("thread")?,
        time: span_of(question, row, "")?,
        task: None,
    })
}

/// The sums of columns `k<short><index>` and `s<short><index>`.
fn sums<const N: usize>(row: &SparkRow, short: &str) -> Result<[(u32, u64); N], StoreError> {
    let mut sums = [(0, 0); N];
    for (at, one) in sums.iter_mut().enumerate() {
        *one = row.sum(&format!("k{short}{at}"), &format!("s{short}{at}"))?;
    }
    Ok(sums)
}

fn run(row: &SparkRow) -> Result<Run, StoreError> {
    let engine = row.text("engine")?;
    Ok(Run {
        tasks: row.count("tasks")? as u32,
        sums: sums(row, "m")?,
        is_partial: engine == Some(ENGINE_PARTIAL),
        is_exact: engine == Some(ENGINE_EXACT),
    })
}

fn said_run(row: &SparkRow) -> Result<SaidRun, StoreError> {
    let mut localities = [0; LOCALITIES.len()];
    for (at, one) in localities.iter_mut().enumerate() {
        *one = row.count(&format!("l{at}"))?;
    }
    let (timed, first_ms) = row.sum("ktimes", "first_ms")?;
    let (_, last_ms) = row.sum("ktimes", "last_ms")?;
    Ok(SaidRun {
        tasks: row.count("logged")? as u32,
        failed: row.sum("kfailed", "sfailed")?,
        localities: (row.count("klocality")? as u32, localities),
        times: (timed, first_ms, last_ms),
        metrics: sums(row, "p")?,
    })
}

/// Adds what the event log says of a group; nothing, where there is none.
fn add_said(
    sums: &mut Sums<'_>,
    row: &SparkRow,
    said: Option<SaidRun>,
    logged: &LoggedTasks,
    recorded: &mut HashSet<String>,
) -> Result<(), StoreError> {
    let tasks = row.count(if said.is_some() { "all_tasks" } else { "tasks" })?;
    let said = said.unwrap_or_default();
    let unsaid = tasks.saturating_sub(said.tasks.into());
    let of = of(sums.question, row)?;
    if said.tasks > 0 {
        let process = sums.selected.get(of.process);
        let called = |id: &str| process.map_or_else(|| id.to_owned(), |one| one.called(id));
        recorded.extend(of.application.map(called));
    }
    if unsaid > 0 {
        let process = sums.selected.get(of.process);
        let id = of.application.or_else(|| process.and_then(|one| one.id.as_deref()));
        let called = id.map(|id| process.map_or_else(|| id.to_owned(), |one| one.called(id)));
        let name = called.as_deref().unwrap_or("unknown");
        let has_log = id.is_some_and(|id| logged.apps.contains_key(id));
        sums.answer.notes.unlogged_tasks(name, has_log, unsaid);
    }
    if !share(row)?.is_further() {
        let row = sums.row(&of);
        row.add_said_run(&said);
        row.add_unsaid(unsaid as u32);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_of_functions_are_no_columns() {
        assert_eq!(keys_in("a, IF(b, c, d) AS e, pmod((f), g)"), 3);
    }
}
