//! The schema of a database: tables, keys and views, as migrations.
//!
//! Every change is a new migration at the end; what a released one does never changes (a snapshot test
//! holds them). DDL commits by itself on these servers, so each statement can run again after a kill,
//! and a migration's row in `schema_version` comes last.

use std::fmt::Write;

use records::METRICS;
use records::metric::Class;

use super::super::table::{Kind, Table};
use crate::eventlog::SPARK_METRICS;

/// The migrations: the first makes version 1.
const MIGRATIONS: [fn() -> Vec<String>; 9] = [
    tables,
    || views(Further::NotKnown, Peak::Summed),
    snapshots,
    rows_are_sources,
    || views(Further::Threads, Peak::Summed),
    directories,
    || views(Further::ThreadsAndPython, Peak::Summed),
    event_logs_say_more,
    || views(Further::ThreadsAndPython, Peak::Largest),
];

/// Which records a version's views know that only add to a task that has a record of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Further {
    NotKnown,
    /// Of threads that a task has started.
    Threads,
    /// And of Python workers, which do not know the attempt of the stage.
    ThreadsAndPython,
}

/// What a version's views make of peaks of memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peak {
    /// Their sum, which says nothing.
    Summed,
    Largest,
}

/// The version that this program writes and reads.
pub const VERSION: u32 = MIGRATIONS.len() as u32;

/// Longest key of a source: an escaped application id and attempt.
const KEY: &str = "VARCHAR(512) CHARACTER SET ascii COLLATE ascii_bin NOT NULL";

/// The statements that lead from one version to the next.
pub fn migration(to: u32) -> Vec<String> {
    MIGRATIONS.get(to as usize - 1).map(|statements| statements()).unwrap_or_default()
}

/// The table of versions, which must be there before all others.
pub const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS `schema_version` (
  `version` INT UNSIGNED NOT NULL PRIMARY KEY,
  `made_at` TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE=InnoDB";

/// The column that ties a row to the process or application it is of.
pub fn key_column(table: Table) -> &'static str {
    match table.head() {
        Table::Processes => "process_id",
        _ => "application_key",
    }
}

/// Columns that a table has in a database alone, before those of the frame.
pub fn added_columns(table: Table) -> &'static [&'static str] {
    match table {
        Table::Processes => &[],
        Table::SparkApps => &["application_key"],
        _ if table.head() == Table::Processes => &["ordinal"],
        _ => &["application_key", "ordinal"],
    }
}

fn tables() -> Vec<String> {
    let sources = format!(
        "CREATE TABLE IF NOT EXISTS `sources` (
  `source` {KEY} PRIMARY KEY,
  `is_stale` BOOLEAN NOT NULL,
  KEY `stale` (`is_stale`)
) ENGINE=InnoDB"
    );
    let kept = format!(
        "CREATE TABLE IF NOT EXISTS `kept` (
  `source` {KEY},
  `segment` INT UNSIGNED NOT NULL,
  `part` INT UNSIGNED NOT NULL,
  `bytes` MEDIUMBLOB NOT NULL,
  PRIMARY KEY (`source`, `segment`, `part`),
  FOREIGN KEY (`source`) REFERENCES `sources` (`source`) ON DELETE CASCADE
) ENGINE=InnoDB"
    );
    let mut statements = vec![sources, kept];
    let later = [Table::Snapshots, Table::Directories];
    let first = Table::ALL.into_iter().filter(|table| !later.contains(table));
    statements.extend(first.map(table));
    statements.push(
        "CREATE TABLE IF NOT EXISTS `metrics` (
  `position` INT UNSIGNED NOT NULL PRIMARY KEY,
  `name` VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
  `unit` VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  `is_engine` BOOLEAN NOT NULL
) ENGINE=InnoDB"
            .into(),
    );
    let rows: Vec<_> = METRICS
        .iter()
        .enumerate()
        .map(|(position, metric)| {
            let (name, unit) = (metric.name, metric.unit.name());
            format!("({position},'{name}','{unit}',{})", metric.is_engine())
        })
        .collect();
    // Run again after a kill, it must not fail.
    statements.push(format!(
        "INSERT INTO `metrics` VALUES {} ON DUPLICATE KEY UPDATE `position` = `position`",
        rows.join(",")
    ));
    statements
}

