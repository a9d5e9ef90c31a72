//! Counting begins.

use crate::{
    base::{clock, guarded, startup::Startup, tls, tracer},
    bridge::python::interpreter,
    client,
    count::{descriptors, follow, targets},
    entry::admission,
    files::log,
    hooks,
    lifecycle::{end, fork},
    process::{self, identity::Identity},
    record::{helper, recorder, threads},
};
use core::ptr::null_mut;
use guest::role::Role;

/// Decides what this process is and begins to count if its role asks for it. Returns the engine's thread
/// if the engine is to follow from here.
pub fn begin(startup: &Startup) -> *mut tracer::Thread {
    match admission::decide(startup) {
        Some(identity) => count(startup, identity),
        None => null_mut(),
    }
}

fn count(startup: &Startup, identity: Identity) -> *mut tracer::Thread {
    clock::find_vdso(startup);
    tls::learn(startup);
    hooks::resolve_all();
    targets::configure(identity.metrics, identity.settings.per_directory);
    descriptors::begin();
    if !process::mark_for_fork(fork::become_child) {
        log::line(
            log::Level::Error,
            format_args!(
                "the kernel refuses a page that children of fork lose; nothing is counted"
            ),
        );
        return null_mut();
    }
    let role = identity.role;
    process::publish(identity);
    recorder::open();
    threads::watch_ends();
    end::watch_exit();
    client::prepare();
    if role == Role::PythonWorker {
        interpreter::watch();
    }
    helper::start();
    let thread = follow::start();
    guarded::count_from_now();
    log::line(log::Level::Info, format_args!("counting as {}", role.name()));
    thread
}
