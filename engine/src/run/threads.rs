//! Threads that begin and end: the contexts that they run on.

use core::sync::atomic::Ordering;

use crate::isa::x86_64::context::{ThreadContext, UNKNOWN_TID};
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

impl ThreadContext {
    /// The thread's cumulative totals. May be called from any thread while this one runs: then the
    /// values are monotonic, not an atomic cut.
    pub fn totals(&self) -> Totals {
        engine_of(self).totals(self)
    }
}

/// The way out for a client whose code, or ours, cannot go on (a panic): if the calling thread is
/// followed and in the engine, it continues natively where its context says it is, and this does
/// not return.
///
/// The engine follows nobody new afterwards: its tables may be half written.
pub fn abandon() {
    let Some(thread) = ThreadContext::current() else { return };
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
    thread.resume_at.set(thread.pc.get());
    // SAFETY: the thread's context holds its whole state; nothing in the frames below is needed any
    // more.
    unsafe { resume(thread) }
}

impl Engine {
    /// Prepares the calling thread; it is followed once it calls `engine_enter` with the result.
    /// `None` when memory is refused, or the engine was abandoned.
    pub fn attach(&'static self) -> Option<*mut ThreadContext> {
        if self.is_broken() {
            return None;
        }
        let known = ThreadContext::current().filter(|t| core::ptr::eq(engine_of(t), self));
        let thread = match known {
            Some(thread) => thread,
            None => self.with_tables(|tables| free_or_new_context(self, tables))?,
        };
        thread.tid.store(ThreadContext::ask_tid(), Ordering::Release);
        thread.forget_blocked();
        thread.ended.store(false, Ordering::Release);
        // What happened natively since the thread was last followed.
        thread.stacked.set(0);
        thread.last_entry.set(0);
        thread.trap_not_before.set(0);
        if !self.at_start.swap(false, Ordering::AcqRel) {
            self.adopt_actions();
        }
        served::serve(self);
        self.borrow_fatal_signals();
        self.adopt_alternate_stack(thread);
        thread.followed.store(true, Ordering::Release);
        // SAFETY: the context lives as long as the thread.
        unsafe { set_gs_base(thread.this) };
        Some((&raw const *thread).cast_mut())
    }

    /// A context for a thread that a followed one is about to start.
    pub(crate) fn new_context(&self, parent: &ThreadContext) -> Option<&'static ThreadContext> {
        #[cfg(feature = "faults")]
        if crate::failpoints::strikes(crate::failpoints::Fault::NoContext) {
            return None;
        }
        if self.is_broken() {
            return None;
        }
        let engine = engine_of(parent);
        let child = self.with_tables(|tables| free_or_new_context(engine, tables))?;
        child.followed.store(true, Ordering::Release);
        Some(child)
    }

    /// Makes a context for a thread that may come later.
    pub(crate) fn spare_context(&self, tables: &mut Tables) {
        let Some(spare) = ThreadContext::new(core::ptr::from_ref(self).cast(), self.slots) else {
            return;
        };
        spare.ended.store(true, Ordering::Release);
        if registry::add(spare.this).is_some() {
            tables.contexts.push(spare.this as usize);
        }
    }

    /// The thread of this context ends, or was never started: the context may be used again once it
    /// is gone.
    pub(crate) fn give_back(&self, thread: &ThreadContext) {
        thread.ended.store(true, Ordering::Release);
    }

    /// In a child of fork: the calling thread is the only one, and its counts start anew.
    pub(crate) fn alone_after_fork(&self, thread: &ThreadContext) {
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
            // Their threads do not exist here.
            for other in tables.contexts().filter(|other| other.this != thread.this) {
                other.ended.store(true, Ordering::Release);
                other.inside.store(false, Ordering::Release);
            }
        });
    }
}

/// A thread's context: one whose thread has ended, else a new one.
fn free_or_new_context(
    engine: &'static Engine,
    tables: &mut Tables,
) -> Option<&'static ThreadContext> {
    for old in tables.contexts() {
        if old.ended.load(Ordering::Acquire) && !exists(old.tid.load(Ordering::Acquire)) {
            // SAFETY: the kernel has forgotten its thread, and the lock is held: nobody else takes
            // it.
            unsafe { old.renew() };
            return Some(old);
        }
    }
    let fresh = ThreadContext::new(core::ptr::from_ref(engine).cast(), engine.slots)?;
    if registry::add(fresh.this).and(tables.contexts.push(fresh.this as usize)).is_none() {
        // SAFETY: mapped just now, and nobody knows of it.
        unsafe { ThreadContext::give_up(fresh) };
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

fn clear(tables: &Tables, thread: &ThreadContext) {
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
