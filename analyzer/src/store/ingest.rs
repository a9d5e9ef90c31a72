//! Taking record files in: which processes changed, and the rows of their tables, for either store.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::prelude::DataFrame;
use records::{ProcessEndReason, TaskMethod};

use crate::input::record_files::RecordStream;
use crate::model::history::History;
use crate::model::snapshot_policy::Snapshots;
use crate::store::api::{Progress, Taken};
use crate::store::claims::{self, Claim, Owner};
use crate::store::error::StoreError;
use crate::store::kept::{Completeness, Wanted, pack};
use crate::store::parquet::ROWS_PER_GROUP;
use crate::store::process_tables::{Origin, Rows, missing_segments};
use crate::store::table::Table;
use crate::text::field::{hex, known_id};

/// Groups of a process after which what is settled goes to the tables.
const GROUPS_AT_ONCE: usize = 4096;

/// A segment to be read.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// How complete the file was that this was kept of; none if this is the file.
    pub kept_of: Option<Completeness>,
}

/// A process to be read.
#[derive(Debug)]
pub struct Plan {
    /// Its id.
    pub id: String,
    /// Its application, as its last header has it.
    pub application: Option<String>,
    /// Its node.
    pub node: Option<String>,
    /// Its segments.
    pub segments: BTreeMap<u32, Source>,
    /// Bytes of its files.
    pub bytes: u64,
    /// Which snapshots are to be in its tables.
    pub snapshots: Snapshots,
    /// Whether only its tasks may say which application it is of, as a driver's in local mode do.
    pub is_alone: bool,
}

/// A file that was found.
#[derive(Clone, Debug)]
pub struct Found {
    path: PathBuf,
    claim: Claim,
    owner: Owner,
    header: LastHeader,
    /// Its bytes.
    pub bytes: u64,
}

/// What a header says; a process's last one counts.
#[derive(Clone, Debug, Default)]
struct LastHeader {
    application: Option<String>,
    node: Option<String>,
    has_tasks: bool,
}

/// The files of a process.
#[derive(Debug, Default)]
pub struct Files {
    /// By segment.
    pub segments: BTreeMap<u32, Vec<Found>>,
}

impl Files {
    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.segments.values().flatten().map(|file| file.bytes).sum()
    }
}

/// A process of the store.
#[derive(Debug, Default)]
pub struct KnownProcess {
    /// Which snapshots were kept of it.
    pub snapshots: Snapshots,
    /// Its segments.
    pub segments: BTreeMap<u32, Completeness>,
    /// Whether its sources are kept.
    pub is_kept: bool,
    /// What its first header said that it is.
    pub claim: Option<Claim>,
}

/// The columns of [`Completeness`] in the table of segments.
pub const COUNTS: [&str; 7] = [
    "groups",
    "bytes",
    "damaged_bytes",
    "empty_bytes",
    "incomplete_bytes",
    "unknown_bytes",
    "torn_tail_bytes",
];

/// The values of [`COUNTS`], as what they stand for.
pub fn completeness(counts: [u64; COUNTS.len()]) -> Completeness {
    let [groups, bytes, damaged, empty, incomplete, unknown, torn_tail] = counts;
    Completeness { groups, bytes, damaged, empty, incomplete, unknown, torn_tail }
}

