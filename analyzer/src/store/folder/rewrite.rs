//! Making parts anew: without some of their processes, and small ones together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use polars::prelude::{BooleanChunked, DataFrame, IdxCa, IdxSize, NewChunkedArray};

use crate::store::error::StoreError;
use crate::store::folder::manifest::Manifest;
use crate::store::parquet::{PartWriter, ROWS_PER_GROUP, scan};
use crate::store::part::{KEPT, Part};
use crate::store::table::Table;

/// Parts with fewer bytes are put together ...
const SMALL_BYTES: u64 = 4 << 20;
/// ... when an application has so many of them ...
const MANY: usize = 8;
/// ... into parts of about so many bytes.
const MERGED_BYTES: u64 = 32 << 20;

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 4 * ROWS_PER_GROUP;

/// The column by which rows of a table belong to a process.
fn owner_column(table: &str) -> &'static str {
    if table == KEPT { "source" } else { "process_id" }
}

/// The rows of processes that are not to go.
fn without(frame: DataFrame, table: &str, gone: &HashSet<String>) -> Result<DataFrame, StoreError> {
    if gone.is_empty() {
        return Ok(frame);
    }
    let owners = frame.column(owner_column(table))?.str()?;
    let stays: Vec<bool> =
        owners.iter().map(|owner| owner.is_none_or(|owner| !gone.contains(owner))).collect();
    if stays.iter().all(|stays| *stays) {
        return Ok(frame);
    }
    Ok(frame.filter(&BooleanChunked::from_slice("stays".into(), &stays))?)
}

/// A part of the same kind, with nothing in it.
fn empty(of: &Part, id: u64) -> Part {
    Part { id, nodes: None, rows: BTreeMap::new(), bytes: 0, ..of.clone() }
}

/// Writes a part without some processes; `None` if none is left.
///
/// # Errors
/// When the store cannot be read or written.
pub fn drop_processes(
    root: &Path,
    part: &Part,
    id: u64,
    gone: &HashSet<String>,
) -> Result<Option<Part>, StoreError> {
    let mut writer = PartWriter::begin(root, empty(part, id));
    for table in part.rows.keys() {
        scan(root, part, table, None, ROWS_AT_ONCE, &mut |frame| {
            let mut frame = without(frame, table, gone)?;
            if table == Table::Processes.name() {
                frame.column("node")?.str()?.iter().for_each(|node| writer.has_node(node));
            }
            writer.write(table, &mut frame)
        })?;
    }
    writer.finish()
}

/// Writes one part in place of several small ones of one application.
fn merge(root: &Path, parts: &[&Part], id: u64) -> Result<Option<Part>, StoreError> {
    let Some(first) = parts.first() else { return Ok(None) };
    let mut writer = PartWriter::begin(root, empty(first, id));
    let order = order(root, parts, &mut writer)?;
    let tables: BTreeSet<&String> = parts.iter().flat_map(|part| part.rows.keys()).collect();
    for table in tables {
        let mut whole: Option<DataFrame> = None;
        for part in parts {
            scan(root, part, table, None, usize::MAX, &mut |frame| {
                match &mut whole {
                    Some(whole) => {
                        whole.vstack_mut_owned(frame)?;
                    }
                    None => whole = Some(frame),
                }
                Ok(())
            })?;
        }
        let Some(mut whole) = whole else { continue };
        whole.rechunk_mut();
        let owners = whole.column(owner_column(table))?.str()?;
        let mut places: Vec<(usize, IdxSize)> = owners
            .iter()
            .enumerate()
            .map(|(at, owner)| {
                let rank = owner.and_then(|owner| order.get(owner)).copied();
                (rank.unwrap_or(usize::MAX), at as IdxSize)
            })
            .collect();
        places.sort_unstable();
        let places: Vec<IdxSize> = places.into_iter().map(|(_, at)| at).collect();
        let mut whole = whole.take(&IdxCa::from_vec("at".into(), places))?;
        writer.write(table, &mut whole)?;
    }
    writer.finish()
}

/// Process -> its place in the order of nodes and ids.
fn order(
    root: &Path,
    parts: &[&Part],
    writer: &mut PartWriter<'_>,
) -> Result<HashMap<String, usize>, StoreError> {
    let mut processes = Vec::new();
    for part in parts {
        let columns = ["node", "process_id"];
        scan(root, part, Table::Processes.name(), Some(&columns), ROWS_AT_ONCE, &mut |frame| {
            let nodes = frame.column("node")?.str()?;
            let ids = frame.column("process_id")?.str()?;
            for (node, id) in nodes.iter().zip(ids.iter()) {
                writer.has_node(node);
                processes.push((node.map(str::to_owned), id.unwrap_or_default().to_owned()));
            }
            Ok(())
        })?;
    }
    processes.sort_unstable();
    Ok(processes.into_iter().enumerate().map(|(at, (_, id))| (id, at)).collect())
}

/// Puts small parts together, application by application.
///
/// # Errors
/// When the store cannot be read or written.
pub fn compact(root: &Path, manifest: &mut Manifest) -> Result<(), StoreError> {
    let mut small: BTreeMap<(Option<String>, String), Vec<Part>> = BTreeMap::new();
    for part in &manifest.parts {
        if part.log.is_none() && part.bytes < SMALL_BYTES {
            let kind = format!("{:?}", part.snapshots);
            small.entry((part.application.clone(), kind)).or_default().push(part.clone());
        }
    }
    for parts in small.into_values().filter(|parts| parts.len() >= MANY) {
        let mut rest = parts.iter().collect::<Vec<_>>();
        rest.sort_by(|one, other| one.nodes.cmp(&other.nodes));
        while rest.len() > 1 {
            let mut bytes = 0;
            let fit = rest.iter().take_while(|part| {
                bytes += part.bytes;
                bytes <= MERGED_BYTES
            });
            let count = fit.count().max(1);
            let group: Vec<&Part> = rest.drain(..count).collect();
            if group.len() > 1 {
                let old = group.iter().map(|part| part.id).collect();
                let merged = merge(root, &group, manifest.number())?;
                manifest.exchange(root, &old, merged.into_iter().collect())?;
            }
        }
    }
    Ok(())
}
