//! What each open descriptor is: a table by number that every thread reads and changes without a
//! lock, for a process of which every system call is seen.
//!
//! # Design
//!
//! A word per number holds what is known and a generation. Whoever asks the kernel takes the word
//! first and may store the answer only if it is still that word ([`Descriptors::learn`]); every
//! call that closes or replaces a descriptor begins a new generation before it is made and after it
//! has returned. So an answer that was asked for before a close is never kept after it. A number
//! that is given out in a way that nobody sees (a message, a ring) was closed before, and is
//! unknown.
//!
//! # Limitations
//!
//! Numbers from [`NUMBERS`] on are never known.

use crate::directory_table::DirectoryNumber;
use core::sync::atomic::{AtomicU32, Ordering};
use records::metric::Class;

/// Numbers that the table has room for.
pub const NUMBERS: usize = 16 * 1024;

/// Bits of a word for the generation; its wrapping is harmless unless it happens while one answer
/// is waited for.
const GENERATION: u32 = 0xfff;
const KNOWN: u32 = 1 << 12;
const CLASS_AT: u32 = 13;
const COUNTED: u32 = 1 << 15;
const DIRECTORY_AT: u32 = 16;
const DIRECTORY: u32 = 0x3ff;
const END_AT: u32 = 26;

/// Which end of a pipe a descriptor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum End {
    /// Not known, or no pipe.
    #[default]
    Unknown = 0,
    /// It is read from.
    Read = 1,
    /// It is written to.
    Write = 2,
}

/// What is known of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorEntry {
    /// Its class.
    pub class: Class,
    /// Whether its calls count, or its file lies outside the chosen directories.
    pub is_counted: bool,
    /// The directory of its file.
    pub directory: DirectoryNumber,
    /// Which end of a pipe it is.
    pub end: End,
}

impl DescriptorEntry {
    /// A descriptor of this class whose file is in no directory.
    pub const fn new(class: Class) -> DescriptorEntry {
        DescriptorEntry {
            class,
            is_counted: true,
            directory: DirectoryNumber::NONE,
            end: End::Unknown,
        }
    }

    const fn word(self) -> u32 {
        let counted = if self.is_counted { COUNTED } else { 0 };
        KNOWN
            | (self.class as u32) << CLASS_AT
            | counted
            | (self.directory.word() as u32 & DIRECTORY) << DIRECTORY_AT
            | (self.end as u32) << END_AT
    }
}

/// A word as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundWord(u32);

impl FoundWord {
    /// What it says, if anything.
    #[inline]
    pub fn entry(self) -> Option<DescriptorEntry> {
        if self.0 & KNOWN == 0 {
            return None;
        }
        Some(DescriptorEntry {
            class: *Class::ALL.get((self.0 >> CLASS_AT & 3) as usize)?,
            is_counted: self.0 & COUNTED != 0,
            directory: DirectoryNumber::from_word(u64::from(self.0 >> DIRECTORY_AT & DIRECTORY)),
            end: match self.0 >> END_AT & 3 {
                1 => End::Read,
                2 => End::Write,
                _ => End::Unknown,
            },
        })
    }
}

/// The table.
#[derive(Debug)]
pub struct Descriptors {
    words: [AtomicU32; NUMBERS],
    /// Behind the last number that was ever looked at: words from there on were never written.
    behind: AtomicU32,
}

impl Descriptors {
    /// Nothing is known.
    pub const fn new() -> Descriptors {
        Descriptors { words: [const { AtomicU32::new(0) }; NUMBERS], behind: AtomicU32::new(0) }
    }

    /// What is known of a descriptor.
    #[inline]
    pub fn entry(&self, number: u32) -> Option<DescriptorEntry> {
        FoundWord(self.words.get(number as usize)?.load(Ordering::Acquire)).entry()
    }

    /// The word to give to [`Descriptors::learn`] once the kernel has answered; `None` = there is
    /// no room for it.
    pub fn ask(&self, number: u32) -> Option<FoundWord> {
        let word = self.words.get(number as usize)?;
        // First: who forgets numbers up to `behind` does so after the descriptors are closed.
        self.behind.fetch_max(number + 1, Ordering::SeqCst);
        Some(FoundWord(word.load(Ordering::SeqCst)))
    }

