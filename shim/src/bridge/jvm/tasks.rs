//! Which task runs on which thread: opened and closed by the bridge's two sources.
//!
//! # Design
//!
//! Breakpoints ([`super::agent`]) are the preferred source: they name the task. The short name that a
//! pool thread is given (`pthread_setname_np`, see [`guest::task_name`]) is the check on it: a task that
//! is announced by name and never seen by its breakpoint, or that is still open when the next one is
//! announced, says that the breakpoints are gone. They are then set again, a notice is written, and
//! until a breakpoint is reached tasks are opened by name, without identity. Where there never were
//! breakpoints, all tasks are.
//!
//! A new pool thread gets the name twice: when it starts, and with its first task. The first one is
//! therefore no task.

use super::breakpoints;
use crate::record::{
    task,
    thread::{OpenTask, Thread},
    threads,
};
use core::sync::atomic::{AtomicBool, Ordering};
use guest::task_name::{self, PoolName, TaskName};
use records::{Flags, TaskMethod, TaskOutcome, notice};

const NAMELESS: TaskName =
    TaskName { stage: -1, stage_attempt: -1, index: -1, attempt: -1, task_id: -1 };

/// Threads tell their full names: what they are called in short says nothing new.
static FULL_NAMES: AtomicBool = AtomicBool::new(false);

/// Breakpoints are not to be set: threads tell their full names from now on.
pub fn full_names_available() {
    FULL_NAMES.store(true, Ordering::Relaxed);
}

/// A start breakpoint was reached on this thread, whose full Java name this is.
pub fn started(java_name: &[u8]) {
    starts(java_name, TaskMethod::BREAKPOINT);
}

/// This thread was named so.
pub fn started_by_name(java_name: &[u8]) {
    starts(java_name, TaskMethod::THREAD_NAME);
}

fn starts(java_name: &[u8], method: TaskMethod) {
    let Some(name) = task_name::parse(java_name) else { return };
    let Some(thread) = threads::current() else { return };
    let state = &thread.tasks;
    state.announced.set(false);
    state.in_pool.set(true);
    let late = match state.open() {
        Some(open) if open.name.task_id == name.task_id => return,
        Some(open) => open.method != method,
        None => false,
    };
    task::close(thread, TaskOutcome::UNKNOWN, Flags::CLOSED_BY_NEXT);
    let flags = if late { Flags::LATE } else { Flags::NONE };
    task::open(thread, OpenTask { name, method }, flags);
}

/// The runner of this thread's task is about to return.
pub fn returned() {
    if let Some(thread) = threads::current() {
        task::close(thread, TaskOutcome::RETURNED, Flags::NONE);
    }
}

/// The runner of this thread's task executes a throw. Most are caught in the same method, so the task
/// goes on until it returns or the thread shows that it did not.
pub fn threw() {
    if let Some(thread) = threads::current() {
        thread.tasks.note_throw();
    }
}

/// The thread gives itself a name (at most 15 bytes).
pub fn named(thread: &Thread, short_name: &[u8]) {
    match task_name::pool_name(short_name) {
        Some(PoolName::Launch) => announced(thread),
        Some(PoolName::Idle) => {
            if matches!(thread.tasks.open(), Some(OpenTask { method: TaskMethod::THREAD_NAME, .. }))
            {
                task::close(thread, TaskOutcome::UNKNOWN, Flags::NONE);
            }
        }
        None => {}
    }
}

fn announced(thread: &Thread) {
    if FULL_NAMES.load(Ordering::Relaxed) {
        return;
    }
    if !thread.tasks.in_pool.replace(true) {
        return;
    }
    let missed_start = thread.tasks.announced.replace(true);
    let missed_end = thread.tasks.open().is_some();
    task::close(thread, TaskOutcome::UNKNOWN, Flags::CLOSED_BY_NEXT);
    if breakpoints::are_set() {
        if !missed_start && !missed_end {
            return;
        }
        threads::notice(
            notice::TASK_LATE,
            0,
            format_args!("breakpoints vanished (class redefined?); setting them again"),
        );
        breakpoints::rearm();
    }
    thread.tasks.announced.set(false);
    task::open(thread, OpenTask { name: NAMELESS, method: TaskMethod::THREAD_NAME }, Flags::NONE);
}
