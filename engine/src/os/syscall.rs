//! Raw Linux system calls for the engine's own needs.
//!
//! The engine may be entered while the application holds any lock of its C library, so it calls the
//! kernel itself. Numbers are those of x86-64 (`arch/x86/entry/syscalls/syscall_64.tbl`).

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

/// System-call numbers that the engine issues or looks for.
pub mod nr {
    #![allow(missing_docs)]
    pub const READ: u64 = 0;
    pub const WRITE: u64 = 1;
    pub const OPEN: u64 = 2;
    pub const CLOSE: u64 = 3;
    pub const MMAP: u64 = 9;
    pub const MPROTECT: u64 = 10;
    pub const MUNMAP: u64 = 11;
    pub const BRK: u64 = 12;
    pub const RT_SIGACTION: u64 = 13;
    pub const RT_SIGPROCMASK: u64 = 14;
    pub const RT_SIGRETURN: u64 = 15;
    pub const MREMAP: u64 = 25;
    pub const MADVISE: u64 = 28;
    pub const SHMAT: u64 = 30;
    pub const NANOSLEEP: u64 = 35;
    pub const GETPID: u64 = 39;
    pub const CLONE: u64 = 56;
    pub const FORK: u64 = 57;
    pub const VFORK: u64 = 58;
    pub const EXECVE: u64 = 59;
    pub const EXIT: u64 = 60;
    pub const SHMDT: u64 = 67;
    pub const RT_SIGSUSPEND: u64 = 130;
    pub const SIGALTSTACK: u64 = 131;
    pub const PRCTL: u64 = 157;
    pub const ARCH_PRCTL: u64 = 158;
    pub const FTRUNCATE: u64 = 77;
    pub const GETTID: u64 = 186;
    pub const FUTEX: u64 = 202;
    pub const CLOCK_GETTIME: u64 = 228;
    pub const EXIT_GROUP: u64 = 231;
    pub const TGKILL: u64 = 234;
    pub const PSELECT6: u64 = 270;
    pub const PPOLL: u64 = 271;
    pub const EPOLL_PWAIT: u64 = 281;
    pub const RT_TGSIGQUEUEINFO: u64 = 297;
    pub const PRLIMIT64: u64 = 302;
    pub const PROCESS_VM_READV: u64 = 310;
    pub const PROCESS_VM_WRITEV: u64 = 311;
    pub const SECCOMP: u64 = 317;
    pub const MEMFD_CREATE: u64 = 319;
    pub const EXECVEAT: u64 = 322;
    pub const PKEY_MPROTECT: u64 = 329;
    pub const IO_PGETEVENTS: u64 = 333;
    pub const CLONE3: u64 = 435;
    pub const EPOLL_PWAIT2: u64 = 441;
}

/// `PROT_READ` (`include/uapi/asm-generic/mman-common.h`).
pub const PROT_READ: u64 = 1;
/// `PROT_WRITE`.
pub const PROT_WRITE: u64 = 2;
/// `PROT_EXEC`.
pub const PROT_EXEC: u64 = 4;
const MAP_PRIVATE: u64 = 0x02;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_NORESERVE: u64 = 0x4000;

