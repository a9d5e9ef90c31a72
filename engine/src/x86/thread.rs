//! The per-thread block that GS points at: saved application state, counters.
//!
//! # Design
//! GS is free on x86-64 Linux (neither glibc nor HotSpot touches it), so translated code reaches its
//! thread's counters and spill slots by absolute GS displacements: no register is taken from the
//! application and no thread-local storage of the C library is involved. The block lies in one mapping, between the
//! dispatcher's stack and the counters; pages of counters that a thread never touches cost no memory.

use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::engine::Engine;
use super::targets::Way;
use crate::contract::CallToken;
use crate::metric::{METRICS, Totals};
use crate::sys;

/// Counter slots, and so translated blocks (plus dynamic parts), that one cache can hold at most.
pub const MAX_SLOTS: usize = 1 << 20;
/// Bytes of the stack that the dispatcher runs on.
const ENGINE_STACK: usize = 128 * 1024;

/// Exit index written by an indirect branch whose target was not in the lookup table.
pub const EXIT_INDIRECT: u32 = u32::MAX;
/// Exit index written by a return whose target was not in the table of returns.
pub const EXIT_RETURN: u32 = u32::MAX - 3;
/// Exit index written when a thread comes in from native code.
pub const EXIT_ENTER: u32 = u32::MAX - 1;
/// Exit index written when a host function that ran natively has returned.
pub const EXIT_RETURNED: u32 = u32::MAX - 2;

/// General-purpose registers in hardware numbering, as saved in [`ThreadState::gpr`].
pub mod gpr {
    #![allow(missing_docs)]
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    pub const R8: usize = 8;
    pub const R9: usize = 9;
    pub const R10: usize = 10;
    pub const R11: usize = 11;
    pub const R15: usize = 15;
}

/// Spill slots: two for what is counted where it happens, one for a single scratch register, one for flags.
pub mod spill {
    #![allow(missing_docs)]
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const ANY: usize = 3;
    pub const FLAGS: usize = 4;
    pub const COUNT: usize = 6;
}

/// What begins a page of its own, so that its memory can be given back.
#[repr(C, align(4096))]
pub(super) struct Pages<T>(pub T);

/// One thread's block. Its address is the thread's GS base while the thread is followed.
#[repr(C, align(4096))]
pub struct ThreadState {
    pub(super) this: u64,
    /// Application registers while the thread is in the dispatcher.
    pub(super) gpr: [u64; 16],
    pub(super) rflags: u64,
    /// Application PC at which to go on.
    pub(super) pc: u64,
    pub(super) exit: u32,
    pub(super) mxcsr: u32,
    pub(super) engine_mxcsr: u32,
    pub(super) in_syscall: super::syscall::Stage,
    pub(super) lookup_target: u64,
    pub(super) host_target: u64,
    pub(super) spills: [u64; spill::COUNT],
    pub(super) engine_stack: u64,
    /// Where to go on after a host function that runs natively.
    pub(super) native_return: u64,
    pub(super) engine: *const Engine,
    /// The host's own word for this thread.
    pub(super) host_word: u64,
    /// Another one, which the threads that it starts begin with.
    pub(super) inherited_word: u64,
    pub(super) tid: u32,
    pub(super) followed: AtomicBool,
    /// The thread is about to end.
    pub(super) ended: AtomicBool,
    /// The thread executes, or is about to execute, translated code.
    pub(super) inside: AtomicBool,
    pub(super) pending: super::signal::Pending,
    /// The dispatcher's stack pointer while a system call is made on the application's.
    pub(super) engine_rsp: u64,
    /// The application's system call in progress, and what the host wants to be told at its end.
    pub(super) call: crate::contract::Call,
    pub(super) call_token: CallToken,
    /// The alternate signal stack as the application set it (size 0: none).
    pub(super) alternate_stack: super::signal::AlternateStack,
    /// The kernel holds it disarmed, because a handler runs on it.
    pub(super) disarmed: bool,
    /// The application's signal mask while the engine makes a new thread or process: the mask that is theirs too.
    pub(super) new_task_mask: u64,
    /// Where the thread went on last without having executed an instruction; see [`super::signal`] on the trap flag.
    pub(super) trap_not_before: u64,
    /// Handlers that run, each interrupted by the next, and the stack pointer of the last one at its beginning.
    pub(super) stacked: u32,
    pub(super) last_entry: u64,
    /// A new thread has not told the host of itself yet.
    pub(super) fresh: bool,
    /// Corrections to the block counts: part-executed blocks, and counts folded when a cache was flushed.
    pub(super) adjust: [AtomicU64; METRICS],
    pub(super) xmm: [[u64; 2]; 16],
    /// How many counters there are.
    slots: usize,
    /// Where they begin; they lie behind the block, as many as the engine has slots.
    first_counter: Pages<[AtomicU64; 0]>,
}

