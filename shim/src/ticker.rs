//! The one thread of the shim: it takes snapshots and writes the record files.
//!
//! # Design
//!
//! The thread is made by a raw clone and unknown to libc. All its signals are blocked. It shares memory with
//! the process, but neither the table of descriptors nor root, working directory and umask: its files have
//! no numbers in the application, which can close, count or replace all its descriptors without meeting
//! ours, may chroot, and still gets the lowest free number from open. It has a TLS area of its own, so that
//! the thread pointer is its own.
//!
//! # Limitations
//!
//! - The kernel sees one thread more: `unshare` and `setns` of namespaces that only a single-threaded
//!   process may change fail beside it, so it is stopped around those calls ([`pause`], [`resume`]).
//! - After the application drops privileges the thread keeps those it started with.

use crate::{
    clock,
    log::{self, Level},
    process, recorder,
    segment::Segments,
    sys::{self, nr},
    tls,
};
use core::{
    arch::naked_asm,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
};
use records::ProcessEndReason;

const STACK_BYTES: usize = 128 * 1024;
/// Room above the thread pointer for libc's view of a control block, of which only the canary is read.
const CONTROL_BYTES: usize = 4096;
const CLONE_VM: u64 = 0x100;
const CLONE_SIGHAND: u64 = 0x800;
const CLONE_THREAD: u64 = 0x10000;
const CLONE_SYSVSEM: u64 = 0x40000;
const CLONE_SETTLS: u64 = 0x80000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;

/// Changes whenever the ticker has something to do.
static WAKE: AtomicU32 = AtomicU32::new(0);
/// Counts flushes that were asked for, and those that were done.
static ASKED: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);
static STOP: AtomicBool = AtomicBool::new(false);
/// Not 0 while the thread exists; cleared by the kernel at its end.
static ALIVE: AtomicU32 = AtomicU32::new(0);
/// The thread's stack and TLS area, kept for its successors.
static AREA: AtomicUsize = AtomicUsize::new(0);
static SEGMENTS: AtomicUsize = AtomicUsize::new(0);

/// Starts the thread. False if the kernel refuses: then nothing is recorded.
pub fn start() -> bool {
    let tls_bytes = (-tls::offset()) as usize;
    let area_bytes = STACK_BYTES + (tls_bytes + CONTROL_BYTES).next_multiple_of(4096);
    let mut area = AREA.load(Ordering::Relaxed);
    if area == 0 {
        match sys::map_anonymous(area_bytes) {
            Some(start) => area = start as usize,
            None => return false,
        }
        AREA.store(area, Ordering::Relaxed);
    }
    let thread_pointer = (area + area_bytes - CONTROL_BYTES) & !63;
    // SAFETY: inside the area, which nobody else uses: the last ticker has ended.
    unsafe {
        (thread_pointer as *mut usize).write(thread_pointer);
        ((thread_pointer as isize + tls::offset()) as *mut [usize; 2]).write([0; 2]);
    }
    STOP.store(false, Ordering::Relaxed);
    ALIVE.store(1, Ordering::SeqCst);
    let flags = CLONE_VM
        | CLONE_SIGHAND
        | CLONE_THREAD
        | CLONE_SYSVSEM
        | CLONE_SETTLS
        | CLONE_CHILD_CLEARTID;
    let stack = (area + STACK_BYTES) & !15;
    let _blocked = sys::SignalsBlocked::new();
    // SAFETY: the stack and the TLS area are the new thread's own.
    let result = unsafe { clone_thread(flags, stack, ALIVE.as_ptr(), thread_pointer) };
    if sys::failed(result) {
        ALIVE.store(0, Ordering::SeqCst);
        log::line(Level::Error, format_args!("clone: error {result}; nothing is recorded"));
        return false;
    }
    true
}

