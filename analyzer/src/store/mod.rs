//! Stores: a folder of Parquet tables, readable by Spark, DuckDB and pandas too, or a database on a
//! MySQL or MariaDB server. Both have the same tables, so that one report is made from either.
//!
//! # Format
//!
//! `processes`, `threads`, `tasks`, `snapshots`, `directories`, `notices` and `segments` hold what records say, the
//! `spark_*` tables what event logs say. A value that was not counted or is not known is null. How a folder
//! is laid out stands in [`folder`]; in a database `schema_version` has a row per migration. `kept` holds
//! the record files of processes that may still grow, as far as their tables need them.
//!
//! # Limitations
//!
//! Between the starts and ends of tasks and the last word of each thread, only those snapshots are kept
//! that were asked for ([`crate::model::snapshot_policy::Snapshots`]).
//!
//! # Design
//!
//! Record files grow, arrive in any order and are ingested twice. So the sources of what may still grow
//! are kept, the more complete copy of each winning, and the rows of one process or application are made
//! anew from all that there is of it whenever that changed. In a folder files appear and go together, by
//! one rename; in a database the rows of a process change in one transaction. A killed ingest leaves the
//! state before, which the next ingest goes on from.

mod address;
mod api;
mod below;
mod claims;
mod columns;
mod declared;
mod error;
mod folder;
mod ingest;
mod kept;
mod parquet;
mod part;
mod process_tables;
mod server;
mod server_url;
mod sort_runs;
mod spark;
mod spark_tables;
mod table;

use crate::store::folder::manifest::Manifest;
pub use crate::store::sort_runs::Runs;
pub use crate::store::spark::SparkStore;
pub use crate::store::spark::error::SparkError;
pub use crate::store::spark::row::SparkRow;
pub use crate::store::spark::session::Start as StartSpark;
pub use address::{Address, DEFAULT, MayBeOfStore, OfStore};
pub use api::{Added, Sql, Store, WritableStore};
pub use error::StoreError;
pub use server::define::{define, grants};
pub use spark_tables::numbers;
pub use table::{Kind, Table};

/// Whether there is a store, as far as can be said without asking a server.
///
/// # Errors
/// When it is an address of another kind.
pub fn is_there(address: &Address) -> Result<bool, StoreError> {
    Ok(match address.server()? {
        Some(_) => true,
        None => Manifest::is_there(&address.local_folder()?),
    })
}

/// Opens a store for reading.
///
/// # Errors
/// When there is none, it cannot be reached, or it has another schema.
pub fn open(address: &Address) -> Result<Box<dyn Store>, StoreError> {
    Ok(match address.server()? {
        None => Box::new(folder::FolderStore::open(&address.local_folder()?)?),
        Some(server) => Box::new(server::ServerStore::open(server)?),
    })
}

/// Opens a store for reading by the user's own Spark; of tasks without what is surely of other applications
/// than these.
///
/// # Errors
/// When Spark does not start, there is no store, it has another schema, or it is a server's.
pub fn open_by_spark(
    address: &Address,
    start: &StartSpark,
    applications: &[String],
) -> Result<Box<dyn Store>, StoreError> {
    if address.server()?.is_some() {
        let message = format!("{address}: Spark reads stores in folders; leave out --engine spark");
        return Err(StoreError::Address(message));
    }
    Ok(Box::new(SparkStore::open(&address.folder(), start, applications)?))
}

/// Opens a store for writing that must be there.
///
/// # Errors
/// As [`open`], and when it cannot be written.
pub fn open_for_writing(address: &Address) -> Result<Box<dyn WritableStore>, StoreError> {
    if address.server()?.is_none() {
        folder::FolderStore::open(&address.local_folder()?)?;
    }
    create(address)
}

/// Opens a store for writing; a folder is made a store first if it is new or empty.
///
/// # Errors
/// As [`open`], and when it cannot be written.
pub fn create(address: &Address) -> Result<Box<dyn WritableStore>, StoreError> {
    Ok(match address.server()? {
        None => Box::new(folder::FolderStore::create(&address.local_folder()?)?),
        Some(server) => Box::new(server::ServerStore::create(server)?),
    })
}
