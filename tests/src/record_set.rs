//! Synthetic record sets of any size: valid record files and event logs of clusters that never were.
//!
//! Everything is a function of the set's description, so that a test can say beforehand what a report must
//! show. The files say that they are generated: in their prefix, in the node's source, in their settings and
//! in the application's name.
//!
//! An executor has a main thread and one thread per core. Tasks go to executors in turn; a task's work is a
//! function of its TID, and it is spread evenly over its ticks. Records per task: start and end with
//! [`RECORDS_PER_GROUP`] each, the thread's snapshot per tick, and the executor's snapshot per tick and round
//! of tasks.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use records::metric::Class;
use records::{
    Event, Flags, Header, MAX_GROUP_BYTES, MAX_HEADER_BYTES, METRIC_COUNT, MetricSet,
    ProcessEndReason, ProcessId, RECORD_BYTES, Stamp, TaskId, TaskMethod, TaskOutcome,
    encode_group, file_name,
};
use serde_json::json;

/// Records of a group with counters: its leader, and the engine's, the files' and the sockets' values.
pub const RECORDS_PER_GROUP: u64 = 4;
/// When every application began, ns since the epoch.
const BEGAN_NS: u64 = 1_790_000_000_000_000_000;
/// Length of a tick.
const TICK_NS: u64 = 1_000_000_000;

/// A set of record files and the event log of its application.
#[derive(Clone, Debug)]
pub struct RecordSet {
    /// Application id.
    pub application: String,
    /// Number of nodes.
    pub nodes: u64,
    /// Executors of each node.
    pub executors_per_node: u64,
    /// Tasks that run at once in an executor.
    pub cores: u64,
    /// Tasks of each executor.
    pub tasks_per_executor: u64,
    /// Snapshots in each task.
    pub ticks_per_task: u64,
    /// Tasks of each stage; the last one may have fewer.
    pub tasks_per_stage: u64,
    /// Directories among which each executor's files are spread evenly; what cannot be divided has none.
    pub directories: u64,
    /// Every so manieth executor is killed: its files just end. 0 = none.
    pub killed_every: u64,
    /// Size after which an executor begins a new segment, in bytes.
    pub segment_bytes: u64,
    /// Distinguishes sets of the same shape.
    pub seed: u64,
}

