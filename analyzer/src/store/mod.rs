//! The embedded store: Parquet tables in a folder, readable by Spark, DuckDB and pandas too.
//!
//! # Format
//!
//! `store.json` holds the schema version. Each table is a folder of Parquet files: `processes`,
//! `threads`, `tasks`, `notices` and `segments` have one per process, the `spark_*` tables one per
//! application attempt. A value that was not counted or is not known is null. `kept/` holds what the
//! tables are made from: the record groups that matter of every segment, and the applications' events.
//!
//! # Limitations
//!
//! Snapshots between the last one of each thread and segment are not kept.
//!
//! # Design
//!
//! Record files grow, arrive in any order and are ingested twice. So the sources are kept, the more
//! complete copy of each winning, and the tables of one process or application are made anew from all
//! that is kept of it whenever that changed. Every file appears whole, by rename; a killed ingest leaves
//! at worst sources without their tables, which the next ingest of the same files completes.

mod columns;
mod folder;
mod history;
mod kept;
mod process_tables;
mod spark_tables;

pub use columns::{ENGINE_EXACT, ENGINE_PARTIAL};
pub use folder::{Added, Store, StoreError, Table};
