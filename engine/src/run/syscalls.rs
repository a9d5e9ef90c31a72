//! System calls of followed threads: seen at the SYSCALL instruction, made from the engine.
//!
//! Nearly all are passed through as they are. The ones that create threads and processes, change code,
//! touch GS or set signal handlers need the engine's part.

use core::arch::global_asm;
use core::sync::atomic::Ordering;

use crate::contract::{Call, Notice};
use crate::isa::x86_64::app_memory::{read_memory, write_memory};
use crate::isa::x86_64::context::{Stage, ThreadState, disp};
use crate::isa::x86_64::decode::block::Refusal;
use crate::isa::x86_64::file_memory;
use crate::isa::x86_64::gs::{ARCH_GET_GS, ARCH_SET_GS};
use crate::isa::x86_64::registers::gpr;
use crate::metric::Metric;
use crate::os::signal_mask::{NEVER_BLOCKED, restore_signals};
use crate::os::syscall::nr;
use crate::os::{memory, seccomp};
use crate::run::engine::Engine;
use crate::run::new_task::hold_signals;

global_asm!(
    ".pushsection .text.engine_syscall, \"ax\", @progbits",
    ".globl engine_syscall", ".hidden engine_syscall", ".type engine_syscall, @function",
    ".globl engine_syscall_at", ".hidden engine_syscall_at",
    ".globl engine_syscall_checked", ".hidden engine_syscall_checked",
    ".globl engine_syscall_after", ".hidden engine_syscall_after",
    // extern "C" fn(number, &[u64; 6]) -> i64
    "engine_syscall:",
    "mov rax, rdi", "mov r11, rsi",
    "mov rdi, [r11]", "mov rsi, [r11+8]", "mov rdx, [r11+16]",
    "mov r10, [r11+24]", "mov r8, [r11+32]", "mov r9, [r11+40]",
    // On the application's stack, where the frame of a signal belongs.
    "mov gs:[{ENGINE_RSP}], rsp",
    "mov rsp, gs:[{RSP}]",
    // RCX tells a call that is restarted (the kernel left the next PC there) from one not made yet.
    "xor ecx, ecx",
    // A signal that was postponed on the way here must not sleep through the call.
    "cmp dword ptr gs:[{PENDING}], 0",
    "engine_syscall_checked:",
    "jne 2f",
    "engine_syscall_at:",
    "syscall",
    "engine_syscall_after:",
    "mov rsp, gs:[{ENGINE_RSP}]",
    "ret",
    "2:",
    "mov rsp, gs:[{ENGINE_RSP}]",
    "mov rax, {NOT_MADE}",
    "ret",
    // extern "C" fn(&u64): gives the application its signal mask back, on its own stack.
    ".globl engine_unblock", ".hidden engine_unblock", ".type engine_unblock, @function",
    ".globl engine_unblock_after", ".hidden engine_unblock_after",
    "engine_unblock:",
    "mov rsi, rdi", "mov edi, 2", "xor edx, edx", "mov r10d, 8", "mov eax, {SIGPROCMASK}",
    "mov gs:[{ENGINE_RSP}], rsp",
    "mov rsp, gs:[{RSP}]",
    "syscall",
    "engine_unblock_after:",
    "mov rsp, gs:[{ENGINE_RSP}]",
    "ret",
    // extern "C" fn(frame, thread): rt_sigreturn through a frame of the engine's own, to engine_unblock_after. The caller's
    // registers go into it: struct sigcontext begins 48 bytes behind the return address.
    ".globl engine_enter_frame", ".hidden engine_enter_frame", ".type engine_enter_frame, @function",
    "engine_enter_frame:",
    "mov [rdi+48+8*4], r12", "mov [rdi+48+8*5], r13", "mov [rdi+48+8*6], r14", "mov [rdi+48+8*7], r15",
    "mov [rdi+48+8*10], rbp", "mov [rdi+48+8*11], rbx",
    "mov gs:[{ENGINE_RSP}], rsp",
    "lea rsp, [rdi+8]",
    "mov eax, 15",
    "syscall",
    // A filter has answered instead of the kernel: the mask stays as it is.
    "mov rsp, gs:[{ENGINE_RSP}]",
    "ret",
    // Returns from the application's signal handler through its frame.
    ".globl engine_sigreturn", ".hidden engine_sigreturn", ".type engine_sigreturn, @function",
    "engine_sigreturn:",
    // The kernel takes all flags of the frame but ID, which stays as it is now.
    "mov eax, gs:[{RFLAGS}]", "and eax, 1 << 21", "or eax, 0x202", "push rax", "popfq",
    "mov gs:[{ENGINE_RSP}], rsp",
    "mov rsp, gs:[{RSP}]",
    "mov eax, 15",
    "syscall",
    // A filter has answered instead of the kernel.
    "mov rsp, gs:[{ENGINE_RSP}]",
    "ret",
    ".popsection",
    PENDING = const disp::PENDING_SIGNAL, NOT_MADE = const NOT_MADE,
    ENGINE_RSP = const disp::ENGINE_RSP,
    RSP = const disp::GPR + 8 * gpr::RSP, SIGPROCMASK = const nr::RT_SIGPROCMASK,
    RFLAGS = const disp::RFLAGS,
);

