//! Code of which the host says who changes it: looked at again only after somebody did.
//!
//! # Design
//! A just-in-time compiler's memory is writable all the time and written to seldom. So a page is write-protected when code
//! from it is translated, and fragments of protected pages compare nothing: they begin with a NOP. The first store to such a
//! page faults. Whoever makes it, on whatever thread, the handler turns that NOP into a jump to the dispatcher in all
//! fragments of the page, takes the protection off, and the store is made; the state of the interrupted thread is
//! not looked at. Who enters one of the fragments next compares it with its copy in the dispatcher; the page is protected
//! again and all of its fragments that have not changed get their NOP back.
//!
//! What makes this right is that the jumps are there before the store is made: a thread that enters a
//! block afterwards compares. A thread that is inside one executes it to its end, as a CPU does with code
//! that another one changes. Code in such memory changes none of it itself, by the host's word, so blocks need not end
//! behind their stores.
//!
//! A page that is written to again at once stays open for a while, twice as long each time; blocks are compared in the
//! dispatcher meanwhile. One that never holds still is given up: its blocks compare themselves, as those of any changing code.
//!
//! # Limitations
//! The kernel does not write to a protected page on behalf of a system call (EFAULT), and a thread that stores with SIGSEGV
//! blocked is killed: hence the host's word, which a JVM can give, and handlers run with SIGSEGV unblocked, whatever their
//! mask says. `/proc/self/maps` shows the protection.

use core::ops::Range;

use crate::cache::fragment::Fragment;
use crate::isa::x86_64::context::MAX_SLOTS;
use crate::isa::x86_64::decode::block::MAX_GUARDED_BYTES;
use crate::os::memory::{self, PAGE, PAGE_BITS};
use crate::os::reserved::Reserved;
use crate::os::syscall::{nr, syscall6};
use crate::translate::translator::Translator;

/// HotSpot's largest code cache (`CODE_CACHE_SIZE_LIMIT`, 2 GiB) in pages.
const MOST_PAGES: u64 = 1 << 19;
/// Protected pages at most: each may split a mapping in three, and a process has 65,530 (`vm.max_map_count`).
const MOST_PROTECTED: usize = 1 << 14;
/// A page that is written to this soon after it was protected was protected too early.
const SOON_NS: u64 = 1_000_000;
/// Pages that are protected at once, at most.
const RUN_PAGES: u64 = 32;
/// How long a page stays open after the first store, and twice as long after each that came too soon.
const OPEN_NS: u64 = 10_000;
/// It is doubled so many times at most, to 40 ms.
const MOST_STRIKES: u8 = 12;
/// Looks of the dispatcher at blocks of a page that is opened again and again, before it is given up: a millisecond.
pub const MOST_LOOKS: u16 = 4_000;

/// What is known of one page; all zero at first.
#[derive(Clone, Copy)]
pub struct Page {
    /// The first entry of its list, plus one; 0 = no block was translated from it.
    pub fragments: u32,
    /// Stores fault first.
    pub protected: bool,
    /// It never holds still: nothing is done about it.
    pub given_up: bool,
    /// Stores in a row that came soon after it was protected.
    pub strikes: u8,
    /// Looks since it last held still for long.
    pub looks: u16,
    /// When it was protected, or opened, last.
    pub since: u64,
}

impl Page {
    /// Has an open page been left alone for as long as it should?
    pub fn has_waited(&self, now: u64) -> bool {
        now.saturating_sub(self.since) >= OPEN_NS << self.strikes
    }
}

/// A fragment in the list of a page.
#[derive(Clone, Copy)]
pub struct Entry {
    fragment: u32,
    /// The next entry of the same page, plus one.
    next: u32,
}

/// The pages that the host has spoken for.
pub struct Guarded {
    range: Range<u64>,
    pages: Option<Reserved<Page>>,
    entries: Option<Reserved<Entry>>,
    /// Pages that are protected now.
    pub protected: usize,
    /// Nothing is protected any more.
    pub given_up: bool,
}

impl Default for Guarded {
    fn default() -> Self {
        Self::new()
    }
}

impl Guarded {
    /// No memory is guarded.
    pub const fn new() -> Guarded {
        Guarded { range: 0..0, pages: None, entries: None, protected: 0, given_up: false }
    }

