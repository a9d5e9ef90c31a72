//! In which directories files are read and written: counted per process, beside the counters of threads.
//!
//! # Design
//!
//! The kernel says where a descriptor's file is (`/proc/self/fd/N`), and is asked when something is opened, and of
//! a file on a descriptor once in a [`PERIOD`]. So a file that was renamed, or an inode that was given to another
//! file without an open that we see, counts for where it was until then, and no longer.
//!
//! # Limitations
//!
//! - Opens that fail, devices, pipes, sockets and memory files have no directory, and no file has one where /proc is not
//!   mounted.
//! - What is counted after a directory was renamed counts for its new name.

use crate::{
    base::file::{self, Status, descriptor_path},
    process,
};
use alloc::borrow::Cow;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use guest::directory_table::{Changed, DirectoryTable, File, Place, Seen, directory_of};

/// Nanoseconds are shifted by so many bits to have the period: 0.13 s.
const PERIOD: u32 = 27;
/// Type bits of a mode, and the two types that have a directory (inode(7)).
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
/// What suffices of a path: a directory's longest, a slash, and the longest name of a file.
const PATH_BYTES: usize = 512;

static IS_COUNTED: AtomicBool = AtomicBool::new(false);
static TABLE: DirectoryTable = DirectoryTable::new();
static SEEN: Seen = Seen::new();
/// The period as whoever looked at the clock last has found it.
static NOW: AtomicU64 = AtomicU64::new(0);
/// Where the last portion of what changed ended.
static TOLD: AtomicU16 = AtomicU16::new(0);

/// Says whether directories are told apart.
pub fn configure(is_counted: bool) {
    IS_COUNTED.store(is_counted, Ordering::Relaxed);
}

/// Whether another period has begun, since when places may have changed.
#[inline]
pub fn has_moved_on(nanoseconds: u64) -> bool {
    let now = nanoseconds >> PERIOD;
    let is_new = NOW.load(Ordering::Relaxed) != now && IS_COUNTED.load(Ordering::Relaxed);
    if is_new {
        NOW.store(now, Ordering::Relaxed);
    }
    is_new
}

/// The place of the file on a descriptor; `is_new` = it was opened just now.
#[inline]
pub fn place(descriptor: u64, status: &Status, is_new: bool) -> Place {
    if !IS_COUNTED.load(Ordering::Relaxed) || !matches!(status.mode & TYPE, REGULAR | DIRECTORY) {
        return Place::NONE;
    }
    let file = File {
        descriptor,
        device: status.device,
        inode: status.inode,
        period: NOW.load(Ordering::Relaxed),
    };
    match SEEN.place(&file) {
        Some(place) if !is_new => place,
        _ => ask(&file, status),
    }
}

#[cold]
#[inline(never)]
fn ask(file: &File, status: &Status) -> Place {
    let (mut name, mut path) = ([0u8; 32], [0u8; PATH_BYTES]);
    let path = file::read_link_start(descriptor_path(file.descriptor, &mut name), &mut path);
    let is_directory = status.mode & TYPE == DIRECTORY;
    let directory = path.and_then(|path| directory_of(path, is_directory, status.links));
    let place = directory.map_or(Place::NONE, |directory| TABLE.place(directory));
    SEEN.note(file, place);
    place
}

/// Adds to a metric of files.
#[inline]
pub fn add(place: Place, metric: usize, amount: u64) {
    if place != Place::NONE {
        TABLE.add(place, metric, amount);
    }
}

/// Directories that have changed since they were told last, at most so many; those whose turn is next first. For
/// the recorder, under its lock.
pub fn changed(most: usize) -> impl Iterator<Item = Changed> {
    let behind = Place::of_word(u64::from(TOLD.load(Ordering::Relaxed)));
    let changed = DirectoryTable::places_behind(behind).filter_map(|place| TABLE.changed(place));
    changed.take(most).inspect(|one| TOLD.store(one.number, Ordering::Relaxed))
}

/// A directory's name as it may be stored.
pub fn redacted(one: &Changed) -> Cow<'_, [u8]> {
    process::identity().redacted(one.name())
}

/// Has all directories told again.
pub fn tell_again() {
    TABLE.tell_again();
}

/// In a child of fork: what the parent did is not the child's.
pub fn after_fork_in_child() {
    TABLE.clear();
    SEEN.clear();
    TOLD.store(0, Ordering::Relaxed);
}
