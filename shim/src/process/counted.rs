//! Whether this process is counted, and as what.

use crate::{
    base::ids,
    process::{application, identity::Identity, task_method},
};
use alloc::boxed::Box;
use conf::settings::Scope;
use core::{
    ptr::null_mut,
    sync::atomic::{AtomicPtr, Ordering},
};
use guest::role::Role;
use records::TaskMethod;

/// Null until the process is counted.
static IDENTITY: AtomicPtr<Identity> = AtomicPtr::new(null_mut());

/// Whether this process is counted.
#[inline]
pub fn is_counted() -> bool {
    !IDENTITY.load(Ordering::Acquire).is_null()
}

/// From now on this process is counted, as this.
pub fn publish(identity: Identity) {
    ids::set_counted(identity.pid());
    IDENTITY.store(Box::into_raw(Box::new(identity)), Ordering::Release);
}

/// The process's identity; only in counted processes.
pub fn identity() -> &'static Identity {
    // SAFETY: set once from a leaked box, replaced by another after fork, never freed.
    unsafe { IDENTITY.load(Ordering::Acquire).as_ref() }
        .expect("identity is asked for in counted processes")
}

/// Whether the JVM in this process is to get the agent: for its tasks, or to say which code holds still.
pub fn wants_agent() -> bool {
    runs_tasks() || (is_counted() && identity().is_java_launcher)
}

/// Whether Spark's tasks may run in this process.
pub fn runs_tasks() -> bool {
    is_counted() && identity().spark_role.runs_tasks()
}

/// How tasks are noticed, for the header; set before the first file is written.
pub fn set_task_method(method: TaskMethod) {
    let serves = runs_tasks() || identity().spark_role == Role::PythonWorker;
    let method = if serves { method } else { TaskMethod::UNKNOWN };
    task_method::set(method);
}

/// Whether this is a vfork-like child, however it was made: another process in the memory of the one that
/// counts.
pub fn is_borrowed() -> bool {
    is_counted() && ids::is_other_process()
}

/// What is followed of this process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All that it executes.
    Everything,
    /// What Spark tasks execute.
    Tasks,
}

/// What is to be followed of this process.
pub fn extent() -> Extent {
    let identity = identity();
    match (identity.role, identity.settings.scope) {
        (Role::Executor, Scope::Task) | (Role::Driver, Scope::Task | Scope::Executor) => {
            Extent::Tasks
        }
        _ => Extent::Everything,
    }
}

/// The application's id and its executor's, as the command line says them, or Spark; else both are empty.
pub fn application_ids() -> (&'static [u8], &'static [u8]) {
    let identity = identity();
    match identity.application_id {
        [] => application::answered(),
        known => (known, identity.executor_id),
    }
}
