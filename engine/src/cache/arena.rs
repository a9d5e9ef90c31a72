//! The code cache: arenas of executable memory, each within reach of the code it translates.
//!
//! # Design
//! RIP-relative operands reach 2 GiB. A program's image and its libraries lie further apart than that,
//! so there is one arena per neighbourhood: with it nearly every RIP-relative operand and every link
//! between blocks of one neighbourhood is re-encoded in place. Blocks grow from an arena's start, what is
//! rarely executed (exit stubs, literals, far jumps) from its end downwards.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::isa::x86_64::context::MAX_SLOTS;
use crate::isa::x86_64::emit::buffer::Code;
use crate::os::reserved::Reserved;
use crate::os::{memory, procfs};

/// Address space of an arena at most, and of each one but the first of a neighbourhood if there is no limit.
pub const LARGEST_ARENA: usize = 64 << 20;
/// Bytes of a large page: code that is spread over tens of megabytes waits for the TLB else.
const HUGE_PAGE: usize = 2 << 20;
/// Bytes of room for words that is taken from the cold end at a time.
pub const WORDS_BYTES: usize = 512;
const CACHE_LINE: usize = 64;
/// How far from the arena's start a translated PC may lie.
const REACH: u64 = (1 << 31) - (LARGEST_ARENA as u64) - (16 << 20);
/// Most arenas; past them far forms are used.
pub const MAX_ARENAS: usize = 16;
/// Room in an arena that is enough for the translation of any block: hot code of [`super::emit::MAX_CODE`] bytes, its pad,
/// stubs, words and copies.
pub(super) const ENOUGH: usize = 32 << 10;

/// The two exits at a fragment's end: a JCC, and the jump behind it.
#[derive(Clone, Copy)]
pub struct Tail {
    /// Index of the JCC's exit.
    pub taken: u32,
    /// Address behind the jump.
    pub end: u64,
}

/// Memory that is executed at one address and written at another one, or the same.
pub(super) struct Pages {
    base: u64,
    pub(super) len: usize,
    /// From where it is executed to where it is written; 0 = one mapping, writable and executable.
    pub(super) alias: u64,
}

impl Pages {
    /// Maps memory near `hint`: once, or where the kernel does not have it writable and executable twice.
    fn map(hint: u64, len: usize) -> Result<Pages, i32> {
        const EPERM: i32 = 1;
        const EACCES: i32 = 13;
        let prot = memory::PROT_READ | memory::PROT_WRITE | memory::PROT_EXEC;
        match memory::try_map(hint as usize, len, prot) {
            Ok(base) => Ok(Pages { base: base as u64, len, alias: 0 }),
            Err(EPERM | EACCES) => Self::map_twice(hint, len),
            Err(error) => Err(error),
        }
    }

    fn map_twice(hint: u64, len: usize) -> Result<Pages, i32> {
        let file = memory::memory_file(len)?;
        let map = |hint, prot| memory::map_file(hint, len, memory::PROT_READ | prot, file);
        let pages = map(hint as usize, memory::PROT_EXEC).and_then(|base| {
            let written = map(0, memory::PROT_WRITE).inspect_err(|_| {
                // SAFETY: mapped just now and not used.
                unsafe { memory::unmap(base, len) };
            })?;
            Ok(Pages { base: base as u64, len, alias: (written as u64).wrapping_sub(base as u64) })
        });
        memory::close(file);
        pages
    }

    /// Where the byte that is executed at this address is written.
    fn writable(&self, at: u64) -> u64 {
        at.wrapping_add(self.alias)
    }

