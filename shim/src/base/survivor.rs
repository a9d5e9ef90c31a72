//! Who outlives the counted process: its helper, which shares the memory. Locks that are held then are held for ever.

use crate::base::{sys, tls};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The process that the helper belongs to.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// The helper's thread pointer; 0 = there was no helper yet.
static POINTER: AtomicUsize = AtomicUsize::new(0);

/// A helper with this thread pointer is about to be made for this process.
pub fn expect(process: u32, thread_pointer: usize) {
    PROCESS.store(process, Ordering::Relaxed);
    POINTER.store(thread_pointer, Ordering::Relaxed);
}

/// In a child of fork, which has no helper yet.
pub fn after_fork_in_child() {
    POINTER.store(0, Ordering::Relaxed);
}

/// The process that the helper belongs to.
pub fn process() -> u32 {
    PROCESS.load(Ordering::Relaxed)
}

/// In the helper: whether the process that it belongs to has ended.
pub fn is_orphan() -> bool {
    // SAFETY: takes no argument and changes nothing. A filter under which the helper goes on allows it.
    let parent = unsafe { sys::call0(sys::nr::GETPPID) };
    parent >= 0 && parent as u32 != process()
}

/// Whether the caller is the helper of a process that has ended.
pub fn is_caller() -> bool {
    POINTER.load(Ordering::Relaxed) == tls::thread_pointer() && is_orphan()
}
