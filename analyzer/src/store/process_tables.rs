//! The tables of one process: processes, threads, tasks, notices, segments.

use polars::prelude::{DataFrame, PolarsResult};
use records::{Flags, Header, Segment, notice};

use super::columns::Columns;
use super::history::{History, Task};
use super::kept::{Completeness, KeptSegment};
use super::table::Table;
use crate::dump::arguments;
use crate::record_files::{hex, known};

/// What all tables say about where a row comes from.
struct Origin {
    process: String,
    cluster: Option<String>,
    node: Option<String>,
    application: Option<String>,
    attempt: Option<String>,
    executor: Option<String>,
    /// What to add to CLOCK_MONOTONIC to have CLOCK_REALTIME.
    real_minus_mono: i64,
}

impl Origin {
    fn real_ns(&self, mono_ns: u64) -> Option<i64> {
        i64::try_from(mono_ns).ok()?.checked_add(self.real_minus_mono)
    }
}

/// Makes the tables from a process's kept segments, which must be in their order; none if there is no
/// segment.
///
/// # Errors
/// When polars refuses, which would be an error in this program.
pub fn make(kept: &[KeptSegment]) -> PolarsResult<Vec<(Table, DataFrame)>> {
    let parsed = || kept.iter().filter_map(|one| Segment::parse(&one.bytes).ok());
    let indices: Vec<u32> = parsed().map(|segment| segment.header().segment).collect();
    let (Some(first), Some(last)) = (parsed().next(), parsed().next_back()) else {
        return Ok(Vec::new());
    };
    let missing = indices.last().map_or(0, |last| u64::from(*last) + 1 - indices.len() as u64);
    let history = History::of(parsed(), missing == 0);
    // What is learnt late, such as the application of a local-mode driver, is in the last header.
    let header = last.header();
    let start = first.header();
    // A local-mode driver says of its tasks alone which application and executor they are of.
    let application = known(header.application_id)
        .or_else(|| sole(history.tasks.iter().map(|task| task.application_id.as_deref())));
    let executor = known(header.executor_id)
        .or_else(|| sole(history.tasks.iter().map(|task| task.executor_id.as_deref())));
    let origin = Origin {
        process: hex(&header.process_id),
        cluster: known(header.cluster),
        node: known(header.node),
        application,
        attempt: known(header.application_attempt),
        executor,
        real_minus_mono: (start.start_real_ns as i64).wrapping_sub(start.start_mono_ns as i64),
    };
    let left_out = kept.iter().map(|one| one.completeness.left_out()).sum();
    let bytes = kept.iter().map(|one| one.completeness.bytes).sum();
    let sizes = Sizes { segments: indices.len() as u64, missing, bytes, left_out };
    Ok(vec![
        (Table::Processes, processes(&origin, header, start.start_mono_ns, &history, &sizes)?),
        (Table::Threads, threads(&origin, &history)?),
        (Table::Tasks, tasks(&origin, &history)?),
        (Table::Notices, notices(&origin, &history)?),
        (Table::Segments, segments(&origin, &indices, kept)?),
    ])
}

/// The value that all who know one agree on.
fn sole<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Option<String> {
    let mut known = values.flatten();
    let first = known.next()?;
    known.all(|value| value == first).then(|| first.to_owned())
}

struct Sizes {
    segments: u64,
    missing: u64,
    bytes: u64,
    left_out: u64,
}

fn processes(
    origin: &Origin,
    header: &Header<'_>,
    start_mono_ns: u64,
    history: &History,
    sizes: &Sizes,
) -> PolarsResult<DataFrame> {
    let row = [history];
    let text = |bytes: &[u8]| known(bytes);
    let arguments = arguments(header.command_line).join(" ");
    Columns::of(&row)
        .text("process_id", |_| Some(&origin.process))
        .text("cluster", |_| origin.cluster.as_deref())
        .text("node", |_| origin.node.as_deref())
        .made_text("node_source", |_| text(header.node_source))
        .made_text("host", |_| text(header.host))
        .made_text("boot_id", |_| text(header.boot_id))
        .made_text("container", |_| text(header.container))
        .made_text("pod", |_| text(header.pod))
        .signed("pid", |_| Some(header.pid.into()))
        .signed("ppid", |_| Some(header.ppid.into()))
        .made_text("parent_process", |_| header.parent_process.as_ref().map(hex))
        .made_text("role", |_| text(header.role))
        .text("application_id", |_| origin.application.as_deref())
        .text("application_attempt", |_| origin.attempt.as_deref())
        .text("executor_id", |_| origin.executor.as_deref())
        .made_text("comm", |_| text(header.comm))
        .made_text("exe", |_| text(header.exe))
        .made_text("command_line", |_| known(arguments.as_bytes()))
        .made_text("tracer", |_| text(header.tracer))
        .text("task_method", |_| Some(header.task_method.name()))
        .made_text("starts_at", |_| text(header.starts_at))
        .made_text("settings", |_| text(header.settings))
        .signed("start_real_ns", |_| origin.real_ns(start_mono_ns))
        .signed("last_real_ns", |row| origin.real_ns(row.last_ns))
        .truth("is_final", |row| Some(row.is_final))
        .text("end_reason", |row| row.end.map(|(reason, _)| reason.name()))
        .signed("end_status", |row| row.end.map(|(_, status)| status.into()))
        .unsigned("segments", |_| Some(sizes.segments))
        .unsigned("missing_segments", |_| Some(sizes.missing))
        .unsigned("bytes", |_| Some(sizes.bytes))
        .unsigned("left_out_bytes", |_| Some(sizes.left_out))
        .text("engine", |row| Some(row.coverage.name()))
        .counters(|row| &row.counters)
        .frame()
}

