//! Which threads are followed, and from where on.
//!
//! Whether a thread is to be followed is in its flags: FOLLOWED is set at the start of a task, or of everything, and
//! cleared at the task's end ([`crate::record::task`]). The JVM's calls into this library end following; on their way
//! out they go back into the engine if the flag is set ([`go_on`]). So nothing of ours, and nothing that the JVM does
//! for us, runs in the engine's hands, where a fault of its own could not be told.

use crate::{
    base::{
        signals::SignalsBlocked,
        tls,
        tracer::{self, Thread},
    },
    count::descriptors,
    process::{self, Extent},
    record::{recorder, threads},
};
use core::ptr::null_mut;
use engine::Thread as _;
use records::{Flags, notice};

/// The calling thread, for the engine to follow; null = the process runs natively, as yet or altogether.
pub fn start() -> *mut Thread {
    if !tracer::is_running() || process::extent() == Extent::Tasks {
        return null_mut();
    }
    let thread = attach();
    // A JVM comes to its agent natively, and does things for it; the Stalker lets go of threads.
    if !thread.is_null() && !process::wants_agent() && !cfg!(feature = "gum") {
        descriptors::keep();
    }
    thread
}

fn attach() -> *mut Thread {
    let Some(thread) = threads::current() else { return null_mut() };
    // A signal handler of the application must not find the engine's lock taken.
    let _blocked = SignalsBlocked::new();
    let traced = tracer::attach();
    if traced.is_null() {
        thread.shared.set_followed(false);
        threads::notice(
            notice::THREAD_NOT_FOLLOWED,
            0,
            format_args!("no memory to follow this thread, or the engine is switched off"),
        );
        return null_mut();
    }
    // SAFETY: what the tracer keeps of this thread outlives it, and is reached by shared references alone.
    let state = unsafe { &*traced };
    state.client_word().set(tls::base());
    if let Some(task_id) = thread.tasks.task_id() {
        state.inherited_word().set(recorder::task_number(task_id));
    }
    thread.shared.adopt(state);
    traced
}

/// The calling thread if it is to be followed when the library's function returns that the JVM has called; else null.
pub fn go_on() -> *mut Thread {
    let should_be = || {
        threads::known().is_some_and(|one| {
            !one.stays_native.get() && one.shared.flags().contains(Flags::FOLLOWED)
        })
    };
    let goes_on = tracer::is_running() && should_be() && !tracer::follows_current();
    if goes_on { attach() } else { null_mut() }
}

/// Does something on the calling thread, natively: what it calls of this library does not begin to follow.
pub fn natively(work: impl FnOnce()) {
    if let Some(thread) = threads::known() {
        thread.stays_native.set(true);
    }
    work();
    if let Some(thread) = threads::known() {
        thread.stays_native.set(false);
    }
}
