//! What `/proc/self` tells.

use super::seccomp::optional;
use super::syscall::{nr, syscall6};

/// Where `len` free bytes lie in a range of addresses, as near to `wanted` as there are.
pub fn find_gap(range: core::ops::Range<u64>, len: u64, wanted: u64) -> Option<u64> {
    const PAGE: u64 = 4096;
    let mut buffer = [0u8; 4096];
    let mut best: Option<u64> = None;
    let mut look = |from: u64, to: u64| {
        let (from, to) = (from.max(range.start), to.min(range.end) & !(PAGE - 1));
        if to.saturating_sub(from) >= len {
            let at = wanted.clamp(from, to - len) & !(PAGE - 1);
            if best.is_none_or(|best| at.abs_diff(wanted) < best.abs_diff(wanted)) {
                best = Some(at);
            }
        }
    };
    let mut free_from = 0;
    each_line(b"/proc/self/maps\0", &mut buffer, |line| {
        if let Some((start, end)) = mapping(line) {
            look(free_from, start);
            free_from = end;
        }
    })?;
    look(free_from, range.end);
    best
}

/// Start and end in a line of `/proc/self/maps`.
pub fn mapping(line: &[u8]) -> Option<(u64, u64)> {
    let span = line.split(|&byte| byte == b' ').next()?;
    let mut ends = span.splitn(2, |&byte| byte == b'-').map(|digits| {
        digits.iter().try_fold(0u64, |value, &byte| {
            Some(value << 4 | u64::from((byte as char).to_digit(16)?))
        })
    });
    Some((ends.next()??, ends.next()??))
}

/// Reads a file of `/proc` of any size line by line, without the newlines; `None` if it cannot be opened.
///
/// `path` must end in NUL, and no line may be longer than `buffer`: what does not fit is dropped.
pub fn each_line(path: &[u8], buffer: &mut [u8], mut take: impl FnMut(&[u8])) -> Option<()> {
    debug_assert_eq!(path.last(), Some(&0));
    const O_CLOEXEC: u64 = 0o2000000;
    if ![nr::READ, nr::CLOSE].into_iter().all(|call| crate::os::seccomp::allows(call, &[0; 6])) {
        return None;
    }
    // SAFETY: path is NUL-terminated.
    let fd = unsafe { optional(nr::OPEN, [path.as_ptr() as u64, O_CLOEXEC, 0, 0, 0, 0]) };
    if fd < 0 {
        return None;
    }
    // Bytes at the beginning of the buffer of a line whose end is not read yet.
    let mut held = 0;
    loop {
        let room = &mut buffer[held..];
        let arguments = [fd as u64, room.as_mut_ptr() as u64, room.len() as u64, 0, 0, 0];
        // SAFETY: the buffer is ours and its length is passed.
        let got = unsafe { optional(nr::READ, arguments) };
        if got <= 0 {
            break;
        }
        let filled = held + got as usize;
        let whole = buffer[..filled].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        buffer[..whole].split(|&byte| byte == b'\n').for_each(&mut take);
        buffer.copy_within(whole..filled, 0);
        held = (filled - whole) % buffer.len();
    }
    // SAFETY: opened above.
    unsafe { syscall6(nr::CLOSE, [fd as u64, 0, 0, 0, 0, 0]) };
    Some(())
}

/// Reads `/proc/self/auxv`: pairs of a key and a value. Empty where it cannot be read.
pub fn read_auxiliary_vector(into: &mut [[u64; 2]]) -> &[[u64; 2]] {
    const O_CLOEXEC: u64 = 0o2000000;
    let path = c"/proc/self/auxv".as_ptr() as u64;
    // SAFETY: the path is NUL-terminated; the kernel writes within the buffer.
    unsafe {
        let fd = optional(nr::OPEN, [path, O_CLOEXEC, 0, 0, 0, 0]);
        if fd < 0 {
            return &[];
        }
        let room = size_of_val(into) as u64;
        let got = syscall6(nr::READ, [fd as u64, into.as_mut_ptr() as u64, room, 0, 0, 0]);
        syscall6(nr::CLOSE, [fd as u64, 0, 0, 0, 0, 0]);
        &into[..usize::try_from(got).unwrap_or(0) / size_of::<[u64; 2]>()]
    }
}
