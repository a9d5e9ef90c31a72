//! System calls of followed threads: seen at the SYSCALL instruction, made from the engine.
//!
//! Nearly all are passed through as they are. The ones that create threads and processes, change code,
//! touch GS or set signal handlers need the engine's part.

use core::arch::global_asm;
use core::sync::atomic::Ordering;

use super::app_memory::{read_memory, write_memory};
use super::block::Refusal;
use super::engine::Engine;
use super::file_memory;
use super::signal::FAULTS;
use super::signal_settings::NEVER_BLOCKED;
use super::thread::{ARCH_GET_GS, ARCH_SET_GS, ThreadState, disp, gpr};
use crate::contract::{Call, Notice};
use crate::metric::Metric;
use crate::sys::{self, nr};

/// What the thread is doing in `engine_syscall`, for a signal handler that interrupts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// Not in a system call of the application.
    None = 0,
    /// Making the application's system call.
    Application = 1,
    /// Giving the application its signal mask back; the application's state is complete.
    Leaving = 2,
}

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
    // The same for a vfork-like call: the child leaves at once, with the state in the thread's block.
    ".globl engine_vfork", ".hidden engine_vfork", ".type engine_vfork, @function",
    "engine_vfork:",
    "mov rax, rdi", "mov r11, rsi",
    "mov rdi, [r11]", "mov rsi, [r11+8]", "mov rdx, [r11+16]",
    "mov r10, [r11+24]", "mov r8, [r11+32]", "mov r9, [r11+40]",
    "pop rcx", "mov gs:[{SPILL}], rcx", // a child on the same stack may overwrite the return address
    "syscall",
    "test rax, rax",
    "jz 2f",
    "jmp qword ptr gs:[{SPILL}]",
    "2:",
    "cmp dword ptr gs:[{HELD}], 0",
    "je engine_resume",
    "mov eax, {SIGPROCMASK}", "mov edi, 2", "xor edx, edx", "mov r10d, 8",
    "mov rsi, gs:[{THIS}]", "add rsi, {NEW_TASK_MASK}",
    "syscall",
    "jmp engine_resume",
    // And for a new thread: it starts on its own block, which it finds in R12.
    ".globl engine_clone_thread", ".hidden engine_clone_thread", ".type engine_clone_thread, @function",
    "engine_clone_thread:",
    "push r12",
    "mov r12, rdx",
    "mov rax, rdi", "mov r11, rsi",
    "mov rdi, [r11]", "mov rsi, [r11+8]", "mov rdx, [r11+16]",
    "mov r10, [r11+24]", "mov r8, [r11+32]", "mov r9, [r11+40]",
    "syscall",
    "test rax, rax",
    "jz 2f",
    "pop r12",
    "ret",
    "2:",
    // Without a call where the kernel allows it: a filter may forbid one that the application never makes.
    "mov rax, qword ptr [rip + {FSGSBASE}]", "cmp rax, 2", "jne 3f",
    "wrgsbase r12",
    "jmp engine_again",
    "3:",
    "mov eax, {ARCH_PRCTL}", "mov edi, {SET_GS}", "mov rsi, r12", "syscall",
    "jmp engine_again",
    ".popsection",
    PENDING = const disp::PENDING_SIGNAL, NOT_MADE = const NOT_MADE,
    SPILL = const disp::spill(super::thread::spill::ANY), ENGINE_RSP = const disp::ENGINE_RSP,
    RSP = const disp::GPR + 8 * gpr::RSP, SIGPROCMASK = const nr::RT_SIGPROCMASK,
    ARCH_PRCTL = const nr::ARCH_PRCTL, SET_GS = const ARCH_SET_GS,
    FSGSBASE = sym super::thread::FSGSBASE,
    RFLAGS = const disp::RFLAGS, THIS = const disp::THIS, NEW_TASK_MASK = const disp::NEW_TASK_MASK, HELD = const disp::SIGNALS_HELD,
);

// Signal handlers and the assembly read and write the thread's block behind the compiler's back: it is passed to
// every function where that may happen, so that nothing about it is assumed across the call.
#[allow(improper_ctypes, reason = "the address is only passed through")]
unsafe extern "C" {
    fn engine_syscall(number: u64, arguments: &[u64; 6], thread: *mut ThreadState) -> i64;
    fn engine_vfork(number: u64, arguments: &[u64; 6], thread: *mut ThreadState) -> i64;
    fn engine_clone_thread(number: u64, arguments: &[u64; 6], child: *mut ThreadState) -> i64;
    fn engine_unblock(mask: &u64, thread: *mut ThreadState);
    fn engine_sigreturn(thread: *mut ThreadState) -> i64;
    fn engine_unblock_after();
    fn engine_enter_frame(frame: *mut u64, thread: *mut ThreadState);
    fn engine_syscall_checked();
    fn engine_syscall_at();
    fn engine_syscall_after();
}

