//! A store in a database on a MySQL or MariaDB server.
//!
//! # Design
//!
//! What is kept of a source and that its tables are stale is one transaction, its tables anew and that
//! they are not stale is another. So a reader always sees a source's rows of one state, and an ingest or
//! a server that is killed at any moment leaves a state that the next ingest goes on from. The row of a
//! source in `sources` is locked first in both, so that any number of ingests may write at once.

mod connection;
mod define;
mod error;
mod load;
mod schema;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use mysql::prelude::Queryable;
use mysql::{AccessMode, Transaction};
use polars::prelude::DataFrame;
use records::Event;

use super::address::Server;
use super::kept::{Completeness, KeptApplication, KeptSegment, Wanted, application_key, pack};
use super::table::Table;
use super::{
    Added, Progress, Purged, Snapshots, Store, StoreError, Taken, WritableStore, process_tables,
    spark_tables,
};
use crate::eventlog::Application;
use crate::record_files::{RecordStream, hex, known};
use connection::{Connection, Purpose};

pub use define::{define, grants};
pub use error::ServerError;
pub use schema::VERSION;

/// Sources whose tables are made in one transaction: enough that its end is no large part of the work.
const SOURCES_AT_ONCE: usize = 64;
/// Kept sources are cut to pieces that every server takes (max_allowed_packet is at least 16 MiB by
/// default, and may be 1 MiB).
const PART_BYTES: usize = 768 << 10;
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

    /// Replaces what is kept of a part of a source by what `renew` makes of it; it gives `None` if there
    /// is nothing new.
    fn keep(
        &self,
        source: &str,
        segment: u32,
        renew: impl Fn(Option<&[u8]>) -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<Added, StoreError> {
        self.connection.borrow_mut().transact(AccessMode::ReadWrite, |connection| {
            // Makes the row, or locks the one that is there.
            connection.exec_drop(
                "INSERT INTO `sources` (`source`, `is_stale`) VALUES (?, FALSE) \
                 ON DUPLICATE KEY UPDATE `source` = `source`",
                (source,),
            )?;
            let old = kept(connection, source)?.remove(&segment);
            let Some(new) = renew(old.as_deref())? else { return Ok(Added::Known) };
            connection.exec_drop(
                "DELETE FROM `kept` WHERE `source` = ? AND `segment` = ?",
                (source, segment),
            )?;
            for (part, bytes) in new.chunks(PART_BYTES).enumerate() {
                connection.exec_drop(
                    "INSERT INTO `kept` (`source`, `segment`, `part`, `bytes`) VALUES (?, ?, ?, ?)",
                    (source, segment, part as u32, bytes),
                )?;
            }
            connection.exec_drop(
                "UPDATE `sources` SET `is_stale` = TRUE WHERE `source` = ?",
                (source,),
            )?;
            Ok(Added::New)
        })
    }

    fn stale_sources(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        let mut connection = self.connection.borrow_mut();
        connection.read(|connection| {
            Ok(connection.exec(
                "SELECT `source` FROM `sources` WHERE `is_stale` ORDER BY `source` LIMIT ?",
                (limit as u64,),
            )?)
        })
    }
}

/// What is kept of a source: its segments, by index.
fn kept(
    connection: &mut Transaction<'_>,
    source: &str,
) -> Result<BTreeMap<u32, Vec<u8>>, ServerError> {
    let parts: Vec<(u32, Vec<u8>)> = connection.exec(
        "SELECT `segment`, `bytes` FROM `kept` WHERE `source` = ? ORDER BY `segment`, `part`",
        (source,),
    )?;
    let mut whole: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for (segment, bytes) in parts {
        whole.entry(segment).or_default().extend(bytes);
    }
    Ok(whole)
}

/// The tables of a source, made from what is kept of it, and their key.
fn make(
    connection: &mut Transaction<'_>,
    source: &str,
) -> Result<(String, Vec<(Table, DataFrame)>), StoreError> {
    let kept = kept(connection, source)?;
    let damaged = || StoreError::Damaged(format!("source {source}").into());
    match source.strip_prefix(APPLICATION) {
        Some(key) => {
            let packed = kept.get(&0).ok_or_else(damaged)?;
            let application = KeptApplication::unpack(packed).ok_or_else(damaged)?;
            Ok((key.to_owned(), spark_tables::make(&application)?))
        }
        None => {
            let segments: Option<Vec<_>> =
                kept.values().map(|packed| KeptSegment::unpack(packed)).collect();
            let tables = process_tables::make(&segments.ok_or_else(damaged)?)?;
            Ok((source.to_owned(), tables))
        }
    }
}

