//! The per-thread context that GS points at: saved application state, counters.
//!
//! # Design
//! GS is free on x86-64 Linux (neither glibc nor HotSpot touches it), so translated code reaches
//! its thread's counters and spill slots by absolute GS displacements: no register is taken from
//! the application and no thread-local storage of the C library is involved. The context lies in
//! one mapping, between the dispatcher's stack and the counters; pages of counters that a thread
//! never touches cost no memory.

use core::cell::Cell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::contract::CallToken;
use crate::isa::x86_64::signal_frame::{AlternateStack, Pending};
use crate::metric::METRICS;
use crate::os::seccomp::{self, optional};
use crate::os::syscall::nr;
use crate::os::{memory, process};

/// Instead of a thread's id that could not be asked: a thread that may exist.
pub(crate) const UNKNOWN_TID: u32 = u32::MAX;

/// Counter slots, and so translated blocks (plus dynamic parts), that one cache can hold at most.
pub const MAX_SLOTS: usize = 1 << 20;
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

/// Bytes of the stack that the dispatcher runs on.
pub const ENGINE_STACK: usize = 128 * 1024;

/// Spill slots: two for what is counted where it happens, one for a single scratch register, one
/// for flags.
pub mod spill {
    #![allow(missing_docs)]
    pub const RAX: usize = 0;
    pub const RDX: usize = 2;
    pub const ANY: usize = 3;
    pub const FLAGS: usize = 4;
    pub const COUNT: usize = 6;
}

/// What begins a page of its own, so that its memory can be given back.
#[repr(C, align(4096))]
pub struct Pages<T>(pub T);

/// One thread's context. Its address is the thread's GS base while the thread is followed.
///
/// # Aliasing
/// Translated code, the engine's assembly, handlers that interrupt the dispatcher, and other
/// threads reach the same context at the same time, so once `begin` has made it
/// there are shared references to it alone. What only its own thread touches is a `Cell`: assembly
/// and handlers that run on that thread are to the compiler calls and volatile accesses of that
/// thread. What others touch too is an atomic. The rest never changes again.
#[repr(C, align(4096))]
pub struct ThreadContext {
    pub(crate) this: u64,
    /// Application registers while the thread is in the dispatcher.
    pub(crate) gpr: [Cell<u64>; 16],
    pub(crate) rflags: Cell<u64>,
    /// Application PC at which to go on.
    pub(crate) pc: Cell<u64>,
    pub(crate) exit: Cell<u32>,
    pub(crate) mxcsr: Cell<u32>,
    pub(crate) engine_mxcsr: u32,
    pub(crate) in_syscall: Cell<Stage>,
    pub(crate) ibl_target: Cell<u64>,
    pub(crate) resume_at: Cell<u64>,
    pub(crate) spills: [Cell<u64>; spill::COUNT],
    pub(crate) engine_stack: u64,
    /// Where to go on after a function of the client that runs natively.
    pub(crate) native_return: Cell<u64>,
    /// The engine that follows the thread, for the layers that know its type.
    pub(crate) engine: *const (),
    /// The client's own word for this thread.
    pub(crate) client_word: Cell<u64>,
    /// Another one, which the threads that it starts begin with.
    pub(crate) inherited_word: Cell<u64>,
    pub(crate) tid: AtomicU32,
    pub(crate) followed: AtomicBool,
    /// A vfork-like child runs in this memory, with this GS base; the thread itself sleeps.
    pub(crate) vforked: AtomicBool,
    /// The application's signal mask, once it is known.
    blocked: Cell<u64>,
    knows_blocked: Cell<bool>,
    /// The thread is about to end.
    pub(crate) ended: AtomicBool,
    /// The thread executes, or is about to execute, translated code.
    pub(crate) inside: AtomicBool,
    pub(crate) pending: Pending,
    /// The dispatcher's stack pointer while a system call is made on the application's.
    pub(crate) engine_rsp: Cell<u64>,
    /// The application's system call in progress, and what the client wants to be told at its end.
    pub(crate) call: Cell<crate::contract::Call>,
    pub(crate) call_token: Cell<CallToken>,
    /// The alternate signal stack as the application set it (size 0: none).
    pub(crate) alternate_stack: Cell<AlternateStack>,
    /// The kernel holds it disarmed, because a handler runs on it.
    pub(crate) disarmed: Cell<bool>,
    /// The application's signal mask while the engine makes a new thread or process: the mask that
    /// is theirs too.
    pub(crate) new_task_mask: Cell<u64>,
    /// 1: signals are blocked meanwhile, and the new task gives itself that mask.
    pub(crate) signals_held: Cell<u32>,
    /// Where the thread went on last without having executed an instruction; see `run::signal`
    /// on the trap flag.
    pub(crate) trap_not_before: Cell<u64>,
    /// Handlers that run, each interrupted by the next, and the stack pointer of the last one at
    /// its beginning.
    pub(crate) stacked: Cell<u32>,
    pub(crate) last_entry: Cell<u64>,
    /// A new thread has not told the client of itself yet.
    pub(crate) fresh: Cell<bool>,
    /// Corrections to the block counts: part-executed blocks, and counts folded when a cache was
    /// flushed.
    pub(crate) adjust: [AtomicU64; METRICS],
    pub(crate) xmm: Cell<[[u64; 2]; 16]>,
    /// How many counters there are.
    slots: usize,
    /// Where they begin; they lie behind the context, as many as the engine has slots.
    first_counter: Pages<[AtomicU64; 0]>,
}

