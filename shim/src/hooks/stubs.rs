//! The exported stubs, and the way from them to Rust and back.

use super::{
    calls,
    errno::set_errno,
    frame::{Decision, Frame},
    list::{ALL, COUNT, Hook, NEXT, each_hook, resolve_all},
};
use crate::base::{
    guarded::{self, COUNTS},
    tracer,
};
use core::{arch::naked_asm, sync::atomic::Ordering};

macro_rules! stubs {
    ($( $variant:ident = $name:ident; )*) => {
        /// The exported stubs.
        mod exported {
            use super::{COUNTS, Hook, NEXT, enter};
            $(
                #[unsafe(naked)]
                #[unsafe(no_mangle)]
                pub unsafe extern "C" fn $name() {
                    core::arch::naked_asm!(
                        ".cfi_startproc",
                        "cmp byte ptr [rip + {counts}], 0",
                        "jne 2f",
                        "mov r11, qword ptr [rip + {next} + 8 * {index}]",
                        "test r11, r11",
                        "jz 2f",
                        "jmp r11",
                        "2:",
                        "mov r11d, {index}",
                        "jmp {enter}",
                        ".cfi_endproc",
                        counts = sym COUNTS,
                        next = sym NEXT,
                        enter = sym enter,
                        index = const Hook::$variant as usize,
                    )
                }
            )*
            /// The stubs' addresses, in the order of the hooks.
            pub static ADDRESSES: [unsafe extern "C" fn(); super::COUNT] = [ $( $name ),* ];
        }
    };
}

each_hook!(stubs);

/// Where every stub of a counting process arrives, with the hook's index in r11.
#[unsafe(naked)]
unsafe extern "C" fn enter() {
    naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset rbp, 0",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "sub rsp, 112",
        "mov [rsp], rdi",
        "mov [rsp + 8], rsi",
        "mov [rsp + 16], rdx",
        "mov [rsp + 24], rcx",
        "mov [rsp + 32], r8",
        "mov [rsp + 40], r9",
        "mov [rsp + 48], rax",
        "mov [rsp + 56], r11",
        "lea r10, [rip + {next}]",
        "mov r10, [r10 + 8 * r11]",
        "mov [rsp + 64], r10",
        "mov qword ptr [rsp + 72], -1",
        "mov rdi, rsp",
        "lea rsi, [rip + {before}]",
        "call {guarded}",
        "cmp rax, 2",
        "je 3f",
        "mov r11, [rsp + 64]",
        "test r11, r11",
        "jz 3f",
        "mov rdi, [rsp]",
        "mov rsi, [rsp + 8]",
        "mov rdx, [rsp + 16]",
        "mov rcx, [rsp + 24]",
        "mov r8, [rsp + 32]",
        "mov r9, [rsp + 40]",
        "mov r10, rax",
        "mov rax, [rsp + 48]",
        "cmp r10, 3",
        "je 6f",
        "cmp r10, 1",
        "jne 4f",
        "call r11",
        "mov [rsp + 72], rax",
        "mov rdi, rsp",
        "lea rsi, [rip + {after}]",
        "call {guarded}",
        // 0, a thread to be followed from here on, or -1 after a panic.
        "lea rdi, [rax + 1]",
        "cmp rdi, 1",
        "ja 5f",
        "3:",
        "mov rax, [rsp + 72]",
        "leave",
        ".cfi_remember_state",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_restore_state",
        "4:",
        ".cfi_remember_state",
        "leave",
        ".cfi_def_cfa rsp, 8",
        "jmp r11",
        ".cfi_restore_state",
        "5:",
        ".cfi_remember_state",
        "mov rdi, rax",
        "mov rax, [rsp + 72]",
        "leave",
        ".cfi_def_cfa rsp, 8",
        "jmp {follow}",
        ".cfi_restore_state",
        "6:",
        "leave",
        ".cfi_def_cfa rsp, 8",
        "push r11",
        ".cfi_adjust_cfa_offset 8",
        "jmp {follow}",
        ".cfi_endproc",
        next = sym NEXT,
        before = sym before,
        after = sym after,
        guarded = sym guarded::guarded,
        follow = sym tracer::enter_return,
    )
}

/// The next definition of the hook whose stub is at this address; for an engine that redirects calls.
pub fn next_of_stub(address: usize) -> Option<usize> {
    let index = exported::ADDRESSES.iter().position(|&stub| stub as usize == address)?;
    match NEXT[index].load(Ordering::Relaxed) {
        0 => None,
        next => Some(next),
    }
}

/// Whether a JVM's thread must come to this stub although it is followed: it has the agent inserted, or tells of a
/// task.
pub fn serves_bridge(address: usize) -> bool {
    [Hook::PthreadSetname, Hook::LibcStartMain]
        .iter()
        .any(|&hook| exported::ADDRESSES[hook as usize] as usize == address)
}

const ENOSYS: i32 = 38;

unsafe extern "C" fn before(frame: usize) -> usize {
    // SAFETY: `enter` passes its own frame.
    let frame = unsafe { &mut *(frame as *mut Frame) };
    if frame.next == 0 {
        resolve_all();
        frame.next = NEXT[frame.hook].load(Ordering::Relaxed);
    }
    if frame.next == 0 {
        // The function does not exist in this process without us: a program that calls it was misled by
        // our definition.
        set_errno(ENOSYS);
    }
    // The stub also comes here in passive processes, for a function that was not looked for yet.
    if !COUNTS.load(Ordering::Relaxed) {
        return Decision::PassThrough as usize;
    }
    calls::before(ALL[frame.hook], frame) as usize
}

unsafe extern "C" fn after(frame: usize) -> usize {
    // SAFETY: `enter` passes its own frame.
    let frame = unsafe { &mut *(frame as *mut Frame) };
    calls::after(ALL[frame.hook], frame) as usize
}
