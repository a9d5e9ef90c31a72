//! What a process does to files, told apart by their directories: a bounded table that any thread
//! and any signal handler may add to at any moment.
//!
//! # Design
//!
//! A directory has a slot, found by the hash of its path; a slot is claimed by one
//! compare-and-exchange and never given up, so nobody waits for anybody. Which directory a
//! descriptor belongs to is asked of the kernel once, and then found by [`Seen`]: a word per
//! descriptor number that says for which file and time it holds.
//!
//! # Limitations
//!
//! - The first [`DIRECTORIES`] have slots of their own; what comes later shares one.
//! - Of a path the first [`MAX_DIRECTORY_BYTES`] bytes count.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use records::event::{MAX_DIRECTORY_BYTES, OTHER_DIRECTORIES};
use records::metric::{Class, METRIC_COUNT, PER_CLASS};

/// Directories that are told apart.
pub const DIRECTORIES: usize = 512;
/// Descriptor numbers that are told apart by [`Seen`].
const DESCRIPTORS: usize = 1024;
/// Bits of a word of [`Seen`] that hold a [`DirectoryNumber`].
const NUMBER_BITS: u32 = 10;
/// The file's class's metrics begin here.
const FIRST: usize = Class::File.first();

/// The number of a directory in the table; 0 = of none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectoryNumber(u16);

impl DirectoryNumber {
    /// Has no directory.
    pub const NONE: DirectoryNumber = DirectoryNumber(0);
    /// The directories that have no slot of their own.
    pub const OTHER: DirectoryNumber = DirectoryNumber(DIRECTORIES as u16 + 1);
    const LAST: u64 = DirectoryNumber::OTHER.0 as u64;

    /// As a word.
    pub const fn word(self) -> u64 {
        self.0 as u64
    }

    /// Out of a word; what is no number is none.
    pub const fn from_word(word: u64) -> DirectoryNumber {
        if word <= DirectoryNumber::LAST {
            DirectoryNumber(word as u16)
        } else {
            DirectoryNumber::NONE
        }
    }
}

const _: () = assert!(DirectoryNumber::LAST < 1 << NUMBER_BITS);

/// The directory that a descriptor's path (`/proc/self/fd/N`) is in, or is; `None` if it is in
/// none.
///
/// `links` are the names that the file has: the kernel marks the path of one without a name. A path
/// that was cut short is good enough if [`MAX_DIRECTORY_BYTES`] and the longest name of a file
/// (255) are left of it. The numbers of processes below /proc would fill the table: they are one
/// directory.
pub fn directory_of(path: &[u8], is_directory: bool, links: u64) -> Option<&[u8]> {
    const PROC: &[u8] = b"/proc";
    const ANONYMOUS: &[u8] = b"/memfd:";
    const DELETED: &[u8] = b" (deleted)";
    if path.first() != Some(&b'/') || (links == 0 && path.starts_with(ANONYMOUS)) {
        return None;
    }
    if path.strip_prefix(PROC).is_some_and(|rest| rest.is_empty() || rest[0] == b'/') {
        return Some(PROC);
    }
    if is_directory {
        return Some(path.strip_suffix(DELETED).filter(|_| links == 0).unwrap_or(path));
    }
    let end = path.iter().rposition(|&byte| byte == b'/')?;
    Some(&path[..end.max(1)])
}

/// One directory.
#[derive(Debug)]
struct Slot {
    /// Bytes of the name; 0 until all of them are there. One more than fit if it was clipped.
    length: AtomicU32,
    name: [AtomicU8; MAX_DIRECTORY_BYTES],
    counters: [AtomicU64; PER_CLASS],
    /// The sum of all counters when they were written last.
    written: AtomicU64,
}

impl Slot {
    const fn free() -> Slot {
        Slot {
            length: AtomicU32::new(0),
            name: [const { AtomicU8::new(0) }; MAX_DIRECTORY_BYTES],
            counters: [const { AtomicU64::new(0) }; PER_CLASS],
            written: AtomicU64::new(0),
        }
    }

    fn clear(&self) {
        self.length.store(0, Ordering::Relaxed);
        for counter in &self.counters {
            counter.store(0, Ordering::Relaxed);
        }
        self.written.store(0, Ordering::Relaxed);
    }

    fn set_name(&self, name: &[u8]) {
        for (to, from) in self.name.iter().zip(name) {
            to.store(*from, Ordering::Relaxed);
        }
        let length = name.len().min(MAX_DIRECTORY_BYTES + 1);
        self.length.store(length as u32, Ordering::Release);
    }

