//! Golden record files: written once per format version, read by every later one.
//!
//! `data/golden/v1-*.sar` were written by this test with `UPDATE_GOLDEN=1`, and the `.txt` beside each
//! file is what it says. While the writer's version is 1 the test also proves that it still writes the
//! same bytes; with version 2 that half goes, and the files stay.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use records::{
    Event, Flags, Header, MAX_GROUP_BYTES, MAX_HEADER_BYTES, METRIC_COUNT, METRICS, MetricSet,
    ProcessEndReason, ProcessId, Segment, Stamp, TaskId, TaskMethod, TaskOutcome, VERSION,
    encode_group, file_name, notice,
};

const EXECUTOR: ProcessId = *b"golden executor!";
const PROGRAM: ProcessId = *b"golden program!!";

/// A segment being written.
struct Writer {
    bytes: Vec<u8>,
    seq: u32,
    now_ns: u64,
}

impl Writer {
    fn new(header: &Header<'_>) -> Writer {
        let mut bytes = vec![0; MAX_HEADER_BYTES];
        let len = header.encode(&mut bytes).unwrap();
        bytes.truncate(len);
        Writer { bytes, seq: 0, now_ns: header.start_mono_ns }
    }

    fn put(
        &mut self,
        tid: u32,
        flags: Flags,
        event: &Event<'_>,
        values: Option<[u64; METRIC_COUNT]>,
    ) {
        let mut buf = [0; MAX_GROUP_BYTES];
        self.now_ns += 1_000_000;
        let stamp =
            Stamp { mono_ns: self.now_ns, real_ns: self.now_ns + 1_790_000_000_000_000_000 };
        let len =
            encode_group(&mut buf, self.seq, stamp, tid, flags, event, values.as_ref()).unwrap();
        self.bytes.extend(&buf[..len]);
        self.seq += 1;
    }
}

/// Every metric is `base` plus its index, so that a shifted column shows.
fn ramp(base: u64) -> Option<[u64; METRIC_COUNT]> {
    Some(std::array::from_fn(|index| base + index as u64))
}

fn executor_header(segment: u32) -> Header<'static> {
    Header {
        segment,
        process_id: EXECUTOR,
        parent_process: Some([7; 16]),
        node: b"node-1",
        node_source: b"conf",
        cluster: b"golden",
        host: b"host.example",
        boot_id: b"00000000-1111-2222-3333-444444444444",
        pid: 4711,
        ppid: 4700,
        start_mono_ns: 5_000_000_000,
        start_real_ns: 1_790_000_005_000_000_000,
        start_ticks: 123,
        role: b"executor",
        application_id: b"app-20261121034702-0000",
        application_attempt: b"1",
        executor_id: b"0",
        comm: b"java",
        exe: b"/usr/lib/jvm/java-17-openjdk-amd64/bin/java",
        command_line: b"java\0-cp\0*********(redacted)\0",
        tracer: b"none",
        task_method: TaskMethod::BREAKPOINT,
        starts_at: b"constructor",
        settings: b"snapshot_interval_ms=1000\nmetrics=syscalls\n",
        container: b"container_1",
        pod: b"",
        metrics: MetricSet::ALL.difference(MetricSet::ENGINE),
    }
}

fn task(task_id: i64) -> TaskId<'static> {
    TaskId {
        stage: 0,
        stage_attempt: 0,
        index: task_id as i32,
        attempt: 0,
        task_id,
        method: TaskMethod::BREAKPOINT,
        application_id: b"app-20261121034702-0000",
        executor_id: b"0",
    }
}

fn executor() -> Vec<u8> {
    let mut out = Writer::new(&executor_header(0));
    out.put(4711, Flags::NONE, &Event::ThreadStart { name: b"java" }, None);
    out.put(4720, Flags::NONE, &Event::ThreadStart { name: b"Executor task l" }, None);
    out.put(4720, Flags::NONE, &Event::TaskStart(task(1)), ramp(100));
    out.put(0, Flags::NONE, &Event::Snapshot, ramp(1_000));
    let end = Event::TaskEnd { task: task(1), outcome: TaskOutcome::RETURNED };
    out.put(4720, Flags::NONE, &end, ramp(400));
    out.put(4720, Flags::LATE, &Event::TaskStart(task(2)), ramp(400));
    out.bytes
}

fn executor_second_segment() -> Vec<u8> {
    let mut out = Writer::new(&executor_header(1));
    out.now_ns += 1_000_000_000;
    let first = Flags::FIRST_OF_SEGMENT;
    out.put(4711, first, &Event::Snapshot, ramp(50));
    out.put(4720, first, &Event::Snapshot, ramp(450));
    out.put(0, first, &Event::Snapshot, ramp(2_000));
    let disk = Event::Notice { code: notice::DISK_FULL, a: 65_536, b: 0, text: b"/var/spool" };
    out.put(0, Flags::NONE, &disk, None);
    out.put(4711, Flags::NONE, &Event::Spawn { pid: 4800, path: b"/bin/bash" }, None);
    let end = Event::TaskEnd { task: task(2), outcome: TaskOutcome::THREW };
    out.put(4720, Flags::CLOSED_BY_THREAD_END, &end, ramp(500));
    out.put(4720, Flags::FINAL, &Event::ThreadEnd, ramp(510));
    let end = Event::ProcessEnd { reason: ProcessEndReason::EXIT, status: 0 };
    out.put(0, Flags::FINAL, &end, ramp(3_000));
    out.bytes
}