/// Snapshots that were to be kept.
fn snapshots() -> Vec<String> {
    vec![table(Table::Snapshots)]
}

/// What processes did to files in which directory, and its summary: what has no directory stands there too, so
/// that the rows of a node are what `node_summary` has for files. NULL = the records do not tell directories apart.
fn directories() -> Vec<String> {
    let files = || METRICS.iter().filter(|one| matches!(one.syscall(), Some((Class::File, ..))));
    let list = |what: &dyn Fn(&str) -> String| {
        files().map(|one| what(one.name)).collect::<Vec<_>>().join(", ")
    };
    let sums = list(&|name| format!("SUM(`{name}`) AS `{name}`"));
    let columns = list(&|name| format!("`{name}`"));
    // Never below 0: an unsigned difference would fail.
    let rest = list(&|name| {
        format!("p.`{name}` - LEAST(p.`{name}`, COALESCE(d.`{name}`, 0)) AS `{name}`")
    });
    let told = "p.`settings` LIKE '%per_directory = true%'";
    let summary = format!(
        "CREATE OR REPLACE SQL SECURITY INVOKER VIEW `directory_summary` AS \
         SELECT `application_id`, `node`, `executor_id`, `directory`, COUNT(*) AS `processes`, {sums} FROM (\
         SELECT `application_id`, `node`, `executor_id`, `directory`, {columns} FROM `directories` \
         UNION ALL SELECT p.`application_id`, p.`node`, p.`executor_id`, \
         IF(d.`process_id` IS NOT NULL OR {told}, '(no directory)', NULL), {rest} \
         FROM `processes` p LEFT JOIN (SELECT `process_id`, {sums} FROM `directories` GROUP BY `process_id`) d \
         ON d.`process_id` = p.`process_id`) parts \
         GROUP BY `application_id`, `node`, `executor_id`, `directory`"
    );
    vec![table(Table::Directories), summary]
}

/// Tables are made at once: of a process it is noted which snapshots were kept, of an application nothing is
/// kept but its rows. What a killed ingest of an older version had left half done is taken in anew.
fn rows_are_sources() -> Vec<String> {
    let last = u64::MAX;
    vec![
        format!(
            "ALTER TABLE `sources` ADD COLUMN `snapshot_interval_ns` BIGINT UNSIGNED NOT NULL DEFAULT {last}"
        ),
        "DELETE FROM `processes` WHERE `process_id` IN (SELECT `source` FROM `sources` WHERE `is_stale`)"
            .into(),
        "DELETE FROM `sources` WHERE `is_stale`".into(),
        "DELETE FROM `kept` WHERE `source` LIKE 'app:%'".into(),
        "ALTER TABLE `sources` ALTER COLUMN `is_stale` SET DEFAULT FALSE".into(),
    ]
}

/// Columns that came later: the first version's tables are without them.
const LATER: [(Table, &str); 9] = [
    (Table::SparkJobs, "failure"),
    (Table::SparkStages, "call_site"),
    (Table::SparkStages, "rdds"),
    (Table::SparkStages, "sql_metrics"),
    (Table::SparkTasks, "failure"),
    (Table::SparkSql, "progress"),
    (Table::SparkSql, "plan"),
    (Table::SparkSql, "driver_metrics"),
    (Table::SparkSql, "failure"),
];

fn is_later(table: Table, column: &str) -> bool {
    LATER.contains(&(table, column))
}

/// What event logs say of plans, RDDs and failures. Of logs that were taken in before it is unknown.
fn event_logs_say_more() -> Vec<String> {
    let kind = |table: Table, name: &str| {
        let kind = table.columns().iter().find(|(one, _)| one == name).map(|(_, kind)| *kind);
        kind.unwrap_or(Kind::Text)
    };
    LATER
        .iter()
        .map(|(table, name)| {
            let sql = sql_type(name, kind(*table, name));
            format!("ALTER TABLE `{}` ADD COLUMN `{name}` {sql}", table.name())
        })
        .collect()
}

fn sql_type(name: &str, kind: Kind) -> &'static str {
    match kind {
        _ if name == "process_id" => "CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL",
        Kind::Text => "MEDIUMTEXT",
        Kind::Signed => "BIGINT",
        Kind::Unsigned => "BIGINT UNSIGNED",
        Kind::Truth => "BOOLEAN",
    }
}

