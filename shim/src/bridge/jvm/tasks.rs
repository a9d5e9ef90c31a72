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

use super::{agent, application};
use crate::{
    client::tracer,
    entry::process,
    record::threads::{self, Thread},
};
use core::sync::atomic::{AtomicBool, Ordering};
use guest::task_name::{self, PoolName, TaskName};
use records::{Event, Flags, TaskId, TaskMethod, TaskOutcome, notice};

/// Whether breakpoints are set; until then, and where they cannot be, names are all there is.
static BREAKPOINTS: AtomicBool = AtomicBool::new(false);

/// What the bridge knows of one thread.
#[derive(Default)]
pub struct TaskState {
    open: Option<Open>,
    /// The thread got its pool name at its start.
    in_pool: bool,
    /// A task was announced by name and no breakpoint was reached since.
    announced: bool,
    /// A throw instruction of the open task's runner was executed.
    threw: bool,
}

/// A task that runs on the thread.
#[derive(Clone, Copy)]
struct Open {
    name: TaskName,
    method: TaskMethod,
}

const NAMELESS: TaskName =
    TaskName { stage: -1, stage_attempt: -1, index: -1, attempt: -1, task_id: -1 };

/// Threads tell their full names: what they are called in short says nothing new.
static FULL_NAMES: AtomicBool = AtomicBool::new(false);

/// Breakpoints are not to be set: threads tell their full names from now on.
pub fn full_names_available() {
    FULL_NAMES.store(true, Ordering::Relaxed);
}

/// Breakpoints work from now on.
pub fn breakpoints_available() {
    BREAKPOINTS.store(true, Ordering::Relaxed);
}

/// Breakpoints cannot be set; `step` failed with this JVMTI error.
pub fn breakpoints_unavailable(step: &str, error: i32) {
    BREAKPOINTS.store(false, Ordering::Relaxed);
    process::set_task_method(TaskMethod::THREAD_NAME);
    threads::notice(
        notice::TASK_DETECTION,
        error as u64,
        format_args!("{step}: JVMTI error {error}; tasks are noticed by thread names"),
    );
}

/// The breakpoints were set again after they had vanished; `error` is JVMTI's, 0 if all went well.
pub fn rearmed(error: i32) {
    if error == 0 {
        threads::notice(notice::TASK_DETECTION, 0, format_args!("breakpoints set again"));
    } else {
        breakpoints_unavailable("SetBreakpoint", error);
    }
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
    let state = &mut thread.tasks;
    state.announced = false;
    state.in_pool = true;
    let late = match state.open {
        Some(open) if open.name.task_id == name.task_id => return,
        Some(open) => open.method != method,
        None => false,
    };
    close(thread, TaskOutcome::UNKNOWN, Flags::CLOSED_BY_NEXT);
    let flags = if late { Flags::LATE } else { Flags::NONE };
    open(thread, Open { name, method }, flags);
}

/// The runner of this thread's task is about to return.
pub fn returned() {
    if let Some(thread) = threads::current() {
        close(thread, TaskOutcome::RETURNED, Flags::NONE);
    }
}

/// The runner of this thread's task executes a throw. Most are caught in the same method, so the task
/// goes on until it returns or the thread shows that it did not.
pub fn threw() {
    if let Some(thread) = threads::current() {
        thread.tasks.threw = true;
    }
}

/// The thread gives itself a name (at most 15 bytes).
pub fn named(thread: &mut Thread, short_name: &[u8]) {
    match task_name::pool_name(short_name) {
        Some(PoolName::Launch) => announced(thread),
        Some(PoolName::Idle) => {
            if matches!(thread.tasks.open, Some(Open { method: TaskMethod::THREAD_NAME, .. })) {
                close(thread, TaskOutcome::UNKNOWN, Flags::NONE);
            }
        }
        None => {}
    }
}

fn announced(thread: &mut Thread) {
    if FULL_NAMES.load(Ordering::Relaxed) {
        return;
    }
    if !core::mem::replace(&mut thread.tasks.in_pool, true) {
        return;
    }
    let missed_start = core::mem::replace(&mut thread.tasks.announced, true);
    let missed_end = thread.tasks.open.is_some();
    close(thread, TaskOutcome::UNKNOWN, Flags::CLOSED_BY_NEXT);
    if BREAKPOINTS.load(Ordering::Relaxed) {
        if !missed_start && !missed_end {
            return;
        }
        threads::notice(
            notice::TASK_LATE,
            0,
            format_args!("breakpoints vanished (class redefined?); setting them again"),
        );
        agent::rearm();
    }
    thread.tasks.announced = false;
    open(thread, Open { name: NAMELESS, method: TaskMethod::THREAD_NAME }, Flags::NONE);
}

/// The thread is about to end.
pub fn thread_ends(thread: &mut Thread) {
    close(thread, TaskOutcome::UNKNOWN, Flags::CLOSED_BY_THREAD_END);
}

fn open(thread: &mut Thread, task: Open, flags: Flags) {
    thread.tasks.open = Some(task);
    thread.tasks.threw = false;
    tracer::begin_task(thread.shared);
    let identity = identity(&task);
    thread.record(flags, &Event::TaskStart(identity));
    tracer::task_began(identity);
}

fn close(thread: &mut Thread, outcome: TaskOutcome, flags: Flags) {
    let Some(task) = thread.tasks.open.take() else { return };
    let outcome = match outcome {
        TaskOutcome::UNKNOWN if thread.tasks.threw => TaskOutcome::THREW,
        outcome => outcome,
    };
    let task = identity(&task);
    tracer::task_ends(task.task_id);
    thread.record(flags, &Event::TaskEnd { task, outcome });
    tracer::end_task(thread.shared);
}

/// The TID of the task that runs on this thread.
pub fn running(thread: &Thread) -> Option<i64> {
    thread.tasks.open.map(|task| task.name.task_id).filter(|&task_id| task_id >= 0)
}

fn identity(task: &Open) -> TaskId<'static> {
    let process = process::identity();
    let (application_id, executor_id) = match process.application_id {
        [] => application::ids(),
        known => (known, process.executor_id),
    };
    TaskId {
        stage: task.name.stage,
        stage_attempt: task.name.stage_attempt,
        index: task.name.index,
        attempt: task.name.attempt,
        task_id: task.name.task_id,
        method: task.method,
        application_id,
        executor_id,
    }
}
