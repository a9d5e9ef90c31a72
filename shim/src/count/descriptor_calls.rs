//! Calls that change the table of descriptors, or what may be asked about it.

use crate::{
    base::sys,
    count::{
        descriptors::{self, TABLE, USUAL_NUMBERS, are_kept, give_up, may_ask},
        targets,
    },
    record::forks::{self, CLONE_VFORK, CLONE_VM},
};
use core::sync::atomic::{AtomicU32, Ordering};
use guest::{
    descriptor_table::{End, Known},
    syscall_number as nr,
};
use records::metric::Class;

const CLONE_FILES: u64 = 0x400;
const CLOSE_RANGE_UNSHARE: u64 = 2;
const CLOSE_RANGE_CLOEXEC: u64 = 4;
const F_DUPFD: u64 = 0;
const F_DUPFD_CLOEXEC: u64 = 1030;

/// Filters that were set or are being set.
static FILTERS: AtomicU32 = AtomicU32::new(0);

/// The kernel is not to be asked any more: every open descriptor is looked at now.
fn ask_nothing_more() {
    if FILTERS.fetch_add(1, Ordering::Relaxed) > 0 {
        return;
    }
    if are_kept() {
        (0..USUAL_NUMBERS).for_each(targets::look_at);
    }
    descriptors::set_may_ask(false);
}

/// The filter that the kernel was asked to set was refused.
fn ask_again() {
    if FILTERS.fetch_sub(1, Ordering::Relaxed) == 1 {
        descriptors::set_may_ask(true);
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
