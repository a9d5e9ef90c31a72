//! The events that are needed, as Spark writes them (org.apache.spark.util.JsonProtocol).
//!
//! Every field has a default: versions differ, and a missing figure is unknown, not an error.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::{clip, redaction};

/// Names of [`SparkMetrics`]' values, in order.
pub const SPARK_METRICS: [&str; 21] = [
    "run_time_ms",
    "cpu_time_ns",
    "gc_time_ms",
    "deserialize_time_ms",
    "deserialize_cpu_time_ns",
    "result_serialization_time_ms",
    "result_bytes",
    "peak_execution_memory_bytes",
    "memory_spilled_bytes",
    "disk_spilled_bytes",
    "shuffle_read_bytes",
    "shuffle_read_remote_bytes",
    "shuffle_read_records",
    "shuffle_fetch_wait_ms",
    "shuffle_write_bytes",
    "shuffle_write_records",
    "shuffle_write_time_ns",
    "input_bytes",
    "input_records",
    "output_bytes",
    "output_records",
];

/// A task's metrics as Spark measured them, in the order of [`SPARK_METRICS`].
pub type SparkMetrics = [Option<u64>; SPARK_METRICS.len()];

/// Ids of a list that are kept; with one more it is too long.
pub(super) const MAX_IDS: usize = 1_000_000;

/// An event that says something we keep.
#[derive(Debug)]
pub(super) enum Event {
    LogStart(LogStart),
    ApplicationStart(ApplicationStart),
    ApplicationEnd(ApplicationEnd),
    ExecutorAdded(ExecutorAdded),
    ExecutorRemoved(ExecutorRemoved),
    BlockManagerAdded(BlockManagerAdded),
    JobStart(JobStart),
    JobEnd(JobEnd),
    StageSubmitted(StageEvent),
    StageCompleted(StageEvent),
    TaskStart(Box<TaskEvent>),
    TaskEnd(Box<TaskEvent>),
    SqlStart(SqlStart),
    SqlEnd(SqlEnd),
    Other,
}

impl Event {
    /// Reads the event of this name. A derived enum would hold the whole line once more before it is
    /// understood, at 32 bytes for each number of a list.
    ///
    /// # Errors
    /// When it is no such event.
    pub(super) fn parse(name: &str, line: &[u8]) -> serde_json::Result<Event> {
        use serde_json::from_slice as read;
        Ok(match name {
            "SparkListenerLogStart" => Event::LogStart(read(line)?),
            "SparkListenerApplicationStart" => Event::ApplicationStart(read(line)?),
            "SparkListenerApplicationEnd" => Event::ApplicationEnd(read(line)?),
            "SparkListenerExecutorAdded" => Event::ExecutorAdded(read(line)?),
            "SparkListenerExecutorRemoved" => Event::ExecutorRemoved(read(line)?),
            "SparkListenerBlockManagerAdded" => Event::BlockManagerAdded(read(line)?),
            "SparkListenerJobStart" => Event::JobStart(read(line)?),
            "SparkListenerJobEnd" => Event::JobEnd(read(line)?),
            "SparkListenerStageSubmitted" => Event::StageSubmitted(read(line)?),
            "SparkListenerStageCompleted" => Event::StageCompleted(read(line)?),
            "SparkListenerTaskStart" => Event::TaskStart(read(line)?),
            "SparkListenerTaskEnd" => Event::TaskEnd(read(line)?),
            "org.apache.spark.sql.execution.ui.SparkListenerSQLExecutionStart" => {
                Event::SqlStart(read(line)?)
            }
            "org.apache.spark.sql.execution.ui.SparkListenerSQLExecutionEnd" => {
                Event::SqlEnd(read(line)?)
            }
            _ => Event::Other,
        })
    }

    /// The ids in its lists.
    pub(super) fn ids(&self) -> usize {
        match self {
            Event::JobStart(start) => start.stages.len(),
            Event::StageSubmitted(stage) | Event::StageCompleted(stage) => stage.info.parents.len(),
            _ => 0,
        }
    }
}

/// The name of an event, wherever it stands on the line.
#[derive(Debug, Deserialize)]
pub(super) struct Name<'l> {
    /// The name.
    #[serde(rename = "Event", borrow)]
    pub event: Cow<'l, str>,
}

/// Reads a text as it is kept.
struct Clip {
    is_id: bool,
}

impl<'de> DeserializeSeed<'de> for Clip {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<String>, D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Clip {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_none<E>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Option<String>, D::Error> {
        from.deserialize_str(self)
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<String>, E> {
        Ok(Some(match self.is_id {
            true => clip::id(text.to_owned()),
            // Clipped first: the work is bounded, and no name is parted from its value but at the end.
            false => redaction::text(&clip::text(text)).into_owned(),
        }))
    }
}

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Clip { is_id: false }.deserialize(from)
}

fn id<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Clip { is_id: true }.deserialize(from)
}

