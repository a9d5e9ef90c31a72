//! A store in a database on a MySQL or MariaDB server.
//!
//! # Design
//!
//! The rows of some processes, or of one application, change in one transaction, together with what is kept
//! of record files that may still grow. So a reader always sees rows of one state, and an ingest or a server
//! that is killed at any moment leaves the state before. The row of each process in `sources` is locked
//! first, so that any number of ingests may write at once. Rows are inserted once; those of a process that
//! has grown are updated in their places, so ingest needs no right to delete.

mod connection;
pub mod define;
pub mod error;
mod load;
mod process_rows;
mod query;
mod schema;
mod trust;
mod views;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use mysql::prelude::Queryable;
use mysql::{AccessMode, Transaction};
use polars::prelude::DataFrame;

use crate::console::private_folder;
use crate::input::eventlog::Application;
use crate::model::snapshot_policy::Snapshots;
use crate::store::api::{Added, Progress, Purged, Store, Taken, WritableStore};
use crate::store::error::StoreError;
use crate::store::ingest::{Files, Worker, plan, take_inventory};
use crate::store::kept::application_key;
use crate::store::parquet::{PartReader, ROWS_PER_GROUP};
use crate::store::server::error::ServerError;
use crate::store::server_url::Server;
use crate::store::sort_runs::{self, Run, Runs};
use crate::store::table::Table;
use connection::{Connection, Purpose, read_rows};
use load::{Loader, Rows};
use process_rows::{Known, ProcessRows};
use query::rows;

/// Processes that are taken in by one transaction: enough that its end is no large part of the work ...
const PROCESSES_AT_ONCE: usize = 64;
/// ... and bytes of their files.
const BYTES_AT_ONCE: u64 = 256 << 20;
/// What begins the key of an application in `sources`; a process has its 32 digits.
const APPLICATION: &str = "app:";

/// A store on a server, open for reading or writing.
pub struct ServerStore {
    connection: RefCell<Connection>,
}

impl ServerStore {
    /// Opens it for reading: all tables are seen as they are at this moment.
    ///
    /// # Errors
    /// When it cannot be reached or has another schema.
    pub fn open(server: Server) -> Result<ServerStore, StoreError> {
        let mut connection = Connection::open(server, Purpose::Read)?;
        connection.check_schema()?;
        connection.hold_snapshot()?;
        Ok(ServerStore { connection: RefCell::new(connection) })
    }

    /// Opens it for writing.
    ///
    /// # Errors
    /// As [`ServerStore::open`].
    pub fn create(server: Server) -> Result<ServerStore, StoreError> {
        let mut connection = Connection::open(server, Purpose::Write)?;
        connection.check_schema()?;
        Ok(ServerStore { connection: RefCell::new(connection) })
    }

    /// Takes in the files of some processes.
    fn take_processes(
        &self,
        files: &BTreeMap<String, Files>,
        snapshots: Snapshots,
        progress: Progress<'_>,
    ) -> Result<Taken, StoreError> {
        let mut connection = self.connection.borrow_mut();
        let load = connection.loader();
        connection.transact(AccessMode::ReadWrite, |connection| {
            let ids: Vec<&str> = files.keys().map(String::as_str).collect();
            lock(connection, &ids)?;
            let known = Known::read(connection, &ids)?;
            let (mut taken, mut plans) = (Taken::default(), Vec::new());
            let folder = private_folder::make()
                .map_err(|error| StoreError::Write { path: std::env::temp_dir(), error })?;
            for (id, files) in files {
                let process = known.processes.get(id);
                let planned = plan(id, files, process, snapshots, &mut taken, progress);
                let Some((mut plan, kept)) = planned else { continue };
                known.add_kept(connection, folder.path(), &mut plan, &kept)?;
                plans.push(plan);
            }
            let out = ProcessRows::new(connection, &load, &known);
            let (mut out, told) = Worker::begin(out, progress).run(&plans)?;
            out.finish()?;
            taken.join(told);
            Ok(taken)
        })
    }
}

/// Makes the rows of sources, or locks those that are there, until the transaction's end.
fn lock(connection: &mut Transaction<'_>, sources: &[&str]) -> Result<(), ServerError> {
    let rows = vec!["(?)"; sources.len()].join(",");
    let statement = format!(
        "INSERT INTO `sources` (`source`) VALUES {rows} ON DUPLICATE KEY UPDATE `source` = `source`"
    );
    Ok(connection.exec_drop(statement, sources.to_vec())?)
}

