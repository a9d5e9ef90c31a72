//! The one place where a system call is counted, whether a libc hook or the engine saw it.
//!
//! [`before`] looks at the descriptors and the clock, [`observe`] at the result; both take the call by its
//! number and the kernel's arguments. A descriptor's class is asked of the kernel at each call (fstat, some
//! 0.1 us): a table kept beside the kernel's would be wrong after every close, dup or accept that libc
//! makes inside itself, which hooks do not see.
//!
//! # Limitations
//!
//! A descriptor that another thread replaces during the call counts as what it was before it.

use crate::{
    clock,
    process::{self},
    sys,
    threads::{self, Shared},
};
use core::sync::atomic::{AtomicU8, Ordering};
use guest::syscall::{self, Bytes, Descriptor, Finished, class_of_mode, shape};
use records::metric::{Class, MetricSet};

/// Classes that are counted, as bits.
static CLASSES: AtomicU8 = AtomicU8::new(0);

/// A half of a call that does not count, in a [`Token`].
const NOT_COUNTED: u64 = 4;
/// A half whose descriptor is the result.
const LATER: u64 = 5;

/// What [`before`] tells [`observe`]: the classes of the descriptors and the time.
#[derive(Clone, Copy)]
pub struct Token(pub u64);

/// Bits of a token that hold the time; 2^58 ns are nine years since boot.
const TIME_BITS: u32 = 58;

/// Takes the classes to count out of the settings.
pub fn configure(metrics: MetricSet) {
    let mut bits = 0;
    for class in Class::ALL {
        if metrics.contains(class.first()) {
            bits |= 1 << class as u8;
        }
    }
    CLASSES.store(bits, Ordering::Relaxed);
}

/// Whether a call of this number may count.
#[inline]
pub fn is_counted(number: u64) -> bool {
    CLASSES.load(Ordering::Relaxed) != 0 && shape(number).is_some()
}

/// A counted call is about to be made.
pub fn before(number: u64, arguments: &[u64; 6]) -> Token {
    let Some(shape) = shape(number) else { return Token(0) };
    let code = |descriptor| match descriptor {
        Descriptor::Argument(index) => {
            class_of(arguments[usize::from(index)]).map_or(NOT_COUNTED, |class| class as u64)
        }
        Descriptor::Result => LATER,
    };
    let first = code(shape.first.descriptor);
    let second = shape.second.map_or(NOT_COUNTED, |half| code(half.descriptor));
    let time = clock::monotonic_ns() & ((1 << TIME_BITS) - 1);
    Token(time | first << TIME_BITS | second << (TIME_BITS + 3))
}

/// A counted call returned `result` (a negated errno on failure): adds it to the thread's counters, or to
/// the process's after the thread's end.
pub fn observe(
    thread: Option<&Shared>,
    number: u64,
    arguments: &[u64; 6],
    token: Token,
    result: i64,
) {
    let Some(shape) = shape(number) else { return };
    let now = clock::monotonic_ns() & ((1 << TIME_BITS) - 1);
    let class = |code: u64| match code & 7 {
        LATER => class_of_opened(number, arguments, result),
        code => Class::ALL.get(code as usize).copied(),
    };
    let call = Finished {
        shape,
        classes: [class(token.0 >> TIME_BITS), class(token.0 >> (TIME_BITS + 3))],
        result,
        message_bytes: match shape.bytes {
            Bytes::Messages(at) if result > 0 => {
                message_bytes(arguments[usize::from(at)], result as usize)
            }
            _ => 0,
        },
        nanoseconds: now.saturating_sub(token.0 & ((1 << TIME_BITS) - 1)),
    };
    syscall::charge(&call, |index, amount| threads::add(thread, index, amount));
}

/// The class of a descriptor, if calls on it count.
fn class_of(fd: u64) -> Option<Class> {
    // A descriptor is an int: the upper half of the register has no meaning.
    let fd = u64::from(fd as u32);
    let class = class_of_mode(sys::fstat(fd).map(|status| status.mode));
    if CLASSES.load(Ordering::Relaxed) & 1 << class as u8 == 0 {
        return None;
    }
    let directories = &process::identity().directories;
    if class != Class::File || directories.is_everything() {
        return Some(class);
    }
    let mut name = [0u8; 32];
    let mut target = [0u8; 4096];
    let path = sys::read_link(descriptor_path(fd, &mut name), &mut target)?;
    directories.contain(path).then_some(class)
}

/// The class of what was opened; of a failed call the path decides whether it counts.
fn class_of_opened(number: u64, arguments: &[u64; 6], result: i64) -> Option<Class> {
    if result >= 0 {
        return class_of(result as u64);
    }
    if CLASSES.load(Ordering::Relaxed) & 1 << Class::File as u8 == 0 {
        return None;
    }
    let directories = &process::identity().directories;
    if directories.is_everything() {
        return Some(Class::File);
    }
    let mut path = [0u8; 4096];
    let path = sys::read_string(arguments[syscall::path_argument(number)], &mut path);
    directories.contain(path).then_some(Class::File)
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
