//! A task attempt on its thread.

use records::{Flags, TaskMethod, TaskOutcome};

use super::coverage::Coverage;
use crate::counts::Counts;

/// One attempt of a task on its thread.
#[derive(Clone, Debug)]
pub struct Task {
    /// The thread.
    pub tid: u32,
    /// Stage id; -1 = unknown.
    pub stage: i32,
    /// Stage attempt; -1 = unknown.
    pub stage_attempt: i32,
    /// Index in the stage; -1 = unknown.
    pub index: i32,
    /// Attempt; -1 = unknown.
    pub attempt: i32,
    /// TID; -1 = unknown.
    pub task_id: i64,
    /// How it was noticed.
    pub method: TaskMethod,
    /// Application id, if the record says.
    pub application_id: Option<String>,
    /// Executor id, if the record says.
    pub executor_id: Option<String>,
    /// When it started, CLOCK_MONOTONIC in ns; unknown if that record is missing.
    pub start_ns: Option<u64>,
    /// When it ended; unknown if it was open at the end of the records.
    pub end_ns: Option<u64>,
    /// How it ended.
    pub outcome: TaskOutcome,
    /// Flags of its records.
    pub flags: Flags,
    /// What the engine counted of it.
    pub coverage: Coverage,
    /// At first what its thread stood at when it started; once it is settled, how far that went since.
    pub counters: Counts,
    pub(super) was_followed_at_start: bool,
}

impl Task {
    /// Takes the differences between the thread's counters now and at the task's start.
    pub(super) fn measure(&mut self, now: Option<&Counts>, is_followed: bool) {
        let Some(now) = now else {
            self.counters = Counts::default();
            return;
        };
        self.counters = now.since(&self.counters);
        self.coverage = match (self.was_followed_at_start, is_followed) {
            (true, true) if !self.flags.contains(Flags::WAS_RELEASED) => Coverage::Exact,
            (false, false) if !self.flags.contains(Flags::WAS_RELEASED) => Coverage::None,
            _ => Coverage::Partial,
        };
        self.coverage.apply(&mut self.counters);
    }
}
