//! What the process's descriptors are, without a call per call: kept by number where the engine sees every system call of
//! every thread, else asked of the kernel each time.
//!
//! # Design
//!
//! The table ([`guest::descriptor_table`]) is right as long as every call that closes or replaces a descriptor goes
//! through [`super::descriptor_calls`]. It is given up for good ([`give_up`]) when that cannot be: a thread that is not
//! followed, a table of descriptors that processes share or threads of one process do not.
//!
//! Once a filter of system calls is there the kernel is not asked at all, for a filter may forbid it: what is open is looked at
//! before, what is opened by path counts as a file, what else is not known as of the class `other`, with a notice.
//!
//! # Limitations
//!
//! - An open file that another process renames counts for the directory that it was opened in.
//! - A supervisor of system calls that replaces a descriptor (SECCOMP_ADDFD_FLAG_SETFD), and a debugger that has the
//!   process call dup2, are not seen.

use crate::{
    base::{file, sys},
    record::recorder,
};
use core::sync::atomic::{AtomicBool, Ordering};
use guest::{
    descriptor_table::{Descriptors, End, Known, NUMBERS},
    syscall_number as nr,
};
use records::{metric::Class, notice};

/// Numbers that are looked at before nothing may be asked any more; the default limit of a process.
pub(super) const USUAL_NUMBERS: u64 = 1024;

pub(super) static TABLE: Descriptors = Descriptors::new();
/// There was one thread when counting began.
static BEGAN_ALONE: AtomicBool = AtomicBool::new(false);
/// Every call that changes descriptors is seen.
static IS_KEPT: AtomicBool = AtomicBool::new(false);
/// The kernel may be asked.
static MAY_ASK: AtomicBool = AtomicBool::new(true);
/// It was told that something is not known.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Looks whether the calling thread is the process's only one. Before there is one of ours.
pub fn begin() {
    /// `.`, `..` and a directory for the thread.
    const ONE_THREAD: u64 = 3;
    let is_alone = file::stat(c"/proc/self/task").is_some_and(|status| status.links == ONE_THREAD);
    BEGAN_ALONE.store(is_alone, Ordering::Relaxed);
}

/// From now on every system call of this thread, and of those that it starts, is seen.
pub fn keep() {
    IS_KEPT.store(BEGAN_ALONE.load(Ordering::Relaxed), Ordering::Release);
}

/// From now on descriptors may change without a word.
pub fn give_up() {
    IS_KEPT.store(false, Ordering::Release);
}

/// Whether what is known of a descriptor holds until a call changes it.
pub fn are_kept() -> bool {
    IS_KEPT.load(Ordering::Acquire)
}

/// Whether the kernel may be asked what a descriptor is.
pub fn may_ask() -> bool {
    MAY_ASK.load(Ordering::Relaxed)
}

/// Whether it may be from now on.
pub(super) fn set_may_ask(may: bool) {
    MAY_ASK.store(may, Ordering::Release);
}

/// What a descriptor is, as its calls count, if it is open; asked of the kernel by `ask` where it is not known, and
/// where the call has just opened it.
#[inline]
pub fn of(number: u64, is_new: bool, ask: impl FnOnce() -> Option<Known>) -> Option<Known> {
    // A descriptor is an int: the upper half of the register has no meaning.
    let number = number as u32;
    if !are_kept() {
        return if may_ask() { ask() } else { Some(unknown(number, is_new)) };
    }
    if is_new {
        TABLE.forget(number);
    } else if let Some(known) = TABLE.known(number) {
        return Some(known);
    }
    if !may_ask() {
        return Some(unknown(number, is_new));
    }
    let asked = TABLE.ask(number);
    let known = ask()?;
    if let Some(asked) = asked {
        TABLE.learn(number, asked, known);
    }
    Some(known)
}

/// Which end of a pipe a descriptor is; `None` = not known.
pub fn end(number: u64) -> Option<End> {
    const F_GETFL: u64 = 3;
    const ACCESS_MODE: i64 = 3;
    let known = TABLE.known(number as u32).filter(|_| are_kept());
    if let Some(Known { end: end @ (End::Read | End::Write), .. }) = known {
        return Some(end);
    }
    if !may_ask() {
        return None;
    }
    // SAFETY: asks for the flags alone.
    match unsafe { sys::call3(nr::FCNTL, number, F_GETFL, 0) } {
        error if error < 0 => None,
        flags if flags & ACCESS_MODE == 0 => Some(End::Read),
        // As the kernel decides for a pipe that is open for both.
        _ => Some(End::Write),
    }
}

#[cold]
#[inline(never)]
fn unknown(number: u32, is_new: bool) -> Known {
    if is_new {
        let known = Known::of(Class::File);
        TABLE.set(number, known);
        return known;
    }
    if !TOLD.swap(true, Ordering::Relaxed) {
        recorder::notice(
            0,
            notice::PART_NOT_COUNTED,
            0,
            0,
            format_args!(
                "under a filter of system calls the kind of descriptor {number} was not asked for: its calls count as \
                 'other', and so may those of more"
            ),
        );
    }
    Known::of(Class::Other)
}

/// In a child of fork, which has a copy of the descriptors but no directories yet.
pub fn after_fork_in_child() {
    TABLE.after_fork(may_ask());
}

const _: () = assert!(USUAL_NUMBERS as usize <= NUMBERS);
