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
/// What files are opened with: see open(2).
#[allow(missing_docs)]
pub mod flag {
    pub const O_WRONLY: u64 = 1;
    pub const O_CREAT: u64 = 0o100;
    pub const O_EXCL: u64 = 0o200;
    pub const O_NOCTTY: u64 = 0o400;
    pub const O_APPEND: u64 = 0o2_000;
    pub const O_NONBLOCK: u64 = 0o4_000;
    pub const O_DIRECTORY: u64 = 0o200_000;
    pub const O_NOFOLLOW: u64 = 0o400_000;
    pub const O_CLOEXEC: u64 = 0o2_000_000;
    pub const O_PATH: u64 = 0o10_000_000;
    /// A FIFO or device in a file's place neither stops nor changes anything until it is seen for what it is.
    pub const CAREFUL: u64 = O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
}
/// The descriptor number that means "the current directory" (`AT_FDCWD`).
pub const AT_FDCWD: u64 = -100i64 as u64;

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

/// This thread's id.
#[inline]
pub fn gettid() -> u32 {
    // SAFETY: takes no argument and changes nothing.
    unsafe { engine::sys::optional(nr::GETTID, [0; 6]).max(0) as u32 }
}

/// This process's id (also right in the child of vfork, where memory is the parent's).
#[inline]
pub fn getpid() -> u32 {
    // SAFETY: takes no argument and changes nothing.
    let asked = unsafe { engine::sys::optional(nr::GETPID, [0; 6]) };
    // A child of fork, which has one thread, is who needs it where a filter may forbid to ask.
    u32::try_from(asked).unwrap_or_else(|_| crate::client::tracer::own_tid())
}

/// The effective user.
pub fn geteuid() -> u32 {
    // SAFETY: takes no argument and changes nothing.
    unsafe { call0(nr::GETEUID) as u32 }
}

/// The effective group.
pub fn getegid() -> u32 {
    // SAFETY: takes no argument and changes nothing.
    unsafe { call0(nr::GETEGID) as u32 }
}

/// The parent's process id.
pub fn getppid() -> u32 {
    // SAFETY: takes no argument and changes nothing.
    unsafe { engine::sys::optional(nr::GETPPID, [0; 6]).max(0) as u32 }
}

/// Writes all bytes to a descriptor of this process, for messages; errors are dropped.
pub fn write_all(fd: i32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the slice is readable for its length.
        let result =
            unsafe { call3(nr::WRITE, fd as u64, bytes.as_ptr() as u64, bytes.len() as u64) };
        match result {
            EINTR => {}
            written if written > 0 => bytes = &bytes[written as usize..],
            _ => return,
        }
    }
}

/// Opens a file; `path` ends with NUL. The descriptor, or a negated errno.
pub fn open(path: &core::ffi::CStr, flags: u64, mode: u64) -> i64 {
    let arguments = [AT_FDCWD, path.as_ptr() as u64, flags, mode, 0, 0];
    // A descriptor that could not be closed would stay in the application's table.
    if !engine::seccomp::allows(nr::CLOSE, &[0; 6]) {
        return EPERM;
    }
    // SAFETY: the path is NUL-terminated and the kernel only reads it.
    unsafe { engine::sys::optional(nr::OPENAT, arguments) }
}

/// Closes a descriptor that the shim itself opened.
pub fn close(fd: i32) {
    // SAFETY: only descriptors of the shim's own are given here.
    unsafe { call1(nr::CLOSE, fd as u64) };
}

/// Reads up to the buffer's length; the count, or a negated errno. Interrupted reads are repeated.
pub fn read(fd: i32, buffer: &mut [u8]) -> i64 {
    loop {
        // SAFETY: the kernel writes within the buffer only.
        let result =
            unsafe { call3(nr::READ, fd as u64, buffer.as_mut_ptr() as u64, buffer.len() as u64) };
        if result != EINTR {
            return result;
        }
    }
}

/// Blocks every signal in this thread for as long as the value lives.
///
/// Taken around what must not be entered twice by one thread: a handler that runs inside would find
/// its own locks held. On the engine's stack, where a followed thread's signals wait anyway, no call is made.
pub struct SignalsBlocked {
    before: Option<u64>,
}

const SIG_SETMASK: u64 = 2;

impl SignalsBlocked {
    /// Blocks them.
    pub fn new() -> SignalsBlocked {
        if engine::is_in_dispatcher() {
            return SignalsBlocked { before: None };
        }
        let all = u64::MAX;
        let mut before = 0u64;
        // SAFETY: both pointers are to u64, the size of the kernel's sigset_t on x86-64.
        unsafe {
            call4(
                nr::RT_SIGPROCMASK,
                SIG_SETMASK,
                &raw const all as u64,
                &raw mut before as u64,
                8,
            );
        }
        SignalsBlocked { before: Some(before) }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // SAFETY: as above; restores what `new` found.
            unsafe { call4(nr::RT_SIGPROCMASK, SIG_SETMASK, &raw const before as u64, 0, 8) };
        }
    }
}

