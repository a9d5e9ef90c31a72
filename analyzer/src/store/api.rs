//! What a store can do, wherever it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use polars::prelude::DataFrame;
use records::LeftOut;
use serde_json::Value;

use crate::input::eventlog::Application;
use crate::model::snapshot_policy::Snapshots;
use crate::store::error::StoreError;
use crate::store::sort_runs::Runs;
use crate::store::spark::row::SparkRow;
use crate::store::table::{Kind, Table};

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
    pub fn note_damage(&mut self, path: &Path, left_out: &LeftOut) {
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
pub const APPLICATION_TIMES: [(Table, &str); 4] = [
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

    /// Whoever answers queries about it, if somebody does: he sums up what this machine need not see.
    fn sql(&self) -> Option<&dyn Sql> {
        None
    }
}

/// A table of a store as one frame.
pub fn whole<S: Store + ?Sized>(
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

/// Who answers queries about a store.
pub trait Sql {
    /// Whether a table has rows at all.
    fn has_rows(&self, table: Table) -> bool;

    /// Names rows as a table.
    ///
    /// # Errors
    /// When nobody answers any more.
    fn name_rows(
        &self,
        name: &str,
        columns: &[(&str, Kind)],
        rows: &[Value],
    ) -> Result<(), StoreError>;

    /// Hands over the rows that a query finds; what is null is not in them.
    ///
    /// # Errors
    /// When nobody answers, or what `each` says.
    fn query(
        &self,
        sql: &str,
        each: &mut dyn FnMut(&SparkRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Hands over rows of a table in the order of its files, piece by piece; `condition` begins with a join or
    /// WHERE, and the table is `t` in it.
    ///
    /// # Errors
    /// As [`Sql::query`].
    fn rows(
        &self,
        table: Table,
        columns: Option<&[&str]>,
        condition: &str,
        each: &mut dyn FnMut(DataFrame) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;
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
