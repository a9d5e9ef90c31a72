//! The recorder: from events to groups in a queue.
//!
//! # Design
//!
//! An application thread never writes to a file. It encodes its group into a queue, under the one lock of
//! the recorder, and the helper ([`crate::record::helper`]) writes it: a slow or dead disk delays nobody.
//! The list of live threads is under the same lock, so that totals are consistent with the
//! groups before them.
//!
//! Nothing here waits: who has to wait for room comes through [`crate::record::events`].

use crate::{
    base::{clock, ids, lock::Lock, text::Text},
    process,
    record::{
        counters::{self, Shared, Values},
        directories, helper_state,
        queue::{self, Group, Queue},
    },
};
use alloc::vec::Vec;
use core::{fmt, sync::atomic::Ordering};
use guest::{budget::Weight, directory_table::DIRECTORIES};
use records::{
    Event, Flags, METRIC_COUNT, ProcessEndReason, TaskId, TaskMethod, TaskOutcome, notice,
};

/// Bytes of a notice's text.
const TEXT_BYTES: usize = 200;
/// Directories that a periodic snapshot tells: 16 KB. Those that wait longest come first.
const DIRECTORIES_PER_TICK: usize = 32;

/// A thread that lives.
pub(super) struct Live {
    /// What others may look at of it: it is taken off the list before its memory is freed.
    pub thread: &'static Shared,
    /// What is written of it: [`fingerprint`].
    written: u64,
}

impl Live {
    /// Nothing is written of it yet.
    pub fn new(thread: &'static Shared) -> Live {
        Live { thread, written: fingerprint(&[0; METRIC_COUNT]) }
    }
}

/// Values that differ have different ones, but for one case in 2^64: whole values would take as much memory as the
/// counters themselves.
fn fingerprint(values: &Values) -> u64 {
    /// Odd, and large in all places (the golden ratio).
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    values.iter().fold(0, |sum: u64, value| (sum.rotate_left(5) ^ value).wrapping_mul(FACTOR))
}

/// What is under the recorder's lock.
pub(super) struct State {
    /// Events are taken.
    pub open: bool,
    pub queue: Queue,
    pub live: Vec<Live>,
    /// Where in it the next periodic snapshot begins.
    next_snapshot: usize,
    ended: Values,
    total_written: Values,
    ended_flags: Flags,
    told_other_directories: bool,
    /// The tasks that run now, where the threads that they start are theirs.
    pub tasks: Vec<TaskId<'static>>,
}

pub(super) static STATE: Lock<State> = Lock::new(State {
    open: false,
    queue: Queue::new(),
    live: Vec::new(),
    next_snapshot: 0,
    ended: [0; METRIC_COUNT],
    total_written: [0; METRIC_COUNT],
    ended_flags: Flags::NONE,
    told_other_directories: false,
    tasks: Vec::new(),
});

impl State {
    /// Puts a group into the queue; whether the helper should be woken.
    pub fn put(&mut self, group: &Group<'_>) -> bool {
        self.open && self.queue.put(group)
    }

    /// The same of an event of this moment without values, of a thread or (0) of the process.
    pub fn put_event(&mut self, weight: Weight, tid: u32, event: &Event<'_>) -> bool {
        let (flags, stamp) = (Flags::NONE, clock::stamp());
        self.put(&Group { weight, tid, flags, event, values: None, stamp })
    }

    /// The same of what happens now on a thread, with its counters.
    pub fn put_with_values(&mut self, thread: &Shared, flags: Flags, event: &Event<'_>) -> bool {
        let (weight, values, stamp) = (Weight::Major, thread.values(), clock::stamp());
        let flags = flags | thread.flags();
        self.put(&Group { weight, tid: thread.tid, flags, event, values: Some(&values), stamp })
    }

    fn totals(&self) -> (Values, Flags) {
        let mut values = self.ended;
        add(&mut values, &counters::after_end());
        let mut flags = self.ended_flags;
        let mut followed = !self.live.is_empty();
        for live in &self.live {
            add(&mut values, &live.thread.values());
            let of_thread = live.thread.flags();
            followed &= of_thread.contains(Flags::FOLLOWED);
            if of_thread.contains(Flags::WAS_RELEASED) {
                flags |= Flags::WAS_RELEASED;
            }
        }
        if followed {
            flags |= Flags::FOLLOWED;
        }
        (values, flags)
    }

