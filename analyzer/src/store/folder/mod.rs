//! A store in a folder: its files, how they change, and reading tables as frames.
//!
//! # Format
//!
//! `store.json` names the parts ([`manifest`]). `<table>/app=<application>/<part>.parquet` holds a part's
//! rows of a table, in the order of nodes and processes, with the least and the greatest value of every
//! column per 16,384 rows. A part has the processes of one application on a range of nodes (of up to
//! 256 MiB of record files), or one attempt's event log; with thousands of nodes a folder per node would
//! be thousands of small files. The table `kept` has the sources of what may still grow: of processes
//! whose end was not seen or whose files are not whole.

pub mod known;
pub mod manifest;
mod rewrite;
mod take;

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use polars::prelude::DataFrame;

use crate::input::eventlog::Application;
use crate::model::snapshot_policy::Snapshots;
use crate::store::api::{Added, Progress, Purged, Store, Taken, WritableStore};
use crate::store::below;
use crate::store::error::StoreError;
use crate::store::kept::application_key;
use crate::store::parquet::{PartWriter, ROWS_PER_GROUP, scan};
use crate::store::part::{Part, STAGING};
use crate::store::sort_runs::{self, Runs};
use crate::store::table::Table;
use known::Known;
use manifest::{Manifest, lock_to_read};

/// Rows that a scan hands over at once.
const ROWS_AT_ONCE: usize = 4 * ROWS_PER_GROUP;

/// A store in a folder, open for reading, or for writing by this process alone.
#[derive(Debug)]
pub struct FolderStore {
    root: PathBuf,
    manifest: Manifest,
    /// Held until the store is dropped: a writer's, or a reader's.
    _lock: Option<File>,
}

impl FolderStore {
    /// Opens a store for writing, and makes it first if the folder is new or empty. Waits for another
    /// process that writes to it.
    ///
    /// # Errors
    /// When the folder cannot be written, holds other things, or has another schema.
    pub fn create(root: &Path) -> Result<FolderStore, StoreError> {
        let write_error = |path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::Write { path, error }
        };
        let mut folders = fs::DirBuilder::new();
        folders.recursive(true).mode(0o750).create(root).map_err(write_error(root))?;
        if !Manifest::is_there(root) {
            let mut entries = fs::read_dir(root).map_err(write_error(root))?;
            let is_foreign = |name: std::ffi::OsString| !manifest::is_ours(&name.to_string_lossy());
            if entries.any(|entry| entry.is_ok_and(|entry| is_foreign(entry.file_name()))) {
                return Err(StoreError::Foreign(root.to_owned()));
            }
        }
        let path = root.join(".lock");
        let lock = below::lock_file(root, ".lock").map_err(write_error(&path))?;
        match lock.lock() {
            Ok(()) => {}
            // Some network file systems know no locks: then the user must see to it.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err(StoreError::Write { path, error }),
        }
        let mut manifest = if Manifest::is_there(root) {
            Manifest::read(root)?
        } else {
            let manifest = Manifest::new();
            manifest.write(root)?;
            manifest
        };
        manifest.recover(root)?;
        Ok(FolderStore { root: root.to_owned(), manifest, _lock: Some(lock) })
    }

    /// Opens a store for reading.
    ///
    /// # Errors
    /// When there is none, or it has another schema.
    pub fn open(root: &Path) -> Result<FolderStore, StoreError> {
        let lock = lock_to_read(root);
        let manifest = Manifest::read(root)?;
        Ok(FolderStore { root: root.to_owned(), manifest, _lock: lock })
    }

    /// The part of an application attempt's event log.
    fn log(&self, key: &str) -> Option<&Part> {
        self.manifest.parts.iter().find(|part| part.log.as_deref() == Some(key))
    }

    /// Makes parts anew without some processes.
    fn without(
        &mut self,
        gone: &HashSet<String>,
        known: &Known,
    ) -> Result<(BTreeSet<u64>, Vec<Part>), StoreError> {
        let old: BTreeSet<u64> =
            gone.iter().filter_map(|id| known.parts.get(id).copied()).collect();
        let mut new = Vec::new();
        let parts: Vec<_> =
            self.manifest.parts.iter().filter(|part| old.contains(&part.id)).cloned().collect();
        for part in parts {
            let id = self.manifest.number();
            new.extend(rewrite::drop_processes(&self.root, &part, id, gone)?);
        }
        Ok((old, new))
    }
}

