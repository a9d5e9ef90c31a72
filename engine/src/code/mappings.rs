//! Which application memory may be translated: the executable mappings of `/proc/self/maps`.
//!
//! Code in private memory that is not writable cannot change without a system call that the engine sees. All other
//! code is reported as [`Source::Changing`]: its translations look at their source each time they are entered.
//!
//! # Limitations
//! A file that is overwritten while it is mapped privately, and code written through `/proc/self/mem` or by a
//! debugger, change what counts as stable.

use crate::code::write_protect::Guarded;
use crate::isa::x86_64::decode::block::MAX_INSTRUCTION_BYTES;
use crate::isa::x86_64::file_memory;
use crate::os::memory::{self, PAGE, PAGE_BITS};
use crate::os::procfs;
use crate::os::reserved::Reserved;
use crate::translate::translator::Source;

/// One executable mapping.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Nobody can change its bytes without telling the kernel first.
    pub stable: bool,
    /// Not shared with other mappings.
    pub private: bool,
}

/// The page of `[vsyscall]`: the kernel does what code there would do when it is called (vsyscall(7)).
pub const VSYSCALL: core::ops::Range<u64> = 0xffff_ffff_ff60_0000..0xffff_ffff_ff60_1000;

/// More executable ranges than a process has mappings, unless `vm.max_map_count` is four times what it is by default.
const MAX_RANGES: usize = 1 << 18;
const TRANSLATED_PAGES: u64 = 1 << 16;
/// Longer than a line of `/proc/self/maps`, whose path may have 4,096 bytes, each escaped as four.
const MAPS_BUFFER: usize = 1 << 16;

/// Ranges that the host may vouch for.
const MAX_SETTLED: usize = 16;

/// The executable mappings as last read.
pub struct CodeMemory {
    /// Code that does not change although it could, by the host's word.
    settled: [core::ops::Range<u64>; MAX_SETTLED],
    ranges: Reserved<Range>,
    buffer: usize,
    /// Pages that blocks were translated from, by the low bits of their number: most memory calls of a program
    /// concern none of them, and are told apart without a look at the blocks.
    translated: [u64; TRANSLATED_PAGES as usize / 64],
}

impl CodeMemory {
    /// Nothing known yet.
    pub fn new() -> Option<CodeMemory> {
        let buffer = memory::map_anonymous(0, MAPS_BUFFER, memory::PROT_READ | memory::PROT_WRITE)?;
        Some(CodeMemory {
            settled: [const { 0..0 }; MAX_SETTLED],
            ranges: Reserved::new(MAX_RANGES)?,
            buffer,
            translated: [0; TRANSLATED_PAGES as usize / 64],
        })
    }

    /// What may happen to the code at `pc`, and the end of its mapping; `None` where nothing is executable: a branch there
    /// faults. Asks the kernel again when the address is not known, or an instruction there might reach
    /// beyond what was known: mappings grow.
    pub fn lookup(&mut self, pc: u64, guarded: &Guarded) -> Option<(Source, u64)> {
        let is_known = |range: Range| range.end - pc >= MAX_INSTRUCTION_BYTES;
        if !self.find(pc).is_some_and(|i| is_known(self.ranges.as_slice()[i])) {
            self.read(guarded);
        }
        let range = self.ranges.as_slice()[self.find(pc)?];
        Some(match self.settled.iter().find(|settled| settled.contains(&pc)) {
            _ if range.stable => (Source::Stable, range.end),
            Some(settled) if !is_audited() => (Source::Stable, settled.end.min(range.end)),
            _ if range.private && guarded.serves(pc) => {
                (Source::Guarded, range.end.min(guarded.range().end))
            }
            _ => (Source::Changing, range.end),
        })
    }

    /// The host vouches for `[start, end)`: until the kernel is told to change it, nobody does.
    pub fn settle(&mut self, start: u64, end: u64) {
        if let Some(free) = self.settled.iter_mut().find(|settled| settled.is_empty()) {
            *free = start..end;
        }
    }

    /// Is this code that the host has vouched for?
    #[cfg(feature = "faults")]
    pub fn is_settled(&self, pc: u64) -> bool {
        self.settled.iter().any(|settled| settled.contains(&pc))
    }

