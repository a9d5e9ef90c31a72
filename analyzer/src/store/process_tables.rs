//! The tables of processes: processes, threads, tasks, notices, segments, snapshots, directories.

use std::sync::Arc;

use polars::prelude::{DataFrame, PolarsResult};
use records::metric::Class;
use records::{Flags, Header, MetricSet, Segment, notice};

use crate::model::history::{Directory, History, Remark, Settled, Snapshot, Task, Thread};
use crate::store::columns::Columns;
use crate::store::error::StoreError;
use crate::store::kept::Completeness;
use crate::store::table::Table;
use crate::text::field::{hex, known, known_id};
use crate::text::redaction;
use crate::text::shown::arguments;

/// What all tables say about where a row comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    process: String,
    cluster: Option<String>,
    /// The node.
    pub node: Option<String>,
    /// The application.
    pub application: Option<String>,
    attempt: Option<String>,
    executor: Option<String>,
    /// What to add to CLOCK_MONOTONIC to have CLOCK_REALTIME.
    real_minus_mono: i64,
}

impl Origin {
    /// Of a process whose last segment has this header. A local-mode driver says of its tasks alone which
    /// application and executor they are of.
    pub fn of(header: &Header<'_>, history: &History) -> Origin {
        let or =
            |text: &[u8], sole: Option<&str>| known_id(text).or_else(|| sole.map(str::to_owned));
        Origin {
            process: hex(&header.process_id),
            cluster: known_id(header.cluster),
            node: known_id(header.node),
            application: or(header.application_id, history.application.value()),
            attempt: known_id(header.application_attempt),
            executor: or(header.executor_id, history.executor.value()),
            real_minus_mono: (header.start_real_ns as i64)
                .wrapping_sub(header.start_mono_ns as i64),
        }
    }

    fn real_ns(&self, mono_ns: u64) -> Option<i64> {
        i64::try_from(mono_ns).ok()?.checked_add(self.real_minus_mono)
    }
}

/// Something of a process.
#[derive(Clone, Debug)]
pub struct Of<T> {
    origin: Arc<Origin>,
    what: T,
}

/// A process's own row.
#[derive(Clone, Debug)]
pub struct ProcessRow {
    origin: Arc<Origin>,
    /// Its last segment's header, encoded.
    header: Arc<Vec<u8>>,
    history: History,
    sizes: Sizes,
}

impl ProcessRow {
    fn header(&self) -> Result<Header<'_>, StoreError> {
        let damaged = |error| {
            StoreError::Source(format!("process {}: its header: {error}", self.origin.process))
        };
        Ok(*Segment::parse(&self.header).map_err(damaged)?.header())
    }
}

/// How much there is of a process's files.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    segments: u64,
    missing: u64,
    bytes: u64,
    left_out: u64,
}

/// Rows of any number of processes.
#[derive(Debug, Default)]
pub struct Rows {
    processes: Vec<ProcessRow>,
    threads: Vec<Of<Thread>>,
    tasks: Vec<Of<Task>>,
    notices: Vec<Of<Remark>>,
    segments: Vec<Of<(u32, Completeness)>>,
    snapshots: Vec<Of<Snapshot>>,
    directories: Vec<Of<Directory>>,
}

/// Segments that are missing between those that there are and the first.
pub fn missing_segments(segments: &[(u32, Completeness)]) -> u64 {
    segments.last().map_or(0, |last| u64::from(last.0) + 1 - segments.len() as u64)
}

impl Rows {
    /// Adds what is settled of a process.
    pub fn add(&mut self, origin: &Arc<Origin>, settled: Settled) {
        fn of<T>(rows: &mut Vec<Of<T>>, origin: &Arc<Origin>, from: Vec<T>) {
            rows.extend(from.into_iter().map(|what| Of { origin: Arc::clone(origin), what }));
        }
        of(&mut self.threads, origin, settled.threads);
        of(&mut self.tasks, origin, settled.tasks);
        of(&mut self.notices, origin, settled.remarks);
        of(&mut self.snapshots, origin, settled.snapshots);
        of(&mut self.directories, origin, settled.directories);
    }

