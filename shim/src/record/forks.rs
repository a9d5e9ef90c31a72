//! Children by fork: the parent tells of each under a number that the child has in its copy of the memory, and repeats
//! in its header. So a reader knows which child left no records, whatever numbers PID namespaces give it.

use crate::{
    base::sys,
    record::{counters::Shared, events, threads},
};
use core::sync::atomic::{AtomicU32, Ordering};
use guest::syscall_number as nr;

/// The number of the last fork. A child goes on from its parent's.
static LAST: AtomicU32 = AtomicU32::new(0);

/// The call has the child's memory apart from its parent's (clone(2)).
pub const CLONE_VM: u64 = 0x100;
/// The parent waits until its child has executed or ended.
pub const CLONE_VFORK: u64 = 0x4000;

/// The flags of a call that makes a thread or process; `None` for other calls.
pub fn clone_flags(number: u64, arguments: &[u64; 6]) -> Option<u64> {
    Some(match number {
        nr::FORK => 0,
        nr::VFORK => CLONE_VM | CLONE_VFORK,
        nr::CLONE => arguments[0],
        nr::CLONE3 => {
            let mut flags = [0u8; 8];
            sys::read_memory(arguments[0], &mut flags);
            u64::from_le_bytes(flags)
        }
        _ => return None,
    })
}

/// The thread is about to fork; the numbers of this fork and of the one that it may be in the middle of, for [`made`].
pub fn about_to(thread: &Shared) -> [u64; 2] {
    // 0 is none.
    let number = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1);
    let outer = thread.fork.swap(number, Ordering::Relaxed);
    [number.into(), outer.into()]
}

/// A fork has returned in the parent: the child's number, or an error.
pub fn made(thread: &Shared, [number, outer]: [u64; 2], result: i64) {
    thread.fork.store(outer as u32, Ordering::Relaxed);
    if result > 0 {
        events::forked(result as u32, number as u32);
    }
}

/// In the child, before it forgets its parent's threads: the number of the fork that made it; 0 = not known.
pub fn own_number() -> u32 {
    threads::known().map_or(0, |thread| thread.shared.fork.load(Ordering::Relaxed))
}