/// Where in the gadget a system call is not made yet, or to be restarted, and where it is done.
pub(super) struct Gadget {
    pub before: core::ops::RangeInclusive<u64>,
    pub after: u64,
    pub unblocked: u64,
}

pub(super) fn gadget() -> Gadget {
    Gadget {
        before: engine_syscall_checked as *const () as u64..=engine_syscall_at as *const () as u64,
        after: engine_syscall_after as *const () as u64,
        unblocked: engine_unblock_after as *const () as u64,
    }
}

/// The gadget's answer when a signal is pending: the kernel's ERESTARTSYS, which no call returns to user mode.
const NOT_MADE: i64 = -512;

/// Has the kernel restore a frame of the engine's own, which leads back here.
///
/// # Safety
/// `frame` must be a whole `struct rt_sigframe` whose PC is [`Gadget::unblocked`].
pub(super) unsafe fn enter_frame(frame: *mut u64, thread: *mut ThreadState) {
    // SAFETY: forwarded.
    unsafe { engine_enter_frame(frame, thread) };
}

/// Bytes of SYSCALL.
pub(super) const SYSCALL_LEN: u64 = 2;
const CLONE_VM: u64 = 0x100;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;
/// Largest `struct clone_args` that is looked at (`include/uapi/linux/sched.h`: 88 bytes in Linux 6.x).
const CLONE_ARGS: usize = 128;

/// What a clone-like call makes.
#[derive(Default)]
struct NewTask {
    flags: u64,
    /// The child's stack pointer; 0 = the parent's.
    stack: u64,
    /// Where the kernel is to write its id for the child; 0 = nowhere.
    child_tid: u64,
}

impl NewTask {
    fn new(flags: u64, stack: u64, child_tid: u64) -> NewTask {
        let is_asked = flags & CLONE_CHILD_SETTID != 0;
        NewTask { flags, stack, child_tid: if is_asked { child_tid } else { 0 } }
    }

    /// In a child of fork: its id, without a call where the application has asked for it.
    fn own_id(&self) -> u32 {
        let mut bytes = [0u8; 4];
        match self.child_tid {
            0 => ThreadState::ask_tid(),
            at if read_memory(at, &mut bytes) => u32::from_le_bytes(bytes),
            _ => ThreadState::ask_tid(),
        }
    }
}

/// Blocks all signals; returns the mask to restore.
pub(super) fn block_signals() -> u64 {
    let (all, mut old) = (u64::MAX, 0u64);
    // SAFETY: both words are ours.
    unsafe {
        sys::syscall6(nr::RT_SIGPROCMASK, [2, &raw const all as u64, &raw mut old as u64, 8, 0, 0]);
    }
    old
}

pub(super) fn restore_signals(mask: u64) {
    // SAFETY: the word is ours.
    unsafe { sys::syscall6(nr::RT_SIGPROCMASK, [2, &raw const mask as u64, 0, 8, 0, 0]) };
}

/// A new thread learns its id: its creator tells it as soon as the call has returned there.
pub(super) fn await_tid(child: &mut ThreadState) {
    const LOOKS: u32 = 20_000;
    let tid_at = &raw const child.tid;
    for _ in 0..LOOKS {
        // SAFETY: the thread's own block; its creator writes the word.
        if unsafe { core::ptr::read_volatile(tid_at) } != 0 {
            return;
        }
        super::thread::relax();
    }
    child.tid = ThreadState::ask_tid();
}

/// Blocks the application's signals around the making of a new task, faults of the engine's own excepted.
fn hold_signals(thread: &mut ThreadState) {
    let own = thread.blocked();
    thread.new_task_mask = own;
    // What the application has blocked stays so; the kernel never reports SIGKILL and SIGSTOP.
    let held = !(FAULTS & !own);
    let may = crate::seccomp::allows(nr::RT_SIGPROCMASK, &[2, 0, 0, 8, 0, 0]);
    thread.signals_held = u32::from(may && own | NEVER_BLOCKED != held);
    if thread.signals_held != 0 {
        restore_signals(held);
    }
}

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

/// Works on the engine's tables for a thread that runs natively: a handler of its own must not find the lock taken.
pub(super) fn undisturbed<R>(work: impl FnOnce() -> R) -> R {
    let mask = block_signals();
    let result = work();
    restore_signals(mask);
    result
}