    /// Gives the memory back; it reads as zeros afterwards.
    ///
    /// # Safety
    /// Nobody executes it.
    unsafe fn empty(&self) {
        // SAFETY: our own mapping; forwarded.
        unsafe {
            match self.alias {
                0 => memory::discard(self.base as usize, self.len),
                _ => memory::discard_shared(self.writable(self.base) as usize, self.len),
            }
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mappings are ours; whoever drops them executes nothing of them.
        unsafe {
            memory::unmap(self.base as usize, self.len);
            if self.alias != 0 {
                memory::unmap(self.writable(self.base) as usize, self.len);
            }
        }
    }
}

/// One region of translated code.
pub struct Arena {
    pub(super) pages: Pages,
    /// First byte.
    pub base: u64,
    hot: usize,
    cold: usize,
    /// The next word for [`Arena::put_word`], and the end of the room for them.
    words: [usize; 2],
    /// Address of the jump to the dispatcher.
    pub to_dispatcher: u64,
    /// The conditional branch that ended the last fragment.
    pub tail: Option<Tail>,
    /// The fragments that lie here, by ascending address.
    pub fragments: Reserved<u32>,
}

impl Arena {
    /// Maps an arena of so many bytes within reach of `pc`, or anywhere; `Ok(None)` when there is no place within reach.
    pub(super) fn new(pc: Option<u64>, len: usize) -> Result<Option<Arena>, i32> {
        let Some(pages) = (match pc {
            Some(pc) => Self::find_place(pc, len)?,
            None => Some(Pages::map(0, len)?),
        }) else {
            return Ok(None);
        };
        // A program that executes little shall not have two huge pages of it.
        if len > 4 * HUGE_PAGE && pages.alias == 0 {
            let begin = pages.base.next_multiple_of(HUGE_PAGE as u64) as usize + HUGE_PAGE;
            memory::prefer_huge_pages(begin, len - 3 * HUGE_PAGE);
        }
        const ENOMEM: i32 = 12;
        Ok(Some(Arena {
            base: pages.base,
            pages,
            hot: 0,
            cold: len,
            words: [0; 2],
            to_dispatcher: 0,
            tail: None,
            fragments: Reserved::new(MAX_SLOTS).ok_or(ENOMEM)?,
        }))
    }

    /// Memory within reach of `pc`.
    fn find_place(pc: u64, len: usize) -> Result<Option<Pages>, i32> {
        const GIB: u64 = 1 << 30;
        const LOWEST: u64 = 1 << 20;
        // Below the code first (a heap grows above a program's image), then above.
        let hints =
            [pc.wrapping_sub(GIB), pc.wrapping_sub(GIB / 2), pc + GIB + GIB / 4, pc + GIB / 2];
        let below = |hint: &u64| (LOWEST..1 << 63).contains(hint);
        for hint in hints.into_iter().filter(below) {
            let pages = Pages::map(hint & !(HUGE_PAGE as u64 - 1), len)?;
            if pages.base.abs_diff(pc) < REACH {
                return Ok(Some(pages));
            }
        }
        // The kernel looks for a place near a hint once: where it lies in something large, the list of mappings tells.
        let range = pc.saturating_sub(REACH).max(LOWEST) & !(HUGE_PAGE as u64 - 1)..pc + REACH;
        let Some(gap) = procfs::find_gap(range, len as u64, pc) else { return Ok(None) };
        let pages = Pages::map(gap, len)?;
        Ok((pages.base.abs_diff(pc) < REACH).then_some(pages))
    }

    /// Forgets everything in it and gives its memory back.
    pub(super) fn empty(&mut self) {
        // SAFETY: the caller says that nobody executes it.
        unsafe { self.pages.empty() };
        self.hot = 0;
        self.cold = self.pages.len;
        self.words = [0; 2];
        self.tail = None;
        self.fragments.clear();
    }

    /// Room between the two ends.
    pub fn free(&self) -> usize {
        self.cold - self.hot
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.pages.len - self.free()
    }

    /// Address of the next hot byte.
    pub fn hot_address(&self) -> u64 {
        self.base + self.hot as u64
    }

    /// Appends bytes to the hot end.
    pub fn put(&mut self, bytes: &[u8]) {
        assert!(self.free() >= bytes.len());
        // SAFETY: the range lies inside the mapping, between the two ends; no one executes it yet.
        unsafe {
            core::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.pages.writable(self.hot_address()) as *mut u8,
                bytes.len(),
            );
        }
        self.hot += bytes.len();
    }

