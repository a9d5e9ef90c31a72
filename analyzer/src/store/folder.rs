//! The store's folder: its files, how they are written, and reading tables as frames.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use polars::prelude::{DataFrame, ParquetReader, ParquetWriter, PolarsError, SerReader};
use records::{ProcessId, Segment};
use serde::{Deserialize, Serialize};

use super::kept::{KeptApplication, KeptSegment};
use super::{process_tables, spark_tables};
use crate::eventlog::Application;
use crate::record_files::hex;

/// The schema that this program writes and reads.
const SCHEMA: u32 = 1;
/// The file that makes a folder a store.
const MARK: &str = "store.json";
/// How names of files begin that are being written.
const TEMPORARY: &str = ".new-";
/// Where sources are kept.
const KEPT_SEGMENTS: &str = "kept/segments";
const KEPT_APPLICATIONS: &str = "kept/applications";

/// A table of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// A row per process image.
    Processes,
    /// A row per thread.
    Threads,
    /// A row per task attempt that our records tell of.
    Tasks,
    /// A row per notice, exec and spawn.
    Notices,
    /// A row per record file.
    Segments,
    /// A row per application attempt.
    SparkApps,
    /// A row per executor.
    SparkExecutors,
    /// A row per job.
    SparkJobs,
    /// A row per stage attempt.
    SparkStages,
    /// A row per task attempt that the event log tells of.
    SparkTasks,
    /// A row per SQL execution.
    SparkSql,
}

impl Table {
    /// The table's name: its folder.
    pub fn name(self) -> &'static str {
        match self {
            Table::Processes => "processes",
            Table::Threads => "threads",
            Table::Tasks => "tasks",
            Table::Notices => "notices",
            Table::Segments => "segments",
            Table::SparkApps => "spark_apps",
            Table::SparkExecutors => "spark_executors",
            Table::SparkJobs => "spark_jobs",
            Table::SparkStages => "spark_stages",
            Table::SparkTasks => "spark_tasks",
            Table::SparkSql => "spark_sql",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Mark {
    store: String,
    schema: u32,
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something cannot be written.
    #[error("{}: {error}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no store.
    #[error("{}: no store here (analyzer ingest --store makes one)", .0.display())]
    Missing(PathBuf),
    /// The folder holds other things.
    #[error("{}: the folder holds other files and is no store", .0.display())]
    Foreign(PathBuf),
    /// The store has another schema.
    #[error(
        "{}: the store has schema version {found}, this program knows {SCHEMA}; make a new store \
         from the record files and event logs, or use the program that wrote it",
        path.display()
    )]
    Schema {
        /// The store.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A file of the store is not what it should be.
    #[error("{}: damaged; remove it and ingest its sources again", .0.display())]
    Damaged(PathBuf),
    /// polars refuses.
    #[error("{0}")]
    Frame(#[from] PolarsError),
}

/// What an addition did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// The store learnt something.
    New,
    /// It knew all of it before.
    Known,
}

/// A store, open for reading, or for writing by this process alone.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    stale_processes: BTreeSet<ProcessId>,
    stale_applications: BTreeSet<String>,
    /// Held until the store is dropped.
    _lock: Option<File>,
}

