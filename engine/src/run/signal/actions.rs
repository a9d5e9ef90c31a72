//! What the application set up for signals: handlers (rt_sigaction) and alternate stacks (sigaltstack), recorded and
//! answered as it set them while the kernel knows the engine's entry.

use core::sync::atomic::Ordering;

use crate::isa::x86_64::app_memory::{self, read_memory, write_memory};
use crate::isa::x86_64::context::ThreadState;
use crate::os::process;
use crate::os::seccomp::{self, optional};
use crate::os::signal_mask::NEVER_BLOCKED;
use crate::os::signals::{FAULTS, LEAVING_A_CORE, SIGBUS, SIGSEGV, SIGTRAP, SYNCHRONOUS};
use crate::os::syscall::{nr, syscall6};
use crate::run::engine::Engine;
use crate::run::handlers::{
    KernelAction, SA_NODEFER, SA_RESETHAND, SA_RESTORER, SA_SIGINFO, SIGNALS,
};
use crate::run::served;
use crate::run::signal::deliver::MOST_STACKED;
use crate::run::stubs::{entry, restorer};

impl Engine {
    /// Handlers that were set while nobody was followed are the engine's from now on.
    pub(crate) fn adopt_actions(&self) {
        served::serve(self);
        for number in 1..=SIGNALS {
            let mut action = KernelAction::default();
            // SAFETY: our own structure.
            let answer = unsafe {
                let old = &raw mut action as u64;
                syscall6(nr::RT_SIGACTION, [number as u64, 0, old, 8, 0, 0])
            };
            if answer == 0 && action.handler > 1 && action.handler != entry() {
                let new = &raw const action as u64;
                self.sigaction([number as u64, new, 0, 8]);
            }
        }
    }

    /// The application's rt_sigaction: signal, new and old action, size of a mask.
    pub(crate) fn sigaction(&self, [number, new, old, size]: [u64; 4]) -> i64 {
        const EINVAL: i64 = 22;
        const EFAULT: i64 = 14;
        if size != 8 || number == 0 || number as usize > SIGNALS {
            return -EINVAL;
        }
        served::serve(self);
        let mut action = KernelAction::default();
        if new != 0 {
            let mut bytes = [0u8; 32];
            if !read_memory(new, &mut bytes) {
                return -EFAULT;
            }
            action = KernelAction::from_bytes(bytes);
        }
        let ours = entry();
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
                kernel.restorer = restorer();
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
            syscall6(nr::RT_SIGACTION, [number, new_pointer, &raw mut previous as u64, 8, 0, 0])
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
            || (handler == 0 && LEAVING_A_CORE.contains(&signal) && app_memory::are_faults_served())
    }

    /// The kernel's action for a signal whose handler is the engine's entry.
    fn ours(&self, flags: u64) -> KernelAction {
        KernelAction {
            handler: entry(),
            flags: flags | SA_SIGINFO | SA_RESTORER,
            restorer: restorer(),
            mask: !FAULTS,
        }
    }

    /// As [`Engine::usual_mask_of_handler`], for a thread that stands at the handler's beginning: more under a storm of signals.
    pub(crate) fn mask_of_handler(&self, thread: &ThreadState, signal: i32, before: u64) -> u64 {
        let mask = self.usual_mask_of_handler(signal, before);
        if thread.stacked > MOST_STACKED { mask | !SYNCHRONOUS } else { mask }
    }

    /// The signals that are blocked while a handler runs, where `before` were when its signal came. HotSpot's handler, which
    /// has everything blocked, writes to the headers of compiled methods: with guarded memory SIGSEGV must come.
    pub(crate) fn usual_mask_of_handler(&self, signal: i32, before: u64) -> u64 {
        let cell = &self.actions.table[signal as usize];
        let itself = match cell.flags.load(Ordering::Relaxed) & SA_NODEFER {
            0 => 1 << (signal - 1),
            _ => 0,
        };
        (before | cell.mask.load(Ordering::Relaxed) | itself) & !self.never_blocked()
    }

