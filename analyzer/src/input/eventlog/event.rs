//! The events that are needed, as Spark writes them (org.apache.spark.util.JsonProtocol).
//!
//! Every field has a default: versions differ, and a figure that is missing, negative or of another kind is unknown, not
//! an error: what else the event says counts.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Visitor};
use serde::{Deserialize, Deserializer};

use crate::input::eventlog::lenient::{any_text, list, or_default, signed, unsigned};
use crate::input::eventlog::plan::PlanNode;
use crate::text::{clip, redaction};

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
    SqlStart(Box<SqlStart>),
    SqlEnd(SqlEnd),
    SqlAdapted(Box<SqlAdapted>),
    SqlDriverMetrics(SqlDriverMetrics),
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
            "org.apache.spark.sql.execution.ui.SparkListenerSQLAdaptiveExecutionUpdate" => {
                Event::SqlAdapted(read(line)?)
            }
            "org.apache.spark.sql.execution.ui.SparkListenerDriverAccumUpdates" => {
                Event::SqlDriverMetrics(read(line)?)
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
    #[serde(rename = "Timestamp", default, deserialize_with = "signed")]
    pub time: Option<i64>,
    #[serde(rename = "User", default, deserialize_with = "text")]
    pub user: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ApplicationEnd {
    #[serde(rename = "Timestamp", default, deserialize_with = "signed")]
    pub time: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ExecutorAdded {
    #[serde(rename = "Executor ID", deserialize_with = "known_id")]
    pub id: String,
    #[serde(rename = "Timestamp", default, deserialize_with = "signed")]
    pub time: Option<i64>,
    #[serde(rename = "Executor Info", default, deserialize_with = "or_default")]
    pub info: ExecutorInfo,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ExecutorInfo {
    #[serde(rename = "Host", default, deserialize_with = "id")]
    pub host: Option<String>,
    #[serde(rename = "Total Cores", default, deserialize_with = "signed")]
    pub cores: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ExecutorRemoved {
    #[serde(rename = "Executor ID", deserialize_with = "known_id")]
    pub id: String,
    #[serde(rename = "Timestamp", default, deserialize_with = "signed")]
    pub time: Option<i64>,
    #[serde(rename = "Removed Reason", default, deserialize_with = "text")]
    pub reason: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BlockManagerAdded {
    #[serde(rename = "Block Manager ID")]
    pub id: BlockManagerId,
    #[serde(rename = "Timestamp", default, deserialize_with = "signed")]
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
    #[serde(rename = "Submission Time", default, deserialize_with = "signed")]
    pub time: Option<i64>,
    #[serde(rename = "Stage IDs", default, deserialize_with = "list")]
    pub stages: Vec<i64>,
    #[serde(rename = "Properties", default, deserialize_with = "or_default")]
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
    #[serde(rename = "Completion Time", default, deserialize_with = "signed")]
    pub time: Option<i64>,
    #[serde(rename = "Job Result", default, deserialize_with = "or_default")]
    pub result: JobResult,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct JobResult {
    #[serde(rename = "Result", default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(rename = "Exception", default, deserialize_with = "or_default")]
    pub exception: Option<Exception>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Exception {
    #[serde(rename = "Message", default, deserialize_with = "text")]
    pub message: Option<String>,
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
    #[serde(rename = "Stage Attempt ID", default, deserialize_with = "or_default")]
    pub attempt: i64,
    #[serde(rename = "Stage Name", default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(rename = "Number of Tasks", default, deserialize_with = "signed")]
    pub tasks: Option<i64>,
    #[serde(rename = "Parent IDs", default, deserialize_with = "list")]
    pub parents: Vec<i64>,
    #[serde(rename = "Submission Time", default, deserialize_with = "signed")]
    pub submitted: Option<i64>,
    #[serde(rename = "Completion Time", default, deserialize_with = "signed")]
    pub completed: Option<i64>,
    #[serde(rename = "Failure Reason", default, deserialize_with = "text")]
    pub failure: Option<String>,
    #[serde(rename = "Details", default, deserialize_with = "text")]
    pub details: Option<String>,
    #[serde(rename = "RDD Info", default, deserialize_with = "list")]
    pub rdds: Vec<RddInfo>,
    #[serde(rename = "Accumulables", default, deserialize_with = "list")]
    pub accumulables: Vec<Accumulable>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct RddInfo {
    #[serde(rename = "RDD ID", default)]
    pub id: i64,
    #[serde(rename = "Name", default, deserialize_with = "text")]
    pub name: Option<String>,
    /// JSON in a text.
    #[serde(rename = "Scope", default, deserialize_with = "text")]
    pub scope: Option<String>,
    #[serde(rename = "Callsite", default, deserialize_with = "text")]
    pub call_site: Option<String>,
    #[serde(rename = "Parent IDs", default, deserialize_with = "list")]
    pub parents: Vec<i64>,
    #[serde(rename = "Storage Level", default, deserialize_with = "or_default")]
    pub storage: StorageLevel,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct StorageLevel {
    #[serde(rename = "Use Disk", default)]
    pub disk: bool,
    #[serde(rename = "Use Memory", default)]
    pub memory: bool,
    #[serde(rename = "Use Off Heap", default)]
    pub off_heap: bool,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Accumulable {
    #[serde(rename = "ID", default)]
    pub id: i64,
    /// A text or a number, as the version has it.
    #[serde(rename = "Value", default, deserialize_with = "any_text")]
    pub value: Option<String>,
    #[serde(rename = "Metadata", default, deserialize_with = "text")]
    pub metadata: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TaskEvent {
    #[serde(rename = "Stage ID")]
    pub stage: i64,
    #[serde(rename = "Stage Attempt ID", default, deserialize_with = "or_default")]
    pub stage_attempt: i64,
    #[serde(rename = "Task Info")]
    pub info: TaskInfo,
    #[serde(rename = "Task End Reason", default, deserialize_with = "or_default")]
    pub reason: Option<TaskEndReason>,
    #[serde(rename = "Task Metrics", default, deserialize_with = "or_default")]
    pub metrics: Option<TaskMetrics>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TaskEndReason {
    #[serde(rename = "Reason", default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(rename = "Class Name", default, deserialize_with = "text")]
    pub class: Option<String>,
    #[serde(rename = "Description", default, deserialize_with = "text")]
    pub description: Option<String>,
    #[serde(rename = "Kill Reason", default, deserialize_with = "text")]
    pub killed: Option<String>,
    #[serde(rename = "Loss Reason", default, deserialize_with = "text")]
    pub lost: Option<String>,
    #[serde(rename = "Message", default, deserialize_with = "text")]
    pub message: Option<String>,
}

impl TaskEndReason {
    /// Why the task did not succeed, in a line; none if it did.
    pub fn failure(&self) -> Option<String> {
        let said = [&self.description, &self.killed, &self.lost, &self.message];
        let said = said.into_iter().flatten().find_map(|text| first_line(text));
        let class = self.class.as_deref().and_then(|name| name.rsplit('.').next());
        match (class, said) {
            (Some(class), Some(said)) if !said.contains(class) => Some(format!("{class}: {said}")),
            (_, Some(said)) => Some(said),
            (class, None) => class.map(str::to_owned),
        }
    }
}

/// The longest text that is kept of a failure, in characters.
const FAILURE: usize = 500;

/// The first line of a text that has something in it.
pub(super) fn first_line(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(FAILURE).collect())
}

#[derive(Debug, Deserialize)]
pub(super) struct TaskInfo {
    #[serde(rename = "Task ID")]
    pub id: i64,
    #[serde(rename = "Index", default, deserialize_with = "signed")]
    pub index: Option<i64>,
    #[serde(rename = "Attempt", default, deserialize_with = "signed")]
    pub attempt: Option<i64>,
    #[serde(rename = "Partition ID", default, deserialize_with = "signed")]
    pub partition: Option<i64>,
    #[serde(rename = "Launch Time", default, deserialize_with = "signed")]
    pub launched: Option<i64>,
    #[serde(rename = "Finish Time", default, deserialize_with = "signed")]
    pub finished: Option<i64>,
    #[serde(rename = "Executor ID", default, deserialize_with = "id")]
    pub executor: Option<String>,
    #[serde(rename = "Host", default, deserialize_with = "id")]
    pub host: Option<String>,
    #[serde(rename = "Locality", default, deserialize_with = "text")]
    pub locality: Option<String>,
    #[serde(rename = "Speculative", default, deserialize_with = "or_default")]
    pub speculative: Option<bool>,
    #[serde(rename = "Failed", default, deserialize_with = "or_default")]
    pub failed: Option<bool>,
    #[serde(rename = "Killed", default, deserialize_with = "or_default")]
    pub killed: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TaskMetrics {
    #[serde(rename = "Executor Run Time", default, deserialize_with = "unsigned")]
    run: Option<u64>,
    #[serde(rename = "Executor CPU Time", default, deserialize_with = "unsigned")]
    cpu: Option<u64>,
    #[serde(rename = "JVM GC Time", default, deserialize_with = "unsigned")]
    gc: Option<u64>,
    #[serde(rename = "Executor Deserialize Time", default, deserialize_with = "unsigned")]
    deserialize: Option<u64>,
    #[serde(rename = "Executor Deserialize CPU Time", default, deserialize_with = "unsigned")]
    deserialize_cpu: Option<u64>,
    #[serde(rename = "Result Serialization Time", default, deserialize_with = "unsigned")]
    result_serialization: Option<u64>,
    #[serde(rename = "Result Size", default, deserialize_with = "unsigned")]
    result_size: Option<u64>,
    #[serde(rename = "Peak Execution Memory", default, deserialize_with = "unsigned")]
    peak_memory: Option<u64>,
    #[serde(rename = "Memory Bytes Spilled", default, deserialize_with = "unsigned")]
    memory_spilled: Option<u64>,
    #[serde(rename = "Disk Bytes Spilled", default, deserialize_with = "unsigned")]
    disk_spilled: Option<u64>,
    #[serde(rename = "Shuffle Read Metrics", default, deserialize_with = "or_default")]
    shuffle_read: ShuffleRead,
    #[serde(rename = "Shuffle Write Metrics", default, deserialize_with = "or_default")]
    shuffle_write: ShuffleWrite,
    #[serde(rename = "Input Metrics", default, deserialize_with = "or_default")]
    input: Input,
    #[serde(rename = "Output Metrics", default, deserialize_with = "or_default")]
    output: Output,
}

#[derive(Debug, Default, Deserialize)]
struct ShuffleRead {
    #[serde(rename = "Remote Bytes Read", default, deserialize_with = "unsigned")]
    remote_bytes: Option<u64>,
    #[serde(rename = "Local Bytes Read", default, deserialize_with = "unsigned")]
    local_bytes: Option<u64>,
    #[serde(rename = "Total Records Read", default, deserialize_with = "unsigned")]
    records: Option<u64>,
    #[serde(rename = "Fetch Wait Time", default, deserialize_with = "unsigned")]
    fetch_wait: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct ShuffleWrite {
    #[serde(rename = "Shuffle Bytes Written", default, deserialize_with = "unsigned")]
    bytes: Option<u64>,
    #[serde(rename = "Shuffle Records Written", default, deserialize_with = "unsigned")]
    records: Option<u64>,
    #[serde(rename = "Shuffle Write Time", default, deserialize_with = "unsigned")]
    time: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct Input {
    #[serde(rename = "Bytes Read", default, deserialize_with = "unsigned")]
    bytes: Option<u64>,
    #[serde(rename = "Records Read", default, deserialize_with = "unsigned")]
    records: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct Output {
    #[serde(rename = "Bytes Written", default, deserialize_with = "unsigned")]
    bytes: Option<u64>,
    #[serde(rename = "Records Written", default, deserialize_with = "unsigned")]
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
    #[serde(default, deserialize_with = "signed")]
    pub time: Option<i64>,
    #[serde(rename = "sparkPlanInfo", default, deserialize_with = "or_default")]
    pub plan: Option<PlanNode>,
}

#[derive(Debug, Deserialize)]
pub(super) struct SqlAdapted {
    #[serde(rename = "executionId")]
    pub id: i64,
    #[serde(rename = "sparkPlanInfo", default, deserialize_with = "or_default")]
    pub plan: Option<PlanNode>,
}

#[derive(Debug, Deserialize)]
pub(super) struct SqlDriverMetrics {
    #[serde(rename = "executionId")]
    pub id: i64,
    #[serde(rename = "accumUpdates", default, deserialize_with = "list")]
    pub updates: Vec<(i64, i64)>,
}

#[derive(Debug, Deserialize)]
pub(super) struct SqlEnd {
    #[serde(rename = "executionId")]
    pub id: i64,
    #[serde(default, deserialize_with = "signed")]
    pub time: Option<i64>,
    #[serde(rename = "errorMessage", default, deserialize_with = "text")]
    pub failure: Option<String>,
}