impl Default for RecordSet {
    fn default() -> RecordSet {
        RecordSet {
            application: "app-20261121000000-0000".into(),
            nodes: 2,
            executors_per_node: 1,
            cores: 4,
            tasks_per_executor: 8,
            ticks_per_task: 2,
            tasks_per_stage: 1000,
            directories: 0,
            killed_every: 0,
            segment_bytes: 64 << 20,
            seed: 1,
        }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Files.
    pub files: u64,
    /// Records of [`RECORD_BYTES`].
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Steele, Lea and Flood's SplitMix64 (OOPSLA 2014): one step.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

impl RecordSet {
    /// Executors of the application.
    pub fn executors(&self) -> u64 {
        self.nodes * self.executors_per_node
    }

    /// Tasks of the application: TIDs 0 and up.
    pub fn tasks(&self) -> u64 {
        self.executors() * self.tasks_per_executor
    }

    /// Stages of the application: ids 0 and up.
    pub fn stages(&self) -> u64 {
        self.tasks().div_ceil(self.tasks_per_stage)
    }

    /// The executor that runs a task.
    pub fn executor_of(&self, task: u64) -> u64 {
        task % self.executors()
    }

    /// Name of an executor's node.
    pub fn node_of(&self, executor: u64) -> String {
        format!("generated-{:05}", executor / self.executors_per_node)
    }

    /// What a task does: every metric of the engine, of files and of sockets, in proportion to the first one.
    pub fn work_of(&self, task: u64) -> [u64; METRIC_COUNT] {
        let instructions = 1_000_000 + mix(self.seed ^ mix(task)) % 1_000_000_000;
        let mut work = [0; METRIC_COUNT];
        for (index, value) in work.iter_mut().enumerate() {
            let class =
                index.checked_sub(Class::File.first()).map(|at| at / records::metric::PER_CLASS);
            if class.is_none_or(|class| {
                class == Class::File as usize || class == Class::Socket as usize
            }) {
                *value = instructions >> (index % 22);
            }
        }
        work
    }

    /// Whether an executor is killed: then it has no end, and nor have the tasks of its last round.
    pub fn is_killed(&self, executor: u64) -> bool {
        self.killed_every > 0 && executor % self.killed_every == self.killed_every - 1
    }

    /// Writes the record files of all executors, a folder per node.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_records(&self, folder: &Path) -> io::Result<Written> {
        let mut written = Written::default();
        for executor in 0..self.executors() {
            let folder = folder.join(self.node_of(executor));
            fs::create_dir_all(&folder)?;
            Executor::begin(self, executor, folder)?.run(&mut written)?;
        }
        Ok(written)
    }

    /// Writes the application's event log, plain.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_event_log(&self, to: &mut dyn Write) -> io::Result<()> {
        let began = BEGAN_NS / 1_000_000;
        let task_ms = self.ticks_per_task.max(1) * TICK_NS / 1_000_000;
        let mut say = |event: serde_json::Value| writeln!(to, "{event}");
        say(json!({"Event": "SparkListenerLogStart", "Spark Version": "4.3.0"}))?;
        say(json!({"Event": "SparkListenerApplicationStart", "App Name": "generated",
            "App ID": self.application, "Timestamp": began, "User": "generated"}))?;
        for executor in 0..self.executors() {
            say(json!({"Event": "SparkListenerExecutorAdded", "Timestamp": began,
                "Executor ID": executor.to_string(),
                "Executor Info": {"Host": self.node_of(executor), "Total Cores": self.cores}}))?;
        }
        let stages: Vec<_> = (0..self.stages()).collect();
        say(json!({"Event": "SparkListenerJobStart", "Job ID": 0, "Submission Time": began,
            "Stage IDs": stages}))?;
        for stage in stages {
            let first = stage * self.tasks_per_stage;
            let last = (first + self.tasks_per_stage).min(self.tasks());
            say(json!({"Event": "SparkListenerStageSubmitted", "Stage Info": {"Stage ID": stage,
                "Stage Attempt ID": 0, "Stage Name": format!("generated stage {stage}"),
                "Number of Tasks": last - first, "Parent IDs": [], "Submission Time": began}}))?;
            for task in first..last {
                let executor = self.executor_of(task);
                let round = task / self.executors() / self.cores;
                let launched = began + round * task_ms;
                let work = self.work_of(task);
                say(
                    json!({"Event": "SparkListenerTaskEnd", "Stage ID": stage, "Stage Attempt ID": 0,
                    "Task End Reason": {"Reason": "Success"},
                    "Task Info": {"Task ID": task, "Index": task - first, "Attempt": 0,
                        "Partition ID": task - first, "Launch Time": launched,
                        "Executor ID": executor.to_string(), "Host": self.node_of(executor),
                        "Locality": "PROCESS_LOCAL", "Speculative": false,
                        "Finish Time": launched + task_ms, "Failed": false, "Killed": false},
                    "Task Metrics": {"Executor Run Time": task_ms, "Executor CPU Time": task_ms * 900_000,
                        "JVM GC Time": task % 50, "Executor Deserialize Time": 3,
                        "Executor Deserialize CPU Time": 2_000_000, "Result Serialization Time": 0,
                        "Result Size": 2000, "Peak Execution Memory": 0, "Memory Bytes Spilled": 0,
                        "Disk Bytes Spilled": 0,
                        "Shuffle Read Metrics": {"Remote Bytes Read": work[8], "Local Bytes Read": work[9],
                            "Total Records Read": work[12], "Fetch Wait Time": 1},
                        "Shuffle Write Metrics": {"Shuffle Bytes Written": work[7],
                            "Shuffle Write Time": 1_000_000, "Shuffle Records Written": work[11]},
                        "Input Metrics": {"Bytes Read": work[6], "Records Read": work[10]},
                        "Output Metrics": {"Bytes Written": 0, "Records Written": 0}}}),
                )?;
            }
            say(json!({"Event": "SparkListenerStageCompleted", "Stage Info": {"Stage ID": stage,
                "Stage Attempt ID": 0, "Stage Name": format!("generated stage {stage}"),
                "Number of Tasks": last - first, "Parent IDs": [], "Submission Time": began,
                "Completion Time": began + task_ms}}))?;
        }
        say(
            json!({"Event": "SparkListenerJobEnd", "Job ID": 0, "Completion Time": began + task_ms,
            "Job Result": {"Result": "JobSucceeded"}}),
        )?;
        say(json!({"Event": "SparkListenerApplicationEnd", "Timestamp": began + task_ms}))
    }
}

/// An executor that writes its records.
struct Executor<'s> {
    set: &'s RecordSet,
    executor: u64,
    folder: PathBuf,
    process: ProcessId,
    segment: u32,
    out: BufWriter<File>,
    segment_bytes: u64,
    seq: u32,
    now_ns: u64,
    threads: Vec<[u64; METRIC_COUNT]>,
    written: Written,
}

