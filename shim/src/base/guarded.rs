//! A panic in the shim switches the shim off; the host goes on.
//!
//! # Design
//!
//! With `panic=abort` nothing unwinds. So each entry from the host goes through [`guarded`]: it saves the
//! callee-saved registers and notes its stack pointer in the thread's TLS word. The panic handler ([`crate::entry::panic`]) marks
//! the library switched off, writes one line to the log, restores that stack pointer and returns
//! [`FAILED`] from `guarded`; the hook then passes the application's call through. Values on the
//! abandoned stack are not dropped and locks that were held stay held: every wait in the shim ends at
//! once when the library is switched off.
//!
//! # Limitations
//!
//! A panic where no entry is noted has nowhere to return to: the helper ends; the constructor
//! notes itself; any other thread ends the process with SIGABRT, after the line in the log. The engine
//! sets its own way out for code on its own stack.

use core::{
    arch::naked_asm,
    sync::atomic::{AtomicBool, Ordering},
};

/// What [`guarded`] returns after a panic.
pub const FAILED: usize = usize::MAX;

static SWITCHED_OFF: AtomicBool = AtomicBool::new(false);
/// Set while this process is counted: hooks look at their calls. The stubs read it.
pub static COUNTS: AtomicBool = AtomicBool::new(false);

/// Makes every hook look at its calls.
pub fn count_from_now() {
    COUNTS.store(true, Ordering::SeqCst);
}

/// Whether a panic has switched the library off.
#[inline]
pub fn switched_off() -> bool {
    SWITCHED_OFF.load(Ordering::Relaxed)
}

/// Switches the library off: from now on hooks pass through and nothing is written.
pub fn switch_off() {
    SWITCHED_OFF.store(true, Ordering::SeqCst);
    COUNTS.store(false, Ordering::SeqCst);
}

/// Calls `body(argument)` and returns its result, or [`FAILED`] if it panicked.
///
/// May be nested, also by a signal handler.
///
/// # Safety
///
/// As `body`.
#[unsafe(naked)]
pub unsafe extern "C" fn guarded(
    argument: usize,
    body: unsafe extern "C" fn(usize) -> usize,
) -> usize {
    naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_adjust_cfa_offset 8",
        "push rbx",
        ".cfi_adjust_cfa_offset 8",
        "push r12",
        ".cfi_adjust_cfa_offset 8",
        "push r13",
        ".cfi_adjust_cfa_offset 8",
        "push r14",
        ".cfi_adjust_cfa_offset 8",
        "push r15",
        ".cfi_adjust_cfa_offset 8",
        "mov rax, qword ptr [rip + sparkanalyzer_tls@GOTTPOFF]",
        "push qword ptr fs:[rax + 8]",
        ".cfi_adjust_cfa_offset 8",
        "mov qword ptr fs:[rax + 8], rsp",
        "call rsi",
        // The panic handler arrives here too, with rsp restored and rax = FAILED.
        ".globl sparkanalyzer_guard_return",
        ".hidden sparkanalyzer_guard_return",
        "sparkanalyzer_guard_return:",
        "mov rcx, qword ptr [rip + sparkanalyzer_tls@GOTTPOFF]",
        "pop qword ptr fs:[rcx + 8]",
        ".cfi_adjust_cfa_offset -8",
        "pop r15",
        ".cfi_adjust_cfa_offset -8",
        "pop r14",
        ".cfi_adjust_cfa_offset -8",
        "pop r13",
        ".cfi_adjust_cfa_offset -8",
        "pop r12",
        ".cfi_adjust_cfa_offset -8",
        "pop rbx",
        ".cfi_adjust_cfa_offset -8",
        "pop rbp",
        ".cfi_adjust_cfa_offset -8",
        "ret",
        ".cfi_endproc",
    )
}
