//! Threads with their last counters, and rates from these.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use records::METRIC_COUNT;

use crate::report::figure::Figure;
use crate::report::rows::{Counted, Row, Said};

/// Rates are over so much time, if there are records of so long ago.
const WINDOW_NS: u64 = 3_000_000_000;

/// What is known of a process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Node name.
    pub node: Option<String>,
    /// Process number.
    pub pid: i64,
    /// Role.
    pub role: Option<String>,
    /// Application id.
    pub application: Option<String>,
    /// Executor id.
    pub executor: Option<String>,
    /// Whether it has ended or is gone.
    pub has_ended: bool,
    /// When its last record was made, in ns.
    pub last_ns: u64,
}

/// The task that a thread runs.
#[derive(Clone, Debug)]
pub struct Task {
    /// Stage and attempt; -1 = unknown.
    pub stage: (i64, i64),
    /// TID; -1 = unknown.
    pub task: i64,
    /// When it began.
    pub since_ns: u64,
    /// The thread's counters then.
    pub at_start: Counted,
}

/// What is known of a thread.
#[derive(Clone, Debug, Default)]
pub struct Thread {
    /// Its name.
    pub name: Option<String>,
    /// The task that runs on it.
    pub task: Option<Task>,
    /// Whether it has ended.
    pub has_ended: bool,
    /// The last times and counters, the newest last.
    samples: VecDeque<(u64, Counted)>,
}

/// A thread of a process: both ids.
pub type Id = (String, i64);

/// All threads that were seen.
#[derive(Debug, Default)]
pub struct Threads {
    /// By process id.
    pub processes: BTreeMap<String, Process>,
    /// By process id and thread number.
    pub threads: BTreeMap<Id, Thread>,
}

impl Thread {
    /// Takes the thread's counters at a time.
    pub fn sample(&mut self, at_ns: u64, counted: Counted) {
        if self.samples.back().is_some_and(|(last, _)| *last >= at_ns) {
            return;
        }
        self.samples.push_back((at_ns, counted));
        // The oldest one stays that is at least a window before the newest.
        while self.samples.get(1).is_some_and(|(second, _)| at_ns - second >= WINDOW_NS) {
            self.samples.pop_front();
        }
    }

    /// When it was last seen to have counted.
    pub fn last_ns(&self) -> Option<u64> {
        self.samples.back().map(|(at, _)| *at)
    }

    /// Its last counters.
    pub fn counted(&self) -> Option<&Counted> {
        self.samples.back().map(|(_, counted)| counted)
    }

    /// What was counted lately and in how many ns; `None` if there is one record alone.
    pub fn lately(&self) -> Option<(Row, u64)> {
        let ((first, before), (last, now)) = (self.samples.front()?, self.samples.back()?);
        (last > first).then(|| (difference(now, before), last - first))
    }

    /// What its task has counted so far.
    pub fn in_task(&self) -> Option<Row> {
        Some(difference(self.counted()?, &self.task.as_ref()?.at_start))
    }
}

fn difference(now: &Counted, before: &Counted) -> Row {
    let values: [Option<u64>; METRIC_COUNT] = std::array::from_fn(|at| {
        // What was unknown before was not counted before: all of it may have come since.
        now.values[at].map(|value| value.saturating_sub(before.values[at].unwrap_or(0)))
    });
    let mut row = Row::default();
    row.add_counted(&Counted { values, is_partial: now.is_partial, is_exact: now.is_exact });
    row
}

/// A thread to show.
pub struct Shown<'a> {
    /// Its process.
    pub process: &'a Process,
    /// Thread number.
    pub tid: i64,
    /// The thread.
    pub thread: &'a Thread,
    lately: Option<(Row, u64)>,
}

impl Shown<'_> {
    /// Whether it has had no new records for a while, though its process has.
    pub fn is_quiet(&self) -> bool {
        let last = self.thread.last_ns().unwrap_or(0);
        self.process.last_ns.saturating_sub(last) > WINDOW_NS
    }

    /// A figure per second; `None` if unknown.
    pub fn rate(&self, figure: Figure) -> Option<f64> {
        let (row, ns) = self.lately.as_ref().filter(|_| !self.is_quiet())?;
        match row.said(figure) {
            Said::Exactly(value) | Said::AtLeast(value) => Some(value as f64 * 1e9 / *ns as f64),
            Said::Unknown => None,
        }
    }
}

impl Threads {
    /// The threads to show, the fastest first; unknown rates last.
    pub fn shown(&self, sort: Figure, all: bool) -> Vec<Shown<'_>> {
        let of = |(id, thread)| {
            let (process_id, tid): &Id = id;
            let process = self.processes.get(process_id)?;
            let thread: &Thread = thread;
            let is_wanted = all || !(process.has_ended || thread.has_ended);
            is_wanted.then(|| Shown { process, tid: *tid, thread, lately: thread.lately() })
        };
        let mut shown: Vec<_> = self.threads.iter().filter_map(of).collect();
        shown.sort_by(|one, other| match (one.rate(sort), other.rate(sort)) {
            (Some(one), Some(other)) => other.total_cmp(&one),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        });
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(instructions: u64) -> Counted {
        let mut values = [None; METRIC_COUNT];
        values[0] = Some(instructions);
        Counted { values, is_partial: false, is_exact: true }
    }

    #[test]
    fn rates_are_over_the_last_seconds() {
        let mut threads = Threads::default();
        let process = Process { last_ns: 10_000_000_000, ..Process::default() };
        threads.processes.insert("p".into(), process);
        let thread = threads.threads.entry(("p".into(), 7)).or_default();
        // Fast at first, slow later: only the last three seconds and a little more matter.
        for (second, total) in [(1, 1_000_000), (5, 2_000_000), (7, 2_000_100), (9, 2_000_200)] {
            thread.sample(second * 1_000_000_000, counted(total));
        }
        threads.threads.entry(("p".into(), 8)).or_default().sample(1, counted(5));
        let shown = threads.shown(Figure::Metric(0), false);
        assert_eq!(shown.iter().map(|one| one.tid).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(shown[0].rate(Figure::Metric(0)), Some(50.0));
        assert_eq!(shown[0].rate(Figure::Metric(1)), None, "not counted");
        assert!(shown[1].is_quiet() && shown[1].rate(Figure::Metric(0)).is_none());
    }

    #[test]
    fn what_has_ended_is_shown_on_demand() {
        let mut threads = Threads::default();
        threads.processes.insert("p".into(), Process::default());
        threads.threads.entry(("p".into(), 1)).or_default().has_ended = true;
        assert!(threads.shown(Figure::Metric(0), false).is_empty());
        assert_eq!(threads.shown(Figure::Metric(0), true).len(), 1);
    }
}
