//! A process's history put together from its segments: totals, threads, tasks, notices.

use std::collections::BTreeMap;

use records::metric::ENGINE_COUNT;
use records::{
    Event, Flags, Group, METRIC_COUNT, ProcessEndReason, Segment, TaskId, TaskMethod, TaskOutcome,
    Values,
};

use super::columns::{Counters, ENGINE_EXACT, ENGINE_NONE, ENGINE_PARTIAL};
use crate::record_files::known;

/// How much of something the engine counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// All of it.
    Exact,
    /// A part: the engine's metrics are lower bounds.
    Partial,
    /// Nothing: the engine's metrics are unknown.
    None,
}

impl Coverage {
    /// The text in the column `engine`.
    pub fn name(self) -> &'static str {
        match self {
            Coverage::Exact => ENGINE_EXACT,
            Coverage::Partial => ENGINE_PARTIAL,
            Coverage::None => ENGINE_NONE,
        }
    }

    /// Removes what would be a wrong zero: an engine's counter that nobody advanced.
    fn apply(self, counters: &mut Counters) {
        for value in &mut counters[..ENGINE_COUNT] {
            match self {
                Coverage::Exact => {}
                Coverage::Partial => *value = value.filter(|&value| value > 0),
                Coverage::None => *value = None,
            }
        }
    }
}

/// One life of a thread number.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Thread number.
    pub tid: u32,
    /// Its name; unknown if its start was in a segment that is missing.
    pub name: Option<String>,
    /// When it was first seen, CLOCK_MONOTONIC in ns.
    pub first_ns: u64,
    /// When it was last seen.
    pub last_ns: u64,
    /// Whether its end was seen.
    pub has_ended: bool,
    /// What the engine counted of it.
    pub coverage: Coverage,
    /// Its counters.
    pub counters: Counters,
    was_followed: bool,
    flags: Flags,
}

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
    /// Differences between its end and its start.
    pub counters: Counters,
    at_start: Counters,
    was_followed_at_start: bool,
}

/// Something the writer said besides counters.
#[derive(Clone, Debug)]
pub struct Remark {
    /// The thread; 0 = the process.
    pub tid: u32,
    /// When, CLOCK_MONOTONIC in ns.
    pub mono_ns: u64,
    /// `notice`, `exec` or `spawn`.
    pub kind: &'static str,
    /// Code of a notice.
    pub code: Option<u16>,
    /// First number of a notice, or the pid of a spawned child.
    pub a: u64,
    /// Second number of a notice.
    pub b: u64,
    /// Text or path.
    pub text: String,
}

/// All that a process's segments tell.
#[derive(Clone, Debug)]
pub struct History {
    /// Threads, in the order of appearance.
    pub threads: Vec<Thread>,
    /// Tasks, in the order of their starts.
    pub tasks: Vec<Task>,
    /// Notices, execs and spawns.
    pub remarks: Vec<Remark>,
    /// Why and with which status it ended, if that was seen.
    pub end: Option<(ProcessEndReason, i32)>,
    /// Whether the last totals are final.
    pub is_final: bool,
    /// The last moment that a record tells of, CLOCK_MONOTONIC in ns.
    pub last_ns: u64,
    /// What the engine counted of the process.
    pub coverage: Coverage,
    /// Totals of the process.
    pub counters: Counters,
    whole: Counters,
    whole_flags: Flags,
    /// Thread number -> its living thread.
    living: BTreeMap<u32, usize>,
    /// Thread number -> its open task.
    open: BTreeMap<u32, usize>,
}

