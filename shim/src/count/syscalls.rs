//! The one place where a system call is counted, whether a libc hook or the engine saw it.
//!
//! [`before`] looks at the descriptors and the clock, [`observe`] at the result; both take the call by its
//! number and the kernel's arguments. Where hooks count, a descriptor's class is asked of the kernel at each call (fstat,
//! some 0.1 us): a table kept beside the kernel's would be wrong after every close, dup or accept that libc
//! makes inside itself, which hooks do not see. Where the engine sees every call there is such a table ([`descriptors`]).
//!
//! # Limitations
//!
//! A descriptor that another thread replaces during the call counts as what it was before it.

use crate::{
    base::{clock, sys},
    count::descriptors,
    entry::process,
    record::{
        directories, recorder,
        threads::{self, Shared},
    },
};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use engine::CallToken;
use guest::{
    descriptor_table::{End, Known},
    directory_table::Place,
    requests::Counted,
    syscall::{self, Bytes, Descriptor, Finished, Shape, class_of_mode, shape},
    syscall_number as nr,
};
use records::{
    metric::{Class, MetricSet, Op, Quantity, syscall_index},
    notice,
};

/// Classes that are counted, as bits.
static CLASSES: AtomicU8 = AtomicU8::new(0);

/// A half of a call that does not count, in a [`Token`].
const NOT_COUNTED: u64 = 4;
/// A half whose descriptor is the result.
const LATER: u64 = 5;

/// Bits of a token's first word that hold the time; 2^58 ns are nine years since boot.
const TIME_BITS: u32 = 58;
/// Bits of its second word that hold the place of the first descriptor's file.
const PLACE_BITS: u32 = 32;