/// Issues a system call and returns the kernel's answer (`-errno` on failure).
///
/// # Safety
/// The call's own contract: pointers must be valid for what the kernel does with them.
#[inline]
pub unsafe fn syscall6(nr: u64, a: [u64; 6]) -> i64 {
    let ret: i64;
    // SAFETY: the caller vouches for the arguments; the kernel clobbers rcx and r11 alone.
    unsafe {
        asm!("syscall", inlateout("rax") nr as i64 => ret,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    ret
}

/// Issues a call that the engine can do without: `-EPERM` where the process's own filters may forbid it.
///
/// # Safety
/// As [`syscall6`].
#[inline]
pub unsafe fn optional(nr: u64, a: [u64; 6]) -> i64 {
    const EPERM: i64 = 1;
    // SAFETY: forwarded.
    if crate::seccomp::allows(nr, &a) { unsafe { syscall6(nr, a) } } else { -EPERM }
}

/// Maps `len` bytes of private anonymous memory near `hint` (0 = anywhere), not reserved in swap.
///
/// Returns the address, or `None` when the kernel refuses.
pub fn map_anonymous(hint: usize, len: usize, prot: u64) -> Option<usize> {
    try_map(hint, len, prot).ok()
}

/// As [`map_anonymous`]; the error number when the kernel refuses.
pub fn try_map(hint: usize, len: usize, prot: u64) -> Result<usize, i32> {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    // SAFETY: a new mapping without MAP_FIXED replaces nothing.
    let at = unsafe { optional(nr::MMAP, [hint as u64, len as u64, prot, flags, u64::MAX, 0]) };
    if at > 0 { Ok(at as usize) } else { Err(-at as i32) }
}

/// Maps `len` bytes of private memory below 2 GiB, where a 32-bit displacement alone reaches it.
pub fn map_low(len: usize) -> Option<usize> {
    // MAP_32BIT looks between 1 and 2 GiB; MAP_POPULATE saves a fault per page.
    const MAP_32BIT: u64 = 0x40;
    const MAP_POPULATE: u64 = 0x8000;
    const LOWEST: u64 = 1 << 20;
    const END: u64 = 1 << 31;
    let map = |hint: u64, flags: u64| {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | flags;
        // SAFETY: a new mapping replaces nothing.
        let at = unsafe {
            optional(nr::MMAP, [hint, len as u64, PROT_READ | PROT_WRITE, flags, u64::MAX, 0])
        };
        (at > 0).then_some(at as usize)
    };
    if let Some(at) = map(0, MAP_32BIT) {
        return Some(at);
    }
    let at = map(find_gap(LOWEST..END, len as u64, END)?, 0)?;
    if at + len <= END as usize {
        return Some(at);
    }
    // SAFETY: mapped just now and not used.
    unsafe { unmap(at, len) };
    None
}

/// Enlarges a private anonymous mapping, which may move; its new address, or `None` when the kernel refuses.
///
/// # Safety
/// The mapping must be the engine's own, and nothing may refer to it.
pub unsafe fn enlarge(at: usize, len: usize, new_len: usize) -> Option<usize> {
    const MREMAP_MAYMOVE: u64 = 1;
    // SAFETY: the caller gives the old address up.
    let new = unsafe {
        optional(nr::MREMAP, [at as u64, len as u64, new_len as u64, MREMAP_MAYMOVE, 0, 0])
    };
    (new > 0).then_some(new as usize)
}

/// The bytes of address space that the process may have, of all kinds (RLIMIT_AS) or of writable memory of its own
/// (RLIMIT_DATA); `None` = as many as it likes.
pub fn address_space_limit() -> Option<u64> {
    [limit(RLIMIT_DATA), limit(RLIMIT_AS)].into_iter().flatten().min()
}

/// Writable memory of the process's own (`include/uapi/asm-generic/resource.h`).
pub const RLIMIT_DATA: u64 = 2;
/// Address space of all kinds.
pub const RLIMIT_AS: u64 = 9;

/// The present limit on something (getrlimit(2)); `None` = there is none.
pub fn limit(resource: u64) -> Option<u64> {
    let mut limit = [u64::MAX; 2];
    // SAFETY: the kernel writes `struct rlimit64`.
    unsafe { optional(nr::PRLIMIT64, [0, resource, 0, limit.as_mut_ptr() as u64, 0, 0]) };
    (limit[0] != u64::MAX).then_some(limit[0])
}

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

/// Bytes of memory that have no name and can be mapped more than once: a descriptor, which the caller closes; the error
/// number when the kernel refuses.
pub fn memory_file(len: usize) -> Result<i32, i32> {
    const MFD_CLOEXEC: u64 = 1;
    // Before Linux 6.3 all such files may be executed, and the flag is not known.
    const MFD_EXEC: u64 = 16;
    const EINVAL: i64 = -22;
    const EFBIG: i32 = 27;
    const RLIMIT_FSIZE: u64 = 1;
    if limit(RLIMIT_FSIZE).is_some_and(|limit| limit < len as u64) {
        return Err(EFBIG); // a signal would come with it
    }
    let name = c"code".as_ptr() as u64;
    // SAFETY: a new descriptor; the name is a string.
    let create = |flags| unsafe { optional(nr::MEMFD_CREATE, [name, flags, 0, 0, 0, 0]) };
    let mut file = create(MFD_CLOEXEC | MFD_EXEC);
    if file == EINVAL {
        file = create(MFD_CLOEXEC);
    }
    if file < 0 {
        return Err(-file as i32);
    }
    // SAFETY: our own file.
    let sized = unsafe { optional(nr::FTRUNCATE, [file as u64, len as u64, 0, 0, 0, 0]) };
    if sized < 0 {
        close(file as i32);
        return Err(-sized as i32);
    }
    Ok(file as i32)
}

/// Maps `len` bytes of a file of [`memory_file`], shared, near `hint`; the error number when the kernel refuses.
pub fn map_file(hint: usize, len: usize, prot: u64, file: i32) -> Result<usize, i32> {
    const MAP_SHARED: u64 = 1;
    let arguments = [hint as u64, len as u64, prot, MAP_SHARED | MAP_NORESERVE, file as u64, 0];
    // SAFETY: a new mapping without MAP_FIXED replaces nothing.
    let at = unsafe { optional(nr::MMAP, arguments) };
    if at > 0 { Ok(at as usize) } else { Err(-at as i32) }
}

/// Closes a descriptor of the engine's own.
pub fn close(file: i32) {
    // SAFETY: the caller's own descriptor.
    unsafe { syscall6(nr::CLOSE, [file as u64, 0, 0, 0, 0, 0]) };
}

/// Unmaps a range that the engine mapped itself.
///
/// # Safety
/// Nothing may use the range any more.
pub unsafe fn unmap(at: usize, len: usize) {
    // SAFETY: the caller gives the range up.
    unsafe { syscall6(nr::MUNMAP, [at as u64, len as u64, 0, 0, 0, 0]) };
}

/// Gives the memory of a page-aligned range back to the kernel; it reads as zeros afterwards.
///
/// # Safety
/// The range must be private anonymous memory of the engine's own, whose contents are not needed any more.
pub unsafe fn discard(at: usize, len: usize) {
    const MADV_DONTNEED: u64 = 4;
    // SAFETY: the caller gives the contents up.
    unsafe {
        if optional(nr::MADVISE, [at as u64, len as u64, MADV_DONTNEED, 0, 0, 0]) != 0 {
            core::ptr::write_bytes(at as *mut u8, 0, len);
        }
    }
}

/// The same for a mapping of a file of [`memory_file`]: the file's memory is given back.
///
/// # Safety
/// As [`discard`].
pub unsafe fn discard_shared(at: usize, len: usize) {
    const MADV_REMOVE: u64 = 9;
    // SAFETY: the caller gives the contents up.
    unsafe {
        if optional(nr::MADVISE, [at as u64, len as u64, MADV_REMOVE, 0, 0, 0]) != 0 {
            core::ptr::write_bytes(at as *mut u8, 0, len);
        }
    }
}

/// Asks for large pages behind anonymous memory, where the kernel has them to give.
pub fn prefer_huge_pages(at: usize, len: usize) {
    const MADV_HUGEPAGE: u64 = 14;
    // SAFETY: the contents stay the same, whatever the kernel answers.
    unsafe { optional(nr::MADVISE, [at as u64, len as u64, MADV_HUGEPAGE, 0, 0, 0]) };
}

/// Sleeps for a time below a second, or until a signal comes.
pub fn sleep_ns(ns: u64) {
    let time = [0u64, ns];
    // SAFETY: the kernel reads `struct timespec`.
    unsafe { optional(nr::NANOSLEEP, [time.as_ptr() as u64, 0, 0, 0, 0, 0]) };
}

/// The calling thread's kernel id.
pub fn gettid() -> u32 {
    // SAFETY: no pointers.
    unsafe { syscall6(nr::GETTID, [0; 6]) as u32 }
}

/// The process's id, asked for once.
pub fn getpid() -> u32 {
    match PID.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: no pointers.
            let pid = unsafe { optional(nr::GETPID, [0; 6]) }.max(0) as u32;
            PID.store(pid, Ordering::Relaxed);
            pid
        }
        known => known,
    }
}

