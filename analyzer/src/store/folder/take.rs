//! The parts of record files: by all processors at once.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use polars::prelude::{Column, DataFrame, NamedFrom, Series};

use crate::model::snapshot_policy::Snapshots;
use crate::store::api::{Progress, Taken};
use crate::store::error::StoreError;
use crate::store::folder::known::{Known, unpack};
use crate::store::folder::manifest::Manifest;
use crate::store::ingest::{Output, Plan, Source, Worker, plan, take_inventory};
use crate::store::kept::PIECE_BYTES;
use crate::store::parquet::PartWriter;
use crate::store::part::{KEPT, Part};
use crate::store::process_tables::Origin;
use crate::store::table::Table;

/// Input of a part, in bytes: large enough that parts are few, small enough to be rewritten at ease.
const PART_INPUT_BYTES: std::ops::RangeInclusive<u64> = (16 << 20)..=(256 << 20);
/// Kept sources that are written at once.
const KEPT_BYTES_AT_ONCE: usize = 16 << 20;

/// New parts, the processes in them, and what to tell.
pub struct Made {
    /// The parts.
    pub parts: Vec<Part>,
    /// The processes.
    pub processes: HashSet<String>,
    /// What to tell.
    pub taken: Taken,
}

/// Makes the tables of all processes of which the files say something new.
///
/// # Errors
/// When the store cannot be read or written.
pub fn take(
    root: &Path,
    manifest: &mut Manifest,
    known: &Known,
    files: &[PathBuf],
    snapshots: Snapshots,
    progress: Progress<'_>,
) -> Result<Made, StoreError> {
    let mut taken = Taken::default();
    let (mut plans, mut wanted) = (Vec::new(), HashSet::new());
    for (id, files) in take_inventory(files, &mut taken, progress) {
        let process = known.processes.get(&id);
        if let Some((plan, rest)) = plan(&id, &files, process, snapshots, &mut taken, progress) {
            wanted.extend(rest.into_iter().map(|segment| (id.clone(), segment)));
            plans.push(plan);
        }
    }
    let unpacked = unpack(root, manifest, known, &wanted)?;
    for plan in &mut plans {
        let Some(process) = known.processes.get(&plan.id) else { continue };
        for (&segment, completeness) in &process.segments {
            if let Some(path) = unpacked.get(&(plan.id.clone(), segment)) {
                let source = Source { path: path.clone(), kept_of: Some(*completeness) };
                plan.segments.insert(segment, source);
            }
        }
    }
    plans.sort_by(|one, other| {
        (&one.application, &one.node, &one.id).cmp(&(&other.application, &other.node, &other.id))
    });
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let alone = Folders::of(&plans);
    let chunks = chunks(plans, processors as u64, &alone);
    let jobs: Vec<(Part, Vec<Plan>)> = chunks
        .into_iter()
        .map(|plans| {
            let first = plans.first();
            let snapshots = first.map_or(snapshots, |plan| plan.snapshots);
            let mut part = Part::empty(manifest.number(), snapshots);
            part.application = first.and_then(|plan| alone.folder(plan)).map(str::to_owned);
            (part, plans)
        })
        .collect();
    let todo = Mutex::new(jobs.into_iter());
    let made = Mutex::new(Ok(Made { parts: Vec::new(), processes: HashSet::new(), taken }));
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                loop {
                    let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((part, plans)) = next else { return };
                    let done = make(root, part, &plans, progress);
                    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                    match (&mut *made, done) {
                        (Ok(made), Ok((part, taken))) => {
                            made.parts.extend(part);
                            made.processes.extend(plans.into_iter().map(|plan| plan.id));
                            made.taken.join(taken);
                        }
                        (Ok(_), Err(error)) => *made = Err(error),
                        // The first failure ends the ingest.
                        (Err(_), _) => return,
                    }
                }
            });
        }
    });
    made.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Applications that come together and have folders of their own; of more, small ones share those of no
/// application: thousands of them would be tens of thousands of folders and files.
const MANY_APPLICATIONS: usize = 100;
/// An application with fewer bytes is small.
const SMALL_BYTES: u64 = 1 << 20;

/// Which applications have folders of their own.
struct Folders {
    /// Application -> its bytes; nothing if there are few.
    bytes: HashMap<Option<String>, u64>,
}