fn table(table: Table) -> String {
    let mut text = format!("CREATE TABLE IF NOT EXISTS `{}` (", table.name());
    if table.head() != Table::Processes {
        let _ = write!(text, "\n  `application_key` {KEY},");
    }
    if table.head() != table {
        text.push_str("\n  `ordinal` INT UNSIGNED NOT NULL,");
    }
    for (name, kind) in table.columns().iter().filter(|(name, _)| !is_later(table, name)) {
        let _ = write!(text, "\n  `{name}` {},", sql_type(name, *kind));
    }
    // What reports and people look rows up by; texts of any length are indexed by their beginning.
    for index in match table {
        Table::Processes => &["`application_id`(64)", "`node`(64)"][..],
        Table::Tasks => &["`application_id`(64), `task_id`", "`application_id`(64), `stage`"],
        Table::SparkTasks => &["`application_id`(64), `task_id`"],
        Table::Directories => &["`application_id`(64), `directory`(128)"],
        Table::SparkStages => &["`application_id`(64), `stage`, `stage_attempt`"],
        _ => &[],
    } {
        let _ = write!(text, "\n  KEY ({index}),");
    }
    let key = key_column(table);
    if table.head() == table {
        let _ = write!(text, "\n  PRIMARY KEY (`{key}`)");
    } else {
        let head = table.head().name();
        let _ = write!(
            text,
            "\n  PRIMARY KEY (`{key}`, `ordinal`),\n  FOREIGN KEY (`{key}`) REFERENCES `{head}` (`{key}`) \
             ON DELETE CASCADE"
        );
    }
    text.push_str("\n) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
    text
}

/// Summaries for any SQL client. Sums leave unknown values out: they are exact where `exact_tasks` is
/// `tasks` (`exact_processes` is `processes`), else lower bounds, and NULL where nothing is known. What is
/// `further` adds to its task's stage, but is no task.
fn views(further: Further, peak: Peak) -> Vec<String> {
    let ours = |from: &str| {
        METRICS.iter().map(|one| format!("{from}`{}`", one.name)).collect::<Vec<_>>().join(", ")
    };
    let spark = |what: &dyn Fn(&str) -> String| {
        SPARK_METRICS.iter().map(|name| what(name)).collect::<Vec<_>>().join(", ")
    };
    let sum = |name: &str| format!("SUM(`{name}`) AS `{name}`");
    let our_sums = METRICS.iter().map(|one| sum(one.name)).collect::<Vec<_>>().join(", ");
    let spark_sums = spark(&|name| match (peak, name) {
        (Peak::Largest, "peak_execution_memory_bytes") => {
            format!("MAX(`spark_{name}`) AS `spark_{name}`")
        }
        _ => sum(&format!("spark_{name}")),
    });
    let no_metrics = METRICS.iter().map(|_| "NULL").collect::<Vec<_>>().join(", ");
    let view = |name: &str, query: String| {
        format!("CREATE OR REPLACE SQL SECURITY INVOKER VIEW `{name}` AS {query}")
    };
    let spark_columns = spark(&|name| format!("s.`{name}` AS `spark_{name}`"));
    // The same join as the report's: by application, attempt where both know it, and TID.
    let is_same = "s.`application_id` = t.`application_id` AND s.`task_id` = t.`task_id` AND \
                   (s.`application_attempt` IS NULL OR t.`application_attempt` IS NULL OR \
                   s.`application_attempt` = t.`application_attempt`)";
    let node = "COALESCE((SELECT MIN(p.`node`) FROM `processes` p WHERE \
                p.`application_id` = s.`application_id` AND p.`executor_id` = s.`executor_id`), s.`host`)";
    let is_own = |table: &str| match further {
        Further::NotKnown => String::new(),
        Further::Threads => format!("NOT ({table}.`method` <=> 'task_thread')"),
        Further::ThreadsAndPython => {
            format!("COALESCE({table}.`method`, '') NOT IN ('task_thread', 'python_worker')")
        }
    };
    let (own_column, other_column, is_task) = match is_own("t") {
        none if none.is_empty() => (none, "", String::new()),
        is_own => (format!("{is_own} AS `is_task`, "), "TRUE, ", format!(" AND {is_own}")),
    };
    let own_attempt = match further {
        Further::ThreadsAndPython => format!(
            ", (SELECT MAX(o.`stage_attempt`) FROM `tasks` o WHERE o.`application_id` = t.`application_id` AND \
             o.`application_attempt` <=> t.`application_attempt` AND o.`task_id` = t.`task_id` AND {})",
            is_own("o")
        ),
        Further::NotKnown | Further::Threads => String::new(),
    };
    let tasks = format!(
        "SELECT t.`application_id`, t.`application_attempt`, t.`node`, t.`executor_id`, \
         t.`process_id`, t.`task_id`, COALESCE(t.`stage`, s.`stage`) AS `stage`, \
         COALESCE(t.`stage_attempt`, s.`stage_attempt`{own_attempt}) AS `stage_attempt`, t.`task_index`, \
         t.`attempt`, {own_column}TRUE AS `is_recorded`, t.`engine`, t.`start_real_ns`, t.`end_real_ns`, \
         t.`duration_ns`, s.`launched_ms`, s.`finished_ms`, s.`failed`, s.`killed`, {}, {spark_columns} \
         FROM `tasks` t LEFT JOIN `spark_tasks` s ON {is_same}{is_task} \
         UNION ALL SELECT s.`application_id`, s.`application_attempt`, {node}, s.`executor_id`, \
         NULL, s.`task_id`, s.`stage`, s.`stage_attempt`, s.`task_index`, s.`attempt`, {other_column}FALSE, NULL, \
         NULL, NULL, NULL, s.`launched_ms`, s.`finished_ms`, s.`failed`, s.`killed`, {no_metrics}, \
         {spark_columns} FROM `spark_tasks` s WHERE NOT EXISTS (SELECT 1 FROM `tasks` t WHERE {is_same})",
        ours("t."),
    );
    let counts = match further {
        Further::Threads | Further::ThreadsAndPython => {
            "SUM(`is_task`) AS `tasks`, SUM(`is_recorded` AND `is_task`) AS `recorded_tasks`, \
             GREATEST(0, SUM(`is_task`) - SUM(NOT COALESCE(`engine` = 'exact', FALSE))) AS `exact_tasks`"
        }
        Further::NotKnown => {
            "COUNT(*) AS `tasks`, SUM(`is_recorded`) AS `recorded_tasks`, \
             SUM(COALESCE(`engine` = 'exact', FALSE)) AS `exact_tasks`"
        }
    };
    let task_sums = format!("{counts}, {our_sums}, {spark_sums}");
    let stage_name = "(SELECT MAX(n.`name`) FROM `spark_stages` n WHERE n.`application_id` = \
                      t.`application_id` AND n.`stage` = t.`stage` AND n.`stage_attempt` = \
                      t.`stage_attempt`) AS `name`";
    vec![
        view(
            "node_summary",
            format!(
                "SELECT `application_id`, `node`, `role`, COUNT(*) AS `processes`, \
                 SUM(`engine` = 'exact') AS `exact_processes`, {our_sums} FROM `processes` \
                 GROUP BY `application_id`, `node`, `role`"
            ),
        ),
        view("task_summary", tasks),
        view(
            "stage_summary",
            format!(
                "SELECT t.`application_id`, t.`stage`, t.`stage_attempt`, {stage_name}, {task_sums} \
                 FROM `task_summary` t GROUP BY t.`application_id`, t.`stage`, t.`stage_attempt`"
            ),
        ),
        view(
            "node_stage_summary",
            format!(
                "SELECT t.`application_id`, t.`node`, t.`stage`, t.`stage_attempt`, {task_sums} FROM \
                 `task_summary` t GROUP BY t.`application_id`, t.`node`, t.`stage`, t.`stage_attempt`"
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a released migration does must not change: make a new one.
    #[test]
    fn migrations_are_as_released() {
        let all: Vec<_> = (1..=VERSION)
            .map(|version| format!("-- version {version}\n{};\n", migration(version).join(";\n")))
            .collect();
        insta::assert_snapshot!("migrations", all.join("\n"));
    }
}
