//! The per-thread block that GS points at: saved application state, counters.
//!
//! # Design
//! GS is free on x86-64 Linux (neither glibc nor HotSpot touches it), so translated code reaches its
//! thread's counters and spill slots by absolute GS displacements: no register is taken from the
//! application and no thread-local storage of the C library is involved. The block lies in one mapping, between the
//! dispatcher's stack and the counters; pages of counters that a thread never touches cost no memory.

use core::cell::Cell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// Spill slots: two for what is counted where it happens, one for a single scratch register, one for flags.
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

/// One thread's block. Its address is the thread's GS base while the thread is followed.
#[repr(C, align(4096))]
pub struct ThreadState {
    pub(crate) this: u64,
    /// Application registers while the thread is in the dispatcher.
    pub(crate) gpr: [u64; 16],
    pub(crate) rflags: u64,
    /// Application PC at which to go on.
    pub(crate) pc: u64,
    pub(crate) exit: u32,
    pub(crate) mxcsr: u32,
    pub(crate) engine_mxcsr: u32,
    pub(crate) in_syscall: Stage,
    pub(crate) lookup_target: u64,
    pub(crate) host_target: u64,
    pub(crate) spills: [u64; spill::COUNT],
    pub(crate) engine_stack: u64,
    /// Where to go on after a host function that runs natively.
    pub(crate) native_return: u64,
    /// The engine that follows the thread, for the layers that know its type.
    pub(crate) engine: *const (),
    /// The client's own word for this thread.
    pub(crate) client_word: Cell<u64>,
    /// Another one, which the threads that it starts begin with.
    pub(crate) inherited_word: Cell<u64>,
    pub(crate) tid: u32,
    pub(crate) followed: AtomicBool,
    /// A vfork-like child runs in this memory, with this GS base; the thread itself sleeps.
    pub(crate) vforked: AtomicBool,
    /// The application's signal mask, once it is known.
    blocked: u64,
    knows_blocked: bool,
    /// The thread is about to end.
    pub(crate) ended: AtomicBool,
    /// The thread executes, or is about to execute, translated code.
    pub(crate) inside: AtomicBool,
    pub(crate) pending: Pending,
    /// The dispatcher's stack pointer while a system call is made on the application's.
    pub(crate) engine_rsp: u64,
    /// The application's system call in progress, and what the host wants to be told at its end.
    pub(crate) call: crate::contract::Call,
    pub(crate) call_token: CallToken,
    /// The alternate signal stack as the application set it (size 0: none).
    pub(crate) alternate_stack: AlternateStack,
    /// The kernel holds it disarmed, because a handler runs on it.
    pub(crate) disarmed: bool,
    /// The application's signal mask while the engine makes a new thread or process: the mask that is theirs too.
    pub(crate) new_task_mask: u64,
    /// 1: signals are blocked meanwhile, and the new task gives itself that mask.
    pub(crate) signals_held: u32,
    /// Where the thread went on last without having executed an instruction; see [`super::signal`] on the trap flag.
    pub(crate) trap_not_before: u64,
    /// Handlers that run, each interrupted by the next, and the stack pointer of the last one at its beginning.
    pub(crate) stacked: u32,
    pub(crate) last_entry: u64,
    /// A new thread has not told the host of itself yet.
    pub(crate) fresh: bool,
    /// Corrections to the block counts: part-executed blocks, and counts folded when a cache was flushed.
    pub(crate) adjust: [AtomicU64; METRICS],
    pub(crate) xmm: [[u64; 2]; 16],
    /// How many counters there are.
    slots: usize,
    /// Where they begin; they lie behind the block, as many as the engine has slots.
    first_counter: Pages<[AtomicU64; 0]>,
}