impl<'s> Executor<'s> {
    fn begin(set: &'s RecordSet, executor: u64, folder: PathBuf) -> io::Result<Executor<'s>> {
        let mut process = [0; 16];
        let high = mix(set.seed ^ mix(executor));
        process[..8].copy_from_slice(&high.to_be_bytes());
        process[8..].copy_from_slice(&executor.to_be_bytes());
        let (out, bytes) = open_segment(set, executor, &folder, &process, 0)?;
        Ok(Executor {
            set,
            executor,
            folder,
            process,
            segment: 0,
            out,
            segment_bytes: bytes,
            seq: 0,
            now_ns: 0,
            threads: vec![[0; METRIC_COUNT]; set.cores as usize],
            written: Written { files: 1, records: 0, bytes },
        })
    }

    fn put(
        &mut self,
        tid: u32,
        flags: Flags,
        event: &Event<'_>,
        values: Option<[u64; METRIC_COUNT]>,
    ) -> io::Result<()> {
        let mut buf = [0; MAX_GROUP_BYTES];
        self.now_ns += 1000;
        let stamp = Stamp { mono_ns: self.now_ns, real_ns: 0 };
        let flags = flags | Flags::FOLLOWED;
        let len = encode_group(&mut buf, self.seq, stamp, tid, flags, event, values.as_ref())
            .map_err(|error| io::Error::other(error.to_string()))?;
        self.out.write_all(&buf[..len])?;
        self.seq += 1;
        self.segment_bytes += len as u64;
        self.written.bytes += len as u64;
        self.written.records += (len / RECORD_BYTES) as u64;
        Ok(())
    }

    fn totals(&self) -> [u64; METRIC_COUNT] {
        std::array::from_fn(|index| self.threads.iter().map(|thread| thread[index]).sum())
    }

    fn tid(&self, core: u64) -> u32 {
        1001 + core as u32
    }

    /// The files of each directory.
    fn put_directories(&mut self, flags: Flags) -> io::Result<()> {
        let totals = self.totals();
        let files = MetricSet::class(Class::File);
        for number in 0..self.set.directories {
            let path = format!("/generated/{number}");
            let event = Event::Directory { number: number as u16, path: path.as_bytes() };
            let share = |at| if files.contains(at) { totals[at] / self.set.directories } else { 0 };
            self.put(0, flags, &event, Some(std::array::from_fn(share)))?;
        }
        Ok(())
    }

    /// What begins a segment besides its header: the threads and the totals.
    fn introduce(&mut self) -> io::Result<()> {
        let flags = if self.segment > 0 { Flags::FIRST_OF_SEGMENT } else { Flags::NONE };
        for core in 0..self.set.cores {
            let tid = self.tid(core);
            self.put(tid, flags, &Event::ThreadStart { name: b"Executor task l" }, None)?;
            let values = self.threads[core as usize];
            self.put(tid, flags, &Event::Snapshot, Some(values))?;
        }
        let totals = self.totals();
        self.put_directories(flags)?;
        self.put(0, flags, &Event::Snapshot, Some(totals))
    }

    fn run(mut self, written: &mut Written) -> io::Result<()> {
        let set = self.set;
        let rounds = set.tasks_per_executor.div_ceil(set.cores);
        let is_killed = set.is_killed(self.executor);
        self.introduce()?;
        for round in 0..rounds {
            if self.segment_bytes > set.segment_bytes {
                self.segment += 1;
                self.out.flush()?;
                let (out, bytes) =
                    open_segment(set, self.executor, &self.folder, &self.process, self.segment)?;
                (self.out, self.segment_bytes, self.seq) = (out, bytes, 0);
                self.written.files += 1;
                self.written.bytes += bytes;
                self.introduce()?;
            }
            let first = round * set.cores;
            let here = set.cores.min(set.tasks_per_executor - first);
            let task_of = |core: u64| (first + core) * set.executors() + self.executor;
            let tasks: Vec<_> = (0..here).map(task_of).collect();
            for (core, &task) in tasks.iter().enumerate() {
                let values = self.threads[core];
                self.put(
                    self.tid(core as u64),
                    Flags::NONE,
                    &Event::TaskStart(task_id(set, task)),
                    Some(values),
                )?;
            }
            let before = self.threads.clone();
            for tick in 1..=set.ticks_per_task {
                self.now_ns += TICK_NS;
                for (core, &task) in tasks.iter().enumerate() {
                    let work = set.work_of(task);
                    for (index, value) in self.threads[core].iter_mut().enumerate() {
                        *value =
                            before[core][index] + work[index] / (set.ticks_per_task + 1) * tick;
                    }
                    let values = self.threads[core];
                    self.put(self.tid(core as u64), Flags::NONE, &Event::Snapshot, Some(values))?;
                }
                let totals = self.totals();
                self.put_directories(Flags::NONE)?;
                self.put(0, Flags::NONE, &Event::Snapshot, Some(totals))?;
            }
            if is_killed && round + 1 == rounds {
                break;
            }
            for (core, &task) in tasks.iter().enumerate() {
                let work = set.work_of(task);
                for (index, value) in self.threads[core].iter_mut().enumerate() {
                    *value = before[core][index] + work[index];
                }
                let event =
                    Event::TaskEnd { task: task_id(set, task), outcome: TaskOutcome::RETURNED };
                let values = self.threads[core];
                self.put(self.tid(core as u64), Flags::NONE, &event, Some(values))?;
            }
        }
        if !is_killed {
            for core in 0..set.cores {
                let values = self.threads[core as usize];
                self.put(self.tid(core), Flags::FINAL, &Event::ThreadEnd, Some(values))?;
            }
            self.put_directories(Flags::FINAL)?;
            let event = Event::ProcessEnd { reason: ProcessEndReason::EXIT, status: 0 };
            let totals = self.totals();
            self.put(0, Flags::FINAL, &event, Some(totals))?;
        }
        self.out.flush()?;
        written.files += self.written.files;
        written.records += self.written.records;
        written.bytes += self.written.bytes;
        Ok(())
    }
}

fn task_id(set: &RecordSet, task: u64) -> TaskId<'static> {
    TaskId {
        stage: (task / set.tasks_per_stage) as i32,
        stage_attempt: 0,
        index: (task % set.tasks_per_stage) as i32,
        attempt: 0,
        task_id: task as i64,
        method: TaskMethod::BREAKPOINT,
        ..TaskId::default()
    }
}