/// What a descriptor's calls count for.
#[derive(Clone, Copy)]
struct Target {
    class: Class,
    place: Place,
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

/// Whether a call of this number may count.
#[inline]
pub fn is_counted(number: u64) -> bool {
    CLASSES.load(Ordering::Relaxed) != 0 && shape(number).is_some()
}

/// A counted call is about to be made: the time, and what its descriptors count for, for [`observe`].
pub fn before(number: u64, arguments: &[u64; 6]) -> CallToken {
    let Some(shape) = shape(number) else { return CallToken::default() };
    let mut targets = targets(number, &shape, arguments);
    let mut now = clock::monotonic_ns();
    if directories::has_moved_on(now) {
        targets = self::targets(number, &shape, arguments);
        now = clock::monotonic_ns();
    }
    let [(first, first_place), (second, second_place)] = targets;
    let time = now & ((1 << TIME_BITS) - 1);
    [
        time | first << TIME_BITS | second << (TIME_BITS + 3),
        first_place.word() | second_place.word() << PLACE_BITS,
    ]
}

/// The classes and places of both halves, before the call.
fn targets(number: u64, shape: &Shape, arguments: &[u64; 6]) -> [(u64, Place); 2] {
    const NOTHING: (u64, Place) = (NOT_COUNTED, Place::NONE);
    let code = |descriptor| match descriptor {
        Descriptor::Argument(index) => target_of(arguments[usize::from(index)], false)
            .map_or(NOTHING, |target| (target.class as u64, target.place)),
        Descriptor::Result => (LATER, Place::NONE),
        Descriptor::Nowhere if counts(Class::Other) => (Class::Other as u64, Place::NONE),
        Descriptor::Nowhere => NOTHING,
    };
    let mut halves = [Some(shape.first), shape.second];
    if number == nr::VMSPLICE {
        match descriptors::end(arguments[0]) {
            Some(End::Read) => halves[1] = None,
            Some(_) => halves[0] = None,
            None => {
                halves = [None; 2];
                told(&END_UNKNOWN, "a vmsplice whose direction could not be asked for");
            }
        }
    }
    halves.map(|half| half.map_or(NOTHING, |half| code(half.descriptor)))
}

static END_UNKNOWN: AtomicBool = AtomicBool::new(false);

/// Tells once that something is not counted.
fn told(once: &AtomicBool, what: &str) {
    if !once.swap(true, Ordering::Relaxed) {
        recorder::notice(0, notice::PART_NOT_COUNTED, 0, 0, format_args!("{what}"));
    }
}

/// Whether calls of a class are counted.
#[inline]
fn counts(class: Class) -> bool {
    CLASSES.load(Ordering::Relaxed) & 1 << class as u8 != 0
}

/// A counted call returned `result` (a negated errno on failure): adds it to the thread's counters, or to
/// the process's after the thread's end, and to those of the files' directories.
pub fn observe(
    thread: Option<&Shared>,
    number: u64,
    arguments: &[u64; 6],
    token: CallToken,
    result: i64,
) {
    let Some(shape) = shape(number) else { return };
    let now = clock::monotonic_ns();
    let target = |code: u64, place: u64| match code & 7 {
        LATER => {
            directories::has_moved_on(now);
            target_of_opened(number, arguments, result)
        }
        code => {
            let class = Class::ALL.get(code as usize).copied()?;
            Some(Target { class, place: Place::of_word(place) })
        }
    };
    let targets = [
        target(token[0] >> TIME_BITS, token[1] & ((1 << PLACE_BITS) - 1)),
        target(token[0] >> (TIME_BITS + 3), token[1] >> PLACE_BITS),
    ];
    let now = now & ((1 << TIME_BITS) - 1);
    let call = Finished {
        shape,
        classes: targets.map(|target| target.map(|target| target.class)),
        result,
        message_bytes: match shape.bytes {
            Bytes::Messages(at) if result > 0 => {
                message_bytes(arguments[usize::from(at)], result as usize)
            }
            _ => 0,
        },
        nanoseconds: now.saturating_sub(token[0] & ((1 << TIME_BITS) - 1)),
    };
    syscall::charge(&call, |half, index, amount| {
        threads::add(thread, index, amount);
        directories::add(targets[half].map_or(Place::NONE, |target| target.place), index, amount);
    });
}

/// What a descriptor's calls count for, if they do; `is_new` = it was opened just now.
fn target_of(fd: u64, is_new: bool) -> Option<Target> {
    // A descriptor is an int: the upper half of the register has no meaning.
    let fd = u64::from(fd as u32);
    // What is not open is of the class `other`.
    let known = descriptors::of(fd, is_new, || ask(fd, is_new)).unwrap_or(Known::of(Class::Other));
    let is_counted = known.is_counted && counts(known.class);
    is_counted.then_some(Target { class: known.class, place: known.place })
}

/// Asks the kernel what is open on a descriptor, if anything.
fn ask(fd: u64, is_new: bool) -> Option<Known> {
    let status = sys::fstat(fd)?;
    let class = class_of_mode(Some(status.mode));
    let mut known = Known::of(class);
    if class != Class::File || !counts(class) {
        return Some(known);
    }
    let chosen = &process::identity().directories;
    if !chosen.is_everything() {
        let mut name = [0u8; 32];
        let mut target = [0u8; 4096];
        let path = sys::read_link(descriptor_path(fd, &mut name), &mut target);
        known.is_counted = path.is_some_and(|path| chosen.contain(path));
    }
    if known.is_counted {
        // What is kept holds until something changes; what is not, for a moment.
        known.place = directories::place(fd, &status, is_new || descriptors::are_kept());
    }
    Some(known)
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
fn target_of_opened(number: u64, arguments: &[u64; 6], result: i64) -> Option<Target> {
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

/// `/proc/self/fd/<fd>`
pub fn descriptor_path(fd: u64, buffer: &mut [u8; 32]) -> &core::ffi::CStr {
    const PREFIX: &[u8] = b"/proc/self/fd/";
    buffer[..PREFIX.len()].copy_from_slice(PREFIX);
    let digits = if fd == 0 { 1 } else { fd.ilog10() as usize + 1 };
    let end = (PREFIX.len() + digits).min(buffer.len() - 1);
    let mut rest = fd;
    for byte in buffer[PREFIX.len()..end].iter_mut().rev() {
        *byte = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    buffer[end] = 0;
    core::ffi::CStr::from_bytes_until_nul(buffer).unwrap_or_default()
}

/// The bytes of the messages that sendmmsg or recvmmsg moved: `msg_len` of each `struct mmsghdr`.
fn message_bytes(vector: u64, count: usize) -> u64 {
    const STRIDE: usize = 64;
    const LENGTH_AT: usize = 56;
    (0..count)
        // SAFETY: the kernel has just written these words of as many messages as it said.
        .map(|index| unsafe { *((vector as usize + index * STRIDE + LENGTH_AT) as *const u32) })
        .map(u64::from)
        .sum()
}
