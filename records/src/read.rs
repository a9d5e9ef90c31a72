//! Reading a segment: checks the header, then steps from group to group over whatever bytes there are.

use crate::bytes::{u8_at, u16_at, u32_at, u64_at};
use crate::event::{Event, Kind, PAYLOAD_AT, Stamp, VALUES_PER_RECORD};
use crate::flags::Flags;
use crate::header::{CRC_AT, Directory, FIELDS_AT, Header};
use crate::metric::{METRIC_COUNT, MetricSet};
use crate::{MAGIC, RECORD_BYTES, VERSION};

/// Metrics of a file's directory that this reader looks at; more are ignored.
pub const MAX_DIRECTORY_ENTRIES: usize = 256;
/// The longest header that is accepted, in bytes; far above what version 1 writes.
const MAX_ACCEPTED_HEADER_BYTES: usize = 1 << 20;
/// Marks a column of the file that this version does not know.
const UNKNOWN_COLUMN: u8 = u8::MAX;

/// The longest group that a leader can announce, in bytes.
pub const MAX_PIECE_TAIL_BYTES: usize = (1 + u8::MAX as usize) * RECORD_BYTES;

/// Why bytes are not a readable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// There are no bytes at all.
    Empty,
    /// The bytes end within the header.
    TooShort {
        /// Bytes there are.
        len: usize,
        /// Bytes the header needs.
        needed: usize,
    },
    /// The bytes do not begin as a record file does.
    NotARecordFile,
    /// The file was written by a newer version of the format.
    NewerVersion {
        /// The file's version.
        version: u16,
    },
    /// The header is damaged.
    DamagedHeader {
        /// What is wrong with it.
        what: &'static str,
    },
}

impl core::fmt::Display for ReadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            ReadError::Empty => f.write_str("the file is empty"),
            ReadError::TooShort { len, needed } => {
                write!(f, "the file ends within its header ({len} of {needed} bytes)")
            }
            ReadError::NotARecordFile => {
                f.write_str("not a record file (it does not begin with SPARKREC)")
            }
            ReadError::NewerVersion { version } => write!(
                f,
                "record format version {version} is newer than {VERSION}, the newest that is known \
                 here; a newer analyzer reads it"
            ),
            ReadError::DamagedHeader { what } => write!(f, "damaged header ({what})"),
        }
    }
}

impl core::error::Error for ReadError {}

/// Bytes of a segment that the reader stepped over, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Records with a wrong CRC, or whose fields contradict each other.
    pub damaged: usize,
    /// Slots of zeros: reserved by a writer that never came to write them.
    pub empty: usize,
    /// Sound records of groups that are not whole.
    pub incomplete: usize,
    /// Sound records of a kind that this version does not know.
    pub unknown: usize,
    /// Bytes after the last whole slot.
    pub torn_tail: usize,
}

impl LeftOut {
    /// These and others.
    pub const fn and(&self, other: &LeftOut) -> LeftOut {
        LeftOut {
            damaged: self.damaged + other.damaged,
            empty: self.empty + other.empty,
            incomplete: self.incomplete + other.incomplete,
            unknown: self.unknown + other.unknown,
            torn_tail: self.torn_tail + other.torn_tail,
        }
    }

    /// All of them.
    pub const fn total(&self) -> usize {
        self.damaged + self.empty + self.incomplete + self.unknown + self.torn_tail
    }
}

/// A segment with a sound header.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    header: Header<'a>,
    directory: &'a [u8],
    /// Column of the file -> index in our table.
    columns: [u8; MAX_DIRECTORY_ENTRIES],
    slots: &'a [u8],
    records_at: usize,
}