/// Begins a segment's file: its header, and how long that is.
fn open_segment(
    set: &RecordSet,
    executor: u64,
    folder: &Path,
    process: &ProcessId,
    segment: u32,
) -> io::Result<(BufWriter<File>, u64)> {
    let node = set.node_of(executor);
    let executor_id = executor.to_string();
    let header = encoded(&Header {
        segment,
        process_id: *process,
        node: node.as_bytes(),
        node_source: b"generated",
        host: node.as_bytes(),
        boot_id: b"generated",
        pid: 1000,
        start_real_ns: BEGAN_NS,
        role: b"executor",
        application_id: set.application.as_bytes(),
        executor_id: executor_id.as_bytes(),
        comm: b"java",
        command_line: b"generated\0",
        tracer: b"engine",
        task_method: TaskMethod::BREAKPOINT,
        starts_at: b"constructor",
        settings: if set.directories > 0 {
            b"generated=true\nper_directory = true\n"
        } else {
            b"generated=true\n"
        },
        metrics: MetricSet::ALL,
        ..Header::default()
    })?;
    let mut name = [0; 128];
    let prefix = format!("{node}-{executor}");
    let len = file_name::encode(&mut name, prefix.as_bytes(), process, segment)
        .map_err(|error| io::Error::other(error.to_string()))?;
    let name = String::from_utf8_lossy(&name[..len]).into_owned();
    let mut out = BufWriter::with_capacity(1 << 20, File::create(folder.join(name))?);
    out.write_all(&header)?;
    Ok((out, header.len() as u64))
}

fn encoded(header: &Header<'_>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; MAX_HEADER_BYTES];
    let len = header.encode(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    bytes.truncate(len);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use records::Segment;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_whole() {
        let set =
            RecordSet { segment_bytes: 50_000, tasks_per_executor: 40, ..RecordSet::default() };
        let folder = tempfile::tempdir().unwrap();
        let written = set.write_records(folder.path()).unwrap();
        let (mut files, mut records, mut ends) = (0, 0, 0);
        for node in fs::read_dir(folder.path()).unwrap() {
            for file in fs::read_dir(node.unwrap().path()).unwrap() {
                let bytes = fs::read(file.unwrap().path()).unwrap();
                let segment = Segment::parse(&bytes).unwrap();
                assert_eq!(segment.header().node_source, b"generated");
                assert_eq!(segment.left_out_bytes(), 0);
                files += 1;
                records += (bytes.len() - segment.records_at()) / RECORD_BYTES;
                ends += segment
                    .groups()
                    .filter(|group| matches!(group.event, Event::TaskEnd { .. }))
                    .count();
            }
        }
        assert_eq!((files, records as u64), (written.files, written.records));
        assert!(files > 2, "an executor has several segments");
        assert_eq!(ends as u64, set.tasks());
    }

    #[test]
    fn the_event_log_is_lines_of_json() {
        let mut log = Vec::new();
        RecordSet::default().write_event_log(&mut log).unwrap();
        let lines: Vec<serde_json::Value> = String::from_utf8(log)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let ends = lines.iter().filter(|line| line["Event"] == "SparkListenerTaskEnd").count();
        assert_eq!(ends as u64, RecordSet::default().tasks());
        assert_eq!(lines[1]["App Name"], "generated");
    }
}
