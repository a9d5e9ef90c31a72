//! What stages are called.

use std::collections::{BTreeMap, HashMap};

use super::rated::{read, text};
use crate::store::{Store, StoreError, Table};

/// Spark 4 submits the stages of SQL queries from a pool of its own, and so they are all called after its
/// code: "$anonfun$withThreadLocalCaptured$1 at CompletableFuture.java:1768".
const NAMELESS: &str = "CompletableFuture.java";

/// (application, stage, attempt) -> name. Where Spark's own says nothing, it is the job's description, or else
/// that of its SQL query.
///
/// # Errors
/// When the store cannot be read.
pub fn of_stages(store: &dyn Store) -> Result<BTreeMap<(String, i64, i64), String>, StoreError> {
    let Some(frame) = read(store, Table::SparkStages)? else { return Ok(BTreeMap::new()) };
    let named = |at| {
        let number = |name| frame.column(name).ok()?.i64().ok()?.get(at);
        let application = text(frame.column("application_id").ok()?, at)?;
        let name = text(frame.column("name").ok()?, at)?;
        Some(((application, number("stage")?, number("stage_attempt")?), name))
    };
    let mut names: BTreeMap<_, _> = (0..frame.height()).filter_map(named).collect();
    if names.values().any(|name| name.contains(NAMELESS)) {
        let descriptions = descriptions(store)?;
        for ((application, stage, _), name) in &mut names {
            if name.contains(NAMELESS)
                && let Some(description) = descriptions.get(&(application.clone(), *stage))
            {
                name.clone_from(description);
            }
        }
    }
    Ok(names)
}

/// (application, stage) -> what its job does.
fn descriptions(store: &dyn Store) -> Result<HashMap<(String, i64), String>, StoreError> {
    let mut queries = HashMap::new();
    if let Some(frame) = read(store, Table::SparkSql)? {
        for at in 0..frame.height() {
            let application = text(frame.column("application_id")?, at);
            let execution = frame.column("execution")?.i64()?.get(at);
            if let Some(description) = text(frame.column("description")?, at) {
                queries.insert((application, execution), description);
            }
        }
    }
    let mut descriptions = HashMap::new();
    let Some(frame) = read(store, Table::SparkJobs)? else { return Ok(descriptions) };
    for at in 0..frame.height() {
        let of = |name| text(frame.column(name).ok()?, at);
        let application = of("application_id");
        let query = of("sql_execution").and_then(|execution| execution.parse().ok());
        let description = of("description")
            .or_else(|| queries.get(&(application.clone(), Some(query?))).cloned());
        let (Some(application), Some(description)) = (application, description) else { continue };
        // Skipped stages are listed by later jobs again; the first one ran them.
        for stage in of("stages").unwrap_or_default().split(',').filter_map(|id| id.parse().ok()) {
            let key = (application.clone(), stage);
            descriptions.entry(key).or_insert_with(|| description.clone());
        }
    }
    Ok(descriptions)
}
