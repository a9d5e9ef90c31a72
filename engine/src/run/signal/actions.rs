//! What the application set up for signals: handlers (rt_sigaction) and alternate stacks (sigaltstack), recorded and
//! answered as it set them while the kernel knows the engine's entry.

use core::sync::atomic::{AtomicU64, Ordering};

use super::app_memory::{self, read_memory, write_memory};
use super::engine::Engine;
use super::signal::{self, AlternateStack, FAULTS, SIGBUS, SIGSEGV, SIGTRAP};
use super::thread::{ThreadState, gpr};
use crate::contract::Call;
use crate::sys::{self, nr};

/// Number of signals (`_NSIG`).
const SIGNALS: usize = 64;
const SA_SIGINFO: u64 = 4;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_RESETHAND: u64 = 0x8000_0000;
/// SIGKILL and SIGSTOP, which the kernel takes out of every mask.
pub(super) const NEVER_BLOCKED: u64 = 1 << 8 | 1 << 18;
/// `SS_DISABLE`, `SS_AUTODISARM` (`include/uapi/linux/signal.h`).
const SS_DISABLE: u32 = 2;
pub(super) const SS_AUTODISARM: u32 = 1 << 31;

/// `struct kernel_sigaction` of x86-64 (`include/linux/signal_types.h`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct KernelAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

impl KernelAction {
    fn from_bytes(bytes: [u8; 32]) -> KernelAction {
        let word =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        KernelAction { handler: word(0), flags: word(8), restorer: word(16), mask: word(24) }
    }

    fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let words = [self.handler, self.flags, self.restorer, self.mask];
        for (field, word) in bytes.chunks_exact_mut(8).zip(words) {
            field.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// The application's handlers, as it set them.
pub(super) struct Actions {
    table: [ActionCell; SIGNALS + 1],
    /// Bit N - 1: signal N is ours although the application set no handler for it.
    borrowed: AtomicU64,
}

struct ActionCell {
    handler: AtomicU64,
    flags: AtomicU64,
    mask: AtomicU64,
    /// Where the application's handler returns to.
    restorer: AtomicU64,
}

/// What the application set for a signal, as far as a frame needs it.
pub(super) struct ActionEntry {
    pub flags: u64,
    pub on_stack: bool,
    pub restorer: Option<u64>,
}

impl Actions {
    pub(super) const fn new() -> Actions {
        Actions {
            table: [const {
                ActionCell {
                    handler: AtomicU64::new(0),
                    flags: AtomicU64::new(0),
                    mask: AtomicU64::new(0),
                    restorer: AtomicU64::new(0),
                }
            }; SIGNALS + 1],
            borrowed: AtomicU64::new(0),
        }
    }

    pub(super) fn handler(&self, signal: i32) -> u64 {
        self.table[signal as usize].handler.load(Ordering::Acquire)
    }

    /// What was set for a signal.
    pub(super) fn entry(&self, signal: i32) -> ActionEntry {
        let cell = &self.table[signal as usize];
        let flags = cell.flags.load(Ordering::Relaxed);
        let restorer = cell.restorer.load(Ordering::Relaxed);
        ActionEntry {
            flags,
            on_stack: flags & SA_ONSTACK != 0,
            restorer: (flags & SA_RESTORER != 0).then_some(restorer),
        }
    }

    /// The default action from now on, as the application sees it.
    pub(super) fn take_off(&self, signal: i32) {
        self.table[signal as usize].handler.store(0, Ordering::Release);
        self.borrowed.fetch_or(1 << (signal - 1), Ordering::AcqRel);
    }

    fn is_borrowed(&self, signal: i32) -> bool {
        self.borrowed.load(Ordering::Acquire) & 1 << (signal - 1) != 0
    }
}

impl Engine {
    /// Handlers that were set while nobody was followed are the engine's from now on.
    pub(super) fn adopt_actions(&self) {
        signal::serve(self);
        for number in 1..=SIGNALS {
            let mut action = KernelAction::default();
            // SAFETY: our own structure.
            let answer = unsafe {
                let old = &raw mut action as u64;
                sys::syscall6(nr::RT_SIGACTION, [number as u64, 0, old, 8, 0, 0])
            };
            if answer == 0 && action.handler > 1 && action.handler != signal::entry() {
                let new = &raw const action as u64;
                self.sigaction([number as u64, new, 0, 8]);
            }
        }
    }

    /// An alternate stack that the thread set while it was not followed.
    pub(super) fn adopt_alternate_stack(&self, thread: &mut ThreadState) {
        let mut stack = AlternateStack { start: 0, flags: 0, padding: 0, size: 0 };
        // SAFETY: our own structure.
        unsafe { sys::syscall6(nr::SIGALTSTACK, [0, &raw mut stack as u64, 0, 0, 0, 0]) };
        // On it already (SS_ONSTACK): left as it is.
        if stack.flags == 0 && stack.size != 0 {
            stack.flags = SS_AUTODISARM;
            // SAFETY: as above; the stack is the application's own.
            unsafe { sys::syscall6(nr::SIGALTSTACK, [&raw const stack as u64, 0, 0, 0, 0, 0]) };
        }
        thread.alternate_stack = stack;
        thread.disarmed = false;
    }

    /// The thread goes on natively, with its alternate stack as it set it.
    pub(super) fn give_alternate_stack_back(&self, thread: &mut ThreadState) {
        let mut stack = thread.alternate_stack;
        if stack.size != 0 && stack.flags == SS_AUTODISARM && !thread.disarmed {
            stack.flags = 0;
            // SAFETY: as in `adopt_alternate_stack`.
            unsafe { sys::optional(nr::SIGALTSTACK, [&raw const stack as u64, 0, 0, 0, 0, 0]) };
        }
    }

    /// The application's rt_sigaction: signal, new and old action, size of a mask.
    pub(super) fn sigaction(&self, [number, new, old, size]: [u64; 4]) -> i64 {
        const EINVAL: i64 = 22;
        const EFAULT: i64 = 14;
        if size != 8 || number == 0 || number as usize > SIGNALS {
            return -EINVAL;
        }
        signal::serve(self);
        let mut action = KernelAction::default();
        if new != 0 {
            let mut bytes = [0u8; 32];
            if !read_memory(new, &mut bytes) {
                return -EFAULT;
            }
            action = KernelAction::from_bytes(bytes);
        }
        let ours = signal::entry();
        let borrowed = self.actions.is_borrowed(number as i32);
        let mut kernel = action;
        // What the application ignores must not interrupt its calls, but for what the engine itself needs.
        let kept = new != 0 && self.keeps(number as i32, action.handler, borrowed);
        if action.handler > 1 || kept {
            kernel.handler = ours;
            kernel.flags |= SA_SIGINFO;
            kernel.mask = !FAULTS;
            if kernel.flags & SA_RESTORER == 0 {
                kernel.flags |= SA_RESTORER;
                kernel.restorer = signal::restorer();
            }
        }
        let cell = &self.actions.table[number as usize];
        let before =
            [&cell.handler, &cell.flags, &cell.mask].map(|word| word.load(Ordering::Relaxed));
        if new != 0 {
            // Known before the kernel can call it.
            cell.flags.store(action.flags, Ordering::Relaxed);
            cell.restorer.store(action.restorer, Ordering::Relaxed);
            cell.mask.store(action.mask & !NEVER_BLOCKED, Ordering::Relaxed);
            cell.handler.store(action.handler, Ordering::Release);
        }
        let mut previous = KernelAction::default();
        let new_pointer = if new == 0 { 0 } else { &raw const kernel as u64 };
        // SAFETY: both pointers lead to the engine's own structures.
        let result = unsafe {
            sys::syscall6(
                nr::RT_SIGACTION,
                [number, new_pointer, &raw mut previous as u64, 8, 0, 0],
            )
        };
        if result < 0 {
            for (word, value) in [&cell.handler, &cell.flags, &cell.mask].into_iter().zip(before) {
                word.store(value, Ordering::Relaxed);
            }
            return result;
        }
        if new != 0 {
            let bit = 1 << (number - 1);
            if kept && action.handler <= 1 {
                self.actions.borrowed.fetch_or(bit, Ordering::AcqRel);
            } else if !kept {
                self.actions.borrowed.fetch_and(!bit, Ordering::AcqRel);
            }
        }
        if old == 0 {
            return 0;
        }
        if previous.handler == ours {
            [previous.handler, previous.flags, previous.mask] = before;
            if previous.flags & SA_RESTORER == 0 {
                previous.restorer = 0;
            }
        }
        write_memory(old, &previous.to_bytes())
    }

    /// Whether a signal for which the application sets no handler comes to the engine all the same.
    fn keeps(&self, signal: i32, handler: u64, borrowed: bool) -> bool {
        let needed = borrowed && (FAULTS | 1 << (SIGTRAP - 1)) >> (signal - 1) & 1 != 0;
        needed
            || (handler == 0
                && signal::LEAVING_A_CORE.contains(&signal)
                && app_memory::are_faults_served())
    }

    /// The application's sigaltstack.
    pub(super) fn sigaltstack(&self, thread: &mut ThreadState, call: &Call) -> i64 {
        const EFAULT: i64 = 14;
        const EPERM: i64 = 1;
        let [new, old, ..] = call.arguments;
        let mut stack = AlternateStack { start: 0, flags: 0, padding: 0, size: 0 };
        let mut call = *call;
        if new != 0 {
            let mut bytes = [0u8; 24];
            if !read_memory(new, &mut bytes) {
                return -EFAULT;
            }
            let word =
                |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
            stack = AlternateStack {
                start: word(0),
                flags: word(8) as u32,
                padding: 0,
                size: word(16),
            };
            if stack.flags == 0 {
                stack.flags = SS_AUTODISARM;
            }
            call.arguments[0] = &raw const stack as u64;
        }
        let known = thread.alternate_stack;
        let inside = thread.gpr[gpr::RSP].wrapping_sub(known.start) < known.size;
        if new != 0 && inside {
            return -EPERM;
        }
        // SAFETY: the new stack is described by our own structure, the old one goes where the application says.
        let result = unsafe { sys::syscall6(nr::SIGALTSTACK, call.arguments) };
        if result != 0 {
            return result;
        }
        if new != 0 {
            thread.alternate_stack = stack;
        }
        if old != 0 && known.size != 0 {
            // The kernel's answer knows of disarming; the application does not.
            let mut bytes = [0u8; 24];
            bytes[..8].copy_from_slice(&known.start.to_le_bytes());
            let flags = if known.flags & SS_DISABLE != 0 { SS_DISABLE } else { u32::from(inside) };
            bytes[8..12].copy_from_slice(&flags.to_le_bytes());
            bytes[16..].copy_from_slice(&known.size.to_le_bytes());
            return write_memory(old, &bytes);
        }
        0
    }

    /// Arms the alternate stack again after a handler on it was left by a long jump.
    pub(super) fn rearm_alternate_stack(&self, thread: &mut ThreadState) {
        let stack = thread.alternate_stack;
        if thread.disarmed && thread.gpr[gpr::RSP].wrapping_sub(stack.start) >= stack.size {
            thread.disarmed = false;
            // SAFETY: the application's own alternate stack, as it set it.
            unsafe { sys::optional(nr::SIGALTSTACK, [&raw const stack as u64, 0, 0, 0, 0, 0]) };
        }
    }

    /// The kernel's action for a signal whose handler is the engine's entry.
    fn ours(&self, flags: u64) -> KernelAction {
        KernelAction {
            handler: signal::entry(),
            flags: flags | SA_SIGINFO | SA_RESTORER,
            restorer: signal::restorer(),
            mask: !FAULTS,
        }
    }

    /// As [`Engine::usual_mask_of_handler`], for a thread that stands at the handler's beginning: more under a storm of signals.
    pub(super) fn mask_of_handler(&self, thread: &ThreadState, signal: i32, before: u64) -> u64 {
        let mask = self.usual_mask_of_handler(signal, before);
        if thread.stacked > signal::MOST_STACKED { mask | !signal::SYNCHRONOUS } else { mask }
    }

    /// The signals that are blocked while a handler runs, where `before` were when its signal came. HotSpot's handler, which
    /// has everything blocked, writes to the headers of compiled methods: with guarded memory SIGSEGV must come.
    pub(super) fn usual_mask_of_handler(&self, signal: i32, before: u64) -> u64 {
        let cell = &self.actions.table[signal as usize];
        let itself = match cell.flags.load(Ordering::Relaxed) & SA_NODEFER {
            0 => 1 << (signal - 1),
            _ => 0,
        };
        (before | cell.mask.load(Ordering::Relaxed) | itself) & !self.never_blocked()
    }

    /// A one-shot handler was taken off when the kernel delivered its signal, but it has not run yet.
    pub(super) fn keep_one_shot(&self, signal: i32) {
        let cell = &self.actions.table[signal as usize];
        let flags = cell.flags.load(Ordering::Relaxed);
        if flags & SA_RESETHAND != 0 {
            set(signal, &self.ours(flags));
        }
    }

    /// From now on a signal comes to the engine, also where the application set no handler for it: SIGTRAP while a
    /// thread is stepped, SIGBUS where the engine reads code with alignment checks on.
    pub(super) fn borrow(&self, signal: i32) {
        let bit = 1 << (signal - 1);
        if self.actions.handler(signal) <= 1
            && self.actions.borrowed.fetch_or(bit, Ordering::AcqRel) & bit == 0
        {
            signal::serve(self);
            set(signal, &self.ours(0));
        }
    }

    /// Where core files are wanted, signals that leave one come to the engine first, so that the file can show the
    /// application's registers. Elsewhere nothing is set that the application did not set: `/proc/self/status` tells.
    pub(super) fn borrow_fatal_signals(&self) {
        if wants_core_files() {
            signal::LEAVING_A_CORE.into_iter().for_each(|signal| self.borrow_unset(signal));
            self.cores.store(true, Ordering::Release);
            app_memory::faults_are_served();
        }
    }

    /// Faults of the engine's own copies come to it from now on, unless a filter may forbid to ask for them.
    pub(super) fn serve_faults(&self) {
        if crate::seccomp::allows(nr::RT_SIGACTION, &[0, 0, 0, 8, 0, 0]) {
            [SIGBUS, SIGSEGV].into_iter().for_each(|signal| self.borrow_unset(signal));
            app_memory::faults_are_served();
        }
    }

    /// As [`Engine::borrow`], unless the application ignores a signal that the engine can do without.
    fn borrow_unset(&self, signal: i32) {
        let mut action = KernelAction::default();
        // SAFETY: our own structure.
        let known = unsafe {
            let old = &raw mut action as u64;
            sys::syscall6(nr::RT_SIGACTION, [signal as u64, 0, old, 8, 0, 0]) == 0
        };
        let is_needed = FAULTS >> (signal - 1) & 1 != 0;
        if known && action.handler == 1 && is_needed {
            self.actions.table[signal as usize].handler.store(1, Ordering::Release);
        }
        if known && (action.handler == 0 || (action.handler == 1 && is_needed)) {
            self.borrow(signal);
        }
    }

    /// The default action from now on, for good: the process is about to end by this signal.
    pub(super) fn reset_action(&self, signal: i32) {
        self.actions.borrowed.fetch_and(!(1 << (signal - 1)), Ordering::AcqRel);
        set(signal, &KernelAction::default());
    }

    /// Signals go to the application's own handlers from now on.
    pub(super) fn restore_actions(&self) {
        for signal in 1..=SIGNALS as i32 {
            let mut action = KernelAction::default();
            // SAFETY: our own structure.
            unsafe {
                let old = &raw mut action as u64;
                sys::syscall6(nr::RT_SIGACTION, [signal as u64, 0, old, 8, 0, 0]);
            }
            if action.handler == signal::entry() {
                let cell = &self.actions.table[signal as usize];
                action.handler = cell.handler.load(Ordering::Relaxed);
                action.mask = cell.mask.load(Ordering::Relaxed);
                action.flags = cell.flags.load(Ordering::Relaxed) | SA_RESTORER;
                set(signal, &action);
            }
        }
        self.actions.borrowed.store(0, Ordering::Release);
    }

    /// Another program is about to be executed: it inherits what is ignored. `false`: that failed.
    pub(super) fn show_ignored(&self, ignored: bool) {
        for signal in signal::LEAVING_A_CORE {
            if self.actions.handler(signal) == 1 && self.actions.is_borrowed(signal) {
                let own = KernelAction { handler: 1, ..KernelAction::default() };
                set(signal, &if ignored { own } else { self.ours(0) });
            }
        }
    }

    /// If the signal comes to the engine only because it was borrowed, this one is the application's, which set no
    /// handler: the default action, then the signal once more.
    pub(super) fn default_action(&self, signal: i32) {
        if self.actions.handler(signal) != 0 || !self.actions.is_borrowed(signal) {
            return;
        }
        self.actions.borrowed.fetch_and(!(1 << (signal - 1)), Ordering::AcqRel);
        set(signal, &KernelAction::default());
        // SAFETY: no pointers.
        unsafe {
            let pid = sys::syscall6(nr::GETPID, [0; 6]) as u64;
            sys::syscall6(nr::TGKILL, [pid, u64::from(sys::gettid()), signal as u64, 0, 0, 0]);
        }
    }
}

/// Tells the kernel an action of the engine's own.
fn set(signal: i32, action: &KernelAction) {
    // SAFETY: the engine's own structure.
    unsafe {
        sys::optional(nr::RT_SIGACTION, [signal as u64, &raw const *action as u64, 0, 8, 0, 0])
    };
}

/// Whether a core file is written when the process dies of a signal (RLIMIT_CORE, setrlimit(2)).
fn wants_core_files() -> bool {
    const RLIMIT_CORE: u64 = 4;
    let mut limit = [0u64; 2];
    // SAFETY: the kernel writes the two words.
    let known = unsafe {
        sys::optional(nr::PRLIMIT64, [0, RLIMIT_CORE, 0, limit.as_mut_ptr() as u64, 0, 0]) == 0
    };
    known && limit[0] > 0
}
