//! Input and output that the kernel carries out behind the call that asked for it: io_uring and libaio.
//!
//! # Design
//!
//! Requests and results lie in memory that both sides look at. A request counts as a call of its family when the kernel
//! has taken it, on the thread that submitted it; its bytes and its error count when its result is seen, on the thread that
//! sees it: before and after each call that submits or waits, before the memory goes, and at the process's end. Results
//! that the application takes out of the memory itself are seen as well: a ring holds more of them than there can be
//! requests on their way. Requests take no time of the application's, and have none.
//!
//! The memory is read as the application's other memory is, with errors instead of faults.
//!
//! # Limitations
//!
//! What cannot be seen is a gap, told once for each reason: rings that a kernel thread submits (IORING_SETUP_SQPOLL),
//! that another process or a thread which is not followed has made, of a kind that is not known here; requests that want no
//! result; results that were overwritten; commands of drivers.

mod aio;
mod fields;
mod gap;
mod results;
mod uring;

use crate::{
    base::{lock::Lock, sys::nr},
    count::targets,
    record::counters::Shared,
};
use core::sync::atomic::{AtomicBool, Ordering};

/// Everything that is known of rings and contexts.
struct State {
    rings: uring::Rings,
    contexts: aio::Contexts,
}

static STATE: Lock<State> =
    Lock::new(State { rings: uring::Rings::new(), contexts: aio::Contexts::new() });
/// There is a ring or context.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// Whether the call may have to do with it; asked first, for it is asked at each call.
#[inline]
pub fn concerns(number: u64) -> bool {
    match number {
        nr::IO_SETUP..=nr::IO_SUBMIT
        | nr::IO_PGETEVENTS
        | nr::IO_URING_SETUP..=nr::IO_URING_REGISTER => true,
        nr::MMAP | nr::MUNMAP | nr::MREMAP | nr::CLOSE | nr::EXECVE | nr::EXECVEAT => {
            IS_USED.load(Ordering::Relaxed)
        }
        _ => false,
    }
}

/// A call that [`concerns`] it is about to be made by a followed thread.
pub fn before(thread: &Shared, number: u64, arguments: &[u64; 6]) {
    if !targets::counts_anything() {
        return;
    }
    STATE.with(|state| {
        let State { rings, contexts } = state;
        match number {
            nr::IO_URING_ENTER => rings.enters(thread, arguments),
            nr::IO_URING_REGISTER => rings.registers(thread, arguments),
            nr::IO_SUBMIT => contexts.submits(thread, arguments),
            nr::IO_DESTROY => contexts.destroys(thread, arguments[0]),
            nr::CLOSE => rings.closes(thread, arguments[0]),
            nr::MUNMAP | nr::MREMAP => rings.loses(thread, arguments[0], arguments[1]),
            nr::EXECVE | nr::EXECVEAT => {
                rings.look_at_all(thread);
                contexts.look_at_all(thread);
            }
            _ => {}
        }
    });
}

/// It has returned `result`.
pub fn after(thread: &Shared, number: u64, arguments: &[u64; 6], result: i64) {
    if !targets::counts_anything() {
        return;
    }
    STATE.with(|state| {
        let State { rings, contexts } = state;
        match number {
            nr::IO_URING_SETUP if result >= 0 => {
                IS_USED.store(true, Ordering::Relaxed);
                rings.made(thread, arguments, result);
            }
            nr::IO_URING_ENTER => rings.entered(thread, arguments),
            nr::IO_URING_REGISTER if result >= 0 => rings.registered(thread, arguments, result),
            nr::MMAP if result > 0 => rings.mapped(thread, arguments, result as u64),
            nr::CLOSE if result == 0 => rings.closed(arguments[0]),
            nr::IO_SETUP if result == 0 => {
                IS_USED.store(true, Ordering::Relaxed);
                contexts.made(arguments[1]);
            }
            nr::IO_SUBMIT => contexts.submitted(thread, arguments[0], result),
            nr::IO_GETEVENTS | nr::IO_PGETEVENTS => contexts.look(thread, arguments[0]),
            nr::IO_DESTROY if result == 0 => contexts.destroyed(arguments[0]),
            _ => {}
        }
    });
}

/// The process is about to end: what has come back until now.
pub fn process_ends(thread: Option<&Shared>) {
    if let Some(thread) = thread.filter(|_| IS_USED.load(Ordering::Relaxed)) {
        STATE.with(|state| {
            state.rings.look_at_all(thread);
            state.contexts.look_at_all(thread);
        });
    }
}

/// In a child of fork, which has none of it: the parent's requests are the parent's.
pub fn after_fork_in_child() {
    // SAFETY: the child has one thread, and it is not inside the lock. What another thread left half done is replaced.
    unsafe { STATE.reset() };
    STATE.with(|state| {
        core::mem::forget(core::mem::replace(&mut state.rings, uring::Rings::new()));
        core::mem::forget(core::mem::replace(&mut state.contexts, aio::Contexts::new()));
    });
    IS_USED.store(false, Ordering::Relaxed);
}
