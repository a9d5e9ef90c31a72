//! What a store knows of processes already.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use polars::prelude::DataFrame;

use crate::store::below;
use crate::store::claims::Claim;
use crate::store::error::StoreError;
use crate::store::folder::manifest::Manifest;
use crate::store::ingest::{COUNTS, KnownProcess, completeness};
use crate::store::kept::unpack_one;
use crate::store::parquet::{ROWS_PER_GROUP, scan};
use crate::store::part::{KEPT, Part, STAGING};
use crate::store::table::Table;

/// Rows of the table `kept` that are read at once; each is some megabyte at most.
const KEPT_AT_ONCE: usize = 64;

/// Everything that a store knows of processes, by their ids.
#[derive(Debug, Default)]
pub struct Known {
    /// The processes.
    pub processes: HashMap<String, KnownProcess>,
    /// The parts that they are in.
    pub parts: HashMap<String, u64>,
}

impl Known {
    /// Reads it from the store's tables.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(root: &Path, manifest: &Manifest) -> Result<Known, StoreError> {
        let mut known = Known::default();
        for part in manifest.parts.iter().filter(|part| part.log.is_none()) {
            let rows = 16 * ROWS_PER_GROUP;
            let columns = ["process_id", "node", "pid", "start_real_ns"];
            scan(root, part, Table::Processes.name(), Some(&columns), rows, &mut |frame| {
                known.take_claims(&frame)
            })?;
            scan(root, part, Table::Segments.name(), None, rows, &mut |frame| {
                known.take_segments(&frame, part, &part.path(root, Table::Segments.name()))
            })?;
            scan(root, part, KEPT, Some(&["source"]), rows, &mut |frame| {
                for source in frame.column("source")?.str()?.iter().flatten() {
                    if let Some(process) = known.processes.get_mut(source) {
                        process.is_kept = true;
                    }
                }
                Ok(())
            })?;
        }
        Ok(known)
    }

    fn take_claims(&mut self, frame: &DataFrame) -> Result<(), StoreError> {
        let (ids, nodes) = (frame.column("process_id")?.str()?, frame.column("node")?.str()?);
        let (pids, starts) = (frame.column("pid")?.i64()?, frame.column("start_real_ns")?.i64()?);
        for at in 0..frame.height() {
            let known = (ids.get(at), pids.get(at), starts.get(at));
            let (Some(id), Some(pid), Some(start_real_ns)) = known else { continue };
            let claim = Claim { pid, start_real_ns, node: nodes.get(at).map(str::to_owned) };
            self.processes.entry(id.to_owned()).or_default().claim = Some(claim);
        }
        Ok(())
    }

    fn take_segments(
        &mut self,
        frame: &DataFrame,
        part: &Part,
        place: &Path,
    ) -> Result<(), StoreError> {
        let snapshots = part.snapshots;
        let ids = frame.column("process_id")?.str()?;
        let segments = frame.column("segment")?.i64()?;
        let counts = COUNTS
            .iter()
            .map(|name| Ok(frame.column(name)?.u64()?))
            .collect::<Result<Vec<_>, StoreError>>()?;
        for (at, id) in ids.iter().enumerate() {
            let Some((id, segment)) = id.zip(segments.get(at)) else {
                return Err(StoreError::Damaged(place.to_owned()));
            };
            let mut values = [0; COUNTS.len()];
            for (value, column) in values.iter_mut().zip(&counts) {
                let known = column.get(at);
                *value = known.ok_or_else(|| StoreError::Damaged(place.to_owned()))?;
            }
            let segment =
                u32::try_from(segment).map_err(|_| StoreError::Damaged(place.to_owned()))?;
            let process = self.processes.entry(id.to_owned()).or_default();
            process.snapshots = snapshots;
            process.segments.insert(segment, completeness(values));
            self.parts.insert(id.to_owned(), part.id);
        }
        Ok(())
    }
}

/// Unpacks kept segments to files, which are record files as far as they go.
///
/// # Errors
/// When the store cannot be read, or is damaged, or there is no room.
pub fn unpack(
    root: &Path,
    manifest: &Manifest,
    known: &Known,
    wanted: &HashSet<(String, u32)>,
) -> Result<HashMap<(String, u32), PathBuf>, StoreError> {
    let mut unpacked = HashMap::new();
    let parts: HashSet<u64> =
        wanted.iter().filter_map(|(id, _)| known.parts.get(id).copied()).collect();
    for part in manifest.parts.iter().filter(|part| parts.contains(&part.id)) {
        // One after the other: the pieces of a segment follow each other.
        let mut open: Option<((String, u32), File)> = None;
        scan(root, part, KEPT, None, KEPT_AT_ONCE, &mut |frame| {
            let sources = frame.column("source")?.str()?;
            let segments = frame.column("segment")?.i64()?;
            let bytes = frame.column("bytes")?.binary()?;
            for at in 0..frame.height() {
                let segment = segments.get(at).and_then(|number| u32::try_from(number).ok());
                let (Some(source), Some(segment), Some(bytes)) =
                    (sources.get(at), segment, bytes.get(at))
                else {
                    return Err(StoreError::Damaged(part.path(root, KEPT)));
                };
                let key = (source.to_owned(), segment);
                if !wanted.contains(&key) {
                    continue;
                }
                let place = Path::new(STAGING).join(format!("packed-{source}-{segment}"));
                let path = root.join(&place);
                let cannot = |error| StoreError::Write { path: path.clone(), error };
                if open.as_ref().is_none_or(|(one, _)| *one != key) {
                    // A run before this one may have left it.
                    below::remove(root, &place).map_err(cannot)?;
                    let file = below::create(root, &place).map_err(cannot)?;
                    unpacked.insert(key.clone(), path.clone());
                    open = Some((key, file));
                }
                if let Some((_, file)) = &mut open {
                    file.write_all(bytes).map_err(cannot)?;
                }
            }
            Ok(())
        })?;
    }
    for packed in unpacked.values_mut() {
        *packed = unpack_one(packed)?;
    }
    Ok(unpacked)
}