    /// Stores to this memory may be watched. Only the first range counts, and none where there is no room for its tables.
    pub fn begin(&mut self, start: u64, end: u64) {
        let (start, end) = (start & !(PAGE - 1), end & !(PAGE - 1));
        let pages = end.saturating_sub(start) >> PAGE_BITS;
        if !self.range.is_empty() || pages == 0 || pages > MOST_PAGES {
            return;
        }
        // SAFETY: a page of which nothing is known is all zero.
        self.pages = unsafe { Reserved::zeroed(pages as usize) };
        self.entries = Reserved::new(2 * MAX_SLOTS);
        if self.pages.is_some() && self.entries.is_some() {
            self.range = start..end;
        }
    }

    /// Can a block that begins here be guarded?
    pub fn serves(&self, pc: u64) -> bool {
        if self.given_up || self.protected >= MOST_PROTECTED {
            return false;
        }
        let mut ends = [pc, pc + MAX_GUARDED_BYTES as u64 - 1].into_iter();
        ends.all(|at| self.page(at).is_some_and(|page| !page.given_up))
    }

    /// The memory that is guarded.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Whether stores to this address fault because of us.
    pub fn is_protected(&self, address: u64) -> bool {
        self.page(address).is_some_and(|page| page.protected)
    }

    fn page(&self, address: u64) -> Option<&Page> {
        self.pages.as_ref()?.as_slice().get(self.place(address)?)
    }

    /// What is known of the page with this address.
    pub fn page_mut(&mut self, address: u64) -> Option<&mut Page> {
        let place = self.place(address)?;
        self.pages.as_mut()?.as_mut_slice().get_mut(place)
    }

    /// The number of the page with this address.
    fn place(&self, address: u64) -> Option<usize> {
        let is_inside = self.range.contains(&address);
        is_inside.then(|| ((address - self.range.start) >> PAGE_BITS) as usize)
    }

    /// A block was translated. `None` when there is no room for it.
    pub fn add(&mut self, index: u32, fragment: &Fragment) -> Option<()> {
        for at in pages_of(fragment) {
            let place = self.place(at)?;
            let page = self.pages.as_mut()?.as_mut_slice().get_mut(place)?;
            let entry = Entry { fragment: index, next: page.fragments };
            page.fragments = self.entries.as_mut()?.push(entry)? + 1;
        }
        Some(())
    }

    /// A page and its neighbours that are open, hold blocks, and have waited long enough: taking the right to write away
    /// interrupts every processor that a thread runs on, for many pages as for one.
    pub fn run_around(&self, at: u64, now: u64) -> Range<u64> {
        let waits = |at: u64| {
            self.page(at).is_some_and(|page| {
                let opened = page.since != 0 && page.fragments != 0;
                opened && !page.protected && !page.given_up && page.has_waited(now)
            })
        };
        let neighbours = (1..=RUN_PAGES / 2).map(|pages| pages * PAGE);
        let before = neighbours.clone().take_while(|&far| waits(at - far)).last().unwrap_or(0);
        let behind = neighbours.take_while(|&far| waits(at + far)).last().unwrap_or(0);
        at - before..at + PAGE + behind
    }

    /// The fragments of a page.
    pub fn fragments_of(&self, at: u64) -> List {
        List(self.page(at).map_or(0, |page| page.fragments))
    }

    /// Takes what is dead out of a page's list: a page that is patched again and again has had thousands of blocks.
    pub fn forget_dead(&mut self, at: u64, fragments: &[Fragment]) {
        let Some(place) = self.place(at) else { return };
        let (Some(pages), Some(entries)) = (&mut self.pages, &mut self.entries) else { return };
        let (first, entries) = (&mut pages.as_mut_slice()[place].fragments, entries.as_mut_slice());
        let mut alive: Option<u32> = None;
        let mut next = *first;
        while let Some(at) = next.checked_sub(1) {
            let entry = entries[at as usize];
            next = entry.next;
            if !fragments[entry.fragment as usize].dead {
                alive = Some(at);
            } else if let Some(alive) = alive {
                entries[alive as usize].next = next;
            } else {
                *first = next;
            }
        }
    }

    /// Has a page's fragments entered through the dispatcher.
    fn watch_page(&mut self, at: u64, translator: &mut Translator) {
        let mut list = self.fragments_of(at);
        while let Some(index) = list.next(self) {
            translator.set_watched(index, true);
        }
    }