    /// A one-shot handler was taken off when the kernel delivered its signal, but it has not run yet.
    pub(crate) fn keep_one_shot(&self, signal: i32) {
        let cell = &self.actions.table[signal as usize];
        let flags = cell.flags.load(Ordering::Relaxed);
        if flags & SA_RESETHAND != 0 {
            set(signal, &self.ours(flags));
        }
    }

    /// From now on a signal comes to the engine, also where the application set no handler for it: SIGTRAP while a
    /// thread is stepped, SIGBUS where the engine reads code with alignment checks on.
    pub(crate) fn borrow(&self, signal: i32) {
        let bit = 1 << (signal - 1);
        if self.actions.handler(signal) <= 1
            && self.actions.borrowed.fetch_or(bit, Ordering::AcqRel) & bit == 0
        {
            served::serve(self);
            set(signal, &self.ours(0));
        }
    }

    /// Where core files are wanted, signals that leave one come to the engine first, so that the file can show the
    /// application's registers. Elsewhere nothing is set that the application did not set: `/proc/self/status` tells.
    pub(crate) fn borrow_fatal_signals(&self) {
        if wants_core_files() {
            LEAVING_A_CORE.into_iter().for_each(|signal| self.borrow_unset(signal));
            self.cores.store(true, Ordering::Release);
            app_memory::faults_are_served();
        }
    }

    /// Faults of the engine's own copies come to it from now on, unless a filter may forbid to ask for them.
    pub(crate) fn serve_faults(&self) {
        if seccomp::allows(nr::RT_SIGACTION, &[0, 0, 0, 8, 0, 0]) {
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
            syscall6(nr::RT_SIGACTION, [signal as u64, 0, old, 8, 0, 0]) == 0
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
    pub(crate) fn reset_action(&self, signal: i32) {
        self.actions.borrowed.fetch_and(!(1 << (signal - 1)), Ordering::AcqRel);
        set(signal, &KernelAction::default());
    }

    /// Signals go to the application's own handlers from now on.
    pub(crate) fn restore_actions(&self) {
        for signal in 1..=SIGNALS as i32 {
            let mut action = KernelAction::default();
            // SAFETY: our own structure.
            unsafe {
                let old = &raw mut action as u64;
                syscall6(nr::RT_SIGACTION, [signal as u64, 0, old, 8, 0, 0]);
            }
            if action.handler == entry() {
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
    pub(crate) fn show_ignored(&self, ignored: bool) {
        for signal in LEAVING_A_CORE {
            if self.actions.handler(signal) == 1 && self.actions.is_borrowed(signal) {
                let own = KernelAction { handler: 1, ..KernelAction::default() };
                set(signal, &if ignored { own } else { self.ours(0) });
            }
        }
    }

    /// If the signal comes to the engine only because it was borrowed, this one is the application's, which set no
    /// handler: the default action, then the signal once more.
    pub(crate) fn default_action(&self, signal: i32) {
        if self.actions.handler(signal) != 0 || !self.actions.is_borrowed(signal) {
            return;
        }
        self.actions.borrowed.fetch_and(!(1 << (signal - 1)), Ordering::AcqRel);
        set(signal, &KernelAction::default());
        // SAFETY: no pointers.
        unsafe {
            let pid = syscall6(nr::GETPID, [0; 6]) as u64;
            syscall6(nr::TGKILL, [pid, u64::from(process::gettid()), signal as u64, 0, 0, 0]);
        }
    }
}

/// Tells the kernel an action of the engine's own.
fn set(signal: i32, action: &KernelAction) {
    // SAFETY: the engine's own structure.
    unsafe { optional(nr::RT_SIGACTION, [signal as u64, &raw const *action as u64, 0, 8, 0, 0]) };
}

/// Whether a core file is written when the process dies of a signal (RLIMIT_CORE, setrlimit(2)).
fn wants_core_files() -> bool {
    const RLIMIT_CORE: u64 = 4;
    let mut limit = [0u64; 2];
    // SAFETY: the kernel writes the two words.
    let known = unsafe {
        optional(nr::PRLIMIT64, [0, RLIMIT_CORE, 0, limit.as_mut_ptr() as u64, 0, 0]) == 0
    };
    known && limit[0] > 0
}
