//! What the calls on a descriptor count for: a class, and the directory of its file.

use crate::{
    base::{file, sys},
    count::descriptors,
    process,
    record::{counters::Shared, directories, recorder},
};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use guest::{
    descriptor_table::Known,
    directory_table::Place,
    requests::Counted,
    syscall::{self, class_of_mode},
};
use records::{
    metric::{Class, MetricSet, Op, Quantity, syscall_index},
    notice,
};

/// Classes that are counted, as bits.
static CLASSES: AtomicU8 = AtomicU8::new(0);

/// What a descriptor's calls count for.
#[derive(Clone, Copy)]
pub struct Target {
    /// The class of the calls.
    pub class: Class,
    /// The directory of the file.
    pub place: Place,
}

/// Takes the classes to count out of the settings.
pub fn configure(metrics: MetricSet, per_directory: bool) {
    let mut bits = 0;
    for class in Class::ALL {
        if metrics.contains(class.first()) {
            bits |= 1 << class as u8;
        }
    }
    CLASSES.store(bits, Ordering::Relaxed);
    directories::configure(per_directory && metrics.contains(Class::File.first()));
}

/// Whether calls of a class are counted.
#[inline]
pub fn counts(class: Class) -> bool {
    CLASSES.load(Ordering::Relaxed) & 1 << class as u8 != 0
}

/// What a descriptor's calls count for, if they do; `is_new` = it was opened just now.
pub fn target_of(fd: u64, is_new: bool) -> Option<Target> {
    // A descriptor is an int: the upper half of the register has no meaning.
    let fd = u64::from(fd as u32);
    // What is not open is of the class `other`.
    let known = descriptors::of(fd, is_new, || ask(fd, is_new)).unwrap_or(Known::of(Class::Other));
    let is_counted = known.is_counted && counts(known.class);
    is_counted.then_some(Target { class: known.class, place: known.place })
}

/// Asks the kernel what is open on a descriptor, if anything.
fn ask(fd: u64, is_new: bool) -> Option<Known> {
    let status = file::fstat(fd)?;
    let class = class_of_mode(Some(status.mode));
    let mut known = Known::of(class);
    if class != Class::File || !counts(class) {
        return Some(known);
    }
    let chosen = &process::identity().directories;
    if !chosen.is_everything() {
        let mut name = [0u8; 32];
        let mut target = [0u8; 4096];
        let path = file::read_link(file::descriptor_path(fd, &mut name), &mut target);
        // Closed meanwhile: nothing is lost.
        if path.is_none() && file::fstat(fd).is_some() {
            tell_unknown_path();
        }
        known.is_counted = path.is_some_and(|path| chosen.contain(path));
    }
    if known.is_counted {
        // What is kept holds until something changes; what is not, for a moment.
        known.place = directories::place(fd, &status, is_new || descriptors::are_kept());
    }
    Some(known)
}

/// Told once: without its path nobody knows whether a file lies in the directories that are to be counted.
#[cold]
fn tell_unknown_path() {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        let text =
            format_args!("a file whose path /proc does not tell, where directories are chosen");
        recorder::notice(0, notice::PART_NOT_COUNTED, 0, 0, text);
    }
}

/// Whether any call is counted.
#[inline]
pub fn counts_anything() -> bool {
    CLASSES.load(Ordering::Relaxed) != 0
}

/// What a request on a descriptor, carried out behind a call, counts for.
pub fn counted_behind(op: Op, fd: u64) -> Option<Counted> {
    target_of(fd, false).map(|Target { class, place }| Counted { op, class, place })
}

/// The same of a file that a request has opened, or failed to, with this result.
pub fn opened_behind(result: i64) -> Option<Counted> {
    let nowhere = Target { class: Class::File, place: Place::NONE };
    let target = if result > 0 { target_of(result as u64, true) } else { Some(nowhere) };
    let target = target.filter(|target| counts(target.class))?;
    Some(Counted { op: Op::Open, class: target.class, place: target.place })
}

/// Adds to the counters of a request's half.
pub fn charge_behind(thread: &Shared, half: &Counted, calls: u64, bytes: u64, errors: u64) {
    for (quantity, amount) in
        [(Quantity::Calls, calls), (Quantity::Bytes, bytes), (Quantity::Errors, errors)]
    {
        if let Some(index) = syscall_index(half.class, half.op, quantity)
            && amount != 0
        {
            thread.add(index, amount);
            directories::add(half.place, index, amount);
        }
    }
}

/// Has what is open on a descriptor known, where it is kept.
pub fn look_at(fd: u64) {
    target_of(fd, false);
}

/// What was opened counts for; of a failed call the path decides whether it counts.
pub fn target_of_opened(number: u64, arguments: &[u64; 6], result: i64) -> Option<Target> {
    if result >= 0 {
        return target_of(result as u64, true);
    }
    let nowhere = Target { class: Class::File, place: Place::NONE };
    if !counts(Class::File) {
        return None;
    }
    let chosen = &process::identity().directories;
    if chosen.is_everything() {
        return Some(nowhere);
    }
    let mut path = [0u8; 4096];
    let path = sys::read_string(arguments[syscall::path_argument(number)], &mut path);
    chosen.contain(path).then_some(nowhere)
}
