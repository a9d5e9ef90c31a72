//! When the cache is full: all translations are dropped, and what is needed is translated anew.
//!
//! # Design
//! The thread that finds no room closes the cache, unlinks every fragment and empties the lookup table,
//! so each thread comes to the dispatcher at the end of the block that it executes, and waits there. Once nobody is
//! inside, counts are folded into the threads' totals and memory, slots and tables begin anew. Threads in system
//! calls and handlers are outside already: no host address of the cache is ever kept on a stack.
//!
//! A thread that does not come out (stopped by a debugger, or in one very long REP instruction) is not waited for
//! longer than [`PATIENCE`]: then the one that needs room runs natively, with a notice.

use core::sync::atomic::Ordering;

use crate::contract::Notice;
use crate::isa::x86_64::context::ThreadState;
use crate::metric::Totals;
use crate::os::process;
use crate::run::engine::Engine;
use crate::run::tables::{Away, Link, Tables};

/// Waits of [`PAUSE_NS`] each: two seconds in all.
const PATIENCE: u32 = 20_000;
const PAUSE_NS: u64 = 100_000;

/// Flushes after which a thread that still finds no room, because others were faster, runs natively.
const MOST_FLUSHES: u32 = 1_000;

/// How a flush went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    /// There is room.
    Done,
    /// A thread did not leave the cache in time.
    GivenUp,
}

impl Engine {
    /// [`Engine::host_code`], with a flush where there is no room. The calling thread must be outside the cache.
    pub(crate) fn host_code_in_room(
        &self,
        thread: &mut ThreadState,
        link: Option<Link>,
    ) -> Result<u64, Away> {
        for _ in 0..MOST_FLUSHES {
            match self.host_code(thread, link) {
                Err(Away::Full) if self.flush() == Flush::Done => {}
                Err(Away::Full) => break,
                found => return found,
            }
        }
        Err(Away::Release(Notice::MemoryLimit, self.limits.memory as u64))
    }

    /// Makes room, or waits for the thread that is doing so. The calling thread must be outside the cache.
    fn flush(&self) -> Flush {
        #[cfg(feature = "faults")]
        if crate::failpoints::is_armed(crate::failpoints::Fault::GivenUp) {
            return Flush::GivenUp;
        }
        self.keep_x87_pointer();
        let begun = self.with_tables(|tables| {
            if !tables.closed {
                tables.closed = true;
                tables.translator.unlink_all();
                tables.translator.forget_targets();
            }
            tables.generation
        });
        for _ in 0..PATIENCE {
            let done = self.with_tables(|tables| {
                if tables.generation == begun && self.nobody_is_inside() {
                    tables.begin_anew();
                    if self.gave_way.load(Ordering::Acquire) {
                        tables.translator.give_up();
                        tables.map.shrink();
                        self.forget_arenas();
                    }
                }
                tables.generation != begun
            });
            if done {
                return Flush::Done;
            }
            process::sleep_ns(PAUSE_NS);
        }
        self.with_tables(|tables| {
            if tables.generation != begun {
                return Flush::Done;
            }
            // What is there may be used on.
            tables.closed = false;
            Flush::GivenUp
        })
    }
}

impl Engine {
    /// Gives all code up, for good: threads run natively from now on. Whether that could be done; the calling thread must be
    /// outside the cache.
    pub(crate) fn give_way(&self) -> bool {
        !self.gave_way.swap(true, Ordering::AcqRel) && self.flush() == Flush::Done
    }
}

impl Tables {
    /// Drops all translations; no thread is inside the cache.
    fn begin_anew(&mut self) {
        let slots = self.translator.slots.len();
        for &block in self.blocks.as_slice() {
            // SAFETY: blocks are never unmapped.
            let thread = unsafe { &*(block as *const ThreadState) };
            let counted: Totals = self.translator.weigh(thread.counters());
            for (adjust, counted) in thread.adjust.iter().zip(counted) {
                adjust.fetch_add(counted, Ordering::Relaxed);
            }
            // SAFETY: its owner is outside the cache, and nobody else writes counters.
            unsafe { ThreadState::clear_counters(block as *mut ThreadState, slots) };
        }
        self.translator.begin_anew();
        self.forget_translations();
    }

    /// In a child of fork, whose only thread is outside the cache: nothing is translated, and the code is the parent's.
    pub(crate) fn leave_code(&mut self) {
        self.translator.leave_code();
        self.forget_translations();
    }

    fn forget_translations(&mut self) {
        self.map.clear();
        self.code.flushed();
        self.guarded.flushed();
        self.generation = self.generation.wrapping_add(1);
        self.closed = false;
    }
}
