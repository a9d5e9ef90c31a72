//! How much a report may hold: it is made in memory, and what it is made of comes from files that others wrote.

use std::sync::OnceLock;

use crate::store::StoreError;

/// The environment variable that says another number of rows.
const MAX_ROWS: &str = "SPARKANALYZER_MAX_ROWS";
/// Rows, of some 2 kB each.
const USUAL_ROWS: usize = 500_000;
/// Tasks of event logs per row, of some 900 bytes each.
const TASKS_PER_ROW: usize = 4;

/// Rows that a report may have.
pub fn rows() -> usize {
    static ROWS: OnceLock<usize> = OnceLock::new();
    *ROWS.get_or_init(|| {
        let said = std::env::var(MAX_ROWS).ok().and_then(|text| text.trim().parse().ok());
        said.unwrap_or(USUAL_ROWS)
    })
}

/// Tasks of event logs that a report may be made from.
pub fn logged_tasks() -> usize {
    rows().saturating_mul(TASKS_PER_ROW)
}

/// The refusal.
pub fn too_many(what: &'static str, most: usize) -> StoreError {
    StoreError::Source(format!(
        "more than {most} {what}: ask for fewer applications (--app) or dimensions (--by), or raise \
         {MAX_ROWS}, which is {} now",
        rows()
    ))
}
