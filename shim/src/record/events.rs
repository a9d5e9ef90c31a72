//! What happens, on its way into the queue: what must not be lost waits there for the helper.
//!
//! # Design
//!
//! What must be on its way to disk before the process goes on (exec, exit) waits for the helper, a limited
//! time; so does a thread whose start, end or task finds the queue filling up, because the helper has not had a processor.

use crate::{
    base::{clock, file, ids, sys},
    process,
    record::{
        counters::{Shared, Values},
        helper, helper_state,
        queue::{self, Group},
        recorder::{self, Live, State},
    },
};
use core::{ffi::CStr, sync::atomic::Ordering};
use guest::budget::Weight;
use records::{Event, Flags, ProcessEndReason, Stamp, TaskId, TaskMethod};

/// How long threads wait for room; when that was in vain nobody does until the helper has come.
const ROOM_NS: u64 = 200_000_000;
/// Longer paths of programs are clipped.
const LONGEST_PATH: usize = 224;

/// As [`recorder::locked`], for what must not be lost.
fn with_room(body: impl FnOnce(&mut State) -> bool) {
    let mut body = Some(body);
    while body.is_some() {
        make_room();
        // Thousands may have waited for the same moment.
        let mut once = |state: &mut State| {
            let is_in_vain = queue::is_stuck() || !state.open;
            if state.queue.is_nearly_full() && !is_in_vain {
                return true;
            }
            body.take().is_some_and(|body| body(state))
        };
        match recorder::STATE.with(&mut once) {
            Some(true) => helper_state::wake(),
            Some(false) => {}
            None => return,
        }
    }
}

/// Waits for the helper if the queue is filling up. Not to be called by the helper, or with the lock held.
fn make_room() {
    if queue::is_filling() && !helper::flush(ROOM_NS) {
        queue::set_stuck();
    }
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
        state.live.push(Live::new(thread));
        let event = Event::ThreadStart { name: &name[..length] };
        let (weight, tid, flags) = (Weight::Minor, thread.tid, thread.flags());
        state.put(&Group { weight, tid, flags, event: &event, values: None, stamp: clock::stamp() })
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

/// Something happened on a thread.
pub fn thread_event(thread: &Shared, flags: Flags, event: &Event<'_>) {
    with_room(|state| state.put_with_values(thread, flags, event));
}

/// Something is known to have happened on a thread at a moment before this.
pub fn event_of_moment(tid: u32, flags: Flags, event: &Event<'_>, values: &Values, stamp: Stamp) {
    let (weight, values) = (Weight::Major, Some(values));
    with_room(|state| state.put(&Group { weight, tid, flags, event, values, stamp }));
}

/// A task is about to end: what its threads have done until now is its, what they do later is not.
pub fn task_closes(task_id: i64) {
    let number = recorder::task_number(task_id);
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

/// A thread begins that the task of this number has started.
pub fn task_thread_starts(thread: &'static Shared, number: u64) {
    with_room(|state| {
        let Some(task) = state.task(number) else { return false };
        thread.of_task.store(number, Ordering::Relaxed);
        let event = Event::TaskStart(TaskId { method: TaskMethod::TASK_THREAD, ..task });
        state.put_with_values(thread, Flags::NONE, &event)
    });
}

/// The process image is about to be replaced: everything counted so far is written before.
pub fn before_exec(path: &[u8]) {
    let told = process::identity().redacted(path);
    recorder::locked(|state| {
        state.snapshots(Weight::Major, Flags::NONE, false, usize::MAX);
        state.put_event(Weight::Major, ids::own_tid(), &Event::Exec { path: &told })
    });
    // Else the call will fail: a search along PATH.
    if path.is_empty() || path.len() >= LONGEST_PATH || names_something(path) {
        helper::before_exec();
    }
}

fn names_something(path: &[u8]) -> bool {
    let mut name = [0u8; LONGEST_PATH];
    name[..path.len()].copy_from_slice(path);
    CStr::from_bytes_until_nul(&name).is_ok_and(|name| file::stat(name).is_some())
}

/// The last values of all threads are written: nothing is counted from here on.
pub fn give_up() {
    recorder::locked(|state| {
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
    with_room(|state| state.put_event(Weight::Major, ids::own_tid(), event));
}

/// The process is about to end: last snapshots and totals are on their way to disk, then nothing more.
pub fn process_ends(reason: ProcessEndReason, status: i32) {
    make_room();
    if recorder::put_process_end(reason, status) {
        helper::finish();
    }
}
