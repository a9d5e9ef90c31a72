//! The binary record format that the preloaded shim writes and every command of the analyzer reads.
//!
//! The crate does no I/O, needs no allocator and knows nothing of processes: the writer fills a
//! caller's buffer that is handed to one `pwrite`, the reader looks at bytes that somebody loaded.
//!
//! # Format
//!
//! Version 2, little-endian throughout; version 1 had no records of kind 11. A process writes one or more *segments*, one file each, named
//! `<prefix>-<process id, 32 hex digits>.<segment, 4 digits>.sar` (see [`file_name`]). A segment is a
//! header followed by records of exactly [`RECORD_BYTES`] bytes:
//!
//! | offset | type | header field |
//! |---|---|---|
//! | 0 | `[u8; 8]` | magic `SPARKREC` |
//! | 8 | u16 | version, 2 |
//! | 10 | u16 | record size, 256 |
//! | 12 | u32 | header length in bytes, a multiple of 256 |
//! | 16 | u32 | CRC-32 (IEEE) of the whole header with this field zero |
//! | 20 | u32 | segment index, from 0 |
//! | 24 | `[u8; 16]` | process id: random, new after fork and exec |
//! | 40 | TLV | `{u16 tag, u16 length, bytes}`... ended by tag 0; unknown tags are skipped ([`header`]) |
//!
//! | offset | type | record field |
//! |---|---|---|
//! | 0 | u32 | CRC-32 of bytes 4 to 255 |
//! | 4 | u8 | kind ([`Kind`]) |
//! | 5 | u8 | records that follow in this group |
//! | 6 | u16 | [`Flags`] |
//! | 8 | u32 | thread id; 0 speaks of the whole process |
//! | 12 | u32 | sequence number, the same in every record of a group |
//! | 16 | u64 | CLOCK_MONOTONIC, ns |
//! | 24 | u64 | CLOCK_REALTIME, ns; 0 = not taken |
//! | 32 | `[u8; 224]` | payload, by kind ([`event`]) |
//!
//! A *group* is a leader and the `Values` records after it that carry its counters; it is written by
//! one `pwrite`. Counters are cumulative, of the thread (tid not 0), of the process (tid 0) or of the
//! process's files in a directory (kind 11), and
//! stored in up to five chunks along the metric groups of [`metric`]; a chunk that is absent is zero.
//! Values of a metric that the header's directory calls inactive have no meaning.
//!
//! # Limitations
//!
//! - A segment has at most 2^32 groups and a header at most [`header::MAX_HEADER_BYTES`].
//! - Text is clipped: thread names to 32 bytes, paths to 224, of directories to 216, notices to 200, the command line to 4 KiB.
//!   A clipped text sets [`Flags::CLIPPED`] in a record.
//! - The CRC finds accidents, not forgery.
//!
//! # Design
//!
//! - Fixed-size records let a reader step over a damaged one and go on; what is stepped over is counted
//!   ([`LeftOut`]), never guessed. A group of which a member is missing is left out as a whole, because
//!   half of the counters would look like zeros.
//! - Cumulative values make every record self-sufficient: losing one loses resolution, not work.
//! - Every segment repeats header and totals, so the last segment alone tells the process's sums.
//! - The header carries the metric directory by name. A reader maps columns by name, so that a metric
//!   added later neither breaks an old reader nor shifts its columns.
//! - Who reads what: a reader accepts its own version and every older one, and refuses newer ones by
//!   number ([`ReadError::NewerVersion`]). New header tags, notice codes and metrics are not a new
//!   version; a new kind, flag meaning or layout is.
//!   A field where zeros were is no new layout if zero means what its absence meant (Spawn's fork number).
#![no_std]

#[cfg(test)]
extern crate std;

pub mod event;
pub mod file_name;
pub mod flags;
pub mod header;
pub mod notice;
pub mod read;
pub mod write;

mod bytes;
mod crc;

pub use event::{Event, Kind, ProcessEndReason, Stamp, TaskId, TaskMethod, TaskOutcome};
pub use flags::Flags;
pub use header::{Header, MAX_HEADER_BYTES};
pub use metrics::{self as metric, METRIC_COUNT, METRICS, MetricSet};
pub use read::{Group, Groups, LeftOut, MAX_PIECE_TAIL_BYTES, ReadError, Segment, Values};
pub use write::{MAX_GROUP_BYTES, TooSmall, encode_group};

/// Size of every record, in bytes.
pub const RECORD_BYTES: usize = 256;

/// The format version that this crate writes, and the newest that it reads.
pub const VERSION: u16 = 2;

/// The first eight bytes of a record file.
pub const MAGIC: [u8; 8] = *b"SPARKREC";

/// The identity of a process: random, new after fork and after exec.
pub type ProcessId = [u8; 16];
