//! A process's history put together from its records: totals, threads, tasks, notices.
//!
//! It is told one group after the other, in the order of the files. What is settled can be taken away at
//! any time, so that a process of any length needs memory for what is open alone.

mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use records::metric::Class;
use records::{
    Event, Flags, Group, Header, METRIC_COUNT, MetricSet, ProcessEndReason, TaskId, TaskOutcome,
};

use crate::model::counts::Counts;
use crate::model::coverage::{ENGINE_EXACT, ENGINE_NONE};
use crate::model::snapshot_policy::Snapshots;
use crate::text::field::known;
use crate::text::redaction;

pub use crate::model::coverage::Coverage;
pub use crate::model::history::task::Task;

/// One life of a thread number.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its number in the order of appearance.
    pub ordinal: usize,
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
    pub counters: Counts,
    /// Flags of its records.
    pub flags: Flags,
    /// When a snapshot of it was kept last.
    kept_ns: Option<u64>,
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
    fn of(tid: u32, flags: Flags, mono_ns: u64, mut counters: Counts) -> Snapshot {
        let coverage = Coverage::of(flags);
        coverage.apply(&mut counters);
        Snapshot { tid, mono_ns, coverage, counters }
    }

    /// Whether it is later than another one of the thread in time and in every counter.
    fn is_after(&self, other: &Snapshot) -> bool {
        let has_gone_back = |metric| {
            let pair = self.counters.get(metric).zip(other.counters.get(metric));
            pair.is_some_and(|(now, before)| now < before)
        };
        self.mono_ns > other.mono_ns && !(0..METRIC_COUNT).any(has_gone_back)
    }
}

/// What a process did to files in one directory.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Its path, without secrets.
    pub path: String,
    /// Flags of its records.
    pub flags: Flags,
    /// The counters of the process's calls there.
    pub counters: Counts,
}

/// What no later record changes.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Threads, in the order of their ends.
    pub threads: Vec<Thread>,
    /// Tasks, in the order of their ends.
    pub tasks: Vec<Task>,
    /// Notices, execs and spawns.
    pub remarks: Vec<Remark>,
    /// Snapshots that were to be kept.
    pub snapshots: Vec<Snapshot>,
    /// Directories.
    pub directories: Vec<Directory>,
}

/// All that a process's records tell.
#[derive(Clone, Debug)]
pub struct History {
    /// What is settled and was not taken away.
    pub settled: Settled,
    /// Why and with which status it ended, if that was seen.
    pub end: Option<(ProcessEndReason, i32)>,
    /// Whether the last totals are final.
    pub is_final: bool,
    /// The last moment that a record tells of, CLOCK_MONOTONIC in ns.
    pub last_ns: u64,
    /// What the engine counted of the process.
    pub coverage: Coverage,
    /// Totals of the process.
    pub counters: Counts,
    /// The application that all tasks agree on which name one.
    pub application: Sole,
    /// The executor that all tasks agree on which name one.
    pub executor: Sole,
    snapshots: Snapshots,
    whole_kept_ns: Option<u64>,
    whole: Counts,
    whole_flags: Flags,
    ended: Counts,
    coverages: HashSet<&'static str>,
    threads: usize,
    /// Thread number -> its living thread.
    living: BTreeMap<u32, Thread>,
    /// Thread numbers that were seen.
    seen: HashSet<u32>,
    /// Thread number -> its open task.
    open: BTreeMap<u32, Task>,
    /// Thread number -> the TID that ended last on it.
    ended_tasks: HashMap<u32, i64>,
    /// Number of a directory -> what was done there.
    directories: BTreeMap<u16, Directory>,
}

/// The value that all who know one agree on.
#[derive(Clone, Debug, Default)]
pub enum Sole {
    /// Nobody knows one.
    #[default]
    Unknown,
    /// It is this.
    Known(String),
    /// There are several.
    Several,
}