impl Engine {
    /// Makes the system call that the thread is at; `next` is the PC behind the instruction.
    pub(super) fn syscall(&self, thread: &mut ThreadState, next: u64) {
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
            !super::faults::strikes(super::faults::Fault::AssertionAtCall),
            "a fault that was asked for"
        );
        thread.call_token = self.host.before_syscall(thread, &call);
        let result = match call.number {
            nr::EXIT | nr::EXIT_GROUP => {
                self.host.exiting(thread, call.number == nr::EXIT_GROUP, call.arguments[0] as i32);
                self.give_back(thread);
                self.pass(thread, &call)
            }
            nr::EXECVE | nr::EXECVEAT => {
                let mut call = call;
                self.host.before_exec(thread, &mut call);
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
    pub(super) fn not_made(&self, thread: &ThreadState) {
        thread.adjust[Metric::Instructions as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// The call has returned: its result and effects, also where a signal interrupts its end.
    pub(super) fn finish_syscall(&self, thread: &mut ThreadState, result: i64) {
        let call = thread.call;
        let next = thread.pc + SYSCALL_LEN;
        thread.pc = next;
        thread.gpr[gpr::RAX] = result as u64;
        // SYSCALL leaves the next PC in RCX and the flags in R11 (SDM vol. 2, SYSCALL).
        thread.gpr[gpr::RCX] = next;
        thread.gpr[gpr::R11] = thread.rflags;
        let token = thread.call_token;
        self.host.after_syscall(thread, &call, result, token);
        self.code_changes(&call, result);
    }

    /// Makes the call as it is.
    pub(super) fn pass(&self, thread: &mut ThreadState, call: &Call) -> i64 {
        thread.in_syscall = Stage::Application;
        // SAFETY: it is the application's own call.
        let result = unsafe { engine_syscall(call.number, &call.arguments, thread) };
        thread.in_syscall = Stage::None;
        result
    }

    /// Gives the application its signal mask back; a queued signal arrives at the end of this.
    pub(super) fn unblock(&self, thread: &mut ThreadState, mask: &u64) {
        thread.in_syscall = Stage::Leaving;
        // SAFETY: `mask` is the engine's own word.
        unsafe { engine_unblock(mask, thread) };
        thread.in_syscall = Stage::None;
    }

    /// fork, vfork, clone, clone3, with all signals blocked. `None` when the thread was released and makes the call natively.
    fn new_task(&self, thread: &mut ThreadState, call: &Call, next: u64) -> Option<i64> {
        let mut arguments = [0u8; CLONE_ARGS];
        let new = match call.number {
            nr::FORK => NewTask::default(),
            nr::VFORK => NewTask { flags: CLONE_VM | CLONE_VFORK, ..NewTask::default() },
            nr::CLONE => {
                let [flags, stack, _, child_tid, ..] = call.arguments;
                NewTask::new(flags, stack, child_tid)
            }
            _ => {
                let size = (call.arguments[1] as usize).min(CLONE_ARGS);
                // Fields of struct clone_args: flags at 0, child_tid at 16, parent_tid at 24, stack at 40, its size at 48.
                if size < 56 || !read_memory(call.arguments[0], &mut arguments[..size]) {
                    return Some(self.pass(thread, call));
                }
                let field = |at: usize| {
                    u64::from_le_bytes(arguments[at..at + 8].try_into().expect("eight bytes"))
                };
                let (stack, size) = (field(40), field(48));
                let stack = if stack == 0 { 0 } else { stack + size };
                NewTask::new(field(0), stack, field(16))
            }
        };
        if new.flags & CLONE_VM == 0 {
            return Some(self.fork(thread, call, &new, &mut arguments));
        }
        if new.flags & CLONE_VFORK != 0 {
            return Some(self.vfork(thread, call, &new, next));
        }
        if new.stack == 0 {
            self.release(thread, Notice::Untranslatable, Refusal::Unsupported as u64);
            return None;
        }
        self.new_thread(thread, call, &new, &mut arguments, next)
    }

    /// `clone_args` is a copy of clone3's structure, empty for other calls.
    fn fork(
        &self,
        thread: &mut ThreadState,
        call: &Call,
        new: &NewTask,
        clone_args: &mut [u8; CLONE_ARGS],
    ) -> i64 {
        // The child comes back here, on its copy of this stack; it gets the one it asked for afterwards.
        let mut arguments = call.arguments;
        match call.number {
            nr::CLONE => arguments[1] = 0,
            nr::CLONE3 => {
                clone_args[40..56].fill(0);
                arguments[0] = clone_args.as_ptr() as u64;
                arguments[1] = arguments[1].min(CLONE_ARGS as u64);
            }
            _ => {}
        }
        // No other thread may be inside the tables that the child gets a copy of.
        let result = self.with_tables(|_| {
            // SAFETY: the application's own call; it returns in both processes.
            unsafe { sys::syscall6(call.number, arguments) }
        });
        if result == 0 {
            sys::forget_pid();
            thread.tid = new.own_id();
            self.alone_after_fork(thread);
            if new.stack != 0 {
                thread.gpr[gpr::RSP] = new.stack;
            }
            self.host.fork_child(thread);
        }
        result
    }

    fn vfork(&self, thread: &mut ThreadState, call: &Call, new: &NewTask, next: u64) -> i64 {
        let saved = thread.gpr;
        thread.gpr[gpr::RAX] = 0;
        thread.gpr[gpr::RCX] = next;
        thread.gpr[gpr::R11] = thread.rflags;
        if new.stack != 0 {
            thread.gpr[gpr::RSP] = new.stack;
        }
        thread.host_target = next;
        thread.vforked.store(true, Ordering::Relaxed);
        // SAFETY: the parent sleeps until the child execs or exits, so the child may read the parent's block;
        // it leaves this stack at once.
        let result = unsafe { engine_vfork(call.number, &call.arguments, thread) };
        thread.vforked.store(false, Ordering::Relaxed);
        thread.gpr = saved;
        if result > 0 {
            self.host.notice(thread, Notice::VforkChild, next, result as u64);
        }
        result
    }

    /// A new thread is followed from its first instruction, on a block that is ready before it starts.
    fn new_thread(
        &self,
        thread: &mut ThreadState,
        call: &Call,
        new: &NewTask,
        clone_args: &mut [u8; CLONE_ARGS],
        next: u64,
    ) -> Option<i64> {
        let Some(child) = self.new_block(thread) else {
            // It runs natively: the call is made natively, as if the thread had never been followed.
            self.release(thread, Notice::ThreadNotFollowed, 0);
            return None;
        };
        child.gpr = thread.gpr;
        child.gpr[gpr::RAX] = 0;
        child.gpr[gpr::RCX] = next;
        child.gpr[gpr::R11] = thread.rflags;
        child.gpr[gpr::RSP] = new.stack;
        child.rflags = thread.rflags;
        child.xmm = thread.xmm;
        child.mxcsr = thread.mxcsr;
        child.pc = next;
        child.new_task_mask = thread.new_task_mask;
        child.signals_held = thread.signals_held;
        child.set_blocked(thread.new_task_mask);
        child.inherited_word = thread.inherited_word;
        child.fresh = true;
        // Its id, which the application may not be asked for: the kernel writes it to the block where the application wants it
        // nowhere else; else this thread does, a moment later.
        child.tid = 0;
        let tid_at = &raw mut child.tid as u64;
        let mut arguments = call.arguments;
        let tells_tid = new.flags & CLONE_PARENT_SETTID != 0;
        if tells_tid {
            // The kernel's word goes where the application wants it.
        } else if call.number == nr::CLONE {
            arguments[0] |= CLONE_PARENT_SETTID;
            arguments[2] = tid_at;
        } else {
            clone_args[..8].copy_from_slice(&(new.flags | CLONE_PARENT_SETTID).to_le_bytes());
            clone_args[24..32].copy_from_slice(&tid_at.to_le_bytes());
            arguments[0] = clone_args.as_ptr() as u64;
            arguments[1] = arguments[1].min(CLONE_ARGS as u64);
        }
        // SAFETY: the child leaves for its block at once; it does not touch its stack before.
        let result = unsafe { engine_clone_thread(call.number, &arguments, child) };
        if result < 0 {
            self.give_back(child);
        } else if tells_tid {
            // SAFETY: the child waits for it. Where the kernel has written it the child may have ended by now, and the block be
            // another thread's.
            unsafe { core::ptr::write_volatile(tid_at as *mut u32, result as u32) };
        }
        Some(result)
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
                if a[3] & MAP_ANONYMOUS == 0 && a[2] & sys::PROT_READ != 0 {
                    file_memory::add(start, end);
                }
            }),
            nr::MUNMAP | nr::MREMAP => {
                self.with_tables(|_| file_memory::remove(a[0], a[0].saturating_add(a[1])));
            }
            nr::MPROTECT | nr::PKEY_MPROTECT
                if crate::seccomp::is_restricted() && a[2] & sys::PROT_EXEC != 0 =>
            {
                self.with_tables(|tables| tables.code.may_be_code(a[0], a[1]));
            }
            _ => {}
        }
    }
}
