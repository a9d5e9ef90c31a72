//! Calls that make threads and processes.

use core::arch::global_asm;
use core::sync::atomic::Ordering;

use crate::contract::{Call, Notice};
use crate::isa::x86_64::app_memory::read_memory;
use crate::isa::x86_64::context::{ThreadState, disp, spill};
use crate::isa::x86_64::decode::block::Refusal;
use crate::isa::x86_64::gs::{ARCH_SET_GS, FSGSBASE};
use crate::isa::x86_64::registers::gpr;
use crate::os::signal_mask::{NEVER_BLOCKED, restore_signals};
use crate::os::signals::FAULTS;
use crate::os::syscall::{nr, syscall6};
use crate::os::{process, seccomp};
use crate::run::engine::Engine;

global_asm!(
    ".pushsection .text.engine_new_task, \"ax\", @progbits",
    // extern "C" fn(number, &[u64; 6]) -> i64, for a vfork-like call: the child leaves at once, with the state in the thread's block.
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
    // The same for a new thread: it starts on its own block, which it finds in R12.
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
    SPILL = const disp::spill(spill::ANY), SIGPROCMASK = const nr::RT_SIGPROCMASK,
    ARCH_PRCTL = const nr::ARCH_PRCTL, SET_GS = const ARCH_SET_GS, FSGSBASE = sym FSGSBASE,
    THIS = const disp::THIS, NEW_TASK_MASK = const disp::NEW_TASK_MASK, HELD = const disp::SIGNALS_HELD,
);

#[allow(improper_ctypes, reason = "the address is only passed through")]
unsafe extern "C" {
    fn engine_vfork(number: u64, arguments: &[u64; 6], thread: *mut ThreadState) -> i64;
    fn engine_clone_thread(number: u64, arguments: &[u64; 6], child: *mut ThreadState) -> i64;
}

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

/// A new thread learns its id: its creator tells it as soon as the call has returned there.
pub(crate) fn await_tid(child: &mut ThreadState) {
    const LOOKS: u32 = 20_000;
    let tid_at = &raw const child.tid;
    for _ in 0..LOOKS {
        // SAFETY: the thread's own block; its creator writes the word.
        if unsafe { core::ptr::read_volatile(tid_at) } != 0 {
            return;
        }
        core::hint::spin_loop();
    }
    child.tid = ThreadState::ask_tid();
}

/// Blocks the application's signals around the making of a new task, faults of the engine's own excepted.
pub(crate) fn hold_signals(thread: &mut ThreadState) {
    let own = thread.blocked();
    thread.new_task_mask = own;
    // What the application has blocked stays so; the kernel never reports SIGKILL and SIGSTOP.
    let held = !(FAULTS & !own);
    let may = seccomp::allows(nr::RT_SIGPROCMASK, &[2, 0, 0, 8, 0, 0]);
    thread.signals_held = u32::from(may && own | NEVER_BLOCKED != held);
    if thread.signals_held != 0 {
        restore_signals(held);
    }
}

impl Engine {
    /// fork, vfork, clone, clone3, with all signals blocked. `None` when the thread was released and makes the call natively.
    pub(crate) fn new_task(&self, thread: &mut ThreadState, call: &Call, next: u64) -> Option<i64> {
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
            unsafe { syscall6(call.number, arguments) }
        });
        if result == 0 {
            process::forget_pid();
            thread.tid = new.own_id();
            self.alone_after_fork(thread);
            if new.stack != 0 {
                thread.gpr[gpr::RSP] = new.stack;
            }
            self.client.fork_child(thread);
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
            self.client.notice(thread, Notice::VforkChild, next, result as u64);
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
        child.inherited_word.set(thread.inherited_word.get());
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
}
