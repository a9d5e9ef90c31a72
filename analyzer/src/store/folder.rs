//! A store in a folder: its files, how they are written, and reading tables as frames.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use polars::prelude::{DataFrame, ParquetReader, ParquetWriter, SerReader};
use records::{ProcessId, Segment};
use serde::{Deserialize, Serialize};

use super::kept::{KeptApplication, KeptSegment, application_key};
use super::{Added, Store, StoreError, Table, process_tables, spark_tables};
use crate::eventlog::Application;
use crate::record_files::hex;

/// The schema that this program writes and reads.
pub(super) const SCHEMA: u32 = 1;
/// The file that makes a folder a store.
const MARK: &str = "store.json";
/// How names of files begin that are being written.
const TEMPORARY: &str = ".new-";
/// Where sources are kept.
const KEPT_SEGMENTS: &str = "kept/segments";
const KEPT_APPLICATIONS: &str = "kept/applications";

#[derive(Serialize, Deserialize)]
struct Mark {
    store: String,
    schema: u32,
}

/// A store in a folder, open for reading, or for writing by this process alone.
#[derive(Debug)]
pub struct FolderStore {
    root: PathBuf,
    stale_processes: BTreeSet<ProcessId>,
    stale_applications: BTreeSet<String>,
    /// Held until the store is dropped.
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
        let store = FolderStore {
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
    pub fn open(root: &Path) -> Result<FolderStore, StoreError> {
        let store = FolderStore {
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
        self.write_tables(&key, process_tables::make(&kept)?)
    }

    /// Writes a source's tables. The first one's file says that all are there: it is written last.
    fn write_tables(&self, key: &str, tables: Vec<(Table, DataFrame)>) -> Result<(), StoreError> {
        for (table, frame) in tables.into_iter().rev() {
            self.write_table(table, key, frame)?;
        }
        Ok(())
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

impl Store for FolderStore {
    fn add_segment(&mut self, bytes: &[u8], segment: &Segment<'_>) -> Result<Added, StoreError> {
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

    fn add_application(
        &mut self,
        application: Application,
        cluster: Option<&str>,
    ) -> Result<Added, StoreError> {
        let key = application_key(&application);
        let path = application_path(&key);
        let table = table_path(Table::SparkApps, &key);
        let old = match self.read_if_there(&path)? {
            Some(packed) => KeptApplication::unpack(&packed)
                .ok_or_else(|| StoreError::Damaged(self.root.join(&path)))?,
            None => KeptApplication::default(),
        };
        let new = old.joined_with(application, cluster);
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

    fn stale(&self) -> Result<usize, StoreError> {
        Ok(self.stale_processes.len() + self.stale_applications.len())
    }

    fn update(&mut self, progress: &dyn Fn()) -> Result<(), StoreError> {
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
            self.write_tables(&key, spark_tables::make(&kept)?)?;
            self.stale_applications.remove(&key);
            progress();
        }
        Ok(())
    }

    fn frame(
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