    /// Adds a process whose history is finished, with what is settled and was not taken away, and its
    /// segments, which must be in their order. `header` is the last one, encoded.
    pub fn close(
        &mut self,
        origin: &Arc<Origin>,
        header: Arc<Vec<u8>>,
        mut history: History,
        segments: &[(u32, Completeness)],
    ) {
        self.add(origin, std::mem::take(&mut history.settled));
        let sizes = Sizes {
            segments: segments.len() as u64,
            missing: missing_segments(segments),
            bytes: segments.iter().map(|(_, one)| one.bytes).sum(),
            left_out: segments.iter().map(|(_, one)| one.left_out()).sum(),
        };
        let row = ProcessRow { origin: Arc::clone(origin), header, history, sizes };
        self.processes.push(row);
        let of = |segment: &_| Of { origin: Arc::clone(origin), what: *segment };
        self.segments.extend(segments.iter().map(of));
    }

    /// Rows of a table.
    pub fn len(&self, table: Table) -> usize {
        match table {
            Table::Processes => self.processes.len(),
            Table::Threads => self.threads.len(),
            Table::Tasks => self.tasks.len(),
            Table::Notices => self.notices.len(),
            Table::Segments => self.segments.len(),
            Table::Snapshots => self.snapshots.len(),
            Table::Directories => self.directories.len(),
            _ => 0,
        }
    }

    /// Takes the rows of a table away, as a frame; `None` if it is no table of processes.
    ///
    /// # Errors
    /// When a header is none, or polars refuses, which would be errors in this program.
    pub fn take(&mut self, table: Table) -> Result<Option<DataFrame>, StoreError> {
        use std::mem::take;
        Ok(Some(match table {
            Table::Processes => processes(&take(&mut self.processes))?,
            Table::Threads => threads(&take(&mut self.threads))?,
            Table::Tasks => tasks(&take(&mut self.tasks))?,
            Table::Notices => notices(&take(&mut self.notices))?,
            Table::Segments => segments(&take(&mut self.segments))?,
            Table::Snapshots => snapshots(&take(&mut self.snapshots))?,
            Table::Directories => directories(&take(&mut self.directories))?,
            _ => return Ok(None),
        }))
    }
}

/// The tables of no process: their columns.
///
/// # Errors
/// When polars refuses, which would be an error in this program.
pub fn empty_tables() -> Result<Vec<(Table, DataFrame)>, StoreError> {
    let mut made = Vec::new();
    for table in Table::ALL {
        made.extend(Rows::default().take(table)?.map(|frame| (table, frame)));
    }
    Ok(made)
}

