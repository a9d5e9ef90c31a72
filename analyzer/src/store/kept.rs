//! What is kept of record files that may still grow: of each segment the groups that matter.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use records::{Event, Group, LeftOut};
use serde::Serialize;

use crate::input::eventlog::Application;
use crate::input::record_files::RecordStream;
use crate::model::snapshot_policy::Snapshots;
use crate::store::error::StoreError;
use crate::text::clip;

/// Level of zstd for kept sources: they are small and read often.
const ZSTD_LEVEL: i32 = 3;
/// They are cut to pieces that every server takes (max_allowed_packet is at least 16 MiB by default, and
/// may be 1 MiB).
pub const PIECE_BYTES: usize = 768 << 10;

/// How complete a copy of a segment is. The larger one is the better copy: files only grow, and slots
/// that were reserved become written ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Completeness {
    /// Sound groups.
    pub groups: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of damaged records.
    pub damaged: u64,
    /// Bytes of slots that were reserved and not written.
    pub empty: u64,
    /// Bytes of groups that are not whole.
    pub incomplete: u64,
    /// Bytes of records of unknown kinds.
    pub unknown: u64,
    /// Bytes after the last whole slot.
    pub torn_tail: u64,
}

impl Completeness {
    /// Of a file of so many bytes and sound groups.
    pub fn of(bytes: u64, groups: u64, left_out: &LeftOut) -> Completeness {
        Completeness {
            groups,
            bytes,
            damaged: left_out.damaged as u64,
            empty: left_out.empty as u64,
            incomplete: left_out.incomplete as u64,
            unknown: left_out.unknown as u64,
            torn_tail: left_out.torn_tail as u64,
        }
    }

    /// Bytes that could not be used.
    pub fn left_out(&self) -> u64 {
        self.damaged + self.empty + self.incomplete + self.unknown + self.torn_tail
    }

    /// Whether this copy tells more than the other one.
    pub fn is_better_than(&self, other: &Completeness) -> bool {
        (self.groups, self.bytes) > (other.groups, other.bytes)
    }
}

/// The line before the header, for people.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    completeness: Completeness,
    snapshots: Snapshots,
}

/// Which snapshots of a segment are kept: the last one of each thread and directory, and what the user wants
/// besides.
#[derive(Clone, Debug)]
pub struct Wanted {
    snapshots: Snapshots,
    /// Thread number -> offset of its last snapshot.
    last: HashMap<u32, usize>,
    /// Number of a directory -> offset of its last record.
    directories: HashMap<u16, usize>,
    /// Thread number -> when its snapshot was kept last.
    kept_ns: HashMap<u32, u64>,
}

impl Wanted {
    /// Nothing was seen yet.
    pub fn new(snapshots: Snapshots) -> Wanted {
        Wanted {
            snapshots,
            last: HashMap::new(),
            directories: HashMap::new(),
            kept_ns: HashMap::new(),
        }
    }

    /// First round over the segment's groups.
    pub fn see(&mut self, group: &Group<'_>) {
        match group.event {
            Event::Snapshot => self.last.insert(group.tid, group.offset),
            Event::Directory { number, .. } => self.directories.insert(number, group.offset),
            _ => None,
        };
    }

    /// Second round: whether the group is kept.
    pub fn wants(&mut self, group: &Group<'_>) -> bool {
        match group.event {
            Event::Snapshot => {}
            Event::Directory { number, .. } => {
                return self.directories.get(&number) == Some(&group.offset);
            }
            _ => return true,
        }
        let mono_ns = group.stamp.mono_ns;
        let is_due = match self.snapshots {
            Snapshots::All => true,
            Snapshots::Last => false,
            Snapshots::Every(every_ns) => {
                let kept = self.kept_ns.get(&group.tid);
                kept.is_none_or(|kept| mono_ns.saturating_sub(*kept) >= every_ns)
            }
        };
        if is_due {
            self.kept_ns.insert(group.tid, mono_ns);
        }
        is_due || self.last.get(&group.tid) == Some(&group.offset)
    }
}

/// Takes the pieces of a packed segment.
pub type EachPiece<'e> = &'e mut dyn FnMut(&[u8]) -> Result<(), StoreError>;

/// Packed bytes on their way into pieces.
struct Pieces<'e> {
    bytes: Vec<u8>,
    each: EachPiece<'e>,
    /// Why no more of them is taken.
    refused: Option<StoreError>,
}