impl History {
    /// Puts the segments together; they must be of one process and in their order.
    pub fn of<'a>(segments: impl IntoIterator<Item = Segment<'a>>, is_whole: bool) -> History {
        let mut history = History {
            threads: Vec::new(),
            tasks: Vec::new(),
            remarks: Vec::new(),
            end: None,
            is_final: false,
            last_ns: 0,
            coverage: Coverage::None,
            counters: [None; METRIC_COUNT],
            whole: [None; METRIC_COUNT],
            whole_flags: Flags::NONE,
            living: BTreeMap::new(),
            open: BTreeMap::new(),
        };
        for segment in segments {
            history.last_ns = history.last_ns.max(segment.header().start_mono_ns);
            for group in segment.groups() {
                history.take(&group);
            }
        }
        history.finish(is_whole);
        history
    }

    fn take(&mut self, group: &Group<'_>) {
        self.last_ns = self.last_ns.max(group.stamp.mono_ns);
        let counters = group.values.as_ref().map(counters_of);
        if let Some(counters) = &counters {
            if group.tid == 0 {
                raise(&mut self.whole, counters);
                self.whole_flags |= group.flags;
                self.is_final |= group.flags.contains(Flags::FINAL);
            } else {
                self.advance(group, counters);
            }
        }
        match group.event {
            Event::ThreadStart { name } => self.start_thread(group, name),
            Event::ThreadEnd => {
                if let Some(&task) = self.open.get(&group.tid) {
                    self.close(task, group, TaskOutcome::UNKNOWN, Flags::CLOSED_BY_THREAD_END);
                }
                if let Some(thread) = self.living.remove(&group.tid) {
                    self.threads[thread].has_ended = true;
                }
            }
            Event::TaskStart(task) => self.start_task(group, &task, counters),
            Event::TaskEnd { task, outcome } => self.end_task(group, &task, outcome, counters),
            Event::Snapshot => {}
            Event::Notice { code, a, b, text } => {
                self.remark(group, "notice", Some(code), a, b, text)
            }
            Event::Exec { path } => self.remark(group, "exec", None, 0, 0, path),
            Event::Spawn { pid, path } => self.remark(group, "spawn", None, pid.into(), 0, path),
            Event::ProcessEnd { reason, status } => {
                self.end = Some((reason, status));
                self.is_final = true;
            }
        }
    }

    fn remark(
        &mut self,
        group: &Group<'_>,
        kind: &'static str,
        code: Option<u16>,
        a: u64,
        b: u64,
        text: &[u8],
    ) {
        let text = String::from_utf8_lossy(text).into_owned();
        self.remarks.push(Remark {
            tid: group.tid,
            mono_ns: group.stamp.mono_ns,
            kind,
            code,
            a,
            b,
            text,
        });
    }

    fn start_thread(&mut self, group: &Group<'_>, name: &[u8]) {
        let thread = match self.living.get(&group.tid) {
            // Its counters came first, or the record repeats what is known.
            Some(&thread) if self.threads[thread].name.is_none() => thread,
            Some(&thread) if group.flags.contains(Flags::FIRST_OF_SEGMENT) => thread,
            // Its end was not seen: the kernel has given the number to a new thread.
            Some(_) | None => self.new_thread(group),
        };
        let thread = &mut self.threads[thread];
        thread.first_ns = thread.first_ns.min(group.stamp.mono_ns);
        if let Some(name) = known(name) {
            thread.name = Some(name);
        }
    }

    fn new_thread(&mut self, group: &Group<'_>) -> usize {
        let thread = self.threads.len();
        self.threads.push(Thread {
            tid: group.tid,
            name: None,
            first_ns: group.stamp.mono_ns,
            last_ns: group.stamp.mono_ns,
            has_ended: false,
            coverage: Coverage::None,
            counters: [None; METRIC_COUNT],
            was_followed: false,
            flags: Flags::NONE,
        });
        self.living.insert(group.tid, thread);
        thread
    }

    /// Takes a thread's cumulative counters.
    fn advance(&mut self, group: &Group<'_>, counters: &Counters) {
        let thread = match self.living.get(&group.tid) {
            Some(&thread) => thread,
            // The ticker's snapshot may come after the thread's own last word: no new thread.
            None if self.threads.iter().any(|thread| thread.tid == group.tid)
                && group.event == Event::Snapshot =>
            {
                return;
            }
            None => self.new_thread(group),
        };
        let thread = &mut self.threads[thread];
        raise(&mut thread.counters, counters);
        thread.last_ns = thread.last_ns.max(group.stamp.mono_ns);
        thread.was_followed |= group.flags.contains(Flags::FOLLOWED);
        thread.flags |= group.flags;
    }

    fn start_task(&mut self, group: &Group<'_>, task: &TaskId<'_>, counters: Option<Counters>) {
        if let Some(&open) = self.open.get(&group.tid) {
            if self.tasks[open].task_id == task.task_id && task.task_id >= 0 {
                return; // told again at the beginning of a segment
            }
            self.close(open, group, TaskOutcome::UNKNOWN, Flags::CLOSED_BY_NEXT);
        }
        let at_start = counters.unwrap_or([None; METRIC_COUNT]);
        let mut started = task_of(group, task);
        started.start_ns = Some(group.stamp.mono_ns);
        started.at_start = at_start;
        started.was_followed_at_start = group.flags.contains(Flags::FOLLOWED);
        self.open.insert(group.tid, self.tasks.len());
        self.tasks.push(started);
    }

    fn end_task(
        &mut self,
        group: &Group<'_>,
        task: &TaskId<'_>,
        outcome: TaskOutcome,
        counters: Option<Counters>,
    ) {
        let open = self.open.get(&group.tid).copied();
        if let Some(open) = open.filter(|&open| self.tasks[open].task_id == task.task_id) {
            self.settle(open, group, outcome, counters);
        } else if !self.has_ended(group.tid, task.task_id) {
            // Its start is missing: it is known that it ran here, not what it did.
            let mut ended = task_of(group, task);
            ended.end_ns = Some(group.stamp.mono_ns);
            ended.outcome = outcome;
            self.tasks.push(ended);
        }
    }

    fn has_ended(&self, tid: u32, task_id: i64) -> bool {
        let same = |task: &&Task| task.tid == tid && task.task_id == task_id;
        self.tasks.iter().rev().find(same).is_some_and(|task| task.end_ns.is_some())
    }

    /// Ends a task whose own end record is missing.
    fn close(&mut self, task: usize, group: &Group<'_>, outcome: TaskOutcome, flag: Flags) {
        self.tasks[task].flags |= flag;
        let counters = group.values.as_ref().map(counters_of);
        self.settle(task, group, outcome, counters);
    }

    fn settle(
        &mut self,
        task: usize,
        group: &Group<'_>,
        outcome: TaskOutcome,
        counters: Option<Counters>,
    ) {
        self.open.remove(&group.tid);
        let task = &mut self.tasks[task];
        task.end_ns = Some(group.stamp.mono_ns);
        task.outcome = outcome;
        task.flags |= group.flags;
        if let Some(counters) = counters {
            task.measure(&counters, group.flags.contains(Flags::FOLLOWED));
        }
    }

    fn finish(&mut self, is_whole: bool) {
        // A task that is still open has done at least what its thread did since its start.
        for (tid, task) in std::mem::take(&mut self.open) {
            if let Some(&thread) = self.living.get(&tid) {
                let thread = &self.threads[thread];
                let followed = thread.was_followed;
                self.tasks[task].flags |= thread.flags;
                let counters = thread.counters;
                self.tasks[task].measure(&counters, followed);
            }
        }
        let mut sum = [None; METRIC_COUNT];
        for thread in &mut self.threads {
            add(&mut sum, &thread.counters);
            thread.coverage = if !thread.was_followed {
                Coverage::None
            } else if thread.flags.contains(Flags::WAS_RELEASED) {
                Coverage::Partial
            } else {
                Coverage::Exact
            };
            thread.coverage.apply(&mut thread.counters);
        }
        // Both are lower bounds of the truth: a killed process's threads may have written after the last
        // total, and a missing segment's ended threads are in the total alone.
        self.counters = self.whole;
        raise(&mut self.counters, &sum);
        let all_are = |coverage| self.threads.iter().all(|thread| thread.coverage == coverage);
        self.coverage = if all_are(Coverage::None) {
            Coverage::None
        } else if all_are(Coverage::Exact)
            && !self.whole_flags.contains(Flags::WAS_RELEASED)
            && is_whole
        {
            Coverage::Exact
        } else {
            Coverage::Partial
        };
        self.coverage.apply(&mut self.counters);
    }
}

