//! Properties: what was written comes back, and no bytes whatsoever make the reader panic.

use proptest::collection::vec;
use proptest::prelude::*;
use records::metric::CHUNKS;
use records::{
    Event, Flags, Header, MAX_GROUP_BYTES, MAX_HEADER_BYTES, METRIC_COUNT, MetricSet,
    ProcessEndReason, RECORD_BYTES, Segment, Stamp, TaskId, TaskMethod, TaskOutcome, encode_group,
};

/// An event with its texts owned.
#[derive(Clone, Debug)]
struct Owned {
    kind: u8,
    numbers: [u64; 2],
    ids: [i32; 4],
    small: u8,
    text: Vec<u8>,
    more_text: Vec<u8>,
}

impl Owned {
    fn event(&self) -> Event<'_> {
        let task = TaskId {
            stage: self.ids[0],
            stage_attempt: self.ids[1],
            index: self.ids[2],
            attempt: self.ids[3],
            task_id: self.numbers[0] as i64,
            method: TaskMethod(self.small),
            application_id: &self.text,
            executor_id: &self.more_text,
        };
        match self.kind {
            1 => Event::ThreadStart { name: &self.text },
            2 => Event::ThreadEnd,
            3 => Event::TaskStart(task),
            4 => Event::TaskEnd { task, outcome: TaskOutcome(self.small) },
            5 => Event::Snapshot,
            7 => Event::Notice {
                code: u16::from(self.small),
                a: self.numbers[0],
                b: self.numbers[1],
                text: &self.text,
            },
            8 => Event::Exec { path: &self.text },
            9 => {
                Event::Spawn { pid: self.ids[0] as u32, fork: self.ids[1] as u32, path: &self.text }
            }
            11 => Event::Directory { number: self.numbers[0] as u16, path: &self.text },
            _ => Event::ProcessEnd { reason: ProcessEndReason(self.small), status: self.ids[1] },
        }
    }
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    vec(1u8..=255, 0..32)
}

fn owned() -> impl Strategy<Value = Owned> {
    let kind = prop_oneof![1u8..6, 7u8..12];
    (kind, any::<[u64; 2]>(), any::<[i32; 4]>(), any::<u8>(), text(), text()).prop_map(
        |(kind, numbers, ids, small, text, more_text)| Owned {
            kind,
            numbers,
            ids,
            small,
            text,
            more_text,
        },
    )
}

#[derive(Clone, Debug)]
struct Written {
    stamp: (u64, u64),
    tid: u32,
    flags: u16,
    event: Owned,
    values: Option<Vec<u64>>,
}

impl Written {
    fn values(&self) -> Option<[u64; METRIC_COUNT]> {
        self.values.as_deref().map(|values| values.try_into().expect("as many as metrics"))
    }

    fn encode(&self, seq: u32) -> Vec<u8> {
        let mut buf = vec![0x55; MAX_GROUP_BYTES];
        let stamp = Stamp { mono_ns: self.stamp.0, real_ns: self.stamp.1 };
        let flags = Flags(self.flags);
        let event = self.event.event();
        let len =
            encode_group(&mut buf, seq, stamp, self.tid, flags, &event, self.values().as_ref());
        buf.truncate(len.expect("the buffer has the documented size"));
        buf
    }
}

fn values() -> impl Strategy<Value = Vec<u64>> {
    let value = prop_oneof![3 => Just(0u64), 1 => any::<u64>()];
    (vec(value, METRIC_COUNT), any::<u8>()).prop_map(|(mut values, blank)| {
        for (chunk, (first, count)) in CHUNKS.into_iter().enumerate() {
            if blank >> chunk & 1 == 1 {
                values[first..first + count].fill(0);
            }
        }
        values
    })
}

fn written() -> impl Strategy<Value = Vec<Written>> {
    let one =
        (any::<(u64, u64)>(), any::<u32>(), any::<u16>(), owned(), proptest::option::of(values()))
            .prop_map(|(stamp, tid, flags, event, values)| Written {
                stamp,
                tid,
                flags,
                event,
                values,
            });
    vec(one, 0..12)
}

fn segment(groups: &[Written]) -> Vec<u8> {
    let header = Header {
        node: b"n",
        command_line: b"java\0-cp\0x\0",
        metrics: MetricSet::ALL,
        ..Header::default()
    };
    let mut bytes = vec![0; MAX_HEADER_BYTES];
    let len = header.encode(&mut bytes).expect("the buffer has the documented size");
    bytes.truncate(len);
    for (seq, group) in groups.iter().enumerate() {
        bytes.extend(group.encode(seq as u32));
    }
    bytes
}

