//! The end of the process, and of counting in it.

use crate::{
    base::{guarded, link, tracer},
    bridge::python,
    count::behind,
    files::output_folder,
    process,
    record::{events, threads},
};
use core::{ffi::c_void, ptr::null_mut};
use records::{ProcessEndReason, notice};

/// Asks libc to tell the end of the process. Registered before anything else, so called last.
pub fn watch_exit() {
    if let Some(on_exit) = link::find(c"on_exit") {
        // SAFETY: glibc's on_exit (on_exit(3)).
        unsafe {
            let on_exit: unsafe extern "C" fn(
                unsafe extern "C" fn(i32, *mut c_void),
                *mut c_void,
            ) -> i32 = core::mem::transmute(on_exit);
            on_exit(exit_with_status, null_mut());
        }
    } else if let Some(at_exit) = link::find(c"__cxa_atexit") {
        // SAFETY: the function of the Itanium C++ ABI; no object to belong to.
        unsafe {
            let at_exit: unsafe extern "C" fn(
                unsafe extern "C" fn(*mut c_void),
                *mut c_void,
                *mut c_void,
            ) -> i32 = core::mem::transmute(at_exit);
            at_exit(exit_without_status, null_mut(), null_mut());
        }
    }
}

unsafe extern "C" fn exit_with_status(status: i32, _: *mut c_void) {
    // SAFETY: `exits` takes the status.
    unsafe { guarded::guarded(status as u8 as usize, exits) };
}

unsafe extern "C" fn exit_without_status(_: *mut c_void) {
    // SAFETY: `exits` takes the status.
    unsafe { guarded::guarded(0, exits) };
}

unsafe extern "C" fn exits(status: usize) -> usize {
    // The tracer sees the exit system call of a thread that it follows.
    if !tracer::follows_current() {
        end(ProcessEndReason::EXIT, status as i32);
    }
    0
}

/// The process is about to end: everything is written. The first call counts.
pub fn end(reason: ProcessEndReason, status: i32) {
    if !process::is_counted() {
        return;
    }
    process::check_fork();
    if !process::is_borrowed() {
        python::tasks::process_ends();
        behind::process_ends(threads::current().map(|thread| &thread.shared));
        events::process_ends(reason, status);
        output_folder::tell_what_is_pending();
    }
}

/// The program is about to do what leaves no room for the library: what was counted is written, and then nothing more is done.
pub fn give_up(why: &str) {
    if process::is_counted() && !process::is_borrowed() {
        threads::notice(
            notice::PART_NOT_COUNTED,
            0,
            format_args!("the program goes on uncounted: {why}"),
        );
        events::give_up();
        guarded::switch_off();
    }
}