impl ThreadState {
    /// Maps a new block with so many counters.
    #[allow(clippy::mut_from_ref, reason = "a fresh mapping, not a part of the engine")]
    pub(crate) fn new(engine: *const (), slots: usize) -> Option<&'static mut ThreadState> {
        // SAFETY: the mapping is fresh and nobody else's.
        Self::new_for(engine, slots).map(|at| unsafe { &mut *at })
    }

    /// The same, for whoever does not use it yet.
    pub(crate) fn new_for(engine: *const (), slots: usize) -> Option<*mut ThreadState> {
        let at =
            memory::map_anonymous(0, Self::bytes(slots), memory::PROT_READ | memory::PROT_WRITE)?;
        let block = (at + ENGINE_STACK) as *mut ThreadState;
        // SAFETY: the mapping is fresh, zeroed, page-aligned and large enough; all fields are valid as zeros.
        unsafe { Self::begin(block, engine, slots) };
        Some(block)
    }

    /// Bytes of a mapping.
    fn bytes(slots: usize) -> usize {
        ENGINE_STACK + size_of::<ThreadState>() + slots * size_of::<AtomicU64>()
    }

    /// Gives a block back to the kernel.
    ///
    /// # Safety
    /// Nobody else may know of it.
    pub(crate) unsafe fn give_up(block: &'static mut ThreadState) {
        let (at, slots) = (&raw mut *block, block.slots);
        // SAFETY: as the caller says.
        unsafe { memory::unmap(at as usize - ENGINE_STACK, Self::bytes(slots)) };
    }

    /// Makes an old block as good as new; its memory goes back to the kernel.
    pub(crate) fn renew(
        old: &'static mut ThreadState,
        engine: *const (),
    ) -> &'static mut ThreadState {
        let (at, slots) = (&raw mut *old, old.slots);
        // SAFETY: private anonymous memory reads as zeros afterwards, and the block has no other user.
        unsafe {
            memory::discard(at as usize - ENGINE_STACK, Self::bytes(slots));
            Self::begin(at, engine, slots);
            &mut *at
        }
    }

    /// # Safety
    /// `at` must be zeroed memory of a block that nobody else uses, with so many counters behind it.
    unsafe fn begin(at: *mut ThreadState, engine: *const (), slots: usize) {
        // SAFETY: forwarded.
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
            (self.this as usize + offset_of!(ThreadState, first_counter)) as *const AtomicU64;
        // SAFETY: so many lie behind the block in its mapping, which is never given up.
        unsafe { core::slice::from_raw_parts(first, self.slots) }
    }

    /// The application's signal mask.
    pub(crate) fn blocked(&mut self) -> u64 {
        if !self.knows_blocked {
            let arguments = [0, 0, &raw mut self.blocked as u64, 8, 0, 0];
            // SAFETY: the kernel writes our own word.
            unsafe { optional(nr::RT_SIGPROCMASK, arguments) };
            self.knows_blocked = true;
        }
        self.blocked
    }

    /// The calling thread's id, of the kernel; [`UNKNOWN_TID`] where it must not be asked.
    pub(crate) fn ask_tid() -> u32 {
        if seccomp::allows(nr::GETTID, &[0; 6]) { process::gettid() } else { UNKNOWN_TID }
    }

    /// The application's signal mask; `None` where it is not known, and without asking.
    pub(crate) fn known_blocked(&self) -> Option<u64> {
        self.knows_blocked.then_some(self.blocked)
    }

    /// The application's signal mask is this from now on.
    pub(crate) fn set_blocked(&mut self, mask: u64) {
        (self.blocked, self.knows_blocked) = (mask, true);
    }

    /// The mask may have changed while the thread ran natively.
    pub(crate) fn forget_blocked(&mut self) {
        self.knows_blocked = false;
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
    pub(crate) unsafe fn clear_counters(block: *mut ThreadState, slots: usize) {
        // SAFETY: inside the block, whose owner does not count now.
        unsafe {
            memory::discard(&raw mut (*block).first_counter as usize, slots * size_of::<u64>())
        };
    }
}

/// Displacements of the block's fields from GS, for emitted code.
pub mod disp {
    #![allow(missing_docs)]
    use super::*;
    pub const THIS: usize = offset_of!(ThreadState, this);
    pub const GPR: usize = offset_of!(ThreadState, gpr);
    pub const RFLAGS: usize = offset_of!(ThreadState, rflags);
    pub const PC: usize = offset_of!(ThreadState, pc);
    pub const EXIT: usize = offset_of!(ThreadState, exit);
    pub const MXCSR: usize = offset_of!(ThreadState, mxcsr);
    pub const ENGINE_MXCSR: usize = offset_of!(ThreadState, engine_mxcsr);
    pub const LOOKUP_TARGET: usize = offset_of!(ThreadState, lookup_target);
    pub const ENGINE_RSP: usize = offset_of!(ThreadState, engine_rsp);
    pub const HOST_TARGET: usize = offset_of!(ThreadState, host_target);
    pub const SIGNALS_HELD: usize = offset_of!(ThreadState, signals_held);
    pub const NEW_TASK_MASK: usize = offset_of!(ThreadState, new_task_mask);
    pub const PENDING_SIGNAL: usize = offset_of!(ThreadState, pending);
    pub const ENGINE_STACK: usize = offset_of!(ThreadState, engine_stack);
    pub const XMM: usize = offset_of!(ThreadState, xmm);

    /// Displacement of a spill slot.
    pub const fn spill(slot: usize) -> usize {
        offset_of!(ThreadState, spills) + 8 * slot
    }
    /// Displacement of a counter slot.
    pub const fn counter(slot: u32) -> usize {
        offset_of!(ThreadState, first_counter) + 8 * slot as usize
    }
}