    /// Places bytes at the cold end, aligned; returns their address.
    pub fn put_cold(&mut self, bytes: &[u8], align: usize) -> u64 {
        assert!(self.free() >= bytes.len() + align);
        self.cold = (self.cold - bytes.len()) & !(align - 1);
        let at = self.base + self.cold as u64;
        let written = self.pages.writable(at) as *mut u8;
        // SAFETY: as in `put`.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), written, bytes.len()) };
        at
    }

    /// Places a word that code often reads; returns its address. Such words lie together: among exit stubs, which are seldom
    /// used, each would take a line of the cache.
    pub fn put_word(&mut self, word: u64) -> u64 {
        if self.words[0] == self.words[1] {
            let begin = (self.put_cold(&[0; WORDS_BYTES], CACHE_LINE) - self.base) as usize;
            self.words = [begin, begin + WORDS_BYTES];
        }
        let at = self.base + self.words[0] as u64;
        self.words[0] += size_of::<u64>();
        // SAFETY: room that was taken for it, aligned.
        unsafe { (self.writable(at) as *mut u64).write(word) };
        at
    }

    /// Where the byte that is read and executed at this address is written.
    pub fn writable(&self, at: u64) -> u64 {
        self.pages.writable(at)
    }

    /// Where `len` bytes placed unaligned at the cold end would lie.
    pub fn cold_address(&self, len: usize) -> u64 {
        self.base + (self.cold - len) as u64
    }

    /// Where the 32-bit displacement at `site` leads.
    pub fn target(&self, site: u32) -> u64 {
        let at = self.base + u64::from(site);
        // SAFETY: a displacement field that the translator emitted in this arena.
        let displacement = unsafe { (at as *const i32).read_unaligned() };
        (at + 4).wrapping_add_signed(i64::from(displacement))
    }

    /// Makes the branch whose 32-bit displacement is at `site` lead to `target`; one store, which threads that execute
    /// the branch see as a whole or not at all.
    ///
    /// Sites are laid out for that: the displacement, and a jump with its opcode, lie in one aligned word of eight bytes. On
    /// AMD CPUs no more is atomic (APM vol. 1, "Atomicity of accesses"), and a fetch takes 32 bytes: one of a jump that lies
    /// in two of these sees the old and the new one, a part of each. A jump to what lies right behind it becomes a NOP, which
    /// costs no fetch.
    pub fn patch(&mut self, site: u32, target: u64) {
        const JUMP: u8 = 0xe9;
        const NOP: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];
        let at = self.base + u64::from(site);
        let disp = (target.wrapping_sub(at + 4) as u32).to_le_bytes();
        debug_assert!(i32::try_from(target.wrapping_sub(at + 4) as i64).is_ok());
        debug_assert!(Code::<0>::holds_field(at));
        // SAFETY: inside the arena, before the displacement of a branch that the translator emitted there.
        let opcode = unsafe { *((at - 1) as *const u8) };
        if opcode != NOP[0] && (opcode != JUMP || target != at + 4) {
            let disp = u32::from_le_bytes(disp);
            // SAFETY: as above. One MOV, because the field has no alignment of its own and an unaligned Rust atomic
            // would be undefined.
            unsafe {
                core::arch::asm!("mov dword ptr [{at}], {disp:e}", at = in(reg) self.writable(at),
                    disp = in(reg) disp, options(nostack, preserves_flags));
            }
            return;
        }
        debug_assert!(Code::<0>::holds_jump(at - 1));
        let first = (at - 1) as usize % 8;
        // SAFETY: the word around the jump, inside the arena; nothing else is written there meanwhile, the engine's lock is
        // held.
        let word = unsafe { AtomicU64::from_ptr(self.writable(at - 1 - first as u64) as *mut u64) };
        let mut whole = word.load(Ordering::Relaxed).to_le_bytes();
        let jump = &mut whole[first..first + 5];
        if target == at + 4 {
            jump.copy_from_slice(&NOP);
        } else {
            jump[0] = JUMP;
            jump[1..].copy_from_slice(&disp);
        }
        word.store(u64::from_le_bytes(whole), Ordering::Release);
    }

    /// Turns the condition of the JCC whose displacement is at `site` round. Nobody may be executing it.
    pub fn turn_condition(&mut self, site: u32) {
        // SAFETY: the second byte of a two-byte opcode that the translator emitted in this arena.
        unsafe { *(self.writable(self.base + u64::from(site) - 1) as *mut u8) ^= 1 };
    }

    /// Does a 32-bit displacement from anywhere in the arena lead to `target`?
    pub fn reaches(&self, target: u64) -> bool {
        self.base.abs_diff(target) < REACH
    }

    /// Does the arena hold this host address?
    pub fn contains(&self, host: u64) -> bool {
        host.wrapping_sub(self.base) < self.pages.len as u64
    }

    /// Where it lies.
    pub(super) fn span(&self) -> Span {
        Span { base: self.base, len: self.pages.len as u64 }
    }
}

