//! The bytes of version 2, field by field: what other programs and later versions rely on.

use records::header::tag;
use records::{
    Event, Flags, Header, MAX_GROUP_BYTES, MAX_HEADER_BYTES, METRIC_COUNT, METRICS, MetricSet,
    ProcessEndReason, ReadError, Segment, Stamp, TaskId, TaskMethod, TaskOutcome, TooSmall,
    encode_group,
};

fn header() -> Header<'static> {
    Header {
        segment: 3,
        process_id: *b"0123456789abcdef",
        node: b"node-1",
        pid: 77,
        role: b"executor",
        metrics: MetricSet::ALL,
        ..Header::default()
    }
}

fn segment_of(header: &Header<'_>, groups: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; MAX_HEADER_BYTES];
    let len = header.encode(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes.extend(groups.concat());
    bytes
}

fn group(seq: u32, tid: u32, event: &Event<'_>, values: Option<&[u64; METRIC_COUNT]>) -> Vec<u8> {
    let mut buf = [0xaa; MAX_GROUP_BYTES];
    let stamp = Stamp { mono_ns: 5, real_ns: 6 };
    let len = encode_group(&mut buf, seq, stamp, tid, Flags::FOLLOWED, event, values).unwrap();
    buf[..len].to_vec()
}

#[test]
fn header_bytes() {
    let bytes = segment_of(&header(), &[]);
    assert_eq!(&bytes[..8], b"SPARKREC");
    assert_eq!(bytes[8..12], [2, 0, 0, 1]); // version 2, records of 256
    assert_eq!(bytes.len() % 256, 0);
    assert_eq!(u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize, bytes.len());
    assert_eq!(bytes[20..24], [3, 0, 0, 0]);
    assert_eq!(&bytes[24..40], b"0123456789abcdef");
    assert_eq!(bytes[40..44], [tag::NODE as u8, 0, 6, 0]);
    assert_eq!(&bytes[44..50], b"node-1");
    let mut without_crc = bytes.clone();
    without_crc[16..20].fill(0);
    assert_eq!(bytes[16..20], crc32(&without_crc).to_le_bytes());
}

/// CRC-32 (IEEE 802.3), bit by bit, independent of the crate that the library uses.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn record_bytes() {
    let mut values = [0; METRIC_COUNT];
    values[1] = 0x0102_0304;
    values[94] = u64::MAX; // the last one
    let task = TaskId {
        stage: 1,
        stage_attempt: 2,
        index: 3,
        attempt: 4,
        task_id: 5,
        method: TaskMethod::BREAKPOINT,
        application_id: b"app-1",
        executor_id: b"9",
    };
    let bytes = group(7, 8, &Event::TaskEnd { task, outcome: TaskOutcome::THREW }, Some(&values));
    assert_eq!(bytes.len(), 3 * 256); // leader, engine's chunk, other's chunk
    for (at, record) in bytes.chunks(256).enumerate() {
        assert_eq!(record[..4], crc32(&record[4..]).to_le_bytes());
        assert_eq!(record[4], [4, 6, 6][at]);
        assert_eq!(record[5] as usize, 2 - at);
        assert_eq!(record[6..8], [1, 0]);
        assert_eq!(record[8..16], [8, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(record[16..32], [5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
    }
    let leader = &bytes[32..];
    assert_eq!(leader[..16], [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(leader[16..27], [5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2]);
    assert_eq!(&leader[32..38], b"app-1\0");
    assert_eq!(&leader[96..98], b"9\0");
    let engine = &bytes[256 + 32..];
    assert_eq!(engine[..8], [0, 0, 7, 0, 0, 0, 0, 0]);
    assert_eq!(engine[16..24], [4, 3, 2, 1, 0, 0, 0, 0]);
    let other = &bytes[512 + 32..];
    assert_eq!(other[..8], [73, 0, 22, 0, 0, 0, 0, 0]);
    assert_eq!(other[8 + 21 * 8..8 + 22 * 8], [0xff; 8]);
}

#[test]
fn directory_bytes() {
    let mut values = [0; METRIC_COUNT];
    values[7] = 9; // file_open_calls
    let bytes = group(7, 0, &Event::Directory { number: 0x0102, path: b"/data" }, Some(&values));
    assert_eq!(bytes.len(), 2 * 256); // leader, files' chunk
    assert_eq!((bytes[4], bytes[5]), (11, 1));
    assert_eq!(bytes[32..46], *b"\x02\x01\0\0\0\0\0\0/data\0");
    assert_eq!(bytes[256 + 32..][..16], [7, 0, 22, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn every_event_comes_back() {
    let task = TaskId { stage: 1, task_id: 9, executor_id: b"driver", ..TaskId::default() };
    let events = [
        Event::ThreadStart { name: b"Executor task l" },
        Event::ThreadEnd,
        Event::TaskStart(task),
        Event::TaskEnd { task, outcome: TaskOutcome::RETURNED },
        Event::Snapshot,
        Event::Notice { code: 4, a: 1, b: u64::MAX, text: b"disk" },
        Event::Exec { path: b"/bin/true" },
        Event::Spawn { pid: 12, fork: 0, path: b"/bin/false" },
        Event::Spawn { pid: 13, fork: u32::MAX, path: b"" },
        Event::ProcessEnd { reason: ProcessEndReason::SIGNAL, status: -9 },
        Event::Directory { number: 513, path: b"/data" },
    ];
    let values = [42; METRIC_COUNT];
    let groups: Vec<_> =
        events.iter().enumerate().map(|(seq, e)| group(seq as u32, 1, e, Some(&values))).collect();
    let bytes = segment_of(&header(), &groups);
    let segment = Segment::parse(&bytes).unwrap();
    assert_eq!(segment.header(), &header());
    assert_eq!(segment.directory().count(), METRIC_COUNT);
    let read: Vec<_> = segment.groups().collect();
    assert_eq!(read.len(), events.len());
    for (group, event) in read.iter().zip(&events) {
        assert_eq!(&group.event, event);
        assert_eq!(group.values.is_some(), event.kind().has_values());
        if let Some(read) = &group.values {
            assert_eq!(read.raw(), &values);
        }
    }
    assert_eq!(segment.left_out_bytes(), 0);
}

#[test]
fn inactive_metrics_are_unknown_not_zero() {
    let header = Header { metrics: MetricSet::ENGINE, ..header() };
    let bytes = segment_of(&header, &[group(0, 0, &Event::Snapshot, Some(&[3; METRIC_COUNT]))]);
    let segment = Segment::parse(&bytes).unwrap();
    let values = segment.groups().next().unwrap().values.unwrap();
    assert_eq!(values.get(0), Some(3));
    assert_eq!(values.get(records::metric::ENGINE_COUNT), None);
    assert_eq!(values.get(METRIC_COUNT), None);
}

#[test]
fn too_long_texts_are_clipped_and_say_so() {
    let long = [b'x'; 70_000];
    let full = Header {
        node: &long,
        node_source: &long,
        cluster: &long,
        host: &long,
        boot_id: &long,
        role: &long,
        application_id: &long,
        application_attempt: &long,
        executor_id: &long,
        comm: &long,
        exe: &long,
        command_line: &long,
        tracer: &long,
        starts_at: &long,
        settings: &long,
        container: &long,
        pod: &long,
        parent_process: Some([1; 16]),
        parent_fork: 7,
        ..header()
    };
    let bytes = segment_of(&full, &[group(0, 1, &Event::Exec { path: &long }, None)]);
    let segment = Segment::parse(&bytes).unwrap();
    assert_eq!(segment.header().command_line.len(), 4096);
    let group = segment.groups().next().unwrap();
    assert!(group.flags.contains(Flags::CLIPPED));
    assert_eq!(group.event, Event::Exec { path: &long[..224] });
}

#[test]
fn small_buffers_are_refused() {
    let len = segment_of(&header(), &[]).len();
    for short in [0, 7, 39, 100, len - 1] {
        assert_eq!(header().encode(&mut vec![0; short]), Err(TooSmall));
    }
    let mut buf = [0; MAX_GROUP_BYTES];
    let values = [1; METRIC_COUNT];
    let mut encode = |len: usize| {
        let buf = &mut buf[..len];
        encode_group(buf, 0, Stamp::default(), 0, Flags::NONE, &Event::Snapshot, Some(&values))
    };
    assert_eq!(encode(MAX_GROUP_BYTES - 1), Err(TooSmall));
    assert_eq!(encode(MAX_GROUP_BYTES), Ok(MAX_GROUP_BYTES));
}

#[test]
fn metrics_are_found_by_name_not_by_place() {
    // A file of a later minor state: an unknown metric first, then two known ones, one inactive.
    let mut directory = Vec::new();
    for (active, name) in [(1, "vector_instructions"), (1, "barriers"), (0, "instructions")] {
        directory.extend([active, 0, name.len() as u8]);
        directory.extend(name.bytes());
    }
    let mut bytes = segment_of(&header(), &[]);
    bytes.truncate(40);
    bytes.extend(99u16.to_le_bytes()); // an unknown field
    bytes.extend([2, 0, 1, 2]);
    bytes.extend(tag::METRICS.to_le_bytes());
    bytes.extend((directory.len() as u16).to_le_bytes());
    bytes.extend(directory);
    bytes.resize(256, 0);
    seal(&mut bytes);
    let mut values = [0; METRIC_COUNT];
    values[..3].copy_from_slice(&[10, 20, 30]);
    bytes.extend(group(0, 1, &Event::ThreadEnd, Some(&values)));
    let segment = Segment::parse(&bytes).unwrap();
    let read = segment.groups().next().unwrap().values.unwrap();
    for (index, metric) in METRICS.iter().enumerate() {
        assert_eq!(read.get(index), (metric.name == "barriers").then_some(20), "{}", metric.name);
    }
    assert_eq!(segment.directory().next().unwrap().name, b"vector_instructions");
}

fn seal(header: &mut [u8]) {
    let len = header.len() as u32;
    header[12..16].copy_from_slice(&len.to_le_bytes());
    header[16..20].fill(0);
    let crc = crc32(header);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn foreign_and_damaged_headers() {
    let sound = segment_of(&header(), &[]);
    let parse = |bytes: &[u8]| Segment::parse(bytes).err();
    assert_eq!(parse(b""), Some(ReadError::Empty));
    assert_eq!(parse(b"PK\x03\x04"), Some(ReadError::NotARecordFile));
    assert_eq!(parse(b"SPARK"), Some(ReadError::TooShort { len: 5, needed: 40 }));
    let cut = sound.len() - 1;
    assert_eq!(parse(&sound[..cut]), Some(ReadError::TooShort { len: cut, needed: sound.len() }));
    let mut newer = sound.clone();
    newer[8] = 3;
    assert_eq!(parse(&newer), Some(ReadError::NewerVersion { version: 3 }));
    for at in [9, 10, 12, 16, 30, 50, sound.len() - 1] {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x80;
        assert!(parse(&damaged).is_some(), "byte {at}");
    }
    let mut open_field = sound;
    open_field[42] = 0xff;
    open_field[43] = 0xff;
    seal(&mut open_field);
    assert_eq!(parse(&open_field), Some(ReadError::DamagedHeader { what: "fields" }));
}

#[test]
fn what_is_left_out_is_counted_by_reason() {
    let mut values = [0; METRIC_COUNT];
    values[0] = 1;
    let snapshot = |seq| group(seq, 1, &Event::Snapshot, Some(&values));
    let mut half = snapshot(1);
    half.truncate(256);
    let mut orphan = snapshot(2);
    orphan.drain(..256);
    let mut damaged = snapshot(3);
    damaged[300] ^= 1;
    let mut unknown = group(4, 1, &Event::ThreadStart { name: b"" }, None);
    unknown[4] = 200;
    let crc = crc32(&unknown[4..]).to_le_bytes();
    unknown[..4].copy_from_slice(&crc);
    let parts =
        [snapshot(0), half, orphan, damaged, vec![0; 512], unknown, snapshot(5), vec![1; 9]];
    let bytes = segment_of(&header(), &parts);
    let segment = Segment::parse(&bytes).unwrap();
    assert_eq!(segment.groups().map(|g| g.seq).collect::<Vec<_>>(), [0, 5]);
    let left_out = segment.left_out();
    // half's leader; the orphan; the leader of the damaged member
    assert_eq!(left_out.incomplete, 3 * 256);
    assert_eq!(left_out.damaged, 256);
    assert_eq!(left_out.empty, 512);
    assert_eq!(left_out.unknown, 256);
    assert_eq!(left_out.torn_tail, 9);
    assert_eq!(segment.left_out_bytes(), left_out.total());
}
