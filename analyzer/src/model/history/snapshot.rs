//! A thread's counters at one moment.

use records::{Flags, METRIC_COUNT};

use crate::model::counts::Counts;
use crate::model::coverage::Coverage;

/// A thread's counters at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The thread; 0 = the process.
    pub tid: u32,
    /// When, CLOCK_MONOTONIC in ns.
    pub mono_ns: u64,
    /// What the engine counted until then.
    pub coverage: Coverage,
    /// Its counters until then.
    pub counters: Counts,
}

impl Snapshot {
    /// Of a thread, or the process, whose records carried these flags.
    pub(super) fn of(tid: u32, flags: Flags, mono_ns: u64, mut counters: Counts) -> Snapshot {
        let coverage = Coverage::of(flags);
        coverage.apply(&mut counters);
        Snapshot { tid, mono_ns, coverage, counters }
    }

    /// Whether it is later than another one of the thread in time and in every counter.
    pub(super) fn is_after(&self, other: &Snapshot) -> bool {
        let has_gone_back = |metric| {
            let pair = self.counters.get(metric).zip(other.counters.get(metric));
            pair.is_some_and(|(now, before)| now < before)
        };
        self.mono_ns > other.mono_ns && !(0..METRIC_COUNT).any(has_gone_back)
    }
}
