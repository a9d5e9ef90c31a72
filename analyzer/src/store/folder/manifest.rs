//! Which files a store consists of, and how they change together.
//!
//! `store.json` names the *parts* of the store. A part is a file per table, of some processes of one
//! application, or of one application's event log; its files never change. New files are written to
//! `.staging`; the rename of `store.json` is the moment at which the store has changed. After it outdated
//! files are removed and staged ones go to their places, and if that was cut short, whoever writes next
//! does it. A reader looks for a file at its place, then in `.staging`; it holds a shared lock on
//! `.readers`, which is exchanged for files under an exclusive one, so that a report is of one state.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use records::metric::EDITION;
use serde::{Deserialize, Serialize};

use crate::console::new_file::NewFile;
use crate::store::below;
use crate::store::error::StoreError;
use crate::store::part::{KEPT, Part, STAGING};

/// The oldest schema that this program reads: its tables have the columns of the first edition of the table of
/// metrics.
const OLDEST_SCHEMA: u32 = 2;
/// The schema that this program writes. Each later edition of the table of metrics is one: a program that lacks a
/// column must not read it, while this one reads what an older part lacks as unknown.
pub const SCHEMA: u32 = OLDEST_SCHEMA + EDITION - 1;
/// The file that makes a folder a store.
const MARK: &str = "store.json";
/// Most bytes of it: a store of 10,000 applications with many parts each has some megabytes.
const MAX_BYTES: u64 = 256 << 20;
/// Locked by readers, and by a writer while it exchanges files.
const READERS: &str = ".readers";

/// What a store is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    store: String,
    schema: u32,
    /// The number of the next part.
    #[serde(default)]
    next: u64,
    /// The parts, in the order of their making.
    #[serde(default)]
    pub parts: Vec<Part>,
}

/// Whether a name in a new store's folder is one that an interrupted first ingest leaves.
pub fn is_ours(name: &str) -> bool {
    [".lock", READERS, STAGING].contains(&name)
        || [".store.json", ".sparkanalyzer-"].iter().any(|begin| name.starts_with(begin))
}

/// Waits until no writer exchanges files, and keeps writers from it until the lock is dropped. Without a
/// lock (on a store of which nobody may write a file, or on a file system without locks) a report may meet
/// a file that was replaced, and says so.
pub fn lock_to_read(root: &Path) -> Option<File> {
    let file = below::open(root, Path::new(READERS)).ok()?;
    file.lock_shared().ok()?;
    Some(file)
}

/// Waits until nobody reads.
fn lock_to_exchange(root: &Path) -> Result<File, StoreError> {
    let path = root.join(READERS);
    let file = below::lock_file(root, READERS);
    let locked = file.and_then(|file| match file.lock() {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(error),
        _ => Ok(file),
    });
    locked.map_err(|error| StoreError::Write { path, error })
}

impl Manifest {
    /// An empty store's.
    pub fn new() -> Manifest {
        Manifest { store: "sparkanalyzer".into(), schema: SCHEMA, next: 1, parts: Vec::new() }
    }

