//! From events to groups: the queue between the application's threads and the ticker.
//!
//! # Design
//!
//! An application thread never writes to a file. It encodes its group into a queue, under the one lock of
//! the recorder, and the ticker ([`crate::record::helper`]) writes it: a slow or dead disk delays nobody. What
//! must be on its way to disk before the process goes on (exec, exit) waits for the ticker, a limited
//! time; so does a thread whose start, end or task finds the queue filling up, because the ticker has not had a processor.
//! The list of live threads is under the same lock, so that totals are consistent with the
//! groups before them.

use crate::{
    base::{clock, heap, lock::Lock, sys},
    client::tracer,
    entry::process,
    record::{
        directories, helper,
        threads::{self, Shared, Values},
    },
};
use alloc::vec::Vec;
use core::ffi::CStr;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use guest::{budget::Weight, directory_table::DIRECTORIES};
use records::{
    Event, Flags, MAX_GROUP_BYTES, METRIC_COUNT, ProcessEndReason, Stamp, TaskId, TaskMethod,
    TaskOutcome, encode_group, notice,
};

/// Bytes that may wait for the ticker before threads wait too. Where the ticker has no processor they give up waiting, and
/// the queue grows on, to [`heap::queue_bytes`]. What does not fit is counted and told in a notice.
const QUEUE_BYTES: usize = 512 * 1024;
/// It grows by so much.
const QUEUE_STEP: usize = QUEUE_BYTES / 8;
/// From here on the ticker is woken for anything.
const QUEUE_HIGH: usize = QUEUE_BYTES / 4;
/// Longer paths of programs are clipped.
const LONGEST_PATH: usize = 224;
/// From here on threads wait for the ticker before what must not be lost.
const QUEUE_FILLING: usize = QUEUE_BYTES / 2;
/// From here on nothing of the kind is put into it.
const QUEUE_NEARLY_FULL: usize = QUEUE_BYTES - QUEUE_BYTES / 8;
/// How long they wait; when that was in vain nobody does until the ticker has come.
const ROOM_NS: u64 = 200_000_000;
/// Directories that a periodic snapshot tells: 16 KB. Those that wait longest come first.
const DIRECTORIES_PER_TICK: usize = 32;

/// The queue is filling up.
static FILLING: AtomicBool = AtomicBool::new(false);
/// Bytes of whole groups in the queue.
static WHOLE: AtomicUsize = AtomicUsize::new(0);
/// Somebody has waited in vain.
static STUCK: AtomicBool = AtomicBool::new(false);

/// One group in the queue: its weight and length before its bytes.
const ENTRY_HEADER: usize = 4;

struct Live {
    thread: &'static Shared,
    /// What is written of it: [`fingerprint`].
    written: u64,
}

/// Values that differ have different ones, but for one case in 2^64: whole values would take as much memory as the
/// counters themselves.
fn fingerprint(values: &Values) -> u64 {
    /// Odd, and large in all places (the golden ratio).
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    values.iter().fold(0, |sum: u64, value| (sum.rotate_left(5) ^ value).wrapping_mul(FACTOR))
}

struct State {
    open: bool,
    queue: Vec<u8>,
    dropped: u64,
    sequence: u32,
    live: Vec<Live>,
    /// Where in it the next periodic snapshot begins.
    next_snapshot: usize,
    ended: Values,
    total_written: Values,
    ended_flags: Flags,
    told_other_directories: bool,
    /// The tasks that run now, where the threads that they start are theirs.
    tasks: Vec<TaskId<'static>>,
}

static STATE: Lock<State> = Lock::new(State {
    open: false,
    queue: Vec::new(),
    dropped: 0,
    sequence: 0,
    live: Vec::new(),
    next_snapshot: 0,
    ended: [0; METRIC_COUNT],
    total_written: [0; METRIC_COUNT],
    ended_flags: Flags::NONE,
    told_other_directories: false,
    tasks: Vec::new(),
});