impl ThreadContext {
    /// Maps a new context with so many counters, for the engine at that address.
    pub(crate) fn new(engine: *const (), slots: usize) -> Option<&'static ThreadContext> {
        let at =
            memory::map_anonymous(0, Self::bytes(slots), memory::PROT_READ | memory::PROT_WRITE)?;
        let context = (at + ENGINE_STACK) as *mut ThreadContext;
        // SAFETY: the mapping is fresh, zeroed, page-aligned, large enough and nobody else's yet;
        // all fields are valid as zeros. The exclusive access ends with `begin`, before there is a
        // reference. The mapping stays, but for `give_up`, whose caller has the only reference.
        unsafe {
            Self::begin(context, engine, slots);
            Some(&*context)
        }
    }

    /// Bytes of a mapping.
    fn bytes(slots: usize) -> usize {
        ENGINE_STACK + size_of::<ThreadContext>() + slots * size_of::<AtomicU64>()
    }

    /// Gives a context back to the kernel.
    ///
    /// # Safety
    /// Nobody else may know of it, and the caller's own reference must not be used afterwards.
    pub(crate) unsafe fn give_up(context: *const ThreadContext) {
        // SAFETY: the caller says that the context is there, and that nobody uses it afterwards.
        unsafe {
            let slots = (*context).slots;
            memory::unmap(context as usize - ENGINE_STACK, Self::bytes(slots));
        }
    }

    /// Makes the context of a thread that has ended as good as new; the memory of its stack and
    /// counters goes back to the kernel. Others may still look at it, as what changes does so by
    /// cells and atomics.
    ///
    /// # Safety
    /// The thread must have ended, so that nobody runs on the context's stack, and the caller must
    /// be the only one to use it again.
    pub(crate) unsafe fn renew(&self) {
        // SAFETY: no frame lies on the stack, and nobody counts now. Counters are atomics, which
        // others may read as what they were or as 0.
        unsafe {
            memory::discard(self.this as usize - ENGINE_STACK, ENGINE_STACK);
            self.clear_counters(self.slots);
        }
        let none = AlternateStack { start: 0, flags: 0, padding: 0, size: 0 };
        self.in_syscall.set(Stage::None);
        self.client_word.set(0);
        self.inherited_word.set(0);
        self.tid.store(0, Ordering::Release);
        self.vforked.store(false, Ordering::Release);
        self.forget_blocked();
        self.pending.clear();
        self.pending.stepping.set(false);
        self.call_token.set(CallToken::default());
        self.alternate_stack.set(none);
        self.disarmed.set(false);
        self.new_task_mask.set(0);
        self.signals_held.set(0);
        self.trap_not_before.set(0);
        self.stacked.set(0);
        self.last_entry.set(0);
        self.fresh.set(false);
        self.adjust.iter().for_each(|sum| sum.store(0, Ordering::Relaxed));
        self.followed.store(false, Ordering::Release);
        self.inside.store(false, Ordering::Release);
        self.ended.store(false, Ordering::Release);
    }

    /// # Safety
    /// `at` must be zeroed memory of a context that nobody else uses, with so many counters behind
    /// it.
    unsafe fn begin(at: *mut ThreadContext, engine: *const (), slots: usize) {
        // SAFETY: nobody else has a reference; this one ends here.
        let state = unsafe { &mut *at };
        state.this = at as u64;
        state.engine = engine;
        // All exceptions masked, round to nearest: the value at process start (SDM vol. 1, 10.2.3).
        state.engine_mxcsr = 0x1f80;
        state.engine_stack = at as u64;
        state.slots = slots;
    }

    /// The counters, by slot.
    pub(crate) fn counters(&self) -> &[AtomicU64] {
        let first =
            (self.this as usize + offset_of!(ThreadContext, first_counter)) as *const AtomicU64;
        // SAFETY: so many lie behind the context in its mapping, which is never given up. They are
        // atomics: translated code adds to them meanwhile.
        unsafe { core::slice::from_raw_parts(first, self.slots) }
    }

    /// The application's signal mask.
    pub(crate) fn blocked(&self) -> u64 {
        if !self.knows_blocked.get() {
            let arguments = [0, 0, self.blocked.as_ptr() as u64, 8, 0, 0];
            // SAFETY: the kernel writes the thread's own cell, to which there is no other reference
            // meanwhile.
            unsafe { optional(nr::RT_SIGPROCMASK, arguments) };
            self.knows_blocked.set(true);
        }
        self.blocked.get()
    }

    /// The calling thread's id, of the kernel; [`UNKNOWN_TID`] where it must not be asked.
    pub(crate) fn ask_tid() -> u32 {
        if seccomp::allows(nr::GETTID, &[0; 6]) { process::gettid() } else { UNKNOWN_TID }
    }

    /// The application's signal mask; `None` where it is not known, and without asking.
    pub(crate) fn known_blocked(&self) -> Option<u64> {
        self.knows_blocked.get().then_some(self.blocked.get())
    }

    /// The application's signal mask is this from now on.
    pub(crate) fn set_blocked(&self, mask: u64) {
        self.blocked.set(mask);
        self.knows_blocked.set(true);
    }

    /// The mask may have changed while the thread ran natively.
    pub(crate) fn forget_blocked(&self) {
        self.knows_blocked.set(false);
    }

    /// Is the thread counted now?
    pub fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Relaxed)
    }

    /// Is this address on the dispatcher's own stack?
    pub(crate) fn owns_stack(&self, address: u64) -> bool {
        (self.engine_stack - ENGINE_STACK as u64..self.engine_stack).contains(&address)
    }

    /// Clears the first `slots` counters.
    ///
    /// # Safety
    /// The thread must be outside the code cache.
    pub(crate) unsafe fn clear_counters(&self, slots: usize) {
        let first = self.counters().as_ptr() as usize;
        // SAFETY: the context's own counters, atomics, whose owner does not count now: who reads
        // meanwhile reads the old value or 0.
        unsafe { memory::discard(first, slots * size_of::<u64>()) };
    }

    /// What its own registers are from now on.
    pub(crate) fn set_registers(&self, registers: [u64; 16]) {
        self.gpr.iter().zip(registers).for_each(|(cell, value)| cell.set(value));
    }

    /// Its general-purpose registers.
    pub(crate) fn registers(&self) -> [u64; 16] {
        self.gpr.each_ref().map(Cell::get)
    }
}