/// Reads all headers.
pub fn take_inventory(
    files: &[PathBuf],
    taken: &mut Taken,
    progress: Progress<'_>,
) -> BTreeMap<String, Files> {
    let mut inventory: BTreeMap<String, Files> = BTreeMap::new();
    for path in files {
        let opened = RecordStream::open(path);
        let (stream, metadata) = match opened.and_then(|stream| Ok((stream.metadata()?, stream))) {
            Ok((metadata, stream)) => (stream, metadata),
            Err(message) => {
                taken.left_out.push(message);
                progress(std::fs::metadata(path).map_or(0, |metadata| metadata.len()));
                continue;
            }
        };
        let segment = match stream.segment() {
            Ok(segment) => segment,
            Err(message) => {
                taken.left_out.push(message);
                progress(metadata.len());
                continue;
            }
        };
        let header = segment.header();
        let id = hex(&header.process_id);
        taken.applications.extend(known_id(header.application_id));
        taken.processes.insert(id.clone());
        let files = inventory.entry(id).or_default();
        let found = Found {
            path: path.clone(),
            claim: Claim::of(header),
            owner: Owner::of(&metadata),
            header: LastHeader {
                application: known_id(header.application_id),
                node: known_id(header.node),
                has_tasks: header.role == b"driver" || header.task_method != TaskMethod::UNKNOWN,
            },
            bytes: metadata.len(),
        };
        files.segments.entry(header.segment).or_default().push(found);
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

/// What is to be done with the files of a process, and the kept segments that are needed besides; `None` if
/// they say nothing new.
pub fn plan(
    id: &str,
    files: &Files,
    process: Option<&KnownProcess>,
    snapshots: Snapshots,
    taken: &mut Taken,
    progress: Progress<'_>,
) -> Option<(Plan, Vec<u32>)> {
    let all = files.segments.values().flatten();
    let all = all.map(|file| (file.path.as_path(), &file.claim, file.owner));
    let own = claims::own(id, all, process.and_then(|process| process.claim.as_ref()), taken);
    let own: HashSet<&Path> = own.into_iter().collect();
    let mut last = LastHeader::default();
    let is_finer = process.is_some_and(|process| snapshots.is_finer_than(process.snapshots));
    let (mut sources, mut new, mut old, mut bytes) = (BTreeMap::new(), 0, 0, 0);
    for (segment, mut found) in files.segments.clone() {
        found.retain(|file| own.contains(file.path.as_path()));
        // They come in their order.
        if let Some(file) = found.last() {
            last = file.header.clone();
        }
        if found.is_empty() {
            continue;
        }
        let stored = process.and_then(|process| process.segments.get(&segment));
        let is_same = |file: &Found| {
            stored.is_some_and(|stored| stored.bytes == file.bytes && stored.left_out() == 0)
        };
        if found.len() == 1 && (stored.is_none() || is_same(&found[0])) {
            let Found { path, bytes: size, .. } = found.remove(0);
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
        for file in found {
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
        return None;
    }
    taken.new_segments += new;
    taken.known_segments += old;
    if !is_new {
        return None;
    }
    let stored = process.map(|process| process.snapshots).unwrap_or_default();
    let snapshots = snapshots.or_finer(stored);
    let plan = Plan {
        id: id.to_owned(),
        is_alone: last.application.is_none() && last.has_tasks,
        application: last.application,
        node: last.node,
        segments: sources,
        bytes,
        snapshots,
    };
    Some((plan, rest))
}

/// Segments that the store knows better than the files do.
fn missing_sources(process: &KnownProcess, sources: &BTreeMap<u32, Source>) -> Vec<u32> {
    process.segments.keys().filter(|segment| !sources.contains_key(segment)).copied().collect()
}

/// Where the rows of processes go.
pub trait Output {
    /// Takes rows of a table.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn rows(&mut self, table: Table, frame: DataFrame) -> Result<(), StoreError>;

    /// Takes a piece of a packed segment of a process that may still grow, in their order.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn keep(
        &mut self,
        process: &str,
        segment: u32,
        piece: u32,
        bytes: &[u8],
    ) -> Result<(), StoreError>;

    /// A process is through, but for rows that are still to come.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn close(&mut self, plan: &Plan, origin: &Origin, has_ended: bool) -> Result<(), StoreError>;
}

/// Makes the tables of processes, one after the other; memory does not grow with them.
pub struct Worker<'s, O> {
    out: O,
    progress: Progress<'s>,
    rows: Rows,
    /// What to tell.
    taken: Taken,
}

impl<'s, O: Output> Worker<'s, O> {
    /// Begins with nothing.
    pub fn begin(out: O, progress: Progress<'s>) -> Worker<'s, O> {
        Worker { out, progress, rows: Rows::default(), taken: Taken::default() }
    }

    /// Makes the tables of these processes.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn run(mut self, plans: &[Plan]) -> Result<(O, Taken), StoreError> {
        for plan in plans {
            self.take(plan)?;
        }
        for table in Table::of_processes() {
            self.flush(table)?;
        }
        Ok((self.out, self.taken))
    }

    fn flush(&mut self, table: Table) -> Result<(), StoreError> {
        if self.rows.len(table) == 0 {
            return Ok(());
        }
        match self.rows.take(table)? {
            Some(frame) => self.out.rows(table, frame),
            None => Ok(()),
        }
    }

    fn flush_full(&mut self) -> Result<(), StoreError> {
        for table in Table::of_processes() {
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
                Err(message) => self.taken.left_out.push(message),
            }
        }
        let Some((_, _, last)) = streams.last() else { return Ok(()) };
        let head = Arc::new(last.head().to_vec());
        let mut history = History::new(plan.snapshots);
        let mut seen = Vec::new();
        let mut wanted = Vec::new();
        for (number, source, stream) in &streams {
            let segment = stream.segment().map_err(StoreError::Source)?;
            history.begin_segment(segment.header());
            let mut one = Wanted::new(plan.snapshots);
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
                self.taken.note_damage(&source.path, &read.left_out);
                (self.progress)(read.bytes);
            }
            let completeness = Completeness::of(read.bytes, read.groups, &read.left_out);
            seen.push((*number, source.kept_of.unwrap_or(completeness)));
            wanted.push(one);
        }
        let is_whole = missing_segments(&seen) == 0;
        history.finish(is_whole);
        self.taken.applications.extend(history.application.value().map(str::to_owned));
        // Of such a process nothing more can come: it needs no sources.
        let has_ended = history.end.is_some_and(|(reason, _)| reason != ProcessEndReason::EXEC)
            && is_whole
            && seen.iter().all(|(_, one)| one.left_out() == 0);
        let last_stream = streams.last().map(|(_, _, stream)| stream);
        let Some(last) = last_stream else { return Ok(()) };
        let segment = last.segment().map_err(StoreError::Source)?;
        let origin = Arc::new(Origin::of(segment.header(), &history));
        self.rows.close(&origin, head, history, &seen);
        self.out.close(plan, &origin, has_ended)?;
        if !has_ended {
            for (((number, _, stream), wanted), (_, completeness)) in
                streams.iter().zip(wanted).zip(&seen)
            {
                let mut piece = 0;
                pack(stream, completeness, wanted, &mut |bytes| {
                    piece += 1;
                    self.out.keep(&plan.id, *number, piece - 1, bytes)
                })?;
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
