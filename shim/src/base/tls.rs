//! The shim's words in each thread's static TLS, reached without `__tls_get_addr`.
//!
//! `thread_local!` calls `__tls_get_addr`, which may allocate with the application's malloc. A preloaded
//! library has its TLS block in the static area, so the initial-exec model is right: one load from the
//! GOT, one from FS. New threads find the words zero; glibc zeroes them also when it reuses a stack.
//!
//! A followed thread may have no thread pointer of libc's (a raw clone that shares its creator's, or brings another
//! runtime's) or change it for a while (arch_prctl, WRFSBASE). So the engine's host runs with [`with_base`]: on the
//! thread's own pointer, or on an area that [`map_area`] makes for it.

use crate::base::{startup::Startup, sys};
use core::{
    arch::{asm, global_asm},
    sync::atomic::{AtomicBool, Ordering},
};

global_asm!(
    r#"
    .section .tbss,"awT",@nobits
    .p2align 4
    .globl sparkanalyzer_tls
    .hidden sparkanalyzer_tls
    .type sparkanalyzer_tls,@tls_object
    .size sparkanalyzer_tls, 16
    sparkanalyzer_tls:
    .zero 16
    .text
"#
);

/// The words of [`Word`], by index.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Word {
    /// The thread's block; 0 before the thread was seen, 1 after its end.
    Thread = 0,
    /// The stack pointer to return to on a panic ([`crate::base::guarded`]).
    Recovery = 8,
}

/// Distance of the words from the thread pointer; negative.
#[inline]
pub fn offset() -> isize {
    let offset: isize;
    // SAFETY: reads a word of our own GOT that the loader relocated.
    unsafe {
        asm!("mov {0}, qword ptr [rip + sparkanalyzer_tls@GOTTPOFF]", out(reg) offset,
            options(pure, readonly, nostack, preserves_flags));
    }
    offset
}

/// Reads one of this thread's words.
#[inline]
pub fn get(word: Word) -> usize {
    let value: usize;
    // SAFETY: FS points at the thread's control block and the words lie at a fixed distance below it.
    unsafe {
        asm!("mov {0}, qword ptr fs:[{1} + {2}]", out(reg) value, in(reg) offset(), in(reg) word as usize,
            options(readonly, nostack, preserves_flags));
    }
    value
}

/// Writes one of this thread's words.
#[inline]
pub fn set(word: Word, value: usize) {
    // SAFETY: as in `get`; nobody else knows these words.
    unsafe {
        asm!("mov qword ptr fs:[{1} + {2}], {0}", in(reg) value, in(reg) offset(), in(reg) word as usize,
            options(nostack, preserves_flags));
    }
}

/// The thread pointer: different for each thread of the process.
#[inline]
pub fn thread_pointer() -> usize {
    let value: usize;
    // SAFETY: the first word of the control block is its own address (x86-64 psABI, TLS variant II).
    unsafe {
        asm!("mov {0}, qword ptr fs:[0]", out(reg) value, options(readonly, nostack, preserves_flags))
    };
    value
}

/// Whether RDFSBASE and WRFSBASE may be used.
static FSGSBASE: AtomicBool = AtomicBool::new(false);

/// Looks at what the kernel says of this machine.
pub fn learn(startup: &Startup) {
    const AT_HWCAP2: u64 = 26;
    const HWCAP2_FSGSBASE: u64 = 2;
    let has = startup.auxiliary(AT_HWCAP2).is_some_and(|bits| bits & HWCAP2_FSGSBASE != 0);
    FSGSBASE.store(has, Ordering::Relaxed);
}

/// The FS base, wherever it points.
#[inline]
pub fn base() -> u64 {
    const ARCH_GET_FS: u64 = 0x1003;
    let mut base = 0u64;
    if FSGSBASE.load(Ordering::Relaxed) {
        // SAFETY: RDFSBASE, which the kernel allows.
        unsafe {
            asm!("rdfsbase {0}", out(reg) base, options(nomem, nostack, preserves_flags));
        }
    } else {
        // SAFETY: the kernel writes our own word.
        unsafe { sys::call2(sys::nr::ARCH_PRCTL, ARCH_GET_FS, &raw mut base as u64) };
    }
    base
}

fn set_base(base: u64) {
    const ARCH_SET_FS: u64 = 0x1002;
    if FSGSBASE.load(Ordering::Relaxed) {
        // SAFETY: WRFSBASE, which the kernel allows; the caller puts the old base back.
        unsafe { asm!("wrfsbase {0}", in(reg) base, options(nostack, preserves_flags)) };
    } else {
        // SAFETY: as above, by system call.
        unsafe { sys::call2(sys::nr::ARCH_PRCTL, ARCH_SET_FS, base) };
    }
}

/// Runs `work` with this FS base, and puts the present one back.
#[inline]
pub fn with_base<R>(own: u64, work: impl FnOnce() -> R) -> R {
    let present = base();
    if present == own {
        return work();
    }
    set_base(own);
    let result = work();
    set_base(present);
    result
}

/// Whether a thread pointer is one of libc's. The control blocks of glibc and of musl begin with their own address,
/// and their third word (glibc's `self`, musl's list of threads) is never 0; in our own areas it is.
pub fn is_libcs(base: u64) -> bool {
    let mut words = [0u8; 24];
    sys::read_memory(base, &mut words) == words.len()
        && words[..8] == base.to_ne_bytes()
        && words[16..] != [0; 8]
}

/// Memory for the words of a thread without libc's thread-local storage: its FS base.
pub fn map_area() -> Option<u64> {
    let start = sys::map_anonymous(area_bytes())? as usize;
    let base = start + (-offset()) as usize;
    // SAFETY: inside the area; the words lie at its start.
    unsafe { (base as *mut usize).write(base) };
    Some(base as u64)
}

/// Gives an area of [`map_area`] back.
///
/// # Safety
///
/// It must not be the FS base, nor become it again.
pub unsafe fn unmap_area(base: u64) {
    let start = base as usize - (-offset()) as usize;
    // SAFETY: our own mapping; the caller vouches that nobody uses it.
    unsafe { sys::unmap(start as *mut u8, area_bytes()) };
}

fn area_bytes() -> usize {
    /// Room for the part of libc's control block that code of ours may read: the stack protector's word.
    const CONTROL_BYTES: usize = 64;
    ((-offset()) as usize + CONTROL_BYTES).next_multiple_of(4096)
}
