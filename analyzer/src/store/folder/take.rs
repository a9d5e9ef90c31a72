//! Taking record files in: which processes changed, and their tables, by all processors at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use polars::prelude::{Column, DataFrame, NamedFrom, Series};
use records::{ProcessEndReason, TaskMethod};

use super::super::kept::{Completeness, Wanted, pack};
use super::super::process_tables::{Origin, Rows, missing_segments};
use super::super::{Progress, Snapshots, StoreError, Table, Taken};
use super::known::{Known, KnownProcess, unpack};
use super::manifest::{KEPT, Manifest, Part};
use super::part::{PartWriter, ROWS_PER_GROUP};
use crate::history::History;
use crate::record_files::{RecordStream, hex, known as known_text};

/// Input of a part, in bytes: large enough that parts are few, small enough to be rewritten at ease.
const PART_INPUT_BYTES: std::ops::RangeInclusive<u64> = (16 << 20)..=(256 << 20);
/// Groups of a process after which what is settled goes to the tables.
const GROUPS_AT_ONCE: usize = 4096;
/// Kept sources are cut to pieces of this size.
const KEPT_PIECE_BYTES: usize = 768 << 10;
/// Kept sources that are written at once.
const KEPT_BYTES_AT_ONCE: usize = 16 << 20;

/// A segment to be read.
#[derive(Clone, Debug)]
struct Source {
    path: PathBuf,
    /// How complete the file was that this was kept of; none if this is the file.
    kept_of: Option<Completeness>,
}

/// A process to be read.
#[derive(Debug)]
struct Plan {
    id: String,
    application: Option<String>,
    node: Option<String>,
    segments: BTreeMap<u32, Source>,
    bytes: u64,
    snapshots: Snapshots,
    /// Whether only its tasks may say which application it is of, as a driver's in local mode do: then it
    /// has a part of its own.
    is_alone: bool,
}

/// A file that was found.
struct Found {
    path: PathBuf,
    bytes: u64,
}

/// What a process's last header says.
#[derive(Clone, Default)]
struct LastHeader {
    segment: u32,
    application: Option<String>,
    node: Option<String>,
    has_tasks: bool,
}