/// `clone` with a new stack, on which the new thread runs [`run`] and exits.
#[unsafe(naked)]
unsafe extern "C" fn clone_thread(
    flags: u64,
    stack: usize,
    clear_at_end: *mut u32,
    thread_pointer: usize,
) -> i64 {
    naked_asm!(
        ".cfi_startproc",
        "mov r10, rdx",
        "mov r8, rcx",
        "xor edx, edx",
        "mov eax, 56",
        "syscall",
        "test rax, rax",
        "jz 2f",
        "ret",
        "2:",
        ".cfi_undefined rip",
        "xor ebp, ebp",
        "call {run}",
        "mov edi, eax",
        "mov eax, 60",
        "syscall",
        "ud2",
        ".cfi_endproc",
        run = sym run,
    )
}

/// Returns the thread's exit status, which is the process's where this is the last thread.
unsafe extern "C" fn run() -> usize {
    // SAFETY: `ticks` ignores its argument. A panic in it ends the thread, which nothing waits for then.
    unsafe { crate::guard::guarded(0, ticks) }
}

/// Leaves the application's descriptors to it: closes this thread's copies.
fn own_descriptors() {
    // SAFETY: this thread's table is its own copy (no CLONE_FILES), and so are its root, directory and umask.
    unsafe {
        const LAST: u64 = u32::MAX as u64;
        let first = if log::uses_standard_error() { 3 } else { 0 };
        if sys::failed(sys::call3(nr::CLOSE_RANGE, first, LAST, 0)) {
            // Before Linux 5.9: one by one.
            close_each(first);
        }
        // Numbers that others could take for the standard streams stay taken.
        const O_PATH: u64 = 0o10_000_000;
        for _ in first..3 {
            sys::open(c"/", O_PATH, 0);
        }
        sys::call1(nr::UMASK, 0);
        sys::call1(nr::CHDIR, c"/".as_ptr() as u64);
    }
}