/// Reads everything there is; returns the number of groups and of bytes accounted for.
fn read_all(bytes: &[u8]) -> Option<(usize, usize)> {
    let segment = Segment::parse(bytes).ok()?;
    let records = bytes.len() - segment.records_at();
    let mut groups = segment.groups();
    let mut count = 0;
    let mut used = 0;
    for group in groups.by_ref() {
        count += 1;
        used += RECORD_BYTES;
        assert!(group.offset + RECORD_BYTES <= bytes.len());
        used += RECORD_BYTES * usize::from(bytes[group.offset + 5]);
    }
    assert_eq!(used + groups.left_out().total(), records, "every byte is used or counted");
    assert!(segment.directory().count() <= METRIC_COUNT);
    Some((count, used))
}

/// Reads the segment in pieces; the offsets of its groups, and what was left out.
fn read_pieces(bytes: &[u8], piece_bytes: usize) -> Option<(Vec<usize>, usize)> {
    let segment = Segment::parse(&bytes[..segment(&[]).len().min(bytes.len())]).ok()?;
    let (mut offsets, mut left_out) = (Vec::new(), 0);
    let (mut at, mut len) = (segment.records_at(), piece_bytes);
    loop {
        let end = bytes.len().min(at + len);
        let mut groups = segment.groups_in(&bytes[at..end], at, end == bytes.len());
        offsets.extend(groups.by_ref().map(|group| group.offset));
        left_out += groups.left_out().total();
        if end == bytes.len() {
            assert_eq!(groups.position(), end, "the last piece is read to its end");
            return Some((offsets, left_out));
        }
        // A piece that is shorter than a group does not get on: a longer one does.
        len = if groups.position() == at { len + piece_bytes } else { piece_bytes };
        at = groups.position();
    }
}

proptest! {
    #[test]
    fn pieces_are_the_whole(
        groups in written(),
        piece_bytes in 1usize..3000,
        flips in vec(any::<prop::sample::Index>(), 0..4),
        tail in vec(any::<u8>(), 0..600),
    ) {
        let mut bytes = segment(&groups);
        let header = bytes.len().min(segment(&[]).len());
        bytes.extend(tail);
        for at in flips {
            let at = at.index(bytes.len());
            if at >= header {
                bytes[at] ^= 4;
            }
        }
        let whole = Segment::parse(&bytes).unwrap();
        let offsets: Vec<_> = whole.groups().map(|group| group.offset).collect();
        prop_assert_eq!(read_pieces(&bytes, piece_bytes), Some((offsets, whole.left_out_bytes())));
    }

    #[test]
    fn round_trip(groups in written()) {
        let bytes = segment(&groups);
        let segment = Segment::parse(&bytes).unwrap();
        let read: Vec<_> = segment.groups().collect();
        prop_assert_eq!(read.len(), groups.len());
        for (seq, (read, written)) in read.iter().zip(&groups).enumerate() {
            prop_assert_eq!(read.seq as usize, seq);
            prop_assert_eq!((read.stamp.mono_ns, read.stamp.real_ns), written.stamp);
            prop_assert_eq!(read.tid, written.tid);
            prop_assert_eq!(read.flags.0, written.flags);
            let event = written.event.event();
            prop_assert_eq!(&read.event, &event);
            let expected = event.kind().has_values()
                .then(|| written.values().unwrap_or([0; METRIC_COUNT]));
            prop_assert_eq!(read.values.as_ref().map(|values| *values.raw()), expected);
        }
        prop_assert_eq!(segment.left_out_bytes(), 0);
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..2000)) {
        read_all(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_sound_header(tail in vec(any::<u8>(), 0..3000)) {
        let mut bytes = segment(&[]);
        bytes.extend(tail);
        prop_assert!(read_all(&bytes).is_some());
    }

    #[test]
    fn truncation_leaves_the_groups_before_it(groups in written(), cut in any::<prop::sample::Index>()) {
        let bytes = segment(&groups);
        let keep = cut.index(bytes.len() + 1);
        let header = segment(&[]).len();
        let whole = (0..=groups.len()).rev().find(|&n| segment(&groups[..n]).len() <= keep);
        let read = read_all(&bytes[..keep]).map(|(count, _)| count);
        prop_assert_eq!(read, if keep < header { None } else { whole });
    }

    #[test]
    fn a_flipped_bit_costs_at_most_its_group(groups in written(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = segment(&groups);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let header = segment(&[]).len();
        match read_all(&bytes) {
            None => prop_assert!(at < header),
            Some((count, _)) => {
                prop_assert!(at >= header, "a flipped bit in the header is always seen");
                prop_assert_eq!(count, groups.len() - 1);
            }
        }
    }

    #[test]
    fn file_names(prefix in "[a-z0-9.-]{0,20}", process: [u8; 16], segment: u32) {
        let mut buf = [0; 100];
        let len = records::file_name::encode(&mut buf, prefix.as_bytes(), &process, segment).unwrap();
        let name = std::str::from_utf8(&buf[..len]).unwrap();
        prop_assert_eq!(records::file_name::parse(name), Some((process, segment)));
    }

    #[test]
    fn any_file_name(name in "\\PC*") {
        records::file_name::parse(&name);
    }
}