/// Where an arena lies.
#[derive(Clone, Copy)]
pub struct Span {
    /// First byte.
    pub base: u64,
    pub(super) len: u64,
}

impl Span {
    /// One word that says the same: arenas begin at a page.
    pub fn pack(self) -> u64 {
        self.base | u64::from(self.len.ilog2())
    }

    /// From such a word; `None` for 0.
    pub fn unpack(word: u64) -> Option<Span> {
        const LOW: u64 = 0xfff;
        (word != 0).then(|| Span { base: word & !LOW, len: 1 << (word & LOW) })
    }

    /// Does it hold this address?
    pub fn contains(self, host: u64) -> bool {
        host.wrapping_sub(self.base) < self.len
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    use super::*;

    /// `mov eax, value; ret`
    fn answer(value: u8) -> [u8; 6] {
        [0xb8, value, 0, 0, 0, 0xc3]
    }

    /// One thread executes a branch that another one patches: it leads to one place or to the other, wherever it would
    /// stand without padding. Everything else in the arena returns 0.
    #[test]
    fn branches_are_patched_as_a_whole() {
        const RETURN: u8 = 0xc3;
        const EACH: Duration = Duration::from_millis(25);
        const BRANCHES: [&[u8]; 2] = [&[0xe9], &[0x0f, 0x84]];
        let mut arena =
            Arena::new(Some(answer as *const () as u64), LARGEST_ARENA).unwrap().unwrap();
        // SAFETY: the arena is this test's own.
        unsafe { core::ptr::write_bytes(arena.base as *mut u8, RETURN, LARGEST_ARENA) };
        let far = arena.put_cold(&answer(1), 1);
        for (opcode, place) in (0..128).map(|number| (BRANCHES[number / 64], number % 64)) {
            // With padding, the branch comes to lie as if it followed what ends at this place of a cache line.
            arena.hot = arena.hot.next_multiple_of(64) + place;
            let mut code: Code<64> = Code::at(arena.hot_address());
            code.put(&[0x31, 0xc0]); // xor eax, eax: the condition holds
            if opcode.len() == 1 {
                code.align_jump()
            } else {
                code.align_field(2)
            };
            code.put(opcode);
            let site = (code.here() - arena.base) as u32;
            code.put_disp_to(far);
            let behind = code.here();
            code.put(&answer(2));
            arena.put(code.bytes());
            // SAFETY: a function of the System V ABI that was emitted just now.
            let call: extern "C" fn() -> u32 = unsafe { core::mem::transmute(code.address) };
            let ends = AtomicBool::new(false);
            let mut seen = [0u64; 3];
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !ends.load(Ordering::Relaxed) {
                        for target in [behind, far] {
                            arena.patch(site, target);
                            (0..4).for_each(|_| core::hint::spin_loop());
                        }
                    }
                });
                let begin = Instant::now();
                while begin.elapsed() < EACH {
                    for _ in 0..1_000 {
                        seen[call() as usize % 3] += 1;
                    }
                }
                ends.store(true, Ordering::Relaxed);
            });
            assert_eq!(seen[0], 0, "{opcode:x?} at {:x}: {seen:?} calls came to 0, 1 and 2", site);
        }
    }
}
