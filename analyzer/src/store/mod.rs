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
//! that were asked for ([`Snapshots`]).
//!
//! # Design
//!
//! Record files grow, arrive in any order and are ingested twice. So the sources of what may still grow
//! are kept, the more complete copy of each winning, and the rows of one process or application are made
//! anew from all that there is of it whenever that changed. In a folder files appear and go together, by
//! one rename; in a database the rows of a process change in one transaction. A killed ingest leaves the
//! state before, which the next ingest goes on from.

mod address;
mod applications;
mod claims;
mod columns;
mod error;
mod folder;
mod kept;
mod process_tables;
mod server;
mod server_url;
mod spark;
mod spark_tables;
mod table;
mod take;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use polars::prelude::DataFrame;
use records::LeftOut;

use crate::input::eventlog::Application;
use crate::model::snapshot_policy::Snapshots;

pub use address::{Address, DEFAULT, MayBeOfStore, OfStore};
pub use applications::Runs;
pub use error::StoreError;
use folder::Manifest;
pub use server::{define, grants};
pub use spark::{SparkError, SparkRow, SparkStore, Start as StartSpark};
pub use spark_tables::numbers;
pub use table::{Kind, Table};

/// What an addition did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// The store learnt something.
    New,
    /// It knew all of it before.
    Known,
}

/// What taking record files in came to.
#[derive(Debug, Default)]
pub struct Taken {
    /// Segments that were new or had grown.
    pub new_segments: u64,
    /// Segments that the store knew as well.
    pub known_segments: u64,
    /// Files that were left out, and why.
    pub left_out: Vec<String>,
    /// Files of which parts were left out.
    pub damaged: BTreeMap<PathBuf, LeftOut>,
    /// What else the user should know.
    pub warnings: Vec<String>,
    /// Processes of the files.
    pub processes: BTreeSet<String>,
    /// Application ids that the files name.
    pub applications: BTreeSet<String>,
}

impl Taken {
    /// Notes what was stepped over in a file. Slots that a killed writer had reserved and not written are no
    /// loss of what it wrote.
    fn note_damage(&mut self, path: &Path, left_out: &LeftOut) {
        if left_out.total() > left_out.empty {
            self.damaged.insert(path.to_owned(), *left_out);
        }
    }

    /// Adds what another one says.
    pub fn join(&mut self, other: Taken) {
        self.new_segments += other.new_segments;
        self.known_segments += other.known_segments;
        self.left_out.extend(other.left_out);
        self.damaged.extend(other.damaged);
        self.warnings.extend(other.warnings);
        self.processes.extend(other.processes);
        self.applications.extend(other.applications);
    }
}

/// What a purge removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Processes.
    pub processes: u64,
    /// Application attempts.
    pub applications: u64,
}

/// Is told the number of bytes of every step.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// Where an application's times are: its age is that of the latest.
const APPLICATION_TIMES: [(Table, &str); 4] = [
    (Table::SparkApps, "started_ms"),
    (Table::SparkApps, "ended_ms"),
    (Table::SparkTasks, "launched_ms"),
    (Table::SparkTasks, "finished_ms"),
];

/// A store, wherever it is.
pub trait Store {
    /// Hands over a table piece by piece, of these columns or of all, without what is surely of other
    /// applications than these; of all, if none is named.
    ///
    /// # Errors
    /// When the store cannot be read, or what `each` says.
    fn scan(
        &self,
        table: Table,
        columns: Option<&[&str]>,
        applications: &[String],
        each: &mut dyn FnMut(DataFrame) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// A table as a frame, of these columns or of all; `None` if nothing was ever put into it.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn frame(
        &self,
        table: Table,
        columns: Option<&[&str]>,
    ) -> Result<Option<DataFrame>, StoreError> {
        whole(self, table, columns)
    }

    /// The Spark that reads it, if one does: it sums up what this machine need not see.
    fn spark(&self) -> Option<&SparkStore> {
        None
    }
}

/// A table of a store as one frame.
fn whole<S: Store + ?Sized>(
    store: &S,
    table: Table,
    columns: Option<&[&str]>,
) -> Result<Option<DataFrame>, StoreError> {
    let mut whole: Option<DataFrame> = None;
    store.scan(table, columns, &[], &mut |piece| {
        match &mut whole {
            Some(whole) => {
                whole.vstack_mut_owned(piece)?;
            }
            None => whole = Some(piece),
        }
        Ok(())
    })?;
    if let Some(whole) = &mut whole {
        whole.rechunk_mut();
    }
    Ok(whole)
}

/// A store that can be written.
pub trait WritableStore: Store {
    /// Takes in record files, unless the store has copies that are as good.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn take_records(
        &mut self,
        files: &[PathBuf],
        snapshots: Snapshots,
        progress: Progress<'_>,
    ) -> Result<Taken, StoreError>;

    /// Where an event log's runs may wait; none = where the system has its temporary files.
    fn scratch(&self) -> Option<PathBuf> {
        None
    }

    /// Takes in what an event log says: its last piece, and the ones before.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn add_application(
        &mut self,
        runs: &Runs,
        rest: &Application,
        cluster: Option<&str>,
    ) -> Result<Added, StoreError>;

    /// Removes the processes whose last record, and the applications whose last event, is older.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn purge(&mut self, before_ns: i64) -> Result<Purged, StoreError>;
}

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