impl State {
    /// Encodes a group into the queue; whether the ticker should be woken.
    fn put(
        &mut self,
        weight: Weight,
        tid: u32,
        flags: Flags,
        event: &Event<'_>,
        values: Option<&Values>,
        stamp: Stamp,
    ) -> bool {
        if !self.open {
            return false;
        }
        let start = self.queue.len();
        if start + ENTRY_HEADER + MAX_GROUP_BYTES > heap::queue_bytes() && weight != Weight::Last {
            self.dropped += 1;
            return true;
        }
        // Not doubled: the heap may be little larger.
        let needed = start + ENTRY_HEADER + MAX_GROUP_BYTES;
        if needed > self.queue.capacity()
            && self.queue.try_reserve_exact(QUEUE_STEP + needed - start).is_err()
        {
            self.dropped += 1;
            return true;
        }
        self.queue.resize(start + ENTRY_HEADER + MAX_GROUP_BYTES, 0);
        let group = &mut self.queue[start + ENTRY_HEADER..];
        let length = encode_group(group, self.sequence, stamp, tid, flags, event, values)
            .unwrap_or_default();
        self.sequence = self.sequence.wrapping_add(1);
        self.queue[start] = weight as u8;
        self.queue[start + 2..start + 4].copy_from_slice(&(length as u16).to_le_bytes());
        self.queue.truncate(start + ENTRY_HEADER + length);
        if self.queue.len() > QUEUE_FILLING {
            FILLING.store(true, Ordering::Relaxed);
        }
        WHOLE.store(self.queue.len(), Ordering::Release);
        self.queue.len() > QUEUE_HIGH
    }

    fn totals(&self) -> (Values, Flags) {
        let mut values = self.ended;
        add(&mut values, &threads::after_end());
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
    fn snapshots(&mut self, weight: Weight, extra: Flags, all: bool, directories: usize) {
        let stamp = clock::stamp();
        // First: what is in them is in the process's total then.
        for one in directories::changed(directories) {
            if one.is_other() && !core::mem::replace(&mut self.told_other_directories, true) {
                let a = DIRECTORIES as u64;
                let text = b"directories: the rest counts for one";
                let event = Event::Notice { code: notice::TABLE_FULL, a, b: 0, text };
                self.put(Weight::Major, 0, Flags::NONE, &event, None, stamp);
            }
            let path = directories::redacted(&one);
            let event = Event::Directory { number: one.number, path: &path };
            let clipped = if one.is_clipped { Flags::CLIPPED } else { Flags::NONE };
            self.put(weight, 0, extra | clipped, &event, Some(&one.values), stamp);
        }
        // Where there are too many at a time the rest comes with the next snapshot: what ends must find room.
        let rotated = if weight == Weight::Periodic { self.next_snapshot } else { 0 };
        for turn in 0..self.live.len() {
            let index = (rotated + turn) % self.live.len();
            if weight == Weight::Periodic && self.queue.len() > QUEUE_HIGH {
                self.next_snapshot = index;
                break;
            }
            let live = &mut self.live[index];
            let values = live.thread.values();
            let print = fingerprint(&values);
            if all || print != live.written {
                live.written = print;
                let (tid, flags) = (live.thread.tid, live.thread.flags() | extra);
                self.put(weight, tid, flags, &Event::Snapshot, Some(&values), stamp);
            }
        }
        let (values, flags) = self.totals();
        if all || values != self.total_written {
            self.total_written = values;
            self.put(weight, 0, flags | extra, &Event::Snapshot, Some(&values), stamp);
        }
    }

    /// If a task has started this thread: what it has done until now is the task's.
    fn end_task_thread(&mut self, index: usize) {
        let thread = self.live[index].thread;
        let number = thread.of_task.swap(0, Ordering::Relaxed);
        let Some(task) = self.task(number) else { return };
        let task = TaskId { method: TaskMethod::TASK_THREAD, ..task };
        let event = Event::TaskEnd { task, outcome: TaskOutcome::UNKNOWN };
        let (values, flags) = (thread.values(), thread.flags());
        self.put(Weight::Major, thread.tid, flags, &event, Some(&values), clock::stamp());
    }

    /// The open task of this number ([`Shared::of_task`]).
    fn task(&self, number: u64) -> Option<TaskId<'static>> {
        self.tasks.iter().find(|task| task_number(task.task_id) == number).copied()
    }