    /// Whether this is its name, as far as it is known yet.
    fn may_be(&self, name: &[u8]) -> bool {
        let length = self.length.load(Ordering::Acquire) as usize;
        length == 0
            || length == name.len().min(MAX_DIRECTORY_BYTES + 1)
                && self.name.iter().zip(name).all(|(one, two)| one.load(Ordering::Relaxed) == *two)
    }

    fn values(&self) -> [u64; PER_CLASS] {
        core::array::from_fn(|index| self.counters[index].load(Ordering::Relaxed))
    }
}

/// What is to be written about a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its number.
    pub number: u16,
    /// Its name.
    name: [u8; MAX_DIRECTORY_BYTES],
    length: usize,
    /// Whether the name was longer.
    pub is_clipped: bool,
    /// Its counters, at the numbers of the metrics.
    pub values: [u64; METRIC_COUNT],
}

impl Changed {
    /// Its name, or what stands for all others.
    pub fn name(&self) -> &[u8] {
        if self.is_other() { OTHER_DIRECTORIES } else { &self.name[..self.length] }
    }

    /// Whether it is what has no slot of its own.
    pub fn is_other(&self) -> bool {
        self.number == DirectoryNumber::OTHER.0
    }
}

/// The directories of a process.
#[derive(Debug)]
pub struct DirectoryTable {
    /// The hashes of the slots' names; 0 = free. Apart, so that free slots' memory is never
    /// touched.
    hashes: [AtomicU64; DIRECTORIES],
    slots: [Slot; DIRECTORIES],
    other: Slot,
}

impl DirectoryTable {
    /// Without any.
    pub const fn new() -> DirectoryTable {
        DirectoryTable {
            hashes: [const { AtomicU64::new(0) }; DIRECTORIES],
            slots: [const { Slot::free() }; DIRECTORIES],
            other: Slot::free(),
        }
    }

    /// The number of a directory.
    pub fn number(&self, name: &[u8]) -> DirectoryNumber {
        // FNV-1a (RFC 9923); never 0.
        let hash = name
            .iter()
            .take(MAX_DIRECTORY_BYTES + 1)
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
            | 1;
        // Its low bits are the weakest.
        let first = (hash >> 32) as usize;
        for probe in 0..DIRECTORIES {
            let index = (first + probe) % DIRECTORIES;
            let slot = &self.slots[index];
            let directory = DirectoryNumber(index as u16 + 1);
            match self.hashes[index].compare_exchange(0, hash, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => {
                    slot.set_name(name);
                    return directory;
                }
                Err(found) if found == hash && slot.may_be(name) => return directory,
                Err(_) => {}
            }
        }
        DirectoryNumber::OTHER
    }

    fn slot(&self, directory: DirectoryNumber) -> Option<&Slot> {
        match directory {
            DirectoryNumber::NONE => None,
            DirectoryNumber::OTHER => Some(&self.other),
            DirectoryNumber(number) => {
                let index = usize::from(number) - 1;
                let hash = self.hashes.get(index)?.load(Ordering::Relaxed);
                (hash != 0).then_some(&self.slots[index])
            }
        }
    }