    /// The kernel's answer, asked for after [`Descriptors::ask`]: kept unless the descriptor has
    /// changed since.
    pub fn learn(&self, number: u32, asked: FoundWord, entry: DescriptorEntry) {
        if let Some(word) = self.words.get(number as usize) {
            let new = asked.0 & GENERATION | entry.word();
            // What another thread has found out meanwhile is as good.
            let _ = word.compare_exchange(asked.0, new, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// A call has made this descriptor, and says what it is.
    pub fn set(&self, number: u32, entry: DescriptorEntry) {
        if self.ask(number).is_some() {
            self.change(number, entry.word());
        }
    }

    /// A call closes or replaces this descriptor, or has just made it in a way that says nothing.
    pub fn forget(&self, number: u32) {
        if number < self.behind.load(Ordering::SeqCst) {
            self.change(number, 0);
        }
    }

    /// The same for all from `first` to `last`.
    pub fn forget_range(&self, first: u32, last: u32) {
        let behind = self.behind.load(Ordering::SeqCst);
        (first..behind.min(last.saturating_add(1))).for_each(|number| self.change(number, 0));
    }

    /// Files may be in other directories now.
    pub fn forget_files(&self) {
        let behind = self.behind.load(Ordering::SeqCst);
        let is_file = |entry: DescriptorEntry| entry.class == Class::File;
        (0..behind)
            .filter(|&number| self.entry(number).is_none_or(is_file))
            .for_each(|number| self.change(number, 0));
    }

    fn change(&self, number: u32, new: u32) {
        let Some(word) = self.words.get(number as usize) else { return };
        let next = |old: u32| Some(old.wrapping_add(1) & GENERATION | new);
        let _ = word.fetch_update(Ordering::SeqCst, Ordering::Relaxed, next);
    }

    /// In a child of fork, whose table of directories is empty: forgets directories, or with
    /// `everything` all.
    pub fn after_fork(&self, everything: bool) {
        let behind = self.behind.load(Ordering::Relaxed) as usize;
        for word in self.words.iter().take(behind) {
            let kept = if everything { 0 } else { !(DIRECTORY << DIRECTORY_AT) };
            word.fetch_and(kept, Ordering::Relaxed);
        }
    }
}

impl Default for Descriptors {
    fn default() -> Self {
        Descriptors::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: DescriptorEntry =
        DescriptorEntry { end: End::Write, ..DescriptorEntry::new(Class::Pipe) };

    fn table() -> Box<Descriptors> {
        Box::default()
    }

    #[test]
    fn what_is_learned_is_known_until_it_is_closed() {
        let table = table();
        let files = [Class::File, Class::Pipe, Class::Socket, Class::Other];
        for (number, class) in files.into_iter().enumerate() {
            let number = number as u32;
            let entry = DescriptorEntry {
                is_counted: false,
                directory: DirectoryNumber::OTHER,
                ..DescriptorEntry::new(class)
            };
            assert_eq!(table.entry(number), None);
            let asked = table.ask(number).unwrap();
            table.learn(number, asked, entry);
            assert_eq!(table.entry(number), Some(entry));
        }
        table.forget(2);
        assert_eq!(table.entry(2), None);
        table.forget_range(1, u32::MAX);
        assert_eq!([0, 1, 3].map(|number| table.entry(number).is_some()), [true, false, false]);
    }

    #[test]
    fn an_answer_from_before_a_close_is_not_kept() {
        let table = table();
        let asked = table.ask(7).unwrap();
        table.forget(7);
        table.learn(7, asked, PIPE);
        assert_eq!(table.entry(7), None);
        let asked = table.ask(7).unwrap();
        table.set(7, DescriptorEntry::new(Class::Socket));
        table.learn(7, asked, PIPE);
        assert_eq!(table.entry(7), Some(DescriptorEntry::new(Class::Socket)));
        table.forget_range(0, 7);
        assert_eq!(table.entry(7), None);
    }

    #[test]
    fn files_alone_are_forgotten_where_names_change() {
        let table = table();
        table.set(1, DescriptorEntry::new(Class::File));
        table.set(2, PIPE);
        let asked = table.ask(3).unwrap();
        table.forget_files();
        table.learn(3, asked, DescriptorEntry::new(Class::File));
        assert_eq!([1, 2, 3].map(|number| table.entry(number)), [None, Some(PIPE), None]);
    }

    #[test]
    fn numbers_without_room_are_never_known() {
        let table = table();
        for number in [NUMBERS as u32, u32::MAX] {
            assert!(table.ask(number).is_none());
            table.set(number, PIPE);
            table.forget(number);
            assert_eq!(table.entry(number), None);
        }
        table.set(NUMBERS as u32 - 1, PIPE);
        table.forget_range(0, u32::MAX);
        assert_eq!(table.entry(NUMBERS as u32 - 1), None);
    }

    #[test]
    fn a_child_keeps_classes_or_nothing() {
        let table = table();
        let entry = DescriptorEntry {
            directory: DirectoryNumber::OTHER,
            ..DescriptorEntry::new(Class::File)
        };
        table.set(3, entry);
        table.after_fork(false);
        assert_eq!(table.entry(3), Some(DescriptorEntry::new(Class::File)));
        table.after_fork(true);
        assert_eq!(table.entry(3), None);
    }

    #[test]
    fn threads_that_ask_and_close_never_keep_a_wrong_answer() {
        use core::sync::atomic::AtomicU8;
        // The kernel's side: what the descriptor is, 255 = closed.
        let (table, kernel) = (table(), AtomicU8::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        let asked = table.ask(5).unwrap();
                        let class = kernel.load(Ordering::SeqCst);
                        if let Some(class) = Class::ALL.get(usize::from(class)) {
                            table.learn(5, asked, DescriptorEntry::new(*class));
                        }
                    }
                });
            }
            scope.spawn(|| {
                for round in 0..50_000u32 {
                    table.forget(5);
                    kernel.store(255, Ordering::SeqCst);
                    table.forget(5);
                    let class = (round % 4) as u8;
                    kernel.store(class, Ordering::SeqCst);
                    // Nobody says what was opened; what is known now was asked after it.
                    if let Some(entry) = table.entry(5) {
                        assert_eq!(entry.class as u8, class);
                    }
                }
            });
        });
    }
}