// Signal handlers and the assembly read and write the thread's block behind the compiler's back: it is passed to
// every function where that may happen, so that nothing about it is assumed across the call.
#[allow(improper_ctypes, reason = "the address is only passed through")]
unsafe extern "C" {
    fn engine_syscall(number: u64, arguments: &[u64; 6], thread: *mut ThreadState) -> i64;
    fn engine_unblock(mask: &u64, thread: *mut ThreadState);
    fn engine_sigreturn(thread: *mut ThreadState) -> i64;
    fn engine_enter_frame(frame: *mut u64, thread: *mut ThreadState);
}

/// The gadget's answer when a signal is pending: the kernel's ERESTARTSYS, which no call returns to user mode.
const NOT_MADE: i64 = -512;

/// Has the kernel restore a frame of the engine's own, which leads back here.
///
/// # Safety
/// `frame` must be a whole `struct rt_sigframe` whose PC is [`Gadget::unblocked`].
pub(crate) unsafe fn enter_frame(frame: *mut u64, thread: *mut ThreadState) {
    // SAFETY: forwarded.
    unsafe { engine_enter_frame(frame, thread) };
}

/// Bytes of SYSCALL.
pub(crate) const SYSCALL_LEN: u64 = 2;

/// The application has changed its signal mask.
fn note_mask(thread: &mut ThreadState, call: &Call, result: i64) {
    let [how, set, _, size, ..] = call.arguments;
    if result != 0 || set == 0 || size != 8 {
        return;
    }
    let mut bytes = [0u8; 8];
    if !read_memory(set, &mut bytes) {
        return thread.forget_blocked();
    }
    let (set, before) = (u64::from_le_bytes(bytes) & !NEVER_BLOCKED, thread.known_blocked());
    match (how, before) {
        (2, _) => thread.set_blocked(set),
        (0, Some(before)) => thread.set_blocked(before | set),
        (1, Some(before)) => thread.set_blocked(before & !set),
        _ => thread.forget_blocked(),
    }
}

impl Engine {
    /// Makes the system call that the thread is at; `next` is the PC behind the instruction.
    pub(crate) fn syscall(&self, thread: &mut ThreadState, next: u64) {
        let call = Call {
            number: thread.gpr[gpr::RAX],
            arguments: [gpr::RDI, gpr::RSI, gpr::RDX, gpr::R10, gpr::R8, gpr::R9]
                .map(|r| thread.gpr[r]),
        };
        // Until the call is made the thread is at its SYSCALL: whatever fails before leaves it there.
        thread.pc = next - SYSCALL_LEN;
        thread.call = call;
        self.rearm_alternate_stack(thread);
        if thread.pending.is_some() {
            self.not_made(thread);
            return;
        }
        if call.number == nr::RT_SIGRETURN && self.prepare_sigreturn(thread) {
            // SAFETY: the frame was looked at; the kernel checks the rest.
            let refused = unsafe { engine_sigreturn(thread) };
            // Only a filter lets it return: a call that failed, like others.
            self.undo_sigreturn(thread);
            thread.pc = next - SYSCALL_LEN;
            thread.call_token = Default::default();
            self.finish_syscall(thread, refused);
            return;
        }
        #[cfg(feature = "faults")]
        assert!(
            !crate::failpoints::strikes(crate::failpoints::Fault::AssertionAtCall),
            "a fault that was asked for"
        );
        thread.call_token = self.client.before_syscall(thread, &call);
        let result = match call.number {
            nr::EXIT | nr::EXIT_GROUP => {
                self.client.exiting(
                    thread,
                    call.number == nr::EXIT_GROUP,
                    call.arguments[0] as i32,
                );
                self.give_back(thread);
                self.pass(thread, &call)
            }
            nr::EXECVE | nr::EXECVEAT => {
                let mut call = call;
                self.client.before_exec(thread, &mut call);
                self.show_ignored(true);
                let result = self.pass(thread, &call);
                self.show_ignored(false);
                result
            }
            nr::FORK | nr::VFORK | nr::CLONE | nr::CLONE3 => {
                // No signal may come between this and the new task's own first record; one that was postponed
                // before goes first, for the kernel's mask is not the application's then.
                hold_signals(thread);
                let result = match thread.pending.is_some() {
                    true => Some(NOT_MADE),
                    false => self.new_task(thread, &call, next),
                };
                if thread.signals_held != 0 {
                    restore_signals(thread.new_task_mask);
                }
                match result {
                    Some(result) => result,
                    None => return,
                }
            }
            nr::ARCH_PRCTL if call.arguments[0] == ARCH_GET_GS => {
                // GS holds our block; the application never set it.
                write_memory(call.arguments[1], &[0; 8])
            }
            nr::ARCH_PRCTL if call.arguments[0] == ARCH_SET_GS => {
                // The application wants GS for itself: it makes the call natively.
                self.release(thread, Notice::Untranslatable, Refusal::UsesGs as u64);
                return;
            }
            nr::RT_SIGACTION => {
                let [signal, new, old, size, ..] = call.arguments;
                self.sigaction([signal, new, old, size])
            }
            nr::SIGALTSTACK => self.sigaltstack(thread, &call),
            nr::RT_SIGPROCMASK => {
                let result = self.pass(thread, &call);
                note_mask(thread, &call, result);
                result
            }
            nr::PRCTL | nr::SECCOMP => match self.restricting_call(thread, &call) {
                Some(result) => result,
                None => return,
            },
            _ => self.pass_in_room(thread, &call),
        };
        if result == NOT_MADE {
            self.not_made(thread);
            return;
        }
        self.finish_syscall(thread, result);
    }