    fn end(&mut self, index: usize) -> &'static Shared {
        self.end_task_thread(index);
        let thread = self.live.swap_remove(index).thread;
        let values = thread.values();
        add(&mut self.ended, &values);
        let flags = thread.flags();
        if flags.contains(Flags::WAS_RELEASED) {
            self.ended_flags |= Flags::WAS_RELEASED;
        }
        let flags = flags | Flags::FINAL;
        self.put(
            Weight::Major,
            thread.tid,
            flags,
            &Event::ThreadEnd,
            Some(&values),
            clock::stamp(),
        );
        thread
    }
}

fn add(to: &mut Values, from: &Values) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = to.wrapping_add(*from);
    }
}

/// As [`locked`], for what must not be lost.
fn with_room(body: impl FnOnce(&mut State) -> bool) {
    let mut body = Some(body);
    while body.is_some() {
        make_room();
        // Thousands may have waited for the same moment.
        let mut once = |state: &mut State| {
            let is_in_vain = STUCK.load(Ordering::Relaxed) || !state.open;
            if state.queue.len() > QUEUE_NEARLY_FULL && !is_in_vain {
                return true;
            }
            body.take().is_some_and(|body| body(state))
        };
        match STATE.with(&mut once) {
            Some(true) => helper::wake(),
            Some(false) => {}
            None => return,
        }
    }
}

/// Waits for the ticker if the queue is filling up. Not to be called by the ticker, or with the lock held.
fn make_room() {
    if FILLING.load(Ordering::Relaxed) && !STUCK.load(Ordering::Relaxed) && !helper::flush(ROOM_NS)
    {
        STUCK.store(true, Ordering::Relaxed);
    }
}

fn locked(body: impl FnOnce(&mut State) -> bool) {
    if STATE.with(body) == Some(true) {
        helper::wake();
    }
}

/// Starts taking events.
pub fn open() {
    STATE.with(|state| state.open = true);
}

/// A thread counts its first event. Whether it is listed from now on: not where there is no memory for it.
pub fn thread_starts(thread: &'static Shared) -> bool {
    let mut name = [0u8; 16];
    sys::thread_name(&mut name);
    let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    let mut is_listed = true;
    with_room(|state| {
        if state.live.try_reserve(1).is_err() {
            is_listed = false;
            return false;
        }
        state.live.push(Live { thread, written: fingerprint(&[0; METRIC_COUNT]) });
        let event = Event::ThreadStart { name: &name[..length] };
        state.put(Weight::Minor, thread.tid, thread.flags(), &event, None, clock::stamp())
    });
    is_listed
}

/// A thread ends.
pub fn thread_ends(thread: &'static Shared) {
    with_room(|state| {
        match state.live.iter().position(|live| core::ptr::eq(live.thread, thread)) {
            Some(index) => {
                state.end(index);
                false
            }
            None => false,
        }
    });
}

/// Ends the threads that do not exist any more although they never said so.
pub fn end_vanished() {
    let process = process::identity().pid();
    STATE.with(|state| {
        let mut index = 0;
        while index < state.live.len() {
            let tid = state.live[index].thread.tid;
            // A process that shares the memory is followed as a thread, and is the first one of its own.
            if sys::thread_exists(process, tid) || sys::thread_exists(tid, tid) {
                index += 1;
            } else {
                let thread = state.end(index);
                tracer::thread_vanished(thread);
            }
        }
    });
}

/// Something happened on a thread.
pub fn thread_event(thread: &Shared, flags: Flags, event: &Event<'_>) {
    let flags = flags | thread.flags();
    with_room(|state| {
        let values = thread.values();
        state.put(Weight::Major, thread.tid, flags, event, Some(&values), clock::stamp())
    });
}

