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

use core::sync::atomic::{AtomicPtr, Ordering};

use super::app_memory::{self, read_memory};
use super::dispatch::{again, landing, resume_range};
use super::engine::Engine;
use super::interrupted_state::Interruption;
use super::signal_settings::{NEVER_BLOCKED, SS_AUTODISARM};
use super::syscall::{SYSCALL_LEN, Stage, gadget, restore_signals};
use super::thread::{EXIT_ENTER, SOME_RUN_NATIVELY, ThreadState, disp, gpr};
use crate::sys::{self, nr};

const SIGILL: i32 = 4;
pub(super) const SIGTRAP: i32 = 5;
pub(super) const SIGBUS: i32 = 7;
const SIGFPE: i32 = 8;
pub(super) const SIGSEGV: i32 = 11;
const SIGSYS: i32 = 31;
/// Signals of a copy from the application's memory that faults: never blocked while the engine works.
pub(super) const FAULTS: u64 = 1 << (SIGBUS - 1) | 1 << (SIGSEGV - 1);
/// Signals that end a process with a core file, unless it sets a handler (signal(7)): QUIT, ILL, TRAP, ABRT, BUS, FPE, SEGV,
/// SYS, XCPU, XFSZ. The core file is to show the application's registers.
pub(super) const LEAVING_A_CORE: [i32; 10] =
    [3, SIGILL, SIGTRAP, 6, SIGBUS, SIGFPE, SIGSEGV, SIGSYS, 24, 25];
/// `si_code` of what the kernel itself raises, INT3's trap among it (`include/uapi/asm-generic/siginfo.h`).
const SI_KERNEL: i32 = 0x80;
/// Position of `si_addr` in [`Info`].
const SI_ADDR: usize = 2;
/// RFLAGS.TF, DF and RF (SDM vol. 1, 3.4.3).
const TRAP_FLAG: i64 = 1 << 8;
const CLEARED_FOR_HANDLERS: u64 = 1 << 8 | 1 << 10 | 1 << 16;
/// MXCSR that the kernel gives to handlers.
const INITIAL_MXCSR: u32 = 0x1f80;

/// A signal that waits until the thread is at a place where its state can be told.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Pending {
    signal: i32,
    stepping: bool,
    /// The application has the trap flag set itself.
    trapping: bool,
    /// The application's mask, to be given back.
    mask: u64,
    info: [u64; 16],
    software: super::signal_frame::Software,
}

impl Pending {
    pub(super) fn is_some(&self) -> bool {
        self.signal != 0
    }
}

/// `struct ucontext` with `struct sigcontext` of x86-64 (`arch/x86/include/uapi/asm/sigcontext.h`).
#[repr(C)]
pub(super) struct UserContext {
    pub flags: u64,
    link: u64,
    pub stack: AlternateStack,
    /// r8-r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags, ...
    pub registers: [i64; 23],
    pub fpstate: u64,
    reserved: [u64; 8],
    pub mask: u64,
}

impl UserContext {
    /// All zeros.
    pub(super) fn empty() -> UserContext {
        UserContext {
            flags: 0,
            link: 0,
            stack: AlternateStack { start: 0, flags: 0, padding: 0, size: 0 },
            registers: [0; 23],
            fpstate: 0,
            reserved: [0; 8],
            mask: 0,
        }
    }
}

/// `stack_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AlternateStack {
    pub start: u64,
    pub flags: u32,
    pub padding: u32,
    pub size: u64,
}

/// Position in `UserContext::registers` of each register in hardware numbering.
pub(super) const CONTEXT: [usize; 16] = [13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7];
pub(super) const CONTEXT_RIP: usize = 16;
pub(super) const CONTEXT_FLAGS: usize = 17;
const CONTEXT_ERROR: usize = 19;

