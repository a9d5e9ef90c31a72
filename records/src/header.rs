//! The header that begins every segment: who wrote it, when, how, and which metrics.
//!
//! Fields are `{u16 tag, u16 length, bytes}`. Integers are little-endian; text is bytes as the system
//! gave them, mostly UTF-8. An absent or empty field means unknown.

use crate::bytes::{Cursor, id_at, u8_at, u16_at, u32_at, u64_at};
use crate::metric::{METRICS, MetricSet, Unit, by_name};
use crate::write::TooSmall;
use crate::{MAGIC, ProcessId, RECORD_BYTES, TaskMethod, VERSION};

/// The longest header that this crate writes, in bytes; a buffer of this size always suffices.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Offset of the first TLV field.
pub(crate) const FIELDS_AT: usize = 40;
/// Offset of the header's CRC.
pub(crate) const CRC_AT: usize = 16;

/// Tags of the header's fields.
pub mod tag {
    /// Ends the list.
    pub const END: u16 = 0;
    /// Text: node name.
    pub const NODE: u16 = 1;
    /// Text: where the node's name came from: `conf`, `hostname_argument`, `uname`.
    pub const NODE_SOURCE: u16 = 2;
    /// Text: cluster name.
    pub const CLUSTER: u16 = 3;
    /// Text: host name from uname.
    pub const HOST: u16 = 4;
    /// Text: the kernel's boot id.
    pub const BOOT_ID: u16 = 5;
    /// u32: process number.
    pub const PID: u16 = 6;
    /// u32: parent's process number.
    pub const PPID: u16 = 7;
    /// u64: CLOCK_MONOTONIC in ns when counting began in this process.
    pub const START_MONO_NS: u16 = 8;
    /// u64: CLOCK_REALTIME in ns at the same moment.
    pub const START_REAL_NS: u16 = 9;
    /// u64: the process's start time in clock ticks since boot (proc(5), stat field 22).
    pub const START_TICKS: u16 = 10;
    /// Text: role.
    pub const ROLE: u16 = 11;
    /// Text: Spark application id.
    pub const APPLICATION_ID: u16 = 12;
    /// Text: Spark application attempt id.
    pub const APPLICATION_ATTEMPT: u16 = 13;
    /// Text: Spark executor id.
    pub const EXECUTOR_ID: u16 = 14;
    /// Text: the main thread's name.
    pub const COMM: u16 = 15;
    /// Text: path of the executable.
    pub const EXE: u16 = 16;
    /// Text: redacted command line, arguments ended by NUL.
    pub const COMMAND_LINE: u16 = 17;
    /// Text: tracer, `engine` or `none`.
    pub const TRACER: u16 = 18;
    /// u8: task detection, [`crate::TaskMethod`].
    pub const TASK_METHOD: u16 = 19;
    /// Text: from where on the process is counted, such as `constructor`.
    pub const STARTS_AT: u16 = 20;
    /// Text: settings in force, `key=value` lines.
    pub const SETTINGS: u16 = 21;
    /// 16 bytes: process id of the counted process that this one was forked or exec'd from.
    pub const PARENT_PROCESS: u16 = 22;
    /// Text: container id.
    pub const CONTAINER: u16 = 23;
    /// Text: Kubernetes pod name.
    pub const POD: u16 = 24;
    /// Directory: per metric u8 flags (bit 0 = active), u8 unit, u8 name length, name.
    pub const METRICS: u16 = 25;
    /// u32: the number that the fork which made this process has in its parent's records; 0 = none.
    pub const PARENT_FORK: u16 = 26;
}

/// The longest command line that is kept, in bytes.
pub const MAX_COMMAND_LINE_BYTES: usize = 4096;
/// The longest text of settings that is kept, in bytes.
pub const MAX_SETTINGS_BYTES: usize = 4096;
/// The longest executable path that is kept, in bytes.
pub const MAX_EXE_BYTES: usize = 1024;
/// The longest of any other text, in bytes.
pub const MAX_TEXT_BYTES: usize = 256;

