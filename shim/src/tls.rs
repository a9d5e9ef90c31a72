//! The shim's words in each thread's static TLS, reached without `__tls_get_addr`.
//!
//! `thread_local!` calls `__tls_get_addr`, which may allocate with the application's malloc. A preloaded
//! library has its TLS block in the static area, so the initial-exec model is right: one load from the
//! GOT, one from FS. New threads find the words zero; glibc zeroes them also when it reuses a stack.

use core::arch::{asm, global_asm};

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
    /// The stack pointer to return to on a panic ([`crate::guard`]).
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