    /// Reads it.
    ///
    /// # Errors
    /// When there is no store, or it has another schema.
    pub fn read(root: &Path) -> Result<Manifest, StoreError> {
        let path = root.join(MARK);
        let text = below::open(root, Path::new(MARK)).and_then(|mut file| {
            let mut text = Vec::new();
            (&mut file).take(MAX_BYTES + 1).read_to_end(&mut text)?;
            if text.len() as u64 > MAX_BYTES {
                let why = format!("more than {MAX_BYTES} bytes, which no store needs");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            Ok(text)
        });
        let text = match text {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing(root.to_owned()));
            }
            Err(error) => return Err(StoreError::Read { path, error }),
        };
        Manifest::parse(&text, root)
    }

    /// Takes it from what its file holds.
    ///
    /// # Errors
    /// When it has another schema or is damaged.
    pub fn parse(text: &[u8], root: &Path) -> Result<Manifest, StoreError> {
        match serde_json::from_slice::<Manifest>(text) {
            Ok(manifest) if (OLDEST_SCHEMA..=SCHEMA).contains(&manifest.schema) => {
                match manifest.parts.iter().all(Part::is_sound) {
                    true => Ok(manifest),
                    false => Err(StoreError::Damaged(root.join(MARK))),
                }
            }
            Ok(other) => Err(StoreError::Schema {
                path: root.to_owned(),
                found: other.schema,
                known: SCHEMA,
            }),
            Err(_) => Err(StoreError::Damaged(root.join(MARK))),
        }
    }

    /// The parts that may have rows of these applications; of all, if none is named.
    pub fn parts_of(&self, applications: &[String]) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| match &part.application {
            Some(application) => applications.is_empty() || applications.contains(application),
            None => true,
        })
    }

    /// Whether there is one.
    pub fn is_there(root: &Path) -> bool {
        root.join(MARK).symlink_metadata().is_ok()
    }

    /// Writes it.
    ///
    /// # Errors
    /// When it cannot be written; then the old one stands.
    pub fn write(&self, root: &Path) -> Result<(), StoreError> {
        let path = root.join(MARK);
        let written = serde_json::to_vec(self).map_err(io::Error::from).and_then(|text| {
            let new = NewFile::with_mode(&path, below::FILE_MODE)?;
            new.file().write_all(&text)?;
            new.file().sync_all()?;
            new.finish()?;
            File::open(root)?.sync_all()
        });
        written.map_err(|error| StoreError::Write { path, error })
    }

    /// A number for a new part.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Puts staged parts in the place of old ones (by number).
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn exchange(
        &mut self,
        root: &Path,
        old: &BTreeSet<u64>,
        new: Vec<Part>,
    ) -> Result<(), StoreError> {
        // New parts have the columns of today.
        let mut changed = Manifest { schema: SCHEMA, ..self.clone() };
        changed.parts.retain(|part| !old.contains(&part.id));
        changed.parts.extend(new);
        changed.parts.sort_by_key(|part| part.id);
        let _exclusive = lock_to_exchange(root)?;
        changed.write(root)?;
        let gone = std::mem::replace(self, changed);
        for part in gone.parts.iter().filter(|part| old.contains(&part.id)) {
            remove(root, part)?;
        }
        self.settle(root)
    }

    /// Moves staged files to their places.
    fn settle(&self, root: &Path) -> Result<(), StoreError> {
        for part in &self.parts {
            for table in part.rows.keys() {
                let (from, to) = (part.staged(table), part.place(table));
                let moved = below::rename(root, &from, &to);
                moved.map_err(|error| StoreError::Write { path: root.join(to), error })?;
            }
        }
        // It stays if there is more in it.
        let _ = fs::remove_dir(root.join(STAGING));
        Ok(())
    }

    /// Completes what a killed writer left undone: staged files of the store go to their places, others are
    /// removed, and a part of which a file is missing is given up, so that its sources are new again.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn recover(&mut self, root: &Path) -> Result<(), StoreError> {
        let _exclusive = lock_to_exchange(root)?;
        let staging = root.join(STAGING);
        // A link that somebody planted; what it leads to stays.
        if staging.is_symlink() {
            let removed = fs::remove_file(&staging);
            removed.map_err(|error| StoreError::Write { path: staging.clone(), error })?;
        }
        self.settle(root)?;
        match fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Write { path: staging, error });
            }
            _ => {}
        }
        let is_whole =
            |part: &Part| part.rows.keys().all(|table| below::is_there(root, &part.place(table)));
        if !self.parts.iter().all(is_whole) {
            self.parts.retain(is_whole);
            self.write(root)?;
        }
        self.remove_strangers(root)
    }

    /// Removes the files of parts that are no more.
    fn remove_strangers(&self, root: &Path) -> Result<(), StoreError> {
        let ours: BTreeSet<PathBuf> = self
            .parts
            .iter()
            .flat_map(|part| part.rows.keys().map(|table| part.place(table)))
            .collect();
        let tables = crate::store::table::Table::ALL.iter().map(|table| table.name());
        for table in tables.chain([KEPT]) {
            let at = |path: PathBuf| move |error| StoreError::Write { path, error };
            let table = Path::new(table);
            for folder in below::names(root, table).map_err(at(root.join(table)))? {
                let folder = table.join(folder);
                for file in below::names(root, &folder).map_err(at(root.join(&folder)))? {
                    let file = folder.join(file);
                    if !ours.contains(&file) && file.extension().is_some_and(|end| end == "parquet")
                    {
                        below::remove(root, &file).map_err(at(root.join(&file)))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Removes a part's files.
fn remove(root: &Path, part: &Part) -> Result<(), StoreError> {
    for table in part.rows.keys() {
        let place = part.place(table);
        below::remove(root, &place)
            .map_err(|error| StoreError::Write { path: root.join(place), error })?;
    }
    Ok(())
}
