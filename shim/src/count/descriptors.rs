//! What the process's descriptors are, without a call per call: kept by number where the engine sees every system call of
//! every thread, else asked of the kernel each time.
//!
//! # Design
//!
//! The table ([`guest::descriptor_table`]) is right as long as every call that closes or replaces a descriptor goes
//! through [`before`] and [`after`]. It is given up for good ([`give_up`]) when that cannot be: a thread that is not
//! followed, a table of descriptors that processes share or threads of one process do not.
//!
//! From [`ask_nothing_more`] on the kernel is not asked at all, for a filter may forbid it: what is open is looked at
//! before, what is opened by path counts as a file, what else is not known as of the class `other`, with a notice.
//!
//! # Limitations
//!
//! - An open file that another process renames counts for the directory that it was opened in.
//! - A supervisor of system calls that replaces a descriptor (SECCOMP_ADDFD_FLAG_SETFD), and a debugger that has the
//!   process call dup2, are not seen.

use crate::{
    base::sys,
    count::syscalls,
    record::{
        forks::{self, CLONE_VFORK, CLONE_VM},
        recorder,
    },
};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use guest::{
    descriptor_table::{Descriptors, End, Known, NUMBERS},
    syscall_number as nr,
};
use records::{metric::Class, notice};

const CLONE_FILES: u64 = 0x400;
const CLOSE_RANGE_UNSHARE: u64 = 2;
const CLOSE_RANGE_CLOEXEC: u64 = 4;
const F_DUPFD: u64 = 0;
const F_DUPFD_CLOEXEC: u64 = 1030;
/// Numbers that are looked at before nothing may be asked any more; the default limit of a process.
const USUAL_NUMBERS: u64 = 1024;

static TABLE: Descriptors = Descriptors::new();
/// There was one thread when counting began.
static BEGAN_ALONE: AtomicBool = AtomicBool::new(false);
/// Every call that changes descriptors is seen.
static IS_KEPT: AtomicBool = AtomicBool::new(false);
/// The kernel may be asked.
static MAY_ASK: AtomicBool = AtomicBool::new(true);
/// Filters that were set or are being set.
static FILTERS: AtomicU32 = AtomicU32::new(0);
/// It was told that something is not known.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Looks whether the calling thread is the process's only one. Before there is one of ours.
pub fn begin() {
    /// `.`, `..` and a directory for the thread.
    const ONE_THREAD: u64 = 3;
    let is_alone = sys::stat(c"/proc/self/task").is_some_and(|status| status.links == ONE_THREAD);
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

/// What a descriptor is, as [`syscalls`] counts it, if it is open; asked of the kernel by `ask` where it is not known, and
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

/// The kernel is not to be asked any more: every open descriptor is looked at now.
pub fn ask_nothing_more() {
    if FILTERS.fetch_add(1, Ordering::Relaxed) > 0 {
        return;
    }
    if are_kept() {
        (0..USUAL_NUMBERS).for_each(syscalls::look_at);
    }
    MAY_ASK.store(false, Ordering::Release);
}

/// The filter that the kernel was asked to set was refused.
fn ask_again() {
    if FILTERS.fetch_sub(1, Ordering::Relaxed) == 1 {
        MAY_ASK.store(true, Ordering::Release);
    }
}

/// Whether a call sets a filter of system calls, or allows but the four of strict mode.
fn sets_filter(number: u64, arguments: &[u64; 6]) -> bool {
    engine::seccomp::installation(number, arguments).is_some()
}

/// A system call is about to be made by a followed thread.
#[inline]
pub fn before(number: u64, arguments: &[u64; 6]) {
    match number {
        nr::CLOSE => TABLE.forget(arguments[0] as u32),
        nr::DUP2 | nr::DUP3 if arguments[0] as u32 != arguments[1] as u32 => {
            TABLE.forget(arguments[1] as u32);
        }
        nr::CLOSE_RANGE => forget_range(arguments),
        nr::PRCTL | nr::SECCOMP if sets_filter(number, arguments) => ask_nothing_more(),
        nr::UNSHARE if arguments[0] & CLONE_FILES != 0 => give_up(),
        nr::FORK | nr::VFORK | nr::CLONE | nr::CLONE3 => {
            let flags = forks::clone_flags(number, arguments).unwrap_or_default();
            if !keeps_apart_or_together(flags) {
                give_up();
            }
        }
        _ => {}
    }
}

/// Whether who has the memory of the caller has its descriptors, and who has a copy of the one has a copy of the other. A
/// child that runs in the memory until it executes makes no calls that are seen.
fn keeps_apart_or_together(flags: u64) -> bool {
    let (shares_memory, shares_files) = (flags & CLONE_VM != 0, flags & CLONE_FILES != 0);
    if flags & CLONE_VFORK != 0 { !shares_files } else { shares_memory == shares_files }
}

fn forget_range(arguments: &[u64; 6]) {
    let [first, last, flags, ..] = *arguments;
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        give_up();
    }
    if flags & CLOSE_RANGE_CLOEXEC == 0 {
        TABLE.forget_range(first as u32, last as u32);
    }
}

/// It has returned `result`.
#[inline]
pub fn after(number: u64, arguments: &[u64; 6], result: i64) {
    match number {
        nr::CLOSE => TABLE.forget(arguments[0] as u32),
        nr::CLOSE_RANGE => forget_range(arguments),
        nr::PRCTL | nr::SECCOMP if result < 0 && sets_filter(number, arguments) => ask_again(),
        nr::RENAME | nr::RENAMEAT | nr::RENAMEAT2 if result == 0 && may_ask() => {
            TABLE.forget_files();
        }
        nr::DUP | nr::DUP2 | nr::DUP3 if result >= 0 => copied(arguments[0], result),
        nr::FCNTL if result >= 0 && matches!(arguments[1], F_DUPFD | F_DUPFD_CLOEXEC) => {
            copied(arguments[0], result);
        }
        nr::PIPE | nr::PIPE2 if result == 0 => {
            let pipe = |end| Known { end, ..Known::of(Class::Pipe) };
            made_two(arguments[0], [pipe(End::Read), pipe(End::Write)]);
        }
        nr::SOCKETPAIR if result == 0 => made_two(arguments[3], [Known::of(Class::Socket); 2]),
        nr::SOCKET | nr::ACCEPT | nr::ACCEPT4 if result >= 0 => {
            TABLE.set(result as u32, Known::of(Class::Socket));
        }
        _ => {}
    }
}

fn copied(from: u64, to: i64) {
    let (from, to) = (from as u32, to as u32);
    match TABLE.known(from) {
        _ if from == to => {}
        Some(known) => TABLE.set(to, known),
        None => TABLE.forget(to),
    }
}

fn made_two(at: u64, known: [Known; 2]) {
    let mut numbers = [0u8; 8];
    if sys::read_memory(at, &mut numbers) == numbers.len() {
        for (number, known) in numbers.chunks_exact(4).zip(known) {
            let number = u32::from_ne_bytes([number[0], number[1], number[2], number[3]]);
            TABLE.set(number, known);
        }
    }
}

/// In a child of fork, which has a copy of the descriptors but no directories yet.
pub fn after_fork_in_child() {
    TABLE.after_fork(may_ask());
}

const _: () = assert!(USUAL_NUMBERS as usize <= NUMBERS);