/// Something is known to have happened on a thread at a moment before this.
pub fn event_of_moment(tid: u32, flags: Flags, event: &Event<'_>, values: &Values, stamp: Stamp) {
    with_room(|state| state.put(Weight::Major, tid, flags, event, Some(values), stamp));
}

/// The number of a task in [`Shared::of_task`]; 0 = it has no identity.
pub fn task_number(task_id: i64) -> u64 {
    u64::try_from(task_id + 1).unwrap_or_default()
}

/// A task has begun; the threads that it starts are to be its.
pub fn task_opens(task: TaskId<'static>) {
    STATE.with(|state| {
        if state.tasks.try_reserve(1).is_ok() {
            state.tasks.push(task);
        }
    });
}

/// A task is about to end: what its threads have done until now is its, what they do later is not.
pub fn task_closes(task_id: i64) {
    let number = task_number(task_id);
    with_room(|state| {
        for index in 0..state.live.len() {
            if state.live[index].thread.of_task.load(Ordering::Relaxed) == number {
                state.end_task_thread(index);
            }
        }
        state.tasks.retain(|task| task.task_id != task_id);
        false
    });
}

/// Whether the task of this number runs.
pub fn is_task_open(number: u64) -> bool {
    number != 0 && STATE.with(|state| state.task(number).is_some()) == Some(true)
}

/// A thread begins that the task of this number has started.
pub fn task_thread_starts(thread: &'static Shared, number: u64) {
    with_room(|state| {
        let Some(task) = state.task(number) else { return false };
        thread.of_task.store(number, Ordering::Relaxed);
        let event = Event::TaskStart(TaskId { method: TaskMethod::TASK_THREAD, ..task });
        let (values, flags) = (thread.values(), thread.flags());
        state.put(Weight::Major, thread.tid, flags, &event, Some(&values), clock::stamp())
    });
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
    let mut buffer = Text { bytes: [0; 200], used: 0 };
    let _ = buffer.write_fmt(text);
    let text = &buffer.bytes[..buffer.used];
    STATE.try_with(|state| {
        let event = Event::Notice { code: notice::ENGINE_UNAVAILABLE, a: 0, b: 0, text };
        state.put(Weight::Last, 0, Flags::NONE, &event, None, clock::stamp());
    });
}

fn put_notice(weight: Weight, tid: u32, code: u16, a: u64, b: u64, text: fmt::Arguments<'_>) {
    let mut buffer = Text { bytes: [0; 200], used: 0 };
    let _ = buffer.write_fmt(text);
    locked(|state| {
        let event = Event::Notice { code, a, b, text: &buffer.bytes[..buffer.used] };
        state.put(weight, tid, Flags::NONE, &event, None, clock::stamp())
    });
}

struct Text {
    bytes: [u8; 200],
    used: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let take = text.len().min(self.bytes.len() - self.used);
        self.bytes[self.used..self.used + take].copy_from_slice(&text.as_bytes()[..take]);
        self.used += take;
        Ok(())
    }
}

/// The process image is about to be replaced: everything counted so far is written before.
pub fn before_exec(path: &[u8]) {
    let told = process::identity().redacted(path);
    locked(|state| {
        state.snapshots(Weight::Major, Flags::NONE, false, usize::MAX);
        let (tid, exec) = (tracer::own_tid(), Event::Exec { path: &told });
        state.put(Weight::Major, tid, Flags::NONE, &exec, None, clock::stamp())
    });
    // Else the call will fail: a search along PATH.
    if path.is_empty() || path.len() >= LONGEST_PATH || names_something(path) {
        helper::before_exec();
    }
}

fn names_something(path: &[u8]) -> bool {
    let mut name = [0u8; LONGEST_PATH];
    name[..path.len()].copy_from_slice(path);
    CStr::from_bytes_until_nul(&name).is_ok_and(|name| sys::stat(name).is_some())
}

/// A filter may forbid to map memory from now on: the queue gets its room before.
pub fn make_room_for_good() {
    STATE.with(|state| {
        let _ = state.queue.try_reserve_exact(QUEUE_HIGH);
    });
}