impl ThreadState {
    /// Maps a new block with so many counters.
    #[allow(clippy::mut_from_ref, reason = "a fresh mapping, not a part of the engine")]
    pub(super) fn new(engine: &'static Engine, slots: usize) -> Option<&'static mut ThreadState> {
        let at = sys::map_anonymous(0, Self::bytes(slots), sys::PROT_READ | sys::PROT_WRITE)?;
        let block = (at + ENGINE_STACK) as *mut ThreadState;
        // SAFETY: the mapping is fresh, zeroed, page-aligned and large enough; all fields are valid as zeros.
        Some(unsafe { Self::begin(block, engine, slots) })
    }

    /// Bytes of a mapping.
    fn bytes(slots: usize) -> usize {
        ENGINE_STACK + size_of::<ThreadState>() + slots * size_of::<AtomicU64>()
    }

    /// Gives a block back to the kernel.
    ///
    /// # Safety
    /// Nobody else may know of it.
    pub(super) unsafe fn give_up(block: &'static mut ThreadState) {
        let (at, slots) = (&raw mut *block, block.slots);
        // SAFETY: as the caller says.
        unsafe { sys::unmap(at as usize - ENGINE_STACK, Self::bytes(slots)) };
    }

    /// Makes an old block as good as new; its memory goes back to the kernel.
    pub(super) fn renew(
        old: &'static mut ThreadState,
        engine: &'static Engine,
    ) -> &'static mut ThreadState {
        let (at, slots) = (&raw mut *old, old.slots);
        // SAFETY: private anonymous memory reads as zeros afterwards, and the block has no other user.
        unsafe {
            sys::discard(at as usize - ENGINE_STACK, Self::bytes(slots));
            Self::begin(at, engine, slots)
        }
    }

    /// # Safety
    /// `at` must be zeroed memory of a block that nobody else uses, with so many counters behind it.
    #[allow(clippy::mut_from_ref, reason = "a mapping of its own, not a part of the engine")]
    unsafe fn begin(
        at: *mut ThreadState,
        engine: &'static Engine,
        slots: usize,
    ) -> &'static mut ThreadState {
        // SAFETY: forwarded.
        let state = unsafe { &mut *at };
        state.this = at as u64;
        state.engine = engine;
        // All exceptions masked, round to nearest: the value at process start (SDM vol. 1, 10.2.3).
        state.engine_mxcsr = 0x1f80;
        state.engine_stack = at as u64;
        state.slots = slots;
        state
    }

    /// The counters, by slot.
    pub(super) fn counters(&self) -> &[AtomicU64] {
        let first =
            (self.this as usize + offset_of!(ThreadState, first_counter)) as *const AtomicU64;
        // SAFETY: so many lie behind the block in its mapping, which is never given up.
        unsafe { core::slice::from_raw_parts(first, self.slots) }
    }

    /// The state of the calling thread if GS says that it has one.
    pub fn current() -> Option<&'static mut ThreadState> {
        let base = gs_base();
        if base == 0 {
            return None;
        }
        // A program that uses GS itself may have set it to anything.
        let mut this = [0u8; 8];
        let is_block = base.is_multiple_of(align_of::<ThreadState>() as u64)
            && super::syscall::read_memory(base, &mut this)
            && u64::from_ne_bytes(this) == base;
        let at = base as *mut ThreadState;
        // SAFETY: blocks are never unmapped. A thread that another one started natively has inherited its GS base.
        (is_block && unsafe { (*at).tid } == sys::gettid()).then(|| unsafe { &mut *at })
    }

    /// Is the thread counted now?
    pub fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Relaxed)
    }

    /// How the thread came out of the cache, if it was by an indirect branch whose target has no pad.
    pub(super) fn way_in(&self) -> Option<Way> {
        match self.exit {
            EXIT_INDIRECT => Some(Way::Jump),
            EXIT_RETURN => Some(Way::Return),
            _ => None,
        }
    }

    /// Is this address on the dispatcher's own stack?
    pub(super) fn owns_stack(&self, address: u64) -> bool {
        (self.engine_stack - ENGINE_STACK as u64..self.engine_stack).contains(&address)
    }

    /// The thread's cumulative totals. May be called from any thread while this one runs: then the
    /// values are monotonic, not an atomic cut.
    pub fn totals(&self) -> Totals {
        // SAFETY: the engine is 'static.
        let engine = unsafe { &*self.engine };
        engine.totals(self)
    }

    /// Is this host address in the engine's system call, with the state in the block whole?
    pub(super) fn at_gadget(&self, host: u64) -> bool {
        let gadget = super::syscall::gadget();
        self.in_syscall != super::syscall::Stage::None
            && (gadget.before.contains(&host) || host == gadget.after || host == gadget.unblocked)
    }

    /// Clears the first `slots` counters.
    ///
    /// # Safety
    /// The thread must be outside the code cache.
    pub(super) unsafe fn clear_counters(block: *mut ThreadState, slots: usize) {
        // SAFETY: inside the block, whose owner does not count now.
        unsafe { sys::discard(&raw mut (*block).first_counter as usize, slots * size_of::<u64>()) };
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

/// `ARCH_SET_GS`, `ARCH_GET_GS` (`arch/x86/include/uapi/asm/prctl.h`).
pub(super) const ARCH_SET_GS: u64 = 0x1001;
pub(super) const ARCH_GET_GS: u64 = 0x1004;

/// The calling thread's GS base.
pub fn gs_base() -> u64 {
    let mut base = 0u64;
    // SAFETY: the kernel writes one word at the given address.
    unsafe { sys::syscall6(sys::nr::ARCH_PRCTL, [ARCH_GET_GS, &raw mut base as u64, 0, 0, 0, 0]) };
    base
}

/// Sets the calling thread's GS base.
///
/// # Safety
/// Code that uses GS must find there what it expects.
pub unsafe fn set_gs_base(base: u64) {
    // SAFETY: forwarded to the caller.
    unsafe { sys::syscall6(sys::nr::ARCH_PRCTL, [ARCH_SET_GS, base, 0, 0, 0, 0]) };
}

/// Reads the time-stamp-free pause hint used while spinning.
#[inline]
pub(super) fn relax() {
    // SAFETY: PAUSE has no operands and no side effects.
    unsafe { asm!("pause", options(nomem, nostack, preserves_flags)) };
}