fn processes(rows: &[ProcessRow]) -> Result<DataFrame, StoreError> {
    let rows: Vec<(&ProcessRow, Header<'_>)> =
        rows.iter().map(|row| Ok((row, row.header()?))).collect::<Result<_, StoreError>>()?;
    let frame = Columns::of(&rows)
        .text("process_id", |(row, _)| Some(&row.origin.process))
        .text("cluster", |(row, _)| row.origin.cluster.as_deref())
        .text("node", |(row, _)| row.origin.node.as_deref())
        .made_text("node_source", |(_, header)| known(header.node_source))
        .made_text("host", |(_, header)| known(header.host))
        .made_text("boot_id", |(_, header)| known(header.boot_id))
        .made_text("container", |(_, header)| known(header.container))
        .made_text("pod", |(_, header)| known(header.pod))
        .signed("pid", |(_, header)| Some(header.pid.into()))
        .signed("ppid", |(_, header)| Some(header.ppid.into()))
        .made_text("parent_process", |(_, header)| header.parent_process.as_ref().map(hex))
        .made_text("role", |(_, header)| known(header.role))
        .text("application_id", |(row, _)| row.origin.application.as_deref())
        .text("application_attempt", |(row, _)| row.origin.attempt.as_deref())
        .text("executor_id", |(row, _)| row.origin.executor.as_deref())
        .made_text("comm", |(_, header)| known(header.comm))
        .made_text("exe", |(_, header)| {
            known(header.exe).map(|exe| redaction::path(&exe).into_owned())
        })
        .made_text("command_line", |(_, header)| {
            let line = redaction::command_line(header.command_line);
            known(arguments(&line).join(" ").as_bytes())
        })
        .made_text("tracer", |(_, header)| known(header.tracer))
        .text("task_method", |(_, header)| Some(header.task_method.name()))
        .made_text("starts_at", |(_, header)| known(header.starts_at))
        .made_text("settings", |(_, header)| known(header.settings))
        .signed("start_real_ns", |(row, header)| row.origin.real_ns(header.start_mono_ns))
        .signed("last_real_ns", |(row, _)| row.origin.real_ns(row.history.last_ns))
        .truth("is_final", |(row, _)| Some(row.history.is_final))
        .text("end_reason", |(row, _)| row.history.end.map(|(reason, _)| reason.name()))
        .signed("end_status", |(row, _)| row.history.end.map(|(_, status)| status.into()))
        .unsigned("segments", |(row, _)| Some(row.sizes.segments))
        .unsigned("missing_segments", |(row, _)| Some(row.sizes.missing))
        .unsigned("bytes", |(row, _)| Some(row.sizes.bytes))
        .unsigned("left_out_bytes", |(row, _)| Some(row.sizes.left_out))
        .text("engine", |(row, _)| Some(row.history.coverage.name()))
        .counters(|(row, _)| &row.history.counters)
        .frame();
    Ok(frame?)
}

fn threads(rows: &[Of<Thread>]) -> PolarsResult<DataFrame> {
    Columns::of(rows)
        .text("process_id", |row| Some(&row.origin.process))
        .signed("tid", |row| Some(row.what.tid.into()))
        .text("name", |row| row.what.name.as_deref())
        .signed("first_real_ns", |row| row.origin.real_ns(row.what.first_ns))
        .signed("last_real_ns", |row| row.origin.real_ns(row.what.last_ns))
        .truth("has_ended", |row| Some(row.what.has_ended))
        .text("engine", |row| Some(row.what.coverage.name()))
        .counters(|row| &row.what.counters)
        .frame()
}

fn tasks(rows: &[Of<Task>]) -> PolarsResult<DataFrame> {
    let id = |value: i64| (value >= 0).then_some(value);
    let flag = |row: &Of<Task>, flag| Some(row.what.flags.contains(flag));
    Columns::of(rows)
        .text("process_id", |row| Some(&row.origin.process))
        .text("cluster", |row| row.origin.cluster.as_deref())
        .text("node", |row| row.origin.node.as_deref())
        .text("application_id", |row| {
            row.what.application_id.as_deref().or(row.origin.application.as_deref())
        })
        .text("application_attempt", |row| row.origin.attempt.as_deref())
        .text("executor_id", |row| {
            row.what.executor_id.as_deref().or(row.origin.executor.as_deref())
        })
        .signed("tid", |row| Some(row.what.tid.into()))
        .signed("task_id", |row| id(row.what.task_id))
        .signed("stage", |row| id(row.what.stage.into()))
        .signed("stage_attempt", |row| id(row.what.stage_attempt.into()))
        .signed("task_index", |row| id(row.what.index.into()))
        .signed("attempt", |row| id(row.what.attempt.into()))
        .text("method", |row| Some(row.what.method.name()))
        .text("outcome", |row| Some(row.what.outcome.name()))
        .signed("start_real_ns", |row| row.what.start_ns.and_then(|ns| row.origin.real_ns(ns)))
        .signed("end_real_ns", |row| row.what.end_ns.and_then(|ns| row.origin.real_ns(ns)))
        .unsigned("duration_ns", |row| {
            row.what.end_ns.zip(row.what.start_ns).and_then(|(end, start)| end.checked_sub(start))
        })
        .truth("is_late", |row| flag(row, Flags::LATE))
        .truth("closed_by_next", |row| flag(row, Flags::CLOSED_BY_NEXT))
        .truth("closed_by_thread_end", |row| flag(row, Flags::CLOSED_BY_THREAD_END))
        .text("engine", |row| Some(row.what.coverage.name()))
        .counters(|row| &row.what.counters)
        .frame()
}

fn notices(rows: &[Of<Remark>]) -> PolarsResult<DataFrame> {
    Columns::of(rows)
        .text("process_id", |row| Some(&row.origin.process))
        .signed("tid", |row| Some(row.what.tid.into()))
        .signed("real_ns", |row| row.origin.real_ns(row.what.mono_ns))
        .text("kind", |row| Some(row.what.kind))
        .signed("code", |row| row.what.code.map(i64::from))
        .text("name", |row| row.what.code.and_then(notice::name))
        .unsigned("a", |row| Some(row.what.a))
        .unsigned("b", |row| Some(row.what.b))
        .text("text", |row| Some(&row.what.text))
        .frame()
}

fn segments(rows: &[Of<(u32, Completeness)>]) -> PolarsResult<DataFrame> {
    Columns::of(rows)
        .text("process_id", |row| Some(&row.origin.process))
        .signed("segment", |row| Some(row.what.0.into()))
        .unsigned("bytes", |row| Some(row.what.1.bytes))
        .unsigned("groups", |row| Some(row.what.1.groups))
        .unsigned("damaged_bytes", |row| Some(row.what.1.damaged))
        .unsigned("empty_bytes", |row| Some(row.what.1.empty))
        .unsigned("incomplete_bytes", |row| Some(row.what.1.incomplete))
        .unsigned("unknown_bytes", |row| Some(row.what.1.unknown))
        .unsigned("torn_tail_bytes", |row| Some(row.what.1.torn_tail))
        .frame()
}

fn snapshots(rows: &[Of<Snapshot>]) -> PolarsResult<DataFrame> {
    Columns::of(rows)
        .text("process_id", |row| Some(&row.origin.process))
        .text("node", |row| row.origin.node.as_deref())
        .text("application_id", |row| row.origin.application.as_deref())
        .text("executor_id", |row| row.origin.executor.as_deref())
        .signed("tid", |row| Some(row.what.tid.into()))
        .signed("real_ns", |row| row.origin.real_ns(row.what.mono_ns))
        .text("engine", |row| Some(row.what.coverage.name()))
        .counters(|row| &row.what.counters)
        .frame()
}

fn directories(rows: &[Of<Directory>]) -> PolarsResult<DataFrame> {
    Columns::of(rows)
        .text("process_id", |row| Some(&row.origin.process))
        .text("node", |row| row.origin.node.as_deref())
        .text("application_id", |row| row.origin.application.as_deref())
        .text("executor_id", |row| row.origin.executor.as_deref())
        .text("directory", |row| Some(&row.what.path))
        .truth("is_clipped", |row| Some(row.what.flags.contains(Flags::CLIPPED)))
        .counters_among(MetricSet::class(Class::File), |row| &row.what.counters)
        .frame()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::snapshot_policy::Snapshots;

    #[test]
    fn a_header_that_is_none_is_an_error() {
        let mut buffer = vec![0; records::MAX_HEADER_BYTES];
        let header = Header { process_id: *b"some old process", ..Header::default() };
        let length = header.encode(&mut buffer).unwrap();
        for (bytes, is_sound) in [(&buffer[..length], true), (&buffer[..7], false), (&[], false)] {
            let history = History::new(Snapshots::Last);
            let origin = Arc::new(Origin::of(&header, &history));
            let mut rows = Rows::default();
            rows.close(&origin, Arc::new(bytes.to_vec()), history, &[]);
            let made = rows.take(Table::Processes);
            assert_eq!(made.is_ok(), is_sound);
            if let Err(error) = made {
                assert!(error.to_string().contains(&hex(&header.process_id)), "{error}");
            }
        }
    }
}