impl WritableStore for ServerStore {
    fn take_records(
        &mut self,
        files: &[PathBuf],
        snapshots: Snapshots,
        progress: Progress<'_>,
    ) -> Result<Taken, StoreError> {
        let mut taken = Taken::default();
        for path in files {
            let stream = match RecordStream::open(path) {
                Ok(stream) => stream,
                Err(message) => {
                    taken.left_out.push(message);
                    continue;
                }
            };
            let segment = stream.segment().map_err(StoreError::Source)?;
            let header = segment.header();
            let source = hex(&header.process_id);
            taken.processes.insert(source.clone());
            taken.applications.extend(known(header.application_id));
            let mut wanted = Wanted::new(snapshots);
            let read = stream.read(&segment, &mut |group, _| {
                wanted.see(group);
                if let Event::TaskStart(task) | Event::TaskEnd { task, .. } = group.event {
                    taken.applications.extend(known(task.application_id));
                }
            });
            let read = read.map_err(StoreError::Source)?;
            taken.note_damage(path, &read.left_out);
            let completeness = Completeness::of(read.bytes, read.groups, &read.left_out);
            let added = self.keep(&source, header.segment, |old| {
                let mut wanted = wanted.clone();
                if let Some(old) = old.and_then(KeptSegment::unpack) {
                    let is_better = completeness.is_better_than(&old.completeness);
                    let is_as_good = !old.completeness.is_better_than(&completeness);
                    let is_finer = snapshots.is_finer_than(old.snapshots);
                    if !(is_better || is_as_good && is_finer) {
                        return Ok(None);
                    }
                    wanted = wanted.or_finer(old.snapshots);
                }
                pack(&stream, &completeness, wanted).map(Some)
            })?;
            match added {
                Added::New => taken.new_segments += 1,
                Added::Known => taken.known_segments += 1,
            }
            progress(read.bytes);
        }
        Ok(taken)
    }

    fn add_application(
        &mut self,
        application: Application,
        cluster: Option<&str>,
    ) -> Result<Added, StoreError> {
        let source = format!("{APPLICATION}{}", application_key(&application));
        self.keep(&source, 0, |packed| {
            let old = match packed {
                Some(packed) => KeptApplication::unpack(packed)
                    .ok_or_else(|| StoreError::Damaged(format!("source {source}").into()))?,
                None => KeptApplication::default(),
            };
            let new = old.joined_with(application.clone(), cluster);
            if packed.is_some() && new == old {
                return Ok(None);
            }
            Ok(Some(new.pack().map_err(|error| StoreError::Frame(error.into()))?))
        })
    }

    fn stale(&self) -> Result<usize, StoreError> {
        let mut connection = self.connection.borrow_mut();
        let count: Option<u64> = connection.read(|connection| {
            Ok(connection.query_first("SELECT COUNT(*) FROM `sources` WHERE `is_stale`")?)
        })?;
        Ok(count.unwrap_or(0) as usize)
    }

    fn update(&mut self, progress: &dyn Fn()) -> Result<(), StoreError> {
        loop {
            let sources = self.stale_sources(SOURCES_AT_ONCE)?;
            if sources.is_empty() {
                return Ok(());
            }
            let mut connection = self.connection.borrow_mut();
            let load = connection.loader();
            connection.transact(AccessMode::ReadWrite, |connection| {
                let mut tables: BTreeMap<Table, Vec<(String, DataFrame)>> = BTreeMap::new();
                for source in &sources {
                    let is_stale: Option<bool> = connection.exec_first(
                        "SELECT `is_stale` FROM `sources` WHERE `source` = ? FOR UPDATE",
                        (source,),
                    )?;
                    // Another ingest was faster.
                    if is_stale != Some(true) {
                        continue;
                    }
                    let (key, made) = make(connection, source)?;
                    // The rows of the other tables go with it.
                    if let Some((head, _)) = made.first() {
                        let (table, column) = (head.name(), schema::key_column(*head));
                        connection.exec_drop(
                            format!("DELETE FROM `{table}` WHERE `{column}` = ?"),
                            (&key,),
                        )?;
                    }
                    for (table, frame) in made {
                        tables.entry(table).or_default().push((key.clone(), frame));
                    }
                    connection.exec_drop(
                        "UPDATE `sources` SET `is_stale` = FALSE WHERE `source` = ?",
                        (source,),
                    )?;
                }
                // In the order of the enumeration: heads before what refers to them.
                for (table, frames) in &tables {
                    load.load(connection, *table, frames)?;
                }
                Ok(())
            })?;
            sources.iter().for_each(|_| progress());
        }
    }

    fn purge(&mut self, before_ns: i64) -> Result<Purged, StoreError> {
        let mut connection = self.connection.borrow_mut();
        connection.transact(AccessMode::ReadWrite, |connection| {
            let mut processes: Vec<String> = connection.exec(
                "SELECT `process_id` FROM `processes` WHERE `last_real_ns` < ?",
                (before_ns,),
            )?;
            let latest = super::APPLICATION_TIMES.map(|(table, column)| {
                let table = table.name();
                format!(
                    "SELECT `application_key`, MAX(`{column}`) AS `ms` FROM `{table}` GROUP BY 1"
                )
            });
            let applications: Vec<String> = connection.exec(
                format!(
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
        self.frame(table, columns)?.map_or(Ok(()), each)
    }

    fn frame(
        &self,
        table: Table,
        columns: Option<&[&str]>,
    ) -> Result<Option<DataFrame>, StoreError> {
        self.connection.borrow_mut().frame(table, columns)
    }
}
