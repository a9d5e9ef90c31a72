//! Signals of followed threads.
//!
//! # Design
//! A handler that the application sets is recorded; the kernel calls `engine_signal_entry` instead, with the
//! application's flags and everything blocked, so that one signal is dealt with at a time; the handler's mask is set
//! when the thread is at its first instruction, and further signals come there, as natively. The kernel's own frame is what the handler gets to see: it lies on the
//! application's stack (or its alternate one), because the stack pointer is the application's in the code cache
//! and in the engine's system call alike. Where a followed thread was interrupted decides what happens:
//!
//! - in the code cache at an instruction's beginning, or by a fault: registers, flags and PC in the frame are
//!   rewritten to the application's, and the handler is entered as followed code;
//! - in inserted code: the thread is single-stepped to the next such place, then the signal is queued anew;
//! - in the system call: the frame shows it interrupted, done or to be restarted, as the kernel left it;
//! - elsewhere in the engine: the signal waits, everything blocked, until the dispatcher has the state whole.
//!
//! The handler's return is a system call like others: `rt_sigreturn` is given a frame whose PC leads to
//! `engine_landing`, so the kernel restores registers, vector state and mask, and the engine goes on at the PC
//! that the handler left.
//!
//! # Limitations
//! While a handler runs on the alternate stack the kernel is told to disarm it (`SS_AUTODISARM`), because a signal
//! that arrives on the dispatcher's stack would otherwise overwrite the handler's frame. After a `siglongjmp` out
//! of such a handler it is armed again at the next system call. A handler on a thread that is not followed, called out of
//! sigsuspend or ppoll, runs with the thread's own mask, not with that call's. A debugger that is attached sees the
//! engine's single steps as SIGTRAPs of its own where a signal came in inserted code.

use core::sync::atomic::Ordering;

