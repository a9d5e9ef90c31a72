//! Threads that begin and end: the contexts that they run on.

use core::sync::atomic::Ordering;

use crate::isa::x86_64::context::{ThreadState, UNKNOWN_TID};
use crate::isa::x86_64::gs::set_gs_base;
use crate::isa::x86_64::registry;
use crate::metric::Totals;
use crate::os::process;
use crate::os::seccomp::optional;
use crate::os::syscall::nr;
use crate::run::engine::{Engine, engine_of};
use crate::run::served;
use crate::run::stubs::resume;
use crate::run::tables::Tables;

impl ThreadState {
    /// The thread's cumulative totals. May be called from any thread while this one runs: then the
    /// values are monotonic, not an atomic cut.
    pub fn totals(&self) -> Totals {
        engine_of(self).totals(self)
    }
}

/// The way out for a host whose code, or ours, cannot go on (a panic): if the calling thread is followed and in
/// the engine, it continues natively where its block says it is, and this does not return.
///
/// The engine follows nobody new afterwards: its tables may be half written.
pub fn abandon() {
    let Some(thread) = ThreadState::current() else { return };
    let here = &raw const thread as u64;
    if !thread.is_followed() || !thread.owns_stack(here) {
        return;
    }
    let engine = engine_of(thread);
    engine.broken.store(true, Ordering::Release);
    if thread.owns_stack(engine.holder.load(Ordering::Relaxed)) {
        engine.holder.store(0, Ordering::Relaxed);
        engine.lock.release();
    }
    engine.leave(thread);
    thread.host_target = thread.pc;
    // SAFETY: the thread's block holds its whole state; nothing in the frames below is needed any more.
    unsafe { resume(thread) }
}

impl Engine {
    /// Prepares the calling thread; it is followed once it calls `engine_enter` with the result.
    /// `None` when memory is refused, or the engine was abandoned.
    pub fn attach(&'static self) -> Option<*mut ThreadState> {
        if self.is_broken() {
            return None;
        }
        let known = ThreadState::current().filter(|t| core::ptr::eq(engine_of(t), self));
        let thread = match known {
            Some(thread) => thread,
            None => self.with_tables(|tables| block(self, tables))?,
        };
        thread.tid = ThreadState::ask_tid();
        thread.forget_blocked();
        thread.ended.store(false, Ordering::Release);
        // What happened natively since the thread was last followed.
        (thread.stacked, thread.last_entry, thread.trap_not_before) = (0, 0, 0);
        if !self.at_start.swap(false, Ordering::AcqRel) {
            self.adopt_actions();
        }
        served::serve(self);
        self.borrow_fatal_signals();
        self.adopt_alternate_stack(thread);
        thread.followed.store(true, Ordering::Release);
        // SAFETY: the block lives as long as the thread.
        unsafe { set_gs_base(thread.this) };
        Some(thread)
    }

    /// A block for a thread that a followed one is about to start.
    pub(crate) fn new_block(&self, parent: &ThreadState) -> Option<&'static mut ThreadState> {
        #[cfg(feature = "faults")]
        if crate::failpoints::strikes(crate::failpoints::Fault::NoBlock) {
            return None;
        }
        if self.is_broken() {
            return None;
        }
        let engine = engine_of(parent);
        let child = self.with_tables(|tables| block(engine, tables))?;
        child.followed.store(true, Ordering::Release);
        Some(child)
    }

    /// Makes a block for a thread that may come later.
    pub(crate) fn spare_block(&self, tables: &mut Tables) {
        let Some(spare) = ThreadState::new_for(core::ptr::from_ref(self).cast(), self.slots) else {
            return;
        };
        // SAFETY: mapped just now.
        let known = unsafe {
            (*spare).ended.store(true, Ordering::Release);
            registry::add(spare as u64)
        };
        if known.is_some() {
            tables.blocks.push(spare as usize);
        }
    }

    /// The thread of this block ends, or was never started: the block may be used again once it is gone.
    pub(crate) fn give_back(&self, thread: &ThreadState) {
        thread.ended.store(true, Ordering::Release);
    }

    /// In a child of fork: the calling thread is the only one, and its counts start anew.
    pub(crate) fn alone_after_fork(&self, thread: &mut ThreadState) {
        let shares_code = self.with_tables(|tables| tables.translator.cache.is_mapped_twice());
        if shares_code {
            self.keep_x87_pointer();
        }
        self.with_tables(|tables| {
            clear(tables, thread);
            if shares_code {
                // The parent goes on to change what both see: this process translates anew.
                tables.leave_code();
                self.forget_arenas();
            }
            self.inside
                .store(usize::from(thread.inside.load(Ordering::Acquire)), Ordering::Release);
            for &block in tables.blocks.as_slice() {
                if block != thread.this as usize {
                    // SAFETY: blocks are never unmapped, and this one's thread does not exist here.
                    unsafe {
                        let other = &*(block as *const ThreadState);
                        other.ended.store(true, Ordering::Release);
                        other.inside.store(false, Ordering::Release);
                    };
                }
            }
        });
    }
}

/// A thread's block: one whose thread has ended, else a new one.
#[allow(clippy::mut_from_ref, reason = "a mapping of its own, not a part of the engine")]
fn block(engine: &'static Engine, tables: &mut Tables) -> Option<&'static mut ThreadState> {
    for &at in tables.blocks.as_slice() {
        // SAFETY: blocks are never unmapped; an ended one is nobody's once the kernel has forgotten its thread.
        let old = unsafe { &mut *(at as *mut ThreadState) };
        if old.ended.load(Ordering::Acquire) && !exists(old.tid) {
            return Some(ThreadState::renew(old, core::ptr::from_ref(engine).cast()));
        }
    }
    let fresh = ThreadState::new(core::ptr::from_ref(engine).cast(), engine.slots)?;
    if registry::add(fresh.this).and(tables.blocks.push(fresh.this as usize)).is_none() {
        // SAFETY: mapped just now, and nobody knows of it.
        unsafe { ThreadState::give_up(fresh) };
        return None;
    }
    Some(fresh)
}

fn exists(tid: u32) -> bool {
    const ESRCH: i64 = 3;
    let pid = u64::from(process::getpid());
    // SAFETY: signal 0 only asks.
    let gone = || unsafe { optional(nr::TGKILL, [pid, u64::from(tid), 0, 0, 0, 0]) == -ESRCH };
    tid != 0 && (tid == UNKNOWN_TID || !gone())
}

fn clear(tables: &Tables, thread: &ThreadState) {
    for counter in &thread.counters()[..tables.translator.slots.len()] {
        // Untouched pages stay untouched.
        if counter.load(Ordering::Relaxed) != 0 {
            counter.store(0, Ordering::Relaxed);
        }
    }
    for sum in &thread.adjust {
        sum.store(0, Ordering::Relaxed);
    }
}