impl Sole {
    fn take(&mut self, value: Option<&str>) {
        match (&*self, value) {
            (Sole::Unknown, Some(value)) => *self = Sole::Known(value.to_owned()),
            (Sole::Known(old), Some(value)) if old != value => *self = Sole::Several,
            _ => {}
        }
    }

    /// The value, if there is just one.
    pub fn value(&self) -> Option<&str> {
        match self {
            Sole::Known(value) => Some(value),
            Sole::Unknown | Sole::Several => None,
        }
    }
}

impl History {
    /// A history of which nothing is known.
    pub fn new(snapshots: Snapshots) -> History {
        History {
            settled: Settled::default(),
            end: None,
            is_final: false,
            last_ns: 0,
            coverage: Coverage::None,
            counters: Counts::default(),
            application: Sole::Unknown,
            executor: Sole::Unknown,
            snapshots,
            whole_kept_ns: None,
            whole: Counts::default(),
            whole_flags: Flags::NONE,
            ended: Counts::default(),
            coverages: HashSet::new(),
            threads: 0,
            living: BTreeMap::new(),
            seen: HashSet::new(),
            open: BTreeMap::new(),
            ended_tasks: HashMap::new(),
            directories: BTreeMap::new(),
        }
    }

    /// Takes in a segment's header.
    pub fn begin_segment(&mut self, header: &Header<'_>) {
        self.last_ns = self.last_ns.max(header.start_mono_ns);
    }

    /// Takes in a group.
    pub fn take(&mut self, group: &Group<'_>) {
        self.last_ns = self.last_ns.max(group.stamp.mono_ns);
        let counters = group.values.as_ref().map(Counts::from);
        if let Event::Directory { number, path } = group.event {
            return self.take_directory(group, number, path, counters);
        }
        if let Some(counters) = &counters {
            if group.tid == 0 {
                self.whole.raise_to(counters);
                self.whole_flags |= group.flags;
                self.is_final |= group.flags.contains(Flags::FINAL);
            } else {
                self.advance(group, counters);
            }
        }
        match group.event {
            Event::ThreadStart { name } => self.start_thread(group, name),
            Event::ThreadEnd => {
                if let Some(mut task) = self.open.remove(&group.tid) {
                    task.flags |= Flags::CLOSED_BY_THREAD_END;
                    self.settle(task, group, TaskOutcome::UNKNOWN, counters.as_ref());
                }
                if let Some(mut thread) = self.living.remove(&group.tid) {
                    thread.has_ended = true;
                    self.settle_thread(thread);
                }
            }
            Event::TaskStart(task) => self.start_task(group, &task, counters),
            Event::TaskEnd { task, outcome } => {
                self.end_task(group, &task, outcome, counters.as_ref());
            }
            Event::Snapshot => self.keep_snapshot(group, counters),
            Event::Notice { code, a, b, text } => {
                self.remark(group, "notice", Some(code), a, b, text)
            }
            Event::Exec { path } => self.remark(group, "exec", None, 0, 0, path),
            // Every child of a fork would be a row; most have records of their own that say so.
            Event::Spawn { fork: 1.., .. } => {}
            Event::Spawn { pid, path, .. } => {
                self.remark(group, "spawn", None, pid.into(), 0, path)
            }
            Event::ProcessEnd { reason, status } => {
                self.end = Some((reason, status));
                self.is_final = true;
            }
            Event::Directory { .. } => {}
        }
    }

    fn take_directory(
        &mut self,
        group: &Group<'_>,
        number: u16,
        path: &[u8],
        counters: Option<Counts>,
    ) {
        let directory = self.directories.entry(number).or_insert_with(|| Directory {
            path: redaction::path(&String::from_utf8_lossy(path)).into_owned(),
            flags: Flags::NONE,
            counters: Counts::default(),
        });
        directory.flags |= group.flags;
        directory.counters.raise_to(&counters.unwrap_or_default());
    }

