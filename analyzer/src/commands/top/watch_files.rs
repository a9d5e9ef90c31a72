//! Record files as they grow.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use elf::regular_file;
use records::{
    Event, Flags, Group, MAX_HEADER_BYTES, METRICS, ReadError, Segment, file_name, metric,
};

use crate::commands::top::threads::{Process, Task, Threads};
use crate::console::exit::{Exit, Failure};
use crate::input::record_files;
use crate::report::rows::Counted;
use crate::text::field::{hex, known};

/// So much of a file is read at a time.
const PIECE_BYTES: u64 = 4 << 20;

/// The record files below some paths.
pub struct RecordFiles {
    paths: Vec<PathBuf>,
    /// Process id -> its newest segment: every segment repeats what a reader has to know.
    newest: BTreeMap<String, Followed>,
}

/// A file that is read as it grows.
struct Followed {
    path: PathBuf,
    segment: u32,
    /// Header, once it is whole.
    header: Vec<u8>,
    /// Offset of what was not read yet.
    position: u64,
}

impl RecordFiles {
    /// The files below these paths, at any depth.
    pub fn below(paths: &[PathBuf]) -> RecordFiles {
        RecordFiles { paths: paths.to_vec(), newest: BTreeMap::new() }
    }

    /// Reads what is new.
    ///
    /// # Errors
    /// When a path does not exist or cannot be listed.
    pub fn look(&mut self, threads: &mut Threads) -> Result<(), Failure> {
        let found = record_files::find(&self.paths)
            .map_err(|message| Failure::new(Exit::BadInput, message))?;
        for path in found.files {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some((process, segment)) = name.and_then(file_name::parse) else { continue };
            let process = hex(&process);
            let is_newer = |old: &Followed| segment > old.segment;
            if self.newest.get(&process).is_none_or(is_newer) {
                let followed = Followed { path, segment, header: Vec::new(), position: 0 };
                self.newest.insert(process, followed);
            }
        }
        for (process, file) in &mut self.newest {
            // A file that is gone, or no record file, tells nothing: others may.
            let _ = file.read(process, threads);
            if let Some(of) = threads.processes.get_mut(process)
                && !of.has_ended
            {
                of.has_ended = !Path::new(&format!("/proc/{}", of.pid)).exists();
            }
        }
        Ok(())
    }
}

impl Followed {
    fn read(&mut self, process: &str, threads: &mut Threads) -> std::io::Result<()> {
        let mut file = regular_file::open(&self.path)?;
        if self.header.is_empty() {
            let mut start = Vec::new();
            (&file).take(MAX_HEADER_BYTES as u64).read_to_end(&mut start)?;
            let length = match Segment::parse(&start) {
                Ok(segment) => segment.records_at(),
                Err(ReadError::TooShort { .. } | ReadError::Empty) => return Ok(()),
                Err(error) => return Err(std::io::Error::other(error.to_string())),
            };
            start.truncate(length);
            self.header = start;
            self.position = length as u64;
        }
        let Ok(segment) = Segment::parse(&self.header) else { return Ok(()) };
        let header = segment.header();
        let of = threads
            .processes
            .entry(process.to_owned())
            .or_insert_with(|| Process { pid: header.pid.into(), ..Process::default() });
        of.node = known(header.node).or(of.node.take());
        of.role = known(header.role).or(of.role.take());
        of.application = known(header.application_id).or(of.application.take());
        of.executor = known(header.executor_id).or(of.executor.take());
        loop {
            self.position += record_files::hole_at(&file, self.position as usize)? as u64;
            file.seek(SeekFrom::Start(self.position))?;
            let mut piece = Vec::new();
            (&file).take(PIECE_BYTES).read_to_end(&mut piece)?;
            let mut groups = segment.groups_in(&piece, self.position as usize, false);
            for group in groups.by_ref() {
                take(threads, process, &group);
            }
            let position = groups.position() as u64;
            let is_at_end = position == self.position || (piece.len() as u64) < PIECE_BYTES;
            self.position = position;
            if is_at_end {
                return Ok(());
            }
        }
    }
}

/// The counters of a group. What no engine counted is unknown, not 0.
fn counted(group: &Group<'_>) -> Option<Counted> {
    let values = group.values.as_ref()?;
    let is_followed = group.flags.contains(Flags::FOLLOWED);
    let was_released = group.flags.contains(Flags::WAS_RELEASED);
    let of = |at: usize| {
        let value = values.get(at)?;
        let is_nobodys = METRICS[at].is_engine()
            && !is_followed
            && !was_released
            && values.get(metric::INSTRUCTIONS) == Some(0);
        (!is_nobodys).then_some(value)
    };
    Some(Counted {
        values: std::array::from_fn(of),
        is_partial: was_released,
        is_exact: is_followed && !was_released,
    })
}

fn take(threads: &mut Threads, process: &str, group: &Group<'_>) {
    let at_ns = group.stamp.mono_ns;
    if let Some(of) = threads.processes.get_mut(process) {
        of.last_ns = of.last_ns.max(at_ns);
        of.has_ended |= matches!(group.event, Event::ProcessEnd { .. });
        if let Event::TaskStart(task) = &group.event {
            of.application = known(task.application_id).or(of.application.take());
            of.executor = known(task.executor_id).or(of.executor.take());
        }
    }
    if group.tid == 0 {
        return;
    }
    let thread = threads.threads.entry((process.to_owned(), group.tid.into())).or_default();
    let counted = counted(group);
    match &group.event {
        Event::ThreadStart { name } => {
            // The system gives numbers of ended threads to new ones.
            if std::mem::take(&mut thread.has_ended) {
                *thread = crate::commands::top::threads::Thread::default();
            }
            thread.name = known(name).or(thread.name.take());
        }
        Event::TaskStart(task) => {
            if let Some(at_start) = &counted {
                thread.task = Some(Task {
                    stage: (task.stage.into(), task.stage_attempt.into()),
                    task: task.task_id,
                    since_ns: at_ns,
                    at_start: at_start.clone(),
                });
            }
        }
        Event::TaskEnd { .. } => thread.task = None,
        Event::ThreadEnd => {
            thread.task = None;
            thread.has_ended = true;
        }
        _ => {}
    }
    if let Some(counted) = counted {
        thread.sample(at_ns, counted);
    }
}
