//! Codes of notices: what a reader should know about the figures besides the figures.
//!
//! A code that a reader does not know is shown by its number; adding one is not a new version.

/// A thread was released to run uncounted; text = reason, a = program counter where known.
pub const THREAD_RELEASED: u16 = 1;
/// A thread was never followed; text = reason.
pub const THREAD_NOT_FOLLOWED: u16 = 2;
/// The memory limit was reached; a = limit in bytes.
pub const MEMORY_LIMIT: u16 = 3;
/// The file system was full and recording stopped; a = bytes written to this segment.
pub const DISK_FULL: u16 = 4;
/// A write to the record file failed; a = errno.
pub const WRITE_FAILED: u16 = 5;
/// The limit `max_bytes_per_process` was reached; a = limit.
pub const PROCESS_SIZE_LIMIT: u16 = 6;
/// The limit `max_bytes_per_directory` was reached; a = limit.
pub const DIRECTORY_SIZE_LIMIT: u16 = 7;
/// Task detection by its preferred method is not available; text = why and what is used instead.
pub const TASK_DETECTION: u16 = 8;
/// A vfork-like child ran uncounted until its exec; a = child's pid.
pub const VFORK_CHILD: u16 = 9;
/// The record file was truncated or replaced by somebody else; a = size found.
pub const FILE_DISTURBED: u16 = 10;
/// The engine could not start; text = reason.
pub const ENGINE_UNAVAILABLE: u16 = 11;
/// A task was seen after its start; text = what had switched detection off.
pub const TASK_LATE: u16 = 12;
/// A limit of the writer's own tables was reached; text = which.
pub const TABLE_FULL: u16 = 13;
/// Something that a followed thread did is not counted; text = what, a = program counter where known.
pub const PART_NOT_COUNTED: u16 = 14;
/// Nothing was written while the process ran, only at its end; text = why.
pub const NO_SNAPSHOTS: u16 = 15;

/// The name of a code, for tables and JSON.
pub const fn name(code: u16) -> Option<&'static str> {
    Some(match code {
        THREAD_RELEASED => "thread_released",
        THREAD_NOT_FOLLOWED => "thread_not_followed",
        MEMORY_LIMIT => "memory_limit",
        DISK_FULL => "disk_full",
        WRITE_FAILED => "write_failed",
        PROCESS_SIZE_LIMIT => "process_size_limit",
        DIRECTORY_SIZE_LIMIT => "directory_size_limit",
        TASK_DETECTION => "task_detection",
        VFORK_CHILD => "vfork_child",
        FILE_DISTURBED => "file_disturbed",
        ENGINE_UNAVAILABLE => "engine_unavailable",
        TASK_LATE => "task_late",
        TABLE_FULL => "table_full",
        PART_NOT_COUNTED => "part_not_counted",
        NO_SNAPSHOTS => "no_snapshots",
        _ => return None,
    })
}