fn known_id<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    id(from)?.ok_or_else(|| de::Error::custom("null in the place of an id"))
}

/// A list of ids, of which one more than there may be are kept.
fn ids<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<i64>, D::Error> {
    struct First;
    impl<'de> Visitor<'de> for First {
        type Value = Vec<i64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of ids")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<i64>, A::Error> {
            let mut ids = Vec::new();
            while ids.len() <= MAX_IDS {
                match list.next_element()? {
                    Some(id) => ids.push(id),
                    None => return Ok(ids),
                }
            }
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(ids)
        }
    }
    from.deserialize_seq(First)
}

#[derive(Debug, Deserialize)]
pub(super) struct LogStart {
    #[serde(rename = "Spark Version", default, deserialize_with = "text")]
    pub spark_version: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ApplicationStart {
    #[serde(rename = "App Name", default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(rename = "App ID", default, deserialize_with = "id")]
    pub id: Option<String>,
    #[serde(rename = "App Attempt ID", default, deserialize_with = "id")]
    pub attempt: Option<String>,
    #[serde(rename = "Timestamp", default)]
    pub time: Option<i64>,
    #[serde(rename = "User", default, deserialize_with = "text")]
    pub user: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ApplicationEnd {
    #[serde(rename = "Timestamp", default)]
    pub time: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ExecutorAdded {
    #[serde(rename = "Executor ID", deserialize_with = "known_id")]
    pub id: String,
    #[serde(rename = "Timestamp", default)]
    pub time: Option<i64>,
    #[serde(rename = "Executor Info", default)]
    pub info: ExecutorInfo,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ExecutorInfo {
    #[serde(rename = "Host", default, deserialize_with = "id")]
    pub host: Option<String>,
    #[serde(rename = "Total Cores", default)]
    pub cores: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ExecutorRemoved {
    #[serde(rename = "Executor ID", deserialize_with = "known_id")]
    pub id: String,
    #[serde(rename = "Timestamp", default)]
    pub time: Option<i64>,
    #[serde(rename = "Removed Reason", default, deserialize_with = "text")]
    pub reason: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BlockManagerAdded {
    #[serde(rename = "Block Manager ID")]
    pub id: BlockManagerId,
    #[serde(rename = "Timestamp", default)]
    pub time: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BlockManagerId {
    #[serde(rename = "Executor ID", deserialize_with = "known_id")]
    pub executor: String,
    #[serde(rename = "Host", default, deserialize_with = "id")]
    pub host: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct JobStart {
    #[serde(rename = "Job ID")]
    pub id: i64,
    #[serde(rename = "Submission Time", default)]
    pub time: Option<i64>,
    #[serde(rename = "Stage IDs", default, deserialize_with = "ids")]
    pub stages: Vec<i64>,
    #[serde(rename = "Properties", default)]
    pub properties: Option<JobProperties>,
}

#[derive(Debug, Deserialize)]
pub(super) struct JobProperties {
    #[serde(rename = "spark.job.description", default, deserialize_with = "text")]
    pub description: Option<String>,
    #[serde(rename = "spark.jobGroup.id", default, deserialize_with = "text")]
    pub group: Option<String>,
    #[serde(rename = "spark.sql.execution.id", default, deserialize_with = "text")]
    pub sql_execution: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct JobEnd {
    #[serde(rename = "Job ID")]
    pub id: i64,
    #[serde(rename = "Completion Time", default)]
    pub time: Option<i64>,
    #[serde(rename = "Job Result", default)]
    pub result: JobResult,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct JobResult {
    #[serde(rename = "Result", default, deserialize_with = "text")]
    pub name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct StageEvent {
    #[serde(rename = "Stage Info")]
    pub info: StageInfo,
}

#[derive(Debug, Deserialize)]
pub(super) struct StageInfo {
    #[serde(rename = "Stage ID")]
    pub id: i64,
    #[serde(rename = "Stage Attempt ID", default)]
    pub attempt: i64,
    #[serde(rename = "Stage Name", default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(rename = "Number of Tasks", default)]
    pub tasks: Option<i64>,
    #[serde(rename = "Parent IDs", default, deserialize_with = "ids")]
    pub parents: Vec<i64>,
    #[serde(rename = "Submission Time", default)]
    pub submitted: Option<i64>,
    #[serde(rename = "Completion Time", default)]
    pub completed: Option<i64>,
    #[serde(rename = "Failure Reason", default, deserialize_with = "text")]
    pub failure: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TaskEvent {
    #[serde(rename = "Stage ID")]
    pub stage: i64,
    #[serde(rename = "Stage Attempt ID", default)]
    pub stage_attempt: i64,
    #[serde(rename = "Task Info")]
    pub info: TaskInfo,
    #[serde(rename = "Task End Reason", default)]
    pub reason: Option<TaskEndReason>,
    #[serde(rename = "Task Metrics", default)]
    pub metrics: Option<TaskMetrics>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TaskEndReason {
    #[serde(rename = "Reason", default, deserialize_with = "text")]
    pub name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TaskInfo {
    #[serde(rename = "Task ID")]
    pub id: i64,
    #[serde(rename = "Index", default)]
    pub index: Option<i64>,
    #[serde(rename = "Attempt", default)]
    pub attempt: Option<i64>,
    #[serde(rename = "Partition ID", default)]
    pub partition: Option<i64>,
    #[serde(rename = "Launch Time", default)]
    pub launched: Option<i64>,
    #[serde(rename = "Finish Time", default)]
    pub finished: Option<i64>,
    #[serde(rename = "Executor ID", default, deserialize_with = "id")]
    pub executor: Option<String>,
    #[serde(rename = "Host", default, deserialize_with = "id")]
    pub host: Option<String>,
    #[serde(rename = "Locality", default, deserialize_with = "text")]
    pub locality: Option<String>,
    #[serde(rename = "Speculative", default)]
    pub speculative: Option<bool>,
    #[serde(rename = "Failed", default)]
    pub failed: Option<bool>,
    #[serde(rename = "Killed", default)]
    pub killed: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TaskMetrics {
    #[serde(rename = "Executor Run Time", default)]
    run: Option<u64>,
    #[serde(rename = "Executor CPU Time", default)]
    cpu: Option<u64>,
    #[serde(rename = "JVM GC Time", default)]
    gc: Option<u64>,
    #[serde(rename = "Executor Deserialize Time", default)]
    deserialize: Option<u64>,
    #[serde(rename = "Executor Deserialize CPU Time", default)]
    deserialize_cpu: Option<u64>,
    #[serde(rename = "Result Serialization Time", default)]
    result_serialization: Option<u64>,
    #[serde(rename = "Result Size", default)]
    result_size: Option<u64>,
    #[serde(rename = "Peak Execution Memory", default)]
    peak_memory: Option<u64>,
    #[serde(rename = "Memory Bytes Spilled", default)]
    memory_spilled: Option<u64>,
    #[serde(rename = "Disk Bytes Spilled", default)]
    disk_spilled: Option<u64>,
    #[serde(rename = "Shuffle Read Metrics", default)]
    shuffle_read: ShuffleRead,
    #[serde(rename = "Shuffle Write Metrics", default)]
    shuffle_write: ShuffleWrite,
    #[serde(rename = "Input Metrics", default)]
    input: Input,
    #[serde(rename = "Output Metrics", default)]
    output: Output,
}

#[derive(Debug, Default, Deserialize)]
struct ShuffleRead {
    #[serde(rename = "Remote Bytes Read", default)]
    remote_bytes: Option<u64>,
    #[serde(rename = "Local Bytes Read", default)]
    local_bytes: Option<u64>,
    #[serde(rename = "Total Records Read", default)]
    records: Option<u64>,
    #[serde(rename = "Fetch Wait Time", default)]
    fetch_wait: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct ShuffleWrite {
    #[serde(rename = "Shuffle Bytes Written", default)]
    bytes: Option<u64>,
    #[serde(rename = "Shuffle Records Written", default)]
    records: Option<u64>,
    #[serde(rename = "Shuffle Write Time", default)]
    time: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct Input {
    #[serde(rename = "Bytes Read", default)]
    bytes: Option<u64>,
    #[serde(rename = "Records Read", default)]
    records: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct Output {
    #[serde(rename = "Bytes Written", default)]
    bytes: Option<u64>,
    #[serde(rename = "Records Written", default)]
    records: Option<u64>,
}

impl TaskMetrics {
    /// The values in the order of [`SPARK_METRICS`].
    pub(super) fn values(&self) -> SparkMetrics {
        let remote = self.shuffle_read.remote_bytes;
        let local = self.shuffle_read.local_bytes;
        [
            self.run,
            self.cpu,
            self.gc,
            self.deserialize,
            self.deserialize_cpu,
            self.result_serialization,
            self.result_size,
            self.peak_memory,
            self.memory_spilled,
            self.disk_spilled,
            remote.zip(local).and_then(|(remote, local)| remote.checked_add(local)),
            remote,
            self.shuffle_read.records,
            self.shuffle_read.fetch_wait,
            self.shuffle_write.bytes,
            self.shuffle_write.records,
            self.shuffle_write.time,
            self.input.bytes,
            self.input.records,
            self.output.bytes,
            self.output.records,
        ]
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct SqlStart {
    #[serde(rename = "executionId")]
    pub id: i64,
    #[serde(default, deserialize_with = "text")]
    pub description: Option<String>,
    #[serde(default)]
    pub time: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct SqlEnd {
    #[serde(rename = "executionId")]
    pub id: i64,
    #[serde(default)]
    pub time: Option<i64>,
}