/// The signal that a write past the size limit of files leaves (SIGXFSZ): the application has not earned it.
/// With signals blocked only.
pub struct SizeLimitSignal {
    was_pending: bool,
}

impl SizeLimitSignal {
    const BIT: u64 = 1 << (25 - 1);

    fn is_pending() -> bool {
        let mut pending = 0u64;
        // SAFETY: the word has the size of the kernel's sigset_t.
        unsafe { call2(nr::RT_SIGPENDING, &raw mut pending as u64, 8) };
        pending & Self::BIT != 0
    }

    /// Before writing.
    pub fn look() -> SizeLimitSignal {
        SizeLimitSignal { was_pending: Self::is_pending() }
    }

    /// After it: takes the signal that has come meanwhile.
    pub fn take_ours(self) {
        if !self.was_pending && Self::is_pending() {
            let (set, at_once) = (Self::BIT, [0u64; 2]);
            // SAFETY: both structures live as long as the call.
            unsafe {
                let (set, at_once) = (&raw const set as u64, &raw const at_once as u64);
                call4(nr::RT_SIGTIMEDWAIT, set, 0, at_once, 8);
            }
        }
    }
}

/// Sleeps while `*word == expected`, at most this long; wakes early on [`futex_wake`].
pub fn futex_wait(word: &core::sync::atomic::AtomicU32, expected: u32, nanoseconds: u64) {
    const FUTEX_WAIT_PRIVATE: u64 = 128;
    let timeout = [nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000];
    // SAFETY: the word lives as long as the reference, the timeout as long as the call.
    unsafe {
        engine::sys::optional(
            nr::FUTEX,
            [
                word.as_ptr() as u64,
                FUTEX_WAIT_PRIVATE,
                u64::from(expected),
                &raw const timeout as u64,
                0,
                0,
            ],
        );
    }
}

/// As [`futex_wait`], for a word that the kernel wakes as one that memories may share (`CLONE_CHILD_CLEARTID`).
pub fn futex_wait_shared(word: &core::sync::atomic::AtomicU32, expected: u32, nanoseconds: u64) {
    const FUTEX_WAIT: u64 = 0;
    let timeout = [nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000];
    // SAFETY: as above.
    unsafe {
        let (word, timeout) = (word.as_ptr() as u64, &raw const timeout as u64);
        call4(nr::FUTEX, word, FUTEX_WAIT, u64::from(expected), timeout);
    }
}

/// Wakes up to `count` waiters of the word.
pub fn futex_wake(word: &core::sync::atomic::AtomicU32, count: u32) {
    const FUTEX_WAKE_PRIVATE: u64 = 129;
    // SAFETY: the kernel only uses the address as a key.
    unsafe {
        engine::sys::optional(
            nr::FUTEX,
            [word.as_ptr() as u64, FUTEX_WAKE_PRIVATE, u64::from(count), 0, 0, 0],
        )
    };
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

/// Whether a thread of this process exists.
pub fn thread_exists(process: u32, thread: u32) -> bool {
    const ESRCH: i64 = -3;
    let arguments = [u64::from(process), u64::from(thread), 0, 0, 0, 0];
    // SAFETY: signal 0 is sent to nobody.
    unsafe { engine::sys::optional(nr::TGKILL, arguments) != ESRCH }
}

/// The parts of `struct stat` that the shim uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Number of names.
    pub links: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub owner: u32,
    /// Group.
    pub group: u32,
    /// Size in bytes.
    pub size: u64,
    /// Size on disk, in blocks of 512 bytes.
    pub blocks: u64,
}

/// `struct stat` of x86-64 (`arch/x86/include/uapi/asm/stat.h`).
#[repr(C)]
struct RawStat {
    device: u64,
    inode: u64,
    links: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    pad: u32,
    rdev: u64,
    size: i64,
    block_size: u64,
    blocks: u64,
    rest: [u64; 9],
}

fn status_of(raw: &RawStat) -> Status {
    Status {
        device: raw.device,
        inode: raw.inode,
        links: raw.links,
        mode: raw.mode,
        owner: raw.uid,
        group: raw.gid,
        size: raw.size as u64,
        blocks: raw.blocks,
    }
}

/// What a descriptor stands for; `None` if it is not open.
#[inline]
pub fn fstat(fd: u64) -> Option<Status> {
    let mut raw = core::mem::MaybeUninit::<RawStat>::uninit();
    // SAFETY: the kernel fills the structure when it succeeds.
    unsafe {
        let result = engine::sys::optional(nr::FSTAT, [fd, raw.as_mut_ptr() as u64, 0, 0, 0, 0]);
        (!failed(result)).then(|| status_of(raw.assume_init_ref()))
    }
}

/// What a path names, symbolic links followed.
pub fn stat(path: &core::ffi::CStr) -> Option<Status> {
    stat_at(AT_FDCWD, path)
}