    /// The kernel was told to change `[start, end)`: what the application wants for it holds.
    pub fn changed(&mut self, start: u64, end: u64) {
        let start = start.max(self.range.start) & !(PAGE - 1);
        for at in (start..end.min(self.range.end)).step_by(PAGE as usize) {
            let Some(page) = self.page_mut(at) else { return };
            let was = core::mem::replace(page, UNKNOWN).protected;
            self.protected -= usize::from(was);
        }
    }

    /// All translations were dropped. What is protected stays so.
    pub fn flushed(&mut self) {
        if let (Some(pages), Some(entries)) = (&mut self.pages, &mut self.entries) {
            for page in pages.as_mut_slice().iter_mut().filter(|page| page.since != 0) {
                *page = Page { protected: page.protected, since: page.since, ..UNKNOWN };
            }
            entries.clear();
        }
    }

    /// A store faulted at this address: its page may be written from now on, and who enters its fragments compares.
    /// Whether the store may be tried again.
    pub fn open(&mut self, address: u64, translator: &mut Translator) -> bool {
        let at = address & !(PAGE - 1);
        let Some(page) = self.page(at) else { return false };
        if !page.protected {
            // Another thread was here first, unless the application has protected the page itself.
            return page.since != 0;
        }
        self.watch_page(at, translator);
        if !allow(at..at + PAGE, true) {
            self.give_up(translator);
            return true;
        }
        self.protected -= 1;
        let now = now();
        let Some(page) = self.page_mut(at) else { return false };
        page.protected = false;
        if now - page.since < SOON_NS {
            page.strikes = (page.strikes + 1).min(MOST_STRIKES);
        } else {
            (page.strikes, page.looks) = (page.strikes / 2, 0);
        }
        page.since = now;
        true
    }

    /// The kernel has no room for one mapping more: nothing is protected any longer. Neighbours are opened together,
    /// so that no mapping has to be split.
    fn give_up(&mut self, translator: &mut Translator) {
        let mut closed: Option<u64> = None;
        for at in self.range().step_by(PAGE as usize) {
            if self.is_protected(at) {
                closed.get_or_insert(at);
                self.watch_page(at, translator);
            } else if let Some(first) = closed.take() {
                allow(first..at, true);
            }
        }
        if let Some(first) = closed {
            allow(first..self.range.end, true);
        }
        for page in self.pages.iter_mut().flat_map(Reserved::as_mut_slice) {
            page.protected = false;
        }
        (self.protected, self.given_up) = (0, true);
    }
}

pub const UNKNOWN: Page =
    Page { fragments: 0, protected: false, given_up: false, strikes: 0, looks: 0, since: 0 };

/// The addresses of the pages of a block.
pub fn pages_of(fragment: &Fragment) -> impl Iterator<Item = u64> + use<> {
    let last = fragment.pc + u64::from(fragment.app_len) - 1;
    (fragment.pc >> PAGE_BITS..=last >> PAGE_BITS).map(|page| page << PAGE_BITS)
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now() -> u64 {
    const CLOCK_MONOTONIC: u64 = 1;
    let mut time = [0u64; 2];
    // SAFETY: the kernel writes the two words.
    unsafe { syscall6(nr::CLOCK_GETTIME, [CLOCK_MONOTONIC, time.as_mut_ptr() as u64, 0, 0, 0, 0]) };
    time[0] * 1_000_000_000 + time[1]
}

/// Lets pages be written, or not; false if the kernel refuses.
pub fn allow(pages: Range<u64>, write: bool) -> bool {
    let write = if write { memory::PROT_WRITE } else { 0 };
    let protection = memory::PROT_READ | memory::PROT_EXEC | write;
    let len = pages.end - pages.start;
    // SAFETY: the pages are executable and, but for us, writable; a store that faults is made again.
    unsafe { syscall6(nr::MPROTECT, [pages.start, len, protection, 0, 0, 0]) == 0 }
}

/// The rest of a page's list.
pub struct List(u32);

impl List {
    pub fn next(&mut self, guarded: &Guarded) -> Option<u32> {
        let at = self.0.checked_sub(1)?;
        let entry = guarded.entries.as_ref()?.as_slice()[at as usize];
        self.0 = entry.next;
        Some(entry.fragment)
    }
}