core::arch::global_asm!(
    ".pushsection .text.engine_signal, \"ax\", @progbits",
    ".globl engine_restorer", ".hidden engine_restorer",
    "engine_restorer:",
    "mov eax, 15", // rt_sigreturn
    "syscall",
    // The kernel enters here: rdi = signal, rsi = siginfo, rdx = ucontext, [rsp] = return address.
    ".globl engine_signal_entry", ".hidden engine_signal_entry", ".type engine_signal_entry, @function",
    "engine_signal_entry:",
    "pushfq", "and dword ptr [rsp], {NOT_AC}", "popfq", // the kernel leaves AC set; ID must stay
    "push rbp", "mov rbp, rsp",
    "push rdi", "push rsi", "push rdx", "push rbx",
    "lea rcx, [rbp + 8]",
    "call {on_signal}",
    "cmp eax, {ON_ENGINE_STACK}",
    "jne 2f",
    // The engine's stack is not in use, or what is on it is given up: an alternate stack may be tiny.
    "mov rdx, [rsp + 8]", "mov rsi, [rsp + 16]", "mov rdi, [rsp + 24]",
    "lea rcx, [rbp + 8]",
    "mov rbx, rsp",
    "mov rsp, gs:[{STACK}]",
    "call {on_engine_stack}",
    "cmp eax, {FOLLOW}",
    "je engine_again",
    "mov rsp, rbx",
    "2:",
    "pop rbx", "pop rdx", "pop rsi", "pop rdi", "pop rbp",
    "ret",
    ".popsection",
    STACK = const disp::ENGINE_STACK, NOT_AC = const !(1 << 18),
    ON_ENGINE_STACK = const Answer::OnEngineStack as u32, FOLLOW = const Answer::Follow as u32,
    on_signal = sym on_signal, on_engine_stack = sym on_engine_stack,
);

unsafe extern "C" {
    fn engine_restorer();
    fn engine_signal_entry();
}

/// Address of the handler that the kernel is told.
pub(super) fn entry() -> u64 {
    engine_signal_entry as *const () as u64
}

/// Address of the restorer for handlers that the application set without one.
pub(super) fn restorer() -> u64 {
    engine_restorer as *const () as u64
}

/// Makes the engine known to handlers; before the first one is set.
pub(super) fn serve(engine: &Engine) {
    ENGINE.store((&raw const *engine).cast_mut(), Ordering::Release);
}

/// The engine that handlers serve.
pub(super) fn engine() -> Option<&'static Engine> {
    // SAFETY: null or a 'static engine.
    unsafe { ENGINE.load(Ordering::Acquire).as_ref() }
}

/// What the entry code shall do.
#[repr(u32)]
enum Answer {
    /// Return to the kernel's frame.
    Return = 0,
    /// Go on in [`on_engine_stack`].
    OnEngineStack = 1,
    /// Dispatch: the thread's block stands at the handler's first instruction.
    Follow = 2,
}

/// The engine of handlers that arrive on threads without a block.
static ENGINE: AtomicPtr<Engine> = AtomicPtr::new(core::ptr::null_mut());

/// `siginfo_t`.
pub(super) type Info = [u64; 16];

/// Little may be done here: the stack may be small, and may hold the dispatcher's frames.
extern "C" fn on_signal(
    signal: i32,
    info: *mut Info,
    context: *mut UserContext,
    _entry: u64,
) -> Answer {
    // SAFETY: set before any handler is installed, to a 'static engine.
    let Some(engine) = (unsafe { ENGINE.load(Ordering::Acquire).as_ref() }) else {
        return Answer::Return;
    };
    // SAFETY: the kernel passes its own frame, ours to change until we return.
    let (info_ref, context_ref) = unsafe { (&*info, &mut *context) };
    let host = context_ref.registers[CONTEXT_RIP] as u64;
    if FAULTS >> (signal - 1) & 1 != 0
        && code_of(info_ref) > 0
        && let Some(behind) = app_memory::behind_copy(host)
    {
        context_ref.registers[CONTEXT_RIP] = behind as i64;
        return Answer::Return;
    }
    let denied = is_store_to_protected(signal, info_ref, context_ref);
    if denied && engine.open(info_ref[SI_ADDR], host) {
        return Answer::Return;
    }
    match ThreadState::current() {
        // On its way out a thread is followed no more, but its state is in its block still.
        Some(thread) if thread.is_followed() || is_leaving(thread, context_ref) => {
            engine.interrupted(thread, signal, info_ref, context_ref)
        }
        _ => {
            engine.call_natively(signal, info, context);
            Answer::Return
        }
    }
}