/// This is a child of fork, whose id is not known yet.
pub fn forget_pid() {
    PID.store(0, Ordering::Relaxed);
}

static PID: AtomicU32 = AtomicU32::new(0);

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

/// Reads a file of `/proc` of any size line by line, without the newlines; `None` if it cannot be opened.
///
/// `path` must end in NUL, and no line may be longer than `buffer`: what does not fit is dropped.
pub fn each_line(path: &[u8], buffer: &mut [u8], mut take: impl FnMut(&[u8])) -> Option<()> {
    debug_assert_eq!(path.last(), Some(&0));
    const O_CLOEXEC: u64 = 0o2000000;
    if ![nr::READ, nr::CLOSE].into_iter().all(|call| crate::seccomp::allows(call, &[0; 6])) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_free_and_the_nearest() {
        const BYTES: u64 = 1 << 20;
        // Three pieces of a reservation, the one in the middle given back.
        let at = map_anonymous(0, 3 * BYTES as usize, PROT_READ).unwrap() as u64;
        // SAFETY: mapped just now.
        unsafe { unmap((at + BYTES) as usize, BYTES as usize) };
        let inside = at..at + 3 * BYTES;
        let found = find_gap(inside.clone(), BYTES / 2, at);
        let too_large = find_gap(inside, 2 * BYTES, at);
        // SAFETY: as above.
        unsafe {
            unmap(at as usize, BYTES as usize);
            unmap((at + 2 * BYTES) as usize, BYTES as usize);
        }
        // Another test's thread may have taken the gap meanwhile, but not made one.
        assert!(found.is_none_or(|found| found == at + BYTES), "{found:x?} for {at:x}");
        assert_eq!(too_large, None);
    }

    #[test]
    fn a_memory_file_is_one_memory_at_two_addresses() {
        let file = memory_file(4096).unwrap();
        let [read, written] =
            [PROT_READ, PROT_READ | PROT_WRITE].map(|prot| map_file(0, 4096, prot, file).unwrap());
        close(file);
        // SAFETY: mapped just now.
        unsafe {
            *(written as *mut u64) = 7;
            assert_eq!((read as *const u64).read_volatile(), 7);
            discard_shared(written, 4096);
            assert_eq!((read as *const u64).read_volatile(), 0);
            unmap(read, 4096);
            unmap(written, 4096);
        }
    }
}
