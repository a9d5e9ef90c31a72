//! What is kept of the sources: of a record segment the groups that matter, of an application its events.

use std::collections::HashMap;

use records::{Event, LeftOut, RECORD_BYTES, Segment};
use serde::{Deserialize, Serialize};

use crate::eventlog::Application;

/// Level of zstd for kept sources: they are small and read often.
const ZSTD_LEVEL: i32 = 3;

/// How complete a copy of a segment is. The larger one is the better copy: files only grow, and slots
/// that were reserved become written ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    fn of(bytes: usize, groups: u64, left_out: &LeftOut) -> Completeness {
        Completeness {
            groups,
            bytes: bytes as u64,
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

/// A segment as it is kept: completeness of its source, and a segment of the groups that matter.
pub struct KeptSegment {
    /// How complete the source was.
    pub completeness: Completeness,
    /// Header and groups, in the record format.
    pub bytes: Vec<u8>,
}

impl KeptSegment {
    /// What is to be kept of a segment: all but the snapshots that a later one of the same thread
    /// outdates.
    pub fn from_source(bytes: &[u8], segment: &Segment<'_>) -> KeptSegment {
        let mut places = Vec::new();
        let mut last_snapshot = HashMap::new();
        let mut groups = segment.groups();
        for group in groups.by_ref() {
            let more = usize::from(bytes[group.offset + 5]);
            if group.event == Event::Snapshot {
                last_snapshot.insert(group.tid, group.offset);
            }
            let snapshot_of = (group.event == Event::Snapshot).then_some(group.tid);
            places.push((group.offset, (1 + more) * RECORD_BYTES, snapshot_of));
        }
        let count = places.len() as u64;
        let completeness = Completeness::of(bytes.len(), count, &groups.left_out());
        let mut kept = bytes[..segment.records_at()].to_vec();
        for (offset, len, snapshot_of) in places {
            if snapshot_of.is_none_or(|tid| last_snapshot[&tid] == offset) {
                kept.extend(&bytes[offset..offset + len]);
            }
        }
        KeptSegment { completeness, bytes: kept }
    }

    /// Packs it for the store.
    pub fn pack(&self) -> std::io::Result<Vec<u8>> {
        let mut plain = serde_json::to_vec(&self.completeness)?;
        plain.push(b'\n');
        plain.extend(&self.bytes);
        zstd::encode_all(&plain[..], ZSTD_LEVEL)
    }

    /// Unpacks what the store holds; `None` if it is damaged.
    pub fn unpack(packed: &[u8]) -> Option<KeptSegment> {
        let plain = zstd::decode_all(packed).ok()?;
        let end = plain.iter().position(|&byte| byte == b'\n')?;
        let completeness = serde_json::from_slice(&plain[..end]).ok()?;
        Some(KeptSegment { completeness, bytes: plain[end + 1..].to_vec() })
    }
}

/// An application as it is kept.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptApplication {
    /// The cluster that the user named for it.
    pub cluster: Option<String>,
    /// Everything that its logs said.
    pub application: Application,
}

impl KeptApplication {
    /// This and what another log of the same application says.
    pub fn joined_with(&self, application: Application, cluster: Option<&str>) -> KeptApplication {
        let mut joined = KeptApplication {
            cluster: cluster.map(str::to_owned).or_else(|| self.cluster.clone()),
            application: self.application.clone(),
        };
        joined.application.merge(application);
        joined
    }

    /// Packs it for the store.
    pub fn pack(&self) -> std::io::Result<Vec<u8>> {
        zstd::encode_all(&serde_json::to_vec(self)?[..], ZSTD_LEVEL)
    }

    /// Unpacks what the store holds; `None` if it is damaged.
    pub fn unpack(packed: &[u8]) -> Option<KeptApplication> {
        serde_json::from_slice(&zstd::decode_all(packed).ok()?).ok()
    }
}

/// What an application attempt is kept under: its id and attempt, fit for the name of a file.
pub fn application_key(application: &Application) -> String {
    let id = escape(application.id.as_deref().unwrap_or_default());
    match &application.attempt {
        Some(attempt) => format!("{id}.{}", escape(attempt)),
        None => id,
    }
}

/// An id as part of a file name; what could mean something to the file system becomes `%xx`.
fn escape(id: &str) -> String {
    let mut escaped = String::new();
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02x}")),
        }
    }
    escaped
}