impl Store {
    /// Opens a store for writing, and makes it first if the folder is new or empty. Waits for another
    /// process that writes to it.
    ///
    /// # Errors
    /// When the folder cannot be written, holds other things, or has another schema.
    pub fn create(root: &Path) -> Result<Store, StoreError> {
        let write_error = |path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::Write { path, error }
        };
        fs::create_dir_all(root).map_err(write_error(root))?;
        let mark = root.join(MARK);
        if !mark.exists() {
            let mut entries = fs::read_dir(root).map_err(write_error(root))?;
            // A first ingest that was killed leaves the lock alone, or a temporary file.
            let is_ours = |name: &str| name == ".lock" || name.starts_with(TEMPORARY);
            if entries.any(|one| one.is_ok_and(|one| !is_ours(&one.file_name().to_string_lossy())))
            {
                return Err(StoreError::Foreign(root.to_owned()));
            }
        }
        let path = root.join(".lock");
        let lock = File::create(&path).map_err(write_error(&path))?;
        match lock.lock() {
            Ok(()) => {}
            // Some network file systems know no locks: then the user must see to it.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err(StoreError::Write { path, error }),
        }
        let store = Store {
            root: root.to_owned(),
            stale_processes: BTreeSet::new(),
            stale_applications: BTreeSet::new(),
            _lock: Some(lock),
        };
        if mark.exists() {
            store.check_schema()?;
        } else {
            let text = Mark { store: "sparkanalyzer".into(), schema: SCHEMA };
            let text = serde_json::to_vec(&text)
                .map_err(|error| StoreError::Write { path: mark.clone(), error: error.into() })?;
            store.write(Path::new(MARK), &text)?;
        }
        Ok(store)
    }

    /// Opens a store for reading.
    ///
    /// # Errors
    /// When there is none, or it has another schema.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        let store = Store {
            root: root.to_owned(),
            stale_processes: BTreeSet::new(),
            stale_applications: BTreeSet::new(),
            _lock: None,
        };
        store.check_schema()?;
        Ok(store)
    }

    fn check_schema(&self) -> Result<(), StoreError> {
        let path = self.root.join(MARK);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing(self.root.clone()));
            }
            Err(error) => return Err(StoreError::Read { path, error }),
        };
        match serde_json::from_slice::<Mark>(&text) {
            Ok(mark) if mark.schema == SCHEMA => Ok(()),
            Ok(mark) => Err(StoreError::Schema { path: self.root.clone(), found: mark.schema }),
            Err(_) => Err(StoreError::Damaged(path)),
        }
    }

    /// Takes in a record file's segment, unless the store has a copy that is as good.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn add_segment(
        &mut self,
        bytes: &[u8],
        segment: &Segment<'_>,
    ) -> Result<Added, StoreError> {
        let header = segment.header();
        let new = KeptSegment::from_source(bytes, segment);
        let process = header.process_id;
        let path = segment_path(&process, header.segment);
        if let Some(old) = self.read_if_there(&path)?.as_deref().and_then(KeptSegment::unpack)
            && !new.completeness.is_better_than(&old.completeness)
        {
            if !self.root.join(table_path(Table::Processes, &hex(&process))).exists() {
                // An ingest was killed between the source and its tables.
                self.stale_processes.insert(process);
            }
            return Ok(Added::Known);
        }
        let packed = new.pack().map_err(|error| self.write_error(&path, error))?;
        // Before the source changes its table must go, or a kill in between would leave it outdated.
        self.remove(&table_path(Table::Processes, &hex(&process)))?;
        self.write(&path, &packed)?;
        self.stale_processes.insert(process);
        Ok(Added::New)
    }

    /// Takes in what an event log says.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn add_application(
        &mut self,
        application: Application,
        cluster: Option<&str>,
    ) -> Result<Added, StoreError> {
        let id = application.id.clone().unwrap_or_default();
        let key = match &application.attempt {
            Some(attempt) => format!("{}.{}", escape(&id), escape(attempt)),
            None => escape(&id),
        };
        let path = application_path(&key);
        let table = table_path(Table::SparkApps, &key);
        let old = match self.read_if_there(&path)? {
            Some(packed) => KeptApplication::unpack(&packed)
                .ok_or_else(|| StoreError::Damaged(self.root.join(&path)))?,
            None => KeptApplication::default(),
        };
        let mut new = KeptApplication {
            cluster: cluster.map(str::to_owned).or_else(|| old.cluster.clone()),
            application: old.application.clone(),
        };
        new.application.merge(application);
        if new == old {
            if !self.root.join(table).exists() {
                self.stale_applications.insert(key);
            }
            return Ok(Added::Known);
        }
        let packed = new.pack().map_err(|error| self.write_error(&path, error))?;
        self.remove(&table)?;
        self.write(&path, &packed)?;
        self.stale_applications.insert(key);
        Ok(Added::New)
    }

    /// Number of processes and applications whose tables [`Store::update`] has to make.
    pub fn stale(&self) -> usize {
        self.stale_processes.len() + self.stale_applications.len()
    }

    /// Makes the tables anew of which the sources changed; `progress` is told of each.
    ///
    /// # Errors
    /// When the store cannot be written; what was made until then is whole.
    pub fn update(&mut self, progress: &dyn Fn()) -> Result<(), StoreError> {
        while let Some(process) = self.stale_processes.first().copied() {
            self.update_process(&process)?;
            self.stale_processes.remove(&process);
            progress();
        }
        while let Some(key) = self.stale_applications.first().cloned() {
            let path = application_path(&key);
            let packed = self.read_if_there(&path)?;
            let kept = packed
                .as_deref()
                .and_then(KeptApplication::unpack)
                .ok_or_else(|| StoreError::Damaged(self.root.join(&path)))?;
            // The first table's file says that all are there: it is written last.
            for (table, frame) in spark_tables::make(&kept)?.into_iter().rev() {
                self.write_table(table, &key, frame)?;
            }
            self.stale_applications.remove(&key);
            progress();
        }
        Ok(())
    }

    fn update_process(&self, process: &ProcessId) -> Result<(), StoreError> {
        let folder = self.root.join(KEPT_SEGMENTS).join(hex(process));
        let read_error = |error| StoreError::Read { path: folder.clone(), error };
        let mut kept = Vec::new();
        for entry in fs::read_dir(&folder).map_err(read_error)? {
            let path = entry.map_err(read_error)?.path();
            let Some(segment) =
                path.file_stem().and_then(|stem| stem.to_str()?.parse::<u32>().ok())
            else {
                continue;
            };
            let packed =
                fs::read(&path).map_err(|error| StoreError::Read { path: path.clone(), error })?;
            let unpacked = KeptSegment::unpack(&packed).ok_or(StoreError::Damaged(path))?;
            kept.push((segment, unpacked));
        }
        kept.sort_by_key(|(segment, _)| *segment);
        let kept: Vec<_> = kept.into_iter().map(|(_, segment)| segment).collect();
        let key = hex(process);
        if let Some(tables) = process_tables::make(&kept)? {
            self.write_table(Table::Threads, &key, tables.threads)?;
            self.write_table(Table::Tasks, &key, tables.tasks)?;
            self.write_table(Table::Notices, &key, tables.notices)?;
            self.write_table(Table::Segments, &key, tables.segments)?;
            // Its file says that all of them are there: it is written last.
            self.write_table(Table::Processes, &key, tables.processes)?;
        }
        Ok(())
    }

    /// A table as a frame, of these columns or of all; `None` if nothing was ever put into it.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn frame(
        &self,
        table: Table,
        columns: Option<&[&str]>,
    ) -> Result<Option<DataFrame>, StoreError> {
        let folder = self.root.join(table.name());
        let mut files = Vec::new();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::Read { path: folder, error }),
        };
        for entry in entries {
            let path =
                entry.map_err(|error| StoreError::Read { path: folder.clone(), error })?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".parquet") && !name.starts_with(TEMPORARY) {
                files.push(path);
            }
        }
        files.sort();
        let mut whole: Option<DataFrame> = None;
        for path in files {
            let file = match File::open(&path) {
                Ok(file) => file,
                // An ingest is making it anew just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(StoreError::Read { path, error }),
            };
            let columns = columns.map(|names| names.iter().map(|&name| name.to_owned()).collect());
            let part = ParquetReader::new(file)
                .with_columns(columns)
                .finish()
                .map_err(|_| StoreError::Damaged(path))?;
            match &mut whole {
                Some(whole) => {
                    whole.vstack_mut_owned(part)?;
                }
                None => whole = Some(part),
            }
        }
        if let Some(whole) = &mut whole {
            whole.rechunk_mut();
        }
        Ok(whole)
    }

    fn write_table(&self, table: Table, key: &str, mut frame: DataFrame) -> Result<(), StoreError> {
        if frame.height() == 0 {
            return self.remove(&table_path(table, key));
        }
        let mut bytes = Vec::new();
        ParquetWriter::new(&mut bytes).finish(&mut frame)?;
        self.write(&table_path(table, key), &bytes)
    }

    fn write_error(&self, path: &Path, error: io::Error) -> StoreError {
        StoreError::Write { path: self.root.join(path), error }
    }

    fn read_if_there(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.root.join(path);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::Read { path, error }),
        }
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        match fs::remove_file(self.root.join(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.write_error(path, error))
            }
            _ => Ok(()),
        }
    }

    /// Writes a file that appears whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let target = self.root.join(path);
        let folder = target.parent().unwrap_or(&self.root);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = folder.join(format!("{TEMPORARY}{}-{name}", std::process::id()));
        let written = fs::create_dir_all(folder).and_then(|()| {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &target)
        });
        written.map_err(|error| {
            // It may not exist; the first error is the one to tell.
            let _ = fs::remove_file(&temporary);
            self.write_error(path, error)
        })
    }
}

fn segment_path(process: &ProcessId, segment: u32) -> PathBuf {
    Path::new(KEPT_SEGMENTS).join(hex(process)).join(format!("{segment}.zst"))
}

fn application_path(key: &str) -> PathBuf {
    Path::new(KEPT_APPLICATIONS).join(format!("{key}.zst"))
}

fn table_path(table: Table, key: &str) -> PathBuf {
    Path::new(table.name()).join(format!("{key}.parquet"))
}

/// An id as part of a file name; what could mean something to the file system becomes `%xx`.
fn escape(id: &str) -> String {
    let mut escaped = String::new();
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02x}")),
        }
    }
    escaped
}