fn threads(origin: &Origin, history: &History) -> PolarsResult<DataFrame> {
    Columns::of(&history.threads)
        .text("process_id", |_| Some(&origin.process))
        .signed("tid", |thread| Some(thread.tid.into()))
        .text("name", |thread| thread.name.as_deref())
        .signed("first_real_ns", |thread| origin.real_ns(thread.first_ns))
        .signed("last_real_ns", |thread| origin.real_ns(thread.last_ns))
        .truth("has_ended", |thread| Some(thread.has_ended))
        .text("engine", |thread| Some(thread.coverage.name()))
        .counters(|thread| &thread.counters)
        .frame()
}

fn tasks(origin: &Origin, history: &History) -> PolarsResult<DataFrame> {
    let id = |value: i64| (value >= 0).then_some(value);
    let flag = |task: &Task, flag| Some(task.flags.contains(flag));
    Columns::of(&history.tasks)
        .text("process_id", |_| Some(&origin.process))
        .text("cluster", |_| origin.cluster.as_deref())
        .text("node", |_| origin.node.as_deref())
        .text("application_id", |task| {
            task.application_id.as_deref().or(origin.application.as_deref())
        })
        .text("application_attempt", |_| origin.attempt.as_deref())
        .text("executor_id", |task| task.executor_id.as_deref().or(origin.executor.as_deref()))
        .signed("tid", |task| Some(task.tid.into()))
        .signed("task_id", |task| id(task.task_id))
        .signed("stage", |task| id(task.stage.into()))
        .signed("stage_attempt", |task| id(task.stage_attempt.into()))
        .signed("task_index", |task| id(task.index.into()))
        .signed("attempt", |task| id(task.attempt.into()))
        .text("method", |task| Some(task.method.name()))
        .text("outcome", |task| Some(task.outcome.name()))
        .signed("start_real_ns", |task| task.start_ns.and_then(|ns| origin.real_ns(ns)))
        .signed("end_real_ns", |task| task.end_ns.and_then(|ns| origin.real_ns(ns)))
        .unsigned("duration_ns", |task| {
            task.end_ns.zip(task.start_ns).and_then(|(end, start)| end.checked_sub(start))
        })
        .truth("is_late", |task| flag(task, Flags::LATE))
        .truth("closed_by_next", |task| flag(task, Flags::CLOSED_BY_NEXT))
        .truth("closed_by_thread_end", |task| flag(task, Flags::CLOSED_BY_THREAD_END))
        .text("engine", |task| Some(task.coverage.name()))
        .counters(|task| &task.counters)
        .frame()
}

fn notices(origin: &Origin, history: &History) -> PolarsResult<DataFrame> {
    Columns::of(&history.remarks)
        .text("process_id", |_| Some(&origin.process))
        .signed("tid", |remark| Some(remark.tid.into()))
        .signed("real_ns", |remark| origin.real_ns(remark.mono_ns))
        .text("kind", |remark| Some(remark.kind))
        .signed("code", |remark| remark.code.map(i64::from))
        .text("name", |remark| remark.code.and_then(notice::name))
        .unsigned("a", |remark| Some(remark.a))
        .unsigned("b", |remark| Some(remark.b))
        .text("text", |remark| Some(&remark.text))
        .frame()
}

fn segments(origin: &Origin, indices: &[u32], kept: &[KeptSegment]) -> PolarsResult<DataFrame> {
    let rows: Vec<(u32, Completeness)> =
        indices.iter().copied().zip(kept.iter().map(|one| one.completeness)).collect();
    Columns::of(&rows)
        .text("process_id", |_| Some(&origin.process))
        .signed("segment", |row| Some(row.0.into()))
        .unsigned("bytes", |row| Some(row.1.bytes))
        .unsigned("groups", |row| Some(row.1.groups))
        .unsigned("damaged_bytes", |row| Some(row.1.damaged))
        .unsigned("empty_bytes", |row| Some(row.1.empty))
        .unsigned("incomplete_bytes", |row| Some(row.1.incomplete))
        .unsigned("unknown_bytes", |row| Some(row.1.unknown))
        .unsigned("torn_tail_bytes", |row| Some(row.1.torn_tail))
        .frame()
}