use crate::isa::x86_64::app_memory::{self, read_memory};
use crate::isa::x86_64::context::{Stage, ThreadState};
use crate::isa::x86_64::exits::EXIT_ENTER;
use crate::isa::x86_64::registers::gpr;
use crate::isa::x86_64::registry::SOME_RUN_NATIVELY;
use crate::isa::x86_64::signal_frame::{
    CONTEXT, CONTEXT_FLAGS, CONTEXT_RIP, Info, Pending, SI_ADDR, SI_KERNEL, UserContext, code_of,
    is_trap_flag,
};
use crate::os::signal_mask::{NEVER_BLOCKED, restore_signals};
use crate::os::signals::{FAULTS, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
use crate::os::syscall::{nr, syscall6};
use crate::os::{process, seccomp};
use crate::run::engine::Engine;
use crate::run::signal::alt_stack::SS_AUTODISARM;
use crate::run::signal::frame::software_of;
use crate::run::state_translation::Interruption;
use crate::run::stubs::{again, gadget, landing, resume_range};
use crate::run::syscalls::SYSCALL_LEN;

/// RFLAGS.TF, DF and RF (SDM vol. 1, 3.4.3).
const TRAP_FLAG: i64 = 1 << 8;
const CLEARED_FOR_HANDLERS: u64 = 1 << 8 | 1 << 10 | 1 << 16;
/// MXCSR that the kernel gives to handlers.
const INITIAL_MXCSR: u32 = 0x1f80;

/// What the entry code shall do.
#[repr(u32)]
pub(crate) enum Answer {
    /// Return to the kernel's frame.
    Return = 0,
    /// Go on in [`on_engine_stack`].
    OnEngineStack = 1,
    /// Dispatch: the thread's block stands at the handler's first instruction.
    Follow = 2,
}

const EINTR: i64 = 4;
/// Handlers on one stack, each interrupted by the next. Under a storm of SA_NODEFER signals the stack would be used up
/// else, because a signal takes longer here than natively: from here on each handler returns before the next signal.
pub(crate) const MOST_STACKED: u32 = 16;

/// The mask that the system call in progress has put in the place of the thread's own while it waits.
fn temporary_mask(thread: &ThreadState) -> Option<u64> {
    if thread.in_syscall != Stage::Application {
        return None;
    }
    let a = &thread.call.arguments;
    let word = |at: u64| {
        let mut bytes = [0u8; 8];
        (at != 0 && read_memory(at, &mut bytes)).then_some(u64::from_le_bytes(bytes))
    };
    match thread.call.number {
        nr::RT_SIGSUSPEND => word(a[0]),
        nr::PPOLL => word(a[3]),
        nr::EPOLL_PWAIT | nr::EPOLL_PWAIT2 => word(a[4]),
        // A pointer to the mask's address and size.
        nr::PSELECT6 | nr::IO_PGETEVENTS => word(a[5]).and_then(word),
        _ => None,
    }
}

impl Engine {
    /// Whether an instruction of the application has ended at this trap: at the beginnings of its instructions, but
    /// for the one where the thread came into the cache.
    fn has_executed(&self, thread: &mut ThreadState, host: u64) -> bool {
        match self.instruction_at(host) {
            Some(pc) if pc == thread.trap_not_before => {
                thread.trap_not_before = 0;
                false
            }
            found => found.is_some(),
        }
    }

    pub(crate) fn call_natively(&self, signal: i32, info: *mut Info, context: *mut UserContext) {
        let handler = self.actions.handler(signal);
        if handler > 1 {
            // SAFETY: the application set this handler for this signal; one without SA_SIGINFO ignores the rest.
            let handler: extern "C" fn(i32, *mut Info, *mut UserContext) =
                unsafe { core::mem::transmute(handler as usize) };
            // SAFETY: the kernel's frame.
            let mask = unsafe { (*context).mask };
            restore_signals(self.usual_mask_of_handler(signal, mask));
            handler(signal, info, context);
        } else {
            self.default_action(signal);
        }
    }

    /// A signal interrupted a followed thread.
    pub(crate) fn interrupted(
        &self,
        thread: &mut ThreadState,
        signal: i32,
        info: &Info,
        context: &mut UserContext,
    ) -> Answer {
        let host = context.registers[CONTEXT_RIP] as u64;
        let whole = self.in_cache(host) || thread.at_gadget(host) || host == landing();
        if whole {
            return Answer::OnEngineStack;
        }
        if FAULTS >> (signal - 1) & 1 != 0 && (code_of(info) > 0 || thread.pending.is_some()) {
            // A fault of the engine's own ends the process where it is; another process's SIGSEGV waits its turn.
            context.mask = u64::MAX;
            if code_of(info) <= 0 {
                queue(thread, signal, info);
            }
            return Answer::Return;
        }
        if !thread.pending.stepping && is_trap_flag(signal, info) {
            // The application's trap flag, but not one of its instructions.
            return Answer::Return;
        }
        if thread.pending.stepping {
            // Stepped into the dispatcher, which looks for a pending signal before it goes back.
            self.stop_stepping(thread, context);
        } else {
            self.postpone(thread, signal, info, context);
        }
        context.mask = app_memory::held_signals();
        if resume_range().contains(&host) {
            context.registers[CONTEXT_RIP] = again() as i64;
            context.registers[CONTEXT_FLAGS] = 0x202;
            context.registers[CONTEXT[gpr::RSP]] = thread.engine_stack as i64;
        }
        Answer::Return
    }

    /// At a place where the application's state may be told; runs on the engine's stack.
    pub(crate) fn deliver(
        &self,
        thread: &mut ThreadState,
        signal: i32,
        info: *mut Info,
        context: &mut UserContext,
        entry: u64,
    ) -> Answer {
        let host = context.registers[CONTEXT_RIP] as u64;
        let mut before = context.mask;
        let stepped = thread.pending.stepping && signal == SIGTRAP;
        // SAFETY: the kernel's siginfo.
        let info_ref = unsafe { &*info };
        let interruption = match signal {
            _ if stepped => Interruption::Asynchronous,
            SIGTRAP if is_trap_flag(signal, info_ref) => {
                if !self.has_executed(thread, host) {
                    return Answer::Return;
                }
                Interruption::TrapFlag
            }
            SIGTRAP if code_of(info_ref) == SI_KERNEL => Interruption::Breakpoint,
            SIGILL | SIGBUS | SIGFPE | SIGSEGV if code_of(info_ref) > 0 => Interruption::Fault,
            _ => Interruption::Asynchronous,
        };
        if host == landing() {
            context.registers[CONTEXT_RIP] = thread.pc as i64;
        } else if self.in_cache(host) {
            if signal == SIGBUS
                && interruption == Interruption::Fault
                && self.compare_misaligned(thread, context)
            {
                return Answer::Return;
            }
            if !self.show_application(thread, context, interruption) {
                if !stepped {
                    self.postpone(thread, signal, info_ref, context);
                    self.start_stepping(thread, context);
                }
                return Answer::Return;
            }
        } else {
            let interrupted =
                host == gadget().after && context.registers[CONTEXT[gpr::RAX]] == -EINTR;
            if interrupted && let Some(mask) = temporary_mask(thread) {
                before = mask;
            }
            let refused = signal == SIGSYS && code_of(info_ref) > 0;
            self.show_syscall(thread, context, host != gadget().after, refused);
        }
        self.show_x87_pointer_in(context.fpstate);
        // SAFETY: the kernel's siginfo on the application's stack, which the handler is about to get.
        let address = unsafe { &mut (*info)[SI_ADDR] };
        if code_of(info_ref) > 0 && *address == host {
            // Of SIGILL, SIGFPE and SIGTRAP the instruction, of SIGSYS what lies behind it.
            *address = context.registers[CONTEXT_RIP] as u64;
        }
        if stepped {
            // Queued anew for the application's state, which the kernel restores now: the signal arrives at the
            // landing, before anything else happens.
            self.stop_stepping(thread, context);
            if self.may_queue() {
                context.mask = thread.pending.mask;
                self.queue_pending(thread);
            } else {
                // The dispatcher delivers it.
                context.mask = app_memory::held_signals();
            }
            thread.pc = context.registers[CONTEXT_RIP] as u64;
            context.registers[CONTEXT_RIP] = landing() as i64;
            return Answer::Return;
        }
        let handler = self.actions.handler(signal);
        if handler <= 1 {
            thread.pc = context.registers[CONTEXT_RIP] as u64;
            if handler == 1 && code_of(info_ref) <= 0 {
                context.registers[CONTEXT_RIP] = landing() as i64;
            } else {
                self.end_by(thread, signal, info_ref, context, interruption);
            }
            return Answer::Return;
        }
        for (register, &at) in CONTEXT.iter().enumerate() {
            thread.gpr[register] = context.registers[at] as u64;
        }
        let flags = context.registers[CONTEXT_FLAGS] as u64;
        let arguments = [info as u64, &raw const *context as u64];
        self.stand_at_handler(thread, signal, arguments, entry, flags);
        let alternate = thread.alternate_stack;
        if entry.wrapping_sub(alternate.start) < alternate.size {
            thread.disarmed = true;
            context.stack.flags &= !SS_AUTODISARM;
        }
        // Another signal may come here: it finds the thread at the handler's first instruction, as natively.
        let mask = self.mask_of_handler(thread, signal, before);
        thread.set_blocked(mask);
        self.give_mask_to_handler(thread, mask);
        Answer::Follow
    }

    /// The thread's block says that it is about to execute the first instruction of the handler: its registers, but for what
    /// is the interrupted code's still; `entry` is the stack pointer, `flags` are the interrupted code's.
    pub(crate) fn stand_at_handler(
        &self,
        thread: &mut ThreadState,
        signal: i32,
        [info, context]: [u64; 2],
        entry: u64,
        flags: u64,
    ) {
        thread.gpr[gpr::RAX] = 0;
        thread.gpr[gpr::RDI] = signal as u64;
        thread.gpr[gpr::RSI] = info;
        thread.gpr[gpr::RDX] = context;
        thread.gpr[gpr::RSP] = entry;
        thread.rflags = flags & !CLEARED_FOR_HANDLERS;
        // The kernel gives handlers a fresh vector state, and has set it up by now.
        thread.xmm = [[0; 2]; 16];
        thread.mxcsr = INITIAL_MXCSR;
        thread.pc = self.actions.handler(signal);
        thread.exit = EXIT_ENTER;
        thread.stacked = if entry < thread.last_entry { thread.stacked + 1 } else { 0 };
        thread.last_entry = entry;
    }

    /// The kernel's mask is this from now on. Another signal may come here: it finds the thread at the handler's first
    /// instruction, as natively.
    fn give_mask_to_handler(&self, thread: &mut ThreadState, mask: u64) {
        if seccomp::allows(nr::RT_SIGPROCMASK, &[0; 6]) {
            self.unblock(thread, &mask);
        } else {
            self.set_mask_by_return(thread, mask);
        }
    }

    /// The application has no handler for a signal that ends it. The context shows its state: it goes on natively, and dies
    /// where it would have died, so that a core file shows its own registers.
    fn end_by(
        &self,
        thread: &mut ThreadState,
        signal: i32,
        info: &Info,
        context: &mut UserContext,
        interruption: Interruption,
    ) {
        const SYS_SECCOMP: i32 = 1;
        SOME_RUN_NATIVELY.store(true, Ordering::Relaxed);
        thread.followed.store(false, Ordering::Release);
        if signal == SIGSYS && code_of(info) == SYS_SECCOMP {
            // The call once more: its number is in RAX, and the filter's answer is the same.
            context.registers[CONTEXT_RIP] -= SYSCALL_LEN as i64;
            context.mask |= 1 << (signal - 1);
        } else if interruption == Interruption::Fault {
            // The instruction once more: a fault whose signal is blocked ends the process, without a call of ours.
            context.mask |= 1 << (signal - 1);
        } else {
            self.reset_action(signal);
            queue(thread, signal, info);
        }
    }

    /// The handler returns: rt_sigreturn on the application's frame, with the PC bent to the engine's landing.
    /// `false` when there is no such frame; then the kernel shall say what it thinks of it.
    pub(crate) fn prepare_sigreturn(&self, thread: &mut ThreadState) -> bool {
        let at = thread.gpr[gpr::RSP];
        let mut probe = [0u8; size_of::<UserContext>()];
        if !read_memory(at, &mut probe) {
            return false;
        }
        // SAFETY: readable, and the application's own frame, which it returns through now.
        let context = unsafe { &mut *(at as *mut UserContext) };
        thread.set_blocked(context.mask & !NEVER_BLOCKED);
        thread.pc = context.registers[CONTEXT_RIP] as u64;
        context.registers[CONTEXT_RIP] = landing() as i64;
        let interrupted = context.registers[CONTEXT[gpr::RSP]] as u64;
        thread.last_entry = if thread.stacked == 0 { 0 } else { interrupted };
        thread.stacked = thread.stacked.saturating_sub(1);
        if thread.disarmed && context.stack.size != 0 {
            context.stack.flags = SS_AUTODISARM;
            thread.disarmed = false;
        }
        true
    }

    /// The call was refused: the frame shows the application's PC again.
    pub(crate) fn undo_sigreturn(&self, thread: &ThreadState) {
        // SAFETY: the frame that `prepare_sigreturn` has changed a moment ago.
        let context = unsafe { &mut *(thread.gpr[gpr::RSP] as *mut UserContext) };
        context.registers[CONTEXT_RIP] = thread.pc as i64;
    }

    /// Keeps a signal for later, with everything blocked meanwhile.
    fn postpone(
        &self,
        thread: &mut ThreadState,
        signal: i32,
        info: &Info,
        context: &mut UserContext,
    ) {
        thread.pending = Pending {
            signal,
            stepping: false,
            trapping: false,
            mask: context.mask,
            info: *info,
            // SAFETY: the kernel's frame.
            software: unsafe { software_of(context.fpstate) },
        };
        context.mask = app_memory::held_signals();
        if self.may_queue() {
            self.keep_one_shot(signal);
        }
    }

    fn start_stepping(&self, thread: &mut ThreadState, context: &mut UserContext) {
        self.borrow(SIGTRAP);
        thread.pending.stepping = true;
        thread.pending.trapping = context.registers[CONTEXT_FLAGS] & TRAP_FLAG != 0;
        context.registers[CONTEXT_FLAGS] |= TRAP_FLAG;
        // A blocked SIGTRAP from the trap flag would kill.
        context.mask &= !(1 << (SIGTRAP - 1) | self.never_blocked());
    }

    fn stop_stepping(&self, thread: &mut ThreadState, context: &mut UserContext) {
        thread.pending.stepping = false;
        if !thread.pending.trapping {
            context.registers[CONTEXT_FLAGS] &= !TRAP_FLAG;
        }
    }

    /// Queues the postponed signal for this thread once more.
    fn queue_pending(&self, thread: &mut ThreadState) {
        let pending = thread.pending;
        thread.pending.signal = 0;
        queue(thread, pending.signal, &pending.info);
    }

    /// The dispatcher found a postponed signal, and the thread's state is whole: gives the application its mask
    /// back, on its own stack. The signal arrives at that call's end. Where it cannot be queued the thread stands at its handler
    /// afterwards, and the answer is true.
    pub(crate) fn hand_back_pending(&self, thread: &mut ThreadState) -> bool {
        let pending = thread.pending;
        // A handler's return may have changed it since the signal came.
        let mask = thread.known_blocked().unwrap_or(pending.mask);
        if !self.may_queue() && self.actions.handler(pending.signal) > 1 {
            thread.pending.signal = 0;
            let Pending { signal, info, software, .. } = pending;
            let mask = self.enter_handler(thread, signal, &info, &software, mask);
            self.give_mask_to_handler(thread, mask);
            return true;
        }
        self.queue_pending(thread);
        self.unblock(thread, &mask);
        false
    }
}

/// Queues a signal for this thread as it came.
fn queue(thread: &ThreadState, signal: i32, info: &Info) {
    let [pid, tid] = [process::getpid(), thread.tid].map(u64::from);
    // SAFETY: the kernel copies the siginfo, which it made itself before.
    unsafe {
        let info = info.as_ptr() as u64;
        syscall6(nr::RT_TGSIGQUEUEINFO, [pid, tid, signal as u64, info, 0, 0]);
    }
}