fn program() -> Vec<u8> {
    let header = Header {
        process_id: PROGRAM,
        pid: 9,
        role: b"program",
        comm: b"gzip",
        tracer: b"engine",
        metrics: MetricSet::ALL,
        ..Header::default()
    };
    let mut out = Writer::new(&header);
    let followed = Flags::FOLLOWED;
    out.put(9, followed, &Event::ThreadStart { name: b"gzip" }, None);
    out.put(9, followed, &Event::Snapshot, ramp(1));
    let released = Flags::WAS_RELEASED;
    let why = Event::Notice { code: notice::THREAD_RELEASED, a: 0x40_1000, b: 0, text: b"signal" };
    out.put(9, released, &why, None);
    out.put(9, released, &Event::Exec { path: b"/bin/true" }, None);
    let end = Event::ProcessEnd { reason: ProcessEndReason::EXEC, status: 0 };
    out.put(0, released | Flags::FINAL, &end, Some([u64::MAX; METRIC_COUNT]));
    out.bytes
}

/// The executor's first segment as a crash and a bad disk would leave it.
fn damaged() -> Vec<u8> {
    let mut bytes = executor();
    let records = Segment::parse(&bytes).unwrap().records_at();
    bytes[records + 256 + 40] ^= 0xff; // the second thread's start
    bytes[records + 8 * 256..][..256].fill(0); // a member of the snapshot
    bytes.truncate(bytes.len() - 100);
    bytes
}

fn describe(bytes: &[u8]) -> String {
    let segment = Segment::parse(bytes).expect("golden files have sound headers");
    let header = segment.header();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
    let mut out = String::new();
    for (name, value) in [
        ("node", header.node),
        ("node_source", header.node_source),
        ("cluster", header.cluster),
        ("host", header.host),
        ("boot_id", header.boot_id),
        ("role", header.role),
        ("application_id", header.application_id),
        ("application_attempt", header.application_attempt),
        ("executor_id", header.executor_id),
        ("comm", header.comm),
        ("exe", header.exe),
        ("command_line", header.command_line),
        ("tracer", header.tracer),
        ("starts_at", header.starts_at),
        ("settings", header.settings),
        ("container", header.container),
        ("pod", header.pod),
    ] {
        writeln!(out, "{name}: {}", text(value)).unwrap();
    }
    writeln!(out, "segment: {} process: {:?}", header.segment, header.process_id).unwrap();
    writeln!(out, "parent: {:?} pid: {} ppid: {}", header.parent_process, header.pid, header.ppid)
        .unwrap();
    writeln!(
        out,
        "start: {} {} {} method: {}",
        header.start_mono_ns,
        header.start_real_ns,
        header.start_ticks,
        header.task_method.name()
    )
    .unwrap();
    for group in segment.groups() {
        write!(
            out,
            "{} +{} real {} tid {} flags {:#x} {}",
            group.seq,
            group.stamp.mono_ns,
            group.stamp.real_ns,
            group.tid,
            group.flags.0,
            group.event.kind().name()
        )
        .unwrap();
        let task_text = |task: &TaskId<'_>| {
            format!(
                " stage {}.{} task {}.{} TID {} {} {} {}",
                task.stage,
                task.stage_attempt,
                task.index,
                task.attempt,
                task.task_id,
                task.method.name(),
                text(task.application_id),
                text(task.executor_id)
            )
        };
        let details = match &group.event {
            Event::ThreadStart { name } => format!(" {}", text(name)),
            Event::TaskStart(task) => task_text(task),
            Event::TaskEnd { task, outcome } => format!("{} {}", task_text(task), outcome.name()),
            Event::Notice { code, a, b, text: words } => {
                format!(" {} {a} {b} {}", notice::name(*code).unwrap_or("?"), text(words))
            }
            Event::Exec { path } => format!(" {}", text(path)),
            Event::Spawn { pid, path } => format!(" {pid} {}", text(path)),
            Event::ProcessEnd { reason, status } => format!(" {} {status}", reason.name()),
            Event::ThreadEnd | Event::Snapshot => String::new(),
        };
        writeln!(out, "{details}").unwrap();
        if let Some(values) = &group.values {
            for (index, metric) in METRICS.iter().enumerate() {
                match values.get(index) {
                    Some(value) => writeln!(out, "  {} {value}", metric.name).unwrap(),
                    None => writeln!(out, "  {} unknown", metric.name).unwrap(),
                }
            }
        }
    }
    writeln!(out, "left out: {:?}", segment.left_out()).unwrap();
    out
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/golden")
}

fn check(prefix: &str, process: &ProcessId, segment: u32, bytes: &[u8]) {
    let mut name = [0; 128];
    let len = file_name::encode(&mut name, prefix.as_bytes(), process, segment).unwrap();
    let path = folder().join(std::str::from_utf8(&name[..len]).unwrap());
    let text_path = path.with_extension("txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(folder()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::write(&text_path, describe(bytes)).unwrap();
    }
    let golden = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(golden == bytes, "{}: version {VERSION} writes other bytes now", path.display());
    let said = fs::read_to_string(&text_path).unwrap();
    assert_eq!(describe(&golden), said, "{}", text_path.display());
}

#[test]
fn version_1_is_written_and_read_as_ever() {
    check("v1-executor", &EXECUTOR, 0, &executor());
    check("v1-executor", &EXECUTOR, 1, &executor_second_segment());
    check("v1-program", &PROGRAM, 0, &program());
}

#[test]
fn version_1_with_damage() {
    check("v1-damaged", &EXECUTOR, 0, &damaged());
}

#[test]
fn every_golden_file_is_covered() {
    let names = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let records = names.filter(|name| name.to_string_lossy().ends_with(".sar")).count();
    assert_eq!(records, 4, "a golden file that no test reads");
}