    /// Snapshots of the directories that changed, at most so many, of the threads that counted something since
    /// their last one (or of all), then of the process.
    pub fn snapshots(&mut self, weight: Weight, extra: Flags, all: bool, directories: usize) {
        let stamp = clock::stamp();
        // First: what is in them is in the process's total then.
        for one in directories::changed(directories) {
            if one.is_other() && !core::mem::replace(&mut self.told_other_directories, true) {
                let a = DIRECTORIES as u64;
                let text = b"directories: the rest counts for one";
                let event = Event::Notice { code: notice::TABLE_FULL, a, b: 0, text };
                let (weight, flags, event) = (Weight::Major, Flags::NONE, &event);
                self.put(&Group { weight, tid: 0, flags, event, values: None, stamp });
            }
            let path = directories::redacted(&one);
            let event = Event::Directory { number: one.number, path: &path };
            let clipped = if one.is_clipped { Flags::CLIPPED } else { Flags::NONE };
            let (flags, values) = (extra | clipped, Some(&one.values));
            self.put(&Group { weight, tid: 0, flags, event: &event, values, stamp });
        }
        // Where there are too many at a time the rest comes with the next snapshot: what ends must find room.
        let rotated = if weight == Weight::Periodic { self.next_snapshot } else { 0 };
        for turn in 0..self.live.len() {
            let index = (rotated + turn) % self.live.len();
            if weight == Weight::Periodic && self.queue.is_high() {
                self.next_snapshot = index;
                break;
            }
            let live = &mut self.live[index];
            let values = live.thread.values();
            let print = fingerprint(&values);
            if all || print != live.written {
                live.written = print;
                let (tid, flags) = (live.thread.tid, live.thread.flags() | extra);
                let (event, values) = (&Event::Snapshot, Some(&values));
                self.put(&Group { weight, tid, flags, event, values, stamp });
            }
        }
        let (values, flags) = self.totals();
        if all || values != self.total_written {
            self.total_written = values;
            let (flags, event, values) = (flags | extra, &Event::Snapshot, Some(&values));
            self.put(&Group { weight, tid: 0, flags, event, values, stamp });
        }
    }

    /// If a task has started this thread: what it has done until now is the task's.
    pub fn end_task_thread(&mut self, index: usize) {
        let thread = self.live[index].thread;
        let number = thread.of_task.swap(0, Ordering::Relaxed);
        let Some(task) = self.task(number) else { return };
        let task = TaskId { method: TaskMethod::TASK_THREAD, ..task };
        let event = Event::TaskEnd { task, outcome: TaskOutcome::UNKNOWN };
        self.put_with_values(thread, Flags::NONE, &event);
    }

    /// The open task of this number ([`Shared::of_task`]).
    pub fn task(&self, number: u64) -> Option<TaskId<'static>> {
        self.tasks.iter().find(|task| task_number(task.task_id) == number).copied()
    }

    /// Takes a thread off the list: its last values are written.
    pub fn end(&mut self, index: usize) -> &'static Shared {
        self.end_task_thread(index);
        let thread = self.live.swap_remove(index).thread;
        let values = thread.values();
        add(&mut self.ended, &values);
        let flags = thread.flags();
        if flags.contains(Flags::WAS_RELEASED) {
            self.ended_flags |= Flags::WAS_RELEASED;
        }
        let (weight, tid, flags) = (Weight::Major, thread.tid, flags | Flags::FINAL);
        let (event, values, stamp) = (&Event::ThreadEnd, Some(&values), clock::stamp());
        self.put(&Group { weight, tid, flags, event, values, stamp });
        thread
    }
}

fn add(to: &mut Values, from: &Values) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = to.wrapping_add(*from);
    }
}

/// Does something under the lock; wakes the helper if the answer is that it should be.
pub(super) fn locked(body: impl FnOnce(&mut State) -> bool) {
    if STATE.with(body) == Some(true) {
        helper_state::wake();
    }
}

/// Starts taking events.
pub fn open() {
    STATE.with(|state| state.open = true);
}

/// Ends the threads that do not exist any more although they never said so.
pub fn end_vanished() {
    let process = process::identity().pid();
    STATE.with(|state| {
        let mut index = 0;
        while index < state.live.len() {
            let tid = state.live[index].thread.tid;
            // A process that shares the memory is followed as a thread, and is the first one of its own.
            if ids::thread_exists(process, tid) || ids::thread_exists(tid, tid) {
                index += 1;
            } else {
                let thread = state.end(index);
                thread.forget_traced();
            }
        }
    });
}

/// The number of a task in [`Shared::of_task`]; 0 = it has no identity.
pub fn task_number(task_id: i64) -> u64 {
    u64::try_from(task_id + 1).unwrap_or_default()
}