impl Task {
    /// Takes the differences between the thread's counters now and at the task's start.
    fn measure(&mut self, now: &Counters, is_followed: bool) {
        for (index, value) in self.counters.iter_mut().enumerate() {
            *value =
                now[index].zip(self.at_start[index]).and_then(|(now, then)| now.checked_sub(then));
        }
        self.coverage = match (self.was_followed_at_start, is_followed) {
            (true, true) if !self.flags.contains(Flags::WAS_RELEASED) => Coverage::Exact,
            (false, false) if !self.flags.contains(Flags::WAS_RELEASED) => Coverage::None,
            _ => Coverage::Partial,
        };
        self.coverage.apply(&mut self.counters);
    }
}

fn task_of(group: &Group<'_>, task: &TaskId<'_>) -> Task {
    Task {
        tid: group.tid,
        stage: task.stage,
        stage_attempt: task.stage_attempt,
        index: task.index,
        attempt: task.attempt,
        task_id: task.task_id,
        method: task.method,
        application_id: known(task.application_id),
        executor_id: known(task.executor_id),
        start_ns: None,
        end_ns: None,
        outcome: TaskOutcome::UNKNOWN,
        flags: group.flags,
        coverage: Coverage::None,
        counters: [None; METRIC_COUNT],
        at_start: [None; METRIC_COUNT],
        was_followed_at_start: false,
    }
}