/// What a segment's header says. Empty text and zero mean unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header<'a> {
    /// Index of the segment, from 0.
    pub segment: u32,
    /// Random identity of the process.
    pub process_id: ProcessId,
    /// The counted process that this one was forked or exec'd from.
    pub parent_process: Option<ProcessId>,
    /// The number of the fork that made this process among its parent's; 0 = not known, or not forked.
    pub parent_fork: u32,
    /// Node name.
    pub node: &'a [u8],
    /// Where the node's name came from.
    pub node_source: &'a [u8],
    /// Cluster name.
    pub cluster: &'a [u8],
    /// Host name from uname.
    pub host: &'a [u8],
    /// The kernel's boot id.
    pub boot_id: &'a [u8],
    /// Process number.
    pub pid: u32,
    /// Parent's process number.
    pub ppid: u32,
    /// CLOCK_MONOTONIC in ns when counting began in this process.
    pub start_mono_ns: u64,
    /// CLOCK_REALTIME in ns at the same moment.
    pub start_real_ns: u64,
    /// The process's start in clock ticks since boot.
    pub start_ticks: u64,
    /// Role: `executor`, `driver`, `python_worker`, `program`, ...
    pub role: &'a [u8],
    /// Spark application id.
    pub application_id: &'a [u8],
    /// Spark application attempt id.
    pub application_attempt: &'a [u8],
    /// Spark executor id.
    pub executor_id: &'a [u8],
    /// The main thread's name.
    pub comm: &'a [u8],
    /// Path of the executable.
    pub exe: &'a [u8],
    /// Redacted command line, arguments ended by NUL.
    pub command_line: &'a [u8],
    /// Tracer: `engine` or `none`.
    pub tracer: &'a [u8],
    /// How tasks are detected.
    pub task_method: TaskMethod,
    /// From where on the process is counted, such as `constructor`.
    pub starts_at: &'a [u8],
    /// Settings in force, `key=value` lines.
    pub settings: &'a [u8],
    /// Container id.
    pub container: &'a [u8],
    /// Kubernetes pod name.
    pub pod: &'a [u8],
    /// The metrics that are counted; the others' values mean nothing.
    pub metrics: MetricSet,
}