/// A task has begun; the threads that it starts are to be its.
pub fn task_opens(task: TaskId<'static>) {
    let is_kept = STATE.with(|state| {
        let has_room = state.tasks.try_reserve(1).is_ok();
        if has_room {
            state.tasks.push(task);
        }
        has_room
    });
    if is_kept == Some(false) {
        notice(
            0,
            notice::TABLE_FULL,
            0,
            0,
            format_args!("no memory to keep what threads a task starts"),
        );
    }
}

/// Whether the task of this number runs.
pub fn is_task_open(number: u64) -> bool {
    number != 0 && STATE.with(|state| state.task(number).is_some()) == Some(true)
}

/// A notice about a thread (or tid 0, the process).
pub fn notice(tid: u32, code: u16, a: u64, b: u64, text: fmt::Arguments<'_>) {
    put_notice(Weight::Major, tid, code, a, b, text);
}

/// A notice that is written even past the size limits.
pub fn last_notice(code: u16, a: u64, text: fmt::Arguments<'_>) {
    put_notice(Weight::Last, 0, code, a, 0, text);
}

/// The last word before the library switches itself off, if nobody is in the recorder now.
pub fn farewell(text: fmt::Arguments<'_>) {
    let text = Text::<TEXT_BYTES>::new(text);
    STATE.try_with(|state| {
        let code = notice::ENGINE_UNAVAILABLE;
        let event = Event::Notice { code, a: 0, b: 0, text: text.as_bytes() };
        state.put_event(Weight::Last, 0, &event);
    });
}

fn put_notice(weight: Weight, tid: u32, code: u16, a: u64, b: u64, text: fmt::Arguments<'_>) {
    let text = Text::<TEXT_BYTES>::new(text);
    locked(|state| {
        state.put_event(weight, tid, &Event::Notice { code, a, b, text: text.as_bytes() })
    });
}

/// A filter may forbid to map memory from now on: the queue gets its room before.
pub fn make_room_for_good() {
    STATE.with(|state| state.queue.reserve());
}

/// Puts last snapshots, totals and the end into the queue and takes no more events; whether this call did.
pub fn put_process_end(reason: ProcessEndReason, status: i32) -> bool {
    let put = STATE.with(|state| {
        if !state.open {
            return false;
        }
        state.snapshots(Weight::Last, Flags::FINAL, false, usize::MAX);
        let (values, flags) = state.totals();
        let event = Event::ProcessEnd { reason, status };
        let flags = flags | Flags::FINAL;
        let (weight, values, stamp) = (Weight::Last, Some(&values), clock::stamp());
        state.put(&Group { weight, tid: 0, flags, event: &event, values, stamp });
        state.open = false;
        true
    });
    put == Some(true)
}

/// Periodic snapshots, into the queue.
pub fn tick() {
    STATE.with(|state| {
        if state.open {
            state.snapshots(Weight::Periodic, Flags::NONE, false, DIRECTORIES_PER_TICK);
        }
    });
}

/// Takes the queue's groups. With `begin_segment` they are followed by what begins a segment: snapshots of
/// all threads and the process; the second value says where that starts.
pub fn drain(into: &mut Vec<u8>, begin_segment: bool) -> usize {
    into.clear();
    let mut take = |state: &mut State| {
        state.queue.repair();
        if state.open {
            let count = state.queue.take_dropped();
            if count > 0 {
                state.put_event(Weight::Last, 0, &queue::dropped(count));
            }
        }
        let middle = state.queue.len();
        if begin_segment {
            let was_open = core::mem::replace(&mut state.open, true);
            // The segment has them by and by, and those that changed at the end.
            directories::tell_again();
            state.snapshots(Weight::Last, Flags::FIRST_OF_SEGMENT, true, 0);
            state.open = was_open;
        }
        state.queue.swap(into);
        middle
    };
    STATE.with(&mut take).or_else(|| STATE.try_with(&mut take)).unwrap_or(0)
}

/// In a child of fork: forgets the parent's threads and what waited in its queue.
pub fn after_fork_in_child() {
    // SAFETY: the child has one thread, and it is not inside the lock: signals are blocked there, and fork
    // is not called there. What another thread left half done is replaced as a whole.
    unsafe { STATE.reset() };
    STATE.with(|state| {
        // The vectors may have been half changed by a thread that does not exist here: left alone.
        state.queue.abandon();
        core::mem::forget(core::mem::take(&mut state.live));
        state.open = true;
        state.ended = [0; METRIC_COUNT];
        state.total_written = [0; METRIC_COUNT];
        state.ended_flags = Flags::NONE;
        state.told_other_directories = false;
        core::mem::forget(core::mem::take(&mut state.tasks));
    });
}
