//! What is kept of a thread.

use crate::record::counters::Shared;
use core::cell::Cell;
use guest::task_name::TaskName;
use records::TaskMethod;

/// What is kept of a thread. But for what is in `shared`, only the thread itself touches it.
pub struct Thread {
    /// What others see of it.
    pub shared: Shared,
    /// The Spark tasks that run on it.
    pub tasks: TaskState,
    /// It is not to be followed yet: see [`crate::count::follow::natively`].
    pub stays_native: Cell<bool>,
    /// How often libc has called the destructor of the thread's data.
    pub destructor_rounds: Cell<u8>,
}

impl Thread {
    /// A thread of this id, of which nothing is known yet.
    pub fn new(tid: u32) -> Thread {
        Thread {
            shared: Shared::new(tid),
            tasks: TaskState::default(),
            stays_native: Cell::new(false),
            destructor_rounds: Cell::new(0),
        }
    }
}

/// What is known of the tasks of one thread; for that thread alone.
#[derive(Default)]
pub struct TaskState {
    open: Cell<Option<OpenTask>>,
    /// The thread got its pool name at its start.
    pub in_pool: Cell<bool>,
    /// A task was announced by name and no breakpoint was reached since.
    pub announced: Cell<bool>,
    /// A throw instruction of the open task's runner was executed.
    threw: Cell<bool>,
}

/// A task that runs on a thread.
#[derive(Clone, Copy)]
pub struct OpenTask {
    /// What its thread's name says of it.
    pub name: TaskName,
    /// How it was noticed.
    pub method: TaskMethod,
}

impl TaskState {
    /// The task that runs on the thread.
    pub fn open(&self) -> Option<OpenTask> {
        self.open.get()
    }

    /// From now on this task runs on the thread.
    pub fn set_open(&self, task: OpenTask) {
        self.open.set(Some(task));
        self.threw.set(false);
    }

    /// The task that ran on the thread until now.
    pub fn take_open(&self) -> Option<OpenTask> {
        self.open.take()
    }

    /// The open task's runner executes a throw.
    pub fn note_throw(&self) {
        self.threw.set(true);
    }

    /// Whether the open task's runner has executed a throw.
    pub fn threw(&self) -> bool {
        self.threw.get()
    }

    /// The TID of the task that runs on the thread.
    pub fn task_id(&self) -> Option<i64> {
        self.open.get().map(|task| task.name.task_id).filter(|&task_id| task_id >= 0)
    }
}