    fn keep_snapshot(&mut self, group: &Group<'_>, counters: Option<Counts>) {
        let every_ns = match self.snapshots {
            Snapshots::Last => return,
            Snapshots::All => 0,
            Snapshots::Every(every_ns) => every_ns,
        };
        let (kept_ns, flags) = match self.living.get_mut(&group.tid) {
            Some(thread) => (&mut thread.kept_ns, thread.flags),
            None if group.tid == 0 => (&mut self.whole_kept_ns, self.whole_flags),
            None => return,
        };
        let mono_ns = group.stamp.mono_ns;
        let is_due = kept_ns.is_none_or(|kept| mono_ns.saturating_sub(kept) >= every_ns);
        let Some(counters) = counters.filter(|_| is_due) else { return };
        *kept_ns = Some(mono_ns);
        let snapshot = Snapshot::of(group.tid, flags, mono_ns, counters);
        match self.open.get_mut(&group.tid) {
            Some(task) => task.keep(snapshot, &mut self.settled.snapshots),
            None => self.settled.snapshots.push(snapshot),
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
        let text = String::from_utf8_lossy(text);
        // Of a notice it may be anything; else it is a program's path.
        let text = match code {
            Some(_) => redaction::text(&text),
            None => redaction::path(&text),
        }
        .into_owned();
        self.settled.remarks.push(Remark {
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
        let is_same = match self.living.get(&group.tid) {
            // Its counters came first, or the record repeats what is known.
            Some(thread) => thread.name.is_none() || group.flags.contains(Flags::FIRST_OF_SEGMENT),
            None => false,
        };
        if !is_same {
            // Its end was not seen: the kernel has given the number to a new thread.
            if let Some(thread) = self.living.remove(&group.tid) {
                self.settle_thread(thread);
            }
            self.new_thread(group);
        }
        if let Some(thread) = self.living.get_mut(&group.tid) {
            thread.first_ns = thread.first_ns.min(group.stamp.mono_ns);
            thread.flags |= group.flags;
            thread.name = known(name).or(thread.name.take());
        }
    }

    fn new_thread(&mut self, group: &Group<'_>) {
        let thread = Thread {
            ordinal: self.threads,
            tid: group.tid,
            name: None,
            first_ns: group.stamp.mono_ns,
            last_ns: group.stamp.mono_ns,
            has_ended: false,
            coverage: Coverage::None,
            counters: Counts::default(),
            flags: Flags::NONE,
            kept_ns: None,
        };
        self.threads += 1;
        self.seen.insert(group.tid);
        self.living.insert(group.tid, thread);
    }

    /// Takes a thread's cumulative counters.
    fn advance(&mut self, group: &Group<'_>, counters: &Counts) {
        if !self.living.contains_key(&group.tid) {
            // The ticker's snapshot may come after the thread's own last word: no new thread.
            if self.seen.contains(&group.tid) && group.event == Event::Snapshot {
                return;
            }
            self.new_thread(group);
        }
        if let Some(thread) = self.living.get_mut(&group.tid) {
            thread.counters.raise_to(counters);
            thread.last_ns = thread.last_ns.max(group.stamp.mono_ns);
            thread.flags |= group.flags;
        }
    }

    fn start_task(&mut self, group: &Group<'_>, task: &TaskId<'_>, counters: Option<Counts>) {
        if let Some(mut open) = self.open.remove(&group.tid) {
            if open.task_id == task.task_id && task.task_id >= 0 {
                self.open.insert(group.tid, open);
                return; // told again at the beginning of a segment
            }
            open.flags |= Flags::CLOSED_BY_NEXT;
            self.settle(open, group, TaskOutcome::UNKNOWN, counters.as_ref());
        }
        let mut started = self.task_of(group, task);
        started.start_ns = Some(group.stamp.mono_ns);
        started.counters = counters.unwrap_or_default();
        started.was_followed_at_start = group.flags.contains(Flags::FOLLOWED);
        self.open.insert(group.tid, started);
    }

    fn end_task(
        &mut self,
        group: &Group<'_>,
        task: &TaskId<'_>,
        outcome: TaskOutcome,
        counters: Option<&Counts>,
    ) {
        let is_open = self.open.get(&group.tid).is_some_and(|open| open.task_id == task.task_id);
        if is_open && let Some(open) = self.open.remove(&group.tid) {
            self.settle(open, group, outcome, counters);
        } else if self.ended_tasks.get(&group.tid) != Some(&task.task_id) {
            // Its start is missing: it is known that it ran here, not what it did.
            let mut ended = self.task_of(group, task);
            ended.end_ns = Some(group.stamp.mono_ns);
            ended.outcome = outcome;
            self.ended_tasks.insert(group.tid, task.task_id);
            self.settled.tasks.push(ended);
        }
    }

    /// Ends a task, by its own end record or by whatever else shows that it ended.
    fn settle(
        &mut self,
        mut task: Task,
        group: &Group<'_>,
        outcome: TaskOutcome,
        counters: Option<&Counts>,
    ) {
        task.end_ns = Some(group.stamp.mono_ns);
        task.outcome = outcome;
        task.flags |= group.flags;
        if task.has_snapshots()
            && let (Some(thread), Some(counters)) = (self.living.get(&group.tid), counters)
        {
            let end = Snapshot::of(thread.tid, thread.flags, group.stamp.mono_ns, counters.clone());
            task.keep_end(end, &mut self.settled.snapshots);
        }
        task.measure(counters, group.flags.contains(Flags::FOLLOWED));
        self.ended_tasks.insert(group.tid, task.task_id);
        self.settled.tasks.push(task);
    }

    fn settle_thread(&mut self, mut thread: Thread) {
        self.ended.add(&thread.counters);
        if !thread.counters.known().is_empty() {
            thread.coverage = Coverage::of(thread.flags);
        }
        thread.coverage.apply(&mut thread.counters);
        self.coverages.insert(thread.coverage.name());
        self.settled.threads.push(thread);
    }

    /// Settles what is open, and says what the process came to; `is_whole` = no segment is missing.
    pub fn finish(&mut self, is_whole: bool) {
        // A task that is still open has done at least what its thread did since its start.
        for (tid, mut task) in std::mem::take(&mut self.open) {
            match self.living.get(&tid) {
                Some(thread) => {
                    task.flags |= thread.flags;
                    task.keep_last(&mut self.settled.snapshots);
                    let was_followed = thread.flags.contains(Flags::FOLLOWED);
                    task.measure(Some(&thread.counters), was_followed);
                }
                None => task.counters = Counts::default(),
            }
            self.settled.tasks.push(task);
        }
        for thread in std::mem::take(&mut self.living).into_values() {
            self.settle_thread(thread);
        }
        let mut in_directories = Counts::default();
        for mut directory in std::mem::take(&mut self.directories).into_values() {
            directory.counters.retain(MetricSet::class(Class::File));
            in_directories.add(&directory.counters);
            self.settled.directories.push(directory);
        }
        // All are lower bounds of the truth: a killed process's threads and directories may have been written after
        // the last total, and a missing segment's ended threads are in the total alone.
        self.counters = self.whole.clone();
        self.counters.raise_to(&self.ended);
        self.counters.raise_to(&in_directories);
        let all_are = |name| self.coverages.iter().all(|one| *one == name);
        self.coverage = if all_are(ENGINE_NONE) {
            Coverage::None
        } else if all_are(ENGINE_EXACT)
            && !self.whole_flags.contains(Flags::WAS_RELEASED)
            && is_whole
        {
            Coverage::Exact
        } else {
            Coverage::Partial
        };
        self.coverage.apply(&mut self.counters);
    }

    fn task_of(&mut self, group: &Group<'_>, task: &TaskId<'_>) -> Task {
        let task = Task::begin(group.tid, task, group.flags);
        self.application.take(task.application_id.as_deref());
        self.executor.take(task.executor_id.as_deref());
        task
    }
}