impl WritableStore for ServerStore {
    fn take_records(
        &mut self,
        files: &[PathBuf],
        snapshots: Snapshots,
        progress: Progress<'_>,
    ) -> Result<Taken, StoreError> {
        let mut taken = Taken::default();
        let mut rest = take_inventory(files, &mut taken, progress).into_iter().peekable();
        while rest.peek().is_some() {
            let (mut some, mut bytes) = (BTreeMap::new(), 0);
            while some.len() < PROCESSES_AT_ONCE
                && let Some((id, files)) = rest
                    .next_if(|(_, files)| some.is_empty() || bytes + files.bytes() <= BYTES_AT_ONCE)
            {
                bytes += files.bytes();
                some.insert(id, files);
            }
            taken.join(self.take_processes(&some, snapshots, progress)?);
        }
        Ok(taken)
    }

    fn add_application(
        &mut self,
        runs: &Runs,
        rest: &Application,
        cluster: Option<&str>,
    ) -> Result<Added, StoreError> {
        let key = application_key(rest);
        let mut connection = self.connection.borrow_mut();
        let load = connection.loader();
        connection.transact(AccessMode::ReadWrite, |connection| {
            lock(connection, &[&format!("{APPLICATION}{key}")])?;
            let spark = || Table::ALL.into_iter().filter(|one| one.head() == Table::SparkApps);
            let mut files = Runs::new(None);
            let (root, old) = files.write_rows(|write| {
                for table in spark() {
                    read_rows(connection, table, &key, &mut |frame| write(table, frame))?;
                }
                Ok(())
            })?;
            let old = (!old.rows.is_empty()).then_some((root.as_path(), &old));
            let mut is_new = false;
            let (root, new) = files.write_rows(|write| {
                is_new = sort_runs::tables(old, runs, rest, cluster, write)?;
                Ok(())
            })?;
            if !is_new {
                return Ok(Added::Known);
            }
            for table in spark() {
                put_rows(connection, &load, table, &key, (&root, &new), old)?;
            }
            Ok(Added::New)
        })
    }

    fn purge(&mut self, before_ns: i64) -> Result<Purged, StoreError> {
        let mut connection = self.connection.borrow_mut();
        connection.transact(AccessMode::ReadWrite, |connection| {
            let mut processes: Vec<String> = rows(
                connection,
                "SELECT `process_id` FROM `processes` WHERE `last_real_ns` < ?",
                (before_ns,),
            )?;
            let latest = crate::store::api::APPLICATION_TIMES.map(|(table, column)| {
                let table = table.name();
                format!(
                    "SELECT `application_key`, MAX(`{column}`) AS `ms` FROM `{table}` GROUP BY 1"
                )
            });
            let applications: Vec<String> = rows(
                connection,
                &format!(
                    "SELECT `application_key` FROM ({}) AS `times` GROUP BY `application_key` \
                     HAVING MAX(`ms`) < ?",
                    latest.join(" UNION ALL ")
                ),
                (before_ns / 1_000_000,),
            )?;
            let purged = Purged {
                processes: processes.len() as u64,
                applications: applications.len() as u64,
            };
            for key in applications {
                connection
                    .exec_drop("DELETE FROM `spark_apps` WHERE `application_key` = ?", (&key,))?;
                processes.push(format!("{APPLICATION}{key}"));
            }
            for source in processes {
                connection
                    .exec_drop("DELETE FROM `processes` WHERE `process_id` = ?", (&source,))?;
                connection.exec_drop("DELETE FROM `sources` WHERE `source` = ?", (&source,))?;
            }
            Ok(purged)
        })
    }
}

impl Store for ServerStore {
    fn scan(
        &self,
        table: Table,
        columns: Option<&[&str]>,
        _applications: &[String],
        each: &mut dyn FnMut(DataFrame) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.connection.borrow_mut().scan(table, columns, each)
    }
}

/// Puts an application's rows of a table in the place of the old ones, of which there are never more.
fn put_rows(
    connection: &mut Transaction<'_>,
    load: &Loader,
    table: Table,
    key: &str,
    (root, new): Run<'_>,
    old: Option<Run<'_>>,
) -> Result<(), StoreError> {
    let open = |(root, part): Run<'_>| PartReader::open(root, part, table.name(), None);
    let Some(mut new) = open((root, new))? else { return Ok(()) };
    let mut old = old.map(open).transpose()?.flatten();
    let mut first = 0;
    while let Some(frame) = new.next(ROWS_PER_GROUP)? {
        let before = match &mut old {
            Some(old) => old.next(ROWS_PER_GROUP)?.unwrap_or_default(),
            None => DataFrame::default(),
        };
        let (height, stored) = (frame.height(), before.height());
        let (changed, added) = frame.split_at(stored as i64);
        let mut put = |frame: &DataFrame, first: u64, is_there| {
            let ordinals: Vec<u64> = (first..first + frame.height() as u64).collect();
            load.put(connection, &Rows { table, key, ordinals: &ordinals, frame }, is_there)
        };
        // Most of a log that has grown is as it was.
        if !changed.equals_missing(&before) {
            put(&changed, first, true)?;
        }
        put(&added, first + stored as u64, false)?;
        first += height as u64;
    }
    Ok(())
}
