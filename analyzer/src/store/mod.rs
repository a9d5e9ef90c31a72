//! Stores: a folder of Parquet tables, readable by Spark, DuckDB and pandas too, or a database on a
//! MySQL or MariaDB server. Both have the same tables, so that one report is made from either.
//!
//! # Format
//!
//! `processes`, `threads`, `tasks`, `notices` and `segments` hold what records say, the `spark_*` tables
//! what event logs say. A value that was not counted or is not known is null. In a folder `store.json`
//! holds the schema version, and each table is a folder of Parquet files, one per process or application
//! attempt; in a database `schema_version` has a row per migration. `kept` holds what the tables are made
//! from: the record groups that matter of every segment, and the applications' events.
//!
//! # Limitations
//!
//! Snapshots between the last one of each thread and segment are not kept.
//!
//! # Design
//!
//! Record files grow, arrive in any order and are ingested twice. So the sources are kept, the more
//! complete copy of each winning, and the tables of one process or application are made anew from all
//! that is kept of it whenever that changed. In a folder every file appears whole, by rename; in a
//! database the rows of a source change in one transaction. A killed ingest leaves at worst sources
//! without their tables, which the next ingest completes.

mod address;
mod columns;
mod error;
mod folder;
mod history;
mod kept;
mod process_tables;
mod server;
mod spark_tables;
mod table;

use polars::prelude::DataFrame;
use records::Segment;

use crate::eventlog::Application;

pub use address::{Address, DEFAULT};
pub use columns::{ENGINE_EXACT, ENGINE_PARTIAL};
pub use error::StoreError;
pub use server::{define, grants};
pub use table::Table;

/// What an addition did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// The store learnt something.
    New,
    /// It knew all of it before.
    Known,
}

/// A store, wherever it is.
pub trait Store {
    /// Takes in a record file's segment, unless the store has a copy that is as good.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn add_segment(&mut self, bytes: &[u8], segment: &Segment<'_>) -> Result<Added, StoreError>;

    /// Takes in what an event log says.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn add_application(
        &mut self,
        application: Application,
        cluster: Option<&str>,
    ) -> Result<Added, StoreError>;

    /// Number of processes and applications whose tables [`Store::update`] has to make.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn stale(&self) -> Result<usize, StoreError>;

    /// Makes the tables anew of which the sources changed; `progress` is told of each.
    ///
    /// # Errors
    /// When the store cannot be written; what was made until then is whole.
    fn update(&mut self, progress: &dyn Fn()) -> Result<(), StoreError>;

    /// A table as a frame, of these columns or of all; `None` if nothing was ever put into it.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn frame(
        &self,
        table: Table,
        columns: Option<&[&str]>,
    ) -> Result<Option<DataFrame>, StoreError>;
}

/// Opens a store for reading.
///
/// # Errors
/// When there is none, it cannot be reached, or it has another schema.
pub fn open(address: &Address) -> Result<Box<dyn Store>, StoreError> {
    Ok(match address.server()? {
        None => Box::new(folder::FolderStore::open(&address.folder())?),
        Some(server) => Box::new(server::ServerStore::open(server)?),
    })
}

/// Opens a store for writing; a folder is made a store first if it is new or empty.
///
/// # Errors
/// As [`open`], and when it cannot be written.
pub fn create(address: &Address) -> Result<Box<dyn Store>, StoreError> {
    Ok(match address.server()? {
        None => Box::new(folder::FolderStore::create(&address.folder())?),
        Some(server) => Box::new(server::ServerStore::create(server)?),
    })
}
