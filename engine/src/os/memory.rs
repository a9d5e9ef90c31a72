//! Memory of the engine's own, from the kernel.

use super::process::limit;
use super::procfs::find_gap;
use super::seccomp::optional;
use super::syscall::{nr, syscall6};

/// `PROT_READ` (`include/uapi/asm-generic/mman-common.h`).
pub const PROT_READ: u64 = 1;
/// `PROT_WRITE`.
pub const PROT_WRITE: u64 = 2;
/// `PROT_EXEC`.
pub const PROT_EXEC: u64 = 4;
const MAP_PRIVATE: u64 = 0x02;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_NORESERVE: u64 = 0x4000;

/// Bits of an address within its page.
pub const PAGE_BITS: u32 = 12;
/// Bytes of a page.
pub const PAGE: u64 = 1 << PAGE_BITS;

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