/// What a path below a directory's descriptor names.
pub fn stat_at(directory: u64, path: &core::ffi::CStr) -> Option<Status> {
    status_at(directory, path, 0).ok()
}

/// What a path below a directory's descriptor names, a symbolic link itself; a negated errno if nothing.
pub fn lstat_at(directory: u64, path: &core::ffi::CStr) -> Result<Status, i64> {
    const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
    status_at(directory, path, AT_SYMLINK_NOFOLLOW)
}

fn status_at(directory: u64, path: &core::ffi::CStr, flags: u64) -> Result<Status, i64> {
    let mut raw = core::mem::MaybeUninit::<RawStat>::uninit();
    // SAFETY: as above; the path is NUL-terminated.
    unsafe {
        let arguments = [directory, path.as_ptr() as u64, raw.as_mut_ptr() as u64, flags, 0, 0];
        let result = engine::sys::optional(nr::NEWFSTATAT, arguments);
        if failed(result) { Err(result) } else { Ok(status_of(raw.assume_init_ref())) }
    }
}

/// Reads a whole file of at most `limit` bytes; a negated errno, or `-EFBIG`.
pub fn read_file(path: &core::ffi::CStr, limit: usize) -> Result<alloc::vec::Vec<u8>, i64> {
    let fd = open(path, flag::CAREFUL, 0);
    if failed(fd) {
        return Err(fd);
    }
    let text = read_to_end(fd as i32, limit);
    close(fd as i32);
    text
}

/// Reads what a descriptor has, at most `limit` bytes; a negated errno, or `-EFBIG`.
pub fn read_to_end(fd: i32, limit: usize) -> Result<alloc::vec::Vec<u8>, i64> {
    const EFBIG: i64 = -27;
    const ENOMEM: i64 = -12;
    let mut text = alloc::vec::Vec::new();
    loop {
        let used = text.len();
        if used > limit {
            return Err(EFBIG);
        }
        if text.try_reserve(4096).is_err() {
            return Err(ENOMEM);
        }
        text.resize(used + 4096, 0);
        let count = read(fd, &mut text[used..]);
        text.truncate(used + count.max(0) as usize);
        match count {
            0 => return Ok(text),
            count if count < 0 => return Err(count),
            _ => {}
        }
    }
}

/// The words for the errors that a user can do something about.
pub fn error_text(error: i64) -> &'static str {
    match -error {
        1 => "not permitted",
        2 => "no such file or directory",
        5 => "input/output error",
        6 => "no such device, or a FIFO that nobody reads",
        12 => "not enough memory",
        13 => "permission denied",
        20 => "not a directory",
        22 => "invalid argument",
        24 => "too many open files",
        27 => "file too large",
        28 => "no space left on device",
        30 => "read-only file system",
        36 => "file name too long",
        40 => "too many symbolic links",
        122 => "disk quota exceeded",
        _ => "the system refused",
    }
}

/// The target of a symbolic link (not NUL-terminated); `None` if it cannot be read or does not fit.
pub fn read_link<'b>(path: &core::ffi::CStr, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let size = buffer.len();
    read_link_start(path, buffer).filter(|target| target.len() < size)
}

/// The target of a symbolic link, as far as it fits; `None` if it cannot be read.
pub fn read_link_start<'b>(path: &core::ffi::CStr, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let (path, room) = (path.as_ptr() as u64, buffer.len() as u64);
    let arguments = [path, buffer.as_mut_ptr() as u64, room, 0, 0, 0];
    // SAFETY: the kernel writes within the buffer only.
    let length = unsafe { engine::sys::optional(nr::READLINK, arguments) };
    (length > 0).then(|| &buffer[..length as usize])
}

/// Fills the buffer with random bytes.
pub fn random(buffer: &mut [u8]) {
    let arguments = [buffer.as_mut_ptr() as u64, buffer.len() as u64, 0, 0, 0, 0];
    // SAFETY: the kernel writes within the buffer only; up to 256 bytes come in one piece.
    let got = unsafe { engine::sys::optional(nr::GETRANDOM, arguments) };
    if got < buffer.len() as i64 {
        // Not asked or not to be had: unique all the same, by the clock's nanoseconds and the process's id.
        let mut state = crate::base::clock::stamp();
        state.mono_ns ^= u64::from(getpid()) << 40;
        for byte in buffer {
            // SplitMix64 (Steele, Lea, Flood 2014).
            state.mono_ns = state.mono_ns.wrapping_add(0x9e37_79b9_7f4a_7c15 ^ state.real_ns);
            let mixed = (state.mono_ns ^ state.mono_ns >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *byte = (mixed ^ mixed >> 27) as u8;
        }
    }
}

/// Whether a path names something.
pub fn exists(path: &core::ffi::CStr) -> bool {
    // SAFETY: the path is NUL-terminated and only read.
    unsafe { !failed(call2(nr::ACCESS, path.as_ptr() as u64, 0)) }
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