impl<'a> Header<'a> {
    /// Writes the header, padded to a multiple of [`RECORD_BYTES`], and returns its length.
    /// Texts longer than their limit are clipped.
    ///
    /// # Errors
    ///
    /// When the buffer is too small; [`MAX_HEADER_BYTES`] always suffices.
    pub fn encode(&self, buf: &mut [u8]) -> Result<usize, TooSmall> {
        let mut out = Cursor::new(buf);
        out.push(&MAGIC)?;
        out.push(&VERSION.to_le_bytes())?;
        out.push(&(RECORD_BYTES as u16).to_le_bytes())?;
        out.push(&[0; 8])?; // length and CRC, below
        out.push(&self.segment.to_le_bytes())?;
        out.push(&self.process_id)?;
        for (tag, limit, text) in self.texts() {
            let text = &text[..text.len().min(limit)];
            if !text.is_empty() {
                field(&mut out, tag, text)?;
            }
        }
        field(&mut out, tag::PID, &self.pid.to_le_bytes())?;
        field(&mut out, tag::PPID, &self.ppid.to_le_bytes())?;
        field(&mut out, tag::START_MONO_NS, &self.start_mono_ns.to_le_bytes())?;
        field(&mut out, tag::START_REAL_NS, &self.start_real_ns.to_le_bytes())?;
        field(&mut out, tag::START_TICKS, &self.start_ticks.to_le_bytes())?;
        field(&mut out, tag::TASK_METHOD, &[self.task_method.0])?;
        if let Some(parent) = &self.parent_process {
            field(&mut out, tag::PARENT_PROCESS, parent)?;
        }
        if self.parent_fork != 0 {
            field(&mut out, tag::PARENT_FORK, &self.parent_fork.to_le_bytes())?;
        }
        out.push(&tag::METRICS.to_le_bytes())?;
        out.push(&DIRECTORY_BYTES.to_le_bytes())?;
        for (index, metric) in METRICS.iter().enumerate() {
            let active = u8::from(self.metrics.contains(index));
            out.push(&[active, metric.unit as u8, metric.name.len() as u8])?;
            out.push(metric.name.as_bytes())?;
        }
        out.push(&[0; 4])?; // tag END
        out.pad_to_multiple(RECORD_BYTES)?;
        let len = out.position();
        let written = out.written();
        written[12..16].copy_from_slice(&(len as u32).to_le_bytes());
        let crc = crate::crc::hash(written);
        written[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        Ok(len)
    }

    /// The text fields with their tags and limits.
    fn texts(&self) -> [(u16, usize, &'a [u8]); 17] {
        [
            (tag::NODE, MAX_TEXT_BYTES, self.node),
            (tag::NODE_SOURCE, MAX_TEXT_BYTES, self.node_source),
            (tag::CLUSTER, MAX_TEXT_BYTES, self.cluster),
            (tag::HOST, MAX_TEXT_BYTES, self.host),
            (tag::BOOT_ID, MAX_TEXT_BYTES, self.boot_id),
            (tag::ROLE, MAX_TEXT_BYTES, self.role),
            (tag::APPLICATION_ID, MAX_TEXT_BYTES, self.application_id),
            (tag::APPLICATION_ATTEMPT, MAX_TEXT_BYTES, self.application_attempt),
            (tag::EXECUTOR_ID, MAX_TEXT_BYTES, self.executor_id),
            (tag::COMM, MAX_TEXT_BYTES, self.comm),
            (tag::EXE, MAX_EXE_BYTES, self.exe),
            (tag::COMMAND_LINE, MAX_COMMAND_LINE_BYTES, self.command_line),
            (tag::TRACER, MAX_TEXT_BYTES, self.tracer),
            (tag::STARTS_AT, MAX_TEXT_BYTES, self.starts_at),
            (tag::SETTINGS, MAX_SETTINGS_BYTES, self.settings),
            (tag::CONTAINER, MAX_TEXT_BYTES, self.container),
            (tag::POD, MAX_TEXT_BYTES, self.pod),
        ]
    }

    /// Reads a header whose length and CRC were checked; `None` if its fields do not add up.
    pub(crate) fn decode(from: &'a [u8]) -> Option<(Header<'a>, &'a [u8])> {
        let mut header =
            Header { segment: u32_at(from, 20), process_id: id_at(from, 24), ..Header::default() };
        let mut directory: &[u8] = &[];
        let mut rest = from.get(FIELDS_AT..)?;
        loop {
            let tag = u16_at(rest, 0);
            if tag == tag::END {
                break;
            }
            let len = usize::from(u16_at(rest, 2));
            let value = rest.get(4..4 + len)?;
            rest = &rest[4 + len..];
            match tag {
                tag::NODE => header.node = value,
                tag::NODE_SOURCE => header.node_source = value,
                tag::CLUSTER => header.cluster = value,
                tag::HOST => header.host = value,
                tag::BOOT_ID => header.boot_id = value,
                tag::PID => header.pid = u32_at(value, 0),
                tag::PPID => header.ppid = u32_at(value, 0),
                tag::START_MONO_NS => header.start_mono_ns = u64_at(value, 0),
                tag::START_REAL_NS => header.start_real_ns = u64_at(value, 0),
                tag::START_TICKS => header.start_ticks = u64_at(value, 0),
                tag::ROLE => header.role = value,
                tag::APPLICATION_ID => header.application_id = value,
                tag::APPLICATION_ATTEMPT => header.application_attempt = value,
                tag::EXECUTOR_ID => header.executor_id = value,
                tag::COMM => header.comm = value,
                tag::EXE => header.exe = value,
                tag::COMMAND_LINE => header.command_line = value,
                tag::TRACER => header.tracer = value,
                tag::TASK_METHOD => header.task_method = TaskMethod(u8_at(value, 0)),
                tag::STARTS_AT => header.starts_at = value,
                tag::SETTINGS => header.settings = value,
                tag::PARENT_PROCESS => header.parent_process = Some(id_at(value, 0)),
                tag::PARENT_FORK => header.parent_fork = u32_at(value, 0),
                tag::CONTAINER => header.container = value,
                tag::POD => header.pod = value,
                tag::METRICS => directory = value,
                _ => {}
            }
        }
        Some((header, directory))
    }
}

const DIRECTORY_BYTES: u16 = {
    let mut bytes = 0;
    let mut at = 0;
    while at < METRICS.len() {
        bytes += 3 + METRICS[at].name.len();
        at += 1;
    }
    assert!(bytes <= u16::MAX as usize);
    bytes as u16
};

fn field(out: &mut Cursor<'_>, tag: u16, bytes: &[u8]) -> Result<(), TooSmall> {
    out.push(&tag.to_le_bytes())?;
    out.push(&(bytes.len() as u16).to_le_bytes())?;
    out.push(bytes)
}

/// One metric as the file's own directory names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryEntry<'a> {
    /// Name in the file; possibly one that this version does not know.
    pub name: &'a [u8],
    /// Unit in the file, if this version knows it.
    pub unit: Option<Unit>,
    /// Whether the metric was counted.
    pub active: bool,
    /// Index in this version's [`METRICS`], if it is there.
    pub index: Option<usize>,
}

/// Iterator over a file's metric directory; ends early at a malformed entry.
#[derive(Clone, Debug)]
pub struct Directory<'a> {
    rest: &'a [u8],
}

impl<'a> Directory<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was understood; asked after the last entry.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<'a> Iterator for Directory<'a> {
    type Item = DirectoryEntry<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let [flags, unit, len, rest @ ..] = self.rest else { return None };
        let name = rest.get(..usize::from(*len))?;
        self.rest = &rest[name.len()..];
        Some(DirectoryEntry {
            name,
            unit: Unit::from_byte(*unit),
            active: flags & 1 == 1,
            index: core::str::from_utf8(name).ok().and_then(by_name),
        })
    }
}
