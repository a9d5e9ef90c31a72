//! The counters of one thread, and of what no living thread counts.
//!
//! # Design
//!
//! A thread's counters are words of its own that it alone adds to, each by one `add` instruction, so that
//! a signal handler in the middle loses nothing; the helper reads them while they grow. What a thread counts after its
//! end goes to [`AFTER_END`], and so into the process's total; so does what a thread counts for which there is no memory.

use crate::base::tracer;
use core::{
    arch::asm,
    ptr::null_mut,
    sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
};
use records::{Flags, METRIC_COUNT, metric};

/// The values of one thread or process, in the order of the metric table.
pub type Values = [u64; METRIC_COUNT];

/// Counts of threads that have been taken off the list already, or never were on it.
static AFTER_END: [AtomicU64; METRIC_COUNT] = [const { AtomicU64::new(0) }; METRIC_COUNT];

/// The tracer's metrics lead the table of records: their values are copied as they lie. Both are one table, row by row:
/// a tracer's metric is a metric of records, and there are as many.
const _: () = {
    const fn same(metric: engine::Metric) -> metric::EngineMetric {
        metric
    }
    let _ = same;
    assert!(engine::METRICS == metric::ENGINE_COUNT);
};

/// What other threads may look at of a thread: atomics, and what never changes.
pub struct Shared {
    counters: [AtomicU64; METRIC_COUNT],
    /// The tracer's thread, if it follows or has followed this one; else null.
    traced: AtomicPtr<tracer::Thread>,
    /// [`Flags`] bits that the tracer sets: followed now, was released.
    flags: AtomicU32,
    /// The thread's id.
    pub tid: u32,
    /// The open task that started this thread: its TID plus one; 0 = none. For the recorder, under its lock.
    pub of_task: AtomicU64,
    /// The number of the fork that the thread is in the middle of; 0 = none.
    pub fork: AtomicU32,
    /// In a vfork: the process that called it; else 0.
    pub vfork: AtomicU32,
}

impl Shared {
    /// Nothing is counted yet.
    pub fn new(tid: u32) -> Shared {
        Shared {
            counters: [const { AtomicU64::new(0) }; METRIC_COUNT],
            traced: AtomicPtr::new(null_mut()),
            flags: AtomicU32::new(0),
            tid,
            of_task: AtomicU64::new(0),
            fork: AtomicU32::new(0),
            vfork: AtomicU32::new(0),
        }
    }

    /// Adds to a counter; for the thread itself only.
    #[inline]
    pub fn add(&self, index: usize, amount: u64) {
        let counter = self.counters[index].as_ptr();
        // SAFETY: the word lives as long as `self` and is an atomic, so it may change behind shared references. This
        // thread alone adds to it, by one instruction: a handler of the same thread is before or after it, and readers
        // on other threads see whole words.
        unsafe {
            asm!("add qword ptr [{0}], {1}", in(reg) counter, in(reg) amount, options(nostack))
        };
    }

    /// The counters now, the engine's included.
    pub fn values(&self) -> Values {
        let mut values = self.traced().map_or([0; METRIC_COUNT], of_tracer);
        for (value, counter) in values.iter_mut().zip(&self.counters) {
            *value = value.wrapping_add(counter.load(Ordering::Relaxed));
        }
        values
    }

    /// The flags to write with this thread's groups.
    pub fn flags(&self) -> Flags {
        Flags(self.flags.load(Ordering::Relaxed) as u16)
    }

    /// The tracer's thread, if it follows or has followed this one.
    fn traced(&self) -> Option<&'static tracer::Thread> {
        // SAFETY: null or what the tracer keeps of a thread, which outlives the thread and is looked at by shared
        // references alone, from any thread.
        unsafe { self.traced.load(Ordering::Acquire).as_ref() }
    }

    /// From now on the tracer's counts of this thread are part of its values, and it is followed.
    pub fn adopt(&self, thread: &tracer::Thread) {
        self.traced.store(core::ptr::from_ref(thread).cast_mut(), Ordering::Release);
        self.set_followed(true);
    }

    /// Notes whether the thread is to be followed.
    pub fn set_followed(&self, is_followed: bool) {
        let bit = u32::from(Flags::FOLLOWED.0);
        if is_followed {
            self.flags.fetch_or(bit, Ordering::Release);
        } else {
            self.flags.fetch_and(!bit, Ordering::Release);
        }
    }

    /// The tracer has let go of the thread for good.
    pub fn set_released(&self) {
        self.set_followed(false);
        self.flags.fetch_or(u32::from(Flags::WAS_RELEASED.0), Ordering::Release);
    }

    /// The thread's last counters are taken, and it ends, or has ended, natively.
    pub fn forget_traced(&self) {
        if let Some(thread) = self.traced() {
            tracer::forget(thread);
        }
    }
}

/// The tracer's counts of a thread so far, in their places in the metric table.
pub fn of_tracer(thread: &tracer::Thread) -> Values {
    let mut values = [0; METRIC_COUNT];
    values[..metric::ENGINE_COUNT].copy_from_slice(&engine::Thread::totals(thread));
    values
}

/// Adds to a counter of this thread, or of the process after the thread's end.
pub fn add(thread: Option<&Shared>, index: usize, amount: u64) {
    match thread {
        Some(thread) => thread.add(index, amount),
        None => {
            AFTER_END[index].fetch_add(amount, Ordering::Relaxed);
        }
    }
}

/// Counts for the process.
pub fn add_after_end(values: &Values) {
    for (sum, value) in AFTER_END.iter().zip(values) {
        sum.fetch_add(*value, Ordering::Relaxed);
    }
}

/// What was counted by threads after their end.
pub fn after_end() -> Values {
    core::array::from_fn(|index| AFTER_END[index].load(Ordering::Relaxed))
}

/// In a child of fork: what the parent's threads counted is the parent's.
pub fn after_fork_in_child() {
    for counter in &AFTER_END {
        counter.store(0, Ordering::Relaxed);
    }
}
