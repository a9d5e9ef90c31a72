//! A child of fork becomes a process of its own.

use crate::{
    base::{heap, tracer},
    bridge::python,
    count::{behind, descriptors},
    process,
    record::{directories, forks, helper, recorder, threads},
};

/// What the parent has is forgotten, and a child that may be followed goes on under a name of its own. Signals are
/// blocked.
#[cold]
pub fn become_child() {
    let number = forks::own_number();
    heap::after_fork_in_child();
    threads::after_fork_in_child();
    directories::after_fork_in_child();
    descriptors::after_fork_in_child();
    behind::after_fork_in_child();
    recorder::after_fork_in_child();
    process::publish(process::identity().of_child(number));
    // The engine itself tells the child of a followed thread. In the child of another one its tables may be half
    // written: nobody is followed there. Handlers stay right without.
    if tracer::is_running() && !tracer::follows_current() {
        tracer::withdraw();
        descriptors::give_up();
    }
    python::tasks::after_fork_in_child();
    helper::after_fork_in_child();
}