impl WritableStore for FolderStore {
    fn take_records(
        &mut self,
        files: &[PathBuf],
        snapshots: Snapshots,
        progress: Progress<'_>,
    ) -> Result<Taken, StoreError> {
        if files.is_empty() {
            return Ok(Taken::default());
        }
        let known = Known::read(&self.root, &self.manifest)?;
        let root = self.root.clone();
        let made = take::take(&root, &mut self.manifest, &known, files, snapshots, progress)?;
        if !made.parts.is_empty() {
            let (old, mut new) = self.without(&made.processes, &known)?;
            new.extend(made.parts);
            self.manifest.exchange(&root, &old, new)?;
            rewrite::compact(&root, &mut self.manifest)?;
        }
        // Kept sources that were unpacked; what hinders it is told when it matters.
        let _ = fs::remove_dir_all(root.join(STAGING));
        Ok(made.taken)
    }

    fn scratch(&self) -> Option<PathBuf> {
        Some(self.root.join(STAGING))
    }

    fn add_application(
        &mut self,
        runs: &Runs,
        rest: &Application,
        cluster: Option<&str>,
    ) -> Result<Added, StoreError> {
        let key = application_key(rest);
        let mut part = Part::empty(self.manifest.number(), Snapshots::Last);
        (part.application, part.log) = (rest.id.clone(), Some(key.clone()));
        let mut writer = PartWriter::begin(&self.root, part);
        let old = self.log(&key).map(|part| (self.root.as_path(), part));
        let is_new = sort_runs::tables(old, runs, rest, cluster, &mut |table, mut frame| {
            writer.write(table.name(), &mut frame)
        })?;
        if !is_new {
            return Ok(Added::Known);
        }
        let new = writer.finish()?.into_iter().collect();
        let old = self.log(&key).map(|part| part.id).into_iter().collect();
        self.manifest.exchange(&self.root, &old, new)?;
        Ok(Added::New)
    }

    fn purge(&mut self, before_ns: i64) -> Result<Purged, StoreError> {
        let known = Known::read(&self.root, &self.manifest)?;
        let mut gone = HashSet::new();
        self.scan(Table::Processes, Some(&["process_id", "last_real_ns"]), &[], &mut |frame| {
            let ids = frame.column("process_id")?.str()?;
            let last = frame.column("last_real_ns")?.i64()?;
            let old = ids
                .iter()
                .zip(last.iter())
                .filter(|(_, last)| last.is_some_and(|last| last < before_ns));
            gone.extend(old.filter_map(|(id, _)| id.map(str::to_owned)));
            Ok(())
        })?;
        let (mut old, new) = self.without(&gone, &known)?;
        let logs: Vec<_> =
            self.manifest.parts.iter().filter(|part| part.log.is_some()).cloned().collect();
        let mut purged = Purged { processes: gone.len() as u64, applications: 0 };
        for part in &logs {
            let mut last_ms = None;
            for (table, column) in crate::store::api::APPLICATION_TIMES {
                let mut take = |frame: DataFrame| {
                    last_ms = last_ms.max(frame.column(column)?.i64()?.iter().flatten().max());
                    Ok(())
                };
                scan(&self.root, part, table.name(), Some(&[column]), ROWS_AT_ONCE, &mut take)?;
            }
            if last_ms.is_some_and(|last: i64| last.saturating_mul(1_000_000) < before_ns) {
                old.insert(part.id);
                purged.applications += 1;
            }
        }
        if !old.is_empty() {
            self.manifest.exchange(&self.root, &old, new)?;
            rewrite::compact(&self.root, &mut self.manifest)?;
        }
        Ok(purged)
    }
}

impl Store for FolderStore {
    fn scan(
        &self,
        table: Table,
        columns: Option<&[&str]>,
        applications: &[String],
        each: &mut dyn FnMut(DataFrame) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for part in self.manifest.parts_of(applications) {
            scan(&self.root, part, table.name(), columns, ROWS_AT_ONCE, each)?;
        }
        Ok(())
    }
}
