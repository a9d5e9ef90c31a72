//! Writing groups of records into a caller's buffer.

use crate::bytes;
use crate::event::{Event, Kind, PAYLOAD_AT, Stamp};
use crate::flags::Flags;
use crate::metric::{CHUNKS, METRIC_COUNT};
use crate::{RECORD_BYTES, event};

/// The buffer cannot hold what was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall;

impl core::fmt::Display for TooSmall {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the buffer is too small for the record")
    }
}

impl core::error::Error for TooSmall {}

/// The longest group, in bytes: a leader and a `Values` record per chunk.
pub const MAX_GROUP_BYTES: usize = RECORD_BYTES * (1 + CHUNKS.len());

const _: () = {
    let mut at = 0;
    while at < CHUNKS.len() {
        assert!(CHUNKS[at].1 <= event::VALUES_PER_RECORD);
        at += 1;
    }
};

/// Writes a group and returns its length in bytes, a multiple of [`RECORD_BYTES`].
///
/// The values are cumulative, of the thread `tid` or, with tid 0, of the process; `None` means that
/// nothing was counted yet. They are ignored for kinds that carry none ([`Kind::has_values`]). `seq`
/// numbers the groups of a segment. The group is meant to be written by one `pwrite`.
///
/// # Errors
///
/// When the buffer is too small; [`MAX_GROUP_BYTES`] always suffices. The buffer's content is then
/// undefined.
pub fn encode_group(
    buf: &mut [u8],
    seq: u32,
    stamp: Stamp,
    tid: u32,
    flags: Flags,
    event: &Event<'_>,
    values: Option<&[u64; METRIC_COUNT]>,
) -> Result<usize, TooSmall> {
    let kind = event.kind();
    let values = values.filter(|_| kind.has_values());
    let chunks = || {
        values.into_iter().flat_map(|values| {
            CHUNKS
                .iter()
                .map(|&(first, count)| (first, &values[first..first + count]))
                .filter(|(_, chunk)| chunk.iter().any(|&value| value != 0))
        })
    };
    let members = chunks().count();
    let bytes = RECORD_BYTES * (1 + members);
    let (leader, rest) = buf.get_mut(..bytes).ok_or(TooSmall)?.split_at_mut(RECORD_BYTES);
    leader.fill(0);
    let clipped = event.encode(&mut leader[PAYLOAD_AT..]);
    let flags = if clipped { flags | Flags::CLIPPED } else { flags };
    let place = |record: &mut [u8], kind: Kind, more: usize| {
        record[4] = kind as u8;
        record[5] = more as u8;
        bytes::put(record, 6, &flags.0.to_le_bytes());
        bytes::put(record, 8, &tid.to_le_bytes());
        bytes::put(record, 12, &seq.to_le_bytes());
        bytes::put(record, 16, &stamp.mono_ns.to_le_bytes());
        bytes::put(record, 24, &stamp.real_ns.to_le_bytes());
        let crc = crate::crc::hash(&record[4..]);
        bytes::put(record, 0, &crc.to_le_bytes());
    };
    place(leader, kind, members);
    for (at, (record, (first, chunk))) in rest.chunks_mut(RECORD_BYTES).zip(chunks()).enumerate() {
        record.fill(0);
        let payload = &mut record[PAYLOAD_AT..];
        bytes::put(payload, 0, &(first as u16).to_le_bytes());
        bytes::put(payload, 2, &(chunk.len() as u16).to_le_bytes());
        for (slot, value) in payload[8..].chunks_mut(8).zip(chunk) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        place(record, Kind::Values, members - 1 - at);
    }
    Ok(bytes)
}
