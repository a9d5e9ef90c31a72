//! A panic in the shim switches the shim off; the host goes on.
//!
//! # Design
//!
//! With `panic=abort` nothing unwinds. So each entry from the host goes through [`guarded`]: it saves the
//! callee-saved registers and notes its stack pointer in the thread's TLS word. The panic handler marks
//! the library switched off, writes one line to the log, restores that stack pointer and returns
//! [`FAILED`] from `guarded`; the hook then passes the application's call through. Values on the
//! abandoned stack are not dropped and locks that were held stay held: every wait in the shim ends at
//! once when the library is switched off.
//!
//! # Limitations
//!
//! A panic where no entry is noted has nowhere to return to: the ticker ends; the constructor
//! notes itself; any other thread ends the process with SIGABRT, after the line in the log. The engine
//! sets its own way out for code on its own stack.

use crate::{
    base::{sys, tls},
    files::log,
    record::{helper, recorder},
};
use core::{
    arch::{asm, naked_asm},
    panic::PanicInfo,
    sync::atomic::{AtomicBool, Ordering},
};

/// What [`guarded`] returns after a panic.
pub const FAILED: usize = usize::MAX;

static SWITCHED_OFF: AtomicBool = AtomicBool::new(false);

/// Whether a panic has switched the library off.
#[inline]
pub fn switched_off() -> bool {
    SWITCHED_OFF.load(Ordering::Relaxed)
}

/// Switches the library off: from now on hooks pass through and nothing is written.
pub fn switch_off() {
    SWITCHED_OFF.store(true, Ordering::SeqCst);
    crate::hooks::pass_through_from_now();
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

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if !switched_off() {
        recorder::farewell(format_args!("switched off: {info}"));
    }
    switch_off();
    helper::wake();
    log::line(log::Level::Error, format_args!("switched off: {info}"));
    crate::client::tracer::abandon();
    let recovery = tls::get(tls::Word::Recovery);
    if recovery != 0 {
        // SAFETY: the word holds the stack pointer of a `guarded` frame of this thread that has not
        // returned: `guarded` restores the word before it returns.
        unsafe {
            asm!("mov rsp, {0}", "mov rax, -1", "cld", "jmp sparkanalyzer_guard_return",
                in(reg) recovery, options(noreturn));
        }
    }
    const SIGABRT: u64 = 6;
    // SAFETY: ends this process; there is no frame to return to.
    unsafe {
        sys::call3(sys::nr::TGKILL, u64::from(sys::getpid()), u64::from(sys::gettid()), SIGABRT);
        loop {
            sys::call1(sys::nr::EXIT_GROUP, 134);
        }
    }
}
