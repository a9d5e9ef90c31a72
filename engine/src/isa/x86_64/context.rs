//! The per-thread block that GS points at: saved application state, counters.
//!
//! # Design
//! GS is free on x86-64 Linux (neither glibc nor HotSpot touches it), so translated code reaches its
//! thread's counters and spill slots by absolute GS displacements: no register is taken from the
//! application and no thread-local storage of the C library is involved. The block lies in one mapping, between the
//! dispatcher's stack and the counters; pages of counters that a thread never touches cost no memory.

use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::engine::Engine;
use super::targets::Way;
use crate::contract::CallToken;
use crate::metric::{METRICS, Totals};
use crate::sys;

/// Instead of a thread's id that could not be asked: a thread that may exist.
pub(super) const UNKNOWN_TID: u32 = u32::MAX;

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
    /// A vfork-like child runs in this memory, with this GS base; the thread itself sleeps.
    pub(super) vforked: AtomicBool,
    /// The application's signal mask, once it is known.
    blocked: u64,
    knows_blocked: bool,
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
    /// 1: signals are blocked meanwhile, and the new task gives itself that mask.
    pub(super) signals_held: u32,
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
        // SAFETY: the mapping is fresh and nobody else's.
        Self::new_for(engine, slots).map(|at| unsafe { &mut *at })
    }

    /// The same, for whoever does not use it yet.
    pub(super) fn new_for(engine: *const Engine, slots: usize) -> Option<*mut ThreadState> {
        let at = sys::map_anonymous(0, Self::bytes(slots), sys::PROT_READ | sys::PROT_WRITE)?;
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
            Self::begin(at, engine, slots);
            &mut *at
        }
    }

    /// # Safety
    /// `at` must be zeroed memory of a block that nobody else uses, with so many counters behind it.
    unsafe fn begin(at: *mut ThreadState, engine: *const Engine, slots: usize) {
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
    pub(super) fn counters(&self) -> &[AtomicU64] {
        let first =
            (self.this as usize + offset_of!(ThreadState, first_counter)) as *const AtomicU64;
        // SAFETY: so many lie behind the block in its mapping, which is never given up.
        unsafe { core::slice::from_raw_parts(first, self.slots) }
    }

    /// The state of the calling thread if GS says that it has one.
    pub fn current() -> Option<&'static mut ThreadState> {
        let base = gs_base();
        // A program that uses GS itself may have set it to anything.
        if base == 0 || !registry::holds(base) {
            return None;
        }
        let at = base as *mut ThreadState;
        // SAFETY: blocks are never unmapped.
        let (tid, vforked) = unsafe { ((*at).tid, (*at).vforked.load(Ordering::Relaxed)) };
        // A thread that another one started natively has inherited its GS base. Where nobody ever ran natively there is none,
        // and nothing is asked.
        let is_own = !vforked
            && (!SOME_RUN_NATIVELY.load(Ordering::Relaxed)
                || !crate::seccomp::allows(sys::nr::GETTID, &[0; 6])
                || tid == sys::gettid());
        // SAFETY: as above, and it is this thread's own.
        is_own.then(|| unsafe { &mut *at })
    }

    /// The application's signal mask.
    pub(super) fn blocked(&mut self) -> u64 {
        if !self.knows_blocked {
            let arguments = [0, 0, &raw mut self.blocked as u64, 8, 0, 0];
            // SAFETY: the kernel writes our own word.
            unsafe { sys::optional(sys::nr::RT_SIGPROCMASK, arguments) };
            self.knows_blocked = true;
        }
        self.blocked
    }

    /// The calling thread's id, of the kernel; [`UNKNOWN_TID`] where it must not be asked.
    pub(super) fn ask_tid() -> u32 {
        if crate::seccomp::allows(sys::nr::GETTID, &[0; 6]) { sys::gettid() } else { UNKNOWN_TID }
    }

    /// The application's signal mask; `None` where it is not known, and without asking.
    pub(super) fn known_blocked(&self) -> Option<u64> {
        self.knows_blocked.then_some(self.blocked)
    }

    /// The application's signal mask is this from now on.
    pub(super) fn set_blocked(&mut self, mask: u64) {
        (self.blocked, self.knows_blocked) = (mask, true);
    }

    /// The mask may have changed while the thread ran natively.
    pub(super) fn forget_blocked(&mut self) {
        self.knows_blocked = false;
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

/// Whether the caller runs on a dispatcher's stack: signals of the application wait until it is done.
pub fn is_in_dispatcher() -> bool {
    let here = 0u8;
    registry::has_stack_at(&raw const here as u64)
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

/// `ARCH_SET_GS`, `ARCH_GET_GS` (`arch/x86/include/uapi/asm/prctl.h`).
pub(super) const ARCH_SET_GS: u64 = 0x1001;
pub(super) const ARCH_GET_GS: u64 = 0x1004;

/// Some thread of the process was left or released: threads that it starts inherit its GS base.
pub(super) static SOME_RUN_NATIVELY: AtomicBool = AtomicBool::new(false);

/// Whether RDGSBASE and WRGSBASE may be used: 0 = not known yet, 1 = no, 2 = yes.
pub(super) static FSGSBASE: AtomicUsize = AtomicUsize::new(0);

/// Looks at what the kernel says of the machine (`HWCAP2_FSGSBASE`, Linux 5.9).
pub(super) fn learn_gs_access() {
    const AT_HWCAP2: u64 = 26;
    const HWCAP2_FSGSBASE: u64 = 2;
    if FSGSBASE.load(Ordering::Relaxed) != 0 {
        return;
    }
    let mut vector = [[0u64; 2]; 64];
    let has = sys::read_auxiliary_vector(&mut vector)
        .iter()
        .any(|[key, value]| *key == AT_HWCAP2 && value & HWCAP2_FSGSBASE != 0);
    FSGSBASE.store(1 + usize::from(has), Ordering::Relaxed);
}

fn has_fsgsbase() -> bool {
    FSGSBASE.load(Ordering::Relaxed) == 2
}

/// The calling thread's GS base.
pub fn gs_base() -> u64 {
    let mut base = 0u64;
    if has_fsgsbase() {
        // SAFETY: the kernel allows it.
        unsafe { asm!("rdgsbase {0}", out(reg) base, options(nomem, nostack, preserves_flags)) };
        return base;
    }
    // SAFETY: the kernel writes one word at the given address.
    unsafe { sys::optional(sys::nr::ARCH_PRCTL, [ARCH_GET_GS, &raw mut base as u64, 0, 0, 0, 0]) };
    base
}

/// Sets the calling thread's GS base.
///
/// # Safety
/// Code that uses GS must find there what it expects.
pub unsafe fn set_gs_base(base: u64) {
    if has_fsgsbase() {
        // SAFETY: forwarded to the caller.
        unsafe { asm!("wrgsbase {0}", in(reg) base, options(nostack, preserves_flags)) };
        return;
    }
    // SAFETY: forwarded to the caller.
    unsafe { sys::syscall6(sys::nr::ARCH_PRCTL, [ARCH_SET_GS, base, 0, 0, 0, 0]) };
}

/// All blocks of the process, whichever engine's, for handlers: looked up without a lock.
pub(super) mod registry {
    use super::*;

    /// Threads that were ever followed at the same time.
    pub const MOST: usize = 1 << 16;

    static BLOCKS: AtomicPtr<AtomicU64> = AtomicPtr::new(core::ptr::null_mut());
    static COUNT: AtomicUsize = AtomicUsize::new(0);

    /// Adds a block, under an engine's lock; `None` when there is no room.
    pub fn add(block: u64) -> Option<()> {
        let mut blocks = BLOCKS.load(Ordering::Acquire);
        if blocks.is_null() {
            let bytes = MOST * size_of::<AtomicU64>();
            let fresh = sys::map_anonymous(0, bytes, sys::PROT_READ | sys::PROT_WRITE)? as *mut _;
            // Two engines may begin at once, in tests.
            blocks = match BLOCKS.compare_exchange(
                core::ptr::null_mut(),
                fresh,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => fresh,
                Err(other) => other,
            };
        }
        let at = COUNT.fetch_add(1, Ordering::AcqRel);
        if at >= MOST {
            COUNT.store(MOST, Ordering::Release);
            return None;
        }
        // SAFETY: mapped for good, `at` lies inside.
        unsafe { (*blocks.add(at)).store(block, Ordering::Release) };
        Some(())
    }

    /// Does this address lie on a dispatcher's stack, below its block?
    pub fn has_stack_at(address: u64) -> bool {
        let blocks = BLOCKS.load(Ordering::Acquire);
        let count = COUNT.load(Ordering::Acquire).min(MOST);
        // SAFETY: as in `holds`.
        !blocks.is_null()
            && unsafe { core::slice::from_raw_parts(blocks, count) }.iter().any(|block| {
                let block = block.load(Ordering::Acquire);
                block != 0 && block.wrapping_sub(address) <= ENGINE_STACK as u64
            })
    }

    /// Is this the address of a block?
    pub fn holds(base: u64) -> bool {
        let blocks = BLOCKS.load(Ordering::Acquire);
        let count = COUNT.load(Ordering::Acquire).min(MOST);
        // SAFETY: mapped for good before COUNT grew; elements are atomics.
        !blocks.is_null()
            && unsafe { core::slice::from_raw_parts(blocks, count) }
                .iter()
                .any(|block| block.load(Ordering::Acquire) == base)
    }
}

/// Reads the time-stamp-free pause hint used while spinning.
#[inline]
pub(super) fn relax() {
    // SAFETY: PAUSE has no operands and no side effects.
    unsafe { asm!("pause", options(nomem, nostack, preserves_flags)) };
}
