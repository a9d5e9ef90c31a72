//! The tracer's contract over frida-gum's Stalker.
//!
//! # Design
//! Stalker translates; this crate inserts the engine's counting code ([`engine::foreign`]) into its blocks, so that
//! what is counted, and what it weighs, is decided in one place. GS points at the thread's counters, as with the
//! engine. Only system calls have callouts. Each thread has a Stalker of its own: its blocks, its lock, its memory.
//!
//! # What is guarded from outside
//! - **Vector state.** Stalker's prolog saves xmm0-15 and, on CPUs with AVX2, their upper halves by instructions that
//!   clear bits 256 to 511. It is told that there is no AVX2 ([`guards`], `--wrap`): then it touches nothing above xmm.
//! - **Children of fork.** Stalker leaves a child made by `clone` behind, natively. Where the call is a plain fork it
//!   becomes the system call `fork`, and what `clone` would have done besides is done here ([`syscall`]).
//! - **Flags, traps, GS, LOOP, rarities.** A block with an instruction that Stalker is known to get wrong is not
//!   translated: the thread is released at its start, with a notice ([`transform`]).
//! - **Generated code.** Released, with a notice.
//!
//! # What is not
//! Some vector state is lost all the same (the native program avx512 shows it), where Stalker calls libc. Signal handlers run uncounted and see addresses in Stalker's code: a notice says so when one is set. Threads that
//! are not made by `pthread_create` run uncounted, with a notice. Counts of a block that a fault ends are those of the
//! whole block. JVMs are refused by `analyzer trace`.
#![no_std]

extern crate alloc;

mod guards;
mod syscall;
mod thread;
mod transform;

pub use thread::Followed;

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use engine::foreign::{CodeMemory, Insertion, Lock};
use engine::{Client, Limits, Notice, Tracer};

/// What is behind the lock.
struct Tables {
    insertion: Insertion,
    code: CodeMemory,
}

/// The tracer.
pub struct Gum {
    host: &'static dyn Client<Followed>,
    limits: Limits,
    gum: frida_gum::Gum,
    lock: Lock,
    tables: UnsafeCell<Tables>,
    broken: AtomicBool,
}

// SAFETY: `tables` is reached through the lock alone; frida-gum's handle is a shared reference without state.
unsafe impl Sync for Gum {}

impl Gum {
    fn with_tables<R>(&self, work: impl FnOnce(&mut Tables) -> R) -> R {
        self.lock.take();
        // SAFETY: the lock is held.
        let result = work(unsafe { &mut *self.tables.get() });
        self.lock.release();
        result
    }

    /// The thread runs natively from its next block on, with a notice.
    fn release(&self, thread: &mut Followed, notice: Notice, at: u64, detail: u64) {
        thread.leave();
        self.host.notice(thread, notice, at, detail);
    }
}

/// The thread that the calling one is about to make will be attached by the host: no notice that it is not followed.
pub fn expect_thread() {
    if let Some(thread) = thread::current() {
        thread.expected = true;
    }
}

impl Tracer for Gum {
    type Thread = Followed;

    fn new(host: &'static dyn Client<Followed>, limits: Limits) -> Option<Gum> {
        guards::keep();
        let gum = frida_gum::Gum::obtain();
        if !frida_gum::stalker::Stalker::is_supported(&gum) {
            return None;
        }
        let tables = Tables { insertion: Insertion::new()?, code: CodeMemory::new()? };
        Some(Gum {
            host,
            limits,
            gum,
            lock: Lock::new(),
            tables: UnsafeCell::new(tables),
            broken: AtomicBool::new(false),
        })
    }

    fn attach(&'static self) -> Option<*mut Followed> {
        if self.broken.load(Ordering::Acquire) {
            return None;
        }
        let thread = match thread::current() {
            Some(thread) => thread,
            None => Followed::new(self)?,
        };
        thread.begin();
        Some(thread)
    }

    unsafe extern "C" fn enter(thread: *mut Followed) {
        // SAFETY: as the caller says. What remains of this function runs under Stalker already.
        unsafe { (*thread).follow() }
    }

    fn unfollow_me() {
        if let Some(thread) = thread::current().filter(|thread| thread.is_counted()) {
            thread.unfollow();
        }
    }

    fn current() -> Option<&'static Followed> {
        thread::current().map(|thread| &*thread)
    }

    /// A thread's memory stays its own here.
    fn forget(&'static self, _: &Followed) {}

    /// Every thread is followed from its start: the tracer sees such calls itself.
    fn memory_changed(&'static self, _: u64, _: u64) {}

    fn libraries_unloaded(&'static self) {}

    fn settle(&'static self, _: u64, _: u64) {}

    fn guard(&'static self, _: u64, _: u64) {}

    fn set_action(&'static self, signal: u64, new: u64, old: u64) -> i64 {
        // SAFETY: the application's own call; handlers are not virtualised here.
        unsafe { engine::sys::syscall6(engine::sys::nr::RT_SIGACTION, [signal, new, old, 8, 0, 0]) }
    }

    /// Stalker has no way out of its own code: whoever is followed stays so, nobody new is.
    fn abandon() {
        if let Some(thread) = thread::current() {
            thread.tracer().broken.store(true, Ordering::Release);
        }
    }
}