    /// A signal comes first: the block that ends with this SYSCALL was counted whole, and will be run again.
    pub(crate) fn not_made(&self, thread: &ThreadState) {
        thread.adjust[Metric::Instructions as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// The call has returned: its result and effects, also where a signal interrupts its end.
    pub(crate) fn finish_syscall(&self, thread: &mut ThreadState, result: i64) {
        let call = thread.call;
        let next = thread.pc + SYSCALL_LEN;
        thread.pc = next;
        thread.gpr[gpr::RAX] = result as u64;
        // SYSCALL leaves the next PC in RCX and the flags in R11 (SDM vol. 2, SYSCALL).
        thread.gpr[gpr::RCX] = next;
        thread.gpr[gpr::R11] = thread.rflags;
        let token = thread.call_token;
        self.client.after_syscall(thread, &call, result, token);
        self.code_changes(&call, result);
    }

    /// Makes the call as it is.
    pub(crate) fn pass(&self, thread: &mut ThreadState, call: &Call) -> i64 {
        thread.in_syscall = Stage::Application;
        // SAFETY: it is the application's own call.
        let result = unsafe { engine_syscall(call.number, &call.arguments, thread) };
        thread.in_syscall = Stage::None;
        result
    }

    /// Gives the application its signal mask back; a queued signal arrives at the end of this.
    pub(crate) fn unblock(&self, thread: &mut ThreadState, mask: &u64) {
        thread.in_syscall = Stage::Leaving;
        // SAFETY: `mask` is the engine's own word.
        unsafe { engine_unblock(mask, thread) };
        thread.in_syscall = Stage::None;
    }

    /// Invalidates what a memory call changed.
    fn code_changes(&self, call: &Call, result: i64) {
        if result < 0 && result > -4096 {
            return;
        }
        let a = &call.arguments;
        let ranges = match call.number {
            nr::MMAP | nr::SHMAT => [(result as u64, a[1]), (0, 0)],
            nr::MUNMAP | nr::MPROTECT | nr::PKEY_MPROTECT => [(a[0], a[1]), (0, 0)],
            nr::MREMAP => [(a[0], a[1]), (result as u64, a[2])],
            nr::SHMDT => [(a[0], 1), (0, 0)],
            _ => return,
        };
        for &(at, len) in ranges.iter().filter(|range| range.0 != 0) {
            self.invalidate(at, len);
        }
        const SHARING: u64 = 0xf;
        const MAP_PRIVATE: u64 = 2;
        const MAP_ANONYMOUS: u64 = 0x20;
        match call.number {
            nr::MMAP => self.with_tables(|tables| {
                let (start, end) = (result as u64, (result as u64).saturating_add(a[1]));
                tables.code.mapped(start, a[1], a[2], a[3] & SHARING == MAP_PRIVATE);
                file_memory::remove(start, end);
                if a[3] & MAP_ANONYMOUS == 0 && a[2] & memory::PROT_READ != 0 {
                    file_memory::add(start, end);
                }
            }),
            nr::MUNMAP | nr::MREMAP => {
                self.with_tables(|_| file_memory::remove(a[0], a[0].saturating_add(a[1])));
            }
            nr::MPROTECT | nr::PKEY_MPROTECT
                if seccomp::is_restricted() && a[2] & memory::PROT_EXEC != 0 =>
            {
                self.with_tables(|tables| tables.code.may_be_code(a[0], a[1]));
            }
            _ => {}
        }
    }
}
