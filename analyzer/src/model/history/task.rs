//! A task attempt on its thread.

use records::{Flags, TaskId, TaskMethod, TaskOutcome};

use crate::model::counts::Counts;
use crate::model::coverage::Coverage;
use crate::model::history::Snapshot;
use crate::text::field::known_id;

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
    /// The last snapshot within it that is to be kept, until what comes next shows that it was in time.
    held: Option<Box<Snapshot>>,
    /// Whether its start was kept as a snapshot.
    is_start_kept: bool,
}

impl Task {
    /// One that starts, by this record of it.
    pub(super) fn begin(tid: u32, task: &TaskId<'_>, flags: Flags) -> Task {
        Task {
            tid,
            stage: task.stage,
            stage_attempt: task.stage_attempt,
            index: task.index,
            attempt: task.attempt,
            task_id: task.task_id,
            method: task.method,
            application_id: known_id(task.application_id),
            executor_id: known_id(task.executor_id),
            start_ns: None,
            end_ns: None,
            outcome: TaskOutcome::UNKNOWN,
            flags,
            coverage: Coverage::None,
            counters: Counts::default(),
            was_followed_at_start: false,
            held: None,
            is_start_kept: false,
        }
    }

    /// Keeps a snapshot within it. Of a task with snapshots the thread's counters at its start and end are kept
    /// as snapshots too, so that it is cut without a rest. The ticker stamps and reads while the thread goes on:
    /// what does not fit between its neighbours is left out, so that counters never go back.
    pub(super) fn keep(&mut self, snapshot: Snapshot, kept: &mut Vec<Snapshot>) {
        let before = self.held.take();
        let is_in_time = match (&before, self.start_ns) {
            (Some(before), _) => snapshot.is_after(before),
            (None, Some(_)) => self.at_start(&snapshot).is_some_and(|it| snapshot.is_after(&it)),
            (None, None) => false,
        };
        if !is_in_time {
            self.held = before;
            return;
        }
        if let Some(before) = before {
            self.push(*before, kept);
        }
        self.held = Some(Box::new(snapshot));
    }

    /// Whether there is a snapshot within it that is to be kept.
    pub(super) fn has_snapshots(&self) -> bool {
        self.held.is_some() || self.is_start_kept
    }

    /// Keeps what its thread stands at when it ends.
    pub(super) fn keep_end(&mut self, end: Snapshot, kept: &mut Vec<Snapshot>) {
        if let Some(held) = self.held.take()
            && end.is_after(&held)
        {
            self.push(*held, kept);
        }
        if self.is_start_kept {
            kept.push(end);
        }
    }

    /// Keeps its last snapshot: its end was not seen.
    pub(super) fn keep_last(&mut self, kept: &mut Vec<Snapshot>) {
        if let Some(held) = self.held.take() {
            self.push(*held, kept);
        }
    }

    fn push(&mut self, snapshot: Snapshot, kept: &mut Vec<Snapshot>) {
        if !self.is_start_kept {
            kept.extend(self.at_start(&snapshot));
            self.is_start_kept = true;
        }
        kept.push(snapshot);
    }

    /// What its thread stood at when it started, as far as it is known of a later snapshot.
    fn at_start(&self, later: &Snapshot) -> Option<Snapshot> {
        let mut counters = self.counters.clone();
        later.coverage.apply(&mut counters);
        let mono_ns = self.start_ns?;
        Some(Snapshot { tid: self.tid, mono_ns, coverage: later.coverage, counters })
    }

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
