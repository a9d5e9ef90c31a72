//! The rows of processes: what a database knows of them, and putting new ones there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use mysql::prelude::{FromValue, Queryable};
use mysql::{Row, Transaction};
use polars::prelude::{BooleanChunked, DataFrame, NewChunkedArray};

use crate::model::snapshot_policy::Snapshots;
use crate::store::claims::Claim;
use crate::store::error::StoreError;
use crate::store::ingest::{COUNTS, KnownProcess, Output, Plan, Source, completeness};
use crate::store::kept::unpack_one;
use crate::store::process_tables::Origin;
use crate::store::server::error::ServerError;
use crate::store::server::load::{Loader, Rows};
use crate::store::server::query;
use crate::store::table::Table;

/// What a database knows of some processes.
pub struct Known {
    /// The processes, by their ids.
    pub processes: HashMap<String, KnownProcess>,
}

/// Process id, process number, start and node.
type Stored = (String, Option<i64>, Option<i64>, Option<String>);

impl Known {
    /// Reads it.
    ///
    /// # Errors
    /// When the server fails.
    pub fn read(connection: &mut Transaction<'_>, ids: &[&str]) -> Result<Known, ServerError> {
        let list = vec!["?"; ids.len()].join(",");
        let mut processes: HashMap<String, KnownProcess> = HashMap::new();
        let columns = COUNTS.map(|name| format!("`{name}`")).join(", ");
        let query = format!(
            "SELECT `process_id`, `segment`, {columns} FROM `segments` WHERE `process_id` IN ({list})"
        );
        for row in connection.exec_iter(query, ids.to_vec())? {
            let mut row: Row = row?;
            let (id, segment) = (taken(&mut row, 0)?, taken(&mut row, 1)?);
            let mut counts = [0; COUNTS.len()];
            for (at, count) in counts.iter_mut().enumerate() {
                *count = taken(&mut row, at + 2)?;
            }
            let process: &mut KnownProcess = processes.entry(id).or_default();
            process.segments.insert(segment, completeness(counts));
        }
        let query = format!(
            "SELECT `source`, `snapshot_interval_ns`, EXISTS (SELECT 1 FROM `kept` k WHERE \
             k.`source` = s.`source` AND k.`bytes` <> '') FROM `sources` s WHERE `source` IN ({list})"
        );
        let sources: Vec<(String, u64, bool)> = query::rows(connection, &query, ids.to_vec())?;
        for (id, interval_ns, is_kept) in sources {
            if let Some(process) = processes.get_mut(&id) {
                process.snapshots = Snapshots::of_interval(interval_ns);
                process.is_kept = is_kept;
            }
        }
        let query = format!(
            "SELECT `process_id`, `pid`, `start_real_ns`, `node` FROM `processes` WHERE `process_id` IN ({list})"
        );
        let claims: Vec<Stored> = query::rows(connection, &query, ids.to_vec())?;
        for (id, pid, start, node) in claims {
            if let (Some(process), Some((pid, start_real_ns))) =
                (processes.get_mut(&id), pid.zip(start))
            {
                process.claim = Some(Claim { pid, start_real_ns, node });
            }
        }
        Ok(Known { processes })
    }

    /// Unpacks kept segments to files in a folder, as sources of a process.
    ///
    /// # Errors
    /// When the server fails, what is kept is damaged, or there is no room.
    pub fn add_kept(
        &self,
        connection: &mut Transaction<'_>,
        folder: &Path,
        plan: &mut Plan,
        segments: &[u32],
    ) -> Result<(), StoreError> {
        let Some(process) = self.processes.get(&plan.id) else { return Ok(()) };
        for &segment in segments {
            let packed = folder.join(format!("packed-{}-{segment}", plan.id));
            let cannot = |error| StoreError::Write { path: packed.clone(), error };
            let mut file = File::create(&packed).map_err(cannot)?;
            let pieces = connection.exec_iter(
                "SELECT `bytes` FROM `kept` WHERE `source` = ? AND `segment` = ? ORDER BY `part`",
                (&plan.id, segment),
            )?;
            for piece in pieces {
                let piece: Vec<u8> = taken(&mut piece?, 0).map_err(ServerError::from)?;
                file.write_all(&piece).map_err(cannot)?;
            }
            let source = Source {
                path: unpack_one(&packed)?,
                kept_of: process.segments.get(&segment).copied(),
            };
            plan.segments.insert(segment, source);
        }
        Ok(())
    }
}

/// A value of a row, which must be there.
fn taken<T: FromValue>(row: &mut Row, at: usize) -> Result<T, mysql::Error> {
    let value = row.take(at).unwrap_or(mysql::Value::NULL);
    mysql::from_value_opt(value).map_err(|error| mysql::Error::FromValueError(error.0))
}

/// Puts the rows of processes into the tables of a database.
pub struct ProcessRows<'c, 't> {
    connection: &'c mut Transaction<'t>,
    load: &'c Loader,
    known: &'c Known,
    /// Processes that have a row, which is all that other tables refer to.
    heads: HashSet<String>,
    /// How many rows of a process each table has by now.
    rows: BTreeMap<(Table, String), u64>,
    /// How many pieces there are of kept segments.
    pieces: BTreeMap<(String, u32), u64>,
    /// Processes that are done, and whether nothing is kept of them.
    done: Vec<(String, Snapshots, bool)>,
}

