//! What frida-gum's Stalker leaves to its host: new threads, and the refusal of JVMs.
//!
//! Stalker does not follow the threads that a followed one makes. So `pthread_create` stands before libc's here, in
//! this build alone, and has a new thread attach itself before its routine begins.

use crate::{
    base::{file, guarded, link, tracer},
    count::follow,
    record::threads,
};
use alloc::boxed::Box;
use core::{
    arch::naked_asm,
    ptr::null_mut,
    sync::atomic::{AtomicUsize, Ordering},
};

/// The next definition of `pthread_create`; 0 = not looked for yet.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Why this process is not to be followed, if that is so.
pub fn refusal() -> Option<&'static str> {
    const LARGEST_ENVIRONMENT: usize = 1 << 20;
    let mut path = [0u8; 4096];
    let program = file::read_link(c"/proc/self/exe", &mut path)?;
    let forced = || {
        let environment = file::read_file(c"/proc/self/environ", LARGEST_ENVIRONMENT);
        environment.is_ok_and(|all| {
            all.split(|&byte| byte == 0).any(|one| one == b"SPARKANALYZER_GUM_FORCE=1")
        })
    };
    (program.ends_with(b"/java") && !forced()).then_some("frida-gum's Stalker does not run JVMs")
}

/// What a new thread is to run.
struct Start {
    routine: u64,
    argument: u64,
}

/// Stands before libc's `pthread_create`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create() {
    naked_asm!(
        ".cfi_startproc",
        "sub rsp, 40",
        ".cfi_adjust_cfa_offset 40",
        "mov [rsp], rdi",
        "mov [rsp + 8], rsi",
        "mov [rsp + 16], rdx",
        "mov [rsp + 24], rcx",
        "mov rdi, rsp",
        "lea rsi, [rip + {creates}]",
        "call {guarded}",
        "mov rdi, [rsp]",
        "mov rsi, [rsp + 8]",
        "mov rdx, [rsp + 16]",
        "mov rcx, [rsp + 24]",
        "add rsp, 40",
        ".cfi_adjust_cfa_offset -40",
        "jmp qword ptr [rip + {next}]",
        ".cfi_endproc",
        creates = sym creates,
        guarded = sym guarded::guarded,
        next = sym NEXT,
    )
}

/// `arguments`: thread, attributes, routine, argument.
unsafe extern "C" fn creates(arguments: usize) -> usize {
    if NEXT.load(Ordering::Acquire) == 0
        && let Some(next) = link::find(c"pthread_create")
    {
        NEXT.store(next, Ordering::Release);
    }
    if tracer::follows_current() {
        // SAFETY: the stub passes its own frame.
        let arguments = unsafe { &mut *(arguments as *mut [u64; 4]) };
        let start = Box::new(Start { routine: arguments[2], argument: arguments[3] });
        arguments[2] = begins as *const () as u64;
        arguments[3] = Box::into_raw(start) as u64;
        gum_tracer::expect_thread();
    }
    0
}

/// A new thread's first code: attaches it, goes on under Stalker, and leaves for the routine without a frame.
#[unsafe(naked)]
unsafe extern "C" fn begins() {
    naked_asm!(
        ".cfi_startproc",
        "sub rsp, 24",
        ".cfi_adjust_cfa_offset 24",
        "mov rsi, rsp",
        "call {attach}",
        "test rax, rax",
        "jz 2f",
        "mov rdi, rax",
        "call {enter}",
        "2:",
        "mov rax, [rsp]",
        "mov rdi, [rsp + 8]",
        "add rsp, 24",
        ".cfi_adjust_cfa_offset -24",
        "jmp rax",
        ".cfi_endproc",
        attach = sym attach,
        enter = sym tracer::enter_return,
    )
}

unsafe extern "C" fn attach(start: *mut Start, routine: &mut [u64; 2]) -> *mut tracer::Thread {
    // SAFETY: `creates` made it for this thread alone.
    let start = unsafe { Box::from_raw(start) };
    *routine = [start.routine, start.argument];
    if threads::current().is_none() {
        return null_mut();
    }
    follow::start()
}