/// # Safety
///
/// On the ticker's thread only.
unsafe fn close_each(first: u64) {
    const O_DIRECTORY: u64 = 0o200_000;
    let directory = sys::open(c"/proc/self/fd", O_DIRECTORY, 0);
    let mut buffer = [0u8; 4096];
    loop {
        // SAFETY: the kernel writes within the buffer only.
        let count = unsafe {
            sys::call3(
                nr::GETDENTS64,
                directory as u64,
                buffer.as_mut_ptr() as u64,
                buffer.len() as u64,
            )
        };
        if count <= 0 {
            break;
        }
        let mut rest = &buffer[..count as usize];
        while rest.len() > 19 {
            let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
            let digits = rest.get(19..length).unwrap_or_default();
            let digits = digits.split(|&byte| byte == 0).next().unwrap_or_default();
            if let Some(fd) = core::str::from_utf8(digits).ok().and_then(|text| text.parse().ok())
                && i64::from(fd) != directory
                && i64::from(fd) >= first as i64
            {
                sys::close(fd);
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
    sys::close(directory as i32);
}

unsafe extern "C" fn ticks(_: usize) -> usize {
    own_descriptors();
    sys::set_thread_name(c"sparkanalyzer");
    let identity = process::identity();
    let interval = identity.settings.snapshot_interval_ms.0 * 1_000_000;
    let mut segments = match SEGMENTS.swap(0, Ordering::AcqRel) {
        0 => alloc::boxed::Box::new(Segments::new(identity)),
        // SAFETY: left there by the last ticker, which has ended.
        kept => unsafe { alloc::boxed::Box::from_raw(kept as *mut Segments) },
    };
    let mut tick = 0u64;
    let mut next = clock::monotonic_ns() + interval;
    // A JVM's header waits for the bridge, which knows only later how it notices tasks.
    let mut write = !identity.waits_for_bridge;
    loop {
        let wake = WAKE.load(Ordering::Acquire);
        let asked = ASKED.load(Ordering::Acquire);
        let stopping = STOP.load(Ordering::Acquire);
        let now = clock::monotonic_ns();
        let ticked = now >= next;
        if ticked {
            tick += 1;
            next = (next + interval).max(now + interval / 2);
            recorder::tick();
            if tick.is_multiple_of(16) {
                recorder::end_vanished();
            }
            write = true;
        }
        if write || stopping || asked != DONE.load(Ordering::Relaxed) {
            segments.write_queue(identity, tick, now);
            DONE.store(asked, Ordering::Release);
            sys::futex_wake(&DONE, u32::MAX >> 1);
        }
        if stopping || crate::guard::switched_off() {
            segments.finish();
            break;
        }
        if ticked && let Some(status) = status_if_alone() {
            recorder::put_process_end(ProcessEndReason::EXIT, status as i32);
            segments.write_queue(identity, tick, now);
            segments.finish();
            return status;
        }
        write = true;
        if WAKE.load(Ordering::Acquire) == wake {
            sys::futex_wait(&WAKE, wake, next.saturating_sub(clock::monotonic_ns()).max(1));
        }
    }
    let kept = alloc::boxed::Box::into_raw(segments) as usize;
    SEGMENTS.store(kept, Ordering::Release);
    0
}

/// The process's exit status if every thread of the application has ended without ending the process, which
/// must not live on because of us. The first thread stays as a zombie until the last one has ended; what
/// the last one exits with becomes the process's status.
fn status_if_alone() -> Option<usize> {
    /// `.`, `..` and one directory per thread.
    const TWO_THREADS: u64 = 4;
    if sys::stat(c"/proc/self/task").is_none_or(|status| status.links > TWO_THREADS) {
        return None;
    }
    // proc(5): after the name in parentheses the first thread's state; the last field is its wait status.
    let text = sys::read_file(c"/proc/self/stat", 4096).ok()?;
    let after_name = text.iter().rposition(|&byte| byte == b')')? + 2;
    let mut fields = core::str::from_utf8(text.get(after_name..)?).ok()?.split_ascii_whitespace();
    if !matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let status: usize = fields.next_back()?.parse().ok()?;
    Some(status >> 8 & 0xff)
}

/// Has the queue written soon.
pub fn wake() {
    WAKE.fetch_add(1, Ordering::Release);
    sys::futex_wake(&WAKE, 1);
}

/// Has the queue written and waits for it, at most this long; whether it was.
pub fn flush(nanoseconds: u64) -> bool {
    let asked = ASKED.fetch_add(1, Ordering::AcqRel) + 1;
    wake();
    let until = clock::monotonic_ns() + nanoseconds;
    while ALIVE.load(Ordering::Acquire) != 0 {
        let done = DONE.load(Ordering::Acquire);
        if asked.wrapping_sub(done) as i32 <= 0 {
            return true;
        }
        let now = clock::monotonic_ns();
        if now >= until {
            return false;
        }
        // Short waits: the thread may vanish (a panic) without a word.
        sys::futex_wait(&DONE, done, (until - now).min(50_000_000));
    }
    false
}

/// Whether a system call may need a single-threaded process.
pub fn must_not_run_during(number: u64) -> bool {
    matches!(number, nr::UNSHARE | nr::SETNS)
}

/// Ends the thread and waits until the kernel counts it no more. Its files are kept for [`resume`].
pub fn pause() {
    STOP.store(true, Ordering::Release);
    wake();
    let until = clock::monotonic_ns() + 2_000_000_000;
    while ALIVE.load(Ordering::Acquire) != 0 && clock::monotonic_ns() < until {
        sys::futex_wait(&ALIVE, 1, 1_000_000);
    }
    // The word is cleared a moment before the thread leaves the process.
    let before = sys::stat(c"/proc/self/task").map_or(0, |status| status.links);
    for _ in 0..200 {
        if before <= 3 || sys::stat(c"/proc/self/task").is_none_or(|status| status.links < before) {
            break;
        }
        // SAFETY: gives up the processor; no argument.
        unsafe { sys::call0(nr::SCHED_YIELD) };
    }
}

/// Starts the thread again after [`pause`].
pub fn resume() {
    start();
}

/// In a child of fork, which has no ticker: everything starts anew.
pub fn after_fork_in_child() {
    // The area is a copy that no thread uses here; the parent's files are the parent's.
    SEGMENTS.store(0, Ordering::Relaxed);
    DONE.store(ASKED.load(Ordering::Relaxed), Ordering::Relaxed);
    start();
}
