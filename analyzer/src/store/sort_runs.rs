//! What is known of one application attempt, of any size: sorted runs of rows, which are merged row by row.
//!
//! # Design
//!
//! An event log is read in pieces. All but the last one become *runs*: the application's tables, each in the
//! order of its keys, in files of the same kind as a store's parts. What the store knows already is one more
//! run. The tables are made of all of them in one pass that holds some thousand rows of each run. Merging
//! does not depend on the order, so a log gives the same rows in one piece or in many.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use polars::prelude::DataFrame;
use tempfile::TempDir;

use crate::input::eventlog::{Application, Executor, Job, SqlExecution, Stage, Task};
use crate::model::snapshot_policy::Snapshots;
use crate::store::error::StoreError;
use crate::store::parquet::{PartReader, PartWriter, ROWS_PER_GROUP};
use crate::store::part::Part;
use crate::store::spark_tables::{Attempt, Entry, Head};
use crate::store::table::Table;

/// So many runs of one size are merged into one: bounds how many are open at once.
const FAN_IN: usize = 8;
/// Rows of a run that are unpacked at once.
const ROWS_AT_ONCE: usize = 1024;

/// Takes rows of a table.
pub type Write<'w> = &'w mut dyn FnMut(Table, DataFrame) -> Result<(), StoreError>;

/// A run: files in a folder.
pub type Run<'r> = (&'r Path, &'r Part);

/// Pieces of an application that wait in files for the last one.
#[derive(Default)]
pub struct Runs {
    /// Where the files may be; the system's folder of temporary files if none.
    at: Option<PathBuf>,
    folder: Option<TempDir>,
    next: u64,
    /// Runs of one piece, of [`FAN_IN`] pieces, ...
    levels: Vec<Vec<Part>>,
}

impl Runs {
    /// None yet; their files will be in a folder.
    pub fn new(at: Option<PathBuf>) -> Runs {
        Runs { at, ..Runs::default() }
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn add(&mut self, piece: Application) -> Result<(), StoreError> {
        let root = self.root()?;
        let mut part = self.write(&[], Known::piece(None, piece))?;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(part);
            if self.levels[level].len() < FAN_IN {
                break;
            }
            let full = std::mem::take(&mut self.levels[level]);
            let runs: Vec<Run<'_>> = full.iter().map(|part| (root.as_path(), part)).collect();
            part = self.write(&runs, Known::default())?;
            full.iter().for_each(|part| part.discard(&root));
        }
        Ok(())
    }

    /// The folder of the files.
    fn root(&mut self) -> Result<PathBuf, StoreError> {
        if let Some(folder) = &self.folder {
            return Ok(folder.path().to_owned());
        }
        let at = self.at.clone().unwrap_or_else(std::env::temp_dir);
        let is_safe =
            |at: &Path| self.at.is_none() || at.symlink_metadata().is_ok_and(|at| at.is_dir());
        let made = std::fs::create_dir_all(&at).and_then(|()| match is_safe(&at) {
            true => TempDir::with_prefix_in("log-", &at),
            false => {
                Err(std::io::Error::other("is a symbolic link, which is not followed in a store"))
            }
        });
        let folder = made.map_err(|error| StoreError::Write { path: at, error })?;
        Ok(self.folder.insert(folder).path().to_owned())
    }