impl<'a> Segment<'a> {
    /// Checks the header of a segment's bytes.
    ///
    /// # Errors
    ///
    /// When the bytes are not a segment, or of a newer version, or the header is not whole. Damage
    /// behind the header is no error: see [`Segment::left_out`].
    pub fn parse(bytes: &'a [u8]) -> Result<Segment<'a>, ReadError> {
        if bytes.is_empty() {
            return Err(ReadError::Empty);
        }
        let magic = &bytes[..bytes.len().min(MAGIC.len())];
        if magic != &MAGIC[..magic.len()] {
            return Err(ReadError::NotARecordFile);
        }
        if bytes.len() < FIELDS_AT {
            return Err(ReadError::TooShort { len: bytes.len(), needed: FIELDS_AT });
        }
        let version = u16_at(bytes, 8);
        if version > VERSION {
            return Err(ReadError::NewerVersion { version });
        }
        let damaged = |what| Err(ReadError::DamagedHeader { what });
        if version == 0 {
            return damaged("version 0");
        }
        if usize::from(u16_at(bytes, 10)) != RECORD_BYTES {
            return damaged("record size");
        }
        let len = u32_at(bytes, 12) as usize;
        if len == 0 || !len.is_multiple_of(RECORD_BYTES) || len > MAX_ACCEPTED_HEADER_BYTES {
            return damaged("length");
        }
        let Some((head, slots)) = bytes.split_at_checked(len) else {
            return Err(ReadError::TooShort { len: bytes.len(), needed: len });
        };
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head[..CRC_AT]);
        crc.update(&[0; 4]);
        crc.update(&head[CRC_AT + 4..]);
        if crc.finalize() != u32_at(head, CRC_AT) {
            return damaged("checksum");
        }
        let Some((mut header, directory)) = Header::decode(head) else {
            return damaged("fields");
        };
        let mut columns = [UNKNOWN_COLUMN; MAX_DIRECTORY_ENTRIES];
        let mut entries = Directory::new(directory);
        let mut seen = MetricSet::EMPTY;
        for (column, entry) in entries.by_ref().enumerate() {
            let (Some(slot), Some(index)) = (columns.get_mut(column), entry.index) else {
                continue;
            };
            if seen.contains(index) {
                return damaged("a metric twice");
            }
            seen = seen.with(index);
            *slot = index as u8;
            if entry.active {
                header.metrics = header.metrics.with(index);
            }
        }
        if !entries.is_done() {
            return damaged("metric directory");
        }
        Ok(Segment { header, directory, columns, slots, records_at: len })
    }

    /// What the header says; `metrics` are the active ones that this version knows.
    pub fn header(&self) -> &Header<'a> {
        &self.header
    }

    /// The file's own metric directory.
    pub fn directory(&self) -> Directory<'a> {
        Directory::new(self.directory)
    }

    /// Offset of the first record: the header's length.
    pub fn records_at(&self) -> usize {
        self.records_at
    }

    /// The sound groups, in the order of the file.
    pub fn groups(&self) -> Groups<'a, '_> {
        self.groups_in(self.slots, self.records_at, true)
    }

    /// The sound groups of a piece of the file, which begins `offset` bytes behind the file's beginning.
    /// Of every piece but the last, a group that might go on behind the piece is left for the next one,
    /// which has to begin at [`Groups::position`]. A piece of [`MAX_PIECE_TAIL_BYTES`] or more always
    /// gets on.
    pub fn groups_in<'b>(&self, piece: &'b [u8], offset: usize, is_last: bool) -> Groups<'b, '_> {
        Groups {
            columns: &self.columns,
            known: self.header.metrics,
            slots: piece,
            offset,
            is_last,
            at: 0,
            left_out: LeftOut::default(),
        }
    }

    /// What [`Segment::groups`] steps over; reads the whole segment.
    pub fn left_out(&self) -> LeftOut {
        let mut groups = self.groups();
        groups.by_ref().for_each(drop);
        groups.left_out()
    }

    /// Bytes that [`Segment::groups`] steps over; reads the whole segment.
    pub fn left_out_bytes(&self) -> usize {
        self.left_out().total()
    }
}

/// The cumulative counters of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    values: [u64; METRIC_COUNT],
    known: MetricSet,
}

impl Values {
    /// The metric's value; `None` if it was not counted.
    pub fn get(&self, index: usize) -> Option<u64> {
        self.known.contains(index).then(|| self.values[index])
    }

    /// All values; only those in [`Values::known`] mean anything.
    pub fn raw(&self) -> &[u64; METRIC_COUNT] {
        &self.values
    }

    /// The metrics that were counted.
    pub fn known(&self) -> MetricSet {
        self.known
    }
}

/// One thing that the writer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// Byte offset of the leader in the file.
    pub offset: usize,
    /// Number of the group in its segment.
    pub seq: u32,
    /// When.
    pub stamp: Stamp,
    /// The thread; 0 = the whole process.
    pub tid: u32,
    /// Flags.
    pub flags: Flags,
    /// What happened.
    pub event: Event<'a>,
    /// The counters, for kinds that carry some.
    pub values: Option<Values>,
}

