//! Numbers of processes, threads, users and groups.

use crate::base::{
    sys::{call0, nr},
    tracer,
};
use core::sync::atomic::{AtomicU32, Ordering};

/// The counted process; 0 = this process is not counted. Who shares its memory has another number.
static COUNTED: AtomicU32 = AtomicU32::new(0);

/// From now on the process of this number is counted.
pub fn set_counted(process: u32) {
    COUNTED.store(process, Ordering::Relaxed);
}

/// The counted process; 0 = there is none.
#[inline]
pub fn counted() -> u32 {
    COUNTED.load(Ordering::Relaxed)
}

/// Whether the caller is another process than the counted one, in its memory. Where a filter may forbid to ask it is not:
/// such a child runs natively.
pub fn is_other_process() -> bool {
    // SAFETY: takes no argument and changes nothing.
    let asked = unsafe { engine::sys::optional(nr::GETPID, [0; 6]) };
    u32::try_from(asked).is_ok_and(|pid| pid != counted())
}

/// The calling thread's id, for a followed one without asking the kernel.
pub fn own_tid() -> u32 {
    match tracer::current_tid() {
        0 => gettid(),
        tid => tid,
    }
}

/// This thread's id.
#[inline]
pub fn gettid() -> u32 {
    // SAFETY: takes no argument and changes nothing.
    unsafe { engine::sys::optional(nr::GETTID, [0; 6]).max(0) as u32 }
}

/// This process's id (also right in the child of vfork, where memory is the parent's).
#[inline]
pub fn getpid() -> u32 {
    // SAFETY: takes no argument and changes nothing.
    let asked = unsafe { engine::sys::optional(nr::GETPID, [0; 6]) };
    // A child of fork, which has one thread, is who needs it where a filter may forbid to ask.
    u32::try_from(asked).unwrap_or_else(|_| own_tid())
}

/// The effective user.
pub fn geteuid() -> u32 {
    // SAFETY: takes no argument and changes nothing.
    unsafe { call0(nr::GETEUID) as u32 }
}

/// The effective group.
pub fn getegid() -> u32 {
    // SAFETY: takes no argument and changes nothing.
    unsafe { call0(nr::GETEGID) as u32 }
}

/// The parent's process id.
pub fn getppid() -> u32 {
    // SAFETY: takes no argument and changes nothing.
    unsafe { engine::sys::optional(nr::GETPPID, [0; 6]).max(0) as u32 }
}

/// Whether a thread of this process exists.
pub fn thread_exists(process: u32, thread: u32) -> bool {
    const ESRCH: i64 = -3;
    let arguments = [u64::from(process), u64::from(thread), 0, 0, 0, 0];
    // SAFETY: signal 0 is sent to nobody.
    unsafe { engine::sys::optional(nr::TGKILL, arguments) != ESRCH }
}
