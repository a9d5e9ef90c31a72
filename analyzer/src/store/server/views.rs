//! The views of a database: summaries for any SQL client.
//!
//! Sums leave unknown values out: they are exact where `exact_tasks` is `tasks` (`exact_processes` is `processes`),
//! else lower bounds, and NULL where nothing is known. What is `further` (threads of tasks, Python workers, which do not
//! know the attempt of the stage) adds to its task's stage, but is no task.

use records::metric::{Class, Metric};

use crate::input::eventlog::SPARK_METRICS;

/// Statements that make all views anew, with columns of these metrics.
pub fn views(metrics: &[&Metric]) -> Vec<String> {
    let names: Vec<&str> = metrics.iter().map(|metric| metric.name).collect();
    let [tasks, stages, node_stages] = of_tasks(&names);
    vec![of_directories(metrics), of_nodes(&names), tasks, stages, node_stages]
}

fn view(name: &str, query: &str) -> String {
    format!("CREATE OR REPLACE SQL SECURITY INVOKER VIEW `{name}` AS {query}")
}

fn list(names: &[&str], what: impl Fn(&str) -> String) -> String {
    names.iter().map(|name| what(name)).collect::<Vec<_>>().join(", ")
}

fn sum(name: &str) -> String {
    format!("SUM(`{name}`) AS `{name}`")
}

/// What has no directory stands there too, so that the rows of a node are what `node_summary` has for files. NULL =
/// the records do not tell directories apart.
fn of_directories(metrics: &[&Metric]) -> String {
    let of_files = metrics.iter().filter(|one| matches!(one.syscall(), Some((Class::File, ..))));
    let names: Vec<&str> = of_files.map(|one| one.name).collect();
    let sums = list(&names, sum);
    let columns = list(&names, |name| format!("`{name}`"));
    // Never below 0: an unsigned difference would fail.
    let rest = list(&names, |name| {
        format!("p.`{name}` - LEAST(p.`{name}`, COALESCE(d.`{name}`, 0)) AS `{name}`")
    });
    let told = "p.`settings` LIKE '%per_directory = true%'";
    let query = format!(
        "SELECT `application_id`, `node`, `executor_id`, `directory`, COUNT(*) AS `processes`, {sums} FROM (\
         SELECT `application_id`, `node`, `executor_id`, `directory`, {columns} FROM `directories` \
         UNION ALL SELECT p.`application_id`, p.`node`, p.`executor_id`, \
         IF(d.`process_id` IS NOT NULL OR {told}, '(no directory)', NULL), {rest} \
         FROM `processes` p LEFT JOIN (SELECT `process_id`, {sums} FROM `directories` GROUP BY `process_id`) d \
         ON d.`process_id` = p.`process_id`) parts \
         GROUP BY `application_id`, `node`, `executor_id`, `directory`"
    );
    view("directory_summary", &query)
}

fn of_nodes(names: &[&str]) -> String {
    let query = format!(
        "SELECT `application_id`, `node`, `role`, COUNT(*) AS `processes`, \
         SUM(`engine` = 'exact') AS `exact_processes`, {} FROM `processes` \
         GROUP BY `application_id`, `node`, `role`",
        list(names, sum)
    );
    view("node_summary", &query)
}

/// Whether a row of `tasks` is a task, and not further work for one.
fn is_task(row: &str) -> String {
    format!("COALESCE({row}.`method`, '') NOT IN ('task_thread', 'python_worker')")
}

/// Tasks, and their sums by stage and by node and stage.
fn of_tasks(names: &[&str]) -> [String; 3] {
    let spark_sums = list(&SPARK_METRICS, |name| match name {
        // A peak has no sum.
        "peak_execution_memory_bytes" => format!("MAX(`spark_{name}`) AS `spark_{name}`"),
        _ => sum(&format!("spark_{name}")),
    });
    let spark_columns = list(&SPARK_METRICS, |name| format!("s.`{name}` AS `spark_{name}`"));
    // The same join as the report's: by application, attempt where both know it, and TID.
    let is_same = "s.`application_id` = t.`application_id` AND s.`task_id` = t.`task_id` AND \
                   (s.`application_attempt` IS NULL OR t.`application_attempt` IS NULL OR \
                   s.`application_attempt` = t.`application_attempt`)";
    let node = "COALESCE((SELECT MIN(p.`node`) FROM `processes` p WHERE \
                p.`application_id` = s.`application_id` AND p.`executor_id` = s.`executor_id`), s.`host`)";
    let own_attempt = format!(
        "(SELECT MAX(o.`stage_attempt`) FROM `tasks` o WHERE o.`application_id` = t.`application_id` AND \
         o.`application_attempt` <=> t.`application_attempt` AND o.`task_id` = t.`task_id` AND {})",
        is_task("o")
    );
    let is_own = is_task("t");
    let tasks = format!(
        "SELECT t.`application_id`, t.`application_attempt`, t.`node`, t.`executor_id`, \
         t.`process_id`, t.`task_id`, COALESCE(t.`stage`, s.`stage`) AS `stage`, \
         COALESCE(t.`stage_attempt`, s.`stage_attempt`, {own_attempt}) AS `stage_attempt`, t.`task_index`, \
         t.`attempt`, {is_own} AS `is_task`, TRUE AS `is_recorded`, t.`engine`, t.`start_real_ns`, t.`end_real_ns`, \
         t.`duration_ns`, s.`launched_ms`, s.`finished_ms`, s.`failed`, s.`killed`, {}, {spark_columns} \
         FROM `tasks` t LEFT JOIN `spark_tasks` s ON {is_same} AND {is_own} \
         UNION ALL SELECT s.`application_id`, s.`application_attempt`, {node}, s.`executor_id`, \
         NULL, s.`task_id`, s.`stage`, s.`stage_attempt`, s.`task_index`, s.`attempt`, TRUE, FALSE, NULL, \
         NULL, NULL, NULL, s.`launched_ms`, s.`finished_ms`, s.`failed`, s.`killed`, {}, \
         {spark_columns} FROM `spark_tasks` s WHERE NOT EXISTS (SELECT 1 FROM `tasks` t WHERE {is_same})",
        list(names, |name| format!("t.`{name}`")),
        list(names, |_| "NULL".into()),
    );
    let sums = format!(
        "SUM(`is_task`) AS `tasks`, SUM(`is_recorded` AND `is_task`) AS `recorded_tasks`, \
         GREATEST(0, SUM(`is_task`) - SUM(NOT COALESCE(`engine` = 'exact', FALSE))) AS `exact_tasks`, \
         {}, {spark_sums}",
        list(names, sum)
    );
    let stage_name = "(SELECT MAX(n.`name`) FROM `spark_stages` n WHERE n.`application_id` = \
                      t.`application_id` AND n.`stage` = t.`stage` AND n.`stage_attempt` = \
                      t.`stage_attempt`) AS `name`";
    let stages = format!(
        "SELECT t.`application_id`, t.`stage`, t.`stage_attempt`, {stage_name}, {sums} \
         FROM `task_summary` t GROUP BY t.`application_id`, t.`stage`, t.`stage_attempt`"
    );
    let node_stages = format!(
        "SELECT t.`application_id`, t.`node`, t.`stage`, t.`stage_attempt`, {sums} FROM \
         `task_summary` t GROUP BY t.`application_id`, t.`node`, t.`stage`, t.`stage_attempt`"
    );
    [
        view("task_summary", &tasks),
        view("stage_summary", &stages),
        view("node_stage_summary", &node_stages),
    ]
}