fn counters_of(values: &Values) -> Counters {
    std::array::from_fn(|index| values.get(index))
}

/// Takes the larger one of two views of the same growing counters.
fn raise(to: &mut Counters, from: &Counters) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = (*to).max(*from);
    }
}

/// Adds counters; known plus unknown stays a lower bound, which [`History::of`] knows to treat as one.
fn add(to: &mut Counters, from: &Counters) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = match (*to, *from) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
    }
}

#[cfg(test)]
mod tests {
    use records::{Header, MAX_GROUP_BYTES, MAX_HEADER_BYTES, MetricSet, Stamp, encode_group};

    use super::*;

    /// Thread, flags, event, and what every counter stands at.
    type Said = (u32, Flags, Event<'static>, u64);

    const NONE: Flags = Flags::NONE;
    const START: Event<'static> = Event::ThreadStart { name: b"worker" };

    fn history(said: &[Said]) -> History {
        let mut bytes = vec![0; MAX_HEADER_BYTES];
        let header = Header { metrics: MetricSet::ALL, ..Header::default() };
        let len = header.encode(&mut bytes).unwrap();
        bytes.truncate(len);
        for (seq, (tid, flags, event, value)) in said.iter().enumerate() {
            let mut buf = [0; MAX_GROUP_BYTES];
            let stamp = Stamp { mono_ns: 10 * (seq as u64 + 1), real_ns: 0 };
            let values = [*value; METRIC_COUNT];
            let len = encode_group(&mut buf, seq as u32, stamp, *tid, *flags, event, Some(&values))
                .unwrap();
            bytes.extend(&buf[..len]);
        }
        History::of([Segment::parse(&bytes).unwrap()], true)
    }

    fn task(task_id: i64) -> TaskId<'static> {
        TaskId { task_id, ..TaskId::default() }
    }