/// The last values of all threads are written: nothing is counted from here on.
pub fn give_up() {
    locked(|state| {
        state.snapshots(Weight::Major, Flags::NONE, true, usize::MAX);
        true
    });
    helper::finish();
}

/// A child was started by posix_spawn, or by vfork and exec.
pub fn spawned(pid: u32, path: &[u8]) {
    child(&Event::Spawn { pid, fork: 0, path: &process::identity().redacted(path) });
}

/// A child was made by fork; the number of that fork.
pub fn forked(pid: u32, number: u32) {
    child(&Event::Spawn { pid, fork: number, path: b"" });
}

fn child(event: &Event<'_>) {
    with_room(|state| {
        let tid = tracer::own_tid();
        state.put(Weight::Major, tid, Flags::NONE, event, None, clock::stamp())
    });
}

/// The process is about to end: last snapshots and totals are on their way to disk, then nothing more.
pub fn process_ends(reason: ProcessEndReason, status: i32) {
    make_room();
    if put_process_end(reason, status) {
        helper::finish();
    }
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
        state.put(Weight::Last, 0, flags, &event, Some(&values), clock::stamp());
        state.open = false;
        true
    });
    put == Some(true)
}

/// Whether groups wait in the queue.
pub fn has_waiting() -> bool {
    WHOLE.load(Ordering::Relaxed) > 0
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
        // Longer: a thread was killed while it put a group there.
        state.queue.truncate(WHOLE.load(Ordering::Acquire));
        if state.dropped > 0 && state.open {
            let a = core::mem::take(&mut state.dropped);
            let event =
                Event::Notice { code: notice::TABLE_FULL, a, b: 0, text: b"queue of records" };
            state.put(Weight::Last, 0, Flags::NONE, &event, None, clock::stamp());
        }
        let middle = state.queue.len();
        if begin_segment {
            let was_open = core::mem::replace(&mut state.open, true);
            // The segment has them by and by, and those that changed at the end.
            directories::tell_again();
            state.snapshots(Weight::Last, Flags::FIRST_OF_SEGMENT, true, 0);
            state.open = was_open;
        }
        core::mem::swap(&mut state.queue, into);
        state.queue.clear();
        WHOLE.store(0, Ordering::Release);
        FILLING.store(false, Ordering::Relaxed);
        STUCK.store(false, Ordering::Relaxed);
        middle
    };
    STATE.with(&mut take).or_else(|| STATE.try_with(&mut take)).unwrap_or(0)
}

/// The entries of a drained queue.
pub fn entries(mut queue: &[u8]) -> impl Iterator<Item = (Weight, &[u8])> {
    core::iter::from_fn(move || {
        let (header, rest) = queue.split_at_checked(ENTRY_HEADER)?;
        let length = usize::from(u16::from_le_bytes([header[2], header[3]]));
        let weight = match header[0] {
            0 => Weight::Periodic,
            1 => Weight::Minor,
            2 => Weight::Major,
            _ => Weight::Last,
        };
        let (group, rest) = rest.split_at_checked(length)?;
        queue = rest;
        Some((weight, group))
    })
}

/// In a child of fork: forgets the parent's threads and what waited in its queue.
pub fn after_fork_in_child() {
    // SAFETY: the child has one thread, and it is not inside the lock: signals are blocked there, and fork
    // is not called there. What another thread left half done is replaced as a whole.
    unsafe { STATE.reset() };
    STATE.with(|state| {
        // The vectors may have been half changed by a thread that does not exist here: left alone.
        core::mem::forget(core::mem::take(&mut state.queue));
        core::mem::forget(core::mem::take(&mut state.live));
        state.open = true;
        state.dropped = 0;
        WHOLE.store(0, Ordering::Relaxed);
        FILLING.store(false, Ordering::Relaxed);
        STUCK.store(false, Ordering::Relaxed);
        state.sequence = 0;
        state.ended = [0; METRIC_COUNT];
        state.total_written = [0; METRIC_COUNT];
        state.ended_flags = Flags::NONE;
        state.told_other_directories = false;
        core::mem::forget(core::mem::take(&mut state.tasks));
    });
}
