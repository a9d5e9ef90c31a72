//! Golden record files: written once per format version, read by every later one.
//!
//! `data/golden/v*-*.sar` were written by this test with `UPDATE_GOLDEN=1`, and the `.txt` beside each
//! file is what it says. Of the writer's own version and edition of the table of metrics the test also proves that it
//! still writes the same bytes; with the next one that half goes, and the files stay.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use records::event::{MAX_DIRECTORY_BYTES, OTHER_DIRECTORIES};
use records::metric::{Class, EDITION};
use records::{
    Event, Flags, Header, MAX_GROUP_BYTES, MAX_HEADER_BYTES, METRIC_COUNT, METRICS, MetricSet,
    ProcessEndReason, ProcessId, Segment, Stamp, TaskId, TaskMethod, TaskOutcome, VERSION,
    encode_group, file_name, notice,
};

const PROCESS: ProcessId = *b"golden version 2";

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

/// The same for the metrics of files alone.
fn files(base: u64) -> Option<[u64; METRIC_COUNT]> {
    let files = MetricSet::class(Class::File);
    ramp(base).map(|mut values| {
        values
            .iter_mut()
            .enumerate()
            .for_each(|(at, value)| *value *= u64::from(files.contains(at)));
        values
    })
}

fn task(task_id: i64) -> TaskId<'static> {
    TaskId {
        stage: 0,
        stage_attempt: 0,
        index: task_id as i32,
        attempt: 0,
        task_id,
        method: TaskMethod::BREAKPOINT,
        application_id: b"app-golden",
        executor_id: b"0",
    }
}

/// Every kind of record.
fn all_kinds() -> Vec<u8> {
    let header = Header {
        process_id: PROCESS,
        pid: 9,
        role: b"program",
        comm: b"gzip",
        tracer: b"engine",
        settings: b"per_directory = true",
        metrics: MetricSet::ALL,
        ..Header::default()
    };
    let mut out = Writer::new(&header);
    let followed = Flags::FOLLOWED;
    out.put(9, followed, &Event::ThreadStart { name: b"gzip" }, None);
    out.put(9, followed, &Event::TaskStart(task(1)), ramp(100));
    let directory = |number, path| Event::Directory { number, path };
    out.put(0, Flags::NONE, &directory(1, b"/data/in"), files(10));
    out.put(9, followed, &Event::Snapshot, ramp(200));
    out.put(0, followed, &Event::Snapshot, ramp(200));
    let end = Event::TaskEnd { task: task(1), outcome: TaskOutcome::RETURNED };
    out.put(9, followed, &end, ramp(300));
    let why = Event::Notice { code: notice::TABLE_FULL, a: 512, b: 0, text: b"directories" };
    out.put(0, Flags::NONE, &why, None);
    out.put(9, followed, &Event::Spawn { pid: 10, fork: 0, path: b"/bin/true" }, None);
    out.put(9, followed, &Event::Exec { path: b"/bin/true" }, None);
    out.put(9, followed | Flags::FINAL, &Event::ThreadEnd, ramp(1_000));
    out.put(0, Flags::FINAL, &directory(1, b"/data/in"), files(20));
    let long = [b'/'; MAX_DIRECTORY_BYTES + 1];
    out.put(0, Flags::FINAL, &directory(2, &long), files(1));
    out.put(0, Flags::FINAL, &directory(513, OTHER_DIRECTORIES), files(2));
    let end = Event::ProcessEnd { reason: ProcessEndReason::EXIT, status: 0 };
    out.put(0, followed | Flags::FINAL, &end, ramp(1_000));
    out.bytes
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
            Event::Spawn { pid, fork: 0, path } => format!(" {pid} {}", text(path)),
            Event::Spawn { pid, fork, .. } => format!(" {pid} fork {fork}"),
            Event::ProcessEnd { reason, status } => format!(" {} {status}", reason.name()),
            Event::Directory { number, path } => format!(" {number} {}", text(path)),
            Event::ThreadEnd | Event::Snapshot => String::new(),
        };
        writeln!(out, "{details}").unwrap();
        if let Some(values) = &group.values {
            // What the file does not name it does not know, whatever is counted since.
            let named: Vec<usize> = segment.directory().filter_map(|entry| entry.index).collect();
            for index in (0..METRIC_COUNT).filter(|index| !named.contains(index)) {
                assert_eq!(values.get(index), None, "{}", METRICS[index].name);
            }
            for index in named {
                match values.get(index) {
                    Some(value) => writeln!(out, "  {} {value}", METRICS[index].name).unwrap(),
                    None => writeln!(out, "  {} unknown", METRICS[index].name).unwrap(),
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

/// A file says what it always said.
fn check(path: &Path) {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text_path = path.with_extension("txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !text_path.exists() {
        fs::write(&text_path, describe(&bytes)).unwrap();
    }
    let said = fs::read_to_string(&text_path).unwrap();
    assert_eq!(describe(&bytes), said, "{}", text_path.display());
}

#[test]
fn every_version_is_read_as_ever() {
    let mut read = [0; VERSION as usize];
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "sar") {
            check(&path);
            let version = fs::read(&path).unwrap()[8];
            read[usize::from(version) - 1] += 1;
        }
    }
    assert!(read[0] >= 4 && read[1] >= EDITION as usize, "files of each version: {read:?}");
}

#[test]
fn version_2_is_written_as_ever() {
    let bytes = all_kinds();
    let mut name = [0; 128];
    // A new edition of the table of metrics has a file of its own, and the older ones stay.
    let prefix = match EDITION {
        1 => "v2-program".to_owned(),
        later => format!("v2-metrics{later}"),
    };
    let len = file_name::encode(&mut name, prefix.as_bytes(), &PROCESS, 0).unwrap();
    let path = folder().join(std::str::from_utf8(&name[..len]).unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        fs::write(&path, &bytes).unwrap();
    }
    let golden = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(golden == bytes, "{}: version {VERSION} writes other bytes now", path.display());
}
