//! Raw system calls, and the few constants of the kernel's interface that the shim uses.
//!
//! Results are the kernel's: a value, or a negated errno between -4095 and -1. libc's `errno` is never
//! touched. Numbers and constants are those of `asm/unistd_64.h` and `uapi/linux`.

use core::arch::asm;

/// System-call numbers (`arch/x86/entry/syscalls/syscall_64.tbl`).
#[allow(missing_docs)]
pub mod nr {
    pub use guest::syscall_number::*;
}

macro_rules! syscalls {
    ($( $name:ident ( $( $arg:ident in $reg:tt ),* ); )*) => { $(
        /// One system call with this many arguments; `-EPERM` where a filter that the process has installed may forbid it.
        ///
        /// # Safety
        ///
        /// As the system call itself: pointers must be valid for what the kernel does with them.
        #[inline]
        pub unsafe fn $name(number: u64 $(, $arg: u64)*) -> i64 {
            if engine::seccomp::is_restricted() && !is_allowed(number, &[$($arg),*]) {
                return EPERM;
            }
            let result: i64;
            // SAFETY: the kernel clobbers rcx and r11 and keeps the rest; the caller vouches for the arguments.
            unsafe {
                asm!("syscall", inlateout("rax") number as i64 => result, $( in($reg) $arg, )*
                    lateout("rcx") _, lateout("r11") _, options(nostack));
            }
            result
        }
    )* };
}

/// Whether the process's own filters simply allow a call.
#[cold]
fn is_allowed(number: u64, given: &[u64]) -> bool {
    let mut arguments = [0; 6];
    arguments[..given.len()].copy_from_slice(given);
    engine::seccomp::allows(number, &arguments)
}

syscalls! {
    call0();
    call1(a in "rdi");
    call2(a in "rdi", b in "rsi");
    call3(a in "rdi", b in "rsi", c in "rdx");
    call4(a in "rdi", b in "rsi", c in "rdx", d in "r10");
    call6(a in "rdi", b in "rsi", c in "rdx", d in "r10", e in "r8", f in "r9");
}

/// `-EPERM`.
pub const EPERM: i64 = -1;
/// `-EINTR`.
pub const EINTR: i64 = -4;
/// `-ENOSPC`.
pub const ENOSPC: i64 = -28;
/// `-EDQUOT`.
pub const EDQUOT: i64 = -122;
/// `-ENOENT`.
pub const ENOENT: i64 = -2;
/// Whether a result is an error.
#[inline]
pub const fn failed(result: i64) -> bool {
    result < 0 && result >= -4095
}

/// Anonymous private memory, zeroed; `None` when the kernel refuses.
pub fn map_anonymous(bytes: usize) -> Option<*mut u8> {
    const PROT_READ_WRITE: u64 = 3;
    const MAP_PRIVATE_ANONYMOUS: u64 = 0x22;
    // SAFETY: a new mapping at a place of the kernel's choice disturbs nobody.
    let result = unsafe {
        let arguments = [0, bytes as u64, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, u64::MAX, 0];
        engine::sys::optional(nr::MMAP, arguments)
    };
    (!failed(result)).then_some(result as *mut u8)
}

/// Gives back memory from [`map_anonymous`].
///
/// # Safety
///
/// The range is a whole mapping of ours that nobody uses any more.
pub unsafe fn unmap(start: *mut u8, bytes: usize) {
    // SAFETY: as the caller says.
    unsafe { engine::sys::optional(nr::MUNMAP, [start as u64, bytes as u64, 0, 0, 0, 0]) };
}

/// This thread's name, NUL-padded (`TASK_COMM_LEN`).
pub fn thread_name(into: &mut [u8; 16]) {
    const PR_GET_NAME: u64 = 16;
    // SAFETY: the kernel writes 16 bytes.
    unsafe {
        engine::sys::optional(nr::PRCTL, [PR_GET_NAME, into.as_mut_ptr() as u64, 0, 0, 0, 0])
    };
}

/// Names this thread.
pub fn set_thread_name(name: &core::ffi::CStr) {
    const PR_SET_NAME: u64 = 15;
    // SAFETY: the name is NUL-terminated and only read.
    unsafe { call2(nr::PRCTL, PR_SET_NAME, name.as_ptr() as u64) };
}

/// Reads this process's memory at an address that may be invalid, up to the buffer's end or the first byte
/// that cannot be read; the number of bytes.
pub fn read_memory(address: u64, buffer: &mut [u8]) -> usize {
    engine::read_memory_start(address, buffer)
}

/// Reads this process's memory at an address that may be invalid, up to the first NUL, the buffer's end or
/// the first page that cannot be read.
pub fn read_string(address: u64, buffer: &mut [u8]) -> &[u8] {
    const PAGE: u64 = 4096;
    let mut used = 0;
    while used < buffer.len() {
        let from = address.wrapping_add(used as u64);
        let length = (PAGE - from % PAGE).min((buffer.len() - used) as u64);
        let result = read_memory(from, &mut buffer[used..used + length as usize]);
        if result == 0 {
            break;
        }
        let read = &buffer[used..used + result];
        if let Some(end) = read.iter().position(|&byte| byte == 0) {
            used += end;
            break;
        }
        used += result;
    }
    &buffer[..used]
}

/// Whether Valgrind runs this: its client request RUNNING_ON_VALGRIND, instructions that change nothing elsewhere
/// (valgrind.h).
pub fn is_simulated() -> bool {
    let request = [0x1001u64, 0, 0, 0, 0, 0];
    let mut answer = 0u64;
    // SAFETY: rotations by 64 bits in all, and an exchange of a register with itself.
    unsafe {
        asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") request.as_ptr(), inout("rdx") answer, options(nostack),
        );
    }
    answer != 0
}
