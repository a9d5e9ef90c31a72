//! The code cache: arenas of executable memory, each within reach of the code it translates.
//!
//! # Design
//! RIP-relative operands reach 2 GiB. A program's image and its libraries lie further apart than that,
//! so there is one arena per neighbourhood: with it nearly every RIP-relative operand and every link
//! between blocks of one neighbourhood is re-encoded in place. Blocks grow from an arena's start, what is
//! rarely executed (exit stubs, literals, far jumps) from its end downwards.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::reserved::Reserved;
use crate::sys;

use super::emit::Code;
use super::thread::MAX_SLOTS;

/// Address space of one arena.
pub const ARENA_BYTES: usize = 64 << 20;
/// Bytes of a large page: code that is spread over tens of megabytes waits for the TLB else.
const HUGE_PAGE: usize = 2 << 20;
/// Bytes of room for words that is taken from the cold end at a time.
pub const WORDS_BYTES: usize = 512;
const CACHE_LINE: usize = 64;
/// How far from the arena's start a translated PC may lie.
const REACH: u64 = (1 << 31) - (ARENA_BYTES as u64) - (16 << 20);
/// Most arenas; past them far forms are used.
pub const MAX_ARENAS: usize = 16;

/// The two exits at a fragment's end: a JCC, and the jump behind it.
#[derive(Clone, Copy)]
pub struct Tail {
    /// Index of the JCC's exit.
    pub taken: u32,
    /// Address behind the jump.
    pub end: u64,
}

/// One region of translated code.
pub struct Arena {
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
    /// Maps an arena within reach of `pc`, or anywhere when the kernel finds no place there.
    fn new(pc: u64) -> Option<Arena> {
        const GIB: u64 = 1 << 30;
        let prot = sys::PROT_READ | sys::PROT_WRITE | sys::PROT_EXEC;
        // Below the code first (a heap grows above a program's image), then above.
        let fragments = Reserved::new(MAX_SLOTS)?;
        let hints = [
            pc.saturating_sub(GIB),
            pc.saturating_sub(GIB / 2),
            pc + GIB + GIB / 4,
            pc + GIB / 2,
            0,
        ];
        for hint in hints {
            let hint = hint & !(HUGE_PAGE as u64 - 1);
            let base = sys::map_anonymous(hint as usize, ARENA_BYTES, prot)? as u64;
            if hint == 0 || base.abs_diff(pc) < REACH {
                // A program that executes little shall not have two huge pages of it.
                let begin = base.next_multiple_of(HUGE_PAGE as u64) as usize + HUGE_PAGE;
                sys::prefer_huge_pages(begin, ARENA_BYTES - 3 * HUGE_PAGE);
                return Some(Arena {
                    base,
                    hot: 0,
                    cold: ARENA_BYTES,
                    words: [0; 2],
                    to_dispatcher: 0,
                    tail: None,
                    fragments,
                });
            }
            // SAFETY: mapped just now and not used.
            unsafe { sys::unmap(base as usize, ARENA_BYTES) };
        }
        None
    }

    /// Forgets everything in it and gives its memory back.
    fn empty(&mut self) {
        // SAFETY: the mapping is ours; the caller says that nobody executes it.
        unsafe { sys::discard(self.base as usize, ARENA_BYTES) };
        self.hot = 0;
        self.cold = ARENA_BYTES;
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
        ARENA_BYTES - self.free()
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
                (self.base as usize + self.hot) as *mut u8,
                bytes.len(),
            );
        }
        self.hot += bytes.len();
    }

    /// Places bytes at the cold end, aligned; returns their address.
    pub fn put_cold(&mut self, bytes: &[u8], align: usize) -> u64 {
        assert!(self.free() >= bytes.len() + align);
        self.cold = (self.cold - bytes.len()) & !(align - 1);
        let at = self.base as usize + self.cold;
        // SAFETY: as in `put`.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) };
        at as u64
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
        unsafe { (at as *mut u64).write(word) };
        at
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
                core::arch::asm!("mov dword ptr [{at}], {disp:e}", at = in(reg) at, disp = in(reg) disp,
                    options(nostack, preserves_flags));
            }
            return;
        }
        debug_assert!(Code::<0>::holds_jump(at - 1));
        let first = (at - 1) as usize % 8;
        // SAFETY: the word around the jump, inside the arena; nothing else is written there meanwhile, the engine's lock is
        // held.
        let word = unsafe { AtomicU64::from_ptr((at as usize - 1 - first) as *mut u64) };
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
        unsafe { *((self.base + u64::from(site) - 1) as *mut u8) ^= 1 };
    }

    /// Does a 32-bit displacement from anywhere in the arena lead to `target`?
    pub fn reaches(&self, target: u64) -> bool {
        self.base.abs_diff(target) < REACH
    }

    /// Does the arena hold this host address?
    pub fn contains(&self, host: u64) -> bool {
        host.wrapping_sub(self.base) < ARENA_BYTES as u64
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours; whoever drops a translator executes nothing of it.
        unsafe { sys::unmap(self.base as usize, ARENA_BYTES) };
    }
}

/// All arenas.
pub struct Cache {
    arenas: [Option<Arena>; MAX_ARENAS],
    count: usize,
}

impl Cache {
    /// No arena yet.
    pub const fn new() -> Cache {
        Cache { arenas: [const { None }; MAX_ARENAS], count: 0 }
    }

    /// The arena for code at `pc`: one within reach, else a new one, else the first.
    /// The flag says that it is new and has no routines yet.
    pub fn near(&mut self, pc: u64) -> Option<(u8, bool)> {
        let near = |a: &Arena| a.reaches(pc) && a.free() > (1 << 20);
        if let Some(i) = self.arenas.iter().flatten().position(near) {
            return Some((i as u8, false));
        }
        if self.count < MAX_ARENAS
            && let Some(arena) = Arena::new(pc)
        {
            self.arenas[self.count] = Some(arena);
            self.count += 1;
            return Some((self.count as u8 - 1, true));
        }
        let any = self.arenas.iter().flatten().position(|a| a.free() > (1 << 20))?;
        Some((any as u8, false))
    }

    /// One arena by its number.
    pub fn arena(&mut self, index: u8) -> &mut Arena {
        self.arenas[index as usize].as_mut().expect("arena numbers come from near()")
    }

    /// Number of the arena that holds a host address.
    pub fn number_of(&self, host: u64) -> Option<u8> {
        self.arenas.iter().flatten().position(|arena| arena.contains(host)).map(|at| at as u8)
    }

    /// The arena that holds a host address.
    pub fn at(&self, host: u64) -> Option<&Arena> {
        self.arenas.iter().flatten().find(|arena| arena.contains(host))
    }

    /// Empties all arenas, which stay where they are; nobody may be executing them.
    pub fn empty(&mut self) -> impl Iterator<Item = u8> + use<> {
        self.arenas.iter_mut().flatten().for_each(Arena::empty);
        0..self.count as u8
    }

    /// First addresses of all arenas.
    pub fn bases(&self) -> impl Iterator<Item = u64> {
        self.arenas.iter().flatten().map(|arena| arena.base)
    }

    /// Bytes in use in all arenas, the lists of their fragments included.
    pub fn used(&self) -> usize {
        self.arenas.iter().flatten().map(|arena| arena.used() + arena.fragments.bytes()).sum()
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
        let mut arena = Arena::new(answer as *const () as u64).unwrap();
        // SAFETY: the arena is this test's own.
        unsafe { core::ptr::write_bytes(arena.base as *mut u8, RETURN, ARENA_BYTES) };
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