impl Pieces<'_> {
    fn hand_over(&mut self, length: usize) -> io::Result<()> {
        if let Err(error) = (self.each)(&self.bytes[..length]) {
            self.refused = Some(error);
            return Err(io::ErrorKind::Other.into());
        }
        self.bytes.drain(..length);
        Ok(())
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend(bytes);
        while self.bytes.len() >= PIECE_BYTES {
            self.hand_over(PIECE_BYTES)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.bytes.len() {
            0 => Ok(()),
            length => self.hand_over(length),
        }
    }
}

/// Packs a segment for the store, in pieces: its completeness, its header and the groups that are wanted,
/// after a first round in which `wanted` saw all of them.
///
/// # Errors
/// When the file cannot be read, or what `each` says.
pub fn pack(
    stream: &RecordStream,
    completeness: &Completeness,
    mut wanted: Wanted,
    each: EachPiece<'_>,
) -> Result<(), StoreError> {
    let mut pieces = Pieces { bytes: Vec::new(), each, refused: None };
    let packed = pack_into(&mut pieces, stream, completeness, &mut wanted);
    match (pieces.refused, packed) {
        (Some(refused), _) => Err(refused),
        (None, packed) => packed,
    }
}

fn pack_into(
    pieces: &mut Pieces<'_>,
    stream: &RecordStream,
    completeness: &Completeness,
    wanted: &mut Wanted,
) -> Result<(), StoreError> {
    let cannot = |error| StoreError::Read { path: stream.path().to_owned(), error };
    let mut packer = zstd::Encoder::new(pieces, ZSTD_LEVEL).map_err(cannot)?;
    let line = Line { completeness: *completeness, snapshots: wanted.snapshots };
    let mut line = serde_json::to_vec(&line).map_err(|error| cannot(error.into()))?;
    line.push(b'\n');
    packer.write_all(&line).and_then(|()| packer.write_all(stream.head())).map_err(cannot)?;
    let mut failed = None;
    let segment = stream.segment().map_err(StoreError::Source)?;
    stream
        .read(&segment, &mut |group, bytes| {
            if failed.is_none() && wanted.wants(group) {
                failed = packer.write_all(bytes).err();
            }
        })
        .map_err(StoreError::Source)?;
    match failed {
        Some(error) => Err(cannot(error)),
        None => packer.finish().and_then(|pieces| pieces.flush()).map_err(cannot),
    }
}

/// What an application attempt is found under: its id and attempt, fit for the name of a file.
pub fn application_key(application: &Application) -> String {
    let id = escape(application.id.as_deref().unwrap_or_default());
    match &application.attempt {
        Some(attempt) => format!("{id}.{}", escape(attempt)),
        None => id,
    }
}

/// The longest name that is used in full, in bytes: file systems take 255.
const MAX_NAME_BYTES: usize = 200;

/// An id as part of a file name; what could mean something to the file system becomes `%xx`, and what is too
/// long is cut and told apart by its hash.
pub fn escape(id: &str) -> String {
    let mut escaped = String::new();
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02x}")),
        }
    }
    if escaped.len() > MAX_NAME_BYTES {
        escaped.truncate(MAX_NAME_BYTES);
        escaped.push_str(&format!("~{:016x}", clip::hash(id)));
    }
    escaped
}

/// Unpacks a kept segment to a file beside it and removes the packed one; the line before the records is
/// passed over.
///
/// # Errors
/// When it is damaged, or there is no room.
pub fn unpack_one(packed: &Path) -> Result<PathBuf, StoreError> {
    let at = |error| StoreError::Read { path: packed.to_owned(), error };
    let plain = packed.with_extension("sar");
    // A run before this one may have left it.
    let _ = std::fs::remove_file(&plain);
    let decoder = File::open(packed).and_then(zstd::Decoder::new).map_err(at)?;
    let mut decoder = BufReader::new(decoder);
    decoder.skip_until(b'\n').map_err(at)?;
    let copied = File::options().write(true).create_new(true).open(&plain).and_then(|file| {
        let mut file = BufWriter::new(file);
        io::copy(&mut decoder, &mut file)?;
        file.flush()
    });
    copied.map_err(|error| StoreError::Write { path: plain.clone(), error })?;
    std::fs::remove_file(packed).map_err(at)?;
    Ok(plain)
}