    fn ended(task_id: i64) -> Event<'static> {
        Event::TaskEnd { task: task(task_id), outcome: TaskOutcome::RETURNED }
    }

    /// The first system-call counter, which is known whatever the engine did.
    fn calls(counters: &Counters) -> Option<u64> {
        counters[ENGINE_COUNT]
    }

    #[test]
    fn a_thread_number_that_is_used_again_is_another_thread() {
        let history = history(&[
            (7, NONE, START, 0),
            (7, NONE, Event::ThreadEnd, 5),
            // The ticker's late word on the first thread.
            (7, NONE, Event::Snapshot, 4),
            (7, NONE, START, 0),
            (7, NONE, Event::Snapshot, 3),
        ]);
        let seen: Vec<_> = history
            .threads
            .iter()
            .map(|thread| (calls(&thread.counters), thread.has_ended))
            .collect();
        assert_eq!(seen, [(Some(5), true), (Some(3), false)]);
        assert_eq!(calls(&history.counters), Some(8));
    }

    #[test]
    fn a_thread_whose_end_is_missing() {
        let history = history(&[
            (7, NONE, START, 0),
            (7, NONE, Event::Snapshot, 9),
            (7, NONE, START, 0),
            (7, NONE, Event::ThreadEnd, 2),
        ]);
        assert_eq!(history.threads.len(), 2);
        assert_eq!(calls(&history.counters), Some(11));
    }

    #[test]
    fn totals_are_the_better_of_two_lower_bounds() {
        let told = history(&[
            (7, NONE, START, 0),
            (7, NONE, Event::Snapshot, 9),
            (0, NONE, Event::Snapshot, 12),
        ]);
        assert_eq!(calls(&told.counters), Some(12), "a thread is missing, the total has it");
        let killed = history(&[
            (0, NONE, Event::Snapshot, 12),
            (7, NONE, START, 0),
            (7, NONE, Event::ThreadEnd, 20),
        ]);
        assert_eq!(calls(&killed.counters), Some(20), "the thread wrote after the last total");
    }

    #[test]
    fn tasks_whose_end_is_missing() {
        let history = history(&[
            (7, NONE, Event::TaskStart(task(1)), 10),
            (7, NONE, Event::TaskStart(task(2)), 30),
            (7, NONE, Event::ThreadEnd, 70),
            (8, NONE, Event::TaskStart(task(3)), 100),
            (8, NONE, Event::Snapshot, 105),
            (9, NONE, ended(4), 50),
        ]);
        let seen: Vec<_> = history
            .tasks
            .iter()
            .map(|task| (task.task_id, calls(&task.counters), task.end_ns.is_some()))
            .collect();
        assert_eq!(
            seen,
            [(1, Some(20), true), (2, Some(40), true), (3, Some(5), false), (4, None, true)]
        );
        assert!(history.tasks[0].flags.contains(Flags::CLOSED_BY_NEXT));
        assert!(history.tasks[1].flags.contains(Flags::CLOSED_BY_THREAD_END));
        assert_eq!(history.tasks[0].outcome, TaskOutcome::UNKNOWN);
    }

    #[test]
    fn a_repeated_start_or_end_is_no_second_task() {
        let history = history(&[
            (7, NONE, Event::TaskStart(task(1)), 10),
            (7, Flags::FIRST_OF_SEGMENT, Event::TaskStart(task(1)), 15),
            (7, NONE, ended(1), 30),
            (7, NONE, ended(1), 31),
        ]);
        assert_eq!(history.tasks.len(), 1);
        assert_eq!(calls(&history.tasks[0].counters), Some(20));
    }

    #[test]
    fn coverage_follows_the_flags() {
        let followed = Flags::FOLLOWED;
        let start = |id| Event::TaskStart(task(id));
        let exact = history(&[(7, followed, start(1), 1), (7, followed, ended(1), 4)]);
        assert_eq!((exact.coverage, exact.tasks[0].coverage), (Coverage::Exact, Coverage::Exact));
        assert_eq!(exact.tasks[0].counters[0], Some(3));
        let released =
            history(&[(7, followed, start(1), 1), (7, Flags::WAS_RELEASED, ended(1), 4)]);
        assert_eq!(released.tasks[0].coverage, Coverage::Partial);
        assert_eq!(released.tasks[0].counters[0], Some(3));
        let native = history(&[(7, NONE, start(1), 1), (7, NONE, ended(1), 4)]);
        assert_eq!((native.coverage, native.tasks[0].counters[0]), (Coverage::None, None));
        assert_eq!(calls(&native.tasks[0].counters), Some(3));
        // Task scope: the thread is followed in its tasks only, so the process is not covered.
        let mixed = history(&[
            (7, followed, start(1), 1),
            (7, followed, ended(1), 4),
            (8, NONE, Event::Snapshot, 5),
        ]);
        assert_eq!((mixed.coverage, mixed.tasks[0].coverage), (Coverage::Partial, Coverage::Exact));
    }
}