    /// All of them.
    pub fn all(&self) -> Vec<Run<'_>> {
        let Some(folder) = &self.folder else { return Vec::new() };
        self.levels.iter().flatten().map(|part| (folder.path(), part)).collect()
    }

    /// Writes a run of its own, of rows as they come.
    ///
    /// # Errors
    /// When the files cannot be written, or what `fill` says.
    pub fn write_rows(
        &mut self,
        fill: impl FnOnce(Write<'_>) -> Result<(), StoreError>,
    ) -> Result<(PathBuf, Part), StoreError> {
        let root = self.root()?;
        self.next += 1;
        let part = Part::empty(self.next, Snapshots::Last);
        let mut writer = PartWriter::begin(&root, part);
        fill(&mut |table, mut frame| writer.write(table.name(), &mut frame))?;
        let part = writer.close()?.unwrap_or_else(|| Part::empty(0, Snapshots::Last));
        Ok((root, part))
    }

    fn write(&mut self, runs: &[Run<'_>], rest: Known) -> Result<Part, StoreError> {
        let (_, part) = self
            .write_rows(|write| merge(None, runs, rest, Attempt::default(), write).map(|_| ()))?;
        Ok(part)
    }
}

/// Rows that are in memory, in their order.
#[derive(Default)]
struct Known {
    heads: Vec<Head>,
    executors: Vec<(String, Executor)>,
    jobs: Vec<(i64, Job)>,
    stages: Vec<Stage>,
    tasks: Vec<(i64, Task)>,
    sql: Vec<(i64, SqlExecution)>,
}

impl Known {
    fn piece(cluster: Option<String>, mut piece: Application) -> Known {
        fn take<K, T>(from: &mut BTreeMap<K, T>) -> Vec<(K, T)> {
            std::mem::take(from).into_iter().collect()
        }
        let mut known = Known {
            heads: Vec::new(),
            executors: take(&mut piece.executors),
            jobs: take(&mut piece.jobs),
            stages: std::mem::take(&mut piece.stages).into_values().collect(),
            tasks: take(&mut piece.tasks),
            sql: take(&mut piece.sql),
        };
        // These two are columns of every table.
        (piece.id, piece.attempt) = (None, None);
        known.heads.push(Head { cluster, application: piece });
        known
    }
}

/// Makes an application's tables, in the order of [`Table::ALL`], out of what a store knows, of runs, and of
/// the log's last piece. Whether that says anything that the store does not know.
///
/// # Errors
/// When a run cannot be read, or what `write` says.
pub fn tables(
    old: Option<Run<'_>>,
    runs: &Runs,
    rest: &Application,
    cluster: Option<&str>,
    write: Write<'_>,
) -> Result<bool, StoreError> {
    let of = Attempt { id: rest.id.as_deref(), attempt: rest.attempt.as_deref() };
    let piece = Known::piece(cluster.map(str::to_owned), rest.clone());
    merge(old, &runs.all(), piece, of, write)
}

fn merge(
    old: Option<Run<'_>>,
    runs: &[Run<'_>],
    rest: Known,
    of: Attempt<'_>,
    write: Write<'_>,
) -> Result<bool, StoreError> {
    let mut is_new = old.is_none();
    is_new |= merge_table(old, runs, rest.heads, of, write)?;
    is_new |= merge_table(old, runs, rest.executors, of, write)?;
    is_new |= merge_table(old, runs, rest.jobs, of, write)?;
    is_new |= merge_table(old, runs, rest.stages, of, write)?;
    is_new |= merge_table(old, runs, rest.tasks, of, write)?;
    is_new |= merge_table(old, runs, rest.sql, of, write)?;
    Ok(is_new)
}

/// Rows of a run that are read one after the other.
struct Cursor {
    reader: Option<PartReader>,
    frame: DataFrame,
}

/// Rows of one key order: of a run, or those that are in memory.
struct Rows<E> {
    cursor: Cursor,
    ready: std::vec::IntoIter<E>,
}

impl<E: Entry> Rows<E> {
    fn of_run((root, part): Run<'_>) -> Result<Rows<E>, StoreError> {
        let reader = PartReader::open(root, part, E::TABLE.name(), None)?;
        let cursor = Cursor { reader, frame: DataFrame::default() };
        let mut rows = Rows { cursor, ready: Vec::new().into_iter() };
        rows.refill()?;
        Ok(rows)
    }

    fn of_memory(rows: Vec<E>) -> Rows<E> {
        let cursor = Cursor { reader: None, frame: DataFrame::default() };
        Rows { cursor, ready: rows.into_iter() }
    }

    fn refill(&mut self) -> Result<(), StoreError> {
        if self.cursor.frame.height() == 0
            && let Some(reader) = &mut self.cursor.reader
        {
            match reader.next(ROWS_PER_GROUP)? {
                Some(frame) => self.cursor.frame = frame,
                None => self.cursor.reader = None,
            }
        }
        let some = self.cursor.frame.head(Some(ROWS_AT_ONCE));
        self.cursor.frame = self.cursor.frame.slice(some.height() as i64, usize::MAX);
        if some.height() > 0 {
            self.ready = E::rows(&some)?.into_iter();
        }
        Ok(())
    }

    fn key(&self) -> Option<E::Key> {
        self.ready.as_slice().first().map(E::key)
    }

    fn next(&mut self) -> Result<Option<E>, StoreError> {
        let next = self.ready.next();
        if self.ready.as_slice().is_empty() {
            self.refill()?;
        }
        Ok(next)
    }
}

/// Merges one table; whether there is something in it that is not in `old`.
fn merge_table<E: Entry>(
    old: Option<Run<'_>>,
    runs: &[Run<'_>],
    rest: Vec<E>,
    of: Attempt<'_>,
    write: Write<'_>,
) -> Result<bool, StoreError> {
    let mut known: Rows<E> = match old {
        Some(run) => Rows::of_run(run)?,
        None => Rows::of_memory(Vec::new()),
    };
    let mut sources = runs.iter().map(|run| Rows::of_run(*run)).collect::<Result<Vec<_>, _>>()?;
    sources.push(Rows::of_memory(rest));
    let mut is_new = false;
    let mut out: Vec<E> = Vec::new();
    loop {
        let new = sources.iter().filter_map(Rows::key).min();
        let key = match (known.key(), new) {
            (Some(old), Some(new)) => old.min(new),
            (Some(key), None) | (None, Some(key)) => key,
            (None, None) => break,
        };
        let old = if known.key().as_ref() == Some(&key) { known.next()? } else { None };
        let mut merged = old.clone();
        for rows in &mut sources {
            if rows.key().as_ref() == Some(&key)
                && let Some(row) = rows.next()?
            {
                match &mut merged {
                    Some(merged) => merged.merge(row),
                    None => merged = Some(row),
                }
            }
        }
        is_new |= merged != old;
        out.extend(merged);
        if out.len() == ROWS_PER_GROUP {
            write(E::TABLE, E::frame(of, &out)?)?;
            out.clear();
        }
    }
    if !out.is_empty() {
        write(E::TABLE, E::frame(of, &out)?)?;
    }
    Ok(is_new)
}

#[cfg(test)]
mod tests {
    use ::tests::record_set::RecordSet;

    use super::*;
    use crate::input::eventlog::Log;

    /// The tables of a log that is read in pieces of so many bytes; `known` is what a store has.
    fn made(log: &[u8], bytes: usize, known: Option<Run<'_>>) -> (bool, Vec<(Table, DataFrame)>) {
        let mut log = Log::of(Path::new("log"), Box::new(log), &|_| {});
        let mut runs = Runs::new(None);
        let (mut whole, mut is_new) = (BTreeMap::new(), false);
        while let Some(piece) = log.next_piece(bytes).unwrap() {
            if !piece.is_last {
                runs.add(piece.application).unwrap();
                continue;
            }
            let mut take = |table, frame: DataFrame| {
                match whole.get_mut(&table) {
                    None => drop(whole.insert(table, frame)),
                    Some(whole) => drop(whole.vstack_mut(&frame)?),
                }
                Ok(())
            };
            is_new = tables(known, &runs, &piece.application, None, &mut take).unwrap();
        }
        (is_new, whole.into_iter().collect())
    }

    #[test]
    fn pieces_of_any_size_are_one_application() {
        let set = RecordSet { nodes: 2, tasks_per_executor: 18, ..RecordSet::default() };
        let mut log = Vec::new();
        set.write_event_log(&mut log).unwrap();
        let (_, whole) = made(&log, usize::MAX, None);
        let tasks = whole.iter().find(|(table, _)| *table == Table::SparkTasks).unwrap();
        assert_eq!(tasks.1.height() as u64, set.tasks());
        // One event each, and so many runs of runs.
        for bytes in [1, 20_000] {
            assert_eq!(made(&log, bytes, None).1, whole, "pieces of {bytes} bytes");
        }
        let mut store = Runs::new(None);
        let (root, known) = store
            .write_rows(|write| {
                whole.iter().try_for_each(|(table, frame)| write(*table, frame.clone()))
            })
            .unwrap();
        let known = Some((root.as_path(), &known));
        assert_eq!(made(&log, 5000, known), (false, whole.clone()), "nothing new");
        let half = &log[..log.len() / 2];
        assert_eq!(made(half, 5000, known), (false, whole.clone()), "an older copy");
        let (is_new, _) = made(half, 5000, None);
        assert!(is_new);
    }
}