/// What the files say before they are read.
#[derive(Default)]
struct Inventory {
    /// Process -> segment -> files.
    processes: BTreeMap<String, BTreeMap<u32, Vec<Found>>>,
    /// Process -> what its last header says.
    places: HashMap<String, LastHeader>,
}

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
    let inventory = take_inventory(files, &mut taken, progress);
    let (mut plans, wanted) = plan(inventory, known, snapshots, &mut taken, progress);
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
    let chunks = chunks(plans, processors as u64);
    let jobs: Vec<(Part, Vec<Plan>)> = chunks
        .into_iter()
        .map(|plans| {
            let part = Part {
                id: manifest.number(),
                application: plans.first().and_then(|plan| plan.application.clone()),
                log: None,
                nodes: None,
                rows: BTreeMap::new(),
                bytes: 0,
                snapshots: plans.first().map_or(snapshots, |plan| plan.snapshots),
            };
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
                    let done = Worker::begin(root, part, progress).run(&plans);
                    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                    match (&mut *made, done) {
                        (Ok(made), Ok((part, told))) => {
                            made.parts.extend(part);
                            made.processes.extend(told.processes);
                            made.taken.join(told.taken);
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

/// Reads all headers.
fn take_inventory(files: &[PathBuf], taken: &mut Taken, progress: Progress<'_>) -> Inventory {
    let mut inventory = Inventory::default();
    for path in files {
        let opened = RecordStream::open(path);
        let (stream, bytes) = match opened.and_then(|stream| Ok((stream.bytes()?, stream))) {
            Ok((bytes, stream)) => (stream, bytes),
            Err(message) => {
                taken.left_out.push(message);
                progress(std::fs::metadata(path).map_or(0, |metadata| metadata.len()));
                continue;
            }
        };
        let Ok(segment) = stream.segment() else { continue };
        let header = segment.header();
        let id = hex(&header.process_id);
        taken.applications.extend(known_text(header.application_id));
        taken.processes.insert(id.clone());
        let place = inventory.places.entry(id.clone()).or_default();
        if header.segment >= place.segment {
            *place = LastHeader {
                segment: header.segment,
                application: known_text(header.application_id),
                node: known_text(header.node),
                has_tasks: header.role == b"driver" || header.task_method != TaskMethod::UNKNOWN,
            };
        }
        let segments = inventory.processes.entry(id).or_default();
        segments.entry(header.segment).or_default().push(Found { path: path.clone(), bytes });
    }
    inventory
}

/// How complete a file is, and whether damage was told.
fn measure(path: &Path, taken: &mut Taken) -> Option<Completeness> {
    let measured = RecordStream::open(path).and_then(|stream| {
        let read = stream.read(&stream.segment()?, &mut |_, _| {})?;
        Ok((Completeness::of(read.bytes, read.groups, &read.left_out), read))
    });
    match measured {
        Ok((completeness, read)) => {
            taken.note_damage(path, &read.left_out);
            Some(completeness)
        }
        Err(message) => {
            taken.left_out.push(message);
            None
        }
    }
}

/// The processes of which there is something new, and the kept segments that they need besides.
fn plan(
    inventory: Inventory,
    known: &Known,
    snapshots: Snapshots,
    taken: &mut Taken,
    progress: Progress<'_>,
) -> (Vec<Plan>, HashSet<(String, u32)>) {
    let (mut plans, mut wanted) = (Vec::new(), HashSet::new());
    for (id, segments) in inventory.processes {
        let process = known.processes.get(&id);
        let is_finer = process.is_some_and(|process| snapshots.is_finer_than(process.snapshots));
        let (mut sources, mut new, mut old, mut bytes) = (BTreeMap::new(), 0, 0, 0);
        for (segment, mut files) in segments {
            let stored = process.and_then(|process| process.segments.get(&segment));
            let is_same = |file: &Found| {
                stored.is_some_and(|stored| stored.bytes == file.bytes && stored.left_out() == 0)
            };
            if files.len() == 1 && (stored.is_none() || is_same(&files[0])) {
                let Found { path, bytes: size } = files.remove(0);
                match stored {
                    None => new += 1,
                    Some(_) => {
                        old += 1;
                        if !is_finer {
                            progress(size);
                        }
                    }
                }
                bytes += size;
                sources.insert(segment, Source { path, kept_of: None });
                continue;
            }
            let mut best: Option<(Completeness, Found)> = None;
            for file in files {
                let Some(completeness) = measure(&file.path, taken) else { continue };
                if best.as_ref().is_none_or(|(one, _)| completeness.is_better_than(one)) {
                    if best.is_some() {
                        old += 1;
                    }
                    best = Some((completeness, file));
                } else {
                    old += 1;
                }
            }
            let Some((completeness, file)) = best else { continue };
            let is_better = stored.is_none_or(|stored| completeness.is_better_than(stored));
            let is_as_good = stored.is_none_or(|stored| !stored.is_better_than(&completeness));
            if is_better {
                new += 1;
            } else {
                old += 1;
                progress(file.bytes);
            }
            if is_as_good {
                bytes += file.bytes;
                sources.insert(segment, Source { path: file.path, kept_of: None });
            }
        }
        let is_new = new > 0 || (is_finer && old > 0);
        let rest = process.map(|process| missing_sources(process, &sources)).unwrap_or_default();
        let can_be_remade = rest.is_empty() || process.is_some_and(|process| process.is_kept);
        if is_new && !can_be_remade {
            if new > 0 {
                let message = format!(
                    "process {id}: a record file has grown after the process's end, and the others are not \
                     kept; give all record files of the process at once"
                );
                taken.warnings.push(message);
            }
            taken.known_segments += new + old;
            continue;
        }
        taken.new_segments += new;
        taken.known_segments += old;
        if !is_new {
            continue;
        }
        wanted.extend(rest.into_iter().map(|segment| (id.clone(), segment)));
        let last = inventory.places.get(&id).cloned().unwrap_or_default();
        let stored = process.map(|process| process.snapshots).unwrap_or_default();
        let snapshots = snapshots.or_finer(stored);
        plans.push(Plan {
            id,
            is_alone: last.application.is_none() && last.has_tasks,
            application: last.application,
            node: last.node,
            segments: sources,
            bytes,
            snapshots,
        });
    }
    (plans, wanted)
}

/// Segments that the store knows better than the files do.
fn missing_sources(process: &KnownProcess, sources: &BTreeMap<u32, Source>) -> Vec<u32> {
    process.segments.keys().filter(|segment| !sources.contains_key(segment)).copied().collect()
}

/// Cuts the plans, which are in their order, into parts of one application.
fn chunks(plans: Vec<Plan>, processors: u64) -> Vec<Vec<Plan>> {
    let whole: u64 = plans.iter().map(|plan| plan.bytes).sum();
    let limit =
        (whole / (4 * processors)).clamp(*PART_INPUT_BYTES.start(), *PART_INPUT_BYTES.end());
    let mut chunks: Vec<Vec<Plan>> = Vec::new();
    let mut bytes = 0;
    for plan in plans {
        let fits = chunks.last().and_then(|chunk| chunk.last()).is_some_and(|last| {
            (&last.application, last.snapshots) == (&plan.application, plan.snapshots)
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

/// Writes a part.
struct Worker<'s> {
    writer: PartWriter<'s>,
    snapshots: Snapshots,
    progress: Progress<'s>,
    rows: Rows,
    kept: Kept,
    told: Told,
}

/// What a worker has to tell.
#[derive(Default)]
struct Told {
    processes: HashSet<String>,
    taken: Taken,
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
    fn add(&mut self, id: &str, segment: u32, packed: &[u8]) {
        for (piece, bytes) in packed.chunks(KEPT_PIECE_BYTES).enumerate() {
            self.sources.push(id.to_owned());
            self.segments.push(segment.into());
            self.pieces.push(piece as i64);
            self.bytes.push(bytes.to_vec());
        }
    }

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

/// The tables that a worker makes.
const TABLES: [Table; 6] = [
    Table::Processes,
    Table::Threads,
    Table::Tasks,
    Table::Notices,
    Table::Segments,
    Table::Snapshots,
];

impl<'s> Worker<'s> {
    fn begin(root: &'s Path, part: Part, progress: Progress<'s>) -> Worker<'s> {
        Worker {
            snapshots: part.snapshots,
            writer: PartWriter::begin(root, part),
            progress,
            rows: Rows::default(),
            kept: Kept::default(),
            told: Told::default(),
        }
    }

    fn run(mut self, plans: &[Plan]) -> Result<(Option<Part>, Told), StoreError> {
        for plan in plans {
            self.take(plan)?;
        }
        for table in TABLES {
            self.flush(table)?;
        }
        self.writer.write(KEPT, &mut self.kept.take()?)?;
        Ok((self.writer.finish()?, self.told))
    }

    fn flush(&mut self, table: Table) -> Result<(), StoreError> {
        if self.rows.len(table) == 0 {
            return Ok(());
        }
        match self.rows.take(table)? {
            Some(mut frame) => self.writer.write(table.name(), &mut frame),
            None => Ok(()),
        }
    }

    fn flush_full(&mut self) -> Result<(), StoreError> {
        for table in TABLES {
            if self.rows.len(table) >= ROWS_PER_GROUP {
                self.flush(table)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, plan: &Plan) -> Result<(), StoreError> {
        let mut streams = Vec::new();
        for (segment, source) in &plan.segments {
            match RecordStream::open(&source.path) {
                Ok(stream) => streams.push((*segment, source, stream)),
                Err(message) => self.told.taken.left_out.push(message),
            }
        }
        let Some((_, _, last)) = streams.last() else { return Ok(()) };
        let head = Arc::new(last.head().to_vec());
        let mut history = History::new(self.snapshots);
        let mut seen = Vec::new();
        let mut wanted = Vec::new();
        for (number, source, stream) in &streams {
            let segment = stream.segment().map_err(StoreError::Source)?;
            history.begin_segment(segment.header());
            let mut one = Wanted::new(self.snapshots);
            let mut groups = 0;
            let mut failed = None;
            let read = stream.read(&segment, &mut |group, _| {
                history.take(group);
                one.see(group);
                groups += 1;
                if groups % GROUPS_AT_ONCE == 0 && failed.is_none() {
                    failed = self.settle(&head, &mut history).err();
                }
            });
            if let Some(error) = failed {
                return Err(error);
            }
            let read = read.map_err(StoreError::Source)?;
            if source.kept_of.is_none() {
                self.told.taken.note_damage(&source.path, &read.left_out);
                (self.progress)(read.bytes);
            }
            let completeness = Completeness::of(read.bytes, read.groups, &read.left_out);
            seen.push((*number, source.kept_of.unwrap_or(completeness)));
            wanted.push(one);
        }
        let is_whole = missing_segments(&seen) == 0;
        history.finish(is_whole);
        self.told.taken.applications.extend(history.application.value().map(str::to_owned));
        // Of such a process nothing more can come: it needs no sources.
        let has_ended = history.end.is_some_and(|(reason, _)| reason != ProcessEndReason::EXEC)
            && is_whole
            && seen.iter().all(|(_, one)| one.left_out() == 0);
        let last_stream = streams.last().map(|(_, _, stream)| stream);
        let Some(last) = last_stream else { return Ok(()) };
        let segment = last.segment().map_err(StoreError::Source)?;
        let origin = Arc::new(Origin::of(segment.header(), &history));
        self.writer.has_node(origin.node.as_deref());
        if plan.is_alone {
            self.writer.is_of(origin.application.clone());
        }
        self.rows.close(&origin, head, history, &seen);
        self.told.processes.insert(plan.id.clone());
        if !has_ended {
            for (((number, _, stream), wanted), (_, completeness)) in
                streams.iter().zip(wanted).zip(&seen)
            {
                let packed = pack(stream, completeness, wanted)?;
                self.kept.add(&plan.id, *number, &packed);
                if self.kept.bytes.len() * KEPT_PIECE_BYTES > KEPT_BYTES_AT_ONCE {
                    self.writer.write(KEPT, &mut self.kept.take()?)?;
                }
            }
        }
        self.flush_full()
    }

    /// Takes what is settled away from a history that goes on.
    fn settle(&mut self, head: &[u8], history: &mut History) -> Result<(), StoreError> {
        let settled = std::mem::take(&mut history.settled);
        let header =
            records::Segment::parse(head).map_err(|error| StoreError::Source(error.to_string()))?;
        let origin = Arc::new(Origin::of(header.header(), history));
        self.rows.add(&origin, settled);
        self.flush_full()
    }
}