/// Iterator over a segment's groups.
#[derive(Clone, Debug)]
pub struct Groups<'a, 's> {
    columns: &'s [u8; MAX_DIRECTORY_ENTRIES],
    known: MetricSet,
    slots: &'a [u8],
    /// Where the slots lie in the file.
    offset: usize,
    is_last: bool,
    at: usize,
    left_out: LeftOut,
}

impl<'a> Groups<'a, '_> {
    /// What was stepped over so far.
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// Offset in the file of the first byte that was not looked at.
    pub fn position(&self) -> usize {
        self.offset + self.at
    }

    /// The counters in the `Values` records of a group; `None` if one contradicts the directory.
    fn values(&self, members: &[u8]) -> Option<Values> {
        let mut values = [0; METRIC_COUNT];
        for record in members.chunks_exact(RECORD_BYTES) {
            let payload = &record[PAYLOAD_AT..];
            let first = usize::from(u16_at(payload, 0));
            let count = usize::from(u16_at(payload, 2));
            if count > VALUES_PER_RECORD {
                return None;
            }
            for at in 0..count {
                // Columns past the directory's limit are of metrics that nobody here knows.
                let column = self.columns.get(first + at).copied().unwrap_or(UNKNOWN_COLUMN);
                if let Some(value) = values.get_mut(usize::from(column)) {
                    *value = u64_at(payload, 8 + 8 * at);
                }
            }
        }
        Some(Values { values, known: self.known })
    }

    /// The record at the slot if its CRC is right.
    fn sound(&self, at: usize) -> Option<&'a [u8]> {
        let record = self.slots.get(at..at + RECORD_BYTES)?;
        (crc32fast::hash(&record[4..]) == u32_at(record, 0)).then_some(record)
    }

    /// The members of the group that `leader` at `at` begins; `None` if one is missing.
    fn members(&self, leader: &[u8], at: usize) -> Option<&'a [u8]> {
        let more = usize::from(leader[5]);
        for nth in 1..=more {
            let member = self.sound(at + nth * RECORD_BYTES)?;
            let belongs = member[4] == Kind::Values as u8
                && usize::from(member[5]) == more - nth
                && member[6..32] == leader[6..32];
            if !belongs {
                return None;
            }
        }
        self.slots.get(at + RECORD_BYTES..at + (1 + more) * RECORD_BYTES)
    }
}

impl<'a> Iterator for Groups<'a, '_> {
    type Item = Group<'a>;

    fn next(&mut self) -> Option<Group<'a>> {
        loop {
            let at = self.at;
            let rest = &self.slots[at..];
            if rest.len() < RECORD_BYTES {
                if !self.is_last {
                    return None;
                }
                self.left_out.torn_tail += rest.len();
                self.at += rest.len();
                return None;
            }
            let sound = self.sound(at);
            if !self.is_last
                && sound
                    .is_some_and(|leader| rest.len() < (1 + usize::from(leader[5])) * RECORD_BYTES)
            {
                return None;
            }
            self.at += RECORD_BYTES;
            let Some(record) = sound else {
                if rest[..RECORD_BYTES].iter().all(|&byte| byte == 0) {
                    self.left_out.empty += RECORD_BYTES;
                } else {
                    self.left_out.damaged += RECORD_BYTES;
                }
                continue;
            };
            let Some(kind) = Kind::from_byte(u8_at(record, 4)) else {
                self.left_out.unknown += RECORD_BYTES;
                continue;
            };
            let (Some(event), Some(members)) =
                (Event::decode(kind, &record[PAYLOAD_AT..]), self.members(record, at))
            else {
                self.left_out.incomplete += RECORD_BYTES;
                continue;
            };
            self.at += members.len();
            let Some(values) = self.values(members) else {
                self.left_out.damaged += RECORD_BYTES + members.len();
                continue;
            };
            return Some(Group {
                offset: self.offset + at,
                seq: u32_at(record, 12),
                stamp: Stamp { mono_ns: u64_at(record, 16), real_ns: u64_at(record, 24) },
                tid: u32_at(record, 8),
                flags: Flags(u16_at(record, 6)),
                event,
                values: kind.has_values().then_some(values),
            });
        }
    }
}