impl<'c, 't> ProcessRows<'c, 't> {
    /// Nothing was put there yet.
    pub fn new(
        connection: &'c mut Transaction<'t>,
        load: &'c Loader,
        known: &'c Known,
    ) -> ProcessRows<'c, 't> {
        ProcessRows {
            connection,
            load,
            known,
            heads: known.processes.keys().cloned().collect(),
            rows: BTreeMap::new(),
            pieces: BTreeMap::new(),
            done: Vec::new(),
        }
    }

    /// Sees to what else is to be noted of the processes, and to old rows that nothing has replaced.
    ///
    /// # Errors
    /// When the server fails.
    pub fn finish(&mut self) -> Result<(), StoreError> {
        for (id, snapshots, has_ended) in std::mem::take(&mut self.done) {
            if snapshots != Snapshots::Last {
                self.connection.exec_drop(
                    "UPDATE `sources` SET `snapshot_interval_ns` = ? WHERE `source` = ?",
                    (snapshots.interval_ns(), &id),
                )?;
            }
            let Some(known) = self.known.processes.get(&id) else { continue };
            if known.is_kept && has_ended {
                self.connection
                    .exec_drop("UPDATE `kept` SET `bytes` = '' WHERE `source` = ?", (&id,))?;
            }
            for table in Table::of_processes().filter(|table| *table != Table::Processes) {
                let rows = self.rows.get(&(table, id.clone())).copied().unwrap_or(0);
                self.remove_after(table, &id, rows)?;
            }
        }
        for ((id, segment), pieces) in std::mem::take(&mut self.pieces) {
            self.connection.exec_drop(
                "UPDATE `kept` SET `bytes` = '' WHERE `source` = ? AND `segment` = ? AND `part` >= ?",
                (&id, segment, pieces),
            )?;
        }
        Ok(())
    }

    /// A better copy of a damaged file may say less of something: only then rows have to go.
    fn remove_after(&mut self, table: Table, id: &str, rows: u64) -> Result<(), ServerError> {
        let table = table.name();
        let after = format!("`{table}` WHERE `process_id` = ? AND `ordinal` >= ?");
        let text = format!("SELECT `ordinal` FROM {after} LIMIT 1");
        let first: Vec<u64> = query::rows(self.connection, &text, (id, rows))?;
        if !first.is_empty() {
            self.connection.exec_drop(format!("DELETE FROM {after}"), (id, rows))?;
        }
        Ok(())
    }

    /// Rows that are to be inserted, or that replace others.
    fn put(
        &mut self,
        table: Table,
        owners: &[String],
        ordinals: &[u64],
        frame: &DataFrame,
        is_there: &[bool],
    ) -> Result<(), StoreError> {
        for there in [false, true] {
            let mask: Vec<bool> = is_there.iter().map(|is_there| *is_there == there).collect();
            if !mask.contains(&true) {
                continue;
            }
            let ordinals: Vec<u64> = ordinals
                .iter()
                .zip(&mask)
                .filter(|(_, mask)| **mask)
                .map(|(one, _)| *one)
                .collect();
            let frame = if ordinals.len() == owners.len() {
                frame.clone()
            } else {
                frame.filter(&BooleanChunked::from_slice("these".into(), &mask))?
            };
            let rows = Rows { table, key: "", ordinals: &ordinals, frame: &frame };
            self.load.put(self.connection, &rows, there)?;
        }
        Ok(())
    }
}

impl Output for ProcessRows<'_, '_> {
    fn rows(&mut self, table: Table, frame: DataFrame) -> Result<(), StoreError> {
        let ids = frame.column("process_id")?.str()?;
        let owners: Vec<String> = ids.iter().map(|id| id.unwrap_or_default().to_owned()).collect();
        let mut ordinals = Vec::with_capacity(owners.len());
        let mut is_there = Vec::with_capacity(owners.len());
        if table == Table::Processes {
            ordinals.resize(owners.len(), 0);
            is_there.extend(owners.iter().map(|owner| self.heads.contains(owner)));
            self.heads.extend(owners.iter().cloned());
            return self.put(table, &owners, &ordinals, &frame, &is_there);
        }
        for of_one in owners.chunk_by(|one, other| one == other) {
            let owner = &of_one[0];
            // The row that others refer to comes last of a long process: its place is taken.
            if !self.heads.contains(owner) {
                self.connection
                    .exec_drop("INSERT INTO `processes` (`process_id`) VALUES (?)", (owner,))?;
                self.heads.insert(owner.clone());
            }
            let known = self.known.processes.contains_key(owner);
            let next = self.rows.entry((table, owner.clone())).or_default();
            ordinals.extend(*next..*next + of_one.len() as u64);
            *next += of_one.len() as u64;
            is_there.resize(ordinals.len(), known);
        }
        self.put(table, &owners, &ordinals, &frame, &is_there)
    }

    fn keep(
        &mut self,
        process: &str,
        segment: u32,
        piece: u32,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.connection.exec_drop(
            "INSERT INTO `kept` (`source`, `segment`, `part`, `bytes`) VALUES (?, ?, ?, ?) \
             ON DUPLICATE KEY UPDATE `bytes` = ?",
            (process, segment, piece, bytes, bytes),
        )?;
        if self.known.processes.contains_key(process) {
            self.pieces.insert((process.to_owned(), segment), u64::from(piece) + 1);
        }
        Ok(())
    }

    fn close(&mut self, plan: &Plan, _origin: &Origin, has_ended: bool) -> Result<(), StoreError> {
        self.done.push((plan.id.clone(), plan.snapshots, has_ended));
        Ok(())
    }
}