    /// Adds to a metric of files of a directory.
    pub fn add(&self, directory: DirectoryNumber, metric: usize, amount: u64) {
        let slot = self.slot(directory);
        if let Some(counter) = slot.and_then(|slot| slot.counters.get(metric.wrapping_sub(FIRST))) {
            counter.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// The directory of this number if it has changed since this was asked last. For one thread at
    /// a time.
    pub fn changed(&self, directory: DirectoryNumber) -> Option<Changed> {
        let slot = self.slot(directory)?;
        let length = slot.length.load(Ordering::Acquire) as usize;
        if length == 0 && directory != DirectoryNumber::OTHER {
            return None;
        }
        let counters = slot.values();
        let sum = counters.iter().fold(0u64, |sum, value| sum.wrapping_add(*value));
        if slot.written.swap(sum, Ordering::Relaxed) == sum {
            return None;
        }
        let mut values = [0; METRIC_COUNT];
        values[FIRST..FIRST + PER_CLASS].copy_from_slice(&counters);
        Some(Changed {
            number: directory.0,
            name: core::array::from_fn(|at| slot.name[at].load(Ordering::Relaxed)),
            length: length.min(MAX_DIRECTORY_BYTES),
            is_clipped: length > MAX_DIRECTORY_BYTES,
            values,
        })
    }

    /// Every number, beginning behind one of them.
    pub fn numbers_behind(directory: DirectoryNumber) -> impl Iterator<Item = DirectoryNumber> {
        let count = DirectoryNumber::LAST as u16;
        (0..count).map(move |step| DirectoryNumber((directory.0 + step) % count + 1))
    }

    /// Has [`DirectoryTable::changed`] tell all directories again. For the same thread as that.
    pub fn tell_again(&self) {
        for directory in DirectoryTable::numbers_behind(DirectoryNumber::NONE) {
            if let Some(slot) = self.slot(directory) {
                slot.written.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Forgets everything. For a process with one thread.
    pub fn clear(&self) {
        let numbers = DirectoryTable::numbers_behind(DirectoryNumber::NONE);
        numbers.filter_map(|directory| self.slot(directory)).for_each(Slot::clear);
        self.hashes.iter().for_each(|hash| hash.store(0, Ordering::Relaxed));
    }
}

impl Default for DirectoryTable {
    fn default() -> Self {
        DirectoryTable::new()
    }
}

/// A file as the kernel tells files apart, and the period in which it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Descriptor.
    pub descriptor: u64,
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Some count of periods: what was seen in another one does not hold.
    pub period: u64,
}

impl File {
    /// What tells it apart in a word of [`Seen`]: two files that follow each other on a descriptor
    /// have the same in one of 2^54 cases.
    fn tag(&self) -> u64 {
        // The finaliser of SplitMix64 (Steele, Lea, Flood 2014), once for each part.
        let mix = |hash: u64, part: u64| {
            let mut hash = (hash ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
            hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            hash ^ hash >> 31
        };
        mix(mix(self.inode, self.device), self.period.rotate_left(32) ^ self.descriptor)
            >> NUMBER_BITS
    }
}

/// Where files on descriptors were found last.
#[derive(Debug)]
pub struct Seen([AtomicU64; DESCRIPTORS]);

impl Seen {
    /// Nothing was seen.
    pub const fn new() -> Seen {
        Seen([const { AtomicU64::new(0) }; DESCRIPTORS])
    }

    fn word(&self, file: &File) -> &AtomicU64 {
        &self.0[file.descriptor as usize % DESCRIPTORS]
    }

    /// The number of its directory, if that is known.
    pub fn number(&self, file: &File) -> Option<DirectoryNumber> {
        let word = self.word(file).load(Ordering::Relaxed);
        let directory = DirectoryNumber::from_word(word & ((1 << NUMBER_BITS) - 1));
        (word != 0 && word >> NUMBER_BITS == file.tag()).then_some(directory)
    }

    /// Notes it.
    pub fn note(&self, file: &File, directory: DirectoryNumber) {
        self.word(file).store(file.tag() << NUMBER_BITS | directory.word(), Ordering::Relaxed);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for word in &self.0 {
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
        }
    }
}

impl Default for Seen {
    fn default() -> Self {
        Seen::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use records::metric::by_name;

    fn named(table: &DirectoryTable) -> Vec<(String, u64)> {
        let read = by_name("file_read_bytes").unwrap();
        let mut all: Vec<_> = DirectoryTable::numbers_behind(DirectoryNumber::NONE)
            .filter_map(|directory| table.changed(directory))
            .map(|one| (String::from_utf8_lossy(one.name()).into_owned(), one.values[read]))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn paths_and_their_directories() {
        for (path, is_directory, links, expected) in [
            (&b"/data/a/part-0"[..], false, 1, Some(&b"/data/a"[..])),
            (b"/vmlinuz", false, 1, Some(b"/")),
            (b"/data/a", true, 2, Some(b"/data/a")),
            (b"/data/a (deleted)", true, 0, Some(b"/data/a")),
            (b"/data/a (deleted)", true, 2, Some(b"/data/a (deleted)")),
            (b"/data/x (deleted)", false, 0, Some(b"/data")),
            (b"/tmp/#1234 (deleted)", false, 0, Some(b"/tmp")),
            (b"/memfd:x (deleted)", false, 0, None),
            (b"/memfd:x", false, 1, Some(b"/")),
            (b"pipe:[17]", false, 1, None),
            (b"", false, 1, None),
            (b"/proc/17/task/18/stat", false, 1, Some(b"/proc")),
            (b"/proc/17/task", true, 1, Some(b"/proc")),
            (b"/process/17", false, 1, Some(b"/process")),
        ] {
            assert_eq!(directory_of(path, is_directory, links), expected, "{path:?}");
        }
    }

    #[test]
    fn what_changed_is_told_once() {
        let table = DirectoryTable::new();
        let read = by_name("file_read_bytes").unwrap();
        let (a, b) = (table.number(b"/a"), table.number(b"/b"));
        assert_eq!((table.number(b"/a"), a == b), (a, false));
        table.add(a, read, 5);
        table.add(DirectoryNumber::NONE, read, 7);
        table.add(a, 0, 9);
        assert_eq!(named(&table), [("/a".to_owned(), 5)], "no metric but those of files");
        assert_eq!(named(&table), []);
        table.add(b, read, 1);
        table.add(a, read, 1);
        assert_eq!(named(&table), [("/a".to_owned(), 6), ("/b".to_owned(), 1)]);
        table.tell_again();
        assert_eq!(named(&table).len(), 2);
        table.clear();
        assert_eq!(named(&table), []);
        table.add(table.number(b"/c"), read, 2);
        assert_eq!(named(&table), [("/c".to_owned(), 2)]);
    }

    #[test]
    fn numbers_come_round() {
        let first: Vec<_> = DirectoryTable::numbers_behind(DirectoryNumber(3)).take(2).collect();
        assert_eq!(first, [DirectoryNumber(4), DirectoryNumber(5)]);
        let all: Vec<_> = DirectoryTable::numbers_behind(DirectoryNumber::OTHER).collect();
        assert_eq!(
            (all.len(), all[0], all[DIRECTORIES]),
            (DIRECTORIES + 1, DirectoryNumber(1), DirectoryNumber::OTHER)
        );
    }

    #[test]
    fn what_does_not_fit_shares_a_number() {
        let table = DirectoryTable::new();
        let read = by_name("file_read_bytes").unwrap();
        for number in 0..DIRECTORIES + 100 {
            table.add(table.number(format!("/d/{number}").as_bytes()), read, 1);
        }
        assert_ne!(table.number(b"/d/0"), DirectoryNumber::OTHER);
        let told = named(&table);
        assert_eq!(told.len(), DIRECTORIES + 1);
        assert!(told.contains(&("(other directories)".to_owned(), 100)));
    }

    #[test]
    fn long_names_are_clipped() {
        let table = DirectoryTable::new();
        let long = [b'/'; MAX_DIRECTORY_BYTES + 30];
        let directory = table.number(&long);
        assert_eq!(table.number(&long[..MAX_DIRECTORY_BYTES + 1]), directory);
        assert_ne!(table.number(&long[..MAX_DIRECTORY_BYTES]), directory);
        table.add(directory, FIRST, 1);
        let changed = table.changed(directory).unwrap();
        assert!(changed.is_clipped && changed.name().len() == MAX_DIRECTORY_BYTES);
    }

    #[test]
    fn threads_agree_on_numbers_and_lose_nothing() {
        const ROUNDS: u64 = 20_000;
        let table = DirectoryTable::new();
        let read = by_name("file_read_bytes").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..ROUNDS {
                        let name = format!("/d/{}", round % 300);
                        table.add(table.number(name.as_bytes()), read, 1);
                    }
                });
            }
        });
        let told = named(&table);
        assert_eq!(told.len(), 300);
        assert_eq!(told.iter().map(|(_, bytes)| bytes).sum::<u64>(), 4 * ROUNDS);
    }

    #[test]
    fn what_was_seen_holds_for_that_file_and_period() {
        let seen = Seen::new();
        let file = File { descriptor: 3, device: 1, inode: 2, period: 9 };
        assert_eq!(seen.number(&file), None);
        seen.note(&file, DirectoryNumber::NONE);
        assert_eq!(seen.number(&file), Some(DirectoryNumber::NONE), "it has no directory");
        seen.note(&file, DirectoryNumber(4));
        assert_eq!(seen.number(&file), Some(DirectoryNumber(4)));
        for other in [
            File { descriptor: 4, ..file },
            File { descriptor: 3 + DESCRIPTORS as u64, ..file },
            File { device: 3, ..file },
            File { inode: 7, ..file },
            File { period: 10, ..file },
        ] {
            assert_eq!(seen.number(&other), None);
        }
        seen.clear();
        assert_eq!(seen.number(&file), None);
    }
}