/// Does the context lie in the dispatcher, between the end of following and native code?
fn is_leaving(thread: &ThreadState, context: &UserContext) -> bool {
    thread.owns_stack(context.registers[CONTEXT[gpr::RSP]] as u64)
        || resume_range().contains(&(context.registers[CONTEXT_RIP] as u64))
}

extern "C" fn on_engine_stack(
    signal: i32,
    info: *mut Info,
    context: *mut UserContext,
    entry: u64,
) -> Answer {
    let Some(thread) = ThreadState::current() else { return Answer::Return };
    // SAFETY: a block's engine is 'static; the frame is the kernel's.
    let (engine, context_ref) = unsafe { (&*thread.engine, &mut *context) };
    engine.deliver(thread, signal, info, context_ref, entry)
}

/// `si_code`, in the lower half of the second word of siginfo on x86-64.
fn code_of(info: &Info) -> i32 {
    info[1] as i32
}

/// Did a store fault because its page may not be written?
fn is_store_to_protected(signal: i32, info: &Info, context: &UserContext) -> bool {
    const ACCESS_DENIED: i32 = 2; // SEGV_ACCERR (`include/uapi/asm-generic/siginfo.h`)
    const WRITE: i64 = 2; // bit 1 of the page fault's error code (SDM vol. 3, 4.7)
    signal == SIGSEGV
        && code_of(info) == ACCESS_DENIED
        && context.registers[CONTEXT_ERROR] & WRITE != 0
}

/// Is this the trap behind an instruction that began with the trap flag set?
fn is_trap_flag(signal: i32, info: &Info) -> bool {
    const TRAP_TRACE: i32 = 2;
    signal == SIGTRAP && code_of(info) == TRAP_TRACE
}

const EINTR: i64 = 4;
/// Handlers on one stack, each interrupted by the next. Under a storm of SA_NODEFER signals the stack would be used up
/// else, because a signal takes longer here than natively: from here on each handler returns before the next signal.
pub(super) const MOST_STACKED: u32 = 16;
/// Signals that instructions of the handler raise.
pub(super) const SYNCHRONOUS: u64 = 1 << (SIGILL - 1)
    | 1 << (SIGTRAP - 1)
    | 1 << (SIGBUS - 1)
    | 1 << (SIGFPE - 1)
    | 1 << (SIGSEGV - 1);

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

    fn call_natively(&self, signal: i32, info: *mut Info, context: *mut UserContext) {
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
    fn interrupted(
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
    fn deliver(
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
    pub(super) fn stand_at_handler(
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
        if crate::seccomp::allows(nr::RT_SIGPROCMASK, &[0; 6]) {
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
    pub(super) fn prepare_sigreturn(&self, thread: &mut ThreadState) -> bool {
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
    pub(super) fn undo_sigreturn(&self, thread: &ThreadState) {
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
            software: unsafe { super::signal_frame::software_of(context.fpstate) },
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
    pub(super) fn hand_back_pending(&self, thread: &mut ThreadState) -> bool {
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
    let [pid, tid] = [sys::getpid(), thread.tid].map(u64::from);
    // SAFETY: the kernel copies the siginfo, which it made itself before.
    unsafe {
        let info = info.as_ptr() as u64;
        sys::syscall6(nr::RT_TGSIGQUEUEINFO, [pid, tid, signal as u64, info, 0, 0]);
    }
}