    /// A block was translated from `[start, end)`.
    pub fn translated(&mut self, start: u64, end: u64) {
        for page in start >> PAGE_BITS..=(end - 1) >> PAGE_BITS {
            let bit = (page % TRANSLATED_PAGES) as usize;
            self.translated[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// The kernel was told to change `[start, start + len)`: forgets what was known about it.
    /// Returns whether translated code may lie there.
    pub fn changed(&mut self, start: u64, len: u64) -> bool {
        let end = start.saturating_add(len.max(1));
        for settled in &mut self.settled {
            if settled.start < end && start < settled.end {
                *settled = 0..0;
            }
        }
        self.cut(start, end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX));
        let pages = start >> PAGE_BITS..=(end - 1) >> PAGE_BITS;
        pages.clone().count() as u64 >= TRANSLATED_PAGES
            || pages.into_iter().any(|page| {
                let bit = (page % TRANSLATED_PAGES) as usize;
                self.translated[bit / 64] & 1 << (bit % 64) != 0
            })
    }

    /// `[start, start + len)` is mapped with these rights now (`PROT_*`), by a call that the engine saw: no need to ask. What
    /// was known of it is forgotten already.
    pub fn mapped(&mut self, start: u64, len: u64, rights: u64, private: bool) {
        const READABLE_CODE: u64 = memory::PROT_READ | memory::PROT_EXEC;
        let end = start.saturating_add(len).checked_next_multiple_of(PAGE).unwrap_or(start);
        if rights & READABLE_CODE != READABLE_CODE || !start.is_multiple_of(PAGE) || start >= end {
            return;
        }
        let stable = rights & memory::PROT_WRITE == 0 && private;
        self.insert(Range { start, end, stable, private });
    }

    /// `[start, start + len)` may have become code in a way that is not known, and that must not be asked: it is compared each time
    /// it is entered.
    pub fn may_be_code(&mut self, start: u64, len: u64) {
        let end = start.saturating_add(len).checked_next_multiple_of(PAGE).unwrap_or(start);
        if start.is_multiple_of(PAGE) && start < end {
            self.insert(Range { start, end, stable: false, private: false });
        }
    }

    /// Puts a range in its place among the others, which it does not touch.
    fn insert(&mut self, range: Range) {
        if self.ranges.push(range).is_some() {
            let ranges = self.ranges.as_mut_slice();
            let last = ranges.len() - 1;
            let at = ranges[..last].partition_point(|known| known.start <= range.start);
            ranges[at..].rotate_right(1);
        }
    }

    /// Takes `[start, end)` out of all ranges.
    fn cut(&mut self, start: u64, end: u64) {
        let mut behind = None;
        for range in self.ranges.as_mut_slice() {
            if range.start >= end || start >= range.end {
                continue;
            }
            if range.end > end {
                behind = Some(Range { start: end, ..*range });
            }
            // An empty range is found by no lookup; the next reading drops it.
            range.end = start.max(range.start);
        }
        // Ranges do not overlap, so one at most went on behind it.
        if let Some(range) = behind {
            self.insert(range);
        }
    }

    /// All translations were dropped.
    pub fn flushed(&mut self) {
        self.translated.fill(0);
    }

    fn find(&self, pc: u64) -> Option<usize> {
        let ranges = self.ranges.as_slice();
        let last = ranges.partition_point(|range| range.start <= pc).checked_sub(1)?;
        (pc < ranges[last].end).then_some(last)
    }

    /// Reads the list of mappings.
    pub fn read(&mut self, guarded: &Guarded) {
        // SAFETY: the buffer is our own mapping of this size, used under the engine's lock.
        let buffer =
            unsafe { core::slice::from_raw_parts_mut(self.buffer as *mut u8, MAPS_BUFFER) };
        let mut is_first = true;
        // Where the file cannot be opened what was known stays.
        procfs::each_line(b"/proc/self/maps\0", buffer, |line| {
            if core::mem::take(&mut is_first) {
                self.ranges.clear();
                file_memory::forget();
            }
            if let Some(range) = parse_file(line) {
                file_memory::add(range.start, range.end);
            }
            let Some(mut range) = parse(line) else { return };
            // Where the engine took the right to write away it is as it was for the application.
            while range.stable && range.start < range.end && guarded.range().contains(&range.start)
            {
                let end = range.start + PAGE;
                let stable = !guarded.is_protected(range.start);
                self.push(Range { end, stable, ..range });
                range.start = end;
            }
            if range.start < range.end {
                self.push(range);
            }
        });
    }

    /// Adds a range behind the others, of which it may be the continuation. Where there is no room for it, threads that
    /// come there are released.
    fn push(&mut self, range: Range) {
        if let Some(last) = self.ranges.as_mut_slice().last_mut()
            && last.end == range.start
            && (last.stable, last.private) == (range.stable, range.private)
        {
            last.end = range.end;
        } else {
            self.ranges.push(range);
        }
    }
}

/// Whether what the host vouches for is compared all the same, to see whether it may.
fn is_audited() -> bool {
    #[cfg(feature = "faults")]
    return crate::failpoints::is_armed(crate::failpoints::Fault::Audit);
    #[cfg(not(feature = "faults"))]
    false
}

/// The range of a line about readable memory of a file.
fn parse_file(line: &[u8]) -> Option<core::ops::Range<u64>> {
    let mut fields = line.split(|&b| b == b' ').filter(|f| !f.is_empty());
    let (rights, inode) = (fields.nth(1)?, fields.nth(2)?);
    let (start, end) = procfs::mapping(line)?;
    (rights.first() == Some(&b'r') && inode != b"0").then_some(start..end)
}

/// Parses one line `start-end perms offset dev inode path`; `None` unless it is executable and readable.
fn parse(line: &[u8]) -> Option<Range> {
    let mut fields = line.split(|&b| b == b' ').filter(|f| !f.is_empty());
    let (start, end) = procfs::mapping(fields.next()?)?;
    let perms = fields.next()?;
    if perms.len() < 4 || perms[0] != b'r' || perms[2] != b'x' {
        return None;
    }
    let private = perms[3] == b'p';
    Some(Range { start, end, stable: perms[1] != b'w' && private, private })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let text = parse(b"00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon")
            .unwrap();
        assert_eq!((text.start, text.end, text.stable), (0x400000, 0x452000, true));
        assert!(
            parse(b"00651000-00652000 r--p 00051000 08:02 173521 /usr/bin/dbus-daemon").is_none()
        );
        assert!(!parse(b"7f0000000000-7f0000001000 rwxp 00000000 00:00 0 ").unwrap().stable);
        assert!(
            !parse(b"7f0000000000-7f0000001000 r-xs 00000000 00:01 7 /memfd:jit").unwrap().stable
        );
        assert!(parse(b"7f0000000000-7f0000001000 r-xp 00000000 00:00 0 ").unwrap().stable);
        assert!(parse(b"7ffd1000-7ffd3000 r-xp 00000000 00:00 0    [vdso]").unwrap().stable);
        assert!(parse(b"").is_none());
    }

    #[test]
    fn calls_tell_what_is_mapped() {
        let mut memory = CodeMemory::new().unwrap();
        let at = |memory: &CodeMemory, pc| memory.find(pc).map(|i| memory.ranges.as_slice()[i]);
        memory.mapped(0x10000, 0x4000, 5, true);
        memory.mapped(0x8000, 0x1000, 7, true);
        memory.mapped(0x20000, 0x1000, 3, true);
        assert!(at(&memory, 0x10000).unwrap().stable && !at(&memory, 0x8000).unwrap().stable);
        assert!(at(&memory, 0x20000).is_none());
        memory.changed(0x11000, 0x800);
        assert_eq!(at(&memory, 0x10fff).unwrap().end, 0x11000);
        assert!(at(&memory, 0x11fff).is_none());
        assert_eq!(at(&memory, 0x12000).unwrap().end, 0x14000);
        memory.may_be_code(0x11000, 0x1000);
        assert!(!at(&memory, 0x11800).unwrap().private);
        memory.changed(0, 1 << 40);
        assert!(at(&memory, 0x8000).is_none() && at(&memory, 0x12000).is_none());
    }

    #[test]
    fn this_test_is_stable_code_until_it_changes() {
        let mut memory = CodeMemory::new().unwrap();
        let here = lines_of_maps as fn() as usize as u64;
        assert!(matches!(memory.lookup(here, &Guarded::new()), Some((Source::Stable, _))));
        memory.translated(here, here + 8);
        assert!(!memory.changed((here & !0xfff) + 0x1000, 1));
        assert!(memory.changed(here, 1));
        assert!(memory.changed(0, 1 << 40));
        assert_eq!(memory.lookup(1, &Guarded::new()), None);
    }
}
