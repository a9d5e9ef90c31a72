//! The Spark task that runs on a thread of a JVM: opened and closed, whoever notices it.

use crate::{
    base::tracer,
    process::{self, Extent},
    record::{
        events, recorder,
        thread::{OpenTask, Thread},
    },
};
use conf::settings::TaskThreads;
use records::{Event, Flags, TaskId, TaskOutcome};

/// Whether only what tasks execute is followed.
fn follows_tasks() -> bool {
    tracer::is_running() && process::extent() == Extent::Tasks
}

/// Whether the threads that a task starts count for it.
fn counts_task_threads() -> bool {
    tracer::is_running() && process::identity().settings.task_threads == TaskThreads::Followed
}

/// A task begins on this thread. Where tasks alone are followed, it is to be followed from the JVM's next instruction on.
pub fn open(thread: &Thread, task: OpenTask, flags: Flags) {
    thread.tasks.set_open(task);
    if follows_tasks() {
        thread.shared.set_followed(true);
    }
    let task = id(&task);
    events::thread_event(&thread.shared, flags, &Event::TaskStart(task));
    if task.task_id >= 0 && counts_task_threads() {
        recorder::task_opens(task);
    }
}

/// The task on this thread, if there is one, has ended.
pub fn close(thread: &Thread, outcome: TaskOutcome, flags: Flags) {
    let Some(task) = thread.tasks.take_open() else { return };
    let outcome = match outcome {
        TaskOutcome::UNKNOWN if thread.tasks.threw() => TaskOutcome::THREW,
        outcome => outcome,
    };
    let task = id(&task);
    if task.task_id >= 0 && counts_task_threads() {
        events::task_closes(task.task_id);
    }
    events::thread_event(&thread.shared, flags, &Event::TaskEnd { task, outcome });
    // Its last counters are taken.
    if follows_tasks() {
        thread.shared.set_followed(false);
    }
}

/// The thread is about to end.
pub fn thread_ends(thread: &Thread) {
    close(thread, TaskOutcome::UNKNOWN, Flags::CLOSED_BY_THREAD_END);
}

fn id(task: &OpenTask) -> TaskId<'static> {
    let (application_id, executor_id) = process::application_ids();
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
