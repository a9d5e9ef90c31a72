//! The task that a Python worker serves: opened and closed by its system calls, named by its interpreter.
//!
//! # Design
//!
//! The moments come from [`guest::worker_stream`]: when the bytes arrive that may begin a task, the main thread's counters
//! are taken; when the interpreter has said which task it is ([`super::interpreter`]), the task's start is written with
//! those. It ends when the worker waits for the next one. So what a task has done in its worker is exact, from the read
//! that brought it to the one that waits, garbage collection included.
//!
//! One process serves one task at a time. Threads that it starts meanwhile are the task's until it ends (the engine
//! tells of them), and so are its children by fork, until they end.

use crate::{
    base::{clock, file, lock::Lock, tracer},
    process,
    record::{counters::Values, events, recorder, threads},
};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use guest::{syscall::class_of_mode, worker_stream::Stream};
use records::{Event, Flags, METRIC_COUNT, Stamp, TaskId, TaskMethod, TaskOutcome, metric::Class};

/// The interpreter tells of tasks.
static WATCHES: AtomicBool = AtomicBool::new(false);
static STREAM: Stream = Stream::new();
static WORK: Lock<Work> = Lock::new(Work { moment: None, open: None });
/// The number of the open task for the recorder ([`recorder::task_number`]); 0 = there is none.
static SERVED: AtomicU64 = AtomicU64::new(0);
/// This process is a child of one that serves a task, and has not said so yet.
static INHERITED: AtomicBool = AtomicBool::new(false);

/// A task as `pyspark` knows it.
#[derive(Clone, Copy)]
pub struct ServedTask {
    /// Stage id.
    pub stage: i32,
    /// Attempt of the task.
    pub attempt: i32,
    /// Spark's TID.
    pub task_id: i64,
}

struct Work {
    /// When bytes came that may have begun a task.
    moment: Option<Moment>,
    open: Option<TaskId<'static>>,
}

/// Where the main thread stood.
#[derive(Clone, Copy)]
struct Moment {
    values: Values,
    flags: Flags,
    stamp: Stamp,
}

/// The interpreter will tell of tasks from now on.
pub fn watch() {
    WATCHES.store(true, Ordering::Relaxed);
}

/// Whether calls are of interest.
#[inline]
pub fn is_watching() -> bool {
    WATCHES.load(Ordering::Relaxed)
}

/// Whether a task may have begun that is not identified yet.
#[inline]
pub fn is_expected() -> bool {
    STREAM.is_undecided()
}

/// Whether the calling thread is the one that serves tasks.
pub fn is_on_main_thread() -> bool {
    threads::known().is_some_and(|thread| thread.shared.tid == process::identity().pid())
}

/// The number of the task that this process serves, for the threads that it starts; 0 = none.
pub fn served() -> u64 {
    SERVED.load(Ordering::Relaxed)
}

/// A system call is about to be made.
pub fn before_call(number: u64, first_argument: u64) {
    if INHERITED.load(Ordering::Relaxed) && is_on_main_thread() {
        INHERITED.store(false, Ordering::Relaxed);
        begin_inherited();
    }
    let is_socket = |fd| class_of_mode(file::fstat(fd).map(|status| status.mode)) == Class::Socket;
    if STREAM.before(number, first_argument, is_on_main_thread(), is_socket) {
        close(TaskOutcome::RETURNED);
    }
}

/// A system call has returned, and is counted.
pub fn after_call(number: u64, first_argument: u64, result: i64) {
    if is_on_main_thread()
        && STREAM.after(number, first_argument, result)
        && let Some(thread) = threads::current()
    {
        let (values, flags) = (thread.shared.values(), thread.shared.flags());
        let moment = Moment { values, flags, stamp: clock::stamp() };
        WORK.with(|work| work.moment = Some(moment));
    }
}

/// The interpreter says which task this worker has begun.
pub fn identified(served: ServedTask) {
    STREAM.identified();
    let process = process::identity();
    let task = TaskId {
        stage: served.stage,
        attempt: served.attempt,
        task_id: served.task_id,
        method: TaskMethod::PYTHON_WORKER,
        application_id: process.application_id,
        executor_id: process.executor_id,
        ..TaskId::default()
    };
    // Its input was never closed.
    if WORK.with(|work| work.open.is_some()) == Some(true) {
        close(TaskOutcome::UNKNOWN);
    }
    if let Some(Some(moment)) = WORK.with(|work| work.moment.take()) {
        open(task, &moment);
    }
}

fn open(task: TaskId<'static>, moment: &Moment) {
    let Some(thread) = threads::current() else { return };
    WORK.with(|work| work.open = Some(task));
    let start = Event::TaskStart(task);
    events::event_of_moment(thread.shared.tid, moment.flags, &start, &moment.values, moment.stamp);
    if tracer::is_running() {
        recorder::task_opens(task);
        SERVED.store(recorder::task_number(task.task_id), Ordering::Relaxed);
    }
}

fn close(outcome: TaskOutcome) {
    let Some(Some(task)) = WORK.with(|work| work.open.take()) else { return };
    if SERVED.swap(0, Ordering::Relaxed) != 0 {
        events::task_closes(task.task_id);
    }
    if let Some(thread) = threads::current() {
        events::thread_event(&thread.shared, Flags::NONE, &Event::TaskEnd { task, outcome });
    }
}

/// The process is about to end, and so does what it serves.
pub fn process_ends() {
    if is_watching() && is_on_main_thread() {
        let returned = STREAM.is_closed();
        close(if returned { TaskOutcome::RETURNED } else { TaskOutcome::UNKNOWN });
    }
}

/// In a child of fork: it serves the task that its parent serves.
pub fn after_fork_in_child() {
    if !is_watching() {
        return;
    }
    STREAM.after_fork_in_child();
    SERVED.store(0, Ordering::Relaxed);
    // SAFETY: the child has one thread, which is not inside the lock: signals are blocked there, and nothing
    // in it forks. Both values are plain copies.
    unsafe { WORK.reset() };
    INHERITED.store(STREAM.is_serving(), Ordering::Relaxed);
}

/// All that this child has done until now, and will do, is the task's.
fn begin_inherited() {
    let task = WORK.with(|work| work.open.take()).flatten();
    if let (Some(task), Some(thread)) = (task, threads::current()) {
        let values = [0; METRIC_COUNT];
        let flags = thread.shared.flags();
        open(task, &Moment { values, flags, stamp: clock::stamp() });
    }
}
