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
    base::clock,
    count::{
        descriptors,
        targets::{Target, counts, counts_anything, target_of, target_of_opened},
    },
    record::{
        counters::{self, Shared},
        directories, recorder,
    },
};
use core::sync::atomic::{AtomicBool, Ordering};
use engine::CallToken;
use guest::{
    descriptor_table::End,
    directory_table::Place,
    syscall::{self, Bytes, Descriptor, Finished, Shape, shape},
    syscall_number as nr,
};
use records::{metric::Class, notice};

/// A half of a call that does not count, in a [`Token`].
const NOT_COUNTED: u64 = 4;
/// A half whose descriptor is the result.
const LATER: u64 = 5;

/// Bits of a token's first word that hold the time; 2^58 ns are nine years since boot.
const TIME_BITS: u32 = 58;
/// Bits of its second word that hold the place of the first descriptor's file.
const PLACE_BITS: u32 = 32;

/// Whether a call of this number may count.
#[inline]
pub fn is_counted(number: u64) -> bool {
    counts_anything() && shape(number).is_some()
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
        counters::add(thread, index, amount);
        directories::add(targets[half].map_or(Place::NONE, |target| target.place), index, amount);
    });
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