impl Folders {
    fn of(plans: &[Plan]) -> Folders {
        let mut bytes: HashMap<Option<String>, u64> = HashMap::new();
        for plan in plans {
            *bytes.entry(plan.application.clone()).or_default() += plan.bytes;
        }
        if bytes.len() <= MANY_APPLICATIONS {
            bytes.clear();
        }
        Folders { bytes }
    }

    /// The application in whose folder a process's rows go.
    fn folder<'p>(&self, plan: &'p Plan) -> Option<&'p str> {
        let is_small = |bytes: &u64| *bytes < SMALL_BYTES;
        let shares = self.bytes.get(&plan.application).is_some_and(is_small);
        plan.application.as_deref().filter(|_| !shares)
    }
}

/// Cuts the plans, which are in their order, into parts of one folder.
fn chunks(plans: Vec<Plan>, processors: u64, folders: &Folders) -> Vec<Vec<Plan>> {
    let whole: u64 = plans.iter().map(|plan| plan.bytes).sum();
    let limit =
        (whole / (4 * processors)).clamp(*PART_INPUT_BYTES.start(), *PART_INPUT_BYTES.end());
    let mut chunks: Vec<Vec<Plan>> = Vec::new();
    let mut bytes = 0;
    for plan in plans {
        let fits = chunks.last().and_then(|chunk| chunk.last()).is_some_and(|last| {
            (folders.folder(last), last.snapshots) == (folders.folder(&plan), plan.snapshots)
                && !last.is_alone
                && !plan.is_alone
                && bytes + plan.bytes <= limit
        });
        if fits {
            bytes += plan.bytes;
        } else {
            bytes = plan.bytes;
            chunks.push(Vec::new());
        }
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(plan);
        }
    }
    chunks
}

/// Makes one part.
fn make(
    root: &Path,
    part: Part,
    plans: &[Plan],
    progress: Progress<'_>,
) -> Result<(Option<Part>, Taken), StoreError> {
    let out = PartOutput { writer: PartWriter::begin(root, part), kept: Kept::default() };
    let (mut out, taken) = Worker::begin(out, progress).run(plans)?;
    out.writer.write(KEPT, &mut out.kept.take()?)?;
    Ok((out.writer.finish()?, taken))
}

/// Writes a part.
struct PartOutput<'s> {
    writer: PartWriter<'s>,
    kept: Kept,
}

impl Output for PartOutput<'_> {
    fn rows(&mut self, table: Table, mut frame: DataFrame) -> Result<(), StoreError> {
        self.writer.write(table.name(), &mut frame)
    }

    fn keep(
        &mut self,
        process: &str,
        segment: u32,
        piece: u32,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.kept.sources.push(process.to_owned());
        self.kept.segments.push(segment.into());
        self.kept.pieces.push(piece.into());
        self.kept.bytes.push(bytes.to_vec());
        if self.kept.bytes.len() * PIECE_BYTES > KEPT_BYTES_AT_ONCE {
            self.writer.write(KEPT, &mut self.kept.take()?)?;
        }
        Ok(())
    }

    fn close(&mut self, plan: &Plan, origin: &Origin, _has_ended: bool) -> Result<(), StoreError> {
        self.writer.has_node(origin.node.as_deref());
        // It has a part of its own.
        if plan.is_alone {
            self.writer.is_of(origin.application.clone());
        }
        Ok(())
    }
}

/// Pieces of kept sources that are not written yet.
#[derive(Default)]
struct Kept {
    sources: Vec<String>,
    segments: Vec<i64>,
    pieces: Vec<i64>,
    bytes: Vec<Vec<u8>>,
}

impl Kept {
    fn take(&mut self) -> Result<DataFrame, StoreError> {
        let kept = std::mem::take(self);
        let bytes: Vec<&[u8]> = kept.bytes.iter().map(Vec::as_slice).collect();
        let columns: Vec<Column> = vec![
            Series::new("source".into(), kept.sources).into(),
            Series::new("segment".into(), kept.segments).into(),
            Series::new("part".into(), kept.pieces).into(),
            Series::new("bytes".into(), bytes).into(),
        ];
        Ok(DataFrame::new(columns[0].len(), columns)?)
    }
}