/// Displacements of the context's fields from GS, for emitted code.
pub mod disp {
    #![allow(missing_docs)]
    use super::*;
    pub const THIS: usize = offset_of!(ThreadContext, this);
    pub const GPR: usize = offset_of!(ThreadContext, gpr);
    pub const RFLAGS: usize = offset_of!(ThreadContext, rflags);
    pub const PC: usize = offset_of!(ThreadContext, pc);
    pub const EXIT: usize = offset_of!(ThreadContext, exit);
    pub const MXCSR: usize = offset_of!(ThreadContext, mxcsr);
    pub const ENGINE_MXCSR: usize = offset_of!(ThreadContext, engine_mxcsr);
    pub const IBL_TARGET: usize = offset_of!(ThreadContext, ibl_target);
    pub const ENGINE_RSP: usize = offset_of!(ThreadContext, engine_rsp);
    pub const RESUME_AT: usize = offset_of!(ThreadContext, resume_at);
    pub const SIGNALS_HELD: usize = offset_of!(ThreadContext, signals_held);
    pub const NEW_TASK_MASK: usize = offset_of!(ThreadContext, new_task_mask);
    pub const PENDING_SIGNAL: usize = offset_of!(ThreadContext, pending);
    pub const ENGINE_STACK: usize = offset_of!(ThreadContext, engine_stack);
    pub const XMM: usize = offset_of!(ThreadContext, xmm);

    /// Displacement of a spill slot.
    pub const fn spill(slot: usize) -> usize {
        offset_of!(ThreadContext, spills) + 8 * slot
    }
    /// Displacement of a counter slot.
    pub const fn counter(slot: u32) -> usize {
        offset_of!(ThreadContext, first_counter) + 8 * slot as usize
    }
}
